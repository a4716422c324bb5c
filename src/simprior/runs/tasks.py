"""Map a function over tasks: in threads of this process, in other processes, or on a cluster.

:func:`run_tasks` is the one way in which the library computes in parallel. Results arrive in any
order, so whatever is built from them must not depend on it. Around it stands what every run shares:

* :class:`RunOptions`, the options of a run (workers, executor, directory, resume, progress);
* progress on stderr: a bar on a terminal, a line in the log now and then elsewhere;
* the device to compute on: cpu, cuda, or whichever there is;
* how many threads a call and its libraries have (:mod:`simprior.runs.threads`).
"""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypedDict, TypeVar

from simprior.checks import Choice, Integer
from simprior.errors import DeviceError, SimpriorError
from simprior.runs.local import local_pool
from simprior.runs.pool import ArrayPool, Pool, WorkerError, groups, run_pool
from simprior.runs.threads import (
    available_cores,
    cores_here,
    limit_threads,
    one_thread,
    one_torch_thread,
)

__all__ = [
    "EXECUTORS",
    "Interrupted",
    "Progress",
    "RunKeywords",
    "RunOptions",
    "WorkerError",
    "available_cores",
    "check_executor",
    "limit_threads",
    "one_thread",
    "one_torch_thread",
    "progress_bar",
    "run_tasks",
]

_logger = logging.getLogger("simprior")
LOG_SECONDS = 30.0


class Progress(Protocol):
    """Anything that can be told how much has been done."""

    def update(self, n: int = 1) -> object:
        """``n`` more units are done."""


class LogProgress:
    """A log line with rate and time left, at most every ``interval`` seconds."""

    def __init__(
        self, total: int, unit: str, start: int = 0, interval: float = LOG_SECONDS
    ) -> None:
        self.total, self.unit, self.done, self.start = total, unit, start, start
        self.interval, self.began = interval, time.monotonic()
        self._last = self.began

    def update(self, n: int = 1) -> None:
        """Count ``n`` units; write a line if the interval has passed."""
        self.done += n
        moment = time.monotonic()
        if moment - self._last >= self.interval:
            self._last = moment
            _logger.info(self.line(moment - self.began))

    def line(self, seconds: float) -> str:
        """The text after ``seconds`` of work."""
        rate = (self.done - self.start) / seconds if seconds > 0 else 0.0
        share = 100.0 * self.done / self.total if self.total else 100.0
        left = f"{_duration((self.total - self.done) / rate)} left" if rate > 0 else "unknown left"
        done = f"{self.done:,} of {self.total:,} {self.unit}"
        speed = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
        return f"{done} ({share:.1f} %), {speed} {self.unit}/s, {left}"


class _Silent:
    def update(self, n: int = 1) -> None:
        """Nothing to show."""


@contextlib.contextmanager
def progress_bar(
    total: int, unit: str = "net", *, start: int = 0, quiet: bool = False, description: str = ""
) -> Iterator[Progress]:
    """A progress display for ``total`` units, of which ``start`` are done already.

    On a terminal a bar with rate and time left, otherwise a log line every 30 s.
    """
    if quiet:
        yield _Silent()
    elif not sys.stderr.isatty():
        yield LogProgress(total, unit, start)
    else:
        from tqdm import tqdm

        with tqdm(
            total=total,
            initial=start,
            unit=unit,
            unit_scale=True,
            desc=description or None,
            file=sys.stderr,
            disable=None,
            smoothing=0.1,
        ) as bar:
            yield bar


def _duration(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"


EXECUTORS = ("local", "slurm", "dask")
Task = TypeVar("Task")
Result = TypeVar("Result")


class RunKeywords(TypedDict, total=False):
    """The keyword arguments that functions which compute something have in common."""

    workers: int
    executor: str
    executor_options: Mapping[str, Any] | None
    progress: Progress | None
    out: Path | str | None
    resume: bool
    overwrite: bool


@dataclass(frozen=True)
class RunOptions:
    """How something is computed, shown and kept; nothing here determines the result.

    ``workers``, ``executor``, ``executor_options`` and ``progress`` are those of :func:`run_tasks`.
    ``out`` is the run directory (None: everything stays in memory); ``resume`` continues what is
    there, ``overwrite`` replaces it.
    """

    workers: int = 1
    executor: str = "local"
    executor_options: Mapping[str, Any] | None = None
    progress: Progress | None = None
    out: Path | str | None = None
    resume: bool = False
    overwrite: bool = False

    @property
    def threads(self) -> int:
        """Threads that may be used here, before and after the tasks."""
        return min(self.workers, cores_here())

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> RunOptions:
        """The options among the arguments ``given`` by name; what is missing has its default."""
        return cls(
            **{field.name: given[field.name] for field in fields(cls) if field.name in given}
        )


class Interrupted(SimpriorError):
    """A run was stopped by Ctrl-C or SIGTERM; what was finished has been handed over.

    Whether it is kept is for the run directory to say, which sets ``kept``.
    """

    exit_code = 130


def run_tasks(
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    *,
    on_result: Callable[[Task, Result], None],
    workers: int = 1,
    executor: str = "local",
    executor_options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    amount: Callable[[Task], int] | None = None,
    then: Callable[[Task, Result], Task | None] | None = None,
    threads: bool = False,
) -> int:
    """Call ``function(task)`` for every task and hand each result to ``on_result(task, result)``.

    Parameters
    ----------
    function : callable
        Picklable (a module-level function, or a ``functools.partial`` of one), if it runs in other
        processes.
    tasks : iterable
        Picklable tasks, drawn lazily: at most ``2 * workers`` calls are in flight (one of one
        worker; ``slurm``: ``workers`` jobs of several tasks each).
    on_result : callable
        Called in this process, in order of completion.
    workers : int
        1 runs in this process (executor ``local``); otherwise threads of this process, worker
        processes or cluster jobs, each on one core.
    executor : str
        ``local``, ``dask`` or ``slurm`` (the latter two: ``pip install 'simprior[cluster]'``).
    executor_options : mapping, optional
        ``dask``: keywords of ``distributed.Client``; ``slurm``: ``folder``, ``tasks_per_job``,
        sbatch's options and submitit's parameters (docs/clusters.md).
    progress : Progress, optional
        ``progress.update(amount(task))`` is called after each result (default amount: 1).
    then : callable, optional
        The task that follows from a result, if any: it is done before those not begun.
    threads : bool
        Whether several local workers are threads of this process: for functions whose heavy part
        gives up Python's lock (compiled code, BLAS), that keep their arrays apart
        (:func:`simprior.runs.threads.per_thread`) and leave alone what belongs to the process
        (generators and settings of torch, warning filters). Otherwise they are processes.

    Returns
    -------
    int
        The number of results handed over.

    Raises
    ------
    InputError
        Unknown executor, ``workers < 1``, or the cluster packages are missing.
    Interrupted
        SIGINT or SIGTERM: nothing more was submitted, calls in progress were waited for and their
        results handed over. A second signal stops at once.
    WorkerError
        A worker died (a cluster job that died is submitted again up to 3 times, and the others go
        on). Errors that ``function`` raises are raised here.
    """
    workers = Integer(1, remedy="pass for example --workers 2")("workers", workers)
    Choice(EXECUTORS, "pass --executor local")("executor", executor)

    done, began = 0, time.monotonic()

    def announce() -> None:
        """Say that a signal came, and for how long the tasks in work may go on."""
        each = f"about {(time.monotonic() - began) * workers / done:.0f} s" if done else "the first"
        _logger.warning("finishing the tasks in work (%s); Ctrl-C again to drop them", each)

    def deliver(task: Task, result: Result) -> Task | None:
        nonlocal done
        on_result(task, result)
        done += 1
        if progress is not None:
            progress.update(1 if amount is None else amount(task))
        return None if then is None else then(task, result)

    here = executor == "local" and (workers == 1 or threads)
    with _graceful_stop() as stop:
        from simprior.runs.reading import comparing

        pool, group = _make_pool(workers, executor, executor_options or {}, threads)
        run_pool(
            pool,
            1 if here and workers == 1 else 2 * workers,
            partial(_each, function) if here else partial(_guarded, function, comparing()),
            groups(tasks, group),
            lambda task, result: deliver(task, _unwrap(result)),
            stop,
            _dead_worker_message,
            announce,
        )
    if stop.is_set():
        raise Interrupted(f"interrupted after {done} finished tasks")
    return done


def check_executor(executor: str, options: Mapping[str, Any] | None) -> None:
    """Raise :class:`InputError` now for what :func:`run_tasks` would refuse; starts nothing."""
    if executor in ("slurm", "dask"):
        from simprior.runs import cluster

        cluster.check_options(executor, options or {})


def _dead_worker_message() -> str:
    text = (
        "a worker process died (killed, or out of memory); finished shards are kept: "
        "run again with --resume and fewer --workers or less --memory"
    )
    if getattr(sys.modules.get("__main__"), "__file__", None) and not is_console_script(
        sys.argv[0]
    ):
        text += "; in a script, put the call under if __name__ == '__main__':"
    return text


def is_console_script(program: str) -> bool:
    """Whether this, the first of ``sys.argv``, is that of the command line."""
    return Path(program).name in {"simprior", "__main__.py"}


def _make_pool(
    workers: int, executor: str, options: Mapping[str, Any], threads: bool
) -> tuple[Pool | ArrayPool, int | Callable[[int], int]]:
    """The pool and how many tasks make one call."""
    if executor == "local":
        return local_pool(workers, threads=threads), 1
    if executor == "dask":
        from simprior.runs.cluster import DaskPool

        return DaskPool(workers, options), 1
    from simprior.runs.slurm_pool import SlurmPool

    pool = SlurmPool(workers, options)
    return pool, pool.group_size


def _each(function: Callable[[Task], Result], group: list[Task]) -> list[Result]:
    """Call in a thread of this process."""
    return [function(task) for task in group]


class _Failure(NamedTuple):
    """An error of ours on its way from a worker: its class and its one line of text."""

    kind: type[SimpriorError]
    message: str


def _guarded(
    function: Callable[[Task], Result], verify: bool, group: list[Task]
) -> list[Result | _Failure]:
    """Call in a worker, which compares hashes if the process that sent the tasks does.

    Errors whose constructors take several arguments do not unpickle.
    """
    from simprior.runs.reading import verification

    limit_threads()
    results: list[Result | _Failure] = []
    with verification(verify):
        for task in group:
            try:
                results.append(function(task))
            except SimpriorError as error:
                results.append(_Failure(type(error), str(error)))
    return results


def _unwrap(result: Any) -> Any:
    if isinstance(result, _Failure):
        error = result.kind.__new__(result.kind, result.message)
        error.args = (result.message,)
        raise error
    return result


@contextlib.contextmanager
def _graceful_stop() -> Iterator[threading.Event]:
    """An event set by the first SIGINT or SIGTERM; the second one raises KeyboardInterrupt."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, frame: Any) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    earlier = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


DEVICES = ("cpu", "cuda", "auto")


def resolve_device(device: str) -> str:
    """``cpu`` or ``cuda``; :class:`DeviceError` when CUDA is asked for and there is none."""
    if Choice(DEVICES, "pass --device cpu")("device", device) == "cpu":
        return "cpu"
    import torch

    if torch.cuda.is_available():
        return "cuda"
    if device == "cuda":
        raise DeviceError(
            "device='cuda': expected a CUDA device that torch can use, found none; "
            "pass --device cpu"
        )
    return "cpu"
