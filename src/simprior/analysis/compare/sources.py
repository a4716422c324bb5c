"""The two sides of a comparison, and the table that joins their functions.

A side gives every function an estimate p and its *effective count* u = p^2 / Var(p): the number of
independent samples that would know p as well (up to the factor 1 - p). For independent networks u
is the count; where hidden layers are shared it is the count over the design effect; for a weighted
posterior it is p times the effective sample size; for known probabilities it is infinite.
Everything in a comparison (bootstrap, split halves, thresholds) works on p and u. No function ever
gets a count that it does not have.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.truthtable import check_words, to_hex
from simprior.checks import real_array, whole
from simprior.display import Shown, short
from simprior.errors import InputError
from simprior.numerics.estimate import clopper_pearson


@dataclass(frozen=True, repr=False)
class WeightedFunctions(Shown):
    """Probabilities of functions from weighted samples, or known exactly.

    Attributes
    ----------
    m, n : int
        Number of inputs; number of bits (0 when the inputs are not all bit strings).
    words : (F, W) uint64
        Packed truth tables, each once.
    p : (F,) float64
        Estimates, positive, summing to 1 (normalised weights).
    ess : float or (F,) array
        Effective number of independent samples behind the table, or behind each function;
        ``inf`` for exact probabilities.

    Raises
    ------
    InputError
        If the columns do not belong together, p does not sum to 1, or ess is not positive.
    """

    m: int
    words: np.ndarray
    p: np.ndarray
    ess: float | np.ndarray
    n: int = 0
    info: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.p)

    def lines(self) -> list[str]:
        """How many functions, from how many effective samples."""
        ess = np.unique(self.ess)
        size = "exact" if math.isinf(ess[0]) else f"{ess[0]:,.0f} effective samples"
        frame = self.to_frame(top=2)
        top = ", ".join(f"{short(f)} {p:.3g}" for f, p in zip(frame.function, frame.p, strict=True))
        return [
            f"WeightedFunctions: {len(self):,} functions on m={self.m} inputs",
            f"{size}{' or more' if len(ess) > 1 else ''}",
            f"most probable: {top}",
        ]

    def to_frame(self, top: int | None = 20) -> pd.DataFrame:
        """The ``top`` most probable functions (None: all): function (hex), p."""
        order = np.argsort(-self.p, kind="stable")[:top]
        return pd.DataFrame({"function": to_hex(self.words[order], self.m), "p": self.p[order]})

    def __post_init__(self) -> None:
        object.__setattr__(self, "m", whole("m", self.m, 1))
        object.__setattr__(self, "n", whole("n", self.n, 0, 64))
        object.__setattr__(self, "words", check_words(self.words, self.m))
        p, ess = real_array("p", self.p), real_array("ess", self.ess)
        if p.shape != (len(self.words),) or not (p > 0).all() or not abs(p.sum() - 1) < 1e-6:
            raise InputError(
                f"p of shape {p.shape} with sum {p.sum():g}",
                f"{len(self.words)} positive numbers that sum to 1",
                "drop functions of weight 0 and divide the weights by their sum",
            )
        if ess.shape not in ((), p.shape) or not (ess > 0).all():
            raise InputError(
                f"ess of shape {ess.shape}",
                f"a positive number or {len(p)} of them",
                "pass the effective sample size",
            )
        order = sorted_words(self.words)
        if (self.words[order[1:]] == self.words[order[:-1]]).all(axis=1).any():
            raise InputError("a function given twice", "each function once", "add its weights up")
        object.__setattr__(self, "p", p)
        object.__setattr__(self, "ess", ess if ess.ndim else float(ess))


@dataclass(frozen=True)
class Side:
    """One side of a comparison: ``p`` (F,), ``units`` (F,) effective counts (module docstring),
    ``set_size`` the effective number of samples for the probability of a set of functions,
    ``unseen_size`` that for a function that was not met, ``rest`` the share of samples whose
    functions the table does not list (``p`` sums to 1 - ``rest``)."""

    m: int
    n: int
    words: np.ndarray
    p: np.ndarray
    units: np.ndarray
    set_size: float
    unseen_size: float
    source: FunctionCounts | WeightedFunctions
    rest: float = 0.0

    @property
    def exact(self) -> bool:
        """Whether the probabilities are known without error."""
        return math.isinf(self.set_size)

    def intervals(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """(low, high) of P(f): Clopper-Pearson, on effective counts where samples are dependent."""
        if isinstance(self.source, FunctionCounts) and np.array_equal(
            self.units, self.source.count / self.source.design_effects
        ):
            return self.source.intervals(level)
        if self.exact:
            return self.p, self.p
        return clopper_pearson(self.units, np.maximum(self.units / self.p, self.units), level)

    def unseen_bound(self, level: float) -> float:
        """Upper bound of P(f) of a function that was not met; or not listed: all unlisted samples
        may have given it."""
        if self.exact:
            return 0.0
        if isinstance(self.source, FunctionCounts) and not self.source.iid:
            return self.source.unmet_bound(level)
        count = np.array(self.rest * self.unseen_size)
        return float(clopper_pearson(count, self.unseen_size, level)[1])


def side_of(source: Any, name: str) -> Side:
    """The side for function counts or weighted functions; ``name`` is for messages.

    Raises
    ------
    InputError
        Another type; counts that are pooled over symmetries, subsampled by hash (``keep`` < 1),
        loaded in part (``top``), or empty.
    """
    if isinstance(source, WeightedFunctions):
        ess = np.broadcast_to(np.asarray(source.ess, float), source.p.shape)
        size = float(1.0 / np.sum(source.p / ess)) if np.isfinite(ess).all() else math.inf
        size = math.inf if np.isinf(ess).any() else size
        lowest = math.inf if math.isinf(size) else float(ess.min())
        return Side(
            source.m, source.n, source.words, source.p, source.p * ess, size, lowest, source
        )
    if not isinstance(source, FunctionCounts):
        raise InputError(
            f"{name} of type {type(source).__name__}",
            "FunctionCounts or WeightedFunctions",
            "load a run with FunctionCounts.load",
        )
    _check_whole(source, name)
    effect, set_effect, unseen_effect = _effects(source)
    return Side(
        source.m,
        source.n,
        source.words,
        source.p,
        source.count / effect,
        source.samples / set_effect,
        source.samples / unseen_effect,
        source,
        source.unlisted / source.samples,
    )


def _check_whole(counts: FunctionCounts, name: str) -> None:
    if counts.orbit is not None:
        raise InputError(
            f"{name}: counts of symmetry classes",
            "counts of functions",
            "pass the counts themselves, not their .pooled table",
        )
    if counts.keep < 1:
        raise InputError(
            f"{name}: a table that keeps {counts.keep:g} of the functions",
            "all functions",
            "sample again without --keep",
        )
    if not len(counts) or len(counts) < counts.functions:
        raise InputError(
            f"{name}: {len(counts)} of {counts.functions} functions",
            "the whole table",
            "load the run without top",
        )


def _effects(counts: FunctionCounts) -> tuple[np.ndarray, float, float]:
    """Design effects of single functions, of sets of functions, of functions not met.

    A table has no sums over hidden draws for sets. Their effect is taken as the largest of the mean
    over functions (by mass), that of the constants, and samples / ess if the run reports an
    effective sample size in ``info["posterior"]["ess"]``. Samples without clusters have
    samples / ess throughout.
    """
    ess = (counts.info.get("posterior") or {}).get("ess")
    known = isinstance(ess, int | float) and 0 < ess < counts.samples
    effect = counts.samples / float(ess) if known and ess is not None else 1.0
    if counts.iid:
        return np.full(len(counts), effect), effect, effect
    effects = counts.design_effects
    mean = float(np.average(effects, weights=counts.count))
    rare = effects[counts.rows.clusters == counts.rows.clusters.min()]
    largest = max(mean, counts.constant_design_effect(), effect)
    largest *= 2 if counts.mirror else 1  # a set may have a function and its mirror
    return effects, largest, float(rare.mean())


@dataclass(frozen=True)
class Joint:
    """All functions of two sides: ``words`` (U, W); (U,) estimates ``pa``, ``pb`` and effective
    counts ``ka``, ``kb``, 0 where not met; rows ``row_a``, ``row_b`` of the sides, -1 likewise.
    ``rest_a``, ``rest_b``: (probability, effective count) of what a side does not list."""

    words: np.ndarray
    pa: np.ndarray
    ka: np.ndarray
    pb: np.ndarray
    kb: np.ndarray
    row_a: np.ndarray
    row_b: np.ndarray
    rest_a: tuple[float, float] = (0.0, 0.0)
    rest_b: tuple[float, float] = (0.0, 0.0)

    @property
    def columns(self) -> np.ndarray:
        """(4, U') pa, ka, pb, kb; what a side does not list is one more function, of its own."""
        rows = [np.stack([self.pa, self.ka, self.pb, self.kb])]
        if self.rest_a[0] > 0:
            rows.append(np.array([[*self.rest_a, 0.0, 0.0]]).T)
        if self.rest_b[0] > 0:
            rows.append(np.array([[0.0, 0.0, *self.rest_b]]).T)
        return np.concatenate(rows, axis=1)


def join(a: Side, b: Side) -> Joint:
    """The union of the functions of two sides, by ascending truth table."""
    words = np.concatenate([a.words, b.words])
    order = sorted_words(words)
    ordered = words[order]
    new = np.ones(len(order), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    group = np.empty(len(order), np.int64)
    group[order] = np.cumsum(new) - 1
    row_a, row_b = (np.full(int(new.sum()), -1, np.int64) for _ in range(2))
    row_a[group[: len(a.words)]] = np.arange(len(a.words))
    row_b[group[len(a.words) :]] = np.arange(len(b.words))

    def spread(values: np.ndarray, row: np.ndarray) -> np.ndarray:
        return np.where(row >= 0, values[row], 0.0)

    return Joint(
        ordered[new],
        spread(a.p, row_a),
        spread(a.units, row_a),
        spread(b.p, row_b),
        spread(b.units, row_b),
        row_a,
        row_b,
        *((s.rest, s.rest * s.set_size if s.rest else 0.0) for s in (a, b)),
    )


def sorted_words(words: np.ndarray) -> np.ndarray:
    """Order of packed functions by truth table."""
    return np.lexsort(words.T[::-1])
