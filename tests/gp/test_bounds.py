"""PAC-Bayes bounds: the formulas, their limits, and the error carried through."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simprior.errors import InputError
from simprior.gp import marginal_likelihood_bound
from simprior.numerics.estimate import LogProb


def test_uniform_prior_gives_one_half() -> None:
    m = 10_000
    bound = marginal_likelihood_bound(-m * math.log(2.0), m, 0.01)
    # -ln(1 - eps) = ln 2 (1 + 1/(m-1)) + ln(2m/delta)/(m-1) by hand: 0.69467 -> 0.50076
    assert bound.error == pytest.approx(0.50076, abs=1e-4)
    assert bound.low == bound.error == bound.high


@pytest.mark.parametrize("form", ["gibbs", "single"])
@pytest.mark.parametrize(("m", "delta"), [(2, 0.5), (64, 0.05), (500, 0.01)])
def test_formula_by_products_of_probabilities(form: str, m: int, delta: float) -> None:
    # (1 - eps)^(m-1) = P delta / (2m), or P delta gamma / m
    p, gamma = 1e-20, 0.03
    given = {"gamma": gamma} if form == "single" else {}
    bound = marginal_likelihood_bound(math.log(p), m, delta, form=form, **given)
    right = p * delta / (2 * m) if form == "gibbs" else p * delta * gamma / m
    assert (1 - bound.error) ** (m - 1) == pytest.approx(right, rel=1e-6) or bound.error > 1 - 1e-15
    assert bound.exponent == pytest.approx(-math.log(right) / (m - 1))
    kept = 1 - delta if form == "gibbs" else (1 - delta) * (1 - gamma)
    assert bound.confidence == pytest.approx(kept)


def test_single_form_holds_for_a_prior_where_everything_is_known() -> None:
    # Thresholds t = 0..31 on 32 points, uniform prior, target t = 16; the chance that a function
    # drawn from the posterior breaks the bound is at most 1 - (1-delta)(1-gamma) = 0.36
    rng = np.random.default_rng(0)
    error = np.abs(np.arange(32) - 16) / 32
    broken, repeats, m = 0, 400, 12
    for _ in range(repeats):
        x = rng.integers(32, size=m)
        agree = np.array([((x >= t) == (x >= 16)).all() for t in range(32)])
        bound = marginal_likelihood_bound(math.log(agree.mean()), m, 0.2, form="single", gamma=0.2)
        mean = marginal_likelihood_bound(math.log(agree.mean()), m, 0.2)
        broken += error[rng.choice(np.flatnonzero(agree))] > bound.error
        assert error[agree].mean() <= 1.0
        assert 0 < mean.error < 1
    assert broken / repeats < 0.36 + 4 * math.sqrt(0.36 * 0.64 / repeats)


def test_error_is_carried_through() -> None:
    exact = marginal_likelihood_bound(-50.0, 100)
    bound = marginal_likelihood_bound(LogProb(-50.0, 0.4, 100.0, "tilted"), 100, level=0.95)
    assert bound.error == exact.error
    assert bound.low == pytest.approx(marginal_likelihood_bound(-50 + 1.959964 * 0.4, 100).error)
    assert bound.high == pytest.approx(marginal_likelihood_bound(-50 - 1.959964 * 0.4, 100).error)
    unknown = marginal_likelihood_bound(LogProb(-50.0, math.nan, math.nan, "ep"), 100)
    assert math.isnan(unknown.low)
    assert unknown.error == exact.error


def test_monotone() -> None:
    errors = [marginal_likelihood_bound(v, 100).error for v in (-1.0, -10.0, -100.0, -1e4)]
    assert errors == sorted(errors)
    assert marginal_likelihood_bound(-10.0, 100, 0.001).error > errors[1]
    assert marginal_likelihood_bound(-10.0, 1000).error < errors[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3.0, 100), "log_evidence=3"),
        ((-math.inf, 100), "log_evidence=-inf"),
        ((math.nan, 100), "log_evidence=nan"),
        ((-3.0, 1), "m=1"),
        ((-3.0, 10, 0.0), "delta=0.0"),
        ((-3.0, 10, 1.5), "delta=1.5"),
    ],
)
def test_bad_input(arguments: tuple[float, ...], message: str) -> None:
    with pytest.raises(InputError) as caught:
        marginal_likelihood_bound(*arguments)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_bad_form_and_gamma() -> None:
    with pytest.raises(InputError, match="form='union'"):
        marginal_likelihood_bound(-3.0, 10, form="union")
    with pytest.raises(InputError, match="gamma"):
        marginal_likelihood_bound(-3.0, 10, gamma=0.1)
