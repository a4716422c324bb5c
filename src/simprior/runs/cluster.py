"""Dask and SLURM behind the interface of :class:`simprior.runs.pool.Pool` (extra ``[cluster]``)."""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent import futures
from pathlib import Path
from typing import Any

from simprior.checks import unknown
from simprior.errors import InputError, StoreError
from simprior.runs import slurm as engine_slurm
from simprior.runs.pool import LostCall, WorkerError

TASKS_PER_JOB = 16
FIRST_REPORT_SECONDS, REPORT_SECONDS = 10.0, 60.0  # of jobs that wait
ASK_SECONDS = 5.0  # between two questions to the controller
GRACE_SECONDS = {"COMPLETED": 60.0}  # for a result to appear on a network file system
_GRACE = 10.0
_RESULT_SECONDS = 1.0
_SUBMIT_SECONDS = 600.0  # how long sbatch may fail for reasons that pass
_PASSING = (
    "unable to contact",
    "timed out",
    "temporarily",
    "try again",
    "connection refused",
    "submit limit",
    "zero bytes",
)
_OURS = ("folder", "cluster", "tasks_per_job")
_CONSTRUCTOR = ("slurm_max_num_timeout", "slurm_max_pickle_size_gb", "slurm_python")
_logger = logging.getLogger("simprior")


def _missing(executor: str, package: str) -> InputError:
    return InputError(
        f"executor={executor!r}",
        f"the package {package}, which is not installed",
        "pip install 'simprior[cluster]', or use --executor local",
    )


def check_options(executor: str, options: Mapping[str, Any]) -> None:
    """Raise :class:`InputError` for options that the executor will refuse; starts nothing."""
    if executor == "dask":
        _dask_options(options)
    elif executor == "slurm":
        _slurm_executor(options)


# ---------------------------------------------------------------- Dask


def _dask_options(options: Mapping[str, Any]) -> None:
    try:
        from distributed import Client, LocalCluster, Nanny, Worker
    except ImportError:
        raise _missing("dask", "distributed") from None
    remote = "address" in options or "scheduler_file" in options
    takers: list[Any] = [Client] if remote else [Client, LocalCluster, Nanny, Worker]
    known = {
        name
        for taker in takers
        for name, parameter in inspect.signature(taker.__init__).parameters.items()
        if name != "self" and parameter.kind is not parameter.VAR_KEYWORD
    }
    for name in options:
        if name not in known:
            raise unknown(
                f"executor_options {name}={options[name]!r}",
                name,
                sorted(known),
                "see the keywords of distributed.Client and LocalCluster",
            )
    file = options.get("scheduler_file")
    if file is not None and not Path(str(file)).is_file():
        raise InputError(
            f"scheduler_file={str(file)!r}",
            "the file that a running dask scheduler has written",
            "start one with dask scheduler --scheduler-file FILE",
        )


class DaskPool:
    """``distributed.Client``: a given scheduler, or a cluster on this machine.

    Dask itself runs a call again (3 times by default) when its worker dies, also one whose result
    died with the worker. (``Client.get_executor`` takes such a result for an exception.)
    """

    broken: tuple[type[Exception], ...] = ()

    def __init__(self, workers: int, options: Mapping[str, Any]) -> None:
        _dask_options(options)
        from distributed import Client, KilledWorker

        local = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
        self._remote = "address" in options or "scheduler_file" in options
        self._killed = KilledWorker
        keywords = {**({} if self._remote else local), **options}
        try:
            self._client = Client(**keywords)
        except OSError as error:
            raise InputError(
                f"executor_options {_shown(options)}",
                "a dask scheduler that answers",
                f"check its address and that it runs ({_one_line(error)})",
            ) from None
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(
                f"executor_options {_shown(options)}",
                "what distributed.Client accepts",
                f"it says: {_one_line(error)}",
            ) from None
        self._address = str(options.get("address") or options.get("scheduler_file") or "local")
        self._reported = time.monotonic() - REPORT_SECONDS + FIRST_REPORT_SECONDS

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        """A future."""
        return self._client.submit(function, *args, pure=False)

    def wait(self, handles: Iterable[Any], timeout: float) -> Iterable[Any]:
        """The handles that are done."""
        from distributed import wait

        asked = list(handles)
        # a future that was cancelled, the scheduler being lost, raises here and in ``result``
        with self._client.as_current(), contextlib.suppress(TimeoutError, futures.CancelledError):
            wait(asked, timeout, return_when="FIRST_COMPLETED")
        done = [handle for handle in asked if handle.status != "pending"]
        if not done and time.monotonic() - self._reported > REPORT_SECONDS:
            self._reported = time.monotonic()
            if not self._client.scheduler_info()["workers"]:
                _logger.warning(
                    "the dask scheduler %s has no workers: calls wait for one", self._address
                )
        return done

    def result(self, handle: Any) -> Any:
        """The result; a call that killed its workers is lost, and so is all without a scheduler."""
        try:
            return handle.result()
        except self._killed as error:
            worker = getattr(getattr(error, "last_worker", None), "address", "unknown")
            raise LostCall(
                f"every dask worker that ran this call died, the last was {worker}", retry=False
            ) from None
        except futures.CancelledError:
            raise WorkerError(
                f"the connection to the dask scheduler {self._address} was lost; finished shards "
                "are kept: start it again and run again with --resume"
            ) from None

    def cancel(self, handles: list[Any]) -> Iterable[Any]:
        """Dask drops calls in progress as well."""
        self._client.cancel(handles)
        return handles

    def shutdown(self, *, kill: bool) -> None:
        """Release everything; dask drops the calls of a client that has gone."""
        self._client.close()


# ---------------------------------------------------------------- SLURM


class _Requeueable:
    """A call that SLURM may preempt: it is pure, so it is submitted again from its beginning."""

    def __call__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        return function(*args)

    def checkpoint(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, function, args)


def _slurm_executor(options: Mapping[str, Any]) -> tuple[Any, bool]:
    """submitit's executor with its parameters, and whether it is SLURM's."""
    try:
        import submitit
        from submitit.core import plugins
    except ImportError:
        raise _missing("slurm", "submitit") from None
    tasks_per_job(options)
    clusters = plugins.get_executors()
    known = {*_OURS, *_CONSTRUCTOR, *submitit.AutoExecutor._valid_parameters()}
    known |= {f"{name}_{p}" for name, one in clusters.items() for p in one._valid_parameters()}
    for name in options:
        if name not in known:
            near = f"slurm_{name}" in known
            raise unknown(
                f"executor_options {name}={options[name]!r}",
                f"slurm_{name}" if near else name,
                sorted(known),
                "see docs/clusters.md",
            )
    cluster = options.get("cluster")
    if cluster is not None and cluster not in clusters:
        raise unknown(f"executor_options cluster={cluster!r}", str(cluster), clusters)
    is_slurm = (cluster or submitit.AutoExecutor.which()) == "slurm"
    if is_slurm and shutil.which("sbatch") is None:
        raise InputError(
            "executor='slurm'",
            "SLURM's commands (sbatch, squeue) on the PATH",
            "run on a login node, or use --executor local",
        )
    rest = {k: v for k, v in options.items() if k not in {*_OURS, *_CONSTRUCTOR}}
    defaults = {"cpus_per_task": 1, "name": "simprior"}
    if not any(rest.get(k) for k in ("timeout_min", "slurm_time", "slurm_timeout_min")):
        defaults["timeout_min"] = engine_slurm.MAX_MINUTES
    if is_slurm:
        minutes = engine_slurm.walltime(rest)
        defaults["timeout_min"] = minutes
    folder = str(options.get("folder", "simprior-jobs"))
    try:
        pool = submitit.AutoExecutor(
            folder=folder,
            cluster=cluster,
            **{k: v for k, v in options.items() if k in _CONSTRUCTOR},
        )
        pool.update_parameters(**{**defaults, **rest})
    except (AssertionError, NameError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(
            f"executor_options {_shown(options)}",
            "parameters that submitit accepts",
            f"it says: {_one_line(error)}",
        ) from None
    return pool, is_slurm


def tasks_per_job(options: Mapping[str, Any]) -> int:
    """How many tasks one job runs."""
    given = options.get("tasks_per_job", TASKS_PER_JOB)
    return engine_slurm.whole_option("tasks_per_job", given)


class _JobHandle:
    """A submitted job: when it was seen to be over, and in which state."""

    def __init__(self, job: Any) -> None:
        self.job, self.id = job, str(job.job_id)
        self.over_since: float | None = None
        self.state = ""
        self.lost = False

    @property
    def log(self) -> Path:
        return Path(self.job.paths.stderr)

    def has_result(self) -> bool:
        return bool(self.job.paths.result_pickle.exists())

    def note(self, state: engine_slurm.JobState, now: float) -> None:
        """Take down the state; a job that is over without a result for a while is lost."""
        if not state.over:
            self.over_since, self.state = None, state.state
            return
        if self.over_since is None or self.state != state.state:
            self.over_since, self.state = now, state.state
        self.lost = now - self.over_since >= GRACE_SECONDS.get(state.state, _GRACE)

    def last_line(self) -> str:
        """The last line of the log, for an error message."""
        with contextlib.suppress(OSError):
            lines = [x for x in self.log.read_text(errors="replace").splitlines() if x.strip()]
            return f": {lines[-1].strip()[:200]}" if lines else ""
        return ""


class SlurmPool:
    """submitit's ``AutoExecutor`` (SLURM where there is one, else processes on this machine).

    ``options``: ``folder`` for submitit's own files (on a file system that the nodes share,
    default ``simprior-jobs``), ``cluster``, ``tasks_per_job`` (default 16; one job runs that many
    tasks one after the other), and any of submitit's parameters
    (``timeout_min``, ``slurm_partition``, ``mem_gb``, ...).
    """

    broken: tuple[type[Exception], ...] = ()

    def __init__(self, workers: int, options: Mapping[str, Any]) -> None:
        self._pool, self._slurm = _slurm_executor(options)
        from submitit.core.utils import FailedSubmissionError, UncompletedJobError

        self._options = options
        self._uncompleted, self._refused = UncompletedJobError, FailedSubmissionError
        if not self._slurm:
            _logger.warning("no SLURM is used: the jobs run as processes on this machine")
        self._running: set[_JobHandle] = set()
        self._asked = self._not_before = 0.0
        self._failing_since: float | None = None
        self._reported = time.monotonic() - REPORT_SECONDS + FIRST_REPORT_SECONDS
        self._blocked: set[str] = set()

    # ------------------------------------------------ submitting

    def submit(self, function: Callable[..., Any], *args: Any) -> _JobHandle | None:
        """Queue a job; None where SLURM takes none at the moment."""
        if time.monotonic() < self._not_before:
            return None
        try:
            # sbatch's own words are part of the error below
            with _signals_later(self._slurm), contextlib.redirect_stderr(io.StringIO()):
                job = self._pool.submit(_Requeueable(), function, args)
        except (self._uncompleted, self._refused) as error:
            self._submission_failed(_sbatch_says(error))
            return None
        except OSError as error:
            raise StoreError(
                f"cannot write the jobs' files to {self._pool.folder}: "
                f"{error.strerror or error}; pass another folder among --executor-options"
            ) from None
        self._failing_since = None
        handle = _JobHandle(job)
        self._running.add(handle)
        return handle

    def _submission_failed(self, text: str) -> None:
        now = time.monotonic()
        passing = any(part in text.lower() for part in _PASSING)
        if self._failing_since is None:
            self._failing_since = now
        if self._running or (passing and now - self._failing_since < _SUBMIT_SECONDS):
            _logger.warning("sbatch takes no job at the moment (%s); tried again in 15 s", text)
            self._not_before = now + 15.0
            return
        raise InputError(
            f"executor_options {_shown(self._options)}",
            "a job that sbatch accepts",
            f"it says: {text}",
        )

    # ------------------------------------------------ waiting

    def wait(self, handles: Iterable[Any], timeout: float) -> Iterable[Any]:
        """The handles that are done: their result is there, or they are lost."""
        waiting: list[_JobHandle] = list(handles)
        if not self._slurm:
            done = [handle for handle in waiting if handle.job.done()]
        else:
            folder = Path(self._pool.folder)
            with contextlib.suppress(OSError):  # a network file system then looks again
                folder.chmod(folder.stat().st_mode)
            done = [handle for handle in waiting if handle.has_result()]
            if not done and waiting and time.monotonic() - self._asked >= ASK_SECONDS:
                self._look(waiting)
                done = [handle for handle in waiting if handle.lost]
        if not done:
            time.sleep(max(timeout, _RESULT_SECONDS))
        self._running.difference_update(done)
        return done

    def _look(self, handles: list[_JobHandle]) -> dict[str, engine_slurm.JobState]:
        """Ask for the states; say now and then why jobs wait."""
        states = engine_slurm.job_states(handle.id for handle in handles)
        now = self._asked = time.monotonic()
        if isinstance(states, str):
            if now - self._reported >= REPORT_SECONDS:
                self._reported = now
                _logger.warning("SLURM gives no answer (%s); tried again", states)
            return {}
        for handle in handles:
            gone = engine_slurm.JobState(engine_slurm.GONE, "")
            handle.note(states.get(handle.id, gone), now)
        blocked = {s.reason for s in states.values() if engine_slurm.never_starts(s)}
        if now - self._reported >= REPORT_SECONDS or blocked - self._blocked:
            self._reported, self._blocked = now, self._blocked | blocked
            for line in engine_slurm.why_pending(states):
                _logger.warning("%s", line)
        return states

    def result(self, handle: _JobHandle) -> Any:
        """The result; job id and log in every error."""
        name = f"job {handle.id}"
        if not handle.has_result():
            ended = engine_slurm.how_it_ended(handle.id) if self._slurm else ""
            how = ended or handle.state or "without a result"
            raise LostCall(f"{name} ended: {how} (log {handle.log}{handle.last_line()})")
        try:
            return handle.job.result()
        except self._uncompleted as error:
            line = _raised(str(error))
            if "UncompletedJobError" in line:  # submitit has started it again several times
                raise LostCall(
                    f"{name} ran out of its walltime again and again (log {handle.log}): raise "
                    "timeout_min or lower tasks_per_job",
                    retry=False,
                ) from None
            raise WorkerError(f"{name} raised {line} (log {handle.log})") from None
        except EOFError:
            raise LostCall(f"{name} left a damaged result (log {handle.log})") from None

    # ------------------------------------------------ stopping

    def cancel(self, handles: list[_JobHandle]) -> Iterable[_JobHandle]:
        """Cancel the jobs that have not started."""
        if not handles:
            return []
        if not self._slurm:
            return []
        engine_slurm.ask("scancel", "--state=PENDING", *(handle.id for handle in handles))
        states = engine_slurm.job_states(handle.id for handle in handles)
        if isinstance(states, str):
            _logger.warning("SLURM gives no answer (%s)", states)
            states = {}
        cancelled = [
            h
            for h in handles
            if not h.has_result() and states.get(h.id, ("", ""))[0] == "CANCELLED"
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
        if not kill or not self._running:
            return
        if self._slurm:
            engine_slurm.ask("scancel", *(handle.id for handle in self._running))
            return
        for handle in self._running:
            with contextlib.suppress(OSError):
                handle.job.cancel()


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
    return _one_line(str(error).replace("sbatch: error: ", ""))


def _raised(text: str) -> str:
    """The last line of the traceback in submitit's message."""
    inside = text.split("-" * 20)
    trace = max(inside, key=lambda part: "Traceback" in part)
    lines = [line.strip(" -") for line in trace.splitlines() if line.strip(" -")]
    return lines[-1][:500] if lines else "an error"


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:300]


def _shown(options: Mapping[str, Any]) -> str:
    return _one_line(",".join(f"{key}={value}" for key, value in options.items())) or "(none)"
