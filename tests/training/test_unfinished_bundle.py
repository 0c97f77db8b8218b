"""A generator of a run that has not finished: its last checkpoint, marked as that."""

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import vol3d


@pytest.fixture
def unfinished(diffusion: Path, tmp_path: Path) -> Path:
    """A run as it was killed after its last checkpoint."""
    run = shutil.copytree(diffusion, tmp_path / "run")
    shutil.rmtree(run / "bundle")
    settings = (run / "config.yaml").read_text()
    assert "total_nimg: 16" in settings
    (run / "config.yaml").write_text(settings.replace("total_nimg: 16", "total_nimg: 32"))
    return run


def test_it_generates_and_says_so(unfinished: Path, diffusion: Path, tmp_path: Path):
    told = vol3d("generate", unfinished, tmp_path / "out", "age=60", "device=cpu")
    assert told.returncode == 0
    assert told.stderr.count("the training had not finished: 16 of 32 images") == 1
    sidecar = json.loads(next((tmp_path / "out").glob("sub-*/anat/*synth_T1w.json")).read_text())
    assert "16 of 32" in sidecar["Warnings"][0]
    card = next(unfinished.glob("interim/*/README.md")).read_text()
    assert "has not finished: 16 of 32 images" in card
    made = next(unfinished.glob("interim/*/model.safetensors"))
    assert made.read_bytes() == (diffusion / "bundle" / "model.safetensors").read_bytes()
