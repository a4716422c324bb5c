"""Tilted importance sampling with resampling along the sequence (sequential Monte Carlo).

For structured functions on a thousand and more inputs the product of normalisers can degenerate.
Here the draws of :mod:`simprior.gp.sequence` are particles: after a block of coordinates the
weights against the partial target

    gamma_J(x_1..x_J) = N_1(x_1..x_J) / (sites of the constraints ended) 1[constraints],

N_1 the EP posterior, are resampled if their effective size has fallen below half (Del Moral,
Doucet & Jasra 2006). The temperature of a resampled particle is drawn anew from its posterior given
the path, so that the sequential mixture keeps its density. The standard error comes from
independent replicates.
"""

from __future__ import annotations

import math
from time import perf_counter

import numpy as np

from simprior.errors import NumericalError
from simprior.gp.event import Event, Infeasible, check_draws, impossible
from simprior.gp.sequence import BLOCK, Draws
from simprior.gp.tilted import KAPPA, prepare
from simprior.gp.twist import Twist
from simprior.numerics.estimate import LogProb

REPLICATES = 16


def smc(
    event: Event,
    *,
    draws: int = 4096,
    seed: int = 0,
    replicates: int = REPLICATES,
    kappa: tuple[float, ...] = KAPPA,
) -> LogProb:
    """ln P by ``replicates`` independent particle systems of ``draws // replicates`` particles.

    ``ess`` is the number of replicates times the effective share of the worst-case estimate,
    ``1 / relative variance``. Diagnostics: ``resampled`` (mean number of resamplings a replicate),
    ``replicates``, ``converged`` (of EP), ``reliable`` (relative standard error below 0.3).
    """
    began = perf_counter()
    particles = draws // max(replicates, 1)
    check_draws(replicates)
    check_draws(particles, len(kappa))
    try:
        sites, twist = prepare(event, kappa)
    except Infeasible:
        return impossible("smc", began)
    values, resampled = np.empty(replicates), 0
    for k in range(replicates):
        generator = event.generator(seed, "smc", k)
        values[k], count = _replicate(twist, particles, generator)
        resampled += count
    top = float(values.max())
    if top == -math.inf:
        raise NumericalError("all particles left the event: raise the number of draws")
    estimates = np.exp(values - top)
    mean = float(estimates.mean())
    relative = float(estimates.std(ddof=1)) / mean / math.sqrt(replicates)
    diagnostics = {
        "converged": sites.converged,
        "reliable": bool(sites.converged and relative < 0.3),
        "ep": sites.logz,
        "draws": particles * replicates,
        "replicates": replicates,
        "resampled": resampled / replicates,
        "rank": event.rank,
        "rcond": event.rcond,
        "seconds": perf_counter() - began,
    }
    ess = 1.0 / relative**2 if relative > 0.0 else math.inf
    return LogProb(top + math.log(mean), relative, ess, "smc", diagnostics)


def _replicate(twist: Twist, n: int, generator: np.random.Generator) -> tuple[float, int]:
    """ln of one unbiased estimate of P, and how often it was resampled."""
    k = len(twist.kappa)
    labels = np.arange(n) * k // n
    share = np.log(np.bincount(labels, minlength=k) / n)
    particles = Draws(twist, 1.0 - generator.random((twist.rank, n)), labels)
    offset, logp, resampled = np.zeros(n), 0.0, 0
    while particles.position < twist.rank:
        particles.advance(BLOCK)
        mixture = _log_densities(particles)
        target = mixture[1]
        weight = target - _logsumexp(share[:, None] + mixture[0]) - offset
        top = float(weight.max())
        if top == -math.inf:
            return -math.inf, resampled
        w = np.exp(weight - top)
        if particles.position < twist.rank and w.sum() ** 2 > 0.5 * n * float(w @ w):
            continue
        logp += top + math.log(float(w.mean()))
        if particles.position < twist.rank:
            _resample(particles, w, share, mixture[0], generator)
            mixture = _log_densities(particles)
            offset = mixture[1] - _logsumexp(share[:, None] + mixture[0])
            resampled += 1
    return logp + _constant(twist), resampled


def _log_densities(particles: Draws) -> tuple[np.ndarray, np.ndarray]:
    """ln q_k of the paths so far, (k, n), and ln gamma, (n,), up to a common factor."""
    t, j = particles.twist, particles.position
    innovations = -0.5 * np.einsum("kjn,kjn->kn", particles.E[:, :j], particles.E[:, :j])
    innovations -= np.log(np.diagonal(t.C, axis1=1, axis2=2)[:, :j]).sum(1)[:, None]
    quad, lin = _sites(particles)
    q = innovations + t.kappa[:, None] * quad - lin - particles.logs
    return q, innovations[0] + t.kappa[0] * quad - lin


def _sites(particles: Draws) -> tuple[np.ndarray, np.ndarray]:
    """sum tau delta^2/2 and sum slope delta over the constraints that have ended, (n,) each."""
    t, j = particles.twist, particles.position
    delta = particles.X[:j]
    quad, lin = t.tau[:j] @ delta**2, t.slope[:j] @ delta
    ended = int(np.searchsorted(t.last, j))
    if ended:
        others = t.B[:ended, :j] @ delta
        quad += t.tau[t.rank : t.rank + ended] @ others**2
        lin += t.slope[t.rank : t.rank + ended] @ others
    return 0.5 * quad, lin


def _constant(twist: Twist) -> float:
    """ln of target density over gamma at the end of the sequence."""
    return twist.base - float(twist.logdet[0])


def _resample(
    particles: Draws,
    w: np.ndarray,
    share: np.ndarray,
    q: np.ndarray,
    generator: np.random.Generator,
) -> None:
    """Systematic resampling in place; temperatures from their posterior given the path."""
    n, j = len(w), particles.position
    points = (np.arange(n) + generator.random()) / n
    index = np.minimum(np.searchsorted(np.cumsum(w) / w.sum(), points), n - 1)
    particles.X[:j] = particles.X[:j, index]
    particles.E[:, :j] = particles.E[:, :j, index]
    particles.logs[:] = particles.logs[:, index]
    posterior = share[:, None] + q[:, index]
    posterior = np.cumsum(np.exp(posterior - posterior.max(0)), axis=0)
    threshold = generator.random(n) * posterior[-1]
    particles.own[:] = np.minimum((posterior < threshold).sum(0), len(share) - 1)


def _logsumexp(values: np.ndarray) -> np.ndarray:
    return np.logaddexp.reduce(values, axis=0)
