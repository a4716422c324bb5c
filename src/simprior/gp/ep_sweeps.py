"""One sweep of expectation propagation: rank-1 updates, delayed by blocks, or in weight space.

All visit the sites in the same order and give the same result up to rounding. The delayed form
keeps a small copy of the covariance of the current block up to date and brings the (m, m) matrix
up to date once a block, by matrix products (the delayed updates of quantum Monte Carlo codes).
"""

from __future__ import annotations

import math

import numba
import numpy as np
from scipy.linalg import solve_triangular

from simprior.gp._normal import OPTIONS, hazard, truncated_variance

PANEL = 512


@numba.njit(**OPTIONS)
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


@numba.njit(**OPTIONS)
def rank_one_sweep(
    cov: np.ndarray, mean: np.ndarray, tau: np.ndarray, nu: np.ndarray, lower: np.ndarray,
    damping: float, threshold: float, columns: np.ndarray, gains: np.ndarray, shifts: np.ndarray,
) -> float:  # fmt: skip
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
        column[: i + 1] = cov[i, : i + 1]
        for r in range(i + 1, m):
            column[r] = cov[r, i]
        if gains.shape[0] > 0:
            columns[i] = column
            gains[i], shifts[i] = gain, shift
        for k in range(m):
            mean[k] += shift * column[k]
        for r in range(m):
            scaled = gain * column[r]
            row = cov[r]
            for k in range(r + 1):
                row[k] -= scaled * column[k]
    return largest


@numba.njit(**OPTIONS)
def weight_sweep(
    cov: np.ndarray, mean: np.ndarray, A: np.ndarray, tau: np.ndarray, nu: np.ndarray,
    lower: np.ndarray, damping: float, threshold: float,
) -> float:  # fmt: skip
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
    cov: np.ndarray, mean: np.ndarray, tau: np.ndarray, nu: np.ndarray, lower: np.ndarray,
    damping: float, threshold: float, block: int,
) -> float:  # fmt: skip
    """:func:`rank_one_sweep` with its updates applied ``block`` sites at a time.

    ``cov`` keeps only its lower block triangle.
    """
    m = mean.shape[0]
    largest = 0.0
    for start in range(0, m, block):
        part = slice(start, min(start + block, m))
        W = np.concatenate([cov[part, :start].T, cov[start:, part]])
        size = W.shape[1]
        columns, gains, shifts = np.zeros((size, size)), np.zeros(size), np.zeros(size)
        change = rank_one_sweep(
            np.array(W[part]), mean[part].copy(), tau[part], nu[part], lower[part],
            damping, threshold, columns, gains, shifts,
        )  # fmt: skip
        largest = max(largest, change)
        if not math.isfinite(largest):
            return math.inf
        _apply(cov, mean, W, columns, gains, shifts)
    return largest


def _apply(
    cov: np.ndarray, mean: np.ndarray, W: np.ndarray, columns: np.ndarray, gains: np.ndarray,
    shifts: np.ndarray,
) -> None:  # fmt: skip
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
    for top in range(0, len(mean), panel):
        rows = slice(top, top + panel)
        cov[rows, : top + panel] -= V[rows] @ C[: top + panel].T
