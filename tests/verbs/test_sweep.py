"""A diffusion model that hardly learnt, at several steps and members."""

import pytest

from tests.conftest import TINY, verb, vol3d
from tests.segmented import STRUCTURE, box, person
from vol3d.data.tables import read_rows
from vol3d.errors import ConfigError
from vol3d.verbs.sweep import Sweep


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Data of four people, two of them held out, and a model."""
    root = tmp_path_factory.mktemp("sweep")
    for i in range(4):
        maps = {"anna": box(5, 5, 4), "ben": box(5, 5, 3 - i % 2)}
        person(root / "data", f"sub-{i}", maps)
    split = "".join(f"sub-{i}\t{'val' if i % 2 else 'train'}\n" for i in range(4))
    (root / "data" / "participants.tsv").write_text(f"participant_id\tsplit\n{split}")
    verb(
        "train",
        f"run={root / 'run'}",
        "task.kind=diffuse",
        f"task.target={{kind: labels, of: [anna, ben], structures: {{{STRUCTURE}: [1]}}}}",
        "task.model={kind: unet, channels: [8, 8]}",
        "task.conditions={vector: null, image: {kind: image, of: T1w}}",
        "task.cond_dropout=0",
        "task.drop_all=0",
        "task.sampler.precision=fp32",
        *data_words(root),
        *TINY,
        "batch=2",
        "total_nimg=8",
    )
    return root


def data_words(root) -> list[str]:
    raters = "{anna: {desc: anna}, ben: {desc: ben}}"
    return ["data.kind=bids", f"data.path={root / 'data'}", f"data.raters={raters}"]


def data_of(root) -> dict:
    """The same as settings."""
    raters = {"anna": {"desc": "anna"}, "ben": {"desc": "ben"}}
    return {"kind": "bids", "path": root / "data", "raters": raters}


def swept(root, out, **more) -> list[dict[str, str]]:
    """The rows of the table."""
    settings = {"bundle": root / "run", "out": out, "data": data_of(root), "device": "cpu", **more}
    picture, table = Sweep.parse(settings).execute()
    assert picture.read_bytes().startswith(b"\x89PNG")
    return read_rows(table)


def test_steps_and_members(folder, tmp_path):
    rows = swept(folder, tmp_path / "out", steps=[2, 1], members=[1, 3], solvers=["euler", "heun"])
    settings = [(r["solver"], r["steps"], r["members"]) for r in rows]
    assert settings == [
        (solver, steps, members)
        for solver in ("euler", "heun")
        for steps in "12"
        for members in "13"
    ]
    assert [r["calls_per_volume"] for r in rows] == ["1", "3", "2", "6", "1", "3", "3", "9"]
    assert {r["visits"] for r in rows} == {"2"}  # those held out
    for row in rows:
        assert row["dice"] == row[f"dice_{STRUCTURE}"]
        assert 0 <= float(row["dice"]) <= 1
        assert 0 <= float(row["ged_squared"]) <= 2
        assert 0 <= float(row["ece"]) <= 1
    # At one step Heun is Euler, and a small ensemble is the beginning of a large one.
    assert [r["dice"] for r in rows[:2]] == [r["dice"] for r in rows[4:6]]
    alone = swept(folder, tmp_path / "alone", steps=2, members=1, solvers="euler")
    assert (alone[0]["dice"], alone[0]["ece"]) == (rows[2]["dice"], rows[2]["ece"])
    guided = swept(folder, tmp_path / "guided", steps=2, members=1, sampler={"guidance": 2})
    assert guided[0]["calls_per_volume"] == "4"


def test_it_goes_on_where_it_was(folder, tmp_path):
    first = swept(folder, tmp_path / "out", steps=1, members=[1, 2])
    more = swept(folder, tmp_path / "out", steps=[1, 2], members=[1, 2])
    assert more[:2] == first  # their times too: they were not made again
    assert [r["steps"] for r in more] == ["1", "1", "2", "2"]
    with pytest.raises(ConfigError, match="was begun with other members"):
        swept(folder, tmp_path / "out", steps=[1, 2], members=[1, 4])
    for name, changes in {
        "structures": {"structures": {STRUCTURE: ["1-2"]}},
        "of": {"of": "anna"},
        "split": {"split": "train"},
        "data": {"data": {**data_of(folder), "form": "qform"}},
    }.items():
        with pytest.raises(ConfigError, match=f"was begun with other {name};"):
            swept(folder, tmp_path / "out", steps=1, members=[1, 2], **changes)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.doc").write_text("")
    with pytest.raises(ConfigError, match="holds something else"):
        swept(folder, tmp_path / "precious", steps=1, members=1)


def test_nobody_to_score_on(folder, tmp_path):
    other = tmp_path / "data"
    person(other, "sub-9", {"anna": box(3, 3, 3), "ben": box(3, 3, 3)})
    (other / "participants.tsv").write_text("participant_id\tsplit\nsub-9\ttrain\n")
    words = ["sweep", str(folder / "run"), str(tmp_path / "out"), *data_words(tmp_path)]
    done = vol3d(*words)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "nobody has a label map in the split val" in done.stderr
    assert not (tmp_path / "out").exists()


def test_what_is_no_diffusion_model_has_members_alone(folder, tmp_path):
    verb(
        "train",
        f"run={tmp_path / 'unet'}",
        "task.kind=segment",
        "task.model={kind: unet, channels: [8, 8], dropout: 0.3}",
        f"task.structures={{{STRUCTURE}: [1]}}",
        "task.labels=[anna, ben]",
        *data_words(folder),
        *TINY,
        "batch=2",
        "total_nimg=4",
    )
    rows = swept(folder, tmp_path / "out", bundle=tmp_path / "unet", members=[1, 2], of="anna")
    assert [(r["solver"], r["steps"], r["members"]) for r in rows] == [
        ("n/a", "n/a", "1"),
        ("n/a", "n/a", "2"),
    ]
    assert {r["ged_squared"] for r in rows} == {"n/a"}  # one rater
    for words in ({"solvers": ["heun"]}, {"sampler": {"precision": "fp32"}}, {"steps": 2}):
        with pytest.raises(ConfigError, match="has no sampler, solver or steps"):
            swept(folder, tmp_path / "other", bundle=tmp_path / "unet", of="anna", **words)


def test_the_segmenter_that_comes_with_vol3d(folder, tmp_path):
    """It is not random, so one member is all; it takes any image, and its labels are to be said."""
    settings = {"bundle": "ready", "of": "anna", "members": [4, 16]}
    with pytest.raises(ConfigError, match="say which labels"):
        swept(folder, tmp_path / "out", **settings)
    with pytest.raises(ConfigError, match="say the labels of brain_ml too"):
        swept(folder, tmp_path / "out", structures={"ventricles_ml": [1]}, **settings)
    structures = {"ventricles_ml": [1], "brain_ml": [2]}
    rows = swept(folder, tmp_path / "out", structures=structures, **settings)
    assert [(r["members"], r["visits"]) for r in rows] == [("1", "2")]
