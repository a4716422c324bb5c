"""Dask and SLURM behind the interface of ``simprior.engine.Pool`` (extra ``[cluster]``)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent import futures
from pathlib import Path
from typing import Any

from simprior.errors import InputError

TASKS_PER_JOB = 16
_SLURM_POLL_SECONDS = 1.0


def _missing(executor: str, package: str) -> InputError:
    return InputError(
        f"executor={executor!r}",
        f"the package {package}, which is not installed",
        "pip install 'simprior[cluster]', or use --executor local",
    )


class DaskPool:
    """``distributed.Client.get_executor()``: a given scheduler, or a cluster on this machine."""

    def __init__(self, workers: int, options: Mapping[str, Any]) -> None:
        try:
            from distributed import Client, KilledWorker
        except ImportError:
            raise _missing("dask", "distributed") from None
        local = {"n_workers": workers, "threads_per_worker": 1, "dashboard_address": None}
        remote = "address" in options or "scheduler_file" in options
        self.broken: tuple[type[Exception], ...] = (KilledWorker,)
        self._client = Client(**({} if remote else local), **options)
        self._pool = self._client.get_executor(pure=False)

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        """A future."""
        return self._pool.submit(function, *args)

    def wait(self, handles: Iterable[Any], timeout: float) -> Iterable[Any]:
        """The handles that are done."""
        return futures.wait(handles, timeout, futures.FIRST_COMPLETED).done

    def shutdown(self, *, kill: bool) -> None:
        """Release everything."""
        self._pool.shutdown(wait=not kill)
        self._client.close()


class _Requeueable:
    """A call that SLURM may preempt: it is pure, so it is submitted again from its beginning."""

    def __call__(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        return function(*args)

    def checkpoint(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, function, args)


class _JobHandle:
    """Job of submitit with the two methods of a future that the engine uses."""

    def __init__(self, job: Any, raised: type[Exception]) -> None:
        self._job, self._raised = job, raised

    def done(self) -> bool:
        return bool(self._job.done())

    def result(self) -> Any:
        try:
            return self._job.result()
        except self._raised as error:  # the function raised: a bug, not a dead worker
            raise RuntimeError(str(error)) from None

    def cancel(self) -> bool:
        if self.done():
            return False
        self._job.cancel()
        return True


class SlurmPool:
    """submitit's ``AutoExecutor`` (SLURM where there is one, else processes on this machine).

    ``options``: ``folder`` for submitit's own files (on a file system that the nodes share,
    default ``simprior-jobs``), ``cluster``, ``tasks_per_job`` (default 16; one job runs that many
    tasks one after the other), and any of submitit's parameters
    (``timeout_min``, ``slurm_partition``, ``mem_gb``, ...).
    """

    def __init__(self, workers: int, options: Mapping[str, Any]) -> None:
        try:
            import submitit
            from submitit.core.utils import FailedJobError, UncompletedJobError
        except ImportError:
            raise _missing("slurm", "submitit") from None
        rest = {k: v for k, v in options.items() if k not in {"folder", "cluster", "tasks_per_job"}}
        self.broken: tuple[type[Exception], ...] = (UncompletedJobError,)
        self._raised = FailedJobError
        folder = Path(options.get("folder", "simprior-jobs"))
        self._pool = submitit.AutoExecutor(folder=folder, cluster=options.get("cluster"))
        defaults = {"cpus_per_task": 1, "name": "simprior", "timeout_min": 24 * 60}
        self._pool.update_parameters(**{**defaults, **rest})
        self._running: set[_JobHandle] = set()

    def submit(self, function: Callable[..., Any], *args: Any) -> _JobHandle:
        """Queue a job."""
        handle = _JobHandle(self._pool.submit(_Requeueable(), function, args), self._raised)
        self._running.add(handle)
        return handle

    def wait(self, handles: Iterable[Any], timeout: float) -> Iterable[Any]:
        """The handles that are done."""
        done = [handle for handle in handles if handle.done()]
        if not done:
            time.sleep(max(timeout, _SLURM_POLL_SECONDS))
        self._running.difference_update(done)
        return done

    def shutdown(self, *, kill: bool) -> None:
        """Release everything."""
        if kill:
            for handle in self._running:
                handle.cancel()
