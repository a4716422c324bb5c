"""Counted functions in the order of a table: by descending count, then by ascending truth table."""

from __future__ import annotations

import numpy as np
from numba import njit

from simprior.boolean.sampling.table import sort_ties

# mypy: disable-error-code="no-untyped-def"

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
    """Order of the rows by ascending words: (F,) int64.

    Numbers are sorted whose upper bits are those of the words, from the first bit in which any two
    rows differ on, and whose lower bits number the row: much faster than an indirect sort. Rows
    whose upper bits agree are put in order after it.
    """
    words = np.ascontiguousarray(words)
    low = np.uint64((1 << len(words).bit_length()) - 1)
    key = _keys(words, ~low)
    key.sort()
    order: np.ndarray = (key & low).astype(np.int64)
    key &= ~low
    for start, stop in sort_ties(words, key, order, _LONG_RUN):
        run = order[start:stop]
        order[start:stop] = run[np.lexsort(words[run].T[::-1])]
    return order


@njit(nogil=True, cache=True)
def _keys(words, high):
    """Bits ``high`` of 64 bits of every row, from the first one on that is not the same in all
    rows; the number of the row in the other bits."""
    rows, n_words = words.shape
    found = np.empty(rows, np.uint64)
    word, shift = 0, np.uint64(0)
    while word < n_words:
        differ = np.uint64(0)
        for r in range(rows):
            differ |= words[r, word] ^ words[0, word]
        if differ:
            while not (differ << shift) >> np.uint64(63):
                shift += np.uint64(1)
            break
        word += 1
    if word == n_words:
        word = n_words - 1
    for r in range(rows):
        key = words[r, word] << shift
        if shift and word + 1 < n_words:
            key |= words[r, word + 1] >> (np.uint64(64) - shift)
        found[r] = (key & high) | np.uint64(r)
    return found
