"""Tables from files, checked: a damaged one is an error of one line, never numbers."""

from __future__ import annotations

import io
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING

from simprior.delimited import Records, check_shape, read_text, without_comments
from simprior.errors import InputError
from simprior.store import RunInfo, load_run
from simprior.store_manifest import MANIFEST

if TYPE_CHECKING:
    import pandas as pd

FORMS = (".parquet", ".csv")


def read_file(path: Path) -> pd.DataFrame:
    """A Parquet or CSV file (lines at its top that start with # are comments; a # further down
    belongs to a value).

    Raises :class:`InputError` for another file, an unreadable or an empty one.
    """
    import pandas as pd

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
        raise InputError(f"{path}, which has no rows", "a row a network", "name another table")
    return frame


def _without_row_names(frame: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The table without the first column, if that has no name (``DataFrame.to_csv()``); said."""
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


def read_registered(folder: Path, name: str) -> pd.DataFrame:
    """The table ``name`` below ``folder``; of a run directory it must be registered and unaltered.

    Raises as :func:`read_run_table`.
    """
    if (folder / MANIFEST).is_file():
        return read_run_table(load_run(folder), name)
    return read_file(folder / name)
