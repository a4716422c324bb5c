"""The EP-twisted Gaussian from which orthants are sampled one coordinate after the other.

Given sites (tau, nu) of EP for ``x > c``, ``x = A u``, the twisted Gaussian of temperature kappa is

    q_k(u) ~ N(u; 0, I) prod_i exp(-k tau_i x_i^2/2 + (nu_i - (1 - k) tau_i mu_i) x_i),

with mu the EP mean, which is the mean of every q_k. Its covariance in the coordinates of the r
pivot inputs has the Cholesky factor ``C_k = L U_k^-T``, ``U_k U_k^T = I + k A^T diag(tau) A``,
``L`` the Cholesky factor of K on the pivots: products of well-conditioned triangles, no difference
of covariances. With delta = x - mu the density ratio is

    ln N(u; 0, I)/q_k(u) = base - ln det U_k + k sum tau delta^2/2 - sum slope delta,
    slope = nu - tau mu,  base = -sum mu slope/2.

When coordinate j is drawn, the constraints that end on it are imposed exactly, so their sites are
divided out: the conditional of q_k, precision 1/C_jj^2, loses the precision ``removed``. What is
left is the prior conditional times the sites of the constraints still to come.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack, solve_triangular

from simprior.errors import NumericalError
from simprior.gp.ep import Sites
from simprior.gp.linalg import reverse_cholesky

ZERO = 1e-9  # coefficients below ZERO times the largest of their row are rounding


@dataclass(frozen=True)
class Twist:
    """Everything the sequential sampler needs about one event; r latent coordinates, p = m - r.

    ``order`` (r,) are the inputs drawn, in this order; ``rest`` (p,) the others, whose constraints
    ``B x > rest_lower`` bear on the coordinate ``last`` (p,), sorted. ``C`` (k, r, r), ``logdet``
    (k,) and ``removed`` (k, r) belong to the temperatures ``kappa`` (k,); ``mean``, ``tau``,
    ``slope`` = nu - tau mu and ``lower`` are in the order of ``order`` followed by ``rest`` (m,).
    """

    order: np.ndarray
    rest: np.ndarray
    B: np.ndarray
    last: np.ndarray
    kappa: np.ndarray
    C: np.ndarray
    logdet: np.ndarray
    removed: np.ndarray
    mean: np.ndarray
    tau: np.ndarray
    slope: np.ndarray
    lower: np.ndarray
    base: float

    @property
    def rank(self) -> int:
        """Number of coordinates drawn."""
        return len(self.order)


def make_twist(
    K: np.ndarray, A: np.ndarray, lower: np.ndarray, sites: Sites, kappa: np.ndarray
) -> Twist:
    """Order the coordinates by EP cavity z-score, smallest first, and factor each temperature.

    ``K`` (m, m) and ``A`` (m, r), ``A A^T = K``, carry the signs of the function.
    """
    m, r = A.shape
    if r == m:
        order, rest = np.argsort(sites.z, kind="stable"), np.empty(0, np.intp)
        L = _lower_factor(K[np.ix_(order, order)], A[order])
        B, last, rows = np.empty((0, r)), np.empty(0, np.intp), L
    else:
        order = _pivots(A, sites.z)
        L, rows, rest, B, last = _weight_space(A, order)
    index = np.concatenate([order, rest])
    tau, nu = sites.tau[index], sites.nu[index]
    mean, inner = _mean(rows, tau, nu)
    C, logdet = np.empty((len(kappa), r, r)), np.empty(len(kappa))
    for k, value in enumerate(kappa):
        J = value * inner
        J[np.diag_indices(r)] += 1.0
        U = reverse_cholesky(J)
        C[k] = solve_triangular(U, L.T, lower=False, check_finite=False).T
        logdet[k] = np.log(np.diag(U)).sum()
    own = tau[:r] + np.bincount(last, tau[r:] * B[np.arange(m - r), last] ** 2, r)
    slope = nu - tau * mean
    base = -0.5 * float(mean @ slope)
    return Twist(
        order, rest, B, last, kappa, C, logdet, np.outer(kappa, own), mean, tau, slope,
        lower[index], base,
    )  # fmt: skip


def _lower_factor(K: np.ndarray, A: np.ndarray) -> np.ndarray:
    """Cholesky factor of K = A A^T, from A by rotations where K itself is too ill-conditioned."""
    L, info = lapack.dpotrf(K, lower=1, clean=1)
    if info == 0:
        return L
    R = np.asarray(np.linalg.qr(A.T, mode="r"))
    return (R * np.where(np.diag(R) < 0.0, -1.0, 1.0)[:, None]).T


def _mean(rows: np.ndarray, tau: np.ndarray, nu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """EP mean from the sites (exactly stationary) and A^T diag(tau) A."""
    W = np.sqrt(tau)[:, None] * rows
    inner = W.T @ W
    J = inner.copy()
    J[np.diag_indices_from(J)] += 1.0
    factor, info = lapack.dpotrf(J, lower=1)
    if info != 0:
        raise NumericalError("the information matrix of the sites is not positive definite")
    return rows @ lapack.dpotrs(factor, rows.T @ nu, lower=1)[0], inner


def _pivots(A: np.ndarray, z: np.ndarray) -> np.ndarray:
    """r independent rows of A, small z first among those that keep the factor well conditioned."""
    r = A.shape[1]
    residual = A / np.linalg.norm(A, axis=1)[:, None]
    chosen = np.empty(r, np.intp)
    for j in range(r):
        size = np.einsum("ij,ij->i", residual, residual)
        fit = np.flatnonzero(size > 0.1 * size.max())
        chosen[j] = fit[np.argmin(z[fit])]
        axis = residual[chosen[j]] / np.sqrt(size[chosen[j]])
        residual = residual - np.outer(residual @ axis, axis)
    return chosen


def _weight_space(
    A: np.ndarray, order: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Triangular factor on the pivots; the other inputs as combinations B of the pivots."""
    m, r = A.shape
    rest = np.setdiff1d(np.arange(m), order)
    Q, R = np.linalg.qr(A[order].T)
    sign = np.where(np.diag(R) < 0.0, -1.0, 1.0)
    L = (R * sign[:, None]).T
    others = A[rest] @ (Q * sign)
    B = solve_triangular(L, others.T, lower=True, trans="T").T
    B[np.abs(B) < ZERO * np.abs(B).max(1, keepdims=True)] = 0.0
    last = r - 1 - np.argmax(B[:, ::-1] != 0.0, axis=1)
    by_last = np.argsort(last, kind="stable")
    rest, B, last = rest[by_last], B[by_last], last[by_last]
    return L, np.vstack([L, others[by_last]]), rest, B, last
