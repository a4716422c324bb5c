"""E[phi(u) phi(v)] for any activation phi, with an error estimate from successive refinements.

Two rules, both applied to a whole layer of a kernel matrix:

* ``Series`` (smooth phi). With u = sqrt(a) z, phi(sqrt(a) z) = sum_k h_k(a) He_k(z)/sqrt(k!) and,
  by Mehler's formula, E = sum_k h_k(a) h_k(b) rho^k. The coefficients are one-dimensional
  Gaussian integrals (composite Gauss-Legendre, split at 0); rho = +-1 is integrated directly.
* ``Polar`` (phi smooth on each side of 0: kinks or jumps at 0, or very steep near it).
  E = 1/(2 pi) int dt int dr r exp(-r^2/2) phi(r sqrt(a) cos t) phi(r sqrt(b) cos(t - theta)),
  the angle split where either argument changes sign, Gauss-Legendre on each piece after a
  substitution that crowds the nodes at its ends (steep phi are steepest there).

:func:`converge` runs the whole kernel recursion at rising resolution until two successive results
agree, so that the error it reports is that of the final kernel, all layers included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from simprior.errors import InputError, NumericalError
from simprior.gp.duals import Angles, BlockMap, LayerMap, angle, correlation
from simprior.network.callables import array_function, array_slope
from simprior.network.spec import Network

Scalar = Callable[[np.ndarray], np.ndarray]
Run = Callable[[LayerMap, LayerMap | None, bool], tuple[np.ndarray, np.ndarray]]

SERIES = ((32, 12, 11), (64, 16, 12), (128, 20, 13), (256, 28, 14), (512, 40, 15))
RADII = (1.5, 4.0, 10.0)
POLAR = (12, 24, 48, 96, 160)
SLOW = 0.2
CHUNK = 1 << 21
REACH, POINTS, HALVINGS = 16.0, 1 << 14, 44
MOST_JUMPS, LEAST_JUMP = 32, 1e-6


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
    if not 1e-14 <= rtol < 1.0:
        raise InputError(f"rtol={rtol!r}", "a number from 1e-14 to below 1", "pass rtol=1e-10")
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
    previous, last = None, float("inf")
    for size in SERIES if smooth else ():
        result = run(Series(phi, *size), None if slope is None else Series(slope, *size), False)
        if previous is not None:
            error = _difference(result, previous)
            yield error, *result
            if error > SLOW * last:
                break
            last = error
        previous = result
    previous, last = None, float("inf")
    for order in POLAR:
        result = run(Polar(phi, order), None if slope is None else Polar(slope, order), True)
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
    rows = max(1, CHUNK // len(mass))
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
        rows = max(1, CHUNK // (4 * len(x) * len(r)))
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
