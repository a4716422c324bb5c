"""The default estimator: right on what is known, the same in any batch, honest about its limits.

Values are compared within 4 standard errors: a false alarm in 16,000 comparisons.
"""

import math

import numpy as np
import pytest
from orthants import N5, equicorrelated, event, kernel, table

from simprior.errors import InputError, NumericalError
from simprior.gp.covariance import Infeasible
from simprior.gp.ep import fit_sites
from simprior.gp.orthant import iter_log_prior, log_prior
from simprior.gp.tilted import prepare, smc, tilted, tilted_draws

SIGMAS = 4.0


@pytest.mark.parametrize("name", list(N5))
def test_reference_values(name: str) -> None:
    expected, error = N5[name]
    result = log_prior(table(name, 5), kernel(5), draws=20_000)[0]
    assert abs(result.value - expected) < SIGMAS * math.hypot(result.stderr, error)
    assert 0 < result.stderr < 0.01
    assert result.diagnostics["converged"] and result.diagnostics["reliable"]
    assert result.ess > 0.4 * 20_000


@pytest.mark.parametrize("m", [2, 3, 10, 128, pytest.param(512, marks=pytest.mark.slow)])
def test_equicorrelated_half(m: int) -> None:
    result = tilted(event(np.ones(m, int), equicorrelated(m, 0.5)), draws=16_384)
    assert result.value == pytest.approx(-math.log(m + 1), abs=0.005)
    assert abs(result.value + math.log(m + 1)) < SIGMAS * result.stderr


def test_shifted_orthant_example() -> None:
    """The 100-dimensional example of LinConGauss: independent inputs, so EP is exact."""
    shift = np.random.RandomState(0).randn(100)
    result = log_prior(np.ones(100, int), np.eye(100), mean=shift)[0]
    assert result.value == pytest.approx(math.log(4.4346483368318176e-42), abs=1e-9)


def test_perceptron_constant_in_weight_space() -> None:
    """K has rank 8 on 128 inputs: 120 constraints end on the weights already drawn."""
    result = log_prior(np.zeros(128, int), kernel(7, depth=0), draws=40_000)[0]
    assert result.diagnostics["rank"] == 8
    assert abs(result.value - math.log(0.18124)) < SIGMAS * result.stderr + 0.00003
    assert result.stderr < 0.005


def test_perceptron_without_bias_is_uniform_over_ones() -> None:
    """sigma_b = 0, {0,1}: P(t = 0) = 2^-n (Mingard et al. 2019); input 0 is dropped."""
    K = kernel(5, depth=0, sigma_b=0.0)
    none = log_prior(np.zeros(32, int), K, draws=40_000)[0]
    assert abs(none.value + 5 * math.log(2)) < SIGMAS * none.stderr
    all_ones = log_prior(np.ones(32, int), K)[0]
    assert all_ones.value == -math.inf
    assert all_ones.stderr == 0.0
    assert "1 of zero variance" in all_ones.diagnostics["reason"]


@pytest.mark.parametrize("name", ["parity", "xor2", "random"])
def test_impossible_functions_are_exactly_so(name: str) -> None:
    result = log_prior(table(name, 5), kernel(5, depth=0))[0]
    assert (result.value, result.stderr) == (-math.inf, 0.0)
    assert result.diagnostics["reason"]


@pytest.mark.parametrize("method", ["tilted", "smc", "ep", "liness"])
def test_impossible_function_on_which_the_sites_grow_without_bound(method: str) -> None:
    """EP's information matrix overflows on this one: -inf, and no error that ends a whole table."""
    function = "00000000000001001111101111111111"
    K = kernel(5, depth=0, sigma_w=2.0)
    impossible, possible = log_prior([function, "x1"], K, method, n=5)
    assert (impossible.value, impossible.stderr) == (-math.inf, 0.0)
    assert impossible.diagnostics["converged"] and impossible.diagnostics["reason"]
    assert math.isfinite(possible.value)


def test_diverging_sites_are_reported_as_such() -> None:
    K = kernel(5, depth=0, sigma_w=2.0)
    bits = np.array([int(b) for b in "00000000000001001111101111111111"])
    impossible = event(bits, K)
    sites = fit_sites(impossible.K, impossible.A, impossible.lower, tol=1e-2, max_sweeps=60)
    assert not sites.converged
    with pytest.raises(Infeasible):
        prepare(impossible)


@pytest.mark.slow
def test_total_probability_of_the_perceptron() -> None:
    """All 2^8 functions of 3 bits: the threshold functions carry all the mass."""
    bits = ((np.arange(256)[:, None] >> np.arange(8)) & 1).astype(int)
    results = log_prior(bits, kernel(3, depth=0), draws=512)
    p = np.exp([r.value for r in results])
    assert int((p > 0).sum()) == 104  # threshold functions of 3 variables
    spread = math.sqrt(sum((v * r.stderr) ** 2 for v, r in zip(p, results, strict=True) if v > 0))
    assert abs(p.sum() - 1.0) < SIGMAS * spread


@pytest.mark.slow
def test_total_probability_of_a_deep_kernel() -> None:
    bits = ((np.arange(256)[:, None] >> np.arange(8)) & 1).astype(int)
    results = log_prior(bits, kernel(3), draws=256)
    p = np.exp([r.value for r in results])
    spread = math.sqrt(sum((v * r.stderr) ** 2 for v, r in zip(p, results, strict=True)))
    assert abs(p.sum() - 1.0) < SIGMAS * spread


def test_duplicate_inputs_must_agree() -> None:
    K = kernel(4)
    index = np.r_[np.arange(16), 3, 3]
    K2 = K[np.ix_(index, index)]
    bits = table("majority", 4)
    one, two = log_prior(bits, K)[0], log_prior(bits[index], K2)[0]
    assert abs(one.value - two.value) < SIGMAS * math.hypot(one.stderr, two.stderr)
    wrong = bits[index].copy()
    wrong[-1] = 1 - wrong[-1]
    assert log_prior(wrong, K2)[0].value == -math.inf


def test_permuting_inputs_changes_nothing_but_noise() -> None:
    K, bits = kernel(5), table("majority", 5)
    order = np.random.default_rng(3).permutation(32)
    a = log_prior(bits, K, draws=4096)[0]
    b = log_prior(bits[order], K[np.ix_(order, order)], draws=4096)[0]
    assert abs(a.value - b.value) < SIGMAS * math.hypot(a.stderr, b.stderr)
    assert a.diagnostics["ep"] == pytest.approx(b.diagnostics["ep"], abs=1e-4)


def test_batch_order_and_size_do_not_matter() -> None:
    K = kernel(5)
    tables = np.random.default_rng(0).integers(0, 2, (6, 32))
    together = log_prior(tables, K, seed=5)
    reverse = log_prior(tables[::-1], K, seed=5)[::-1]
    alone = [next(iter_log_prior(t, K, seed=5)) for t in tables]
    for a, b, c in zip(together, reverse, alone, strict=True):
        assert a.value == b.value == c.value
        assert a.stderr == b.stderr == c.stderr
    other = log_prior(tables, K, seed=6)
    assert all(a.value != b.value for a, b in zip(together, other, strict=True))


def test_wanted_error_is_reached_or_its_absence_said() -> None:
    K, bits = kernel(5), table("x1", 5)
    reached = log_prior(bits, K, draws=64, tol=0.01)[0]
    assert reached.stderr <= 0.01
    assert reached.diagnostics["reliable"]
    capped = log_prior(bits, K, draws=64, tol=1e-4, max_draws=256)[0]
    assert capped.stderr > 1e-4
    assert not capped.diagnostics["reliable"]


def test_depth_20_parity_needs_no_jitter() -> None:
    """A relative jitter of 1e-6 moves this by tens of nats; EP and two seeds agree to 0.1."""
    K, bits = kernel(7, depth=20), table("parity", 7)
    a, b = (log_prior(bits, K, seed=s)[0] for s in (0, 1))
    assert abs(a.value - b.value) < SIGMAS * math.hypot(a.stderr, b.stderr)
    assert a.value == pytest.approx(a.diagnostics["ep"], abs=0.5)


def test_smc_agrees() -> None:
    e = event(table("x1", 5), kernel(5))
    a, b = tilted(e, draws=8192), smc(e, draws=8192)
    assert abs(a.value - b.value) < 5.0 * math.hypot(a.stderr, b.stderr)  # t with 15 degrees


@pytest.mark.slow
def test_smc_resampling_is_unbiased() -> None:
    """A function and a size where resampling happens; the closed form is 1/(m+1)."""
    K = kernel(8)
    e = event(table("x1", 8), K)
    a, b = tilted(e, draws=16_384), smc(e, draws=16_384)
    assert b.diagnostics["resampled"] > 0
    assert abs(a.value - b.value) < 5.0 * math.hypot(a.stderr, b.stderr)


def test_draws_are_those_of_the_truncated_gaussian() -> None:
    """Mean of z given its signs: by weights, and by Stein's identity from ln P of shifted means.

    d ln P(mean + t e_i)/dt = (K^-1 E[z])_i, a difference quotient of exact bivariate values.
    """
    K = np.array([[1.0, 0.6], [0.6, 2.0]])
    labels = np.array([1, 0])
    Z, logw = tilted_draws(labels, K, draws=20_000, seed=2)
    assert ((Z > 0) == (labels > 0)).all()
    w = np.exp(logw - logw.max())
    w /= w.sum()
    mean = w @ Z
    error = np.sqrt(w**2 @ (Z - mean) ** 2)
    h = 1e-4
    slope = [
        (log_prior(labels, K, "closed", mean=h * e)[0].value
         - log_prior(labels, K, "closed", mean=-h * e)[0].value) / (2 * h)
        for e in np.eye(2)
    ]  # fmt: skip
    assert (np.abs(mean - K @ slope) < SIGMAS * error).all()
    logp = logw.max() + math.log(np.exp(logw - logw.max()).mean())
    assert logp == pytest.approx(log_prior(labels, K, "closed")[0].value, abs=0.02)


def test_impossible_labels_raise_where_a_sampler_is_asked_for() -> None:
    with pytest.raises(Infeasible):
        prepare(event(table("parity", 3), kernel(3, depth=0)))


def test_bad_input() -> None:
    K, bits = kernel(3), table("parity", 3)
    cases = [
        (lambda: log_prior(bits, K, "tiltd"), "method='tiltd'"),
        (lambda: log_prior(bits, K, draw=3), "option draw=3"),
        (lambda: log_prior(bits, K, draws=3), "draws=3"),
        (lambda: log_prior(bits[:5], K), "8"),
        (lambda: log_prior(bits + 1, K), "outputs 0 and 1"),
        (lambda: log_prior(bits, K[:5]), "square"),
        (lambda: log_prior(bits, K, seed=-1), "seed=-1"),
        (lambda: log_prior(bits, K, mean=np.zeros(3)), "mean of shape"),
    ]
    for call, match in cases:
        with pytest.raises(InputError, match=match) as caught:
            call()
        assert "\n" not in str(caught.value)
    bad = K.copy()
    bad[0, 1] = bad[1, 0] = 2 * K[0, 0]
    with pytest.raises(NumericalError, match="eigenvalue"):
        log_prior(bits, bad)
