"""Estimates of ln P(f) by pilots and independent runs: how hard to try, and the loop of attempts.

What the inputs alone decide needs no trying (:func:`decide`). For all else an attempt makes a pilot
and some runs of each function; with ``tol`` further runs follow, as many as their spread asks for;
where the outcome is doubted and ``max_particles`` allows, all of it is done again with four times
the particles. Annealing (:mod:`simprior.finite.prior`) and replica exchange
(:mod:`simprior.finite.exchange`) say what an attempt is.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from simprior.checks import RUN_OPTIONS, Integer, Kind, Maybe, Number, Switch, Validator, Whole
from simprior.errors import InputError
from simprior.finite.particles import Inputs, distinct_inputs
from simprior.network.spec import Network
from simprior.numerics.estimate import LogProb
from simprior.runs.directory import RunDir
from simprior.runs.sharded import Work, run_sharded
from simprior.runs.tasks import RunOptions

GROWTH = 4  # particles of the next attempt over those of this one
FEWEST_RUNS = 4  # a standard error from fewer runs means nothing


@dataclass(frozen=True)
class Effort:
    """How hard to try. ``particles`` N; ``runs`` R; ``sweeps`` a step; ``power`` p of the energy;
    ``tol`` wanted standard error (nats) or None; ``max_runs``, ``max_particles`` the limits of
    further attempts; ``check`` whether the next power is tried; ``limit`` steps of a pilot.
    ``draws`` is for the methods that draw no particles: hidden layers or outputs, None for theirs.
    """

    particles: int = 300
    runs: int = 8
    sweeps: int = 1
    power: int = 3
    tol: float | None = None
    max_runs: int = 256
    max_particles: int | None = None
    check: bool = True
    limit: int = 2000
    draws: int | None = None

    def __post_init__(self) -> None:
        least = GROWTH * self.particles
        if self.max_particles is not None and self.max_particles < least:
            raise InputError(
                f"max_particles={self.max_particles} with particles={self.particles}",
                f"at least {least}: another attempt has {GROWTH} times the particles",
                "raise it, or leave it out: one attempt",
            )

    @property
    def pieces(self) -> int:
        """Pilots and runs a function, before ``tol`` asks for more."""
        return 1 + self.runs + (1 + self.check_runs if self.check else 0)

    @property
    def attempts(self) -> int:
        """The most attempts at one function, each with ``GROWTH`` times the particles."""
        count, particles = 1, self.particles * GROWTH
        while particles <= (self.max_particles or 0):
            count, particles = count + 1, particles * GROWTH
        return count

    @property
    def check_runs(self) -> int:
        """Runs with the next power."""
        return max(FEWEST_RUNS, self.runs // 2)


EFFORT: Mapping[str, Validator] = {
    "tol": Maybe(Number(0, open=True)),
    "particles": Integer(2, 10**7, "pass for example --particles 300"),
    "runs": Integer(FEWEST_RUNS, 10**5, "pass for example --runs 8"),
    "sweeps": Whole(1, 10**6),
    "power": Integer(1, 16, "pass power=3"),
    "max_runs": Whole(FEWEST_RUNS),
    "max_particles": Maybe(Whole(2)),
    "check": Switch(),
}
"""What the options of :func:`simprior.finite.prior.log_prior_finite` may be."""
HOW: Mapping[str, Validator] = {
    "workers": RUN_OPTIONS["workers"],
    "progress": RUN_OPTIONS["progress"],
    "store": Maybe(Kind(("RunDir",))),
}
"""What may be said about how and where it is computed."""


def decide(network: Network, inputs: Inputs, table: np.ndarray) -> LogProb | None:
    """The exact result where inputs alone, or linearity, decide; else None."""
    bits = inputs.labels(table)
    if bits is not None and len(inputs.X) and _possible(network, inputs.X, bits):
        return None
    value = -math.inf if bits is None or len(inputs.X) else 0.0
    reason = "no weights compute this function" if value else "all weights compute this function"
    diagnostics = {"reliable": True, "converged": True, "reason": reason, "seconds": 0.0}
    return LogProb(value, 0.0, math.inf, "exact", diagnostics)


def _possible(network: Network, X: np.ndarray, bits: np.ndarray) -> bool:
    """False only where the network is linear and the function is not linearly separable."""
    if network.depth and network.activation != "linear":
        return True
    from simprior.gp.covariance import feasible

    rows = np.hstack([X, np.ones((len(X), 1))]) if any(network.sigma_bs) else X
    basis, sizes, _ = np.linalg.svd(rows, full_matrices=False)  # inputs may be few or dependent
    span = basis[:, sizes > sizes.max() * max(rows.shape) * np.finfo(float).eps]
    return feasible(span * (2.0 * bits - 1.0)[:, None], np.zeros(len(X)))


def with_decided(
    network: Network, tables: np.ndarray, estimate: Callable[[list[int]], Iterable[LogProb]]
) -> list[LogProb]:
    """ln P of (F, m) truth tables: exact where inputs alone decide, else by ``estimate``.

    It is given the numbers of the other functions, if there are any.
    """
    inputs = distinct_inputs(network)
    found = [decide(network, inputs, table) for table in tables]
    todo = [i for i, known in enumerate(found) if known is None]
    rest = iter(estimate(todo) if todo else ())
    return [known or next(rest) for known in found]


class Tried(Protocol):
    """What an attempt at one function gave."""

    @property
    def runs(self) -> tuple[Any, ...]:
        """The independent runs."""

    @property
    def stderr(self) -> float:
        """Standard error of ln P of all runs, nats."""

    def doubts(self) -> list[str]:
        """What speaks against the value; nothing if it can be believed."""

    def result(self) -> LogProb:
        """The estimate with its diagnostics."""


WorkT = TypeVar("WorkT", bound="Work[Any, Any]")
TriedT = TypeVar("TriedT", bound=Tried)


@dataclass(frozen=True)
class Attempts(ABC, Generic[WorkT, TriedT]):
    """Attempts at functions of ``work``, each of them all functions at a time."""

    work: WorkT
    effort: Effort
    options: RunOptions
    store: RunDir | None

    @abstractmethod
    def attempt(self, todo: Sequence[int], particles: int) -> dict[int, TriedT]:
        """One attempt at each function."""

    def results(self, todo: Sequence[int]) -> dict[int, LogProb]:
        """What the last attempt at each function gave."""
        return {i: self._settled(outcome) for i, outcome in self.outcomes(todo).items()}

    def outcomes(self, todo: Sequence[int]) -> dict[int, TriedT]:
        """The last attempt at each function."""
        found: dict[int, TriedT] = {}
        particles = self.effort.particles
        while todo:
            found |= self.attempt(todo, particles)
            particles *= GROWTH
            if particles > (self.effort.max_particles or 0):
                break
            todo = [i for i in todo if found[i].doubts()]
        return found

    def wanted(self, outcome: TriedT) -> range:
        """Numbers of the runs that ``tol`` asks for besides those there are."""
        done, tol = len(outcome.runs), self.effort.tol
        if tol is None or not done or outcome.doubts():
            return range(0)
        count = math.ceil(done * (outcome.stderr / tol) ** 2)
        return range(done, max(done, min(self.effort.max_runs, count)))

    def run(self, pieces: Iterable[Any]) -> list[Any]:
        """The results of pilots or runs, in order."""
        listed = list(pieces)
        return run_sharded(self.work, listed, self.options, self.store) if listed else []

    def _settled(self, outcome: TriedT) -> LogProb:
        result, tol = outcome.result(), self.effort.tol
        if tol is None:
            return result
        reached = {"tol_reached": bool(result.stderr <= tol)}
        return replace(result, diagnostics={**result.diagnostics, **reached})
