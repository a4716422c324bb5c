"""Tasks that jobs import by name, and helpers of the tests of clusters."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from simprior.runs.tasks import run_tasks


def square(task: int) -> int:
    return task * task


def slow_square(task: int) -> int:
    time.sleep(2.5)
    return task * task


def fail(task: int) -> int:
    if task == 0:
        os._exit(9)
    if task == 1:
        raise ZeroDivisionError("a bug")
    return task


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


def noted(task: tuple[int, float, str]) -> int:
    """Write down in a file that the task was begun; the square of its number, after a while."""
    number, seconds, file = task
    with Path(file).open("a") as notes:
        notes.write(f"{number}\n")
    time.sleep(seconds)
    return number * number


def begun(file: Path) -> list[int]:
    """The numbers of the tasks of :func:`noted` that were begun, in order, again and again."""
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def dies_at_one(task: tuple[int, float, str]) -> int:
    """As :func:`noted`, but the process is killed the first time that it comes to task 1."""
    result = noted(task)
    if task[0] == 1 and begun(Path(task[2])).count(1) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return result


def stuck_at_zero(task: tuple[int, float, str]) -> int:
    """As :func:`noted`, but task 0 does not come to its end the first time that it is begun."""
    result = noted(task)
    if task[0] == 0 and begun(Path(task[2])).count(0) == 1:
        time.sleep(250)
    return result
