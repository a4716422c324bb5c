"""Values that differ by rounding only are equal: ranks, signs and categories must not tell them.

A mean of equal numbers, or one number by two routes (0.1 + 0.2 and 0.3), differs in its last bits.
Ranks make whole ranks of that, and a measure that is constant within a category gets a partial
coefficient from noise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

ROUNDING = 1e-12
"""Relative difference up to which neighbouring values are one."""


def settle(values: np.ndarray) -> np.ndarray:
    """``values`` (n,) as floats, neighbours in order that are within ``ROUNDING`` made equal.

    Each run of such neighbours takes its smallest value; NaN and infinities stay. Only relative
    differences count: 1e-20 and 2e-20 are two values, and 0 is one of its own.
    """
    values = np.asarray(values, dtype=np.float64)
    out = values.copy()
    some = np.flatnonzero(np.isfinite(values))
    if len(some) < 2:
        return out
    order = some[np.argsort(values[some], kind="stable")]
    ranked = values[order]
    size = np.maximum(np.abs(ranked[1:]), np.abs(ranked[:-1]))
    new = np.concatenate([[True], np.diff(ranked) > ROUNDING * size])
    out[order] = ranked[new][np.cumsum(new) - 1]
    return out


def settle_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with every float column settled."""
    floats = [name for name in frame.columns if frame[name].dtype.kind == "f"]
    return frame.assign(**{name: settle(frame[name].to_numpy(float)) for name in floats})
