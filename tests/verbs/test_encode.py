"""Latents are encoded by one process or by several, and are the same."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.conftest import data_words, verb
from vol3d.data.latents import Latents
from vol3d.errors import ConfigError


def test_parts_encode_what_one_process_encodes(
    autoencoder: Path, cohort: Path, latents: Path, tmp_path: Path, caplog
):
    caplog.set_level("INFO")
    out = tmp_path / "z"
    words = [str(autoencoder), str(out), *data_words(cohort), "device=cpu"]
    for shard, there in (("3/3", 4), ("1/3", 8)):
        verb("encode", *words, f"shard={shard}")
        assert len(list(out.glob("*_latent.safetensors"))) == there
        with pytest.raises(ConfigError, match=r"holds no latents\.json"):
            Latents(path=out).open()
        left = (
            f"shard {shard} is done; {12 - there} of 12 latents are still for other shards to make"
        )
        assert left in caplog.text
    verb("encode", *words, "shard=2/3")
    manifests = [json.loads((d / "latents.json").read_text()) for d in (out, latents)]
    assert manifests[0] == manifests[1]
    for scan in manifests[0]["scans"]:
        a, b = (load_file(d / scan["file"]) for d in (out, latents))
        assert all(np.array_equal(a[k], b[k]) for k in ("mean", "logvar"))
    assert not list(out.glob(".*"))


def test_each_part_has_its_share_of_the_large_scans(
    autoencoder: Path, cohort: Path, tmp_path: Path
):
    out = tmp_path / "z"
    grids = ["data.grid=[3.96mm,3.98mm]", "data.subjects=['0001','0002','0003','0006']"]
    verb("encode", str(autoencoder), str(out), *data_words(cohort), *grids, "shard=1/2")
    assert len(list(out.glob("*res-3.98mm_*"))) == len(list(out.glob("*res-3.96mm_*"))) == 2
