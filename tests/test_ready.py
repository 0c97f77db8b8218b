"""The models that come with vol3d: small, known by a name, and they draw what is asked for."""

from pathlib import Path

import numpy as np
import pytest
import torch

import vol3d
from tests.conftest import verb
from vol3d.bundle import Bundle
from vol3d.errors import ConfigError
from vol3d.trained import TrainedAutoencoder, TrainedSegmenter, open_registrar
from vol3d.volume import Volume

FOLDER = Path(vol3d.__file__).parent / "ready"


def test_they_are_small_and_say_that_nobody_is_real():
    size = {
        m.name: sum(p.stat().st_size for p in m.rglob("*") if p.is_file()) for m in FOLDER.iterdir()
    }
    assert size["registrar"] < 1e6
    assert size["diffusion"] + size["segmenter"] < 8e6
    assert "imagined" in (FOLDER / "diffusion" / "README.md").read_text()
    assert Bundle("ready", "segmenter").config["kind"] == "segmenter"
    assert TrainedAutoencoder("ready").quality["psnr_brain_db"] > 20
    found = open_registrar("ready").quality
    assert found["dice"] - found["dice_before"] > 0.2
    assert found["ndv_percent"] == 0


def test_brains_with_larger_ventricles_where_they_are_asked_for(tmp_path: Path):
    segmenter, found = TrainedSegmenter("ready"), []
    for ml in (20, 60):
        words = ["ready", str(tmp_path / str(ml)), "n=2", "age=70", "sex=F", f"ventricles_ml={ml}"]
        cohort = verb("generate", *words, "sampler.steps=8", "device=cpu")
        brains = [Volume.read(p) for p in sorted(cohort.glob("sub-*/anat/*T1w.nii.gz"))]
        assert all(b.grid.shape == (40, 56, 40) for b in brains)
        x = torch.from_numpy(np.stack([b.data for b in brains])).float()[:, None]
        found.append(np.mean([m["ventricles_ml"] for m in segmenter.measure(x, 4**3 / 1000)]))
    assert abs(found[0] - 20) < 10
    assert abs(found[1] - 60) < 15


def test_a_folder_of_that_name_is_no_trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "ready").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="names the models that come with vol3d"):
        Bundle("ready")
