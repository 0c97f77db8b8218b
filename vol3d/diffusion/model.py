"""A diffusion model: conditions, network, prediction and schedule put together."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from vol3d.config import Config
from vol3d.data.covariates import Covariates
from vol3d.diffusion.compatibility import check_pair
from vol3d.diffusion.condition import Condition, join, join_widths
from vol3d.diffusion.conditioning import COARSE, COARSE_NOISE, Conditioning, Given, Known
from vol3d.diffusion.conditions import ConditionKind
from vol3d.diffusion.conditions.vector import Vector
from vol3d.diffusion.covariate_conditioning import CovariateConditioning
from vol3d.diffusion.denoiser import Denoiser
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
    """One guidance scale for all that guides; null takes each one's own default."""
    tiles: tuple[PositiveInt, PositiveInt, PositiveInt] | None = None
    """Denoise overlapping tiles of so many voxels one by one, as patches in training, and blend them;
    null denoises the whole at once."""
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
    """The ways by which what guides reaches the network, by any name; `of` says what goes where, and
    null takes the default one away."""
    context: Literal["none", "coarse"] = "none"
    """What the network sees beside a patch: coarse is the whole noisy volume in as many voxels as a patch
    has (Yang et al. 2025, arXiv:2512.18161), which is then sampled tile by tile."""
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
            drawn = [name for name, way in self.conditions.items() if way and way.numbers]
            if len(drawn) > 1:
                raise ConfigError(f"conditions: {', '.join(drawn)}: only one may draw numbers")
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    def check_sampler(self, sampler: Sampler) -> None:
        """Check that samples of this model can be made so.

        Raises:
            ConfigError: the solver does not go with the schedule, or needs a learned variance; the
                schedule has not so many steps.
        """
        if self.tiles and sampler.tiles not in (None, self.tiles):
            raise ConfigError(
                f"sampler.tiles={list(sampler.tiles)}: with context=coarse tiles are as large as the "
                f"patches of training, {list(self.tiles)}; leave it out"
            )
        schedule = sampler.schedule or self.schedule
        check_pair(schedule, sampler.solver, "solver")
        schedule.levels(sampler.steps)
        if sampler.solver.needs_variance and self.variance is None:
            raise ConfigError(
                f"solver '{sampler.solver.kind}' with a learned variance: this model has learnt "
                f"none; take another of its variances, or train with task.variance.kind=learned"
            )

    @property
    def images(self) -> dict[str, float]:
        """The images and label maps of a visit that guide, and their guidance scales."""
        return dict(filter(None, (way.image() for way in self.conditions.values() if way)))

    @property
    def wants_coordinates(self) -> bool:
        """Whether the network is told where each voxel lies."""
        return any(way.wants_coordinates for way in self.conditions.values() if way)

    @property
    def numbers(self) -> int:
        """How many numbers of its own generator a sample gives to the conditions."""
        return sum(way.numbers for way in self.conditions.values() if way)

    @property
    def tiles(self) -> tuple[int, int, int] | None:
        """The only tiles that the network can sample by; None: any, or the whole at once."""
        return None

    def build(self, known: Known) -> "DiffusionNet":
        """The network for what there is to draw and to be guided by.

        Raises:
            ConfigError: a condition is of a covariate that there is not, or one goes no way.
        """
        return DiffusionNet(self, known)


class DiffusionNet(nn.Module):
    """The trained part: `condition(given, shape)` and `denoiser(x, sigma, condition)`.

    Called, it is a training pass.

    Attributes:
        numbers: how many numbers of its own generator a sample gives.
    """

    def __init__(self, settings: Diffusion, known: Known) -> None:
        super().__init__()
        self.context, self.tiles = settings.context, settings.tiles
        self.numbers = settings.numbers
        self.conditions, ports = nn.ModuleDict(), []
        for name, way in ways_of(settings.conditions, known.schema).items():
            try:
                port, self.conditions[name] = way.connect(known)
            except ConfigError as error:
                raise ConfigError(f"conditions.{name}.{error}") from None
            ports.append(port)
        try:
            ports = join_widths(ports)
        except ValueError as error:
            raise ConfigError(f"conditions: {error}") from None
        net = settings.model.build(
            known.channels,
            known.channels * (1 if settings.variance is None else 2),
            vector_dim=ports.vector or None,
            token_dim=ports.tokens or None,
            extra_channels=ports.channels + (known.channels if settings.context == "coarse" else 0),
            addition_channels=ports.addition,
        )
        self.denoiser = Denoiser(
            net, settings.prediction, settings.schedule, settings.weighting, settings.variance
        )

    def condition(self, given: Given, shape: Sequence[int]) -> Condition:
        """What guides the network.

        Args:
            given: what the samples give (see `vol3d.diffusion.conditioning`).
            shape: of what is drawn, [X, Y, Z].
        """
        return join(module(given, tuple(shape)) for module in self.conditions.values())

    def forward(self, x0: Tensor, noise: Tensor, sigma: Tensor, given: Given) -> dict[str, Tensor]:
        """A training pass: the terms of the loss of each image [B], by name; see `Denoiser.loss`.

        With a coarse context `given` has the looks at the clean images and at their noise.
        """
        learnt = [module.learn(given, x0) for module in self.conditions.values()]
        conditions = [condition for condition, _ in learnt]
        if self.context == "coarse":
            alpha, level, *_ = self.denoiser.coefficients(x0, sigma)
            look = alpha * given[COARSE] + level * given[COARSE_NOISE]
            conditions.append(Condition(channels=self.denoiser.seen(look, sigma)))
        loss, D = self.denoiser.learn(x0, noise, sigma, join(conditions))
        terms = {"denoising": loss}
        for _, penalty in learnt:
            terms |= penalty(D)
        return terms

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device


def ways_of(conditions: dict[str, Any], schema: Covariates) -> dict[str, Conditioning]:
    """The ways that something goes; one for covariates is left out where there are none.

    Raises:
        ConfigError: covariates that go no way.
    """
    ways = {name: way for name, way in conditions.items() if way is not None}
    of = {n: w.names(schema) for n, w in ways.items() if isinstance(w, CovariateConditioning)}
    lost = [n for n in schema.names if not any(n in names for names in of.values())]
    if lost:
        raise ConfigError(
            f"covariates {', '.join(lost)}: go no way into the network; name them in the `of` of one "
            f"of conditions ({', '.join(of) or 'there is none'})"
        )
    return {name: way for name, way in ways.items() if of.get(name, True)}
