"""Balls of bit strings: all strings within k flips of given ones, with the labels of those.

A function is robust to k flips at a string if it is constant on the ball of radius k around it.
Strings are numbers of inputs, x1 the most significant bit, as everywhere.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from simprior.checks import Integer, Whole, checked
from simprior.errors import InputError

NOT_BITS = "bit strings, whose bits can flip"


def check_flips(robust: Any, n: int) -> int:
    """``robust``, a number of flips from 0 to ``n``; :class:`InputError` for any other value."""
    remedy = f"pass --robust 1, or another number up to n={n}"
    return int(
        Integer(0, n, remedy, expected=f"a number of flips from 0 to n={n}")("robust", robust)
    )


@checked(n=Whole(1, 16))
def flips_within(n: int, k: int) -> np.ndarray:
    """(B,) numbers whose set bits are the flips of at most ``k`` of ``n`` bits, no flip first.

    B = sum of binomial(n, j) over j <= k. Raises :class:`InputError` for k > n.
    """
    k = check_flips(k, n)
    chosen = (bits for j in range(k + 1) for bits in combinations(range(n), j))
    return np.array([sum(1 << bit for bit in bits) for bits in chosen], np.int64)


def robust_labels(
    strings: np.ndarray, labels: np.ndarray, k: int, n: int
) -> tuple[np.ndarray, np.ndarray]:
    """All strings within ``k`` flips of some ``strings``, each with the label of its centre.

    Parameters
    ----------
    strings : (s,) integers
        Numbers of the training strings, 0 to 2^n - 1.
    labels : (s,) 0/1
    k : int
        Flips, 0 to n.

    Returns
    -------
    (b,) int64, (b,) uint8
        The strings of the union of the balls, increasing, and their labels.

    Raises
    ------
    InputError
        k > n, or balls of opposite labels that overlap; the message names two of their centres.
    """
    strings, labels = np.asarray(strings, np.int64), np.asarray(labels, np.uint8)
    near = strings[:, None] ^ flips_within(n, k)
    places, where = np.unique(near, return_inverse=True)
    owner = np.zeros(len(places), np.int64)
    owner[where.ravel()] = np.repeat(np.arange(len(strings)), near.shape[1])
    found = labels[owner]
    clash = labels[:, None] != found[where.reshape(near.shape)]
    if clash.any():
        one, at = (int(index) for index in np.argwhere(clash)[0])
        place = int(near[one, at])
        other = int(owner[np.searchsorted(places, place)])
        raise _overlap(strings[[one, other]], labels[[one, other]], place, k, n)
    return places, found


def _overlap(strings: np.ndarray, labels: np.ndarray, place: int, k: int, n: int) -> InputError:
    """Two strings whose balls have opposite labels at ``place``."""
    one, other = (f"{s:0{n}b} (label {label})" for s, label in zip(strings, labels, strict=True))
    apart = int(strings[0] ^ strings[1]).bit_count()
    return InputError(
        f"robust={k} with the strings {one} and {other}, {apart} flip{'s' * (apart > 1)} apart",
        f"balls of opposite labels without a string in common; these share {place:0{n}b}",
        "lower --robust, or take other or fewer training strings",
    )


@checked(n=Whole(3, 16))
def hamming_code(n: int) -> np.ndarray:
    """(2^n / (n + 1),) numbers of the codewords of the Hamming code of length n = 2^r - 1.

    Any two are 3 or more flips apart, and the balls of radius 1 around them tile all strings: bit
    i (from 1, x1 first) checks the digits of i (Hamming 1950). Raises :class:`InputError` for
    other n.
    """
    if n & (n + 1):
        raise InputError(f"the Hamming code with n={n}", "n=3, 7 or 15", "pass --n 7")
    numbers = np.arange(1 << n)
    syndrome = np.zeros(1 << n, np.int64)
    for i in range(1, n + 1):
        syndrome ^= i * (numbers >> (n - i) & 1)
    return np.flatnonzero(syndrome == 0)


def read_strings(texts: tuple[str, ...], n: int) -> np.ndarray:
    """(s,) numbers of strings given as ``n`` bits each, or of the code ``hamming``.

    Raises :class:`InputError` for a text of another form, or a string given twice.
    """
    if tuple(texts) == ("hamming",):
        return hamming_code(n)
    for text in texts:
        if len(text) != n or set(text) - {"0", "1"}:
            expected = f"strings of {n} bits with commas between, or hamming"
            raise InputError(f"strings={text}", expected, f"write for example {'0' * n}")
    found = np.array([int(text, 2) for text in texts], np.int64)
    if len(np.unique(found)) < len(found):
        raise InputError("strings with a repeat", "each string once", "drop the repeats")
    return found
