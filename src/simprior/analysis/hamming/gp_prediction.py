"""What the infinitely wide network predicts for both quantities.

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
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from simprior.analysis.hamming.networks import Spec
from simprior.errors import InputError, NumericalError
from simprior.estimate import mean_stderr, share_stderr
from simprior.gp.kernels import nngp
from simprior.rng import generator

DRAWS, PATHS = 20_000, 32
_GRID = 4096  # quantiles of |z_0|
_ROUNDING = 1e-9  # eigenvalues above -this (relative) are rounding of 0


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
        A uniform classifier or weight law, or fewer than 2 draws (64 with inputs 0 and 1).
    """
    _check(spec)
    paths = 1 if spec.network.encoding == "pm1" else PATHS
    if draws < 2 * paths:
        raise InputError(
            f"gp_draws={draws}", f"at least {2 * paths} sequences", "pass --gp-draws 20000"
        )
    rng = generator(seed, f"sensitivity/{spec.n}/gp")
    size = draws // paths
    found = [_first_changes(_factor(spec, rng), size, rng) for _ in range(paths)]
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


def _factor(spec: Spec, rng: np.random.Generator) -> np.ndarray:
    """(n + 1, r) matrix A with A A' the covariance along a random path."""
    signed = spec.network.encoding == "pm1"
    bits = rng.integers(0, 2, spec.n)
    order = rng.permutation(spec.n)
    steps = np.zeros((spec.n + 1, spec.n))
    steps[np.arange(1, spec.n + 1), order] = 1.0
    strings = np.abs(bits - np.cumsum(steps, axis=0))
    K = nngp(spec.network, 2.0 * strings - 1.0 if signed else strings)
    values, vectors = np.linalg.eigh(K)
    if values[0] < -_ROUNDING * values[-1]:
        raise NumericalError(
            f"covariance along a path of {spec.n} flips has the eigenvalue {values[0]:.2g}: "
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
    _check(spec)
    if spec.network.encoding != "pm1":
        raise InputError(
            "encoding='01'", "inputs +-1, where covariances depend on distances only",
            "pass encoding='pm1'",
        )  # fmt: skip
    strings = 1.0 - 2.0 * np.tri(spec.n + 1, spec.n, -1)
    K = nngp(spec.network, strings[:1], strings)[0]
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


def _check(spec: Spec) -> None:
    if spec.classifier != "network":
        raise InputError(
            f"classifier={spec.classifier!r}", "a network",
            "use uniform_distance and uniform_flips",
        )  # fmt: skip
