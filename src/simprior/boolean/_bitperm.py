"""Bit kernels on packed truth tables (numba): popcount, reversal, permutations of variables.

Tables are in ``truthtable``'s packed form: input i is bit 63 - (i mod 64) of word i div 64. "Place"
p of a variable is the weight 2^p it has in the input index, so x1 has place n - 1. Variables of
place < 6 move bits inside words (delta swaps), the others move whole words.
"""

from __future__ import annotations

import numpy as np
from numba import njit

U0, U1, U2, U4, U56, U63, U64 = (np.uint64(k) for k in (0, 1, 2, 4, 56, 63, 64))
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
M1 = np.uint64(0x5555555555555555)
M2 = np.uint64(0x3333333333333333)
M4 = np.uint64(0x0F0F0F0F0F0F0F0F)
M8 = np.uint64(0x00FF00FF00FF00FF)
M16 = np.uint64(0x0000FFFF0000FFFF)
_B1 = np.uint64(0x0101010101010101)
_S8, _S16, _S32 = np.uint64(8), np.uint64(16), np.uint64(32)
# bits of a word whose input has a 1 at place p < 6
_PLACE = np.array([M1, M2, M4, M8, M16, np.uint64(0x00000000FFFFFFFF)])


def full_words(n: int) -> np.ndarray:
    """(W,) words of the constant 1 on 2^n inputs."""
    if n >= 6:
        return np.full(1 << (n - 6), ALL)
    return np.array([ALL << np.uint64(64 - (1 << n))])


def place_masks(n: int) -> np.ndarray:
    """(n, W) words: row p is the function "the bit at place p"."""
    full = full_words(n)
    masks = np.empty((n, full.size), dtype=np.uint64)
    for p in range(n):
        if p < 6:
            masks[p] = full & _PLACE[p]
        else:
            masks[p] = np.where((np.arange(full.size) >> (p - 6)) & 1, ALL, U0)
    return masks


def layer_masks(n: int) -> np.ndarray:
    """(n + 1, W) words: row k is the function "the input has k ones"."""
    width = 64 * full_words(n).size
    weight = np.array([i.bit_count() for i in range(1 << n)])
    bits = np.zeros((n + 1, width), dtype=np.uint8)
    bits[:, : 1 << n] = weight == np.arange(n + 1)[:, None]
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64)


@njit(cache=True, nogil=True, inline="always")
def popcount(x):  # type: ignore[no-untyped-def]  # numba infers u64 -> i64
    """Number of ones of a 64-bit word."""
    x = x - ((x >> U1) & M1)
    x = (x & M2) + ((x >> U2) & M2)
    x = (x + (x >> U4)) & M4
    return np.int64((x * _B1) >> U56)


@njit(cache=True, nogil=True, inline="always")
def reverse64(x):  # type: ignore[no-untyped-def]
    """The 64 bits in reverse order."""
    x = ((x >> U1) & M1) | ((x & M1) << U1)
    x = ((x >> U2) & M2) | ((x & M2) << U2)
    x = ((x >> U4) & M4) | ((x & M4) << U4)
    x = ((x >> _S8) & M8) | ((x & M8) << _S8)
    x = ((x >> _S16) & M16) | ((x & M16) << _S16)
    return (x >> _S32) | (x << _S32)


@njit(cache=True, nogil=True)
def swap_places(x, a, b):  # type: ignore[no-untyped-def]
    """Exchange the variables at places a < b of the table ``x`` (W,), in place."""
    if b < 6:
        shift = np.uint64((1 << b) - (1 << a))
        low = _PLACE[b] & ~_PLACE[a]
        for w in range(x.size):
            t = ((x[w] >> shift) ^ x[w]) & low
            x[w] ^= t ^ (t << shift)
    elif a < 6:
        shift, step = np.uint64(1 << a), 1 << (b - 6)
        for w in range(x.size):
            if not w & step:
                t = (x[w] ^ (x[w | step] >> shift)) & _PLACE[a]
                x[w] ^= t
                x[w | step] ^= t << shift
    else:
        low, high = 1 << (a - 6), 1 << (b - 6)
        for w in range(x.size):
            if w & low and not w & high:
                x[w], x[w ^ low ^ high] = x[w ^ low ^ high], x[w]


@njit(cache=True, nogil=True)
def flip_place(x, p):  # type: ignore[no-untyped-def]
    """Complement the variable at place p of the table ``x`` (W,), in place."""
    if p < 6:
        shift, mask = np.uint64(1 << p), _PLACE[p]
        for w in range(x.size):
            x[w] = ((x[w] & mask) << shift) | ((x[w] >> shift) & mask)
    else:
        step = 1 << (p - 6)
        for w in range(x.size):
            if not w & step:
                x[w], x[w | step] = x[w | step], x[w]
