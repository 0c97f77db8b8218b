"""Brains on request: the ones that `vol3d generate` makes, shown while they come, stopped at once."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from vol3d.data.tables import read_rows
from vol3d.errors import ConfigError
from vol3d.io.cores import own_cores
from vol3d.trained import TrainedGenerator
from vol3d.viewer.covariate_inputs import Scale, inputs_of
from vol3d.viewer.stopping import Latest, StoppedError, Teller
from vol3d.volume import Volume
from vol3d.widgets.generation import (
    Brain,
    Request,
    Sweep,
    cohort_of,
    draw,
    make_cohort,
    open_model,
    spare_a_core,
    told_of,
)

ASKED = {"age": 70.0, "sex": "F", "ventricles_ml": 45.0}


@pytest.fixture(scope="module")
def model() -> TrainedGenerator:
    return open_model(Path("ready"))


def heard_by(told: list) -> Teller:
    return Teller(lambda *what: told.append(what))


def test_sliders_know_the_training_range_and_go_a_little_beyond(model: TrainedGenerator):
    age, sex, _, ventricles = inputs_of(model.schema)
    assert isinstance(age, Scale)
    assert (age.low, age.high, age.unit) == (20.06, 88.62, "years")
    assert 0 < age.least < age.low < age.high < age.most < 125
    assert ventricles.least == 0.0  # no volume is less
    assert sex.levels == ("F", "M")


def test_a_brain_is_the_one_that_generate_makes(model: TrainedGenerator):
    brains = draw(model, Request(ASKED, (3, 4)), heard_by([]))
    rows = [model.complete(ASKED, seed) for seed in (3, 4)]
    same = model.sampling({"micro_batch": 2}).generate(rows, [3, 4])
    for brain, x, row in zip(brains, same, rows, strict=True):
        assert brain.row == row
        assert np.abs(brain.volume.data - x[0].numpy()).max() < 1e-4  # rounding, at another batch
        assert brain.volume.grid.matches(model.grid)


def test_estimates_come_before_and_look_more_and_more_like_it(model: TrainedGenerator):
    told: list[tuple[float, str, Brain | None]] = []
    (final,) = draw(model, Request(ASKED, (3,)), heard_by(told))
    shares = [share for share, _, _ in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert len(told) == model.sampler.steps + 1
    shown = [brain.volume.data for _, _, brain in told if brain is not None]
    assert len(shown) >= 3
    assert told[0][2] is not None  # at once
    far = [float(np.abs(gaussian_filter(x - final.volume.data, 1)).mean()) for x in shown]
    assert far[-1] == 0
    assert far[0] > far[-2] > 0


def test_it_stops_at_the_next_call_of_the_network(model: TrainedGenerator):
    told: list = []
    teller = Teller(lambda *what: (told.append(what), teller.stop() if len(told) == 3 else None))
    with pytest.raises(StoppedError):
        draw(model, Request(ASKED, (3, 4)), teller)
    assert len(told) == 3


def test_a_sweep_changes_one_covariate_alone(model: TrainedGenerator):
    sweep = Sweep("ventricles_ml", (15.0, 40.0, 65.0))
    brains = draw(model, Request({"age": 60.0}, (5,), {"steps": 6}, sweep), heard_by([]))
    assert [b.row["ventricles_ml"] for b in brains] == [15.0, 40.0, 65.0]
    rest = [{k: v for k, v in b.row.items() if k != "ventricles_ml"} for b in brains]
    assert rest[0] == rest[1] == rest[2]
    assert [b.asked["age"] for b in brains] == [60.0] * 3
    x = [b.volume.data for b in brains]
    middle = tuple(slice(n // 3, -(n // 3)) for n in x[0].shape)
    dark = [np.count_nonzero(y[middle] < 0.4) for y in x]  # fluid, where the ventricles are
    assert dark[0] < dark[1] < dark[2]


def test_a_sweep_of_a_category_is_refused(model: TrainedGenerator):
    with pytest.raises(ConfigError, match="'sex' is a category"):
        draw(model, Request({}, (0,), {}, Sweep("sex", (0.0, 1.0))), heard_by([]))


def test_what_is_saved_is_a_cohort_with_its_provenance(model: TrainedGenerator, tmp_path: Path):
    request = Request({"age": 70.0}, (3, 4), {"steps": 4})
    told: list = []
    out = make_cohort(cohort_of(Path("ready"), tmp_path / "cohort", request), heard_by(told))
    rows = read_rows(out / "participants.tsv")
    assert [(r["participant_id"], r["age"]) for r in rows] == [
        ("sub-000003", "70.0000"),
        ("sub-000004", "70.0000"),
    ]
    assert told[-1][0] == 1.0
    brain = draw(model, request, heard_by([]))[0]
    path = next(out.glob("sub-000003/anat/*_T1w.nii.gz"))
    assert np.abs(Volume.read(path).data - brain.volume.data).max() < 1e-3  # steps of the file
    said = told_of(model.sampling(request.sampler), brain)
    assert said["sampler"]["steps"] == 4
    assert said["seed"] == 3
    assert len(said["model"]) == 64


def test_saving_stops_within_a_brain_and_goes_on_later(tmp_path: Path):
    request = Request({"age": 70.0}, (3, 4, 5), {"steps": 4, "micro_batch": 1})
    verb = cohort_of(Path("ready"), tmp_path / "cohort", request)
    teller = Teller(lambda share, *_: teller.stop() if share > 0 else None)
    with pytest.raises(StoppedError):
        make_cohort(verb, teller)
    assert len([*verb.out.glob("sub-*/anat/*_T1w.nii.gz")]) == 1
    make_cohort(verb, heard_by([]))
    assert len([*verb.out.glob("sub-*/anat/*_T1w.nii.gz")]) == 3


def test_where_a_system_tells_no_cores_of_ours_all_are(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert own_cores() == 5
    before = torch.get_num_threads()
    spare_a_core()
    assert torch.get_num_threads() == 4
    torch.set_num_threads(before)


def test_a_sweep_is_not_saved(tmp_path: Path):
    request = Request({}, (0,), {}, Sweep("age", (30.0, 60.0)))
    with pytest.raises(ConfigError, match="turn the sweep off"):
        cohort_of(Path("ready"), tmp_path, request)


def test_the_model_in_the_box_is_drawn_within_moments(model: TrainedGenerator):
    began, first = time.monotonic(), []
    teller = Teller(lambda share, words, shown: first.append(time.monotonic() - began))
    draw(model, Request(ASKED, (3,)), teller)
    assert first[0] < 1.5, f"the first estimate came after {first[0]:.2f} s"


def test_who_shows_slower_than_is_told_gets_the_newest_of_each(model: TrainedGenerator):
    latest, calls = Latest(), []
    draw(
        model, Request(ASKED, (3, 4), {"steps": 4}), Teller(lambda *t: calls.append(latest.put(*t)))
    )
    assert calls == [True] + [False] * 9  # five for each brain
    share, words, shown = latest.take()
    assert (share, words) == (1.0, "brain 2 of 2")
    assert [(b.number, b.seed) for b in shown] == [(0, 3), (1, 4)]
    whole = draw(model, Request(ASKED, (3, 4), {"steps": 4}), heard_by([]))
    for one, other in zip(shown, whole, strict=True):
        assert np.array_equal(one.volume.data, other.volume.data)
    assert latest.put(0.1, "", None)
