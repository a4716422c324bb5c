"""The loop over an executor of arrays of calls: what is done counts once, the rest is repeated."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from simprior.runs.pool import RETRIES, LostCall, WorkerError, groups, run_pool


class Fake:
    """Runs a call when it is waited for; ``fate(group, number)`` says how the call ends.

    It returns how many tasks are done, and None or the error that a dead job raises.
    """

    broken: tuple[type[Exception], ...] = ()

    def __init__(self, fate: Callable[[list[int], int], tuple[int, Any]], room: int = 3) -> None:
        self.fate, self.most, self.arrays = fate, room, list[int]()
        self.calls: dict[int, tuple[Any, list[int]]] = {}
        self.begun: list[int] = []
        self.number = 0

    def room(self) -> int:
        return self.most - len(self.calls)

    def submit_array(self, function: Any, groups: list[list[int]]) -> list[int]:
        self.arrays.append(len(groups))
        handles = []
        for group in groups[:2]:  # takes two at a time: the others later
            self.calls[self.number] = (function, group)
            handles.append(self.number)
            self.number += 1
        return handles

    def wait(self, handles: Iterable[int], timeout: float) -> list[int]:
        return list(handles)[:1]

    def result(self, handle: int) -> Iterable[int]:
        function, group = self.calls.pop(handle)
        done, how = self.fate(group, handle)
        self.begun += group[: done + (how is not None)]
        results = function(group[:done])
        if how is None:
            return results
        raise LostCall("job died", done=iter(results), **how)

    def cancel(self, handles: list[int]) -> list[int]:
        return handles

    def shutdown(self, *, kill: bool) -> None:
        pass


def squares(group: list[int]) -> list[int]:
    return [task * task for task in group]


def collect(pool: Fake, tasks: int, size: int) -> list[tuple[int, int]]:
    got: list[tuple[int, int]] = []
    run_pool(
        pool,
        99,
        squares,
        groups(range(tasks), size),
        lambda task, result: got.append((task, result)),
        threading.Event(),
        lambda: "broken",
    )
    return got


def test_calls_come_in_arrays_as_there_is_room() -> None:
    pool = Fake(lambda group, number: (len(group), None), room=3)
    assert sorted(collect(pool, 20, 4)) == [(task, task * task) for task in range(20)]
    assert pool.arrays[0] == 3 and pool.begun.count(7) == 1


def test_what_a_job_had_no_time_for_is_done_by_another() -> None:
    pool = Fake(lambda group, number: (min(2, len(group)), None))
    assert sorted(collect(pool, 20, 5)) == [(task, task * task) for task in range(20)]
    assert sorted(pool.begun) == list(range(20))


def test_what_a_dead_job_has_done_counts_once() -> None:
    """The first job dies in its third task: two are kept, the third begins again."""
    pool = Fake(lambda group, number: (2, {}) if number == 0 else (len(group), None))
    assert sorted(collect(pool, 10, 5)) == [(task, task * task) for task in range(10)]
    assert sorted(pool.begun) == sorted([*range(10), 2])


def test_a_preempted_job_is_never_given_up() -> None:
    pool = Fake(
        lambda group, number: (0, {"counts": False}) if number < 3 * RETRIES else (len(group), None)
    )
    assert len(collect(pool, 2, 2)) == 2


def test_of_a_job_that_dies_again_and_again_only_the_first_task_is_given_up() -> None:
    deadly = 3

    def fate(group: list[int], number: int) -> tuple[int, Any]:
        return (group.index(deadly), {}) if deadly in group else (len(group), None)

    pool, got = Fake(fate), []
    with pytest.raises(WorkerError, match="1 tasks have no result"):
        run_pool(
            pool,
            99,
            squares,
            groups(range(10), 5),
            lambda task, result: got.append(task),
            threading.Event(),
            lambda: "broken",
        )
    assert sorted(got) == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert pool.begun.count(deadly) == 1 + RETRIES


def test_groups_know_how_many_tasks_are_left() -> None:
    left: list[int] = []

    def size(rest: int) -> int:
        left.append(rest)
        return 2

    assert list(groups([1, 2, 3], size)) == [[1, 2], [3]] and left == [3, 1, 0]
    assert list(groups(iter(range(3)), 3)) == [[0, 1, 2]]
    list(groups((x for x in range(2)), size))
    assert left[-1] == -1
