"""Plain sampling, and importance sampling from a law that is tilted entry by entry.

A tilt theta makes the entries of a state (tokens, in the words of Wu & Hilton 2024) independent of
each other, with other odds or other means. It is fitted in one of two ways, and then held fixed, so
that the estimate from fresh draws is unbiased:

* ``tilt``: by cross-entropy (Rubinstein 1999), level by level towards the event;
* ``itgis``: along the mean gradient of the output, at a temperature that a pilot chooses (Wu &
  Hilton 2024, "Independent Token Gradient Importance Sampling").

Draws come from a mixture: a tenth of them from the law itself, so that no importance weight exceeds
ten (Hesterberg 1995). A part of the event that the tilt does not reach is hardly ever drawn, and
then the spread of the weights does not show it. So the weights are also asked for where Metropolis
chains find the event: E_q[w^2 1] = P E[w | event] gives the standard error a second time. The
larger one counts.
"""

from __future__ import annotations

import math

import numpy as np

from simprior.analysis.rare.given import BLOCK
from simprior.analysis.rare.particles import inside
from simprior.analysis.rare.question import (
    LEVEL,
    Question,
    effective,
    finding,
    log_mean,
    relative_error,
)
from simprior.numerics.estimate import LogProb, clopper_pearson

DEFENSIVE = 0.1
"""Share of the draws that come from the law itself."""
_PILOT, _ELITE, _ROUNDS = 2000, 0.1, 40
_GRADIENTS, _STEPS, _MEMORY, _DOUBLINGS = 64, 24, 0.9, 14
_FEWEST = 20  # hits of a pilot whose spread says something
_LARGEST, _LEAST_ESS, _WORST = 0.1, 50.0, 0.5
_UNSEEN = 3.0  # of the standard error of the draws


def sampling(question: Question, samples: int, source: np.random.Generator) -> LogProb:
    """The share of ``samples`` draws, with its exact binomial interval.

    Without a hit there is an upper limit, and no estimate: nan.
    """
    hits = 0
    for start in range(0, samples, BLOCK):
        count = min(BLOCK, samples - start)
        hits += int((question.scores(question.law.draw(count, source)) > 0).sum())
    low, high = (float(a) for a in clopper_pearson(np.array(hits), samples, LEVEL))
    limits = (math.log(low) if low else -math.inf, math.log(high))
    if not hits:
        notes = (f"no hits: only the upper limit {limits[1]:.3g} is known",)
        return finding("sampling", math.nan, math.nan, ess=0.0, notes=notes, limits=limits)
    share = hits / samples
    stderr = math.sqrt((1.0 - share) / hits)
    few = () if hits >= _FEWEST else (f"{hits} hits: read the limits",)
    return finding("sampling", math.log(share), stderr, ess=float(hits), notes=few, limits=limits)


def tilt(question: Question, samples: int, particles: int, source: np.random.Generator) -> LogProb:
    """Importance sampling from the tilt that cross-entropy finds."""
    theta, reached = _by_cross_entropy(question, source)
    return _estimate("tilt", question, theta, samples, particles, source, reached)


def itgis(question: Question, samples: int, particles: int, source: np.random.Generator) -> LogProb:
    """Importance sampling from the tilt along the mean gradient.

    Raises :class:`InputError` for a network without gradients in its inputs.
    """
    theta, reached = _by_gradient(question, source)
    return _estimate("itgis", question, theta, samples, particles, source, reached)


def _log_weights(question: Question, states: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """(N,) ln of the law over the mixture, at some states."""
    towards = states @ theta - question.law.log_partition(theta)
    both = np.logaddexp(math.log(DEFENSIVE), math.log1p(-DEFENSIVE) + towards)
    return np.asarray(-both)


def _draw(
    question: Question, theta: np.ndarray, count: int, source: np.random.Generator
) -> np.ndarray:
    """(count, size) states of the mixture, with fixed shares."""
    plain = round(DEFENSIVE * count)
    law = question.law
    return np.concatenate([law.draw(plain, source), law.tilted(theta, count - plain, source)])


def _hits(
    question: Question, theta: np.ndarray, count: int, source: np.random.Generator
) -> np.ndarray:
    """(count,) ln weights of draws of the mixture, -inf where the event does not happen."""
    parts = []
    for start in range(0, count, BLOCK):
        states = _draw(question, theta, min(BLOCK, count - start), source)
        logs = _log_weights(question, states, theta)
        parts.append(np.where(question.scores(states) > 0, logs, -math.inf))
    return np.concatenate(parts)


def _estimate(
    method: str,
    question: Question,
    theta: np.ndarray,
    samples: int,
    particles: int,
    source: np.random.Generator,
    reached: bool,
) -> LogProb:
    logs = _hits(question, theta, samples, source)
    value, stderr, ess = log_mean(logs), relative_error(logs), effective(logs)
    if not np.isfinite(logs).any():
        note = "no hits under the tilted law" + ("" if reached else ", which did not reach it")
        limits = (-math.inf, math.nan)
        return finding(method, math.nan, math.nan, ess=0.0, notes=(note,), limits=limits)
    seen = _error_by_chains(question, theta, value, samples, particles, source)
    notes = [] if reached else ["the fit of the tilt did not reach the event"]
    largest = math.exp(float(logs.max()) - value) / len(logs)
    if ess < _LEAST_ESS:
        notes.append(f"{ess:.0f} effective hits")
    if largest > _LARGEST:
        notes.append(f"one draw has {largest:.0%} of the weight")
    if math.isnan(seen):
        notes.append("chains did not find the event: what the tilt misses is not known")
        seen = 0.0
    if seen > _UNSEEN * stderr:
        notes.append(f"chains find the event where the tilt has few draws: error {seen:.2g}")
    stderr = max(stderr, seen)
    if stderr > _WORST:
        notes.append(f"error {stderr:.2g} nats")
    return finding(method, value, stderr, ess=ess, notes=tuple(notes))


def _error_by_chains(
    question: Question,
    theta: np.ndarray,
    value: float,
    samples: int,
    particles: int,
    source: np.random.Generator,
) -> float:
    """The standard error of ln P from the weights at states of the event that chains found; nan
    if they found none."""
    states = inside(question, particles, source)
    if not len(states):
        return math.nan
    square = math.exp(log_mean(_log_weights(question, states, theta)) - value) - 1.0
    return math.sqrt(max(0.0, square) / samples)


def _by_cross_entropy(question: Question, source: np.random.Generator) -> tuple[np.ndarray, bool]:
    """The tilt, and whether draws of it reach the event.

    In each round the tenth of the draws with the highest scores gives the means of the next tilt,
    weighted back to the law itself; once a tenth reaches the event, all that do.
    """
    law, theta, before = question.law, np.zeros(question.law.size), -math.inf
    stalled = 0
    for _ in range(_ROUNDS):
        states = law.tilted(theta, _PILOT, source)
        scores = question.scores(states)
        level = float(np.quantile(scores, 1.0 - _ELITE))
        chosen = scores > 0 if level > 0 else scores >= level
        logs = law.log_partition(theta) - states[chosen] @ theta
        weights = np.exp(logs - logs.max())
        theta = law.tilt_of(weights @ states[chosen] / weights.sum())
        if level > 0:
            return theta, True
        stalled = stalled + 1 if level <= before else 0
        before = max(before, level)
        if stalled == 6:
            break
    return theta, False


def _by_gradient(question: Question, source: np.random.Generator) -> tuple[np.ndarray, bool]:
    """The tilt, and whether draws of it reach the event: the temperature with the least spread of
    weights among those with hits, else the one with the highest mean score."""
    law = question.law
    start = question.slopes(law.draw(_GRADIENTS, source)).mean(0)
    size = float(np.linalg.norm(start)) or 1.0
    best, best_key, reached = np.zeros(law.size), (-math.inf, -math.inf), False
    for doubling in range(_DOUBLINGS):
        theta = _along(question, 0.25 * 2.0 ** (doubling / 2) / size, source)
        states = _draw(question, theta, _PILOT, source)
        scores = question.scores(states)
        logs = np.where(scores > 0, _log_weights(question, states, theta), -math.inf)
        enough = int((scores > 0).sum()) >= _FEWEST
        key = (1.0, -relative_error(logs)) if enough else (0.0, float(scores.mean()))
        if key > best_key:
            best, best_key, reached = theta, key, enough
    return best, reached


def _along(question: Question, rate: float, source: np.random.Generator) -> np.ndarray:
    """``rate`` times the mean gradient under the tilt itself, by an average that forgets."""
    law = question.law
    mean, weight = np.zeros(law.size), 0.0
    theta = mean
    for _ in range(_STEPS):
        slopes = question.slopes(law.tilted(theta, _GRADIENTS, source)).mean(0)
        mean = _MEMORY * mean + (1.0 - _MEMORY) * slopes
        weight = _MEMORY * weight + (1.0 - _MEMORY)
        theta = law.limited(rate * mean / weight)
    return theta
