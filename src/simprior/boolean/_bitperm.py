"""Bit kernels on packed truth tables (numba): popcount, reversal, permutations of variables.

A function of n <= 7 variables is a pair (hi, lo) of 64-bit words, input i at bit 127 - i of the
128-bit number hi:lo (``truthtable``'s packed form; lo = 0 when n <= 6). "Place" b of a variable is
the weight 2^b it has in the input index: x1 has place n - 1.
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
