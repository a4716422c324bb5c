"""Closed forms of E[phi(u) phi(v)] and E[phi'(u) phi'(v)] for (u, v) ~ N(0, [[a, c], [c, b]]).

Every function takes broadcastable float64 arrays ``a`` (variance of u), ``b`` (variance of v) and
``c`` (covariance) and returns the expectation elementwise. All are exact at c = +-sqrt(ab), and a
zero variance means that the variable is exactly 0. Sources: relu and step, Cho & Saul 2009 (orders
1 and 0 of the arc-cosine kernel); erf, Williams 1997; sin, characteristic function of (u, v);
gelu (u Phi(u), the exact one), by Stein's lemma, as in Tsuchida, Pearce, van der Heide, Roosta &
Gallagher 2021.

The probability that both signs are positive falls linearly with the angle theta between u and v,
and theta = arccos(c / sqrt(ab)) is known to no more than 1e-16 / theta: 1e-10 for inputs that
differ by 1e-6. Kernels that need it (``SINES``) therefore carry theta itself from layer to layer
(:mod:`simprior.gp.angles`), and ``step`` takes it as an argument.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Dual = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
Angles = np.ndarray | None
BlockMap = Callable[[slice, slice, np.ndarray, Angles], tuple[np.ndarray, Angles]]
LayerMap = Callable[[np.ndarray], BlockMap]
TWO_PI = 2.0 * np.pi


def layer_map(dual: Dual, sine: Callable[[np.ndarray], np.ndarray] | None = None) -> LayerMap:
    """Map of a layer with variances ``var``: (rows, columns, covariances, angles) there ->
    (expectations, squared sines of the angles between phi(u) and phi(v)).

    Angles and sines are None, and without effect, for activations that need none.
    """

    def prepare(var: np.ndarray) -> BlockMap:
        def block(i: slice, j: slice, cov: np.ndarray, theta: Angles) -> tuple[np.ndarray, Angles]:
            a, b = var[i, None], var[None, j]
            mean = step(a, b, cov, theta) if dual in (step, relu_slope) else dual(a, b, cov)
            return mean, None if sine is None or theta is None else sine(theta)

        return block

    return prepare


def correlation(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rho, r): c / sqrt(ab) clipped to [-1, 1], 0 where a variance is 0, and r = sqrt(ab).

    No product ab is formed, so variances down to 1e-300 keep their correlation, and a = b gives
    rho = c / a exactly (equal inputs have rho = 1, opposite ones -1, without rounding).
    """
    equal = a == b
    root_a, root_b = np.sqrt(a), np.sqrt(b)
    r = np.where(equal, a, root_a * root_b)
    some = (a > 0) & (b > 0)
    one = np.ones_like(r)
    rho = np.where(equal, c / np.where(some, a, one), (c / np.where(some, root_a, one)))
    rho = np.where(equal, rho, rho / np.where(some, root_b, one))
    return np.where(some, np.clip(rho, -1.0, 1.0), 0.0), r


def angle(rho: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(theta, sin theta) of cos theta = rho, accurate at both ends: sin = sqrt((1-rho)(1+rho))."""
    sine = np.sqrt((1.0 - rho) * (1.0 + rho))
    return np.arctan2(sine, rho), sine


def relu(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """sqrt(ab)/(2 pi) (sin t + (pi - t) cos t), written so that t = 0 gives sqrt(ab)/2 exactly."""
    rho, r = correlation(a, b, c)
    theta, sine = angle(rho)
    return np.where(rho <= -1.0, 0.0, 0.5 * r * (rho + (sine - theta * rho) / np.pi))


def relu_sine(theta: np.ndarray) -> np.ndarray:
    """Squared sine of the angle between relu(u) and relu(v), of cosine (sin t + (pi - t) cos t)/pi.

    1 minus that cosine, without the cancellation: 2 sin^2(t/2) - (sin t - t cos t)/pi.
    """
    sine, cosine = np.sin(theta), np.cos(theta)
    lack = 2.0 * np.sin(0.5 * theta) ** 2 - (sine - theta * cosine) / np.pi
    return np.maximum(lack * (2.0 - lack), 0.0)


def step_sine(theta: np.ndarray) -> np.ndarray:
    """Squared sine of the angle between step(u) and step(v), of cosine 1 - t/pi."""
    lack = theta / np.pi
    return lack * (2.0 - lack)


def relu_slope(a: np.ndarray, b: np.ndarray, c: np.ndarray, theta: Angles = None) -> np.ndarray:
    """P(u > 0, v > 0) = (pi - t)/(2 pi); 0 where a variance is 0 (phi'(0) = 0 by convention)."""
    return step(a, b, c, theta)


def step(a: np.ndarray, b: np.ndarray, c: np.ndarray, theta: Angles = None) -> np.ndarray:
    """P(u > 0, v > 0) = (pi - t)/(2 pi); 0 where a variance is 0 (an exact 0 gives 0).

    ``theta`` is the angle t where it is known better than from the covariance.
    """
    if theta is None:
        theta, _ = angle(correlation(a, b, c)[0])
    return np.where((a > 0) & (b > 0), (np.pi - theta) / TWO_PI, 0.0)


def linear(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """E[uv] = c."""
    return np.broadcast_arrays(a, b, c)[2].astype(np.float64)


def linear_slope(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """1."""
    return np.ones(np.broadcast_shapes(np.shape(a), np.shape(b), np.shape(c)))


def erf(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """(2/pi) asin(2c / sqrt((1+2a)(1+2b))), the asin taken as an atan2 to keep its accuracy."""
    x = 2.0 * c
    gap = (1.0 + 2.0 * a) * (1.0 + 2.0 * b) - x * x
    return 2.0 / np.pi * np.arctan2(x, np.sqrt(np.maximum(gap, 0.0)))


def erf_slope(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """(4/pi) / sqrt((1+2a)(1+2b) - 4c^2)."""
    return 4.0 / np.pi / np.sqrt(1.0 + 2.0 * (a + b) + 4.0 * _determinant(a, b, c))


def sin(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """exp(-(a+b)/2) sinh c, as a difference of two exponentials that cannot overflow."""
    plus, minus = _sine_terms(a, b, c)
    return 0.5 * (plus - minus)


def sin_slope(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """E[cos u cos v] = exp(-(a+b)/2) cosh c."""
    plus, minus = _sine_terms(a, b, c)
    return 0.5 * (plus + minus)


def gelu(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """c G + J [ab - c^2 + c^2 (1/(1+a) + 1/(1+b))], G = E[Phi Phi], J = E[phi phi] (densities)."""
    g, j, _ = _gelu_parts(a, b, c)
    return c * g + j * (_determinant(a, b, c) + c * (c / (1.0 + a) + c / (1.0 + b)))


def gelu_slope(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """G + c J [1/(1+a) + 1/(1+b) + 1/D], D = (1+a)(1+b) - c^2."""
    g, j, d = _gelu_parts(a, b, c)
    return g + c * j * (1.0 / (1.0 + a) + 1.0 / (1.0 + b) + 1.0 / d)


def _determinant(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """ab - c^2 = ab sin^2(theta), never negative."""
    rho, r = correlation(a, b, c)
    return r * r * (1.0 - rho) * (1.0 + rho)


def _sine_terms(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = 0.5 * (a + b)
    return np.exp(c - mean), np.exp(-c - mean)


def _gelu_parts(
    a: np.ndarray, b: np.ndarray, c: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    d = 1.0 + a + b + _determinant(a, b, c)
    root = np.sqrt(d)
    return 0.25 + np.arctan2(c, root) / TWO_PI, 1.0 / (TWO_PI * root), d


#: Activation name -> E[phi(u) phi(v)]; names that are missing go through quadrature.
DUALS: dict[str, Dual] = {
    "relu": relu,
    "step": step,
    "linear": linear,
    "erf": erf,
    "sin": sin,
    "gelu": gelu,
}

#: Activation name -> E[phi'(u) phi'(v)]; the step has none (its neural tangent kernel diverges).
SLOPES: dict[str, Dual] = {
    "relu": relu_slope,
    "linear": linear_slope,
    "erf": erf_slope,
    "sin": sin_slope,
    "gelu": gelu_slope,
}

#: Activation name -> squared sine of the angle between phi(u) and phi(v), from that of u and v.
SINES: dict[str, Callable[[np.ndarray], np.ndarray]] = {"relu": relu_sine, "step": step_sine}
