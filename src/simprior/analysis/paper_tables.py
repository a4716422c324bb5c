"""A table in the forms a paper needs: LaTeX, CSV and Parquet, with readable headings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from simprior.analysis.figure_frames import name_of
from simprior.analysis.tables import write
from simprior.analysis.tables_latex import siunitx_table
from simprior.store_io import write_bytes

if TYPE_CHECKING:
    import pandas as pd


def write_forms(
    frame: pd.DataFrame, stem: Path, caption: str, label: str, note: str,
    columns: list[str] | None = None,
) -> Iterator[Path]:  # fmt: skip
    """``stem.tex`` (siunitx), ``stem.csv`` and ``stem.parquet``, each with the command in it.

    ``columns``: those of the LaTeX table, which has a page's width (default: all).
    """
    tex = stem.with_name(f"{stem.name}.tex")
    narrow = frame if columns is None else frame[columns]
    write_bytes(tex, siunitx_table(named(narrow), caption, label, note, headings(narrow)).encode())
    yield tex
    for form in ("csv", "parquet"):
        path = stem.with_name(f"{stem.name}.{form}")
        write(frame, path, form, note)
        yield path


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with measures by their names (column ``measure``)."""
    if "measure" not in frame or frame["measure"].dtype.kind in "fiu":
        return frame
    return frame.assign(measure=[name_of(str(value)) for value in frame["measure"]])


def headings(frame: pd.DataFrame) -> dict[str, str]:
    """Headings of the columns of a table."""
    return {str(name): name_of(str(name)) for name in frame.columns}
