"""The schema of covariates: ranges, missing values, and draws given the others."""

import numpy as np
import pytest

from vol3d.data.covariates import Covariates, Wanted
from vol3d.data.imported_covariates import CategoryRange, NumberRange, schema_of
from vol3d.errors import ConfigError, DataError

WANTED = {
    "age": Wanted(unit="years"),
    "sex": Wanted(kind="category"),
    "ventricles_ml": Wanted(unit="ml", guidance=2.0),
}


def people(n: int = 4000, seed: int = 0) -> list[dict]:
    """Ventricles grow with age, and are 6 ml larger in men."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(n):
        age, sex = rng.uniform(20, 80), "FM"[rng.integers(2)]
        ml = 10 + 0.4 * age + 6 * (sex == "M") + rng.normal(0, 3)
        rows.append({"age": age, "sex": sex, "ventricles_ml": ml})
    return rows


@pytest.fixture(scope="module")
def schema() -> Covariates:
    rows = people()
    return Covariates.measure(WANTED, rows, [f"sub-{i}" for i in range(len(rows))])


def test_ranges_and_normalisers(schema: Covariates):
    rows = people()
    age, ml = (np.array([r[k] for r in rows]) for k in ("age", "ventricles_ml"))
    assert schema["age"].low == age.min()
    assert schema["age"].high == age.max()
    z = np.array([schema["ventricles_ml"].encode(v)[0] for v in ml])
    assert abs(z.mean()) < 1e-9
    assert abs(z.std() - 1) < 1e-9
    assert schema["sex"].levels == {v: sum(r["sex"] == v for r in rows) for v in "FM"}


def test_encoded_row_has_values_and_what_is_known(schema: Covariates):
    row = schema.encode({"age": schema["age"].mean, "sex": "M", "ventricles_ml": None})
    assert row == [0.0, -1.0, 1.0, 0.0, 1.0, 1.0, 0.0]
    assert len(row) == schema.width
    hidden = schema.encode({"age": 50, "sex": "M", "ventricles_ml": 30}, [False, True, False])
    assert hidden == [0.0, -1.0, 1.0, 0.0, 0.0, 1.0, 0.0]


def test_draws_follow_the_regression_on_what_was_asked(schema: Covariates):
    rng = np.random.default_rng(1)
    drawn = [schema.complete({"age": 40.0, "sex": "M"}, rng) for _ in range(2000)]
    ml = np.array([r["ventricles_ml"] for r in drawn])
    assert all(r["age"] == 40.0 and r["sex"] == "M" for r in drawn)
    assert abs(ml.mean() - (10 + 16 + 6)) < 0.3  # what people() says
    assert abs(ml.std() - 3) < 0.2


def test_draws_of_a_category_weigh_how_likely_the_numbers_are(schema: Covariates):
    rng = np.random.default_rng(2)
    n = 2000
    share = (
        sum(
            schema.complete({"age": 50.0, "ventricles_ml": 39.0}, rng)["sex"] == "M"
            for _ in range(n)
        )
        / n
    )
    # Women of 50 have 30 +- 3 ml, men 36 +- 3: the normal densities at 39 give the odds.
    expected = 1 / (1 + np.exp((1**2 - 3**2) / 2))
    assert abs(share - expected) < 0.02


def test_draws_stay_within_the_range_seen(schema: Covariates):
    rng = np.random.default_rng(3)
    drawn = [schema.complete({}, rng) for _ in range(500)]
    assert all(schema["age"].low <= r["age"] <= schema["age"].high for r in drawn)


def test_null_leaves_out_what_was_not_asked():
    wanted = {**WANTED, "ventricles_ml": Wanted(absent="null")}
    rows = people(50)
    schema = Covariates.measure(wanted, rows, [str(i) for i in range(50)])
    row = schema.complete({"age": 40.0}, np.random.default_rng(0))
    assert row["ventricles_ml"] is None
    assert row["sex"] in ("F", "M")


def test_missing_values_are_counted_and_do_not_bias():
    rows = people(2000)
    full = Covariates.measure(WANTED, rows, [str(i) for i in range(2000)])
    holes = [{**r, "ventricles_ml": None} if i % 4 == 0 else r for i, r in enumerate(rows)]
    schema = Covariates.measure(WANTED, holes, [str(i) for i in range(2000)])
    assert schema["ventricles_ml"].missing == 500
    assert abs(schema["ventricles_ml"].mean - full["ventricles_ml"].mean) < 0.5


def test_schema_round_trips_and_holds_no_row(schema: Covariates):
    assert Covariates.parse(schema.dump()) == schema
    assert len(schema.cells) == 2


def test_without_covariates():
    schema = Covariates.measure({}, people(5), list("abcde"))
    assert schema.width == 0
    assert schema.complete({}, np.random.default_rng(0)) == {}


# -- bad input ------------------------------------------------------------------------------------


def test_outside_the_range_is_a_warning(schema: Covariates):
    (doubt,) = schema.doubts({"age": 95.0, "sex": "F", "ventricles_ml": 30.0})
    assert "age=95 lies outside the range seen in training" in doubt
    assert "years" in doubt


def test_unknown_names_and_levels(schema: Covariates):
    with pytest.raises(ConfigError, match=r"unknown covariate 'ventricle_ml'\. Did you mean"):
        schema.check({"ventricle_ml": 30})
    with pytest.raises(ConfigError, match=r"sex=.female.: unknown level.*Known: F, M"):
        schema.check({"sex": "female"})


def test_text_where_a_number_is_due(schema: Covariates):
    with pytest.raises(ConfigError, match="age='old': a number in years is due"):
        schema.check({"age": "old"})
    rows = people(5)
    rows[3]["age"] = "old"
    with pytest.raises(DataError, match="sub-3: covariate 'age' is 'old', a number is due"):
        Covariates.measure(WANTED, rows, [f"sub-{i}" for i in range(5)])


def test_columns_that_nobody_has_are_told_together():
    rows = [{"Age": r["age"], "Gender": r["sex"], "x": None} for r in people(5)]
    with pytest.raises(ConfigError) as caught:
        Covariates.measure(WANTED, rows, list("abcde"))
    assert str(caught.value) == (
        "covariates age, sex, ventricles_ml: no training scan has them. The tables have: Age, Gender "
        "(age may be 'Age'; sex may be 'Gender'). Add or rename the columns, or take them away: "
        "task.covariates.age=null task.covariates.sex=null task.covariates.ventricles_ml=null"
    )


@pytest.mark.parametrize("asked", [{"age": -3}, {"ventricles_ml": "-5"}])
def test_what_cannot_be_is_not_asked_for(schema: Covariates, asked):
    with pytest.raises(ConfigError, match=r"no (age in years|volume) is that"):
        schema.check(asked)


def test_a_number_that_never_varies():
    rows = [{**r, "age": 30.0} for r in people(5)]
    with pytest.raises(DataError, match="is 30 for every training scan"):
        Covariates.measure(WANTED, rows, list("abcde"))


def test_missing_values_do_not_make_cohorts_narrower():
    rows = people(4000)
    for i, row in enumerate(rows):
        if i % 2:
            row["ventricles_ml"] = None
        if i % 3:
            row["sex"] = None
    schema = Covariates.measure(WANTED, rows, [str(i) for i in range(4000)])
    rng = np.random.default_rng(1)
    drawn = [schema.complete({"age": 40.0, "sex": "M"}, rng)["ventricles_ml"] for _ in range(2000)]
    assert abs(np.mean(drawn) - (10 + 16 + 6)) < 0.8  # what people() says
    assert abs(np.std(drawn) - 3) < 0.4


def test_categories_that_nobody_has_together():
    wanted = {"sex": Wanted(kind="category"), "diagnosis": Wanted(kind="category")}
    rows = [{"sex": "F", "diagnosis": None}, {"sex": None, "diagnosis": "AD"}] * 3
    with pytest.raises(
        DataError, match=r"sex, diagnosis: no training scan has all of them.*sex: null"
    ):
        Covariates.measure(wanted, rows, [str(i) for i in range(6)])


def test_a_level_that_is_a_number_is_called_as_the_table_has_it():
    rows = [{"site": 1.0}, {"site": 2.0}, {"site": 2.0}]
    schema = Covariates.measure({"site": Wanted(kind="category")}, rows, list("abc"))
    assert schema["site"].levels == {"1": 1, "2": 2}
    assert schema.encode({"site": 2.0}) == schema.encode(schema.check({"site": 2})) == [-1, 1, 1]
    assert schema.check({"site": "02"}) == {"site": "2"}  # as it stands on the command line
    assert schema.cells[0].levels == {"site": "1"}


# -- known by their ranges alone -----------------------------------------------------------------------

RANGES = {
    "sex": CategoryRange(levels=("F", "M")),
    "age": NumberRange(low=44, high=82, unit="years"),
    "site": CategoryRange(levels=("a", "b", "c"), coding="one_hot"),
}


def test_ranges_are_told_from_0_to_1():
    schema = schema_of(RANGES)
    row = schema.encode({"sex": "M", "age": 53.5, "site": "b"})
    assert row == [1.0, 0.25, 0.0, 1.0, 0.0, 1.0, 1.0, 1.0]
    assert schema.width == len(row)
    assert schema.places("site") == [2, 3, 4, 7]
    assert Covariates.parse(schema.dump()) == schema
    assert schema.doubts({"age": 83.0})


def test_what_is_not_asked_for_is_drawn_from_the_range():
    schema, rng = schema_of(RANGES), np.random.default_rng(0)
    drawn = [schema.complete({"sex": "F"}, rng) for _ in range(2000)]
    ages = np.array([r["age"] for r in drawn])
    assert ages.min() >= 44
    assert ages.max() <= 82
    assert abs(ages.mean() - 63) < 1
    assert {r["sex"] for r in drawn} == {"F"}
    shares = [sum(r["site"] == s for r in drawn) / 2000 for s in "abc"]
    assert max(abs(s - 1 / 3) for s in shares) < 0.05


def test_no_covariates_at_all():
    schema = schema_of({})
    assert schema.encode(schema.complete({}, np.random.default_rng(0))) == []


def test_a_range_has_two_ends():
    with pytest.raises(ConfigError, match="low=2 must be below high=1"):
        NumberRange.parse({"low": 2, "high": 1})
