"""What raters disagree about, as a few hidden numbers that a sample draws anew.

Rahman et al. 2023 (arXiv:2304.04745), with the latent of Kohl et al. 2018 (arXiv:1806.05034).
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as nnf
from einops import repeat
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from vol3d.config import did_you_mean
from vol3d.diffusion.condition import Condition, Ports
from vol3d.diffusion.conditioning import (
    NUMBERS,
    Conditioning,
    ConditioningModule,
    Given,
    Grid3,
    Known,
    Penalty,
)
from vol3d.errors import ConfigError
from vol3d.nn.blocks import conv3


class Ambiguity(Conditioning):
    """Numbers z say which of the possible answers is meant, such as which rater's.

    In training z is of the posterior q(z | images, x0), which has seen the answer, and the loss keeps q
    near the prior p(z | images) (the Ambiguity Modelling Network). A sample draws z of the prior.
    """

    wants_whole: ClassVar = True
    kind: Literal["ambiguity"] = "ambiguity"

    of: tuple[str, ...] = ()
    """The images that prior and posterior see, of those that guide the model; all of them if empty."""
    dim: PositiveInt = 6
    """How many numbers."""
    port: Literal["vector", "addition"] = "vector"
    """How they reach the network: they steer every block, or are added to the first features."""
    kl_weight: float = Field(default=1e-4, ge=0)
    """How much KL(q || p), in nats, counts in the loss beside the error of a voxel. Too much, and z tells
    nothing; too little, and the prior does not know which z there may be."""
    control_weight: float = Field(default=0.0, ge=0)
    """How much the Ambiguity Controlling Network counts: what it reads of the network's estimate of x0 is
    to be what the posterior reads of x0, by the KL of the two. 0 leaves it out."""
    channels: tuple[PositiveInt, ...] = (16, 32, 32)
    """Channels of the convolutions of prior and posterior; each halves the grid."""

    @property
    def numbers(self) -> int:
        """See `Conditioning.numbers`."""
        return self.dim

    def connect(self, known: Known) -> tuple[Ports, "AmbiguityModule"]:
        """See `Conditioning.connect`."""
        names = list(self.of or known.images)
        for name in names:
            if name not in known.images:
                raise ConfigError(
                    f"of: '{name}' does not guide this model.{did_you_mean(name, list(known.images))} "
                    f"What does: {', '.join(known.images) or 'no image'}"
                )
        if not names:
            raise ConfigError("of: no image guides this model; add one of kind image")
        width = sum(known.images[name] + 1 for name in names)
        return Ports(**{self.port: self.dim}), AmbiguityModule(self, names, width, known.channels)


class AmbiguityModule(ConditioningModule):
    """Images, and what is drawn where it is known -> z."""

    def __init__(self, config: Ambiguity, names: list[str], width: int, channels: int) -> None:
        super().__init__()
        self.config, self.names = config, names
        self.prior = GaussianNet(width, config.channels, config.dim)
        self.posterior = GaussianNet(width + channels, config.channels, config.dim)
        self.control = (
            GaussianNet(width + channels, config.channels, config.dim)
            if config.control_weight
            else None
        )

    def forward(self, given: Given, shape: Grid3) -> Condition:
        """z of the prior."""
        return self.through_port(self.prior(self.seen(given)).at(given[NUMBERS]), shape)

    def learn(self, given: Given, x0: Tensor) -> tuple[Condition, Penalty]:
        """z of the posterior; the loss is to keep it near the prior, and near what is estimated."""
        images = self.seen(given)
        prior, posterior = self.prior(images), self.posterior(torch.cat([images, x0.to(images)], 1))
        z = posterior.at(given[NUMBERS])

        def penalty(D: Tensor) -> dict[str, Tensor]:
            terms = {"ambiguity": self.config.kl_weight * posterior.kl(prior)}
            if self.control is not None:
                estimated = self.control(torch.cat([images, D.to(images)], 1))
                terms["control"] = self.config.control_weight * posterior.kl(estimated)
            return terms

        return self.through_port(z, x0.shape[2:]), penalty

    def seen(self, given: Given) -> Tensor:
        """The images with their flags, [B, K, X, Y, Z]."""
        return torch.cat([given[name] for name in self.names], 1)

    def through_port(self, hidden: Tensor, shape: Grid3) -> Condition:
        """z [B, dim] -> a vector, or flat maps [B, dim, X, Y, Z]."""
        if self.config.port == "vector":
            return Condition(vector=hidden)
        x, y, z = shape
        return Condition(addition=repeat(hidden, "b c -> b c x y z", x=x, y=y, z=z))


@dataclass(frozen=True)
class Gaussian:
    """Independent normal numbers.

    Attributes:
        mean: [B, dim].
        log_std: [B, dim].
    """

    mean: Tensor
    log_std: Tensor

    def at(self, numbers: Tensor) -> Tensor:
        """The draw that standard normal numbers [B, dim] stand for."""
        return self.mean + self.log_std.exp() * numbers

    def kl(self, other: "Gaussian") -> Tensor:
        """KL(self || other) in nats, [B]."""
        log_ratio = self.log_std - other.log_std
        apart = (self.mean - other.mean) * (-other.log_std).exp()
        return ((2 * log_ratio).exp() + apart**2 - 1 - 2 * log_ratio).sum(1) / 2


class GaussianNet(nn.Module):
    """Images -> a Gaussian: convolutions, and a mean over the voxels that matter.

    The networks of Kohl et al. take the plain mean. In it a lesion of thirty voxels would be lost, so
    each voxel has a weight that is learnt (attention pooling: Ilse et al. 2018, arXiv:1802.04712).
    """

    def __init__(self, cin: int, channels: tuple[int, ...], dim: int) -> None:
        super().__init__()
        widths = (cin, *channels)
        self.convs = nn.ModuleList(
            conv3(a, b, stride=2) for a, b in zip(widths, channels, strict=False)
        )
        self.weight = nn.Conv3d(channels[-1], 1, 1)
        self.head = nn.Linear(channels[-1], 2 * dim)

    def forward(self, x: Tensor) -> Gaussian:
        """[B, cin, X, Y, Z] -> a Gaussian, in float32."""
        for conv in self.convs:
            x = nnf.silu(conv(x))
        weights = self.weight(x).float().flatten(2).softmax(-1)  # [B, 1, N]
        pooled = (weights * x.float().flatten(2)).sum(-1)  # [B, C]
        with torch.autocast(x.device.type, enabled=False):
            mean, log_std = self.head(pooled).chunk(2, dim=1)
        return Gaussian(mean, log_std)
