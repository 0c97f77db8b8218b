"""A segmenter that learns from several raters, with hidden numbers for what they disagree about."""

import json
from pathlib import Path

import pytest
import torch

from tests.conftest import read_log, verb
from vol3d.data.datasets import Bids
from vol3d.data.images import Images
from vol3d.data.rng import torch_rng
from vol3d.errors import ConfigError, DataError
from vol3d.tasks.diffuse import Diffuse
from vol3d.tasks.segment import Segment
from vol3d.trained.members import open_members
from vol3d.trained.sampling import Guides, draw_samples

RATERS = {"a": {"desc": "rater1"}, "b": {"desc": "rater2"}}
DATA = {"contrasts": ["FLAIR", "T1w"], "raters": RATERS, "labels_suffix": "mask", "grid": "8mm"}
TASK = {
    "model": {"kind": "unet", "channels": [8, 8], "norm_groups": 4},
    "target": {"kind": "labels", "of": ["a", "b"], "structures": {"lesions_ml": [1]}},
    "conditions": {
        "vector": None,
        "flair": {"kind": "image", "of": "FLAIR", "guidance": 2.0},
        "raters": {"kind": "ambiguity", "kl_weight": 0.5, "control_weight": 0.5},
    },
    "sampler": {"steps": 2, "micro_batch": 2, "precision": "fp32"},
}


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Bids:
    out = tmp_path_factory.mktemp("raters") / "cohort"
    verb("sample-cohort", str(out), "n=6", "contrasts=[FLAIR]", "lesions=true", "raters=2")
    return Bids.parse({"path": out, **DATA})


def test_what_is_drawn_of_a_visit_is_its_generator_s_alone(people: Bids):
    job = Diffuse.parse(TASK).job(people)
    visit = job.scans[0]
    first, again, other = (job.draw(visit, torch_rng("image", i)) for i in (0, 0, 1))
    assert first["numbers"].shape == (6,)
    for name, drawn in first.items():
        assert torch.equal(drawn, again[name])
    assert not torch.equal(first["numbers"], other["numbers"])
    plain = {**TASK, "conditions": {**TASK["conditions"], "raters": None}}
    without = Diffuse.parse(plain).job(people).draw(visit, torch_rng("image", 0))
    assert torch.equal(without["sigma"], first["sigma"])  # the rest is drawn as it was
    assert "numbers" not in without


def test_a_rater_whom_nobody_has(people: Bids):
    told = {"model": "unet", "structures": {"lesions_ml": [1]}, "labels": ["a", "bb"]}
    with pytest.raises(DataError, match="no scan has a label map 'bb'"):
        Segment.parse(told).check(people.chosen())


def test_the_loss_has_its_terms_and_members_their_seeds(people: Bids, tmp_path: Path):
    config = tmp_path / "config.yaml"
    run = {"run": str(tmp_path / "run"), "total_nimg": 8, "batch": 4, "log_every": 4}
    settings = Diffuse.parse(TASK).dump()
    config.write_text(json.dumps({**run, "data": people.dump(), "task": settings}))
    verb("train", str(config), "device=cpu", "precision=fp32", "trackers.tensorboard=null")
    lines = read_log(tmp_path / "run")
    for event in ("train", "validation"):
        line = next(line for line in lines if line["event"] == event)
        assert {"denoising", "ambiguity", "control"} <= set(line)
    model = open_members(tmp_path / "run")
    images = Images(people, may=["T1w"])
    visit = images.val[0]
    given = {"FLAIR": torch.from_numpy(images.read(visit)["FLAIR"])}
    first, second = model.members(given, [1, 4], images.grid_of(visit))
    (alone,) = model.members(given, [4], images.grid_of(visit))
    assert torch.equal(alone, second)
    assert not torch.equal(first, second)


def test_a_model_that_is_told_the_rater_draws_each_s_map(people: Bids):
    """In training it is who made the map; seeds go round the raters."""
    task = Diffuse.parse({**TASK, "conditions": {"vector": None, "whose": {"kind": "rater"}}})
    job = task.job(people)
    visit = next(v for v in job.scans if job.samples.images.labels(v, "a").any())
    maps = [torch.from_numpy(job.samples.images.labels(visit, name)) > 0 for name in ("a", "b")]
    assert not torch.equal(*maps)
    drawn = [job.draw(visit, torch_rng("image", i)) for i in range(8)]
    who = [int(d["rater"]) for d in drawn]
    assert {*who} == {0, 1}
    for i, d in zip(who, drawn, strict=True):
        assert torch.equal(d["x0"] > 0, maps[i])
    module = job.nets["denoiser"].conditions["whose"]
    told = module.learn({"rater": torch.tensor(who)}, drawn[0]["x0"])[0].vector
    assert told.argmax(1).tolist() == who
    asked = []
    module.register_forward_hook(lambda _, __, told: asked.extend(told.vector.argmax(1).tolist()))
    flair = Guides({"FLAIR": 1}, {"FLAIR": 1.0}, [{"FLAIR": None}] * 3)
    net, shape = job.nets["denoiser"], (1, 8, 8, 8)
    draw_samples(net, job.schema, [{}] * 3, [4, 7, 5], task.sampler, shape, flair)
    assert asked == [0, 1, 1]
    draw_samples(net, job.schema, [{}] * 3, [2**63, 2**64 + 1, 10**30], task.sampler, shape, flair)
    assert asked[3:] == [0, 1, 0]
    alone = {**TASK, "conditions": task.conditions, "target": {**TASK["target"], "of": ["a"]}}
    with pytest.raises(ConfigError, match=r"conditions.whose.*the label maps of two raters"):
        Diffuse.parse(alone).job(people)
