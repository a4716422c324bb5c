"""Exact draws of z_S given sign z_S = labels, by iterated sampling-importance-resampling.

Each batch joins the state carried over to B fresh weighted proposals, resamples R of them by their
weights (systematic resampling) and carries one of the R on. This leaves the truncated Gaussian
invariant (iterated SIR: Tjelmeland 2004; Andrieu, Lee & Vihola 2018, section 2): each of the R
draws has the right distribution whatever B, there is no bias of self-normalisation, and batches of
equal size are (almost) independent clusters, which is what the intervals of a count table need.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np

from simprior.gp.event import Event
from simprior.gp.sequence import Draws
from simprior.gp.tilted import KAPPA, prepare
from simprior.gp.twist import Twist
from simprior.gp.weights import Summary, summarise

PILOT = 8192  # proposals to measure the efficiency with
START = 1024  # proposals that the first state is drawn from
BURN_IN = 4  # batches; the carried state is forgotten at the rate of one fresh state a batch
FEWEST = 32  # proposals a batch, at least
MOST = 4  # proposals a draw, at most
CHUNK = 1 << 19  # numbers (proposals times coordinates) at a time
_MIX = np.full(len(KAPPA), 1.0 / len(KAPPA))


@dataclass(frozen=True)
class Source:
    """Independent weighted proposals for the truncated Gaussian of one event.

    ``columns`` are the inputs of the event whose values are returned; ``summary`` holds ln P of
    the event and the effective share of the proposals, from a pilot of ``PILOT`` of them.
    """

    twist: Twist
    signs: np.ndarray
    columns: np.ndarray
    summary: Summary
    converged: bool

    @property
    def efficiency(self) -> float:
        """Effective draws a proposal, in (0, 1]."""
        return min(1.0, max(self.summary.ess / PILOT, 1.0 / PILOT))

    def propose(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """(count, c) values of z at ``columns`` and (count,) log-weights.

        The temperature of each proposal is drawn, not allotted, so that they are independent and
        identically distributed from the mixture.
        """
        size = max(CHUNK // self.twist.rank, 256)
        if count > size:
            parts = [self.propose(min(size, count - at), rng) for at in range(0, count, size)]
            return np.concatenate([z for z, _ in parts]), np.concatenate([w for _, w in parts])
        uniform = 1.0 - rng.random((self.twist.rank, count))
        done = Draws(self.twist, uniform, rng.integers(len(KAPPA), size=count)).run()
        z = done.points()[:, self.columns] * self.signs[self.columns]
        return z, done.log_weights(_MIX)


def make_source(event: Event, columns: np.ndarray, rng: np.random.Generator) -> Source:
    """Fit the proposals to ``event`` and try them. Raises :class:`NumericalError` (EP diverged)."""
    sites, twist = prepare(event)
    source = Source(twist, event.signs, columns, Summary(0.0, 0.0, 0.0, 0.0), sites.converged)
    _, logw = source.propose(PILOT, rng)
    summary = summarise(logw, np.zeros(PILOT, np.intp), 1)
    return Source(twist, event.signs, columns, summary, sites.converged)


class Chain:
    """Batches of R draws of z at the source's columns; ``squares`` sums n^2 over n-fold states.

    ``kept``: what :meth:`state` gave, to go on from there.
    """

    def __init__(
        self, source: Source, size: int, rng: np.random.Generator,
        kept: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        self.source, self.size, self.rng = source, size, rng
        self.proposals = max(min(int(size / source.efficiency), MOST * size), FEWEST)
        self.squares = 0
        if kept is not None:
            self._state, self._logw = kept["z"], float(kept["logw"])
            self.squares = int(kept["squares"])
            return
        z, logw = source.propose(START, rng)
        first = rng.choice(START, p=np.exp(logw - np.logaddexp.reduce(logw)))
        self._state, self._logw = z[first], float(logw[first])
        self.batches(BURN_IN)
        self.squares = 0

    def state(self) -> dict[str, Any]:
        """All that the next batch depends on, but for the generator."""
        return {"z": self._state, "logw": self._logw, "squares": self.squares}

    @property
    def chunk(self) -> int:
        """Batches to ask for at a time."""
        return max(1, CHUNK // (self.proposals * self.source.twist.rank))

    def batches(self, count: int) -> np.ndarray:
        """(count * R, c) draws, batch after batch."""
        z, logw = self.source.propose(count * self.proposals, self.rng)
        chosen, carried, squares = _select(
            logw.reshape(count, -1), self._logw, self.rng.random((count, 2)), self.size
        )
        self.squares += squares
        pool = np.concatenate([z, self._state[None]])  # index -1: the state carried in
        if carried >= 0:
            self._state, self._logw = z[carried], float(logw[carried])
        return pool[chosen.ravel()]


@numba.njit(cache=True, nogil=True)
def _select(
    logw: np.ndarray, state: float, uniform: np.ndarray, size: int
) -> tuple[np.ndarray, int, int]:
    """Indices (G, size) into all proposals (-1: the state), the last state, sum of n^2."""
    groups, count = logw.shape
    out = np.empty((groups, size), np.int64)
    carried, squares = -1, 0
    for g in range(groups):
        top = max(state, logw[g].max())
        total = np.exp(state - top)
        for i in range(count):
            total += np.exp(logw[g, i] - top)
        step = total / size
        at, taken = uniform[g, 0] * step, 0
        below = np.exp(state - top)
        index = carried
        for i in range(count + 1):
            repeats = 0
            while taken < size and (at < below or i == count):
                out[g, taken] = index
                taken += 1
                repeats += 1
                at += step
            squares += repeats * repeats
            if i < count:
                index = g * count + i
                below += np.exp(logw[g, i] - top)
        carried = out[g, min(int(uniform[g, 1] * size), size - 1)]
        if carried >= 0:
            state = logw[carried // count, carried % count]
    return out, carried, squares
