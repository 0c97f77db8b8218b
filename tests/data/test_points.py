"""Points as tables."""

import numpy as np
import pytest

from vol3d.data.points import read_points, write_points
from vol3d.errors import DataError


def test_there_and_back_with_all_that_is_known(tmp_path):
    (tmp_path / "in.csv").write_text('name,x,y,z,t\n"AC, left",1.5,-2,3,0\nPC,0,-28.25,1e1,0\n')
    points, rows = read_points(tmp_path / "in.csv", "LPS")
    np.testing.assert_array_equal(points, [[-1.5, 2, 3], [0, 28.25, 10]])
    write_points(tmp_path / "out.tsv", points, rows, "RAS")
    assert (tmp_path / "out.tsv").read_text() == (
        "name\tx\ty\tz\tt\nAC, left\t-1.5\t2.0\t3.0\t0\nPC\t0.0\t28.25\t10.0\t0\n"
    )
    again, _ = read_points(tmp_path / "out.tsv")
    np.testing.assert_array_equal(again, points)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y\n1,2\n", "has no column z; it has x, y, and points are columns x, y, z in mm"),
        ("x,y,z\n1,2,3\n1,n/a,3\n", "row 3 has 'n/a' for y, mm are due"),
        ("x,y,z\n1,2,nan\n", "row 2 has 'nan' for z"),
        ("x,y,z\n1,2,inf\n", "row 2 has 'inf' for z"),
        ("x,y,z\n", "holds no rows"),
    ],
)
def test_what_is_no_table_of_points(tmp_path, text: str, message: str):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_points(tmp_path / "p.csv")
