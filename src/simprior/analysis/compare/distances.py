"""Distances between two distributions over functions: plug-in estimates and held-out lower bounds.

Conventions: total variation sum |p - q| / 2; Jensen-Shannon divergence in nats, 0 to ln 2;
Hellinger distance sqrt(1 - sum sqrt(p q)), 0 to 1.

With mostly rare functions none of them can be estimated well from samples: two samples of one
diffuse distribution hardly share a function and look as far apart as can be. Two estimates bracket
the truth whatever the distributions are:

* The *plug-in* estimate, the distance of the empirical distributions. All three (Hellinger squared)
  are jointly convex, so by Jensen's inequality its expectation is never below the truth.
* The *held-out* estimate. Each is a supremum over witness functions T of the functions f:
      TV  = sup (E_p T - E_q T) / 2 over |T| <= 1,
      JS  = sup (E_p ln(2 D) + E_q ln(2 - 2 D)) / 2 over 0 < D < 1,
      H^2 = sup 1 - (E_p T^(-1/2) + E_q T^(1/2)) / 2 over T > 0
  (Nguyen, Wainwright & Jordan 2010). A witness fitted to one half of the data and evaluated on the
  other has an expectation never above the truth. A witness may be anything, so shrinking its ratios
  towards 1 is no assumption about P(f).

The interval goes from the lower limit of the second to the upper limit of the first. Where the
functions that carry the mass are seen often both ends meet; where they are not it stays wide, as it
must.

Agreement of two sets of log-probabilities: correlations, straight-line fit, scatter.

All of it is about functions met often on both sides. Choosing them by their counts keeps functions
that fluctuated upwards and cuts the range of P(f), so every statistic is biased; the same happens
in split halves, and their values are the ones to hold a comparison against.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from simprior.analysis.correlate.controls import settle
from simprior.analysis.correlate.intervals import Part

NAMES = ("total_variation", "jensen_shannon", "hellinger")
_SHRINK = (0.02, 0.1, 0.5, 2.0, 8.0, 32.0, 256.0)  # strengths tried, in units of the smaller half


def distances(p: np.ndarray, q: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """(TV, JS in nats, Hellinger) of two normalised distributions on the same functions.

    ``weight`` (F,) says how many functions each entry stands for (1 if not given).
    """
    w = np.ones_like(p) if weight is None else weight
    tv = 0.5 * float(w @ np.abs(p - q))
    middle = 0.5 * (p + q)
    js = 0.5 * float(w @ (_xlogy(p, middle) + _xlogy(q, middle)))
    affinity = float(w @ np.sqrt(p * q))
    return np.array(
        [min(tv, 1.0), min(max(js, 0.0), math.log(2.0)), math.sqrt(max(0.0, 1.0 - affinity))]
    )


def _xlogy(p: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """p ln(p / middle), 0 where p = 0."""
    ratio = np.divide(p, middle, out=np.ones_like(p), where=p > 0)
    return np.asarray(p * np.log(ratio))


@dataclass(frozen=True)
class HeldOut:
    """Held-out lower bounds (TV, JS, Hellinger squared) and their standard errors, (3,) each."""

    value: np.ndarray
    stderr: np.ndarray


def held_out(a: list[Part], b: list[Part], size_a: float, size_b: float) -> HeldOut:
    """Cross-fitted lower bounds from two halves of each side.

    Each half is used once to fit and once to evaluate. The shrinkage of a fold is the one that was
    best in the other. ``size_a``, ``size_b``: effective samples of the whole sides, for the
    standard error (that of the mean of the two folds).
    """
    folds = [_bounds(a[i], b[i], a[1 - i], b[1 - i], size_a, size_b) for i in range(2)]
    value, variance = np.zeros(3), np.zeros(3)
    for fold, other in (folds, folds[::-1]):
        best = np.argmax(other[0], axis=0)
        value += fold[0][best, np.arange(3)] / 2
        variance += fold[1][best, np.arange(3)] / 2
    return HeldOut(np.maximum(value, 0.0), np.sqrt(variance))


def _bounds(
    a: Part, b: Part, test_a: Part, test_b: Part, size_a: float, size_b: float
) -> tuple[np.ndarray, np.ndarray]:
    """(strengths, 3) values on the test halves, and variances with all samples."""
    unit = max(1.0 / a.size, 1.0 / b.size)
    new_a, new_b = _missing(a), _missing(b)
    values, variances = [], []
    for strength in _SHRINK:
        s = strength * unit
        unseen = (a.p == 0) & (b.p == 0)
        top = np.where(unseen, new_a, a.p) + s
        ratio = top / (np.where(unseen, new_b, b.p) + s) if s > 0 else _exact_ratio(a.p, b.p)
        pairs = _witnesses(ratio)
        values.append([float(test_a.p @ t + test_b.p @ u) + c for t, u, c in pairs])
        variances.append(
            [_variance(test_a.p, t) / size_a + _variance(test_b.p, u) / size_b for t, u, _ in pairs]
        )
    return np.array(values), np.array(variances)


def _witnesses(ratio: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """(T of p, T of q, constant) for TV, JS and Hellinger squared at the likelihood ``ratio``."""
    sign = 0.5 * np.sign(np.log(ratio))
    log_half = 0.5 * math.log(2.0)
    js_a = log_half - 0.5 * np.log1p(1.0 / ratio)
    js_b = log_half - 0.5 * np.log1p(ratio)
    root = np.sqrt(ratio)
    return [(sign, -sign, 0.0), (js_a, js_b, 0.0), (-0.5 / root, -0.5 * root, 1.0)]


def _missing(part: Part) -> float:
    """Good-Turing estimate of the mass not met: the share of functions met once."""
    return float(part.p[part.units == 1].sum())


def _exact_ratio(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Likelihood ratio of two exact distributions, bounded for functions of one side only."""
    tiny = 1e-12
    return np.maximum(p, tiny) / np.maximum(q, tiny)


def _variance(p: np.ndarray, t: np.ndarray) -> float:
    mean = float(p @ t)
    return max(0.0, float(p @ (t * t)) - mean * mean)


LN10 = math.log(10.0)
ENOUGH = 3  # points for a correlation or a line


@dataclass(frozen=True)
class Points:
    """ln P of the same functions on both sides, ``x`` and ``y``, with variances ``vx``, ``vy``."""

    x: np.ndarray
    y: np.ndarray
    vx: np.ndarray
    vy: np.ndarray

    @classmethod
    def of(cls, pa: np.ndarray, ka: np.ndarray, pb: np.ndarray, kb: np.ndarray) -> Points:
        """From estimates and effective counts, all positive; Var ln P = 1 / u."""
        return cls(np.log(pa), np.log(pb), 1.0 / ka, 1.0 / kb)

    def __len__(self) -> int:
        return len(self.x)


def correlations(points: Points) -> dict[str, float]:
    """Spearman, Kendall (tau-b) and Pearson of ln P; NaN with under 3 or with equal values.

    ``pearson_noise_free`` is Pearson with the counting variances subtracted from both variances
    (Spearman 1904), NaN where nothing is left, at most 1.
    """
    from scipy.stats import kendalltau, rankdata

    names = ("spearman", "kendall", "pearson", "pearson_noise_free")
    x, y = points.x, points.y
    if len(x) < ENOUGH or np.ptp(settle(x)) == 0 or np.ptp(settle(y)) == 0:
        return dict.fromkeys(names, math.nan)
    covariance = np.cov(x, y)
    free_x = covariance[0, 0] - points.vx.mean()
    free_y = covariance[1, 1] - points.vy.mean()
    free = math.nan
    if free_x > 0 and free_y > 0:
        free = float(np.clip(covariance[0, 1] / math.sqrt(free_x * free_y), -1.0, 1.0))
    u, v = settle(x), settle(y)
    found = (_pearson(rankdata(u), rankdata(v)), float(kendalltau(u, v).statistic), _pearson(x, y))
    return dict(zip(names, (*found, free), strict=True))


def _pearson(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip((x @ y) / math.sqrt((x @ x) * (y @ y)), -1.0, 1.0))


def scatter(points: Points) -> dict[str, float]:
    """Mean and standard deviation of log10(P_A / P_B), in decades.

    ``scatter_decades_noise_free`` has the variance expected from counting, mean(vx + vy), taken
    off; 0 if that leaves nothing.
    """
    if len(points) < ENOUGH:
        names = ("offset_decades", "scatter_decades", "scatter_decades_noise_free")
        return dict.fromkeys(names, math.nan)
    ratio = points.x - points.y
    variance = float(ratio.var(ddof=1))
    free = max(0.0, variance - float((points.vx + points.vy).mean()))
    return {
        "offset_decades": float(ratio.mean()) / LN10,
        "scatter_decades": math.sqrt(variance) / LN10,
        "scatter_decades_noise_free": math.sqrt(free) / LN10,
    }


@dataclass(frozen=True)
class Line:
    """y = intercept + slope x with standard errors, chi^2 over degrees of freedom, and the scatter
    ``extra`` (standard deviation in each coordinate, nats) added to the errors."""

    slope: float
    slope_stderr: float
    intercept: float
    intercept_stderr: float
    chi2: float
    extra: float = 0.0


_NO_LINE = Line(*[math.nan] * 5)


def york(x: np.ndarray, y: np.ndarray, vx: np.ndarray, vy: np.ndarray, steps: int = 200) -> Line:
    """Straight line with independent errors in both variables, each point its own variances.

    York, Evensen, Lopez Martinez & De Basabe Delgado 2004, eqs. 13a-f, iterated from the slope of
    the geometric mean regression. Standard errors are theirs, for given variances. NaN with under 3
    points, equal x or y, or points without any error.
    """
    if len(x) < ENOUGH or np.ptp(x) == 0 or np.ptp(y) == 0 or not (vx + vy > 0).all():
        return _NO_LINE
    sign = math.copysign(1.0, float((x - x.mean()) @ (y - y.mean())) or 1.0)
    slope = sign * float(y.std() / x.std())
    for _ in range(steps):
        old = slope
        weight = 1.0 / (vy + slope * slope * vx)
        total = weight.sum()
        mean_x, mean_y = float(weight @ x / total), float(weight @ y / total)
        u, v = x - mean_x, y - mean_y
        beta = weight * (u * vy + slope * v * vx)
        below = float((weight * beta) @ u)
        if below == 0:
            return _NO_LINE
        slope = float((weight * beta) @ v) / below
        if abs(slope - old) <= 1e-12 * abs(slope):
            break
    intercept = mean_y - slope * mean_x
    adjusted = mean_x + beta
    centre = float(weight @ adjusted / total)
    slope_variance = 1.0 / float(weight @ (adjusted - centre) ** 2)
    rest = float(weight @ (y - intercept - slope * x) ** 2) / max(len(x) - 2, 1)
    return Line(
        slope,
        math.sqrt(slope_variance),
        intercept,
        math.sqrt(1.0 / total + centre**2 * slope_variance),
        rest,
    )


def line_fit(points: Points) -> Line:
    """York's line with extra scatter, the same in both coordinates, that makes chi^2 / dof 1.

    No extra scatter if chi^2 / dof is at most 1 without. As functions scatter about the line far
    more than by counting, the few commonest would otherwise decide the slope. The standard error
    then takes the functions for a random sample of such functions.
    """
    spread = max(points.x.var(), points.y.var()) if len(points) else 0.0
    line = york(points.x, points.y, points.vx, points.vy)
    if len(points) < ENOUGH or spread == 0 or (math.isfinite(line.chi2) and line.chi2 <= 1.0):
        return line
    low, high = 0.0, float(spread)
    for _ in range(60):
        middle = 0.5 * (low + high)
        line = york(points.x, points.y, points.vx + middle, points.vy + middle)
        low, high = (middle, high) if line.chi2 > 1.0 else (low, middle)
        if high - low < 1e-9 * high:
            break
    return Line(
        line.slope,
        line.slope_stderr,
        line.intercept,
        line.intercept_stderr,
        line.chi2,
        math.sqrt(high),
    )
