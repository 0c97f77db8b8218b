"""Nobody is judged by what was fitted on themselves."""

import numpy as np
import pytest

from vol3d.errors import DataError
from vol3d.metrics.cross_fit import (
    conformal_of_others,
    first_of_each,
    folds_of,
    temperatures_of_others,
)
from vol3d.metrics.temperature import fit_temperature

PEOPLE = [f"p{i // 2}" for i in range(26)]  # two visits each


def test_folds_keep_people_whole_and_are_of_one_size():
    fold = folds_of(PEOPLE, 5)
    assert (fold[::2] == fold[1::2]).all()
    assert sorted(np.bincount(fold[::2])) == [2, 2, 3, 3, 3]
    assert (folds_of(PEOPLE, 5, seed=1) != fold).any()
    assert sorted(folds_of(["a", "b"], 5)) == [0, 1]
    assert first_of_each(PEOPLE).tolist() == [True, False] * 13


def voxels(sure: float, right: float, n: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """Voxels called so sure of label 1, of which a share is right."""
    labels = (np.arange(n) < right * n).astype(int)
    return np.tile([[1 - sure], [sure]], n), labels


def test_a_temperature_is_that_of_the_others():
    visits = [voxels(0.99, 0.7 + 0.005 * i) for i in range(26)]
    fold = folds_of(PEOPLE, 4)
    found = temperatures_of_others(visits, fold)
    others = fit_temperature(v for v, f in zip(visits, fold, strict=True) if f != fold[7])
    assert found[7] == pytest.approx(others)
    visits[7] = visits[6] = voxels(0.99, 0.0)  # this person's own voxels are of no account to them
    again = temperatures_of_others(visits, fold)
    assert again[7] == found[7]
    assert (again[fold != fold[7]] != found[fold != fold[7]]).all()


def test_an_interval_is_that_of_the_others():
    """With 12 others of one visit each and alpha 0.1, the offset is their largest error."""
    predicted = np.full(26, 10.0)
    truth = 10 + np.repeat(np.arange(13.0), 2)
    fold = folds_of(PEOPLE, 13)  # each by themselves
    low, high = conformal_of_others(predicted, predicted, truth, PEOPLE, fold)
    assert (high[:24] == 22).all()
    assert (high[24:] == 21).all()
    assert low.tolist() == np.maximum(20 - high, 0).tolist()  # no volume is below 0
    with pytest.raises(DataError, match="9 held-out people or more, got 8"):
        conformal_of_others(*[np.ones(9)] * 3, list("abcdefghi"), np.arange(9))
