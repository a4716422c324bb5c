"""The pools of this machine: threads of this process, and processes.

Both are a :class:`simprior.runs.pool.Pool`. Threads start at once and share what they are given;
they are for work whose heavy part gives up Python's lock. Processes are for all else.

Python handles signals in the main thread, between two of its steps. So even a single task runs in
a thread beside it: a signal is met while compiled code runs, and after a second one the call is
left behind. What it works on may be shared, so the next run waits for its end.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import multiprocessing
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from simprior.runs.pool import POLL_SECONDS, Pool
from simprior.runs.threads import (
    keep_freed,
    limit_threads,
    one_loaded_thread,
    one_thread,
    share_cores,
)

_logger = logging.getLogger("simprior")


def local_pool(workers: int, *, threads: bool) -> Pool:
    """The pool for ``workers`` calls at a time: in threads if the calls may run there.

    One worker is a thread of this process in any case. In another thread than the main one, where
    no signal arrives, it is that thread itself.
    """
    if workers > 1:
        return ThreadPool(workers) if threads else ProcessPool(workers)
    main = threading.current_thread() is threading.main_thread()
    return ThreadPool(1) if main else CallingThread()


class _Futures:
    """What is done with the futures of any of these pools."""

    broken: tuple[type[Exception], ...] = ()

    def wait(self, handles: Iterable[Any], timeout: float) -> Iterable[Any]:
        """Those that are done."""
        return futures.wait(handles, timeout, futures.FIRST_COMPLETED).done

    def result(self, handle: futures.Future[Any]) -> Any:
        """What the call returned; raises what it raised."""
        return handle.result()

    def cancel(self, handles: list[Any]) -> Iterable[Any]:
        """Cancel what has not begun."""
        return [handle for handle in handles if handle.cancel()]


class CallingThread(_Futures):
    """Calls are made where they are submitted."""

    def submit(self, function: Callable[..., Any], *args: Any) -> futures.Future[Any]:
        """Make the call."""
        call: futures.Future[Any] = futures.Future()
        try:
            call.set_result(function(*args))
        except BaseException as error:
            call.set_exception(error)
        return call

    def shutdown(self, *, kill: bool) -> None:
        """Nothing is in progress."""


class ThreadPool(_Futures):
    """Threads of this process, which do not keep it from ending.

    Each call has the context variables of the thread that submits it. Of several threads each has
    one core: numerical libraries are single-threaded until the pool is shut down.
    """

    def __init__(self, workers: int) -> None:
        if threading.current_thread() is threading.main_thread():
            _wait_for_left_behind()
        keep_freed()
        self._calls: queue.SimpleQueue[tuple[futures.Future[Any], Callable[[], Any]] | None]
        self._calls, self._alone = queue.SimpleQueue(), workers == 1
        self._limits = contextlib.ExitStack()
        if not self._alone:
            self._limits.enter_context(one_loaded_thread())
        self._threads = [
            threading.Thread(target=self._work, name=f"simprior-{number}", daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        if self._alone:
            self._make_calls()
            return
        share_cores()
        with one_thread():  # OpenMP has a number of threads for each thread
            self._make_calls()

    def _make_calls(self) -> None:
        while (given := self._calls.get()) is not None:
            done, call = given
            if not done.set_running_or_notify_cancel():
                continue
            try:
                done.set_result(call())
            except BaseException as error:
                done.set_exception(error)
            del given, done, call  # a result may be large

    def submit(self, function: Callable[..., Any], *args: Any) -> futures.Future[Any]:
        """Start the call when a thread is free."""
        done: futures.Future[Any] = futures.Future()
        context = contextvars.copy_context()
        self._calls.put((done, lambda: context.run(function, *args)))
        return done

    def shutdown(self, *, kill: bool) -> None:
        """Drop what has not begun and wait for the rest; a Ctrl-C leaves that behind."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._calls.get_nowait()
        for _ in self._threads:
            self._calls.put(None)
        try:
            if not isinstance(sys.exc_info()[1], KeyboardInterrupt):
                for thread in self._threads:
                    thread.join()
        finally:
            _left_behind.extend(thread for thread in self._threads if thread.is_alive())
            self._limits.close()


_left_behind: list[threading.Thread] = []


def _wait_for_left_behind() -> None:
    """Return when no call that a Ctrl-C left behind is in progress in this process."""
    while _left_behind:
        if _left_behind[-1].is_alive():
            _logger.info("waiting for the end of the call that was interrupted")
        while _left_behind[-1].is_alive():
            _left_behind[-1].join(POLL_SECONDS)
        _left_behind.pop()


class ProcessPool(_Futures):
    """A process pool that starts clean interpreters (spawn)."""

    broken: tuple[type[Exception], ...] = (BrokenProcessPool,)

    def __init__(self, workers: int) -> None:
        self._before = set(multiprocessing.active_children())
        self._pool = futures.ProcessPoolExecutor(
            workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
        )

    def submit(self, function: Callable[..., Any], *args: Any) -> futures.Future[Any]:
        """Start the call when a process is free."""
        with _importable_main():
            return self._pool.submit(function, *args)

    def cancel(self, handles: list[Any]) -> Iterable[Any]:
        """Cancel what has not begun.

        When a worker dies, some versions of Python raise in the pool's own thread at the first call
        that was cancelled, and the other calls never end. So these take any exception.
        """
        cancelled = list(super().cancel(handles))
        for handle in cancelled:
            handle.set_exception = _ignore
        return cancelled

    def shutdown(self, *, kill: bool) -> None:
        """End the processes."""
        if kill:
            for child in set(multiprocessing.active_children()) - self._before:
                child.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)


def _ignore(error: BaseException) -> None:
    """What a cancelled call does with an exception."""


@contextlib.contextmanager
def _importable_main() -> Iterator[None]:
    """Let workers start when the main module came from a pipe: its "file" cannot be read again."""
    main = sys.modules["__main__"]
    name = getattr(main, "__file__", None)
    if name is None or Path(name).exists():
        yield
        return
    del main.__file__
    try:
        yield
    finally:
        main.__file__ = name


def _start_worker() -> None:
    """Ignore Ctrl-C (the parent decides), use one thread, and die when the parent dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    limit_threads()
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
