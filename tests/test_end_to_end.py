"""The whole road on a tiny cohort, bundles and latents included; and the configs that ship."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tests.conftest import AUTOENCODER, DIFFUSION, SEGMENTER, VQ, data_words, read_log, verb
from vol3d.bundle import Bundle
from vol3d.config import read_yaml
from vol3d.errors import ConfigError, DataError
from vol3d.trained import TrainedAutoencoder, TrainedGenerator, TrainedSegmenter
from vol3d.verbs.train import Train
from vol3d.volume import Volume

CONFIGS = [p for p in sorted(Path("configs").rglob("*.yaml")) if "run" in read_yaml(p)]


@pytest.mark.parametrize("path", CONFIGS, ids=str)
def test_every_config_is_valid_and_round_trips(path: Path):
    settings, data = read_yaml(path), path.parent / "data.yaml"
    config = Train.parse(settings if "data" in settings else {**settings, **read_yaml(data)})
    assert Train.parse(config.dump()) == config


def test_a_bundle_says_what_it_is(diffusion: Path):
    bundle = Bundle(diffusion, "diffusion")
    assert {p.name for p in bundle.path.iterdir()} == {
        "config.yaml",
        "model.safetensors",
        "README.md",
        "checksums.json",
        "covariates.json",
        "fingerprint.json",
        "quality.json",
        "training.json",
        "versions.json",
        "autoencoder",
    }
    assert bundle.documents["fingerprint"]["people"] == {"train": 10, "val": 2}
    assert bundle.documents["quality"]["n"] == 2
    card = (bundle.path / "README.md").read_text()
    assert "10 scans of 10 people" in card
    assert "ventricles_ml | ml |" in card
    assert "Not a medical device" in card
    assert not [p for p in bundle.path.rglob("*") if p.suffix in (".pt", ".pkl", ".pth")]


def test_a_bundle_moves_and_reads_back(diffusion: Path, tmp_path: Path):
    shutil.copytree(diffusion / "bundle", tmp_path / "elsewhere")
    model = TrainedGenerator(tmp_path / "elsewhere")
    assert model.checksum == TrainedGenerator(diffusion).checksum
    assert model.schema.names == ["age", "sex", "brain_ml", "ventricles_ml"]
    row = model.complete({"age": 50.0}, 3)
    assert torch.equal(model.generate([row], [3]), model.generate([row], [3]))


def test_of_another_kind(autoencoder: Path):
    with pytest.raises(ConfigError, match="is a autoencoder bundle, a diffusion bundle is due"):
        TrainedGenerator(autoencoder)


def test_latents_are_means_of_the_posterior_and_standardise(
    latents: Path, autoencoder: Path, cohort: Path
):
    manifest = json.loads((latents / "latents.json").read_text())
    model = TrainedAutoencoder(autoencoder)
    assert manifest["autoencoder"] == model.checksum
    files = {s["name"]: load_file(latents / s["file"]) for s in manifest["scans"]}
    x = Volume.read(next(cohort.glob("sub-0003/anat/*T1w.nii.gz"))).data.astype(np.float32)
    x = np.clip(x / (1.2 * np.percentile(x[x > 0], 99.5)), 0, 1)
    mean, logvar = model.encode(torch.from_numpy(x)[None, None])
    assert np.allclose(files["sub-0003"]["mean"], mean[0].numpy(), atol=1e-5)
    assert np.allclose(files["sub-0003"]["logvar"], logvar[0].numpy(), atol=1e-4)
    train = [files[s["name"]] for s in manifest["scans"] if s["split"] == "train"]
    rng = np.random.default_rng(0)
    draws = np.concatenate(
        [
            (f["mean"] + np.exp(f["logvar"] / 2) * rng.normal(size=f["mean"].shape)).reshape(4, -1)
            for f in train
            for _ in range(4)
        ],
        axis=1,
    )
    assert np.allclose(draws.mean(1), manifest["shift"], atol=0.02)
    assert np.allclose(draws.std(1), manifest["scale"], rtol=0.02)


def test_encode_stopped_and_run_again(
    latents: Path, autoencoder: Path, cohort: Path, tmp_path: Path
):
    part = tmp_path / "part"
    shutil.copytree(latents, part)
    (part / "latents.json").unlink()
    (part / "sub-0004_latent.safetensors").unlink()
    kept = (part / "sub-0001_latent.safetensors").stat().st_mtime_ns
    verb("encode", str(autoencoder), str(part), *data_words(cohort), "device=cpu")
    assert (part / "sub-0001_latent.safetensors").stat().st_mtime_ns == kept
    assert (part / "latents.json").read_text() == (latents / "latents.json").read_text()


def spoilt(cohort: Path, tmp_path: Path) -> Path:
    """The cohort with a truncated scan."""
    copy = tmp_path / "cohort"
    shutil.copytree(cohort, copy)
    scan = next(copy.glob("sub-0002/anat/*T1w.nii.gz"))
    scan.write_bytes(scan.read_bytes()[:2000])
    return copy


def test_a_scan_that_fails_is_an_error_and_nothing_is_called_finished(
    cohort: Path, autoencoder: Path, tmp_path: Path
):
    bad = spoilt(cohort, tmp_path)
    with pytest.raises(DataError, match=r"sub-0002.*cannot be read as an image"):
        verb("encode", str(autoencoder), str(tmp_path / "z"), *data_words(bad), "device=cpu")
    assert not (tmp_path / "z" / "latents.json").exists()


def test_the_autoencoder_must_have_been_measured(cohort: Path, tmp_path: Path):
    words = [*data_words(cohort), "data.subjects=['0001','0002','0003']"]
    verb("train", f"run={tmp_path / 'ae'}", *words, *AUTOENCODER, "total_nimg=2")
    verb("encode", str(tmp_path / "ae"), str(tmp_path / "z"), *words, "device=cpu")
    with pytest.raises(ConfigError, match="never measured on held-out people"):
        verb(
            "train",
            f"run={tmp_path / 'd'}",
            "data.kind=latents",
            f"data.path={tmp_path / 'z'}",
            *DIFFUSION,
            "total_nimg=4",
        )


def test_a_run_folder_of_another_run(diffusion: Path, latents: Path):
    with pytest.raises(ConfigError, match=r"holds a run with other settings \(seed\)"):
        verb(
            "train",
            f"run={diffusion}",
            "data.kind=latents",
            f"data.path={latents}",
            *DIFFUSION,
            "total_nimg=16",
            "seed=1",
        )


def test_a_task_and_data_that_do_not_fit(cohort: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="task diffuse learns from latents"):
        verb("train", f"run={tmp_path / 'd'}", *data_words(cohort), *DIFFUSION, "total_nimg=4")


def test_scans_on_different_grids(cohort: Path, tmp_path: Path):
    copy = tmp_path / "cohort"
    shutil.copytree(cohort, copy)
    path = next(copy.glob("sub-0002/anat/*T1w.nii.gz"))
    scan = Volume.read(path)
    Volume(scan.data[:-2], scan.affine).write(path)
    words = [*AUTOENCODER, "total_nimg=12", "batch=12"]
    with pytest.raises(DataError, match=r"sub-0002: lies on a grid of 38x56x40.*data.grid=2mm"):
        verb("train", f"run={tmp_path / 'a'}", *data_words(copy), *words)
    verb("train", f"run={tmp_path / 'b'}", *data_words(copy), *words, "data.grid=4mm")
    assert TrainedAutoencoder(tmp_path / "b").grid.shape == (40, 56, 40)


@pytest.mark.parametrize(
    ("schedule", "prediction", "solver"),
    [
        ("edm", "edm", "heun"),
        ("flow", "v", "euler"),
        ("linear_beta", "v", "ddim"),
        ("cosine", "eps", "ddpm"),
        ("scaled_linear_beta", "x0", "euler"),
    ],
)
def test_other_ways_of_diffusion_train_and_sample(
    schedule: str, prediction: str, solver: str, latents: Path, tmp_path: Path
):
    words = [
        *DIFFUSION,
        f"task.schedule={schedule}",
        f"task.prediction={prediction}",
        f"task.sampler.solver={solver}",
        "total_nimg=8",
    ]
    verb("train", f"run={tmp_path / 'd'}", "data.kind=latents", f"data.path={latents}", *words)
    model = TrainedGenerator(tmp_path / "d")
    x = model.generate([model.complete({}, 0)], [0])
    assert x.shape == (1, 1, 40, 56, 40)
    assert x.isfinite().all()


def test_the_whole_road_over_codes(cohort: Path, tmp_path: Path):
    words = [*data_words(cohort), *AUTOENCODER[:1], *VQ, *AUTOENCODER[2:]]
    verb("train", f"run={tmp_path / 'ae'}", *words, "total_nimg=12", "log_every=2")
    records = [r for r in read_log(tmp_path / "ae") if r["event"] == "train"]
    assert {"commitment", "perplexity", "adversarial", "features", "discriminator"} <= set(
        records[-1]
    )
    assert records[-1]["perplexity"] > 1
    model = TrainedAutoencoder(tmp_path / "ae")
    assert model.net.quantiser.codes.unique(dim=0).shape[0] > 16, "codes are in the bundle"

    words = [*data_words(cohort), "device=cpu"]
    latents = verb("encode", str(tmp_path / "ae"), str(tmp_path / "z"), *words)
    stored = load_file(latents / "sub-0003_latent.safetensors")
    assert (stored["logvar"] == -30).all()
    z = torch.from_numpy(stored["mean"])[None]
    assert z.flatten(2)[0].unique(dim=1).shape[1] > 32, "the latent is that before quantisation"
    codes = model.net.quantiser.nearest(z)
    torch.testing.assert_close(model.decode(z), model.decode(codes))

    words = ["data.kind=latents", f"data.path={latents}", *DIFFUSION, "total_nimg=8"]
    verb("train", f"run={tmp_path / 'd'}", *words)
    generator = TrainedGenerator(tmp_path / "d")
    x = generator.generate([generator.complete({}, 0)], [0])
    assert x.shape == (1, 1, 40, 56, 40)
    assert x.isfinite().all()


def test_a_schedule_and_prediction_that_do_not_fit(latents: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match="edm"):
        verb(
            "train",
            f"run={tmp_path / 'd'}",
            "data.kind=latents",
            f"data.path={latents}",
            *DIFFUSION,
            "task.schedule=cosine",
            "task.prediction=edm",
            "total_nimg=8",
        )
    assert not (tmp_path / "d").exists()


def test_the_segmenter_measures_in_ml(segmenter: Path, cohort: Path):
    model = TrainedSegmenter(segmenter)
    x = torch.rand(1, 1, 40, 56, 40, generator=torch.Generator().manual_seed(0))
    (ml,) = model.measure(x, voxel_ml=0.064)
    p = model.probabilities(x)
    assert list(ml) == ["ventricles_ml", "brain_ml"]
    assert ml["ventricles_ml"] == pytest.approx(p[0, 1].sum().item() * 0.064, rel=1e-5)
    assert torch.allclose(p.sum(1), torch.ones(()), atol=1e-5)


def test_the_log_and_the_previews(diffusion: Path):
    events = [r["event"] for r in read_log(diffusion)]
    assert {"train", "validation"} <= set(events)
    assert list((diffusion / "previews").glob("*.png"))
    assert list((diffusion / "tensorboard").iterdir())


def test_resampled_without_change_of_place(cohort: Path, tmp_path: Path):
    """A flipped copy of a scan is the same scan to the network."""
    from vol3d.data.datasets import Bids
    from vol3d.data.images import Images

    copy = tmp_path / "cohort"
    shutil.copytree(cohort, copy)
    for path in copy.glob("sub-*/anat/*T1w.nii.gz"):
        Volume.read(path).reorient("LPI").write(path)
    a, b = (Images(Bids(path=p, entities={"desc": "brain"})) for p in (cohort, copy))
    assert np.array_equal(a.image(a.train[0]), b.image(b.train[0]))


def test_latents_of_other_data_are_not_taken_for_done(
    latents: Path, autoencoder: Path, cohort: Path, tmp_path: Path
):
    moved, part = tmp_path / "cohort", tmp_path / "z"
    shutil.copytree(cohort, moved)
    shutil.copytree(latents, part)
    swapped = [next(moved.glob(f"sub-000{i}/anat/*desc-brain_T1w.nii.gz")) for i in (1, 2)]
    shutil.copy(swapped[1], swapped[0])
    (part / "sub-0003_latent.safetensors").write_bytes(b"")
    verb("encode", str(autoencoder), str(part), *data_words(moved), "device=cpu")
    again = {n: load_file(part / f"{n}_latent.safetensors")["mean"] for n in NAMES}
    before = {n: load_file(latents / f"{n}_latent.safetensors")["mean"] for n in NAMES}
    assert np.array_equal(again["sub-0001"], before["sub-0002"])
    assert np.array_equal(again["sub-0003"], before["sub-0003"])


NAMES = ["sub-0001", "sub-0002", "sub-0003"]


def test_encode_killed_while_it_copied_the_autoencoder(
    autoencoder: Path, cohort: Path, tmp_path: Path
):
    (tmp_path / "z" / ".autoencoder.part").mkdir(parents=True)
    words = [*data_words(cohort), "data.subjects=['0001','0006']", "device=cpu"]
    verb("encode", str(autoencoder), str(tmp_path / "z"), *words)
    assert (tmp_path / "z" / "latents.json").is_file()


def test_a_run_does_not_go_on_with_other_data(cohort: Path, tmp_path: Path):
    moved = tmp_path / "cohort"
    shutil.copytree(cohort, moved)
    words = [f"run={tmp_path / 'ae'}", *data_words(moved), *AUTOENCODER, "save_every=2"]
    verb("train", *words, "total_nimg=4")
    shutil.rmtree(tmp_path / "ae" / "bundle")
    shutil.rmtree(next((tmp_path / "ae" / "checkpoints").glob("*4")))
    table = moved / "participants.tsv"
    table.write_text(table.read_text().replace("sub-0001\t", "sub-0001\t9", 1))
    with pytest.raises(ConfigError, match="are others than when this run began"):
        verb("train", *words, "total_nimg=4")


def test_a_scan_that_is_nowhere_near_the_grid(cohort: Path, tmp_path: Path):
    moved = tmp_path / "cohort"
    shutil.copytree(cohort, moved)
    image = next(moved.glob("sub-0002/anat/*desc-brain_T1w.nii.gz"))
    scan = Volume.read(image)
    far = scan.affine.copy()
    far[:3, 3] += 1000
    Volume(scan.data, far, scan.space_code).write(image)
    words = [*data_words(moved), *AUTOENCODER, "total_nimg=4", "data.grid=4mm"]
    with pytest.raises(
        DataError, match=r"sub-0002.*no voxel of the grid.*lies in the volume.*in MNI space"
    ):
        verb("train", f"run={tmp_path / 'ae'}", *words, "total_nimg=20")


def test_structures_with_a_side_are_not_mirrored(cohort: Path, tmp_path: Path):
    sided = "task.structures.left_cortex_ml=[1]"
    words = [f"run={tmp_path / 's'}", *data_words(cohort), *SEGMENTER, sided, "total_nimg=2"]
    with pytest.raises(ConfigError, match=r"left_cortex_ml has a side.*set flip=0"):
        verb("train", *words)
