"""One task of a training run: a range of members -> their functions, steps, errors, losses.

Everything here runs in a worker; a task's result depends on (job, range) only.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from simprior.boolean.rows import key_columns
from simprior.store import Written, write_table
from simprior.training.job import (
    Job,
    Members,
    Task,
    empty_members,
    empty_watch,
    trajectory_rows,
)
from simprior.training.records import arrow_table


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
