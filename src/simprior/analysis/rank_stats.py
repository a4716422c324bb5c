"""Probability against rank: what the rank figure shows, as a table of at most some hundred rows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from simprior.boolean.counts import FunctionCounts

if TYPE_CHECKING:
    import pandas as pd

RANK_BINS = 240


def zipf(rank: np.ndarray, m: int) -> np.ndarray:
    """Zipf's law for 2^m possible functions, 1 / (r ln N_O) with ln N_O = m ln 2."""
    return 1.0 / (np.asarray(rank, float) * m * math.log(2.0))


def rank_frame(counts: FunctionCounts, level: float = 0.95, bins: int = RANK_BINS) -> pd.DataFrame:
    """Probability against rank, averaged over at most ``bins`` ranges of ranks.

    Columns: first, last (ranks of the range), rank (their geometric mean), p (probability of the
    range over its number of ranks), p_low and p_high (means of the functions' own intervals), count
    (mean count). The first ranks have a range each. Ranks are those of the estimates: where counts
    are small, chance makes the first functions of a tie look more probable than they are.

    A pooled table gives the ranks of single functions: a class takes as many ranks as it has
    members. With a subsampled table (``keep`` < 1) every function stands for 1 / keep.
    """
    import pandas as pd

    found = _pooled_blocks(counts, level) if counts.orbit is not None else _blocks(counts, level)
    p, low, high, count, weight = found
    ends = np.cumsum(weight)
    edges = np.unique(np.round(np.geomspace(1.0, max(ends[-1], 1.0), bins)))
    edges = np.concatenate([[0.0], edges])
    width = np.diff(edges)

    def mean(values: np.ndarray) -> np.ndarray:
        total = np.concatenate([[0.0], np.cumsum(values * weight)])
        return np.asarray(np.diff(np.interp(edges, np.concatenate([[0.0], ends]), total)) / width)

    first, last = edges[:-1] + 1, edges[1:]
    return pd.DataFrame(
        {"first": first, "last": last, "rank": np.sqrt(first * last), "p": mean(p),
         "p_low": mean(low), "p_high": mean(high), "count": mean(count)}
    )  # fmt: skip


def count_levels(counts: FunctionCounts, level: float) -> tuple[np.ndarray, ...]:
    """Distinct counts (descending), functions with each, and (low, high) of count / samples.

    Functions of one count can differ in their design effect; its mean is used.
    """
    q = counts.profile
    starts = np.flatnonzero(np.diff(q.count, prepend=-1))
    functions = np.add.reduceat(q.multiplicity, starts).astype(float)
    count = q.count[starts]
    effect = np.add.reduceat(counts.profile_effects * q.multiplicity, starts) / functions
    low, high = counts.intervals_of(count, effect, level)
    return count, functions, low, high


def _blocks(counts: FunctionCounts, level: float) -> tuple[np.ndarray, ...]:
    """(p, low, high, count, functions) of every distinct count, most probable first."""
    count, functions, low, high = count_levels(counts, level)
    if counts.keep < 1:
        weight = functions / counts.keep
        for constant in counts.ones[[0, counts.m], 0]:  # always kept
            weight[count == constant] += 1.0 - 1.0 / counts.keep
        functions = weight
    return count / counts.samples, low, high, count.astype(float), functions


def _pooled_blocks(pooled: FunctionCounts, level: float) -> tuple[np.ndarray, ...]:
    """As :func:`_blocks` with a block for every class, its members as ``functions``."""
    assert pooled.orbit is not None
    count, _, low, high = count_levels(pooled, level)
    where = np.searchsorted(-count, -pooled.count)
    p, orbit = pooled.p, pooled.orbit
    order = np.argsort(-p, kind="stable")
    columns = (p, low[where] / orbit, high[where] / orbit, pooled.count.astype(float), orbit)
    return tuple(column[order] for column in columns)
