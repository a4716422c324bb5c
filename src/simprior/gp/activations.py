"""Kernels of one layer in closed form: the duals of :mod:`simprior.activations` on numpy arrays.

A dual takes broadcastable float64 arrays ``a`` (variance of u), ``b`` (variance of v) and ``c``
(covariance), (u, v) ~ N(0, [[a, c], [c, b]]), and returns E[phi(u) phi(v)] elementwise; a slope
returns E[phi'(u) phi'(v)]. All are exact at c = +-sqrt(ab), and a zero variance means that the
variable is exactly 0.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import SimpleNamespace

import numpy as np

from simprior.activations import ACTIVATIONS
from simprior.arrays import Ops, numpy_ops

Angles = np.ndarray | None
Dual = Callable[..., np.ndarray]
"""(a, b, c, angles or None) -> expectations."""
BlockMap = Callable[[slice, slice, np.ndarray, Angles], tuple[np.ndarray, Angles]]
LayerMap = Callable[[np.ndarray], BlockMap]


def dual_of(name: str) -> Dual | None:
    """E[phi(u) phi(v)] of a built-in activation; None if there is no closed form."""
    dual = ACTIVATIONS[name].dual
    return None if dual is None else lambda a, b, c, theta=None: dual(_ops(), a, b, c, theta)


def slope_of(name: str) -> Dual | None:
    """E[phi'(u) phi'(v)] of a built-in activation; None if there is no closed form."""
    slope = ACTIVATIONS[name].slope
    return None if slope is None else lambda a, b, c, theta=None: slope(_ops(), a, b, c, theta)


def sine_of(name: str) -> Callable[[np.ndarray], np.ndarray] | None:
    """Squared sine of the angle between phi(u) and phi(v), from that of u and v.

    None for activations whose kernels do not need angles.
    """
    sine = ACTIVATIONS[name].sine
    return None if sine is None else lambda theta: sine(_ops(), theta)


def layer_map(dual: Dual, sine: Callable[[np.ndarray], np.ndarray] | None = None) -> LayerMap:
    """Map of a layer with variances ``var``: (rows, columns, covariances, angles) there ->
    (expectations, squared sines of the angles between phi(u) and phi(v)).

    Angles and sines are None, and without effect, for activations that need none.
    """

    def prepare(var: np.ndarray) -> BlockMap:
        def block(i: slice, j: slice, cov: np.ndarray, theta: Angles) -> tuple[np.ndarray, Angles]:
            mean = dual(var[i, None], var[None, j], cov, theta)
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


def determinant(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """ab - c^2 = ab sin^2(theta), never negative."""
    rho, r = correlation(a, b, c)
    return np.asarray(r * r * (1.0 - rho) * (1.0 + rho))


@cache
def _ops() -> Ops:
    return SimpleNamespace(
        **vars(numpy_ops()), correlation=correlation, angle=angle, determinant=determinant
    )
