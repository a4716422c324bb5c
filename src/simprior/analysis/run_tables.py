"""Tables of runs that hold no functions: measures, correlations, cells (``simprior table``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from simprior.analysis import tables
from simprior.analysis.paper_tables import headings, named
from simprior.analysis.study_frames import read_frame
from simprior.analysis.tables_latex import siunitx_table
from simprior.boolean.counts_io import COUNTS
from simprior.checks import unknown
from simprior.store import load_run
from simprior.store_io import write_bytes

if TYPE_CHECKING:
    import pandas as pd

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
    """The columns of a table of coefficients that a page has room for; other tables as they are."""
    from simprior.analysis.correlation.output import paper_columns

    if not {"measure", "kendall"} <= set(frame.columns):
        return frame
    chosen = [name for name in paper_columns(frame) if name in frame]
    return frame[chosen]


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
