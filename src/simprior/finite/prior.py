"""ln P(f) of a network of finite width: pilots, runs, more runs, verdicts.

For each function a pilot finds how to anneal, then independent runs estimate P(f). Half as many
runs with the next power of the energy check them. With ``tol`` further runs follow, as many as
their spread asks for. Where a check doubts a value and ``max_particles`` allows, all of it is done
again with four times the particles.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from simprior.boolean.truthtable import parse_functions
from simprior.checks import (
    NETWORK,
    RUN_OPTIONS,
    Integer,
    Kind,
    Maybe,
    Number,
    Switch,
    Validator,
    Whole,
    checked,
)
from simprior.errors import InputError, check_fits
from simprior.finite.particles import Inputs, check_network, distinct_inputs, scratch_bytes
from simprior.finite.smc import Ladder, Run
from simprior.finite.tasks import Annealing, Piece
from simprior.finite.verdict import Outcome
from simprior.network.spec import Network, check_size
from simprior.numerics.estimate import LogProb
from simprior.numerics.random import check_seed
from simprior.runs.directory import RunDir
from simprior.runs.sharded import run_sharded
from simprior.runs.tasks import Progress, RunOptions

TESTED = 4096  # inputs
GROWTH = 4  # particles of the next attempt over those of this one
FEWEST_RUNS = 4  # a standard error from fewer runs means nothing
_METHOD = "finite-smc"


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
"""What the options of :func:`log_prior_finite` may be."""
HOW: Mapping[str, Validator] = {
    "workers": RUN_OPTIONS["workers"],
    "progress": RUN_OPTIONS["progress"],
    "store": Maybe(Kind(("RunDir",))),
}
"""What may be said about how and where it is computed."""


@checked(network=NETWORK, **EFFORT, **HOW)
def log_prior_finite(
    network: Network,
    functions: Any,
    *,
    tol: float | None = None,
    particles: int = Effort.particles,
    runs: int = Effort.runs,
    sweeps: int = Effort.sweeps,
    power: int = Effort.power,
    max_runs: int = Effort.max_runs,
    max_particles: int | None = None,
    check: bool = True,
    seed: int = 0,
    workers: int = 1,
    progress: Progress | None = None,
    store: RunDir | None = None,
) -> list[LogProb]:
    """ln P(f) of a real, finite network for each function, by annealed sequential Monte Carlo.

    Parameters
    ----------
    network : Network
        Gaussian weights and a built-in activation; any depth and widths, any ``sigma_b``.
    functions : array, str or sequence
        As in :func:`simprior.boolean.truthtable.parse_functions`.
    tol : float, optional
        Wanted standard error, in nats: runs are added until it is reached, ``max_runs`` at most.
    particles, runs : int
        Networks a run, and independent runs (at least 4).
    sweeps : int
        Sweeps over all weights between two steps of the annealing.
    power : int
        p of the energy (2V)^p. p = 1 misses structured functions.
    max_particles : int, optional
        Values that are doubted are tried again with 4 times the particles, up to this many.
    check : bool
        Whether half as many runs with power p + 1 check the value.
    seed : int
        The result is a function of (seed, function, the options above), not of ``workers``.
    workers, progress
        See :func:`simprior.runs.tasks.run_tasks`; progress counts pilots and runs.
    store : RunDir, optional
        An open run directory in which each pilot and run is kept, and found again.

    Returns
    -------
    list of LogProb
        Values in nats. ``stderr`` is nan where a check doubts the value: ``converged`` and
        ``reliable`` are False then, and ``reason`` says why. Further diagnostics: ``low`` and
        ``high`` (95 % by Student's t), ``stderr_error`` (the error of the error), ``bound_low``
        (ln P is above it with 95 % confidence, whatever the checks say), ``spread`` (nats, between
        runs), ``spread_ratio`` (over that of perfect mixing), ``ancestors``, ``steps``, ``share``,
        ``particles``, ``runs``, ``check`` (ln P with p + 1), ``pilot``, ``tries``, ``seconds``.

    Raises
    ------
    InputError
        Uniform weights, a user's own activation, bad functions or options.
    MemoryShortage, Interrupted, StoreError
    """
    effort = Effort(particles, runs, sweeps, power, tol, max_runs, max_particles, check)
    tables = parse_functions(functions, network.m, None if network.inputs is None else 0)
    check_cost(network, effort, workers)
    options = RunOptions(workers=workers, progress=progress)
    return estimate(network, tables, effort, check_seed(seed), options, store)


def estimate(
    network: Network,
    tables: np.ndarray,
    effort: Effort,
    seed: int,
    options: RunOptions,
    store: RunDir | None = None,
) -> list[LogProb]:
    """:func:`log_prior_finite` for (F, m) truth tables; ``options`` says how it is computed."""
    check_network(network)
    check_size(network)
    inputs = distinct_inputs(network)
    decided = {i: decide(network, inputs, table) for i, table in enumerate(tables)}
    work = Annealing(network, tables, effort.sweeps, seed, effort.limit)
    session = Session(work, effort, options, store)
    found = session.results([i for i, known in decided.items() if known is None])
    return [known or found[i] for i, known in decided.items()]


def check_cost(network: Network, effort: Effort, workers: int = 1) -> None:
    """Refuse what does not fit in memory; say what many inputs cost."""
    most = max(effort.particles, effort.max_particles or 0)
    weights = sum((f + 1) * w for f, w in zip(network.fan_ins, (*network.hidden, 1), strict=True))
    need = workers * (8.0 * most * weights + scratch_bytes(network, network.m))
    check_fits(f"particles={most} of {weights} weights", need, "use fewer --particles or --workers")
    if network.m > TESTED:
        logging.getLogger("simprior").warning(
            "m=%d inputs: %.2g GiB of memory, and a time that grows as m times the weights (about "
            "%.2g s a sweep of %d particles); tested up to m=%d",
            network.m, need / 2**30, 1e-9 * network.m * weights * effort.particles,
            effort.particles, TESTED,
        )  # fmt: skip


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


@dataclass(frozen=True)
class Session:
    """Attempts at all functions, each of them all functions at a time."""

    work: Annealing
    effort: Effort
    options: RunOptions
    store: RunDir | None

    def results(self, todo: Sequence[int]) -> dict[int, LogProb]:
        """What the last attempt at each function gave."""
        return {i: self._settled(outcome) for i, outcome in self.outcomes(todo).items()}

    def outcomes(self, todo: Sequence[int]) -> dict[int, Outcome]:
        """The last attempt at each function."""
        found: dict[int, Outcome] = {}
        particles = self.effort.particles
        while todo:
            found |= self._attempt(todo, particles)
            particles *= GROWTH
            if particles > (self.effort.max_particles or 0):
                break
            todo = [i for i in todo if found[i].doubts()]
        return found

    def _settled(self, outcome: Outcome) -> LogProb:
        result, tol = outcome.result(), self.effort.tol
        if tol is not None:
            result = replace(
                result, diagnostics={**result.diagnostics, "tol_reached": result.stderr <= tol}
            )
        return result

    def _attempt(self, todo: Sequence[int], particles: int) -> dict[int, Outcome]:
        effort = self.effort
        powers = (effort.power, effort.power + 1) if effort.check else (effort.power,)
        digests = {i: self.work.digest(i) for i in todo}
        asked = [Piece(i, digests[i], particles, power) for i in todo for power in powers]
        ladders = dict(zip(((p.index, p.power) for p in asked), self._run(asked), strict=True))
        counts = {effort.power + 1: effort.check_runs, effort.power: effort.runs}
        runs = self._runs(ladders, {key: range(counts[key[1]]) for key in ladders}, particles)
        outcomes = {}
        for i in todo:
            first, second = (i, powers[0]), (i, powers[-1])
            outcomes[i] = Outcome(particles, ladders[first], runs[first])
            if effort.check:
                outcomes[i] = replace(outcomes[i], other=ladders[second], checks=runs[second])
        more = {(i, powers[0]): self._wanted(outcome) for i, outcome in outcomes.items()}
        for (i, _), extra in self._runs(ladders, more, particles).items():
            outcomes[i] = replace(outcomes[i], runs=outcomes[i].runs + extra)
        return outcomes

    def _wanted(self, outcome: Outcome) -> range:
        """Numbers of the runs that ``tol`` asks for besides those there are."""
        done, tol = len(outcome.runs), self.effort.tol
        if tol is None or outcome.doubts():
            return range(0)
        wanted = math.ceil(done * (outcome.mean().stderr / tol) ** 2)
        return range(done, max(done, min(self.effort.max_runs, wanted)))

    def _runs(
        self,
        ladders: dict[tuple[int, int], Ladder],
        numbers: dict[tuple[int, int], range],
        particles: int,
    ) -> dict[tuple[int, int], tuple[Run, ...]]:
        """Runs with the given numbers for each (function, power)."""
        pieces = [
            Piece(i, self.work.digest(i), particles, power, number, strengths)
            for (i, power), wanted in numbers.items()
            for strengths in [tuple(ladders[i, power].strengths.tolist())]
            for number in wanted
        ]
        done = iter(self._run(pieces))
        return {key: tuple(next(done) for _ in wanted) for key, wanted in numbers.items()}

    def _run(self, pieces: Iterable[Piece]) -> list[Any]:
        listed = list(pieces)
        if not listed:
            return []
        return run_sharded(self.work, listed, self.options, self.store)
