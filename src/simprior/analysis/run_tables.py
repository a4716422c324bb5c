"""Tables of runs that hold no functions: measures, correlations, cells of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from simprior.analysis.measure.registry import MEASURES
from simprior.analysis.table_files import read_frame
from simprior.analysis.text.columns import own_columns
from simprior.boolean.sampling.counts import COUNTS
from simprior.checks import unknown
from simprior.runs.directory import load_run

MOST = 8
"""Columns of a LaTeX table, not counting errors and limits."""
SENSITIVITY = (
    *("n", "networks", "distance", "distance_stderr", "certified", "ratio", "ratio_stderr"),
    *("gp_distance_low", "flips", "flips_stderr", "gp_flips", "gp_flips_stderr"),
)
"""Columns of the table of ``simprior sensitivity`` in LaTeX."""
LOGP = (
    *("name", "function", "method", "logp", "stderr", "ess", "pareto_k", "reliable"),
    *("rank", "count", "p", "p_stderr", "p_low", "p_high"),
)
"""Columns of the table of ``simprior logp`` in LaTeX."""
COMPARISON = "name value stderr low high matched noise_ceiling_a noise_ceiling_b".split()
"""Columns of the table of ``simprior compare`` in LaTeX."""
_IDS = ("run", "cell", "cluster", "function", "seed")
_OUTCOMES = (
    *("fitted", "runs", "fitted_share", "steps", "test_error", "networks", "samples"),
    *("functions", "p_constant", "target_lz76", "target_log_p"),
)
_TABLES = (
    *("measure", "correlate", "study", "sweep", "sample-grid", "targets", "sensitivity"),
    *("compare", "logp"),
)
"""Commands whose runs have a main table that is not one of functions."""


def has_functions(path: Path) -> bool:
    """Whether the main table of a run is one of functions. Raises :class:`StoreError`."""
    run = load_run(path)
    return COUNTS in run.files or run.command not in _TABLES


def run_table(
    path: Path,
    file: str | None = None,
    top: int | None = None,
    columns: Sequence[str] | None = None,
) -> pd.DataFrame:
    """The first ``top`` rows of a run's main table, or of its table ``file``.

    Raises :class:`InputError` for a table or a column that does not exist, :class:`StoreError`
    where there is no table.
    """
    frame = read_frame(path, file)
    for name in columns or ():
        if name not in frame:
            raise unknown(f"columns={name}", name, frame.columns)
    frame = frame if columns is None else frame[list(columns)]
    return frame if top is None else frame.head(top)


def for_paper(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns that a page has room for, with their errors.

    Of coefficients: groups, measure, tau, the partial coefficient and p-values. Of networks or
    cells: the settings that vary, the test error, and measures, those with errors first. A table of
    :data:`MOST` columns or fewer stays as it is.
    """
    names = [str(name) for name in frame.columns]
    if {"measure", "kendall"} <= set(names):
        chosen = [name for name in _coefficients(names) if name in frame]
    elif {"name", "noise_ceiling_a"} <= set(names):
        return frame[COMPARISON].dropna(subset=["value"])
    elif {"logp", "method"} <= set(names):
        chosen = [name for name in LOGP if name in frame and frame[name].notna().any()]
        if "name" in chosen and (frame["name"] == frame["function"]).all():
            chosen.remove("function")
    elif {"gp_flips", "certified"} <= set(names):
        chosen = [name for name in SENSITIVITY if name in frame and frame[name].notna().any()]
    elif len(own_columns(frame)) > MOST:
        chosen = _short(frame)
    else:
        chosen = names
    return frame[chosen]


def _coefficients(names: list[str]) -> list[str]:
    """The columns of a table of coefficients that a page has room for.

    Groups, measure, numbers, Kendall's tau, the partial rank coefficient (the rank coefficient if
    there is none), and the adjusted p-values.
    """
    head = names[: names.index("measure") + 1]
    kinds = ["kendall", "partial_spearman" if "partial_spearman" in names else "spearman"]
    ends = ("", "_stderr", "_low", "_high")
    numbers = [kind + end for kind in kinds for end in ends]
    return [*head, "points", "clusters", *numbers, "p_adjusted", "partial_p_adjusted"]


def _short(frame: pd.DataFrame) -> list[str]:
    """At most :data:`MOST` columns that vary, with the standard errors of those that have them."""
    own = [name for name in own_columns(frame) if _varies(frame[name])]
    first = next((i for i, name in enumerate(own) if name in _OUTCOMES or name in MEASURES), 0)
    chosen = _independent(frame, [name for name in own[:first] if name not in _IDS])
    rest = [name for name in own[first:] if name != "cluster"]
    known = [name for name in rest if name in MEASURES]
    sure = [name for name in known or rest if f"{name}_stderr" in frame]
    wanted = ["test_error", *sure, *(known or rest)]
    chosen += [name for name in dict.fromkeys(wanted) if name in rest]
    columns = [c for name in chosen[:MOST] for c in (name, f"{name}_stderr") if c in frame]
    return columns or [str(name) for name in frame.columns[:MOST]]


def _independent(frame: pd.DataFrame, names: list[str]) -> list[str]:
    """Settings that say more than those before them (a learning rate may follow the optimiser)."""
    chosen: list[str] = []
    for name in names:
        if not chosen or frame.groupby(chosen)[name].nunique().max() > 1:
            chosen.append(name)
    return chosen


def _varies(column: pd.Series) -> bool:
    return len(column) < 2 or column.astype(str).nunique() > 1
