"""Adding up counted functions: rows of many tasks become one row a function.

Rows are parted by their hash. What is equal is in one part, a part is small, and threads add up
parts side by side.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from simprior.boolean.sampling.buckets import Columns, cut, in_buckets, number_of_buckets
from simprior.boolean.sampling.table import hash_row
from simprior.runs.threads import in_threads

# mypy: disable-error-code="no-untyped-def"


def add_up(blocks: Sequence[Columns], threads: int = 1) -> Columns:
    """One row for each function of the blocks, with the sums of its three numbers; in no order."""
    rows = sum(len(words) for words, *_ in blocks)
    if not rows:
        return blocks[0]
    parts = number_of_buckets(rows)

    def assign(words: np.ndarray, count: np.ndarray, place: np.ndarray) -> np.ndarray:
        return _by_hash(words, parts, place)

    columns, ends = in_buckets(blocks, assign, threads)

    def add(part: int) -> int:
        return int(_add(*cut(columns, slice(ends[part], ends[part + 1]))))

    used = in_threads(add, range(parts), threads)
    starts = np.concatenate([[0], np.cumsum(used)])
    words = np.empty((starts[-1], columns[0].shape[1]), np.uint64)
    out = (words, *np.empty((3, len(words)), np.int64))

    def move(part: int) -> None:
        found = cut(columns, slice(ends[part], ends[part] + used[part]))
        for new, old in zip(cut(out, slice(starts[part], starts[part + 1])), found, strict=True):
            new[...] = old

    in_threads(move, range(parts), threads)
    return out


@njit(nogil=True, cache=True)
def _by_hash(words: np.ndarray, parts: int, place: np.ndarray) -> np.ndarray:
    """Part of every row, by the upper bits of its hash, into ``place``; how many each part gets."""
    sizes = np.zeros(parts, np.int64)
    for r in range(words.shape[0]):
        upper = hash_row(words, r, words.shape[1]) >> np.uint64(48)
        place[r] = upper & np.uint64(parts - 1)
        sizes[place[r]] += 1
    return sizes


@njit(nogil=True, cache=True)
def _add(words: np.ndarray, count: np.ndarray, clusters: np.ndarray, sumsq: np.ndarray) -> int:
    """Add up the rows of one part in place; the first rows, so many as returned, are the sums.

    ``index`` finds them by open addressing: the number of a row plus 1, or 0 for none.
    """
    rows, n_words = words.shape
    slots = 2
    while slots < 2 * rows:
        slots *= 2
    index, mask = np.zeros(slots, np.uint32), np.uint64(slots - 1)
    used = 0
    for r in range(rows):
        slot = np.int64(hash_row(words, r, n_words) & mask)
        while True:
            s = np.int64(index[slot]) - 1
            if s < 0:
                break
            same = True
            for w in range(n_words):
                same = same and words[s, w] == words[r, w]
            if same:
                break
            slot = np.int64(np.uint64(slot + 1) & mask)
        if s >= 0:
            count[s] += count[r]
            clusters[s] += clusters[r]
            sumsq[s] += sumsq[r]
        else:
            for w in range(n_words):
                words[used, w] = words[r, w]
            count[used], clusters[used], sumsq[used] = count[r], clusters[r], sumsq[r]
            used += 1
            index[slot] = used
    return used
