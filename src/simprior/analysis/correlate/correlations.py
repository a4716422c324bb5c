"""Correlation of measures with test error, by group, with intervals, tests, controls, baselines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.analysis.correlate import checks
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
from simprior.runs.tasks import Progress, progress_bar

if TYPE_CHECKING:
    import pandas as pd

MOST_KENDALL = 2000
"""Points up to which the test permutes Kendall's tau; beyond, Spearman's rho."""


@dataclass(frozen=True, eq=False)
class Correlations:
    """Tables of :func:`correlate`; each starts with the group columns and ``measure``.

    ``table`` coefficients; ``granulated`` psi an axis and Psi; ``conditional_mi`` K;
    ``environments`` sign errors; ``baselines`` what class imbalance alone predicts; ``notes`` what
    was left out or refused, and why.
    """

    table: pd.DataFrame
    granulated: pd.DataFrame
    conditional_mi: pd.DataFrame
    environments: pd.DataFrame
    baselines: pd.DataFrame
    notes: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        sizes = ", ".join(
            f"{name}: {len(getattr(self, name))} rows"
            for name in ("table", "granulated", "conditional_mi", "environments", "baselines")
        )
        return f"Correlations({sizes}; {len(self.notes)} notes)"


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
    frame : DataFrame or path
        A row a network, as ``simprior measure`` writes it; or its run directory or file.
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
    parts = list(_groups(frame, setup.by))
    with progress_bar(len(parts) * len(chosen), "coefficient", quiet=quiet) as progress:
        return _tables(parts, setup, notes, progress)


def _tables(
    parts: list[tuple[tuple[Any, ...], pd.DataFrame]],
    setup: Setup,
    notes: list[str],
    progress: Progress,
) -> Correlations:
    import pandas as pd

    rows: dict[str, list[dict[str, Any]]] = {
        k: [] for k in ("table", "granulated", "conditional_mi", "environments", "baselines")
    }
    for key, part in parts:
        head = dict(zip(setup.by, key, strict=True))
        name = ", ".join(f"{k}={v}" for k, v in head.items())
        where = f"{name}: " if name else ""
        notes += checks.controls_here(part, setup.controls, where)
        for measure in setup.measures:
            rows["table"].append(
                {**head, "measure": measure, **_row(part, measure, setup, where, notes, name)}
            )
            progress.update(1)
        controlled_analyses(part, setup, head, name, rows, notes)
        rows["baselines"] += [{**head, **row} for row in baselines(part, setup, name)]
    table = pd.DataFrame(rows["table"])
    if not table["pearson"].notna().any():
        raise InputError(
            f"no coefficient of {setup.y}",
            "points enough in some group",
            next((note for note in notes if "no coefficient" in note), "; ".join(notes[:2])),
        )
    for prefix in ("", "partial_") if setup.controls else ("",):
        at = list(table.columns).index(f"{prefix}p_value")
        p = table[f"{prefix}p_value"].to_numpy(float)
        table.insert(at + 1, f"{prefix}p_adjusted", benjamini_hochberg(p))
        table.insert(at + 2, f"{prefix}p_holm", holm(p))
    others = {k: pd.DataFrame(v) for k, v in rows.items() if k != "table"}
    return Correlations(table, **others, notes=notes)


def _row(
    part: pd.DataFrame, measure: str, setup: Setup, where: str, notes: list[str], name: str
) -> dict[str, Any]:
    """Everything about one measure in one group."""
    sample, lost = sample_of(part, measure, setup)
    if lost:
        notes.append(f"{where}{measure}: {lost} rows without a finite value left out")
    row: dict[str, Any] = {"points": sample.points,
                           "clusters": sample.clusters if sample.points else 0}  # fmt: skip
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
    sample: Sample, kind: str, column: str, draws: np.ndarray, setup: Setup, why: str, where: str,
    notes: list[str],
) -> dict[str, float]:  # fmt: skip
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
    import pandas as pd

    if isinstance(given, str | Path):
        from simprior.analysis.measure.table import load_measures

        return load_measures(given)
    if not isinstance(given, pd.DataFrame):
        raise InputError(
            f"a table of type {type(given).__name__}", "a DataFrame or a path",
            "pass what sp.measure returns",
        )  # fmt: skip
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
