"""Test error of the functions of a run, its histogram, and what class imbalance alone would give.

The error of a function is the share of the test inputs on which it differs from the target.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from simprior.analysis.compare.sources import Side
from simprior.boolean.truthtable import parse_functions, unpack
from simprior.checks import plain_array
from simprior.errors import InputError
from simprior.numerics.estimate import clopper_pearson, normal_factor, share_stderr

_BLOCK = 1 << 17


@dataclass(frozen=True)
class Task:
    """A target (m,) of 0/1 and the test inputs, a (m,) mask; the others were the training set."""

    target: np.ndarray
    test: np.ndarray

    @property
    def tests(self) -> int:
        """Number of test inputs."""
        return int(self.test.sum())


def check_task(target: Any, test_mask: Any, m: int, n: int) -> Task:
    """A task from a target in any accepted form and the mask of test inputs (all if None).

    Raises :class:`InputError` for a target that is not a function of the inputs, or a mask of
    another length, of other values, or without any test input.
    """
    table = parse_functions(target, m, n)
    if len(table) != 1:
        raise InputError(f"{len(table)} targets", "one function", "pass one target")
    mask = np.ones(m, bool) if test_mask is None else plain_array("test_mask", test_mask)
    if mask.shape != (m,) or not np.isin(mask, (0, 1)).all() or not mask.any():
        raise InputError(
            f"test_mask of shape {mask.shape}",
            f"{m} values, true for test inputs, at least one of them true",
            "mark every input that is not in the training set",
        )
    return Task(table[0], mask.astype(bool))


def wrong_outputs(words: np.ndarray, m: int, task: Task) -> np.ndarray:
    """(F,) number of test inputs on which each packed function differs from the target."""
    out = np.empty(len(words), np.int64)
    for first in range(0, len(words), _BLOCK):
        part = slice(first, first + _BLOCK)
        tables = unpack(words[part], m)[:, task.test]
        out[part] = (tables != task.target[task.test]).sum(axis=1)
    return out


@dataclass(frozen=True)
class MeanError:
    """Mean test error of a run, its standard error and interval, and the histogram's masses."""

    value: float
    stderr: float
    low: float
    high: float
    permuted: float
    histogram: np.ndarray


def mean_error(side: Side, task: Task, level: float) -> MeanError:
    """Mean error of a side's functions, weighted by p.

    The interval is the mean plus and minus z standard errors within [0, 1]; where all functions
    make the same number of errors it is widened by the exact binomial bound of a deviation that was
    not met, and the standard error is that of a share that was not met.

    ``permuted`` is the mean error against targets whose labels on the test inputs are
    permuted at random (same number of ones, hence the same entropy): what the balance of classes
    alone gives. Where a table lists part of its samples only, value, error and ``permuted`` are
    those of the listed functions, and the interval allows any error of the others.
    """
    z = normal_factor(level)
    p = side.p / side.p.sum()
    wrong = wrong_outputs(side.words, side.m, task) / task.tests
    value = float(p @ wrong)
    same = np.ptp(wrong) == 0  # exact, unlike a variance of equal shares
    variance = 0.0 if same else max(0.0, float(p @ (wrong - value) ** 2))
    error = 0.0 if side.exact else math.sqrt(variance / side.set_size)
    half = z * error
    if np.ptp(wrong[p > 0]) == 0 and not side.exact:
        error = float(share_stderr(0.0, side.set_size))
        half = float(clopper_pearson(np.array(0.0), side.set_size, level)[1])
    low, high = value - half, value + half
    if side.rest:
        low, high = _any_error(side, wrong, z)
    listed = side.p if side.rest else p
    histogram = np.bincount(np.rint(wrong * task.tests).astype(int), listed, task.tests + 1)
    return MeanError(
        value,
        error,
        max(0.0, low),
        min(1.0, high),
        _permuted(side, p, task),
        histogram,
    )


def _any_error(side: Side, wrong: np.ndarray, z: float) -> tuple[float, float]:
    """Limits of the mean error: no error, and error 1, of all that is not listed."""
    ends = []
    for sign, error in ((-1.0, 0.0), (1.0, 1.0)):
        mean = float(side.p @ wrong) + side.rest * error
        square = float(side.p @ wrong**2) + side.rest * error
        ends.append(mean + sign * z * math.sqrt(max(0.0, square - mean * mean) / side.set_size))
    return ends[0], ends[1]


def _permuted(side: Side, p: np.ndarray, task: Task) -> float:
    """Mean over functions and permutations of the test labels: u (1 - v) + v (1 - u)."""
    v = float(task.target[task.test].mean())
    none = Task(np.zeros_like(task.target), task.test)
    u = wrong_outputs(side.words, side.m, none) / task.tests
    return float(p @ (u * (1 - v) + v * (1 - u)))


def baselines(task: Task) -> dict[str, float]:
    """Test errors of two predictors that know only the balance of classes.

    ``baseline_majority``: always the commoner training label (the commoner label of the target if
    there is no training set; a tie gives 1/2). ``baseline_entropy_matched``: random functions with
    the target's number of ones.
    """
    known = task.target[~task.test] if (~task.test).any() else task.target
    share, test = float(known.mean()), float(task.target[task.test].mean())
    majority = 0.5 if share == 0.5 else (1.0 - test if share > 0.5 else test)
    q = float(task.target.mean())
    matched = q * (1 - test) + test * (1 - q)
    return {"baseline_majority": majority, "baseline_entropy_matched": matched}


def error_histogram(
    sides: tuple[Side, Side], found: tuple[MeanError, MeanError], tests: int, level: float
) -> pd.DataFrame:
    """P(error) of both runs: columns wrong, error, p_a, p_a_low, p_a_high, p_b, ...

    Upper limits are as if all samples that a side does not list had that error.
    """
    wrong = np.arange(tests + 1)
    columns: dict[str, np.ndarray] = {"wrong": wrong, "error": wrong / tests}
    for name, side, result in zip("ab", sides, found, strict=True):
        p = np.clip(result.histogram, 0.0, 1.0)
        low, high = (
            (p, p) if side.exact else clopper_pearson(p * side.set_size, side.set_size, level)
        )
        if side.rest:
            most = np.minimum(p + side.rest, 1.0) * side.set_size
            high = clopper_pearson(most, side.set_size, level)[1]
        columns |= {f"p_{name}": p, f"p_{name}_low": low, f"p_{name}_high": high}
    return pd.DataFrame(columns)
