"""The table of a run's functions: which rows and columns, and what its caption says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from simprior.errors import InputError

if TYPE_CHECKING:
    from simprior.boolean.counts import FunctionCounts
    from simprior.boolean.watch_result import WatchResult


def function_table(
    counts: FunctionCounts | WatchResult, top: int | None = 20, columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """The ``top`` most frequent functions (all for None), with the named columns in that order.

    See :meth:`FunctionCounts.to_frame` for the columns. Raises :class:`InputError` for a column
    that does not exist.
    """
    frame = counts.to_frame(top=top)
    for name in columns or ():
        if name not in frame.columns:
            raise InputError(
                f"columns={name}", f"some of {', '.join(frame.columns)}", "check the spelling"
            )
    return frame if columns is None else frame[list(columns)]


def functions_caption(counts: FunctionCounts | WatchResult, shown: int) -> str:
    """What the first ``shown`` rows of a table of functions are."""
    functions = "function" if shown == 1 else "functions"
    if hasattr(counts, "variance_reduction"):  # watched: in the order given, not by frequency
        total = len(counts.p)
        first = "" if shown == total else f"first {shown} of the "
        return f"The {first}{total} watched {functions if total == shown else 'functions'}."
    caption = f"The {shown} most frequent {functions}."
    unlisted = getattr(counts, "unlisted", 0)
    if not unlisted:
        return caption
    share = 100 * (1 - unlisted / counts.samples)
    return f"{caption} The whole table lists {share:.3g} % of {counts.samples:,} samples."
