"""The engine: every task once, whatever runs it; clean stops; one-line errors."""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from simprior.errors import InputError, SimpriorError, StoreError
from simprior.runs.tasks import (
    Interrupted,
    LogProgress,
    WorkerError,
    available_cores,
    progress_bar,
    run_tasks,
)


def work(task: int) -> tuple[int, int, str]:
    return task * task, os.getpid(), os.environ.get("OMP_NUM_THREADS", "unset")


def fail(task: int) -> int:
    if task == 1:
        raise InputError("task=1", "another task", "leave it out")
    if task == 2:
        raise StoreError("the disk is full")
    if task == 3:
        raise ZeroDivisionError("a bug")
    if task == 4:
        os._exit(9)
    return task


def collect(tasks: Any, function: Any = work, **options: Any) -> dict[Any, Any]:
    results: dict[Any, Any] = {}
    assert run_tasks(function, tasks, on_result=results.__setitem__, **options) == len(results)
    return results


def test_one_worker_runs_here_in_order() -> None:
    seen: list[int] = []
    number = run_tasks(work, iter(range(5)), on_result=lambda task, result: seen.append(task))
    assert number == 5 and seen == list(range(5))
    assert {pid for _, pid, _ in collect(range(3)).values()} == {os.getpid()}


def test_workers_give_the_same_results_in_other_single_threaded_processes() -> None:
    alone, pooled = collect(range(20)), collect(range(20), workers=2)
    assert {t: r[0] for t, r in alone.items()} == {t: r[0] for t, r in pooled.items()}
    assert os.getpid() not in {pid for _, pid, _ in pooled.values()}
    assert {threads for _, _, threads in pooled.values()} == {"1"}


def test_tasks_are_drawn_lazily() -> None:
    drawn, handed = [], []

    def source() -> Any:
        for task in range(30):
            drawn.append(task)
            assert len(drawn) - len(handed) <= 2 * 2
            yield task

    run_tasks(work, source(), workers=2, on_result=lambda task, result: handed.append(task))
    assert sorted(handed) == list(range(30))


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_of_ours_arrive_with_their_class_and_line(workers: int) -> None:
    with pytest.raises(InputError, match=r"^task=1: expected another task; leave it out$"):
        collect([1], fail, workers=workers)
    with pytest.raises(StoreError, match=r"^the disk is full$"):
        collect([2], fail, workers=workers)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        collect([3], fail, workers=workers)


def test_a_dead_worker_is_one_line() -> None:
    with pytest.raises(WorkerError, match=r"a worker process died .* --resume") as error:
        collect([4], fail, workers=2)
    assert "\n" not in str(error.value)


def test_an_error_in_on_result_stops_the_run() -> None:
    def full(task: int, result: Any) -> None:
        raise StoreError("no space")

    with pytest.raises(StoreError, match="no space"):
        run_tasks(work, range(10**6), workers=2, on_result=full)


@pytest.mark.parametrize("workers", [0, -1, 1.5, True, "2"])
def test_bad_workers(workers: Any) -> None:
    with pytest.raises(InputError, match=r"workers=.*an integer >= 1"):
        collect([1], workers=workers)


def test_bad_executor() -> None:
    with pytest.raises(InputError, match="executor='mpi': expected one of local, slurm, dask"):
        collect([1], executor="mpi")


@pytest.mark.parametrize(("executor", "package"), [("dask", "distributed"), ("slurm", "submitit")])
def test_missing_cluster_packages(
    executor: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=r"pip install 'simprior\[cluster\]'") as error:
        collect([1], executor=executor)
    assert package in str(error.value) and "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("submitit"), reason="extra [cluster]")
def test_slurm_executor_with_local_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path[1:]]))
    options = {"folder": tmp_path, "cluster": "local", "tasks_per_job": 3}
    results = collect(range(7), math.sqrt, workers=2, executor="slurm", executor_options=options)
    assert results == {task: math.sqrt(task) for task in range(7)}
    with pytest.raises(InputError, match="task=1: expected another task"):
        collect([1], fail, executor="slurm", executor_options=options)
    with pytest.raises(RuntimeError, match="a bug"):
        collect([3], fail, executor="slurm", executor_options=options)
    with pytest.raises(WorkerError, match="a worker process died"):
        collect([4], fail, executor="slurm", executor_options=options)


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("distributed"), reason="extra [cluster]")
@pytest.mark.filterwarnings("default")  # dask's own resource warnings
def test_dask_executor() -> None:
    results = collect(range(7), math.sqrt, workers=2, executor="dask")
    assert results == {task: math.sqrt(task) for task in range(7)}


# ---------------------------------------------------------------- stopping


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_hands_over_what_is_finished(number: int, workers: int) -> None:
    seen = []

    def stop_after_three(task: int, result: Any) -> None:
        seen.append(task)
        if len(seen) == 3:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=r"interrupted after (\d+) finished tasks") as error:
        run_tasks(work, range(10**6), workers=workers, on_result=stop_after_three)
    assert error.value.exit_code == 130 and isinstance(error.value, SimpriorError)
    assert 3 <= len(seen) <= 3 + 2 * workers
    assert f"after {len(seen)} finished" in str(error.value)
    assert signal.getsignal(number) == before


def test_runs_outside_the_main_thread() -> None:
    results: dict[int, Any] = {}
    thread = threading.Thread(
        target=lambda: run_tasks(work, range(3), on_result=results.__setitem__)
    )
    thread.start()
    thread.join()
    assert sorted(results) == [0, 1, 2]


ORPHANS = """
import os, sys, time
from simprior.runs.tasks import run_tasks
def slow(task):
    os.write(1, b"%d\\n" % os.getpid())  # one write: two processes share the pipe
    time.sleep(0.2)
if __name__ == "__main__":
    run_tasks(slow, range(10000), workers=2, on_result=lambda t, r: None)
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_workers_of_a_killed_parent_end(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(ORPHANS)
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        workers = {int(process.stdout.readline()) for _ in range(8)}
        process.kill()
        process.wait(60)
        assert workers and process.pid not in workers
        deadline = time.monotonic() + 60
        while any(map(alive, workers)) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert not any(map(alive, workers))


@pytest.mark.parametrize("how", ["file", "stdin"])
def test_a_script_without_a_main_guard(tmp_path: Path, how: str) -> None:
    text = (
        "import math\nfrom simprior.runs.tasks import run_tasks\ngot = {}\n"
        "run_tasks(math.sqrt, range(3), workers=2, on_result=got.__setitem__)\nprint(len(got))\n"
    )
    script = tmp_path / "script.py"
    script.write_text(text)
    command = [sys.executable, str(script) if how == "file" else "-"]
    given = None if how == "file" else text
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if how == "stdin":
        assert done.stdout == "3\n", done.stderr
    else:  # Python cannot start workers of such a script; the last line says what to do
        assert "if __name__ == '__main__'" in done.stderr.splitlines()[-1]


# ---------------------------------------------------------------- progress


def test_progress_counts_amounts() -> None:
    class Recorder:
        total = 0

        def update(self, n: int = 1) -> None:
            self.total += n

    recorder = Recorder()
    collect(range(5), progress=recorder, amount=lambda task: 10 * task)
    assert recorder.total == 100


def test_log_lines_have_rate_and_time_left(caplog: pytest.LogCaptureFixture) -> None:
    progress = LogProgress(1000, "net", start=100, interval=0.0)
    logger = logging.getLogger("simprior")
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.INFO, "simprior"):
            progress.update(150)
    finally:
        logger.removeHandler(caplog.handler)
    assert progress.done == 250 and "250 of 1,000 net" in caplog.text
    # 150 done in 60 s: 2.5/s, 750 left = 300 s
    assert progress.line(60.0) == "250 of 1,000 net (25.0 %), 2.5 net/s, 5:00 left"
    assert LogProgress(10, "net").line(1.0).endswith("unknown left")
    assert LogProgress(9000, "net", interval=1e9).update(1) is None


def test_progress_bar_off_a_terminal_and_quiet() -> None:
    with progress_bar(10) as progress:
        assert isinstance(progress, LogProgress)
    with progress_bar(10, quiet=True) as silent:
        assert not isinstance(silent, LogProgress)
        silent.update(3)


def test_available_cores() -> None:
    assert available_cores() == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("workers", [1, 2])
def test_tasks_that_follow_from_results(workers: int) -> None:
    """Chains of calls, each made of the result before it; those begun go first."""
    seen: list[tuple[int, int]] = []
    done = run_tasks(
        abs, [-3, -2, -1], on_result=lambda t, r: seen.append((t, r)), workers=workers,
        then=lambda t, r: 1 - r if r > 1 else None,
    )  # fmt: skip
    chains = {(-3, 3), (-2, 2), (-1, 1)}
    assert done == 6 and set(seen) == chains and len(seen) == 6
    if workers == 1:
        assert [t for t, _ in seen] == [-3, -2, -1, -2, -1, -1]
