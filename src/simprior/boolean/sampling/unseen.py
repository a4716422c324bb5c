"""Good-Turing estimate of the probability of all functions that a run has not met, with interval.

Notation: N samples in C clusters (hidden-layer draws) of R heads, C independent; R = 1 is the
classical case. Per function: k its count, K the number of clusters in which it appeared, q the sum
over clusters of its squared counts. U is the total probability of the functions with k = 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simprior.checks import Number
from simprior.display import Shown, estimate
from simprior.errors import InputError
from simprior.numerics.estimate import clopper_pearson, normal_factor

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Unseen(Shown):
    """Probability ``mass`` of the functions not seen, its ``stderr``, and [``low``, ``high``].

    ``stderr`` is the standard deviation of the estimate about the true unseen mass of this very
    run. Where the counts show no variance (no function appeared in one or two clusters only, or
    every sample was a new function) it is that of one function met once; the interval never
    collapses.
    """

    mass: float
    stderr: float
    low: float
    high: float

    def lines(self) -> list[str]:
        """The mass with its interval."""
        mass = estimate(self.mass, self.low, self.high)
        return [f"Unseen: probability of the functions not seen {mass}, stderr {self.stderr:.2g}"]

    def to_frame(self) -> pd.DataFrame:
        """One row: mass, stderr, low, high."""
        import pandas as pd

        return pd.DataFrame([vars(self)])


def good_turing(
    count: np.ndarray,
    clusters: np.ndarray | None,
    sumsq: np.ndarray | None,
    samples: float,
    level: float = 0.95,
    dispersion: float = 1.0,
    fraction: float = 1.0,
    multiplicity: np.ndarray | None = None,
) -> Unseen:
    """Estimate the unseen mass U of a run by U^ = sum_{K=1} k / N (Good 1953 for R = 1).

    U^ is exactly unbiased for the mass not seen in C - 1 of the clusters: each k of a function
    with K = 1 is what a left-out cluster shows of the mass unseen in the others.

    Variance of U^ - U. Let the clusters with a function be Poisson in number, mean l, with iid
    counts B. A function adds D = B_1 1{K=1} - l E[B] 1{K=0} to N (U^ - U); E[D] = 0 and
    E[D^2] = l exp(-l) E[B^2] + l^2 exp(-l) E[B]^2, estimated without bias by
    sum_{K=1} k^2 + sum_{K=2} (k^2 - q), because k^2 - q = 2 n_1 n_2 when K = 2. For R = 1 this is
    N_1 + 2 N_2, and with the number of samples fixed N_1 (1 - N_1 / N) + 2 N_2 (Esty 1983).
    Singletons of the same cluster are correlated where some hidden layers give many rare functions
    and others few: then sum_{K=1} k^2 = s N U^ must become the sum over clusters of S_c^2, S_c the
    number of heads of cluster c that gave functions with K = 1. ``dispersion`` supplies the index
    of dispersion of S_c (:func:`singleton_dispersion`), and the larger of it and s is used.

    Interval: all mu with (N U^ / s - mu)^2 <= z^2 (mu + v), that is Wilson's (1927) score form
    with the variance's first term at its hypothetical value. It is never negative and, where
    nothing was met once or twice, ends at z^2 / N = 3.84 / N at 95 % (exact Poisson: 3.69 / N).

    Parameters
    ----------
    count, clusters, sumsq : (F,) arrays
        k, K, q of every function seen. ``clusters=None`` and ``sumsq=None`` mean R = 1.
    samples : float
        N = C R.
    level : float
        Confidence level.
    dispersion : float
        Index of dispersion of S_c over the functions kept; at least 1 (which means: not known to
        exceed 1).
    fraction : float
        Share of all functions that the table keeps, chosen by a hash (1: all of them). Sums over
        functions are divided by it; since (1{kept} / fraction)^2 has mean 1 / fraction and the
        terms with K = 1 and K = 0 exclude each other, so are both terms of the variance.

    multiplicity : (F,) array, optional
        How many functions share each row (k, K, q); 1 if not given. Tables of 1e8 functions have
        few distinct rows.

    Raises
    ------
    InputError
        If the arrays do not belong together, ``samples`` is not the sum of the counts (or, with
        ``fraction`` < 1, is less than it), or ``level`` or ``fraction`` is out of range.
    """
    k, c, q = _columns(count, clusters, sumsq)
    n = np.ones_like(k) if multiplicity is None else np.asarray(multiplicity, float)
    _check_total(float((n * k).sum()), samples, fraction)
    independent = clusters is None and fraction == 1
    once, twice = c == 1, c == 2
    singles = float((n * k)[once].sum()) / fraction
    second = float((n * (k * k - q))[twice].sum()) / fraction
    scale = max(_burst(n * k, c, n * q), 1.0 if clusters is None else dispersion, 1.0) / fraction
    low, high = _score_interval(singles / scale, second / scale**2, samples, independent, level)
    mass = min(1.0, singles / samples)
    first = singles * (1.0 - mass) if independent else scale * singles
    return Unseen(
        mass=mass,
        stderr=(math.sqrt(first + second) or scale) / samples,
        low=min(mass, low * scale / samples),
        high=max(mass, min(1.0, high * scale / samples)),
    )


def partial_table(
    count: np.ndarray,
    samples: float,
    multiplicity: np.ndarray | None = None,
    level: float = 0.95,
) -> Unseen:
    """Mass U of all functions that a table of independent samples does not list, met or not.

    Counts add up to less than ``samples``: R of the N samples gave functions that are not listed.
    U^ = R / N, so that listed and unlisted shares add up to 1. Good-Turing cannot be used: the
    functions met once may be among those left out.

    How the functions were chosen is not known, so the interval covers two ways. Chosen beforehand,
    R is binomial: its exact interval. Chosen by frequency, all those met c times or more, U is the
    mass of functions met fewer than c times, whose unbiased estimate is sum_{k < c} (k + 1)
    N_{k+1} / N = (R + c N_c) / N (Good 1953), with variance R + c N_c + c (c + 1) N_{c+1} (over
    N^2; Esty 1983 for c = 1). With c one more than the lowest count listed this is also an upper
    bound where the list was cut within a tie; the interval ends at the upper limit of that.

    Parameters
    ----------
    count : (F,) array
        Counts of the listed functions, or their distinct values with ``multiplicity``.
    samples : float
        N.
    multiplicity : (F,) array, optional
        How many functions share each count; 1 if not given.
    level : float
        Confidence level.

    Raises
    ------
    InputError
        If nothing is listed, the counts add up to ``samples`` or more, or ``level`` is out of
        range.
    """
    k, _, _ = _columns(count, None, None)
    n = np.ones_like(k) if multiplicity is None else np.asarray(multiplicity, float)
    rest = samples - float(n @ k)
    if not k.size or not rest > 0:
        raise InputError(
            f"samples={samples:g} with counts that add up to {float(n @ k):g}",
            "listed functions, and more samples than their counts add up to",
            "use good_turing for a complete table",
        )
    first, second = float(k.min()) + 1.0, float(k.min()) + 2.0
    by_frequency = rest + sum(c * float(n[k == c].sum()) for c in (first - 1.0, first))
    ahead = first * second * float(n[k == second].sum())
    _, top = _score_interval(min(by_frequency, samples), ahead, samples, True, level)
    low, high = clopper_pearson(np.array(rest), samples, level)
    return Unseen(
        mass=rest / samples,
        stderr=math.sqrt(rest * (1.0 - rest / samples)) / samples,
        low=float(low),
        high=min(1.0, max(float(high), top / samples)),
    )


def singleton_dispersion(singletons: np.ndarray) -> float:
    """Variance over mean of S_c, and at least 1.

    ``singletons`` holds, for every cluster of some batch, the number of its heads that gave
    functions which no other cluster of the batch gave: (C,) numbers. A function must be alone in
    the whole run to count in U^, and thinning moves the index towards 1; so the index of a batch
    errs on the side of a longer interval.
    """
    s = np.asarray(singletons, float)
    mean = s.mean() if s.size else 0.0
    return max(1.0, float(s.var(ddof=1) / mean)) if s.size > 1 and mean > 0 else 1.0


def _columns(
    count: np.ndarray, clusters: np.ndarray | None, sumsq: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The three columns as float64, checked; without clusters every sample is its own (K = k)."""
    if (clusters is None) != (sumsq is None):
        raise InputError(
            "one of clusters and sumsq without the other",
            "both (shared hidden layers) or neither (independent networks)",
            "pass both columns of the count table",
        )
    k = np.asarray(count, float)
    c = k if clusters is None else np.asarray(clusters, float)
    q = k if sumsq is None else np.asarray(sumsq, float)
    if not k.shape == c.shape == q.shape or not ((c >= 1) & (c <= k) & (k <= q)).all():
        raise InputError(
            f"columns of {k.size}, {c.size} and {q.size} functions",
            "equal lengths with 1 <= clusters <= count <= sumsq for each function",
            "pass the columns of one count table, seen functions only",
        )
    return k, c, q


def _check_total(total: float, samples: float, fraction: float) -> None:
    if not 0.0 < fraction <= 1.0:
        raise InputError(
            f"fraction={fraction!r}", "0 < fraction <= 1", "pass 1 for a complete table"
        )
    if not samples > 0 or total > samples or (fraction == 1 and total != samples):
        raise InputError(
            f"samples={samples:g} with counts that add up to {total:g}",
            "a positive number of samples equal to the sum of the counts",
            "pass the complete count table of the run, or the fraction of functions it keeps",
        )


def _burst(k: np.ndarray, c: np.ndarray, q: np.ndarray) -> float:
    """E[B^2] / E[B] of the functions with the fewest clusters: those with K = 1, if any."""
    if not k.size:
        return 1.0
    rarest = c == c.min()
    return float(q[rarest].sum() / k[rarest].sum())


def _score_interval(
    x: float, v: float, samples: float, independent: bool, level: float
) -> tuple[float, float]:
    """Both mu with (x - mu)^2 = z^2 (mu - mu^2 / N + v); no mu^2 / N unless ``independent``."""
    Number(0, 1, open=True, remedy="pass for example 0.95")("level", level)
    z2 = normal_factor(level) ** 2
    a = 1.0 + z2 / samples if independent else 1.0
    half = x + z2 / 2.0
    root = math.sqrt(half * half - a * (x * x - z2 * v))
    return max(0.0, (half - root) / a), (half + root) / a
