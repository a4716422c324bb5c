"""How many jobs, of how many tasks: without SLURM, on submitit that only pretends to submit."""

from __future__ import annotations

import itertools
import logging
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

submitit = pytest.importorskip("submitit", reason="pip install 'simprior[cluster]'")

from simprior.errors import InputError  # noqa: E402
from simprior.runs import slurm_pool  # noqa: E402
from simprior.runs.pool import LostCall  # noqa: E402
from simprior.runs.slurm_job import Batch, Done, done_file, store_function  # noqa: E402
from simprior.runs.slurm_pool import SlurmPool  # noqa: E402
from simprior.runs.tasks import WorkerError  # noqa: E402

ASSOCIATION = (
    "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
)


class Pretended:
    """``map_array`` that takes at most ``largest`` jobs at once and ``most`` in all."""

    def __init__(self, folder: Path, largest: int = 10**6, most: int = 10**6) -> None:
        self.folder, self.largest, self.most = folder, largest, most
        self.arrays: list[int] = []
        self.queued, self.numbers = 0, itertools.count(1)

    def map_array(self, call: Any, groups: list[Any]) -> list[Any]:
        if len(groups) > self.largest:
            raise submitit.core.utils.FailedJobError("Invalid job array specification")
        if self.queued + len(groups) > self.most:
            raise submitit.core.utils.FailedJobError(f"sbatch: error: {ASSOCIATION}")
        self.arrays.append(len(groups))
        self.queued += len(groups)
        number = next(self.numbers)
        return [job(self.folder, f"{number}_{element}") for element in range(len(groups))]


def job(folder: Path, name: str) -> Any:
    return SimpleNamespace(
        job_id=name, paths=submitit.core.utils.JobPaths(folder, name, 0), done=lambda: True
    )


def make(tmp_path: Path, workers: int, **limits: int) -> tuple[SlurmPool, Pretended]:
    pool = SlurmPool(workers, {"cluster": "local", "folder": str(tmp_path / "jobs")})
    pretended = Pretended(pool._folder, **limits)
    pool._pool, pool._largest = pretended, 1000
    return pool, pretended


def fill(pool: SlurmPool) -> list[Any]:
    return pool.submit_array(len, [[0]] * pool.room()) if pool.room() > 0 else []


def test_arrays_fill_the_queue_up_to_the_workers(tmp_path: Path) -> None:
    pool, submitit_ = make(tmp_path, 2500)
    handles = fill(pool)
    assert len(handles) == 2500 and submitit_.arrays == [1000, 1000, 500]
    assert pool.room() == 0
    pool._running.difference_update(handles[:10])
    assert pool.room() == 0  # too few for an array of their own, just now
    pool._submitted = time.monotonic() - 60
    assert pool.room() == 10
    pool._submitted = time.monotonic()
    pool._running.difference_update(handles[:400])
    assert pool.room() == 400


def test_a_refused_array_is_made_smaller(tmp_path: Path) -> None:
    pool, submitit_ = make(tmp_path, 200, largest=30)
    while len(pool._running) < 200:
        fill(pool)
    assert max(submitit_.arrays) == 25 and sum(submitit_.arrays) == 200


def test_a_submit_limit_is_kept_to(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "simprior")  # --quiet of an earlier test is still on
    pool, submitit_ = make(tmp_path, 200, most=120)
    for _ in range(5):
        fill(pool)
    assert submitit_.queued == 100 and "job submit limit" in caplog.text
    pool._most_since -= 2000  # it may have changed meanwhile
    assert pool.room() == 100


def test_what_sbatch_never_takes_is_an_error_of_input(tmp_path: Path) -> None:
    pool, submitit_ = make(tmp_path, 1)

    def refuse(call: Any, groups: list[Any]) -> list[Any]:
        raise submitit.core.utils.FailedJobError("sbatch: error: invalid partition specified")

    submitit_.map_array = refuse  # type: ignore[method-assign]
    with pytest.raises(InputError, match="expected a job that sbatch accepts; it says: invalid"):
        fill(pool)


def test_tasks_a_job(tmp_path: Path) -> None:
    """Equal shares at first, then minutes of measured work, a minute at least towards the end."""
    pool, _ = make(tmp_path, 200)
    assert pool.group_size(10**5) == 16 and pool.group_size(400) == 2 and pool.group_size(-1) == 16
    pool._measured, pool._seconds = 100, 300.0  # three seconds a task
    assert pool.group_size(10**6) == 200 and pool.group_size(-1) == 200
    assert pool.group_size(40_000) == 100 and pool.group_size(400) == 20
    pool._minutes = 4
    assert pool.group_size(10**6) == 40  # half of the walltime
    pool._tasks = 7
    assert pool.group_size(10**6) == 7


def test_a_job_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on behind what is done, ends before its walltime and where it is asked to."""
    where = {"EXECUTOR": "local", "FOLDER": tmp_path, "LOCAL_JOB_ID": 7, "LOCAL_GLOBALRANK": 0}
    for name, value in where.items():
        monkeypatch.setenv(f"SUBMITIT_{name}", str(value))
    store_function(tmp_path, "f.pkl", slow_squares)
    paths = submitit.JobEnvironment().paths
    assert Batch(tmp_path, "f.pkl", 60)([1, 2, 3]) == 3
    for number in (1, 2):
        done_file(paths, number).unlink()
    assert Batch(tmp_path, "f.pkl", 0)([1, 2, 3]) == 2  # one at least
    (tmp_path / slurm_pool.STOP).touch()
    assert Batch(tmp_path, "f.pkl", 60)([1, 2, 3, 4, 5]) == 3
    found = [submitit.core.utils.pickle_load(done_file(paths, number)) for number in range(3)]
    assert [done.result for done in found] == [1, 4, 9] and found[0].seconds > 0


def slow_squares(group: list[int]) -> list[int]:
    time.sleep(0.01)
    return [task * task for task in group]


def test_errors_name_the_log_of_an_array_element(tmp_path: Path) -> None:
    pool, _ = make(tmp_path, 3)
    first, second, third = fill(pool)
    dump = submitit.core.utils.cloudpickle_dump
    Path(first.job.paths.stderr).write_text("slurmstepd: error: oom_kill\n")
    dump(Done(1.0, "kept"), done_file(first.job.paths, 0))
    first.state = "OUT_OF_MEMORY"
    with pytest.raises(
        LostCall, match=r"job 1_0 ended: OUT_OF_MEMORY \(log .*/1_0_0_log.err: "
    ) as e:
        pool.result(first)
    assert list(e.value.done) == ["kept"] and e.value.counts
    assert str(e.value).endswith("raise mem, or lower --memory")
    second.state = "PREEMPTED"
    with pytest.raises(LostCall, match=r"PREEMPTED \(no log at .*: can the nodes write") as e:
        pool.result(second)
    assert not e.value.counts
    third.job.result = error
    dump(("error", ""), third.job.paths.result_pickle)
    dump(Done(1.0, "kept"), done_file(third.job.paths, 0))
    results = iter(pool.result(third))
    assert next(results) == "kept"  # before the error
    with pytest.raises(WorkerError, match=r"job 1_2 raised ValueError: x \(log .*/1_2_0_log.err\)"):
        next(results)


def error() -> None:
    line = "-" * 20
    raise submitit.core.utils.FailedJobError(f"x\n{line}\nTraceback\nValueError: x\n\n{line}\n")
