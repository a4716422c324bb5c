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
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from simprior.analysis.resample import Part

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
