"""A solver, a condition and a data set from outside: the package that CONTRIBUTING.md shows."""

import os
import re
import tomllib
from pathlib import Path

import pytest

from tests.conftest import AUTOENCODER, TINY, vol3d
from vol3d.data.tables import read_rows
from vol3d.volume import Volume

PAGE = Path(__file__).parents[1] / "CONTRIBUTING.md"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of someone who has installed the package of the page."""
    site = tmp_path_factory.mktemp("site")
    files = dict(re.findall(r"```\w+\n# (\S+)\n(.*?)```", PAGE.read_text(), re.DOTALL))
    for name, text in files.items():
        path = site / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    project = tomllib.loads((site / "pyproject.toml").read_text())["project"]
    info = site / f"{project['name']}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    (info / "entry_points.txt").write_text(
        "".join(f"[{g}]\n" + "".join(f"{k} = {v}\n" for k, v in p.items()) for g, p in groups)
    )
    return {**os.environ, "PYTHONPATH": str(site)}


@pytest.fixture(scope="module")
def flat(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cohort's images in one folder, named by person and age."""
    folder = tmp_path_factory.mktemp("flat")
    for row in read_rows(cohort / "participants.tsv"):
        person = row["participant_id"]
        image = next(cohort.glob(f"{person}/anat/*desc-brain_T1w.nii.gz"))
        (folder / f"{person.removeprefix('sub-')}_{row['age']}.nii.gz").symlink_to(image)
    return folder


def run(*words, env: dict[str, str]) -> str:
    result = vol3d(*words, env=env)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_they_train_and_sample(installed: dict[str, str], flat: Path, tmp_path: Path):
    data = ["data.kind=flat", f"data.path={flat}", "data.val_fraction=0.3"]
    run("train", f"run={tmp_path / 'ae'}", *data, *AUTOENCODER, "total_nimg=4", env=installed)
    run("encode", tmp_path / "ae", tmp_path / "z", *data, "device=cpu", env=installed)
    run(
        "train",
        f"run={tmp_path / 'ldm'}",
        "data.kind=latents",
        f"data.path={tmp_path / 'z'}",
        "task.kind=diffuse",
        "task.model={kind: unet, channels: [8, 16]}",
        "task.conditions.vector.kind=squares",
        "task.covariates.age.unit=years",
        "task.sampler={solver: renoise, steps: 2}",
        "batch=4",
        "total_nimg=8",
        *TINY,
        env=installed,
    )
    generate = ["generate", tmp_path / "ldm", tmp_path / "out", "age=60", "device=cpu"]
    run(*generate, env=installed)
    made = Volume.read(next((tmp_path / "out").glob("sub-*/anat/*T1w.nii.gz")))
    scan = Volume.read(next(flat.iterdir()))
    assert made.grid.matches(scan.grid)
    assert made.data.std() > 0

    refused = vol3d(*generate)  # by someone who has not installed the package
    assert refused.returncode == 2
    assert "unknown kind 'squares'" in refused.stderr
    assert refused.stderr.count("\n") == 1


def test_help_lists_them(installed: dict[str, str]):
    said = run("train", "--help", env=installed)
    assert "  data=bids|table|image|flat|latents (needed)" in said
    said = run("train", "--help", "all", env=installed)
    for word in ("task.sampler.solver=renoise:", "=squares: A vector", "data=flat: Every image"):
        assert word in said


def test_a_taken_kind_and_no_kind_at_all(installed: dict[str, str], tmp_path: Path):
    for what, complaint in (
        ("vol3d.diffusion.solvers.heun:Heun", "solvers has a 'heun' already"),
        ("pathlib:Path", "a Config with a `kind` is due in solvers"),
    ):
        info = tmp_path / "other-1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text("Name: other\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[vol3d.solvers]\nx = {what}\n")
        result = vol3d("train", "--help", env={**os.environ, "PYTHONPATH": str(tmp_path)})
        assert result.returncode == 2
        assert complaint in result.stderr
        assert result.stderr.count("\n") == 1


def test_one_that_computes_when_it_is_loaded_is_listed_too(tmp_path: Path):
    (tmp_path / "eager.py").write_text(
        "from typing import Literal\n"
        "import torch\n"
        "from vol3d.diffusion.solvers.euler import Euler\n"
        "HALF = float(torch.ones(2).mean()) / 2\n"
        "class Eager(Euler):\n"
        '    """Knows a half."""\n'
        '    kind: Literal["eager"] = "eager"\n'
        "    share: float = HALF\n"
        '    """Of the whole."""\n'
    )
    info = tmp_path / "eager-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: eager\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vol3d.solvers]\neager = eager:Eager\n")
    env = {**os.environ, "PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{tmp_path}"}
    said = run("train", "--help", "task.sampler.solver", env=env)
    assert "task.sampler.solver=eager: Knows a half." in said
    assert "task.sampler.solver.share [0.5]: Of the whole." in said
