"""The numbers that the project is held to: published and exact probabilities of functions.

Monte-Carlo values are compared within 4 standard errors of both sides (two-sided false alarm 6e-5
a comparison); chi-square and coverage tests state their own rate.
"""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from scipy import integrate, special, stats

from simprior import Network
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.sampling.dnf import RandomDNF, exact_probabilities
from simprior.boolean.sampling.sample import sample

pytestmark = pytest.mark.slow

LEVEL = 4.0


def constants(counts: FunctionCounts) -> tuple[np.ndarray, np.ndarray]:
    """P and standard error (by cluster) of the two constant functions."""
    frame = counts.ones_frame().iloc[[0, counts.m]]
    return frame.p.to_numpy(), frame.stderr.to_numpy()


def agrees(found: float, error: float, value: float, its_error: float) -> None:
    assert abs(found - value) < LEVEL * math.hypot(error, its_error)


def test_constant_functions_of_the_default_network() -> None:
    """0.36405 +- 0.00002, and the same for constant 1 by symmetry."""
    p, error = constants(sample(Network(), samples=4 * 10**7, seed=0))
    assert (error < 1e-4).all()
    for side in range(2):
        agrees(p[side], error[side], 0.36405, 0.00002)


def test_independent_networks_too() -> None:
    p, error = constants(sample(Network(), samples=10**6, seed=3, heads=1))
    for side in range(2):
        agrees(p[side], error[side], 0.36405, 0.00002)


def test_without_biases_zero_maps_to_zero() -> None:
    """0.0622 +- 0.0001, and constant 1 never, since f(0) = 0."""
    counts = sample(Network(sigma_b=0.0), samples=10**7, seed=0)
    p, error = constants(counts)
    agrees(p[0], error[0], 0.0622, 0.0001)
    assert p[1] == 0 and not (counts.words[:, 0] >> np.uint64(63)).any()


def test_uniform_weights() -> None:
    p, error = constants(sample(Network(weight_dist="uniform"), samples=10**7, seed=0))
    for side in range(2):
        agrees(p[side], error[side], 0.3705, 0.0011)


def test_plus_minus_one_inputs() -> None:
    p, error = constants(sample(Network(encoding="pm1"), samples=10**7, seed=0))
    for side in range(2):
        agrees(p[side], error[side], 0.2600, 0.0002)


# ------------------------------------------------ perceptrons: exact values


def perceptron_constant(n: int, sigma_w: float, sigma_b: float) -> float:
    """P(b + sum of the positive weights <= 0), exact.

    S = sum max(w_i, 0) with w_i ~ N(0, s^2), s = sigma_w / sqrt(n): with k positive weights the sum
    of k half-normals. E Phi(-S / sigma_b) by Gauss-Legendre quadrature of the characteristic
    function, P(b + S <= 0) = 1/2 - (1/pi) int_0^inf Im[phi_b(u) phi_S(u)] / u du (Gil-Pelaez 1951).
    """
    s = sigma_w / math.sqrt(n)

    def imaginary(u: float) -> float:
        # E exp(iu max(w, 0)) = 1/2 + exp(-v^2/2) (1 + i erfi(v / sqrt 2)) / 2, v = s u; the
        # product is the Faddeeva function w(v / sqrt 2), which does not overflow
        one = 0.5 + 0.5 * special.wofz(s * u / math.sqrt(2))
        return float((np.exp(-((sigma_b * u) ** 2) / 2) * one**n).imag / u)

    value, error = integrate.quad(imaginary, 0, 40 / sigma_b, limit=500, epsabs=1e-11)
    assert error < 1e-8
    return 0.5 - value / math.pi


def test_perceptron_with_biases() -> None:
    exact = perceptron_constant(7, 1.0, 1.0)
    assert exact == pytest.approx(0.18124, abs=5e-6)
    # a one-bit check of the formula: P(b <= 0 and b + w <= 0) = 1/4 + asin(1 / sqrt 2) / 2 pi
    assert perceptron_constant(1, 1.0, 1.0) == pytest.approx(3 / 8, abs=1e-8)
    p, error = constants(sample(Network(hidden=()), samples=2 * 10**7, seed=0))
    for side in range(2):
        agrees(p[side], error[side], exact, 0.0)


def test_bias_free_perceptron_has_uniform_number_of_ones() -> None:
    """P(t) = 1/128 for t = 0..127 (Mingard et al. 2019): 2e7 samples, and the p-values of 30 runs
    of 2e5 are uniform (each of the two fails once in 1e4 draws of the seeds). Values of P(t) that
    are 0.24 % off, root mean square, are found in 19 draws of 20."""
    network = Network(hidden=(), sigma_b=0.0)

    def p_value(samples: int, seed: int) -> float:
        t = sample(network, samples=samples, seed=seed).ones[:, 0]
        assert t[128] == 0
        return float(stats.chisquare(t[:128]).pvalue)

    assert p_value(2 * 10**7, 5) > 1e-4
    values = [p_value(2 * 10**5, 100 + seed) for seed in range(30)]
    assert stats.kstest(values, "uniform").pvalue > 1e-4


def test_two_bit_perceptrons_by_angles() -> None:
    """n = 2, sigma_b = 0, {0,1}: the six functions of (w1, w2), each a sector of the plane."""
    counts = sample(Network(n=2, hidden=(), sigma_b=0.0), samples=4 * 10**6, seed=0)
    exact = {
        "0000": 1 / 4,
        "0111": 1 / 4,
        "0100": 1 / 8,
        "0101": 1 / 8,
        "0010": 1 / 8,
        "0011": 1 / 8,
    }
    assert len(counts) == 6
    k = counts.count[counts.find(list(exact))]
    assert stats.chisquare(k, np.array(list(exact.values())) * counts.samples).pvalue > 1e-4


# ------------------------------------------------ random DNF networks: all of n = 4 exact


@pytest.mark.parametrize(("alpha", "constant"), [(1, 0.0486071), (2, 0.295990), (4, 0.489021)])
def test_random_dnf_at_four_bits(alpha: float, constant: float) -> None:
    """All 65,536 probabilities by chi-square (functions expected less than 10 times in one bin)."""
    model, samples = RandomDNF(n=4, alpha=alpha), 4 * 10**6
    exact = exact_probabilities(model)
    assert exact.sum() == pytest.approx(1, abs=1e-12)
    counts = sample(model, samples=samples, seed=1)
    p, _ = constants(counts)
    assert exact[0] == exact[-1] == pytest.approx(constant, rel=2e-6)
    observed = np.zeros(65536)
    observed[(counts.words[:, 0] >> np.uint64(48)).astype(np.int64)] = counts.count
    assert observed.sum() == samples and not observed[exact == 0].any()
    rare = exact * samples < 10
    o = np.append(observed[~rare], observed[rare].sum())
    e = np.append(exact[~rare], exact[rare].sum()) * samples
    keep = e > 0
    assert stats.chisquare(o[keep], e[keep] * o.sum() / e.sum()).pvalue > 1e-4
    for side in range(2):
        agrees(p[side], math.sqrt(exact[0] * (1 - exact[0]) / samples), exact[0], 0.0)


def test_intervals_of_the_random_dnf_cover() -> None:
    """95 +- 1 % over functions and repeats, for functions expected at least 20 times.

    Clopper-Pearson is exact and so a little conservative: at counts of 20 it covers up to 97 %;
    weighting every function alike the mean over these must lie in 0.94..0.97.
    """
    model, samples = RandomDNF(n=4), 10**6
    exact = exact_probabilities(model)
    wanted = np.flatnonzero(exact * samples >= 20)
    inside = total = 0
    for seed in range(10):
        counts = sample(model, samples=samples, seed=50 + seed)
        index = (counts.words[:, 0] >> np.uint64(48)).astype(np.int64)
        low, high = np.zeros(65536), np.zeros(65536)
        low[index], high[index] = counts.intervals()
        inside += int(((low <= exact) & (exact <= high))[wanted].sum())
        total += len(wanted)
    assert total > 5000 and 0.94 < inside / total < 0.97


def test_functions_left_unseen_by_the_random_dnf() -> None:
    """alpha = 1: 1e8 draws leave 656.9 +- 18.4 functions unseen."""
    model = RandomDNF(n=4)
    exact = exact_probabilities(model)
    miss = np.exp(1e8 * np.log1p(-exact))
    mean, spread = miss.sum(), math.sqrt((miss * (1 - miss)).sum())
    assert mean == pytest.approx(656.9, abs=0.05) and spread == pytest.approx(18.4, abs=0.05)
    counts = sample(model, samples=10**8, seed=0)
    assert abs(65536 - counts.functions - mean) < LEVEL * spread
    seen = (counts.words[:, 0] >> np.uint64(48)).astype(np.int64)
    u, mass = counts.unseen, 1 - exact[seen].sum()
    assert abs(u.mass - mass) < 5 * u.stderr


def test_every_input_pair_of_a_wide_network_is_correlated_as_its_kernel_says() -> None:
    """P(f(x) != f(x')) = arccos(K / sqrt(K K')) / pi for a wide relu network; width 512 deviates
    by order 1/512, well below the tolerance 0.01."""
    net = Network(n=2, hidden=(512,), encoding="pm1", sigma_b=0.0)
    tables = sample(net, samples=10**6, seed=0)
    x = np.array(list(product((-1.0, 1.0), repeat=2)))
    p = tables.count / tables.samples
    values = tables.tables()
    for i in range(4):
        for j in range(i):
            angle = math.acos(np.clip(x[i] @ x[j] / 2, -1, 1))
            k = (math.sin(angle) + (math.pi - angle) * math.cos(angle)) / math.pi
            differ = float(p[values[:, i] != values[:, j]].sum())
            assert abs(differ - math.acos(k) / math.pi) < 0.01
