"""Normal laws fitted to activations of sampled inputs, and what they say of the event.

Both are approximations (Wu & Hilton 2024): their errors are those of the fit, and say nothing of
how far the activations are from normal.

* ``gld`` ("Gaussian Logit Difference", linear): the output itself is normal.
* ``qld`` ("Quadratic Logit Decomposition"): the fields u of the last hidden layer are whitened and
  split into the part along one direction, that of the shortest vector that reaches the event, and
  the rest. The two parts are taken to be independent, the first to be normal; the rest is as
  sampled. For each rest the points along the direction where the event happens are found.

The original decomposes what the last linear layer reads. For one output the event is a half-space
there, and the decomposition would be ``gld``; so here it is made one activation earlier.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.special import log_ndtr, ndtr

from simprior.analysis.rare.given import Layers
from simprior.analysis.rare.question import (
    LEVEL,
    Question,
    finding,
    log_mean,
    relative_error,
)
from simprior.errors import InputError
from simprior.network.activations import has_gradient
from simprior.numerics.estimate import LogProb, student_factor

GROUPS = 8
"""Independent fits of ``qld``, from whose spread the error comes."""
_MOST = 512  # samples of a group
_REACH, _POINTS = 12.0, 481  # of the grid along the direction, in standard deviations
_SEARCH = 30
_AT_ONCE = 16  # samples on the whole grid
_RANK = 1e-10
_FIT = 0.2  # nats


def gld(question: Question, samples: int, source: np.random.Generator) -> LogProb:
    """ln P of the normal law with the mean and variance of ``samples`` outputs."""
    scores = question.scores(question.law.draw(samples, source))
    mean, sd = float(scores.mean()), float(scores.std(ddof=1))
    if sd == 0:
        notes = ("all outputs are equal",)
        return finding("gld", 0.0 if mean > 0 else -math.inf, math.nan, notes=notes)
    h = mean / sd
    value = float(log_ndtr(h))
    slope = math.exp(-0.5 * h * h - 0.5 * math.log(2.0 * math.pi) - value)
    stderr = slope * math.sqrt((1.0 + 0.5 * h * h) / samples)
    return finding("gld", value, stderr, ess=float(samples))


def qld(question: Question, samples: int, source: np.random.Generator) -> LogProb:
    """ln P of the decomposition, from ``GROUPS`` independent fits.

    Raises :class:`InputError` for modules without layers.
    """
    layers = question.given.layers
    if len(layers.weights) == 1:
        raise InputError("qld of a perceptron", "a hidden layer", "its gld is the same")
    count = max(2 * question.law.size, min(_MOST, samples // GROUPS))
    found = []
    for _ in range(GROUPS):
        inputs = question.law.inputs(question.law.draw(count, source))
        question.evaluations += count
        found.append(_Decomposition(question, layers, layers.fields(inputs)).log_p())
    logs = np.array(found)
    value, stderr = log_mean(logs), relative_error(logs)
    notes: tuple[str, ...] = ()
    if value == -math.inf:
        notes = ("no sample comes to the event along the direction",)
    elif not stderr < _FIT:
        notes = (f"the fits differ: {stderr:.2g} nats",)
    factor = student_factor(GROUPS, LEVEL)
    return finding("qld", value, stderr, ess=float(count * GROUPS), factor=factor, notes=notes)


class _Decomposition:
    """Whitened fields of sampled inputs, split along one direction."""

    def __init__(self, question: Question, layers: Layers, fields: np.ndarray) -> None:
        self._question, self._layers = question, layers
        self._mean = fields.mean(0)
        values, vectors = np.linalg.eigh(
            np.cov(fields, rowvar=False).reshape(2 * [len(self._mean)])
        )
        kept = values > _RANK * max(float(values[-1]), 1e-300)
        self._root = vectors[:, kept] * np.sqrt(values[kept])
        self.whitened = (fields - self._mean) @ (vectors[:, kept] / np.sqrt(values[kept]))

    def scores(self, whitened: np.ndarray) -> np.ndarray:
        """(...) scores at whitened fields (..., r)."""
        z = self._layers.of_fields(self._mean + whitened @ self._root.T)
        return self._question.of_outputs(z)

    def _slopes(self, whitened: np.ndarray) -> np.ndarray:
        fields = self._mean + whitened @ self._root.T
        found = self._layers.slopes_of_fields(fields) @ self._root
        return found if self._question.above else -found

    def _reach(self, direction: np.ndarray) -> float:
        """The shortest distance along a direction at which the event happens; inf without one."""
        at = np.linspace(0.0, _REACH, _POINTS)
        inside = self.scores(at[:, None] * direction) > 0
        return float(at[inside.argmax()]) if inside.any() else math.inf

    def direction(self) -> np.ndarray:
        """A unit vector: of those tried, the one along which the event is nearest.

        Tried are the direction of the linear fit to the sampled scores, and the steps of a search
        for the shortest vector that reaches the event (Hasofer & Lind 1974, Rackwitz & Fiessler
        1978), where the activation has a gradient.
        """
        scores = self.scores(self.whitened)
        linear, *_ = np.linalg.lstsq(self.whitened, scores - scores.mean(), rcond=None)
        size = float(np.linalg.norm(linear))
        best = linear / size if size else np.eye(len(linear))[0]
        nearest, at = self._reach(best), np.zeros(len(best))
        for _ in range(_SEARCH if has_gradient(self._layers.network) else 0):
            slope, score = self._slopes(at), float(self.scores(at))
            square = float(slope @ slope)
            if square == 0:
                break
            at = 0.5 * (at + (slope @ at - score) / square * slope)
            length = float(np.linalg.norm(at))
            if length == 0:
                break
            reach = self._reach(at / length)
            if reach < nearest:
                best, nearest = at / length, reach
        return best

    def log_p(self) -> float:
        """ln of the mean over sampled rests of the probability of the event along the direction."""
        direction = self.direction()
        rest = self.whitened - np.outer(self.whitened @ direction, direction)
        at = np.linspace(-_REACH, _REACH, _POINTS)
        line = at[:, None] * direction
        total = 0.0
        for start in range(0, len(rest), _AT_ONCE):
            part = rest[start : start + _AT_ONCE, None]
            total += float(_inside(at, self.scores(part + line)).sum())
        return math.log(total / len(rest)) if total > 0 else -math.inf


def _inside(at: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(N,) standard normal probability of the points where ``scores`` (N, K) on the grid ``at`` are
    > 0, ends of intervals by linear interpolation."""
    happens = scores > 0
    both = happens[:, :-1] & happens[:, 1:]
    found = both @ _between(at[:-1], at[1:])
    row, cell = np.nonzero(happens[:, :-1] ^ happens[:, 1:])
    low, high = scores[row, cell], scores[row, cell + 1]
    crossing = at[cell] + (at[cell + 1] - at[cell]) * low / (low - high)
    left = np.where(low > 0, at[cell], crossing)
    right = np.where(low > 0, crossing, at[cell + 1])
    return np.asarray(found + np.bincount(row, _between(left, right), minlength=len(scores)))


def _between(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Standard normal probability of an interval, from the tail without cancellation."""
    upper = left > 0
    return np.where(upper, ndtr(-left) - ndtr(-right), ndtr(right) - ndtr(left))
