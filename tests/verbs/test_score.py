"""Segmentations whose scores are known in closed form, written by the project's own writer."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import vol3d
from tests.segmented import AFFINE, STRUCTURE, VOXEL_ML, box, person, segmentation
from vol3d.data.bids_writer import anat_path
from vol3d.data.tables import read_rows
from vol3d.errors import ConfigError, DataError
from vol3d.trained.calibration import Calibration
from vol3d.verbs.score import Score
from vol3d.volume import Volume

PEOPLE = 12


def asked(root, **more) -> dict:
    """Settings of a scoring."""
    return {
        "segmentations": root / "segmentations",
        "out": root / "scores",
        "data": {"kind": "bids", "path": root / "data", "labels_entities": {"desc": "seg"}},
        "structures": {STRUCTURE: [1]},
        "level": 0.9,
        **more,
    }


def scored(root, **more) -> dict:
    """What scores.json says."""
    Score.parse(asked(root, **more)).execute()
    return json.loads((root / "scores" / "scores.json").read_text())


def test_a_perfect_ensemble(tmp_path):
    for i in range(PEOPLE):
        truth = box(4, 3 + i % 3, 4)
        visit = person(tmp_path / "data", f"sub-{i:02d}", {"seg": truth})
        segmentation(tmp_path / "segmentations", visit, [truth, truth])
    found = scored(tmp_path, lesions=[STRUCTURE])
    s = found["structures"][STRUCTURE]
    assert (found["n_people"], found["n_visits"], found["raters"]) == (PEOPLE, PEOPLE, ["labels"])
    assert s["dice"] == {"value": 1, "ci": [1, 1], "n": PEOPLE, "median": 1, "worst": 1}
    assert s["hd95_mm"]["value"] == 0
    assert s["volume"]["mae_ml"]["value"] == pytest.approx(0, abs=1e-9)
    for interval in ("credible", "conformal"):
        assert s["volume"][interval]["coverage"]["value"] == 1
        assert s["volume"][interval]["width_ml"]["value"] == pytest.approx(0, abs=1e-5)
    assert s["volume"]["agreement"]["slope"] == pytest.approx(1)
    assert "bias_ml" not in s["volume"]["agreement"]  # told once
    assert s["lesions"]["sensitivity"] == {"value": 1, "ci": [1, 1], "n": PEOPLE}
    assert s["calibration"]["before"]["ece"]["value"] == pytest.approx(0, abs=1e-4)
    assert found["calibration"]["after"]["ece"]["value"] == pytest.approx(0, abs=1e-4)
    assert set(found["uncertainty"]) == {"entropy", "mutual_information"}
    assert found["uncertainty"]["entropy"]["auroc"] == {"value": None, "ci": None, "n": 0}
    assert found["amiss"] == []
    html = (tmp_path / "scores" / "report.html").read_text()
    assert "cannot be told: nothing is wrong" in html
    assert html.count("<img ") == 4
    assert not re.search(r'(src|href)="(?!data:)', html)

    calibration = Calibration.read(tmp_path / "scores" / "calibration.json")
    told = json.loads((tmp_path / "scores" / "calibration.json").read_text())
    assert (told["segmenters"], told["samplers"], told["members"]) == (["abc"], [None], 2)
    assert calibration.offsets_ml[STRUCTURE] == pytest.approx(0, abs=1e-5)


def test_errors_that_are_known(tmp_path):
    """Half of the box is missed, and doubtful just there; of one person even more."""
    for i in range(PEOPLE):
        truth, found = box(4, 4, 4), box(4, 4, 2 if i else 1).astype(float)
        visit = person(tmp_path / "data", f"sub-{i:02d}", {"seg": truth})
        probabilities = np.where(found == 1, 0.9, np.where(truth == 1, 0.4, 0.0))
        segmentation(tmp_path / "segmentations", visit, [probabilities, probabilities])
    found = scored(tmp_path)
    s, n = found["structures"][STRUCTURE], PEOPLE
    dice = [2 * 16 / (64 + 16), *[2 * 32 / (64 + 32)] * (n - 1)]
    assert s["dice"]["value"] == pytest.approx(np.mean(dice), rel=1e-5)
    assert s["dice"]["worst"] == pytest.approx(dice[0], rel=1e-5)
    assert s["hd95_mm"]["value"] == pytest.approx((6 + 4 * (n - 1)) / n)  # 3 or 2 voxels of 2 mm
    ml = [VOXEL_ML * 16, VOXEL_ML * 32]
    bias = (ml[0] + (n - 1) * ml[1]) / n - VOXEL_ML * 64
    assert s["volume"]["bias_ml"]["value"] == pytest.approx(bias, rel=1e-3)
    assert s["volume"]["credible"]["coverage"]["value"] == 0
    # The others' largest error is what everybody gets: enough for all but the person with the largest.
    assert s["volume"]["conformal"]["coverage"]["value"] == pytest.approx((n - 1) / n)
    assert found["uncertainty"]["entropy"]["auroc"]["value"] == pytest.approx(1)
    assert found["uncertainty"]["entropy"]["excess_aurc"] == pytest.approx(0, abs=1e-6)
    assert found["calibration"]["before"]["ece"]["value"] == pytest.approx(ece(n), rel=1e-3)
    assert any("too narrow" in line for line in found["amiss"])
    html = (tmp_path / "scores" / "report.html").read_text()
    assert html.index("too narrow") < html.index("is high where the segmentation is wrong")

    rows = read_rows(tmp_path / "scores" / "scores.tsv")
    assert [r["visit"] for r in rows] == [f"sub-{i:02d}" for i in range(n)]
    assert float(rows[0]["dice"]) == pytest.approx(dice[0], rel=1e-4)
    others = VOXEL_ML * 64 - ml[1]
    assert float(rows[3]["conformal_high_ml"]) >= ml[1] + others - 1e-6
    assert float(rows[0]["conformal_high_ml"]) == pytest.approx(ml[0] + others, rel=1e-3)


def ece(n: int) -> float:
    """Of the likeliest label: 0.6 sure of background and wrong, 0.9 sure of the box and right."""
    band = 0
    for x in range(12):
        for y in range(10):
            for z in range(8):
                apart = [max(0, 2 - v, v - 5) * 2 for v in (x, y, z)]
                band += np.linalg.norm(apart) <= 3
    wrong, right = 48 + 32 * (n - 1), 16 + 32 * (n - 1)
    return (wrong * 0.6 + right * 0.1) / (n * band)


def test_members_like_the_raters(tmp_path):
    """Two members, each as one of two raters: nothing tells the two sets apart."""
    large, small = box(4, 4, 4), box(4, 4, 2)
    for i in range(3):
        visit = person(tmp_path / "data", f"sub-{i}", {"anna": large, "ben": small})
        segmentation(tmp_path / "segmentations", visit, [small, large])
    data = {
        "kind": "bids",
        "path": tmp_path / "data",
        "raters": {"anna": {"desc": "anna"}, "ben": {"desc": "ben"}},
    }
    found = scored(tmp_path, data=data)
    s = found["structures"][STRUCTURE]
    assert found["raters"] == ["anna", "ben"]
    told = {name: figure["value"] for name, figure in s["raters"].items()}
    assert told["ged_squared"] == pytest.approx(0, abs=1e-9)
    same = ("matched_iou", "maximum_dice", "collective_insight", "volume_spread")
    assert [told[name] for name in same] == pytest.approx([1] * 4)
    assert s["raters_dice"]["value"] == pytest.approx(2 / 3, rel=1e-5)
    assert s["member_dice"]["value"] == pytest.approx((1 + 2 / 3) / 2, rel=1e-5)
    assert s["volume"]["truth_ml"]["value"] == pytest.approx(48 * VOXEL_ML)
    assert any("got 2: hold out more" in note for note in found["notes"])
    assert "conformal" not in s["volume"]
    assert json.loads((tmp_path / "scores" / "calibration.json").read_text())["conformal"] == {}

    one = scored(tmp_path, data=data, of="ben")
    assert one["raters"] == ["ben"]
    assert "raters" not in one["structures"][STRUCTURE]


@pytest.fixture
def pair(tmp_path):
    """One person, segmented."""
    visit = person(tmp_path / "data", "sub-1", {"seg": box(4, 4, 4)})
    segmentation(tmp_path / "segmentations", visit, [box(4, 4, 4)])
    return tmp_path


def test_one_person(pair):
    found = scored(pair, pictures_of_people=False)
    assert found["structures"][STRUCTURE]["dice"] == {
        "value": 1, "ci": None, "n": 1, "median": 1, "worst": 1}  # fmt: skip
    assert "after" not in found["calibration"]
    # One member has no interval of its own, and contradicts nobody.
    assert "credible" not in found["structures"][STRUCTURE]["volume"]
    assert {*found["uncertainty"]} == {"entropy"}
    assert not (pair / "scores" / "calibration.json").exists()
    assert "sub-1" not in (pair / "scores" / "report.html").read_text()


def test_labels_that_are_no_numbers(pair):
    path = anat_path(pair / "data", "sub-1", {"desc": "seg"}, "dseg")
    Volume(box(4, 4, 4) * np.float32(0.4), AFFINE).write(path)
    with pytest.raises(DataError, match=r"desc-seg_dseg.*0\.4 off a whole number"):
        Score.parse(asked(pair)).execute()


def test_truth_on_another_grid(pair):
    path = anat_path(pair / "data", "sub-1", {"desc": "seg"}, "dseg")
    moved = AFFINE.copy()
    moved[0, 3] += 2
    Volume(box(4, 4, 4), moved).write(path)
    with pytest.raises(DataError, match=r"lies on a grid of 12x10x8 .* elsewhere in the world"):
        Score.parse(asked(pair)).execute()


def test_truth_with_other_axes_is_turned(pair):
    path = anat_path(pair / "data", "sub-1", {"desc": "seg"}, "dseg")
    Volume(box(4, 4, 4), AFFINE).reorient("PSR").write(path)
    assert scored(pair)["dice"]["value"] == 1


def test_raters_on_different_grids(pair):
    Volume(box(4, 4, 4)[1:], AFFINE).write(
        anat_path(pair / "data", "sub-1", {"desc": "ben"}, "dseg")
    )
    raters = {"anna": {"desc": "seg"}, "ben": {"desc": "ben"}}
    data = {"kind": "bids", "path": pair / "data", "raters": raters}
    with pytest.raises(DataError, match=r"desc-ben_dseg.* lies on a grid of 11x10x8"):
        Score.parse(asked(pair, data=data)).execute()


def test_nobody_in_both(pair):
    other = pair / "other"
    person(other, "sub-2", {"seg": box(4, 4, 4)})
    data = {"kind": "bids", "path": other, "labels_entities": {"desc": "seg"}}
    with pytest.raises(
        DataError, match=r"none of its 1 visits \(sub-1\) is among the 1 .*\(sub-2\)"
    ):
        Score.parse(asked(pair, data=data)).execute()


def test_the_segmentations_tell_the_labels(pair):
    """As they come out of a model that learnt a box from the label 7; those of a setting go first."""
    path = anat_path(pair / "data", "sub-1", {"desc": "seg"}, "dseg")
    Volume(box(4, 4, 4).astype(np.uint16) * 7, AFFINE).write(path)
    visit = person(pair / "others", "sub-1", {"seg": box(4, 4, 4)})
    segmentation(pair / "segmentations", visit, [box(4, 4, 4)], Labels={STRUCTURE: ["6-7"]})
    assert scored(pair, structures={})["dice"]["value"] == 1
    assert scored(pair)["dice"]["value"] == 0


def test_a_scoring_that_was_stopped_is_made_anew(pair):
    """A folder in the place of the report stops it halfway."""
    whole, report = scored(pair), pair / "scores" / "report.html"
    report.unlink()
    report.mkdir()
    with pytest.raises(IsADirectoryError):
        Score.parse(asked(pair)).execute()
    assert not (pair / "scores" / "scores.json").exists()  # what is left is not taken for whole
    report.rmdir()
    assert scored(pair) == whole


def test_who_was_not_scored_is_told(tmp_path):
    for i in range(3):
        visit = person(tmp_path / "data", f"sub-{i}", {"seg": box(4, 4, 4)})
        segmentation(tmp_path / "segmentations", visit, [box(4, 4, 4)])
    table = "participant_id\tsplit\nsub-0\tval\nsub-1\ttrain\nsub-2\ttrain\n"
    (tmp_path / "data" / "participants.tsv").write_text(table)
    assert (
        "2 of 3 visits were not scored: they are not among those with a label map in the split val."
        in scored(tmp_path, split="val")["notes"]
    )
    person(tmp_path / "data", "sub-3", {"seg": box(4, 4, 4)})
    told = "1 of 4 visits with a label map were not segmented: sub-3."
    assert told in scored(tmp_path)["notes"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"structures": {}}, r"say which labels .*structures=\{box_ml: \[1\]\}"),
        ({"structures": {"ball_ml": [1]}}, "ball_ml is not found by .* it has box_ml"),
        ({"of": "anna"}, "of=anna: no visit has such a label map; there are labels"),
        ({"lesions": "ball"}, "lesions=ball: no such structure; there are box_ml"),
        ({"segmentations": "nowhere"}, "nowhere: holds nothing that vol3d segment wrote"),
    ],
)
def test_settings_that_do_not_fit(pair, changes, words):
    with pytest.raises(ConfigError, match=words):
        Score.parse(asked(pair, **changes)).execute()
    assert not (pair / "scores").exists()


def test_a_folder_that_holds_something_else(pair):
    (pair / "scores").mkdir()
    (pair / "scores" / "thesis.doc").write_text("precious")
    with pytest.raises(ConfigError, match="holds something else"):
        Score.parse(asked(pair)).execute()


def test_what_was_calibrated_already_is_told(pair):
    visit = person(pair / "data", "sub-1", {"seg": box(4, 4, 4)})
    for i in (2, 3):
        other = person(pair / "data", f"sub-{i}", {"seg": box(4, 4, 4)})
        segmentation(pair / "segmentations", other, [box(4, 4, 4)])
    scored(pair)
    assert (pair / "scores" / "calibration.json").exists()  # of visits as the fixture made them
    segmentation(pair / "segmentations", visit, [box(4, 4, 4)], Temperature=1.5)
    assert any("had a temperature already" in note for note in scored(pair)["notes"])
    assert not (pair / "scores" / "calibration.json").exists()


def test_on_the_command_line(pair):
    words = [f"data.path={pair / 'data'}", "data.labels_entities.desc=seg"]
    where = [str(pair / "segmentations"), str(pair / "scores")]
    done = vol3d("score", *where, *words, f"structures={{{STRUCTURE}: [1]}}")
    assert done.returncode == 0, done.stderr
    assert f"{pair / 'scores' / 'report.html'}\n" in done.stdout
    assert "Box: found well (Dice 1.00, n 1)" in done.stderr
    done = vol3d("score", *where, *words)  # which labels, such a segmentation does not say
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_side_by_side(pair):
    """The table of two scorings; those of other truth are refused."""
    root = Path(__file__).parents[2]
    script = root / "scripts" / "compare_segmenters.py"

    def compared(*words: str) -> subprocess.CompletedProcess:
        command = [sys.executable, script, *words]
        env = {**os.environ, "PYTHONPATH": str(root)}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=env)

    first, second = pair / "scores", pair / "again"
    scored(pair)
    Score.parse(asked(pair, out=second, seed=1)).execute()
    done = compared(str(first), f"U-Net={second}")
    header, _, *rows = done.stdout.splitlines()
    assert header.startswith("|  | people | members | ECE | box: Dice | box: HD95, mm |"), (
        done.stderr
    )
    assert "GED" not in header  # nobody has several raters
    assert rows[0].startswith("| scores | 1 | 1 | 0.000 | 1.000 | 0.00 |")
    assert rows[1].startswith("| U-Net | 1 | 1 |")
    scores = second / "scores.json"
    scores.write_text(scores.read_text().replace('"scored_sha256": "', '"scored_sha256": "other'))
    assert "different visits or label maps" in compared(str(first), f"U-Net={second}").stderr


def test_a_structure_that_nobody_has_is_not_found_well(tmp_path):
    """As with the wrong number for a label: two empty masks agree, and that says nothing."""
    for i in range(3):
        visit = person(tmp_path / "data", f"sub-{i}", {"seg": box(4, 4, 4)})
        segmentation(tmp_path / "segmentations", visit, [0 * box(4, 4, 4).astype(float)])
    found = scored(tmp_path, structures={STRUCTURE: [7]})
    assert found["structures"][STRUCTURE]["dice"]["value"] == 1
    assert any("no label map that was scored has any" in line for line in found["amiss"])
    assert not (tmp_path / "scores" / "calibration.json").exists()


def test_as_few_people_as_an_interval_takes(tmp_path):
    """Nine are enough to fit an interval for new people, not to judge each by eight others."""
    for i in range(9):
        visit = person(tmp_path / "data", f"sub-{i}", {"seg": box(4, 4, 4)})
        missed = i == 8  # of one there is no surface to measure to
        segmentation(tmp_path / "segmentations", visit, [box(4, 4, 4) * (0.0 if missed else 1.0)])
    found = scored(tmp_path)
    s = found["structures"][STRUCTURE]
    assert "conformal" not in s["volume"]
    assert any("takes 9 held-out people or more, got 8" in note for note in found["notes"])
    fitted = json.loads((tmp_path / "scores" / "calibration.json").read_text())["conformal"]
    assert fitted[STRUCTURE] == {"offset_ml": pytest.approx(64 * VOXEL_ML), "n": 9}
    assert s["hd95_mm"]["n"] == 8
    assert "0.0 [0.0, 0.0], n 8" in (tmp_path / "scores" / "report.html").read_text()


def test_members_differ_as_raters_do(tmp_path):
    """Of two raters whose difference varies from person to person, and members who differ likewise.

    The mean of each person's own ratio would be 2.1.
    """
    for i, (a, b) in enumerate([(1, 4), (4, 1), (1, 4), (4, 1)]):
        raters = {"anna": box(4, 4, 5), "ben": box(4, 4, 5 + a)}
        visit = person(tmp_path / "data", f"sub-{i}", raters)
        small, large = (box(4, 4, n).astype(float) for n in (5, 5 + b))
        segmentation(tmp_path / "segmentations", visit, [small, large])
    raters = {"anna": {"desc": "anna"}, "ben": {"desc": "ben"}}
    found = scored(tmp_path, data={"kind": "bids", "path": tmp_path / "data", "raters": raters})
    spread = found["structures"][STRUCTURE]["raters"]["volume_spread"]
    assert spread["value"] == pytest.approx(1)
    assert spread["n"] == 4
