"""Resampling: intervals of correlation coefficients, and redrawn tables of functions.

*Coefficients* have intervals by a studentised bootstrap over clusters. Networks trained on one
training set are not independent, so whole clusters are drawn. On the scale z = atanh(r), where the
spread depends little on r, each resample gives the pivot |z* - z| / se(z*), and the interval is z
plus and minus its quantile times se(z) (symmetric bootstrap-t; Efron & Tibshirani 1993, section
12.5; Hall 1992, section 3.6). In simulations of normal data with 12 clusters of several points, or
16 to 40 of one, it covers 93 to 97 % of the time, where percentiles and equal-tailed intervals
cover too rarely; the tests check it. Where it covers less ``docs/correlation.md`` says.

*Tables of functions* have bootstrap replicates. The effective count u of a function is redrawn from
a Poisson law of mean u, and p becomes p times the ratio, divided by the new total. For independent
samples, given the total, this is the multinomial bootstrap; with design effect D the variance of a
count k is D k. Functions that were not met stay so: a bootstrap knows nothing of them.

*Parts.* Disjoint parts of a run are drawn from effective counts rounded to whole units (at least
one), without replacement (multivariate hypergeometric). For independent samples a unit is a sample
and the parts are exactly independent samples of the smaller size. Where samples are dependent, a
unit stands for D samples that go together: approximate, as D is estimated. Exact probabilities have
no parts: a part is an independent multinomial sample of that size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.stats import rankdata

from simprior.analysis.compare.sources import Joint, Side
from simprior.analysis.correlate import kernels as kernel
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.sampling.rows import Profile, Rows
from simprior.boolean.truthtable import unpack
from simprior.errors import InputError
from simprior.numerics.random import generator

KINDS = ("pearson", "spearman", "kendall")
BLOCK = 256
"""Resamples or permutations that are worked on at a time."""
_EDGE = 1.0 - 1e-12
_LOST = 0.1
_SMALLEST = 1e-9


@dataclass(frozen=True, eq=False)
class Sample:
    """``x`` (n,) measure, ``y`` (n,) outcome, ``controls`` (n, q), ``cluster`` (n,) 0 .. G - 1,
    ``cell`` (n,) 0 .. C - 1: points are compared within cells (none: all are in one)."""

    x: np.ndarray
    y: np.ndarray
    cluster: np.ndarray
    controls: np.ndarray
    cell: np.ndarray | None = None

    @cached_property
    def cells(self) -> tuple[np.ndarray, int]:
        """(cell of each point, number of cells)."""
        cell = np.zeros(self.points, np.int64) if self.cell is None else self.cell
        return cell, int(cell.max()) + 1

    @property
    def clusters(self) -> int:
        """G."""
        return int(self.cluster.max()) + 1

    @property
    def points(self) -> int:
        """n."""
        return len(self.x)

    @cached_property
    def columns(self) -> np.ndarray:
        """(n, 2 + q) columns, standardised for the arithmetic."""
        return standardised(np.column_stack([self.x, self.y, self.controls]).astype(np.float64))

    @cached_property
    def orders(self) -> np.ndarray:
        """(2 + q, n) sorting orders of the columns."""
        return np.argsort(self.columns, axis=0, kind="stable").T.copy()

    @cached_property
    def sizes(self) -> np.ndarray:
        """(G,) points in each cluster."""
        return np.bincount(self.cluster, minlength=self.clusters).astype(np.float64)

    @cached_property
    def signs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sums over pairs of clusters for Kendall's tau."""
        return kernel.pair_signs(
            self.columns[:, 0], self.columns[:, 1], self.cluster, self.clusters
        )

    @cached_property
    def pairs_x(self) -> np.ndarray:
        """(G,) for each cluster, the pairs of its points with any whose measure is another."""
        _, at, number = np.unique(self.columns[:, 0], return_inverse=True, return_counts=True)
        other = self.points - number[at]
        return np.bincount(self.cluster, other, minlength=self.clusters)

    def without_controls(self) -> Sample:
        """The same points without controls."""
        return Sample(self.x, self.y, self.cluster, np.zeros((self.points, 0)))


def standardised(V: np.ndarray) -> np.ndarray:
    """(n, c) columns of mean 0 and variance 1; a constant one is 0."""
    V = V - V.mean(axis=0)
    spread = np.sqrt((V**2).mean(axis=0))
    return V / np.where(spread > 0, spread, 1.0)


@dataclass(frozen=True)
class Coefficient:
    """A coefficient, its standard error and interval; NaN where there is none."""

    value: float
    stderr: float
    low: float
    high: float


NONE = Coefficient(np.nan, np.nan, np.nan, np.nan)


def coefficients(sample: Sample, kind: str, draws: np.ndarray) -> np.ndarray:
    """(B, 2) coefficients of ``kind`` and standard errors, for resamples ``draws`` (B, G).

    With controls ``pearson`` and ``spearman`` are partial (of values, of ranks); ``kendall`` takes
    none.
    """
    draws = np.ascontiguousarray(draws, np.float64)
    if kind == "kendall":
        signs, in_x, in_y = sample.signs
        blocks = np.array_split(draws, max(1, len(draws) // BLOCK))
        return np.concatenate(
            [kernel.kendall(b @ signs, b @ in_x, b @ in_y, sample.sizes, b) for b in blocks]
        )
    rank = kind == "spearman"
    cell, cells = sample.cells
    columns = np.ascontiguousarray(sample.columns)  # one kind of array: compiled once
    arrays = (columns, sample.orders, rank, sample.cluster, draws, cell, cells)
    return np.asarray(kernel.many_moments(*arrays))


def permuted(sample: Sample, kind: str, outcomes: np.ndarray) -> np.ndarray:
    """(P, 2) coefficients of ``kind`` and standard errors, with each of ``outcomes`` (n, P) in
    place of ``y``. ``spearman`` takes no controls here."""
    columns, y = sample.columns, standardised(np.hstack([outcomes, outcomes[:, -1:]]))[:, :-1]
    clusters = sample.clusters
    if kind == "kendall":
        y = np.ascontiguousarray(y.T)
        orders = np.argsort(y, axis=1, kind="stable")
        pull, in_y = kernel.permuted_pulls(
            columns[:, 0].copy(), sample.orders[0], y, orders, sample.cluster, clusters
        )
        in_x = np.broadcast_to(sample.pairs_x, pull.shape)
        return np.asarray(kernel.kendall(pull, in_x, in_y, sample.sizes, np.ones_like(pull)))
    if kind == "spearman":
        columns, y = rankdata(columns, axis=0), rankdata(y, axis=0)
    columns, y = np.ascontiguousarray(columns), np.ascontiguousarray(y)
    return np.asarray(kernel.permuted_moments(columns, y, sample.cluster, clusters, *sample.cells))


def estimate(sample: Sample, kind: str) -> tuple[float, float]:
    """(coefficient, standard error) of the sample itself."""
    value, error = coefficients(sample, kind, np.ones((1, sample.clusters)))[0]
    return float(value), float(error)


def resamples(clusters: int, number: int, rng: np.random.Generator) -> np.ndarray:
    """(B, G) how often each cluster is drawn in B bootstrap samples of G clusters."""
    return rng.multinomial(clusters, np.full(clusters, 1.0 / clusters), size=number)


def interval(sample: Sample, kind: str, draws: np.ndarray, level: float = 0.95) -> Coefficient:
    """Coefficient with a bootstrap-t interval of probability ``level`` from resamples ``draws``.

    A coefficient of exactly 1 or -1 (points on a line) has no spread that a bootstrap could see:
    its interval is NaN. So is that of a sample of which more than a tenth of the resamples have no
    coefficient (a constant column), since the quantiles would be of an arbitrary part.
    """
    value, error = estimate(sample, kind)
    if not np.isfinite(value):
        return NONE
    if abs(value) >= _EDGE or not error > 0:
        return Coefficient(value, error, np.nan, np.nan)
    found = coefficients(sample, kind, draws)
    z, se = _fisher(value, error)
    good = np.isfinite(found).all(axis=1) & (found[:, 1] > _SMALLEST)
    good &= np.abs(found[:, 0]) < _EDGE
    if good.mean() < 1 - _LOST:
        return Coefficient(value, error, np.nan, np.nan)
    zs, ses = _fisher(found[good, 0], found[good, 1])
    half = np.quantile(np.abs(zs - z) / ses, level) * se
    return Coefficient(value, error, float(np.tanh(z - half)), float(np.tanh(z + half)))


def _fisher(r: np.ndarray | float, error: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    r = np.clip(r, -_EDGE, _EDGE)
    return np.arctanh(r), error / (1.0 - r**2)


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
            "the whole table of independent networks",
            "sample with --heads 1",
        )
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
        counts.m,
        counts.n,
        Rows(words, k, k.copy(), k.copy()),
        Profile.of(k, k, k),
        total,
        total,
        ones=ones,
        info=counts.info,
    )


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
