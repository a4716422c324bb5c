"""Branch-free single-precision functions against float64, in units in the last place."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numba import njit
from scipy import special

from simprior.numerics.compiled import (
    bits_to_float,
    erf_f32,
    exp_f32,
    float_to_bits,
    log_f32,
    sin_f32,
    sincos_turn_f32,
    tanh_f32,
)


def apply(function: Callable[[float], float]) -> Callable[[np.ndarray], np.ndarray]:
    @njit
    def loop(x, out):  # type: ignore[no-untyped-def]
        for i in range(x.size):
            out[i] = function(x[i])

    def run(x: np.ndarray) -> np.ndarray:
        out = np.empty(x.shape, np.float32)
        loop(x, out)
        return out

    return run


@njit
def sincos_all(words, out):  # type: ignore[no-untyped-def]
    for i in range(words.size):
        s, c = sincos_turn_f32(words[i])
        out[0, i] = s
        out[1, i] = c


@njit
def round_trip(x):  # type: ignore[no-untyped-def]
    return bits_to_float(float_to_bits(x))


def grid(low: float, high: float, points: int = 400_000) -> np.ndarray:
    """Both signs, evenly in value and evenly in logarithm, with zero."""
    even = np.linspace(low, high, points)
    tiny = np.geomspace(1e-30, max(abs(low), abs(high)), points)
    signed = np.concatenate([even, tiny, -tiny, [0.0]])
    return signed[(signed >= low) & (signed <= high)].astype(np.float32)


def ulps(found: np.ndarray, exact: np.ndarray) -> np.ndarray:
    return np.abs(found - exact) / np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)


def test_bit_casts() -> None:
    for x in (0.0, 1.0, -2.5, 1e-38, 3e38):
        assert round_trip(np.float32(x)) == np.float32(x)


def test_log() -> None:
    x = np.concatenate(
        [np.geomspace(1.2e-38, 3e38, 500_000), np.linspace(0.5, 2, 500_000),
         1 + np.arange(-64, 65) * 2.0**-24]
    ).astype(np.float32)  # fmt: skip
    exact = np.log(x.astype(np.float64))
    found = apply(log_f32)(x).astype(np.float64)
    assert ulps(found, exact)[x != 1].max() < 3
    assert (found[x == 1] == 0).all()


def test_sine_and_cosine_of_turns() -> None:
    rng = np.random.default_rng(0)
    corners = [(k << 28) + d & 0xFFFFFFFF for k in range(16) for d in (-1, 0, 1)]
    words = np.concatenate([rng.integers(0, 2**32, 400_000), corners]).astype(np.uint32)
    out = np.empty((2, words.size), np.float32)
    sincos_all(words, out)
    angle = 2 * np.pi * words.astype(np.float64) / 2**32
    exact = np.stack([np.sin(angle), np.cos(angle)])
    # half an ulp of 1 is 6e-8; the angle itself is rounded to float32 before the polynomial
    assert np.abs(out - exact).max() < 1.2e-7
    assert np.abs((out.astype(np.float64) ** 2).sum(0) - 1).max() < 3e-7


def test_sine() -> None:
    x = grid(-60.0, 60.0)
    exact = np.sin(x.astype(np.float64))
    found = apply(sin_f32)(x).astype(np.float64)
    assert np.abs(found - exact).max() < 1.2e-7
    small = np.abs(x) < 0.5
    assert (np.abs(found - exact) <= 4e-7 * np.abs(exact) + 0)[small].all()
    big = grid(-1e6, 1e6)  # the largest pre-activation a float32 sine network may reach
    assert np.abs(apply(sin_f32)(big) - np.sin(big.astype(np.float64))).max() < 1.5e-7


def test_exponential() -> None:
    x = grid(-87.0, 88.0)
    exact = np.exp(x.astype(np.float64))
    assert ulps(apply(exp_f32)(x).astype(np.float64), exact).max() < 3
    ends = apply(exp_f32)(np.array([-1e30, 1e30, -200, 200], np.float32))
    assert np.isfinite(ends).all() and ends[0] == ends[2] < 1e-37 and ends[1] == ends[3] > 1e38


@pytest.mark.parametrize(
    ("mine", "exact", "limit"), [(tanh_f32, np.tanh, 4), (erf_f32, special.erf, 6)]
)
def test_odd_functions(
    mine: Callable[[float], float], exact: Callable[[np.ndarray], np.ndarray], limit: float
) -> None:
    run = apply(mine)
    x = grid(-12.0, 12.0)
    found = run(x).astype(np.float64)
    assert ulps(found, exact(x.astype(np.float64))).max() < limit
    np.testing.assert_array_equal(found, -run(-x))
    assert run(np.zeros(1, np.float32))[0] == 0
    far = run(np.array([50, -50, 1e30, -1e30, math.inf], np.float32))
    np.testing.assert_array_equal(far, [1, -1, 1, -1, 1])
    assert np.abs(found).max() <= 1
