"""The bootstrap, the permutation tests and the information of ``correlate``, against the plain way.

Run: ``python benchmarks/bench_correlate.py [--rows N] [--measures K] [--resamples B] [--whole]``.
The plain way is one resample, one permutation, one shuffle at a time (what simprior did before);
both ways give the same numbers bit for bit, which is checked here and in the tests. ``--whole``
also times all of ``correlate`` on the table: 560 rows and 20 measures are to take less than a
minute on one core (``taskset -c 0`` with OMP_NUM_THREADS=1).
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numba import njit

from simprior.analysis.correlate import correlate, environments, intervals, tests
from simprior.analysis.correlate.intervals import Sample
from simprior.analysis.measure.registry import MEASURES
from simprior.numerics.compiled import inner

_TINY, _ROUNDING = 1e-12, 1e-9


def table(rows: int, measures: int, seed: int = 1) -> tuple[pd.DataFrame, list[str]]:
    """Networks of 28 data sets in four sizes, with measures that follow the error more or less."""
    rng = np.random.default_rng(seed)
    at = np.arange(rows)
    data, size = at % 28, np.array([16, 32, 64, 128])[at // 28 % 4]
    base = rng.normal(size=28)[data] + rng.normal(size=rows)
    error = 0.5 - 0.07 * np.log2(size) + 0.05 * base + 0.03 * rng.normal(size=rows)
    frame = pd.DataFrame(
        {
            "member": at // 112,
            "cluster": [f"{d}-{s}" for d, s in zip(data, size, strict=True)],
            "data_seed": data,
            "train_size": size,
            "lr": np.where(at // 112 % 2 == 0, 0.01, 0.1),
            "n": 7,
            "test_error": np.clip(np.round(error, 3), 0, 1),
            "ones": rng.integers(30, 90, rows),
        }
    )
    names = [name for name in MEASURES if name not in frame][:measures]
    for i, name in enumerate(names):
        frame[name] = np.round(base * (i % 4) / 3 + rng.normal(size=rows), 1 + 2 * (i % 2))
    return frame, names


@inner()
def _ranks(values, order, weight, out):  # type: ignore[no-untyped-def]
    """Mid-ranks of weighted points into ``out``; ``order`` sorts ``values``."""
    n = values.size
    below = 0.0
    at = 0
    while at < n:
        end, tied = at, 0.0
        while end < n and values[order[end]] == values[order[at]]:
            tied += weight[order[end]]
            end += 1
        for k in range(at, end):
            out[order[k]] = below + 0.5 * (tied + 1.0)
        below += tied
        at = end


@inner()
def _residuals(V, weight, column, out):  # type: ignore[no-untyped-def]
    """Residuals of ``V[:, column]`` on the controls (columns 2 on) and a constant; weighted."""
    n, q = V.shape[0], V.shape[1] - 2
    A, b = np.zeros((q + 1, q + 1)), np.zeros(q + 1)
    row = np.empty(q + 1)
    for i in range(n):
        if weight[i] == 0:
            continue
        row[0] = 1.0
        for k in range(q):
            row[k + 1] = V[i, 2 + k]
        for k in range(q + 1):
            b[k] += weight[i] * row[k] * V[i, column]
            for j in range(q + 1):
                A[k, j] += weight[i] * row[k] * row[j]
    scale = 1.0
    for k in range(q + 1):
        A[k, k] *= 1.0 + _TINY  # collinear controls: any solution has the same residuals
        scale = max(scale, A[k, k])
    beta = np.linalg.solve(A + _TINY * 1e-3 * scale * np.eye(q + 1), b) if q else b / A[0, 0]
    for i in range(n):
        fit = beta[0]
        for k in range(q):
            fit += beta[k + 1] * V[i, 2 + k]
        out[i] = V[i, column] - fit


@inner()
def _within_cells(V, weight, cell, cells):  # type: ignore[no-untyped-def]
    """Columns less their weighted means over the points of each cell."""
    n, columns = V.shape
    total, sums = np.zeros(cells), np.zeros((cells, columns))
    for i in range(n):
        total[cell[i]] += weight[i]
        for k in range(columns):
            sums[cell[i], k] += weight[i] * V[i, k]
    out = np.empty_like(V)
    for i in range(n):
        c = cell[i]
        for k in range(columns):
            out[i, k] = V[i, k] - sums[c, k] / total[c] if total[c] > 0 else 0.0
    return out


@inner()
def moment_coefficient(V, weight, cluster, clusters, drawn, cell, cells):  # type: ignore[no-untyped-def]
    """(r, standard error of r) of the residuals of measure and outcome given the controls, within
    cells.

    The error is the linearised one by cluster: with u, v the standardised residuals a point adds
    u v - r (u^2 + v^2) / 2; sums over clusters, squared, times G / (G - 1). ``drawn`` (G,) is how
    often each cluster was drawn. NaN if a residual is constant.
    """
    n = V.shape[0]
    residuals, within = np.empty((2, n)), _within_cells(V, weight, cell, cells)
    for k in range(2):
        _residuals(within, weight, k, residuals[k])
    x, y = residuals
    total = sxx = syy = sxy = 0.0
    vx = vy = 0.0
    for i in range(n):
        w = weight[i]
        total += w
        sxx += w * x[i] * x[i]
        syy += w * y[i] * y[i]
        sxy += w * x[i] * y[i]
        vx = max(vx, abs(V[i, 0]))
        vy = max(vy, abs(V[i, 1]))
    if sxx <= _TINY * total * vx * vx or syy <= _TINY * total * vy * vy:
        return np.nan, np.nan
    r = sxy / np.sqrt(sxx * syy)
    sums = np.zeros(clusters)
    for i in range(n):
        u, v = x[i] / np.sqrt(sxx / total), y[i] / np.sqrt(syy / total)
        sums[cluster[i]] += u * v - 0.5 * r * (u * u + v * v)
    return min(1.0, max(-1.0, r)), _error(sums, drawn, total)


@inner()
def _error(sums, drawn, total):  # type: ignore[no-untyped-def]
    variance = number = 0.0
    for g in range(sums.size):
        variance += drawn[g] * sums[g] * sums[g]
        number += drawn[g]
    return np.sqrt(variance * number / max(number - 1.0, 1.0)) / total


@inner()
def kendall_coefficient(signs, in_x, in_y, sizes, drawn):  # type: ignore[no-untyped-def]
    """(tau_b, standard error) from :func:`pair_signs` and how often each cluster was drawn."""
    clusters = sizes.size
    top = bottom_x = bottom_y = total = 0.0
    pull = np.zeros(clusters)
    for g in range(clusters):
        if drawn[g] == 0:
            continue
        total += drawn[g] * sizes[g]
        for h in range(clusters):
            pull[g] += signs[g, h] * drawn[h]
            bottom_x += drawn[g] * in_x[g, h] * drawn[h]
            bottom_y += drawn[g] * in_y[g, h] * drawn[h]
        top += drawn[g] * pull[g]
    scale = np.sqrt(bottom_x * bottom_y)
    if scale == 0.0:
        return np.nan, np.nan
    tau = top / scale
    slope = np.zeros(clusters)
    for g in range(clusters):
        if drawn[g] == 0:
            continue
        of_x = of_y = 0.0
        for h in range(clusters):
            of_x += in_x[g, h] * drawn[h]
            of_y += in_y[g, h] * drawn[h]
        slope[g] = 2.0 * pull[g] / scale - tau * (of_x / bottom_x + of_y / bottom_y)
    return tau, _error(slope * total, drawn, total)


@njit(nogil=True)
def many_moments(V, orders, rank, cluster, clusters, draws, cell, cells):  # type: ignore[no-untyped-def]
    """(B, 2) coefficients and errors of B resamples ``draws`` (B, G); ``rank``: of ranks."""
    n, columns = V.shape
    out = np.empty((draws.shape[0], 2))
    weight, used = np.empty(n), V.copy()
    for b in range(draws.shape[0]):
        for i in range(n):
            weight[i] = draws[b, cluster[i]]
        if rank:
            for k in range(columns):
                _ranks(V[:, k], orders[k], weight, used[:, k])
        r, error = moment_coefficient(used, weight, cluster, clusters, draws[b], cell, cells)
        out[b, 0], out[b, 1] = r, error
    return out


@njit(nogil=True)
def many_kendall(signs, in_x, in_y, sizes, draws):  # type: ignore[no-untyped-def]
    """(B, 2) tau_b and errors of B resamples ``draws`` (B, G)."""
    out = np.empty((draws.shape[0], 2))
    for b in range(draws.shape[0]):
        tau, error = kendall_coefficient(signs, in_x, in_y, sizes, draws[b])
        out[b, 0], out[b, 1] = tau, error
    return out


def plain_coefficients(sample: Sample, kind: str, draws: np.ndarray) -> np.ndarray:
    """:func:`intervals.coefficients`, a resample at a time."""
    draws = np.ascontiguousarray(draws, np.float64)
    if kind == "kendall":
        return np.asarray(many_kendall(*sample.signs, sample.sizes, draws))
    args = sample.cluster, sample.clusters, draws, *sample.cells
    return np.asarray(many_moments(sample.columns, sample.orders, kind == "spearman", *args))


def plain_test(
    sample: Sample,
    kind: str,
    fixed: np.ndarray,
    moved: np.ndarray,
    number: int,
    rng: np.random.Generator,
) -> float:
    """:func:`tests._test`, a permutation at a time."""
    one = np.ones((1, sample.clusters))

    def statistic(y: np.ndarray) -> float:
        value, error = plain_coefficients(replace(sample, y=y), kind, one)[0]
        return abs(value) / max(error, 1e-12) if np.isfinite(value) else float("nan")

    observed = statistic(sample.y)
    if not np.isfinite(observed):
        return float("nan")
    members = [np.flatnonzero(sample.cluster == g) for g in range(sample.clusters)]
    hits, least = 0, observed * (1 - _ROUNDING)
    for _ in range(number):
        y = np.empty_like(moved)
        for here, source in zip(members, rng.permutation(len(members)), strict=True):
            given = rng.permutation(members[source])
            y[here] = moved[np.resize(given, len(here))]
        hits += statistic(fixed + y) >= least
    return (1.0 + hits) / (1.0 + number)


def plain_information(
    cells: pd.DataFrame, measure: str, y: str, axes: Sequence[str], rng: np.random.Generator
) -> tuple[float, float]:
    """K and its null of :func:`environments.conditional_information`, pair by pair."""
    k = len(cells)
    i, j = np.nonzero(~np.eye(k, dtype=bool))
    codes = {a: cells[a].astype("category").cat.codes.to_numpy(np.int64) for a in axes}
    pair = {a: c[i] * (c.max() + 1) + c[j] for a, c in codes.items()}
    sets = [s for size in (0, 1, 2) for s in itertools.combinations(axes, size)]
    mu, g = cells[measure].to_numpy(float), cells[y].to_numpy(float)

    def least(mu: np.ndarray) -> float:
        a, b = np.sign(mu[i] - mu[j]), np.sign(g[i] - g[j])
        used, best = (a != 0) & (b != 0), math.nan
        for chosen in sets:
            key = np.zeros(len(i), np.int64)
            for axis in chosen:
                key = key * (int(pair[axis].max()) + 1) + pair[axis]
            value = _information(a[used] > 0, b[used] > 0, key[used])
            best = value if math.isfinite(value) and not value >= best else best
        return best

    value = least(mu)
    return value, float(np.mean([least(mu[rng.permutation(k)]) for _ in range(environments.NULLS)]))


def _information(a: np.ndarray, b: np.ndarray, given: np.ndarray) -> float:
    _, group = np.unique(given, return_inverse=True)
    joint = np.zeros((int(group.max()) + 1, 2, 2))
    np.add.at(joint, (group, a.astype(int), b.astype(int)), 1.0)
    joint /= len(a)
    h_b = _entropy(joint.sum(axis=1)) - _entropy(joint.sum(axis=(1, 2)))
    if h_b < 1e-12:
        return math.nan
    h_ab = _entropy(joint) - _entropy(joint.sum(axis=2))
    return float((h_b - h_ab) / h_b)


def _entropy(p: np.ndarray) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def _seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    work()  # compiles
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def _compare(name: str, plain: Callable[[], Any], ours: Callable[[], Any]) -> None:
    slow, expected = _seconds(plain)
    fast, found = _seconds(ours)
    same = np.array_equal(np.asarray(expected), np.asarray(found), equal_nan=True)
    print(
        f"{name:28} {slow:8.3f} s {fast:8.3f} s {slow / fast:7.1f} x  {'same' if same else 'NOT'}"
    )


def main() -> None:
    """Print a row for each kind of work: plain, ours, ratio, and whether the numbers agree."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=560)
    parser.add_argument("--measures", type=int, default=20)
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--whole", action="store_true")
    args = parser.parse_args()
    frame, names = table(args.rows, args.measures)
    cluster = np.unique(frame["cluster"], return_inverse=True)[1].astype(np.int64)
    x, y = frame[names[1]].to_numpy(float), frame["test_error"].to_numpy(float)
    cell = np.unique(frame["train_size"], return_inverse=True)[1].astype(np.int64)
    zero = np.zeros(len(x))
    for rows, groups in (("data sets", cluster), ("single rows", np.arange(len(frame)))):
        sample = Sample(x, y, groups, np.zeros((len(x), 0)))
        given = Sample(x, y, groups, np.zeros((len(x), 0)), cell)
        rng = np.random.default_rng(0)
        draws = intervals.resamples(sample.clusters, args.resamples, rng)
        for kind in intervals.KINDS:
            _compare(
                f"bootstrap {kind}, {rows}",
                lambda s=sample, k=kind, d=draws: plain_coefficients(s, k, d),
                lambda s=sample, k=kind, d=draws: intervals.coefficients(s, k, d),
            )
        for kind, points in (("kendall", sample), ("pearson", given)):
            _compare(
                f"permutations {kind}, {rows}",
                lambda s=points, k=kind: plain_test(
                    s, k, zero, y, args.resamples, np.random.default_rng(1)
                ),
                lambda s=points, k=kind: tests._test(
                    s, k, zero, y, args.resamples, np.random.default_rng(1)
                ),
            )
    axes = ["data_seed", "train_size", "lr"]
    cells = environments.settings_means(frame, names, "test_error", axes)
    _compare(
        "conditional information",
        lambda: plain_information(cells, names[1], "test_error", axes, np.random.default_rng(2)),
        lambda: [
            environments.conditional_information(
                cells, names[1], "test_error", axes, np.random.default_rng(2)
            )[key]
            for key in ("K", "null")
        ],
    )
    if args.whole:
        start = time.perf_counter()
        correlate(frame, measures=names, controls="train_size")
        print(f"all of correlate, {len(frame)} x {len(names)}: {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
