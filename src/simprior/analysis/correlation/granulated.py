"""Granulated rank correlation and conditional mutual information (Jiang et al., ICLR 2020).

A measure can correlate with the error only because both follow one hyperparameter. Two remedies:

* psi_i (their eq. 5): Kendall's tau between networks that differ in hyperparameter i only, averaged
  over the settings of the others; Psi (eq. 6) is the mean over hyperparameters. A pair with equal
  measures or errors counts 0, as in their eq. 2. The data seed is held fixed as the others are, but
  is no hyperparameter itself: there is no psi of it.
* K (eqs. 7 to 10): mutual information between the signs of the differences of measure and of error
  over pairs of networks, given the hyperparameters in a set S, over the conditional entropy of the
  sign of the error; the least over all S of at most two hyperparameters. 1: the measure orders the
  errors whatever one conditions on; 0: it does not. K is positive for finite samples even without
  association; ``null`` is its mean over shuffled measures.

Networks with the same hyperparameters (other members, other seeds) are averaged first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.analysis.correlation.ties import settle_columns
from simprior.estimate import mean_stderr

if TYPE_CHECKING:
    import pandas as pd

REPLICATES = frozenset({"data_seed"})
"""Axes that repeat an experiment: conditioned on, not compared."""
NULLS = 20
MOST_PAIRS = 4_000_000


def settings_means(
    frame: pd.DataFrame, measures: Sequence[str], y: str, axes: Sequence[str]
) -> pd.DataFrame:
    """Means of measures and outcome over the networks with the same values of ``axes``."""
    columns = [*measures, y]
    means = frame.groupby(list(axes), sort=True)[columns].mean().reset_index()
    return settle_columns(means)  # means of equal numbers differ in their last bits


def granulated_tau(
    cells: pd.DataFrame, measure: str, y: str, axes: Sequence[str]
) -> list[tuple[str, float, float, int, int]]:
    """psi_i and Psi of one measure.

    Returns
    -------
    list of (axis, psi, stderr, groups, pairs)
        One entry an axis, and last ``("Psi", mean, stderr, groups, pairs)``. The error of psi_i is
        that of a mean over the settings of the other axes (NaN for a single one; not 0 where all
        agree, see ``estimate.mean_stderr``), that of Psi
        follows from those as if they were independent.
    """
    rows, known = [], cells[[measure, y]].notna().all(axis=1)
    cells = cells[known]
    for axis in (a for a in axes if a not in REPLICATES):
        others = [a for a in axes if a != axis]
        groups = [g for _, g in cells.groupby(others)] if others else [cells]
        taus, pairs = [], 0
        for group in groups:
            k = len(group)
            if k < 2:
                continue
            mu, g = group[measure].to_numpy(float), group[y].to_numpy(float)
            product = np.sign(mu[:, None] - mu) * np.sign(g[:, None] - g)
            taus.append(product.sum() / (k * (k - 1)))
            pairs += k * (k - 1) // 2
        mean = float(np.mean(taus)) if taus else math.nan
        spread = mean_stderr(np.array(taus), -1.0, 1.0)
        rows.append((axis, mean, spread, len(taus), pairs))
    good = [row for row in rows if math.isfinite(row[1])]
    if good:
        error = math.sqrt(sum(row[2] ** 2 for row in good)) / len(good)
        total = float(np.mean([row[1] for row in good]))
        rows.append(("Psi", total, error, sum(r[3] for r in good), sum(r[4] for r in good)))
    return rows


def conditional_information(
    cells: pd.DataFrame, measure: str, y: str, axes: Sequence[str], rng: np.random.Generator
) -> dict[str, Any] | None:
    """K of one measure, the set S that attains it, and ``null``; None for too many pairs.

    Ordered pairs with different errors and measures are used (Jiang et al., section 2.2.3).
    """
    cells = cells[cells[[measure, y]].notna().all(axis=1)]
    k = len(cells)
    if k < 3 or k * (k - 1) > MOST_PAIRS:
        return None
    i, j = np.nonzero(~np.eye(k, dtype=bool))
    codes = {a: cells[a].astype("category").cat.codes.to_numpy(np.int64) for a in axes}
    pair = {a: c[i] * (c.max() + 1) + c[j] for a, c in codes.items()}
    sets = [s for size in (0, 1, 2) for s in itertools.combinations(axes, size)]
    mu, g = cells[measure].to_numpy(float), cells[y].to_numpy(float)
    value, chosen = _least(mu, g, i, j, pair, sets)
    null = float(np.mean([
        _least(mu[rng.permutation(k)], g, i, j, pair, sets)[0] for _ in range(NULLS)
    ]))  # fmt: skip
    return {"K": value, "given": ", ".join(chosen) or "nothing", "null": null, "settings": k}


def _least(
    mu: np.ndarray, g: np.ndarray, i: np.ndarray, j: np.ndarray, pair: dict[str, np.ndarray],
    sets: list[tuple[str, ...]],
) -> tuple[float, tuple[str, ...]]:  # fmt: skip
    a, b = np.sign(mu[i] - mu[j]), np.sign(g[i] - g[j])
    used = (a != 0) & (b != 0)
    best: tuple[float, tuple[str, ...]] = (math.nan, ())
    for chosen in sets:
        key = np.zeros(len(i), np.int64)
        for axis in chosen:
            key = key * (int(pair[axis].max()) + 1) + pair[axis]
        value = normalised_information(a[used] > 0, b[used] > 0, key[used])
        if math.isfinite(value) and not value >= best[0]:
            best = (value, chosen)
    return best


def normalised_information(a: np.ndarray, b: np.ndarray, given: np.ndarray) -> float:
    """I(a; b | given) / H(b | given) of binary (N,) arrays, plug-in; NaN if H is 0."""
    if not len(a):
        return math.nan
    _, group = np.unique(given, return_inverse=True)
    joint = np.zeros((int(group.max()) + 1, 2, 2))
    np.add.at(joint, (group, a.astype(int), b.astype(int)), 1.0)
    joint /= len(a)
    h_b = _entropy(joint.sum(axis=1)) - _entropy(joint.sum(axis=(1, 2)))
    if h_b < 1e-12:
        return math.nan
    h_ab = _entropy(joint) - _entropy(joint.sum(axis=2))  # H(b | a, given)
    return float((h_b - h_ab) / h_b)


def _entropy(p: np.ndarray) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())
