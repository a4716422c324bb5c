"""Agreement of two sets of log-probabilities: correlations, straight-line fit, scatter.

All of it is about functions met often on both sides. Choosing them by their counts keeps functions
that fluctuated upwards and cuts the range of P(f), so every statistic is biased; the same happens
in split halves, and their values are the ones to hold a comparison against.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from simprior.analysis.correlation.ties import settle

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


def york(
    x: np.ndarray, y: np.ndarray, vx: np.ndarray, vy: np.ndarray, steps: int = 200
) -> Line:  # fmt: skip
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
        slope, math.sqrt(slope_variance), intercept,
        math.sqrt(1.0 / total + centre**2 * slope_variance), rest,
    )  # fmt: skip


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
        line.slope, line.slope_stderr, line.intercept, line.intercept_stderr, line.chi2,
        math.sqrt(high),
    )  # fmt: skip
