"""Fields of forms say what the settings say."""

from pathlib import Path

import pytest

from vol3d.diffusion.model import Sampler
from vol3d.diffusion.solvers.heun import Heun
from vol3d.verbs.generate import Generate
from vol3d.verbs.segment import Segment
from vol3d.widgets.fields import fields_of


def test_kinds_bounds_and_defaults_are_those_of_the_settings():
    solver, steps, guidance = fields_of(Sampler, "solver", "steps", "guidance")
    assert solver.kind == "choice"
    assert solver.default == "dpmpp_2m"
    assert {"heun", "euler", "dpmpp_2m"} <= {*solver.choices}
    assert (steps.kind, steps.low, steps.high, steps.default) == ("whole", 1, None, 16)
    assert (guidance.kind, guidance.low, guidance.optional) == ("number", 0, True)
    assert guidance.default is None
    (interval,) = fields_of(Segment, "interval")
    assert 0 < interval.low < 1e-5
    assert 1 - 1e-5 < interval.high < 1
    (consensus,) = fields_of(Segment, "consensus")
    assert consensus.choices == ("mean", "majority", "staple")


def test_the_doc_string_is_the_hint_and_values_are_defaults():
    assert fields_of(Sampler, "steps")[0].words.startswith("Noise levels visited")
    solver, steps = fields_of(Sampler(solver=Heun(), steps=7), "solver", "steps")
    assert (solver.default, steps.default) == ("heun", 7)


def test_needed_fields_have_no_default():
    bundle, out, segmenter = fields_of(Generate, "bundle", "out", "segmenter")
    assert (bundle.default, out.default, segmenter.default) == (None, None, None)
    assert (bundle.optional, segmenter.optional) == (False, True)
    assert bundle.kind == "path"


def test_a_group_has_no_line():
    with pytest.raises(TypeError, match="sampler"):
        fields_of(Generate, "sampler")


def test_what_is_entered_is_what_the_settings_take(tmp_path: Path):
    names = ("bundle", "out", "n", "seed", "segmenter")
    fields = {f.name: f.default for f in fields_of(Generate, *names)}
    made = Generate.parse({**fields, "bundle": "ready", "out": str(tmp_path)})
    assert made.seed == 0
