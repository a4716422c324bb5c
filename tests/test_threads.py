"""Threads in place of processes: the same bits, clean stops, and nothing left changed."""

from __future__ import annotations

import contextvars
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from interrupting import GO_ON, SAID, blocked, interrupt, press
from simprior import Network
from simprior.errors import InputError, StoreError
from simprior.runs import local, threads
from simprior.runs.reading import comparing, verification
from simprior.runs.tasks import Interrupted, available_cores, run_tasks
from simprior.runs.threads import keep_freed

NET = Network(n=4, hidden=(7, 5), sigma_b=0.5)
LABELS = {"train_index": [0, 3, 6], "target": "x1"}


@pytest.fixture
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "ProcessPool", None)


def collect(tasks: Any, function: Callable[[Any], Any], **options: Any) -> dict[Any, Any]:
    results: dict[Any, Any] = {}
    run_tasks(function, tasks, on_result=results.__setitem__, threads=True, **options)
    return results


# ------------------------------------------------------------------------------ the pool


def test_calls_are_made_side_by_side_in_this_process(no_processes: None) -> None:
    meet = threading.Barrier(3, timeout=60)

    def wait(task: int) -> tuple[int, str, int]:
        meet.wait()  # three at a time, or it breaks
        return os.getpid(), threading.current_thread().name, threads.cores_here()

    found = collect(range(6), wait, workers=3)
    assert {pid for pid, _, _ in found.values()} == {os.getpid()}
    assert len({name for _, name, _ in found.values()}) == 3
    assert {cores for *_, cores in found.values()} == {1}
    assert threads.cores_here() == available_cores()
    alone = collect(range(2), lambda task: threads.cores_here())
    assert set(alone.values()) == {available_cores()}


def test_tasks_that_do_not_say_so_go_to_processes() -> None:
    for workers, threads_too, kind in (
        (2, False, local.ProcessPool),
        (2, True, local.ThreadPool),
        (1, False, local.ThreadPool),
    ):
        pool = local.local_pool(workers, threads=threads_too)
        assert type(pool) is kind
        pool.shutdown(kill=False)
    found: list[Any] = []
    call = threading.Thread(target=lambda: found.append(local.local_pool(1, threads=True)))
    call.start()
    call.join()
    assert isinstance(found[0], local.CallingThread)


@pytest.mark.parametrize("error", [InputError("task", "another", "go"), StoreError("full")])
def test_errors_of_a_thread_are_raised_here(error: Exception) -> None:
    def fail(task: int) -> int:
        if task == 3:
            raise error
        return task

    with pytest.raises(type(error), match=str(error)):
        collect(range(9), fail, workers=2)


def test_context_variables_are_those_of_the_caller() -> None:
    name = contextvars.ContextVar("name", default="none")
    name.set("mine")
    with verification(False):
        found = collect(range(4), lambda task: (name.get(), comparing()), workers=2)
    assert set(found.values()) == {("mine", False)} and comparing()


def test_kept_arrays_belong_to_one_thread() -> None:
    made = []

    @threads.per_thread(maxsize=2)
    def scratch(size: int) -> np.ndarray:
        made.append(np.zeros(size))
        return made[-1]

    meet = threading.Barrier(2, timeout=60)

    def use(task: int) -> int:
        meet.wait()
        assert scratch(3) is scratch(3)
        return id(scratch(3))

    found = collect(range(4), use, workers=2)
    assert len(set(found.values())) == 2 and len(made) == 2
    assert id(scratch(3)) not in found.values()


def test_results_of_items_in_order() -> None:
    assert threads.in_threads(lambda x: x * x, range(9), 4) == [x * x for x in range(9)]
    assert threads.in_threads(lambda x: threads.cores_here(), range(2), 2) == [1, 1]
    with pytest.raises(ZeroDivisionError):
        threads.in_threads(lambda x: 1 // x, [1, 0], 2)


# ---------------------------------------------------------- threads of numerical libraries


def number_of_threads(api: str = "") -> list[int]:
    """Of the libraries of an interface (blas: of the process, openmp: of a thread), or of all."""
    from threadpoolctl import threadpool_info

    return [lib["num_threads"] for lib in threadpool_info() if api in ("", lib["user_api"])]


def test_libraries_have_one_thread_until_the_last_call_ends() -> None:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(2):
        before = number_of_threads()
        inside, go = threading.Event(), threading.Event()

        def hold() -> None:
            with threads.one_thread():
                inside.set()
                go.wait(60)

        other = threading.Thread(target=hold)
        with threads.one_thread():
            other.start()
            inside.wait(60)
        assert set(number_of_threads("blas")) == {1}  # the other one is still at it
        assert set(number_of_threads("openmp")) <= {2}
        go.set()
        other.join()
        assert number_of_threads() == before


def test_libraries_have_one_thread_in_a_pool_and_as_many_as_before_after() -> None:
    import torch
    from threadpoolctl import threadpool_limits

    with threadpool_limits(2):
        before = number_of_threads(), torch.get_num_threads()
        found = collect(
            range(4), lambda task: (max(number_of_threads()), torch.get_num_threads()), workers=2
        )
        assert set(found.values()) == {(1, 1)}
        with pytest.raises(ZeroDivisionError):
            collect(range(4), lambda task: 1 // task, workers=2)
        assert (number_of_threads(), torch.get_num_threads()) == before


# ------------------------------------------------------------------------------ stopping


def test_the_first_signal_finishes_the_tasks_in_work(caplog: pytest.LogCaptureFixture) -> None:
    GO_ON.clear()
    caplog.set_level(logging.INFO, "simprior")
    interrupt(caplog, GO_ON.set)
    found: list[int] = []
    with pytest.raises(Interrupted, match="after 3 finished"):
        run_tasks(
            blocked,
            range(50),
            on_result=lambda task, result: found.append(task),
            workers=3,
            threads=True,
        )
    assert sorted(found) == [0, 1, 2] and caplog.text.count(SAID) == 1


def test_the_second_leaves_them_behind(caplog: pytest.LogCaptureFixture) -> None:
    """And the next run, which may work in the same files, begins when they have ended."""
    GO_ON.clear()
    caplog.set_level(logging.INFO, "simprior")
    interrupt(caplog, press)
    found: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        run_tasks(
            blocked,
            range(50),
            on_result=lambda task, result: found.append(task),
            workers=2,
            threads=True,
        )
    assert found == [] and not GO_ON.is_set()
    threading.Timer(0.5, GO_ON.set).start()
    began = time.monotonic()
    assert collect([7], abs, workers=2) == {7: 7}
    assert GO_ON.is_set() and time.monotonic() - began > 0.3
    assert "waiting for the end of the call" in caplog.text


def test_an_error_waits_for_the_calls_beside_it() -> None:
    ended: list[int] = []

    def fail(task: int) -> int:
        if task == 1:
            raise StoreError("full")
        time.sleep(0.3)
        ended.append(task)
        return task

    with pytest.raises(StoreError, match="full"):
        collect(range(100), fail, workers=2)
    assert 0 < len(ended) < 5  # what had begun, and no more


# ---------------------------------------------------------------- the same bits, whatever K


def counted(counts: Any) -> tuple[Any, ...]:
    rows = counts.rows
    arrays = (rows.words, rows.count, rows.clusters, rows.sumsq, counts.ones)
    return (*(a.tobytes() for a in arrays), counts.dispersion)


def by_sampling(out: Path | None, workers: int) -> Any:
    from simprior.boolean.sampling.sample import sample

    return counted(sample(NET, samples=40_011, seed=3, pool=True, workers=workers, out=out))


def by_watching(out: Path | None, workers: int) -> Any:
    from simprior.boolean.sampling.sample import sample

    found = sample(NET, samples=30_000, watch=["const0", "x1"], heads=1, workers=workers, out=out)
    return found.p.tobytes(), found.stderr.tobytes(), found.ones_p.tobytes()


def by_training(out: Path | None, workers: int) -> Any:
    from simprior.training.train import train

    found = train(NET, "x1", train=6, runs=50, workers=workers, out=out, record=(1, 2))
    return found.words.tobytes(), found.steps.tobytes(), found.loss.tobytes()


def by_logp(out: Path | None, workers: int) -> Any:
    from simprior.gp.architectures import kernel
    from simprior.gp.orthant import Request, log_prior_table

    tables = np.random.default_rng(0).integers(0, 2, (40, 16), np.uint8)
    request = Request(kernel(NET), tables, methods=("tilted", "ep"))
    frame = log_prior_table(request, out=out, workers=workers)
    return frame.drop(columns="seconds").to_csv()


def by_rejection(out: Path | None, workers: int) -> Any:
    from simprior.training.posterior import rejection_posterior

    counts = rejection_posterior(NET, samples=20_000, workers=workers, **LABELS)
    return *counted(counts), counts.info["posterior"]


def by_slices(out: Path | None, workers: int) -> Any:
    from simprior.training.posterior import slice_posterior

    return counted(slice_posterior(NET, samples=800, chains=4, workers=workers, **LABELS))


def by_process(out: Path | None, workers: int) -> Any:
    from simprior.gp.architectures import kernel
    from simprior.gp.posterior import sample_posterior

    K = kernel(NET)
    index, labels = LABELS["train_index"], [0, 1, 0]
    return counted(sample_posterior(K, index, labels, 3000, workers=workers))


def by_measuring(out: Path | None, workers: int) -> Any:
    from simprior import measure
    from simprior.training.train import train

    result = train(NET, "x1", train=6, runs=30)
    groups = "lz,csr,prior,sharpness,norms"
    frame = measure(result, measures=groups, workers=workers, out=out, quiet=True)
    return frame.to_csv()


def by_annealing(out: Path | None, workers: int) -> Any:
    from simprior.finite import log_prior_finite

    found = log_prior_finite(NET, "x1", particles=30, runs=4, check=False, workers=workers)
    return [(p.value, p.stderr) for p in found]


SMALL = {
    "simprior.boolean.sampling.sample._TASK_SAMPLES": 4096,
    "simprior.boolean.sampling.watch.BLOCK_DRAWS": 512,
    "simprior.analysis.measure.sources.NETWORKS_CHUNK": 4,
    "simprior.gp.orthant._BATCH_WORK": 8 * 16**2,
    "simprior.gp.posterior._TASK": 500,
    "simprior.training.posterior.rejection._FIRST_TASK": 2048,
}
"""Sizes of tasks, small enough for many of them."""
WAYS = {
    by_sampling: True,
    by_watching: True,
    by_training: True,
    by_logp: True,
    by_measuring: True,
    by_rejection: False,
    by_slices: False,
    by_process: False,
    by_annealing: False,
}
"""Whether they take a run directory here."""


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_the_same_bits_whatever_the_number_of_threads(
    way: Callable[[Path | None, int], Any],
    no_processes: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for name, size in SMALL.items():
        monkeypatch.setattr(name, size)
    one = way(None, 1)
    assert way(None, 3) == one
    if WAYS[way]:
        assert way(tmp_path / "out", 3) == one


FAULTS = """
import resource
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from simprior.runs.threads import keep_freed

def work():
    for times in (5, 40):
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        for _ in range(times):
            [np.ones(1 << 19) for _ in range(5)]
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before

assert keep_freed()
with ThreadPoolExecutor(1) as pool:
    print(pool.submit(work).result())
"""


@pytest.mark.skipif(not keep_freed(), reason="another memory allocator than glibc's")
def test_threads_keep_what_they_free() -> None:
    """Five arrays of 4 MB, made and dropped together in a thread of a fresh process, cost no page
    faults after the first times; without `keep_freed` 40 times of it cost some 100,000 (of 4 KiB).
    """
    run = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 20_000
