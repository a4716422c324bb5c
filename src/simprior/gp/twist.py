"""The EP-twisted Gaussian, and its draws above thresholds, one coordinate after the other.

**The twisted Gaussian.** Given sites (tau, nu) of EP for ``x > c``, ``x = A u``, that of
temperature kappa is

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

**Its draws** (Genz's recursion, compiled). :class:`Draws` carries n draws forward through blocks of
coordinates. For each temperature it keeps the standardised innovations E and the log of the product
of one-dimensional normalisers, so that at the end the density of every draw under every temperature
is known (balance heuristic).

At coordinate j, with m' the conditional mean of delta_j under q_k, P = 1/C_jj^2, T the precision
removed and l the linear term removed, the draw is N((P m' - l)/p, 1/p), p = P - T, truncated to its
interval, and the normaliser is

    sqrt(P/p) exp((P m' - l)^2/(2p) - P m'^2/2) Pr(interval).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np
from scipy.linalg import lapack, solve_triangular

from simprior.errors import NumericalError
from simprior.gp.ep import Sites
from simprior.gp.triangles import lower_factor, reverse_cholesky, rows_over
from simprior.numerics.compiled import (
    OPTIONS,
    TAIL,
    exp_negative,
    inner,
    interval_draw,
    log_interval,
    quantile,
    scaled_survival,
    select,
    survival,
    tail_quantile,
)

BLOCK = 32  # coordinates drawn between updates by matrix products
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
        C[k] = rows_over(L, U)
        logdet[k] = np.log(np.diag(U)).sum()
    own = tau[:r] + np.bincount(last, tau[r:] * B[np.arange(m - r), last] ** 2, r)
    slope = nu - tau * mean
    base = -0.5 * float(mean @ slope)
    return Twist(
        order=order,
        rest=rest,
        B=B,
        last=last,
        kappa=kappa,
        C=C,
        logdet=logdet,
        removed=np.outer(kappa, own),
        mean=mean,
        tau=tau,
        slope=slope,
        lower=lower[index],
        base=base,
    )


def _lower_factor(K: np.ndarray, A: np.ndarray) -> np.ndarray:
    """Cholesky factor of K = A A^T, from A by rotations where K itself is too ill-conditioned."""
    L = lower_factor(K)
    if L is not None:
        return L
    R = np.asarray(np.linalg.qr(A.T, mode="r"))
    return (R * np.where(np.diag(R) < 0.0, -1.0, 1.0)[:, None]).T


def _mean(rows: np.ndarray, tau: np.ndarray, nu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """EP mean from the sites (exactly stationary) and A^T diag(tau) A."""
    W = np.sqrt(tau)[:, None] * rows
    inner = W.T @ W
    J = inner.copy()
    J[np.diag_indices_from(J)] += 1.0
    factor = lower_factor(J)
    if factor is None:
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


@inner(**OPTIONS)
def _one_sided(
    lower: float,
    slope: float,
    removed: float,
    scale: float,
    center: np.ndarray,
    x: np.ndarray,
    e: np.ndarray,
    mantissa: np.ndarray,
    logs: np.ndarray,
) -> None:
    """Innovations and normalisers of one temperature at one coordinate, for all draws."""
    P = 1.0 / (scale * scale)
    p = P - removed
    root = math.sqrt(p)
    inverse, gain, shift = 1.0 / scale, P / p, slope / p
    square = 0.5 * P * removed / p
    constant = 0.5 * math.log(gain) + 0.5 * slope * shift
    for d in range(x.shape[0]):
        e[d] = (x[d] - center[d]) * inverse
    for d in range(x.shape[0]):
        a = (lower - gain * center[d] + shift) * root
        g = scaled_survival(abs(a))
        other = 1.0 - g * exp_negative(-0.5 * a * a)
        mantissa[d] *= select(a > 0.0, g, other)
    for d in range(x.shape[0]):
        c = center[d]
        a = (lower - gain * c + shift) * root
        a = select(a > 0.0, a, 0.0)
        logs[d] += constant + c * (square * c - gain * slope) - 0.5 * a * a


@inner(**OPTIONS)
def _draw_one_sided(
    lower: float,
    slope: float,
    removed: np.ndarray,
    scale: np.ndarray,
    center: np.ndarray,
    own: np.ndarray,
    uniform: np.ndarray,
    x: np.ndarray,
    work: np.ndarray,
) -> None:
    """Truncated normal draws of one coordinate; ``work`` (3, n) is scratch."""
    mid, spread, a = work[0], work[1], work[2]
    precision = 1.0 / (scale * scale)
    sd = 1.0 / np.sqrt(precision - removed)
    for d in range(x.shape[0]):
        t = own[d]
        mid[d] = (precision[t] * center[t, d] - slope) * sd[t] * sd[t]
        spread[d] = sd[t]
    for d in range(x.shape[0]):
        a[d] = (lower - mid[d]) / spread[d]
    for d in range(x.shape[0]):
        x[d] = uniform[d] * survival(a[d])
    for d in range(x.shape[0]):
        y = -quantile(x[d])
        x[d] = select(y > a[d], y, a[d])
    for d in range(x.shape[0]):
        if a[d] > TAIL:
            x[d] = tail_quantile(a[d], uniform[d])
    for d in range(x.shape[0]):
        x[d] = mid[d] + x[d] * spread[d]


@inner(**OPTIONS)
def _two_sided(
    low: np.ndarray,
    high: np.ndarray,
    kappa: float,
    removed: float,
    scale: float,
    terms: np.ndarray,
    center: np.ndarray,
    x: np.ndarray,
    e: np.ndarray,
    logs: np.ndarray,
) -> None:
    """As :func:`_one_sided` where several constraints end; ``terms`` as made by :func:`_bounds`."""
    P = 1.0 / (scale * scale)
    p = P - removed
    root = math.sqrt(p)
    constant = 0.5 * math.log(P / p)
    for d in range(x.shape[0]):
        c = center[d]
        e[d] = (x[d] - c) / scale
        pull = P * c - terms[0, d] + kappa * terms[1, d]
        mid = pull / p
        logs[d] += constant + 0.5 * (pull * mid - P * c * c)
        logs[d] += 0.5 * kappa * terms[2, d] - terms[3, d]
        logs[d] += log_interval((low[d] - mid) * root, (high[d] - mid) * root)


@inner(**OPTIONS)
def _draw_two_sided(
    low: np.ndarray,
    high: np.ndarray,
    kappa: np.ndarray,
    removed: np.ndarray,
    scale: np.ndarray,
    terms: np.ndarray,
    center: np.ndarray,
    own: np.ndarray,
    uniform: np.ndarray,
    x: np.ndarray,
) -> None:
    for d in range(x.shape[0]):
        t = own[d]
        P = 1.0 / (scale[t] * scale[t])
        p = P - removed[t]
        root = math.sqrt(p)
        mid = (P * center[t, d] - terms[0, d] + kappa[t] * terms[1, d]) / p
        if high[d] > low[d]:
            y = interval_draw((low[d] - mid) * root, (high[d] - mid) * root, uniform[d])
            x[d] = min(max(mid + y / root, low[d]), high[d])
        else:
            x[d] = low[d]


@inner(**OPTIONS)
def _bounds(
    j: int,
    first: int,
    stop: int,
    B: np.ndarray,
    tau: np.ndarray,
    slope: np.ndarray,
    lower: np.ndarray,
    X: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    terms: np.ndarray,
) -> None:
    """Interval of coordinate j from the constraints first..stop-1 of ``B`` that end on it.

    ``terms`` (4, n): linear term of the sites divided out, and sums over the constraints of
    tau B_ij t, tau t^2 and slope t, with t = sum_{k<j} B_ik delta_k.
    """
    r, count = B.shape[1], low.shape[0]
    partial = np.empty(count)
    terms[1:] = 0.0
    linear = slope[j]
    for i in range(first, stop):
        partial[:] = 0.0
        for k in range(j):
            weight = B[i, k]
            if weight != 0.0:
                for d in range(count):
                    partial[d] += weight * X[k, d]
        weight, s, v = B[i, j], slope[r + i], tau[r + i]
        linear += s * weight
        for d in range(count):
            t = partial[d]
            terms[1, d] += v * weight * t
            terms[2, d] += v * t * t
            terms[3, d] += s * t
            bound = (lower[r + i] - t) / weight
            if weight > 0.0:
                low[d] = max(low[d], bound)
            else:
                high[d] = min(high[d], bound)
    terms[0] = linear


@inner(**OPTIONS)
def _accumulate(
    start: int, stop: int, weight: np.ndarray, E: np.ndarray, target: np.ndarray
) -> None:
    """target += sum of weight_k E_k over start <= k < stop, four rows a pass."""
    k = start
    while k + 4 <= stop:
        w0, w1, w2, w3 = weight[k], weight[k + 1], weight[k + 2], weight[k + 3]
        e0, e1, e2, e3 = E[k], E[k + 1], E[k + 2], E[k + 3]
        for d in range(target.shape[0]):
            target[d] += (w0 * e0[d] + w1 * e1[d]) + (w2 * e2[d] + w3 * e3[d])
        k += 4
    for j in range(k, stop):
        w0, e0 = weight[j], E[j]
        for d in range(target.shape[0]):
            target[d] += w0 * e0[d]


@numba.njit(cache=True, **OPTIONS)
def advance(
    start: int,
    stop: int,
    kappa: np.ndarray,
    C: np.ndarray,
    removed: np.ndarray,
    tau: np.ndarray,
    slope: np.ndarray,
    lower: np.ndarray,
    B: np.ndarray,
    last: np.ndarray,
    uniform: np.ndarray,
    own: np.ndarray,
    center: np.ndarray,
    X: np.ndarray,
    E: np.ndarray,
    logs: np.ndarray,
) -> None:
    """Draw coordinates start..stop-1 of every draw; X holds delta = x - mean, as does ``lower``.

    ``center`` (k, stop - start, n) holds C E over the coordinates before ``start`` and is completed
    in place; X (r, n), E (k, r, n) and logs (k, n) are written.
    """
    temperatures, count = C.shape[0], X.shape[1]
    mantissa = np.ones((temperatures, count))
    low, high, terms = np.empty(count), np.empty(count), np.empty((4, count))
    work = np.empty((3, count))
    for j in range(start, stop):
        row = j - start
        for t in range(temperatures):
            _accumulate(start, j, C[t, j], E[t], center[t, row])
        first, end = np.searchsorted(last, j), np.searchsorted(last, j + 1)
        scale, now = C[:, j, j], center[:, row]
        if end > first:
            low[:] = lower[j]
            high[:] = math.inf
            _bounds(j, first, end, B, tau, slope, lower, X, low, high, terms)
            _draw_two_sided(
                low, high, kappa, removed[:, j], scale, terms, now, own, uniform[j], X[j]
            )
            for t in range(temperatures):
                _two_sided(
                    low,
                    high,
                    kappa[t],
                    removed[t, j],
                    scale[t],
                    terms,
                    center[t, row],
                    X[j],
                    E[t, j],
                    logs[t],
                )
        else:
            _draw_one_sided(
                lower[j], slope[j], removed[:, j], scale, now, own, uniform[j], X[j], work
            )
            for t in range(temperatures):
                _one_sided(
                    lower[j],
                    slope[j],
                    removed[t, j],
                    scale[t],
                    center[t, row],
                    X[j],
                    E[t, j],
                    mantissa[t],
                    logs[t],
                )
    for t in range(temperatures):
        for d in range(count):
            logs[t, d] += math.log(mantissa[t, d])


class Draws:
    """n draws in progress: rows of ``X`` (r, n) below ``position`` are drawn.

    ``own`` (n,) is the index of the temperature each draw is drawn from. X holds x - mean.
    """

    def __init__(self, twist: Twist, uniform: np.ndarray, own: np.ndarray) -> None:
        r, n = uniform.shape
        k = len(twist.kappa)
        self.twist, self.uniform, self.own, self.position = twist, uniform, own, 0
        self.X = np.empty((r, n))
        self.E = np.empty((k, r, n))
        self.logs = np.zeros((k, n))
        self.lower = twist.lower - twist.mean

    def advance(self, block: int = BLOCK) -> None:
        """Draw the next ``block`` coordinates."""
        t, start = self.twist, self.position
        stop = min(start + block, t.rank)
        center = np.matmul(t.C[:, start:stop, :start], self.E[:, :start])
        advance(
            start,
            stop,
            t.kappa,
            t.C,
            t.removed,
            t.tau,
            t.slope,
            self.lower,
            t.B,
            t.last,
            self.uniform,
            self.own,
            center,
            self.X,
            self.E,
            self.logs,
        )
        self.position = stop

    def run(self, block: int = BLOCK) -> Draws:
        """Draw all coordinates."""
        while self.position < self.twist.rank:
            self.advance(block)
        return self

    def log_ratios(self) -> np.ndarray:
        """(k, n) array of ln target/q_k, target the Gaussian restricted to the event."""
        return self.logs + (self.twist.base - self.twist.logdet)[:, None]

    def log_weights(self, share: np.ndarray) -> np.ndarray:
        """ln of the balance-heuristic weights (Veach & Guibas 1995), ``share`` (k,) of draws."""
        return -logsumexp(np.log(share)[:, None] - self.log_ratios())

    def points(self) -> np.ndarray:
        """(n, m) draws in the order of the inputs."""
        t = self.twist
        out = np.empty((self.X.shape[1], len(t.mean)))
        out[:, t.order] = self.X.T + t.mean[: t.rank]
        if len(t.rest):
            out[:, t.rest] = (t.B @ self.X).T + t.mean[t.rank :]
        return out


def logsumexp(values: np.ndarray) -> np.ndarray:
    """ln of the sum of exp over the first axis; infinite where a value is."""
    top = values.max(0)
    dead = top == math.inf
    with np.errstate(invalid="ignore"):
        total = top + np.log(np.exp(values - top).sum(0))
    return np.where(dead, math.inf, total)
