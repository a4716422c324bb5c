"""The default estimators of ln P: importance sampling tilted by EP sites.

Separation of variables (Genz 1992) draws x_1, x_2, ... each from its conditional truncated to the
event. Untilted it is wrong by tens of nats at small P, because the early coordinates know nothing
of the constraints to come. Here the conditionals are those of the Gaussian twisted by the sites
of expectation propagation (:mod:`simprior.gp.twist`), truncated exactly, so the weight of a draw is
a product of one-dimensional normalisers. The sites are tempered about the EP mean, kappa = 1, 0.6,
0.3, and the draws weighted by the balance heuristic: a single kappa = 1 has unbounded weights.
For common functions (ln P above about -5) kappa = 0 joins them, which bounds the weights.

No jitter is added. With a rank-deficient K the r < m coordinates of the weight space are drawn, and
constraints that end on the same coordinate give an interval.

:func:`tilted` draws independently. :func:`summarise` turns log-weights into ln P: mean, standard
error, effective sample size and Pareto k-hat.

:func:`smc` (sequential Monte Carlo) resamples along the sequence, for structured functions on a
thousand and more inputs, where the product of normalisers can degenerate. The draws are particles.
After a block of coordinates their weights against the partial target

    gamma_J(x_1..x_J) = N_1(x_1..x_J) / (sites of the constraints ended) 1[constraints],

N_1 the EP posterior, are resampled if their effective size has fallen below half (Del Moral,
Doucet & Jasra 2006). The temperature of a resampled particle is drawn anew from its posterior given
the path, so that the sequential mixture keeps its density. The standard error comes from
independent replicates.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numba
import numpy as np

from simprior.checks import Array, checked
from simprior.errors import InputError, NumericalError
from simprior.gp.covariance import (
    Event,
    Infeasible,
    check_draws,
    check_symmetric,
    factor,
    feasible,
    impossible,
    make_event,
)
from simprior.gp.ep import Sites, fit_sites
from simprior.gp.large import fit_sites_in_place, make_twist_in_place
from simprior.gp.tiles import one_by_one, team
from simprior.gp.twist import BLOCK, Draws, Twist, logsumexp, make_twist
from simprior.numerics.compiled import OPTIONS
from simprior.numerics.estimate import LogProb

KAPPA = (1.0, 0.6, 0.3)
COMMON = -5.0  # EP value in nats above which untilted draws (kappa = 0) join the mixture
DRAWS = 1024
FEWEST = 256  # below, standard errors of skewed weights are too short more often than they say
MAX_DRAWS = 1 << 20
SITE_SWEEPS = 60
SITE_TOL = 1e-2  # of EP when its sites only shape the proposal
CHUNK = 1 << 18  # numbers (draws times coordinates) drawn at a time
K_LIMIT = 0.7  # above it standard errors of importance sampling are not trusted
REPLICATES = 16  # of smc


@dataclass(frozen=True)
class Summary:
    """ln of the mean weight, its standard error (nats), effective draws and Pareto k-hat."""

    value: float
    stderr: float
    ess: float
    pareto_k: float


def summarise(logw: np.ndarray, strata: np.ndarray, count: int) -> Summary:
    """Combine n log-weights; ``strata`` (n,) in 0..count-1 were drawn in fixed numbers.

    The standard error is that of the stratified mean by the delta method, multiplied by
    ``sqrt(1 + 3/ess)``: with few effective draws the sample variance of skewed weights falls short.
    With all weights zero the value is -inf and the standard error infinite.
    """
    n = len(logw)
    top = float(logw.max())
    if top == -math.inf:
        return Summary(-math.inf, math.inf, 0.0, math.nan)
    w = np.exp(logw - top)
    total = float(w.sum())
    size = np.bincount(strata, minlength=count)
    first = np.bincount(strata, w, count)
    second = np.bincount(strata, w * w, count)
    used = size > 1
    spread = second[used] - first[used] ** 2 / size[used]
    variance = float((spread * size[used] / (size[used] - 1.0)).sum())
    ess = total**2 / float(second.sum())
    relative = math.sqrt(max(variance, 0.0)) / total
    floor = 2e-16 * math.sqrt(n)
    stderr = max(relative, floor) * math.sqrt(1.0 + 3.0 / ess)
    return Summary(top + math.log(total / n), stderr, ess, pareto_k(w))


def pareto_k(weights: np.ndarray) -> float:
    """Shape of the generalised Pareto law fitted to the largest weights (Vehtari et al. 2024).

    The tail is the min(n/5, 3 sqrt n) largest; fit by Zhang & Stephens (2009), shrunk towards 1/2
    as if by ten observations. NaN with fewer than 5 tail weights, -inf where all are equal.
    """
    n = len(weights)
    tail = int(min(0.2 * n, 3.0 * math.sqrt(n)))
    if tail < 5:
        return math.nan
    ordered = np.partition(weights, n - tail - 1)[n - tail - 1 :]
    cut = float(ordered[0])
    excess = np.sort(ordered[1:] - cut)
    if excess[-1] <= 1e-12 * cut:
        return -math.inf
    k = _gpd_shape(np.maximum(excess, 1e-300))
    return float((tail * k + 5.0) / (tail + 10.0))


@numba.njit(cache=True, **OPTIONS)
def _gpd_shape(x: np.ndarray) -> float:
    """Posterior-mean shape of a generalised Pareto law; x sorted, positive."""
    n = x.shape[0]
    grid = 30 + int(math.sqrt(n))
    quartile = x[int(n / 4.0 + 0.5) - 1]
    theta, profile = np.empty(grid), np.empty(grid)
    for j in range(grid):
        theta[j] = 1.0 / x[n - 1] + (1.0 - math.sqrt(grid / (j + 0.5))) / (3.0 * quartile)
        k = 0.0
        for i in range(n):
            k += math.log1p(-theta[j] * x[i])
        k /= n
        profile[j] = n * (math.log(-theta[j] / k) - k - 1.0)
    total = np.exp(profile - profile.max())
    best = (theta * total).sum() / total.sum()
    k = 0.0
    for i in range(n):
        k += math.log1p(-best * x[i])
    return k / n


def prepare(event: Event, kappa: tuple[float, ...] | None = KAPPA) -> tuple[Sites, Twist]:
    """EP sites of the event and the twisted Gaussians built from them.

    ``kappa=None`` chooses: the usual mixture, and for common functions also kappa = 0, whose
    weights are bounded (by 1 before mixing) where those of tilted draws have a heavy tail.

    Raises :class:`Infeasible` if the event has probability 0 (rank-deficient K) and
    :class:`NumericalError` if EP found no finite sites.
    """
    tol, sweeps = SITE_TOL, SITE_SWEEPS
    if event.large:
        sites = fit_sites_in_place(event, tol=tol, max_sweeps=sweeps, verify=False)
    else:
        K, A, lower = event.K, event.A, event.lower
        sites = fit_sites(K, A, lower, tol=tol, max_sweeps=sweeps, verify=False)
    if not sites.converged and event.rank < event.m and not feasible(event.A, event.lower):
        raise Infeasible("no weights realise this function: ln P = -inf")
    if not math.isfinite(sites.logz):
        raise NumericalError(
            f"EP diverged after {sites.sweeps} sweeps (reciprocal condition number of the kernel "
            f"{event.rcond:.2g}): expected finite sites; use fewer layers or less similar inputs"
        )
    if kappa is None:
        kappa = (*KAPPA, 0.0) if sites.logz > COMMON else KAPPA
    if event.large:
        return sites, make_twist_in_place(event, sites, np.array(kappa))
    return sites, make_twist(event.K, event.A, event.lower, sites, np.array(kappa))


def sample(
    event: Event,
    twist: Twist,
    draws: int,
    seed: int,
    start: int = 0,
    stream: str = "tilted",
    keep: bool = False,
) -> tuple[list[Draws], np.ndarray, np.ndarray, int]:
    """``draws`` weighted draws in chunks; (chunks, log-weights, temperatures, next chunk index).

    The chunks hold every coordinate; they are returned only if ``keep``.
    """
    k = len(twist.kappa)
    size = max(CHUNK // twist.rank, 32 * k)
    sizes: list[int] = []
    while sum(sizes) < draws:
        left = draws - sum(sizes)
        sizes.append(left if left - size < 2 * k else size)
    chunks: list[Draws | None] = [None] * len(sizes)
    labels = [np.arange(n) * k // n for n in sizes]
    logw = [np.empty(n) for n in sizes]

    def draw(i: int) -> None:
        uniform = event.generator(seed, stream, start + i).random((twist.rank, sizes[i]))
        chunk = Draws(twist, 1.0 - uniform, labels[i]).run()
        logw[i] = chunk.log_weights(np.bincount(labels[i], minlength=k) / sizes[i])
        chunks[i] = chunk if keep else None

    with team() if event.large else nullcontext(one_by_one) as run:
        run(draw, range(len(sizes)))
    kept = [chunk for chunk in chunks if chunk is not None]
    return kept, np.concatenate(logw), np.concatenate(labels), start + len(sizes)


def tilted(
    event: Event,
    *,
    draws: int = DRAWS,
    seed: int = 0,
    tol: float | None = None,
    max_draws: int = MAX_DRAWS,
    kappa: tuple[float, ...] | None = None,
) -> LogProb:
    """ln P of an event by EP-tilted sequential importance sampling.

    Parameters
    ----------
    draws : int
        Number of draws (the first round, if ``tol`` is given). Of fewer than 256 the result is
        marked unreliable: at 64 it is more than 3 standard errors off in 1-3 % of the seeds.
    tol : float, optional
        Wanted standard error in nats: draws are doubled until it is reached or ``max_draws`` spent.
    kappa : tuple of float, optional
        Temperatures of the mixture; by default (1, 0.6, 0.3), and 0 too for common functions.

    Returns
    -------
    LogProb
        Diagnostics: ``pareto_k`` (do not trust the standard error above 0.7), ``reliable``,
        ``converged`` (of EP), ``draws``, ``ep`` (the EP value), ``rank``, ``rcond``, ``seconds``,
        and ``reason`` below 256 draws.
    """
    began = perf_counter()
    check_draws(draws, len(KAPPA) + 1 if kappa is None else len(kappa))
    try:
        sites, twist = prepare(event, kappa)
    except Infeasible:
        return impossible("tilted", began)
    logw, own, index = np.empty(0), np.empty(0, np.intp), 0
    wanted = draws
    while True:
        _, more, labels, index = sample(event, twist, wanted - len(logw), seed, index)
        logw, own = np.concatenate([logw, more]), np.concatenate([own, labels])
        summary = summarise(logw, own, len(twist.kappa))
        if tol is None or summary.stderr <= tol or 2 * wanted > max_draws:
            break
        wanted *= 2
    if summary.value == -math.inf and not feasible(event.A, event.lower):
        return impossible("tilted", began)
    return _result(event, sites, summary, len(logw), tol, began)


@checked(labels=Array(1))
def tilted_draws(
    labels: np.ndarray, K: np.ndarray, draws: int = DRAWS, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted draws of z ~ N(0, K) given the signs ``labels`` (the truncated Gaussian).

    Parameters
    ----------
    labels : (s,) array of 0/1
        Signs of z on the training inputs.
    K : (s, s) array
        Their covariance, without zero variances.

    Returns
    -------
    Z : (draws, s) array
        Draws; every row has the signs asked for.
    logw : (draws,) array
        Log-weights (nats): expectations under the truncated Gaussian are weighted means, and
        ``log(mean(exp(logw)))`` estimates ln P(sign z = labels).

    Raises
    ------
    InputError
        K is no covariance.
    NumericalError
        K is singular to working precision, or (as :class:`Infeasible`) the labels are impossible.
    """
    K = check_symmetric(K)
    if labels.shape != (len(K),) or not np.isin(labels, (0, 1)).all():
        raise InputError(
            f"labels of shape {labels.shape}", f"{len(K)} labels 0 or 1", "give one an input"
        )
    event = make_event(labels, K, factor(K))
    check_draws(draws, len(KAPPA))
    _, twist = prepare(event)
    chunks, logw, _, _ = sample(event, twist, draws, seed, stream="tilted-draws", keep=True)
    return np.concatenate([c.points() for c in chunks]) * event.signs, logw


def _result(
    event: Event, sites: Sites, summary: Summary, draws: int, tol: float | None, began: float
) -> LogProb:
    if summary.value == -math.inf:
        raise NumericalError(
            f"no draw out of {draws} fell in the event, which is possible: expected at least one; "
            "raise the number of draws"
        )
    reliable = summary.ess > 10.0 and not summary.pareto_k > K_LIMIT and draws >= FEWEST
    diagnostics: dict[str, Any] = {
        "pareto_k": summary.pareto_k,
        "reliable": bool(reliable and sites.converged and (tol is None or summary.stderr <= tol)),
        "converged": sites.converged,
        "draws": draws,
        "ep": sites.logz,
        "sweeps": sites.sweeps,
        "rank": event.rank,
        "rcond": event.rcond,
        "seconds": perf_counter() - began,
    }
    if draws < FEWEST:
        diagnostics["reason"] = f"{draws} draws: {FEWEST} or more for a standard error to trust"
    return LogProb(summary.value, summary.stderr, summary.ess, "tilted", diagnostics)


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
        weight = target - logsumexp(share[:, None] + mixture[0]) - offset
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
            offset = mixture[1] - logsumexp(share[:, None] + mixture[0])
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
