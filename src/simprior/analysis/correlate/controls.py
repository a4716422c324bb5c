"""The points of one measure in one group, and what is held fixed in a partial coefficient.

*Controls.* A control of repeated values (training-set size, attack points, data seed, a name) is a
category: given it, measure and outcome are compared within its levels only, however either depends
on it. One line for such a control would not do: of two columns that follow a learning curve and are
independent otherwise, the partial coefficient given a straight line is far from 0. Several such
controls are crossed: each combination of their levels is a cell, and what is compared are the
points of one cell. (Adding the effects of one and the other would leave what they do together, and
ranks of sums are no sums.)

A control of many different values enters as a linear spline with knots at the fifths of its order,
in ranks where coefficients are of ranks: what bends between knots is only nearly removed.

*Points.* Values that differ by rounding only are equal: ranks, signs and categories must not tell
them apart (:func:`settle`). A mean of equal numbers, or one number by two routes (0.1 + 0.2 and
0.3), differs in its last bits. Ranks make whole ranks of that, and a measure that is constant
within a category gets a partial coefficient from noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simprior.analysis.correlate.intervals import Coefficient, Sample
from simprior.analysis.measure.registry import SAMPLED
from simprior.numerics import random as rng

if TYPE_CHECKING:
    import pandas as pd

LEVEL_POINTS = 2
"""Points a level has on average in a control that is a category, and a cell in crossed ones."""
IDENTIFIERS = frozenset({"data_seed", "seed", "member", "run", "cluster", "target", "function"})
"""Columns whose numbers are names."""
KNOTS, KNOT_POINTS = 4, 10


@dataclass(frozen=True, eq=False)
class Design:
    """``cell`` (n,) 0 .. C - 1, within which points are compared; ``columns`` (n, q) of a
    regression; ``known`` (n,) where no control is missing; ``note`` if effects are added."""

    cell: np.ndarray
    columns: np.ndarray
    known: np.ndarray
    note: str = ""


def design(part: pd.DataFrame, controls: Sequence[str]) -> Design:
    """How ``controls`` enter, of all points of a group (not only those of one measure)."""
    known = part[list(controls)].notna().all(axis=1).to_numpy(bool)
    factors, columns = [], [np.zeros((len(part), 0))]
    for name in controls:
        level = _levels(part[name], known)
        several = known.sum() >= LEVEL_POINTS * (level[known].max(initial=0) + 1)
        if several or name in IDENTIFIERS or part[name].dtype.kind not in "iufb":
            factors.append(level)
        else:
            columns.append(_spline(part[name].to_numpy(float), known))
    cell, added, note = _crossed(factors, known, controls)
    return Design(cell, np.hstack([*columns, added]), known, note)


def _levels(column: pd.Series, known: np.ndarray) -> np.ndarray:
    """(n,) number of the level of each point; 0 where it is missing."""
    values = column.to_numpy()
    values = values if values.dtype.kind in "iufb" else values.astype(str)
    out = np.zeros(len(values), np.int64)
    out[known] = np.unique(values[known], return_inverse=True)[1]
    return out


def _crossed(
    factors: list[np.ndarray], known: np.ndarray, names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, str]:
    """(cell, further columns, note): cells of all combinations, or effects added if they are too
    many for the points."""
    none = np.zeros((len(known), 0))
    if not factors:
        return np.zeros(len(known), np.int64), none, ""
    both = np.unique(np.stack(factors, axis=1), axis=0, return_inverse=True)[1].ravel()
    cells = len(np.unique(both[known]))
    if len(factors) == 1 or known.sum() >= LEVEL_POINTS * cells:
        return both, none, ""
    largest = max(range(len(factors)), key=lambda i: int(factors[i].max()))
    rest = [_indicators(level) for i, level in enumerate(factors) if i != largest]
    note = (
        f"the effects of {', '.join(names)} are added: their {cells} combinations have fewer than "
        f"{LEVEL_POINTS} points each"
    )
    return factors[largest], np.hstack(rest), note


def _indicators(level: np.ndarray) -> np.ndarray:
    """(n, k - 1) indicators of all levels but the first."""
    return (level[:, None] == np.arange(1, int(level.max()) + 1)).astype(np.float64)


def _spline(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """(n, 1 or 1 + KNOTS) columns of a linear spline."""
    line = np.where(known, values, np.median(values[known]) if known.any() else 0.0)[:, None]
    if known.sum() < KNOTS * KNOT_POINTS:
        return line
    knots = np.unique(np.quantile(line[known, 0], np.arange(1, KNOTS + 1) / (KNOTS + 1)))
    return np.hstack([line, np.maximum(line - knots, 0.0)])


MOST_CLUSTERS = 1000
"""Groups that are resampled at most."""


@dataclass(frozen=True)
class Setup:
    """The arguments of :func:`correlate`, checked."""

    y: str
    measures: list[str]
    by: list[str]
    controls: list[str]
    cluster: str
    seed: int
    bootstrap: int
    permutations: int
    level: float


def sample_of(part: pd.DataFrame, measure: str, setup: Setup) -> tuple[Sample, int]:
    """Points with finite measure, outcome and controls; and how many were not.

    Controls enter as :mod:`.controls` says.
    More than ``MOST_CLUSTERS`` clusters are put together at random into that many: independent
    groups of independent clusters, at no loss that matters, and pairs of groups fit in memory.
    """
    used = part[[measure, setup.y]].to_numpy(float)
    given = design(part, setup.controls)
    good = np.isfinite(used).all(axis=1) & given.known
    label = np.arange(len(part))
    if setup.cluster in part:
        label = np.unique(part[setup.cluster].astype(str).to_numpy(), return_inverse=True)[1]
    cluster = np.unique(label[good], return_inverse=True)[1] if good.any() else label[:0]
    if len(cluster) and cluster.max() >= MOST_CLUSTERS:
        group = rng.generator(setup.seed, "correlate/groups").permutation(int(cluster.max()) + 1)
        cluster = (group % MOST_CLUSTERS)[cluster]
    cell = np.unique(given.cell[good], return_inverse=True)[1].astype(np.int64)
    sample = Sample(
        used[good, 0], used[good, 1], cluster.astype(np.int64), given.columns[good], cell
    )
    return sample, int((~good).sum())


def size_column(frame: pd.DataFrame, y: str) -> str | None:
    """Column with the number of test inputs of outcome ``y``; None if it has no sampling error."""
    column = SAMPLED.get(y)
    whole = "n" in frame and (frame["n"] > 0).all()  # all bit strings
    return column if column in frame and not whole else None


def columns_of(name: str, found: Coefficient) -> dict[str, float]:
    """Columns of a coefficient."""
    return {
        name: found.value,
        f"{name}_stderr": found.stderr,
        f"{name}_low": found.low,
        f"{name}_high": found.high,
    }


ROUNDING = 1e-12
"""Relative difference up to which neighbouring values are one."""


def settle(values: np.ndarray) -> np.ndarray:
    """``values`` (n,) as floats, neighbours in order that are within ``ROUNDING`` made equal.

    Each run of such neighbours takes its smallest value; NaN and infinities stay. Only relative
    differences count: 1e-20 and 2e-20 are two values, and 0 is one of its own.
    """
    values = np.asarray(values, dtype=np.float64)
    out = values.copy()
    some = np.flatnonzero(np.isfinite(values))
    if len(some) < 2:
        return out
    order = some[np.argsort(values[some], kind="stable")]
    ranked = values[order]
    size = np.maximum(np.abs(ranked[1:]), np.abs(ranked[:-1]))
    new = np.concatenate([[True], np.diff(ranked) > ROUNDING * size])
    out[order] = ranked[new][np.cumsum(new) - 1]
    return out


def settle_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with every float column settled."""
    floats = [name for name in frame.columns if frame[name].dtype.kind == "f"]
    return frame.assign(**{name: settle(frame[name].to_numpy(float)) for name in floats})
