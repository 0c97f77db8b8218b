"""The perceptual loss: built in without a download, or a local network that is checked."""

import hashlib
import logging
from pathlib import Path

import pytest
import torch
from monai.networks.nets import resnet10
from safetensors.torch import save_file

from vol3d.errors import ConfigError
from vol3d.nn.perceptual import Perceptual


def volumes() -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    return torch.rand(1, 1, 32, 32, 32, generator=rng), torch.rand(1, 1, 32, 32, 32, generator=rng)


def test_built_in(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        loss = Perceptual().build()
    assert "built-in random features" in caplog.text
    x, y = volumes()
    assert loss(x, x) == 0
    assert loss(x, y) > loss(x, 0.9 * x + 0.1 * y) > 0
    assert loss(x, y) == Perceptual().build()(x, y)  # the same features each time
    y.requires_grad_(True)
    loss(x, y).backward()
    assert y.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in loss.parameters())


def resnet(folder: Path) -> tuple[Path, str]:
    torch.manual_seed(0)
    net = resnet10(
        spatial_dims=3,
        n_input_channels=1,
        feed_forward=False,
        shortcut_type="B",
        bias_downsample=False,
    )
    save_file({f"module.{k}": v for k, v in net.state_dict().items()}, folder / "r.safetensors")
    return folder / "r.safetensors", hashlib.sha256(
        (folder / "r.safetensors").read_bytes()
    ).hexdigest()


def test_a_local_resnet(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path, sha256 = resnet(tmp_path)
    with caplog.at_level(logging.INFO):
        loss = Perceptual(network="resnet10", weights=path, sha256=sha256).build()
    assert "resnet10 from" in caplog.text
    x, y = volumes()
    assert loss(x, x) == 0
    assert loss(x, y) > 0


def test_what_does_not_fit(tmp_path: Path):
    path, sha256 = resnet(tmp_path)
    with pytest.raises(ConfigError, match="SHA-256 is"):
        Perceptual(network="resnet10", weights=path, sha256="0" * 64).build()
    with pytest.raises(ConfigError, match="no such file"):
        Perceptual(network="resnet10", weights=tmp_path / "none", sha256=sha256).build()
    with pytest.raises(ConfigError, match="does not fit resnet50"):
        Perceptual(network="resnet50", weights=path, sha256=sha256).build()
    with pytest.raises(ConfigError, match="needs weights=PATH and sha256=CHECKSUM"):
        Perceptual.parse({"network": "resnet10"})
