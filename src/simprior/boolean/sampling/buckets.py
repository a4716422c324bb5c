"""Counted functions parted into buckets, on several threads, so that each can be worked on alone.

Rows are four columns: (F, W) packed words, and count, clusters and sumsq, (F,) int64 each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numba import njit

from simprior.runs.threads import in_threads

# mypy: disable-error-code="no-untyped-def"

BUCKET = 1 << 15
"""Rows a bucket, about: what one core keeps at hand while it works on them."""
Columns: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Assign: TypeAlias = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""(words, count, place) -> how many rows each bucket gets; the bucket of each goes into place."""


def number_of_buckets(rows: int) -> int:
    """A power of 2, from 1 on."""
    return min(1 << (rows // BUCKET).bit_length(), 1 << 16)


def cut(columns: Columns, part: slice) -> Columns:
    """Some rows."""
    words, count, clusters, sumsq = columns
    return words[part], count[part], clusters[part], sumsq[part]


def in_buckets(
    blocks: Sequence[Columns], assign: Assign, threads: int
) -> tuple[Columns, np.ndarray]:
    """The rows of all blocks, bucket after bucket, and (buckets + 1,) where the buckets end.

    Within a bucket rows are in the order in which they were.
    """
    parts = [
        cut(columns, slice(at, at + 2 * BUCKET))
        for columns in blocks
        for at in range(0, len(columns[0]), 2 * BUCKET)
    ]
    places = [np.empty(len(words), np.uint16) for words, *_ in parts]

    def count(number: int) -> np.ndarray:
        return assign(parts[number][0], parts[number][1], places[number])

    sizes = np.array(in_threads(count, range(len(parts)), threads))
    ends = np.concatenate([[0], np.cumsum(sizes.sum(axis=0))])
    starts = ends[:-1] + np.cumsum(sizes, axis=0) - sizes
    words = np.empty((int(ends[-1]), blocks[0][0].shape[1]), np.uint64)
    numbers = np.empty((3, len(words)), np.int64)
    out = (words, *numbers)

    def scatter(number: int) -> None:
        _scatter(*parts[number], places[number], starts[number], *out)

    in_threads(scatter, range(len(parts)), threads)
    return out, ends


@njit(nogil=True, cache=True)
def _scatter(
    words: np.ndarray,
    count: np.ndarray,
    clusters: np.ndarray,
    sumsq: np.ndarray,
    place: np.ndarray,
    starts: np.ndarray,
    *out: np.ndarray,
) -> None:
    """Copy rows to their buckets, each from its place in ``starts`` on."""
    out_words, out_count, out_clusters, out_sumsq = out
    at = starts.copy()
    for r in range(place.size):
        to = at[place[r]]
        at[place[r]] += 1
        for w in range(words.shape[1]):
            out_words[to, w] = words[r, w]
        out_count[to] = count[r]
        out_clusters[to] = clusters[r]
        out_sumsq[to] = sumsq[r]
