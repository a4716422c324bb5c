"""Dask behind the interface of :class:`simprior.runs.pool.Pool`, and what an executor refuses.

Extra ``[cluster]``. SLURM has its own module, :mod:`simprior.runs.slurm_pool`.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent import futures
from pathlib import Path
from typing import Any

from simprior.checks import unknown
from simprior.errors import InputError
from simprior.runs.executor_options import missing, refused
from simprior.runs.pool import LostCall, WorkerError

FIRST_REPORT_SECONDS, REPORT_SECONDS = 10.0, 60.0  # of calls that wait
_logger = logging.getLogger("simprior")


def check_options(executor: str, options: Mapping[str, Any]) -> None:
    """Raise :class:`InputError` for options that the executor will refuse; starts nothing."""
    if executor == "dask":
        _dask_options(options)
    elif executor == "slurm":
        from simprior.runs.slurm_pool import check_slurm

        check_slurm(options)


def _dask_options(options: Mapping[str, Any]) -> None:
    try:
        from distributed import Client, LocalCluster, Nanny, Worker
    except ImportError:
        raise missing("dask", "distributed") from None
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
            raise refused(
                options, "a dask scheduler that answers", f"{error}; check its address"
            ) from None
        except (TypeError, ValueError, RuntimeError) as error:
            raise refused(options, "what distributed.Client accepts", error) from None
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
