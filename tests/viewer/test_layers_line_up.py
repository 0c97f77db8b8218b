"""Image, mask, probability, field and points are in one place, by napari's own word and on the screen."""

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.viewer import scenes
from tests.viewer.conftest import picture
from vol3d.viewer.axes import turned
from vol3d.viewer.cursor import readings, told
from vol3d.viewer.layers import (
    field_layer,
    image_layer,
    labels_layer,
    points_layer,
    probability_layer,
    replaced,
)
from vol3d.viewer.straight import lattice, straight, straight_grid
from vol3d.volume import Grid, Volume

if TYPE_CHECKING:
    from napari import Viewer

layers = pytest.importorskip("napari.layers")


@pytest.fixture(params=scenes.GRIDS, ids=list(scenes.GRIDS))
def grid(request: pytest.FixtureRequest) -> Grid:
    return scenes.GRIDS[request.param]


def tuples(grid: Grid) -> list:
    """One landmark's number, or brightness, or vector, in each kind of layer."""
    labels = Volume(scenes.cubes(grid), grid.affine)
    share = Volume((labels.data > 0).astype(np.float32), grid.affine)
    return [
        image_layer(scenes.image(grid), "image"),
        labels_layer(labels, "mask", names={1: "first"}),
        probability_layer(share, "probability"),
        field_layer(scenes.field(grid), grid, "field", step_mm=min(grid.spacing), least_mm=0.35),
        points_layer(scenes.places(grid), "points"),
    ]


def centre(layer: object, i: int, grid: Grid) -> np.ndarray:
    """Where a layer says that landmark i is: the middle, in mm, of what it holds there."""
    place = scenes.places(grid)[i]
    if layer.name == "points":
        return turned(layer.data_to_world(layer.data[i]))
    if layer.name == "field":
        at = np.array([turned(layer.data_to_world(start)) for start in layer.data[:, 0]])
    else:
        bright = layer.data > (70 if layer.name == "image" else 0.5)
        found = np.argwhere(bright)
        affine = layer.affine.affine_matrix
        at = turned(found @ affine[:3, :3].T + affine[:3, 3])
        assert np.allclose(at[0], turned(layer.data_to_world(found[0])))  # napari says the same
    near = np.linalg.norm(at - place, axis=1) < 4 * max(grid.spacing)
    return at[near].mean(0)


def test_any_two_layers_agree_within_half_a_voxel_at_ten_landmarks(grid: Grid):
    made = [layers.Layer.create(*t) for t in tuples(grid)]
    for i in range(len(scenes.LANDMARKS)):
        centres = np.array([centre(layer, i, grid) for layer in made])
        apart = np.linalg.norm(centres[:, None] - centres[None], axis=-1).max()
        assert apart < min(grid.spacing) / 2, (i, centres)


def test_values_are_read_from_the_file_whatever_is_drawn(grid: Grid):
    noise = np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    made = [
        layers.Layer.create(*image_layer(Volume(noise, grid.affine), "noise")),
        layers.Layer.create(*labels_layer(Volume(scenes.cubes(grid), grid.affine), "mask")),
    ]
    for i, (place, voxel) in enumerate(zip(scenes.places(grid), scenes.LANDMARKS, strict=True)):
        mask, image = readings(made, turned(place))
        assert (mask.value, image.voxel) == (i + 1, tuple(voxel))
        assert image.value == noise[tuple(voxel)]
    outside = turned((grid.affine @ [-2, 0, 0, 1])[:3])
    assert readings(made, outside) == []


def test_the_line_tells_mm_voxel_value_and_name():
    grid = scenes.GRIDS["plain"]
    mask = layers.Layer.create(*tuples(grid)[1])
    x, y, z = scenes.places(grid)[0]
    words = f"x {x:.1f}, y {y:.1f}, z {z:.1f} mm   mask: 1 first [6, 7, 6]"
    assert told([mask], (z, y, x)) == words


def test_what_is_shown_lies_along_the_axes_and_only_oblique_volumes_are_resampled(grid: Grid):
    volume = Volume(np.random.default_rng(0).normal(size=grid.shape), grid.affine)
    shown = straight(volume)
    off_axis = shown.affine[:3, :3] - np.diag(np.diag(shown.affine[:3, :3]))
    assert np.abs(off_axis).max() == 0
    assert np.diag(shown.affine)[:3].min() > 0  # RAS+
    if straight_grid(grid):
        assert np.shares_memory(shown.data, volume.data)
        assert sorted(shown.data.ravel()) == sorted(volume.data.ravel())
    else:
        assert shown.spacing == pytest.approx([min(grid.spacing)] * 3)
        steps = shown.affine[:3, 3] / shown.spacing[0]  # voxels lie on whole multiples
        assert np.allclose(steps, np.rint(steps))


def test_a_huge_lattice_is_coarser():
    thin = Grid((512, 512, 40), scenes.grid(scenes.rotation(20, 0, 0), (0.4, 0.4, 5.0)).affine)
    assert np.prod(lattice(thin).shape) < 70_000_000


def test_another_volume_takes_the_place_of_one():
    first, second = scenes.GRIDS["plain"], scenes.GRIDS["oblique"]
    layer = layers.Layer.create(*image_layer(scenes.image(first), "image"))
    replaced(layer, scenes.image(second))
    assert layer.data.shape == straight(scenes.image(second)).shape[::-1]
    (reading,) = readings([layer], turned(scenes.places(second)[8]))
    assert reading.voxel == tuple(scenes.LANDMARKS[8])


@pytest.mark.viewer
@pytest.mark.parametrize("name", ["turned and flipped", "oblique, flipped, thick"])
def test_on_the_screen_every_layer_shows_a_landmark_where_it_is(viewer: "Viewer", name: str):
    """In 2-D: with the slices through a landmark and it in the middle, the middle is bright."""
    from vol3d.viewer.window import add, go_to, show_plane

    grid = scenes.GRIDS[name]
    shown = add(viewer, [*tuples(grid)[:4]])
    shown[1].opacity = 1.0
    shown[3].edge_width = 0.6  # as wide as long: what is seen is where they begin
    spots = []
    for plane in ("axial", "coronal", "sagittal"):
        show_plane(viewer, plane)
        viewer.scene.camera.zoom = 8
        for layer in shown:
            for other in shown:
                other.visible = other is layer
            go_to(viewer, scenes.places(grid)[4])
            spots.append(middle_of_bright(picture(viewer, least=2), layer.name))
    # 8 pixels a mm: half a voxel is 0.8 mm or more
    off_mm = np.linalg.norm(spots, axis=1) / 8
    assert off_mm.max() < min(grid.spacing) / 2, off_mm


def middle_of_bright(shown: np.ndarray, name: str) -> np.ndarray:
    """How many pixels, down and across, the middle of the landmark lies from that of the picture."""
    rows, columns = shown.shape[:2]
    near = shown[rows // 2 - 60 : rows // 2 + 60, columns // 2 - 60 : columns // 2 + 60].max(-1)
    bright = near > (180 if name == "image" else 60)
    assert bright.any(), name
    return np.argwhere(bright).mean(0) - 59.5


@pytest.mark.viewer
def test_in_3d_every_layer_shows_a_landmark_where_it_is(viewer: "Viewer"):
    from vol3d.viewer.window import add, go_to, show_plane

    grid = scenes.GRIDS["oblique"]
    shown = add(viewer, [*tuples(grid)[:3]])
    show_plane(viewer, "3d")
    viewer.scene.camera.zoom = 8
    for layer in (shown[0], shown[2]):
        layer.rendering = "mip"  # as bright as it is, not shaded
    spots = []
    for layer in shown:
        for other in shown:
            other.visible = other is layer
        go_to(viewer, scenes.places(grid)[8])
        spots.append(middle_of_bright(picture(viewer), layer.name))
    assert np.linalg.norm(np.array(spots)[:, None] - spots, axis=-1).max() / 8 < 1.0


@pytest.mark.viewer
def test_front_is_up_and_right_is_right(viewer: "Viewer"):
    """A bright corner of the head comes to lie where a neurologist expects it, in every plane."""
    from vol3d.viewer.window import add, show_plane

    data = np.full((20, 20, 20), 20, np.float32)
    data[8:, 8:, 8:] = 100  # right, anterior, superior
    add(viewer, [image_layer(Volume(data, np.diag([2.0, 2, 2, 1])), "corner", limits=(0, 100))])
    for plane in ("axial", "coronal", "sagittal", "3d"):
        show_plane(viewer, plane)
        shown = picture(viewer).max(-1)
        rows, columns = (np.argwhere(shown > 150) / np.array(shown.shape)).mean(0)
        assert rows < 0.45, plane
        assert columns > 0.55, plane
