"""A latent diffusion model: conditions, network, prediction and schedule put together."""

from typing import Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from vol3d.config import Config
from vol3d.diffusion.conditions.covariates import CovariateVector
from vol3d.diffusion.denoiser import Denoiser
from vol3d.diffusion.prediction import FlowVelocity, Prediction, check_pair
from vol3d.diffusion.schedules import Schedule
from vol3d.diffusion.schedules.flow import Flow
from vol3d.diffusion.solvers import Solver
from vol3d.diffusion.solvers.heun import Heun
from vol3d.errors import ConfigError
from vol3d.models.denoisers import DenoiserNet


class Sampler(Config):
    """How samples are made from a trained model."""

    solver: Solver = Heun()
    """The method that follows the noise down."""
    steps: PositiveInt = 12
    """Noise levels visited; Heun calls the network twice at each but the last."""
    guidance: float | None = Field(default=None, ge=0)
    """One guidance scale for all covariates; null takes each covariate's own default."""
    micro_batch: PositiveInt = 4
    """Samples made at a time. Voxels are the same bit for bit only at the same number."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """fp32, or bf16 autocast: faster, and further from bit for bit at other micro-batches."""


class Diffusion(Config):
    """What a diffusion model is made of; a bundle keeps this."""

    model: DenoiserNet
    """The network."""
    schedule: Schedule = Flow()
    """Noise in training and the levels of sampling."""
    prediction: Prediction = FlowVelocity()
    """What the network's output means."""
    sampler: Sampler = Sampler()
    """The defaults of `vol3d generate`."""
    vector_dim: PositiveInt = 128
    """Length of the covariates' vector."""

    @model_validator(mode="after")
    def check_schedule(self) -> "Diffusion":
        """Schedule and prediction go together."""
        try:
            check_pair(self.schedule, self.prediction)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    def build(self, z_channels: int, width: int) -> "LatentDiffusion":
        """The network for latents of `z_channels` and encoded covariates of `width`."""
        return LatentDiffusion(self, z_channels, width)


class LatentDiffusion(nn.Module):
    """The trained part: `condition(encoded)` and `denoiser(z, sigma, condition)`."""

    def __init__(self, settings: Diffusion, z_channels: int, width: int) -> None:
        super().__init__()
        net = settings.model.build(
            z_channels, z_channels, vector_dim=settings.vector_dim if width else None
        )
        self.condition = CovariateVector(width, settings.vector_dim)
        self.denoiser = Denoiser(net, settings.prediction, settings.schedule)

    def loss(self, z: Tensor, noise: Tensor, sigma: Tensor, encoded: Tensor) -> Tensor:
        """Mean squared error of the network's output for each image [B]; see `Denoiser.loss`."""
        return self.denoiser.loss(z, noise, sigma, self.condition(encoded))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device
