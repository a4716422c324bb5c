"""NNGP kernels of convolutional networks without pooling between layers, by exact recursion.

With many channels the fields of a layer are, over its channels, a Gaussian process on pairs of an
input and a position (Novak et al. 2019; Garriga-Alonso et al. 2019). With k positions in a window,
h_0 = x and phi acting elementwise,

    K_l(x p, x' p') = sigma_b^2 + sigma_w^2 / k * sum_s M_{l-1}(x p+s, x' p'+s)
    M_l(x p, x' p') = E[phi(u) phi(v)],  (u, v) ~ N(0, K_l on {x p, x' p'}),

s over the window, M_0 = x_p x'_p', and terms outside the image 0. The offset p' - p stays the same
through the layers. So the last layer of

* ``flat``, sigma_b^2 + sigma_w^2 mean_p M(x p, x' p), needs the offset 0 alone;
* ``mean``, sigma_b^2 + sigma_w^2 mean_{p, p'} M(x p, x' p'), needs every offset, one after the
  other. Each is a recursion like that of ``flat``, on two images shifted against each other.

No array is larger than a few rows of pairs of inputs times positions. relu and erf are compiled;
other activations go through :mod:`simprior.gp.duals` and are several times slower.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numba
import numpy as np

from simprior.gp.duals import LayerMap
from simprior.numerics.compiled import OPTIONS, copy, inner
from simprior.runs.threads import in_threads

# mypy: disable-error-code="no-untyped-def"

NUMBERS = 1 << 22  # of the largest array of a block of rows
COMPILED = {"relu": 0, "erf": 1}
"""Activations whose recursion is compiled, and their numbers there."""
_DIAGONAL = 16  # elements of which the diagonal of a square of pairs is taken


@dataclass(frozen=True)
class Grid:
    """Positions (height, width), a window on them, and what is beyond the edges.

    A unit at position p reads the positions p - ``before`` to p - before + window - 1, in each
    direction. ``circular``: the grid is closed to a circle in each direction; else 0 is beyond.
    """

    shape: tuple[int, int]
    window: tuple[int, int]
    before: tuple[int, int]
    circular: bool

    @property
    def positions(self) -> int:
        """Number of positions."""
        return math.prod(self.shape)

    def offsets(self) -> Iterator[tuple[int, int]]:
        """All p' - p: of a circle as many as positions, else of either sign."""
        height, width = self.shape
        first = (0, 0) if self.circular else (1 - height, 1 - width)
        for y in range(first[0], height):
            for x in range(first[1], width):
                yield y, x

    def shifted(self, values: np.ndarray, offset: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """(..., height, width) at the positions p, and at p + offset, both cut to where both are.

        What is cut off is beyond an edge for one of the two, and counts as 0 in every layer.
        """
        if self.circular:
            return values, np.roll(values, (-offset[0], -offset[1]), (-2, -1))
        ends = [slice(max(0, -step), size - max(0, step)) for step, size in _steps(self, offset)]
        moved = [slice(max(0, step), size - max(0, -step)) for step, size in _steps(self, offset)]
        return values[..., ends[0], ends[1]], values[..., moved[0], moved[1]]

    def window_sums(self, values: np.ndarray) -> np.ndarray:
        """Sums over the windows of (..., height, width), which may be a cut grid."""
        ends = [(b, w - 1 - b) for b, w in zip(self.before, self.window, strict=True)]
        edges = [(0, 0)] * (values.ndim - 2) + ends
        padded = np.pad(values, edges, mode="wrap" if self.circular else "constant")
        height, width = values.shape[-2:]
        rows = sum(padded[..., i : i + height, :] for i in range(self.window[0]))
        total = sum(rows[..., j : j + width] for j in range(self.window[1]))  # type: ignore[index, misc]
        return np.asarray(total)


def _steps(grid: Grid, offset: tuple[int, int]) -> zip[tuple[int, int]]:
    return zip(offset, grid.shape, strict=True)


@dataclass(frozen=True)
class Layers:
    """``depth`` convolutions and a linear layer: their sigmas, and the activation's dual.

    ``code`` is the number of the activation among :data:`COMPILED`, None if it is not there.
    """

    depth: int
    sigma_w: float
    sigma_b: float
    dual: LayerMap
    code: int | None


def evaluations(grid: Grid, depth: int, m: int, pool: str) -> float:
    """How many duals a kernel of m inputs takes; each is some 10 ns if compiled, else 100 ns."""
    pairs = grid.positions * (grid.positions if pool == "mean" else 1)
    return 0.5 * m * (m + 1.0) * pairs * depth


def convolution_kernel(
    inputs: np.ndarray, grid: Grid, layers: Layers, pool: str, threads: int = 1
) -> np.ndarray:
    """(m, m) NNGP kernel of a convolutional network that ends in ``pool``, flat or mean.

    Parameters
    ----------
    inputs : (m, positions) array
        Distinct inputs, one channel, row by row.
    threads : int
        Of the compiled recursion; the values do not depend on it.

    Returns
    -------
    (m, m) float64 array, bitwise symmetric.
    """
    x = inputs.reshape(-1, *grid.shape)
    var = _variances(x, grid, layers)
    total = np.zeros((len(x), len(x)))
    for offset in grid.offsets() if pool == "mean" else [(0, 0)]:
        left, right = grid.shifted(x, offset)
        var_left, var_right = grid.shifted(var, offset)
        sides = _Sides(left, right, var_left, var_right)
        if layers.code is None:
            _by_arrays(sides, grid, layers, total)
        else:
            _by_compiled(sides, grid, layers, total, threads)
    total += np.triu(total, 1).T
    count = grid.positions * (grid.positions if pool == "mean" else 1)
    return layers.sigma_b**2 + layers.sigma_w**2 / count * total


@dataclass(frozen=True)
class _Sides:
    """The two inputs of pairs at one offset: (m, h, w) values, (depth, m, h, w) variances."""

    left: np.ndarray
    right: np.ndarray
    var_left: np.ndarray
    var_right: np.ndarray


def _affine(grid: Grid, layers: Layers, second: np.ndarray) -> np.ndarray:
    gain = layers.sigma_w**2 / math.prod(grid.window)
    return layers.sigma_b**2 + gain * grid.window_sums(second)


def _variances(x: np.ndarray, grid: Grid, layers: Layers) -> np.ndarray:
    """(depth, m, height, width) variances of the fields of all layers."""
    out = np.empty((layers.depth, *x.shape))
    second = x * x
    for layer in range(layers.depth):
        out[layer] = _affine(grid, layers, second)
        if layer + 1 < layers.depth:
            second = _second_moments(layers.dual, out[layer])
    return out


def _second_moments(dual: LayerMap, var: np.ndarray) -> np.ndarray:
    """E[phi(u)^2] of every variance: the diagonals of small squares of pairs."""
    values, where = np.unique(var, return_inverse=True)
    block, found = dual(values), np.empty_like(values)
    for start in range(0, len(values), _DIAGONAL):
        part = slice(start, start + _DIAGONAL)
        square = np.minimum(values[part, None], values[None, part])
        found[part] = block(part, part, square, None)[0].diagonal()
    return found[where.reshape(var.shape)]


def _by_arrays(sides: _Sides, grid: Grid, layers: Layers, total: np.ndarray) -> None:
    """Add the sums over positions of M, for the pairs i <= j, by any activation's layer map."""
    m, (height, width) = len(sides.left), sides.left.shape[1:]
    places = height * width
    maps = []
    for layer in range(layers.depth):
        both = [side[layer].reshape(m, places).T for side in (sides.var_left, sides.var_right)]
        maps.append(layers.dual(np.concatenate([part.ravel() for part in both])))
    rows = max(1, NUMBERS // (m * places))
    for start in range(0, m, rows):
        stop = min(start + rows, m)
        second = sides.left[start:stop, None] * sides.right[None, start:]
        for layer in range(layers.depth):
            cov = _affine(grid, layers, second).reshape(stop - start, m - start, places)
            out = np.empty_like(cov)
            for p in range(places):
                i = slice(p * m + start, p * m + stop)
                j = slice((places + p) * m + start, (places + p + 1) * m)
                out[..., p] = maps[layer](i, j, cov[..., p], None)[0]
            second = out.reshape(second.shape)
        total[start:stop, start:] += np.triu(second.sum(axis=(2, 3)))


def _by_compiled(
    sides: _Sides, grid: Grid, layers: Layers, total: np.ndarray, threads: int
) -> None:
    """The same for an activation of :data:`COMPILED`, a few rows a call."""
    rooted = [_scales(var, layers.code) for var in (sides.var_left, sides.var_right)]
    gain = layers.sigma_w**2 / math.prod(grid.window)
    constants = (layers.code, grid.window, grid.before, grid.circular, gain, layers.sigma_b**2)
    left, right = np.ascontiguousarray(sides.left), np.ascontiguousarray(sides.right)
    m = len(left)
    step = max(1, min(64, m // (4 * threads)))

    def run(start: int) -> None:
        _pairs(left, right, *rooted[0], *rooted[1], *constants, start, min(start + step, m), total)

    in_threads(run, range(0, m, step), threads)


def _scales(var: np.ndarray, code: int | None) -> tuple[np.ndarray, np.ndarray]:
    """(m, depth, h, w) arrays a and b of variances such that the dual needs a a' and c b b'.

    relu: standard deviations and their inverses (0 for 0). erf: b = 1 / sqrt(1 + 2 var).
    """
    var = np.ascontiguousarray(np.moveaxis(var, 0, 1))
    if code == COMPILED["erf"]:
        return var, 1.0 / np.sqrt(1.0 + 2.0 * var)
    root = np.sqrt(var)
    return root, np.divide(1.0, root, out=np.zeros_like(root), where=root > 0)


@inner(**OPTIONS)
def _window_sums(values, padded, rows, window, before, circular):
    """Sums over windows of ``values`` (h, w), in place; ``padded`` and ``rows`` are scratch."""
    height, width = values.shape
    up, left = before
    if circular:
        for y in range(padded.shape[0]):
            for x in range(padded.shape[1]):
                padded[y, x] = values[(y - up) % height, (x - left) % width]
    else:
        for y in range(height):
            copy(values[y], padded[up + y, left : left + width])
    for y in range(padded.shape[0]):
        copy(padded[y], rows[y])
        for s in range(1, window[1]):
            for x in range(width):
                rows[y, x] += padded[y, x + s]
    for y in range(height):
        for x in range(width):
            values[y, x] = rows[y, x]
        for s in range(1, window[0]):
            for x in range(width):
                values[y, x] += rows[y + s, x]


@inner(**OPTIONS)
def _apply_dual(code, values, a_i, b_i, a_j, b_j, gain, shift):
    """Covariances from window sums, then E[phi(u) phi(v)], in place; formulas and sources as in
    :mod:`simprior.network.activations`."""
    height, width = values.shape
    for y in range(height):
        if code == 0:
            for x in range(width):
                c = shift + gain * values[y, x]
                rho = min(1.0, max(-1.0, c * b_i[y, x] * b_j[y, x]))
                sine = math.sqrt((1.0 - rho) * (1.0 + rho))
                bend = rho + (sine - math.acos(rho) * rho) * (1.0 / math.pi)
                values[y, x] = 0.5 * a_i[y, x] * a_j[y, x] * bend
        else:
            for x in range(width):
                c = shift + gain * values[y, x]
                ratio = min(1.0, max(-1.0, 2.0 * c * b_i[y, x] * b_j[y, x]))
                values[y, x] = (2.0 / math.pi) * math.asin(ratio)


@numba.njit(cache=True, **OPTIONS)
def _pairs(
    left,
    right,
    a_left,
    b_left,
    a_right,
    b_right,
    code,
    window,
    before,
    circular,
    gain,
    shift,
    start,
    stop,
    total,
):
    """Add to ``total`` the sums over positions of the last M, for start <= i < stop and j >= i."""
    m, depth, height, width = a_left.shape
    values = np.empty((height, width))
    padded = np.zeros((height + window[0] - 1, width + window[1] - 1))
    rows = np.empty((height + window[0] - 1, width))
    for i in range(start, stop):
        for j in range(i, m):
            for y in range(height):
                for x in range(width):
                    values[y, x] = left[i, y, x] * right[j, y, x]
            for layer in range(depth):
                _window_sums(values, padded, rows, window, before, circular)
                _apply_dual(
                    code,
                    values,
                    a_left[i, layer],
                    b_left[i, layer],
                    a_right[j, layer],
                    b_right[j, layer],
                    gain,
                    shift,
                )
            found = 0.0
            for y in range(height):
                for x in range(width):
                    found += values[y, x]
            total[i, j] += found
