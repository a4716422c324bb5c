"""Kernels of one layer in closed form: the duals of :mod:`simprior.network.activations` on numpy
arrays.

A dual takes broadcastable float64 arrays ``a`` (variance of u), ``b`` (variance of v) and ``c``
(covariance), (u, v) ~ N(0, [[a, c], [c, b]]), and returns E[phi(u) phi(v)] elementwise; a slope
returns E[phi'(u) phi'(v)]. All are exact at c = +-sqrt(ab), and a zero variance means that the
variable is exactly 0.

Angles between the fields of two inputs, carried through the layers without cancellation.

A field sigma_b b + sigma_w w.h has, at two inputs, the angle of the vectors (sigma_b, sigma_w h)
and (sigma_b, sigma_w h'). With p^2, q^2 the shares of the variances that come from h and h' and
kappa the cosine between those two,

    cos theta = sqrt((1 - p^2)(1 - q^2)) + p q kappa
    sin^2 theta = p^2 q^2 (1 - kappa^2)
                  + [q sqrt(1 - p^2) - p sqrt(1 - q^2)]^2
                  + 2 p q sqrt((1 - p^2)(1 - q^2)) (1 - kappa),

all terms >= 0: theta is as good as 1 - kappa^2, to an error of about 1e-16, however small it is.
1 - kappa^2 comes from differences of the inputs at the first layer, and from theta (relu, step) or
from a quadrature of squared differences (callables) at the others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from simprior.network.activations import ACTIVATIONS
from simprior.numerics.arrays import Ops, numpy_ops

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


CLOSE = 1e-3  # 1 - |cosine| below which inputs are subtracted; above, theta is good to 1e-14
CHUNK = 1 << 20


def field_angles(
    sigma_w: float, sigma_b: float, moments: np.ndarray, sines: np.ndarray
) -> np.ndarray:
    """Angles theta of a layer, written over ``sines``.

    Parameters
    ----------
    moments : (m, m) array
        E[h h'] (x.x'/d at the first layer), of which the upper triangle and the diagonal count.
    sines : (m, m) array
        1 - kappa^2; the upper triangle counts.
    """
    size = np.sqrt(moments.diagonal())
    total = np.hypot(sigma_b, sigma_w * size)
    some = total > 0
    safe = np.where(some, total, 1.0)
    share = np.where(some, sigma_w * size / safe, 0.0)
    if sigma_b == 0:
        share = some * 1.0
    rest = np.where(some, sigma_b / safe, 0.0)
    step = max(1, CHUNK // len(size))
    for start in range(0, len(size), step):
        i, j = slice(start, start + step), slice(start, None)
        p, q, u, v = share[i, None], share[j], rest[i, None], rest[j]
        weight = size[i, None] * size[j]
        cosine = np.divide(moments[i, j], weight, out=np.zeros_like(weight), where=weight > 0)
        np.clip(cosine, -1.0, 1.0, out=cosine)
        square = sines[i, j]
        square, cosine = angle_parts(numpy_ops(), p, q, u, v, cosine, square)
        sines[i, j] = np.arctan2(np.sqrt(square), cosine)
    np.fill_diagonal(sines, 0.0)
    return sines


def angle_parts(
    ops: Ops, p: Any, q: Any, u: Any, v: Any, kappa: Any, square: Any
) -> tuple[Any, Any]:
    """(sin^2 theta, cos theta) of two fields, by the formula at the top of this module.

    ``p``, ``q`` are the roots of the shares of the variances that come from h and h', ``u``, ``v``
    those of the biases; ``kappa`` is the cosine between h and h', ``square`` 1 - kappa^2.
    """
    lack = ops.where(kappa > 0, square / (1.0 + ops.not_below_0(kappa)), 1.0 - kappa)
    sine = p * p * q * q * square + (u * q - v * p) ** 2 + 2.0 * p * q * u * v * lack
    return sine, u * v + p * q * kappa


def input_sines(inputs: np.ndarray, gram: np.ndarray) -> np.ndarray:
    """1 - kappa^2 of all pairs of inputs, (m, m), upper triangle; 1 where an input is 0.

    Inputs closer than ``CLOSE`` are subtracted: |y - (x.y/x.x) x|^2 / y.y.
    """
    norm = np.sqrt(gram.diagonal())
    some = norm > 0
    safe = np.where(some, norm, 1.0)
    out = np.empty_like(gram)
    rows = max(1, CHUNK // len(norm))
    for start in range(0, len(norm), rows):
        i, j = slice(start, start + rows), slice(start, None)
        cosine = gram[i, j] / safe[i, None] / safe[j]
        np.clip(cosine, -1.0, 1.0, out=cosine)
        lack = 1.0 - np.abs(cosine)
        out[i, j] = lack * (2.0 - lack)
        first, second = np.nonzero((lack < CLOSE) & some[i, None] & some[j])
        first, second = first + start, second + start
        keep = first < second
        _subtract(inputs, gram, first[keep], second[keep], out)
    return out


def _subtract(
    inputs: np.ndarray, gram: np.ndarray, first: np.ndarray, second: np.ndarray, out: np.ndarray
) -> None:
    rows = max(1, CHUNK // inputs.shape[1])
    for start in range(0, len(first), rows):
        i, j = first[start : start + rows], second[start : start + rows]
        beta = gram[i, j] / gram[i, i]
        residual = inputs[j] - beta[:, None] * inputs[i]
        out[i, j] = np.minimum((residual**2).sum(axis=1) / gram[j, j], 1.0)
