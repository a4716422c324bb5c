"""Counted functions in the order of a table: by descending count, then by ascending truth table.

Millions of rows are sorted in buckets, on several threads. Some of the rows, put in order, say
where the buckets end (Frazer & McKellar, *Samplesort*, JACM 1970), so that the buckets are of about
the same size and follow each other. No two rows are equal: the order is one, however many buckets
and threads there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numba import njit

from simprior.boolean.sampling.buckets import Columns, cut, in_buckets, number_of_buckets
from simprior.boolean.sampling.table import sort_ties
from simprior.runs.threads import as_ready

# mypy: disable-error-code="no-untyped-def"

_TRIED = 32  # rows looked at, a bucket
_RADIX = 65535
_LONG_RUN = 512  # rows that agree in what they are sorted by first: beyond, sorted by all words


def row_order(words: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Order of the rows by descending count, then ascending words (all rows distinct): (F,) int64.

    As ``np.lexsort``, several times faster: a sort by the words, then a radix sort by count (counts
    of 65,535 and more are few and sorted apart).
    """
    order = word_order(words)
    ranked = count[order]
    often = ranked >= _RADIX
    head = np.flatnonzero(often)
    head = head[np.argsort(-ranked[head], kind="stable")]
    rest = np.flatnonzero(~often)
    rest = rest[np.argsort((_RADIX - ranked[rest]).astype(np.uint16), kind="stable")]
    found: np.ndarray = order[np.concatenate([head, rest])]
    return found


def word_order(words: np.ndarray) -> np.ndarray:
    """Order of the rows by ascending words (all rows distinct): (F,) int64.

    Numbers are sorted whose upper bits are those of the first word and whose lower bits number the
    row: much faster than an indirect sort. Rows whose upper bits agree are put in order after it.
    """
    rows = np.arange(len(words), dtype=np.uint64)
    low = np.uint64((1 << len(words).bit_length()) - 1)
    key = (words[:, 0] & ~low) | rows
    key.sort()
    order: np.ndarray = (key & low).astype(np.int64)
    words = np.ascontiguousarray(words)
    for start, stop in sort_ties(words, key & ~low, order, _LONG_RUN):
        run = order[start:stop]
        order[start:stop] = run[np.lexsort(words[run].T[::-1])]
    return order


def in_order(columns: Columns, threads: int = 1) -> Columns:
    """Distinct rows in the order of a table."""
    out, ready = arranging(columns, threads)
    for _ in ready:
        pass
    return out


def arranging(columns: Columns, threads: int = 1) -> tuple[Columns, Iterator[int]]:
    """Columns that will be those of :func:`in_order`, and how many of their rows are so by now.

    The second comes to all rows; the work is done as it is asked for, or ahead of that on several
    threads.
    """
    words, count, *_ = columns
    buckets = number_of_buckets(len(words))
    if buckets == 1:
        return _arranged(columns), iter([len(words)])
    tried = np.linspace(0, len(words) - 1, _TRIED * buckets).astype(np.int64)
    first = np.sort(_ranks(words[tried], count[tried]))[_TRIED::_TRIED]

    def assign(words: np.ndarray, count: np.ndarray, place: np.ndarray) -> np.ndarray:
        sizes: np.ndarray = _by_rank(words, count, first, place)
        return sizes

    out, ends = in_buckets([columns], assign, threads)

    def arrange(bucket: int) -> int:
        here = cut(out, slice(ends[bucket], ends[bucket + 1]))
        for old, new in zip(here, _arranged(here), strict=True):
            old[...] = new
        return int(ends[bucket + 1])

    return out, as_ready(arrange, range(buckets), threads)


def _arranged(columns: Columns) -> Columns:
    order = row_order(*columns[:2])
    words, count, clusters, sumsq = (column.take(order, axis=0) for column in columns)
    return words, count, clusters, sumsq


@njit(inline="always")
def _rank(first_word: Any, count: Any) -> Any:
    """A number that does not fall along the order of a table: count, then most of the first word;
    0 for all counts that are very large."""
    if count >= _RADIX:
        return np.uint64(0)
    return (np.uint64(_RADIX - count) << np.uint64(48)) | (first_word >> np.uint64(16))


@njit(nogil=True, cache=True)
def _ranks(words: np.ndarray, count: np.ndarray) -> np.ndarray:
    """(F,) ranks of rows."""
    found = np.empty(count.size, np.uint64)
    for r in range(count.size):
        found[r] = _rank(words[r, 0], count[r])
    return found


@njit(nogil=True, cache=True)
def _by_rank(
    words: np.ndarray, count: np.ndarray, first: np.ndarray, place: np.ndarray
) -> np.ndarray:
    """Bucket of every row, into ``place``; how many rows each bucket gets.

    ``first`` (2^k - 1,) are the ranks at which all buckets but the first begin. Rows of one rank
    are in one bucket.
    """
    sizes = np.zeros(first.size + 1, np.int64)
    for r in range(count.size):
        rank, at, step = _rank(words[r, 0], count[r]), 0, (first.size + 1) // 2
        while step > 0:
            at += step if rank >= first[at + step - 1] else 0
            step //= 2
        place[r] = at
        sizes[at] += 1
    return sizes
