"""ln P(f) of a network of finite width: pilots, runs, more runs, verdicts.

For each function a pilot finds how to anneal, then independent runs estimate P(f). Half as many
runs with the next power of the energy check them. With ``tol`` further runs follow, as many as
their spread asks for. Where a check doubts a value and ``max_particles`` allows, all of it is done
again with four times the particles.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from simprior.boolean.truthtable import parse_functions
from simprior.checks import NETWORK, checked
from simprior.errors import check_fits
from simprior.finite.attempts import EFFORT, HOW, Attempts, Effort, with_decided
from simprior.finite.particles import check_network, scratch_bytes
from simprior.finite.smc import Ladder, Run
from simprior.finite.tasks import Annealing, Piece
from simprior.finite.verdict import Outcome
from simprior.network.spec import Network, check_size
from simprior.numerics.estimate import LogProb
from simprior.numerics.random import check_seed
from simprior.runs.directory import RunDir
from simprior.runs.tasks import Progress, RunOptions

TESTED = 4096  # inputs


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
    work = Annealing(network, tables, effort.sweeps, seed, effort.limit)
    session = Session(work, effort, options, store)
    return with_decided(network, tables, lambda todo: session.results(todo).values())


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


class Session(Attempts[Annealing, Outcome]):
    """Attempts at all functions by annealing, each of them all functions at a time."""

    def attempt(self, todo: Sequence[int], particles: int) -> dict[int, Outcome]:
        """Pilots and runs of both powers."""
        effort = self.effort
        powers = (effort.power, effort.power + 1) if effort.check else (effort.power,)
        digests = {i: self.work.digest(i) for i in todo}
        asked = [Piece(i, digests[i], particles, power) for i in todo for power in powers]
        ladders = dict(zip(((p.index, p.power) for p in asked), self.run(asked), strict=True))
        counts = {effort.power + 1: effort.check_runs, effort.power: effort.runs}
        runs = self._runs(ladders, {key: range(counts[key[1]]) for key in ladders}, particles)
        outcomes = {}
        for i in todo:
            first, second = (i, powers[0]), (i, powers[-1])
            outcomes[i] = Outcome(
                particles,
                ladders[first],
                runs[first],
                planned=effort.runs,
                attempts=effort.attempts,
            )
            if effort.check:
                outcomes[i] = replace(outcomes[i], other=ladders[second], checks=runs[second])
        more = {(i, powers[0]): self.wanted(outcome) for i, outcome in outcomes.items()}
        for (i, _), extra in self._runs(ladders, more, particles).items():
            outcomes[i] = replace(outcomes[i], runs=outcomes[i].runs + extra)
        return outcomes

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
        done = iter(self.run(pieces))
        return {key: tuple(next(done) for _ in wanted) for key, wanted in numbers.items()}
