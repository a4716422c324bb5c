"""Means and slopes over independent data sets, with Student intervals and p-values.

Whatever is contrasted was computed on the same data sets, so the contrast is formed within each of
them first; the data sets are the only independent units.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from simprior.errors import InputError
from simprior.numerics.estimate import sample_sd, student_factor

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over ``number`` independent units, its interval, and p of the hypothesis of 0."""

    value: float
    low: float
    high: float
    p: float
    number: int


def mean_of(values: np.ndarray, level: float = LEVEL) -> Estimate:
    """Mean of (N,) values, with the interval and the two-sided p of Student's t.

    Values that all agree have no spread to judge by: their interval is a point, and p is that of
    the sign test, 2^(1-N) (1 if they are 0). Raises :class:`InputError` for fewer than 2 values or
    values that are not finite.
    """
    from scipy.stats import t as student

    values = np.asarray(values, float)
    number = len(values)
    if number < 2 or not np.isfinite(values).all():
        what = f"{number} values to average over data sets"
        raise InputError(what, "2 or more, all finite", "add data sets")
    mean, error = float(values.mean()), float(sample_sd(values)) / math.sqrt(number)
    if error == 0:
        return Estimate(mean, mean, mean, 1.0 if mean == 0 else 2.0 ** (1 - number), number)
    reach = student_factor(number, level) * error
    p = 2.0 * float(student.sf(abs(mean) / error, number - 1))
    return Estimate(mean, mean - reach, mean + reach, p, number)


def slope_of(x: np.ndarray, values: np.ndarray, level: float = LEVEL) -> Estimate:
    """Mean over data sets of the least-squares slope of (N, K) ``values`` along (K,) ``x``.

    A slope is fitted in each data set, so its interval needs no model of how the K values of a data
    set depend on each other. Raises :class:`InputError` for fewer than two different ``x``.
    """
    x = np.asarray(x, float)
    centred = x - x.mean()
    size = float(centred @ centred)
    if not size > 0:
        raise InputError(f"a slope over {len(x)} points", "two or more different ones", "add some")
    return mean_of(np.asarray(values, float) @ centred / size, level)
