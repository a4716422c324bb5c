"""Approximations of ln P of unknown error: expectation propagation, and Laplace's method.

No noise is added. ``ep-probit``, the usual classifier, is by definition the same algorithm on
``K + I``. :func:`laplace` approximates the same model with unit noise: a step likelihood has no
Laplace approximation, its logarithm being 0 or -inf, without curvature (Rasmussen & Williams 2006,
algorithm 3.1).

``stderr`` of their results is NaN. At n=7 EP errs by -0.7 to +0.2 nats, at m=2048 by -2.
"""

from __future__ import annotations

import math
from time import perf_counter

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import log_ndtr

from simprior.gp.covariance import Event, feasible, impossible
from simprior.gp.ep import BLOCK_FROM, TOL, Sites, fit_sites
from simprior.gp.large import fit_sites_in_place
from simprior.numerics.estimate import LogProb

COARSE_TOL = 1e-2
"""From m = BLOCK_FROM on, as of the EP inside ``tilted``. ln Z is stationary in the sites and errs
in second order: measured 4e-4 nats at m = 1,000 and 2e-4 at 2,000, where EP itself errs by 1."""
NEWTON_STEPS = 100  # at most, of Laplace's method


def ep(
    event: Event, *, site_tol: float | None = None, damping: float = 1.0, block: int | None = None
) -> LogProb:
    """Heaviside EP estimate of ln P; ``stderr`` is NaN, its error being unknown.

    Diagnostics: ``converged`` (largest change of a marginal in the last sweep below ``site_tol``),
    ``delta``, ``sweeps``, ``rcond``, ``seconds``. An event that EP finds impossible (rank-deficient
    K) or that it did not converge on is returned as such, never silently.
    """
    began = perf_counter()
    if event.rank < event.m and not feasible(event.A, event.lower):
        return impossible("ep", began)
    tol = _tolerance(event.m) if site_tol is None else site_tol
    if event.large and block is None:
        sites = fit_sites_in_place(event, tol=tol, damping=damping)
    else:
        sites = fit_sites(event.K, event.A, event.lower, tol=tol, damping=damping, block=block)
    return _approximation(sites, "ep", event.rcond, began)


def _tolerance(m: int) -> float:
    """That of the sites where none is asked for."""
    return TOL if m < BLOCK_FROM else COARSE_TOL


def ep_probit(
    event: Event, *, site_tol: float | None = None, damping: float = 1.0, block: int | None = None
) -> LogProb:
    """EP with the probit link Phi(s z): Heaviside EP on ``K + I``.

    The link is a step seen through unit noise, and moment matching of z + noise is moment matching
    of z, so the two are the same algorithm. This is what GPy's default likelihood computes; at
    sigma_w = 1, sigma_b = 0, n = 7 its ln P is 8 decades below that of the step.
    """
    began = perf_counter()
    noisy = event.K + np.eye(event.m)
    tol = _tolerance(event.m) if site_tol is None else site_tol
    sites = fit_sites(
        noisy, np.linalg.cholesky(noisy), event.lower, tol=tol, damping=damping, block=block
    )
    return _approximation(sites, "ep-probit", event.rcond, began)


def _approximation(sites: Sites, method: str, rcond: float, began: float) -> LogProb:
    diagnostics = {
        "converged": sites.converged,
        "reliable": False,
        "delta": sites.delta,
        "sweeps": sites.sweeps,
        "rcond": rcond,
        "seconds": perf_counter() - began,
    }
    return LogProb(sites.logz, math.nan, math.nan, method, diagnostics)


def laplace(event: Event, *, step_tol: float = 1e-9) -> LogProb:
    """ln of the probit marginal likelihood by Laplace's method; ``stderr`` is NaN.

    Newton's method on the concave log-posterior, the step halved while the objective falls;
    ``diagnostics["converged"]`` tells whether it rose by less than ``step_tol`` in the end.
    """
    began = perf_counter()
    K, lower = event.K, event.lower
    f, a = np.zeros(event.m), np.zeros(event.m)
    objective = float(log_ndtr(f - lower).sum())
    converged, steps = False, 0
    while steps < NEWTON_STEPS and not converged:
        gradient, curvature = _probit_derivatives(f - lower)
        root, L = _noise_factor(K, curvature)
        b = curvature * f + gradient
        inner = solve_triangular(L, root * (K @ b), lower=True)
        target = b - root * solve_triangular(L, inner, lower=True, trans="T")
        steps += 1
        gain, scale = -math.inf, 1.0
        while gain < 0.0 and scale > 1e-6:
            trial_a = a + scale * (target - a)
            trial_f = K @ trial_a
            value = -0.5 * float(trial_a @ trial_f) + float(log_ndtr(trial_f - lower).sum())
            gain, scale = value - objective, 0.5 * scale
        converged = gain < step_tol
        if gain > 0.0:
            f, a, objective = trial_f, trial_a, value
    _, L = _noise_factor(K, _probit_derivatives(f - lower)[1])
    value = objective - float(np.log(np.diag(L)).sum())
    diagnostics = {"converged": converged, "reliable": False, "steps": steps, "link": "probit"}
    diagnostics["seconds"] = perf_counter() - began
    return LogProb(value, math.nan, math.nan, "laplace", diagnostics)


def _probit_derivatives(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and minus second derivative of ln Phi(t)."""
    ratio = np.exp(-0.5 * t * t - 0.5 * math.log(2.0 * math.pi) - log_ndtr(t))
    return ratio, np.maximum(ratio * (t + ratio), 0.0)


def _noise_factor(K: np.ndarray, curvature: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    root = np.sqrt(curvature)
    B = root[:, None] * K * root
    B[np.diag_indices_from(B)] += 1.0
    return root, np.linalg.cholesky(B)
