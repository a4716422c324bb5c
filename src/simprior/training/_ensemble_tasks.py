"""One task of a training run: a range of members -> their functions, steps, errors, losses.

Everything here runs in a worker; a task's result depends on (job, range) only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from simprior.boolean._tasks import key_columns
from simprior.store import Written, write_table
from simprior.training.records import arrow_table
from simprior.training.spec import TrainSpec
from simprior.training.targets import Problem

_TASK_SECONDS, _GUESSED_STEPS = 2.0, 500
_FLOPS, _UPDATES = 2e10, 1.5e9  # multiply-adds and parameter updates a second, roughly
_LEAST_TASKS, _MOST_MEMBERS = 16, 4096
_TORCH_MEMBERS = {"cpu": 4096, "cuda": 1 << 16}


@dataclass(frozen=True)
class Job:
    """What determines the members of a run, and where a worker puts its shards."""

    spec: TrainSpec
    problem: Problem
    runs: int
    device: str = "cpu"
    shards: Path | None = None
    engine: str = "compiled"
    members: int = 0

    def __hash__(self) -> int:
        return id(self.problem)


@dataclass(frozen=True)
class Task:
    """Members ``first .. first + count - 1``."""

    index: int
    first: int
    count: int

    @property
    def name(self) -> str:
        """Name of the shard."""
        return f"{self.index:06d}"

    @property
    def range(self) -> dict[str, int]:
        """Which members it is of: its shard is registered with them."""
        return {"first": self.first, "count": self.count}


@dataclass(frozen=True)
class Members:
    """Columns of some members, as in ``TrainResult``; the trajectory has a row a recorded step."""

    words: np.ndarray
    steps: np.ndarray
    first_fit: np.ndarray
    errors: np.ndarray
    loss: np.ndarray
    trajectory: dict[str, np.ndarray]


def split(job: Job) -> list[Task]:
    """Tasks of a few seconds each; they depend on the job alone."""
    network, batch = job.spec.network, job.spec.batch(job.problem.size)
    layers = zip(network.fan_ins, (*network.hidden, 1), strict=True)
    weights = sum((f + 1) * k for f, k in layers)
    step = 3 * weights * batch / _FLOPS + weights / _UPDATES
    steps = min(_GUESSED_STEPS, job.spec.max_steps(job.problem.size))
    members = int(_TASK_SECONDS / (step * steps))
    size = max(1, min(members, _MOST_MEMBERS, -(-job.runs // _LEAST_TASKS)))
    if job.engine == "torch":
        size = _TORCH_MEMBERS[job.device]
    return [Task(i, a, min(size, job.runs - a)) for i, a in enumerate(range(0, job.runs, size))]


def run_members(job: Job, first: int, count: int) -> Members:
    """Train the members ``first .. first + count - 1`` in this process."""
    if job.engine == "compiled":
        return _run_compiled(job, first, count)
    from simprior.training._torch_ensemble import train_with_torch

    return train_with_torch(job.spec, job.problem, first, count, job.device, job.members)


@lru_cache(maxsize=2)
def _prepared(job: Job) -> tuple[Any, Any, Any]:
    from simprior.training._plan import make_plan, make_scratch

    plan = make_plan(job.spec, job.problem)
    return (plan, *make_scratch(plan))


def _run_compiled(job: Job, first: int, count: int) -> Members:
    from simprior.training import _member as kernel

    plan, P, scratch = _prepared(job)
    found = empty_members(count, plan.words)
    arrays = (found.words, found.steps, found.first_fit, found.errors, found.loss)
    if job.spec.optimizer.rule == "guess":
        kernel.guess_and_check(
            P, first, count, plan.net, plan.law, plan.data, plan.rule, plan.keys, scratch, arrays
        )
        return found
    at = 0
    rows: list[dict[str, np.ndarray]] = []
    recorded = max(0, min(count, job.spec.record_runs - first))
    for part, steps in ((recorded, job.spec.record), (count - recorded, ())):
        if part:
            watch = empty_watch(part, steps, plan.words)
            kernel.train_members(
                P, first + at, part, plan.net, plan.law, plan.data, plan.rule, plan.stop_loss,
                plan.scalars, plan.keys, scratch, tuple(a[at : at + part] for a in arrays), watch,
            )  # fmt: skip
            rows.append(trajectory_rows(watch, first + at, found.steps[at : at + part]))
        at += part
    joined = {k: np.concatenate([row[k] for row in rows]) for k in rows[0]}
    return replace(found, trajectory=joined)


def empty_members(count: int, words: int) -> Members:
    """Arrays for ``count`` members."""
    whole = lambda: np.zeros(count, np.int64)  # noqa: E731
    words_of = np.zeros((count, words), np.uint64)
    return Members(words_of, whole(), whole(), whole(), np.zeros(count), {})


def empty_watch(count: int, steps: Sequence[int], words: int) -> tuple[np.ndarray, ...]:
    """The ``watch`` tuple of the kernel: steps, tables, errors, losses."""
    return (
        np.array(steps, np.int64), np.zeros((count, len(steps), words), np.uint64),
        np.zeros((count, len(steps)), np.int64), np.zeros((count, len(steps))),
    )  # fmt: skip


def trajectory_rows(
    watch: tuple[np.ndarray, ...], first: int, steps: np.ndarray
) -> dict[str, np.ndarray]:
    """Flat columns of the recorded steps that the members reached."""
    wanted, tables, errors, losses = watch
    member, k = np.nonzero(wanted[None, :] <= steps[:, None])
    return {
        "run": first + member, "step": wanted[k], "words": tables[member, k],
        "errors": errors[member, k], "loss": losses[member, k],
    }  # fmt: skip


def run_task(job: Job, task: Task) -> Members | tuple[Written, Written | None]:
    """Do ``task``; with ``job.shards`` set, write the rows there and return only the records."""
    found = run_members(job, task.first, task.count)
    if job.shards is None:
        return found
    columns = {
        **key_columns(found.words), "steps": found.steps, "first_fit": found.first_fit,
        "errors": found.errors, "loss": found.loss,
    }  # fmt: skip
    written = write_table(job.shards / f"{task.name}.parquet", arrow_table(columns))
    if task.first >= job.spec.record_runs:
        return written, None
    rows = dict(found.trajectory)
    table = arrow_table({**key_columns(rows.pop("words")), **rows})
    return written, write_table(job.shards / f"steps-{task.name}.parquet", table)
