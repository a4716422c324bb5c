"""Coefficients against scipy, intervals and tests against simulated data of known truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from simprior.analysis.correlation.intervals import (
    KINDS,
    Sample,
    coefficients,
    estimate,
    interval,
    resamples,
)
from simprior.analysis.correlation.permutation import (
    benjamini_hochberg,
    holm,
    p_value,
    partial_p_value,
    permuted,
)

SCIPY = {"pearson": stats.pearsonr, "spearman": stats.spearmanr, "kendall": stats.kendalltau}


def truth(kind: str, rho: float) -> float:
    """Of two normal variables with correlation rho."""
    return {"pearson": rho, "spearman": 6 / math.pi * math.asin(rho / 2),
            "kendall": 2 / math.pi * math.asin(rho)}[kind]  # fmt: skip


def drawn(
    rng: np.random.Generator, clusters: int, size: int, rho: float, shared: float = 0.5,
    marginal: str = "normal",
) -> Sample:  # fmt: skip
    """Pairs of correlation rho whose share ``shared`` of variance belongs to the cluster."""
    root = np.linalg.cholesky([[1.0, rho], [rho, 1.0]])
    cluster = np.repeat(np.arange(clusters), size)
    both = rng.standard_normal((clusters, 2)) @ root.T
    own = rng.standard_normal((clusters * size, 2)) @ root.T
    z = math.sqrt(shared) * both[cluster] + math.sqrt(1 - shared) * own
    if marginal == "heavy":  # a monotone map: ranks, and so Spearman's and Kendall's truth, stay
        z = np.sinh(2 * z)
    return Sample(z[:, 0], z[:, 1], cluster, np.zeros((len(z), 0)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ties", [False, True])
def test_coefficients_are_those_of_scipy(kind: str, ties: bool) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal(80)
    y = 0.5 * x + rng.standard_normal(80)
    if ties:
        x, y = np.round(x), np.round(2 * y) / 2
    sample = Sample(x, y, np.arange(80), np.zeros((80, 0)))
    assert estimate(sample, kind)[0] == pytest.approx(SCIPY[kind](x, y)[0], abs=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_resample_is_the_coefficient_of_the_repeated_points(kind: str) -> None:
    rng = np.random.default_rng(2)
    sample = drawn(rng, 9, 3, 0.4)
    counts = resamples(9, 5, rng)
    found = coefficients(sample, kind, counts)[:, 0]
    for row, value in zip(counts, found, strict=True):
        again = np.repeat(np.arange(27), row[sample.cluster])
        assert value == pytest.approx(SCIPY[kind](sample.x[again], sample.y[again])[0], abs=1e-12)


def test_partial_correlation_is_that_of_regression_residuals() -> None:
    rng = np.random.default_rng(3)
    Z = rng.standard_normal((60, 2))
    x, y = Z @ [1.0, -1.0] + rng.standard_normal(60), Z @ [0.5, 2.0] + rng.standard_normal(60)
    sample = Sample(x, y, np.arange(60), Z)

    def residual(v: np.ndarray, W: np.ndarray) -> np.ndarray:
        A = np.column_stack([np.ones(len(W)), W])
        return np.asarray(v - A @ np.linalg.lstsq(A, v, rcond=None)[0])

    expected = stats.pearsonr(residual(x, Z), residual(y, Z))[0]
    assert estimate(sample, "pearson")[0] == pytest.approx(expected, abs=1e-9)
    ranks = stats.rankdata
    R = np.column_stack([ranks(Z[:, 0]), ranks(Z[:, 1])])
    expected = stats.pearsonr(residual(ranks(x), R), residual(ranks(y), R))[0]
    assert estimate(sample, "spearman")[0] == pytest.approx(expected, abs=1e-9)


def test_a_control_that_is_constant_or_repeated_changes_nothing() -> None:
    rng = np.random.default_rng(4)
    x, z = rng.standard_normal((2, 40))
    y = x + rng.standard_normal(40)
    one = Sample(x, y, np.arange(40), z[:, None])
    same = Sample(x, y, np.arange(40), np.column_stack([z, z, np.full(40, 3.0)]))
    for kind in ("pearson", "spearman"):
        assert estimate(same, kind)[0] == pytest.approx(estimate(one, kind)[0], abs=1e-6)


def test_scale_does_not_matter() -> None:
    rng = np.random.default_rng(5)
    sample = drawn(rng, 20, 2, 0.5)
    far = Sample(1e-6 * sample.x + 1e2, -1e7 * sample.y, sample.cluster, sample.controls)
    for kind in KINDS:
        assert estimate(far, kind)[0] == pytest.approx(-estimate(sample, kind)[0], abs=1e-5)


def test_points_on_a_line_have_no_interval() -> None:
    x = np.arange(20.0)
    sample = Sample(x, 2 * x, np.arange(20), np.zeros((20, 0)))
    draws = resamples(20, 200, np.random.default_rng(0))
    found = interval(sample, "pearson", draws)
    assert found.value == pytest.approx(1.0)
    assert math.isnan(found.low)
    constant = Sample(x * 0, x, np.arange(20), np.zeros((20, 0)))
    assert math.isnan(interval(constant, "spearman", draws).value)


NORMAL = [(40, 1, 0.0), (40, 1, 0.7), (20, 5, 0.0), (30, 4, 0.7), (12, 5, 0.5)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "clusters", "size", "rho", "marginal"),
    [(kind, *case, "normal") for kind in KINDS for case in NORMAL]
    + [(kind, 30, 4, -0.4, "heavy") for kind in ("spearman", "kendall")],
)
def test_coverage(kind: str, clusters: int, size: int, rho: float, marginal: str) -> None:
    """95 +- 2 %, plus 3.5 standard errors of a share of 1,500 trials: false alarm 5e-4 a case.

    (Pearson's coefficient of heavy-tailed data is another number: left out.)
    """
    trials, hits = 1500, 0
    rng = np.random.default_rng([clusters, size, int(10 * rho) + 20, len(kind)])
    for _ in range(trials):
        sample = drawn(rng, clusters, size, rho, marginal=marginal)
        found = interval(sample, kind, resamples(clusters, 400, rng))
        hits += found.low <= truth(kind, rho) <= found.high
    slack = 0.02 + 3.5 * math.sqrt(0.95 * 0.05 / trials)
    assert abs(hits / trials - 0.95) < slack


@pytest.mark.slow
def test_coverage_of_partial_correlations() -> None:
    """As above: x and y share a control, and have correlation 0.5 given it."""
    trials, hits, rng = 1500, np.zeros(2), np.random.default_rng(11)
    for _ in range(trials):
        sample = drawn(rng, 30, 2, 0.5)
        z = rng.standard_normal(60)
        sample = Sample(sample.x + z, sample.y + z, sample.cluster, z[:, None])
        draws = resamples(30, 400, rng)
        found = interval(sample, "pearson", draws)
        hits[0] += found.low <= 0.5 <= found.high
    slack = 0.02 + 3.5 * math.sqrt(0.95 * 0.05 / trials)
    assert abs(hits[0] / trials - 0.95) < slack


@pytest.mark.slow
@pytest.mark.parametrize(("clusters", "size"), [(40, 1), (15, 4)])
def test_permutation_p_values_are_uniform_under_the_null(clusters: int, size: int) -> None:
    """Kolmogorov-Smirnov at a false-alarm rate of 1e-3; p takes multiples of 1/100, so a uniform
    part of 1/100 is subtracted. Clusters share half of the variance: permuting points would fail.
    """
    rng = np.random.default_rng(clusters)
    found = []
    for _ in range(400):
        p = p_value(drawn(rng, clusters, size, 0.0), "kendall", 99, rng)
        found.append(p - rng.random() / 100)
    assert stats.kstest(found, "uniform").pvalue > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("clusters", "size"), [(40, 1), (12, 6)])
def test_partial_p_values_are_uniform_under_the_null(clusters: int, size: int) -> None:
    """As above, where x and y both follow a control and are independent given it."""
    rng = np.random.default_rng([2, clusters])
    found = []
    for _ in range(400):
        s, z = drawn(rng, clusters, size, 0.0), rng.standard_normal(clusters * size)
        given = Sample(s.x + 2 * z, s.y - z, s.cluster, z[:, None])
        found.append(partial_p_value(given, 99, rng) - rng.random() / 100)
    assert stats.kstest(found, "uniform").pvalue > 1e-3


def test_partial_p_value_sees_what_the_control_does_not_explain() -> None:
    rng = np.random.default_rng(4)
    s, z = drawn(rng, 30, 2, 0.8), rng.standard_normal(60)
    mixed = Sample(s.x + 3 * z, s.y - 3 * z, s.cluster, z[:, None])
    assert partial_p_value(mixed, 199, rng) == pytest.approx(1 / 200)
    explained = Sample(z, s.y - 3 * z, s.cluster, z[:, None])  # nothing is left of the measure
    assert math.isnan(partial_p_value(explained, 199, rng))


@pytest.mark.slow
def test_permuting_points_of_clusters_would_be_wrong() -> None:
    """The control of the test above: ignoring clusters gives too many small p-values."""
    rng = np.random.default_rng(3)
    small = 0
    for _ in range(200):
        s = drawn(rng, 15, 4, 0.0, shared=0.8)
        alone = Sample(s.x, s.y, np.arange(60), s.controls)
        small += p_value(alone, "kendall", 99, rng) <= 0.05
    assert small > 10 + 5 * math.sqrt(10)  # expected 10 of 200 if it were right


def test_permutation_moves_whole_clusters() -> None:
    rng = np.random.default_rng(0)
    members = [np.array([0, 1]), np.array([2, 3]), np.array([4])]
    y = np.array([0.0, 1.0, 10.0, 11.0, 20.0])
    for _ in range(20):
        out = permuted(y, members, rng)
        assert len(set((out[:2] // 10).tolist())) == 1  # both from one cluster
    assert p_value(drawn(rng, 30, 1, 0.9), "kendall", 199, rng) == pytest.approx(1 / 200)


def test_corrections_by_hand() -> None:
    p = np.array([0.01, 0.04, math.nan, 0.03])
    # Holm: sorted 0.01, 0.03, 0.04 times 3, 2, 1 = 0.03, 0.06, 0.04, then running maximum
    assert holm(p)[[0, 1, 3]] == pytest.approx([0.03, 0.06, 0.06])
    # Benjamini-Hochberg: 0.01 * 3 = 0.03; min(0.03 * 3 / 2, 0.04) = 0.04; 0.04
    assert benjamini_hochberg(p)[[0, 1, 3]] == pytest.approx([0.03, 0.04, 0.04])
    assert np.isnan(holm(p)[2])
    assert np.isnan(benjamini_hochberg(p)[2])
