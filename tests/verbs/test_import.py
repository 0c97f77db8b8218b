"""MONAI's weights through the verb: the same encode, decode, denoise and sample, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.networks.schedulers import DDIMScheduler
from safetensors.torch import save_file

from tests.conftest import TINY, data_words, verb, vol3d
from tests.models.monai_networks import (
    BRAINLDM_KL,
    BRAINLDM_UNET,
    aged,
    apart,
    autoencoder,
    maisi,
    narrow_brainldm,
    randomise,
    unet,
)
from vol3d.bundle import Bundle
from vol3d.data.tables import read_rows
from vol3d.diffusion.classifier_free_guidance import Guided
from vol3d.errors import ConfigError, DataError
from vol3d.trained import TrainedAutoencoder, TrainedGenerator
from vol3d.trained.sampling import conditions
from vol3d.volume import Volume, mni_grid

NARROW = {"channels": (8, 16, 16, 16)}
NARROW_UNET = {"channels": (8, 16, 24), "num_head_channels": (0, 16, 24)}
BRAINLDM = "configs/import/brainldm.yaml"
SMALL = ["grid=4mm", "shape=[16,24,16]"]


@pytest.fixture(scope="module")
def kl():
    return randomise(autoencoder())


@pytest.fixture(scope="module")
def kl_file(kl, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kl") / "kl.pt"
    torch.save(kl.state_dict(), path)
    return path


def write_zoo(folder: Path, kl: dict, net: dict, **config) -> Path:
    """A folder as the model zoo has BrainLDM's, narrower; its weights under their first names."""
    (folder / "models").mkdir(parents=True)
    torch.save(aged(kl), folder / "models" / "autoencoder.pt")
    torch.save(aged(net), folder / "models" / "model.pt")
    (folder / "configs").mkdir()
    settings = {
        "model_dir": "$@bundle_root + '/models'",
        "groups": 4,
        "autoencoder_def": {
            "_target_": "monai.networks.nets.AutoencoderKL",
            **BRAINLDM_KL,
            **NARROW,
            "norm_num_groups": "@groups",
            "norm_eps": 1e-6,
        },
        "diffusion_def": {
            "_target_": "monai.networks.nets.DiffusionModelUNet",
            **BRAINLDM_UNET,
            **NARROW_UNET,
            "norm_num_groups": 4,
            "norm_eps": 1e-6,
        },
        "diffusion": "$@diffusion_def.to(@device)",
        "scheduler": {
            "_target_": "monai.networks.schedulers.DDIMScheduler",
            "beta_start": 0.0015,
            "beta_end": 0.0205,
            "num_train_timesteps": 1000,
            "schedule": "scaled_linear_beta",
            "clip_sample": False,
        },
        **config,
    }
    (folder / "configs" / "inference.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def brainldm():
    return tuple(map(randomise, narrow_brainldm()))


@pytest.fixture(scope="module")
def zoo(brainldm, tmp_path_factory: pytest.TempPathFactory) -> Path:
    states = (net.state_dict() for net in brainldm)
    return write_zoo(tmp_path_factory.mktemp("zoo") / "brainldm", *states)


@pytest.fixture(scope="module")
def imported(zoo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("imported") / "brainldm"
    return verb("import", str(zoo), str(out), BRAINLDM, *SMALL)


# -- the same model ------------------------------------------------------------------------------------


@torch.inference_mode()
def assert_same(theirs, bundle: Path) -> None:
    ours = TrainedAutoencoder(bundle, precision="fp32")
    x = torch.rand(1, 1, 16, 24, 16, generator=torch.Generator().manual_seed(1))
    mean, sigma = theirs.encode(x)
    z, logvar = ours.encode(x)
    assert apart(z, mean) < 1e-5
    assert apart((logvar / 2).exp(), sigma) < 1e-5
    assert apart(ours.net.decode(z), theirs.decode(mean)) < 1e-5


def test_an_autoencoder(kl, kl_file: Path, tmp_path: Path):
    out = verb("import", str(kl_file), str(tmp_path / "o"), "kl.norm_groups=4")
    assert_same(kl, out)
    bundle = Bundle(out, "autoencoder")
    assert bundle.documents["quality"] == {}
    assert TrainedAutoencoder(out).grid.matches(mni_grid(1.0))
    assert "Never measured" in (out / "README.md").read_text()
    assert not list(out.rglob("*.pt"))


def wrapped(state: dict, how: str, folder: Path) -> tuple[Path, list[str]]:
    """The same weights as people have them on disk."""
    path = folder / "w.pt"
    words = []
    if how == "safetensors":
        path = folder / "w.safetensors"
        save_file({k: v.contiguous() for k, v in state.items()}, path)
        return path, words
    prefixed = {f"module.{k}": v for k, v in state.items()}
    content = {
        "data parallel": prefixed,
        "checkpoint": {"epoch": 3, "state_dict": prefixed, "optimizer": {"state": {}}},
        "autoencoder_state_dict": {"autoencoder_state_dict": state},
        "double precision": {k: v.double() for k, v in state.items()},
        "two networks": {"net": state, "ema": state},
    }[how]
    torch.save(content, path)
    return path, ["key=ema"] if how == "two networks" else []


@pytest.mark.parametrize(
    "how",
    [
        "safetensors",
        "data parallel",
        "checkpoint",
        "autoencoder_state_dict",
        "double precision",
        "two networks",
    ],
)
def test_as_people_have_them_on_disk(kl, how: str, tmp_path: Path):
    path, words = wrapped(kl.state_dict(), how, tmp_path)
    assert_same(kl, verb("import", str(path), str(tmp_path / "o"), "kl.norm_groups=4", *words))


def test_maisi(tmp_path: Path):
    theirs = randomise(maisi())
    torch.save(theirs.state_dict(), tmp_path / "m.pt")
    out = verb("import", str(tmp_path / "m.pt"), str(tmp_path / "o"), "kl.norm_groups=4")
    assert_same(theirs, out)
    assert Bundle(out).config["model"]["upsampling"] == "trilinear"


def test_hints_come_from_the_json_beside_a_file(zoo: Path, brainldm, tmp_path: Path):
    out = verb("import", str(zoo / "models" / "autoencoder.pt"), str(tmp_path / "o"))
    assert_same(brainldm[0], out)


def test_orientation_and_gain(kl, kl_file: Path, tmp_path: Path):
    words = ["kl.norm_groups=4", "orientation=LAS", "gain=1.2", "grid=4mm"]
    ours = TrainedAutoencoder(
        verb("import", str(kl_file), str(tmp_path / "o"), *words), precision="fp32"
    )
    x = torch.rand(1, 1, 16, 24, 16, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        mean, _ = kl.encode(1.2 * x.flip(2))
        z, _ = ours.encode(x)
        assert apart(z, mean) < 1e-5
        want = (kl.decode(mean) / 1.2).clamp(0, 1).flip(2)
        assert apart(ours.decode(z, (16, 24, 16)), want) < 1e-5
    latent = ours.latent_grid(ours.grid)
    assert latent.orientation == "LAS"
    assert (
        latent.affine[0, 3] == ours.grid.affine[0, 3] + 39 * 4 - 2
    )  # the first two voxels' middle


# -- BrainLDM's layout ---------------------------------------------------------------------------------


def test_what_the_bundle_says(imported: Path):
    config = Bundle(imported, "diffusion").config
    assert config["schedule"]["kind"] == "scaled_linear_beta"
    assert config["schedule"]["beta_end"] == 0.0205
    assert config["prediction"]["kind"] == "eps"
    assert config["model"]["head_channels"] == [0, 16, 24]
    model = TrainedGenerator(imported, sampler={"precision": "fp32"})
    assert model.schema.names == ["sex", "age", "ventricles", "brain"]
    assert model.schema.encode({"sex": "M", "age": 63.0, "ventricles": 0.2, "brain": 0.4})[:4] == [
        1.0,
        0.5,
        0.2,
        0.4,
    ]


@torch.inference_mode()
def test_the_denoiser_and_the_way_down_are_monais(imported: Path, brainldm):
    kl, net = brainldm
    model = TrainedGenerator(imported, sampler={"precision": "fp32"})
    row = {"sex": "M", "age": 56.0, "ventricles": 0.7, "brain": 0.5}
    told = torch.tensor([[1.0, (56 - 44) / (82 - 44), 0.7, 0.5]])
    shape = (4, 8, 4)
    x = torch.randn(1, 3, *shape, generator=torch.Generator().manual_seed(3))
    flat = told[:, :, None, None, None].expand(-1, -1, *shape)

    scheduler = DDIMScheduler(
        schedule="scaled_linear_beta",
        beta_start=0.0015,
        beta_end=0.0205,
        num_train_timesteps=1000,
        clip_sample=False,
    )
    scheduler.set_timesteps(4)
    theirs = x
    for t in (750, 500, 250, 0):
        noise = net(torch.cat([theirs, flat], 1), torch.tensor([t]), context=told[:, None])
        theirs, _ = scheduler.step(noise, t, theirs)

    full, without = conditions(model.net, model.schema, [row], model.sampler, shape)
    assert not without
    denoiser = model.net.denoiser
    ours = model.sampler.solver.sample(
        Guided(denoiser, full), x, denoiser.schedule.levels(4), lambda: torch.zeros_like(x)
    )
    assert apart(ours, theirs) < 1e-4
    assert apart(model.autoencoder.net.decode(ours), kl.decode(theirs)) < 1e-4


def test_generate_draws_from_it(imported: Path, tmp_path: Path):
    words = ["age=50", "sex=F", "sampler.steps=2", "n=2", "device=cpu"]
    out = verb("generate", str(imported), str(tmp_path / "o"), *words)
    rows = read_rows(out / "participants.tsv")
    assert {r["age"] for r in rows} == {"50.0000"}
    assert all(0 <= float(r["ventricles"]) <= 1 for r in rows)  # drawn
    scan = Volume.read(next(out.glob("sub-*/anat/*T1w.nii.gz")))
    assert scan.grid.orientation == "RAS"
    assert scan.shape == (16, 24, 16)
    middle = scan.affine @ [7.5, 11.5, 7.5, 1]
    full = mni_grid(4.0)
    assert np.allclose(middle, full.affine @ [*(np.array(full.shape) - 1) / 2, 1])


def test_a_latent_scale_factor(zoo: Path, brainldm, tmp_path: Path):
    state = {"unet_state_dict": brainldm[1].state_dict(), "scale_factor": torch.tensor(2.0)}
    torch.save(state, tmp_path / "u.pt")
    words = [f"autoencoder={zoo / 'models' / 'autoencoder.pt'}", "kl.norm_groups=4"]
    words += ["unet.norm_groups=4", "unet.head_channels=[0,16,24]", BRAINLDM]
    out = verb("import", str(tmp_path / "u.pt"), str(tmp_path / "o"), *words)
    assert Bundle(out).documents["fingerprint"]["latents"]["scale"] == [0.5] * 3
    words = ["scale_factor=4", f"autoencoder={out / 'autoencoder'}", *words[2:]]
    other = verb("import", str(tmp_path / "u.pt"), str(tmp_path / "o2"), *words)
    assert Bundle(other).documents["fingerprint"]["latents"]["scale"] == [0.25] * 3
    assert Bundle(other / "autoencoder").checksum == Bundle(out / "autoencoder").checksum


def test_no_covariates_and_classes(kl_file: Path, tmp_path: Path):
    words = [f"autoencoder={kl_file}", "kl.norm_groups=4", "unet.norm_groups=4", *SMALL]
    for name, changes, more, ask in (
        ("plain", {}, [], []),
        (
            "classes",
            {"num_class_embeds": 3},
            ["covariates.site={levels: [a, b, c], coding: one_hot}"],
            ["site=b"],
        ),
    ):
        net = randomise(unet(in_channels=4, out_channels=4, **changes))
        torch.save(net.state_dict(), tmp_path / f"{name}.pt")
        out = verb("import", str(tmp_path / f"{name}.pt"), str(tmp_path / name), *words, *more)
        cohort = tmp_path / f"{name}-cohort"
        verb("generate", str(out), str(cohort), *ask, "sampler.steps=2", "device=cpu")
        assert len(list(cohort.glob("sub-*/anat/*T1w.nii.gz"))) == 1


# -- measured, encoded with, learnt on -------------------------------------------------------------------


def test_measured_on_scans_it_serves_training(kl_file: Path, cohort: Path, tmp_path: Path):
    words = ["kl.norm_groups=4", "grid=4mm", "device=cpu"]
    plain = verb("import", str(kl_file), str(tmp_path / "plain"), *words)
    latents = verb("encode", str(plain), str(tmp_path / "z"), *data_words(cohort), "device=cpu")
    learn = ["task.kind=diffuse", "task.model={kind: unet, channels: [8, 8]}", "total_nimg=2"]
    learn += ["data.kind=latents", "batch=2", *TINY]
    with pytest.raises(ConfigError, match="or import it with data"):
        verb("train", f"run={tmp_path / 'run'}", *learn, f"data.path={latents}")

    measured = verb("import", str(kl_file), str(tmp_path / "m"), *words, *data_words(cohort))
    assert Bundle(measured).documents["quality"]["n"] == 2
    latents = verb("encode", str(measured), str(tmp_path / "z2"), *data_words(cohort), "device=cpu")
    run = tmp_path / "run2"
    verb("train", f"run={run}", *learn, f"data.path={latents}")
    scan = Volume.read(next(cohort.glob("sub-*/anat/*T1w.nii.gz")))
    assert TrainedGenerator(run).grid.matches(scan.grid), "that of the scans, not of the import"


# -- what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["none.pt", "OUT"], "none.pt: no such file"),
        (["README.md", "OUT"], "a file of weights ends in .pt"),
        (["configs", "OUT"], "configs/configs/inference.json: no such file"),
        (
            ["KL", "OUT"],
            "must be a multiple of norm_groups=32; say what it was made with, e.g. kl.",
        ),
        (["KL", "OUT", "kl.norm_grups=4"], "Did you mean 'norm_groups'?"),
        (["KL", "OUT", "kl.norm_groups=4", "key=ema"], "has no weights 'ema'"),
        (["KL", "OUT", "kl.norm_groups=4", "orientation=ASL"], "orientation"),
        (["KL", "OUT", "kl.norm_groups=4", "autoencoder=KL"], "goes with a U-Net as SOURCE"),
        (["ZOO/models/model.pt", "OUT"], "is a U-Net of latents; name what makes them"),
        (["ZOO", "OUT"], "takes numbers beside the latent: 4 as channels, 4 as tokens"),
        (["ZOO", "OUT", "covariates.age={low: 4, high: 8}"], "the covariates (age) make 1"),
        (["ZOO", "OUT", "covariates.age={low: 8, high: 4}"], "low=8 must be below high=4"),
        (["KL", "."], ".: is there already; name another folder"),
    ],
)
def test_a_mistake_is_one_line(
    words: list[str], line: str, kl_file: Path, zoo: Path, tmp_path: Path
):
    names = {"KL": kl_file, "ZOO": zoo, "OUT": tmp_path / "out"}
    for name, path in names.items():
        words = [w.replace(name, str(path)) for w in words]
    with pytest.raises((ConfigError, DataError)) as caught:
        verb("import", *words)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_scans_of_another_grid_leave_nothing(kl_file: Path, cohort: Path, tmp_path: Path):
    words = ["kl.norm_groups=4", "device=cpu", *data_words(cohort)]
    with pytest.raises(DataError, match=r"has voxels of \(4.0, 4.0, 4.0\) mm, and the autoencoder"):
        verb("import", str(kl_file), str(tmp_path / "o"), *words)
    assert list(tmp_path.iterdir()) == []


def test_several_of_a_kind(zoo: Path, brainldm, tmp_path: Path):
    two = write_zoo(tmp_path / "two", *(net.state_dict() for net in brainldm))
    torch.save(brainldm[0].state_dict(), two / "models" / "other.pt")
    with pytest.raises(ConfigError, match=r"several of a kind, autoencoder\.pt and other\.pt"):
        verb("import", str(two), str(tmp_path / "o"), BRAINLDM)


def test_what_is_none_of_ours_is_left_out_of_a_folder(brainldm, tmp_path: Path):
    more = write_zoo(tmp_path / "more", *(net.state_dict() for net in brainldm))
    torch.save({"head.weight": torch.zeros(2, 2)}, more / "models" / "classifier.pt")
    result = vol3d("import", more, tmp_path / "o", BRAINLDM, *SMALL)
    assert result.returncode == 0, result.stderr
    assert "left out:" in result.stderr
    assert "classifier.pt: is none of AutoencoderKL" in result.stderr
    assert "read off the weights: channels=(8, 16, 16, 16), z_channels=3" in result.stderr
    assert (
        "inference.json: norm_groups=4, norm_eps=1e-06, head_channels=[0, 16, 24]" in result.stderr
    )
    assert "assumed, as nothing says it: scale_factor=1" in result.stderr


class Unsafe:
    """What a pickle must not be able to make."""


def test_nothing_in_a_file_is_executed(tmp_path: Path):
    torch.save({"state_dict": Unsafe()}, tmp_path / "w.pt")
    with pytest.raises(DataError, match="cannot be read as weights alone"):
        verb("import", str(tmp_path / "w.pt"), str(tmp_path / "o"))
    (tmp_path / "x.pt").write_bytes(b"hello")
    with pytest.raises(DataError, match=r"x\.pt: cannot be read"):
        verb("import", str(tmp_path / "x.pt"), str(tmp_path / "o"))
    (tmp_path / "x.safetensors").write_bytes(b"hello")
    with pytest.raises(DataError, match=r"x\.safetensors: cannot be read"):
        verb("import", str(tmp_path / "x.safetensors"), str(tmp_path / "o"))


def test_latents_of_another_width(kl_file: Path, tmp_path: Path):
    torch.save(unet().state_dict(), tmp_path / "u.pt")
    words = [f"autoencoder={kl_file}", "kl.norm_groups=4", "unet.norm_groups=4"]
    with pytest.raises(DataError, match="is of latents of 3 channels, the autoencoder makes 4"):
        verb("import", str(tmp_path / "u.pt"), str(tmp_path / "o"), *words)
    assert not (tmp_path / "o").exists()
