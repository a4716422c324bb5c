"""Good-Turing against the true unseen mass of random DNF networks, independent and clustered."""

import math

import numpy as np
import pytest
from scipy.stats import binom, chi2, norm

from simprior.boolean.sampling.dnf import RandomDNF, count_dnf_chunk, exact_probabilities
from simprior.boolean.sampling.unseen import Unseen, good_turing, singleton_dispersion
from simprior.errors import InputError
from simprior.numerics.random import generator, philox_key

FALSE_ALARM = 1e-6


def assert_calibrated(estimates: list[Unseen], truths: list[float]) -> None:
    """Coverage, mean and spread of z over repeats; three checks, FALSE_ALARM each."""
    mass, stderr, low, high = np.array([(e.mass, e.stderr, e.low, e.high) for e in estimates]).T
    truth, n = np.array(truths), len(truths)
    covered = ((low <= truth) & (truth <= high)).sum()
    # the interval rests on a normal approximation: true coverage 0.945 to 0.965 is accepted
    assert binom.ppf(FALSE_ALARM, n, 0.945) <= covered <= binom.isf(FALSE_ALARM, n, 0.965)
    z = (mass - truth) / stderr
    assert abs(z.mean()) < norm.isf(FALSE_ALARM / 2) / math.sqrt(n) * max(1.0, z.std())
    spread = z.var(ddof=1)  # 10 % off in the standard error is accepted
    assert 0.81 * chi2.ppf(FALSE_ALARM, n - 1) < (n - 1) * spread
    assert (n - 1) * spread < 1.21 * chi2.isf(FALSE_ALARM, n - 1)


@pytest.mark.slow
@pytest.mark.parametrize(("samples", "repeats"), [(10**4, 500), (10**5, 300), (10**6, 100)])
def test_independent_samples_cover_the_true_unseen_mass(samples: int, repeats: int) -> None:
    dnf, key = RandomDNF(4, 1), philox_key(21, "unseen")
    p = exact_probabilities(dnf)
    estimates, truths = [], []
    for r in range(repeats):
        count = count_dnf_chunk(dnf, key, r * samples, (r + 1) * samples)
        estimates.append(good_turing(count[count > 0], None, None, samples))
        truths.append(float(p[count == 0].sum()))
    assert_calibrated(estimates, truths)


@pytest.mark.slow
@pytest.mark.parametrize(("samples", "fraction"), [(10**4, 0.25), (10**5, 0.1)])
def test_a_random_part_of_the_functions_estimates_the_whole_mass(samples, fraction) -> None:
    dnf, key, rng = RandomDNF(4, 1), philox_key(27, "unseen"), generator(27, "kept")
    p = exact_probabilities(dnf)
    estimates, truths = [], []
    for r in range(400):
        count = count_dnf_chunk(dnf, key, r * samples, (r + 1) * samples)
        kept = (rng.random(p.size) < fraction) & (count > 0)
        estimates.append(good_turing(count[kept], None, None, samples, fraction=fraction))
        truths.append(float(p[count == 0].sum()))
    assert_calibrated(estimates, truths)


def expected_unseen(p: np.ndarray, samples: int) -> tuple[float, float]:
    """Mean and standard deviation of the number of functions that N draws leave unseen."""
    missed = np.exp(samples * np.log1p(-p))
    return float(missed.sum()), math.sqrt((missed * (1 - missed)).sum())


def test_expected_number_of_unseen_functions() -> None:
    mean, sd = expected_unseen(exact_probabilities(RandomDNF(4, 1)), 10**8)
    assert mean == pytest.approx(656.9, abs=0.05)  # the digits of the published design
    assert sd == pytest.approx(18.4, abs=0.05)
    # the same formula against draws that take a fraction of a second: 4.9 sd, false alarm 1e-6
    mean, sd = expected_unseen(exact_probabilities(RandomDNF(4, 1)), 10**7)
    count = count_dnf_chunk(RandomDNF(4, 1), philox_key(22, "unseen"), 0, 10**7)
    assert abs((count == 0).sum() - mean) < 4.9 * sd


@pytest.mark.slow
def test_unseen_functions_in_1e7_draws() -> None:
    """Of 1e8 by ``sample``: tests/test_published.py."""
    p, draws = exact_probabilities(RandomDNF(4, 1)), 10**7
    mean, sd = expected_unseen(p, draws)
    count = count_dnf_chunk(RandomDNF(4, 1), philox_key(23, "unseen"), 0, draws)
    assert abs((count == 0).sum() - mean) < 4 * sd  # false alarm 6e-5
    estimate = good_turing(count[count > 0], None, None, draws, level=0.9999)
    assert estimate.low <= p[count == 0].sum() <= estimate.high


def clustered_run(
    laws: np.ndarray, weights: np.ndarray, clusters: int, heads: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Counts k, K, q of every function, and S_c, where each cluster draws from one of the laws."""
    size = laws.shape[1]
    kind = rng.choice(len(weights), clusters, p=weights)
    drawn = np.empty((clusters, heads), dtype=np.int64)
    for j, law in enumerate(laws):
        cdf = np.cumsum(law)
        u = rng.random(((kind == j).sum(), heads)) * cdf[-1]
        drawn[kind == j] = np.searchsorted(cdf, u, side="right")
    keys = np.repeat(np.arange(clusters), heads) * size + drawn.ravel()
    pairs, n = np.unique(keys, return_counts=True)
    function, cluster = pairs % size, pairs // size
    met = np.bincount(function, minlength=size)
    singles = np.bincount(cluster, n * (met[function] == 1), minlength=clusters)
    return (
        np.bincount(function, n, size), met, np.bincount(function, n.astype(float) ** 2, size),
        singles,
    )  # fmt: skip


def laws_of_two_kinds() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Cluster laws with known mixture: tempered (some clusters rich in rare functions), boosted."""
    p = exact_probabilities(RandomDNF(4, 1))
    tempered = np.stack([p**t / (p**t).sum() for t in (2.0, 1.0, 0.5)])
    rng = generator(24, "boost")
    boost = np.where(rng.random((40, p.size)) < 0.05, 20.0, 1.0) * p
    boosted = boost / boost.sum(axis=1, keepdims=True)
    return {
        "tempered": (tempered, np.array([0.5, 0.3, 0.2])),
        "boosted": (boosted, np.full(40, 1 / 40)),
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tempered", "boosted"])
def test_clustered_samples_cover_the_true_unseen_mass(kind: str) -> None:
    (laws, weights), rng = laws_of_two_kinds()[kind], generator(25, kind)
    clusters, heads, repeats = 500, 48, 300
    p, estimates, naive, truths = weights @ laws, [], [], []
    for _ in range(repeats):
        k, met, q, singles = clustered_run(laws, weights, clusters, heads, rng)
        seen, n = k > 0, clusters * heads
        columns = k[seen], met[seen], q[seen]
        estimates.append(good_turing(*columns, n, dispersion=singleton_dispersion(singles)))
        naive.append(good_turing(*columns, n))
        truths.append(float(p[~seen].sum()))
    assert_calibrated(estimates, truths)
    if kind == "tempered":  # the dispersion is not decoration: without it the interval fails
        with pytest.raises(AssertionError):
            assert_calibrated(naive, truths)


def test_clustered_estimate_is_unbiased_for_a_left_out_cluster() -> None:
    # exact: E[U^] = E[mass unseen in C - 1 clusters], here against independent runs of C - 1
    (laws, weights), rng = laws_of_two_kinds()["tempered"], generator(26, "left-out")
    clusters, heads, repeats = 20, 16, 400
    p, estimated, missed = weights @ laws, [], []
    for _ in range(repeats):
        k, met, q, _ = clustered_run(laws, weights, clusters, heads, rng)
        seen = k > 0
        estimated.append(good_turing(k[seen], met[seen], q[seen], clusters * heads).mass)
        k, *_ = clustered_run(laws, weights, clusters - 1, heads, rng)
        missed.append(p[k == 0].sum())
    error = math.sqrt((np.var(estimated) + np.var(missed)) / repeats)
    assert abs(np.mean(estimated) - np.mean(missed)) < 4.9 * error  # false alarm 1e-6


def test_independent_samples_give_esty_1983() -> None:
    count = np.array([1] * 30 + [2] * 10 + [5, 12, 133])
    n = count.sum()
    estimate = good_turing(count, None, None, n)
    assert estimate.mass == pytest.approx(30 / n, rel=1e-15)
    assert estimate.stderr == pytest.approx(math.sqrt(30 * (1 - 30 / n) + 20) / n, rel=1e-15)


def test_clusters_enter_the_variance_as_derived() -> None:
    # K=1 with k = 1, 1, 4; K=2 with counts (1, 3); a common function
    k, met, q = (
        np.array([1, 1, 4, 4, 90]),
        np.array([1, 1, 1, 2, 10]),
        np.array([1, 1, 16, 10, 900]),
    )
    estimate = good_turing(k, met, q, 100)
    assert estimate.mass == pytest.approx(0.06)
    assert estimate.stderr == pytest.approx(math.sqrt(1 + 1 + 16 + 2 * 1 * 3) / 100)
    wider = good_turing(k, met, q, 100, dispersion=10.0)
    assert wider.stderr == pytest.approx(math.sqrt(10 * 6 + 6) / 100)
    assert wider.low < estimate.low < estimate.mass < estimate.high < wider.high


def test_interval_does_not_collapse_without_singletons() -> None:
    estimate = good_turing(np.array([400, 600]), None, None, 1000)
    assert (estimate.mass, estimate.stderr, estimate.low) == (0.0, 0.001, 0.0)  # one met once
    assert estimate.high == pytest.approx(norm.ppf(0.975) ** 2 / 1000, rel=0.01)
    # exact binomial bound for an event never met in 1000 draws, same tail: 1 - 0.025^(1/1000)
    assert estimate.high > 1 - 0.025**0.001
    all_new = good_turing(np.ones(7), None, None, 7)
    assert all_new.mass == all_new.high == 1.0
    assert 0.4 < all_new.low < 1.0
    only_pairs = good_turing(np.full(50, 2), None, None, 100)
    assert only_pairs.low == 0.0
    assert only_pairs.high > 0.15


def test_bursts_of_frequent_functions_widen_an_empty_estimate() -> None:
    k, met, q = np.array([480, 480]), np.array([10, 12]), np.array([480 * 48, 480 * 40])
    clustered, plain = good_turing(k, met, q, 960), good_turing(k, None, None, 960)
    assert clustered.high == pytest.approx(48 * norm.ppf(0.975) ** 2 / 960)
    assert plain.high < clustered.high


def test_singleton_dispersion() -> None:
    assert singleton_dispersion(np.array([3, 3, 3, 3])) == 1.0
    assert singleton_dispersion(np.zeros(4)) == singleton_dispersion(np.empty(0)) == 1.0
    assert singleton_dispersion(np.array([0, 0, 0, 12])) == pytest.approx(12.0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (([1, 2], None, None, 4), "samples=4"),
        (([1, 2], [1, 1], None, 3), "one of clusters and sumsq"),
        (([1, 2], [1, 3], [1, 4], 3), "2, 2 and 2 functions"),
        (([1, 0], None, None, 1), "2, 2 and 2 functions"),
        (([1, 2], [1], [1, 4], 3), "2, 1 and 2 functions"),
        (([], None, None, 0), "samples=0"),
        (([1, 2], None, None, 3, 95), "level=95"),
        (([1, 2], None, None, 3, 0.95, 1.0, 0.0), "fraction=0.0"),
        (([1, 2], None, None, 2, 0.95, 1.0, 0.5), "samples=2"),
    ],
)
def test_bad_input_is_named_in_one_line(arguments, words) -> None:
    with pytest.raises(InputError, match=r"expected .*; ") as caught:
        good_turing(*arguments)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
