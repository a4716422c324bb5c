"""One contract for every sampling estimator, and agreement of estimators that share no code."""

import math
from typing import Any

import numpy as np
import pytest
from orthants import N5, equicorrelated, kernel, table

from simprior.gp.orthant import METHODS, log_prior

SAMPLERS: dict[str, dict[str, Any]] = {
    "tilted": {"draws": 4096},
    "smc": {"draws": 4096},
    "minimax": {"draws": 4096},
    "mc": {"draws": 200_000},
    "liness": {"draws": 800, "thin": 3},
}
# 5 standard errors: those of smc and liness come from 16 and 8 replicates (Student's t)
SIGMAS = 5.0


def test_the_table_of_names() -> None:
    assert set(SAMPLERS) < set(METHODS)
    assert {"closed", "ep", "ep-probit", "laplace"} < set(METHODS)


@pytest.mark.parametrize("method", list(SAMPLERS))
def test_right_on_a_closed_form(method: str) -> None:
    m = 6
    result = log_prior(np.ones(m, int), equicorrelated(m, 0.5), method, **SAMPLERS[method])[0]
    assert result.method == method
    assert result.diagnostics["converged"]
    assert abs(result.value + math.log(m + 1)) < SIGMAS * result.stderr
    assert 0 < result.stderr < 0.2


@pytest.mark.parametrize("method", list(SAMPLERS))
def test_right_with_a_mean(method: str) -> None:
    K, mean, bits = equicorrelated(3, 0.3), np.array([0.5, -0.2, 0.1]), np.array([1, 0, 1])
    exact = log_prior(bits, K, "closed", mean=mean)[0].value
    result = log_prior(bits, K, method, mean=mean, **SAMPLERS[method])[0]
    assert abs(result.value - exact) < SIGMAS * result.stderr


@pytest.mark.parametrize("method", [*SAMPLERS, "ep"])
@pytest.mark.parametrize("power", [-900, 900])
def test_no_unit_of_the_outputs_is_too_large_or_small(method: str, power: int) -> None:
    """At variances of 2^+-900 products of two of them over- or underflow."""
    K, mean, bits = equicorrelated(4, 0.3), np.array([0.5, -0.2, 0.1, 0.3]), np.array([1, 0, 1, 1])
    options = {"liness": SAMPLERS["liness"]}.get(method, {})
    unit = 2.0 ** (power // 2)
    for shift in (None, mean):
        scaled = None if shift is None else unit * shift
        wanted = log_prior(bits, K, method, mean=shift, **options)[0]
        found = log_prior(bits, K * unit**2, method, mean=scaled, **options)[0]
        pair = (
            pytest.approx(wanted.value, rel=1e-9),
            pytest.approx(wanted.stderr, rel=1e-6, nan_ok=True),
        )
        assert (found.value, found.stderr) == pair


@pytest.mark.parametrize("method", list(SAMPLERS))
def test_reproducible_and_independent_of_the_batch(method: str) -> None:
    K, tables = kernel(3), np.array([table(f, 3) for f in ("const1", "x1")])
    options = SAMPLERS[method]
    batch = log_prior(tables, K, method, seed=4, **options)
    single = log_prior(tables[1], K, method, seed=4, **options)[0]
    assert batch[1].value == single.value
    assert log_prior(tables[1], K, method, seed=9, **options)[0].value != single.value


@pytest.mark.parametrize("method", ["tilted", "smc", "mc", "liness"])
def test_weight_space(method: str) -> None:
    """Perceptron: rank 4 on 8 inputs; the constant and the impossible parity."""
    K = kernel(3, depth=0)
    tables = np.array([table("const1", 3), table("parity", 3)])
    values = log_prior(tables, K, method, **SAMPLERS[method])
    reference = log_prior(tables[0], K, "tilted", draws=40_000, seed=77)[0]
    spread = math.hypot(values[0].stderr, reference.stderr)
    assert abs(values[0].value - reference.value) < SIGMAS * spread
    assert values[1].value == -math.inf


@pytest.mark.parametrize("name", ["const1", "x1", "needle", "majority", "parity"])
def test_minimax_shares_no_code_and_agrees(name: str) -> None:
    K, bits = kernel(5), table(name, 5)
    a = log_prior(bits, K, draws=8192)[0]
    b = log_prior(bits, K, "minimax", draws=8192)[0]
    assert abs(a.value - b.value) < 4.0 * math.hypot(a.stderr, b.stderr)
    assert b.value < b.diagnostics["bound"]
    assert b.diagnostics["reliable"]


def test_minimax_at_128_inputs() -> None:
    K, bits = kernel(7), table("parity", 7)
    a, b = log_prior(bits, K)[0], log_prior(bits, K, "minimax", draws=2000)[0]
    assert abs(a.value - b.value) < 4.0 * math.hypot(a.stderr, b.stderr)


def test_splitting_agrees_where_it_converges_and_says_where_not() -> None:
    K = kernel(5)
    result = log_prior(table("needle", 5), K, "liness", draws=800)[0]
    assert result.diagnostics["converged"]
    assert abs(result.value - N5["needle"][0]) < SIGMAS * result.stderr
    stuck = log_prior(table("parity", 5), K, "liness", draws=200, thin=1)[0]
    assert not stuck.diagnostics["converged"]
    assert not stuck.diagnostics["reliable"]


def test_plain_monte_carlo_interval() -> None:
    K = kernel(5)
    common = log_prior(table("const1", 5), K, "mc", draws=100_000)[0]
    assert common.diagnostics["low"] < N5["const1"][0] < common.diagnostics["high"]
    rare = log_prior(table("parity", 5), K, "mc", draws=10_000)[0]
    assert rare.value == -math.inf
    assert rare.stderr == math.inf
    assert not rare.diagnostics["reliable"]
    assert rare.diagnostics["high"] == pytest.approx(math.log(3.689e-4), abs=1e-3)


def test_approximations_claim_no_error() -> None:
    for method in ("ep", "ep-probit", "laplace"):
        result = log_prior(table("x1", 4), kernel(4), method)[0]
        assert math.isnan(result.stderr)
        assert not result.diagnostics["reliable"]
        assert result.diagnostics["converged"]


def test_probit_is_far_from_the_step() -> None:
    """The unit noise of a probit link costs many nats where K is small."""
    K = kernel(7, sigma_b=0.0, encoding="pm1")
    step, probit = (log_prior(table("x1", 7), K, m)[0].value for m in ("ep", "ep-probit"))
    assert probit < step - 8.0
