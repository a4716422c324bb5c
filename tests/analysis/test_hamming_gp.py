"""Predictions of the infinitely wide network, and exact values of random classifiers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simprior.analysis.strings import predictions as gp
from simprior.analysis.strings.networks import Source, Spec
from simprior.analysis.strings.search import (
    Search,
    expected_flips,
    first_change,
    nearest,
    nearest_distances,
)
from simprior.boolean.truthtable import bit_matrix
from simprior.errors import InputError
from simprior.network.spec import Network

PERCEPTRON = Network(n=1, hidden=(), sigma_b=0.4, encoding="pm1")
WIDE = Network(n=1, hidden=(300, 300), sigma_b=0.0, encoding="pm1")


def _flips(spec: Spec, networks: int, seed: int = 0) -> np.ndarray:
    """(networks,) flips until the class changes, 0 for never."""
    source = Source(spec, seed)
    rng = np.random.default_rng(seed)
    return np.array([
        first_change(source.draw(k).at(rng.integers(0, 2, spec.n)), rng.permutation(spec.n))
        for k in range(networks)
    ])  # fmt: skip


def test_correlations_of_a_perceptron_are_affine() -> None:
    spec = Spec(12, Network(n=1, hidden=(), sigma_w=2.0, sigma_b=1.0, encoding="pm1"))
    expected = (1.0 + 4.0 * (1 - 2 * np.arange(13) / 12)) / 5.0
    assert gp.correlations(spec) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("network", [PERCEPTRON, WIDE], ids=["perceptron", "relu"])
def test_first_flip_is_an_arc_cosine(network: Network) -> None:
    spec = Spec(25, network)
    law = gp.flip_law(spec, 40_000, seed=1)
    p = math.acos(gp.correlations(spec)[1]) / math.pi
    # binomial error; 4.5 standard errors: false alarm 7e-6
    assert abs(law.survival[1] - (1 - p)) < 4.5 * math.sqrt(p * (1 - p) / 40_000)
    assert law.survival[0] == 1.0 and (np.diff(law.survival) <= 0).all()
    assert law.mean == pytest.approx(law.survival[:-1].sum(), rel=1e-9)
    assert law.unchanged == pytest.approx(law.survival[-1], abs=1e-12)


@pytest.mark.parametrize("encoding", ["pm1", "01"])
def test_flips_of_perceptrons_follow_the_prediction(encoding: str) -> None:
    # a perceptron with Gaussian weights is a Gaussian process at every width: no correction
    spec = Spec(20, Network(n=1, hidden=(), sigma_b=0.4, encoding=encoding))
    law = gp.flip_law(spec, 64_000, seed=2)
    times = _flips(spec, 4000)
    used = np.where(times, times, spec.n)
    error = math.hypot(used.std() / math.sqrt(len(used)), law.stderr)
    assert abs(used.mean() - law.mean) < 4.5 * error
    share = (times == 0).mean()
    error = math.hypot(math.sqrt(share * (1 - share) / len(times)), law.unchanged_stderr)
    assert abs(share - law.unchanged) < 4.5 * error


@pytest.mark.slow
def test_wide_networks_follow_the_prediction() -> None:
    # width 300 twice: relative corrections of order 2/300, beyond 4.5 standard errors (7e-6)
    spec = Spec(40, WIDE)
    law = gp.flip_law(spec, 40_000, seed=3)
    times = _flips(spec, 1200)
    used = np.where(times, times, spec.n)
    error = math.hypot(used.std() / math.sqrt(len(used)), law.stderr)
    assert abs(used.mean() - law.mean) < 4.5 * error + 2 / 300 * law.mean


@pytest.mark.parametrize("n", [10, 30])
def test_floor_is_below_the_mean_of_a_gaussian_process(n: int) -> None:
    spec = Spec(n, Network(n=1, hidden=(), sigma_b=0.0, encoding="pm1"))
    source = Source(spec, 4)
    distances = []
    for k in range(1500):
        # exactly: flip the largest contributions to the margin until the sign changes
        w = source.draw(k).weights[0][:, 0].astype(float)
        x = np.random.default_rng(k).integers(0, 2, n)
        parts = (2 * x - 1) * w
        useful = np.sort(parts * np.sign(parts.sum()))[::-1]
        distances.append(int(np.argmax(np.cumsum(2 * useful) >= abs(parts.sum()))) + 1)
        if k < 50:
            assert nearest(source.draw(k).at(x), Search(2, 8, 0)).distance == distances[-1]
    mean, error = np.mean(distances), np.std(distances) / math.sqrt(len(distances))
    floor = gp.distance_floor(spec)
    assert floor < mean + 4.5 * error  # false alarm 3e-6, more rarely the further it lies below
    expected, bound = _perceptron_floor(n)
    assert abs(floor - expected) <= bound


def _perceptron_floor(n: int) -> tuple[float, float]:
    """The floor by adaptive quadrature over z_0 (rho_h = 1 - 2 h / n), and how far the mean over
    4,096 midpoints of equal probability can be off: each term rises from 0 to at most 1 with
    |z_0|, and the midpoint rule is off by at most half a cell's width times the rise."""
    from scipy.integrate import quad
    from scipy.stats import norm

    def left(z: float, h: int) -> float:
        inner = np.arange(1, h + 1)
        rho = 1 - 2 * inner / n
        p = norm.cdf(-rho * z / np.sqrt(1 - rho**2))
        number = np.array([math.comb(n, int(i)) for i in inner])
        return 2 * float(norm.pdf(z)) * max(0.0, 1.0 - float(p @ number))

    terms = [quad(left, 0, 10, (h,), limit=200)[0] for h in range(1, n)]
    return 1 + sum(terms), sum(t > 0 for t in terms) * 0.5 / 4096


def test_floor_against_direct_summation() -> None:
    # the same expectation by Monte Carlo over z_0, strings counted one by one
    n = 9
    spec = Spec(n, WIDE)
    rho = gp.correlations(spec)
    weights = bit_matrix(n).sum(axis=1).astype(int)[1:]
    z = np.abs(np.random.default_rng(0).standard_normal(20_000))
    from scipy.stats import norm

    parts = [np.ones(len(z))]
    total = np.zeros(len(z))
    for h in range(1, n + 1):
        for _ in range(int((weights == h).sum())):
            total += norm.cdf(-rho[h] * z / math.sqrt(1 - rho[h] ** 2))
        parts.append(np.maximum(0.0, 1.0 - total))
    draws = np.sum(parts, axis=0)
    error = draws.std() / math.sqrt(len(draws))
    assert abs(gp.distance_floor(spec) - draws.mean()) < 4.5 * error


def test_floor_approaches_the_asymptote() -> None:
    # h* = sqrt(n/(2 pi ln n)) to leading order for relu without biases; the next terms are of
    # relative order ln ln n / ln n, so that only the trend is checked
    ratios = [gp.distance_floor(Spec(n, WIDE)) / gp.asymptote(n) for n in (200, 800)]
    assert 0.8 < ratios[1] < ratios[0] < 1.2


@pytest.mark.parametrize("n", [1, 2, 3])
def test_uniform_values_are_means_over_all_functions(n: int) -> None:
    m = 1 << n
    tables = (np.arange(1 << m)[:, None] >> np.arange(m)) & 1
    distances = nearest_distances(tables)[:, 0]
    assert gp.uniform_distance(n) == pytest.approx(distances[distances > 0].mean(), rel=1e-12)
    assert gp.uniform_flips(n) == pytest.approx(expected_flips(tables)[0][:, 0].mean(), rel=1e-12)


def test_uniform_values_tend_to_one_and_two() -> None:
    assert gp.uniform_distance(1600) == 1.0
    assert gp.uniform_flips(1600) == 2.0
    assert gp.uniform_distance(7) == pytest.approx(1 + 2.0**-7, abs=1e-8)


@pytest.mark.parametrize("n", [3, 6, 50])
def test_uniform_classifiers_have_the_exact_means(n: int) -> None:
    source = Source(Spec(n, PERCEPTRON, "uniform"), 5)
    rng = np.random.default_rng(0)
    distances, times = [], []
    for k in range(3000):
        centred = source.draw(k).at(rng.integers(0, 2, n))
        distances.append(nearest(centred).distance)
        times.append(first_change(centred, rng.permutation(n)))
    found = np.array([d for d in distances if d])
    used = np.where(times, times, n)
    for values, exact in ((found, gp.uniform_distance(n)), (used, gp.uniform_flips(n))):
        # at n = 50 no distance but 1 is ever met: P(h* > 1) = 2^-50
        error = max(values.std(), 1e-12) / math.sqrt(len(values))
        assert abs(values.mean() - exact) <= 4.5 * error
    # constants: 2 of 2^(2^n) functions
    share = 2.0 ** (1 - 2**n)
    spread = math.sqrt(share / 3000)
    assert abs(np.mean(np.array(distances) == 0) - share) <= 4.5 * spread


def test_uniform_classifier_is_a_function_with_fair_classes() -> None:
    n = 12
    classifier = Source(Spec(n, PERCEPTRON, "uniform"), 6).draw(0)
    strings = bit_matrix(n)
    labels = np.array([classifier.at(s).outputs(classifier.at(s).root)[0] > 0 for s in strings])
    # mean 1/2 and no correlation along any bit: 12 + 1 tests at 4.5 standard errors
    assert abs(labels.mean() - 0.5) < 4.5 * 0.5 / math.sqrt(len(labels))
    for bit in range(n):
        agree = (labels == labels[np.arange(1 << n) ^ (1 << bit)]).mean()
        assert abs(agree - 0.5) < 4.5 * 0.5 / math.sqrt(len(labels) / 2)
    centred = classifier.at(strings[100])
    flipped = centred.outputs(centred.flip(centred.root, np.arange(n))) > 0
    assert (flipped == labels[100 ^ (1 << np.arange(n - 1, -1, -1))]).all()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: gp.flip_law(Spec(9, PERCEPTRON, "uniform")), "classifier='uniform'"),
        (lambda: gp.flip_law(Spec(9, PERCEPTRON), 1), "gp_draws=1: expected at least 2"),
        (lambda: gp.distance_floor(Spec(9, Network(n=1, hidden=(4,)))), "encoding='01'"),
        (
            lambda: gp.flip_law(Spec(9, Network(n=1, weight_dist="uniform", encoding="pm1"))),
            "weight_dist='uniform'",
        ),
    ],
)
def test_bad_input(call, text: str) -> None:
    with pytest.raises(InputError, match=text):
        call()
