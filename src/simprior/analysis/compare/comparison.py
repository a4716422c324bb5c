"""How alike two distributions over functions are: P_SGD(f|S) against P_B(f|S), or any two runs.

:func:`compare` takes two tables of functions and gives distances, correlations of log-probabilities
and test errors, with intervals, and next to each the *noise ceiling*: what two disjoint parts of
one and the same run show at the size at which parts of the two runs are compared (``matched``).
A value is no evidence of a difference unless ``matched`` lies apart from both ceilings.

Intervals cover counting noise only: the functions, the training set and the networks' law are
fixed. (The two slopes are an exception, see :func:`simprior.analysis.compare.distances.line_fit`.)

What a comparison says in words stands at the end: the verdict (:func:`sentence`) comes from the
intervals alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from simprior.analysis.compare.sources import Joint, Side, WeightedFunctions, join, side_of
from simprior.analysis.compare.statistics import (
    agreement_rows,
    ceilings,
    distance_rows,
    error_rows,
    mass_rows,
    measure,
)
from simprior.analysis.correlate.intervals import disjoint_parts, split_halves, unit_total
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.truthtable import to_hex
from simprior.checks import LEVEL, Number, Whole, checked, shown
from simprior.display import Shown
from simprior.errors import InputError
from simprior.numerics import random as rng
from simprior.training.records import TrainResult

SPLITS = 16
_NAN = math.nan


@dataclass(frozen=True)
class Statistic:
    """One number of a comparison.

    ``stderr`` and [``low``, ``high``]: counting noise, at the level of the comparison; NaN where
    the number is a plain count. ``matched``: mean over splits of the statistic of a part of A
    against a part of B; ``noise_ceiling_a``, ``noise_ceiling_b``: of two parts of A, of B, all
    parts of the same effective size; NaN where the notion does not apply.
    """

    name: str
    value: float
    stderr: float = _NAN
    low: float = _NAN
    high: float = _NAN
    matched: float = _NAN
    noise_ceiling_a: float = _NAN
    noise_ceiling_b: float = _NAN


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """What :func:`compare` found; ``errors`` is the error histogram, None without a target.

    ``part_size`` is the effective size of the parts behind ``matched`` and the ceilings; ``split``
    tells that one run was compared with itself, dealt out in halves. ``labels`` name the two runs;
    ``remarks`` say what makes them less than comparable.
    """

    a: Side
    b: Side
    joint: Joint
    statistics: tuple[Statistic, ...]
    min_count: float
    level: float
    part_size: float
    split: bool
    errors: pd.DataFrame | None = None
    labels: tuple[str, str] = ("A", "B")
    remarks: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """One sentence: whether the runs differ, by the interval of the total variation."""
        facts = self[STATISTIC], self.part_size, self.level, self.labels, self.split
        return " ".join([sentence(*facts), *self.remarks])

    @property
    def notes(self) -> list[str]:
        """What a reader must know to read :meth:`to_frame`."""
        names = [entry.name for entry in self.statistics]
        facts = self.part_size, self.level, self.min_count, self.labels
        return [*self.remarks, *notes(names, *facts)]

    def summary(self) -> dict[str, Any]:
        """The verdict, the notes, and what the comparison was made with."""
        return {
            "verdict": self.verdict,
            "labels": list(self.labels),
            "split": self.split,
            "min_count": self.min_count,
            "level": self.level,
            "part_size": self.part_size,
            "notes": self.notes,
        }

    def lines(self) -> list[str]:
        """Which runs, and the verdict."""
        a, b = self.labels
        verdict = sentence(self[STATISTIC], self.part_size, self.level, self.labels, self.split)
        first = f"Comparison of {a} ({_size(self.a)})"
        said, _, more = verdict.partition("; ")
        return [f"{first} with {b} ({_size(self.b)}): {len(self)} statistics", said, more]

    def __len__(self) -> int:
        return len(self.statistics)

    def __iter__(self) -> Iterator[Statistic]:
        return iter(self.statistics)

    def __getitem__(self, name: str) -> Statistic:
        """The statistic of that name; KeyError if there is none."""
        for entry in self.statistics:
            if entry.name == name:
                return entry
        raise KeyError(name)

    def to_frame(self) -> pd.DataFrame:
        """One row a statistic; columns as the fields of :class:`Statistic`."""
        names = [field.name for field in fields(Statistic)]
        return pd.DataFrame([astuple(entry) for entry in self.statistics], columns=names)

    def pairs(self, top: int | None = None) -> pd.DataFrame:
        """One row a function, by descending p_a + p_b: function (hex), p_a, p_a_low, p_a_high,
        effective_a, p_b, ..., seen_in ("both", "a only", "b only").

        A function that a run did not meet has p = 0 there and the exact upper limit of 0 counts;
        of a table that lists part of the functions, that of all its unlisted samples.
        """
        j = self.joint
        order = np.argsort(-(j.pa + j.pb), kind="stable")[:top]
        columns: dict[str, Any] = {"function": to_hex(j.words[order], self.a.m)}
        sides = ("a", self.a, j.row_a, j.pa, j.ka), ("b", self.b, j.row_b, j.pb, j.kb)
        for name, side, row, p, units in sides:
            low, high = side.intervals(self.level)
            at, met = row[order], row[order] >= 0
            columns[f"p_{name}"] = p[order]
            columns[f"p_{name}_low"] = np.where(met, low[at], 0.0)
            columns[f"p_{name}_high"] = np.where(met, high[at], side.unseen_bound(self.level))
            columns[f"effective_{name}"] = units[order]
        seen = np.where(j.pb[order] == 0, "a only", np.where(j.pa[order] == 0, "b only", "both"))
        columns["seen_in"] = seen.astype(object)
        return pd.DataFrame(columns)


def _size(side: Side) -> str:
    return f"{len(side.p):,} functions" + (", exact" if side.exact else "")


def _names(labels: Any) -> tuple[str, str]:
    """Two texts, else :class:`InputError`."""
    found = () if isinstance(labels, str) else tuple(labels)
    if len(found) != 2 or not all(isinstance(name, str) for name in found):
        remedy = "pass for example ('SGD', 'Bayes')"
        raise InputError(f"labels={shown(labels)}", "two names", remedy)
    return found[0], found[1]


def _task_of(*sides: Any) -> tuple[Any, Any]:
    """Target and mask of the test inputs of the first training result, or (None, None)."""
    for side in sides:
        if isinstance(side, TrainResult):
            return side.trained_on.table, side.trained_on.test_mask
    return None, None


@checked(min_count=Number(1), bootstrap=Whole(2, 10**6), splits=Whole(1, 10**5), level=LEVEL)
def compare(
    a: FunctionCounts | WeightedFunctions | TrainResult,
    b: FunctionCounts | WeightedFunctions | TrainResult,
    *,
    min_count: float = 10,
    bootstrap: int = 200,
    splits: int = SPLITS,
    seed: int = 0,
    level: float = 0.95,
    target: Any = None,
    test_mask: Any = None,
    labels: tuple[str, str] = ("A", "B"),
) -> Comparison:
    """Compare two distributions over functions on the same inputs.

    Parameters
    ----------
    a, b : FunctionCounts, WeightedFunctions or TrainResult
        Whole tables on the same m inputs; of trained members those that fitted. The same object
        twice: the run is dealt out in two
        halves, which are compared.
    min_count : float
        Correlations, slopes and scatter use functions with this effective count (the count, for
        independent networks) on both sides; at least 1.
    bootstrap : int
        Replicates behind the standard errors; 2 at least.
    splits : int
        Random divisions behind ``matched`` and the noise ceilings.
    seed : int
        Of bootstrap and divisions; same seed, same result.
    level : float
        Confidence level of all intervals.
    target : optional
        The target function in any accepted form; gives test errors, their histogram, baselines.
        Without target and mask both are those of the first TrainResult, if there is one.
    test_mask : (m,) of bool, optional
        The inputs that were not trained on; all if not given.
    labels : pair of str
        What to call the two, in the verdict and in figures.

    Returns
    -------
    Comparison
        Statistics (nats unless named decades; see docs/comparing.md):
        total_variation, jensen_shannon, hellinger (plug-in values, never low on average; the
        interval covers the true distance) and ``*_held_out`` (never high on average);
        functions_a/b/common, mass_common_a/b (share of a run's networks whose function the other
        run met); unlisted_mass_a/b of a table that lists only part of its samples' functions;
        selected_functions, selected_mass_a/b; spearman, kendall, pearson,
        pearson_noise_free; offset_decades, scatter_decades, scatter_decades_noise_free; slope,
        slope_counting_only; with a target mean_error_a/b, mean_error_difference, baseline_*.

    Raises
    ------
    InputError
        Different inputs, a table that is pooled, subsampled or loaded in part, a bad parameter.
    """
    seed = rng.check_seed(seed)
    names = _names(labels)
    split, remarks = a is b, _different_targets(a, b)
    if target is None and test_mask is None:
        target, test_mask = _task_of(a, b)
    a, b = (x.counts if isinstance(x, TrainResult) else x for x in (a, b))
    if split:
        a, b = _halves(a, seed)
    side_a, side_b = side_of(a, "a"), side_of(b, "b")
    _check_same_inputs(side_a, side_b)
    joint = join(side_a, side_b)
    rest = (side_a.rest, side_b.rest)
    found = measure(joint.pa, joint.ka, joint.pb, joint.kb, min_count, rest)
    size = min(unit_total(side_a), unit_total(side_b))
    size = size if math.isinf(size) else float(size // 2)
    noise = ceilings(side_a, side_b, joint, size, min_count, splits, seed)
    rows = [
        *distance_rows(side_a, side_b, joint, found, bootstrap, seed, level),
        *mass_rows(side_a, side_b, found, level),
        *agreement_rows(joint, found, min_count, bootstrap, seed, level),
    ]
    errors = None
    if target is not None or test_mask is not None:
        more, errors = error_rows(side_a, side_b, target, test_mask, level)
        rows += more
    statistics = tuple(Statistic(*row, *noise.get(row[0], (_NAN,) * 3)) for row in rows)
    sides = side_a, side_b, joint
    made = (*sides, statistics, min_count, level, size, split, errors)
    return Comparison(*made, labels=names, remarks=remarks)


def _different_targets(a: Any, b: Any) -> tuple[str, ...]:
    """A remark if both are ensembles that were trained on different targets."""
    if not (isinstance(a, TrainResult) and isinstance(b, TrainResult)):
        return ()
    first, second = a.trained_on, b.trained_on
    differ = first.target != second.target
    return (remark_on_targets(first.text, second.text),) if differ else ()


def remark_on_targets(first: str, second: str) -> str:
    """What is said of two runs that have different targets."""
    return (
        f"The runs have different targets ({first} and {second}), so they are bound to differ; "
        f"errors are against {first}."
    )


def _halves(source: Any, seed: int) -> tuple[Any, Any]:
    """Two halves of one table; of effective counts where samples are dependent."""
    side = side_of(source, "a")
    if isinstance(source, FunctionCounts) and source.iid and side.set_size == source.samples:
        return split_halves(source, seed)
    size = unit_total(side)
    if not 2 <= size < math.inf:
        expected = "a table of two effective samples at least, not exact"
        raise InputError("one table given twice", expected, "pass two tables")
    parts = disjoint_parts(
        side, np.arange(len(side.p)), size // 2, rng.generator(seed, "compare/halves")
    )
    return tuple(
        WeightedFunctions(
            side.m,
            side.words[x.p > 0],
            x.p[x.p > 0],
            (x.units / np.maximum(x.p, 1e-300))[x.p > 0],
            side.n,
        )
        for x in parts
    )  # type: ignore[return-value]


def _check_same_inputs(a: Side, b: Side) -> None:
    remedy = "compare functions on the same inputs in the same order"
    if a.m != b.m:
        raise InputError(f"functions on m={b.m} inputs", f"m={a.m}, as in the first table", remedy)
    known_a, known_b = (getattr(s.source.info.get("model"), "inputs", None) for s in (a, b))
    if known_a is not None and known_b is not None and not np.array_equal(known_a, known_b):
        raise InputError("runs on different inputs", "the same inputs", remedy)


STATISTIC = "total_variation"
"""The statistic that decides; its interval and its ceilings are in the sentence."""


def sentence(
    found: Any, size: float, level: float, labels: tuple[str, str], split: bool = False
) -> str:
    """The verdict on two runs.

    They differ if the interval of the total variation excludes 0. Its lower limit comes from
    halves of the runs that were held out, so that counting noise does not make a difference.

    Parameters
    ----------
    found : Statistic
        The total variation with its limits, what parts of the two runs show, and the ceilings.
    size : float
        Effective samples of a part.
    level : float
        Confidence level of the interval.
    labels : two texts
        Names of the runs.
    split : bool
        Whether one run was compared with itself.
    """
    a, b = labels
    percent = f"{100 * level:g} % interval"
    if found.low > 0:
        said = f"They differ: total variation {_to(found.low, found.high)} ({percent})"
    else:
        said = f"No difference is shown: total variation at most {found.high:.3g} ({percent})"
    if split:
        said = f"One run against itself. {said}"
    if not all(map(math.isfinite, (found.matched, found.noise_ceiling_a, found.noise_ceiling_b))):
        return f"{said}."
    of = f" of {size:,.0f} samples" if math.isfinite(size) else ""
    ceilings = f"{found.noise_ceiling_a:.3g} ({a}) and {found.noise_ceiling_b:.3g} ({b})"
    return (
        f"{said}; parts{of} are {found.matched:.3g} apart between the runs, where two parts of "
        f"the same run show {ceilings}."
    )


def _to(low: float, high: float) -> str:
    return f"{low:.3g} to {high:.3g}" if low < high else f"{high:.3g}"


def notes(
    names: Sequence[str], size: float, level: float, min_count: float, labels: tuple[str, str]
) -> list[str]:
    """What a reader must know to read the table, of the statistics ``names`` that are in it."""
    a, b = labels
    part = f"{size:,.0f} effective samples" if math.isfinite(size) else "equal size"
    said = [
        f"low, high: {100 * level:g} % interval of counting noise; the functions and training sets "
        "are fixed.",
        f"matched: what a part of {a} shows against a part of {b}; noise_ceiling_a, "
        f"noise_ceiling_b: what two parts of {a}, of {b}, show; all parts of {part}. There is "
        "evidence of a difference only where matched lies apart from both ceilings.",
    ]
    if f"{STATISTIC}_held_out" in names:
        said.append(
            "total_variation, jensen_shannon (nats) and hellinger are too large on average where "
            "functions are rare, *_held_out too small: the truth lies between them."
        )
    if "selected_functions" in names:
        said.append(
            f"selected, correlations, decades and slopes: functions with an effective count of "
            f"{min_count:g} or more in both runs."
        )
    if "mean_error_a" in names:
        said.append("mean_error: error on the inputs that were not trained on, against the target.")
    return said
