"""What is shown of a registration: images that match, lines that go where points go, and folds."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vol3d.data.bids_writer import anat_path, write_json
from vol3d.errors import ConfigError
from vol3d.transforms.deformation import Deformation
from vol3d.transforms.field_file import write_field
from vol3d.transforms.transform import affine
from vol3d.transforms.transform_file import write_transform
from vol3d.transforms.velocity_file import Flow, write_flow
from vol3d.viewer.gathered import gather
from vol3d.viewer.registration import Registration, checkerboard, scaled, swipe, world_box
from vol3d.volume import Grid, Volume

AFFINE = np.array([[0.0, -2, 0, 30], [2, 0, 0, -20], [0, 0, 2, -25], [0, 0, 0, 1]])  # ARS...
GRID = Grid((24, 26, 28), AFFINE)
SHIFT = np.array([6.0, -4.0, 2.0])  # mm


def places() -> np.ndarray:
    """World mm of each voxel, [3, X, Y, Z]."""
    index = np.indices(GRID.shape)
    return np.einsum("ij,jxyz->ixyz", AFFINE[:3, :3], index) + AFFINE[:3, 3, None, None, None]


def ball(centre: np.ndarray, radius: float = 12.0) -> Volume:
    far = np.linalg.norm(places() - np.array(centre)[:, None, None, None], axis=0)
    return Volume(np.clip((radius - far) / 4, 0, 1).astype(np.float32), AFFINE)


MIDDLE = AFFINE[:3, :3] @ (np.array(GRID.shape) // 2) + AFFINE[:3, 3]
FIXED, MOVING = ball(MIDDLE), ball(MIDDLE + SHIFT)
U = np.broadcast_to(SHIFT[:, None, None, None], (3, *GRID.shape)).astype(np.float32)


def test_along_the_path_moving_comes_onto_fixed():
    of = Registration(FIXED, MOVING, U)
    off = [np.abs(of.step(t).moved.data - FIXED.data).mean() for t in (0.0, 0.5, 1.0)]
    assert off[0] > 1.5 * off[1] > 0
    assert off[2] < 1e-3
    assert np.abs(of.step(0.0).moved.data - MOVING.data).max() < 1e-5


def test_it_is_read_from_files(tmp_path: Path):
    FIXED.write(tmp_path / "fixed.nii.gz")
    MOVING.write(tmp_path / "moving.nii.gz")
    write_field(tmp_path / "u.nii.gz", U, GRID)
    matrix = np.eye(4)
    matrix[:3, 3] = SHIFT
    write_transform(tmp_path / "shift.h5", affine(matrix))
    for name in ("u.nii.gz", "shift.h5"):
        paths = (tmp_path / n for n in ("fixed.nii.gz", "moving.nii.gz", name))
        of = Registration.read(*paths)
        assert np.abs(of.u - U).max() < 1e-4
        assert np.abs(of.step(1.0).moved.data - FIXED.data).max() < 1e-4


def test_of_kept_velocities_the_path_is_their_flow(tmp_path: Path):
    # A flow away from the middle: exp(t v) grows by exp(t), where t u would by 1 + t (e - 1).
    ras = FIXED.reorient("RAS")
    middle = np.linalg.solve(ras.affine, [*MIDDLE, 1])[:3].astype(np.float32)
    away = np.indices(ras.shape, np.float32) - middle[:, None, None, None]
    flow = Flow(Deformation([torch.from_numpy(0.8 * away)[None]], ras.shape), ras.grid, np.eye(4))
    write_transform(tmp_path / "xfm.h5", flow.at(1.0))
    write_flow(tmp_path / "xfm.safetensors", flow)
    FIXED.write(tmp_path / "fixed.nii.gz")
    of = Registration.read(*[tmp_path / "fixed.nii.gz"] * 2, tmp_path / "xfm.h5")
    inner = (slice(None), *(slice(n // 2 - 2, n // 2 + 3) for n in GRID.shape))
    out = (places() - MIDDLE[:, None, None, None])[inner]
    half = of.displacement(0.5)[inner]
    assert np.abs(half - (np.exp(0.4) - 1) * out).max() < 0.05
    assert np.abs(half - 0.5 * of.u[inner]).max() > 0.1
    assert np.array_equal(of.displacement(1.0), of.u)


def test_folds_are_where_points_cross():
    w = np.zeros((3, *GRID.shape), np.float32)
    at = (10, 12, 14)
    w[0][at] = 2.5  # voxels: past its neighbour
    u = np.einsum("ij,jxyz->ixyz", AFFINE[:3, :3].astype(np.float32), w)
    step = Registration(FIXED, MOVING, u).step(1.0)
    folded = np.argwhere(step.folded().data)
    assert len(folded)
    assert np.abs(folded - at).max() <= 1
    lowest = np.unravel_index(np.nanargmin(step.log_jacobian().data), GRID.shape)
    assert np.abs(np.array(lowest) - at).max() <= 2
    assert "folded voxels 0.000 %" not in step.summary()
    still = Registration(FIXED, MOVING, u * 0.1).step(1.0)
    assert not still.folded().data.any()
    assert "folded voxels 0.000 %, folded volume (NDV) 0.000 %" in still.summary()


def test_the_log_jacobian_is_that_of_a_known_growth():
    u = (0.1 * (places() - MIDDLE[:, None, None, None])).astype(np.float32)
    found = Registration(FIXED, FIXED, u).step(1.0).log_jacobian()
    inside = FIXED.data != 0
    assert np.abs(found.data[inside] - 3 * np.log(1.1)).max() < 1e-3
    assert np.isnan(found.data[~inside]).all()  # outside of the brain there is nothing to see


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_grid_lines_go_where_points_go(axis: int):
    lines = Registration(FIXED, MOVING, U).step(1.0).grid_lines(axis, float(MIDDLE[axis]), 8.0)
    assert len(lines.starts) > 50
    assert np.allclose(lines.starts[:, axis], MIDDLE[axis] + SHIFT[axis], atol=1e-3)
    on_line = (lines.starts - SHIFT) / 8
    off = np.abs(on_line - np.rint(on_line))
    others = [a for a in range(3) if a != axis]
    assert (off[:, others].min(1) < 1e-3).all()  # each begins on a line of one of two directions
    low, high = world_box(GRID)
    ends = lines.starts + lines.along - SHIFT
    assert ((ends >= low - 1e-3) & (ends <= high + 1e-3)).all()


def test_a_checkerboard_has_half_of_each():
    other = Volume(np.full(GRID.shape, 7.0, np.float32), AFFINE)
    one = Volume(np.zeros(GRID.shape, np.float32), AFFINE)
    seen = checkerboard(one, other, 8.0).data  # 8 mm are 4 voxels
    assert seen[:4, :4, :4].max() == 0
    assert (seen[4:8, :4, :4] == scaled(other)[0, 0, 0]).all()
    assert 0.4 < (seen > 0).mean() < 0.6


@pytest.mark.parametrize(("share", "moved_is_seen"), [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0)])
def test_a_swipe_goes_from_left_to_right(share: float, moved_is_seen: float):
    other = Volume(np.full(GRID.shape, 7.0, np.float32), AFFINE)
    one = Volume(np.zeros(GRID.shape, np.float32), AFFINE)
    is_moved = swipe(one, other, share).data > 0
    assert is_moved.mean() == pytest.approx(moved_is_seen, abs=0.02)
    x = places()[0]
    if 0 < share < 1:
        assert x[is_moved].max() < x[~is_moved].min()


def test_somebody_has_the_pair_in_which_they_are(tmp_path: Path):
    out = tmp_path / "out"
    for moved, fixed in ((1, 2), (2, 3)):
        path = anat_path(out, f"sub-{moved}", {"space": f"{fixed}", "desc": "registered"}, "T1w")
        FIXED.write(path)
        write_json(path.with_name(path.name.replace(".nii.gz", ".json")), {})
    write_json(out / "dataset_description.json", {"GeneratedBy": [{"Name": "vol3d register"}]})
    found = {}
    for who in "1234":
        image = tmp_path / f"sub-{who}_T1w.nii.gz"
        FIXED.write(image)
        (found[who],) = {s["name"] for _, s, _ in gather([image, out])} - {image.name[:9]}
    assert found == {
        "1": "sub-1 to 2",
        "2": "sub-2 to 3",
        "3": "sub-2 to 3",  # where nobody moved it, it is the fixed one
        "4": "sub-1 to 2 (not of sub-4)",
    }
    assert [s["name"] for _, s, _ in gather([out], "3")] == ["sub-2 to 3"]
    with pytest.raises(ConfigError, match="who=4"):
        gather([out], "4")
