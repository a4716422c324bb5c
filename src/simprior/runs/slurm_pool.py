"""SLURM as a pool of :mod:`simprior.runs.pool`: job arrays by submitit (extra ``[cluster]``).

Every call is an element of an array. At most ``workers`` elements are in the queue; as they end,
arrays of new ones follow. A run has a folder of its own in ``folder``, removed when all went well.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import shutil
import signal
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from simprior.checks import unknown
from simprior.errors import InputError, StoreError
from simprior.runs import slurm
from simprior.runs.executor_options import CONSTRUCTOR, OURS, missing, one_line, refused, translate
from simprior.runs.executor_options import whole as whole_option
from simprior.runs.pool import LostCall, WorkerError
from simprior.runs.slurm_job import (
    STOP,
    Batch,
    done_file,
    finished_tasks,
    read_done,
    store_function,
)

FIRST_TASKS = 16  # of a job, before any task has been measured
JOB_SECONDS, LEAST_SECONDS = 600.0, 60.0  # how long a job is to take: wanted, and at least
FIRST_REPORT_SECONDS, REPORT_SECONDS = 10.0, 60.0  # of jobs that wait
ASK_SECONDS = 5.0  # between two questions to the controller
REFILL_SECONDS = 10.0  # between two arrays of fewer than an eighth of the workers
GRACE_SECONDS = {"COMPLETED": 60.0}  # for a result to appear on a network file system
_GRACE = 10.0
_RESULT_SECONDS = 1.0
_SUBMIT_SECONDS = 600.0  # how long sbatch may fail for reasons that pass
_LIMIT_SECONDS = 600.0  # how long a submit limit is believed in
_SIGNAL_SECONDS, _SIGNAL_SHARE = 90, 0.05  # before the walltime's end SLURM signals the job
_PASSING = (
    "unable to contact",
    "timed out",
    "temporarily",
    "try again",
    "connection refused",
    "zero bytes",
)
_TOO_MANY = ("submit limit", "submitlimit", "maxsubmit", "job array", "maxjobcount")
_PREEMPTED = "PREEMPTED"
_REMEDIES = {
    "TIMEOUT": "raise time: one task takes longer",
    "OUT_OF_MEMORY": "raise mem, or lower --memory",
}
_FUNCTION = "function.pkl"
_logger = logging.getLogger("simprior")


class _Executor(NamedTuple):
    """submitit's executor, ready, and what we have to know of it."""

    submitit: Any
    is_slurm: bool
    minutes: int
    tasks: int | None


def check_slurm(options: Mapping[str, Any]) -> None:
    """Raise :class:`InputError` for options that cannot be used; starts nothing."""
    _executor(options, str(options.get("folder", _FOLDER)), 1)


_FOLDER = "simprior-jobs"


def _executor(options: Mapping[str, Any], folder: str, workers: int) -> _Executor:
    try:
        import submitit
        from submitit.core import plugins
    except ImportError:
        raise missing("slurm", "submitit") from None
    clusters = plugins.get_executors()
    valid = set(submitit.AutoExecutor._valid_parameters())
    valid |= {f"{name}_{p}" for name, one in clusters.items() for p in one._valid_parameters()}
    translated = translate(options, valid)
    given = translated.values
    cluster = given.get("cluster")
    if cluster is not None and cluster not in clusters:
        raise unknown(f"executor_options cluster={cluster!r}", str(cluster), clusters)
    is_slurm = (cluster or submitit.AutoExecutor.which()) == "slurm"
    if is_slurm and shutil.which("sbatch") is None:
        raise InputError(
            "executor='slurm'",
            "SLURM's commands (sbatch, squeue) on the PATH",
            "run on a login node, or use --executor local",
        )
    for name in ("nodes", "tasks_per_node"):
        if given.get(name, 1) != 1:
            raise InputError(
                f"executor_options {name}={given[name]}",
                "1, as a job runs its tasks one after the other",
                "pass --workers for the number of jobs",
            )
    tasks = given.get("tasks_per_job")
    if tasks is not None:
        tasks = whole_option("tasks_per_job", tasks)
    minutes = given.get("timeout_min") or slurm.MAX_MINUTES
    if is_slurm:
        names = (translated.time_name, translated.partition_name)
        minutes = slurm.walltime(given.get("timeout_min"), given.get("slurm_partition"), names)
    delay = int(min(_SIGNAL_SECONDS, _SIGNAL_SHARE * 60 * minutes))
    defaults = {
        "cpus_per_task": 1,
        "name": "simprior",
        "slurm_array_parallelism": workers,
        "slurm_signal_delay_s": delay,
    }
    more = dict(given.get("slurm_additional_parameters", {}))
    if not {"requeue", "no-requeue"} & set(more):
        more["requeue"] = True
    ours = {"timeout_min": minutes, "slurm_additional_parameters": more}
    rest = {k: v for k, v in given.items() if k not in {*OURS, *CONSTRUCTOR}}
    try:
        pool = submitit.AutoExecutor(
            folder=folder,
            cluster=cluster,
            **{k: v for k, v in given.items() if k in CONSTRUCTOR},
        )
        pool.update_parameters(**{**defaults, **rest, **ours})
    except (AssertionError, NameError, ValueError, TypeError, RuntimeError) as error:
        raise refused(options, "parameters that submitit accepts", error) from None
    return _Executor(pool, is_slurm, minutes, tasks)


class _JobHandle:
    """A submitted job: when it was seen to be over, and in which state."""

    def __init__(self, job: Any) -> None:
        self.job, self.id = job, str(job.job_id)
        self.over_since: float | None = None
        self.state = ""
        self.lost = self.held = False

    @property
    def log(self) -> Path:
        """Where it writes its errors, or else all that it says."""
        paths = self.job.paths
        both = [Path(paths.stderr), Path(paths.stdout)]
        return next((path for path in both if path.exists()), both[0])

    def has_result(self) -> bool:
        return bool(self.job.paths.result_pickle.exists())

    def note(self, state: slurm.JobState, now: float) -> None:
        """Take down the state; a job that is over without a result for a while is lost."""
        name = state.reason if state.held else state.state
        if not state.over:
            self.over_since, self.state = None, name
            return
        if self.over_since is None or self.state != name:
            self.over_since, self.state, self.held = now, name, state.held
        self.lost = now - self.over_since >= GRACE_SECONDS.get(state.state, _GRACE)

    def log_text(self) -> str:
        """Where the log is and its last line, for an error message."""
        try:
            lines = [x for x in self.log.read_text(errors="replace").splitlines() if x.strip()]
        except OSError:
            return f"(no log at {self.log}: can the nodes write there?)"
        last = f": {lines[-1].strip()[:200]}" if lines else ""
        return f"(log {self.log}{last})"

    def remove_files(self) -> None:
        """Remove what a job has left that did all it should."""
        paths = self.job.paths
        names = [paths.submitted_pickle, paths.result_pickle, paths.stderr, paths.stdout]
        names += [done_file(paths, number) for number in range(finished_tasks(paths))]
        for path in names:
            with contextlib.suppress(OSError):
                Path(path).unlink()


class SlurmPool:
    """Arrays of jobs on SLURM, by submitit (or, with ``cluster=local``, processes here).

    ``options``: ``folder`` for the files of jobs (on a file system that the nodes share, default
    ``simprior-jobs``), ``cluster``, ``tasks_per_job`` (default: as many as take some minutes, see
    :meth:`group_size`), sbatch's options and submitit's parameters.
    """

    broken: tuple[type[Exception], ...] = ()

    def __init__(self, workers: int, options: Mapping[str, Any]) -> None:
        self._folder = _run_folder(Path(str(options.get("folder", _FOLDER))).absolute())
        self._keep = False
        executor = _executor(options, str(self._folder), workers)
        self._pool, self._slurm, self._minutes, self._tasks = executor
        from submitit.core.utils import FailedSubmissionError, UncompletedJobError

        self._options, self._workers = options, workers
        self._uncompleted, self._refused = UncompletedJobError, FailedSubmissionError
        if not self._slurm:
            _logger.warning("no SLURM is used: the jobs run as processes on this machine")
        self._largest = slurm.largest_array() if self._slurm else workers
        self._most, self._most_since = workers, -math.inf
        self._running: set[_JobHandle] = set()
        self._asked = self._not_before = 0.0
        self._submitted = -math.inf
        self._failing_since: float | None = None
        self._reported = time.monotonic() - REPORT_SECONDS + FIRST_REPORT_SECONDS
        self._blocked: set[str] = set()
        self._measured, self._seconds = 0, 0.0
        self._stored: Callable[..., Any] | None = None

    # ------------------------------------------------ how much

    def group_size(self, left: int) -> int:
        """How many tasks the next job gets, of which ``left`` are not given out (-1: unknown).

        As many as take ``JOB_SECONDS``, and at most half of the walltime; fewer towards the end, so
        that all workers have some, but not for jobs that take less than ``LEAST_SECONDS``. Before
        any task was measured, ``FIRST_TASKS``, or an equal share if that is less.
        """
        if self._tasks is not None:
            return self._tasks
        if not self._measured:
            share = math.ceil(left / self._workers) if left > 0 else FIRST_TASKS
            return max(1, min(FIRST_TASKS, share))
        each = max(self._seconds / self._measured, 1e-3)
        wanted = min(JOB_SECONDS, 30.0 * self._minutes) / each
        if left > 0:
            wanted = min(wanted, max(left / (2 * self._workers), LEAST_SECONDS / each))
        return max(1, int(wanted))

    def room(self) -> int:
        """How many jobs may be submitted now: as many as are missing to ``workers`` in the queue.

        A few free places are kept back for a while, so that one array fills more of them.
        """
        now = time.monotonic()
        if now < self._not_before:
            return 0
        if now - self._most_since > _LIMIT_SECONDS:
            self._most = self._workers
        free = min(self._most, self._workers) - len(self._running)
        few = self._running and free < self._workers // 8
        if few and now - self._submitted < REFILL_SECONDS:
            return 0
        return free

    # ------------------------------------------------ submitting

    def submit_array(
        self, function: Callable[..., Any], groups: list[list[Any]]
    ) -> list[_JobHandle]:
        """Queue a job for each group, in arrays as large as the site takes them.

        Handles of the first groups; those of the others it takes later.
        """
        try:
            if self._stored is not function:
                store_function(self._folder, _FUNCTION, function)
                self._stored = function
            handles: list[_JobHandle] = []
            while len(handles) < len(groups):
                part = groups[len(handles) : len(handles) + self._largest]
                started = self._submit(part)
                if not started:
                    break
                handles += started
        except OSError as error:
            raise StoreError(
                f"cannot write the jobs' files to {self._folder}: "
                f"{error.strerror or error}; pass another folder among --executor-options"
            ) from None
        return handles

    def _submit(self, groups: list[list[Any]]) -> list[_JobHandle]:
        call = Batch(self._folder, _FUNCTION, self._minutes)
        try:
            # sbatch's own words are part of the error below
            with _signals_later(self._slurm), contextlib.redirect_stderr(io.StringIO()):
                jobs = self._pool.map_array(call, groups)
                handles = [_JobHandle(job) for job in jobs]
                self._running.update(handles)
        except (self._uncompleted, self._refused) as error:
            self._submission_failed(_sbatch_says(error), len(groups))
            return []
        self._failing_since, self._submitted = None, time.monotonic()
        return handles

    def _submission_failed(self, text: str, jobs: int) -> None:
        now = time.monotonic()
        if jobs > 1 and "array" in text.lower():
            self._largest = jobs // 2
            return
        too_many = any(part in text.lower() for part in _TOO_MANY)
        if too_many and (jobs > 1 or self._running):
            self._most, self._most_since = max(1, len(self._running) + jobs // 2), now
            _logger.warning("sbatch does not take %d jobs more: %s", jobs, text)
            return
        passing = too_many or any(part in text.lower() for part in _PASSING)
        if self._failing_since is None:
            self._failing_since = now
        if self._running or (passing and now - self._failing_since < _SUBMIT_SECONDS):
            _logger.warning("sbatch takes no job at the moment (%s); tried again in 15 s", text)
            self._not_before = now + 15.0
            return
        raise refused(self._options, "a job that sbatch accepts", text)

    # ------------------------------------------------ waiting

    def wait(self, handles: Iterable[Any], timeout: float) -> Iterable[Any]:
        """The handles that are done: their result is there, or they are lost."""
        waiting: list[_JobHandle] = list(handles)
        if not self._slurm:
            done = [handle for handle in waiting if handle.job.done()]
        else:
            with contextlib.suppress(OSError):  # a network file system then looks again
                self._folder.chmod(self._folder.stat().st_mode)
            done = [handle for handle in waiting if handle.has_result()]
            if not done and waiting and time.monotonic() - self._asked >= ASK_SECONDS:
                self._look(waiting)
                done = [handle for handle in waiting if handle.lost]
                if done:  # none of them may start after all, beside the one that replaces it
                    slurm.ask("scancel", *(handle.id for handle in done))
        if not done:
            time.sleep(max(timeout, _RESULT_SECONDS))
        self._running.difference_update(done)
        return done

    def _look(self, handles: list[_JobHandle]) -> dict[str, slurm.JobState]:
        """Ask for the states; say now and then why jobs wait."""
        states = slurm.job_states(handle.id for handle in handles)
        now = self._asked = time.monotonic()
        if isinstance(states, str):
            if now - self._reported >= REPORT_SECONDS:
                self._reported = now
                _logger.warning("SLURM gives no answer (%s); tried again", states)
            return {}
        for handle in handles:
            gone = slurm.JobState(slurm.GONE, "")
            handle.note(states.get(handle.id, gone), now)
        blocked = {s.reason for s in states.values() if slurm.never_starts(s)}
        if now - self._reported >= REPORT_SECONDS or blocked - self._blocked:
            self._reported, self._blocked = now, self._blocked | blocked
            for line in slurm.why_pending(states):
                _logger.warning("%s", line)
        return states

    def result(self, handle: _JobHandle) -> Iterator[Any]:
        """The results of the tasks that the job has done; job id and log in every error."""
        name = f"job {handle.id}"
        if not handle.has_result():
            raise self._lost(handle)
        try:
            count = int(handle.job.result())
        except self._uncompleted as error:
            self._keep = True
            line = _raised(str(error))
            if "UncompletedJobError" in line:  # submitit has started it again several times
                raise self._lost(handle, "ran out of its walltime again and again") from None
            raised = WorkerError(f"{name} raised {line} (log {handle.log})")
            return self._results(handle, raised)
        except EOFError:
            raise self._lost(handle, "left a damaged result") from None
        if not _arrive(handle.job.paths, count):
            raise self._lost(handle, f"left {count} results that are not there")
        return self._finished(handle)

    def _finished(self, handle: _JobHandle) -> Iterator[Any]:
        yield from self._results(handle)
        handle.remove_files()

    def _results(self, handle: _JobHandle, end: WorkerError | None = None) -> Iterator[Any]:
        """What the job has done, before the error that it ended with is raised."""
        for done in read_done(handle.job.paths):
            self._measured, self._seconds = self._measured + 1, self._seconds + done.seconds
            yield done.result
        if end is not None:
            raise end

    def _lost(self, handle: _JobHandle, how: str = "") -> LostCall:
        self._keep = True
        asked = self._slurm and not how and not handle.held
        ended = slurm.how_it_ended(handle.id) if asked else ""
        how = how or f"ended: {ended or handle.state or 'without a result'}"
        remedy = next((text for state, text in _REMEDIES.items() if state in how), "")
        if "walltime" in how:
            remedy = _REMEDIES["TIMEOUT"]
        text = f"job {handle.id} {how} {handle.log_text()}" + (f"; {remedy}" if remedy else "")
        return LostCall(text, counts=_PREEMPTED not in how, done=self._results(handle))

    # ------------------------------------------------ stopping

    def cancel(self, handles: list[_JobHandle]) -> Iterable[_JobHandle]:
        """Cancel the jobs that have not started; the others end after the task in work."""
        if not handles:
            return []
        with contextlib.suppress(OSError):
            (self._folder / STOP).touch()
        if not self._slurm:
            return []
        slurm.ask("scancel", "--state=PENDING", *slurm.whole_arrays(h.id for h in handles))
        states = slurm.job_states(handle.id for handle in handles)
        if isinstance(states, str):
            _logger.warning("SLURM gives no answer (%s)", states)
            return []
        # SLURM forgets the elements of an array that are cancelled before they start
        gone = slurm.JobState("CANCELLED", "")
        cancelled = [
            handle
            for handle in handles
            if not handle.has_result() and states.get(handle.id, gone).state == "CANCELLED"
        ]
        self._running.difference_update(cancelled)
        left = len(handles) - len(cancelled)
        if left:
            _logger.warning(
                "%d queued jobs cancelled; waiting for %d running (interrupt again: cancelled too)",
                len(cancelled),
                left,
            )
        return cancelled

    def shutdown(self, *, kill: bool) -> None:
        """Release everything; ``kill`` cancels the jobs that are left."""
        if kill and self._running:
            if self._slurm:
                slurm.ask("scancel", *slurm.whole_arrays(handle.id for handle in self._running))
            else:
                for handle in self._running:
                    with contextlib.suppress(OSError):
                        handle.job.cancel()
        if not (kill or self._keep):
            shutil.rmtree(self._folder, ignore_errors=True)


def _run_folder(base: Path) -> Path:
    """A name for the folder of this run: job ids of another run or cluster may be the same."""
    return base / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"


def _arrive(paths: Any, tasks: int, seconds: float = 60.0) -> bool:
    """Whether the results of a job are there (soon, on a network file system)."""
    deadline = time.monotonic() + seconds
    while finished_tasks(paths) < tasks:
        if time.monotonic() > deadline:
            return False
        time.sleep(_RESULT_SECONDS)
    return True


@contextlib.contextmanager
def _signals_later(block: bool) -> Iterator[None]:
    """Hold back Ctrl-C while sbatch runs, and from sbatch: a job must not be lost track of."""
    if not block:
        yield
        return
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


def _sbatch_says(error: Exception) -> str:
    return one_line(str(error).replace("sbatch: error: ", ""))


def _raised(text: str) -> str:
    """The last line of the traceback in submitit's message."""
    inside = text.split("-" * 20)
    trace = max(inside, key=lambda part: "Traceback" in part)
    lines = [line.strip(" -") for line in trace.splitlines() if line.strip(" -")]
    return lines[-1][:500] if lines else "an error"
