"""Exact posterior by rejection: networks drawn from the prior, kept if they agree with S.

This is approximate Bayesian computation with tolerance 0, hence exact: a kept
network is a draw from P_B(f|S). Nothing but the counts of kept functions is held in memory.

With heads that share hidden layers the kept draws come in clusters of random size a_c, and
P_B(f|S) is estimated by the ratio sum n_cf / sum a_c, whose clustered delta-method variance is
sum (n_cf - p a_c)^2 / (sum a_c)^2 (Cochran 1977, section 6.3). The table's ``sumsq`` holds that
residual sum of squares (see ``chains.ratio_squares``), which makes its standard errors and
intervals those of the ratio.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.sampling.dnf import RandomDNF, sample_dnf_chunk
from simprior.boolean.sampling.job import STREAM, Job, make_plan, make_scratch
from simprior.boolean.sampling.merging import Merger
from simprior.boolean.sampling.prepare import check_samples, make_job
from simprior.boolean.sampling.rows import Rows
from simprior.boolean.truthtable import n_words, pack
from simprior.checks import Updates, Whole, checked
from simprior.errors import NumericalError
from simprior.modules.spec import Module
from simprior.network.spec import Network
from simprior.numerics.estimate import korn_graubard, share_stderr
from simprior.numerics.random import philox_key
from simprior.runs.directory import RunDir
from simprior.runs.tasks import Progress, run_tasks
from simprior.runs.threads import per_thread
from simprior.training.posterior.chains import (
    NONE,
    ClusterSums,
    TrainingSet,
    aggregate,
    counts_of_clusters,
    make_training_set,
    read_sums,
    write_sums,
)
from simprior.training.posterior.kernels import accept_draws

_FIRST_TASK = 1 << 16  # prior draws of the first task; each later one has ...
_SHARE = 32  # ... this part of all draws before it, if that is more, ...
_TASK_WORK = 1e11  # ... up to so many multiply-adds
_SLOWER = 8.0  # multiply-adds of modules than those of the compiled kernel
_BUFFER = 1 << 15
_LOOKS = 64  # how often the largest task looks whether there are enough
_CHUNK = 1 << 16


@dataclass(frozen=True)
class _Task:
    index: int
    first: int
    stop: int  # hidden draws first .. stop - 1
    networks: int

    @property
    def name(self) -> str:
        """Name of the shard."""
        return f"{self.index:06d}"

    @property
    def span(self) -> list[int]:
        """What tells a shard of this task from one of another split."""
        return [self.first, self.stop, self.networks]


@checked(workers=Whole(1), progress=Updates())
def rejection_posterior(
    network: Network | RandomDNF | Module,
    train_index: Sequence[int] | np.ndarray,
    labels: Any = None,
    samples: int | float = 10**4,
    seed: int = 0,
    *,
    target: Any = None,
    max_draws: int | float = 10**9,
    heads: int | str = "auto",
    workers: int = 1,
    progress: Progress | None = None,
    store: RunDir | None = None,
) -> FunctionCounts:
    """Draw functions from P_B(f|S) by keeping the prior draws that agree with S.

    Parameters
    ----------
    network : Network, RandomDNF or Module
        The prior, of finite width, with any law of weights.
    train_index, labels, target
        See :func:`simprior.training.posterior.chains.make_training_set`.
    samples : int
        Functions wanted. Drawing stops after the first task that reaches them, so that there are
        usually some more; fewer if ``max_draws`` networks do not yield them (the report says so).
    seed : int
        Same seed, same counts, whatever ``workers`` is. The networks are those of
        ``sample(network, seed=seed, heads=heads)``.
    max_draws : int
        Networks to draw from the prior at most.
    heads : int or "auto"
        See :func:`simprior.boolean.sampling.sample.sample`.
    workers, progress
        See :func:`simprior.runs.tasks.run_tasks`; progress counts networks drawn.
    store : RunDir, optional
        Where finished tasks are kept, and found again.

    Returns
    -------
    FunctionCounts
        All draws agree with S. ``info["posterior"]``: ``method``, ``wanted``, ``prior_draws``,
        ``accepted``, ``acceptance`` (= P(C(S))) with ``acceptance_low`` and ``acceptance_high``
        (95 %), ``error`` and ``error_stderr`` (mean share of inputs outside S where a draw differs
        from the target, if there is one), ``log_evidence`` and
        ``log_evidence_stderr`` (nats), ``ess`` (effective draws for a function that is decided by
        the hidden layers: (sum a_c)^2 / sum a_c^2), ``violating`` (0),
        ``converged`` (at least the draws that were wanted).

    Raises
    ------
    InputError
        Bad training set, or an option out of range.
    NumericalError
        None of ``max_draws`` networks agrees with S.
    """
    samples, budget = check_samples(samples), check_samples(max_draws)
    job = make_job(network, budget, seed, heads, modules=True)
    given = make_training_set(network.m, train_index, labels, target)
    total = _Total(given, samples)
    most = _task_draws(job)
    size = min(most, -(-_FIRST_TASK // job.heads))

    def tasks() -> Iterator[_Task]:
        at, index = 0, 0
        end = -(-budget // job.heads)
        while at < end and not total.full:
            draws = max(size, at // _SHARE)  # what is drawn beyond those wanted is a small part
            stop = min(at + min(draws, most), end)
            task = _Task(index, at, stop, min(stop * job.heads, budget) - at * job.heads)
            kept = None if store is None else read_sums(store, task.name, given.m, task.span)
            if kept is None:
                yield task
            else:
                total.receive(task, kept)
                if progress is not None:
                    progress.update(task.networks)
            at, index = stop, index + 1

    def receive(task: _Task, result: ClusterSums) -> None:
        if store is not None and not total.full:
            write_sums(store, task.name, result, task.span)
        total.receive(task, result)
        if total.full:
            enough.say()

    with tempfile.TemporaryDirectory() as folder:
        enough = _Enough(Path(folder, "enough"))
        run_tasks(
            partial(_run, job, given, enough),
            tasks(),
            on_result=receive,
            workers=workers,
            progress=progress,
            amount=lambda t: t.networks,
            threads=job.compiled,
        )
    if total.sums.accepted == 0:
        seen = total.networks if job.iid else total.draws  # heads of one hidden draw go together
        raise NumericalError(
            f"rejection: none of {total.networks} networks agrees with the {given.index.size} "
            f"training labels (P(C(S)) < {3.69 / seen:.2g} at 95 %): expected at least "
            "one; raise max_draws, or use slice sampling or the Gaussian process"
        )
    return total.counts(job)


@dataclass(frozen=True)
class _Enough:
    """Whether enough functions are kept, for tasks in threads and in other processes: a file."""

    path: Path

    def say(self) -> None:
        self.path.touch()

    def __call__(self) -> bool:
        return self.path.exists()


class _Total:
    """Adds up the tasks in order until enough functions are kept; later tasks are dropped."""

    def __init__(self, given: TrainingSet, wanted: int) -> None:
        self.given, m = given, given.m
        self.m, self.wanted, self.networks, self.draws = m, wanted, 0, 0
        self._next, self._waiting = 0, dict[int, tuple[_Task, ClusterSums]]()
        self._main, self._cross = Merger(m), Merger(m)
        none = np.zeros(0, np.int64)
        rows = Rows(np.zeros((0, n_words(m)), np.uint64), none, none, none)
        self.sums = ClusterSums(rows, none, np.zeros((m + 1, 3), np.int64), 0, 0, 0, NONE)

    @property
    def full(self) -> bool:
        return self.sums.accepted >= self.wanted

    def receive(self, task: _Task, result: ClusterSums) -> None:
        self._waiting[task.index] = task, result
        while self._next in self._waiting and not self.full:
            done, part = self._waiting.pop(self._next)
            self._next += 1
            self.networks += done.networks
            self.draws += done.stop - done.first
            rows, mine = part.rows, self.sums
            self._main.add(rows)
            self._cross.add(Rows(rows.words, rows.count, rows.clusters, part.cross))
            mine.ones += part.ones
            mine.wrong = mine.wrong + part.wrong
            mine.accepted += part.accepted
            mine.clusters += part.clusters
            mine.squares += part.squares

    def counts(self, job: Job) -> FunctionCounts:
        sums = replace(self.sums, rows=self._main.rows(), cross=self._cross.rows().sumsq)
        known = isinstance(job.model, RandomDNF) or job.model.inputs is None
        info = {"model": job.model, "posterior": self._report(job)}
        return counts_of_clusters(sums, self.given, job.model.n if known else 0, info)

    def _error(self) -> dict[str, float]:
        """Mean error outside S and its standard error, by cluster as a ratio."""
        if self.given.target is None:
            return {}
        s, inputs = self.sums, len(self.given.outside)
        total, squares, cross = (float(v) for v in s.wrong)
        mean = total / s.accepted
        residual = squares - 2 * mean * cross + mean**2 * s.squares
        variance = residual * s.clusters / max(s.clusters - 1, 1)
        error = math.sqrt(max(variance, 0.0)) / s.accepted / inputs
        if int(squares) * s.squares == int(cross) ** 2:  # no spread between clusters
            error = float(share_stderr(0.0, s.accepted**2 / s.squares))
        return {"error": mean / inputs, "error_stderr": error}

    def _report(self, job: Job) -> dict[str, Any]:
        s = self.sums
        clusters = self.networks if job.iid else self.draws
        p = s.accepted / self.networks
        between = s.squares - s.accepted**2 / clusters if not job.iid else s.accepted * (1 - p)
        variance = between * clusters / max(clusters - 1, 1)
        binomial = s.accepted * (1 - p)  # 0 if all agree, which shows no spread: the worst effect
        effect = max(1.0, variance / binomial if binomial > 0 else self.networks / clusters)
        low, high = korn_graubard(np.array(s.accepted), self.networks, effect, clusters=clusters)
        return self._error() | {
            "method": "rejection",
            "wanted": self.wanted,
            "prior_draws": self.networks,
            "hidden_draws": self.draws,
            "accepted": s.accepted,
            "acceptance": p,
            "acceptance_low": float(low),
            "acceptance_high": float(high),
            "log_evidence": math.log(p),
            "log_evidence_stderr": float(share_stderr(p, self.networks / effect)) / p,
            "ess": s.accepted**2 / s.squares,
            "violating": 0.0,
            "converged": self.full,
            "reliable": s.clusters >= 30,
        }


def _task_draws(job: Job) -> int:
    """Hidden draws of the largest task: a few seconds of work."""
    model = job.model
    if isinstance(model, RandomDNF):
        return int(_TASK_WORK // (1000 * model.width))
    if isinstance(model, Module):
        cost, last = model.built.cost, model.last()
        fan_in = 0 if last is None else last.fan_in
        work = cost.products + cost.elements + job.heads * model.m * (fan_in + 8)
        return max(64, int(_TASK_WORK / _SLOWER / work))
    layers = list(zip(model.fan_ins, (*model.hidden, job.heads), strict=True))
    work = sum((f + 1) * w * (model.m + 8) for f, w in layers) + 1000
    return max(64, int(_TASK_WORK / work))


def _run(job: Job, given: TrainingSet, enough: Callable[[], bool], task: _Task) -> ClusterSums:
    """Kept functions of a task; a function of (job, given, task).

    What is left of it is not done when there are ``enough`` of earlier tasks, which are in the
    total then: this one is dropped.
    """
    m = given.m
    main, cross = Merger(m), Merger(m)
    total = ClusterSums(
        main.rows(), np.zeros(0, np.int64), np.zeros((m + 1, 3), np.int64), 0, 0, 0, NONE
    )
    for words, owner in _kept(job, given, task):
        part = aggregate(words, owner, given)
        main.add(part.rows)
        rows = part.rows
        cross.add(Rows(rows.words, rows.count, rows.clusters, part.cross))
        total.ones += part.ones
        total.wrong = total.wrong + part.wrong
        total.accepted += part.accepted
        total.clusters += part.clusters
        total.squares += part.squares
        if enough():
            break
    total.rows, total.cross = main.rows(), cross.rows().sumsq
    return total


def _kept(job: Job, given: TrainingSet, task: _Task) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(kept functions (B, W), their hidden draws (B,)); no draw is split over two chunks."""
    mask_table, want_table = np.zeros((2, given.m), np.uint8)
    mask_table[given.index], want_table[given.index] = 1, given.bits
    mask, want = pack(np.stack([mask_table, want_table]))
    if isinstance(job.model, RandomDNF):
        key = philox_key(job.seed, STREAM)
        for at in range(task.first, task.stop, _CHUNK):
            words = sample_dnf_chunk(job.model, key, at, min(at + _CHUNK, task.stop))
            kept = ((words & mask) == want).all(axis=1)
            yield words[kept], at + np.flatnonzero(kept)
    elif isinstance(job.model, Module):
        yield from _kept_modules(job, task, mask, want)
    elif job.compiled:
        yield from _kept_compiled(job, task, _lane_order(mask), _lane_order(want))
    else:
        yield from _kept_torch(job, task, mask, want)


def _lane_order(words: np.ndarray) -> np.ndarray:
    """Bits of every word reversed (input 0 lowest), as the kernel holds them."""
    octets = words.astype(">u8").view(np.uint8).reshape(len(words), 8)
    bits = np.unpackbits(octets, axis=1)[:, ::-1]
    return np.packbits(bits, axis=1).reshape(-1).view(">u8").astype(np.uint64)


@per_thread(maxsize=2)
def _prepared(network: Network, heads: int) -> tuple[Any, Any]:
    plan = make_plan(network, heads)
    return plan, make_scratch(plan)


def _kept_compiled(
    job: Job, task: _Task, mask: np.ndarray, want: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    assert isinstance(job.model, Network)
    plan, (scratch, buffers) = _prepared(job.model, job.heads)
    key = np.uint64(philox_key(job.seed, STREAM))
    room = max(_BUFFER, job.heads)
    found, owner = np.empty((room, plan.n_words), np.uint64), np.empty(room, np.int64)
    at, step = task.first, -(-_task_draws(job) // _LOOKS)
    while at < task.stop:
        at, filled = accept_draws(
            plan.arch,
            plan.consts,
            scratch,
            plan.heads_arch,
            buffers,
            at,
            min(at + step, task.stop),
            job.samples,
            key,
            mask,
            want,
            found,
            owner,
        )
        group = owner[:filled]
        if job.iid and job.heads > 1:  # heads of a perceptron are independent networks
            group = np.arange(filled)
        yield found[:filled], group


def _kept_modules(
    job: Job, task: _Task, mask: np.ndarray, want: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    from simprior.boolean.sampling.module_engine import functions_of

    for draw, words in functions_of(job, task.first, task.stop):
        drawn = words[: job.samples - draw * job.heads]
        kept = np.flatnonzero(((drawn & mask) == want).all(axis=1))
        yield drawn[kept], draw + kept // job.heads


def _kept_torch(
    job: Job, task: _Task, mask: np.ndarray, want: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    import torch

    from simprior.boolean.sampling.torch_engine import _cpu_batches

    with torch.no_grad():
        for draw, words in _cpu_batches(job, task.first, task.stop):
            drawn = words[: job.samples - draw * job.heads]
            kept = drawn[((drawn & mask) == want).all(axis=1)]
            if job.iid:
                yield kept, np.arange(len(kept))
            else:
                yield kept, np.full(len(kept), draw)
