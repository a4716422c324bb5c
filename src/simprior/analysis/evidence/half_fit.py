"""Half-fit: the size at which half of the networks fit what they were trained on.

The share of networks that fit is measured at some sizes (widths, or numbers of examples). It is
made monotone by isotonic regression, and its crossing of 1/2 is found on the scale of ln size. A
data set whose share does not cross 1/2 in the range is not dropped: its half-fit is the end of the
range that is nearest to it, and it is counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from simprior.analysis.evidence.paired import LEVEL
from simprior.errors import InputError
from simprior.numerics import random as rng

RESAMPLES = 2000
"""Bootstrap samples of the data sets for an interval."""


@dataclass(frozen=True)
class Crossing:
    """A half-fit size; ``side`` is -1 below the range, 1 above it, and 0 inside."""

    size: float
    side: int


@dataclass(frozen=True)
class HalfFit:
    """The half-fit size of several data sets together.

    Attributes
    ----------
    value, low, high : float
        Of the mean share over data sets; a 95 % percentile interval by bootstrap over data sets.
    side : int
        As of :class:`Crossing`, of ``value``. An end of the interval that is an end of the range
        says no more than that: ``low_open``, ``high_open``.
    below, above, number : int
        Data sets of which more than half fit at all sizes, or less than half at all, of so many.
    """

    value: float
    low: float
    high: float
    side: int
    low_open: bool
    high_open: bool
    below: int
    above: int
    number: int


def crossing(sizes: np.ndarray, shares: np.ndarray, rising: bool = True) -> Crossing:
    """Where the (K,) ``shares`` that fit at (K,) increasing ``sizes`` cross 1/2.

    ``rising``: the share grows with the size (a width), or falls with it (a number of examples).
    Raises :class:`InputError` unless there are two or more increasing sizes > 0 and as many shares.
    """
    from scipy.optimize import isotonic_regression

    sizes, shares = np.asarray(sizes, float), np.asarray(shares, float)
    if (
        len(sizes) < 2
        or shares.shape != sizes.shape
        or sizes[0] <= 0
        or (np.diff(sizes) <= 0).any()
    ):
        what, expected = f"sizes={sizes.tolist()}", "two or more increasing sizes, a share each"
        raise InputError(what, expected, "add sizes")
    level = isotonic_regression(shares, increasing=rising).x - 0.5
    level = level if rising else -level  # from below 0 to above it
    if level[-1] < 0:
        return Crossing(float(sizes[-1]), 1)
    if level[0] > 0:
        return Crossing(float(sizes[0]), -1)
    last, first = int(np.flatnonzero(level <= 0)[-1]), int(np.flatnonzero(level >= 0)[0])
    if first <= last:  # a stretch at 1/2: its middle
        ends = np.log(sizes[[first, last]])
        return Crossing(float(np.exp(ends.mean())), 0)
    part = -level[last] / (level[first] - level[last])
    logs = np.log(sizes)
    return Crossing(float(np.exp(logs[last] + part * (logs[first] - logs[last]))), 0)


def half_fit(sizes: np.ndarray, shares: np.ndarray, rising: bool = True, seed: int = 0) -> HalfFit:
    """The half-fit size of (N, K) ``shares`` of N data sets, with its interval over data sets."""
    shares = np.atleast_2d(np.asarray(shares, float))
    whole = crossing(sizes, shares.mean(axis=0), rising)
    sides = [crossing(sizes, row, rising).side for row in shares]
    source = rng.generator(seed, "evidence/half-fit")
    found = []
    for _ in range(RESAMPLES):
        chosen = source.integers(len(shares), size=len(shares))
        found.append(crossing(sizes, shares[chosen].mean(axis=0), rising).size)
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return HalfFit(
        whole.size,
        float(low),
        float(high),
        whole.side,
        bool(math.isclose(low, sizes[0])),
        bool(math.isclose(high, sizes[-1])),
        sides.count(-1),
        sides.count(1),
        len(shares),
    )


def log2_sizes(
    sizes: np.ndarray, shares: np.ndarray, rising: bool = True
) -> tuple[np.ndarray, int]:
    """(N,) log2 of the half-fit size of each of N data sets, and how many are ends of the range."""
    found = [crossing(sizes, row, rising) for row in np.atleast_2d(shares)]
    outside = sum(one.side != 0 for one in found)
    return np.log2([one.size for one in found]), outside
