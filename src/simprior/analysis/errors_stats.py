"""Test error of the functions of a run, its histogram, and what class imbalance alone would give.

The error of a function is the share of the test inputs on which it differs from the target.

Which measures change when relu layers are rescaled, and the function does not?

Multiplying a layer's weights and biases by alpha and dividing the next layer's weights by it leaves
the function of a relu network as it is (Dinh et al. 2017). A measure that moves under it says
something about the parameters, not about the function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.analysis.compare.sources import Side
from simprior.analysis.measure.registry import MEASURES
from simprior.boolean.truthtable import parse_functions, unpack
from simprior.checks import plain_array
from simprior.errors import InputError
from simprior.numerics.estimate import clopper_pearson, share_stderr

if TYPE_CHECKING:
    import pandas as pd

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
    from scipy.special import ndtri

    p = side.p / side.p.sum()
    wrong = wrong_outputs(side.words, side.m, task) / task.tests
    value = float(p @ wrong)
    same = np.ptp(wrong) == 0  # exact, unlike a variance of equal shares
    variance = 0.0 if same else max(0.0, float(p @ (wrong - value) ** 2))
    error = 0.0 if side.exact else math.sqrt(variance / side.set_size)
    half = float(ndtri(0.5 + level / 2)) * error
    if np.ptp(wrong[p > 0]) == 0 and not side.exact:
        error = float(share_stderr(0.0, side.set_size))
        half = float(clopper_pearson(np.array(0.0), side.set_size, level)[1])
    low, high = value - half, value + half
    if side.rest:
        low, high = _any_error(side, wrong, float(ndtri(0.5 + level / 2)))
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
    import pandas as pd

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


RELATIVE = 1e-5
"""Relative change that counts as moved: well above float64 rounding of a rescaled forward pass."""
SIGMAS = 4.0
_MANY = 20
_MOST = 690.0  # exp of it is finite


def measure_columns(frame: pd.DataFrame) -> list[str]:
    """Columns with a measure (:data:`simprior.analysis.measure.registry.MEASURES`), in order."""
    return [name for name in map(str, frame.columns) if name in MEASURES]


def rescaling_table(frame: pd.DataFrame) -> pd.DataFrame:
    """How far each measure moves between alpha = 1 and every other alpha, network by network.

    Returns
    -------
    DataFrame
        A row a measure and alpha: ``measure``, ``alpha``, ``networks``, ``moved`` (share whose
        value changed by more than 1e-5 of itself and more than four standard errors, where the
        measure has one, or four of the mean change over 20 networks or more), ``factor`` (median
        of value after / before; of a measure that is a logarithm, of the quantity itself) with
        ``factor_low`` and ``factor_high`` (central 95 % of the networks), ``function_changed``
        (share of networks).

    Raises
    ------
    InputError
        Without networks measured both at alpha = 1 and at another alpha.
    """
    import pandas as pd

    for name in ("alpha", "run", "member"):
        if name not in frame:
            raise InputError(f"no column {name!r}", "a table of simprior measure", "measure first")
    keys = ["run", "member"]
    before = frame[frame["alpha"] == 1.0].set_index(keys)
    alphas = sorted(a for a in frame["alpha"].unique() if a != 1.0)
    if not alphas or not len(before):
        raise InputError(
            f"alpha={sorted(frame['alpha'].unique())}",
            "alpha = 1 and at least one other",
            "measure with alphas = [1, 4]",
        )
    rows = []
    for alpha in alphas:
        after = frame[frame["alpha"] == alpha].set_index(keys)
        both = before.index.intersection(after.index)
        a, b = before.loc[both], after.loc[both]
        changed = float((a["function"] != b["function"]).mean()) if "function" in a else np.nan
        for name in measure_columns(frame):
            row = _row(name, a, b)
            if row is not None:
                rows.append({"measure": name, "alpha": alpha, **row, "function_changed": changed})
    return pd.DataFrame(rows)


def _row(name: str, before: pd.DataFrame, after: pd.DataFrame) -> dict[str, Any] | None:
    old, new = before[name].to_numpy(float), after[name].to_numpy(float)
    good = np.isfinite(old) & np.isfinite(new)
    if not good.any():
        return None
    limit = RELATIVE * np.abs(old)
    stderr = f"{name}_stderr"
    if stderr in before:
        errors = np.hypot(before[stderr].to_numpy(float), after[stderr].to_numpy(float))
        limit = np.maximum(limit, SIGMAS * np.nan_to_num(errors))
    change = np.abs(new - old)[good]
    moved = change > limit[good]
    if stderr in before and _mean_moved((new - old)[good]):
        moved = change > RELATIVE * np.abs(old[good])
    factor = _factors(old[good], new[good], MEASURES[name].log)
    low, middle, high = np.quantile(factor, [0.025, 0.5, 0.975])
    return {
        "networks": int(good.sum()),
        "moved": float(moved.mean()),
        "factor": float(middle),
        "factor_low": float(low),
        "factor_high": float(high),
    }


def _mean_moved(change: np.ndarray) -> bool:
    """Whether the mean change is more than four standard errors from 0, over the networks.

    Estimates before and after use the same random directions: their errors are not independent, and
    what one network does not show many may. Directions of different networks are independent.
    """
    k = len(change)
    return k >= _MANY and bool(abs(change.mean()) > SIGMAS * change.std(ddof=1) / np.sqrt(k))


def _factors(old: np.ndarray, new: np.ndarray, log: bool) -> np.ndarray:
    """How many times larger each value has become; 1 where there is nothing to compare."""
    if log:
        return np.exp(np.clip(new - old, -_MOST, _MOST))
    nonzero = old != 0
    return new[nonzero] / old[nonzero] if nonzero.any() else np.ones(1)
