"""The command line: help without imports, one line for a mistake, and the exit codes."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import vol3d
from vol3d import __version__
from vol3d.cli import load_verb, verbs
from vol3d.cli.help import help_of


def test_help_is_quick_and_lists_every_verb():
    times = []
    for _ in range(5):
        start = time.perf_counter()
        result = vol3d("--help")
        times.append(time.perf_counter() - start)
    assert all(f"  {name}" in result.stdout for name in verbs())
    assert min(times) < 0.5


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from vol3d.cli import main; main(['--help']); sys.exit('torch' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode
        == 0
    )


def test_version():
    assert vol3d("--version").stdout.strip() == f"vol3d {__version__}"


def test_short_help_names_groups_and_kinds():
    text = vol3d("train", "--help").stdout
    assert "  batch [8]: Images per update" in text
    assert "  optim.*: The optimiser of the model.\n" in text
    assert "  engine=torch|deepspeed [torch]: " in text
    assert "  task=autoencode|diffuse|segment|register (needed): What to train.\n" in text
    assert "  trackers.NAME=tensorboard|mlflow: " in text
    assert text.count("\n") < 30


def test_help_opens_a_group():
    text = vol3d("train", "--help", "task.adversarial").stdout
    assert text.startswith("  task=autoencode: Train an autoencoder on scans.\n")
    assert "    task.adversarial.weight [0.0]: Of the generator's adversarial loss" in text
    assert "    task.adversarial.model=patch|multiscale [patch]: " in text
    assert "task.adversarial.model.channels" not in text
    assert "task.l1_weight" not in text
    named = vol3d("train", "--help", "trackers.NAME").stdout
    assert "  trackers.NAME=mlflow: A run of an MLflow experiment" in named
    assert "    trackers.NAME.experiment [vol3d]: " in named


def test_help_all_describes_every_setting():
    for name in verbs():
        lines = help_of(name, load_verb(name), "all").splitlines()
        assert not [line for line in lines if line.endswith(": ")]


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        (
            ["train", "--help", "optmi"],
            2,
            "vol3d train has no setting 'optmi'. Did you mean 'optim'?",
        ),
        (["tain"], 2, "unknown verb 'tain'. Did you mean 'train'?"),
        (["train", "none.yaml"], 2, "none.yaml: no such config file"),
        (
            ["train", "configs/demo/autoencoder.yaml", "optmi.lr=1"],
            2,
            "unknown key 'optmi'. Did you mean 'optim'?",
        ),
        (
            ["train", "configs/demo/autoencoder.yaml", "task.model.chanels=[8]"],
            2,
            "Did you mean 'channels'?",
        ),
        (
            ["train", "configs/demo/autoencoder.yaml", "data.path=nowhere", "run=RUN"],
            2,
            "nowhere: no such folder",
        ),
        (
            ["train", "configs/demo/diffusion.yaml", "data.path=nowhere", "run=RUN"],
            2,
            "nowhere: holds no latents.json",
        ),
        (
            ["train", "configs/demo/autoencoder.yaml", "--lr", "1"],
            2,
            "settings are given as key=value",
        ),
        (["generate", "a", "b", "c"], 2, "'c': is one word too many"),
        (["generate", "nowhere", "out"], 2, "nowhere: no such folder"),
        # What is given by name takes no place; a file called as a setting is none.
        (["segment", "bundle=[ready]", "out", "RUN"], 2, "out: no such"),
        (["sample-cohort"], 2, "out: is needed and was not given"),
        (
            ["train", "configs/demo/autoencoder.yaml", "device=cuda:9", "run=RUN"],
            2,
            "device=cuda:9",
        ),
    ],
)
def test_a_mistake_is_one_line(words: list[str], code: int, line: str, tmp_path: Path):
    words = [w.replace("RUN", str(tmp_path / "run")) for w in words]
    result = vol3d(*words)
    told = [text for text in result.stderr.splitlines() if text.startswith("vol3d: ")]
    assert result.returncode == code
    assert len(told) == 1
    assert line in told[0]
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists(), "a run that never began leaves nothing"


@pytest.mark.parametrize("page", ["README.md", "docs/running.md", "vol3d/cli/__init__.py"])
def test_pages_say_which_verbs_read_nothing_in_a_dry_run(page: str):
    text = " ".join((Path(__file__).parent.parent / page).read_text().split())
    *first, last = [name for name in verbs() if not hasattr(load_verb(name), "foresee")]
    assert f"({', '.join(first)} and {last} check their settings alone)" in text


def test_dry_run_prints_the_settings_and_reads_the_data(cohort: Path, tmp_path: Path):
    words = ["train", "configs/demo/autoencoder.yaml", f"run={tmp_path / 'r'}", "--dry-run"]
    result = vol3d(*words, f"data.path={cohort}")
    assert result.returncode == 0
    assert "kl_weight: 0.0001" in result.stdout
    assert "data: 10 scans of 10 people to learn from, 2 scans of 2 people held" in result.stderr
    assert not (tmp_path / "r").exists()
    refused = vol3d(*words, "data.path=nowhere")
    assert refused.returncode == 2
    assert refused.stderr.endswith("vol3d: nowhere: no such folder\n")


def test_help_shows_the_default_of_the_group_that_a_setting_is_in():
    shown = help_of("train", load_verb("train"), "all")
    assert "task.adversarial.optim.lr [0.0005]" in shown
    assert "\n  optim.lr [0.001]" in shown
