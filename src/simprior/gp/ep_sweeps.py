"""One sweep of expectation propagation over all sites: rank-1 updates, or delayed by blocks.

Both visit the sites in the same order and give the same result up to rounding. The delayed form
keeps a small copy of the covariance of the current block up to date and brings the (m, m) matrix
up to date once a block, by matrix products (the delayed updates of quantum Monte Carlo codes).
"""

from __future__ import annotations

import math

import numba
import numpy as np

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
    damping: float, threshold: float,
) -> float:  # fmt: skip
    """One sequential sweep in place, rank-1 updates of ``cov`` and ``mean``; largest change.

    Only the lower triangle of ``cov`` is read and kept up to date. Returns ``inf`` if a cavity
    variance became negative.
    """
    m = mean.shape[0]
    column = np.empty(m)
    largest = 0.0
    for i in range(m):
        variance = cov[i, i]
        if not variance * tau[i] < 1.0:
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
        for k in range(m):
            mean[k] += shift * column[k]
        for r in range(m):
            scaled = gain * column[r]
            row = cov[r]
            for k in range(r + 1):
                row[k] -= scaled * column[k]
    return largest


def delayed_sweep(
    cov: np.ndarray, mean: np.ndarray, tau: np.ndarray, nu: np.ndarray, lower: np.ndarray,
    damping: float, threshold: float, block: int,
) -> float:  # fmt: skip
    """One sweep in place, ``block`` sites at a time; ``cov`` keeps only its lower triangle.

    Returns the largest change of a marginal, ``inf`` if a cavity variance became negative.
    """
    m = mean.shape[0]
    largest = 0.0
    for start in range(0, m, block):
        part = slice(start, min(start + block, m))
        W = np.concatenate([cov[part, :start].T, cov[start:, part]])
        S = np.array(W[part])
        old_tau, old_nu, local_mean = tau[part].copy(), nu[part].copy(), mean[part].copy()
        change = rank_one_sweep(S, local_mean, tau[part], nu[part], lower[part], damping, threshold)
        largest = max(largest, change)
        if not math.isfinite(largest):
            return math.inf
        d_tau, d_nu = tau[part] - old_tau, nu[part] - old_nu
        _apply(cov, mean, W, part, d_tau, d_nu)
    return largest


def _apply(
    cov: np.ndarray, mean: np.ndarray, W: np.ndarray, part: slice,
    d_tau: np.ndarray, d_nu: np.ndarray,
) -> None:  # fmt: skip
    """Rank-b update: Sigma -= W M W^T with M = (I + D S)^-1 D, and the mean likewise.

    Only the columns of sites that moved enter.
    """
    block = part.stop - part.start
    moved = np.flatnonzero((d_tau != 0.0) | (d_nu != 0.0))
    if len(moved) == 0:
        return
    if len(moved) < block:
        d_tau, d_nu, W = d_tau[moved], d_nu[moved], np.ascontiguousarray(W[:, moved])
    S = W[part.start + moved]
    M = np.linalg.solve(np.eye(len(d_tau)) + d_tau[:, None] * S, np.diag(d_tau))
    mean += W @ (d_nu - M @ (mean[part.start + moved] + S @ d_nu))
    V = W @ (0.5 * (M + M.T))
    panel = max(PANEL // block, 1) * block if block < PANEL else block
    for top in range(0, len(mean), panel):
        rows = slice(top, top + panel)
        cov[rows, : top + panel] -= V[rows] @ W[: top + panel].T
