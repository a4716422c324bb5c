"""The SLURM executor on a real SLURM of one node, started by the test (``slurm_node.py``)."""

from __future__ import annotations

import logging
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cluster_tasks import (
    begun,
    collect,
    dies_at_one,
    fail,
    meanwhile,
    noted,
    slow_square,
    square,
    stuck_at_zero,
    until,
)
from slurm_node import SlurmNode

from simprior.errors import InputError
from simprior.runs import pool, slurm_pool
from simprior.runs.tasks import Interrupted, WorkerError, run_tasks

# one node, so all in one process of pytest-xdist
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("slurm")]


def test_a_cancelled_job_does_not_hang(
    node: SlurmNode, options: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without accounting the state of a job that ``scancel`` ended comes from squeue."""
    cancelled = []
    file, tasks = notes_of(tmp_path, 3, 0.0)

    def cancel() -> None:
        until(lambda: begun(file) == [0])
        (job,) = node.jobs("RUNNING")
        node.run("scancel", job)
        cancelled.append(job)

    with caplog.at_level(logging.WARNING, "simprior"), meanwhile(cancel):
        results = collect(tasks, stuck_at_zero, options, workers=1)
    assert sorted(results.values()) == [0, 1, 4]
    assert f"job {cancelled[0]} ended: CANCELLED" in caplog.text
    assert "submitted again (try 1 of 3)" in caplog.text


def test_a_dead_job_does_not_end_the_run(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "RETRIES", 1)
    results: dict[int, int] = {}
    with pytest.raises(
        WorkerError, match=r"job \d+ ended: FAILED \(exit code 9:0\) \(log (\S+)"
    ) as e:
        run_tasks(
            fail, [0, 2, 3, 4, 5], on_result=results.__setitem__, workers=2, executor="slurm",
            executor_options=options,
        )  # fmt: skip
    assert results == {2: 2, 3: 3, 4: 4, 5: 5}
    assert "1 tasks have no result" in str(e.value) and "\n" not in str(e.value)


def test_an_error_names_job_and_log(options: dict[str, Any]) -> None:
    with pytest.raises(WorkerError, match=r"job \d+ raised ZeroDivisionError: a bug \(log ") as e:
        collect([1], fail, options)
    log = Path(str(e.value).rpartition("(log ")[2].rstrip(")"))
    assert "ZeroDivisionError" in log.read_text()


def test_a_drained_node_is_said(
    node: SlurmNode, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    def resume() -> None:
        try:
            until(lambda: f"node {node.host} is drained (fan broken)" in caplog.text)
        finally:
            node.resume()

    node.drain("fan broken")
    with caplog.at_level(logging.WARNING, "simprior"), meanwhile(resume):
        assert collect(range(2), square, options) == {0: 0, 1: 1}
    assert "pending because" in caplog.text


def test_the_walltime_is_that_of_the_partition(node: SlurmNode, options: dict[str, Any]) -> None:
    limits = []

    def look() -> None:
        limits.append(until(lambda: node.run("squeue", "-h", "-o", "%l").split())[0])

    with meanwhile(look):
        results = collect([3], slow_square, {**options, "slurm_partition": "short"})
    assert results == {3: 9} and limits == ["3:00"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"partition": "nosuch"}, "partition=nosuch: expected one of main, short"),
        ({"slurm_partition": "nosuch"}, "slurm_partition=nosuch: expected one of main, short"),
        ({"partition": "short", "time": "00:05:00"}, "time=5 minutes: expected at most 3 minutes"),
        ({"slurm_partition": "short", "timeout_min": 5}, "at most 3 minutes, the limit of"),
        ({"mem_gb": 4000}, "a job that sbatch accepts; it says: .*Memory specification"),
        ({"mem_gb": "much"}, "parameters that submitit accepts"),
        ({"tasks_per_job": 0}, "tasks_per_job=0: expected a whole number >= 1"),
        ({"cluster": "slrm"}, "cluster='slrm': .* did you mean slurm"),
    ],
)
def test_refused_options(options: dict[str, Any], wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        collect([1], square, {**options, **wrong})
    assert "\n" not in str(error.value)


def test_ctrl_c_cancels_the_queued_jobs(
    node: SlurmNode, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    def interrupt() -> None:
        until(lambda: len(node.jobs("PENDING")) >= 4 and len(node.jobs("RUNNING")) >= 1)
        os.kill(os.getpid(), signal.SIGINT)

    with (
        caplog.at_level(logging.WARNING, "simprior"),
        meanwhile(interrupt),
        pytest.raises(Interrupted) as error,
    ):
        collect(range(30), slow_square, options, workers=8)
    number = int(str(error.value).split()[2])
    assert 1 <= number < 8  # those that ran were waited for, those that waited were not
    found = re.search(r"(\d+) queued jobs cancelled; waiting for (\d+) running", caplog.text)
    assert found and int(found[1]) >= 4 and int(found[2]) <= 4


def notes_of(tmp_path: Path, count: int, seconds: float = 2.0) -> tuple[Path, list[Any]]:
    file = tmp_path / "notes"
    return file, [(number, seconds, str(file)) for number in range(count)]


def test_arrays_within_the_sites_limits(
    node: SlurmNode, options: dict[str, Any], tmp_path: Path
) -> None:
    """9 tasks, 8 in the queue at most, in arrays of at most 6; what jobs left is removed."""
    queued, most = set(), []

    def watch() -> None:
        while len(seen) < 9:
            jobs = node.jobs()
            most.append(len(jobs))
            queued.update(jobs)

    seen: dict[Any, int] = {}
    with meanwhile(watch):
        run_tasks(
            square,
            range(9),
            on_result=seen.__setitem__,
            workers=8,
            executor="slurm",
            executor_options={**options, "array_parallelism": 2},
        )
    assert seen == {task: task * task for task in range(9)}
    assert max(most) <= 8 + 2  # on two cores so many may outlive their results for a moment
    sizes: dict[str, int] = {}
    for job in queued:
        array, _, element = job.partition("_")
        sizes[array] = max(sizes.get(array, 0), int(element or 0) + 1)
    assert max(sizes.values()) == 6 and len(sizes) < 9
    assert list((tmp_path / "jobs").iterdir()) == []


def test_what_slurm_starts_again_goes_on(
    node: SlurmNode, options: dict[str, Any], tmp_path: Path
) -> None:
    """As after a preemption: no finished task is done again, and none counts twice."""
    file, tasks = notes_of(tmp_path, 4)

    def requeue() -> None:
        until(lambda: begun(file) == [0, 1])
        (job,) = node.jobs("RUNNING")
        node.run("scontrol", "requeue", job)
        until(lambda: node.jobs("PENDING") == [job])
        node.run("scontrol", "update", f"JobId={job}", "StartTime=now")  # not in two minutes

    assert in_order(tasks, options, requeue) == [0, 1, 4, 9]
    again = begun(file)
    assert set(again) == {0, 1, 2, 3} and len(again) <= 5  # the one in work begins once more


def test_a_node_that_fails(node: SlurmNode, options: dict[str, Any], tmp_path: Path) -> None:
    """Its job is not requeued: what it had no time for is submitted again."""
    file, tasks = notes_of(tmp_path, 4)

    def fail_and_repair() -> None:
        until(lambda: begun(file) == [0, 1])
        node.fail()
        node.repair()

    assert in_order(tasks, {**options, "no_requeue": True}, fail_and_repair) == [0, 1, 4, 9]
    again = begun(file)
    assert set(again) == {0, 1, 2, 3} and len(again) == 5 and again.count(0) == 1


def in_order(tasks: Any, options: dict[str, Any], act: Callable[[], None]) -> list[int]:
    """Results of one worker with 4 tasks a job, as they come, while ``act`` runs."""
    arrived: list[int] = []
    with meanwhile(act):
        run_tasks(
            noted,
            tasks,
            on_result=lambda task, result: arrived.append(result),
            workers=1,
            executor="slurm",
            executor_options={**options, "tasks_per_job": 4},
        )
    return arrived


def test_a_dead_job_hands_over_what_it_has_done(
    options: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, tasks = notes_of(tmp_path, 3, 0.0)
    with caplog.at_level(logging.WARNING, "simprior"):
        results = collect(tasks, dies_at_one, {**options, "tasks_per_job": 3}, workers=1)
    assert sorted(results.values()) == [0, 1, 4]
    assert begun(file) == [0, 1, 1, 2]
    found = re.search(r"job \d+ ended: FAILED .*\(log (\S+_0_log.err)", caplog.text)
    assert found and Path(found[1]).is_file()


def test_a_job_ends_before_its_walltime(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A walltime of 6 seconds leaves no time for three tasks of 1.7 seconds; none is done twice."""
    whole = slurm_pool.Batch
    monkeypatch.setattr(slurm_pool, "Batch", lambda *given: whole(*given[:2], 0.1))
    file, tasks = notes_of(tmp_path, 3, 1.7)
    results = collect(tasks, noted, {**options, "tasks_per_job": 3}, workers=1)
    assert sorted(results.values()) == [0, 1, 4]
    assert begun(file) == [0, 1, 2]
