"""Networks of the segmenters' menu: a generator's features, and MONAI's U-Net."""

import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as nnf
from monai.networks.nets import DynUNet

from tests.conftest import SEGMENTER, TINY, data_words, once, verb
from vol3d.bundle import Bundle
from vol3d.config import Config
from vol3d.errors import ConfigError, DataError
from vol3d.models.denoisers.unet import UNet
from vol3d.models.segmenters.monai_unet import MonaiUNet
from vol3d.trained import TrainedSegmenter
from vol3d.trained.segmenter_networks import DiffusionFeatures
from vol3d.trained.segmenter_networks.diffusion_features import Tap

NO_DATA = ["data.kind=bids", "data.path=none", "run=none", "total_nimg=4"]


class One(Config):
    """A network by its settings, as a task has it."""

    model: DiffusionFeatures


@pytest.fixture(scope="module")
def generator(cohort: Path, parts: Path) -> Path:
    """A diffusion model of images, told age and place, after a few patches."""
    words = [
        *data_words(cohort),
        *TINY,
        "task.kind=diffuse",
        "task.target={kind: images, patch: [12,12,12]}",
        "task.model={kind: unet, channels: [8, 16], middle_attention: false}",
        "task.conditions={vector: {kind: vector, dim: 8}, place: {kind: coordinates}}",
        "task.covariates={age: {unit: years}}",
        "task.sampler={solver: euler, steps: 1, precision: fp32}",
        "batch=2",
        "total_nimg=8",
        "data.subjects=[0001,0002,0003]",
        "data.val_fraction=0",
    ]
    return once(parts / "image_generator", lambda run: verb("train", f"run={run}", *words))


def features(generator: Path, *, tune: bool = False, **settings) -> DiffusionFeatures:
    return DiffusionFeatures(of=generator, width=8, tune=tune, **settings)


def train(run: Path, cohort: Path, model: str, *words: str) -> Path:
    words = [w for w in SEGMENTER if not w.startswith("task.model")] + [*words]
    return verb("train", f"run={run}", *data_words(cohort), *words, f"task.model={model}")


@pytest.mark.parametrize("tune", [False, True])
def test_a_bundle_needs_no_generator(tune: bool, generator: Path, cohort: Path, tmp_path: Path):
    """It answers as before once the generator is gone; and what is frozen stays as it was."""
    there = shutil.copytree(generator / "bundle", tmp_path / "generator")
    before = Bundle(there).weights()
    model = f"{{kind: diffusion_features, of: {there}, width: 8, tune: {str(tune).lower()}}}"
    run = train(tmp_path / "run", cohort, model, "total_nimg=4", "ema_halflife=1", "optim.lr=0.01")
    x = torch.rand(1, 1, 14, 11, 13)
    expected = TrainedSegmenter(run).probabilities(x)
    shutil.rmtree(there)
    assert str(there) not in (run / "config.yaml").read_text()
    again = TrainedSegmenter(run)
    assert again.needs_its_grid  # the generator was told where voxels lie
    (learnt,) = again.grids
    again.check_grid(learnt)
    with pytest.raises(DataError, match="knows only the grid that it learnt on"):
        again.check_grid(learnt.padded(1))
    assert torch.equal(again.probabilities(x), expected)
    assert torch.equal(again.probabilities(x), expected)  # the noise is the same each time
    after = again.net.generator.state_dict()
    moved = [not torch.equal(after[name], before[name]) for name in before]
    assert any(moved) == tune
    assert expected.std() > 1e-3


def test_only_what_is_tuned_learns(generator: Path):
    x = torch.rand(2, 1, 6, 7, 6)
    for tune in (False, True):
        net = features(generator, tune=tune).build(1, 2)
        net(x).square().mean().backward()
        assert all(p.grad is not None for p in net.taps.parameters())
        conv_in = net.generator.denoiser.net.conv_in.weight
        assert (conv_in.grad is not None) == tune


def test_features_are_those_of_the_denoiser(generator: Path):
    """By a loop over the denoiser's parts: each voxel's features side by side, then one layer."""
    net = features(generator, sigma=(0.1, 0.4), blocks=(1, 3)).build(1, 2).eval()
    x = torch.rand(1, 1, 8, 8, 8)
    seen = {}
    unet = net.generator.denoiser.net
    blocks = [block for level in unet.up_blocks for block in level["resnets"]]
    hooks = [
        block.register_forward_hook(lambda m, a, out, i=i: seen.setdefault(i, []).append(out))
        for i, block in enumerate(blocks)
    ]
    with torch.no_grad():
        mixed = net.features(x)
    for hook in hooks:
        hook.remove()
    columns, weights, bias = [], [], 0
    for i in range(len(net.sigma)):
        for block in (1, 3):
            tap = net.taps[i][f"{block}"]
            h = tap.norm(seen[block][i])
            factor = 8 // h.shape[2]
            columns.append(nnf.interpolate(h, scale_factor=factor, mode="trilinear"))
            weights.append(tap.conv.weight)
            bias = bias + tap.conv.bias
    expected = nnf.conv3d(torch.cat(columns, 1), torch.cat(weights, 1), bias)
    torch.testing.assert_close(mixed, expected, atol=1e-5, rtol=1e-4)


def test_the_noise_is_as_much_as_asked_for(generator: Path):
    """Of an image of unit variance, whatever the generator's schedule calls its levels."""
    net, seen = features(generator, sigma=(0.5,)).build(1, 2).eval(), []
    source, unet = net.source, net.generator.denoiser.net
    unet.conv_in.register_forward_hook(lambda m, given, out: seen.append(given[0][:, :1]))
    with torch.no_grad():
        for shade in (source.shift, source.shift + source.scale):
            net(torch.full((1, 1, 16, 16, 16), shade))
    alpha = (seen[1] - seen[0]).mean()
    assert seen[0].std() / alpha == pytest.approx(0.5, rel=0.05)


def test_batches_and_dropout(generator: Path):
    """An image has its features and its dropout by itself."""
    net = features(generator, dropout=0.5).build(1, 2).eval()
    x = torch.rand(2, 1, 6, 5, 7)
    seeds = torch.tensor([3, 4])
    with torch.no_grad():
        both = net(x, seeds)
        torch.testing.assert_close(both[1:], net(x[1:], seeds[1:]), atol=1e-5, rtol=1e-4)
        assert not torch.allclose(both[:1], net(x[:1], seeds[1:]), atol=1e-3)


def test_what_cannot_be_taken_is_refused(
    generator: Path, diffusion: Path, cohort: Path, tmp_path: Path
):
    with pytest.raises(ConfigError, match="draws latents"):
        features(diffusion).build(1, 2)
    with pytest.raises(ConfigError, match="has 4, from 0"):
        features(generator, blocks=(9,)).build(1, 2)
    with pytest.raises(ConfigError, match="takes one image"):
        features(generator).build(4, 2)
    with pytest.raises(ConfigError, match=r"model.*: of: the run or bundle"):
        One.parse({"model": {"kind": "diffusion_features"}})
    with pytest.raises(ConfigError, match="train on whole volumes"):
        train(
            tmp_path / "run",
            cohort,
            f"{{kind: diffusion_features, of: {generator}}}",
            "task.patch=[12,12,12]",
            "total_nimg=4",
        )


@pytest.mark.slow
def test_a_plan_asks_for_no_weights(generator: Path, capsys: pytest.CaptureFixture):
    """`vol3d plan`, and the memory check of a training, see a network without data."""
    words = [w for w in SEGMENTER if not w.startswith("task.model") and w != "check_memory=false"]
    model = f"task.model={{kind: diffusion_features, of: {generator}, width: 8}}"
    verb("plan", *words, model, "shape=[12,12,12]", *NO_DATA)
    assert "(as it is)" in capsys.readouterr().out


def test_large_images_give_the_same_features(monkeypatch: pytest.MonkeyPatch):
    """In slabs, which the next block writes over."""
    torch.manual_seed(0)
    net = UNet(channels=(8, 16), middle_attention=False, norm="channel").build(1, 1).eval()
    for p in net.parameters():
        torch.nn.init.normal_(p, std=0.1)
    x, told = torch.randn(1, 1, 16, 12, 13), []
    for large in (2**30, 1):
        monkeypatch.setattr("vol3d.models.denoisers.unet.LARGE", large)
        with torch.no_grad():
            net(x, torch.ones(1), on_block=lambda i, h: told.append((i, h.clone())))
    half = len(told) // 2
    assert [i for i, _ in told] == [0, 1, 2, 3] * 2
    assert [h.shape[1] for _, h in told[:half]] == [c for c, _ in net.features]
    for (_, a), (_, b) in zip(told[:half], told[half:], strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_heads_learn_of_large_images_as_of_small_ones(generator: Path, monkeypatch):
    """What the frozen generator computes in slabs is still there when the head's gradient is taken."""
    model = One.parse(
        {"model": {"kind": "diffusion_features", "of": str(generator), "width": 8}}
    ).model
    torch.manual_seed(0)
    net, x, gradients = model.build(1, 3), torch.rand(1, 1, 14, 11, 13), []
    for large in (2**30, 1):
        monkeypatch.setattr("vol3d.models.denoisers.unet.LARGE", large)
        net.zero_grad()
        net(x).square().mean().backward()
        gradients.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
    assert gradients[0]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


def test_a_tap_meets_odd_shapes():
    tap = Tap(8, 4, 6)
    x = torch.rand(1, 1, 9, 7, 1)
    assert tap(torch.rand(1, 8, 3, 2, 1), x).shape == (1, 6, 9, 7, 1)


@pytest.mark.parametrize("res_block", [False, True])
def test_monai_unet_is_monais(res_block: bool):
    """The same weights give the same logits as MONAI's own forward pass."""
    torch.manual_seed(0)
    ours = MonaiUNet(channels=(4, 6, 8, 10), res_block=res_block).build(2, 3).eval()
    theirs = DynUNet(
        3, 2, 3, [3] * 4, [1, 2, 2, 2], [2] * 3, filters=(4, 6, 8, 10), res_block=res_block
    ).eval()  # fmt: skip
    parts = {"down.0": "input_block", "middle": "bottleneck", "conv_out": "output_block"}
    parts |= {f"down.{i + 1}": f"downsamples.{i}" for i in range(2)}
    parts |= {f"up.{i}": f"upsamples.{i}" for i in range(3)}
    for mine, name in parts.items():
        theirs.get_submodule(name).load_state_dict(ours.get_submodule(mine).state_dict())
    x = torch.rand(2, 2, 16, 24, 16)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("shape", [(9, 14, 11), (8, 8, 8), (3, 5, 1), (17, 8, 16)])
def test_monai_unet_takes_any_shape(shape: tuple[int, int, int]):
    net = MonaiUNet(channels=(4, 4, 4, 4), dropout=0.5).build(1, 3)
    x = torch.rand(2, 1, *shape)
    seeds = torch.tensor([1, 2])
    for mode in (net.train(), net.eval()):
        assert mode(x).shape == (2, 3, *shape)
        with torch.no_grad():
            both = mode(x, seeds)
            torch.testing.assert_close(both[1:], mode(x[1:], seeds[1:]))
            assert torch.equal(both, mode(x, seeds))
            assert not torch.allclose(both, mode(x), atol=1e-3)


def test_monai_unet_trains(cohort: Path, tmp_path: Path):
    model = "{kind: monai_unet, channels: [4, 4, 4, 4], dropout: 0.2}"
    run = train(tmp_path / "run", cohort, model, "total_nimg=4", "data.subjects=[0001,0002,0006]")
    found = TrainedSegmenter(run).probabilities(torch.rand(1, 1, 13, 9, 10))
    torch.testing.assert_close(found.sum(1), torch.ones(1, 13, 9, 10))
