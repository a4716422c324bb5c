"""Minimax exponential tilting (Botev 2017): an estimator independent of EP.

Sequential importance sampling from normals shifted by mu and truncated to the event, (x*, mu*) the
saddle point of the log-weight psi(x, mu): convex in mu, concave in x. Written with scipy's special
functions, it shares no code with the tilted estimator it cross-checks. Only for K of full rank;
the saddle point costs O(m^3) a Newton step on a system of size 2m.
"""

from __future__ import annotations

import math
from time import perf_counter

import numpy as np
from scipy.special import log_ndtr, ndtri_exp

from simprior.errors import InputError, NumericalError
from simprior.gp.event import Event, check_draws
from simprior.numerics.estimate import LogProb, sample_sd

MAX_STEPS = 200
CHUNK = 4096


def minimax(event: Event, *, draws: int = 10_000, seed: int = 0) -> LogProb:
    """ln P by minimax tilting; diagnostics: ``converged`` (of the saddle point), ``bound``.

    ``bound`` = psi(x*, mu*) is an upper bound on ln P (Botev 2017, section 3), NaN where the saddle
    point was only approached: the estimate needs it only as a proposal. The standard error is that
    of the mean weight by the delta method; with fewer than 100 effective draws it is not trusted.

    Raises
    ------
    InputError
        K is rank-deficient.
    NumericalError
        No finite shift was found.
    """
    began = perf_counter()
    check_draws(draws)
    if event.rank < event.m:
        raise InputError(
            f"K of rank {event.rank} < {event.m}", "a K of full rank", "use method='tilted'"
        )
    L, lower = _ordered_cholesky(event.K, event.lower)
    scale = np.diag(L).copy()
    L, lower = L / scale[:, None] - np.eye(event.m), lower / scale
    x, mu, residual = _saddle(L, lower)
    bound = float(_psi(x, mu, L, lower))
    if not math.isfinite(bound):
        raise NumericalError("minimax tilting found no finite saddle point: use method='tilted'")
    converged = residual < 1e-6
    logw, done, index = np.empty(draws), 0, 0
    while done < draws:
        size = min(CHUNK, draws - done)
        uniform = 1.0 - event.generator(seed, "minimax", index).random((event.m, size))
        logw[done : done + size] = _sample(L, lower, mu, uniform)
        done, index = done + size, index + 1
    top = float(logw.max())
    w = np.exp(logw - top)
    mean = float(w.mean())
    relative = float(sample_sd(w)) / mean / math.sqrt(draws)
    ess = float(w.sum()) ** 2 / float(w @ w)
    diagnostics = {
        "converged": converged,
        "reliable": ess > 100.0,
        "bound": bound if converged else math.nan,
        "residual": residual,
        "draws": draws,
        "seconds": perf_counter() - began,
    }
    return LogProb(top + math.log(mean), relative, ess, "minimax", diagnostics)


def _ordered_cholesky(K: np.ndarray, lower: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cholesky factor, at each step the least likely constraint next (Gibson et al. 1994)."""
    m = len(K)
    K, bound = K.copy(), lower.copy()
    L, z = np.zeros((m, m)), np.zeros(m)
    for j in range(m):
        variance = np.diag(K)[j:] - (L[j:, :j] ** 2).sum(1)
        shift = (bound[j:] - L[j:, :j] @ z[:j]) / np.sqrt(np.maximum(variance, 1e-300))
        pick = j + int(np.argmax(shift))
        if pick != j:
            for matrix in (K, K.T, L):
                matrix[[j, pick]] = matrix[[pick, j]]
            bound[[j, pick]] = bound[[pick, j]]
        L[j, j] = math.sqrt(K[j, j] - float(L[j, :j] @ L[j, :j]))
        L[j + 1 :, j] = (K[j + 1 :, j] - L[j + 1 :, :j] @ L[j, :j]) / L[j, j]
        z[j] = _mills((bound[j] - float(L[j, :j] @ z[:j])) / L[j, j])
    return L, bound


def _mills(t: np.ndarray | float) -> np.ndarray:
    """Mean of N(0, 1) above t."""
    t = np.asarray(t, dtype=float)
    return np.exp(-0.5 * t * t - 0.5 * math.log(2.0 * math.pi) - log_ndtr(-t))


def _psi(x: np.ndarray, mu: np.ndarray, L: np.ndarray, lower: np.ndarray) -> np.ndarray:
    return (0.5 * mu * mu - x * mu + log_ndtr(mu + L @ x - lower)).sum()


def _saddle(L: np.ndarray, lower: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Newton's method with backtracking on grad psi = 0; the last coordinate has x = mu = 0."""
    m = len(L)
    free = m - 1
    x, mu = np.zeros(m), np.zeros(m)
    gradient, jacobian = _gradient(x, mu, L, lower)
    for _ in range(MAX_STEPS):
        norm = float(np.linalg.norm(gradient))
        if free == 0 or norm < 1e-10 * m:
            break
        step = np.linalg.solve(jacobian, -gradient)
        scale = 1.0
        while scale > 1e-8:
            trial_x, trial_mu = x.copy(), mu.copy()
            trial_x[:free] += scale * step[:free]
            trial_mu[:free] += scale * step[free:]
            trial, trial_jacobian = _gradient(trial_x, trial_mu, L, lower)
            if np.linalg.norm(trial) < (1.0 - 1e-4 * scale) * norm:
                break
            scale *= 0.5
        else:
            break
        x, mu, gradient, jacobian = trial_x, trial_mu, trial, trial_jacobian
    return x, mu, float(np.abs(gradient).max(initial=0.0))


def _gradient(
    x: np.ndarray, mu: np.ndarray, L: np.ndarray, lower: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient of psi in (x, mu) without the last coordinates, and its Jacobian."""
    free = len(L) - 1
    t = lower - mu - L @ x
    ratio = _mills(t)
    curvature = ratio * (t - ratio)
    D = L[:, :free]
    gradient = np.concatenate([-mu[:free] + D.T @ ratio, mu[:free] - x[:free] + ratio[:free]])
    mixed = -np.eye(free) + (curvature[:, None] * D)[:free]
    corner = np.diag(1.0 + curvature[:free])
    jacobian = np.block([[D.T @ (curvature[:, None] * D), mixed.T], [mixed, corner]])
    return gradient, jacobian


def _sample(L: np.ndarray, lower: np.ndarray, mu: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Log-weights of draws from the tilted law, one column of ``uniform`` each."""
    m, n = uniform.shape
    X, logw = np.zeros((m, n)), np.zeros(n)
    for k in range(m):
        t = lower[k] - mu[k] - L[k, :k] @ X[:k]
        log_z = log_ndtr(-t)
        X[k] = mu[k] - ndtri_exp(np.log(uniform[k]) + log_z)
        logw += log_z + 0.5 * mu[k] ** 2 - mu[k] * X[k]
    return logw
