"""Ensembles in native space: what comes back lies where the image lies, whoever the members are."""

import json
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from tests.conftest import LABEL_DIFFUSION, data_words, verb
from vol3d.bundle import Bundle, write_bundle
from vol3d.cli import fill, load_verb
from vol3d.data.bids_writer import anat_path, sidecar_of
from vol3d.data.datasets import Bids, OneImage
from vol3d.data.native_scan import NativeScan
from vol3d.data.tables import read_rows
from vol3d.errors import ConfigError, DataError
from vol3d.io.header import read_header
from vol3d.io.reading import read_json
from vol3d.metrics.temperature import apply_temperature
from vol3d.report.segmented_visits import segmented_page
from vol3d.trained import TrainedSegmenter
from vol3d.trained.calibration import Calibration
from vol3d.trained.members import open_members
from vol3d.trained.mixture import APART, Dealt, Mixture, deal
from vol3d.trained.segmentation_folder import finished, write_tables
from vol3d.volume import Volume

WHO = "sub-0001"


def image_of(cohort: Path, who: str = WHO) -> Path:
    return next(cohort.glob(f"{who}/anat/*desc-brain_T1w.nii.gz"))


def segment(bundle: object, images: object, out: Path, *words: str) -> Path:
    bundle = bundle if isinstance(bundle, list) else [bundle]
    named = f"bundle=[{','.join(map(str, bundle))}]"
    return verb("segment", named, str(images), str(out), "device=cpu", "pictures=false", *words)


def labels(out: Path, desc: str = "", who: str = "sub-*") -> nib.Nifti1Image:
    ending = f"_desc-{desc}_dseg.nii.gz" if desc else "_dseg.nii.gz"
    found = [p for p in out.glob(f"{who}/**/*{ending}") if desc or "_desc-" not in p.name]
    assert len(found) == 1
    return nib.load(found[0])


def told(out: Path, who: str = "sub-*") -> dict:
    (sidecar,) = out.glob(f"{who}/**/*_dseg.json")
    return read_json(sidecar)


def voxels(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(out.rglob("*.nii.gz"))}


@pytest.fixture(scope="module")
def drawn(cohort: Path, label_diffusion: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two of the cohort by four members of a diffusion model."""
    words = ["data.entities.desc=brain", "data.subjects=['0001','0002']", "keep_members=true"]
    words += ["members=4", "lesions=[ventricles_ml]", "pictures=true"]
    return segment(label_diffusion, cohort, tmp_path_factory.mktemp("drawn") / "out", *words)


def turned(cohort: Path, path: Path) -> Path:
    """The image with axes that point to L, S and A, in an oblique place of the scanner's world."""
    brain = Volume.read(image_of(cohort)).reorient("LSA")
    oblique = np.eye(4)
    oblique[:3, :3] = Rotation.from_euler("xyz", [9, -14, 5], degrees=True).as_matrix()
    oblique[:3, 3] = [3, -20, 11]
    Volume(brain.data, oblique @ brain.affine, 1).write(path, codes=(1, 3))
    return path


@pytest.mark.parametrize("kind", ["dropout_segmenter", "label_diffusion"])
def test_a_turned_oblique_image_comes_back_exactly(
    kind: str, cohort: Path, tmp_path: Path, request: pytest.FixtureRequest
):
    """The networks see the same voxels, so every voxel is the same, and lies where its image's does."""
    bundle = request.getfixturevalue(kind)
    words = ["members=2", "keep_members=true"]
    straight = segment(bundle, image_of(cohort), tmp_path / "a", *words)
    image = turned(cohort, tmp_path / "scan.nii.gz")
    back = segment(bundle, image, tmp_path / "b", *words)
    one, other, scan = labels(straight), labels(back), nib.load(image)
    for file in back.rglob("*.nii.gz"):
        found = nib.load(file)
        assert found.shape[:3] == scan.shape
        assert np.allclose(found.affine, scan.affine, atol=1e-5)
        assert (int(found.header["sform_code"]), int(found.header["qform_code"])) == (1, 3)
    ours, theirs = (
        Volume(np.asarray(i.dataobj), nib.load(p).affine).reorient("RAS").data
        for i, p in ((one, image_of(cohort)), (other, image))
    )
    assert 0 < np.count_nonzero(ours) < ours.size
    assert np.array_equal(ours, theirs)
    for name, of in told(straight)["Volumes"].items():  # the affine on disk has float32's digits
        assert told(back)["Volumes"][name] == {n: pytest.approx(v, rel=1e-6) for n, v in of.items()}
    members = labels(back, "members")
    assert members.shape == (*scan.shape, 2)
    assert members.get_data_dtype() == np.uint8


def test_what_is_written_fits_together(drawn: Path):
    place = next(drawn.glob("sub-0001/anat/*_dseg.json"))
    stem = place.name.removesuffix("_dseg.json")
    maps = {
        name: Volume.read(place.parent / f"{stem}_{name}_probseg.nii.gz").data
        for name in ("label-ventricles", "label-brain", "desc-entropy", "desc-mutualinformation")
    }
    p = np.stack([maps["label-ventricles"], maps["label-brain"]])
    p = np.concatenate([1 - p.sum(0, keepdims=True), p])
    consensus = np.asarray(labels(drawn, who="sub-0001").dataobj)
    of_it = np.take_along_axis(p, consensus[None].astype(int), 0)[0]
    assert np.allclose(of_it, p.max(0), atol=1e-4)  # on disk, two may have come to be equal
    entropy = -np.where(p > 1e-9, p * np.log(np.maximum(p, 1e-9)), 0).sum(0)
    assert np.allclose(maps["desc-entropy"], entropy, atol=1e-3)
    assert (maps["desc-mutualinformation"] <= maps["desc-entropy"] + 1e-4).all()
    assert told(drawn, "sub-0001")["Labels"] == {"ventricles_ml": [4], "brain_ml": [2, 3]}
    volumes = told(drawn, "sub-0001")["Volumes"]
    assert len(volumes["brain_ml"]["members_ml"]) == 4
    members = volumes["brain_ml"]["members_ml"]
    assert volumes["brain_ml"]["mean_ml"] == pytest.approx(np.mean(members), abs=1e-4)
    assert volumes["brain_ml"]["low_ml"] == pytest.approx(np.quantile(members, 0.05), abs=1e-4)
    kept = np.asarray(labels(drawn, "members", "sub-0001").dataobj)
    votes = np.stack([(kept == k).sum(-1) for k in range(3)])
    majority = np.asarray(labels(drawn, "majority", "sub-0001").dataobj)
    assert (np.take_along_axis(votes, majority[None], 0)[0] == votes.max(0)).all()
    page = (drawn / "sourcedata" / "report.html").read_text()
    assert page.count("data:image/png") == 2
    assert f"{volumes['brain_ml']['mean_ml']:.2f}" in page
    rows = read_rows(drawn / "volumes.tsv")
    assert [(r["participant_id"], r["structure"]) for r in rows] == [
        (who, name) for who in ("sub-0001", "sub-0002") for name in ("ventricles_ml", "brain_ml")
    ]
    pieces = [r for r in read_rows(drawn / "lesions.tsv") if r["participant_id"] == WHO]
    total = sum(float(r["volume_ml"]) for r in pieces)
    assert total == pytest.approx(volumes["ventricles_ml"]["consensus_ml"], rel=1e-3)


def test_no_lesion_is_a_table_without_rows(drawn: Path, tmp_path: Path):
    none = {"Subject": "1", "Session": None, "Volumes": {}, "Lesions": {"ventricles_ml": []}}
    write_tables(tmp_path, [none])
    with_some = (drawn / "lesions.tsv").read_text().splitlines()
    assert (tmp_path / "lesions.tsv").read_text() == with_some[0] + "\n"
    assert len(with_some) > 1


def test_images_of_one_visit_are_told_apart(tmp_path: Path):
    """By the entities in which names differ; those of all, such as the space, are no columns."""
    ml = dict.fromkeys(("mean_ml", "low_ml", "high_ml", "consensus_ml"), 1.0)
    about = {"Visit": "sub-1", "Subject": "1", "Session": None, "Volumes": {"a": ml}}
    about["Lesions"] = {"a": [{"number": 1}]}
    for name in ("run-1_space-MNI", "run-2_space-MNI", "acq-fast_space-MNI"):
        path = tmp_path / "sub-1" / "anat" / f"sub-1_{name}_dseg.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(about))
    write_tables(tmp_path, finished(tmp_path))
    for table in ("volumes.tsv", "lesions.tsv"):
        rows = read_rows(tmp_path / table)
        assert [(row["acq"], row["run"]) for row in rows] == [
            *(("fast", "n/a"), ("n/a", "1"), ("n/a", "2"))
        ]
        assert "space" not in rows[0]
    page = segmented_page(finished(tmp_path), [], 0.9)
    assert all(f"sub-1_{name}<" in page for name in ("acq-fast", "run-1", "run-2"))


def test_the_validator_finds_no_error(drawn: Path):
    """The tables alone are hidden from it; BIDS has no place for them."""
    import subprocess
    import sys

    assert (drawn / ".bidsignore").read_text().split() == ["volumes.tsv", "lesions.tsv"]
    validator = Path(sys.executable).parent / "bids-validator-deno"
    done = subprocess.run(
        [validator, str(drawn), "--format", "json"], capture_output=True, text=True, check=False
    )
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [i for i in issues if i["severity"] == "error"] == []


def test_a_visit_without_its_sidecar_is_made_again_alike(
    drawn: Path, cohort: Path, label_diffusion: Path
):
    before = voxels(drawn)
    sidecar = next(drawn.glob("sub-0002/anat/*_dseg.json"))
    content = sidecar.read_text()
    sidecar.unlink()
    next(drawn.glob("sub-0002/anat/*_desc-entropy_probseg.nii.gz")).unlink()
    kept = {p: p.stat().st_mtime_ns for p in drawn.glob("sub-0001/**/*.nii.gz")}
    words = ["data.entities.desc=brain", "data.subjects=['0001','0002']", "keep_members=true"]
    segment(label_diffusion, cohort, drawn, *words, "members=4", "lesions=[ventricles_ml]")
    assert voxels(drawn) == before
    assert sidecar.read_text() == content
    assert {p: p.stat().st_mtime_ns for p in kept} == kept


def test_shards_make_what_one_process_makes(
    drawn: Path, cohort: Path, label_diffusion: Path, tmp_path: Path
):
    words = ["data.entities.desc=brain", "data.subjects=['0001','0002']", "keep_members=true"]
    for shard in ("2/2", "1/2"):
        segment(
            *(label_diffusion, cohort, tmp_path / "out", *words),
            *("members=4", "lesions=[ventricles_ml]", f"shard={shard}"),
        )
        assert len(list(tmp_path.glob("out/sub-*"))) == int(shard == "1/2") + 1
    assert voxels(tmp_path / "out") == voxels(drawn)
    for table in ("volumes.tsv", "lesions.tsv"):
        assert (tmp_path / "out" / table).read_text() == (drawn / table).read_text()


def test_the_first_members_of_more_are_the_same(
    drawn: Path, cohort: Path, label_diffusion: Path, tmp_path: Path
):
    words = ["members=3", "keep_members=true"]
    fewer = segment(label_diffusion, image_of(cohort), tmp_path / "out", *words)
    few, many = (np.asarray(labels(out, "members", WHO).dataobj) for out in (fewer, drawn))
    assert np.array_equal(few, many[..., :3])
    assert not np.array_equal(few[..., 0], few[..., 1])


def test_members_are_dealt_in_turn():
    assert deal([True, False, True], 6, 5) == [
        *(Dealt(0, 5), Dealt(1, 5 + APART), Dealt(2, 5 + 2 * APART)),
        *(Dealt(0, 6), Dealt(2, 6 + 2 * APART), Dealt(0, 7)),
    ]
    assert deal([True, False, True], 9, 5)[:6] == deal([True, False, True], 6, 5)
    assert deal([False, False], 6, 0) == [Dealt(0, 0), Dealt(1, APART)]


def test_a_mixture(
    cohort: Path, segmenter: Path, dropout_segmenter: Path, label_diffusion: Path, tmp_path: Path
):
    """Each member is what its segmenter says by itself; one that is not random speaks once."""
    bundles = [label_diffusion, segmenter, dropout_segmenter]
    out = segment(bundles, image_of(cohort), tmp_path / "out", "members=6", "keep_members=true")
    made = told(out)
    assert [m["Segmenter"] for m in made["Members"]] == [0, 1, 2, 0, 2, 0]
    assert made["Segmenters"] == [Bundle(b).checksum for b in bundles]
    x = torch.from_numpy(NativeScan.read(visit(cohort), ["T1w"]).brains["T1w"].data)
    scan = NativeScan.read(visit(cohort), ["T1w"])
    x = scan.seen_on(scan.grid)["T1w"][None]
    alone = TrainedSegmenter(segmenter).probabilities(x)[0]
    dropped = TrainedSegmenter(dropout_segmenter).probabilities(x, 2 * APART + 1)[0]
    kept = Volume.read(next(out.glob("sub-*/anat/*label-brain_probseg.nii.gz")))
    members = np.asarray(labels(out, "members").dataobj)
    turn = [Volume(m, kept.affine).reorient("RAS").data for m in np.moveaxis(members, -1, 0)]
    assert np.array_equal(turn[1], alone.argmax(0).numpy())
    assert np.array_equal(turn[4], dropped.argmax(0).numpy())
    ml = made["Volumes"]["brain_ml"]["members_ml"]
    assert ml[1] == pytest.approx(int((turn[1] == 2).sum()) * 0.064)


def test_those_held_out_alone(cohort: Path, segmenter: Path, tmp_path: Path):
    who = {v.who: v.split for v in Bids(path=cohort, entities={"desc": "brain"}).chosen()}
    assert {*who.values()} == {"train", "val"}
    out = segment(segmenter, cohort, tmp_path / "a", "data.entities.desc=brain", "split=val")
    made = {path.parents[1].name for path in out.glob("sub-*/**/*_dseg.json")}
    assert made == {name for name, split in who.items() if split == "val"}
    with pytest.raises(ConfigError, match="split=val: none of the 1 visits is in it"):
        segment(segmenter, image_of(cohort), tmp_path / "b", "split=val")


def visit(cohort: Path):
    return OneImage(path=image_of(cohort)).find()[0]


@pytest.mark.parametrize("code", [1, 4])
def test_other_voxel_sizes_are_resampled_and_taken_back(
    code: int, cohort: Path, tmp_path: Path, caplog
):
    """In MNI space to the very grid learnt from, else to its voxel size; volumes stay."""
    fine = Volume.read(image_of(cohort))
    grid = fine.grid.turned("LPS").at([2.0, 3.0, 4.0])
    fine = fine.resample(grid)
    Volume(fine.data, fine.affine, code).write(tmp_path / "scan.nii.gz")
    straight = segment("ready", image_of(cohort), tmp_path / "a", "members=1")
    out = segment("ready", tmp_path / "scan.nii.gz", tmp_path / "b", "members=1")
    assert "learnt from voxels of 4x4x4 mm" in caplog.text
    found = labels(out)
    assert found.shape == grid.shape
    assert np.allclose(found.affine, grid.affine, atol=1e-4)
    for name, of in told(straight)["Volumes"].items():
        assert told(out)["Volumes"][name]["mean_ml"] == pytest.approx(of["mean_ml"], rel=0.06)


def test_calibration(drawn: Path, cohort: Path, label_diffusion: Path, tmp_path: Path, caplog):
    path = tmp_path / "calibration.json"
    content = {
        "temperature": 2.0,
        "level": 0.8,
        "conformal": {"brain_ml": {"offset_ml": 12.5, "n": 20}},
        **{name.lower(): told(drawn, WHO)[name] for name in ("Segmenters", "Samplers")},
        "members": 4,
        "structures": ["brain_ml", "ventricles_ml"],
        "learnt_from": 3,
    }
    (sampler,) = content["samplers"]
    sampler["precision"] = "bf16"  # of the machine on which it was found
    path.write_text(json.dumps(content))
    words = ["members=4", f"calibration={path}"]
    out = segment(label_diffusion, image_of(cohort), tmp_path / "out", *words)
    assert caplog.text.count("3 visits of the split train") == 1
    volumes = told(out)["Volumes"]
    low, high = np.quantile(volumes["brain_ml"]["members_ml"], [0.1, 0.9])
    assert volumes["brain_ml"]["conformal_low_ml"] == pytest.approx(low - 12.5, abs=1e-3)
    assert volumes["brain_ml"]["conformal_high_ml"] == pytest.approx(high + 12.5, abs=1e-3)
    assert volumes["ventricles_ml"]["conformal_low_ml"] is None
    assert "conformal_low_ml" in read_rows(out / "volumes.tsv")[0]
    before, after = (
        np.stack(
            [Volume.read(next(o.glob(f"{WHO}/anat/*label-{n}_probseg.nii.gz"))).data for n in NAMES]
        )
        for o in (drawn, out)
    )
    before = np.concatenate([np.clip(1 - before.sum(0, keepdims=True), 0, 1), before])
    assert np.allclose(apply_temperature(before, 2.0)[1:], after, atol=0.01)
    steps = {**sampler, "steps": 50}
    others = {
        **{"members": [16, None], "samplers": [[steps], None], "segmenters": [["abc"], None]},
        "structures": [["brain_ml"], None],
    }
    for name, (other, not_told) in others.items():
        for value, line in (
            (other, f"of other {name}"),
            (not_told, f"other {name} .not told, now"),
        ):
            path.write_text(json.dumps({**content, name: value}))
            with pytest.raises(ConfigError, match=line):
                segment(label_diffusion, image_of(cohort), tmp_path / "other", *words)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "changes",
    [{"temperature": t} for t in (0, 0.01, 50, math.nan)]
    + [{"level": 1}, *({"conformal": {"a_ml": {"offset_ml": x}}} for x in (math.nan, math.inf))],
)
def test_numbers_that_no_calibration_has(changes: dict, tmp_path: Path):
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps({"temperature": 0.05, "level": 0.8, "conformal": {}, **changes}))
    with pytest.raises(DataError, match=rf"{path}.*(temperature from 0.05 to 20|of a_ml is)"):
        Calibration.read(path)


NAMES = ("ventricles", "brain")


def untrained(path: Path, cohort_segmenter: Path, **changes) -> Path:
    """A bundle like that of a segmenter, with other settings and weights as they begin."""
    like = Bundle(cohort_segmenter)
    config = {**like.config, **changes.pop("config", {})}
    fingerprint = {**like.documents["fingerprint"], **changes}
    from vol3d.trained.segmenter import SegmenterBundle, channels_of

    made = SegmenterBundle.parse(config)
    net = made.model.build(channels_of(made.contrasts), len(made.structures) + 1)
    documents = {"fingerprint": fingerprint, "quality": {}}
    write_bundle(path, config=config, weights=net.state_dict(), documents=documents, card="")
    return path


def test_structures_in_another_order_and_others(cohort: Path, segmenter: Path, tmp_path: Path):
    names = ["brain_ml", "ventricles_ml"]
    other = untrained(tmp_path / "order", segmenter, config={"structures": names})
    mixture = Mixture([open_members(segmenter), open_members(other)], 2, 0)
    scan = NativeScan.read(visit(cohort), ["T1w"])
    x = scan.seen_on(scan.grid)["T1w"][None]
    _, second = mixture.of(scan)
    assert torch.equal(second, TrainedSegmenter(other).probabilities(x)[0][[0, 2, 1]])
    names = ["brain_ml", "lesions_ml"]
    other = untrained(tmp_path / "names", segmenter, config={"structures": names})
    with pytest.raises(
        ConfigError, match=r"finds brain_ml, lesions_ml, .* members of one ensemble"
    ):
        segment([segmenter, other], image_of(cohort), tmp_path / "out")
    meant = {"brain_ml": [2, 3], "ventricles_ml": ["4-5"]}
    others = [
        untrained(
            tmp_path / f"{name}", segmenter, config={"labels": {**meant, "ventricles_ml": ids}}
        )
        for name, ids in {"one": ["4-5"], "alike": [5, 4], "apart": [4]}.items()
    ]
    one, alike, apart = map(open_members, others)
    assert len(Mixture([one, alike], 2, 0).dealt) == 2
    with pytest.raises(ConfigError, match="ventricles_ml is of labels"):
        Mixture([one, apart], 2, 0)


def test_contrasts(cohort: Path, segmenter: Path, tmp_path: Path, caplog):
    """The main one is needed, another may lack; what lies on another grid is resampled."""
    both = untrained(
        tmp_path / "both",
        segmenter,
        config={"contrasts": ["T1w", "FLAIR"]},
        contrasts=["T1w", "FLAIR"],
    )
    flair = tmp_path / "a_FLAIR.nii.gz"
    brain = Volume.read(image_of(cohort))
    brain.resample(brain.grid.at(5.0)).write(flair)
    with pytest.raises(DataError, match=r"has FLAIR; .* takes T1w.*never without T1w"):
        segment(segmenter, flair, tmp_path / "out")
    with pytest.raises(DataError, match=r"takes T1w and FLAIR, and was never without T1w"):
        segment(both, flair, tmp_path / "out")
    table = tmp_path / "scans.tsv"
    rows = [("subject", "T1w", "FLAIR"), ("a", image_of(cohort), flair)]
    rows += [("b", image_of(cohort), "n/a")]
    table.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    out = segment(both, table, tmp_path / "out")
    assert "1 of 2 visits have no FLAIR (sub-b)" in caplog.text
    assert f"{flair}: lies on a grid of" in caplog.text
    assert [*told(out, "sub-a")["Inputs"]] == ["T1w", "FLAIR"]
    assert [*told(out, "sub-b")["Inputs"]] == ["T1w"]
    a, b = (told(out, who)["Volumes"]["brain_ml"]["mean_ml"] for who in ("sub-a", "sub-b"))
    assert a != b
    caplog.clear()
    folder = tmp_path / "bids"
    named = folder / WHO / "anat" / f"{WHO}_T1w.nii.gz"
    named.parent.mkdir(parents=True)
    named.write_bytes(image_of(cohort).read_bytes())
    out = segment(both, folder, tmp_path / "nobody", "members=1")
    assert "1 of 1 visits have no FLAIR" in caplog.text
    assert [*told(out)["Inputs"]] == ["T1w"]
    with pytest.raises(ConfigError, match=r"no image \*_FLAIR"):
        segment(both, folder, tmp_path / "asked", "data.contrasts=[T1w,FLAIR]")
    named.rename(named.with_name(f"{WHO}_FLAIR.nii.gz"))
    with pytest.raises(ConfigError, match=r"no image \*_T1w"):
        segment(both, folder, tmp_path / "without")


def test_tables_name_people_as_they_are_named(cohort: Path, tmp_path: Path):
    table = tmp_path / "scans.tsv"
    rows = [("subject", "session", "T1w"), ("hippocampus_001", "n/a", image_of(cohort))]
    rows += [("hippocampus_002", "2_b", image_of(cohort))]
    table.write_text("".join("\t".join(map(str, row)) + "\n" for row in rows))
    out = segment("ready", table, tmp_path / "out", "members=1", "lesions=[ventricles_ml]")
    for name in ("volumes.tsv", "lesions.tsv"):
        whose = {(r["participant_id"], r["session_id"]) for r in read_rows(out / name)}
        assert whose == {("sub-hippocampus_001", "n/a"), ("sub-hippocampus_002", "ses-2_b")}


def test_covariates_are_the_same_for_all_members(cohort: Path, tmp_path: Path):
    """A member's seed draws its noise, not the age of the person."""
    words = [
        *data_words(cohort),
        *LABEL_DIFFUSION,
        "total_nimg=4",
        "task.covariates.age.unit=years",
    ]
    words = [w for w in words if not w.startswith("task.conditions")]
    words.append("task.conditions={t1: {kind: image, of: T1w}}")
    member = open_members(verb("train", f"run={tmp_path / 'run'}", *words))
    scan = NativeScan.read(visit(cohort), ["T1w"])
    seen = scan.seen_on(scan.grid)
    got = torch.stack([*member.members(seen, [2, 3], scan.grid)])
    ages = [member.model.complete({}, seed) for seed in (0, 2, 3)]

    def drawn_with(*rows: dict) -> torch.Tensor:
        x0 = member.model.draw([*rows], [2, 3], [seen] * 2, scan.grid)
        return torch.stack([*member.model.codec.probabilities(x0)])

    assert torch.equal(got, drawn_with(ages[0], ages[0]))
    assert not torch.equal(got, drawn_with(ages[1], ages[2]))


def test_a_model_of_one_grid(cohort: Path, label_diffusion: Path, tmp_path: Path):
    """It gets an image that says MNI on that grid, and refuses others."""
    member = open_members(label_diffusion)
    member.needs_its_grid = True
    mixture = Mixture([member], 1, 0)
    learnt = member.grids[0]
    assert mixture.grid(member, read_header(image_of(cohort))).matches(learnt)
    brain = Volume.read(image_of(cohort))
    for code, name in ((4, "mni"), (1, "scanner")):
        moved = brain.affine.copy()
        moved[0, 3] += 1.5
        Volume(brain.data, moved, code).write(tmp_path / f"{name}.nii.gz")
        scan = read_header(tmp_path / f"{name}.nii.gz")
        if code == 4:
            assert mixture.grid(member, scan).matches(learnt)
            continue
        with pytest.raises(DataError, match=r"knows only that .* vol3d prepare"):
            mixture.grid(member, scan)


def test_bad_images(cohort: Path, segmenter: Path, tmp_path: Path):
    brain = Volume.read(image_of(cohort))
    data = brain.data.astype(np.float32)
    data[0, 0, 0] = np.nan
    bad = {
        "nan": (data, "voxels are NaN"),
        "flat": (brain.data[:, :, 20:21], "slices and volumes do not go together"),
        "empty": (0 * brain.data, "no voxel above 0"),
        "colour": (brain.data[:, :, 20], "is 2-D with shape 40x56"),
    }
    for name, (voxels_, line) in bad.items():
        path = tmp_path / f"{name}.nii.gz"
        nib.save(nib.Nifti1Image(voxels_, brain.affine), path)
        with pytest.raises(DataError, match=line):
            segment(segmenter, path, tmp_path / name)


def test_a_bad_image_does_not_stop_the_others(
    cohort: Path, segmenter: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    data, out, parts = (tmp_path / name for name in ("data", "out", "parts"))
    images = [data / f"sub-{n}" / "anat" / f"sub-{n}_T1w.nii.gz" for n in (1, 2, 3)]
    for image in images:
        image.parent.mkdir(parents=True)
        image.write_bytes(image_of(cohort).read_bytes())
    good = Volume.read(images[1])
    spoilt = good.data.astype(np.float32)
    spoilt[0, 0, 0] = np.nan
    Volume(spoilt, good.affine).write(images[1])
    with pytest.raises(DataError, match=r"^1 of 3 visits .* sub-2 \(.*1 voxels are NaN"):
        segment(segmenter, data, out, "pictures=true")
    assert "sub-2 failed: " in caplog.text
    assert "other shards" not in caplog.text
    made = {p: p.stat().st_mtime_ns for p in out.rglob("*.nii.gz")}
    page = Path("sourcedata/report.html")
    segment(segmenter, data, parts, "shard=1/2")
    assert not (parts / page).exists()
    with pytest.raises(DataError, match=r"sub-2_T1w.nii.gz: 1 voxels are NaN"):
        segment(segmenter, data, parts, "shard=2/2")
    for folder in (out, parts):
        rows = read_rows(folder / "volumes.tsv")
        assert {row["participant_id"] for row in rows} == {"sub-1", "sub-3"}
        assert (folder / page).is_file()
    images[1].write_bytes(images[0].read_bytes())
    segment(segmenter, data, out)
    assert {row["participant_id"] for row in read_rows(out / "volumes.tsv")} > {"sub-2"}
    assert {path: path.stat().st_mtime_ns for path in made} == made


def test_a_visit_without_a_map_is_made_again(
    cohort: Path, segmenter: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    out, words = tmp_path / "out", ["device=cpu", "keep_members=true"]
    segment(segmenter, image_of(cohort), out, "keep_members=true")
    before = voxels(out)
    dry = fill(
        "segment", load_verb("segment"), [str(segmenter), str(image_of(cohort)), str(out), *words]
    )
    maps = [*out.rglob("*.nii.gz")]
    for path in maps:
        path.rename(tmp_path / path.name)
        caplog.clear()
        with caplog.at_level("INFO"):
            dry.foresee()
        assert "would segment 1 visits" in caplog.text
        (tmp_path / path.name).rename(path)
    for path in maps:
        path.unlink()
    segment(segmenter, image_of(cohort), out, "keep_members=true", "pictures=true")
    assert voxels(out) == before


def test_what_is_no_brain_as_networks_take_it_is_told_once(
    cohort: Path, segmenter: Path, tmp_path: Path, caplog
):
    for who in ("sub-0001", "sub-0002"):
        brain = Volume.read(image_of(cohort, who))
        centred = brain.data.astype(np.float32) - brain.data.mean()  # and so is the air
        Volume(centred, brain.affine, 4).write(anat_path(tmp_path / "data", who, {}, "T1w"))
    segment(segmenter, tmp_path / "data", tmp_path / "out")
    told_of = [r.getMessage() for r in caplog.records if "(told once)" in r.getMessage()]
    head, below = told_of  # of two people
    assert "sub-0001_T1w.nii.gz" in head
    assert "so it is a whole head" in head
    assert "sub-0001_T1w.nii.gz: values below 0 make up 50 %" in below


def test_bad_requests(
    drawn: Path, cohort: Path, segmenter: Path, label_diffusion: Path, tmp_path: Path
):
    image = image_of(cohort)
    asked = {
        "members=0": "members: .* greater than 0",
        "interval=1": "interval",
        "lesions=[ventricles]": "no structure 'ventricles'. Did you mean 'ventricles_ml'",
        "sampler.steps=3": "sampler: .* is no diffusion model",
        "micro_batch=8": "micro_batch: .* is no diffusion model",
        "consensus=best": "Known: majority, mean, staple",
    }
    for word, line in asked.items():
        with pytest.raises(ConfigError, match=line):
            segment(segmenter, image, tmp_path / "out", word)
    with pytest.raises(ConfigError, match="draws images, not label maps"):
        segment(Path(__file__).parents[2] / "vol3d/ready/diffusion", image, tmp_path / "out")
    with pytest.raises(ConfigError, match="each gives one or more"):
        segment([segmenter, label_diffusion], image, tmp_path / "out", "members=1")
    words = ["members=4", "keep_members=true", "lesions=[ventricles_ml]"]
    with pytest.raises(ConfigError, match=r"was begun with other members \(4, now 5\)"):
        segment(label_diffusion, image, drawn, "members=5")
    with pytest.raises(ConfigError, match="was begun with other segmenters"):
        segment(segmenter, image, drawn, *words)
    other = tmp_path / image.name  # of the same name, and another image
    brain = Volume.read(image)
    Volume(brain.data * 2, brain.affine, 4).write(other)
    with pytest.raises(ConfigError, match="is there already, of other images"):
        segment(label_diffusion, other, drawn, *words)
    with pytest.raises(ConfigError, match="holds something that is no segmentation"):
        segment(segmenter, image, cohort)
    assert not (tmp_path / "out").exists()


def test_a_dry_run_makes_nothing(cohort: Path, label_diffusion: Path, tmp_path: Path, caplog):
    words = [str(label_diffusion), str(cohort), str(tmp_path / "out"), "device=cpu", "members=3"]
    words += data_words(cohort)[2:]
    with caplog.at_level("INFO"):
        fill("segment", load_verb("segment"), words).foresee()
    assert "would segment 12 visits, with 3 members each; 0 are there" in caplog.text
    assert not (tmp_path / "out").exists()


def test_sidecars_are_last(drawn: Path):
    for sidecar in drawn.glob("sub-*/anat/*_dseg.json"):
        others = [p for p in sidecar.parent.iterdir() if p != sidecar]
        assert max(p.stat().st_mtime_ns for p in others) <= sidecar.stat().st_mtime_ns
        assert sidecar_of(sidecar.with_suffix("").with_suffix(".nii.gz")) == sidecar
