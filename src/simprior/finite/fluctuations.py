"""How the kernels of finite layers fluctuate, and what that does to a probability, at order 1/n.

**The expansion.** Given the hidden layers, the outputs are Gaussian. The kernel that layer l hands
on is sigma_b^2 + sigma_w^2/n_l sum_i phi(u_i) phi(u_i)^T, a mean over its n_l units: its limit K_l,
plus a fluctuation whose covariance is that of one unit, over n_l. The layers above map a kernel to
the output's, T_l. So with F(K) the probability of the event under N(0, K), to first order

    E[F] = F(K) + sum_l 1/(2 n_l) E[ d^2/de^2 F(T_l(K_l + e G)) at e = 0 ],

G a random symmetric matrix with mean 0 and the covariance of sigma_w^2 phi(u) phi(u)^T, u ~ N(0,
K_{l-1}). The second derivative is F''[H, H] + F'[J], where H and J are the first and the second
derivative of T_l along G. There is a term of each layer, and nothing else at order 1/n.

**Directions.** For the last hidden layer T is the identity, so J = 0 and H is that of one unit:
:class:`Units`. For the layers below, :class:`Directions` are sums over ``BLOCK`` units, with the
same covariance and shorter tails; T is differentiated by central differences.

**Derivatives of F.** K = A A^T, outputs z = A y. With y ~ N(0, I) given the event, and H, J in the
basis of y (A^+ H A^+T),

    F'[J]/F     = E[ y^T J y - tr J ] / 2
    F''[H, H]/F = E[ (y^T H y - tr H)^2 ] / 4 - E[ y^T H^2 y ] + tr H^2 / 2.

The event is a cone, so |y| does not depend on y/|y|: powers of |y| are replaced by their means. A
change of scale, which does nothing to signs, then gives exactly 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import solve_triangular

from simprior.gp.covariance import Factor, root
from simprior.gp.kernels import nngp, output_kernel
from simprior.network.callables import array_function
from simprior.network.density import refuse_density
from simprior.network.spec import Network

BLOCK = 256  # units in a direction
STEP = 2e-3  # of the central differences; errors of order STEP^2, and of rounding / STEP^2
CHUNK = 1 << 22  # numbers at a time


@dataclass(frozen=True)
class Basis:
    """The basis in which the outputs are N(0, I): the limit is ``lower lower^T`` on ``pivots``.

    ``pivots`` (r,) are inputs, ``lower`` (r, r) is triangular; the other inputs follow from them.
    """

    pivots: np.ndarray
    lower: np.ndarray

    @classmethod
    def of(cls, matrix: Factor) -> Basis:
        """That of a factor with pivots."""
        return cls(matrix.pivots, np.ascontiguousarray(matrix.A[matrix.pivots]))

    def points(self, z: np.ndarray) -> np.ndarray:
        """(k, m) vectors over the inputs -> (k, r)."""
        return np.ascontiguousarray(self._solve(z[:, self.pivots].T).T)

    def matrix(self, H: np.ndarray) -> np.ndarray:
        """(m, m) symmetric change of the kernel -> (r, r)."""
        half = self._solve(H[np.ix_(self.pivots, self.pivots)])
        return self._solve(half.T)

    def _solve(self, columns: np.ndarray) -> np.ndarray:
        return np.asarray(solve_triangular(self.lower, columns, lower=True, check_finite=False))


@dataclass(frozen=True)
class Layer:
    """One hidden layer in the limit, on fixed inputs.

    ``number`` counts from 1; ``root`` (m, k) is a factor of the covariance of its fields;
    ``above`` (m, m) the covariance of the fields of the next layer.
    """

    network: Network
    number: int
    root: np.ndarray
    above: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """(m, m) mean of sigma_w^2 phi(u) phi(u)^T."""
        return self.above - self.network.sigma_bs[self.number] ** 2

    def features(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """(count, m) values sigma_w phi(u) of independent units."""
        fields = rng.standard_normal((count, self.root.shape[1])) @ self.root.T
        return self.network.sigma_ws[self.number] * array_function(self.network)(fields)


def layers_of(network: Network, X: np.ndarray) -> list[Layer]:
    """The hidden layers of a network on the inputs X (m, d), from the first to the last."""
    refuse_density(network, "fluctuations of wide layers")
    kernels = [_kernel(network, X, layer) for layer in range(network.depth + 1)]
    return [
        Layer(network, number, root(kernels[number - 1]), kernels[number])
        for number in range(1, network.depth + 1)
    ]


def _kernel(network: Network, X: np.ndarray, depth: int) -> np.ndarray:
    """Covariance of the fields that ``depth`` hidden layers give rise to."""
    below = replace(
        network,
        n=X.shape[1],
        hidden=network.hidden[:depth],
        sigma_w=network.sigma_ws[: depth + 1],
        sigma_b=network.sigma_bs[: depth + 1],
        inputs=X,
    )
    return nngp(below, X)


@dataclass(frozen=True)
class Units:
    """Units of the last hidden layer, in the basis of the outputs.

    ``features`` (U, r) with the mean square ``mean`` (r, r), known exactly.
    """

    features: np.ndarray
    mean: np.ndarray

    @classmethod
    def draw(cls, layer: Layer, basis: Basis, count: int, rng: np.random.Generator) -> Units:
        """``count`` units of ``layer``."""
        return cls(basis.points(layer.features(count, rng)), basis.matrix(layer.mean))

    def terms(self, angles: np.ndarray) -> np.ndarray:
        """(k,) values of F''[H, H] / 2F at unit vectors y/|y| (k, r), averaged over the units."""
        psi, mean = self.features, self.mean
        count, r = psi.shape
        size = np.einsum("ua,ua->u", psi, psi)
        trace = size - np.trace(mean)
        square = psi.T @ psi / count
        weighted = psi.T @ (size[:, None] * psi) / count
        both = mean @ square
        second = weighted - both - both.T + mean @ mean
        form = _forms(angles, mean)
        fourth = self._fourth_powers(angles) - 2.0 * form * _forms(angles, square) + form**2
        cross = _forms(angles, weighted - np.trace(mean) * square) - form * trace.mean()
        return _half(r, fourth, cross, float((trace**2).mean()), angles, second)

    def _fourth_powers(self, angles: np.ndarray) -> np.ndarray:
        """Mean over the units of (psi . y/|y|)^4."""
        out = np.empty(len(angles))
        rows = max(1, CHUNK // len(self.features))
        for start in range(0, len(angles), rows):
            part = angles[start : start + rows] @ self.features.T
            part *= part
            out[start : start + rows] = np.einsum("ku,ku->k", part, part) / len(self.features)
        return out


@dataclass(frozen=True)
class Directions:
    """Directions in which the output's kernel moves with a layer below the last.

    ``first`` (B, r, r) are derivatives along each, ``curve`` (r, r) the mean second derivative.
    """

    first: np.ndarray
    curve: np.ndarray

    @classmethod
    def draw(cls, layer: Layer, basis: Basis, count: int, rng: np.random.Generator) -> Directions:
        """``count`` directions of ``layer``."""
        r = len(basis.pivots)
        first, curve = np.empty((count, r, r)), np.zeros((r, r))
        middle = output_kernel(layer.network, layer.above, layer.number + 1)
        for k in range(count):
            features = layer.features(BLOCK, rng)
            G = math.sqrt(BLOCK) * (features.T @ features / BLOCK - layer.mean)
            up, down = (
                output_kernel(layer.network, layer.above + step * G, layer.number + 1)
                for step in (STEP, -STEP)
            )
            first[k] = basis.matrix((up - down) / (2.0 * STEP))
            curve += basis.matrix((up + down - 2.0 * middle) / STEP**2) / count
        return cls(first, curve)

    def terms(self, angles: np.ndarray) -> np.ndarray:
        """(k,) values of (F''[H, H] + F'[J]) / 2F at unit vectors y/|y| (k, r), averaged."""
        count, r = self.first.shape[:2]
        traces = np.trace(self.first, axis1=1, axis2=2)
        forms = np.stack([_forms(angles, H) for H in self.first])
        second = np.mean([H @ H for H in self.first], axis=0)
        fourth, cross = (forms**2).mean(axis=0), traces @ forms / count
        bent = 0.25 * (r * _forms(angles, self.curve) - np.trace(self.curve))
        return bent + _half(r, fourth, cross, float((traces**2).mean()), angles, second)


def _forms(angles: np.ndarray, H: np.ndarray) -> np.ndarray:
    """(k,) values of v^T H v."""
    return np.einsum("ka,ka->k", angles @ H, angles)


def _half(
    r: int,
    fourth: np.ndarray,
    cross: np.ndarray,
    trace: float,
    angles: np.ndarray,
    second: np.ndarray,
) -> np.ndarray:
    """F''[H, H] / 2F from means over H: of (v^T H v)^2, of tr H v^T H v, of (tr H)^2 and of H^2.

    E|y|^2 = r and E|y|^4 = r (r + 2).
    """
    whole = 0.25 * (r * (r + 2.0) * fourth - 2.0 * r * cross + trace)
    return 0.5 * (whole - r * _forms(angles, second) + 0.5 * np.trace(second))
