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

Does a measure order pairs of networks rightly, and in the worst environment? (Dziugaite et al.,
NeurIPS 2020.)

An environment is a hyperparameter, two of its values and a setting of all the others; its pairs are
networks of the two values. The sign error of a measure there is the weighted mean of
(1 - sign(difference of measures) sign(difference of errors)) / 2: 0 if it orders all pairs, 1/2 for
a coin, 1 if it orders them all wrongly (ties count 1/2). Robust means the worst environment, not
the mean.

A pair whose errors differ by chance says nothing. With errors from t test inputs, Hoeffding's
inequality bounds the chance that each is off by half the difference d: both are within it with
probability p = max(0, 1 - 2 exp(-2 t (d/2)^2))^2, and a pair weighs 2 max(0, p - 1/2): pairs more
likely than not to be of chance weigh nothing (as in the code of the authors). Where outcomes
have no sampling error (Boolean functions, another outcome than the test error) the weight is 1 if
d > 0. Environments with fewer than ``least`` effective pairs, (sum of weights)^2 / (sum of squared
weights), are dropped.

Granulated tau, conditional information and sign errors, where hyperparameters vary.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.analysis.correlate import checks, kernels
from simprior.analysis.correlate.controls import Setup, settle_columns, size_column
from simprior.numerics import random as rng
from simprior.numerics.estimate import mean_stderr

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
    of_x, of_y = cells[measure].to_numpy(float), cells[y].to_numpy(float)
    for axis in (a for a in axes if a not in REPLICATES):
        taus, pairs = [], 0
        for group in _settings(cells, [a for a in axes if a != axis]):
            k = len(group)
            if k < 2:
                continue
            mu, g = of_x[group], of_y[group]
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
    mu, g = cells[measure].to_numpy(float), cells[y].to_numpy(float)
    sets = [s for size in (0, 1, 2) for s in itertools.combinations(axes, size)]
    held = [_held_fixed(cells, chosen) for chosen in sets]
    value, at = _least(mu, g, held)
    null = float(np.mean([_least(mu[rng.permutation(k)], g, held)[0] for _ in range(NULLS)]))
    given = ", ".join(sets[at]) if at >= 0 else ""
    return {"K": value, "given": given or "nothing", "null": null, "settings": k}


def _held_fixed(cells: pd.DataFrame, axes: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(setting (k,) of ``axes`` of each cell, group (S, S) of a pair by the settings of both)."""
    if not axes:
        return np.zeros(len(cells), np.int64), np.zeros((1, 1), np.int64)
    codes = [cells[a].astype("category").cat.codes.to_numpy(np.int64) for a in axes]
    values, setting = np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)
    key = np.zeros((len(values), len(values)), np.int64)
    for code, column in zip(codes, values.T, strict=True):
        levels = int(code.max()) + 1
        pair = column[:, None] * levels + column
        key = key * levels**2 + pair
    return setting.ravel(), np.unique(key, return_inverse=True)[1].reshape(key.shape)


def _least(
    mu: np.ndarray, g: np.ndarray, held: list[tuple[np.ndarray, np.ndarray]]
) -> tuple[float, int]:
    """(K, which of ``held`` attains it); (NaN, -1) if none gives a value."""
    best = (math.nan, -1)
    for at, (setting, group) in enumerate(held):
        value = normalised_information(kernels.sign_counts(mu, g, setting, group))
        if math.isfinite(value) and not value >= best[0]:
            best = (value, at)
    return best


def normalised_information(counts: np.ndarray) -> float:
    """I(a; b | group) / H(b | group), plug-in, of ``counts`` (groups, 2, 2) of binary a and b.

    NaN if H is 0 or nothing was counted.
    """
    counts = counts.reshape(-1, 4)
    counts = counts[counts @ np.ones(4, counts.dtype) > 0]
    if not len(counts):
        return math.nan
    joint = counts / float(counts.sum())
    p00, p01, p10, p11 = joint.T
    h_b = _entropy(np.stack([p00 + p10, p01 + p11], axis=1)) - _entropy(p00 + p01 + p10 + p11)
    if h_b < 1e-12:
        return math.nan
    of_a = np.stack([p00 + p01, p10 + p11], axis=1)
    h_ab = _entropy(joint) - _entropy(of_a)  # H(b | a, group)
    return float((h_b - h_ab) / h_b)


def _entropy(p: np.ndarray) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def _settings(frame: pd.DataFrame, axes: Sequence[str]) -> list[np.ndarray]:
    """Rows of each setting of ``axes``, in the order of their values; rows without one are out."""
    if not axes:
        return [np.arange(len(frame))]
    number = frame.groupby(list(axes), sort=True).ngroup().to_numpy()
    order = np.argsort(number, kind="stable")
    order = order[number[order] >= 0]
    return np.split(order, np.flatnonzero(np.diff(number[order])) + 1) if len(order) else []


LEAST = 10.0


def hoeffding_weights(difference: np.ndarray, test_size: np.ndarray | float | None) -> np.ndarray:
    """Weight of pairs whose test errors differ by ``difference``; see the module docstring."""
    d = np.abs(np.asarray(difference, float))
    if test_size is None:
        return (d > 0).astype(float)
    chance = 2.0 * np.exp(-2.0 * np.asarray(test_size, float) * (d / 2.0) ** 2)
    return np.maximum(0.0, 2.0 * np.maximum(0.0, 1.0 - chance) ** 2 - 1.0)


def sign_errors(
    frame: pd.DataFrame,
    measure: str,
    y: str,
    axes: Sequence[str],
    *,
    sign: float = 1.0,
    least: float = LEAST,
) -> list[dict[str, Any]]:
    """A row an environment with enough effective pairs.

    ``sign`` +1: a larger measure should mean a larger error. The column of
    :data:`simprior.analysis.measure.registry.SAMPLED` gives the number of test inputs of an outcome
    that is a test error, unless ``n`` > 0 (all bit strings: no sampling error).

    Returns
    -------
    list of dict
        ``axis``, ``values``, ``setting`` (of the other axes), ``sign_error``, ``pairs``,
        ``effective``.
    """
    frame = frame[frame[[measure, y]].notna().all(axis=1)]
    column = size_column(frame, y)
    size = None if column is None else frame[column].to_numpy(float)
    of_x, of_y = frame[measure].to_numpy(float), frame[y].to_numpy(float)
    rows = []
    for axis in (a for a in axes if a not in REPLICATES):
        others = [a for a in axes if a != axis]
        level = frame.groupby(axis, sort=True).ngroup().to_numpy()
        for group in _settings(frame, others):
            parts = [group[level[group] == k] for k in np.unique(level[group]) if k >= 0]
            for first, second in itertools.combinations(parts, 2):
                mu = np.subtract.outer(of_x[first], of_x[second]).ravel()
                g = np.subtract.outer(of_y[first], of_y[second]).ravel()
                tests = None
                if size is not None:
                    tests = np.minimum.outer(size[first], size[second]).ravel()
                weight = hoeffding_weights(g, tests)
                total, squares = weight.sum(), (weight**2).sum()
                effective = total**2 / squares if squares > 0 else 0.0
                if effective < least:
                    continue
                wrong = 0.5 * (1.0 - sign * np.sign(mu) * np.sign(g))
                u, v = (_text(frame[axis].iloc[part[0]]) for part in (first, second))
                rows.append(
                    {
                        "axis": axis,
                        "values": f"{u} / {v}",
                        "setting": ", ".join(
                            f"{a}={_text(frame[a].iloc[group[0]])}" for a in others
                        ),
                        "sign_error": float((weight * wrong).sum() / total),
                        "pairs": len(weight),
                        "effective": float(effective),
                    }
                )
    return rows


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean, quantiles and worst of the sign errors over environments, and where the worst is."""
    values = np.array([row["sign_error"] for row in rows])
    worst = rows[int(values.argmax())]
    place = f"{worst['axis']}: {worst['values']}"
    return {
        "environments": len(rows),
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "p90": float(np.quantile(values, 0.9)),
        "worst": float(values.max()),
        "worst_at": place + (f"; {worst['setting']}" if worst["setting"] else ""),
    }


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def controlled_analyses(
    part: pd.DataFrame,
    setup: Setup,
    name: str,
    taus: Mapping[str, float],
    rows: dict[str, list[dict[str, Any]]],
    notes: list[str],
) -> None:
    """Granulated tau, conditional information and sign errors, where hyperparameters vary.

    ``taus`` are Kendall's tau of the measures here: their signs are the orders that the measures
    are taken to predict. A measure whose tau was refused (NaN) has no sign errors; the notes of
    its coefficient say why.
    """
    axes = checks.varying_axes(part, setup.by)
    if not axes:
        return
    cells = settings_means(part, setup.measures, setup.y, axes)
    random = rng.generator(setup.seed, f"correlate/information/{name}")
    for measure in setup.measures:
        for axis, psi, error, groups, pairs in granulated_tau(cells, measure, setup.y, axes):
            row = {"measure": measure, "axis": axis, "psi": psi, "psi_stderr": error}
            rows["granulated"].append(row | {"groups": groups, "pairs": pairs})
        found = conditional_information(cells, measure, setup.y, axes, random)
        if found is not None:
            rows["conditional_mi"].append({"measure": measure, **found})
        if math.isnan(taus[measure]):
            continue
        direction = -1 if taus[measure] < 0 else 1
        errors = sign_errors(part, measure, setup.y, axes, sign=direction)
        if errors:
            row = {"measure": measure, "expected_sign": direction}
            rows["environments"].append(row | summarise(errors))
        elif measure == setup.measures[0]:
            notes.append(
                f"{name + ': ' if name else ''}no sign errors: no two settings that differ in one "
                f"hyperparameter have {LEAST:g} effective pairs; measure more networks a setting"
            )
