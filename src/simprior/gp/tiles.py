"""Dense linear algebra in place, by tiles, on several threads: the same bits whatever their number.

Threaded BLAS divides its sums by the number of threads, which moves last bits. Here a matrix is cut
into tiles of a fixed size, threads take whole tiles, and BLAS works on one thread inside each. Only
products take time; the triangles on the diagonal are inverted once (as MAGMA does), so that solving
is a product too.

Matrices are float64 in C order; of symmetric and triangular ones the lower triangle is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
from scipy.linalg import lapack

from simprior.errors import NumericalError
from simprior.runs.threads import cores_here, one_thread

TILE = 256
Run = Callable[[Callable[[Any], object], Sequence[Any]], None]
"""Calls a function with each of some pieces of work, on the threads there are."""


def one_by_one(function: Callable[[Any], object], pieces: Sequence[Any]) -> None:
    """A ``Run`` without threads."""
    for piece in pieces:
        function(piece)


@contextmanager
def team(threads: int | None = None) -> Iterator[Run]:
    """Threads for the functions below: all cores, but one in a process among several workers."""
    with one_thread(), ThreadPoolExecutor(threads or cores_here()) as pool:

        def run(function: Callable[[Any], object], pieces: Sequence[Any]) -> None:
            for _ in pool.map(function, pieces):
                pass

        yield run


def tiles(m: int, size: int = TILE) -> list[slice]:
    """0..m in steps of ``size``."""
    return [slice(start, min(start + size, m)) for start in range(0, m, size)]


def cholesky(A: np.ndarray, run: Run) -> None:
    """Lower Cholesky factor of a symmetric matrix, in place; zero above the diagonal.

    Raises :class:`NumericalError` if the matrix is not positive definite.
    """
    m = len(A)
    for here in tiles(m):
        below = tiles(m)[here.start // TILE + 1 :]
        L, info = lapack.dpotrf(A[here, here], lower=1, clean=1)
        if info != 0:
            raise NumericalError("a covariance or information matrix is not positive definite")
        A[here, here] = L
        inverse = _inverse(L)

        def solve(rows: slice, here: slice = here, inverse: np.ndarray = inverse) -> None:
            A[rows, here] = A[rows, here] @ inverse.T

        def update(rows: slice, here: slice = here) -> None:
            A[rows, here.stop : rows.stop] -= A[rows, here] @ A[here.stop : rows.stop, here].T

        run(solve, below)
        run(update, below[::-1])  # the longest rows first
        A[here, here.stop :] = 0.0


def inverses(L: np.ndarray) -> list[np.ndarray]:
    """Inverses of the tiles on the diagonal of a lower triangular matrix."""
    return [_inverse(L[rows, rows]) for rows in tiles(len(L))]


def _inverse(L: np.ndarray) -> np.ndarray:
    inverse, info = lapack.dtrtri(L, lower=1)
    if info != 0:
        raise NumericalError("a triangular factor has a zero on its diagonal")
    return np.tril(inverse)


def solve_right(
    B: np.ndarray, L: np.ndarray, run: Run, first: Callable[[slice], int] = lambda rows: 0
) -> None:
    """B L^-T in place. In the rows ``rows`` of B, columns before ``first(rows)`` are zero."""
    inverted = inverses(L)

    def solve(rows: slice) -> None:
        start = first(rows) // TILE * TILE
        for number, here in enumerate(tiles(len(L))):
            if here.stop > start:
                left = B[rows, start : here.start] @ L[here, start : here.start].T
                B[rows, here] = (B[rows, here] - left) @ inverted[number].T

    run(solve, tiles(len(B))[::-1])


def gram(
    A: np.ndarray, out: np.ndarray, run: Run, first: Callable[[slice], int] = lambda rows: 0
) -> None:
    """Lower triangle of A A^T into ``out``. Columns before ``first(rows)`` are zero in the rows
    ``rows`` of A and in those above."""

    def multiply(rows: slice) -> None:
        start = first(rows)
        np.matmul(A[rows, start:], A[: rows.stop, start:].T, out=out[rows, : rows.stop])

    run(multiply, tiles(len(A))[::-1])


def symmetrise_tiles(A: np.ndarray, size: int) -> None:
    """Make the blocks of ``size`` on the diagonal symmetric, from their lower triangles."""
    for here in tiles(len(A), size):
        block = A[here, here]
        block[...] = np.tril(block) + np.tril(block, -1).T
