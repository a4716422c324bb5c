"""An orthant event: the signs of a Gaussian vector at m inputs, in the form estimators work on.

How much memory an estimate on m inputs takes, and a refusal before it is too late.
"""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from simprior.checks import Integer, real_array
from simprior.errors import InputError, NumericalError, available_memory
from simprior.gp.covariance import Factor
from simprior.numerics import random as rng
from simprior.numerics.estimate import LogProb


@dataclass(frozen=True)
class Event:
    """``sign z = f``, ``z ~ N(mean, K)``, as ``x > lower``, ``x ~ N(0, S K S)``, S = diag(signs).

    ``K`` (m, m) and ``A`` (m, r), ``A A^T = K``, carry the signs; ``signs`` (m,) are +-1;
    ``rcond`` estimates the reciprocal condition number of the correlation matrix. ``label``
    identifies the function: random numbers depend on it and not on its place in a batch.
    """

    K: np.ndarray
    A: np.ndarray
    lower: np.ndarray
    signs: np.ndarray
    rcond: float
    label: str

    @property
    def m(self) -> int:
        """Number of constraints."""
        return int(self.A.shape[0])

    @property
    def rank(self) -> int:
        """Number of latent coordinates."""
        return int(self.A.shape[1])

    def generator(self, seed: int, method: str, index: int = 0) -> np.random.Generator:
        """Random numbers of chunk ``index`` of one method on this function."""
        return rng.generator(seed, f"{method}/{self.label}", index)


def make_event(
    bits: np.ndarray, K: np.ndarray, factor: Factor, mean: np.ndarray | None = None
) -> Event:
    """Event that the signs of z ~ N(mean, K) are those of ``bits`` ((m,) of 0/1)."""
    signs = np.where(np.asarray(bits) > 0, 1.0, -1.0)
    lower = np.zeros(len(signs)) if mean is None else -signs * mean
    label = hashlib.sha256(np.packbits(signs > 0).tobytes()).hexdigest()[:32]
    signed = K * signs
    signed *= signs[:, None]
    return Event(
        signed, signs[:, None] * factor.A, lower + 0.0, signs, factor.rcond, f"{len(signs)}/{label}"
    )


def check_mean(mean: np.ndarray | None, m: int) -> np.ndarray | None:
    """Validate the optional mean vector."""
    if mean is None:
        return None
    array = real_array("mean", mean)
    if array.shape != (m,) or not np.isfinite(array).all():
        raise InputError(
            f"mean of shape {array.shape}", f"{m} finite numbers", "give one mean an input"
        )
    return array


def feasible(A: np.ndarray, lower: np.ndarray) -> bool:
    """Whether some u satisfies ``A u > lower`` strictly (linear programme; for r < m).

    Homogenised and in an orthonormal basis: u and s >= 0 with ``A u - s lower >= 1`` exist if and
    only if the constraints can be met. Rows are scaled to norm 1.
    """
    from scipy.optimize import linprog

    norm = np.linalg.norm(A, axis=1)
    basis = np.linalg.qr(A / norm[:, None])[0]
    rows = np.hstack([basis, -(lower / norm)[:, None]])
    rows /= np.linalg.norm(rows, axis=1)[:, None]
    r = A.shape[1]
    limits = [(None, None)] * r + [(0.0, None)]
    result = linprog(
        np.zeros(r + 1), A_ub=-rows, b_ub=-np.ones(len(rows)), bounds=limits, method="highs"
    )
    return bool(result.status == 0 and (rows @ result.x).min() > 0.0)


class Infeasible(NumericalError):
    """No point satisfies the constraints: the probability is exactly 0."""


def impossible(method: str, began: float) -> LogProb:
    """The exact result for an event that no weights realise."""
    diagnostics = {
        "reliable": True,
        "converged": True,
        "reason": "no weights realise this function",
    }
    diagnostics["seconds"] = perf_counter() - began
    return LogProb(-math.inf, 0.0, math.inf, method, diagnostics)


def check_draws(draws: int, strata: int = 1) -> None:
    """Refuse a number of draws from which no standard error follows."""
    Integer(8 * strata, remedy="pass draws=1024")("draws", draws)


MATRICES = 18  # m x m float64 matrices alive at the peak of `tilted`, measured at m = 500 to 1797
TESTED = 2048  # inputs; errors and times are documented up to here
_GIB = float(2**30)


def bytes_needed(m: int) -> int:
    """Peak memory of ``tilted`` and of the posterior on m inputs, in bytes: 18 matrices m x m."""
    return MATRICES * 8 * m * m


def check_memory(m: int, copies: int = 1, available: int | None = None) -> None:
    """Refuse an m whose matrices do not fit; log a line above the tested size.

    Parameters
    ----------
    m : int
        Number of inputs.
    copies : int
        Workers that compute at the same time, each with matrices of its own.
    available : int, optional
        Bytes to fit in; what the system reports as available by default.

    Raises
    ------
    InputError
        Names the memory that m needs, the memory there is, and the largest m that fits.
    """
    have = available_memory() if available is None else available
    need = copies * bytes_needed(m)
    if need > have:
        largest = int((have / (copies * MATRICES * 8)) ** 0.5)
        raise InputError(
            f"m={m} inputs", f"at most {largest} in the {have / _GIB:.1f} GiB available",
            f"{m} need about {need / _GIB:.1f} GiB ({MATRICES} matrices of m x m float64, "
            f"{copies} at a time): ask for fewer inputs (--train), or fewer --workers",
        )  # fmt: skip
    if m > TESTED:
        logging.getLogger("simprior").warning(
            "m=%d inputs: about %.1f GiB, and time grows as m^3 (5 s at 2048); errors are tested "
            "up to m=%d, so look at stderr and pareto_k", m, need / _GIB, TESTED,
        )  # fmt: skip
