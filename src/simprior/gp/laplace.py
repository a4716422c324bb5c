"""Laplace approximation of ln P with a probit link (Rasmussen & Williams 2006, algorithm 3.1).

A step likelihood has no Laplace approximation: its logarithm is 0 or -inf, without curvature. What
is approximated here is therefore the model with unit noise (probit), as users of this method in
the literature do, knowingly or not. Offered by name, for comparison only.
"""

from __future__ import annotations

import math
from time import perf_counter

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import log_ndtr

from simprior.estimate import LogProb
from simprior.gp.event import Event

MAX_STEPS = 100


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
    while steps < MAX_STEPS and not converged:
        gradient, curvature = _derivatives(f - lower)
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
    _, L = _noise_factor(K, _derivatives(f - lower)[1])
    value = objective - float(np.log(np.diag(L)).sum())
    diagnostics = {"converged": converged, "reliable": False, "steps": steps, "link": "probit"}
    diagnostics["seconds"] = perf_counter() - began
    return LogProb(value, math.nan, math.nan, "laplace", diagnostics)


def _derivatives(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and minus second derivative of ln Phi(t)."""
    ratio = np.exp(-0.5 * t * t - 0.5 * math.log(2.0 * math.pi) - log_ndtr(t))
    return ratio, np.maximum(ratio * (t + ratio), 0.0)


def _noise_factor(K: np.ndarray, curvature: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    root = np.sqrt(curvature)
    B = root[:, None] * K * root
    B[np.diag_indices_from(B)] += 1.0
    return root, np.linalg.cholesky(B)
