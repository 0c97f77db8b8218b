"""A registrar as Python sees it: two images go in, the way between them comes out."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from vol3d import trained
from vol3d.api.arguments import ruled_by
from vol3d.api.images import Image, header_of, seen
from vol3d.data.native_scan import NativeScan
from vol3d.data.visit import Visit, kind_said
from vol3d.errors import ConfigError
from vol3d.grid import check_met
from vol3d.planes import png_of, put_up
from vol3d.trained import registration
from vol3d.transforms.resample import Interpolation, move_image, move_labels
from vol3d.verbs.register import ONLY_SEARCH, Register, check_contrast
from vol3d.volume import Volume

if TYPE_CHECKING:
    import SimpleITK as sitk
    from matplotlib.figure import Figure

ANY = "image"
"""What an image is called whose name says no kind."""


class Registration:
    """The way between a moving and a fixed image. Each volume lies where the fixed image lies.

    Attributes:
        found: what is beneath, in RAS+; not stable.
    """

    def __init__(self, found: registration.Registration) -> None:
        self.found = found

    @cached_property
    def registered(self) -> Volume:
        """The moving brain on the fixed image's grid, linear between voxels."""
        return self.native(self.found.registered())

    @property
    def transform(self) -> "sitk.Transform":
        """From points of the fixed space to points of the moving one, mm, LPS+ as ITK has it."""
        return self.found.transform

    @property
    def inverse(self) -> "sitk.Transform":
        """The way back."""
        return self.found.inverse

    @property
    def jacobian(self) -> Volume:
        """How many times larger the tissue is in the moving image; 1 where nothing changes."""
        return self.native(self.found.jacobian)

    @ruled_by(Register, "interpolation")
    def move(
        self,
        volume: Image,
        *,
        labels: bool = False,
        part: Annotated[float, Field(ge=0, le=1)] = 1.0,
        interpolation: Interpolation = "linear",
    ) -> Volume:
        """Move anything that lies in the moving space onto the fixed image's grid; 0 outside.

        Args:
            volume: file or volume.
            labels: each voxel takes the label with the largest share.
            part: of the way: 0 as it lies, 1 registered; the affine map and the deformation go together.
            interpolation: linear, nearest or cubic; of what is no label map.

        Raises:
            ConfigError: a setting is off.
            DataError: it cannot be read, `labels` holds what is no label, or nothing of it comes to lie
                on the fixed image's grid.
        """
        T = self.transform if part == 1 else self.found.flow.at(part)
        moving, grid = seen(volume, "volume"), self.found.fixed.brain.grid
        moved = (
            move_labels(moving, T, grid) if labels else move_image(moving, T, grid, interpolation)
        )
        if not moved.data.any():
            check_met(grid, moving.grid, T)
        return self.native(moved)

    def native(self, volume: Volume) -> Volume:
        """On the fixed image's grid in RAS+ -> in the order of its file."""
        return self.found.fixed.scan.native(volume.data)

    def figure(self) -> "Figure":
        """Both images, a checkerboard of them, the warped grid, the Jacobian."""
        from vol3d.report.registration import registration_figure

        return registration_figure(self.found, repr(self))

    def show(self) -> None:
        """Show `figure` beneath the cell of a notebook, or in a window."""
        put_up(self.figure())

    def _repr_png_(self) -> bytes:
        """What a notebook shows of it."""
        return png_of(self.figure())

    def __repr__(self) -> str:
        return f"{self.found.moving.path.name} registered to {self.found.fixed.path.name}"


class Registrar:
    """Finds the way between two images: by a network, a search, or both.

    Attributes:
        contrasts: the kinds of image that it learnt from; any if empty.
        model: what is beneath, with tensors; not stable.
    """

    def __init__(self, model: trained.Registrar) -> None:
        self.model, self.contrasts = model, model.contrasts

    @ruled_by(Register, "optimise", "affine", "spacing")
    def register(
        self,
        moving: Image,
        fixed: Image,
        *,
        optimise: int = 50,
        affine: bool | Path | str = True,
        spacing: float | None = None,
        moving_mask: Image | None = None,
        fixed_mask: Image | None = None,
    ) -> Registration:
        """Register one image to another, as `vol3d register` does with the same settings.

        Args:
            moving: file or volume of a stripped brain, which is brought onto the other.
            fixed: likewise, of any orientation, spacing and place.
            optimise: steps of search after the network's answer; without a network some are needed.
            affine: find an affine map first; False: take images as they lie; or the file of a map.
            spacing: voxel size in mm at which the deformation is found; None: the registrar's own,
                without a network 2 mm, or the fixed image's where that is larger.
            moving_mask: of the brain, outside of which the image becomes 0.
            fixed_mask: likewise.

        Raises:
            ConfigError: a setting is off.
            DataError: an image is not as it should be, or of another kind than the registrar knows.
        """
        if not optimise and self.model.path is None:
            raise ConfigError(ONLY_SEARCH)
        sides = [
            self.side(image, name, mask)
            for image, name, mask in (
                (moving, "moving", moving_mask),
                (fixed, "fixed", fixed_mask),
            )
        ]
        found = registration.register(
            *(*sides, self.model),
            optimise=optimise,
            affine=affine,
            spacing=spacing,
        )
        return Registration(found)

    def side(self, image: Image, name: str, mask: Image | None) -> registration.Side:
        """One of the two images, 0 outside its mask."""
        header = header_of(image, name)
        contrast = kind_said(header.path) or ANY
        visit = Visit(name, None, {contrast: header.path}, {}, "val")
        check_contrast(visit, self.model)
        inside = None if mask is None else header_of(mask, f"{name}_mask")
        return registration.Side.of(visit, NativeScan.of({contrast: header}, inside), contrast)

    def __repr__(self) -> str:
        if self.model.path is None:
            return "Registrar without a network: finds deformations by search"
        learnt = f"learnt from {' and '.join(self.contrasts) or 'images'} on {self.model.grids[0]}"
        return f"Registrar {self.model.path}: {learnt}"
