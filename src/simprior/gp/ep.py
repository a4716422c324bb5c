"""Expectation propagation for orthant probabilities.

The event is ``x_i > c_i`` for all i, ``x ~ N(0, K)``. Expectation propagation (EP) replaces each
constraint by a Gaussian site ``exp(-tau_i x_i^2 / 2 + nu_i x_i)`` whose moments match (Cunningham,
Hennig & Lacoste-Julien 2011; Rasmussen & Williams 2006, section 3.6). Sites are updated one after
the other: parallel undamped updates diverge on simple functions.

There are three sweeps over the sites, which give the same result up to rounding: rank-1 updates of
the posterior covariance; the same updates delayed and applied in blocks, for large m (a small copy
of the covariance of the block is kept up to date, and the (m, m) matrix follows once a block, by
matrix products, as in quantum Monte Carlo codes); and updates in weight space, for K of low rank.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numba
import numpy as np
from scipy.linalg import solve_triangular

from simprior.errors import NumericalError
from simprior.gp.tiles import Run, one_by_one
from simprior.gp.triangles import reverse_cholesky, rows_over
from simprior.numerics.compiled import (
    OPTIONS,
    hazard,
    inner,
    log_survival_array,
    truncated_variance,
)

PANEL = 512  # rows that a delayed update is applied to at a time
TOL = 1e-7
MAX_SWEEPS = 200
BLOCK_FROM = 200  # from this m on updates are delayed, BLOCK sites at a time
BLOCK = 128
WEIGHT_SPACE = 0.7  # ranks below this share of m are swept in weight space
EMPTY = np.empty((1, 0))
SKIP = 0.1  # sites that would move by less than SKIP * tol are left for a later sweep


@inner(**OPTIONS)
def site_update(
    mean: float, variance: float, tau: float, nu: float, lower: float, damping: float
) -> tuple[float, float, float]:
    """New (tau, nu) of one site by moment matching, and the change of its marginal."""
    t = 1.0 / variance - tau
    cavity_var = 1.0 / t
    cavity_mean = (mean / variance - nu) * cavity_var
    sd = math.sqrt(cavity_var)
    z = (cavity_mean - lower) / sd
    _, ratio = hazard(z)
    shrink = truncated_variance(z, ratio)
    new_mean = cavity_mean + sd * ratio
    new_tau = max((1.0 - shrink) / shrink, 0.0) * t
    new_nu = (t + new_tau) * new_mean - t * cavity_mean
    delta = abs(new_mean - mean) / math.sqrt(variance) + abs(shrink * cavity_var / variance - 1.0)
    return tau + damping * (new_tau - tau), nu + damping * (new_nu - nu), delta


@numba.njit(cache=True, **OPTIONS)
def rank_one_sweep(
    cov: np.ndarray,
    mean: np.ndarray,
    tau: np.ndarray,
    nu: np.ndarray,
    lower: np.ndarray,
    damping: float,
    threshold: float,
    columns: np.ndarray,
    gains: np.ndarray,
    shifts: np.ndarray,
) -> float:
    """One sequential sweep in place, rank-1 updates of ``cov`` and ``mean``; largest change.

    Update i is ``cov -= gain_i c_i c_i^T``, ``mean += shift_i c_i``, c_i the column i at that time;
    it is recorded in ``columns`` (m, m), ``gains`` and ``shifts`` (m,) unless they have size 0.
    Only the lower triangle of ``cov`` is read and kept up to date. Returns ``inf`` if a cavity
    variance became negative.
    """
    m = mean.shape[0]
    column = np.empty(m)
    largest = 0.0
    for i in range(m):
        variance = cov[i, i]
        if not (variance > 0.0 and variance * tau[i] < 1.0):
            return math.inf
        new_tau, new_nu, delta = site_update(mean[i], variance, tau[i], nu[i], lower[i], damping)
        largest = max(largest, delta)
        if delta < threshold:
            continue
        d_tau, d_nu = new_tau - tau[i], new_nu - nu[i]
        tau[i], nu[i] = new_tau, new_nu
        denominator = 1.0 + d_tau * variance
        shift = (d_nu - d_tau * mean[i]) / denominator
        gain = d_tau / denominator
        for r in range(i + 1):
            column[r] = cov[i, r]
        for r in range(i + 1, m):
            column[r] = cov[r, i]
        if gains.shape[0] > 0:
            for r in range(m):
                columns[i, r] = column[r]
            gains[i], shifts[i] = gain, shift
        for k in range(m):
            mean[k] += shift * column[k]
        for r in range(m):
            scaled = gain * column[r]
            row = cov[r]
            for k in range(r + 1):
                row[k] -= scaled * column[k]
    return largest


@numba.njit(cache=True, **OPTIONS)
def weight_sweep(
    cov: np.ndarray,
    mean: np.ndarray,
    A: np.ndarray,
    tau: np.ndarray,
    nu: np.ndarray,
    lower: np.ndarray,
    damping: float,
    threshold: float,
) -> float:
    """The same on r < m weights u, x = A u: ``cov`` (r, r) and ``mean`` (r,) are those of u."""
    r = mean.shape[0]
    column = np.empty(r)
    largest = 0.0
    for i in range(A.shape[0]):
        variance, center = 0.0, 0.0
        for j in range(r):
            row, total = cov[j], 0.0
            for k in range(r):
                total += row[k] * A[i, k]
            column[j] = total
            variance += total * A[i, j]
            center += mean[j] * A[i, j]
        if not (variance > 0.0 and variance * tau[i] < 1.0):
            return math.inf
        new_tau, new_nu, delta = site_update(center, variance, tau[i], nu[i], lower[i], damping)
        largest = max(largest, delta)
        if delta < threshold:
            continue
        d_tau, d_nu = new_tau - tau[i], new_nu - nu[i]
        tau[i], nu[i] = new_tau, new_nu
        denominator = 1.0 + d_tau * variance
        shift = (d_nu - d_tau * center) / denominator
        gain = d_tau / denominator
        for j in range(r):
            mean[j] += shift * column[j]
            scaled = gain * column[j]
            row = cov[j]
            for k in range(r):
                row[k] -= scaled * column[k]
    return largest


def delayed_sweep(
    cov: np.ndarray,
    mean: np.ndarray,
    tau: np.ndarray,
    nu: np.ndarray,
    lower: np.ndarray,
    damping: float,
    threshold: float,
    block: int,
    run: Run | None = None,
) -> float:
    """:func:`rank_one_sweep` with its updates applied ``block`` sites at a time.

    ``cov`` keeps only its lower block triangle. ``run`` are threads to update it by.
    """
    m = mean.shape[0]
    largest = 0.0
    for start in range(0, m, block):
        part = slice(start, min(start + block, m))
        W = np.concatenate([cov[part, :start].T, cov[start:, part]])
        size = W.shape[1]
        columns, gains, shifts = np.zeros((size, size)), np.zeros(size), np.zeros(size)
        change = rank_one_sweep(
            np.array(W[part]),
            mean[part].copy(),
            tau[part],
            nu[part],
            lower[part],
            damping,
            threshold,
            columns,
            gains,
            shifts,
        )
        largest = max(largest, change)
        if not math.isfinite(largest):
            return math.inf
        _apply(cov, mean, W, columns, gains, shifts, run or one_by_one)
    return largest


def _apply(
    cov: np.ndarray,
    mean: np.ndarray,
    W: np.ndarray,
    columns: np.ndarray,
    gains: np.ndarray,
    shifts: np.ndarray,
    run: Run,
) -> None:
    """Apply the recorded updates to all rows.

    The columns at the time of their updates, c_i = W_i - sum_{k<i} gain_k (c_k)_i c_k, follow from
    those at the start, W, by a triangular system: as stable as updating one by one, which solving
    the Woodbury identity with I + D S is not where the block is nearly singular.
    """
    moved = np.flatnonzero((gains != 0.0) | (shifts != 0.0))
    if len(moved) == 0:
        return
    gains, shifts = gains[moved], shifts[moved]
    N = np.triu(gains[:, None] * columns[np.ix_(moved, moved)], 1)
    N[np.diag_indices_from(N)] = 1.0
    C = solve_triangular(N, W[:, moved].T, trans="T", unit_diagonal=True, check_finite=False).T
    mean += C @ shifts
    V = C * gains
    block = W.shape[1]
    panel = max(PANEL // block, 1) * block

    def update(rows: slice) -> None:
        cov[rows, : rows.start + panel] -= V[rows] @ C[: rows.start + panel].T

    run(update, [slice(top, top + panel) for top in range(0, len(mean), panel)])


@dataclass(frozen=True)
class Sites:
    """A (hopefully) fixed point of EP for one event; all arrays have shape (m,).

    ``tau >= 0`` and ``nu`` are the natural parameters of the sites, ``mean`` and ``variance`` the
    marginals of the approximate posterior, ``z`` the cavity z-scores ``(mean - c)/sd``, ``logz``
    the EP estimate of ln P in nats, ``delta`` the largest change of a marginal (in units of its
    standard deviation, or relative for variances) in the last sweep.
    """

    tau: np.ndarray
    nu: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    z: np.ndarray
    logz: float
    converged: bool
    sweeps: int
    delta: float


def fit_sites(
    K: np.ndarray,
    A: np.ndarray,
    lower: np.ndarray,
    *,
    tol: float = TOL,
    max_sweeps: int = MAX_SWEEPS,
    damping: float = 1.0,
    block: int | None = None,
    verify: bool = True,
) -> Sites:
    """EP sites for ``x > lower``, ``x ~ N(0, K)``, ``K = A A^T``.

    Parameters
    ----------
    K : (m, m) array
        Covariance with the signs of the function already applied.
    A : (m, r) array
        Its factor, rows signed alike.
    lower : (m,) array
        Thresholds.
    tol : float
        Largest change of a marginal in the last sweep at which the result counts as converged.
    damping : float
        Share of each update applied; halved whenever a sweep fails to reduce the change.
    block : int, optional
        Size of the delayed updates; by default 1 (none) below m = 200 and 128 from there.

    Notes
    -----
    After convergence the posterior is recomputed from the sites through ``I + A^T diag(tau) A``,
    which is never ill conditioned from below, and one more sweep must agree. ``verify=False``
    leaves that out: good for proposals, which need no exact fixed point. Sites that grow without
    bound give a result of NaN that is not converged.
    """
    m, r = A.shape
    weights = r <= WEIGHT_SPACE * m
    block = (BLOCK if m >= BLOCK_FROM else 1) if block is None else block
    tau, nu = np.zeros(m), np.zeros(m)
    cov, mean = (np.eye(r), np.zeros(r)) if weights else (np.array(K, order="C"), np.zeros(m))

    def sweep(damping: float) -> float:
        if weights:
            return float(weight_sweep(cov, mean, A, tau, nu, lower, damping, SKIP * tol))
        if block > 1:
            return delayed_sweep(cov, mean, tau, nu, lower, damping, SKIP * tol, block)
        scratch = (EMPTY, EMPTY[0], EMPTY[0])
        return float(rank_one_sweep(cov, mean, tau, nu, lower, damping, SKIP * tol, *scratch))

    def start_anew() -> bool:
        nonlocal cov, mean
        U = _information_root(A, tau, nu)
        if U is None:
            return False
        cov, mean = _moments(U, np.eye(r), A, nu) if weights else _moments(U, A, A, nu)
        return True

    delta, sweeps = sweep_until(sweep, start_anew, tol, max_sweeps, damping, verify)
    U = _information_root(A, tau, nu)
    if U is None:
        return diverged(m, sweeps)
    if verify or weights:
        root = rows_over(A, U)
        mean, variance = root @ (root.T @ nu), np.einsum("ij,ij->i", root, root)
    else:
        variance = np.diag(cov).copy()
    z, logz = site_value(tau, nu, mean, variance, lower, _logdet(U))
    return Sites(tau, nu, mean, variance, z, logz, delta < tol, sweeps, delta)


def sweep_until(
    sweep: Callable[[float], float],
    start_anew: Callable[[], bool],
    tol: float,
    max_sweeps: int,
    damping: float,
    verify: bool,
) -> tuple[float, int]:
    """Sweep until the sites change by less than ``tol``: (the last change, number of sweeps).

    ``sweep`` takes the damping, which is halved whenever a sweep fails to reduce the change.
    ``start_anew`` recomputes the posterior from the sites, False if it cannot; with ``verify`` a
    sweep after it must agree.
    """
    delta, previous, sweeps, fresh = math.inf, math.inf, 0, False
    while sweeps < max_sweeps:
        delta = sweep(damping)
        sweeps += 1
        if delta < tol and (fresh or not verify or sweeps == max_sweeps):
            break
        fresh = delta < tol or not math.isfinite(delta) or sweeps % 25 == 0
        if sweeps > 4 and delta > 0.9 * previous:
            damping = max(0.5 * damping, 0.05)
        previous = delta
        if fresh and not start_anew():
            break
    return delta, sweeps


def diverged(m: int, sweeps: int) -> Sites:
    """No sites: everything NaN, not converged."""
    nan = np.full(m, math.nan)
    return Sites(nan, nan, nan, nan, nan, math.nan, False, sweeps, math.inf)


def _moments(
    U: np.ndarray, rows: np.ndarray, A: np.ndarray, nu: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    root = rows_over(rows, U)
    root_data = root if rows is A else rows_over(A, U)
    return root @ root.T, root @ (root_data.T @ nu)


def _information_root(A: np.ndarray, tau: np.ndarray, nu: np.ndarray) -> np.ndarray | None:
    """U with U U^T = I + A^T diag(tau) A; None if the sites overflowed (an impossible event)."""
    if not (np.isfinite(tau).all() and np.isfinite(nu).all()):
        return None
    try:
        with np.errstate(over="ignore"):  # what is not finite is not definite
            return reverse_cholesky(information(A, tau))
    except NumericalError:
        return None


def information(A: np.ndarray, tau: np.ndarray) -> np.ndarray:
    """I + A^T diag(tau) A, shape (r, r)."""
    W = np.sqrt(tau)[:, None] * A
    J = W.T @ W
    J[np.diag_indices_from(J)] += 1.0
    return J


def _logdet(U: np.ndarray) -> float:
    return float(np.log(np.diag(U)).sum())


def site_value(
    tau: np.ndarray,
    nu: np.ndarray,
    mean: np.ndarray,
    variance: np.ndarray,
    lower: np.ndarray,
    logdet: float,
) -> tuple[np.ndarray, float]:
    """Cavity z-scores and ln Z (Rasmussen & Williams 2006, eq. 3.65, in natural parameters)."""
    t = 1.0 / variance - tau
    cavity_mean = (mean / variance - nu) / t
    z = (cavity_mean - lower) * np.sqrt(t)
    site = log_survival_array(-z) + 0.5 * np.log1p(tau / t)
    site += 0.5 * t * cavity_mean**2 - 0.5 * (t * cavity_mean + nu) ** 2 / (t + tau)
    return z, 0.5 * float(nu @ mean) - logdet + float(site.sum())
