"""Means with their intervals: Student's t, shared test inputs, and what is not known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from simprior.analysis.figures.means import cell_means, means_by_value, network_mean
from simprior.errors import InputError
from simprior.numerics.estimate import clopper_pearson


def runs(error: np.ndarray, **columns: object) -> pd.DataFrame:
    """A row for each of (runs, networks) errors of a Boolean problem unless ``columns`` say."""
    count, k = error.shape
    return pd.DataFrame(
        {
            "run": np.repeat(np.arange(count), k),
            "cluster": np.repeat(np.arange(count), k),
            "test_error": error.ravel(),
            "n": 5,
            "test_size": 16,
            **columns,
        }
    )


def coverage(low: np.ndarray, high: np.ndarray, truth: float) -> float:
    return float(((low <= truth) & (truth <= high)).mean())


@pytest.mark.parametrize("k", [3, 4, 8])
def test_bars_of_few_networks_cover_95_percent(k: int) -> None:
    """Normal errors: t is exact, so the share is 0.95 within 4 standard errors of 1000 runs.

    1.96 standard errors would cover 0.81, 0.86 and 0.91 (t with k - 1 degrees of freedom).
    """
    random = np.random.default_rng(k)
    found = cell_means(runs(random.normal(0.3, 0.02, (1000, k))), ["test_error"])
    share = coverage(found["test_error_low"], found["test_error_high"], 0.3)
    assert abs(share - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 1000)
    assert found["test_error_known"].all()


@pytest.mark.parametrize(("k", "sd"), [(2, 0.0), (4, 0.0), (4, 0.03), (8, 0.01), (8, 0.03)])
def test_bars_cover_the_error_of_shared_test_inputs(k: int, sd: float) -> None:
    """Networks err on the same of 100 test inputs, as far as their rates p_i agree.

    Network i errs on input j iff u_j < p_i, u_j uniform and shared, p_i normal about 0.2: the
    binomial variance p(1 - p)/100 is in every mean. Clopper-Pearson covers at least 0.95, so the
    share is above 0.95 - 4 standard errors of 1000 runs. The spread alone would cover 0.1 at sd 0.
    """
    random = np.random.default_rng(10 * k)
    inputs = random.random((1000, 1, 100))
    rates = random.normal(0.2, sd, (1000, k, 1))
    frame = runs((inputs < rates).mean(axis=2), n=0, test_size=100)
    found = cell_means(frame, ["test_error"])
    share = coverage(found["test_error_low"], found["test_error_high"], 0.2)
    assert share > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 1000)
    if sd == 0:
        assert not found["test_error_known"].any()


@pytest.mark.slow
def test_means_over_data_sets_cover_95_percent() -> None:
    """Four data sets of three networks: the data sets are the units (t, 3 degrees of freedom)."""
    random = np.random.default_rng(5)
    error = random.normal(0.3, 0.03, (4000, 1)) + random.normal(0, 0.01, (4000, 3))
    frame = runs(error).assign(cell=lambda f: f["run"] // 4)
    found = means_by_value(frame, "cell", "test_error")
    share = coverage(found["test_error_low"], found["test_error_high"], 0.3)
    assert len(found) == 1000 and abs(share - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 1000)


def test_what_is_not_known_has_no_false_certainty() -> None:
    equal = network_mean(runs(np.full((1, 5), 0.2)), "test_error")
    assert (equal.low, equal.high, equal.known) == (0.2, 0.2, False)
    two = network_mean(runs(np.array([[0.2, 0.3]])), "test_error")
    assert not two.known
    # of a sample of test inputs: the binomial interval of one network
    sampled = network_mean(runs(np.full((1, 2), 0.2), n=0, test_size=50), "test_error")
    low, high = clopper_pearson(np.array(10.0), 50)
    assert (sampled.low, sampled.high, sampled.known) == (
        pytest.approx(low),
        pytest.approx(high),
        False,
    )
    none = network_mean(runs(np.zeros((1, 4)), n=0, test_size=50), "test_error")
    assert none.low == 0 and none.high == pytest.approx(1 - 0.025 ** (1 / 50))
    # a setting, or a bound, has no spread over networks to be known
    frame = runs(np.array([[0.2, 0.3]])).assign(log_evidence=-5.0, sigma_w=1.0)
    assert network_mean(frame, "log_evidence").known and network_mean(frame, "sigma_w").known


def test_own_errors_of_a_measure() -> None:
    frame = runs(np.full((1, 4), 0.2)).assign(log_p=[-5.0, -5.0, -5.0, -9.0], log_p_stderr=1.0)
    # equal functions have one estimate: weights 3/4 and 1/4
    one = frame.iloc[:2]
    assert network_mean(one, "log_p").high == pytest.approx(-5 + 1.959964)
    pair = network_mean(frame.iloc[2:], "log_p")
    assert pair.high == pytest.approx(-7 + 1.959964 * np.hypot(0.5, 0.5))
    three = network_mean(frame.assign(log_p_stderr=0.0), "log_p")
    assert three.high == pytest.approx(-6 + 3.182446 * 1.0)  # t of 3; sd 2 over root 4


def test_networks_have_binomial_limits_unless_all_inputs_are_tested() -> None:
    frame = runs(np.array([[0.1, 0.2]]), n=0, test_size=100)
    found = cell_means(frame, ["test_error"], "network")
    low, high = clopper_pearson(np.array([10.0, 20.0]), 100)
    assert np.allclose(found["test_error_low"], low) and np.allclose(found["test_error_high"], high)
    exact = cell_means(frame.assign(n=7), ["test_error"], "network")
    assert (exact["test_error_low"] == exact["test_error_high"]).all()


def test_rows_that_are_means_already() -> None:
    row = pd.DataFrame(
        {"x": [1.0], "test_error": [0.2], "test_error_stderr": [0.01], "networks": [4]}
    )
    found = means_by_value(row, "x", "test_error").iloc[0]
    assert found["test_error_high"] == pytest.approx(0.2 + 3.182446 * 0.01)
    sweep = row.drop(columns="networks").assign(runs=5, fitted_share=0.8)
    assert means_by_value(sweep, "x", "test_error").iloc[0].equals(found)
    assert not means_by_value(row.assign(networks=2), "x", "test_error")["test_error_known"].any()
    assert means_by_value(row.assign(lz=3.0, lz_stderr=1.0), "x", "lz").iloc[0]["lz_known"]


def test_few_data_sets_show_the_error_within_them() -> None:
    frame = runs(np.array([[0.1, 0.2, 0.3], [0.3, 0.4, 0.5]])).assign(x=1.0)
    found = means_by_value(frame, "x", "test_error").iloc[0]
    half = 4.302653 * 0.1 / np.sqrt(3)  # of each data set: t of 2
    assert not found["test_error_known"] and found["test_error"] == pytest.approx(0.3)
    assert found["test_error_high"] == pytest.approx(0.3 + half / np.sqrt(2))
    bound = frame.assign(bound=0.5, bound_low=0.4, bound_high=0.6)
    found = means_by_value(bound, "x", "bound").iloc[0]
    assert (found["bound_low"], found["bound_high"]) == (
        pytest.approx(0.5 - 0.1 / np.sqrt(2)),
        pytest.approx(0.5 + 0.1 / np.sqrt(2)),
    )
    with pytest.raises(InputError, match="finite"):
        means_by_value(frame.assign(test_error=np.nan), "x", "test_error")
