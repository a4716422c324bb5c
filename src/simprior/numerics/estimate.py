"""What every estimator returns: a value, its standard error, and how it was obtained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.checks import Number
from simprior.display import Shown, estimate
from simprior.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

_TINY = 1e-300
_ROUNDING = 1e-12  # relative differences that are none
_BLOCK = 1 << 20  # rows treated at a time, to bound the memory


@dataclass(frozen=True, repr=False)
class LogProb(Shown):
    """Estimate of a log-probability, in nats.

    ``value`` is ln P (``-inf`` for an impossible event), ``stderr`` the standard error of ``value``
    (0 for an exact result), ``ess`` the effective number of independent draws behind it (``inf``
    for an exact result, ``nan`` where the notion does not apply), ``method`` the estimator's name
    and ``diagnostics`` whatever the method reports about itself (Pareto k-hat, convergence, ...).
    """

    value: float
    stderr: float
    ess: float
    method: str
    diagnostics: Mapping[str, Any] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """The value with its error, how it was obtained, what the method says of itself."""
        size = "" if math.isnan(self.ess) else f", {self.ess:.4g} effective draws"
        said = {
            k: v for k, v in self.diagnostics.items() if isinstance(v, bool | int | float | str)
        }
        about = ", ".join(f"{key} {_in_words(value)}" for key, value in said.items())
        return [
            f"LogProb: ln P = {estimate(self.value, stderr=self.stderr)} nats "
            f"({self.log10:.4g} decades)",
            f"method {self.method}{size}",
            about or "no diagnostics",
        ]

    def to_frame(self) -> pd.DataFrame:
        """One row: method, logp (nats), log10, stderr, ess."""
        import pandas as pd

        row = {"method": self.method, "logp": self.value, "log10": self.log10}
        return pd.DataFrame([row | {"stderr": self.stderr, "ess": self.ess}])

    @property
    def log10(self) -> float:
        """The value in decades, for display only."""
        return self.value / math.log(10.0)


def _in_words(value: bool | int | float | str) -> str:
    """A diagnostic as text."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else f"{value:.4g}"


def sample_sd(values: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Standard deviation (n - 1) of values, exactly 0 where they differ by rounding only.

    The mean of n equal numbers need not be that number: which of its last bits are wrong depends on
    the order of summation, hence on the processor, and 3e-17 is not "no spread". (Whether no spread
    is no error is another question: see :func:`mean_stderr`.) nan where a value is not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if not np.isfinite(values).all():
        values = np.where(np.isfinite(values), values, np.nan)
    level = 8.0 * np.finfo(np.float64).eps * np.abs(values).max(axis=axis)
    flat = np.ptp(values, axis=axis) <= level
    return np.where(flat, 0.0, values.std(axis=axis, ddof=1))


def clopper_pearson(
    count: np.ndarray, trials: np.ndarray | float, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Exact binomial interval for ``count`` successes in ``trials`` (Clopper & Pearson 1934).

    Both may be real numbers (effective counts, see :func:`korn_graubard`). Returns (low, high),
    float64 arrays of the broadcast shape; low is 0 at count 0, high is 1 at count = trials. Equal
    pairs are computed once, so that tables of millions of rare functions are cheap.

    Raises
    ------
    InputError
        Unless 0 <= count <= trials, trials > 0 and 0 < level < 1.
    """
    k, n = np.broadcast_arrays(np.asarray(count, float), np.asarray(trials, float))
    tail = (1.0 - _check_level(level)) / 2.0
    good = (k >= 0) & (k <= n) & (n > 0) & np.isfinite(n)
    if not good.all():
        worst = np.flatnonzero(~good.ravel())[0]
        raise InputError(
            f"count={k.flat[worst]:g} of trials={n.flat[worst]:g}",
            "0 <= count <= trials and trials > 0",
            "check that counts and samples belong to the same run",
        )
    low, high = np.empty(k.size), np.empty(k.size)
    for first in range(0, k.size, _BLOCK):
        part = slice(first, first + _BLOCK)
        pairs, where = np.unique(k.flat[part] + 1j * n.flat[part], return_inverse=True)
        bounds = _binomial_bounds(pairs.real, pairs.imag, tail)
        low[part], high[part] = bounds[0][where], bounds[1][where]
    return low.reshape(k.shape), high.reshape(k.shape)


def korn_graubard(
    count: np.ndarray,
    trials: float,
    design_effect: np.ndarray | float,
    level: float = 0.95,
    clusters: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Clopper-Pearson interval on effective counts for clustered samples (Korn & Graubard 1998).

    Parameters
    ----------
    count, trials : array, float
        Plain counts and the plain number of samples.
    design_effect : array or float
        Variance of the clustered estimate over that of independent samples (see the function
        :func:`design_effect`). Values below 1 are taken as 1: the interval is never shorter than
        the exact binomial one.
    level : float
        Confidence level.
    clusters : float, optional
        Number of clusters behind the design effect. If given, the effective sample size is
        multiplied by (t_(trials-1) / t_(clusters-1))^2, t the Student quantiles of the level, as
        Korn and Graubard do for the uncertainty of the variance; needed below some 100 clusters.
    """
    factor = 1.0
    if clusters is not None and 1 < clusters < trials:
        from scipy.special import stdtrit

        upper = (1.0 + _check_level(level)) / 2.0
        factor = float(stdtrit(trials - 1.0, upper) / stdtrit(clusters - 1.0, upper)) ** 2
    scale = factor / np.maximum(np.asarray(design_effect, float), 1.0)
    return clopper_pearson(np.asarray(count, float) * scale, trials * scale, level)


def design_effect(
    count: np.ndarray,
    clusters: np.ndarray,
    sumsq: np.ndarray,
    samples: float,
    total_clusters: float,
    pseudo: float = 16.0,
    multiplicity: np.ndarray | None = None,
    sizes_squared: float | None = None,
    least: np.ndarray | float = 1.0,
) -> np.ndarray:
    """Design effect of every function of a run with shared hidden layers, never below ``least``.

    With n_c of the R heads of cluster c giving the function, k = sum n_c, q = sum n_c^2 and C
    clusters, the own estimate is the variance of the cluster means over the binomial one,

        D = (q - k^2 / C) C / (C - 1) / (k (1 - k / N)),   about q / k for a rare function.

    Functions seen in few clusters cannot show a burst that they have not met yet, so D alone gives
    intervals that miss (95 % intervals covered 0.39 to 0.85 in simulation for functions expected
    in 3 clusters with bursts). Numerator and denominator therefore get ``pseudo`` clusters' worth
    of the pooled values of all functions seen in about as many clusters (1, 2, 3-4, 5-8, ...), and
    the result is the larger of D, this shrunken value, and ``least``: given the hidden layers the
    heads are independent, so that the true effect lies between 1 and R. Pass all functions of a run
    at once: the pool is what protects. Function-specific bursts which neither the function nor its
    pool has shown stay invisible to any method.

    A function with count 0 or N shows no variance at all, which says nothing of its effect: it gets
    the pooled value of all functions, or the largest there can be, R, if none of them varies.

    Parameters
    ----------
    count, clusters, sumsq : (F,) arrays
        Per function: k, number of clusters with n_c > 0, and q.
    samples, total_clusters : float
        N and C (R = N / C heads a cluster).
    pseudo : float
        Weight of the pool, in clusters.
    multiplicity : (F,) array, optional
        How many functions share each row (k, K, q); 1 if not given.
    sizes_squared : float, optional
        Sum over clusters of their squared numbers of heads, if they are not all equal (the last one
        is cut short): k^2 / C becomes (k / N)^2 times this, its value when n_c follows the sizes.
    least : float or (F,) array
        The least that it can be; below 1 where samples of a cluster exclude each other.

    Returns
    -------
    (F,) float64

    Raises
    ------
    InputError
        If the shapes differ, a function breaks clusters <= count <= sumsq, or N < C.
    """
    k, c, q = (np.atleast_1d(np.asarray(a, float)) for a in (count, clusters, sumsq))
    if not (k.shape == c.shape == q.shape) or not ((c <= k) & (k <= q) & (k <= samples)).all():
        raise InputError(
            f"counts of {k.size}, {c.size} and {q.size} functions",
            "equal lengths with clusters <= count <= sumsq, count <= samples for each",
            "pass the three columns of one count table",
        )
    if not 1 <= total_clusters <= samples:
        raise InputError(
            f"total_clusters={total_clusters:g} of samples={samples:g}",
            "1 <= total_clusters <= samples",
            "pass the number of hidden-layer draws",
        )
    if total_clusters < 2 or total_clusters == samples:
        return np.full(k.shape, max(1.0, samples / total_clusters))
    equal = samples * samples / total_clusters if sizes_squared is None else sizes_squared
    between = (q - (k / samples) ** 2 * equal) * (total_clusters / (total_clusters - 1.0))
    binomial = k * (1.0 - k / samples)
    own = np.divide(between, binomial, out=np.ones_like(k), where=binomial > 0)
    group = np.ceil(np.log2(np.maximum(c, 1.0))).astype(np.int64)
    n = np.ones_like(k) if multiplicity is None else np.asarray(multiplicity, float)
    met = np.maximum(np.bincount(group, n * c), 1.0)
    add_between = pseudo * (np.bincount(group, n * between) / met)[group]
    add_binomial = pseudo * (np.bincount(group, n * binomial) / met)[group]
    total = binomial + add_binomial
    pooled = np.divide(between + add_between, total, out=np.ones_like(k), where=total > 0)
    effect: np.ndarray = np.maximum(np.maximum(own, pooled), least)
    if (binomial <= 0).any():
        varies, largest = float(n @ binomial), samples / total_clusters
        common = float(n @ between) / varies if varies > 0 else largest
        effect[binomial <= 0] = min(max(common, 1.0), max(largest, 1.0))
    return effect


def effective_clusters(count: np.ndarray, sumsq: np.ndarray) -> np.ndarray:
    """k^2 / q rounded up: clusters that gave an event, were its counts in them all equal.

    Never more than there were (Cauchy-Schwarz), and all that is known where a table keeps k and
    q only; 0 where the count is 0.
    """
    k, q = np.asarray(count, float), np.asarray(sumsq, float)
    share = np.divide(k * k, q, out=np.zeros_like(k), where=q > 0)
    clusters: np.ndarray = np.minimum(np.ceil(share - 1e-9), k)
    return clusters


def share_stderr(p: np.ndarray | float, size: np.ndarray | float) -> np.ndarray:
    """Standard error of a share p of ``size`` (effective) independent trials.

    The binomial sqrt(p (1 - p) / size), but where it is 0 because no trial differed it is
    1 / (size + 2): the standard deviation of the posterior under a uniform prior, Beta(1, size + 1)
    (Laplace's rule of succession), about that of a single differing trial. No spread is no
    certainty: the 95 % upper limit of what was not met is 3 of these (the rule of three).
    """
    p, size = np.broadcast_arrays(np.asarray(p, float), np.asarray(size, float))
    inside = np.clip(p, 0.0, 1.0)
    plain = np.sqrt(inside * (1.0 - inside) / size)
    error: np.ndarray = np.where(plain == 0, 1.0 / (size + 2.0), plain)
    return error


def mean_stderr(values: np.ndarray, low: float = 0.0, high: float = 1.0) -> float:
    """Standard error of the mean of independent ``values`` between ``low`` and ``high``.

    Where all values are equal, what was not met bounds the error: (high - low) times
    :func:`share_stderr` of a value that no trial showed. nan for fewer than two values. (Of values
    without bounds pass the least step by which one could have differed.)
    """
    values = np.asarray(values, float)
    if len(values) < 2:
        return math.nan
    if not np.isfinite(values).all():
        return math.nan
    if np.ptp(values) <= _ROUNDING * np.abs(values).max():
        return (high - low) * float(share_stderr(0.0, len(values)))
    return float(values.std(ddof=1)) / math.sqrt(len(values))


@dataclass(frozen=True)
class Ratio:
    """A mean over the members of clusters of different sizes, from sums over the clusters.

    Cluster c has n_c members, and their values add up to Y_c. The mean is the sum of Y_c over that
    of n_c; its variance is that of the linearised ratio (Cochran 1977, section 6.4). Clusters
    without members say nothing of it.

    Attributes
    ----------
    total, squares, products : float
        Sums of Y_c, Y_c^2 and n_c Y_c.
    count, count_squares : float
        Sums of n_c and n_c^2.
    """

    total: float
    squares: float
    products: float
    count: float
    count_squares: float

    @property
    def mean(self) -> float:
        """The ratio of sums."""
        return self.total / self.count

    @property
    def clusters(self) -> float:
        """Effective number of clusters with members (:func:`effective_clusters`)."""
        return float(effective_clusters(np.array(self.count), np.array(self.count_squares)))

    @property
    def stderr(self) -> float:
        """Standard error of the mean; 0 where the clusters agree (to rounding) or are too few."""
        mean, clusters = self.mean, self.clusters
        spread = self.squares - 2.0 * mean * self.products + mean**2 * self.count_squares
        if clusters < 2 or spread <= _ROUNDING * self.squares:
            return 0.0
        return math.sqrt(spread * clusters / (clusters - 1.0)) / self.count

    @property
    def design_effect(self) -> float:
        """Of a share: variance over that of as many independent trials.

        A share of 0 or 1 shows no variance, which says nothing of its effect: then it is the mean
        size of the clusters, the largest there can be.
        """
        binomial = self.mean * (1.0 - self.mean) / self.count
        if binomial <= 0:
            return self.count / max(self.clusters, 1.0)
        return self.stderr**2 / binomial

    def reach(self, level: float, span: float) -> float:
        """Half the width of the interval of Student's t, on the effective clusters less 1.

        Values lie in a range of width ``span``. Where the clusters agree, as many as the exact
        binomial limit allows may differ, by as much. Infinite for fewer than two clusters.
        """
        clusters = self.clusters
        if clusters < 2:
            return math.inf
        error = self.stderr
        if error == 0:
            none = np.zeros(1)
            return span * float(clopper_pearson(none, clusters, level)[1][0])
        return student_factor(clusters, level) * error


def normal_factor(level: float, of: int = 1) -> float:
    """Standard errors on each side of a two-sided normal interval of confidence ``level``.

    With ``of`` intervals all cover with probability ``level`` at least (Bonferroni).
    """
    from scipy.special import ndtri

    return float(ndtri(1.0 - (1.0 - level) / (2.0 * max(of, 1))))


def student_factor(number: float, level: float) -> float:
    """The same of the mean of ``number`` normal values whose spread was estimated from them."""
    from scipy.special import stdtrit

    return float(stdtrit(number - 1, 0.5 + level / 2))


def _binomial_bounds(k: np.ndarray, n: np.ndarray, tail: float) -> tuple[np.ndarray, np.ndarray]:
    """Clopper-Pearson bounds with ``tail`` probability beyond each of them."""
    from scipy.special import betaincinv

    rest = n - k
    low = np.where(k > 0, betaincinv(np.maximum(k, _TINY), rest + 1.0, tail), 0.0)
    high = np.where(rest > 0, betaincinv(k + 1.0, np.maximum(rest, _TINY), 1.0 - tail), 1.0)
    return low, high


def _check_level(level: float) -> float:
    return Number(0, 1, open=True, remedy="pass for example 0.95")("level", level)
