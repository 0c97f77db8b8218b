"""auto is bf16 where the hardware multiplies it, and what goes on keeps what it began with."""

from pathlib import Path

import pytest
import torch

from tests.conftest import AUTOENCODER, data_words, verb
from vol3d.cli import fill, load_verb
from vol3d.nn.precision import autocast, resolve, why
from vol3d.training.loop import make_folder

CPU = torch.device("cpu")


def test_auto_is_what_the_processor_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    has = "amx_bf16" in Path("/proc/cpuinfo").read_text()
    assert resolve("auto", CPU) == ("bf16" if has else "fp32")
    assert why(CPU).startswith(resolve("auto", CPU))


def test_auto_is_float32_where_onednn_is_kept_from_the_units(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "avx512_core")
    assert resolve("auto", CPU) == "fp32"
    assert why(CPU).startswith("fp32")
    assert resolve("bf16", CPU) == "bf16"  # who asks for it gets it
    with autocast(CPU, "auto"):
        assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("began", ["bf16", "fp32"])
def test_a_run_keeps_what_it_began_with(cohort: Path, tmp_path: Path, began: str):
    words = [*data_words(cohort), *AUTOENCODER, f"run={tmp_path}/run", "total_nimg=2"]

    def training(precision: str):
        return fill("train", load_verb("train"), [*words, f"precision={precision}"])

    make_folder(training(began))
    assert training("auto").decide() == began


def test_latents_keep_what_they_began_with(autoencoder: Path, cohort: Path, tmp_path: Path):
    words = ["encode", str(autoencoder), str(tmp_path / "latents"), *data_words(cohort)]
    verb(*words, "precision=bf16", "shard=1/2")
    verb(*words)
    assert (tmp_path / "latents" / "latents.json").is_file()  # all are of one kind


def test_a_cohort_keeps_what_it_began_with(diffusion: Path, tmp_path: Path):
    words = ["generate", str(diffusion), str(tmp_path / "cohort"), "sampler.steps=1"]
    verb(*words, "sampler.precision=bf16")
    verb(*words, "n=2")
    told = [p.read_text() for p in (tmp_path / "cohort").glob("sub-*/anat/*T1w.json")]
    assert len(told) == 2
    assert all('"precision": "bf16"' in t for t in told)
