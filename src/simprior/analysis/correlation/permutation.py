"""Permutation tests of no association, and corrections for testing many measures.

What is permuted is whole training sets: the outcomes of the networks of one cluster go, in random
order, to the networks of another, also in random order. If measures and outcomes of different
clusters are independent, clusters have one size, and the networks of a cluster are exchangeable,
the test is exact. Clusters of other sizes take their outcomes in turn
(again from the first when they run out); the test is then approximate, which is why the statistic
is studentised: a permutation test of a studentised statistic is valid for large numbers even
without exchangeability (Janssen 1997; DiCiccio & Romano 2017).

Given controls, what is permuted is what the controls leave of the ranks of the outcome (Freedman &
Lane 1983; the partial coefficient is of ranks, as the partial Spearman coefficient is).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import stats

from simprior.analysis.correlation.intervals import Sample, estimate

_ROUNDING = 1e-9  # equal statistics may differ in their last bits


def p_value(sample: Sample, kind: str, number: int, rng: np.random.Generator) -> float:
    """Two-sided p of the coefficient ``kind`` (without controls), (1 + hits) / (1 + number).

    NaN if the statistic does not exist.
    """
    plain = sample.without_controls()
    return _test(plain, kind, np.zeros(sample.points), sample.y, number, rng)


def partial_p_value(sample: Sample, number: int, rng: np.random.Generator) -> float:
    """Two-sided p of the partial Spearman coefficient given the controls, as :func:`p_value`."""
    x, y, Z = (stats.rankdata(v, axis=0) for v in (sample.x, sample.y, sample.controls))
    cell, cells = sample.cells
    A = np.column_stack([cell[:, None] == np.arange(cells), Z]).astype(np.float64)
    fitted = A @ np.linalg.lstsq(A, y, rcond=None)[0]
    ranked = Sample(x, y, sample.cluster, Z, sample.cell)
    return _test(ranked, "pearson", fitted, y - fitted, number, rng)


def _test(
    sample: Sample, kind: str, fixed: np.ndarray, moved: np.ndarray, number: int,
    rng: np.random.Generator,
) -> float:  # fmt: skip
    """p of ``sample``, whose outcomes are ``fixed + moved``, when ``moved`` is permuted."""
    observed = _statistic(sample, kind)
    if not np.isfinite(observed):
        return float("nan")
    members = [np.flatnonzero(sample.cluster == g) for g in range(sample.clusters)]
    hits, least = 0, observed * (1 - _ROUNDING)
    for _ in range(number):
        y = fixed + permuted(moved, members, rng)
        hits += _statistic(replace(sample, y=y), kind) >= least
    return (1.0 + hits) / (1.0 + number)


def permuted(y: np.ndarray, members: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Outcomes after a permutation of the clusters, and of the members within each."""
    out = np.empty_like(y)
    for here, source in zip(members, rng.permutation(len(members)), strict=True):
        given = rng.permutation(members[source])
        out[here] = y[np.resize(given, len(here))]
    return out


def _statistic(sample: Sample, kind: str) -> float:
    value, error = estimate(sample, kind)
    if not np.isfinite(value):
        return float("nan")
    return abs(value) / max(error, 1e-12)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down adjustment (1979): controls the chance of any false claim. NaN stay NaN."""
    out = np.full(len(p), np.nan)
    good = np.flatnonzero(np.isfinite(p))
    order = good[np.argsort(p[good], kind="stable")]
    scaled = p[order] * np.arange(len(order), 0, -1)
    out[order] = np.minimum(np.maximum.accumulate(scaled), 1.0) if len(order) else scaled
    return out


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Benjamini & Hochberg's adjustment (1995) of the false discovery rate. NaN stay NaN."""
    from scipy.stats import false_discovery_control

    out = np.full(len(p), np.nan)
    good = np.isfinite(p)
    if good.any():
        out[good] = false_discovery_control(p[good])
    return out
