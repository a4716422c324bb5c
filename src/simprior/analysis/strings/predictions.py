"""How distance and flips grow with n: predictions of the infinitely wide network, and fits.

*Flips.* With inputs +-1 the covariance of the outputs depends on the Hamming distance only, so the
outputs z_0 ... z_n along any path that flips distinct bits are one stationary Gaussian sequence,
Cov(z_i, z_j) = K(|i - j|). Sequences are drawn, and the first change of sign is counted. With bits
0 and 1 the covariance depends on the string: the law is averaged over random paths.

*Nearest string.* Given z_0, a string at distance h has the other class with probability
Phi(-rho_h |z_0| / sqrt(1 - rho_h^2)), rho_h = K(h)/K(0). The expected number of them within
distance h bounds the probability that there is one, so that

    E h* >= sum_(h >= 0) E max(0, 1 - sum_(h' <= h) C(n, h') Phi(-rho_h' |z_0| / ...)):

a bound at every n for the Gaussian process (no independence is assumed). The sum turns from small
to large within a few h, near |z_0| sqrt(n / (4 ln n)) for relu, sigma_b = 0: averaged over z_0 this
is sqrt(n / (2 pi ln n)), the asymptotic form of De Palma, Kiani & Lloyd (NeurIPS 2019).

*Networks.* :func:`summarise` makes a row a length, :func:`fit` fits growth laws. Networks are the
independent units: start strings and paths of one network are averaged first. An interval of a mean
is Student's t; fits are repeated on bootstrap samples of the networks of every length. A string
without a string of the other class has no distance and is left out of the mean (its share is
``not_found``); flips that never change the class count as n (share ``unchanged``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from simprior.analysis.strings.networks import Spec
from simprior.checks import Choice, Whole
from simprior.errors import InputError, NumericalError
from simprior.gp.kernels import nngp
from simprior.network.spec import Network
from simprior.numerics.estimate import mean_stderr, share_stderr, student_factor
from simprior.numerics.random import generator

DRAWS, PATHS = 20_000, 32
_GRID = 4096  # quantiles of |z_0|
_EIGENVALUE_ROUNDING = 1e-9  # eigenvalues above -this (relative) are rounding of 0


@dataclass(frozen=True)
class FlipLaw:
    """``survival`` (n + 1,): probability that the first k flips leave the class as it is, k = 0 ...
    n; ``mean`` is E min(T, n), the sum of survival[:n], with its standard error; ``unchanged`` is
    survival[n], with its standard error."""

    survival: np.ndarray
    mean: float
    stderr: float
    unchanged: float
    unchanged_stderr: float


def flip_law(spec: Spec, draws: int = DRAWS, seed: int = 0) -> FlipLaw:
    """The law of the number T of random flips until the class of the infinitely wide network
    changes, by Monte Carlo of the Gaussian sequence.

    ``draws`` sequences are drawn: of one covariance with inputs +-1, else of ``PATHS`` random paths
    (the standard errors are then those of the means over paths).

    Raises
    ------
    InputError
        A uniform classifier or weight law, a torch module, or fewer than 2 draws (64 with inputs 0
        and 1).
    """
    network = _check(spec)
    paths = 1 if network.encoding == "pm1" else PATHS
    least = 2 * paths
    enough = Whole(least, remedy="pass --gp-draws 20000", expected=f"at least {least} sequences")
    draws = enough("gp_draws", draws)
    rng = generator(seed, f"sensitivity/{spec.n}/gp")
    size = draws // paths
    found = [_first_changes(_factor(network, spec.n, rng), size, rng) for _ in range(paths)]
    alive = np.concatenate(found)[:, None] > np.arange(spec.n + 1)
    times = [np.minimum(t, spec.n) for t in found]
    never = [t > spec.n for t in found]
    mean, stderr = _mean(times)
    unchanged, unchanged_stderr = _mean(never)
    if unchanged in (0.0, 1.0):  # no spread: a share that was not met, with the paths' effect
        total, apart = np.concatenate(times), np.array([t.mean() for t in times])
        effect = size * apart.var(ddof=1) / total.var() if paths > 1 and np.ptp(total) else 1.0
        unchanged_stderr = float(share_stderr(unchanged, size * paths / max(effect, 1.0)))
    if stderr == 0.0:
        stderr = mean_stderr(np.concatenate(times))
    return FlipLaw(alive.mean(axis=0), mean, stderr, unchanged, unchanged_stderr)


def _mean(samples: list[np.ndarray]) -> tuple[float, float]:
    parts = samples[0] if len(samples) == 1 else np.array([s.mean() for s in samples])
    return float(np.mean(parts)), float(np.std(parts, ddof=1) / math.sqrt(len(parts)))


def _first_changes(factor: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
    """(draws,) first k >= 1 with another class than z_0, or n + 1."""
    out = np.empty(draws, np.int64)
    block = max(1, (1 << 22) // len(factor))
    for at in range(0, draws, block):
        count = min(block, draws - at)
        z = rng.standard_normal((count, factor.shape[1])) @ factor.T > 0
        other = z != z[:, :1]
        out[at : at + count] = np.where(other.any(axis=1), other.argmax(axis=1), len(factor))
    return out


def _factor(network: Network, n: int, rng: np.random.Generator) -> np.ndarray:
    """(n + 1, r) matrix A with A A' the covariance along a random path."""
    signed = network.encoding == "pm1"
    bits = rng.integers(0, 2, n)
    order = rng.permutation(n)
    steps = np.zeros((n + 1, n))
    steps[np.arange(1, n + 1), order] = 1.0
    strings = np.abs(bits - np.cumsum(steps, axis=0))
    K = nngp(network, 2.0 * strings - 1.0 if signed else strings)
    values, vectors = np.linalg.eigh(K)
    if values[0] < -_EIGENVALUE_ROUNDING * values[-1]:
        raise NumericalError(
            f"covariance along a path of {n} flips has the eigenvalue {values[0]:.2g}: "
            "expected none below 0; report the network's settings"
        )
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))


def distance_floor(spec: Spec) -> float:
    """Lower bound on the mean distance to the nearest string of the other class, at infinite width
    (a function without another class counts as n + 1).

    Raises
    ------
    InputError
        A uniform classifier or weight law, or inputs 0 and 1.
    """
    from scipy.special import gammaln, log_ndtr, ndtri

    _check(spec)
    n = spec.n
    rho = correlations(spec)[1:]
    h = np.arange(1, n + 1)
    log_count = gammaln(n + 1) - gammaln(h + 1) - gammaln(n - h + 1)
    quantiles = 0.5 + (np.arange(_GRID) + 0.5) / (2 * _GRID)
    z = np.asarray(ndtri(quantiles))
    total, below = np.zeros(_GRID), 1.0
    for ratio, log_number in zip(rho, log_count, strict=True):
        spread = math.sqrt(max(1.0 - ratio**2, 0.0))
        if spread == 0.0:
            log_p = np.full(_GRID, -np.inf if ratio > 0 else 0.0)
        else:
            log_p = log_ndtr(-ratio / spread * z)
        with np.errstate(over="ignore"):
            total += np.exp(np.minimum(log_number + log_p, 50.0))
        if total.min() >= 1.0:
            break
        below += float(np.mean(np.maximum(0.0, 1.0 - total)))
    return below


def correlations(spec: Spec) -> np.ndarray:
    """(n + 1,) correlation of the outputs on two strings at Hamming distance 0 ... n (inputs +-1).

    Raises :class:`InputError` with inputs 0 and 1, where it depends on the strings.
    """
    network = _check(spec)
    if network.encoding != "pm1":
        raise InputError(
            "encoding='01'",
            "inputs +-1, where covariances depend on distances only",
            "pass encoding='pm1'",
        )
    strings = 1.0 - 2.0 * np.tri(spec.n + 1, spec.n, -1)
    K = nngp(network, strings[:1], strings)[0]
    return np.asarray(K / K[0])


def asymptote(n: np.ndarray | float) -> np.ndarray:
    """sqrt(n / (2 pi ln n)) (De Palma, Kiani & Lloyd 2019, abstract)."""
    n = np.asarray(n, float)
    return np.asarray(np.sqrt(n / (2.0 * math.pi * np.log(n))))


def uniform_distance(n: int) -> float:
    """Mean distance to the nearest string of the other class for a uniformly random classifier of
    n-bit strings, given that there is one.

    P(h* > h) = 2^-V_h with V_h = sum_(1 <= i <= h) C(n, i); tends to 1.
    """
    number, tail = 0, [1.0]
    for h in range(1, n + 1):
        number += math.comb(n, h)
        tail.append(math.ldexp(1.0, -min(number, 2000)))
        if tail[-1] == 0.0:
            break
    none = tail[-1] if len(tail) == n + 1 else 0.0
    return float(sum(p - none for p in tail[:n]) / (1.0 - none))


def uniform_flips(n: int) -> float:
    """E min(T, n) for a uniformly random classifier: 2 - 2^(1-n), as P(T > k) = 2^-k."""
    return 2.0 - 2.0 ** (1 - n)


def _check(spec: Spec) -> Network:
    """The network of a law. Raises :class:`InputError` where it is none."""
    drawn = Choice(("network",), "use uniform_distance and uniform_flips", "a network")
    drawn("classifier", spec.classifier)
    if isinstance(spec.network, Network):
        return spec.network
    expected = "a fully connected Network, whose Gaussian process is known"
    raise InputError(f"the module {spec.network.make_name}", expected, "draw random modules")


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
    flips / n, unchanged. Of rows with a sensitivity: its mean with _stderr _low _high,
    sensitivity_share = sensitivity / n, and sensitivity_nonconstant with _stderr, the mean over the
    networks for which another class was found, from one of their strings at least.
    """
    return pd.DataFrame([_summary(n, part, level) for n, part in _lengths(rows)])


def _lengths(rows: pd.DataFrame) -> list[tuple[int, pd.DataFrame]]:
    sizes = sorted({int(n) for n in rows["n"]})
    return [(n, rows[rows["n"] == n]) for n in sizes]


def _summary(n: int, part: pd.DataFrame, level: float) -> dict[str, Any]:
    found = part[part["distance"] > 0]
    distance = _interval(_means(found, "distance"), level)
    flips = _interval(_means(part, "flips"), level, n - 1.0)
    sure = found[found["certified"] & (found["search"] > 0)]
    bias = _interval(_means(sure.assign(bias=sure["search"] - sure["distance"]), "bias"), level)
    scale = math.sqrt(n / math.log(n))
    varied = part[part["network"].isin(found["network"])]
    more = _sensitivity(n, part, varied, level) if "sensitivity" in part else {}
    return {
        "n": n,
        "networks": int(part["network"].nunique()),
        "strings": len(part),
        "distance": distance[0],
        "distance_stderr": distance[1],
        "distance_low": distance[2],
        "distance_high": distance[3],
        "certified": float(part["certified"].mean()),
        "bias": bias[0],
        "bias_stderr": bias[1],
        "not_found": float((part["distance"] == 0).mean()),
        "ratio": distance[0] / scale,
        "ratio_stderr": distance[1] / scale,
        "asymptote": float(asymptote(n)),
        "flips": flips[0],
        "flips_stderr": flips[1],
        "flips_low": flips[2],
        "flips_high": flips[3],
        "flips_share": flips[0] / n,
        "unchanged": float(part["unchanged"].mean()),
        **more,
    }


def _sensitivity(
    n: int, part: pd.DataFrame, varied: pd.DataFrame, level: float
) -> dict[str, float]:
    """Columns of the sensitivity, of all rows and of networks with two classes (``varied``)."""
    mean, error, low, high = _interval(_means(part, "sensitivity"), level, n)
    given = _interval(_means(varied, "sensitivity"), level, n)
    return {
        "sensitivity": mean,
        "sensitivity_stderr": error,
        "sensitivity_low": low,
        "sensitivity_high": high,
        "sensitivity_share": mean / n,
        "sensitivity_nonconstant": given[0],
        "sensitivity_nonconstant_stderr": given[1],
    }


def _means(part: pd.DataFrame, column: str) -> np.ndarray:
    """(N,) mean over the rows of each network."""
    return part.groupby("network")[column].mean().to_numpy(float)


def _interval(
    values: np.ndarray, level: float, span: float = 1.0
) -> tuple[float, float, float, float]:
    """(mean, standard error, low, high) of independent values; nan where there are too few.

    Equal values get the error of :func:`simprior.numerics.estimate.mean_stderr`, as if one of them
    differed by ``span``. Where many networks are constant that is the range of the quantity. Of a
    distance it is one bit.
    """
    if not len(values):
        return (math.nan,) * 4
    mean = float(values.mean())
    if len(values) < 2:
        return mean, math.nan, math.nan, math.nan
    error = mean_stderr(values, high=span)
    half = student_factor(len(values), level) * error
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
        (
            "distance exponent in n/ln n",
            *_line(np.log(n / np.log(n)), np.log(h), h_error / h[0], 1),
        ),
        ("distance coefficient", *_constant(ratio, h_error / scale)),
        ("distance ratio spread", ratio.max(axis=1) / ratio.min(axis=1) - 1.0, math.nan, 0),
        ("flips slope", *_line(n, f, f_error, 1)),
        ("flips intercept", *_line(n, f, f_error, 0)),
        ("flips exponent", *_line(np.log(n), np.log(f), f_error / f[0], 1)),
    ]
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


def _fit_row(name: str, values: np.ndarray, chi2: float, dof: int, level: float) -> dict[str, Any]:
    from scipy.stats import chi2 as law

    low, high = np.quantile(values[1:], [(1 - level) / 2, (1 + level) / 2])
    error = float(values[1:].std(ddof=1))
    if np.ptp(values[1:]) <= _ROUNDING * abs(values[0]):  # no spread: no error either
        low = high = error = chi2 = math.nan
    p_value = float(law.sf(chi2, dof)) if dof > 0 and math.isfinite(chi2) else math.nan
    return {
        "fit": name,
        "value": float(values[0]),
        "stderr": error,
        "low": float(low),
        "high": float(high),
        "chi2": chi2 if dof > 0 else math.nan,
        "dof": dof,
        "p_value": p_value,
    }
