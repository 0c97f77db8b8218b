"""What a deformation is to achieve: the loss of networks that are trained, and of a search."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, field_validator
from torch import Tensor

from vol3d.config import Config
from vol3d.nn.registration_losses import folding_penalty, local_ncc, soft_dice_loss, unevenness
from vol3d.transforms.deformation import Deformation
from vol3d.transforms.warp import warp

EMPTY = 1e-3
"""Below this an image, which goes from 0 to 1, has nothing: interpolation leaves traces."""


class Objective(Config):
    """Images are alike both ways, and the field is even; which weighs how much."""

    similarity: Literal["ncc", "mse"] = "ncc"
    """ncc: squared correlation in windows, for images whose brightness may differ from place to place;
    mse: squared difference, for images of one scanner (its smoothness is about 0.02)."""
    window: int = Field(default=7, ge=3)
    """Edge of the windows of ncc, in voxels; odd."""
    smoothness: NonNegativeFloat = 1.0
    """Weight of the field's unevenness: the mean squared difference of neighbours."""
    folding: NonNegativeFloat = 0.0
    """Weight of how far the Jacobian's determinant is below 0."""
    dice: NonNegativeFloat = 0.0
    """Weight of 1 - Dice of structures, where label maps are given."""

    @field_validator("window")
    @classmethod
    def check_window(cls, window: int) -> int:
        """A window has a voxel in its middle."""
        if window % 2 == 0:
            raise ValueError(f"window={window}: has no middle voxel; take {window + 1}")
        return window

    def terms(
        self,
        deformation: Deformation,
        moving: Tensor,
        fixed: Tensor,
        labels: tuple[Tensor, Tensor] | None = None,
        weights: tuple[Tensor, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Each term with its weight; both ways count alike.

        Args:
            deformation: of the two images.
            moving: [B, C, X, Y, Z].
            fixed: likewise.
            labels: shares of structures [B, K, X, Y, Z] in the moving and the fixed image.
            weights: [B, 1, X, Y, Z] of voxels of the moving and of the fixed image, for the similarity.
        """
        there, back = deformation.displacement(), deformation.inverse()
        w = weights or (None, None)
        ways = (self.way(there, moving, fixed, w[1]), self.way(back, fixed, moving, w[0]))
        terms = {name: (ways[0][name] + ways[1][name]) / 2 for name in ways[0]}
        if self.dice and labels is not None:
            m, f = labels
            dice = soft_dice_loss(warp(m, there), f) + soft_dice_loss(warp(f, back), m)
            terms["dice"] = self.dice * dice / 2
        return terms

    def way(
        self, u: Tensor, source: Tensor, target: Tensor, weight: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The terms of one way: a displacement u [B, 3, X, Y, Z], by which `source` becomes `target`."""
        terms = {self.similarity: self.unlike(warp(source, u), target, weight)}
        if self.smoothness:
            terms["smoothness"] = self.smoothness * unevenness(u)
        if self.folding:
            terms["folding"] = self.folding * folding_penalty(u)
        return terms

    def unlike(self, moved: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """How unlike two images are, on average over the voxels where one of them is something."""
        w = ((moved.detach() > EMPTY) | (target > EMPTY)).to(moved.dtype)
        w = w if weight is None else w * weight
        each = (
            1 - local_ncc(moved, target, self.window)
            if self.similarity == "ncc"
            else (moved - target).square()
        )
        return (w * each).sum() / w.sum().clamp(min=1)
