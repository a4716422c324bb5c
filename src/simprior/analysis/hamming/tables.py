"""Distance to the other class and flips until it changes, exactly, from truth tables.

Exactly: over all start strings, and for the flips over all their orders.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from simprior.errors import InputError

MOST_BITS = 12


def nearest_distances(tables: np.ndarray) -> np.ndarray:
    """Hamming distance of every string to the nearest string of the other class.

    Parameters
    ----------
    tables : (F, 2^n) array of 0 and 1
        Truth tables.

    Returns
    -------
    (F, 2^n) int array; 0 throughout for constant functions. A distance transform of the cube, one
    pass a bit: n 2^n steps a function.
    """
    bits, n = _check(tables)
    far = n + 1
    to = [np.where(bits == label, 0, far).astype(np.int16) for label in (0, 1)]
    for d in to:
        for bit in range(n):
            pairs = d.reshape(len(d), -1, 2, 1 << bit)
            other = pairs[:, :, ::-1] + 1
            np.minimum(pairs, other, out=pairs)
    found = np.where(bits == 1, to[0], to[1])
    return np.where(found == far, 0, found).astype(np.int64)


def expected_flips(tables: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean number of random flips of distinct bits until the class changes, over all orders.

    Returns (means, unchanged), each (F, 2^n) by start string: E min(T, n), and the probability
    that the class is the same all along, also with all bits flipped. A recursion over the sets of
    flipped bits: n 4^n steps a function.

    Raises :class:`InputError` for tables of more than 12 bits.
    """
    bits, n = _check(tables)
    if n > MOST_BITS:
        raise InputError(
            f"truth tables of n={n} bits", f"at most {MOST_BITS}", "draw random flips instead"
        )
    means, unchanged = np.empty(bits.shape), np.empty(bits.shape)
    _flips(bits, n, means, unchanged)
    return means, unchanged


def _check(tables: np.ndarray) -> tuple[np.ndarray, int]:
    bits = np.ascontiguousarray(tables, np.uint8)
    n = bits.shape[-1].bit_length() - 1
    if bits.ndim != 2 or bits.shape[1] != 1 << n or n < 1:
        raise InputError(
            f"tables of shape {bits.shape}", "(F, 2^n) truth tables", "pass one row a function"
        )
    return bits, n


@njit(nogil=True, cache=True)
def _flips(bits: np.ndarray, n: int, means: np.ndarray, unchanged: np.ndarray) -> None:
    size = 1 << n
    more, same = np.empty(size), np.empty(size)
    for f in range(bits.shape[0]):
        for start in range(size):
            label = bits[f, start]
            for flipped in range(size - 1, -1, -1):
                if bits[f, start ^ flipped] != label:
                    more[flipped], same[flipped] = 0.0, 0.0
                elif flipped == size - 1:
                    more[flipped], same[flipped] = 0.0, 1.0
                else:
                    steps, stays, left = 0.0, 0.0, 0
                    for bit in range(n):
                        if not (flipped >> bit) & 1:
                            steps += more[flipped | (1 << bit)]
                            stays += same[flipped | (1 << bit)]
                            left += 1
                    more[flipped], same[flipped] = 1.0 + steps / left, stays / left
            means[f, start], unchanged[f, start] = more[0], same[0]
