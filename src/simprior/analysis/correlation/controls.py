"""Controls as columns of a regression: what is held fixed in a partial coefficient.

A control with few values (training-set size, attack points, a name) enters as categories: given it,
measure and outcome are compared within its levels only, however either depends on it. One line for
such a control would not do: of two columns that follow a learning curve and are independent
otherwise, the partial coefficient given a straight line is far from 0. Many values enter as a line
and the fifths of their order, which leaves what varies within a fifth other than linearly.
"""

from __future__ import annotations

import numpy as np

MOST_LEVELS, LEVEL_POINTS = 12, 3
"""Up to so many values, with so many points each on average, a control is categories."""
BINS, BIN_POINTS = 5, 10


def control_columns(values: np.ndarray) -> np.ndarray:
    """(n, q) float64 columns of a control (n,) of numbers or texts; q = 0 if it is constant."""
    levels, index = np.unique(values, return_inverse=True)
    n, k = len(values), len(levels)
    text = values.dtype.kind not in "iufb"
    if k < 2:
        return np.zeros((n, 0))
    if text or (k <= MOST_LEVELS and n >= LEVEL_POINTS * k):
        return _indicators(index, k)
    line = values.astype(np.float64)[:, None]
    if n < BINS * BIN_POINTS:
        return line
    edges = np.quantile(line[:, 0], np.arange(1, BINS) / BINS)
    bins = np.searchsorted(edges, line[:, 0], side="right")
    return np.column_stack([line, _indicators(np.unique(bins, return_inverse=True)[1])])


def _indicators(index: np.ndarray, k: int | None = None) -> np.ndarray:
    """(n, k - 1) indicators of all levels but the first."""
    k = int(index.max()) + 1 if k is None else k
    return (index[:, None] == np.arange(1, k)).astype(np.float64)
