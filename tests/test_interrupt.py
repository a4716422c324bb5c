"""Ctrl-C: the first is announced while compiled code runs, a second one leaves the work behind."""

from __future__ import annotations

import logging
import multiprocessing
import re
import threading
import time
from concurrent.futures.process import BrokenProcessPool

import pytest

from interrupting import GO_ON, SAID, blocked, interrupt, press
from simprior.runs.local import ProcessPool
from simprior.runs.tasks import Interrupted, run_tasks


def slow(task: int) -> int:
    """The same in a worker, which no event of this process reaches."""
    time.sleep(3 if task == 0 else 60)
    return task


@pytest.fixture(autouse=True)
def _events(caplog: pytest.LogCaptureFixture) -> None:
    GO_ON.clear()
    caplog.set_level(logging.INFO, "simprior")


def test_the_first_is_announced_and_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    found: list[int] = []
    interrupt(caplog, GO_ON.set)
    with pytest.raises(Interrupted, match="after 1 finished"):
        run_tasks(blocked, range(5), on_result=lambda task, result: found.append(result))
    assert found == [0] and caplog.text.count(SAID) == 1


def test_a_second_leaves_the_call_behind(caplog: pytest.LogCaptureFixture) -> None:
    found: list[int] = []
    interrupt(caplog, press)
    with pytest.raises(KeyboardInterrupt):
        run_tasks(blocked, range(5), on_result=lambda task, result: found.append(result))
    assert found == [] and not GO_ON.is_set()  # the call was still in work
    GO_ON.set()


def test_the_next_call_waits_for_one_that_was_left_behind(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Both would work in the same arrays, as the second run in a notebook does."""
    events: list[str] = []

    def slow_call(task: int) -> int:
        blocked(task)
        events.append("first ends")
        return task

    interrupt(caplog, press)
    with pytest.raises(KeyboardInterrupt):
        run_tasks(slow_call, [0], on_result=lambda task, result: None)
    assert events == []
    threading.Timer(0.5, GO_ON.set).start()
    run_tasks(lambda task: events.append("second"), [0], on_result=lambda task, result: None)
    assert events == ["first ends", "second"]


def test_a_second_stops_workers(caplog: pytest.LogCaptureFixture) -> None:
    """Tasks of a minute in two workers; if the second Ctrl-C waited, their results would come."""
    found: list[int] = []
    interrupt(caplog, press)
    with pytest.raises(KeyboardInterrupt):
        run_tasks(slow, range(1, 9), on_result=lambda task, result: found.append(result), workers=2)
    assert found == []


def test_a_worker_that_dies_after_calls_were_cancelled() -> None:
    pool = ProcessPool(1)
    try:
        calls = [pool.submit(slow, task) for task in range(1, 9)]
        while not calls[1].running():
            time.sleep(0.01)
        time.sleep(0.5)  # the pool's own thread has seen them all
        assert set(calls[4:]) <= set(pool.cancel(calls))
        for worker in multiprocessing.active_children():
            worker.kill()
        with pytest.raises(BrokenProcessPool):
            pool.result(next(iter(pool.wait([calls[0]], 30))))
    finally:
        pool.shutdown(kill=True)


def test_how_long_is_estimated_from_what_is_done(caplog: pytest.LogCaptureFixture) -> None:
    began = threading.Event()

    def first_at_once(task: int) -> int:
        if task:
            began.set()
            return blocked(task)
        return task

    interrupt(caplog, GO_ON.set)
    with pytest.raises(Interrupted):
        run_tasks(first_at_once, range(5), on_result=lambda task, result: None)
    assert began.is_set() and re.search(r"\(about \d+ s\)", caplog.text)


def test_errors_of_a_task_are_raised_here() -> None:
    def fails(task: int) -> int:
        raise ValueError(f"task {task}")

    with pytest.raises(ValueError, match="task 3"):
        run_tasks(fails, [3], on_result=lambda task, result: None)
