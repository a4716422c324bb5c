"""The Dask executor: dead workers, a scheduler that goes away, options it does not know."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from simprior.errors import InputError
from simprior.runs.tasks import WorkerError, check_executor, run_tasks

pytest.importorskip("distributed", reason="pip install 'simprior[cluster]'")
pytestmark = [
    pytest.mark.filterwarnings("default"),  # dask's own resource warnings
    pytest.mark.timeout(240),
]


def square(task: int) -> int:
    return task * task


def slow_square(task: int) -> int:
    time.sleep(0.5)
    return task * task


def fail(task: int) -> int:
    if task == 0:
        os._exit(9)
    return task


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[tuple[str, list[Any]]]:
    """Address of a scheduler with one worker, each a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent)])}
    file = tmp_path / "scheduler.json"
    started = []

    def start(*command: str) -> None:
        log = (tmp_path / f"{command[0]}.log").open("wb")
        with log:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "distributed.cli.dask_" + command[0], *command[1:]],
                    env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=tmp_path,
                )
            )  # fmt: skip

    start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
          "--scheduler-file", str(file))  # fmt: skip
    deadline = time.monotonic() + 60
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    start("worker", "--scheduler-file", str(file), "--nthreads", "1", "--no-dashboard")
    try:
        yield str(file), started
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(30)


@pytest.mark.slow
def test_a_dead_worker_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path[1:]]))
    results: dict[int, int] = {}
    with pytest.raises(WorkerError, match="every dask worker that ran this call died, the last"):
        run_tasks(
            fail, range(6), on_result=results.__setitem__, workers=2, executor="dask",
        )  # fmt: skip
    # neighbours of the deadly call on the same worker may be blamed as well
    assert len(results) >= 2 and 0 not in results


@pytest.mark.slow
def test_a_given_scheduler_and_its_loss(scheduler: tuple[str, list[Any]]) -> None:
    file, processes = scheduler
    options = {"scheduler_file": file}
    results: dict[int, int] = {}
    run_tasks(square, range(5), on_result=results.__setitem__, executor="dask",
              executor_options=options)  # fmt: skip
    assert results == {t: t * t for t in range(5)}

    def kill(task: int, result: int) -> None:
        for process in processes:
            process.kill()

    with pytest.raises(WorkerError, match=r"connection to the dask scheduler .* was lost"):
        run_tasks(slow_square, range(100), on_result=kill, workers=2, executor="dask",
                  executor_options={**options, "timeout": 5})  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adress": "tcp://127.0.0.1:1"}, "adress='tcp://127.0.0.1:1': .* did you mean address"),
        ({"worker": 3}, "worker=3: expected one of"),
        ({"scheduler_file": "/nowhere/scheduler.json"}, "the file that a running dask scheduler"),
        ({"address": "tcp://127.0.0.1:1", "n_workers": 2}, "n_workers=2: expected one of"),
    ],
)
def test_refused_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        check_executor("dask", options)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_scheduler_that_does_not_answer() -> None:
    options = {"address": "tcp://127.0.0.1:9", "timeout": 2}
    with pytest.raises(InputError, match="expected a dask scheduler that answers"):
        run_tasks(square, [1], on_result=lambda task, result: None, executor="dask",
                  executor_options=options)  # fmt: skip
