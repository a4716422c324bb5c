"""Ctrl-C: the first is announced while compiled code runs, a second one leaves the work behind."""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
import time

import pytest

from simprior.runs.tasks import Interrupted, run_tasks

SAID = "finishing the tasks in work"
_go_on = threading.Event()


def blocked(task: int) -> int:
    """A task that goes on until the test lets it: as a long call of compiled code."""
    _go_on.wait(60)
    return task


def slow(task: int) -> int:
    """The same in a worker, which no event of this process reaches."""
    time.sleep(3 if task == 0 else 60)
    return task


def interrupt_once_said(caplog: pytest.LogCaptureFixture, then: str) -> None:
    """From another thread: Ctrl-C at once, and when it was announced Ctrl-C again, or go on."""

    def run() -> None:
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(600):
            time.sleep(0.05)
            if SAID in caplog.text:
                break
        if then == "again":
            os.kill(os.getpid(), signal.SIGINT)
        else:
            _go_on.set()

    threading.Thread(target=run, daemon=True).start()


@pytest.fixture(autouse=True)
def _events(caplog: pytest.LogCaptureFixture) -> None:
    _go_on.clear()
    caplog.set_level(logging.INFO, "simprior")


def test_the_first_is_announced_and_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    found: list[int] = []
    interrupt_once_said(caplog, "go on")
    with pytest.raises(Interrupted, match="after 1 finished"):
        run_tasks(blocked, range(5), on_result=lambda task, result: found.append(result))
    assert found == [0] and caplog.text.count(SAID) == 1


def test_a_second_leaves_the_call_behind(caplog: pytest.LogCaptureFixture) -> None:
    found: list[int] = []
    interrupt_once_said(caplog, "again")
    with pytest.raises(KeyboardInterrupt):
        run_tasks(blocked, range(5), on_result=lambda task, result: found.append(result))
    assert found == [] and not _go_on.is_set()  # the call was still in work
    _go_on.set()


def test_the_next_call_waits_for_one_that_was_left_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Both would work in the same arrays, as the second run in a notebook does."""
    events: list[str] = []

    def slow_call(task: int) -> int:
        blocked(task)
        events.append("first ends")
        return task

    interrupt_once_said(caplog, "again")
    with pytest.raises(KeyboardInterrupt):
        run_tasks(slow_call, [0], on_result=lambda task, result: None)
    assert events == []
    threading.Timer(0.5, _go_on.set).start()
    run_tasks(lambda task: events.append("second"), [0], on_result=lambda task, result: None)
    assert events == ["first ends", "second"]


def test_a_second_stops_workers(caplog: pytest.LogCaptureFixture) -> None:
    """Tasks of a minute in two workers; if the second Ctrl-C waited, their results would come."""
    found: list[int] = []
    interrupt_once_said(caplog, "again")
    with pytest.raises(KeyboardInterrupt):
        run_tasks(slow, range(1, 9), on_result=lambda task, result: found.append(result), workers=2)
    assert found == []


def test_how_long_is_estimated_from_what_is_done(caplog: pytest.LogCaptureFixture) -> None:
    began = threading.Event()

    def first_at_once(task: int) -> int:
        if task:
            began.set()
            return blocked(task)
        return task

    interrupt_once_said(caplog, "go on")
    with pytest.raises(Interrupted):
        run_tasks(first_at_once, range(5), on_result=lambda task, result: None)
    assert began.is_set() and re.search(r"\(about \d+ s\)", caplog.text)


def test_errors_of_a_task_are_raised_here() -> None:
    def fails(task: int) -> int:
        raise ValueError(f"task {task}")

    with pytest.raises(ValueError, match="task 3"):
        run_tasks(fails, [3], on_result=lambda task, result: None)
