"""Factors of covariance matrices of full or deficient rank, with errors instead of jitter.

A factor ``A`` of shape (m, r) with ``A A^T = K`` writes ``z ~ N(0, K)`` as ``z = A u``,
``u ~ N(0, I_r)``. Full rank: ``A`` is the Cholesky factor. Rank-deficient (linear kernels): ``A``
comes from the pivoted Cholesky factorisation and the m constraints live on r < m weights. A matrix
whose spectrum runs smoothly into the rounding level is neither, and is refused: a relative jitter
of 1e-6 moves the log-probability of parity by 34 nats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack

from simprior.errors import NumericalError

EPS = float(np.finfo(np.float64).eps)
MIN_RCOND = 1e-14  # of the correlation matrix; below it Cholesky factors are not trusted
RESIDUAL = 32.0 * EPS  # what may be left of a correlation matrix outside its rank: rounding only
GAP = 100.0  # the smallest pivot of a rank-deficient matrix, in units of the rounding level


@dataclass(frozen=True)
class Factor:
    """``K = A A^T``.

    ``A`` (m, r) has its rows in the order of the inputs; ``pivots`` are the r inputs whose rows,
    in that order, are lower triangular; ``rcond`` estimates the reciprocal condition number of the
    pivots' correlation matrix; ``scale`` (m,) are the standard deviations.
    """

    A: np.ndarray
    pivots: np.ndarray
    rcond: float
    scale: np.ndarray

    @property
    def m(self) -> int:
        """Number of inputs."""
        return int(self.A.shape[0])

    @property
    def rank(self) -> int:
        """Number of latent coordinates r."""
        return int(self.A.shape[1])

    @property
    def full(self) -> bool:
        """Whether K has full rank."""
        return self.rank == self.m


def _not_psd(eigenvalue: float, level: float) -> NumericalError:
    return NumericalError(
        f"K has the eigenvalue {eigenvalue:.3g} (largest entry 1 after scaling, rounding level "
        f"{level:.1g}): expected a positive semi-definite matrix; compute K in float64 from a "
        "formula that is a covariance, and add no jitter"
    )


def _singular(R: np.ndarray, eigenvalue: float, level: float) -> NumericalError:
    off = np.abs(np.triu(R, 1))
    i, j = np.unravel_index(int(off.argmax()), R.shape)
    return NumericalError(
        f"K is singular to working precision: smallest eigenvalue {eigenvalue:.3g} of the "
        f"correlation matrix, rounding level {level:.1g}, and no gap above it (closest of the "
        f"inputs kept: {i} and {j}, 1 - |correlation| = {1.0 - off[i, j]:.2g}): expected full or "
        "clearly deficient rank; jitter would move ln P by tens of nats: use fewer or less similar "
        "inputs, a shorter length scale or a rougher kernel (of a network: fewer layers or a "
        "smaller sigma_b), or method='ep-probit' or 'laplace', whose unit noise such a K suits"
    )


def factor(K: np.ndarray) -> Factor:
    """Factor a positive semi-definite (m, m) matrix without zero diagonal entries.

    Raises
    ------
    NumericalError
        If K has a negative eigenvalue beyond rounding, or if its spectrum runs into the rounding
        level without a gap, so that its rank cannot be told.
    """
    m = K.shape[0]
    scale = np.sqrt(np.maximum(np.diag(K), 0.0))
    if not (scale > 0.0).all():
        raise NumericalError(
            "K has a zero or negative variance on its diagonal: expected positive variances; "
            "drop inputs with output 0 first"
        )
    R = K / np.outer(scale, scale)
    L, info = lapack.dpotrf(R, lower=1, clean=1)
    if info == 0:
        rcond = float(lapack.dpocon(L, np.abs(R).sum(0).max(), uplo="L")[0])
        if rcond > MIN_RCOND:
            return Factor(scale[:, None] * L, np.arange(m), rcond, scale)
    return _pivoted(R, scale)


def factor_for_noise(K: np.ndarray) -> Factor:
    """As :func:`factor` for a K to which noise of variance 1 is added, of any numerical rank.

    Where the rank cannot be told, ``A`` comes from the eigenvalues above the rounding level and
    ``rcond`` is 0: what is left out is far below the noise.

    Raises
    ------
    NumericalError
        If K has a negative eigenvalue beyond rounding.
    """
    try:
        return factor(K)
    except NumericalError:
        scale = np.sqrt(np.maximum(np.diag(K), 0.0))
        if not (scale > 0.0).all():
            raise
        R = K / np.outer(scale, scale)
        values, vectors = np.linalg.eigh(R)
        level = 8.0 * len(K) * EPS
        if values[0] < -10.0 * level:
            raise
        some = values > level
        A = scale[:, None] * vectors[:, some] * np.sqrt(values[some])
        return Factor(A, np.arange(int(some.sum())), 0.0, scale)


def _pivoted(R: np.ndarray, scale: np.ndarray) -> Factor:
    """Rank-revealing factor of a correlation matrix (LAPACK's dpstrf)."""
    m = R.shape[0]
    level = 8.0 * m * EPS
    L, order, rank, _ = lapack.dpstrf(R, lower=1, tol=level)
    order = order - 1
    L = np.tril(L)[:, :rank]
    smallest = float(np.linalg.eigvalsh(R)[0])
    residual = float(np.abs(R[np.ix_(order, order)] - L @ L.T).max())
    if smallest < -10.0 * level or residual > 10.0 * level:
        raise _not_psd(smallest, level)
    rcond = float(np.linalg.cond(L[:rank])) ** -2
    gap = float(L[rank - 1, rank - 1]) ** 2 > GAP * level
    if rank == m or not gap or residual > RESIDUAL or rcond < MIN_RCOND or _confused(R):
        raise _singular(R, smallest, level)
    A = np.empty((m, rank))
    A[order] = L
    return Factor(scale[:, None] * A, order[:rank].astype(np.intp), rcond, scale)


def _confused(R: np.ndarray) -> bool:
    """Whether two different inputs have correlation 1 to rounding (deep networks)."""
    close = np.argwhere(np.triu(R > 1.0 - 64.0 * EPS, 1))
    return any(not np.array_equal(R[i], R[j]) for i, j in close[:4096])


def reverse_cholesky(J: np.ndarray) -> np.ndarray:
    """Upper-triangular U with ``J = U U^T``; :class:`NumericalError` if J is not definite."""
    L, info = lapack.dpotrf(J[::-1, ::-1], lower=1, clean=1)
    if info != 0:
        raise NumericalError("the information matrix of the sites is not positive definite")
    return L[::-1, ::-1]
