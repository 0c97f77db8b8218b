"""Outlines: what is told from them is the truth, and what computes is not loaded for it."""

import os
import subprocess
import sys

import pytest

from tests.conftest import vol3d
from vol3d.cli import load_verb, verbs
from vol3d.cli.help import help_of

EVERY_VERB = """
import sys
from pathlib import Path
from vol3d.cli import load_verb, tell, verbs
from vol3d.cli.fast_help import foretold

def check(name, verb):
    code = tell(name, verb, ["--help", "all"])
    print("=====")
    files = {Path(line.split()[-1]) for line in open("/proc/self/maps") if ".so" in line}
    compiled = {f.relative_to(site).parts[0] for f in files for site in f.parents
                if site.name in ("site-packages", "dist-packages")}
    assert compiled <= {"pydantic_core", "yaml", "_yaml"}, compiled
    return code

for name in verbs():
    assert foretold(lambda: load_verb(name), lambda verb: check(name, verb)) == 0, name
"""
RULES = """
import sys
from vol3d.cli.fast_help import foretold
from vol3d.errors import NameOnlyError

def load():
    import torch
    import torch.nn.functional as F
    from numpy import ndarray
    from torch import Tensor, nn
    class Net(nn.Module):
        @torch.no_grad()
        def forward(self, x: Tensor | list[ndarray]) -> F.Any: ...
    return torch, Net

def refuses(rule):
    try:
        rule()
    except NameOnlyError:
        return True

def tell(loaded):
    torch, Net = loaded
    rules = [Net, lambda: torch.ones(2), lambda: list(Net), lambda: bool(Net), lambda: f"{Net}",
             lambda: isinstance(2, Net)]
    return 0 if all(map(refuses, rules)) else 1

assert foretold(load, tell) == 0
assert foretold(load, lambda loaded: None) is None
assert foretold(load, lambda loaded: 2) == 2
assert foretold(load, lambda loaded: loaded[0].ones(2)) is None
assert "torch" not in sys.modules
import torch
assert foretold(load, lambda loaded: 2) is None
"""


def python(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_help_from_an_outline_is_the_same_and_loads_nothing_compiled():
    from_outlines = python(EVERY_VERB).split("=====\n")[:-1]
    assert from_outlines == [help_of(name, load_verb(name), "all") for name in verbs()]


def test_a_name_does_not_compute_and_is_not_there_afterwards():
    python(RULES)


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--help"],
        ["evaluate", "--help", "all"],
        ["train", "configs/demo/diffusion.yaml", "optmi.lr=1"],
        ["train", "configs/demo/diffusion.yaml", "task.model.chanels=[8]"],
        ["train", "configs/demo/autoencoder.yaml", "batch=0"],
    ],
)
def test_help_and_mistakes_are_told_before_torch_is_loaded(words: list[str]):
    result = vol3d(*words, env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"})
    assert result.returncode == (0 if "--help" in words else 2)
    assert "vol3d.config" in result.stderr
    assert "torch._C" not in result.stderr
