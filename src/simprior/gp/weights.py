"""From log-weights to ln P: mean, standard error, effective sample size, Pareto k-hat."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np

from simprior.gp._normal import OPTIONS

K_LIMIT = 0.7  # above it standard errors of importance sampling are not trusted


@dataclass(frozen=True)
class Summary:
    """ln of the mean weight, its standard error (nats), effective draws and Pareto k-hat."""

    value: float
    stderr: float
    ess: float
    pareto_k: float


def summarise(logw: np.ndarray, strata: np.ndarray, count: int) -> Summary:
    """Combine n log-weights; ``strata`` (n,) in 0..count-1 were drawn in fixed numbers.

    The standard error is that of the stratified mean by the delta method, multiplied by
    ``sqrt(1 + 3/ess)``: with few effective draws the sample variance of skewed weights falls short.
    With all weights zero the value is -inf and the standard error infinite.
    """
    n = len(logw)
    top = float(logw.max())
    if top == -math.inf:
        return Summary(-math.inf, math.inf, 0.0, math.nan)
    w = np.exp(logw - top)
    total = float(w.sum())
    size = np.bincount(strata, minlength=count)
    first = np.bincount(strata, w, count)
    second = np.bincount(strata, w * w, count)
    used = size > 1
    spread = second[used] - first[used] ** 2 / size[used]
    variance = float((spread * size[used] / (size[used] - 1.0)).sum())
    ess = total**2 / float(second.sum())
    relative = math.sqrt(max(variance, 0.0)) / total
    floor = 2e-16 * math.sqrt(n)
    stderr = max(relative, floor) * math.sqrt(1.0 + 3.0 / ess)
    return Summary(top + math.log(total / n), stderr, ess, pareto_k(w))


def pareto_k(weights: np.ndarray) -> float:
    """Shape of the generalised Pareto law fitted to the largest weights (Vehtari et al. 2024).

    The tail is the min(n/5, 3 sqrt n) largest; fit by Zhang & Stephens (2009), shrunk towards 1/2
    as if by ten observations. NaN with fewer than 5 tail weights, -inf where all are equal.
    """
    n = len(weights)
    tail = int(min(0.2 * n, 3.0 * math.sqrt(n)))
    if tail < 5:
        return math.nan
    ordered = np.partition(weights, n - tail - 1)[n - tail - 1 :]
    cut = float(ordered[0])
    excess = np.sort(ordered[1:] - cut)
    if excess[-1] <= 1e-12 * cut:
        return -math.inf
    k = _gpd_shape(np.maximum(excess, 1e-300))
    return float((tail * k + 5.0) / (tail + 10.0))


@numba.njit(**OPTIONS)
def _gpd_shape(x: np.ndarray) -> float:
    """Posterior-mean shape of a generalised Pareto law; x sorted, positive."""
    n = x.shape[0]
    grid = 30 + int(math.sqrt(n))
    quartile = x[int(n / 4.0 + 0.5) - 1]
    theta, profile = np.empty(grid), np.empty(grid)
    for j in range(grid):
        theta[j] = 1.0 / x[n - 1] + (1.0 - math.sqrt(grid / (j + 0.5))) / (3.0 * quartile)
        k = 0.0
        for i in range(n):
            k += math.log1p(-theta[j] * x[i])
        k /= n
        profile[j] = n * (math.log(-theta[j] / k) - k - 1.0)
    total = np.exp(profile - profile.max())
    best = (theta * total).sum() / total.sum()
    k = 0.0
    for i in range(n):
        k += math.log1p(-best * x[i])
    return k / n
