"""Functions of 4 bits by number, for tests that look up a truth known for all of them."""

from __future__ import annotations

import numpy as np

from simprior.boolean.sampling.counts import FunctionCounts


def number(counts: FunctionCounts) -> np.ndarray:
    """Of each function of 4 bits, from 0 to 65,535: its truth table in binary."""
    return (counts.words[:, 0] >> np.uint64(48)).astype(np.int64)
