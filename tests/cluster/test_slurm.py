"""The SLURM executor on a real SLURM of one node, started by the test (``slurm_node.py``)."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from slurm_node import SlurmNode, missing, slurm_node

import simprior as sp
from simprior.errors import InputError
from simprior.runs import cluster as engine_cluster
from simprior.runs.tasks import Interrupted, WorkerError, run_tasks

# one node, so all in one process of pytest-xdist
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def square(task: int) -> int:
    return task * task


def slow_square(task: int) -> int:
    time.sleep(4)
    return task * task


def fail(task: int) -> int:
    if task == 0:
        os._exit(9)
    if task == 1:
        raise ZeroDivisionError("a bug")
    return task


def dies_once(task: tuple[int, str]) -> int:
    mark = Path(task[1])
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return task[0]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, request: Any) -> Iterator[SlurmNode]:
    why = missing()
    if importlib.util.find_spec("submitit") is None:
        why = why or "submitit not installed (pip install 'simprior[cluster]')"
    if why:
        terminal = request.config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None:
            terminal.write_line(f"\nTHE SLURM TESTS DO NOT RUN: {why}", red=True, bold=True)
        pytest.skip(why)
    with slurm_node(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture
def options(
    node: SlurmNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    for name, value in node.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path[1:]]))
    for name, seconds in (("ASK_SECONDS", 1.0), ("_GRACE", 2.0), ("FIRST_REPORT_SECONDS", 1.0)):
        monkeypatch.setattr(engine_cluster, name, seconds)
    yield {"folder": str(tmp_path / "jobs"), "tasks_per_job": 1}
    assert node.jobs("PENDING") == []  # whatever happened, nothing is left in the queue
    until(lambda: not node.jobs())  # a job outlives its result by a moment


def collect(tasks: Any, function: Any, options: dict[str, Any], workers: int = 2) -> dict[Any, Any]:
    results: dict[Any, Any] = {}
    run_tasks(
        function, tasks, on_result=results.__setitem__, workers=workers, executor="slurm",
        executor_options=options,
    )  # fmt: skip
    return results


@contextlib.contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Run ``act`` in a thread; its errors are raised at the end."""
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            act()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if errors:
        raise errors[0]


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.2)
    return found


def test_results_are_those_of_one_process(options: dict[str, Any], tmp_path: Path) -> None:
    network = sp.Network(n=4, hidden=(8,))
    arguments = {"samples": 200_000, "seed": 3, "memory": 2**26}
    here = sp.sample(network, **arguments, out=tmp_path / "here")
    sp.sample(
        network, **arguments, out=tmp_path / "there", workers=2, executor="slurm",
        executor_options={**options, "tasks_per_job": 2},
    )  # fmt: skip
    files = [tmp_path / name / "counts.parquet" for name in ("here", "there")]
    assert files[0].read_bytes() == files[1].read_bytes()
    there = sp.FunctionCounts.load(tmp_path / "there")
    assert (there.words == here.words).all() and (there.stderr == here.stderr).all()


def test_a_cancelled_job_does_not_hang(
    node: SlurmNode, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Without accounting the state of a job that ``scancel`` ended comes from squeue."""
    cancelled = []

    def cancel() -> None:
        job = until(lambda: node.jobs("RUNNING"))[0]
        node.run("scancel", job)
        cancelled.append(job)

    with caplog.at_level(logging.WARNING, "simprior"), meanwhile(cancel):
        assert collect(range(3), slow_square, options) == {0: 0, 1: 1, 2: 4}
    assert f"job {cancelled[0]} ended: CANCELLED" in caplog.text
    assert "submitted again (try 1 of 3)" in caplog.text


def test_a_dead_job_does_not_end_the_run(options: dict[str, Any]) -> None:
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


def test_a_killed_job_is_done_again(options: dict[str, Any], tmp_path: Path) -> None:
    tasks = [(i, str(tmp_path / f"mark{i}")) for i in range(2)]
    assert collect(tasks, dies_once, options) == {task: task[0] for task in tasks}


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
        until(lambda: node.jobs("RUNNING"))
        limits.append(node.run("squeue", "-h", "-o", "%l").split()[0])

    with meanwhile(look):
        results = collect([3], slow_square, {**options, "slurm_partition": "short"})
    assert results == {3: 9} and limits == ["3:00"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"slurm_partition": "nosuch"}, "slurm_partition='nosuch': expected one of main, short"),
        ({"partition": "short"}, "partition='short': .* did you mean slurm_partition"),
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


def test_ctrl_c_cancels_the_queued_jobs(node: SlurmNode, options: dict[str, Any]) -> None:
    def interrupt() -> None:
        until(lambda: len(node.jobs("PENDING")) >= 4 and len(node.jobs("RUNNING")) >= 1)
        os.kill(os.getpid(), signal.SIGINT)

    with meanwhile(interrupt), pytest.raises(Interrupted) as error:
        collect(range(30), slow_square, options, workers=4)
    number = int(str(error.value).split()[2])
    assert 1 <= number < 8  # those that ran were waited for, those that waited were not
