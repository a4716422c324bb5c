"""Confidence intervals of counts: exact coverage, sampled coverage, clustered samples."""

import math

import numpy as np
import pytest
from scipy.stats import beta, binom

from simprior.boolean.sampling.dnf import RandomDNF, count_dnf_chunk, exact_probabilities
from simprior.errors import InputError
from simprior.numerics import estimate
from simprior.numerics.estimate import clopper_pearson, design_effect, korn_graubard
from simprior.numerics.random import generator, philox_key


def test_clopper_pearson_inverts_the_binomial_tails() -> None:
    for n in (10, 1000, 10**9):
        for k in (1, 2, 7, n // 2, n - 1):
            low, high = clopper_pearson(np.array(k), n, level=0.9)
            assert binom.sf(k - 1, n, low) == pytest.approx(0.05, rel=1e-5)
            assert binom.cdf(k, n, high) == pytest.approx(0.05, rel=1e-5)


def test_clopper_pearson_at_the_ends() -> None:
    low, high = clopper_pearson(np.array([0, 10, 0.0]), np.array([10, 10, 0.5]))
    assert low[0] == low[2] == 0.0
    assert high[1] == 1.0
    assert high[0] == pytest.approx(1 - 0.025**0.1, rel=1e-12)
    assert low[1] == pytest.approx(0.025**0.1, rel=1e-12)
    assert high[2] == pytest.approx(1 - 0.025**2, rel=1e-12)
    empty = clopper_pearson(np.empty(0), 10)
    assert empty[0].shape == empty[1].shape == (0,)


def test_clopper_pearson_of_real_counts_is_monotone_between_integers() -> None:
    k = np.linspace(0, 50, 401)
    low, high = clopper_pearson(k, 50.0)
    assert (np.diff(low) > 0).all()
    assert (np.diff(high[:-1]) > 0).all()
    inner = (k > 0) & (k < 50)
    np.testing.assert_allclose(low[inner], beta.ppf(0.025, k[inner], 51 - k[inner]), rtol=1e-9)


def test_blocks_and_repeated_pairs_do_not_change_the_bounds(monkeypatch) -> None:
    rng = generator(31, "pairs")
    k = rng.poisson(3, (7, 40)).astype(float)
    n = 1000.0 * rng.integers(1, 4, 40)
    one_by_one = [clopper_pearson(np.array(a), b) for a, b in np.broadcast(k, n)]
    expected = np.array(one_by_one).T.reshape(2, 7, 40)
    np.testing.assert_array_equal(clopper_pearson(k, n), expected)
    monkeypatch.setattr(estimate, "_BLOCK", 64)
    np.testing.assert_array_equal(clopper_pearson(k, n), expected)


def exact_coverage(p: np.ndarray, samples: int) -> np.ndarray:
    """P(interval covers p) under the binomial law, by summing it: no sampling."""
    mean = samples * p.max()
    low, high = clopper_pearson(np.arange(int(mean + 12 * math.sqrt(mean) + 40)), samples)
    first, last = np.searchsorted(high, p, "left"), np.searchsorted(low, p, "right") - 1
    return np.asarray(binom.cdf(last, samples, p) - binom.cdf(first - 1, samples, p))


@pytest.mark.parametrize("samples", [10**4, 10**6])
def test_exact_coverage_over_all_65536_functions(samples: int) -> None:
    # counts are discrete: no interval covers 95 % exactly. Clopper-Pearson never covers less;
    # over functions expected 100 times or more it covers 95 to 96 %
    law = exact_probabilities(RandomDNF(4, 1))
    p, functions = np.unique(law, return_counts=True)
    coverage = exact_coverage(p, samples)
    assert coverage.min() >= 0.95 - 1e-9
    often = samples * p >= 100
    assert functions[often].sum() >= 2
    assert (coverage[often] <= 0.96).all()


@pytest.mark.slow
def test_sampled_coverage_over_functions_and_repeats() -> None:
    samples, repeats = 10**6, 60
    p, key = exact_probabilities(RandomDNF(4, 1)), philox_key(32, "coverage")
    often = p * samples >= 100
    assert often.sum() > 1000
    covered = np.empty((repeats, 2))
    for r in range(repeats):
        count = count_dnf_chunk(RandomDNF(4, 1), key, r * samples, (r + 1) * samples)
        low, high = clopper_pearson(count, samples)
        inside = (low <= p) & (p <= high)
        covered[r] = inside[often].mean(), inside.mean()
    mean, error = covered.mean(axis=0), covered.std(axis=0, ddof=1) / math.sqrt(repeats)
    assert 0.94 <= mean[0] <= 0.96
    # against the exact coverages: 5.5 estimated standard errors (59 degrees of freedom), 1e-6
    exact = exact_coverage(p, samples)
    assert abs(mean[0] - exact[often].mean()) < 5.5 * error[0]
    assert abs(mean[1] - exact.mean()) < 5.5 * error[1]


def beta_binomial(
    p: float, rho: float, clusters: int, heads: int, runs: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns k, K, q of one function in ``runs`` runs; within-cluster correlation ``rho``."""
    scale = 1 / rho - 1
    chance = rng.beta(p * scale, (1 - p) * scale, (runs, clusters))
    n = rng.binomial(heads, chance).astype(float)
    return n.sum(axis=1), (n > 0).sum(axis=1), (n**2).sum(axis=1)


@pytest.mark.parametrize("p", [0.36, 0.02])
def test_design_effect_of_a_beta_binomial_is_1_plus_r_minus_1_rho(p: float) -> None:
    clusters, heads, rho, runs = 2000, 48, 0.01, 200
    columns = beta_binomial(p, rho, clusters, heads, runs, generator(33, f"beta/{p}"))
    effects = [
        design_effect(*(c[i] for c in columns), samples=clusters * heads, total_clusters=clusters)
        for i in range(runs)
    ]
    mean, error = np.mean(effects), np.std(effects) / math.sqrt(runs)
    assert abs(mean - (1 + (heads - 1) * rho)) < 4.9 * error  # false alarm 1e-6
    # it is what it says: the variance of the estimate over the binomial variance; the ratio of
    # a sample variance has relative standard deviation sqrt(2 / runs)
    ratio = columns[0].var(ddof=1) / (clusters * heads * p * (1 - p))
    assert abs(ratio / mean - 1) < 4.9 * math.sqrt(2 / runs)


@pytest.mark.parametrize(("p", "clusters"), [(0.36, 30), (0.36, 1000), (0.02, 200)])
def test_korn_graubard_covers_clustered_samples(p: float, clusters: int) -> None:
    heads, runs = 48, 2000
    columns = beta_binomial(p, 0.05, clusters, heads, runs, generator(34, f"kg/{p}/{clusters}"))
    samples = clusters * heads
    effect = np.array(
        [design_effect(*(c[i] for c in columns), samples, clusters)[0] for i in range(runs)]
    )
    low, high = korn_graubard(columns[0], samples, effect, clusters=clusters)
    covered = ((low <= p) & (p <= high)).sum()
    # true coverage 0.94 to 0.98 accepted, 1e-6 each side
    assert binom.ppf(1e-6, runs, 0.94) <= covered <= binom.isf(1e-6, runs, 0.98)
    plain_low, plain_high = clopper_pearson(columns[0], samples)
    assert ((plain_low <= p) & (p <= plain_high)).mean() < 0.85  # ignoring clusters fails


BURSTS = {
    "none": lambda rng, size: np.ones(size),
    "mild": lambda rng, size: rng.logseries(0.5, size),
    "geometric": lambda rng, size: rng.geometric(0.2, size),
    "rare-large": lambda rng, size: np.where(rng.random(size) < 0.05, 48.0, 1.0),
}


@pytest.mark.parametrize("law", sorted(BURSTS))
@pytest.mark.parametrize("expected_clusters", [0.3, 3.0, 30.0, 300.0])
def test_rare_bursty_functions_do_not_under_cover(law: str, expected_clusters: float) -> None:
    # functions of the same law, met in Poisson(expected_clusters) clusters each
    functions, samples, total = 4000, 48 * 10**7, 10**7
    rng = generator(35, f"{law}/{expected_clusters}")
    met = rng.poisson(expected_clusters, functions)
    size = BURSTS[law](rng, int(met.sum())).astype(float)
    owner = np.repeat(np.arange(functions), met)
    k, q = np.bincount(owner, size, functions), np.bincount(owner, size**2, functions)
    p = expected_clusters * BURSTS[law](rng, 10**6).mean() / samples
    seen = k > 0
    effect = design_effect(k[seen], met[seen], q[seen], samples, total)
    low, high = korn_graubard(k[seen], samples, effect)
    # a function met in no cluster has the interval from 0 to 3.69 E[B^2] / E[B] / samples, which
    # holds p for expected_clusters <= 3.69; at 30 and 300 every function is met
    covered = ((low <= p) & (p <= high)).sum() + (~seen).sum()
    assert covered >= binom.ppf(1e-6, functions, 0.94)
    # and where there are no bursts nothing is lost
    if law == "none":
        np.testing.assert_allclose(effect, 1.0, rtol=1e-6)


def test_design_effect_lies_between_1_and_heads() -> None:
    assert design_effect([7], [7], [7], 480, 480)[0] == 1.0  # R = 1
    assert design_effect([48], [1], [48**2], 4800, 100)[0] == pytest.approx(48.0, rel=0.02)
    assert design_effect([5], [1], [25], 48, 1)[0] == 48.0  # one cluster says nothing: the worst
    even = design_effect([2400], [100], [100 * 24**2], 4800, 100)  # no variance between clusters
    assert even[0] == 1.0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: clopper_pearson(np.array([1, 5]), 4), "count=5 of trials=4"),
        (lambda: clopper_pearson(np.array([-1]), 4), "count=-1"),
        (lambda: clopper_pearson(np.array([math.nan]), 4), "count=nan"),
        (lambda: clopper_pearson(np.array([0]), 0), "trials=0"),
        (lambda: clopper_pearson(np.array([1]), 4, level=95), "level=95"),
        (lambda: korn_graubard(np.array([1]), 4, 1.0, level=1.0, clusters=2), "level=1.0"),
        (lambda: design_effect([1, 2], [1], [1, 2], 10, 5), "2, 1 and 2 functions"),
        (lambda: design_effect([1], [2], [1], 10, 5), "1, 1 and 1 functions"),
        (lambda: design_effect([1], [1], [1], 10, 20), "total_clusters=20"),
    ],
)
def test_bad_input_is_named_in_one_line(call, words) -> None:
    with pytest.raises(InputError, match=r"expected .*; ") as caught:
        call()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
