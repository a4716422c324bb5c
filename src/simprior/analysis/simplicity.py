"""Simple functions are probable: P(f) against rank and against complexity, as tables.

What the figures of a sampled prior show: probability by rank, in a table of at most some hundred
rows; the joint profile of probability and complexity, histograms, the simplicity-bias bound.
Records in, DataFrames out; nothing here draws. A table of any length is read once, in batches.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from simprior.boolean.complexity import lz76_packed
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.truthtable import n_words
from simprior.network.spec import NamedActivation
from simprior.numerics.estimate import share_stderr
from simprior.numerics.random import derive, generator

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
        {
            "first": first,
            "last": last,
            "rank": np.sqrt(first * last),
            "p": mean(p),
            "p_low": mean(low),
            "p_high": mean(high),
            "count": mean(count),
        }
    )


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


EXACT_ROWS = 5_000_000  # rows whose complexity is always computed; beyond, a systematic sample
ENOUGH = 10  # counts from which a single function's estimate is taken at face value
MAX_BARS = 64  # columns of a figure
_CALIBRATION_BLOCKS, _CALIBRATION_DRAWS = 32, 32


@dataclass(frozen=True)
class ComplexityProfile:
    """How many functions of a table have each (complexity, count), from one pass over its rows.

    (G,) arrays: ``steps`` is the LZ76 complexity in units of :attr:`unit` = log2(m) / 2,
    ``count`` the count, ``weight`` how many functions of the prior's support a function of the row
    stands for (1 unless rows or functions were sampled), ``found`` the functions found.
    """

    m: int
    steps: np.ndarray
    count: np.ndarray
    weight: np.ndarray
    found: np.ndarray
    exact_rows: int
    stride: int

    @property
    def unit(self) -> float:
        """Spacing of the possible complexities, log2(m) / 2 bits."""
        return math.log2(self.m) / 2

    @property
    def lz76(self) -> np.ndarray:
        """(G,) complexity in bits."""
        return self.steps * self.unit

    @property
    def functions(self) -> np.ndarray:
        """(G,) estimated number of functions, ``found * weight``."""
        return self.found * self.weight


def complexity_profile(
    counts: FunctionCounts, table: Path | None = None, exact_rows: int = EXACT_ROWS
) -> ComplexityProfile:
    """Complexity of all functions of a table.

    The ``exact_rows`` commonest functions are all measured. Of the others every ``stride``-th is,
    and stands for ``stride`` functions; the stride is chosen so that they are at most
    ``exact_rows`` again. ``table`` is the Parquet file of the run, needed when ``counts`` holds
    only the first rows of it.
    """
    total = counts.functions
    stride = max(1, -(-(total - exact_rows) // exact_rows))
    parts, at = [], 0
    for words, count in _batches(counts, table):
        rank = np.arange(at, at + len(count))
        rest = rank >= exact_rows
        pick = ~rest | ((rank - exact_rows) % stride == stride // 2)
        weight = np.where(rest, stride, 1)[pick]
        steps = complexity_steps(words[pick], counts.m)
        parts.append(_tally(steps, count[pick], weight, np.ones(len(steps), np.int64)))
        at += len(count)
    steps, count, weight, found = _tally(*(np.concatenate(c) for c in zip(*parts, strict=True)))
    constant = steps == 2
    inflate = np.where(constant, 1.0, weight / counts.keep)
    return ComplexityProfile(counts.m, steps, count, inflate, found, min(exact_rows, total), stride)


def complexity_steps(words: np.ndarray, m: int) -> np.ndarray:
    """(F,) LZ76 complexity over log2(m) / 2: the integer N(x) + N(reversed x), 2 for constants."""
    if m == 1:
        return np.full(len(words), 2, np.int64)
    return np.rint(lz76_packed(words, m) * 2 / math.log2(m)).astype(np.int64)


def _tally(*columns: np.ndarray) -> tuple[np.ndarray, ...]:
    """Rows (steps, count, weight, found) with equal first three columns added up."""
    steps, count, weight, found = columns
    order = np.lexsort((weight, count, steps))
    keys = np.stack([steps, count, weight])[:, order]
    new = np.ones(keys.shape[1], bool)
    new[1:] = (keys[:, 1:] != keys[:, :-1]).any(axis=0)
    starts = np.flatnonzero(new)
    return (*keys[:, starts], np.add.reduceat(found[order], starts))


def _batches(counts: FunctionCounts, table: Path | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(words, count) of the whole table, in order of rank."""
    if table is None or len(counts) >= counts.functions:
        yield counts.words, counts.count
        return
    import pyarrow.parquet as pq

    from simprior.boolean.sampling.rows import words_from_columns

    with pq.ParquetFile(table) as file:
        wanted = [n for n in file.schema_arrow.names if n == "table" or n[1:].isdigit()]
        for batch in file.iter_batches(batch_size=1 << 19, columns=[*wanted, "count"]):
            named = {n: batch.column(n).to_numpy(zero_copy_only=False) for n in wanted}
            words = words_from_columns(named, counts.m).reshape(-1, n_words(counts.m))
            yield np.ascontiguousarray(words), batch.column("count").to_numpy().astype(np.int64)


def cells_of(profile: ComplexityProfile, samples: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges in bits and in probability, and functions a cell (NaN where there are none)."""
    width = steps_per_bin(profile.steps)
    column = (profile.steps - profile.steps.min()) // width
    edges = [0.5]
    while edges[-1] < profile.count.max():
        edges.append(max(edges[-1] + 1.0, math.ceil(edges[-1] * 1.3) + 0.5))
    row = np.searchsorted(edges, profile.count) - 1
    cells = np.zeros((len(edges) - 1, int(column.max()) + 1))
    np.add.at(cells, (row, column), profile.functions)
    left = profile.steps.min() - 0.5 + width * np.arange(cells.shape[1] + 1)
    return left * profile.unit, np.array(edges) / samples, np.where(cells > 0, cells, np.nan)


def steps_per_bin(steps: np.ndarray) -> int:
    """Complexities a bin, so that there are at most 64 bins."""
    return int(-(-(steps.max() - steps.min() + 1) // MAX_BARS))


def prior_histogram(
    counts: FunctionCounts, profile: ComplexityProfile, seed: int = 0
) -> pd.DataFrame:
    """P(K) of the complexity of a sampled network: columns steps, p, stderr.

    The variance is the binomial one times the design effect of :func:`complexity_design_effects`,
    plus the Horvitz-Thompson term for functions that were not all counted or measured.
    """
    steps, where = np.unique(profile.steps, return_inverse=True)
    k, w = profile.count / counts.samples, profile.weight
    p = np.minimum(np.bincount(where, profile.functions * k), 1.0)
    sampled = np.bincount(where, profile.found * k * k * w * (w - 1))
    effect = complexity_design_effects(counts, steps, seed)
    error = np.sqrt(share_stderr(p, counts.samples / effect) ** 2 + sampled)
    return pd.DataFrame({"steps": steps, "p": p, "stderr": error})


def complexity_design_effects(
    counts: FunctionCounts, steps: np.ndarray, seed: int = 0
) -> np.ndarray:
    """Design effect of P(K) for each complexity (in ``steps``), never below 1.

    A table keeps no sums over hidden draws by complexity. Where hidden layers are shared, 32 small
    independent samples of the same model are therefore drawn (at most 1,024 hidden draws in all;
    seeds derived from ``seed``) and their spread is compared with the binomial one. Each class is
    shrunk to the mean of all classes with the weight of one count a sample. An activation that a
    run only names is not executed for that: the number of heads, an upper limit, is given and said.
    """
    model = counts.info.get("model")
    if counts.iid or model is None:
        return np.ones(len(steps))
    if isinstance(getattr(model, "activation", None), NamedActivation):
        logging.getLogger("simprior").warning(
            "errors of P(K) are upper limits: a closer look would execute the activation that the "
            "run names (%s)",
            model.activation,
        )
        return np.full(len(steps), counts.samples / counts.draws)
    from simprior.boolean.sampling.sample import sample

    blocks, top = _CALIBRATION_BLOCKS, int(steps.max()) + 1
    draws = min(max(counts.draws // (8 * blocks), 2), _CALIBRATION_DRAWS)
    size = draws * counts.heads
    found = np.zeros((blocks, top))
    for block in range(blocks):
        block_seed = int.from_bytes(derive(seed, "complexity blocks", block)[:7], "little")
        heads, mirror = counts.heads, counts.mirror
        part = sample(model, samples=size, seed=block_seed, heads=heads, mirror=mirror)
        index = complexity_steps(part.words, part.m)
        known = index < top
        found[block] = np.bincount(index[known], part.count[known], minlength=top)
    q = found[:, steps].mean(axis=0) / size
    between, binomial = found[:, steps].var(axis=0, ddof=1), size * q * (1 - q)
    pool = between.sum() / max(binomial.sum(), 1e-300)
    return np.asarray(np.maximum((between + pool) / (binomial + 1.0), 1.0))


def uniform_histogram(m: int, seed: int = 0, functions: int | None = None) -> pd.DataFrame:
    """P(K) of the complexity of uniformly random functions: columns steps, p, stderr.

    All 2^m functions for m <= 16 (standard error 0), otherwise ``functions`` random ones
    (default 10^5 for m <= 128, fewer for longer tables). ``attrs["functions"]`` is their number.
    """
    if m <= 16 and functions is None:
        number = 1 << m
        words = (np.arange(number, dtype=np.uint64) << np.uint64(64 - m))[:, None]
    else:
        number = functions or max(200, int(1e5 * min(1.0, 128 / m) ** 2))
        rng = generator(seed, "uniform functions")
        words = rng.integers(0, 2**64, (number, n_words(m)), dtype=np.uint64)
        words[:, -1] &= np.uint64(2**64 - 2 ** (64 * n_words(m) - m))
    steps, found = np.unique(complexity_steps(words, m), return_counts=True)
    p = found / number
    error = np.zeros(len(p)) if number == 1 << m else share_stderr(p, number)
    frame = pd.DataFrame({"steps": steps, "p": p, "stderr": error})
    frame.attrs["functions"] = number
    return frame


def envelope(counts: FunctionCounts, profile: ComplexityProfile) -> pd.DataFrame:
    """Most probable function of each complexity: lz76, count, p, p_low, p_high."""
    order = np.lexsort((-profile.count, profile.steps))
    first = np.flatnonzero(np.diff(profile.steps[order], prepend=-1))
    best = order[first]
    count, _, low, high = count_levels(counts, 0.95)
    where = np.searchsorted(-count, -profile.count[best])
    return pd.DataFrame(
        {
            "lz76": profile.lz76[best],
            "count": profile.count[best],
            "p": profile.count[best] / counts.samples,
            "p_low": low[where],
            "p_high": high[where],
        }
    )


@dataclass(frozen=True)
class BoundFit:
    """P(f) <~ 2^(-a K - b): least-squares values and standard errors, from ``points`` points.

    ``b_bound`` is the largest b with which no point lies above the line of slope ``a``.
    """

    a: float
    b: float
    a_stderr: float
    b_stderr: float
    b_bound: float
    points: int

    def __call__(self, complexity: np.ndarray, bound: bool = False) -> np.ndarray:
        """The fitted line, or the bound, at ``complexity`` (bits)."""
        b = self.b_bound if bound else self.b
        return np.asarray(2.0 ** (-self.a * np.asarray(complexity, float) - b))


def fit_bound(frame: pd.DataFrame, enough: int = ENOUGH) -> BoundFit | None:
    """Line through the envelope: log2 P = -a K - b by ordinary least squares.

    The simplicity-bias bound of Dingle, Camargo & Louis (2018), eq. 3, whose constants depend on
    the map and are fitted. Only maxima met ``enough`` times are used: below, the largest of many
    small counts is chance. The maxima scatter about the line because functions of one complexity
    differ, far more than by counting, so every point has the same weight and the standard errors
    are those of the regression. None with fewer than three points.
    """
    used = frame[frame["count"] >= enough]
    if len(used) < 3:
        return None
    x, y = used["lz76"].to_numpy(float), np.log2(used["p"].to_numpy(float))
    (slope, offset), covariance = np.polyfit(x, y, 1, cov=True)
    errors = np.sqrt(np.diag(covariance))
    highest = -float((y - slope * x).max())
    a, b = -float(slope), -float(offset)
    return BoundFit(a, b, float(errors[0]), float(errors[1]), highest, len(used))
