"""Another image or a label map of the same visit, beside what is drawn: T1w given T2w."""

from typing import Literal

from pydantic import Field

from vol3d.diffusion.condition import Condition, Ports
from vol3d.diffusion.conditioning import Conditioning, ConditioningModule, Given, Grid3, Known


class Image(Conditioning):
    """An image on the same grid fills channels beside the noisy one (Saharia et al. 2022, 2111.05826).

    In a latent it is the latent of that image. One channel more says whether it is known: an image that
    a visit lacks is zeros, as is one that is hidden in training, so that a sample can be drawn without.
    """

    kind: Literal["image"] = "image"

    of: str
    """Which: a contrast (T2w), or the name of a label map or rater."""
    guidance: float = Field(default=1.0, ge=0)
    """How hard a sample is pushed to follow it (classifier-free guidance); 1 is as it was learnt."""

    def image(self) -> tuple[str, float]:
        """See `Conditioning.image`."""
        return self.of, self.guidance

    def connect(self, known: Known) -> tuple[Ports, "ImageModule"]:
        """The image's channels and the flag."""
        return Ports(channels=known.images[self.of] + 1), ImageModule(self.of)


class ImageModule(ConditioningModule):
    """The image as it is: nothing to learn, the network's first convolution does that."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, given: Given, shape: Grid3) -> Condition:
        """[B, K + 1, X, Y, Z] -> channels."""
        return Condition(channels=given[self.name])
