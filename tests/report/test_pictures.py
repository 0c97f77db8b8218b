import numpy as np
import pytest

from vol3d.planes import middle
from vol3d.report.pictures import Panel, in_rows, panels_in_rows

SPACING = (2.0, 1.0, 4.0)


@pytest.fixture
def x():
    """A volume [10, 12, 6] with one bright voxel to the right, in front, and above."""
    x = np.zeros((10, 12, 6), np.float32)
    x[8, 10, 4] = 1
    return x


def bright_at(axes):
    """Where the bright voxel lies in the picture, mm from the left and from the lower edge."""
    image = axes.images[0]
    left, right, bottom, top = image.get_extent()
    row, column = np.unravel_index(np.argmax(image.get_array()), image.get_array().shape)
    rows, columns = image.get_array().shape
    across = (column + 0.5) / columns * (right - left)
    up = (rows - row - 0.5) / rows * (top - bottom)
    return across, up


def test_sides_and_scale(x):
    figure = panels_in_rows([[Panel("one", x)]], SPACING, (8, 10, 4))
    axial, coronal, sagittal = figure.axes
    assert bright_at(axial) == pytest.approx((8.5 * 2, 10.5 * 1))  # right, front
    assert bright_at(coronal) == pytest.approx((8.5 * 2, 4.5 * 4))  # right, up
    assert bright_at(sagittal) == pytest.approx((10.5 * 1, 4.5 * 4))  # front, up
    letters = [[t.get_text() for t in a.texts if len(t.get_text()) == 1] for a in figure.axes]
    assert letters == [["L", "R"], ["L", "R"], ["P", "A"]]
    for axes, (width, height) in zip(figure.axes, [(20, 12), (20, 24), (12, 24)], strict=True):
        left, right, bottom, top = axes.images[0].get_extent()
        assert (right - left, top - bottom) == pytest.approx((width, height))
        assert axes.get_aspect() == 1


def test_the_letters_stand_where_the_sides_are(x):
    axial = panels_in_rows([[Panel("one", x)]], SPACING, (8, 10, 4)).axes[0]
    at = {t.get_text(): t.get_position()[0] for t in axial.texts}
    assert at["L"] < 10 < at["R"]


def test_differences_have_a_scale_of_their_own(x):
    figure = panels_in_rows(
        [[Panel("x", x), Panel("d", -x, is_difference=True)]], SPACING, (8, 10, 4)
    )
    assert len(figure.axes) == 6
    assert figure.axes[0].images[0].get_clim()[0] == 0
    low, high = figure.axes[3].images[0].get_clim()
    assert low == -high


def test_middle_is_of_the_brains():
    volumes = [np.zeros((40, 40, 40), np.float32) for _ in range(4)]
    for x in volumes:
        x[10:31, 4:25, 8:29] = 1
    volumes[0][39, 39, 39] = 1  # one odd voxel does not move it
    assert middle(volumes) == (20, 14, 19)  # 0.55 of the way up
    assert middle([np.zeros((8, 10, 12), np.float32)]) == (4, 5, 6)


def test_no_tile_is_empty(x):
    figure = panels_in_rows(in_rows([Panel("", x)] * 3), SPACING, (8, 10, 4))
    assert len(figure.axes) == 3 * 3
