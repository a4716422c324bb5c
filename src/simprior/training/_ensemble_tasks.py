"""One task of a training run: a range of members -> their functions, steps, errors, losses.

Everything here runs in a worker; a task's result depends on (job, range) only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from simprior.boolean.rows import key_columns, words_from_columns
from simprior.sharded import Shard, Work
from simprior.store import RunDir
from simprior.training.job import (
    Job,
    Members,
    Task,
    empty_members,
    empty_watch,
    trajectory_rows,
)
from simprior.training.records import arrow_table

COLUMNS = ("steps", "first_fit", "errors", "loss")
"""Fields of :class:`Members` that are columns as they are."""


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


@dataclass(frozen=True)
class Training(Work[Task, Members]):
    """The work of a training run: shards ``NAME`` of members, ``steps-NAME`` of trajectories."""

    job: Job

    def compute(self, piece: Task) -> Members:
        """Train the members of a task."""
        return run_members(self.job, piece.first, piece.count)

    def names(self, piece: Task) -> tuple[str, ...]:
        """One shard, or two where trajectories are recorded."""
        recorded = piece.first < self.job.spec.record_runs
        return (piece.name, f"steps-{piece.name}")[: 2 if recorded else 1]

    def shards(self, piece: Task, result: Members) -> list[Shard]:
        """The columns of the members; their trajectories before them."""
        columns = {name: getattr(result, name) for name in COLUMNS}
        table = arrow_table({**key_columns(result.words), **columns})
        shards = [Shard(piece.name, table)]
        if len(self.names(piece)) > 1:
            rows = dict(result.trajectory)
            steps = arrow_table({**key_columns(rows.pop("words")), **rows})
            shards.insert(0, Shard(f"steps-{piece.name}", steps))
        return shards

    def read(self, store: RunDir, piece: Task) -> Members:
        """The members of a task from its shards."""
        m = self.job.problem.m
        found, *more = [store.read_shard(name) for name in self.names(piece)]
        trajectory = more[0] if more else {}
        if more:
            trajectory["words"] = words_from_columns(trajectory, m)
        columns = {name: found[name] for name in COLUMNS}
        return Members(words_from_columns(found, m), **columns, trajectory=trajectory)
