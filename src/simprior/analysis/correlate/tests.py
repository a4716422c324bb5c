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

What errors of measurement take from a coefficient (Spearman 1904).

What predicts the error without a measure: class imbalance; ones and entropy of the outputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from simprior.analysis.correlate import checks, kernels
from simprior.analysis.correlate.controls import Setup, columns_of, sample_of, size_column
from simprior.analysis.correlate.intervals import (
    BLOCK,
    Sample,
    estimate,
    interval,
    permuted,
    resamples,
)
from simprior.numerics import random as rng
from simprior.numerics.estimate import share_stderr

if TYPE_CHECKING:
    import pandas as pd

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
    sample: Sample,
    kind: str,
    fixed: np.ndarray,
    moved: np.ndarray,
    number: int,
    rng: np.random.Generator,
) -> float:
    """p of ``sample``, whose outcomes are ``fixed + moved``, when ``moved`` is permuted."""
    observed = float(_statistic(np.array([estimate(sample, kind)]))[0])
    if not np.isfinite(observed):
        return float("nan")
    hits, least = 0, observed * (1 - _ROUNDING)
    for first in range(0, number, BLOCK):
        source = permutations(sample.cluster, min(BLOCK, number - first), rng)
        found = _statistic(permuted(sample, kind, (fixed + moved[source]).T))
        hits += int((found >= least).sum())
    return (1.0 + hits) / (1.0 + number)


def permutations(cluster: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """(P, n) whose outcome each point gets when the clusters are permuted, and the members of
    each."""
    members = np.argsort(cluster, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(cluster))])
    return np.asarray(kernels.permutations(members, start, number, rng))


def _statistic(found: np.ndarray) -> np.ndarray:
    """(P,) studentised coefficients from coefficients and errors (P, 2)."""
    return np.abs(found[:, 0]) / np.maximum(found[:, 1], 1e-12)


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


LEAST_RELIABILITY = 0.3
"""Below, nothing is disattenuated: the error of the reliability itself would rule the result."""


def attenuation(
    part: pd.DataFrame, measure: str, setup: Setup, row: dict[str, Any]
) -> dict[str, float]:
    """Reliabilities and the coefficient that error-free columns would have."""
    if checks.share_inputs(part, measure, setup.y):  # their errors are not independent
        ends = (f"disattenuated{end}" for end in ("", "_low", "_high"))
        return dict.fromkeys(("reliability", "reliability_y", *ends), math.nan)
    of_x = _reliability(part, measure, _errors(part, measure))
    of_y = _reliability(part, setup.y, _errors(part, setup.y))
    out = {"reliability": of_x, "reliability_y": of_y}
    known = [r for r in (of_x, of_y) if math.isfinite(r)]
    usable = known and min(known) >= LEAST_RELIABILITY
    scale = math.sqrt(math.prod(known)) if usable else math.nan
    for end in ("", "_low", "_high"):
        value = row[f"pearson{end}"] / scale if math.isfinite(scale) else math.nan
        out[f"disattenuated{end}"] = float(np.clip(value, -1, 1))
    return out


def _errors(part: pd.DataFrame, name: str) -> np.ndarray | None:
    """Standard errors of a column: its own, or binomial for a share of a sample of test inputs."""
    if f"{name}_stderr" in part:
        return part[f"{name}_stderr"].to_numpy(float)
    column = size_column(part, name)
    if column is None:
        return None
    share = part[name].to_numpy(float)
    return share_stderr(share, part[column].to_numpy(float))


def _reliability(part: pd.DataFrame, name: str, error: np.ndarray | None) -> float:
    """1 - mean squared error / variance, at least 0; NaN where the error is unknown."""
    if error is None:
        return math.nan
    value = part[name].to_numpy(float)
    good = np.isfinite(value) & np.isfinite(error)
    if good.sum() < 2 or np.ptp(value[good]) == 0:
        return math.nan
    return max(0.0, 1.0 - float((error[good] ** 2).mean() / value[good].var(ddof=1)))


BASELINES = ("majority_error", "ones", "entropy")


def baselines(part: pd.DataFrame, setup: Setup, name: str) -> Iterator[dict[str, Any]]:
    """What each baseline reaches alone, and what each measure adds to it.

    ``majority_error`` is of the labels; ``ones`` and ``entropy`` are of each network's outputs: of
    their imbalance, and nothing else. Rows: ``measure``, ``given`` (the baseline, or
    empty for a baseline alone), ``spearman`` (partial, given it) with ``_stderr``, ``_low``,
    ``_high``.
    """
    for base in BASELINES:
        if base == setup.y or base not in part or part[base].nunique() < 2:
            continue
        given = replace(setup, controls=[base])
        random = rng.generator(setup.seed, f"correlate/baseline/{name}/{base}")
        sample, _ = sample_of(part, base, given)
        if checks.too_few(sample.points, sample.clusters if sample.points else 0):
            continue
        draws = resamples(sample.clusters, setup.bootstrap, random)
        alone = interval(sample.without_controls(), "spearman", draws, setup.level)
        yield {"measure": base, "given": "", **columns_of("spearman", alone)}
        for measure in setup.measures:
            if measure == base:
                continue
            sample, _ = sample_of(part, measure, given)
            few = checks.too_few(sample.points, sample.clusters if sample.points else 0)
            if few or np.ptp(sample.x) == 0:
                continue
            draws = resamples(sample.clusters, setup.bootstrap, random)
            found = interval(sample, "spearman", draws, setup.level)
            yield {"measure": measure, "given": base, **columns_of("spearman", found)}
