"""The loop of :mod:`simprior.runs.tasks` over a pool of workers: submit, collect, try lost calls
again.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from simprior.errors import SimpriorError

RETRIES = 3
"""How often a call whose job died is submitted again."""
POLL_SECONDS = 0.2
"""How often it is looked for results, and for a signal."""
_logger = logging.getLogger("simprior")


class WorkerError(SimpriorError, RuntimeError):
    """A worker process or a cluster job died without a result (killed, out of memory)."""


class LostCall(Exception):
    """One call has no result, because its job died; ``retry``: it is worth another try."""

    def __init__(self, text: str, *, retry: bool = True) -> None:
        super().__init__(text)
        self.retry = retry


class Pool(Protocol):
    """What :func:`run_pool` needs of an executor."""

    @property
    def broken(self) -> tuple[type[Exception], ...]:
        """Errors of ``result`` that mean: a worker died, and no call can be trusted to end."""

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        """Start a call; a handle, or None: not now (after :meth:`wait`)."""

    def wait(self, handles: Iterable[Any], timeout: float) -> Iterable[Any]:
        """The handles that are done, after at most ``timeout`` seconds or so if there are none."""

    def result(self, handle: Any) -> Any:
        """The result of a call that is done; raises :class:`LostCall` where its job died."""

    def cancel(self, handles: list[Any]) -> Iterable[Any]:
        """Cancel the calls that have not started; returns them."""

    def shutdown(self, *, kill: bool) -> None:
        """Release everything; ``kill`` does not wait for calls in progress."""


@dataclass
class _Call:
    group: list[Any]
    tries: int = 0


def groups(tasks: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """The tasks in lists of ``size``, drawn lazily."""
    source = iter(tasks)
    while group := list(itertools.islice(source, size)):
        yield group


def run_pool(
    pool: Pool,
    limit: int,
    function: Callable[[list[Any]], list[Any]],
    source: Iterator[list[Any]],
    deliver: Callable[[Any, Any], Any],
    stop: threading.Event,
    broken_message: Callable[[], str],
    announce: Callable[[], None] = lambda: None,
) -> None:
    """Call ``function(group)`` for the groups of ``source``, ``limit`` at a time.

    ``deliver(task, result)`` may return a task that follows: it goes before those of ``source``.
    A lost call is submitted again up to ``RETRIES`` times. One that is lost for good does not end
    the run: the others go on (new ones are submitted as long as more calls end than are lost), and
    :class:`WorkerError` is raised at the end. ``announce`` is called once if ``stop`` is set while
    calls are in progress.
    """
    run, kill = _Run(pool, limit, function, source, deliver, stop, announce), True
    try:
        run.until_done()
        kill = False
    except pool.broken:
        # a signal to the whole process group (timeout, kill -- -PID) ends the workers as well
        if not stop.wait(POLL_SECONDS):
            raise WorkerError(broken_message()) from None
    finally:
        pool.shutdown(kill=kill)
    if run.failures and not stop.is_set():
        raise WorkerError(run.failure_message())


class _Run:
    """State of one :func:`run_pool`."""

    def __init__(
        self,
        pool: Pool,
        limit: int,
        function: Callable[..., Any],
        source: Iterator[list[Any]],
        deliver: Callable[[Any, Any], Any],
        stop: threading.Event,
        announce: Callable[[], None],
    ) -> None:
        self.announce = announce
        self.pool, self.limit, self.function = pool, limit, function
        self.source, self.deliver, self.stop = source, deliver, stop
        self.pending: dict[Any, _Call] = {}
        self.again: deque[_Call] = deque()
        self.failures: list[tuple[str, int]] = []  # (what happened, tasks without a result)
        self.ended, self.cancelled = 0, False

    def until_done(self) -> None:
        while True:
            more = not self.stop.is_set() and self._submit()
            if self.stop.is_set() and not self.cancelled:
                self.cancelled, more = True, False
                for handle in self.pool.cancel(list(self.pending)):
                    del self.pending[handle]
                if self.pending:
                    self.announce()
            if not self.pending and not more:
                return
            for handle in list(self.pool.wait(list(self.pending), POLL_SECONDS)):
                self._collect(handle)

    def _submit(self) -> bool:
        """Fill up; whether a call is left that could not be submitted now."""
        while not self.stop.is_set() and len(self.pending) < self.limit:
            call = self._next()
            if call is None:
                return False
            handle = self.pool.submit(self.function, call.group)
            if handle is None:
                self.again.appendleft(call)
                return True
            self.pending[handle] = call
        return bool(self.again)

    def _next(self) -> _Call | None:
        if self.again:
            return self.again.popleft()
        if len(self.failures) > self.ended:
            return None
        group = next(self.source, None)
        return None if group is None else _Call(group)

    def _collect(self, handle: Any) -> None:
        call = self.pending.pop(handle)
        try:
            results = self.pool.result(handle)
        except LostCall as error:
            self._lost(call, error)
            return
        self.ended += 1
        for task, result in zip(call.group, results, strict=True):
            follow = self.deliver(task, result)
            if follow is not None:
                self.again.append(_Call([follow]))

    def _lost(self, call: _Call, error: LostCall) -> None:
        if self.stop.is_set():
            return
        if error.retry and call.tries < RETRIES:
            call.tries += 1
            _logger.warning(
                "%s; its tasks are submitted again (try %d of %d)", error, call.tries, RETRIES
            )
            self.again.append(call)
            return
        self.failures.append((str(error), len(call.group)))
        _logger.warning("%s; given up after %d tries", error, call.tries + 1)

    def failure_message(self) -> str:
        tasks = sum(size for _, size in self.failures)
        last, more = self.failures[-1][0], len(self.failures) - 1
        others = f" (and {more} more like it)" if more else ""
        return (
            f"a worker process died: {last}{others}; {tasks} tasks have no result, "
            "finished shards are kept: run again with --resume"
        )
