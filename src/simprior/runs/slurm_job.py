"""What happens inside one SLURM job: its tasks one after the other, each result kept at once.

Every finished task has a file of its own. So a job that SLURM starts again (after a preemption, or
on another node) goes on behind the last finished task, and the process that submitted it can take
the results of a job that died. A job ends between two tasks where the next one might pass its
walltime, or where that process asks for it.

May import: the standard library; submitit inside functions (it writes and reads the files).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

STOP = "stop"
"""File of the folder whose presence asks all jobs to end after the task in work."""
SAFETY = 1.5  # tasks differ: the next one is taken to last this many times the longest so far
_RESERVE_SHARE, _RESERVE_SECONDS = 0.1, 180.0  # of the walltime: starting, writing, SLURM's clock


class Done(NamedTuple):
    """A finished task: the seconds it took, and its result."""

    seconds: float
    result: Any


def done_file(paths: Any, number: int) -> Path:
    """The file of the finished task ``number`` of a job, from submitit's paths of the job."""
    result = Path(paths.result_pickle)
    return result.with_name(result.name.replace("_result.pkl", f"_done_{number}.pkl"))


def finished_tasks(paths: Any) -> int:
    """How many tasks of a job are finished: always the first ones."""
    return next(number for number in count() if not done_file(paths, number).exists())


def read_done(paths: Any) -> Iterator[Done]:
    """The finished tasks of a job, in order, one in memory at a time."""
    from submitit.core.utils import pickle_load

    for number in range(finished_tasks(paths)):
        yield pickle_load(done_file(paths, number))


def store_function(folder: Path, name: str, function: Callable[..., Any]) -> None:
    """Write what all jobs call, once: it may hold data of many megabytes."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / name, function)


def _write(path: Path, value: Any) -> None:
    """Write a file that is there as a whole or not at all."""
    from submitit.core.utils import cloudpickle_dump

    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    cloudpickle_dump(value, temporary)
    with temporary.open("rb") as written:
        os.fsync(written.fileno())
    temporary.replace(path)


@dataclass(frozen=True)
class Batch:
    """The call of one job: ``function``, stored in ``folder``, of each task of a group.

    ``minutes`` is the walltime. ``batch(group)`` returns how many tasks are finished.
    """

    folder: Path
    function: str
    minutes: int

    def __call__(self, group: list[Any]) -> int:
        """Compute what is not finished, as far as there is time; at least one task."""
        from submitit import JobEnvironment
        from submitit.core.utils import pickle_load

        end = min(time.time() + 60.0 * self.minutes, _end_of_job())
        end -= min(_RESERVE_SECONDS, _RESERVE_SHARE * 60.0 * self.minutes)
        paths = JobEnvironment().paths
        function = pickle_load(self.folder / self.function)
        finished, longest = finished_tasks(paths), 0.0
        for task in group[finished:]:
            start = time.time()
            if longest and ((self.folder / STOP).exists() or start + SAFETY * longest > end):
                break
            (result,) = function([task])
            seconds = time.time() - start
            longest = max(longest, seconds)
            _write(done_file(paths, finished), Done(seconds, result))
            finished += 1
        return finished

    def checkpoint(self, group: list[Any]) -> Any:
        """The same call, for submitit to start again after SLURM's signal."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, group)


def _end_of_job() -> float:
    """SLURM's own word on when the job ends, in seconds since 1970, where it gives one."""
    try:
        return float(os.environ["SLURM_JOB_END_TIME"])
    except (KeyError, ValueError):
        return float("inf")
