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

From log-weights to ln P: mean, standard error, effective sample size, Pareto k-hat.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
from scipy.linalg import lapack, solve_triangular

from simprior.errors import NumericalError
from simprior.gp.covariance import reverse_cholesky
from simprior.gp.ep import Sites
from simprior.gp.normal import OPTIONS

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


K_LIMIT = 0.7  # above it standard errors of importance sampling are not trusted


@dataclass(frozen=True)
class Summary:
    """ln of the mean weight, its standard error (nats), effective draws and Pareto k-hat."""

    value: float
    stderr: float
    ess: float
    pareto_k: float


def summarise(logw: np.ndarray, strata: np.ndarray, count: int) -> Summary:
    """Combine n log-weights; ``strata`` (n,) in 0..count-1 were drawn in fixed numbers.

    The standard error is that of the stratified mean by the delta method, multiplied by
    ``sqrt(1 + 3/ess)``: with few effective draws the sample variance of skewed weights falls short.
    With all weights zero the value is -inf and the standard error infinite.
    """
    n = len(logw)
    top = float(logw.max())
    if top == -math.inf:
        return Summary(-math.inf, math.inf, 0.0, math.nan)
    w = np.exp(logw - top)
    total = float(w.sum())
    size = np.bincount(strata, minlength=count)
    first = np.bincount(strata, w, count)
    second = np.bincount(strata, w * w, count)
    used = size > 1
    spread = second[used] - first[used] ** 2 / size[used]
    variance = float((spread * size[used] / (size[used] - 1.0)).sum())
    ess = total**2 / float(second.sum())
    relative = math.sqrt(max(variance, 0.0)) / total
    floor = 2e-16 * math.sqrt(n)
    stderr = max(relative, floor) * math.sqrt(1.0 + 3.0 / ess)
    return Summary(top + math.log(total / n), stderr, ess, pareto_k(w))


def pareto_k(weights: np.ndarray) -> float:
    """Shape of the generalised Pareto law fitted to the largest weights (Vehtari et al. 2024).

    The tail is the min(n/5, 3 sqrt n) largest; fit by Zhang & Stephens (2009), shrunk towards 1/2
    as if by ten observations. NaN with fewer than 5 tail weights, -inf where all are equal.
    """
    n = len(weights)
    tail = int(min(0.2 * n, 3.0 * math.sqrt(n)))
    if tail < 5:
        return math.nan
    ordered = np.partition(weights, n - tail - 1)[n - tail - 1 :]
    cut = float(ordered[0])
    excess = np.sort(ordered[1:] - cut)
    if excess[-1] <= 1e-12 * cut:
        return -math.inf
    k = _gpd_shape(np.maximum(excess, 1e-300))
    return float((tail * k + 5.0) / (tail + 10.0))


@numba.njit(**OPTIONS)
def _gpd_shape(x: np.ndarray) -> float:
    """Posterior-mean shape of a generalised Pareto law; x sorted, positive."""
    n = x.shape[0]
    grid = 30 + int(math.sqrt(n))
    quartile = x[int(n / 4.0 + 0.5) - 1]
    theta, profile = np.empty(grid), np.empty(grid)
    for j in range(grid):
        theta[j] = 1.0 / x[n - 1] + (1.0 - math.sqrt(grid / (j + 0.5))) / (3.0 * quartile)
        k = 0.0
        for i in range(n):
            k += math.log1p(-theta[j] * x[i])
        k /= n
        profile[j] = n * (math.log(-theta[j] / k) - k - 1.0)
    total = np.exp(profile - profile.max())
    best = (theta * total).sum() / total.sum()
    k = 0.0
    for i in range(n):
        k += math.log1p(-best * x[i])
    return k / n
