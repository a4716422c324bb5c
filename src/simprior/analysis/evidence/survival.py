"""Times until something happens, of which some are known only from below (right-censored).

The share that has not happened yet is estimated by the product-limit estimator (Kaplan & Meier
1958): what is censored counts among those at risk as long as it was watched. Members of an ensemble
that were trained on the same data depend on each other, so intervals come from redrawing data sets.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from simprior.analysis.evidence.paired import LEVEL
from simprior.checks import whole
from simprior.errors import InputError
from simprior.numerics import random as rng

RESAMPLES = 500


class Median(NamedTuple):
    """A median and its interval; infinite where less than half have happened."""

    value: float
    low: float
    high: float


def survival(times: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(times, share for which it has not happened by then), a value at each time that was seen.

    ``times`` (N,) positive; ``seen`` (N,) bool, False where a time is only a lower bound. Empty
    arrays if none was seen. Raises :class:`InputError` for arrays that do not fit together.
    """
    from scipy.stats import CensoredData, ecdf

    times, seen = np.asarray(times, float), np.asarray(seen, bool)
    if times.ndim != 1 or times.shape != seen.shape or not np.isfinite(times).all():
        what = f"times of shape {times.shape} with seen of shape {seen.shape}"
        raise InputError(what, "two lists of one length, times finite", "pass both of all members")
    if not seen.any():
        return np.zeros(0), np.zeros(0)
    found = ecdf(CensoredData(uncensored=times[seen], right=times[~seen])).sf
    happened = np.isin(found.quantiles, times[seen])
    return found.quantiles[happened], found.probabilities[happened]


def median_time(times: np.ndarray, seen: np.ndarray) -> float:
    """The first time by which half have happened (product limit); infinite if there is none."""
    at, share = survival(times, seen)
    past = at[share <= 0.5 + 1e-12]
    return float(past[0]) if len(past) else math.inf


def median_of_groups(
    times: np.ndarray,
    seen: np.ndarray,
    group: np.ndarray,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Median:
    """:func:`median_time` of (N,) times, with an interval from redrawing the groups.

    ``group`` (N,) says what belongs together, e.g. the data set; groups are redrawn with
    replacement, whole (percentile bootstrap). Raises :class:`InputError`.
    """
    value = median_time(times, seen)
    rows = [np.flatnonzero(group == one) for one in np.unique(group)]
    source = rng.generator(seed, "evidence/survival")
    drawn = []
    for _ in range(whole("resamples", resamples, 1)):
        index = np.concatenate([rows[i] for i in source.integers(len(rows), size=len(rows))])
        drawn.append(median_time(times[index], seen[index]))
    tail = (1.0 - level) / 2
    low, high = np.quantile(drawn, [tail, 1.0 - tail], method="inverted_cdf")
    return Median(value, float(low), float(high))
