"""Counted functions in the order of a table: by descending count, then by ascending truth table;
and where given ones are.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from simprior.boolean.sampling.table import sort_ties

# mypy: disable-error-code="no-untyped-def"

_RADIX = 65535
_LONG_RUN = 512  # rows that agree in what they are sorted by first: beyond, by the bits after it


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
    """Order of the rows by ascending words: (F,) int64."""
    return in_order(words)[1]


def in_order(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows by ascending words, (F, W), and (F,) int64 which of ``words`` they are.

    Numbers are sorted whose upper bits are those of the words, from the first bit in which any two
    rows differ on, and whose lower bits number the row: much faster than an indirect sort. Rows
    whose upper bits agree lie together then, and are put in order.
    """
    words = np.ascontiguousarray(words)
    low = np.uint64((1 << len(words).bit_length()) - 1)
    key = _keys(words, ~low)
    key.sort()
    order: np.ndarray = (key & low).astype(np.int64)
    key &= ~low
    found = words.take(order, axis=0)
    for start, stop in sort_ties(found, key, order, _LONG_RUN):
        alike = found[start:stop]  # in the bits above; the next ones are looked at, if they differ
        if (alike != alike[0]).any():
            found[start:stop], again = in_order(alike)
            order[start:stop] = order[start:stop][again]
    return found, order


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


def find_rows(known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Index in ``known``, (F, W), distinct rows, of every row of ``wanted``, (G, W); -1 for none.

    The shorter one is put in order, and the rows of the other are looked for in it.
    """
    if len(known) <= len(wanted):
        order = word_order(known)
        at = _found(known[order], wanted)
        return np.where(at < 0, -1, np.append(order, 0)[at])
    order = word_order(wanted)
    ordered = wanted[order]
    new = np.ones(len(order), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    at = _found(ordered[new], known)
    met = np.flatnonzero(at >= 0)
    row = np.full(int(new.sum()), -1, np.int64)
    row[at[met]] = met
    out = np.empty(len(order), np.int64)
    out[order] = row[np.cumsum(new) - 1]
    return out


@njit(nogil=True, cache=True)
def _found(ordered, rows):
    """(F,): where each of the rows is in ``ordered``, distinct and ascending; -1 for nowhere."""
    found = np.full(len(rows), -1, np.int64)
    n_words, last = rows.shape[1], -1
    for r in range(len(rows)):
        low, high = 0, len(ordered)
        if last >= 0:  # the same again, often
            same = True
            for w in range(n_words):
                same = same and rows[r, w] == ordered[last, w]
            if same:
                found[r] = last
                continue
        while low < high:
            middle, w = (low + high) // 2, 0
            while w < n_words and rows[r, w] == ordered[middle, w]:
                w += 1
            if w == n_words:
                found[r] = last = middle
                break
            if rows[r, w] < ordered[middle, w]:
                high = middle
            else:
                low = middle + 1
    return found
