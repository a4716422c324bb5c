"""Tables of runs that hold no functions: measures, correlations, cells (``simprior table``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from simprior.analysis import tables
from simprior.analysis.frames import read_frame
from simprior.analysis.measure_names import MEASURES
from simprior.analysis.paper_tables import headings, named
from simprior.analysis.tables_latex import own_columns, siunitx_table
from simprior.boolean.counts_io import COUNTS
from simprior.checks import unknown
from simprior.store import load_run
from simprior.store_io import write_bytes

if TYPE_CHECKING:
    import pandas as pd

MOST = 8
"""Columns of a LaTeX table, not counting errors and limits."""
SENSITIVITY = (
    "n", "networks", "distance", "distance_stderr", "certified", "ratio", "ratio_stderr",
    "gp_distance_low", "flips", "flips_stderr", "gp_flips", "gp_flips_stderr",
)  # fmt: skip
"""Columns of the table of ``simprior sensitivity`` in LaTeX."""
_IDS = ("run", "cell", "cluster", "function", "seed")
_OUTCOMES = (
    "fitted", "runs", "fitted_share", "steps", "test_error", "networks", "samples", "functions",
    "p_constant", "target_lz76", "target_log_p",
)  # fmt: skip
_TABLES = ("measure", "correlate", "study", "sweep", "sample-grid", "targets", "sensitivity")


def has_functions(path: Path) -> bool:
    """Whether the main table of a run is one of functions. Raises :class:`StoreError`."""
    run = load_run(path)
    return COUNTS in run.files or run.command not in _TABLES


def run_table(
    path: Path, file: str | None = None, top: int | None = None,
    columns: Sequence[str] | None = None,
) -> pd.DataFrame:  # fmt: skip
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
    from simprior.analysis.correlation.output import paper_columns

    names = [str(name) for name in frame.columns]
    if {"measure", "kendall"} <= set(names):
        chosen = [name for name in paper_columns(frame) if name in frame]
    elif {"gp_flips", "certified"} <= set(names):
        chosen = [name for name in SENSITIVITY if name in frame and frame[name].notna().any()]
    elif len(own_columns(frame)) > MOST:
        chosen = _short(frame)
    else:
        chosen = names
    return frame[chosen]


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


def render(frame: pd.DataFrame, form: str, caption: str, label: str, note: str = "") -> str:
    """The table as text; LaTeX by :func:`tables_latex.siunitx_table`, else ``tables.render``."""
    if form == "latex":
        return siunitx_table(named(frame), caption, label, note, headings(frame))
    return tables.render(frame, form, note=note or None)


def write(
    frame: pd.DataFrame, path: Path, form: str, note: str, caption: str, label: str
) -> None:  # fmt: skip
    """Write the table with the comment ``note`` to ``path``. Raises :class:`StoreError`."""
    if form == "parquet":
        tables.write(frame, path, form, note)
    else:
        write_bytes(path, render(frame, form, caption, label, note).encode())
