"""Adding up counted functions: many runs of rows become one, part by part.

Some of the rows of all runs, put in order, say where the parts begin (Frazer & McKellar,
*Samplesort*, JACM 1970), so that parts are of about the same size and follow each other. A part is
small, threads work on parts side by side, and no more than a few of them are in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from simprior.boolean.sampling.compact import Run, Spilled, added, places
from simprior.boolean.sampling.ordering import word_order
from simprior.runs.threads import ahead, in_threads

Made = TypeVar("Made")


def added_in_parts(
    runs: Sequence[Run | Spilled], most: int, threads: int, finish: Callable[[Run], Made]
) -> Iterator[Made]:
    """``finish`` of the parts of the sum of all runs, in ascending order; about ``most`` rows each.

    What is yielded depends on the parts, but all parts together are the same rows whatever the
    runs, ``most`` and threads.
    """
    runs = [run for run in runs if len(run)]
    if not runs:
        return
    first = _splitters(runs, most)
    bounds = np.array(in_threads(lambda run: places(run.words, first), runs, threads))

    def make(part: int) -> Made:
        ends = bounds[:, part], bounds[:, part + 1]
        here = np.flatnonzero(ends[0] < ends[1])
        return finish(added([runs[i].part(int(ends[0][i]), int(ends[1][i])) for i in here]))

    filled = np.flatnonzero((np.diff(bounds, axis=1) > 0).any(axis=0))
    yield from ahead(make, filled.tolist(), threads)


def _splitters(runs: Sequence[Run | Spilled], most: int) -> np.ndarray:
    """(parts - 1, W): the first row of each part but the first, or a few fewer."""
    parts = -(-sum(map(len, runs)) // most)
    tried = np.concatenate([run.tried for run in runs])
    if parts < 2 or len(tried) < parts:
        return tried[:0]
    tried = tried[word_order(tried)]
    chosen = tried[np.linspace(0, len(tried), parts + 1).astype(np.int64)[1:-1]]
    new = np.ones(len(chosen), bool)
    new[1:] = (chosen[1:] != chosen[:-1]).any(axis=1)
    return chosen[new]
