"""The loop over a pool: lost calls are tried again, and one dead job does not end the run."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from typing import Any

import pytest

from simprior.errors import InputError
from simprior.runs import slurm as engine_slurm
from simprior.runs.pool import RETRIES, LostCall, WorkerError, groups, run_pool
from simprior.runs.slurm import JobState


class FakePool:
    """Runs a call when it is waited for; ``deaths[task]`` is how often its job dies first."""

    broken: tuple[type[Exception], ...] = ()

    def __init__(self, deaths: dict[int, int] | None = None, busy: int = 0) -> None:
        self.deaths, self.busy = dict(deaths or {}), busy
        self.submitted: list[list[int]] = []
        self.killed: bool | None = None
        self.cancelled: list[Any] = []

    def submit(self, function: Any, *args: Any) -> Any:
        if self.busy:
            self.busy -= 1
            return None
        self.submitted.append(args[0])
        return (len(self.submitted), function, tuple(args[0]))

    def wait(self, handles: Iterable[Any], timeout: float) -> Iterable[Any]:
        return list(handles)[:1]

    def result(self, handle: Any) -> Any:
        number, function, group = handle
        for task in group:
            if self.deaths.get(task, 0):
                self.deaths[task] -= 1
                raise LostCall(f"job {number} ended: NODE_FAIL (log /log/{number})")
        return function(list(group))

    def cancel(self, handles: list[Any]) -> Iterable[Any]:
        self.cancelled = handles[1:]
        return self.cancelled

    def shutdown(self, *, kill: bool) -> None:
        self.killed = kill


def run(pool: FakePool, tasks: Iterable[int], size: int = 2, stop: Any = None) -> dict[int, int]:
    found: dict[int, int] = {}
    run_pool(
        pool, 4, lambda group: [t * t for t in group], groups(tasks, size), found.__setitem__,
        stop or threading.Event(), lambda: "broken",
    )  # fmt: skip
    return found


def test_a_lost_call_is_submitted_again(caplog: pytest.LogCaptureFixture) -> None:
    pool = FakePool({3: RETRIES})
    with caplog.at_level(logging.WARNING, "simprior"):
        assert run(pool, range(9)) == {t: t * t for t in range(9)}
    assert pool.submitted.count([2, 3]) == 1 + RETRIES
    assert "ended: NODE_FAIL" in caplog.text and "try 3 of 3" in caplog.text


def test_a_call_lost_for_good_ends_the_run_last() -> None:
    found: dict[int, int] = {}
    pool = FakePool({3: 99})
    with pytest.raises(WorkerError, match=r"job \d+ ended: NODE_FAIL \(log /log/\d+\).*; 2 tasks"):
        run_pool(
            pool, 4, lambda group: [t * t for t in group], groups(range(40), 2), found.__setitem__,
            threading.Event(), lambda: "broken",
        )  # fmt: skip
    assert found == {t: t * t for t in range(40) if t not in (2, 3)}
    assert pool.killed is False


def test_no_new_calls_where_all_are_lost() -> None:
    pool = FakePool(dict.fromkeys(range(10**4), 99))
    with pytest.raises(WorkerError, match="and 3 more like it"):
        run(pool, range(10**4))
    assert len(pool.submitted) == 4 * (1 + RETRIES)


def test_a_pool_that_takes_no_call_at_the_moment() -> None:
    assert run(FakePool(busy=5), range(9)) == {t: t * t for t in range(9)}


def test_a_stop_cancels_what_is_queued_and_waits_for_the_rest() -> None:
    stop = threading.Event()
    pool = FakePool()
    found: dict[int, int] = {}

    def deliver(task: int, result: int) -> None:
        found[task] = result
        stop.set()

    run_pool(pool, 4, list, groups(range(100), 1), deliver, stop, lambda: "broken")
    assert len(pool.submitted) == 4 and len(pool.cancelled) == 2
    assert sorted(found) == [0, 1]


# ---------------------------------------------------------------- what SLURM says

PARTITIONS = """\
PartitionName=main AllowGroups=ALL Default=YES MaxTime=2-00:00:00 State=UP
PartitionName=short Default=NO MaxTime=00:03:00 State=UP
PartitionName=free Default=NO MaxTime=UNLIMITED State=UP
"""


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, str, str]]:
    answers = {"scontrol": (0, PARTITIONS, "")}
    monkeypatch.setattr(engine_slurm, "ask", lambda *command: answers[command[0]])
    monkeypatch.delenv("SBATCH_PARTITION", raising=False)
    return answers


NAMES = ("time", "partition")


@pytest.mark.parametrize(
    ("given", "partition", "minutes"),
    [
        (None, None, 1440),
        (None, "short", 3),
        (None, "free", 1440),
        (None, "free,short", 3),
        (2, "short", 2),
        (2000, None, 2000),
    ],
)
def test_walltime_fits_the_partition(
    says: Any, given: int | None, partition: str | None, minutes: int
) -> None:
    assert engine_slurm.walltime(given, partition, NAMES) == minutes


@pytest.mark.parametrize(
    ("given", "partition", "message"),
    [
        (None, "shor", "partition=shor: expected one of main, short, free"),
        (4, "short", "time=4 minutes: expected at most 3 minutes, the limit of partition short"),
    ],
)
def test_walltime_refuses(
    says: Any, given: int | None, partition: str | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        engine_slurm.walltime(given, partition, NAMES)


def test_states_without_accounting(says: Any) -> None:
    says["squeue"] = (0, "12|N/A|PENDING|Resources\n13|0|CANCELLED|None\n14|N/A|RUNNING|None\n", "")
    states = engine_slurm.job_states(["12", "13", "14", "15"])
    assert states == {
        "12": JobState("PENDING", "Resources"), "13_0": JobState("CANCELLED", "None"),
        "14": JobState("RUNNING", "None"),
    }  # fmt: skip
    assert [s.over for s in states.values()] == [False, True, False]
    says["squeue"] = (1, "", "slurm_load_jobs error: Invalid job id specified\n")
    assert engine_slurm.job_states(["12"]) == {}
    says["squeue"] = (1, "", "slurm_load_jobs error: Unable to contact slurm controller\n")
    assert "Unable to contact" in engine_slurm.job_states(["12"])


def test_why_jobs_wait(says: Any) -> None:
    drained = "Nodes required for job are DOWN, DRAINED or reserved for jobs"
    says["sinfo"] = (0, "vm|drained|fan broken\n", "")
    lines = engine_slurm.why_pending(
        {
            "1": JobState("PENDING", "Priority"),
            "2": JobState("PENDING", "Priority"),
            "3": JobState("RUNNING", "None"),
            "4": JobState("PENDING", drained),
            "5": JobState("PENDING", "PartitionTimeLimit"),
        }
    )
    assert lines == [
        "2 jobs pending because Priority (jobs 1, 2)",
        f"1 job pending because {drained} (job 4); node vm is drained (fan broken)",
        "1 job pending because PartitionTimeLimit (job 5); "
        "the walltime is above the partition's limit: lower time",
    ]


def test_a_command_that_does_not_exist() -> None:
    start = time.monotonic()
    assert engine_slurm.ask("simprior-no-such-command")[0] == 255
    assert time.monotonic() - start < 30
