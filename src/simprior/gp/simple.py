"""Orthant probabilities known in closed form or by one quadrature: the oracle of the estimators.

* m = 1; m = 2 (Sheppard's formula); m = 3 without a mean (solid angle of a spherical triangle);
* one-factor correlations ``R_ij = l_i l_j`` (equicorrelation among them): a 1-d integral;
* block-diagonal covariances of such parts: sum of logs.

Laplace approximation of ln P with a probit link (Rasmussen & Williams 2006, algorithm 3.1).

A step likelihood has no Laplace approximation: its logarithm is 0 or -inf, without curvature. What
is approximated here is therefore the model with unit noise (probit), as users of this method in
the literature do, knowingly or not. Offered by name, for comparison only.

Plain Monte Carlo for ln P of common functions, with an exact binomial interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from time import perf_counter

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import log_ndtr

from simprior.errors import InputError
from simprior.gp.event import Event, check_draws
from simprior.numerics.estimate import LogProb, clopper_pearson, share_stderr

FIT = 1e-12  # largest misfit of a one-factor structure, in correlations
ZERO = 1e-15  # correlations below it are 0 to rounding: they change ln P by as much
DROP = 46.0  # nats below the maximum at which the integrand is cut


def closed(event: Event) -> LogProb:
    """ln P, exact to about 1e-12, of an event with a special covariance.

    Raises
    ------
    InputError
        If a connected block of the covariance is neither of size <= 2 (3 without a mean) nor
        one-factor.
    """
    began = perf_counter()
    scale = np.sqrt(np.diag(event.K))
    R = event.K / np.outer(scale, scale)
    value = sum(_block(R[np.ix_(part, part)], (event.lower / scale)[part]) for part in _blocks(R))
    diagnostics = {"converged": True, "reliable": True, "seconds": perf_counter() - began}
    return LogProb(float(value), 0.0, math.inf, "closed", diagnostics)


def _blocks(R: np.ndarray) -> list[np.ndarray]:
    from scipy.sparse.csgraph import connected_components

    count, label = connected_components(np.abs(R) > ZERO, directed=False)
    return [np.flatnonzero(label == k) for k in range(count)]


def _block(R: np.ndarray, lower: np.ndarray) -> float:
    m, central = len(R), not lower.any()
    if m == 1:
        return float(log_ndtr(-lower[0]))
    if m == 2 and central:
        return math.log(math.acos(-float(np.clip(R[0, 1], -1.0, 1.0))) / (2.0 * math.pi))
    if m == 3 and central and np.linalg.eigvalsh(R)[0] > 1e-10:
        return math.log(_solid_angle(R) / (4.0 * math.pi))
    loading = _one_factor(R)
    if loading is None:
        raise _no_formula(m, central)
    return _integrate(_log_integrand(loading, lower))


def _no_formula(m: int, central: bool) -> InputError:
    what = f"a block of {m} correlated inputs {'without' if central else 'with'} a mean"
    if m == 2:
        what += ", of correlation +-1 to the last digits"
    elif m == 3 and central:
        what += " and with an eigenvalue below 1e-10"
    return InputError(
        what, "at most 3 inputs without a mean, 2 with one, or one-factor correlations l_i l_j",
        "use method='tilted'",
    )  # fmt: skip


def _solid_angle(R: np.ndarray) -> float:
    """Solid angle of {u: L u > 0}, R = L L^T (van Oosterom & Strackee 1983)."""
    edges = np.linalg.inv(np.linalg.cholesky(R))
    edges = edges / np.linalg.norm(edges, axis=0)
    volume = abs(float(np.linalg.det(edges)))
    cosines = edges.T @ edges
    angle = math.atan2(volume, 1.0 + float(cosines[0, 1] + cosines[0, 2] + cosines[1, 2]))
    return 2.0 * angle


def _one_factor(R: np.ndarray) -> np.ndarray | None:
    """Loadings l, all |l| < 1, with R_ij = l_i l_j for i != j; None if there are none."""
    m = len(R)
    if m == 2:
        size = math.sqrt(abs(float(R[0, 1])))
        loading = np.array([size, math.copysign(size, float(R[0, 1]))])
        return loading if size < 1.0 else None
    off = R - np.eye(m)
    i = int(np.argmax(np.abs(off).sum(1)))
    j, k = np.argsort(-np.abs(off[i]), kind="stable")[:2]
    if abs(off[j, k]) <= ZERO or off[i, j] * off[i, k] / off[j, k] <= 0.0:
        return None
    first = math.sqrt(off[i, j] * off[i, k] / off[j, k])
    loading = off[i] / first
    loading[i] = first
    misfit = np.abs(np.outer(loading, loading) - off)
    misfit[np.diag_indices(m)] = 0.0
    return loading if misfit.max() < FIT and np.abs(loading).max() < 1.0 else None


def _log_integrand(loading: np.ndarray, lower: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    rest = np.sqrt((1.0 - loading) * (1.0 + loading))

    def value(t: np.ndarray) -> np.ndarray:
        arguments = (np.multiply.outer(t, loading) - lower) / rest
        return log_ndtr(arguments).sum(-1) - 0.5 * t * t - 0.5 * math.log(2.0 * math.pi)

    return value


def _integrate(log_f: Callable[[np.ndarray], np.ndarray]) -> float:
    """ln of the integral of a log-concave function over the line, by the trapezoidal rule."""
    from scipy.optimize import brentq, minimize_scalar

    def at(t: float) -> float:
        return float(log_f(np.array([t]))[0])

    mode = float(minimize_scalar(lambda t: -at(t), bracket=(-1.0, 1.0), tol=1e-10).x)
    top, ends = at(mode), []
    for direction in (-1.0, 1.0):
        step = 1.0
        while at(mode + direction * step) > top - DROP:
            step *= 2.0
        end = brentq(lambda s, d=direction: at(mode + d * s) - top + DROP, 0.0, step)
        ends.append(mode + direction * float(end))
    previous, count = math.inf, 64
    while count <= 1 << 16:
        t = np.linspace(ends[0], ends[1], count + 1)
        total = float(np.exp(log_f(t) - top).sum()) * (t[1] - t[0])
        if abs(math.log(total) - previous) < 1e-13:
            break
        previous, count = math.log(total), 2 * count
    return top + math.log(total)


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


MC_CHUNK = 1 << 13


def montecarlo(event: Event, *, draws: int = 1_000_000, seed: int = 0) -> LogProb:
    """ln of the fraction of draws z ~ N(mean, K) with the signs of the function.

    ``stderr`` is that of the logarithm, sqrt((1 - p)/hits); with no hit the value is -inf and the
    standard error infinite, with no miss it is about 1/draws (the rule of three).
    Diagnostics: ``hits``, ``draws`` and the Clopper-Pearson 95 % interval of ln P as ``low``,
    ``high``. The estimate is marked reliable from 10 hits on.
    """
    began = perf_counter()
    check_draws(draws)
    hits, done, index = 0, 0, 0
    while done < draws:
        size = min(MC_CHUNK, draws - done)
        u = event.generator(seed, "mc", index).standard_normal((size, event.rank))
        hits += _count(u, event)
        done, index = done + size, index + 1
    low, high = clopper_pearson(np.array(hits), draws)
    value = math.log(hits / draws) if hits else -math.inf
    stderr = float(share_stderr(hits / draws, draws)) * draws / hits if hits else math.inf
    diagnostics = {
        "hits": hits,
        "draws": draws,
        "low": math.log(float(low)) if low > 0 else -math.inf,
        "high": math.log(float(high)),
        "reliable": hits >= 10,
        "converged": hits > 0,
        "seconds": perf_counter() - began,
    }
    return LogProb(value, stderr, float(draws), "mc", diagnostics)


def _count(u: np.ndarray, event: Event, block: int = 32) -> int:
    """Draws that satisfy all constraints; failed ones are dropped every ``block`` inputs."""
    for start in range(0, event.m, block):
        rows = slice(start, start + block)
        u = u[(u @ event.A[rows].T > event.lower[rows]).all(1)]
    return len(u)
