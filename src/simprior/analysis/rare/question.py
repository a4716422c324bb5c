"""What is asked: the probability that the output of a network passes a threshold."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from simprior.analysis.rare.given import Given
from simprior.analysis.rare.laws import Law
from simprior.numerics.estimate import LogProb, normal_factor

LEVEL = 0.95
_LEAST = float(np.finfo(float).tiny)


@dataclass(eq=False)
class Question:
    """The event z > ``threshold`` (``above``), or z <= ``threshold``, under a law of inputs.

    The event is in :meth:`scores`: it happens where the score is > 0. ``evaluations`` counts the
    inputs on which the network was evaluated (a gradient counts as one more).
    """

    given: Given
    law: Law
    threshold: float = 0.0
    above: bool = True
    evaluations: int = field(default=0, init=False)

    def scores(self, states: np.ndarray) -> np.ndarray:
        """(N,) by how much the output is on the side of the event; > 0 where the event happens."""
        self.evaluations += len(states)
        z = self.given.outputs(self.law.inputs(states))
        return self.of_outputs(z)

    def of_outputs(self, z: np.ndarray) -> np.ndarray:
        """Scores of outputs. An output that is equal to the threshold is not above it."""
        if self.above:
            return z - self.threshold
        found = self.threshold - z
        return np.where(found == 0.0, _LEAST, found)

    def slopes(self, states: np.ndarray) -> np.ndarray:
        """(N, size) gradients of the scores in the states."""
        self.evaluations += len(states)
        found = self.law.pull(self.given.slopes(self.law.inputs(states)))
        return found if self.above else -found


def log_mean(logs: np.ndarray) -> float:
    """ln of the mean of exp; -inf where all are."""
    top = float(logs.max())
    return top + math.log(float(np.exp(logs - top).mean())) if math.isfinite(top) else top


def relative_error(logs: np.ndarray) -> float:
    """Standard error of the mean of exp(``logs``), divided by that mean: that of its logarithm.

    nan for fewer than two values, or if all are -inf.
    """
    if len(logs) < 2 or not np.isfinite(logs).any():
        return math.nan
    shares = np.exp(logs - log_mean(logs))
    return float(shares.std(ddof=1)) / math.sqrt(len(logs))


def effective(logs: np.ndarray) -> float:
    """Effective number of weights exp(``logs``): (sum)^2 / sum of squares; 0 if all are 0."""
    top = float(logs.max())
    if not math.isfinite(top):
        return 0.0
    weights = np.exp(logs - top)
    return float(weights.sum() ** 2 / (weights @ weights))


def finding(
    method: str,
    value: float,
    stderr: float,
    *,
    ess: float = math.nan,
    factor: float | None = None,
    notes: tuple[str, ...] = (),
    limits: tuple[float, float] | None = None,
) -> LogProb:
    """An estimate of ln P with its 95 % limits, in nats.

    Limits are ``factor`` standard errors (default: those of a normal law) on each side of ln P,
    unless ``limits`` gives them. ``notes`` say why it is not to be trusted; without one it is.
    """
    reach = (normal_factor(LEVEL) if factor is None else factor) * stderr
    low, high = (value - reach, value + reach) if limits is None else limits
    about = {"low": low, "high": high, "reliable": not notes, "note": "; ".join(notes)}
    return LogProb(value, stderr, ess, method, about)
