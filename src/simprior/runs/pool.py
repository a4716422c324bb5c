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
from operator import length_hint
from typing import Any, Protocol, runtime_checkable

from simprior.errors import SimpriorError

RETRIES = 3
"""How often a call whose job died is submitted again."""
POLL_SECONDS = 0.2
"""How often it is looked for results, and for a signal."""
_logger = logging.getLogger("simprior")


class WorkerError(SimpriorError, RuntimeError):
    """A worker process or a cluster job died without a result (killed, out of memory)."""


class LostCall(Exception):
    """A call ended early, because its job died.

    ``retry``: what is left is worth another try. ``counts``: that try is one of ``RETRIES``.
    ``done``: the results of its first tasks, which are not lost.
    """

    def __init__(
        self, text: str, *, retry: bool = True, counts: bool = True, done: Iterable[Any] = ()
    ) -> None:
        super().__init__(text)
        self.retry, self.counts, self.done = retry, counts, done


class _Waiting(Protocol):
    """What :func:`run_pool` needs of every executor."""

    @property
    def broken(self) -> tuple[type[Exception], ...]:
        """Errors of ``result`` that mean: a worker died, and no call can be trusted to end."""

    def wait(self, handles: Iterable[Any], timeout: float) -> Iterable[Any]:
        """The handles that are done, after at most ``timeout`` seconds or so if there are none."""

    def result(self, handle: Any) -> Iterable[Any]:
        """The results of a call that is done, of its first tasks at least; those it had no time for
        are submitted again. Raises :class:`LostCall` where its job died."""

    def cancel(self, handles: list[Any]) -> Iterable[Any]:
        """Cancel the calls that have not started; returns them."""

    def shutdown(self, *, kill: bool) -> None:
        """Release everything; ``kill`` does not wait for calls in progress."""


class Pool(_Waiting, Protocol):
    """An executor that takes one call after the other."""

    def submit(self, function: Callable[..., Any], *args: Any) -> Any:
        """Start a call; a handle, or None: not now (after :meth:`wait`)."""


@runtime_checkable
class ArrayPool(_Waiting, Protocol):
    """An executor that takes many calls at once, as many as it says."""

    def room(self) -> int:
        """How many calls it would take now."""

    def submit_array(self, function: Callable[..., Any], groups: list[list[Any]]) -> list[Any]:
        """Start calls, one a group; handles of the first of them, as many as were started."""


@dataclass
class _Call:
    group: list[Any]
    tries: int = 0


def groups(tasks: Iterable[Any], size: int | Callable[[int], int]) -> Iterator[list[Any]]:
    """The tasks in lists, drawn lazily.

    ``size`` of them, or ``size(left)``, asked for each list, where ``left`` tasks are not drawn yet
    (-1 where it is not known how many).
    """
    source = iter(tasks)
    while True:
        wanted = size(length_hint(source, -1)) if callable(size) else size
        if not (group := list(itertools.islice(source, wanted))):
            return
        yield group


def run_pool(
    pool: Pool | ArrayPool,
    limit: int,
    function: Callable[[list[Any]], list[Any]],
    source: Iterator[list[Any]],
    deliver: Callable[[Any, Any], Any],
    stop: threading.Event,
    broken_message: Callable[[], str],
    announce: Callable[[], None] = lambda: None,
) -> None:
    """Call ``function(group)`` for the groups of ``source``, ``limit`` at a time.

    An :class:`ArrayPool` says itself how many. ``deliver(task, result)`` may return a task that
    follows: it goes before those of ``source``. The tasks that a lost call left are submitted again
    up to ``RETRIES`` times. One that is lost for good (of several, the first) does not end the run:
    the others go on (new ones are submitted as long as more calls end than are lost), and
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
        pool: Pool | ArrayPool,
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
        if isinstance(self.pool, ArrayPool):
            return self._submit_array(self.pool)
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

    def _submit_array(self, pool: ArrayPool) -> bool:
        room = pool.room()
        if room < 1:
            return True
        calls: list[_Call] = []
        while len(calls) < room and (call := self._next()) is not None:
            calls.append(call)
        if calls:
            handles = pool.submit_array(self.function, [call.group for call in calls])
            self.pending.update(zip(handles, calls, strict=False))
            self.again.extendleft(reversed(calls[len(handles) :]))
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
            self._take(call, self.pool.result(handle))
        except LostCall as error:
            self._take(call, error.done)
            if call.group:
                self._lost(call, error)
        else:
            if call.group:  # no time was left for these
                self.again.append(_Call(call.group))

    def _take(self, call: _Call, results: Iterable[Any]) -> None:
        """Hand over the results of the first tasks; the others stay in the call."""
        done = 0
        for task, result in zip(call.group, results, strict=False):
            done += 1
            follow = self.deliver(task, result)
            if follow is not None:
                self.again.append(_Call([follow]))
        call.group = call.group[done:]
        if done:
            self.ended, call.tries = self.ended + 1, 0

    def _lost(self, call: _Call, error: LostCall) -> None:
        if self.stop.is_set():
            return
        if error.retry and call.tries < RETRIES:
            call.tries += error.counts
            which = f" (try {call.tries} of {RETRIES})" if error.counts else ""
            _logger.warning("%s; its tasks are submitted again%s", error, which)
            self.again.append(call)
            return
        self.failures.append((str(error), 1))
        _logger.warning("%s; given up after %d tries", error, call.tries + 1)
        rest = call.group[1:]  # the first was in work when the job died
        if rest and len(self.failures) <= self.ended:
            self.again.append(_Call(rest))
        elif rest:
            self.failures[-1] = (str(error), len(call.group))

    def failure_message(self) -> str:
        tasks = sum(size for _, size in self.failures)
        last, more = self.failures[-1][0], len(self.failures) - 1
        others = f" (and {more} more like it)" if more else ""
        return (
            f"a worker process died: {last}{others}; {tasks} tasks have no result, "
            "finished shards are kept: run again with --resume"
        )
