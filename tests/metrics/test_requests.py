import numpy as np
import pytest

from vol3d.data.covariates import Covariates, Wanted
from vol3d.metrics.requests import request_table, training_range


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    age = rng.uniform(20, 80, 100)
    return [
        {
            "age": float(a),
            "sex": "FM"[i % 2],
            "ventricles_ml": float(a / 2 + rng.normal(0, 3)),
            "brain_ml": float(1200 + 100 * rng.normal()),
        }
        for i, a in enumerate(age)
    ]


@pytest.fixture
def schema(rows):
    wanted = {
        "age": Wanted(unit="years"),
        "sex": Wanted(kind="category"),
        "ventricles_ml": Wanted(unit="ml"),
        "brain_ml": Wanted(unit="ml"),
    }
    return Covariates.measure(wanted, rows, [str(i) for i in range(len(rows))])


def test_measured_covariates_are_spread_evenly_over_the_training_range(schema, rows):
    table = request_table(schema, rows, ["ventricles_ml", "brain_ml"], 64)
    assert [row["seed"] for row in table] == list(range(64))
    for name in ("ventricles_ml", "brain_ml"):
        values = np.sort([row[name] for row in table])
        low, high = np.percentile([row[name] for row in rows], [5, 95])
        np.testing.assert_allclose(values, np.linspace(low, high, 64), atol=1e-3)


def test_nothing_goes_along_with_anything(schema, rows):
    together = np.zeros((4, 4))
    for seed in range(40):
        table = request_table(schema, rows, ["ventricles_ml", "brain_ml"], 64, seed=seed)
        columns = [
            [float(r[n]) if n != "sex" else float(r[n] == "F") for r in table] for n in schema.names
        ]
        together += np.corrcoef([*columns]) / 40
    assert np.abs(together - np.eye(4)).max() < 0.1  # in training age and ventricles go together


def test_levels_are_balanced_and_ages_in_range(schema, rows):
    table = request_table(schema, rows, ["ventricles_ml"], 10)
    assert sorted(r["sex"] for r in table) == ["F"] * 5 + ["M"] * 5
    low, high = training_range(rows, schema["age"])
    assert all(low <= r["age"] <= high for r in table)


def test_seeded_and_accepted_by_the_schema(schema, rows):
    table = request_table(schema, rows, ["ventricles_ml"], 5)
    assert table == request_table(schema, rows, ["ventricles_ml"], 5)
    for row in table:
        asked = schema.check({k: v for k, v in row.items() if k != "seed"})
        assert schema.doubts(asked) == []


def test_what_no_scan_here_has_is_asked_for_over_what_the_model_saw(schema, rows):
    seen = [row["brain_ml"] for row in rows]
    others = [{"age": row["age"], "sex": row["sex"]} for row in rows]
    table = request_table(schema, others, ["brain_ml"], 9)
    asked = sorted(row["brain_ml"] for row in table)
    np.testing.assert_allclose(asked, np.linspace(min(seen), max(seen), 9), atol=1e-3)
