"""Resampling two tables of functions: bootstrap replicates, and disjoint parts of a run.

*Bootstrap.* The effective count u of a function is redrawn from a Poisson law of mean u, and p
becomes p times the ratio, divided by the new total. For independent samples, given the total, this
is the multinomial bootstrap; with design effect D the variance of a count k is D k. Functions that
were not met stay so: a bootstrap knows nothing of them.

*Parts.* Disjoint parts of a run are drawn from effective counts rounded to whole units (at least
one), without replacement (multivariate hypergeometric). For independent samples a unit is a sample
and the parts are exactly independent samples of the smaller size. Where samples are dependent, a
unit stands for D samples that go together: approximate, as D is estimated. Exact probabilities have
no parts: a part is an independent multinomial sample of that size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from simprior.analysis.sides import Joint, Side
from simprior.boolean.counts import FunctionCounts
from simprior.boolean.merge import Profile
from simprior.boolean.rows import Rows
from simprior.boolean.truthtable import unpack
from simprior.errors import InputError
from simprior.rng import generator

_HYPERGEOMETRIC_LIMIT = 10**9  # numpy's; above it units are drawn independently
_MANY = 64  # functions of equal counts that are drawn as one multinomial
_TAIL = 1e-12


@dataclass(frozen=True)
class Part:
    """A part of a run: (U,) normalised estimates ``p``, effective counts ``units`` and their total
    ``size`` (inf for exact probabilities); ``rest`` is the part's share that is not listed."""

    p: np.ndarray
    units: np.ndarray
    size: float
    rest: float = 0.0


def split_halves(counts: FunctionCounts, seed: int = 0) -> tuple[FunctionCounts, FunctionCounts]:
    """Two halves of a run of independent networks, as counts; their sizes differ by 1 at most.

    Every way to deal the samples out is equally likely, so both halves are independent samples.

    Raises
    ------
    InputError
        Samples that share hidden layers (their table does not say which counts belong together), a
        table that is not whole, or fewer than two samples.
    """
    if not counts.iid or counts.orbit is not None or len(counts) < counts.functions:
        raise InputError(
            "a run that shares hidden layers, is pooled, or was loaded in part",
            "the whole table of independent networks", "sample with --heads 1",
        )  # fmt: skip
    available = np.append(counts.count, counts.unlisted)
    total = int(available.sum())
    if total < 2:
        raise InputError(f"a run of {total} samples", "two at least", "sample more")
    rng = generator(seed, "compare/halves")
    first = _take(available, total // 2, rng)
    return _subset(counts, first), _subset(counts, available - first)


def _subset(counts: FunctionCounts, dealt: np.ndarray) -> FunctionCounts:
    """The run with ``dealt`` (F + 1,) samples of each function and of those not listed."""
    total, k = int(dealt.sum()), dealt[:-1]
    order = np.argsort(-k, kind="stable")
    order = order[k[order] > 0]
    words, k = np.ascontiguousarray(counts.words[order]), k[order]
    ones = np.zeros((counts.m + 1, 2), np.int64)
    for first in range(0, len(k), 1 << 18):
        block = slice(first, first + (1 << 18))
        t = unpack(words[block], counts.m).sum(axis=1, dtype=np.int64)
        np.add.at(ones, t, np.stack([k[block], k[block]], axis=1))
    return FunctionCounts(
        counts.m, counts.n, Rows(words, k, k.copy(), k.copy()), Profile.of(k, k, k), total, total,
        ones=ones, info=counts.info,
    )  # fmt: skip


def unit_total(side: Side) -> float:
    """Number of whole units of a side, inf for exact probabilities."""
    return np.inf if side.exact else float(_all_units(side).sum())


def disjoint_parts(
    side: Side, row: np.ndarray, size: float, rng: np.random.Generator
) -> list[Part]:
    """Two disjoint parts of ``size`` units, spread over the rows of a joint table.

    ``row`` (U,) is the side's row of each joint function, -1 where it has none.
    """
    found = []
    if side.exact:
        for _ in range(2):
            draw = side.p * np.inf if np.isinf(size) else rng.multinomial(int(size), side.p)
            values = side.p if np.isinf(size) else draw / size
            found.append((values, np.asarray(draw, float), 0.0))
    else:
        left = _all_units(side)
        worth = (np.append(side.p, side.rest) if side.rest > 0 else side.p) / left
        for _ in range(2):
            taken = _take(left, int(min(size, left.sum())), rng)
            left = left - taken
            values = worth * taken
            values = values / values.sum()
            rest = float(values[-1]) if side.rest > 0 else 0.0
            found.append((values[: len(side.p)], taken[: len(side.p)].astype(float), rest))
    met = row >= 0
    return [
        Part(np.where(met, p[row], 0.0), np.where(met, units[row], 0.0), size, rest)
        for p, units, rest in found
    ]


def _all_units(side: Side) -> np.ndarray:
    """Whole units of each function, and last of those that are not listed, if any."""
    units = _whole(side.units)
    return np.append(units, _whole(np.array(side.rest * side.set_size))) if side.rest > 0 else units


def _whole(units: np.ndarray) -> np.ndarray:
    return np.maximum(np.rint(units), 1).astype(np.int64)


def _take(available: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """(F,) numbers of units taken when ``size`` of them are drawn without replacement."""
    total = int(available.sum())
    if total < _HYPERGEOMETRIC_LIMIT:
        return rng.multivariate_hypergeometric(available, size, method="marginals")
    return rng.binomial(available, size / total)


class Bootstrap:
    """Replicates of the distributions of a joint table.

    Functions with the same four numbers are drawn together: a cell of M functions with effective
    counts (ka, kb) gets a multinomial number of functions for every pair of Poisson counts. Tables
    of millions of rare functions have few cells.
    """

    def __init__(self, joint: Joint) -> None:
        columns = joint.columns
        order = np.lexsort(columns)
        columns = columns[:, order]
        new = np.ones(len(order), bool)
        new[1:] = (columns[:, 1:] != columns[:, :-1]).any(axis=0)
        starts = np.flatnonzero(new)
        number = np.diff(np.append(starts, len(order)))
        cells = columns[:, starts]
        grids = []
        single = np.ones(len(number), bool)
        for at in np.flatnonzero(number >= _MANY):
            pa, ka, pb, kb = map(float, cells[:, at])
            found = _grid(pa, ka, pb, kb, int(number[at]))
            if found is not None:
                grids.append(found)
                single[at] = False
        self._rows = np.repeat(cells[:, single], number[single], axis=1)
        self._grids = grids

    def replicates(
        self, number: int, rng: np.random.Generator
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """(pa, pb, multiplicity) of each replicate, with both distributions normalised."""
        pa, ka, pb, kb = self._rows
        for _ in range(number):
            xs, ys = [redraw(pa, ka, rng)], [redraw(pb, kb, rng)]
            ws: list[np.ndarray] = [np.ones(len(pa))]
            for x, y, law, functions in self._grids:
                drawn = rng.multinomial(functions, law)
                used = drawn > 0
                xs.append(x[used])
                ys.append(y[used])
                ws.append(drawn[used])
            x, y, w = np.concatenate(xs), np.concatenate(ys), np.concatenate(ws)
            total_x, total_y = float(x @ w), float(y @ w)
            if total_x > 0 and total_y > 0:
                yield x / total_x, y / total_y, w


def redraw(p: np.ndarray, units: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """p times Poisson(units) / units; p itself where units are 0 or infinite."""
    noisy = (units > 0) & np.isfinite(units)
    k = np.where(noisy, units, 1.0)
    return np.where(noisy, p * rng.poisson(k) / k, p)


def _grid(
    pa: float, ka: float, pb: float, kb: float, functions: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int] | None:
    """(x, y, probability) of all pairs of Poisson counts; None if there are more pairs than
    functions."""
    a, law_a = _poisson(pa, ka)
    b, law_b = _poisson(pb, kb)
    if len(a) * len(b) > functions:
        return None
    law = np.outer(law_a, law_b).ravel()
    return np.repeat(a, len(b)), np.tile(b, len(a)), law / law.sum(), functions


def _poisson(p: float, units: float) -> tuple[np.ndarray, np.ndarray]:
    from scipy.stats import poisson

    if units == 0 or np.isinf(units):
        return np.array([p]), np.ones(1)
    k = np.arange(int(poisson.isf(_TAIL, units)) + 2)
    return p * k / units, poisson.pmf(k, units)
