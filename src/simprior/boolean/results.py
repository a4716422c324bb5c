"""Loading what ``simprior sample`` wrote, whichever kind of result it is."""

from __future__ import annotations

from pathlib import Path

from simprior.boolean.counts import FunctionCounts
from simprior.boolean.watch_result import WatchResult
from simprior.store import load_run


def load_result(
    path: Path | str, top: int | None = None, *, verify: bool = True
) -> FunctionCounts | WatchResult:
    """Counts of a run (its ``top`` commonest rows if given), or the result of a watch run.

    ``verify=False`` as in :meth:`FunctionCounts.load`. Raises :class:`StoreError` when it is
    neither, not complete, or damaged.
    """
    if "watch" in load_run(path).results:
        return WatchResult.load(path, verify=verify)
    return FunctionCounts.load(path, top=top, verify=verify)
