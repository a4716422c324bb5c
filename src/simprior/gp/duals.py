"""One layer of a kernel: E[phi(u) phi(v)] and E[phi'(u) phi'(v)] of two Gaussian variables.

**Duals.** A dual takes broadcastable float64 arrays ``a`` (variance of u), ``b`` (variance of v)
and ``c`` (covariance), (u, v) ~ N(0, [[a, c], [c, b]]), and returns E[phi(u) phi(v)] elementwise;
a slope returns E[phi'(u) phi'(v)]. A zero variance means that the variable is exactly 0. Closed
forms are those of :mod:`simprior.network.activations`, exact at c = +-sqrt(ab).

**Angles.** The angle theta between the fields of two inputs is carried through the layers, without
cancellation. A field sigma_b b + sigma_w w.h has, at two inputs, the angle of the vectors
(sigma_b, sigma_w h) and (sigma_b, sigma_w h'). With p^2, q^2 the shares of the variances that come
from h and h', and kappa the cosine between those two,

    cos theta = sqrt((1 - p^2)(1 - q^2)) + p q kappa
    sin^2 theta = p^2 q^2 (1 - kappa^2)
                  + [q sqrt(1 - p^2) - p sqrt(1 - q^2)]^2
                  + 2 p q sqrt((1 - p^2)(1 - q^2)) (1 - kappa).

All terms are >= 0, so theta is as good as 1 - kappa^2, to an error of about 1e-16, however small it
is. 1 - kappa^2 comes from differences of the inputs at the first layer. At the others it comes from
theta (relu, step) or from a quadrature of squared differences (callables).

**Quadrature.** For any other phi there are two rules, each applied to a whole layer of a kernel
matrix:

* :class:`Series` (smooth phi). With u = sqrt(a) z, phi(sqrt(a) z) = sum_k h_k(a) He_k(z)/sqrt(k!)
  and, by Mehler's formula, E = sum_k h_k(a) h_k(b) rho^k. The coefficients are one-dimensional
  Gaussian integrals (composite Gauss-Legendre, split at 0); rho = +-1 is integrated directly.
* :class:`Polar` (phi smooth on each side of 0: kinks or jumps at 0, or very steep near it).
  E = 1/(2 pi) int dt int dr r exp(-r^2/2) phi(r sqrt(a) cos t) phi(r sqrt(b) cos(t - theta)),
  the angle split where either argument changes sign, Gauss-Legendre on each piece after a
  substitution that crowds the nodes at its ends (steep phi are steepest there).

:func:`converge` runs the whole recursion of a kernel at rising resolution until two successive
results agree. The error that it reports is therefore that of the final kernel, all layers included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np

from simprior.checks import Number
from simprior.errors import NumericalError
from simprior.network.activations import ACTIVATIONS, Ops
from simprior.network.callables import array_function, array_slope, numpy_ops
from simprior.network.spec import Network

Angles = np.ndarray | None
Dual = Callable[..., np.ndarray]
"""(a, b, c, angles or None) -> expectations."""
BlockMap = Callable[[slice, slice, np.ndarray, Angles], tuple[np.ndarray, Angles]]
LayerMap = Callable[[np.ndarray], BlockMap]
Scalar = Callable[[np.ndarray], np.ndarray]
Run = Callable[[LayerMap, LayerMap | None, bool], tuple[np.ndarray, np.ndarray]]

CLOSE = 1e-3  # 1 - |cosine| below which inputs are subtracted; above, theta is good to 1e-14
CHUNK = 1 << 20  # numbers at a time, in angles
SERIES = ((32, 12, 11), (64, 16, 12), (128, 20, 13), (256, 28, 14), (512, 40, 15))
RADII = (1.5, 4.0, 10.0)
POLAR = (12, 24, 48, 96, 160)
SLOW = 0.2
NUMBERS = 1 << 21  # at a time, in a quadrature
MEANS, REACH_OF_MEANS = (12, 20, 32, 64, 128), 12  # nodes a panel of length 1, and panels
REACH, POINTS, HALVINGS = 16.0, 1 << 14, 44
MOST_JUMPS, LEAST_JUMP = 32, 1e-6
RTOL = Number(1e-14, 1, remedy="pass rtol=1e-10", expected="a number from 1e-14 to below 1")


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


def converge(
    network: Network, run: Run, rtol: float, tangent: bool
) -> tuple[np.ndarray, np.ndarray, float]:
    """(K, Theta, error) of ``run`` at the first resolution that meets ``rtol``.

    ``error`` is the largest difference of an entry between the two finest resolutions, relative
    to the square root of the product of its two diagonal entries.

    Raises
    ------
    InputError
        ``rtol`` outside [1e-14, 1).
    NumericalError
        The finest resolution does not reach ``rtol`` (kinks away from 0, or enormous variances).
    """
    RTOL("rtol", rtol)
    phi = array_function(network)
    slope = array_slope(network, "the neural tangent kernel") if tangent else None
    broken = np.concatenate([jumps(f) for f in (phi, slope) if f is not None])
    best = float("inf")
    for errors, kernel, theta in _refinements(phi, slope, run, smooth=not len(broken)):
        best = min(best, errors)
        if errors <= rtol:
            return kernel, theta, errors
    away = np.unique(broken[np.abs(broken) > 1e-9].round(9))
    places = f" (it has a kink or a jump at {', '.join(f'{x:.6g}' for x in away[:4])})"
    raise NumericalError(
        f"quadrature for activation={network.activation_name!r} reached a relative error of "
        f"{best:.2g}: expected rtol={rtol:.2g}; pass a larger rtol, or an activation that is "
        f"smooth except at 0{places if len(away) else ''}"
    )


def mean_of(network: Network, var: np.ndarray, rtol: float) -> np.ndarray:
    """(m,) means E[phi(u)], u ~ N(0, var), one for each of the (m,) variances.

    Composite Gauss-Legendre, split at 0, at rising resolution until two agree.

    Raises
    ------
    NumericalError
        They do not agree to ``rtol`` of sqrt(E[phi(u)^2]).
    """
    phi = array_function(network)
    values, where = np.unique(var, return_inverse=True)
    roots = np.sqrt(values)[:, None]
    last = None
    for order in MEANS:
        z, w = half_line(REACH_OF_MEANS, order)
        density = w * np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)
        with np.errstate(all="ignore"):
            right, left = phi(roots * z), phi(-roots * z)
        mean, size = (right + left) @ density, np.sqrt((right**2 + left**2) @ density)
        if last is not None and (np.abs(mean - last) <= rtol * size).all():
            return np.asarray(mean[where.reshape(-1)])
        last = mean
    raise NumericalError(
        f"quadrature of the mean of activation={network.activation_name!r} did not reach "
        f"rtol={rtol:.2g}: expected an activation that is smooth except at 0; pass a larger rtol"
    )


def jumps(function: Scalar) -> np.ndarray:
    """Where a function jumps (of a slope: where its integral has a kink), ascending, in [-16, 16].

    The largest steps between points of a fine grid, halved down to neighbouring numbers: a step
    that is still there is a jump. A jump is missed if many others are larger.
    """
    grid = np.linspace(-REACH, REACH, POINTS + 1)
    with np.errstate(all="ignore"):
        values = function(grid)
        step = np.where(np.isfinite(values[1:] - values[:-1]), np.abs(np.diff(values)), 0.0)
        least = LEAST_JUMP * float(np.max(np.abs(values), where=np.isfinite(values), initial=0.0))
        at = np.argsort(-step, kind="stable")[:MOST_JUMPS]
        at = at[step[at] > least]
        low, high = grid[at], grid[at + 1]
        for _ in range(HALVINGS if len(at) else 0):
            middle = 0.5 * (low + high)
            a, b, c = function(low), function(middle), function(high)
            left = np.abs(b - a) >= np.abs(c - b)
            low, high = np.where(left, low, middle), np.where(left, middle, high)
        found = np.sort(high[np.abs(function(high) - function(low)) > least])
    return found[np.diff(found, prepend=-np.inf) > 1e-9]


def _refinements(
    phi: Scalar, slope: Scalar | None, run: Run, smooth: bool
) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """(difference from the previous resolution, K, Theta), finer and finer.

    The series knows no angle below 1e-8 (its correlations are then 1), so that it is not for
    functions that jump, whose expectations fall linearly with the angle.
    """
    rules: list[tuple[Callable[..., LayerMap], list[tuple[int, ...]], bool]] = [
        (Series, [*SERIES] if smooth else [], False),
        (Polar, [(order,) for order in POLAR], True),
    ]
    for rule, sizes, angles in rules:
        previous, last = None, float("inf")
        for size in sizes:
            result = run(rule(phi, *size), None if slope is None else rule(slope, *size), angles)
            if previous is not None:
                error = _difference(result, previous)
                yield error, *result
                if error > SLOW * last:
                    break
                last = error
            previous = result


def _difference(new: tuple[np.ndarray, np.ndarray], old: tuple[np.ndarray, np.ndarray]) -> float:
    worst = float(np.finfo(np.float64).eps)
    for x, y in zip(new, old, strict=True):
        root = np.sqrt(x.diagonal())
        scale = root[:, None] * root
        gap = np.abs(x - y)
        ratio = np.divide(gap, scale, out=np.zeros_like(gap), where=scale > 0)
        worst = max(worst, float(ratio.max()))
    return worst


def half_line(limit: int, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Composite Gauss-Legendre nodes and weights on [0, limit], panels of length 1."""
    x, w = np.polynomial.legendre.leggauss(order)
    nodes = np.arange(limit)[:, None] + 0.5 * (x + 1.0)
    return nodes.ravel(), np.tile(0.5 * w, limit)


def hermite_functions(z: np.ndarray, terms: int) -> np.ndarray:
    """He_k(z) exp(-z^2/4) / sqrt(k!) for k < terms, shape (terms, len(z)); bounded, no overflow."""
    out = np.empty((terms, len(z)))
    out[0] = np.exp(-0.25 * z * z)
    if terms > 1:
        out[1] = z * out[0]
    for k in range(1, terms - 1):
        out[k + 1] = (z * out[k] - np.sqrt(k) * out[k - 1]) / np.sqrt(k + 1.0)
    return out


@dataclass(frozen=True)
class Series:
    """Hermite series: ``terms`` coefficients, ``order`` nodes a panel, ``limit`` panels a side."""

    phi: Scalar
    terms: int
    order: int
    limit: int

    def __call__(self, var: np.ndarray) -> BlockMap:
        """Coefficients for all variances of a layer, and the map that sums the series."""
        z, w = half_line(self.limit, self.order)
        values, where = np.unique(var, return_inverse=True)
        x = np.sqrt(values)[:, None] * z
        with np.errstate(all="ignore"):
            right, left = self.phi(x), self.phi(-x)
        density = w * np.exp(-0.25 * z * z) / np.sqrt(2.0 * np.pi)
        basis = hermite_functions(z, self.terms) * density
        coef = np.empty((self.terms, len(values)))
        coef[0::2] = basis[0::2] @ (right + left).T
        coef[1::2] = basis[1::2] @ (right - left).T
        mass = density * np.exp(-0.25 * z * z)

        def apply(i: slice, j: slice, cov: np.ndarray, theta: Angles) -> tuple[np.ndarray, None]:
            rho, _ = correlation(var[i, None], var[None, j], cov)
            out = _mehler(coef[:, where[i]], coef[:, where[j]], rho)
            at = np.nonzero(np.abs(rho) == 1.0)
            p, q = where[i][at[0]], where[j][at[1]]
            out[at] = _aligned(right, left, mass, p, q, rho[at] < 0)
            return out, None

        return apply


def _mehler(left: np.ndarray, right: np.ndarray, rho: np.ndarray) -> np.ndarray:
    """sum_k left[k, i] right[k, j] rho[i, j]^k by Horner's rule."""
    out = np.zeros_like(rho)
    term = np.empty_like(rho)
    for k in range(len(left) - 1, -1, -1):
        out *= rho
        out += np.multiply(left[k][:, None], right[k], out=term)
    return out


def _aligned(
    right: np.ndarray,
    left: np.ndarray,
    mass: np.ndarray,
    p: np.ndarray,
    q: np.ndarray,
    opposite: np.ndarray,
) -> np.ndarray:
    """E[phi(sqrt(a_p) z) phi(+-sqrt(a_q) z)] for index pairs, a chunk at a time."""
    out = np.empty(len(p))
    rows = max(1, NUMBERS // len(mass))
    for start in range(0, len(p), rows):
        s = slice(start, start + rows)
        flip = opposite[s, None]
        plus = np.where(flip, left[q[s]], right[q[s]])
        minus = np.where(flip, right[q[s]], left[q[s]])
        out[s] = ((right[p[s]] * plus + left[p[s]] * minus) * mass).sum(axis=1)
    return out


@dataclass(frozen=True)
class Polar:
    """Polar rule: ``order`` nodes on each of four arcs, as many on each of three radial panels."""

    phi: Scalar
    order: int

    def __call__(self, var: np.ndarray) -> BlockMap:
        """The map of a layer; equal (variance, variance, angle) triples are done once."""

        def apply(
            i: slice, j: slice, cov: np.ndarray, theta: Angles
        ) -> tuple[np.ndarray, np.ndarray]:
            if theta is None:
                theta = angle(correlation(var[i, None], var[None, j], cov)[0])[0]
            a, b, t = np.broadcast_arrays(var[i, None], var[None, j], theta)
            triples = np.stack([np.minimum(a, b), np.maximum(a, b), t], axis=-1).reshape(-1, 3)
            unique, where = np.unique(triples, axis=0, return_inverse=True)
            moments, sines = self.expectation(*unique.T)
            where = where.reshape(cov.shape)
            return moments[where], sines[where]

        return apply

    def expectation(
        self, a: np.ndarray, b: np.ndarray, theta: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """E[phi(u) phi(v)] for vectors of variances a, b and angles, and 1 - kappa^2, kappa the
        cosine between phi(u) and phi(v), by the residual of phi(v) on phi(u)."""
        x, w = np.polynomial.legendre.leggauss(self.order)
        x, w = 0.5 * (x + 1.0), 0.5 * w
        r, radial = _radial(x, w)
        x, w = x * x * (3.0 - 2.0 * x), 6.0 * w * x * (1.0 - x)
        out, sines = np.empty(len(a)), np.empty(len(a))
        rows = max(1, NUMBERS // (4 * len(x) * len(r)))
        for start in range(0, len(a), rows):
            s = slice(start, start + rows)
            t, arc = _arcs(theta[s], x, w)
            u = np.sqrt(a[s])[:, None] * np.cos(t)
            v = np.sqrt(b[s])[:, None] * np.cos(t - theta[s, None])
            with np.errstate(all="ignore"):
                u, v = self.phi(u[..., None] * r), self.phi(v[..., None] * r)
                out[s] = _moment(u * v, radial, arc)
                uu, vv = _moment(u * u, radial, arc), _moment(v * v, radial, arc)
                beta = np.divide(out[s], uu, out=np.zeros_like(uu), where=uu > 0)
                rest = _moment((v - beta[:, None, None] * u) ** 2, radial, arc)
                sines[s] = np.divide(rest, vv, out=np.ones_like(vv), where=vv > 0)
        return out, np.minimum(sines, 1.0)


def _moment(values: np.ndarray, radial: np.ndarray, arc: np.ndarray) -> np.ndarray:
    return np.asarray(((values @ radial) * arc).sum(axis=1))


def _radial(x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes on [0, 10] and weights r exp(-r^2/2)/(2 pi); the first panel clusters them at 0."""
    nodes = [RADII[0] * x**3]
    weights = [RADII[0] * 3.0 * w * x**2]
    for low, high in pairwise(RADII):
        nodes.append(low + (high - low) * x)
        weights.append((high - low) * w)
    r = np.concatenate(nodes)
    return r, np.concatenate(weights) * r * np.exp(-0.5 * r * r) / (2.0 * np.pi)


def _arcs(theta: np.ndarray, x: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Angles and weights, (len(theta), 4 len(x)), on the arcs where neither cosine changes sign."""
    half = 0.5 * np.pi
    starts = np.stack([-half + 0 * theta, theta - half, half + 0 * theta, theta + half], axis=1)
    lengths = np.stack([theta, np.pi - theta, theta, np.pi - theta], axis=1)[..., None]
    t = starts[..., None] + lengths * x
    return t.reshape(len(theta), -1), (lengths * w).reshape(len(theta), -1)
