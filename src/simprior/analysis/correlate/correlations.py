"""Correlation of measures with test error, by group, with intervals, tests, controls, baselines."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from simprior.analysis.correlate import checks, words
from simprior.analysis.correlate.controls import Setup, columns_of, sample_of, settle_columns
from simprior.analysis.correlate.environments import controlled_analyses
from simprior.analysis.correlate.intervals import KINDS, NONE, Sample, interval, resamples
from simprior.analysis.correlate.tests import (
    attenuation,
    baselines,
    benjamini_hochberg,
    holm,
    p_value,
    partial_p_value,
)
from simprior.checks import Switch, Text, checked, shown
from simprior.errors import InputError
from simprior.numerics import random as rng
from simprior.numerics.random import check_seed
from simprior.runs.directory import RunDir
from simprior.runs.sharded import JsonWork, run_sharded
from simprior.runs.tasks import RunOptions, progress_bar

MOST_KENDALL = 2000
"""Points up to which the test permutes Kendall's tau; beyond, Spearman's rho."""


@dataclass(frozen=True, eq=False)
class Correlations:
    """Tables of :func:`correlate`; each starts with the group columns and ``measure``.

    ``table`` coefficients; ``granulated`` psi an axis and Psi; ``conditional_mi`` K;
    ``environments`` sign errors; ``baselines`` what class imbalance alone predicts; ``notes`` what
    was left out or refused, and why. ``y`` is the outcome and ``controls`` what is held fixed in
    the partial coefficients.
    """

    table: pd.DataFrame
    granulated: pd.DataFrame
    conditional_mi: pd.DataFrame
    environments: pd.DataFrame
    baselines: pd.DataFrame
    notes: list[str] = field(default_factory=list)
    y: str = "test_error"
    controls: tuple[str, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """The table of coefficients."""
        return self.table

    @property
    def verdict(self) -> str:
        """What predicts best, computed from the intervals (:mod:`.words`)."""
        return words.verdict(self.table, self.y, self.controls)

    def __repr__(self) -> str:
        """Three lines of fewer than 400 characters."""
        measures, rows = self.table["measure"].nunique(), len(self.table)
        given = f" given {', '.join(self.controls)}" if self.controls else ""
        head = f"Correlations of {self.y}{given}: {rows} coefficients, {measures} measures"
        shown = [textwrap.shorten(line, 150, placeholder=" ...") for line in (head, self.verdict)]
        end = f"to_frame() has all; sp.plot.forest draws them; {len(self.notes)} notes"
        return "\n".join([*shown, end])

    def _repr_html_(self) -> str:
        shown: Any = words.readable(self.table)
        return f"<p>{html.escape(self.verdict)}</p>{shown._repr_html_()}"


@checked(y=Text(), cluster=Text(), quiet=Switch())
def correlate(
    frame: pd.DataFrame | Path | str,
    y: str = "test_error",
    measures: Sequence[str] | str | None = None,
    by: str | Sequence[str] | None = None,
    controls: str | Sequence[str] = (),
    cluster: str = "cluster",
    seed: int = 0,
    bootstrap: int = 2000,
    permutations: int = 2000,
    level: float = 0.95,
    quiet: bool = True,
) -> Correlations:
    """Correlate every measure with ``y``, separately in each group of ``by``.

    Parameters
    ----------
    frame : DataFrame, result or path
        A row a network, as ``simprior measure`` writes it; what gives such a table by
        ``to_frame()``; or its run directory or file.
    y : str
        The outcome.
    measures : str or sequence of str, optional
        Columns; default: all measures that vary.
    by : str or sequence of str, optional
        Group columns: a coefficient a group. Needed where optimisers, architectures, losses or
        rescalings are mixed.
    controls : str or sequence of str
        Columns held fixed in the partial correlations (:mod:`.controls` says how). In all columns
        values that differ by rounding (:data:`.ties.ROUNDING`, relative) count as equal.
    cluster : str
        Column of what networks share (their training set); whole clusters are resampled. Without
        such a column every row is its own.
    seed, bootstrap, permutations, level
        Randomness, numbers of resamples and of permutations, probability of the intervals.
    quiet : bool
        No progress on stderr.

    Returns
    -------
    Correlations
        ``table`` has, for c of pearson, spearman, kendall (tau_b): ``c``, ``c_stderr``, ``c_low``,
        ``c_high``; with controls also partial_pearson and partial_spearman; ``p_value`` of a
        permutation test of Kendall's tau (Spearman's rho beyond 2,000 points), ``p_adjusted``
        (Benjamini-Hochberg) and ``p_holm`` over all rows; with controls the same three with the
        prefix ``partial_``, for the partial Spearman coefficient; ``reliability`` =
        1 - mean(stderr^2) / variance of the measure where its standard error is known, and
        ``disattenuated``, Pearson's coefficient over the square root of the reliabilities of
        measure and outcome (Spearman 1904), with limits scaled alike.

    Raises
    ------
    InputError
        Unknown, constant or non-numeric columns, mixed networks, or too few points everywhere.
    """
    table = prepare(frame, y, measures, by, controls, cluster, seed, bootstrap, permutations, level)
    return correlations(table, quiet=quiet)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A table that can be correlated: its groups, each with its values of ``setup.by``, and what
    was left out of it."""

    parts: list[tuple[tuple[Any, ...], pd.DataFrame]]
    setup: Setup
    notes: list[str]

    def name(self, group: int) -> str:
        """A group in words; empty if there is only one."""
        return ", ".join(f"{k}={v}" for k, v in self.head(group).items())

    def head(self, group: int) -> dict[str, Any]:
        """The group columns of its rows."""
        return dict(zip(self.setup.by, self.parts[group][0], strict=True))


def prepare(
    frame: pd.DataFrame | Path | str,
    y: str = "test_error",
    measures: Sequence[str] | str | None = None,
    by: str | Sequence[str] | None = None,
    controls: str | Sequence[str] = (),
    cluster: str = "cluster",
    seed: int = 0,
    bootstrap: int = 2000,
    permutations: int = 2000,
    level: float = 0.95,
) -> Prepared:
    """The arguments of :func:`correlate`, checked, and the groups of the table.

    Raises :class:`InputError` as :func:`correlate` does, except for too few points everywhere.
    """
    notes: list[str] = []
    frame = _frame(frame)
    groups, held = _names(by), list(dict.fromkeys(_names(controls)))
    asked = _names(measures) if measures is not None else None
    checks.check_outcome(frame, y)
    checks.check_group_columns(frame, groups, "by")
    checks.check_controls(frame, held, y, asked)
    checks.check_mixed(frame, groups, held)
    frame = settle_columns(frame.replace([np.inf, -np.inf], np.nan))
    nameless = int(frame[groups].isna().any(axis=1).sum()) if groups else 0
    if nameless:
        notes.append(f"{nameless} rows without a value of {', '.join(groups)} left out")
    notes += checks.shared_start(frame, cluster)
    notes += checks.shared_inputs(frame, y)
    if cluster not in frame:
        if cluster != "cluster":
            checks.check_group_columns(frame, [cluster], "cluster")
        notes.append("no column cluster: every row counts as independent")
    number, tests = checks.check_numbers(
        {"bootstrap": bootstrap, "permutations": permutations, "level": level}
    )
    chosen = checks.chosen_measures(frame, y, asked, notes)
    chosen = [name for name in chosen if name not in held]
    setup = Setup(y, chosen, groups, held, cluster, check_seed(seed), number, tests, level)
    return Prepared(list(_groups(frame, setup.by)), setup, notes)


Rows: TypeAlias = dict[str, list[Any]]
"""Rows of each table of :class:`Correlations`, without the group columns, and notes."""
NAMES = ("table", "granulated", "conditional_mi", "environments", "baselines")


@dataclass(frozen=True)
class Piece:
    """One measure in one group; or, without a measure, what is asked of the group as a whole."""

    group: int
    measure: str = ""
    size: int = 1

    @property
    def name(self) -> str:
        """Name of its shard."""
        return f"{self.group}-{self.measure}" if self.measure else f"{self.group}"

    @property
    def range(self) -> dict[str, Any]:
        """What its shard is registered with."""
        return {"group": self.group, "measure": self.measure}


@dataclass(frozen=True, eq=False)
class Coefficients(JsonWork[Piece, Rows]):
    """The coefficients of a measure in a group."""

    table: Prepared

    def compute(self, piece: Piece) -> Rows:
        """One row of the table of coefficients, and its notes."""
        notes: list[str] = []
        name, part = self.table.name(piece.group), self.table.parts[piece.group][1]
        where = f"{name}: " if name else ""
        row = _row(part, piece.measure, self.table.setup, where, notes, name)
        return {"table": [{"measure": piece.measure, **row}], "notes": notes}


@dataclass(frozen=True, eq=False)
class Analyses(Coefficients):
    """The other tables of a group, given Kendall's tau of its measures ``taus``."""

    taus: list[dict[str, float]]

    def compute(self, piece: Piece) -> Rows:
        """Rows of all tables but that of coefficients."""
        rows: Rows = {name: [] for name in (*NAMES[1:], "notes")}
        name, part = self.table.name(piece.group), self.table.parts[piece.group][1]
        setup, taus = self.table.setup, self.taus[piece.group]
        controlled_analyses(part, setup, name, taus, rows, rows["notes"])
        rows["baselines"] += baselines(part, setup, name)
        return rows


def correlations(
    table: Prepared, store: RunDir | None = None, *, quiet: bool = True
) -> Correlations:
    """All tables of :class:`Correlations`; with a ``store`` what it has is not computed again.

    Raises :class:`InputError` where no group has points enough, :class:`Interrupted`,
    :class:`StoreError`.
    """
    groups, measures = range(len(table.parts)), table.setup.measures
    rows = [Piece(group, measure) for group in groups for measure in measures]
    wholes = [Piece(group) for group in groups]
    with progress_bar(len(rows) + len(wholes), "coefficient", quiet=quiet) as progress:
        options = RunOptions(progress=progress)
        found = run_sharded(Coefficients(table), rows, options, store)
        taus: list[dict[str, float]] = [{} for _ in groups]
        for piece, part in zip(rows, found, strict=True):
            taus[piece.group][piece.measure] = part["table"][0]["kendall"]
        found += run_sharded(Analyses(table, taus), wholes, options, store)
    return _joined(table, [*rows, *wholes], found)


def _joined(table: Prepared, pieces: list[Piece], found: list[Rows]) -> Correlations:
    """One frame of each kind, group by group."""
    notes = list(table.notes)
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in NAMES}
    for group, (_, part) in enumerate(table.parts):
        name, head = table.name(group), table.head(group)
        notes += checks.controls_here(part, table.setup.controls, f"{name}: " if name else "")
        for piece, result in zip(pieces, found, strict=True):
            if piece.group == group:
                notes += result["notes"]
                for kind in NAMES:
                    rows[kind] += [{**head, **row} for row in result.get(kind, [])]
    frame = pd.DataFrame(rows["table"])
    if not frame["pearson"].notna().any():
        raise InputError(
            f"no coefficient of {table.setup.y}",
            "points enough in some group",
            next((note for note in notes if "no coefficient" in note), "; ".join(notes[:2])),
        )
    for prefix in ("", "partial_") if table.setup.controls else ("",):
        at = list(frame.columns).index(f"{prefix}p_value")
        p = frame[f"{prefix}p_value"].to_numpy(float)
        frame.insert(at + 1, f"{prefix}p_adjusted", benjamini_hochberg(p))
        frame.insert(at + 2, f"{prefix}p_holm", holm(p))
    others = {name: pd.DataFrame(rows[name]) for name in NAMES[1:]}
    setup = table.setup
    return Correlations(frame, **others, notes=notes, y=setup.y, controls=tuple(setup.controls))


def _row(
    part: pd.DataFrame, measure: str, setup: Setup, where: str, notes: list[str], name: str
) -> dict[str, Any]:
    """Everything about one measure in one group."""
    sample, lost = sample_of(part, measure, setup)
    if lost:
        notes.append(f"{where}{measure}: {lost} rows without a finite value left out")
    row: dict[str, Any] = {
        "points": sample.points,
        "clusters": sample.clusters if sample.points else 0,
    }
    why = checks.too_few(sample.points, row["clusters"])
    if not why and (np.ptp(sample.x) == 0 or np.ptp(sample.y) == 0):
        why = f"{measure if np.ptp(sample.x) == 0 else setup.y} is constant here"
    if why:
        notes.append(f"{where}{measure}: no coefficient: {why}")
    large = "" if why else checks.dominated(sample.sizes)
    if large:
        notes.append(f"{where}{measure}: {large}")
    random = rng.generator(setup.seed, f"correlate/{name}/{measure}")
    draws = np.zeros((1, 1)) if why else resamples(sample.clusters, setup.bootstrap, random)
    plain = sample.without_controls()
    for kind in KINDS:
        row |= _found(plain, kind, kind, draws, setup, why, f"{where}{measure}", notes)
    test = not why and setup.permutations > 0
    kind = "kendall" if sample.points <= MOST_KENDALL else "spearman"
    row["p_value"] = p_value(plain, kind, setup.permutations, random) if test else math.nan
    if setup.controls:
        few = "" if why else checks.too_few_given(sample)
        if few:
            notes.append(f"{where}{measure}: no partial coefficient: {few}")
        for kind in KINDS[:2]:
            column, without = f"partial_{kind}", why or few
            row |= _found(sample, kind, column, draws, setup, without, f"{where}{measure}", notes)
        row["partial_p_value"] = (
            partial_p_value(sample, setup.permutations, random) if test and not few else math.nan
        )
    return row | attenuation(part, measure, setup, row)


def _found(
    sample: Sample,
    kind: str,
    column: str,
    draws: np.ndarray,
    setup: Setup,
    why: str,
    where: str,
    notes: list[str],
) -> dict[str, float]:
    """Columns of one coefficient, and a note where it has no interval."""
    found = NONE if why else interval(sample, kind, draws, setup.level)
    if math.isfinite(found.value) and not math.isfinite(found.low):
        notes.append(
            f"{where}: {column} without an interval: too many resamples are constant or of "
            "coefficient 1 or -1; more clusters would give one"
        )
    elif not why and not math.isfinite(found.value):
        notes.append(f"{where}: no {column}: the controls leave nothing of it that varies")
    return columns_of(column, found)


def _frame(given: Any) -> pd.DataFrame:
    """The table, read if a path was given. Raises :class:`InputError` for anything else."""
    if isinstance(given, str | Path):
        from simprior.analysis.measure.table import load_measures

        return load_measures(given)
    if not isinstance(given, pd.DataFrame | pd.Series) and hasattr(given, "to_frame"):
        given = given.to_frame()
    if not isinstance(given, pd.DataFrame):
        raise InputError(
            f"a table of type {type(given).__name__}",
            "a DataFrame or a path",
            "pass what sp.measure returns",
        )
    return given


def _groups(frame: pd.DataFrame, by: list[str]) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    if not by:
        yield (), frame
        return
    for key, part in frame.groupby(by, sort=True):
        yield (key if isinstance(key, tuple) else (key,)), part


def _names(given: str | Sequence[str] | None) -> list[str]:
    if given is None:
        return []
    good = isinstance(given, Sequence) and all(isinstance(part, str) for part in given)
    if not good:
        raise InputError(f"columns={shown(given)}", "names of columns", "pass a list of texts")
    parts = given.split(",") if isinstance(given, str) else list(given)
    return [str(part).strip() for part in parts if str(part).strip()]
