"""What is drawn and what guides: labels come back, patches keep their place, contrasts go along."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.conftest import AUTOENCODER, verb
from vol3d.data.datasets import Bids, Table
from vol3d.data.images import Images
from vol3d.data.latents import LatentImages
from vol3d.data.rng import torch_rng
from vol3d.diffusion.conditioning import COORDINATES
from vol3d.errors import ConfigError, DataError
from vol3d.trained.members import open_members
from vol3d.trained.target import coordinates, flagged
from vol3d.trained.targets import images, labels
from vol3d.trained.targets.labels import LabelCodec
from vol3d.trained.targets.latents import LatentCodec
from vol3d.volume import Volume


@pytest.fixture(scope="module")
def contrasts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """People of the embedded cohort with T2w, FLAIR, lesions and raters; some lack a contrast."""
    out = tmp_path_factory.mktemp("contrasts") / "cohort"
    words = ["n=6", "spacing=4", "contrasts=[T2w,FLAIR]", "missing=0.3", "lesions=true", "raters=2"]
    return verb("sample-cohort", str(out), *words)


def bids(folder: Path, **more) -> Bids:
    return Bids.parse({"path": folder, "contrasts": ["T1w", "T2w", "FLAIR"], **more})


@pytest.mark.parametrize("coding", ["bits", "one_hot"])
def test_labels_come_back(coding: str):
    codec = LabelCodec(0.0, 1.0, {}, [0, 2, 3, 17, 41], coding)
    maps = torch.tensor([0, 2, 3, 17, 41, 3]).view(1, 1, 2, 3)
    coded = codec.encode(codec.places(maps))
    assert coded.shape == ((3 if coding == "bits" else 5), 1, 2, 3)
    assert coded.abs().eq(1).all()
    noisy = coded + 0.3 * torch.randn(coded.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(codec.decode(noisy[None])[0], maps)


def test_a_visit_has_what_it_has(contrasts: Path):
    raters = {"a": {"desc": "rater1"}, "b": {"desc": "rater2"}}
    source = bids(contrasts, raters=raters, labels_suffix="mask")
    visits = source.scans()
    assert [list(v.labels) for v in visits] == [["a", "b"]] * 6
    counts = [len(v.images) for v in visits]
    assert min(counts) < 3 == max(counts)
    everything = Images(source, may=["T2w", "a"])
    assert set(everything.read(visits[0])) <= {"T1w", "T2w", "a"}
    with_both = Images(source, needs=["T1w", "FLAIR"])
    assert len(with_both.train + with_both.val) == sum("FLAIR" in v.images for v in visits)
    with pytest.raises(DataError, match="no scan has PDw"):
        Images(source, needs=["PDw"])


def test_a_table_names_contrasts_and_raters(contrasts: Path):
    visits = bids(contrasts, raters={"a": {"desc": "rater1"}}, labels_suffix="mask").scans()
    rows = ["subject\tT1w\tT2w\tlabels_a\tage"]
    rows += [
        "\t".join(
            [
                v.subject,
                *(str(v.images.get(c, "n/a")) for c in ("T1w", "T2w")),
                str(v.labels["a"]),
                "50",
            ]
        )
        for v in visits
    ]
    (contrasts / "table.tsv").write_text("\n".join(rows) + "\n")
    found = Table(path=contrasts / "table.tsv").scans()
    assert [v.images for v in found] == [
        {c: v.images[c] for c in ("T1w", "T2w") if c in v.images} for v in visits
    ]
    assert [v.labels for v in found] == [v.labels for v in visits]
    assert all(v.covariates == {"age": 50.0} for v in found)


def test_a_patch_keeps_its_place(contrasts: Path):
    samples = images.Images(patch=(16, 20, 12)).samples(bids(contrasts), ["T2w"])
    visit = next(v for v in samples.train if "T2w" in v.images)
    whole = samples.sample(visit, ["T2w"], None)
    part = samples.sample(visit, ["T2w"], torch_rng("test"))
    assert part["x0"].shape == (1, 16, 20, 12)
    first = part[COORDINATES][:, 0, 0, 0]
    axes = [torch.linspace(-1, 1, n) for n in whole["x0"].shape[1:]]
    i, j, k = (int((a - f).abs().argmin()) for a, f in zip(axes, first, strict=True))
    for name in ("x0", "T2w"):
        assert torch.equal(part[name], whole[name][:, i : i + 16, j : j + 20, k : k + 12])


def test_those_held_out_are_seen_as_they_are(contrasts: Path):
    target = images.Images(augment={"gamma": {"p": 1, "log_gamma": 0.3}})
    samples = target.samples(bids(contrasts), [])
    for visits, is_changed in ((samples.train, True), (samples.val, False)):
        plain, seen = (samples.sample(visits[0], [], rng)["x0"] for rng in (None, torch_rng("v")))
        assert torch.equal(plain, seen) != is_changed


def test_structures_of_several_raters(contrasts: Path):
    """One rater at random each time; the structures are the places in the list of labels."""
    raters = {"a": {"desc": "rater1"}, "b": {"desc": "rater2"}}
    source = bids(contrasts, raters=raters, labels_suffix="mask")
    target = labels.Labels(of=["a", "b"], structures={"lesions_ml": [1]}, coding="one_hot")
    samples = target.samples(source, [])
    assert samples.codec.structures == ["lesions_ml"]
    visit = next(v for v in samples.train if samples.images.labels(v, "a").any())
    maps = [torch.from_numpy(samples.images.labels(visit, name)) for name in ("a", "b")]
    drawn = [samples.sample(visit, [], torch_rng("rater", i))["x0"] for i in range(8)]
    found = [[torch.equal(x[1:] > 0, m > 0) for m in maps] for x in drawn]
    assert all(any(row) for row in found)
    assert {row.index(True) for row in found} == {0, 1}
    both = labels.Labels(structures={"a_ml": [1, 2], "b_ml": "3-4"})
    codec = both.coded(0.0, 1.0, {}, range(3))
    there = {"labels": torch.tensor([0, 1, 2, 4, 7]).view(1, 5, 1, 1)}
    places = labels.LabelSamples(samples.images, codec, both).x0(there, 0)
    assert places.flatten().tolist() == [0, 1, 1, 2, 0]
    with pytest.raises(ConfigError, match="label 2 is in a_ml and in b_ml; null takes away"):
        labels.Labels.parse({"structures": {"a_ml": [2], "b_ml": [2]}})
    without = labels.Labels.parse({"structures": {"a_ml": None, "b_ml": [2]}})
    assert without.structures == {"b_ml": [2]}


def test_what_a_number_says_of_a_digit():
    """In the middle between what a digit may be, all labels are alike; digits of no label share out."""
    for low in (-1, 0):
        codec = LabelCodec(0.0, 1.0, {}, [0, 1, 2], "bits", low)
        p = codec.probabilities(torch.full((1, 2, 1, 1, 1), (1 + low) / 2))
        assert torch.allclose(p.flatten(), torch.full((3,), 1 / 3))
        sure = codec.probabilities(codec.encode(torch.tensor(2).view(1, 1, 1, 1))[None])
        assert sure.flatten().tolist() == [0, 0, 1]
    one_hot = LabelCodec(0.0, 1.0, {}, [0, 1], "one_hot")
    assert one_hot.probabilities(-torch.ones(1, 2, 1, 1, 1)).flatten().tolist() == [1, 0]


def test_each_image_on_a_grid_of_its_own(tmp_path: Path):
    rows = ["subject\tT1w\tlabels\tsplit"]
    for i, shape in enumerate([(9, 8, 7), (6, 8, 10), (8, 8, 8)]):
        affine = np.diag([1.0, -1.0, 1.0, 1.0])
        affine[:3, 3] = 10 * i
        data = np.random.default_rng(i).random(shape).astype(np.float32)
        Volume(data, affine).write(tmp_path / f"{i}.nii.gz")
        Volume((data > 0.8).astype(np.int16), affine).write(tmp_path / f"{i}_dseg.nii.gz")
        rows.append(f"{i}\t{i}.nii.gz\t{i}_dseg.nii.gz\t{'val' if i == 2 else 'train'}")
    (tmp_path / "table.tsv").write_text("\n".join(rows))
    words = {"path": tmp_path / "table.tsv"}
    with pytest.raises(DataError, match="lies on a grid of"):
        Images(Table.parse(words))
    source = Table.parse({**words, "grid": "own"})
    samples = labels.Labels(patch=(8, 8, 8)).samples(source, ["T1w"])
    for visit in samples.train:
        raw = Volume.read(visit.image).reorient("RAS")
        assert samples.images.grid_of(visit).matches(raw.grid)
        whole = samples.sample(visit, ["T1w"], None)
        assert whole["x0"].shape[1:] == whole["T1w"].shape[1:] == raw.shape
        assert samples.sample(visit, ["T1w"], torch_rng("own"))["T1w"].shape == (1, 8, 8, 8)
    Volume((data > 0.8) * np.int16(7), affine).write(tmp_path / "2_dseg.nii.gz")
    with pytest.raises(DataError, match=r"people held out some have labels \[7\]"):
        labels.Labels().samples(source, [])
    with pytest.raises(ConfigError, match="own stands alone"):
        Table.parse({**words, "grid": ["own", "2mm"]})
    Volume(np.ones((4, 4, 4), np.float32), np.diag([2.0, 2, 2, 1])).write(tmp_path / "1.nii.gz")
    with pytest.raises(DataError, match="all have one size"):
        Images(source)


def test_what_is_hidden_is_zero_and_says_so():
    sample = {"x0": torch.zeros(1, 2, 2, 2), "T2w": torch.ones(1, 2, 2, 2), "FLAIR": None}
    shown = flagged(sample, {"T2w": 1, "FLAIR": 1}, {"T2w": True})
    assert shown["T2w"].eq(1).all()
    assert shown["FLAIR"].eq(0).all()
    assert flagged(sample, {"T2w": 1}, {"T2w": False})["T2w"].eq(0).all()
    assert coordinates((3, 1, 2))[1].eq(0).all()


def test_a_label_map_guides_and_is_drawn(contrasts: Path):
    source = Bids.parse({"path": contrasts, "labels_entities": {"desc": "tissue"}})
    given = images.Images().samples(source, ["labels"])
    assert given.given_channels("labels") == 5
    one_hot = given.sample(given.train[0], ["labels"], None)["labels"]
    assert one_hot.sum(0).eq(1).all()
    drawn = labels.Labels().samples(source, [])
    x0 = drawn.sample(drawn.train[0], [], None)["x0"]
    assert x0.shape == (3, 40, 56, 40)
    back = drawn.codec.decode(x0[None])[0]
    assert np.array_equal(back.numpy(), drawn.images.labels(drawn.train[0]))
    with pytest.raises(ConfigError, match="no visit has 'T2w'; there are T1w"):
        given.given_channels("T2w")


def test_what_stays_known_beside_a_hole():
    """In an autoencoder whose axes point elsewhere too (an imported one)."""
    hole = torch.zeros(9, 8, 8, dtype=torch.bool)
    hole[0, 0, 0] = True
    codec = object.__new__(LatentCodec)
    codec.shift = torch.zeros(1)
    for turned, at in (([], (0, 0, 0)), ([2, 3], (-1, -1, 0))):
        codec.autoencoder = SimpleNamespace(downsample=2, turned=turned)
        known = codec.known_beside(hole)
        assert known.shape == (1, 5, 4, 4)
        assert known.sum() == 5 * 4 * 4 - 8  # the block and those next to it
        assert known[0][at] == 0


def test_a_generator_of_label_maps(contrasts: Path, tmp_path: Path):
    data = ["data.kind=bids", f"data.path={contrasts}", "data.labels_entities={desc: tissue}"]
    verb(
        *("train", f"run={tmp_path / 'run'}", *data, "task.kind=diffuse", "task.target=labels"),
        *("task.model={kind: dit, patch: 4, width: 24, depth: 1, head_channels: 12}", "batch=2"),
        *("task.conditions.vector=null", "total_nimg=2", "task.sampler.steps=2", "device=cpu"),
    )
    verb("generate", str(tmp_path / "run"), str(tmp_path / "out"), "n=1")
    (made,) = (tmp_path / "out").glob("sub-*/anat/*_dseg.nii.gz")
    labels = Volume.read(made).data
    assert labels.dtype == np.int16
    assert set(np.unique(labels)) <= {0, 1, 2, 3, 4}
    with pytest.raises(ConfigError, match="without seeing an image"):
        open_members(tmp_path / "run" / "bundle")
    with pytest.raises(ConfigError, match="draws label maps"):
        verb("evaluate", str(tmp_path / "ev"), *data, f"generator={tmp_path / 'run'}")


def test_latents_of_every_contrast(contrasts: Path, tmp_path: Path):
    data = ["data.kind=bids", f"data.path={contrasts}", "data.contrasts=[T1w,T2w]"]
    verb("train", f"run={tmp_path / 'ae'}", *data, *AUTOENCODER, "total_nimg=4")
    verb("encode", str(tmp_path / "ae"), str(tmp_path / "z"), *data, "device=cpu")
    latents = LatentImages(tmp_path / "z")
    there = {v.who: set(v.images) for v in bids(contrasts).scans()}
    for visit in latents.train + latents.val:
        assert ("T2w" in latents.read(visit)) == ("T2w" in there[visit.who])
    verb(
        *(
            "train",
            f"run={tmp_path / 'diffusion'}",
            "data.kind=latents",
            f"data.path={tmp_path / 'z'}",
        ),
        *("task.kind=diffuse", "task.model={kind: unet, channels: [8, 8]}", "task.sampler.steps=2"),
        *("task.conditions={vector: null, t2: {kind: image, of: T2w}}", "total_nimg=2", "batch=2"),
        *("device=cpu", "precision=fp32"),
    )
