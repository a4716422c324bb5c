"""PAC-Bayes bounds of several sizes of S: a row each, in a run directory if one is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from simprior.analysis.study.paper_tables import CAPTIONS, write_forms
from simprior.analysis.table_files import read_run_table
from simprior.runs.directory import load_run
from simprior.runs.sharded import JsonWork, open_run, run_sharded
from simprior.runs.tasks import RunOptions

if TYPE_CHECKING:
    from simprior.routes.evidence import Bounds

BOUNDS = "tables/bounds.parquet"
"""The table of a run of ``simprior bound``: a row a size of S, see ``Bounds.row``."""


@dataclass(frozen=True)
class _Size:
    """A size of S that was asked for (None: all of the data), and which of them it is."""

    index: int
    train: int | None
    size: int = 1

    @property
    def name(self) -> str:
        return f"size-{self.index:06d}"

    @property
    def range(self) -> dict[str, Any]:
        return {"index": self.index, "train": self.train}


@dataclass(frozen=True)
class _Sizes(JsonWork[_Size, dict[str, Any]]):
    found: Mapping[int | None, Callable[[], Bounds]]

    def compute(self, piece: _Size) -> dict[str, Any]:
        return self.found[piece.train]().row()


def bounds_table(
    found: Mapping[int | None, Callable[[], Bounds]],
    config: Mapping[str, Any],
    note: str,
    how: RunOptions,
) -> tuple[pd.DataFrame, str]:
    """PAC-Bayes bounds of several sizes of S, a row each, and what they say.

    ``found`` computes the bounds of a size. With ``how.out`` each row is kept once it is there, and
    the table is written in the end; ``config`` is all that determines it.
    """
    pieces = [_Size(index, train) for index, train in enumerate(found)]
    opened = nullcontext(None) if how.out is None else open_run(how, "bound", config)
    with opened as store:
        if store is not None and store.finished(BOUNDS):
            return read_run_table(load_run(store.path), BOUNDS), store.manifest["results"][
                "verdict"
            ]
        rows = run_sharded(_Sizes(found), pieces, how, store)
        frame = pd.DataFrame(rows).sort_values("train_size", kind="stable", ignore_index=True)
        verdict = sizes_verdict(frame)
        if store is not None:
            store.make_folder("tables")
            stem = (store.path / BOUNDS).with_suffix("")
            for file in write_forms(frame, stem, CAPTIONS["bounds"], "tab:bounds", note):
                store.add_file(file)
            store.finish({"rows": len(frame), "verdict": verdict})
            store.clear_shards()
    return frame, verdict


def sizes_verdict(frame: pd.DataFrame) -> str:
    """What a table over sizes of S says: where the bound is better than the commoner label."""
    first, last = frame.iloc[0], frame.iloc[-1]
    said = f"The error is below {last.bound:.3g} from {last.train_size:,} examples"
    if len(frame) > 1:
        said = f"{said}, and below {first.bound:.3g} from {first.train_size:,}"
    better = frame[["bound_low", "bound", "bound_high"]].max(axis=1) < frame["guess"]
    where = "from none"
    if better.all():
        where = "from all of them" if len(frame) > 1 else "from them"
    elif better.any():
        *rest, most = (f"{m:,}" for m in frame.loc[better, "train_size"])
        where = f"from {', '.join(rest)} and {most}" if rest else f"from {most}"
    return f"{said}. That is better than guessing the commoner label {where}."
