"""Means of networks with their intervals, as figures draw them.

The networks of one training set differ in initialisation and order: the spread over k of them gives
an interval of Student's t with k - 1 degrees of freedom. They share their test inputs, so that the
error of a finite sample of these stays however many networks are averaged: the Clopper-Pearson
interval of one share. Both are combined as the limits of a sum of independent quantities (MOVER:
Zou & Donner 2008), squared distance by squared distance. Where the test inputs are all strings of n
bits (n > 0) the error is exact.

Fewer than three values, or equal ones, say nothing reliable of the spread: it is left out of the
interval, and the column ``_known`` says so (such points are drawn open).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from simprior.analysis.measure.registry import MEASURES, SAMPLED
from simprior.errors import InputError
from simprior.numerics.estimate import clopper_pearson, normal_factor, student_factor

FEWEST = 3
"""Values whose spread is taken as known."""
_OUTCOME = (*SAMPLED, "total_error", "train_error", "train_loss", "steps")
_SHARES = (*SAMPLED, "total_error", "train_error", "bound")


@dataclass(frozen=True)
class Mean:
    """A mean, its limits, and whether the spread of what was averaged is within them."""

    value: float
    low: float
    high: float
    known: bool

    def columns(self, name: str) -> dict[str, Any]:
        """``<name>``, ``<name>_low``, ``<name>_high``, ``<name>_known``."""
        return {
            name: self.value,
            f"{name}_low": self.low,
            f"{name}_high": self.high,
            f"{name}_known": self.known,
        }


def cell_means(
    frame: pd.DataFrame, columns: Sequence[str], points: str = "run", level: float = 0.95
) -> pd.DataFrame:
    """A row a run (or network): ``<c>``, ``<c>_low``, ``<c>_high``, ``<c>_known`` of each column.

    Of a run: :func:`network_mean`. Of a network: its value with the column's own standard error
    (normal) or, of the error on a sample of test inputs, Clopper-Pearson limits.
    """
    if points == "network":
        return _networks(frame, columns, level)
    rows = []
    for _, some in frame.groupby("run", sort=True):
        found = [network_mean(some, name, level).columns(name) for name in columns]
        rows.append({key: value for part in found for key, value in part.items()})
    return pd.DataFrame(rows)


def network_mean(some: pd.DataFrame, column: str, level: float = 0.95) -> Mean:
    """Mean of ``column`` over the networks of one training set.

    Limits: Student's t from the spread over networks, or the column's own standard error if that is
    wider; for an error on a sample of inputs (``records.SAMPLED``) also the error of that sample.
    """
    some = some[np.isfinite(some[column].to_numpy(float))]
    value = some[column].to_numpy(float)
    if not len(value):
        return Mean(math.nan, math.nan, math.nan, True)
    mean = float(value.mean())
    if {f"{column}_low", f"{column}_high"} <= set(some):  # limits of its own: of the bound
        low, high = (float(some[f"{column}_{end}"].mean()) for end in ("low", "high"))
        return Mean(mean, low, high, True)
    if len(some) == 1 and column in _OUTCOME and f"{column}_stderr" in some:
        half, known = _of_summary(some, column, level)
    else:
        half, known = _spread(value, level)
        half = max(half, _own(some, column, level))
        known = known or not _varies(column)
    low, high = mean - half, mean + half
    size = int(_test_sizes(some, column).max()) if column in SAMPLED else 0
    if size:
        ends = clopper_pearson(np.array(mean * size), size, level)
        low, high = (
            mean + sign * math.hypot(half, float(end) - mean)
            for sign, end in zip((-1, 1), ends, strict=True)
        )
    if column in _SHARES:
        low, high = max(low, 0.0), min(high, 1.0)
    return Mean(mean, low, high, known)


def means_by_value(part: pd.DataFrame, x: str, column: str, level: float = 0.95) -> pd.DataFrame:
    """Mean of ``column`` over data sets at each value of ``x``, columns as of :func:`cell_means`.

    Each data set (``cluster``) counts once; Student's t over them. Of fewer than three, or equal
    ones, the limits are those of the networks within them. Without a column ``cluster`` a
    data set is a target and data seed; without those rows are independent. A single row has its own
    standard error.

    Raises :class:`InputError` if ``column`` is never finite.
    """
    rows = []
    for value, some in part.groupby(x, sort=True):
        good = some[np.isfinite(some[column].to_numpy(float))]
        if len(good):
            sets = _sets(good)
            mean = _over_sets(good, sets, column, level) if sets else None
            mean = mean or _over_rows(good, column, level)
            rows.append({x: value, **mean.columns(column)})
    if not rows:
        raise InputError(f"column {column!r}", "a finite value", "see the notes of the run")
    return pd.DataFrame(rows)


def _sets(frame: pd.DataFrame) -> list[str]:
    """Columns that tell data sets apart: ``cluster``, or in its absence target and data seed."""
    if "cluster" in frame:
        return ["cluster"]
    names = [name for name in ("target", "data_seed") if name in frame]
    return names if "data_seed" in names else []


def _over_sets(some: pd.DataFrame, sets: list[str], column: str, level: float) -> Mean:
    inside = [network_mean(rows, column, level) for _, rows in some.groupby(sets, sort=True)]
    values = np.array([one.value for one in inside])
    mean = float(values.mean())
    half, known = _spread(values, level)
    if known:
        return _within(column, Mean(mean, mean - half, mean + half, True))
    low = math.sqrt(sum((one.value - one.low) ** 2 for one in inside)) / len(inside)
    high = math.sqrt(sum((one.high - one.value) ** 2 for one in inside)) / len(inside)
    return _within(column, Mean(mean, mean - low, mean + high, False))


def _over_rows(some: pd.DataFrame, column: str, level: float) -> Mean:
    value = some[column].to_numpy(float)
    mean = float(value.mean())
    half, known = _spread(value, level)
    if len(value) == 1 and f"{column}_stderr" in some:
        half, known = (
            _of_summary(some, column, level)
            if column in _OUTCOME
            else (_own(some, column, level), True)
        )
    elif not known:
        half = _own(some, column, level)
    return _within(column, Mean(mean, mean - half, mean + half, known))


def _within(column: str, mean: Mean) -> Mean:
    """Limits of a share are within [0, 1]."""
    if column not in _SHARES:
        return mean
    return Mean(mean.value, max(mean.low, 0.0), min(mean.high, 1.0), mean.known)


def _spread(value: np.ndarray, level: float) -> tuple[float, bool]:
    """Half the width of the t interval of independent values; (0, False) where it is unknown."""
    if len(value) < FEWEST or np.ptp(value) == 0:
        return 0.0, False
    error = float(value.std(ddof=1)) / math.sqrt(len(value))
    return student_factor(len(value), level) * error, True


def _of_summary(some: pd.DataFrame, column: str, level: float) -> tuple[float, bool]:
    """The same of a row that is already a mean over ``networks``, with its standard error."""
    row = some.iloc[0]
    error = float(row[f"{column}_stderr"])
    if "networks" in some:
        number = int(row["networks"])
    elif {"runs", "fitted_share"} <= set(some):  # the table of a sweep
        number = round(float(row["runs"]) * float(row["fitted_share"]))
    else:
        return normal_factor(level) * np.nan_to_num(error), error > 0
    flat = f"{column}_sd" in some and not float(row[f"{column}_sd"]) > 0  # all networks alike
    if number < FEWEST or flat or not error > 0:
        return 0.0, False
    return student_factor(number, level) * error, True


def _own(some: pd.DataFrame, column: str, level: float) -> float:
    """Half width from the column's own standard errors; equal values are one estimate."""
    name = f"{column}_stderr"
    if name not in some:
        return 0.0
    error = np.nan_to_num(some[name].to_numpy(float))
    value = some[column].to_numpy(float)
    shares = [error[value == one].mean() * np.mean(value == one) for one in np.unique(value)]
    return normal_factor(level) * float(np.linalg.norm(shares))


def _varies(column: str) -> bool:
    """Does it differ between the networks of a training set? (A setting or a bound does not.)"""
    if column in MEASURES:
        return MEASURES[column].group != "bound"
    return column in _OUTCOME


def _test_sizes(frame: pd.DataFrame, column: str) -> np.ndarray:
    """(rows,) number of test inputs that were drawn from more; 0 where they are all there are."""
    if SAMPLED[column] in frame:
        given = frame[SAMPLED[column]].to_numpy(float)
    elif {"m", "train_size"} <= set(frame):
        given = (frame["m"] - frame["train_size"] - frame.get("attack", 0)).to_numpy(float)
    else:
        return np.zeros(len(frame), np.int64)
    size = np.nan_to_num(given).astype(np.int64)
    return np.where(frame["n"].to_numpy() > 0, 0, size) if "n" in frame else size


def _networks(frame: pd.DataFrame, columns: Sequence[str], level: float) -> pd.DataFrame:
    z = normal_factor(level)
    out: dict[str, Any] = {}
    for name in columns:
        value = frame[name].to_numpy(float)
        stderr = f"{name}_stderr"
        error = np.nan_to_num(frame[stderr].to_numpy(float)) if stderr in frame else 0.0 * value
        low, high = value - z * error, value + z * error
        if {f"{name}_low", f"{name}_high"} <= set(frame):
            low, high = (frame[f"{name}_{end}"].to_numpy(float) for end in ("low", "high"))
        if name in SAMPLED:
            size = _test_sizes(frame, name)
            good = np.isfinite(value) & (size > 0)
            count = np.rint(value[good] * size[good])
            low[good], high[good] = clopper_pearson(count, size[good], level)
        out |= {name: value, f"{name}_low": low, f"{name}_high": high, f"{name}_known": True}
    return pd.DataFrame(out)
