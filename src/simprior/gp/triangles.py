"""Triangular factors and systems that let other threads go on.

scipy's LAPACK keeps Python's lock: two threads that solve small systems wait for each other.
numpy's own routines and compiled code give it up.
"""

from __future__ import annotations

import numba
import numpy as np
from scipy.linalg import solve_triangular

from simprior.errors import NumericalError
from simprior.numerics.compiled import OPTIONS

_SMALL = 256  # rank below which a row at a time is as fast as LAPACK's blocks


def lower_factor(J: np.ndarray) -> np.ndarray | None:
    """Lower-triangular L with J = L L^T, of whose upper triangle nothing is read; None if J is not
    positive definite."""
    try:
        L = np.asarray(np.linalg.cholesky(J))
    except np.linalg.LinAlgError:
        return None
    return L if np.isfinite(L[-1:, -1:]).all() else None


def reverse_cholesky(J: np.ndarray) -> np.ndarray:
    """Upper-triangular U with ``J = U U^T``; :class:`NumericalError` if J is not definite."""
    L = lower_factor(J[::-1, ::-1])
    if L is None:
        raise NumericalError("the information matrix of the sites is not positive definite")
    return L[::-1, ::-1]


def rows_over(rows: np.ndarray, U: np.ndarray) -> np.ndarray:
    """(n, r) rows U^-T of (n, r) rows, with U (r, r) upper-triangular."""
    if len(U) > _SMALL:
        return np.asarray(solve_triangular(U, rows.T, lower=False, check_finite=False).T)
    X = np.array(rows.T, np.float64, order="C")
    _back(np.ascontiguousarray(U), X)
    return X.T


@numba.njit(cache=True, **OPTIONS)
def _back(U: np.ndarray, X: np.ndarray) -> None:
    """X becomes U^-1 X, from its last row up, four rows a pass."""
    r, n = X.shape
    for i in range(r - 1, -1, -1):
        target, k = X[i], i + 1
        while k + 4 <= r:
            u0, u1, u2, u3 = U[i, k], U[i, k + 1], U[i, k + 2], U[i, k + 3]
            x0, x1, x2, x3 = X[k], X[k + 1], X[k + 2], X[k + 3]
            for d in range(n):
                target[d] -= (u0 * x0[d] + u1 * x1[d]) + (u2 * x2[d] + u3 * x3[d])
            k += 4
        for j in range(k, r):
            u0, x0 = U[i, j], X[j]
            for d in range(n):
                target[d] -= u0 * x0[d]
        diagonal = U[i, i]
        for d in range(n):
            target[d] /= diagonal
