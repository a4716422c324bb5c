"""Estimators of ln P that check the default one and share no code with it.

* :func:`closed`: exact values, in closed form or by one quadrature. m = 1; m = 2 (Sheppard's
  formula); m = 3 without a mean (solid angle of a spherical triangle); one-factor correlations
  ``R_ij = l_i l_j`` (equicorrelation among them), a one-dimensional integral; and block-diagonal
  covariances of such parts.
* :func:`montecarlo`: plain Monte Carlo for common functions, with an exact binomial interval.
* :func:`minimax`: minimax exponential tilting (Botev 2017). Sequential importance sampling from
  normals shifted by mu and truncated to the event, (x*, mu*) the saddle point of the log-weight
  psi(x, mu), which is convex in mu and concave in x. Only for K of full rank. A Newton step solves
  a system of size 2m.
* :func:`liness`: splitting with linear elliptical slice sampling (Gessner, Kanagawa & Hennig
  2020). The event ``x > lower`` is reached through nested events ``x > lower - gamma_t``, gamma
  falling to 0: ln P is the sum of the logs of the conditional probabilities
  (Holmes-Diaconis-Ross). Conditional draws come from elliptical slice sampling, which is exact and
  rejects nothing in a domain cut out by half-spaces: the allowed angles on an ellipse are known in
  closed form. Standard errors come from independent runs; slow mixing shows as disagreement
  between them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from time import perf_counter

import numba
import numpy as np
from scipy.special import log_ndtr, ndtri_exp

from simprior.errors import InputError, NumericalError
from simprior.gp.covariance import Event, check_draws, feasible, impossible
from simprior.numerics.estimate import LogProb, clopper_pearson, sample_sd, share_stderr

FIT = 1e-12  # largest misfit of a one-factor structure, in correlations
ZERO = 1e-15  # correlations below it are 0 to rounding: they change ln P by as much
DROP = 46.0  # nats below the maximum at which the integrand is cut
MC_CHUNK = 1 << 13
NEWTON_STEPS = 200
MINIMAX_CHUNK = 4096
MAX_LEVELS = 1000
TWO_PI = 2.0 * math.pi


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
    expected = "at most 3 inputs without a mean, 2 with one, or one-factor correlations l_i l_j"
    return InputError(what, expected, "use method='tilted'")


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
        hits += _hits(u, event)
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


def _hits(u: np.ndarray, event: Event, block: int = 32) -> int:
    """Draws that satisfy all constraints; failed ones are dropped every ``block`` inputs."""
    for start in range(0, event.m, block):
        rows = slice(start, start + block)
        u = u[(u @ event.A[rows].T > event.lower[rows]).all(1)]
    return len(u)


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
        size = min(MINIMAX_CHUNK, draws - done)
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
    for _ in range(NEWTON_STEPS):
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


def liness(
    event: Event, *, draws: int = 2000, seed: int = 0, chains: int = 8, thin: int = 5
) -> LogProb:
    """ln P by splitting at conditional probabilities of about 1/2.

    Parameters
    ----------
    draws : int
        Draws at each level, over all chains together.
    chains : int
        Independent runs of the levels; the standard error is that of their mean.
    thin : int
        Elliptical slice steps a draw makes at each level.

    Notes
    -----
    ``diagnostics["converged"]`` is True if the spread of ln P between the chains is below 1.5
    nats and at most 3 times the spread expected of independent draws. Where the sampler mixes too
    slowly to reach the event (complex functions) the value is NaN, the standard error infinite,
    and ``diagnostics["reason"]`` says so. ``ess`` is NaN. The standard error is never below that of
    as many independent draws: chains can agree by chance. A level that no draw of any chain missed
    enters it as a share of draws that was not met, about 1 / draws.
    """
    began = perf_counter()
    check_draws(draws, chains)
    if chains < 4 or thin < 1:
        raise InputError(f"chains={chains}, thin={thin}", "chains >= 4, thin >= 1", "use defaults")
    if event.rank < event.m and not feasible(event.A, event.lower):
        return impossible("liness", began)
    size = draws // chains
    levels = _levels(event, size * 2, thin, event.generator(seed, "liness", 0))
    if levels is None:
        return _failed("the nested events do not reach the orthant: slow mixing", began)
    values = np.array(
        [
            _chain(event, levels, size, thin, event.generator(seed, "liness", 1 + k))
            for k in range(chains)
        ]
    )
    estimates = values.sum(1)
    if not np.isfinite(estimates).all():
        return _failed("a chain found no draw in the next event: slow mixing", began)
    top = float(estimates.max())
    value = top + math.log(float(np.exp(estimates - top).mean()))
    spread = float(estimates.std(ddof=1))
    share = np.exp(values).mean(0)
    relative = share_stderr(share, size * chains) / share
    expected = math.sqrt(chains * float(relative @ relative))
    stderr = max(spread, expected) / math.sqrt(chains)  # draws never know more than independent
    converged = bool(spread < 1.5 and spread < 3.0 * expected + 1e-3)
    diagnostics = {
        "converged": converged,
        "reliable": converged,
        "levels": len(levels),
        "spread": spread,
        "expected_spread": expected,
        "draws": draws * len(levels),
        "seconds": perf_counter() - began,
    }
    return LogProb(value, stderr, math.nan, "liness", diagnostics)


def _failed(reason: str, began: float) -> LogProb:
    diagnostics = {"converged": False, "reliable": False, "reason": reason}
    diagnostics["seconds"] = perf_counter() - began
    return LogProb(math.nan, math.inf, math.nan, "liness", diagnostics)


def _levels(
    event: Event, size: int, thin: int, generator: np.random.Generator
) -> np.ndarray | None:
    """Shifts gamma_1 > ... > gamma_T = 0, conditional probabilities near 1/2; None if stuck."""
    batch = generator.standard_normal((size, event.rank)) @ event.A.T - event.lower
    levels: list[float] = []
    while len(levels) < MAX_LEVELS:
        need = -batch.min(1)
        gamma = float(np.median(need))
        if gamma <= 0.0:
            return np.array([*levels, 0.0])
        inside = batch[need < gamma]
        if len(inside) == 0:
            return None
        levels.append(gamma)
        batch = _walk(event, inside, gamma, size, thin, generator)
    return None


def _chain(
    event: Event, levels: np.ndarray, size: int, thin: int, generator: np.random.Generator
) -> np.ndarray:
    """ln of the conditional probability of each level, from one independent run."""
    batch = generator.standard_normal((size, event.rank)) @ event.A.T - event.lower
    values = np.empty(len(levels))
    for t, gamma in enumerate(levels):
        inside = batch[(batch + gamma > 0.0).all(1)]
        if len(inside) == 0:
            values[t:] = -math.inf
            break
        values[t] = math.log(len(inside) / len(batch))
        if t + 1 < len(levels):
            batch = _walk(event, inside, gamma, size, thin, generator)
    return values


def _walk(
    event: Event,
    inside: np.ndarray,
    gamma: float,
    size: int,
    thin: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """``size`` draws of x - lower above -gamma: random rows of ``inside``, moved ``thin`` steps."""
    batch = inside[generator.integers(len(inside), size=size)]
    for _ in range(thin):
        velocity = generator.standard_normal((size, event.rank)) @ event.A.T
        _move(batch, event.lower, gamma, velocity, generator.random(size))
    return batch


@numba.njit(cache=True, nogil=True)
def _move(
    batch: np.ndarray, lower: np.ndarray, gamma: float, velocity: np.ndarray, uniform: np.ndarray
) -> None:
    """One linear elliptical slice step of every row of ``batch`` = x - lower, in place.

    Gessner et al. 2020, algorithm 2: on the ellipse x cos t + v sin t each constraint allows an
    arc; the angle is uniform on the intersection.
    """
    count, m = batch.shape
    angles, change = np.empty(2 * m), np.empty(2 * m, np.int64)
    moved = np.empty(m)
    for s in range(count):
        v = velocity[s]
        crossings = 0
        for i in range(m):
            x, bound = batch[s, i] + lower[i], lower[i] - gamma
            radius = math.sqrt(x * x + v[i] * v[i])
            if radius <= abs(bound):
                continue
            phase, half = math.atan2(v[i], x), math.acos(bound / radius)
            angles[crossings] = (phase + half) % (2.0 * math.pi)
            change[crossings] = -1
            angles[crossings + 1] = (phase - half) % (2.0 * math.pi)
            change[crossings + 1] = 1
            crossings += 2
        theta = _pick(angles[:crossings], change[:crossings], uniform[s])
        c, w = math.cos(theta), math.sin(theta)
        inside = True
        for i in range(m):
            moved[i] = (batch[s, i] + lower[i]) * c + v[i] * w - lower[i]
            if not moved[i] > -gamma:
                inside = False
        if inside:  # else rounding at the edge of an arc: stay
            batch[s] = moved


@numba.njit(cache=True, nogil=True)
def _pick(angles: np.ndarray, change: np.ndarray, uniform: float) -> float:
    """Uniform angle where no constraint is violated; at angle 0 none is."""
    n = len(angles)
    if n == 0:
        return uniform * 2.0 * math.pi
    order = np.argsort(angles)
    total, violated, previous = 0.0, 0, 0.0
    for k in range(n):
        if violated == 0:
            total += angles[order[k]] - previous
        previous = angles[order[k]]
        violated -= change[order[k]]
    total += 2.0 * math.pi - previous
    goal, violated, previous = uniform * total, 0, 0.0
    for k in range(n):
        if violated == 0:
            length = angles[order[k]] - previous
            if goal <= length:
                return previous + goal
            goal -= length
        previous = angles[order[k]]
        violated -= change[order[k]]
    return previous + goal
