"""Splitting with linear elliptical slice sampling (Gessner, Kanagawa & Hennig 2020).

The event ``x > lower`` is reached through nested events ``x > lower - gamma_t``, gamma falling to
0: ln P is the sum of the logs of the conditional probabilities (Holmes-Diaconis-Ross splitting).
Conditional draws come from elliptical slice sampling, exact and without rejection in a domain
cut out by half-spaces: on an ellipse the allowed angles are known in closed form. No EP, no
importance weights: an independent check of the tilted estimator. Standard errors from independent
runs; slow mixing shows as disagreement between them.
"""

from __future__ import annotations

import math
from time import perf_counter

import numba
import numpy as np

from simprior.errors import InputError
from simprior.gp.event import Event, check_draws, feasible, impossible
from simprior.numerics.estimate import LogProb, share_stderr

MAX_LEVELS = 1000
TWO_PI = 2.0 * math.pi


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
    event: Event, inside: np.ndarray, gamma: float, size: int, thin: int,
    generator: np.random.Generator,
) -> np.ndarray:  # fmt: skip
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
