"""What an ensemble is made of: the job, its tasks (ranges of members), and the columns of members.

These are the types that the engines take and return; they know no engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simprior.training.spec import TrainSpec
from simprior.training.targets import Problem

_TASK_SECONDS, _GUESSED_STEPS = 2.0, 500
_FLOPS, _UPDATES = 2e10, 1.5e9  # multiply-adds and parameter updates a second, roughly
_LEAST_TASKS, _MOST_MEMBERS = 16, 4096
_TORCH_MEMBERS = {"cpu": 4096, "cuda": 1 << 16}


@dataclass(frozen=True)
class Job:
    """What determines the members of a run."""

    spec: TrainSpec
    problem: Problem
    runs: int
    device: str = "cpu"
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

    @property
    def size(self) -> int:
        """Units of progress: members."""
        return self.count


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
