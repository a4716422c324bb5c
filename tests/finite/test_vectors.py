"""Vector code of one unit's move against numpy in float64, for every way to split the inputs."""

from __future__ import annotations

import numpy as np

from simprior.finite.vectors import add_rows, affine, rectified

INPUTS = (1, 7, 8, 15, 16, 24, 31, 32, 37, 64, 100, 128)
COUNTS = (1, 2, 5, 41)


def close(found: np.ndarray, exact: np.ndarray, size: np.ndarray, terms: int) -> None:
    """``size`` is the sum of the absolute terms: each sum and product may round once."""
    bound = 2 * (terms + 2) * np.finfo(np.float32).eps * size
    assert (np.abs(found - exact) <= bound).all()


def test_sums_over_units() -> None:
    """Rows of the layer below from another start than 0, weights in the middle of a row."""
    dice = np.random.default_rng(0)
    for m in INPUTS:
        for fan in COUNTS:
            h = dice.standard_normal((fan + 3, m)).astype(np.float32)
            row = dice.standard_normal(fan + 9).astype(np.float32)
            out = np.full(m + 2, 7.0, np.float32)
            affine(row, 5, fan, h, 2, out[1 : m + 1])
            w, rows = row[5 : 5 + fan].astype(float), h[2 : 2 + fan].astype(float)
            bias = float(row[5 + fan])
            close(out[1 : m + 1], w @ rows + bias, np.abs(w) @ np.abs(rows) + abs(bias), fan)
            assert out[0] == 7 and out[m + 1] == 7  # nothing beside the inputs is written


def test_rows_above_a_unit() -> None:
    """The rows after a move, and the outputs of the relu layer that they are."""
    dice = np.random.default_rng(1)
    for m in INPUTS:
        for count in COUNTS:
            pre = dice.standard_normal((count + 3, m)).astype(np.float32)
            new, old = dice.standard_normal((2, m)).astype(np.float32)
            w_new, w_old = dice.standard_normal((2, count)).astype(np.float32)
            p = dice.standard_normal(count + 5).astype(np.float32)
            given = pre.astype(float)
            a, b = np.outer(w_new.astype(float), new), np.outer(w_old.astype(float), old)
            moved = given[2 : 2 + count] + a - b
            size = np.abs(given[2 : 2 + count]) + np.abs(a) + np.abs(b)
            z = np.full(m + 2, 7.0, np.float32)
            rectified(pre, 2, w_new, new, w_old, old, count, p, 4, z[1 : m + 1])
            v, bias = p[4 : 4 + count].astype(float), float(p[4 + count])
            exact = v @ np.maximum(moved, 0) + bias
            close(z[1 : m + 1], exact, np.abs(v) @ size + abs(bias), count + 2)
            assert z[0] == 7 and z[m + 1] == 7
            assert (pre == given).all()
            add_rows(pre, 2, w_new, new, w_old, old, count)
            close(pre[2 : 2 + count], moved, size, 2)
            rest = np.delete(np.arange(count + 3), np.arange(2, 2 + count))
            assert (pre[rest] == given[rest]).all()
