"""Reading tables from files and from run directories, and keeping them there.

A file that is missing, altered or damaged raises an error of one line: numbers are never taken from
it.
"""

from __future__ import annotations

import io
import logging
import re
from pathlib import Path, PurePosixPath

import pandas as pd

from simprior.checks import Choice
from simprior.errors import InputError, StoreError
from simprior.runs.directory import RunDir, RunInfo, load_run, write_table
from simprior.runs.manifest import MANIFEST
from simprior.runs.text_files import Records, check_shape, read_text, without_comments

FORMS = (".parquet", ".csv")
MAIN_TABLES = (
    "measures.parquet",
    "logp.parquet",
    "evidence.parquet",
    "rare.parquet",
    "tables/correlations.parquet",
    "tables/bounds.parquet",
    "tables/memorised.parquet",
    "tables/targets.parquet",
    "tables/sweep.parquet",
    "tables/sensitivity.parquet",
    "compare.csv",
)
"""The tables that runs are read from, the first that a run has."""


class NoRows(InputError):
    """A table that is there and can be read, but has no rows."""


def read_file(path: Path) -> pd.DataFrame:
    """The table in a Parquet or CSV file.

    Lines at the top of a CSV file that start with # are comments; a # further down belongs to a
    value. A first column without a name (row names of ``DataFrame.to_csv``) is dropped and logged.

    Raises :class:`InputError` for another file or an unreadable one, :class:`NoRows` for an empty
    one.
    """
    if path.suffix not in FORMS:
        raise InputError(
            f"{path}", "a run directory, or a .parquet or .csv file", "run simprior measure first"
        )
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
        else:
            text, skipped = without_comments(read_text(path))
            check_shape(Records(text, ",", skipped))
            frame = _without_row_names(pd.read_csv(io.StringIO(text)), path)
    except (OSError, ValueError) as error:
        lines = str(error).splitlines() or [type(error).__name__]
        why = "".join(c if c.isprintable() else "?" for c in lines[0])[:200]
        raise InputError(f"{path}", "a readable table", why) from None
    if not len(frame):
        raise NoRows(f"{path}, which has no rows", "a row a network", "name another table")
    return frame


def _without_row_names(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The table without its first column if that has no name; the log says so."""
    first = str(frame.columns[0])
    if not re.fullmatch(r"Unnamed: 0(_level_\d+)?", first):
        return frame
    logging.getLogger("simprior").info("%s: column 1 (without a name) dropped: row names", path)
    return frame.drop(columns=frame.columns[0])


def read_run_table(run: RunInfo, name: str) -> pd.DataFrame:
    """The table ``name`` of a run, if it is as it was written.

    Raises :class:`StoreError` if it is missing or altered, :class:`InputError` as above.
    """
    return read_file(run.check(name))


def read_finished(run: RunInfo, name: str) -> pd.DataFrame:
    """:func:`read_run_table` of a run that is complete; :class:`StoreError` of another."""
    if run.status != "complete" or name not in run.files:
        what = f"{run.path}: expected a complete run of simprior {run.command}, found one that is"
        raise StoreError(f"{what} {run.status}; {run.way_on}")
    return read_run_table(run, name)


def read_registered(folder: Path, name: str) -> pd.DataFrame:
    """The table ``name`` below ``folder``; of a run directory it must be registered and unaltered.

    Raises as :func:`read_run_table`.
    """
    if (folder / MANIFEST).is_file():
        return read_run_table(load_run(folder), name)
    return read_file(folder / name)


def read_frame(run: Path, file: str | None = None) -> pd.DataFrame:
    """The main table of a run directory, or its table ``file`` (Parquet or CSV).

    Raises :class:`StoreError` if there is none or it is damaged, :class:`InputError` for a file
    that the run does not have.
    """
    return read_run_table(load_run(run), table_file(run, file))


def table_file(run: Path, file: str | None = None) -> str:
    """The main table of a run directory, or ``file`` if the run has it (else an error as above)."""
    info = load_run(run)
    tables = [name for name in info.files if name.endswith((".parquet", ".csv"))]
    if file is None:
        found = [name for name in MAIN_TABLES if name in tables]
        found += [name for name in tables if name.endswith(".parquet")]
        if not found:
            raise StoreError(f"{run}: a run of simprior {info.command} without a table to read")
        return found[0]
    return Choice(tables, f"see {run}")("file", file)


def keep_table(run: RunDir, name: str, frame: pd.DataFrame) -> None:
    """Write a frame into an open run directory as the Parquet table ``name``, and register it."""
    run.make_folder(str(PurePosixPath(name).parent))
    written = write_table(run.path / name, {str(c): frame[c].to_numpy() for c in frame})
    run.add_file(name, rows=written.rows)
