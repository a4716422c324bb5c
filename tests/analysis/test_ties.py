"""Values equal up to rounding are ties, and no coefficient is made of rounding."""

import numpy as np
import pandas as pd
import pytest

from simprior.analysis.compare.distances import Points, correlations
from simprior.analysis.correlate.controls import settle
from simprior.analysis.correlate.correlations import correlate
from simprior.analysis.correlate.environments import settings_means

THIRD = (0.1 + 0.2, 0.3)  # differ in the last bit


def test_settle():
    values = np.array([0.3, 0.1 + 0.2, np.nan, 1e-20, 2e-20, 0.0, -0.0, np.inf, -0.3, -(0.1 + 0.2)])
    got = settle(values)
    assert len(set(got[[0, 1]])) == len(set(got[[8, 9]])) == 1
    assert got[3] == 1e-20 and got[4] == 2e-20 and got[7] == np.inf and np.isnan(got[2])
    np.testing.assert_allclose(got, values, rtol=1e-12)
    distinct = np.array([1.0, 1.0 + 2e-12, 1e6, 1e6 + 1e-5])
    np.testing.assert_array_equal(settle(distinct), distinct)


def table(noise):
    """60 networks in 3 categories, in each of which the measure is constant up to rounding."""
    random = np.random.default_rng(0)
    error = random.random(60)
    category = np.repeat([1.0, 2.0, 3.0], 20)
    measure = category * 0.3
    if noise:  # the last bit follows the error
        measure = np.where(error > 0.5, category * THIRD[0], category * THIRD[1])
        assert len(np.unique(measure)) > 3
    return pd.DataFrame(
        {"measure": measure, "category": category, "test_error": error, "cluster": np.arange(60)}
    )


@pytest.mark.parametrize("noise", [False, True])
def test_rounding_within_a_category_gives_no_partial_coefficient(noise):
    found = correlate(
        table(noise), measures=["measure"], controls="category", bootstrap=100, permutations=19
    )
    row = found.table.iloc[0]
    assert np.isnan(row["partial_spearman"]) and np.isnan(row["partial_pearson"])
    assert np.isnan(row["partial_p_value"])
    assert any("leave nothing of it that varies" in note for note in found.notes)


def test_rounding_changes_no_coefficient():
    clean, noisy = (
        correlate(table(noise), measures=["measure"], bootstrap=100, permutations=19).table.iloc[0]
        for noise in (False, True)
    )
    for name in ("pearson", "spearman", "kendall", "p_value"):
        assert noisy[name] == pytest.approx(clean[name], rel=1e-9)


def test_categories_that_differ_by_rounding_are_one():
    frame = table(noise=False)
    frame["noise"] = np.random.default_rng(1).random(60)
    want = correlate(frame, measures=["noise"], controls="category", bootstrap=100, permutations=19)
    frame["category"] = frame["category"] * np.where(np.arange(60) % 2, *THIRD) / 0.3
    assert len(np.unique(frame["category"])) > 3
    got = correlate(frame, measures=["noise"], controls="category", bootstrap=100, permutations=19)
    for name in ("partial_spearman", "partial_pearson"):
        assert got.table[name][0] == pytest.approx(want.table[name][0], rel=1e-9)


def test_means_and_probabilities():
    frame = pd.DataFrame({"a": [0, 1], "m": THIRD, "g": 0.0})
    assert frame["m"].nunique() == 2
    assert settings_means(frame, ["m"], "g", ["a"])["m"].nunique() == 1
    x = np.log(np.array([0.3, 0.1 + 0.2, 0.3, 0.1]))
    y = np.log(np.array([0.1, 0.2, 0.3, 0.4]))
    tied = np.log(np.array([0.3, 0.3, 0.3, 0.1]))
    got, want = (correlations(Points(v, y, 0 * y, 0 * y)) for v in (x, tied))
    for name, value in want.items():
        assert got[name] == pytest.approx(value, rel=1e-9)
