"""How both quantities grow with n: a row a length, and fits with bootstrap intervals.

Networks are the independent units: start strings and paths of one network are averaged first. An
interval of a mean is Student's t; fits are repeated on bootstrap samples of the networks of every
length. A string without a string of the other class has no distance and is left out of the mean
(its share is ``not_found``); flips that never change the class count as n (share ``unchanged``).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.analysis.hamming.gp_prediction import asymptote
from simprior.errors import InputError
from simprior.estimate import mean_stderr
from simprior.rng import generator

if TYPE_CHECKING:
    import pandas as pd

BOOTSTRAP = 2000
_ROUNDING = 1e-12
LEAST_LENGTHS, LEAST_NETWORKS = 3, 10
"""Fits need so many lengths n (two means lie on a line, whatever they are) and, at each, so many
networks with a distance (the bootstrap of fewer is too narrow; of two it is three values)."""


def summarise(rows: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """A row a length n of a table with a row a network and start string.

    Columns: n, networks, strings (rows); distance with _stderr _low _high; certified (share of rows
    whose distance is exact), bias and bias_stderr (mean of search minus exact distance over the
    certified rows), not_found (share of rows without another class found); ratio = distance /
    sqrt(n / ln n) and ratio_stderr; asymptote; flips with _stderr _low _high, flips_share =
    flips / n, unchanged.
    """
    import pandas as pd

    return pd.DataFrame([_summary(n, part, level) for n, part in _lengths(rows)])


def _lengths(rows: pd.DataFrame) -> list[tuple[int, pd.DataFrame]]:
    sizes = sorted({int(n) for n in rows["n"]})
    return [(n, rows[rows["n"] == n]) for n in sizes]


def _summary(n: int, part: pd.DataFrame, level: float) -> dict[str, Any]:
    found = part[part["distance"] > 0]
    distance = _interval(_means(found, "distance"), level)
    flips = _interval(_means(part, "flips"), level)
    sure = found[found["certified"] & (found["search"] > 0)]
    bias = _interval(_means(sure.assign(bias=sure["search"] - sure["distance"]), "bias"), level)
    scale = math.sqrt(n / math.log(n))
    return {
        "n": n, "networks": int(part["network"].nunique()), "strings": len(part),
        "distance": distance[0], "distance_stderr": distance[1], "distance_low": distance[2],
        "distance_high": distance[3], "certified": float(part["certified"].mean()),
        "bias": bias[0], "bias_stderr": bias[1], "not_found": float((part["distance"] == 0).mean()),
        "ratio": distance[0] / scale, "ratio_stderr": distance[1] / scale,
        "asymptote": float(asymptote(n)),
        "flips": flips[0], "flips_stderr": flips[1], "flips_low": flips[2], "flips_high": flips[3],
        "flips_share": flips[0] / n, "unchanged": float(part["unchanged"].mean()),
    }  # fmt: skip


def _means(part: pd.DataFrame, column: str) -> np.ndarray:
    """(N,) mean over the rows of each network."""
    return part.groupby("network")[column].mean().to_numpy(float)


def _interval(values: np.ndarray, level: float) -> tuple[float, float, float, float]:
    """(mean, standard error, low, high) of independent values; nan where there are too few.

    Equal values get the error of :func:`simprior.estimate.mean_stderr`, as if one of them differed
    by 1: both quantities count bits.
    """
    from scipy.special import stdtrit

    if not len(values):
        return (math.nan,) * 4
    mean = float(values.mean())
    if len(values) < 2:
        return mean, math.nan, math.nan, math.nan
    error = mean_stderr(values)
    half = float(stdtrit(len(values) - 1, (1 + level) / 2)) * error
    return mean, error, mean - half, mean + half


def too_few(rows: pd.DataFrame) -> str:
    """Why these rows cannot be fitted; empty if they can."""
    groups = _lengths(rows)
    if len(groups) < LEAST_LENGTHS:
        return f"{len(groups)} lengths n, fewer than {LEAST_LENGTHS}"
    sizes = {n: int(part.loc[part["distance"] > 0, "network"].nunique()) for n, part in groups}
    worst = min(sizes, key=lambda n: sizes[n])
    if sizes[worst] < LEAST_NETWORKS:
        return f"{sizes[worst]} networks with a distance at n={worst}, fewer than {LEAST_NETWORKS}"
    return ""


def without_spread(fits: pd.DataFrame) -> list[str]:
    """A note on the fits that have no interval, because all networks are alike."""
    names = [str(name) for name in fits.loc[fits["stderr"].isna(), "fit"]]
    why = "all networks of a length have the same value, which a bootstrap cannot see beyond"
    return [f"no errors and intervals of {', '.join(names)}: {why}"] if names else []


def fit(rows: pd.DataFrame, seed: int = 0, level: float = 0.95) -> pd.DataFrame:
    """Fits of both means against n, weighted by their standard errors.

    Rows: ``distance exponent`` (slope of ln h* on ln n), ``distance exponent in n/ln n`` (1/2 in
    theory), ``distance coefficient`` (h* = c sqrt(n / ln n)), ``distance ratio spread`` (largest
    over smallest h* / sqrt(n / ln n), minus 1), ``flips slope`` and ``flips intercept`` (a line
    through the means), ``flips exponent``. Columns: fit, value, stderr, low, high (percentiles of
    bootstrap over networks), chi2, dof and p_value of the weighted fit (nan where none applies).
    Where all networks of a length have the same value there is no interval (nan).
    The spread is a maximum: its bootstrap values lie above it, and so does its interval's middle.

    Raises
    ------
    InputError
        What :func:`too_few` says.
    """
    import pandas as pd

    why = too_few(rows)
    if why:
        raise InputError(why, "enough to fit", "pass for example --n 100,200,400 --networks 100")
    groups = _lengths(rows)
    distance = [_means(part[part["distance"] > 0], "distance") for _, part in groups]
    flips = [_means(part, "flips") for _, part in groups]
    n = np.array([float(size) for size, _ in groups])
    rng = generator(seed, "sensitivity/bootstrap")
    h, h_error = _replicates(distance, rng)
    f, f_error = _replicates(flips, rng)
    scale = np.sqrt(n / np.log(n))
    ratio = h / scale
    fits = [
        ("distance exponent", *_line(np.log(n), np.log(h), h_error / h[0], 1)),
        ("distance exponent in n/ln n",
         *_line(np.log(n / np.log(n)), np.log(h), h_error / h[0], 1)),
        ("distance coefficient", *_constant(ratio, h_error / scale)),
        ("distance ratio spread", ratio.max(axis=1) / ratio.min(axis=1) - 1.0, math.nan, 0),
        ("flips slope", *_line(n, f, f_error, 1)),
        ("flips intercept", *_line(n, f, f_error, 0)),
        ("flips exponent", *_line(np.log(n), np.log(f), f_error / f[0], 1)),
    ]  # fmt: skip
    return pd.DataFrame([_fit_row(*entry, level) for entry in fits])


def _replicates(
    groups: list[np.ndarray], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """((1 + B, S) means, the data's first; (S,) their standard errors).

    N equal values get the error 1/N, as if one of them differed by 1: both quantities count bits.
    """
    columns, errors = [], []
    for values in groups:
        chosen = rng.integers(0, len(values), (BOOTSTRAP, len(values)))
        columns.append(np.concatenate([[values.mean()], values[chosen].mean(axis=1)]))
        spread = values.std(ddof=1) / math.sqrt(len(values))
        errors.append(spread if spread > 0 else 1.0 / len(values))
    return np.stack(columns, axis=1), np.array(errors)


def _line(
    x: np.ndarray, y: np.ndarray, error: np.ndarray, which: int
) -> tuple[np.ndarray, float, int]:
    """Weighted line through each row of y (R, S): (intercept or slope, chi2 of row 0, dof)."""
    design = np.stack([np.ones_like(x), x], axis=1) / error[:, None]
    found = np.linalg.lstsq(design, (y / error).T, rcond=None)[0]
    residual = (y[0] / error) - design @ found[:, 0]
    return found[which], float(residual @ residual), len(x) - 2


def _constant(y: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, float, int]:
    weight = error**-2.0 / (error**-2.0).sum()
    mean = y @ weight
    return mean, float((((y[0] - mean[0]) / error) ** 2).sum()), len(error) - 1


def _fit_row(
    name: str, values: np.ndarray, chi2: float, dof: int, level: float
) -> dict[str, Any]:  # fmt: skip
    from scipy.stats import chi2 as law

    low, high = np.quantile(values[1:], [(1 - level) / 2, (1 + level) / 2])
    error = float(values[1:].std(ddof=1))
    if np.ptp(values[1:]) <= _ROUNDING * abs(values[0]):  # no spread: no error either
        low = high = error = chi2 = math.nan
    p_value = float(law.sf(chi2, dof)) if dof > 0 and math.isfinite(chi2) else math.nan
    return {
        "fit": name, "value": float(values[0]), "stderr": error,
        "low": float(low), "high": float(high), "chi2": chi2 if dof > 0 else math.nan, "dof": dof,
        "p_value": p_value,
    }  # fmt: skip
