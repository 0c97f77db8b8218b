"""A perceptual loss: two volumes are alike where a network's features of them are.

Zhang et al. 2018 (arXiv:1801.03924): features are normalised to unit length at each voxel, and their
squared differences averaged. The feature network is read from a local file, never downloaded.
"""

import logging
from pathlib import Path
from typing import Literal

import torch
from pydantic import model_validator
from torch import Tensor, nn

from vol3d.config import Config
from vol3d.errors import ConfigError
from vol3d.io import files
from vol3d.io.reading import understood

log = logging.getLogger(__name__)


class Perceptual(Config):
    """Which features to compare."""

    network: Literal["random", "resnet10", "resnet18", "resnet34", "resnet50"] = "random"
    """random: a small built-in network with fixed random weights; else MONAI's ResNet (MedicalNet)."""
    weights: Path | None = None
    """State dict of the ResNet: .safetensors, or a torch file (read with weights_only)."""
    sha256: str | None = None
    """Checksum of that file."""

    @model_validator(mode="after")
    def check_weights(self) -> "Perceptual":
        """A named network has weights and a checksum."""
        if self.network != "random" and (self.weights is None or self.sha256 is None):
            raise ValueError(f"network={self.network} needs weights=PATH and sha256=CHECKSUM of it")
        return self

    def build(self) -> "PerceptualLoss":
        """The loss, with frozen features.

        Raises:
            ConfigError: the file is missing, its checksum is off, or it fits another network.
        """
        if self.network == "random":
            log.info("perceptual loss: built-in random features (no feature network was given)")
            return PerceptualLoss(random_features())
        log.info("perceptual loss: %s from %s", self.network, self.weights)
        return PerceptualLoss(resnet_features(self.network, self.weights, self.sha256))

    def blank(self) -> "PerceptualLoss":
        """The loss with features of the same size that mean nothing, for a cost estimate."""
        features = random_features() if self.network == "random" else stages(resnet(self.network))
        return PerceptualLoss(features)


class PerceptualLoss(nn.Module):
    """loss(x, y) for volumes [B, 1, X, Y, Z] in [0, 1]; a scalar, the mean over stages and voxels."""

    def __init__(self, stages: nn.ModuleList) -> None:
        super().__init__()
        self.stages = stages.requires_grad_(False).eval()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Zero where both are the same; gradients flow into both."""
        total = x.new_zeros((), dtype=torch.float32)
        for stage in self.stages:
            x, y = stage(x), stage(y)  # [B, C, X', Y', Z']
            total = total + (unit(x) - unit(y)).square().sum(1).mean()
        return total / len(self.stages)


def unit(features: Tensor) -> Tensor:
    """Features of length 1 at each voxel, float32 (a plain sum: a norm over channels is slow)."""
    features = features.float()
    return features * (features.square().sum(1, keepdim=True) + 1e-6).rsqrt()


def random_features() -> nn.ModuleList:
    """Two strided convolutions with fixed orthogonal weights: edges and textures at two scales."""
    rng = torch.Generator().manual_seed(0)
    stages, channels = [], 1
    for width in (16, 32):
        conv = nn.Conv3d(channels, width, 3, stride=2, padding=1)
        nn.init.orthogonal_(conv.weight, generator=rng)
        nn.init.zeros_(conv.bias)
        stages.append(nn.Sequential(conv, nn.LeakyReLU(0.2)))
        channels = width
    return nn.ModuleList(stages).to(memory_format=torch.channels_last_3d)


def resnet(name: str) -> nn.Module:
    """MONAI's 3-D ResNet with one input channel."""
    from monai.networks import nets

    return getattr(nets, name)(
        spatial_dims=3,
        n_input_channels=1,
        feed_forward=False,
        shortcut_type="A" if name in ("resnet18", "resnet34") else "B",
        bias_downsample=name in ("resnet18", "resnet34"),
    )


def stages(net: nn.Module) -> nn.ModuleList:
    """Of a ResNet."""
    first = nn.Sequential(net.conv1, net.bn1, net.act, net.maxpool)
    return nn.ModuleList([first, net.layer1, net.layer2, net.layer3, net.layer4])


def resnet_features(name: str, weights: Path, sha256: str) -> nn.ModuleList:
    """The stages of a ResNet with the weights of a file."""
    if not weights.is_file():
        raise ConfigError(f"{weights}: no such file; perceptual.weights is a local state dict")
    found = files.sha256(weights)
    if found != sha256:
        raise ConfigError(f"{weights}: SHA-256 is {found}, perceptual.sha256 says {sha256}")
    with understood(weights):
        if weights.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(weights)
        else:
            state = torch.load(weights, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state)
        state = {k.removeprefix("module."): v for k, v in state.items() if ".fc." not in f".{k}"}
    net = resnet(name)
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise ConfigError(
            f"{weights}: does not fit {name}: {str(error).splitlines()[1].strip()}"
        ) from None
    return stages(net)
