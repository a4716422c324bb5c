"""Reading what the stages of a study have found: their tables, filtered and put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior import rng
from simprior.analysis.frames import read_run_table
from simprior.errors import InputError, StoreError
from simprior.store import load_run

if TYPE_CHECKING:
    import pandas as pd

MEASURES_TABLE, CORRELATIONS_TABLE, SWEEP_TABLE = (
    "measures.parquet", "tables/correlations.parquet", "tables/sweep.parquet",
)  # fmt: skip
MAIN_TABLES = (
    MEASURES_TABLE, CORRELATIONS_TABLE, "tables/targets.parquet", SWEEP_TABLE,
    "tables/sensitivity.parquet",
)  # fmt: skip
"""The tables that stages are read from, the first that a run has."""
RANDOM = "random"


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
    if file not in tables:
        raise InputError(f"file={file!r}", f"one of {', '.join(tables)}", f"see {run}")
    return file


def stage_frame(
    out: Path, names: Sequence[str], where: Mapping[str, Any] | None = None, seed: int = 0,
    file: str | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Tables of stages below ``out``, one after the other, with their name in a column ``stage``.

    ``where`` keeps the rows with these values (see :func:`select`).
    """
    import pandas as pd

    frames = []
    for name in names:
        frame = read_frame(out / name, file)
        frame.insert(0, "stage", name.partition("-")[2] or name)
        frames.append(frame)
    joined = frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)
    return select(joined, where or {}, seed)


def select(frame: pd.DataFrame, where: Mapping[str, Any], seed: int = 0) -> pd.DataFrame:
    """Rows with the given value (or one of a list) in each named column.

    ``alpha = "random"`` takes, for every network, one of its rescalings at random (uniform, a
    function of ``seed``); the column ``alpha`` then says "random".

    Raises :class:`InputError` for an unknown column or if no row is left.
    """
    where = dict(where)
    drawn = where.get("alpha") == RANDOM
    if drawn:
        del where["alpha"]
    for name, value in where.items():
        if name not in frame:
            raise InputError(f"where.{name}", f"one of {', '.join(frame.columns)}", "correct it")
        frame = frame[frame[name].isin(value if isinstance(value, list) else [value])]
    if drawn:
        frame = _draw_alpha(frame, seed)
    if not len(frame):
        raise InputError(f"where={where}", "values that some row has", "correct the recipe")
    return frame.reset_index(drop=True)


def _draw_alpha(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    for name in ("alpha", "run", "member"):
        if name not in frame:
            raise InputError('where.alpha="random"', f"a column {name}", "measure several alphas")
    random = rng.generator(seed, "study/alpha")
    frame = frame.sort_values(["run", "member", "alpha"], kind="stable").reset_index(drop=True)
    key = frame.groupby(["run", "member"], sort=False).ngroup().to_numpy()
    first = np.flatnonzero(np.diff(key, prepend=-1))
    size = np.diff(first, append=len(key))
    rows = first + (random.random(len(first)) * size).astype(np.int64)
    return frame.iloc[rows].assign(alpha=RANDOM)


def group_column(frame: pd.DataFrame, by: str | Sequence[str] | None) -> tuple[Any, str | None]:
    """(frame, one column to group by): several columns are joined into one."""
    if by is None or isinstance(by, str):
        return frame, by
    for name in by:
        if name not in frame:
            raise InputError(f"by={name!r}", f"one of {', '.join(frame.columns)}", "correct it")
    texts = [frame[name].map(lambda v: f"{v:g}" if isinstance(v, float) else str(v)) for name in by]
    joined = texts[0]
    for text in texts[1:]:
        joined = joined + ", " + text
    name = ", ".join(by)
    return frame.assign(**{name: joined}), name
