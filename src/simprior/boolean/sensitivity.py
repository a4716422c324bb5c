"""How a Boolean function changes when bits flip: its Walsh spectrum, and its sensitivity.

With outputs as signs, F = 1 - 2 f (output 1 is -1), the coefficient of a set S of variables is

    F^(S) = 2^-n sum_x F(x) (-1)^(sum of the bits of x in S),

so that sum_S F^(S)^2 = 1 (Parseval). W_k, the weight of degree k, is the sum of squares over the
sets of size k; sum_k k W_k is the average sensitivity, sum_k rho^k W_k noise stability (O'Donnell,
Analysis of Boolean Functions, 2014, definitions 1.2, 2.27, 2.42, theorem 2.38). S is written as the
integer whose bits it has, most significant bit x1, as inputs are. All values are exact: the
transform runs in integers.

What is counted input by input:

* influence of variable i: share of inputs x with f(x) != f(x with bit i flipped);
* average sensitivity: the sum of the influences, mean over x of s(f, x), the number of such i;
* sensitivity s(f): max over x of s(f, x) (Cook, Dwork & Reischuk 1986);
* block sensitivity bs(f): max over x of the largest number of disjoint sets of bits each of which,
  flipped together, changes the output (Nisan 1991); s <= bs;
* critical sample ratio: share of inputs with a neighbour at Hamming distance 1 of another output
  (Arpit et al. 2017, for Boolean inputs);
* generalisation complexity (Franco & Anthony 2006): mean disagreement of pairs at distance 1, plus
  that of pairs at distance 2.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from simprior.boolean.canonical import U0, flip_place, popcount
from simprior.boolean.truthtable import check_words, pack
from simprior.checks import Number, Tables, Whole, checked
from simprior.errors import InputError

Columns = dict[str, np.ndarray]


def bits_of(m: int) -> int:
    """n for m = 2^n inputs. Raises :class:`InputError` if m is no power of two >= 2."""
    n = int(m).bit_length() - 1
    if m < 2 or 1 << n != m:
        raise InputError(
            f"functions of {m} inputs",
            "functions of all 2^n bit strings, n >= 1",
            "this measure compares inputs that differ in one bit",
        )
    return n


@checked(tables=Tables())
def packed_tables(tables: np.ndarray) -> tuple[np.ndarray, int]:
    """(F, W) words and m of (F, m) or (m,) tables of 0/1."""
    tables = np.atleast_2d(tables)
    if tables.ndim != 2 or tables.shape[1] == 0:
        raise InputError(
            f"tables of shape {tables.shape}", "a 0/1 array of shape (F, m)", "one row a function"
        )
    return pack(tables), tables.shape[1]


@checked(tables=Tables())
def spectrum(tables: np.ndarray) -> np.ndarray:
    """(F, m) float64 Walsh coefficients F^(S), column S, of (F, m) tables of 0/1."""
    words, m = packed_tables(tables)
    bits_of(m)
    return _spectra(words, m) / m


@checked(m=Whole(1))
def walsh_packed(words: np.ndarray, m: int) -> Columns:
    """What the spectrum of packed (F, W) functions on m = 2^n inputs looks like.

    Returns
    -------
    dict of (F,) float64
        ``walsh_linf`` largest |F^(S)| (infinity norm of the spectrum: 1 iff f is a parity or
        constant, or the complement of one), ``walsh_l1`` sum of |F^(S)| (the spectral norm),
        ``walsh_degree`` size of the largest S with F^(S) != 0, ``walsh_mean_degree`` sum_k k W_k,
        and ``walsh_weight_k`` W_k for k = 0 .. n.

    Raises
    ------
    InputError
        m is no power of two.
    """
    n = bits_of(m)
    raw = _features(check_words(words, m), m, n)
    out: Columns = {
        "walsh_linf": raw[:, 0] / m,
        "walsh_l1": raw[:, 1] / m,
        "walsh_degree": raw[:, 2],
    }
    weights = raw[:, 3:] / (float(m) * m)
    out["walsh_mean_degree"] = (weights * np.arange(n + 1.0)).sum(axis=1)
    return out | {f"walsh_weight_{k}": weights[:, k].copy() for k in range(n + 1)}


@checked(m=Whole(1))
def weights_packed(words: np.ndarray, m: int) -> np.ndarray:
    """(F, n + 1) weights W_k of degree k of packed functions."""
    n = bits_of(m)
    return np.asarray(_features(check_words(words, m), m, n)[:, 3:] / (float(m) * m))


@checked(m=Whole(1))
def noise_stability_packed(words: np.ndarray, m: int, rho: float = 0.9) -> np.ndarray:
    """(F,) E[F(x) F(y)], x uniform and y a copy of x whose bits are redrawn with probability 1-rho.

    1 - 2 P(f(x) != f(y)); 1 for constants, rho^n for parity. Raises :class:`InputError` unless
    -1 <= rho <= 1.
    """
    n = bits_of(m)
    expected = "a correlation from -1 to 1"
    rho = Number(-1, 1, remedy="pass for example 0.9", expected=expected)("noise", rho)
    powers = float(rho) ** np.arange(n + 1)
    return np.asarray((weights_packed(words, m) * powers).sum(axis=1))  # row by row, whatever F is


@njit(cache=True, nogil=True)
def _transform(words, values, m):  # type: ignore[no-untyped-def]
    """Integer Walsh-Hadamard transform of one packed function into ``values`` (m,)."""
    for j in range(m):
        bit = (words[j >> 6] >> np.uint64(63 - (j & 63))) & np.uint64(1)
        values[j] = 1 - 2 * np.int32(bit)
    step = 1
    while step < m:
        for start in range(0, m, 2 * step):
            for j in range(start, start + step):
                a, b = values[j], values[j + step]
                values[j], values[j + step] = a + b, a - b
        step *= 2


@njit(cache=True, nogil=True)
def _spectra(words, m):  # type: ignore[no-untyped-def]
    out = np.empty((words.shape[0], m))
    values = np.empty(m, np.int32)
    for f in range(words.shape[0]):
        _transform(words[f], values, m)
        for j in range(m):
            out[f, j] = values[j]
    return out


@njit(cache=True, nogil=True)
def _features(words, m, n):  # type: ignore[no-untyped-def]
    """(F, 3 + n + 1): largest and summed |2^n F^|, degree, and 4^n W_k (exact in float64)."""
    out = np.zeros((words.shape[0], n + 4))
    values = np.empty(m, np.int32)
    size = np.zeros(m, np.int64)
    for j in range(1, m):
        size[j] = size[j >> 1] + (j & 1)
    total = np.zeros(n + 1, np.int64)
    for f in range(words.shape[0]):
        _transform(words[f], values, m)
        largest, summed = 0, 0
        total[:] = 0
        for j in range(m):
            v = np.int64(values[j])
            a = abs(v)
            largest = max(largest, a)
            summed += a
            total[size[j]] += v * v
        out[f, 0], out[f, 1] = largest, summed
        for k in range(n + 1):
            out[f, 3 + k] = total[k]
            if total[k] != 0:
                out[f, 2] = k
    return out


BLOCK_BITS = 10
"""Largest n for block sensitivity: the worst case takes 2^n 3^n steps a function."""
_PLANES = 5


def influences(tables: np.ndarray) -> np.ndarray:
    """(F, n) influence of x1 .. xn of (F, m) tables of 0/1."""
    words, m = packed_tables(tables)
    return influences_packed(words, m)


def average_sensitivity(tables: np.ndarray) -> np.ndarray:
    """(F,) average sensitivity of (F, m) tables of 0/1: 0 for constants, n for parity."""
    return influences(tables).sum(axis=1)


def max_sensitivity(tables: np.ndarray) -> np.ndarray:
    """(F,) sensitivity s(f) of (F, m) tables of 0/1."""
    words, m = packed_tables(tables)
    return sensitivity_packed(words, m)["max_sensitivity"]


def block_sensitivity(tables: np.ndarray) -> np.ndarray:
    """(F,) block sensitivity of (F, m) tables of 0/1, n <= 10."""
    words, m = packed_tables(tables)
    return block_sensitivity_packed(words, m)


def csr(tables: np.ndarray) -> np.ndarray:
    """(F,) Boolean critical sample ratio of (F, m) tables of 0/1."""
    words, m = packed_tables(tables)
    return sensitivity_packed(words, m)["csr"]


def influences_packed(words: np.ndarray, m: int) -> np.ndarray:
    """(F, n) influences of packed functions on m = 2^n inputs, x1 first."""
    return np.asarray(flips_packed(words, m) / m)


def flips_packed(words: np.ndarray, m: int) -> np.ndarray:
    """(F, n) int64: at how many inputs a flip of x1 .. xn changes the output."""
    n = bits_of(m)
    return np.asarray(_flips(check_words(words, m), n)[:, :n][:, ::-1])


def sensitivity_packed(words: np.ndarray, m: int) -> Columns:
    """``average_sensitivity``, ``max_sensitivity`` and ``csr``, (F,) float64 each."""
    n = bits_of(m)
    raw = _flips(check_words(words, m), n)
    return {
        "average_sensitivity": raw[:, :n].sum(axis=1) / m,
        "max_sensitivity": raw[:, n].astype(np.float64),
        "csr": raw[:, n + 1] / m,
    }


def generalisation_complexity_packed(words: np.ndarray, m: int) -> Columns:
    """``gc1``, ``gc2`` and their sum ``gc`` (Franco & Anthony 2006, eq. 1), (F,) float64 each.

    ``gc_i`` is the share of ordered pairs of inputs at Hamming distance i with different outputs
    (0 for ``gc2`` at n = 1, where there are none).
    """
    n = bits_of(m)
    words = check_words(words, m)
    first = _flips(words, n)[:, :n].sum(axis=1) / (m * n)
    pairs = n * (n - 1) // 2
    second = _double_flips(words, n) / (m * max(pairs, 1))
    return {"gc1": first, "gc2": second, "gc": first + second}


def block_sensitivity_packed(words: np.ndarray, m: int) -> np.ndarray:
    """(F,) float64 block sensitivity of packed functions.

    At an input with s sensitive bits some largest family has them as blocks of one bit, and each
    further block takes two of the other n - s bits or more. Inputs are searched in the order of the
    bound s + (n - s) // 2, by dynamic programming over the sets of those other bits, until no input
    can do better.

    Raises
    ------
    InputError
        n > 10.
    """
    n = bits_of(m)
    if n > BLOCK_BITS:
        raise InputError(
            f"block sensitivity of functions of {n} bits",
            f"at most {BLOCK_BITS} bits",
            "the exact search grows like 6^n; leave it out",
        )
    return _blocks(check_words(words, m), n).astype(np.float64)


@njit(cache=True, nogil=True)
def _flips(words, n):  # type: ignore[no-untyped-def]
    """(F, n + 2) i64: changes at each place (weight 2^p), largest s(f, x), inputs with s > 0."""
    functions, size = words.shape
    out = np.zeros((functions, n + 2), np.int64)
    other = np.empty(size, np.uint64)
    planes = np.empty((_PLANES, size), np.uint64)  # s(f, x) in binary, a plane a digit
    for f in range(functions):
        planes[:] = U0
        for p in range(n):
            other[:] = words[f]
            flip_place(other, p)
            for w in range(size):
                carry = other[w] ^ words[f, w]
                out[f, p] += popcount(carry)
                for digit in range(_PLANES):
                    kept = planes[digit, w]
                    planes[digit, w] = kept ^ carry
                    carry &= kept
        best = 0
        for w in range(size):
            live, value, hit = ~U0, 0, U0
            for digit in range(_PLANES - 1, -1, -1):
                hit |= planes[digit, w]
                if live & planes[digit, w] != U0:
                    live &= planes[digit, w]
                    value |= 1 << digit
            best = max(best, value)
            out[f, n + 1] += popcount(hit)
        out[f, n] = best
    return out


@njit(cache=True, nogil=True)
def _double_flips(words, n):  # type: ignore[no-untyped-def]
    """(F,) i64: ordered pairs at distance 2 with different outputs, over two."""
    functions, size = words.shape
    out = np.zeros(functions, np.int64)
    once, twice = np.empty(size, np.uint64), np.empty(size, np.uint64)
    for f in range(functions):
        for p in range(n):
            once[:] = words[f]
            flip_place(once, p)
            for q in range(p):
                twice[:] = once
                flip_place(twice, q)
                for w in range(size):
                    out[f] += popcount(twice[w] ^ words[f, w])
    return out


@njit(cache=True, nogil=True)
def _blocks(words, n):  # type: ignore[no-untyped-def]
    m = 1 << n
    out = np.zeros(words.shape[0], np.int64)
    table, single = np.empty(m, np.uint8), np.empty(m, np.int64)
    spread, best = np.empty(m, np.int64), np.empty(m, np.int8)
    for f in range(words.shape[0]):
        for j in range(m):
            table[j] = (words[f, j >> 6] >> np.uint64(63 - (j & 63))) & np.uint64(1)
        constant = True
        for j in range(m):
            single[j] = 0
            constant &= table[j] == table[0]
            for p in range(n):
                if table[j] != table[j ^ (1 << p)]:
                    single[j] |= 1 << p
        if constant:
            continue
        for bound in range(n, 0, -1):
            if out[f] >= bound:
                break
            for x in range(m):
                s, rest = 0, single[x]
                while rest:
                    rest &= rest - 1
                    s += 1
                if s + (n - s) // 2 == bound:
                    out[f] = max(out[f], s + _rest(table, x, (m - 1) ^ single[x], spread, best))
                    if out[f] >= bound:
                        break
    return out


@njit(cache=True, nogil=True)
def _rest(table, x, free, spread, best):  # type: ignore[no-untyped-def]
    """Most disjoint blocks within the bits ``free`` (none of them sensitive alone) at input x."""
    width, left = 0, free
    while left:
        left &= left - 1
        width += 1
    if width < 2:
        return 0
    sub, at = 0, 0  # spread[k]: the k-th subset of free, in the order of its compressed form
    while True:
        spread[at] = sub
        at += 1
        sub = (sub - free) & free
        if sub == 0:
            break
    best[0] = 0
    for k in range(1, 1 << width):
        low = k & -k
        top = best[k ^ low]
        other = k ^ low
        part = other
        while True:  # blocks that contain the lowest bit of k
            if table[x ^ spread[part | low]] != table[x]:
                top = max(top, 1 + best[other ^ part])
            if part == 0:
                break
            part = (part - 1) & other
        best[k] = top
    return best[(1 << width) - 1]
