"""Reading what the stages of a study have found: their tables, filtered and put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from simprior import rng
from simprior.analysis.frames import read_frame
from simprior.errors import InputError

RANDOM = "random"


def stage_frame(
    out: Path,
    names: Sequence[str],
    where: Mapping[str, Any] | None = None,
    seed: int = 0,
    file: str | None = None,
) -> pd.DataFrame:
    """Tables of stages below ``out``, one after the other, with their name in a column ``stage``.

    ``where`` keeps the rows with these values (see :func:`select`).
    """
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
