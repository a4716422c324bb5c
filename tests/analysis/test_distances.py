"""Distances: closed forms, and the two sides from which the estimates approach the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon

from simprior.analysis.compare.comparison import compare
from simprior.analysis.compare.distances import (
    NAMES,
    Points,
    correlations,
    distances,
    line_fit,
    scatter,
    york,
)
from simprior.analysis.compare.sources import WeightedFunctions, join, side_of
from simprior.analysis.correlate.intervals import Bootstrap, disjoint_parts, split_halves
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.sampling.dnf import RandomDNF, exact_probabilities
from simprior.errors import InputError
from simprior.numerics.estimate import sample_sd

WORDS = (np.arange(1 << 16, dtype=np.uint64) << np.uint64(48))[:, None]


def exact(alpha: float) -> np.ndarray:
    p = exact_probabilities(RandomDNF(4, alpha))
    return np.asarray(p / p.sum())


def draw(p: np.ndarray, samples: int, rng: np.random.Generator) -> FunctionCounts:
    """Independent samples of a known law on the 65,536 functions of 4 bits."""
    k = rng.multinomial(samples, p)
    return FunctionCounts.from_counts(WORDS[: len(p)][k > 0], k[k > 0], m=16, n=4)


def zipf(functions: int, power: float = 1.0) -> np.ndarray:
    p = np.arange(1.0, functions + 1) ** -power
    return np.asarray(p / p.sum())


def test_closed_forms() -> None:
    p, q = np.array([0.5, 0.5, 0.0]), np.array([0.0, 0.5, 0.5])
    tv, js, hellinger = distances(p, q)
    assert tv == pytest.approx(0.5)
    assert js == pytest.approx(0.5 * math.log(2))
    assert hellinger == pytest.approx(math.sqrt(0.5))
    assert distances(p, p) == pytest.approx([0, 0, 0], abs=1e-8)
    r = np.array([1.0, 0.0, 0.0])
    assert distances(r, np.array([0.0, 0.0, 1.0])) == pytest.approx([1, math.log(2), 1])


def test_against_scipy_and_weights() -> None:
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(50)), rng.dirichlet(np.ones(50))
    tv, js, hellinger = distances(p, q)
    assert js == pytest.approx(float(jensenshannon(p, q)) ** 2, rel=1e-12)
    assert tv == pytest.approx(float(np.maximum(p - q, 0).sum()), rel=1e-12)
    weight = rng.integers(1, 5, 50)
    x, y = p / (p @ weight), q / (q @ weight)
    repeated = distances(np.repeat(x, weight), np.repeat(y, weight))
    assert distances(x, y, weight.astype(float)) == pytest.approx(repeated, rel=1e-12)
    assert hellinger**2 <= tv <= hellinger * math.sqrt(2 - hellinger**2)


def test_halves_are_disjoint_and_complete() -> None:
    counts = draw(zipf(500), 4001, np.random.default_rng(1))
    one, two = split_halves(counts, seed=3)
    assert (one.samples, two.samples) == (2000, 2001)
    total = np.zeros(1 << 16, np.int64)
    for half in (one, two):
        np.add.at(total, (half.words[:, 0] >> np.uint64(48)).astype(int), half.count)
        assert half.profile.functions == len(half)
        assert half.ones[:, 0].sum() == half.samples
    index = (counts.words[:, 0] >> np.uint64(48)).astype(int)
    assert (total[index] == counts.count).all() and total.sum() == 4001


def test_clustered_parts_keep_clusters_together() -> None:
    """A function met by one hidden draw only lands in one part, whatever its count."""
    from simprior.boolean.sampling.sample import sample
    from simprior.network.spec import Network

    counts = sample(Network(n=4, hidden=(8,)), samples=6400, seed=0, heads=64)
    side = side_of(counts, "a")
    assert (side.units < counts.count).any()
    rng = np.random.default_rng(0)
    size = float(np.maximum(np.rint(side.units), 1).sum() // 2)
    one, two = disjoint_parts(side, np.arange(len(counts)), size, rng)
    single = np.rint(side.units) <= 1
    assert single.any() and not ((one.p > 0) & (two.p > 0))[single].any()
    assert one.p.sum() == pytest.approx(1.0) and one.units.sum() == size


def test_bootstrap_cells_have_the_moments_of_single_draws() -> None:
    """Cells of many functions against the closed form; 5 standard errors, false alarm 6e-7 each."""
    k = np.repeat([1, 2, 5000], [3000, 1500, 1])
    words = WORDS[: len(k)]
    a = FunctionCounts.from_counts(words, k, m=16, n=4)
    b = FunctionCounts.from_counts(words[2000:], k[2000:], m=16, n=4)
    joint = join(side_of(a, "a"), side_of(b, "b"))
    source = Bootstrap(joint)
    replicates = 400
    unseen, top = [], []
    for p, _, w in source.replicates(replicates, np.random.default_rng(2)):
        assert p @ w == pytest.approx(1.0) and p.min() >= 0
        unseen.append(len(k) - w[p > 0].sum())  # functions not drawn in a
        top.append(p.max())
    missed = np.exp(-k.astype(float))
    mean, sd = missed.sum(), math.sqrt((missed * (1 - missed)).sum())
    assert abs(np.mean(unseen) - mean) < 5 * sd / math.sqrt(replicates)
    share = 5000 / k.sum()
    sd = math.sqrt(share * (1 - share) ** 2 / k.sum() + share**2 * (k.sum() - 5000) / k.sum() ** 2)
    assert abs(np.std(top) / sd - 1) < 5 / math.sqrt(2 * replicates)


def test_york_is_weighted_least_squares_when_x_is_exact() -> None:
    rng = np.random.default_rng(3)
    x, v = np.sort(rng.normal(size=40)), rng.uniform(0.5, 2, 40)
    y = 2 + 3 * x + rng.normal(size=40) * np.sqrt(v)
    line = york(x, y, np.zeros(40), v)
    design = np.stack([np.ones(40), x], axis=1)
    information = design.T @ (design / v[:, None])
    expected = np.linalg.solve(information, design.T @ (y / v))
    errors = np.sqrt(np.diag(np.linalg.inv(information)))
    assert (line.intercept, line.slope) == pytest.approx(tuple(expected), rel=1e-10)
    assert (line.intercept_stderr, line.slope_stderr) == pytest.approx(tuple(errors), rel=1e-8)


def test_york_is_orthogonal_regression_for_equal_errors_and_inverts() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=60)
    y = 0.7 * x + rng.normal(size=60) * 0.3
    v = np.full(60, 0.1)
    first = np.linalg.eigh(np.cov(x, y))[1][:, -1]
    assert york(x, y, v, v).slope == pytest.approx(first[1] / first[0], rel=1e-9)
    vx, vy = rng.uniform(0.05, 0.2, 60), rng.uniform(0.05, 0.2, 60)
    forth, back = york(x, y, vx, vy), york(y, x, vy, vx)
    assert forth.slope * back.slope == pytest.approx(1.0, rel=1e-9)


@pytest.mark.slow
def test_line_scatter_and_correlation_recover_the_truth() -> None:
    """Mean over 200 data sets within 5 standard errors; slope intervals cover (see below)."""
    rng = np.random.default_rng(5)
    repeats, points, inner = 200, 150, 0.4
    slopes, hits, spread, free = [], 0, [], []
    for _ in range(repeats):
        t = rng.normal(size=points) * 2
        vx, vy = rng.uniform(0.01, 0.1, points), rng.uniform(0.01, 0.1, points)
        bend = rng.normal(size=(2, points)) * inner
        x = t + bend[0] + rng.normal(size=points) * np.sqrt(vx)
        y = 0.8 * t + bend[1] + rng.normal(size=points) * np.sqrt(vy)
        data = Points(x, y, vx, vy)
        line = line_fit(data)
        assert line.chi2 == pytest.approx(1.0, rel=1e-3)
        slopes.append(line.slope)
        hits += abs(line.slope - 0.8) < 1.96 * line.slope_stderr
        spread.append(line.extra)
        free.append(correlations(data)["pearson_noise_free"])
    error = np.std(slopes) / math.sqrt(repeats)
    assert abs(np.mean(slopes) - 0.8) < 5 * error
    squares = np.square(spread)
    assert abs(squares.mean() - inner**2) < 5 * squares.std() / math.sqrt(repeats)
    # 200 Bernoulli(0.95): fewer than 174 hits has probability 1e-5
    assert hits >= 174
    signal = 0.8 * 4 / math.sqrt((4 + inner**2) * (0.64 * 4 + inner**2))
    assert abs(np.mean(free) - signal) < 5 * np.std(free) / math.sqrt(repeats)


def test_scatter_subtracts_counting_noise() -> None:
    """Variances of 4,000 differences of ln Poisson(50), whose moments are summed, within 4.5
    standard errors: var * sqrt((kurtosis - 1) / 4000). False alarm 3 * 7e-6."""
    number = np.arange(1, 200)
    p = stats.poisson.pmf(number, 50)  # P(0) = 2e-22
    ln = np.log(number) - p @ np.log(number)
    variance, inverse = 2 * p @ ln**2, p @ (1 / number)
    kurtosis = 3 + 2 * (p @ ln**4 - 3 * (p @ ln**2) ** 2) / variance**2
    error = 4.5 * variance * math.sqrt((kurtosis - 1) / 4000)
    decade = math.log(10) ** 2
    rng = np.random.default_rng(6)
    k, points = 50, 4000
    x, y = rng.poisson(k, points).astype(float), rng.poisson(k, points).astype(float)
    found = scatter(Points.of(x, x, y, y))
    assert abs(found["scatter_decades"] ** 2 * decade - variance) < error
    left = max(0.0, found["scatter_decades_noise_free"]) ** 2 * decade
    assert left < variance - 2 * inverse + error
    y *= np.exp(rng.normal(size=points))
    ratio = scatter(Points(np.log(x), np.log(y), 1 / x, np.full(points, 1 / k)))
    expected = 1 + variance - inverse - 1 / k
    error = 4.5 * (1 + variance) * math.sqrt(2 / 4000)
    assert abs(ratio["scatter_decades_noise_free"] ** 2 * decade - expected) < error


@pytest.mark.parametrize(
    ("first", "second", "sizes"),
    [(1.0, 1.0, (1500, 1500)), (1.0, 2.0, (1500, 1500)), (1.0, 2.0, (6000, 2000))],
)
@pytest.mark.slow
def test_intervals_cover_the_true_distances(
    first: float, second: float, sizes: tuple[int, int]
) -> None:
    """Random DNF networks, all 65,536 probabilities known; and both estimates on their own side.

    The 95 % interval must cover at least as often as chance allows: of 150 Bernoulli(0.95), fewer
    than 128 has probability 1e-5. Means are held to 5 standard errors (3e-7 each).
    """
    rng, repeats = np.random.default_rng(7), 150
    p, q = exact(first), exact(second)
    truth = distances(p, q)
    plug_in, held_out, hits = [], [], np.zeros(3)
    for index in range(repeats):
        a, b = draw(p, sizes[0], rng), draw(q, sizes[1], rng)
        found = compare(a, b, bootstrap=50, splits=1, seed=index)
        rows = [found[name] for name in NAMES]
        hits += [row.low - 1e-6 <= t <= row.high for row, t in zip(rows, truth, strict=True)]
        plug_in.append([row.value for row in rows])
        held_out.append([found[f"{name}_held_out"].value for name in NAMES])
    assert (hits >= 128).all(), hits
    slack = 5 * np.std(plug_in, axis=0) / math.sqrt(repeats)
    assert (np.mean(plug_in, axis=0) > truth - slack).all()
    if first != second:  # at distance 0 the held-out value is cut off at 0
        slack = 5 * np.std(held_out, axis=0) / math.sqrt(repeats)
        assert (np.mean(held_out, axis=0) < truth + slack).all()


@pytest.mark.slow
def test_interval_closes_where_functions_are_common() -> None:
    """40 functions, 10^5 samples: the interval is short, and it and the standard error are honest.

    Of 100 Bernoulli(0.95), fewer than 81 has probability 1e-6.
    """
    rng = np.random.default_rng(8)
    p, q = zipf(40), zipf(40, 0.7)
    truth = distances(p, q)
    values, errors, hits = [], [], np.zeros(3)
    for index in range(100):
        found = compare(
            draw(p, 100_000, rng), draw(q, 100_000, rng), bootstrap=50, splits=1, seed=index
        )
        rows = [found[name] for name in NAMES]
        hits += [row.low <= t <= row.high for row, t in zip(rows, truth, strict=True)]
        values.append([row.value for row in rows])
        errors.append([row.stderr for row in rows])
        assert all(row.high - row.low < 8 * row.stderr for row in rows)  # 4 without any bias
    assert (hits >= 81).all()
    # sd of 100 values: 7 %; 5 of those, and 10 % for 50 replicates
    assert np.mean(errors, axis=0) == pytest.approx(np.std(values, axis=0), rel=0.4)


def test_equal_values_have_no_spread() -> None:
    """The mean of equal numbers need not be that number: 0.1 ten times over, by any sum."""
    assert any(np.full(n, 0.1).std() > 0 for n in range(2, 40))
    for n in range(2, 40):
        assert sample_sd(np.full(n, 0.1)) == 0
        assert (sample_sd(np.full((n, 3), [0.1, 0.7, 1e-300]), axis=0) == 0).all()
    values = np.array([1.0, 1.0 + 1e-12, 1.0 + 3e-12])
    assert sample_sd(values) == np.std(values, ddof=1) > 0


def test_exact_against_exact_has_no_noise() -> None:
    p, q = zipf(300), zipf(300, 1.3)
    a, b = (WeightedFunctions(16, WORDS[:300], x, math.inf, 4) for x in (p, q))
    found = compare(a, b, bootstrap=5, splits=2)
    for name, true in zip(NAMES, distances(p, q), strict=True):
        row = found[name]
        assert (row.value, row.high) == pytest.approx((true, true), rel=1e-9)
        assert row.low == pytest.approx(true, rel=1e-6)
        assert row.stderr == 0 and row.noise_ceiling_a == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize(
    ("p", "ess", "message"),
    [
        ([0.5, 0.6], 10.0, r"sum 1\.1"), ([1.0, 0.0], 10.0, "positive numbers"),
        ([0.5, 0.5], 0.0, "ess"), ([0.5, 0.5], [1.0, 2.0, 3.0], "ess"),
    ],
)  # fmt: skip
def test_bad_weights_are_refused(p: list[float], ess: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        WeightedFunctions(16, WORDS[:2], np.array(p), ess)


def test_a_function_given_twice_is_refused() -> None:
    with pytest.raises(InputError, match="given twice"):
        WeightedFunctions(16, WORDS[[3, 3]], np.array([0.5, 0.5]), 5.0)
