"""Complexity measures of truth tables, vectorised: Lempel-Ziv (two variants), ones, entropy.

Lempel-Ziv 1976 complexity of a string x of length m (Dingle, Camargo & Louis, Nature
Communications 2018, eq. 5): ``K = log2(m) [N(x) + N(reversed x)] / 2``, and ``log2(m)`` if x is
constant. N is the number of words of the exhaustive parse (Lempel & Ziv 1976; counted as by Kaspar
& Schuster 1987): from position l the next word is the shortest string that does not already occur
starting before l (overlap allowed); an incomplete last word counts as one.

``lz76-truncated`` is the variant in the code behind "inbuilt Occam's razor" (Mingard et al. 2025):
the loop runs with length m - 1 and adds one word and stops as soon as a match from l comes
within 3 of the end. It is smaller than or equal to the standard one. On uniformly random 128-bit
strings N differs for 24 % and K (both directions) for 43 %.

The kernels keep the candidate start positions of a match as a bit mask and narrow it by one shifted
AND a character, so a parse takes m steps of ceil(m/64) word operations at most.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numba import njit

from simprior.boolean.canonical import ALL, U0, U1, U63, U64, popcount, reverse64
from simprior.boolean.truthtable import check_words, pack
from simprior.checks import Tables, Whole, checked
from simprior.errors import InputError

_TRUNCATED_MATCH = 3
_CHUNK = 1 << 16  # functions at a time
_TRUNCATED_WORD = 1


@checked(tables=Tables())
def lz76(tables: np.ndarray) -> np.ndarray:
    """LZ76 complexity of (F, m) tables of 0/1 -> (F,) float64, in bits (module docstring)."""
    return lz76_packed(*_packed(tables))


@checked(tables=Tables())
def lz76_truncated(tables: np.ndarray) -> np.ndarray:
    """The truncated LZ76 variant of (F, m) tables of 0/1 -> (F,) float64 (module docstring)."""
    return lz76_truncated_packed(*_packed(tables))


@checked(tables=Tables())
def ones(tables: np.ndarray) -> np.ndarray:
    """Number of ones t = T(f) of (F, m) tables of 0/1 -> (F,) int64."""
    return ones_packed(*_packed(tables))


@checked(tables=Tables())
def entropy(tables: np.ndarray) -> np.ndarray:
    """Binary entropy, in bits, of the fraction t/m of ones of (F, m) tables -> (F,) float64."""
    return entropy_packed(*_packed(tables))


@checked(m=Whole(1))
def lz76_packed(words: np.ndarray, m: int) -> np.ndarray:
    """:func:`lz76` of packed (F, W) uint64 functions on ``m`` inputs."""
    return _lz(check_words(words, m), m, m, m)


@checked(m=Whole(1))
def lz76_truncated_packed(words: np.ndarray, m: int) -> np.ndarray:
    """:func:`lz76_truncated` of packed (F, W) uint64 functions on ``m`` inputs."""
    return _lz(check_words(words, m), m, m - _TRUNCATED_MATCH, m - _TRUNCATED_WORD)


@checked(m=Whole(1))
def ones_packed(words: np.ndarray, m: int) -> np.ndarray:
    """:func:`ones` of packed (F, W) uint64 functions on ``m`` inputs."""
    return _ones(check_words(words, m))


def differences(words: np.ndarray, table: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(F,) number of the inputs ``inside`` (m,) where packed functions (F, W) differ from ``table``
    (m,)."""
    mask, other = pack(np.stack([inside, table]).astype(np.uint8))
    out = np.empty(len(words), np.int64)
    for at in range(0, len(words), _CHUNK):
        different = (words[at : at + _CHUNK] ^ other) & mask
        out[at : at + _CHUNK] = ones_packed(different, len(table))
    return out


@checked(m=Whole(1))
def entropy_packed(words: np.ndarray, m: int) -> np.ndarray:
    """:func:`entropy` of packed (F, W) uint64 functions on ``m`` inputs."""
    ones = ones_packed(words, m)
    p = np.arange(m + 1) / m
    table = np.zeros(m + 1)
    q = p[1:-1]
    table[1:-1] = -(q * np.log2(q) + (1 - q) * np.log2(1 - q))
    return table[ones]


def most_words(m: int) -> int:
    """A bound on N(x), the number of words of the parse of a string of ``m`` bits.

    All words but the last are different. No more of them fit than the shortest: 2 of one bit, 4 of
    two bits, and so on.
    """
    words, left, size = 0, m, 1
    while left >= size:
        fit = min(1 << size, left // size)
        words, left, size = words + fit, left - fit * size, size + 1
    return words + 1


COMPLEXITIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "lz76": lz76,
    "lz76-truncated": lz76_truncated,
}
COMPLEXITIES_PACKED: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "lz76": lz76_packed,
    "lz76-truncated": lz76_truncated_packed,
}


def _packed(tables: np.ndarray) -> tuple[np.ndarray, int]:
    tables = np.atleast_2d(tables)
    if tables.ndim != 2 or tables.shape[1] == 0:
        raise InputError(
            f"tables of shape {tables.shape}",
            "a 0/1 array of shape (F, m), m >= 1",
            "one row a function",
        )
    return pack(tables), tables.shape[1]


def _lz(words: np.ndarray, m: int, match_stop: int, word_stop: int) -> np.ndarray:
    kernel = _lz_narrow if m <= 128 else _lz_wide
    return kernel(words, m, match_stop, word_stop) * (math.log2(m) / 2)


@njit(cache=True, nogil=True)
def _ones(words):  # type: ignore[no-untyped-def]  # (F, W) u64 -> (F,) i64
    out = np.zeros(words.shape[0], np.int64)
    for f in range(words.shape[0]):
        for w in range(words.shape[1]):
            out[f] += popcount(words[f, w])
    return out


@njit(cache=True, nogil=True)
def _parse_narrow(hi, lo, match_stop, word_stop):  # type: ignore[no-untyped-def]
    """Number of words of the parse of the string hi:lo (position 0 is the top bit of hi)."""
    count, start = 1, 1
    next_hi, next_lo = (hi << U1) | (lo >> U63), lo << U1  # the string from the current character
    while True:
        if start <= 64:
            live_hi, live_lo = ALL << np.uint64(64 - start), U0
        else:
            live_hi, live_lo = ALL, ALL << np.uint64(128 - start)
        shift_hi, shift_lo = hi, lo  # the string, shifted so that bit i is its character i + j
        end = start
        while True:
            differ = U0 - (U1 - (next_hi >> U63))  # all ones iff the current character is 0
            live_hi &= shift_hi ^ differ
            live_lo &= shift_lo ^ differ
            next_hi, next_lo = (next_hi << U1) | (next_lo >> U63), next_lo << U1
            end += 1
            if (live_hi | live_lo) == U0:
                break
            if end >= match_stop:
                return count + 1
            shift_hi, shift_lo = (shift_hi << U1) | (shift_lo >> U63), shift_lo << U1
        count, start = count + 1, end
        if start >= word_stop:
            return count


@njit(cache=True, nogil=True)
def _lz_narrow(words, m, match_stop, word_stop):  # type: ignore[no-untyped-def]
    """N(x) + N(reversed x) of each row, 2 for constants; m <= 128."""
    out = np.empty(words.shape[0], np.float64)
    full_hi = ALL if m >= 64 else ALL << np.uint64(64 - m)
    full_lo = U0 if m <= 64 else ALL << np.uint64(128 - m)
    spare = np.uint64((128 - m) % 64)
    for f in range(words.shape[0]):
        hi = words[f, 0]
        lo = words[f, 1] if m > 64 else U0
        if (hi | lo) == U0 or (hi == full_hi and lo == full_lo):
            out[f] = 2.0
            continue
        back_hi, back_lo = reverse64(lo), reverse64(hi)
        if m <= 64:
            back_hi, back_lo = back_lo << spare, U0
        elif spare > U0:
            back_hi = (back_hi << spare) | (back_lo >> (U64 - spare))
            back_lo = back_lo << spare
        forward = _parse_narrow(hi, lo, match_stop, word_stop)
        out[f] = forward + _parse_narrow(back_hi, back_lo, match_stop, word_stop)
    return out


@njit(cache=True, nogil=True)
def _bit(string, i):  # type: ignore[no-untyped-def]
    return (string[i >> 6] >> np.uint64(63 - (i & 63))) & U1


@njit(cache=True, nogil=True)
def _parse_wide(string, live, match_stop, word_stop):  # type: ignore[no-untyped-def]
    """As :func:`_parse_narrow` for W words; ``string`` has one zero word more, ``live`` is scratch.

    Words of ``live`` outside [first, last) are empty and are skipped.
    """
    count, start = 1, 1
    while True:
        first, last = 0, (start + 63) >> 6
        for w in range(last):
            live[w] = ALL
        if start & 63:
            live[last - 1] = ALL << np.uint64(64 - (start & 63))
        end = start
        while True:
            differ = U0 - (U1 - _bit(string, end))
            gap, shift = (end - start) >> 6, np.uint64((end - start) & 63)
            for w in range(first, last):
                text = string[w + gap] << shift
                if shift > U0:
                    text |= string[w + gap + 1] >> (U64 - shift)
                live[w] &= text ^ differ
            while first < last and live[first] == U0:
                first += 1
            while first < last and live[last - 1] == U0:
                last -= 1
            end += 1
            if first == last:
                break
            if end >= match_stop:
                return count + 1
        count, start = count + 1, end
        if start >= word_stop:
            return count


@njit(cache=True, nogil=True)
def _lz_wide(words, m, match_stop, word_stop):  # type: ignore[no-untyped-def]
    """N(x) + N(reversed x) of each row, 2 for constants; any m."""
    width = words.shape[1]
    out = np.empty(words.shape[0], np.float64)
    forward, back = np.zeros(width + 1, np.uint64), np.zeros(width + 1, np.uint64)
    live = np.empty(width, np.uint64)
    for f in range(words.shape[0]):
        total = np.int64(0)
        for w in range(width):
            forward[w] = words[f, w]
            total += popcount(words[f, w])
        if total in (0, m):
            out[f] = 2.0
            continue
        back[:] = U0
        for i in range(m):
            back[i >> 6] |= _bit(forward, m - 1 - i) << np.uint64(63 - (i & 63))
        count = _parse_wide(forward, live, match_stop, word_stop)
        out[f] = count + _parse_wide(back, live, match_stop, word_stop)
    return out
