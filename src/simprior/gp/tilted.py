"""The default estimator of ln P: sequential importance sampling tilted by EP sites.

Separation of variables (Genz 1992) draws x_1, x_2, ... each from its conditional truncated to the
event; untilted it is wrong by tens of nats at small P, because the early coordinates know nothing
of the constraints to come. Here the conditionals are those of the Gaussian twisted by the sites
of expectation propagation (:mod:`simprior.gp.twist`), truncated exactly, so the weight of a draw is
a product of one-dimensional normalisers. The sites are tempered about the EP mean, kappa = 1, 0.6,
0.3, and the draws weighted by the balance heuristic: a single kappa = 1 has unbounded weights.
For common functions (ln P above about -5) kappa = 0 joins them, which bounds the weights.

No jitter is added. With a rank-deficient K the r < m coordinates of the weight space are drawn and
constraints that end on the same coordinate give an interval.
"""

from __future__ import annotations

import math
from time import perf_counter
from typing import Any

import numpy as np

from simprior.checks import Array, checked
from simprior.errors import InputError, NumericalError
from simprior.gp.covariance import check_symmetric, factor
from simprior.gp.ep import Sites, fit_sites
from simprior.gp.event import Event, Infeasible, check_draws, feasible, impossible, make_event
from simprior.gp.sequence import Draws
from simprior.gp.twist import K_LIMIT, Summary, Twist, make_twist, summarise
from simprior.numerics.estimate import LogProb

KAPPA = (1.0, 0.6, 0.3)
COMMON = -5.0  # EP value in nats above which untilted draws (kappa = 0) join the mixture
DRAWS = 1024
FEWEST = 256  # below, standard errors of skewed weights are too short more often than they say
MAX_DRAWS = 1 << 20
SITE_SWEEPS = 60
SITE_TOL = 1e-2  # of EP when its sites only shape the proposal
CHUNK = 1 << 18  # numbers (draws times coordinates) drawn at a time


def prepare(event: Event, kappa: tuple[float, ...] | None = KAPPA) -> tuple[Sites, Twist]:
    """EP sites of the event and the twisted Gaussians built from them.

    ``kappa=None`` chooses: the usual mixture, and for common functions also kappa = 0, whose
    weights are bounded (by 1 before mixing) where those of tilted draws have a heavy tail.

    Raises :class:`Infeasible` if the event has probability 0 (rank-deficient K) and
    :class:`NumericalError` if EP found no finite sites.
    """
    sites = fit_sites(
        event.K, event.A, event.lower, tol=SITE_TOL, max_sweeps=SITE_SWEEPS, verify=False
    )
    if not sites.converged and event.rank < event.m and not feasible(event.A, event.lower):
        raise Infeasible("no weights realise this function: ln P = -inf")
    if not math.isfinite(sites.logz):
        raise NumericalError(
            f"EP diverged after {sites.sweeps} sweeps (reciprocal condition number of the kernel "
            f"{event.rcond:.2g}): expected finite sites; use fewer layers or less similar inputs"
        )
    if kappa is None:
        kappa = (*KAPPA, 0.0) if sites.logz > COMMON else KAPPA
    return sites, make_twist(event.K, event.A, event.lower, sites, np.array(kappa))


def sample(
    event: Event, twist: Twist, draws: int, seed: int, start: int = 0, stream: str = "tilted",
    keep: bool = False,
) -> tuple[list[Draws], np.ndarray, np.ndarray, int]:  # fmt: skip
    """``draws`` weighted draws in chunks; (chunks, log-weights, temperatures, next chunk index).

    The chunks hold every coordinate; they are returned only if ``keep``.
    """
    k = len(twist.kappa)
    size = max(CHUNK // twist.rank, 32 * k)
    chunks: list[Draws] = []
    logw, own, done, index = [], [], 0, start
    while done < draws:
        n = min(size, draws - done)
        n = draws - done if draws - done - n < 2 * k else n
        labels = np.arange(n) * k // n
        uniform = 1.0 - event.generator(seed, stream, index).random((twist.rank, n))
        chunk = Draws(twist, uniform, labels).run()
        if keep:
            chunks.append(chunk)
        logw.append(chunk.log_weights(np.bincount(labels, minlength=k) / n))
        own.append(labels)
        done, index = done + n, index + 1
    return chunks, np.concatenate(logw), np.concatenate(own), index


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
