"""A latent diffusion model: conditions, network, prediction and schedule put together."""

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from vol3d.config import Config, did_you_mean
from vol3d.data.covariates import Covariates
from vol3d.diffusion.condition import Condition, join, join_widths
from vol3d.diffusion.conditions import ConditionKind
from vol3d.diffusion.conditions.vector import Vector
from vol3d.diffusion.denoiser import Denoiser
from vol3d.diffusion.pairs import check_pair
from vol3d.diffusion.prediction import FlowVelocity, Prediction
from vol3d.diffusion.schedules import Schedule
from vol3d.diffusion.schedules.flow import Flow
from vol3d.diffusion.solvers import Solver
from vol3d.diffusion.solvers.dpmpp_2m import DPMpp2M
from vol3d.diffusion.variance import LearnedVariance
from vol3d.diffusion.weighting import Uniform, Weighting
from vol3d.errors import ConfigError
from vol3d.models.denoisers import DenoiserNet
from vol3d.nn.precision import Precision


class Sampler(Config):
    """How samples are made from a trained model."""

    solver: Solver = DPMpp2M()
    """The method that follows the noise down."""
    schedule: Schedule | None = None
    """Another way down than the schedule of training; null takes that one."""
    steps: PositiveInt = 16
    """Noise levels visited; Heun calls the network twice at each but the last."""
    guidance: float | None = Field(default=None, ge=0)
    """One guidance scale for all covariates; null takes each covariate's own default."""
    micro_batch: PositiveInt = 4
    """Samples made at a time. Voxels are the same bit for bit only at the same number, and on CPUs with
    the same number of threads."""
    precision: Precision = "auto"
    """bf16, or fp32, which is closer to bit for bit at other micro-batches, threads or devices; auto
    takes bf16 where the device multiplies it in hardware."""


class Diffusion(Config):
    """What a diffusion model is made of; a bundle keeps this."""

    model: DenoiserNet
    """The network."""
    schedule: Schedule = Flow()
    """Noise in training and the levels of sampling."""
    prediction: Prediction = FlowVelocity()
    """What the network's output means."""
    weighting: Weighting = Uniform()
    """How much each noise level counts in the loss."""
    variance: LearnedVariance | None = None
    """Learn the variance of the reverse steps as well, as iDDPM does."""
    conditions: dict[str, ConditionKind | None] = {"vector": Vector()}
    """The ways by which covariates reach the network, by any name; `of` says which go where, and
    null takes the default one away."""
    sampler: Sampler = Sampler()
    """The defaults of `vol3d generate`."""

    @model_validator(mode="after")
    def check_pairs(self) -> "Diffusion":
        """Schedule, prediction, variance and solver go together."""
        try:
            check_pair(self.schedule, self.prediction, "prediction")
            if self.variance is not None:
                check_pair(self.schedule, self.variance, "variance")
            self.check_sampler(self.sampler)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    def check_sampler(self, sampler: Sampler) -> None:
        """Check that samples of this model can be made so.

        Raises:
            ConfigError: the solver does not go with the schedule, or needs a learned variance; the
                schedule has not so many steps.
        """
        schedule = sampler.schedule or self.schedule
        check_pair(schedule, sampler.solver, "solver")
        schedule.levels(sampler.steps)
        if sampler.solver.needs_variance and self.variance is None:
            raise ConfigError(
                f"solver '{sampler.solver.kind}' with a learned variance: this model has learnt "
                f"none; take another of its variances, or train with task.variance.kind=learned"
            )

    def build(self, z_channels: int, schema: Covariates) -> "LatentDiffusion":
        """The network for latents of `z_channels` and the covariates of a schema.

        Raises:
            ConfigError: a condition is of a covariate that there is not, or one goes no way.
        """
        return LatentDiffusion(self, z_channels, schema)


class LatentDiffusion(nn.Module):
    """The trained part: `condition(encoded, shape)` and `denoiser(z, sigma, condition)`.

    Called, it is a training pass.
    """

    def __init__(self, settings: Diffusion, z_channels: int, schema: Covariates) -> None:
        super().__init__()
        ways = ways_of(settings.conditions, schema)
        kinds = [settings.conditions[name] for name in ways]
        self.places = [
            [schema.places(n) if c.mask else schema.places(n)[:-1] for n in names]
            for c, names in zip(kinds, ways.values(), strict=True)
        ]
        widths = [[len(place) for place in places] for places in self.places]
        self.conditions = nn.ModuleDict(
            {name: c.build(w) for name, c, w in zip(ways, kinds, widths, strict=True)}
        )
        try:
            ports = join_widths(c.ports(w) for c, w in zip(kinds, widths, strict=True))
        except ValueError as error:
            raise ConfigError(f"conditions: {error}") from None
        net = settings.model.build(
            z_channels,
            z_channels * (1 if settings.variance is None else 2),
            vector_dim=ports.vector or None,
            token_dim=ports.tokens or None,
            extra_channels=ports.channels,
            addition_channels=ports.addition,
        )
        self.denoiser = Denoiser(
            net, settings.prediction, settings.schedule, settings.weighting, settings.variance
        )

    def condition(self, encoded: Tensor, shape: Sequence[int]) -> Condition:
        """What guides the network.

        Args:
            encoded: rows of covariates, [B, width] (see `Covariates.encode`).
            shape: of the latent, [x, y, z].
        """
        return join(
            module([encoded[:, place] for place in places], tuple(shape))
            for module, places in zip(self.conditions.values(), self.places, strict=True)
        )

    def forward(self, z: Tensor, noise: Tensor, sigma: Tensor, encoded: Tensor) -> Tensor:
        """A training pass: the loss of each image [B]; see `Denoiser.loss`."""
        return self.denoiser.loss(z, noise, sigma, self.condition(encoded, z.shape[2:]))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device


def ways_of(conditions: dict[str, Any], schema: Covariates) -> dict[str, list[str]]:
    """Which covariates go which way; a way that none goes is left out.

    Raises:
        ConfigError: unknown covariates, or covariates that go no way.
    """
    ways = {
        name: list(schema.names if condition.of is None else condition.of)
        for name, condition in conditions.items()
        if condition is not None
    }
    for name, of in ways.items():
        for covariate in of:
            if covariate not in schema.names:
                raise ConfigError(
                    f"conditions.{name}.of: unknown covariate '{covariate}'."
                    f"{did_you_mean(covariate, schema.names)} Known: {', '.join(schema.names)}."
                )
    lost = [n for n in schema.names if not any(n in of for of in ways.values())]
    if lost:
        raise ConfigError(
            f"covariates {', '.join(lost)}: go no way into the network; name them in the `of` of one "
            f"of conditions ({', '.join(ways) or 'there is none'})"
        )
    return {name: of for name, of in ways.items() if of}
