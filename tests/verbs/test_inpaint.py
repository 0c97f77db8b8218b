"""A part of a brain drawn anew: the rest stays as it is, bad requests say so in one line."""

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import verb
from vol3d.errors import ConfigError, DataError
from vol3d.volume import Volume


@pytest.fixture(scope="module")
def brain(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a brain that points left, and a hole in it."""
    folder = tmp_path_factory.mktemp("inpaint")
    found = Volume.read(next(cohort.glob("sub-0001/anat/*desc-brain_T1w.nii.gz"))).reorient("LPS")
    hole = np.zeros(found.shape, np.uint8)
    hole[16:22, 24:30, 18:24] = 1
    found.write(folder / "brain.nii.gz")
    Volume(hole, found.affine, 4).write(folder / "hole.nii.gz")
    return folder


def words(brain: Path, out: Path) -> list[str]:
    return ["ready", *(str(brain / f"{name}.nii.gz") for name in ("brain", "hole")), str(out)]


def test_what_is_known_stays_and_the_seed_decides_the_rest(brain: Path, tmp_path: Path):
    whole, hole = (Volume.read(brain / f"{name}.nii.gz") for name in ("brain", "hole"))
    made = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        out = tmp_path / f"{name}.nii.gz"
        verb("inpaint", *words(brain, out), "age=60", f"seed={seed}", "sampler.steps=4")
        made.append(Volume.read(out))
    at = hole.data > 0
    assert all(v.grid.matches(whole.grid) and v.orientation == "LPS" for v in made)
    assert all(np.array_equal(v.data[~at], whole.data[~at]) for v in made)
    assert np.array_equal(made[0].data, made[1].data)
    assert not np.array_equal(made[0].data[at], made[2].data[at])
    off = np.abs(made[0].data[at] - whole.data[at].astype(float)).mean()
    assert off < 0.35 * whole.data[at].mean()  # tissue, where tissue was


def test_bad_requests(brain: Path, tmp_path: Path):
    right = words(brain, tmp_path / "out.nii.gz")
    with pytest.raises(
        ConfigError, match=r"unknown setting or covariate 'agee'\. Did you mean 'age'"
    ):
        verb("inpaint", *right, "agee=60")
    with pytest.raises(ConfigError, match=r"ending in .nii.gz"):
        verb("inpaint", *right[:3], str(tmp_path / "out.png"))
    nothing = Volume.read(brain / "hole.nii.gz")
    Volume(0 * nothing.data, nothing.affine, 4).write(tmp_path / "nothing.nii.gz")
    with pytest.raises(DataError, match="covers nothing"):
        verb("inpaint", *right[:2], str(tmp_path / "nothing.nii.gz"), right[3])
    Volume(nothing.data, nothing.affine @ np.diag([1, 1, 1.1, 1]), 4).write(tmp_path / "off.nii.gz")
    with pytest.raises(DataError, match="lies on a grid of"):
        verb("inpaint", *right[:2], str(tmp_path / "off.nii.gz"), right[3])
