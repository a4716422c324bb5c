"""The compiled normal functions against scipy."""

import math

import numpy as np
import pytest
from scipy.special import erfcx, log_ndtr, ndtri, ndtri_exp

from simprior.numerics import compiled as _normal


def test_scaled_survival() -> None:
    t = np.concatenate([np.linspace(0, 40, 4001), np.geomspace(40, 1e8, 200)])
    got = np.array([_normal.scaled_survival(v) for v in t])
    np.testing.assert_allclose(got, 0.5 * erfcx(t / math.sqrt(2.0)), rtol=2e-14)


def test_exp_and_log() -> None:
    x = np.concatenate([-np.geomspace(1e-9, 700, 500), [0.0, -0.0]])
    np.testing.assert_allclose([_normal.exp_negative(v) for v in x], np.exp(x), rtol=4e-16)
    y = np.geomspace(1e-300, 1e300, 2001)
    got = np.array([_normal.log_positive(v) for v in y])
    np.testing.assert_allclose(got, np.log(y), rtol=4e-16, atol=4e-16)


def test_log_survival_matches_scipy() -> None:
    a = np.concatenate([np.linspace(-8, 40, 2001), [1e3, 1e6]])
    np.testing.assert_allclose(_normal.log_survival_array(a), log_ndtr(-a), rtol=3e-14, atol=1e-16)


def test_quantile_matches_scipy() -> None:
    p = np.concatenate([np.geomspace(1e-290, 0.5, 2000), 1 - np.geomspace(1e-14, 0.5, 500)])
    got = np.array([_normal.quantile(v) for v in p])
    np.testing.assert_allclose(got, ndtri(p), rtol=3e-15, atol=3e-15)


@pytest.mark.parametrize("a", [-30.0, -2.0, 0.0, 3.0, 35.9, 36.1, 80.0, 1e4])
@pytest.mark.parametrize("v", [1e-12, 0.2, 0.9999, 1.0])
def test_truncated_draw_inverts_the_survival_function(a: float, v: float) -> None:
    x = _normal.truncated_draw(a, v)
    assert x >= a
    expected = -ndtri_exp(np.log(v) + log_ndtr(-a)) if a < 1e3 else a - np.log(v) / a
    assert x == pytest.approx(max(expected, a), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("a", "b"), [(-1, 2), (3, 4), (-4, -3), (10, 10.5), (-50, 50), (30, 40), (0, 1e-3), (5, 4)]
)
def test_intervals(a: float, b: float) -> None:
    a, b = float(a), float(b)
    if b <= a:
        assert _normal.log_interval(a, b) == -math.inf
        return
    low, high = (a, b) if a + b > 0 else (-b, -a)
    expected = log_ndtr(-low) + np.log(-np.expm1(log_ndtr(-high) - log_ndtr(-low)))
    assert _normal.log_interval(a, b) == pytest.approx(expected, rel=1e-9)
    draws = np.array([_normal.interval_draw(a, b, v) for v in np.linspace(1e-6, 1.0, 101)])
    assert ((draws >= a) & (draws <= b)).all()
    falling = bool(draws[0] > draws[-1])
    assert (np.diff(draws) <= 0).all() if falling else (np.diff(draws) >= 0).all()
    part = (draws[50], b) if falling else (a, draws[50])
    middle = _normal.log_interval(*part) - _normal.log_interval(a, b)
    assert middle == pytest.approx(math.log(np.linspace(1e-6, 1.0, 101)[50]), abs=1e-6)


def test_truncated_variance_has_no_seam() -> None:
    z = np.array([-40.0 - 1e-9, -40.0 + 1e-9])
    v = [_normal.truncated_variance(t, _normal.hazard(t)[1]) for t in z]
    assert v[0] == pytest.approx(v[1], rel=1e-8)
    assert _normal.truncated_variance(0.0, _normal.hazard(0.0)[1]) == pytest.approx(1 - 2 / math.pi)
