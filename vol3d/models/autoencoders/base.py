"""What every autoencoder gives, so that nothing else asks which one it is."""

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Posterior:
    """A normal distribution over each latent element: mean and logvar, each [B, C, x, y, z]."""

    mean: Tensor
    logvar: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """A draw, given standard normal noise of the mean's shape."""
        return self.mean + (self.logvar / 2).exp() * noise


@dataclass(frozen=True)
class Reconstruction:
    """What comes of one training pass.

    Attributes:
        x: the volumes again, [B, 1, X, Y, Z].
        penalties: the model's own losses by name, weighted, each a scalar.
        measures: figures to log beside the losses, each a scalar; nothing learns from them.
    """

    x: Tensor
    penalties: dict[str, Tensor]
    measures: dict[str, Tensor] = field(default_factory=dict)
