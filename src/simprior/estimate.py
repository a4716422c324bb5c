"""What every estimator returns: a value, its standard error, and how it was obtained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class LogProb:
    """Estimate of a log-probability, in nats.

    ``value`` is ln P (``-inf`` for an impossible event), ``stderr`` the standard error of ``value``
    (0 for an exact result), ``ess`` the effective number of independent draws behind it (``inf``
    for an exact result, ``nan`` where the notion does not apply), ``method`` the estimator's name
    and ``diagnostics`` whatever the method reports about itself (Pareto k-hat, convergence, ...).
    """

    value: float
    stderr: float
    ess: float
    method: str
    diagnostics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def log10(self) -> float:
        """The value in decades, for display only."""
        return self.value / math.log(10.0)


def clopper_pearson(
    count: np.ndarray, trials: np.ndarray | float, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Exact binomial interval for ``count`` successes in ``trials`` (Clopper & Pearson 1934).

    Both may be real numbers (effective counts, see :func:`korn_graubard`). Returns (low, high),
    arrays of the broadcast shape.
    """
    from scipy.special import betaincinv

    k, n = np.broadcast_arrays(np.asarray(count, float), np.asarray(trials, float))
    tail = (1.0 - level) / 2.0
    rest = np.maximum(n - k, 0.0)
    with np.errstate(invalid="ignore"):
        low = np.where(k > 0, betaincinv(np.maximum(k, 1e-300), rest + 1.0, tail), 0.0)
        high = np.where(rest > 0, betaincinv(k + 1.0, np.maximum(rest, 1e-300), 1.0 - tail), 1.0)
    return low, high


def korn_graubard(
    count: np.ndarray, trials: float, design_effect: np.ndarray | float, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Clopper-Pearson interval on effective counts for clustered samples (Korn & Graubard 1998).

    ``design_effect`` is the variance of the clustered estimate over that of a simple random sample;
    values below 1 are taken as 1, so that the interval is never shorter than the exact binomial's.
    """
    effect = np.maximum(np.asarray(design_effect, float), 1.0)
    return clopper_pearson(np.asarray(count, float) / effect, trials / effect, level)
