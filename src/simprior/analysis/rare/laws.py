"""Laws of random inputs, each in *states*: uniform bits, or standard normal numbers.

A state is what an estimator moves; :meth:`Law.inputs` turns it into an input of the network. In
states both laws belong to an exponential family: the law tilted by theta has the density
exp(theta . s - A(theta)) against the law itself, and factorises over the entries of a state.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from simprior.checks import Array
from simprior.errors import InputError

LAWS = ("bits", "gaussian", "data")
SIDES = ("rare", "above", "below")
"""Sides of the threshold: ``rare`` is the rarer of the other two."""
MOST_BITS = 20
"""Bits up to which all strings are enumerated."""
_STEEPEST = 6.0  # log-odds of a bit under a tilt
_STRIDE = 2.4  # of the longest step of the random walk, in standard deviations
_RANK = 1e-12  # of the largest variance: directions with less are constant


class Law(Protocol):
    """A law of inputs."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def size(self) -> int:
        """Entries of a state."""

    def draw(self, count: int, source: np.random.Generator) -> np.ndarray:
        """(count, size) states."""

    def tilted(self, theta: np.ndarray, count: int, source: np.random.Generator) -> np.ndarray:
        """(count, size) states of the law tilted by ``theta``."""

    def log_partition(self, theta: np.ndarray) -> float:
        """A(theta), in nats."""

    def tilt_of(self, mean: np.ndarray) -> np.ndarray:
        """The tilt under which states have this mean, within limits."""

    def limited(self, theta: np.ndarray) -> np.ndarray:
        """``theta`` within the limits of a tilt."""

    def propose(
        self, states: np.ndarray, scale: float, source: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Symmetric proposals, ``scale`` in (0, 1], and (N,) ln of the law there over here."""

    def inputs(self, states: np.ndarray) -> np.ndarray:
        """(N, d) inputs of the network."""

    def pull(self, slopes: np.ndarray) -> np.ndarray:
        """Gradients in the states from those in the inputs."""

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean (d,) and covariance (d, d) of the inputs."""

    def digest(self) -> str:
        """SHA-256 (hex) of everything that determines the law."""


@dataclass(frozen=True)
class BitLaw:
    """Uniform strings of ``size`` bits; a network reads bits as 0 and 1, or (``signed``) +-1."""

    size: int
    signed: bool = False

    name = "bits"

    def draw(self, count: int, source: np.random.Generator) -> np.ndarray:
        """See :class:`Law`."""
        return source.integers(2, size=(count, self.size)).astype(np.float64)

    def tilted(self, theta: np.ndarray, count: int, source: np.random.Generator) -> np.ndarray:
        """See :class:`Law`."""
        chance = 1.0 / (1.0 + np.exp(-theta))
        return (source.random((count, self.size)) < chance).astype(np.float64)

    def log_partition(self, theta: np.ndarray) -> float:
        """See :class:`Law`."""
        return float(np.logaddexp(0.0, theta).sum()) - self.size * math.log(2.0)

    def tilt_of(self, mean: np.ndarray) -> np.ndarray:
        """See :class:`Law`."""
        share = np.clip(mean, 0.0, 1.0)  # a weighted mean may pass 1 by rounding
        with np.errstate(divide="ignore"):
            return self.limited(np.log(share) - np.log1p(-share))

    def limited(self, theta: np.ndarray) -> np.ndarray:
        """See :class:`Law`."""
        return np.clip(theta, -_STEEPEST, _STEEPEST)

    def propose(
        self, states: np.ndarray, scale: float, source: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """One bit at random is flipped, and each of the others with probability ``scale`` / 4."""
        flips = source.random(states.shape) < 0.25 * scale
        rows = np.arange(len(states))
        flips[rows, source.integers(self.size, size=len(states))] = True
        return np.abs(states - flips), np.zeros(len(states))

    def inputs(self, states: np.ndarray) -> np.ndarray:
        """See :class:`Law`."""
        return 2.0 * states - 1.0 if self.signed else states

    def pull(self, slopes: np.ndarray) -> np.ndarray:
        """See :class:`Law`."""
        return 2.0 * slopes if self.signed else slopes

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Law`."""
        mean, variance = (0.0, 1.0) if self.signed else (0.5, 0.25)
        return np.full(self.size, mean), variance * np.eye(self.size)

    def digest(self) -> str:
        """See :class:`Law`."""
        return hashlib.sha256(f"bits/{self.size}/{self.signed}".encode()).hexdigest()

    def strings(self, first: int, last: int) -> np.ndarray:
        """The states with the numbers ``first`` to ``last`` - 1, x1 the most significant bit."""
        numbers = np.arange(first, last)[:, None]
        return ((numbers >> np.arange(self.size - 1, -1, -1)) & 1).astype(np.float64)


@dataclass(frozen=True, eq=False)
class GaussianLaw:
    """Inputs ``mean`` + ``root`` s with standard normal states s; ``root`` is (d, size)."""

    mean: np.ndarray
    root: np.ndarray
    name: str = "gaussian"

    @classmethod
    def standard(cls, d: int) -> GaussianLaw:
        """N(0, 1) in every one of ``d`` entries."""
        return cls(np.zeros(d), np.eye(d))

    @classmethod
    def like(cls, rows: Any) -> GaussianLaw:
        """The Gaussian with the mean and the covariance of the rows (m, d) of a data set.

        Directions in which the data do not vary stay constant. Raises :class:`InputError` for
        fewer than two rows, or data that do not vary at all.
        """
        rows = Array(2)("law", rows)
        if len(rows) < 2 or not np.ptp(rows, axis=0).any():
            what = f"a law like data of shape {rows.shape}"
            raise InputError(what, "two rows or more that differ", "pass law='gaussian'")
        values, vectors = np.linalg.eigh(np.cov(rows, rowvar=False).reshape(2 * rows.shape[1:]))
        kept = values > _RANK * values.max()
        return cls(rows.mean(0), vectors[:, kept] * np.sqrt(values[kept]), "data")

    @property
    def size(self) -> int:
        """See :class:`Law`."""
        return int(self.root.shape[1])

    def draw(self, count: int, source: np.random.Generator) -> np.ndarray:
        """See :class:`Law`."""
        return source.standard_normal((count, self.size))

    def tilted(self, theta: np.ndarray, count: int, source: np.random.Generator) -> np.ndarray:
        """See :class:`Law`."""
        return self.draw(count, source) + theta

    def log_partition(self, theta: np.ndarray) -> float:
        """See :class:`Law`."""
        return 0.5 * float(theta @ theta)

    def tilt_of(self, mean: np.ndarray) -> np.ndarray:
        """See :class:`Law`."""
        return mean

    def limited(self, theta: np.ndarray) -> np.ndarray:
        """See :class:`Law`."""
        return theta

    def propose(
        self, states: np.ndarray, scale: float, source: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """A random walk; far from 0 it goes further than one that keeps the law by itself."""
        found = states + _STRIDE * scale * source.standard_normal(states.shape)
        return found, 0.5 * ((states**2).sum(1) - (found**2).sum(1))

    def inputs(self, states: np.ndarray) -> np.ndarray:
        """See :class:`Law`."""
        return np.asarray(self.mean + states @ self.root.T)

    def pull(self, slopes: np.ndarray) -> np.ndarray:
        """See :class:`Law`."""
        return np.asarray(slopes @ self.root)

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Law`."""
        return self.mean, self.root @ self.root.T

    def digest(self) -> str:
        """See :class:`Law`."""
        found = hashlib.sha256(self.name.encode())
        for array in (self.mean, self.root):
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()
