"""Networks of ours beyond MONAI's: any shape, the ports, and checkpointing."""

import pytest
import torch

from vol3d.errors import ConfigError
from vol3d.models.autoencoders.base import Posterior
from vol3d.models.autoencoders.kl import AutoencoderKL, divergence
from vol3d.models.autoencoders.vq import AutoencoderVQ
from vol3d.models.denoisers.unet import UNet
from vol3d.models.segmenters.unet import SegmenterUNet
from vol3d.nn.fold import fold, unfold


@pytest.mark.parametrize("shape", [(16, 16, 16), (17, 14, 9), (5, 7, 6)])
@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("kind", [AutoencoderKL, AutoencoderVQ])
def test_autoencoder_takes_any_shape(kind: type, shape: tuple, patch: int):
    config = kind(channels=(8, 8), patch=patch)
    net, x = config.build(), torch.rand(1, 1, *shape)
    posterior = net.encode(x)
    assert net.downsample == config.downsample == 2 * patch
    assert posterior.mean.shape == (1, 4, *(-(-n // net.downsample) for n in shape))
    assert posterior.mean.shape == (1, *config.latent_shape(shape)) == posterior.logvar.shape
    assert net.decode(posterior.mean, shape).shape == x.shape
    assert net(x, torch.randn(posterior.mean.shape)).x.shape == x.shape


@pytest.mark.parametrize("splits", [1, 3, None])
@pytest.mark.parametrize("how", ["repeat", "trilinear", "transposed", "transposed_wide"])
def test_autoencoder_without_gradients_is_the_same(how: str, splits: int | None):
    """There volumes go in pieces that are written over; what is given stays as it was."""
    config = AutoencoderKL(
        channels=(4, 8, 16), num_res_blocks=2, norm_groups=2, patch=1, upsampling=how, splits=splits,
        attention_levels=(False, False, True), mid_attention_encoder=True, mid_attention_decoder=True,
    )  # fmt: skip
    torch.manual_seed(0)
    net, x = config.build().double(), torch.rand(2, 1, 36, 24, 20, dtype=torch.float64)
    z = net.encode(x).mean
    y = net.decode(z, x.shape[2:])
    given = x.clone(), z.detach().clone()
    with torch.inference_mode():
        assert torch.allclose(net.encode(given[0]).mean, z, rtol=1e-9, atol=1e-12)
        assert torch.allclose(net.decode(given[1], x.shape[2:]), y, rtol=1e-9, atol=1e-12)
    assert torch.equal(given[0], x)
    assert torch.equal(given[1], z)


@pytest.mark.parametrize("shape", [(10, 14, 10), (5, 7, 5), (9, 6, 11)])
@pytest.mark.parametrize("updown", [False, True])
def test_unet_takes_any_shape(shape: tuple, updown: bool):
    net = UNet(channels=(8, 8, 16), resblock_updown=updown).build(4, 4, vector_dim=6)
    x = torch.randn(2, 4, *shape)
    assert net(x, torch.ones(2), vector=torch.randn(2, 6)).shape == x.shape


def test_unet_ports_reach_the_output():
    torch.manual_seed(0)
    net = UNet(channels=(8, 16), attention_levels=(False, True)).build(
        2, 2, vector_dim=3, token_dim=5, extra_channels=1
    )
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.2)
    x = torch.randn(1, 2, 4, 6, 4)
    ports = {
        "vector": torch.randn(1, 3),
        "tokens": torch.randn(1, 2, 5),
        "channels": torch.randn(1, 1, 4, 6, 4),
    }
    y = net(x, torch.ones(1), **ports)
    for name, value in ports.items():
        assert not torch.allclose(net(x, torch.ones(1), **{**ports, name: value + 1}), y)


@pytest.mark.parametrize("updown", [False, True])
def test_unet_checkpointing_gives_the_same_gradients(updown: bool):
    x, vector = torch.randn(1, 2, 6, 6, 6), torch.randn(1, 3)
    grads = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        net = UNet(
            channels=(8, 16),
            attention_levels=(False, True),
            resblock_updown=updown,
            checkpointing=checkpointing,
        ).build(2, 2, vector_dim=3)
        torch.nn.init.normal_(net.conv_out.weight, generator=torch.Generator().manual_seed(1))
        net(x, torch.ones(1), vector=vector).square().mean().backward()
        grads.append([p.grad for p in net.parameters() if p.grad is not None])
    assert len(grads[0]) == len(grads[1]) > 30
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_autoencoder_checkpointing_gives_the_same_gradients():
    x, grads = torch.rand(1, 1, 12, 8, 8), []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        net = AutoencoderKL(channels=(8, 16), checkpointing=checkpointing).build()
        net.decode(net.encode(x).mean).square().mean().backward()
        grads.append([p.grad for p in net.parameters() if p.grad is not None])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_kl_is_the_closed_form_per_element():
    mean, logvar = torch.full((2, 3, 2, 2, 2), 0.5), torch.full((2, 3, 2, 2, 2), -1.0)
    normal = torch.distributions.Normal(mean, (logvar / 2).exp())
    expected = torch.distributions.kl_divergence(
        normal, torch.distributions.Normal(0.0, 1.0)
    ).mean()
    assert torch.allclose(divergence(Posterior(mean, logvar)), expected.expand(2))


def test_the_kl_pass_goes_through_a_draw():
    net = AutoencoderKL(channels=(8, 8), kl_weight=0.5).build()
    x, noise = torch.rand(2, 1, 8, 8, 8), torch.randn(2, 4, 2, 2, 2)
    posterior, passed = net.encode(x), net(x, noise)
    z = posterior.mean + posterior.logvar.exp().sqrt() * noise
    torch.testing.assert_close(passed.x, net.decode(z))
    torch.testing.assert_close(passed.penalties["kl"], 0.5 * divergence(posterior).mean())
    assert not passed.measures


def test_the_latent_of_codes_is_that_before_them_and_certain():
    torch.manual_seed(0)
    net = AutoencoderVQ(channels=(8, 8), num_codes=6, commitment_weight=2.0).build()
    x, noise = torch.rand(2, 1, 8, 8, 8), torch.randn(2, 4, 2, 2, 2)
    net(x, noise)
    net.quantiser.settle(torch.tensor(True))
    net.eval()
    posterior, passed = net.encode(x), net(x, noise)
    z, codes = posterior.mean, net.quantiser.nearest(posterior.mean)
    torch.testing.assert_close(posterior.sample(noise), z)
    torch.testing.assert_close(z, net.encoder(x))
    assert len(torch.unique(codes.movedim(1, -1).reshape(-1, 4), dim=0)) == 6 < len(z[0, 0].ravel())
    torch.testing.assert_close(net.decode(z), net.decoder(codes))
    torch.testing.assert_close(passed.x, net.decode(z))
    torch.testing.assert_close(
        passed.penalties, {"commitment": 2 * torch.nn.functional.mse_loss(z, codes)}
    )


def test_fold_and_back():
    x = torch.randn(2, 3, 4, 6, 8)
    assert fold(x, 2).shape == (2, 24, 2, 3, 4)
    assert torch.equal(unfold(fold(x, 2), 2), x)


def test_segmenter_shape():
    net = SegmenterUNet(channels=(8, 8, 8)).build(1, 3)
    assert net(torch.rand(1, 1, 33, 20, 17)).shape == (1, 3, 33, 20, 17)


@pytest.mark.parametrize("config", [AutoencoderKL, AutoencoderVQ, UNet])
def test_settings_that_do_not_fit(config: type):
    with pytest.raises(ConfigError, match="channels=12 must be a multiple of norm_groups=8"):
        config.parse({"channels": [8, 12]})
    with pytest.raises(ConfigError, match="must have one entry per level"):
        config.parse({"channels": [8, 8], "attention_levels": [True]})
