"""Plain Monte Carlo for ln P of common functions, with an exact binomial interval."""

from __future__ import annotations

import math
from time import perf_counter

import numpy as np

from simprior.estimate import LogProb, clopper_pearson, share_stderr
from simprior.gp.event import Event, check_draws

CHUNK = 1 << 13


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
        size = min(CHUNK, draws - done)
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
