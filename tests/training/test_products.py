"""Matrix products of a training step: every tile against numpy, and bits that no tile changes."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from simprior.training.products import RECTIFY, STORE, TIMES, address, gemm, groups_of, weighted_row

SEED = 3
ROUNDING = 2.0**-24
"""Largest relative error of one rounded operation in single precision."""


def numbers(*shape: int, seed: int = SEED) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@njit
def product(a, b, c, c0, d, groups, how, transposed, with_start):
    """gemm on whole arrays; A is (rows, k), or its transpose."""
    rows, count = c.shape[0], b.shape[0]
    a_row, a_k = 4 * count, 4
    if transposed:
        a_row, a_k = 4, 4 * rows
    stride = 4 * b.shape[1]
    start = address(c0) if with_start else 0
    gemm(
        address(a),
        a_row,
        a_k,
        address(b),
        stride,
        address(c),
        stride,
        start,
        stride,
        rows,
        groups,
        count,
        how,
        address(d),
    )


def run(a, b, c0=None, *, how=STORE, d=None, transposed=False):
    rows = a.shape[1] if transposed else a.shape[0]
    c = np.full((rows, b.shape[1]), np.nan, np.float32)
    d = np.zeros_like(c) if d is None else d
    start = np.zeros_like(c) if c0 is None else c0
    groups = int(groups_of(b.shape[1]))
    product(np.ascontiguousarray(a), b, c, start, d, groups, how, transposed, c0 is not None)
    return c, d


@pytest.mark.parametrize("rows", [4, 8, 12, 20])
@pytest.mark.parametrize("columns", [8, 16, 24, 32, 40, 48, 56, 88, 104])
def test_every_tile_is_the_product(rows: int, columns: int) -> None:
    count = 37
    a, b, c0 = numbers(rows, count), numbers(count, columns), numbers(rows, columns)
    exact = c0 + a.astype(float) @ b.astype(float)
    # each of the ``count`` roundings is of a partial sum below the sum of the absolute values
    bound = count * ROUNDING * (np.abs(c0) + np.abs(a) @ np.abs(b)) * 1.01
    assert np.all(np.abs(run(a, b, c0)[0] - exact) <= bound)
    np.testing.assert_array_equal(run(a.T, b, c0, transposed=True)[0], run(a, b, c0)[0])
    # an address of 0 stands for zeros
    np.testing.assert_array_equal(run(a, b)[0], run(a, b, np.zeros_like(c0))[0])


def test_bits_do_not_depend_on_the_tile() -> None:
    a, b = numbers(12, 50), numbers(50, 88)
    whole, _ = run(a, b)
    for r in range(0, 12, 4):
        for j in range(0, 88, 8):
            part, _ = run(a[r : r + 4], np.ascontiguousarray(b[:, j : j + 8]))
            np.testing.assert_array_equal(part, whole[r : r + 4, j : j + 8])
    # a sum that is stored on the way goes on with the same bits
    first, _ = run(a[:, :20], b[:20])
    np.testing.assert_array_equal(run(a[:, 20:], b[20:], first)[0], whole)


@pytest.mark.parametrize("columns", [8, 40, 56])
def test_what_is_done_with_a_sum(columns: int) -> None:
    a, b, d = numbers(12, 9), numbers(9, columns), numbers(12, columns, seed=5)
    plain, _ = run(a, b)
    rectified, slope = run(a, b, how=RECTIFY)
    np.testing.assert_array_equal(rectified, np.where(plain > 0, plain, 0))
    np.testing.assert_array_equal(slope, np.where(plain > 0, 1, 0))
    np.testing.assert_array_equal(run(a, b, how=TIMES, d=d)[0], plain * d)
    assert (plain > 0).any() and (plain < 0).any()


@njit
def row(a, a_k, b, c, c0, with_start):
    start = address(c0) if with_start else 0
    groups = groups_of(b.shape[1])
    weighted_row(
        a.ctypes.data, a_k, b.ctypes.data, 4 * b.shape[1], c.ctypes.data, start, groups, b.shape[0]
    )


@pytest.mark.parametrize("columns", [8, 40, 48, 104])
def test_weighted_row(columns: int) -> None:
    a, b, c0 = numbers(21), numbers(21, columns), numbers(columns, seed=5)
    c = np.full(columns, np.nan, np.float32)
    bound = 43 * ROUNDING * (np.abs(c0) + np.abs(a) @ np.abs(b))  # two roundings where not fused
    row(a, 4, b, c, c0, True)
    assert np.all(np.abs(c - (c0 + a.astype(float) @ b.astype(float))) <= bound)
    row(np.ones(1, np.float32), 0, b, c, c0, False)
    np.testing.assert_array_equal(c, np.add.accumulate(b, axis=0)[-1])
