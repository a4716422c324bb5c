"""Walsh (Fourier) spectrum of Boolean functions, and what it says about their complexity.

With outputs as signs, F = 1 - 2 f (output 1 is -1), the coefficient of a set S of variables is

    F^(S) = 2^-n sum_x F(x) (-1)^(sum of the bits of x in S),

so that sum_S F^(S)^2 = 1 (Parseval). W_k, the weight of degree k, is the sum of squares over the
sets of size k; sum_k k W_k is the average sensitivity, sum_k rho^k W_k noise stability (O'Donnell,
Analysis of Boolean Functions, 2014, definitions 1.2, 2.27, 2.42, theorem 2.38). S is written as the
integer whose bits it has, most significant bit x1, as inputs are. All values are exact: the
transform runs in integers.
"""

from __future__ import annotations

import numpy as np
from numba import njit

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
