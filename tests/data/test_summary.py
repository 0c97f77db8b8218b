"""What is said of data before anything is learnt from them."""

from dataclasses import replace
from pathlib import Path

import pytest

from vol3d.data.covariate_types import Wanted
from vol3d.data.summary import doubts, few_people, overview
from vol3d.data.visit import Visit


def scans(**columns: list) -> list[Visit]:
    """A scan for each value of the columns; the last one is held out."""
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    splits = ["train"] * (len(rows) - 1) + ["val"]
    return [
        Visit(f"{i:02d}", None, {"T1w": Path()}, row, split)
        for i, (row, split) in enumerate(zip(rows, splits, strict=True))
    ]


def test_one_line_of_what_there_is():
    some = scans(age=[30.0, 60.5, None, 40.0], sex=["F", "M", "F", None], note=[None] * 4)
    assert overview(some, "on a grid") == (
        "3 scans of 3 people to learn from, 1 scan of 1 person held out; on a grid; "
        "age 30 to 60.5, 1 missing; sex F (2), M (1), 1 missing; note of nobody"
    )
    assert overview(scans(**{f"c{i}": [1.0] for i in range(12)}), "").endswith("2 covariates more")
    assert overview(some, "on a grid", ["sex"]).endswith("on a grid; sex F (2), M (1), 1 missing")


SEX = {"sex": Wanted(kind="category")}


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"age": [-3.0, 130.0, 50.0]}, ["sub-00: age is -3, and 1 scans more are like that"]),
        ({"ventricles_ml": [0.5, -1.0]}, ["sub-01: ventricles_ml is -1; no volume is that"]),
        (
            {"sex": ["M", "m", "male", "F", "F", "f", "female"] * 3},
            [
                "sex: F and f and female; M and m and male may be the same; if so, "
                "data.levels={sex: {F: [f, female], M: [m, male]}}"
            ],
        ),
        ({"sex": ["M", "F", "X"] + ["M", "F"] * 3}, ["sex: few people have a level ('X' of 1)"]),
        ({"sex": [1.0, 2.0] * 3, "site": ["Bern", "Basel"] * 3, "age": [5.0] * 6}, []),
        ({"diagnosis": ["AD", "A", "MCI"]}, []),
        ({"diagnosis": ["AD", "ad", "MCI"]}, ["diagnosis: AD and ad may be the same"]),
    ],
)
def test_doubts(columns: dict, told: list[str]):
    found = doubts(scans(**columns), SEX if "sex" in columns else {})
    assert len(found) == len(told)
    assert all(line.startswith(start) for line, start in zip(found, told, strict=True))


def test_few_people():
    assert "7 people to learn from are few" in few_people(scans(age=[1.0] * 8))[0]
    everyone = scans(age=[1.0] * 101)
    assert few_people(everyone) == []
    (line,) = few_people([replace(s, split="train") for s in everyone])
    assert line.startswith("nobody is held out")
