"""Threads: how many a call may use, how many numerical libraries use, and what each has of its own.

Compiled code gives up Python's lock while it runs, so that threads of one process compute side by
side (:class:`simprior.runs.local.ThreadPool`). Two things follow.

* Arrays to work in belong to one thread: functions that keep such arrays from call to call keep
  them by :func:`per_thread`.
* Workers use one thread each, those of numerical libraries included. So does code that solves many
  small problems (:func:`one_thread`), because a threaded BLAS waits for itself there. Measured with
  two threads on a machine with other work: 4 to 20 times slower at m = 128, 5 times at m = 1024.
  One thread also keeps results equal to the bit.
* Memory that threads free stays with them (:func:`keep_freed`).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import multiprocessing
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)
P = ParamSpec("P")
Item = TypeVar("Item")
Result = TypeVar("Result")


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_LARGE = 32 << 20  # bytes: the largest threshold that glibc would come to by itself


@functools.cache
def keep_freed() -> bool:
    """Let this process keep blocks of memory of up to 32 MiB that it frees, for the next ones.

    glibc gives memory of threads back to the system once a few MB of it are free. Code that makes
    and drops arrays of that size again and again then pays for each of their pages each time, and
    two threads wait for each other there (a tenth of the time of ``tilted`` on two threads). Each
    thread may keep 64 MiB. Returns False, and changes nothing, without glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGE) and mallopt(_TRIM_THRESHOLD, 2 * _LARGE))


def available_cores() -> int:
    """Number of CPU cores this process may use (its affinity mask)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_own = threading.local()


def share_cores() -> None:
    """Note that this thread is one of several workers: what it calls has one core."""
    _own.shares = True


def cores_here() -> int:
    """Number of cores that a call may use: one in a worker among several, otherwise all."""
    worker = multiprocessing.parent_process() is not None or getattr(_own, "shares", False)
    return 1 if worker else available_cores()


def per_thread(maxsize: int) -> Callable[[Callable[P, Result]], Callable[P, Result]]:
    """Keep the last ``maxsize`` results of a function, each thread its own.

    For functions that make arrays to work in: no two threads ever get the same ones. What a thread
    keeps goes when it ends.
    """

    def decorate(function: Callable[P, Result]) -> Callable[P, Result]:
        kept = threading.local()

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> Result:
            if not hasattr(kept, "function"):
                kept.function = functools.lru_cache(maxsize)(function)
            result: Result = kept.function(*args, **kwargs)
            return result

        return call

    return decorate


def in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], threads: int
) -> list[Result]:
    """The results of ``function`` for all ``items``, in their order, on up to ``threads`` threads.

    For compiled code and for numpy's, which give up Python's lock. Raises what ``function`` raises.
    """
    if threads == 1 or len(items) < 2:
        return list(map(function, items))
    with ThreadPoolExecutor(min(threads, len(items)), initializer=share_cores) as pool:
        return list(pool.map(function, items))


def ahead(
    function: Callable[[Item], Result], items: Sequence[Item], threads: int
) -> Iterator[Result]:
    """What :func:`in_threads` gives, one by one: no more than a few results wait."""
    if threads == 1 or len(items) < 2:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(min(threads, len(items)), initializer=share_cores) as pool:
        waiting = deque[Future[Result]]()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


class _Limits:
    """Numerical libraries have one thread as long as some call wants that.

    OpenMP has a number for each thread, which goes with the call. The numbers of the others are
    those of the process, and calls in several threads overlap: what the first call found is put
    back when the last one ends. threadpoolctl lets only the thread that came first
    change OpenBLAS (from version 3.7 on); here any may, since the lock keeps them in order.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls, self._known = 0, 0
        self._found: list[Any] = []

    def hold(self, controller: Any) -> Any:
        """One more call; ``controller`` knows the libraries that are loaded by now.

        What it returns goes to :meth:`release`.
        """
        shared = controller.select(user_api="blas")
        with self._lock:
            self._calls += 1
            _take_control()
            limit = shared.limit(limits=1)
            if len(shared) > self._known:  # the first call, or a library loaded since
                self._known = len(shared)
                self._found.append(limit)
        return controller.select(user_api="openmp").limit(limits=1)

    def release(self, own: Any) -> None:
        """One call less."""
        own.restore_original_limits()
        with self._lock:
            self._calls -= 1
            if not self._calls:
                self._known = 0
                _take_control()
                while self._found:
                    self._found.pop().restore_original_limits()


def _take_control() -> None:
    """Whichever thread is the next to change OpenBLAS is the one that may."""
    import threadpoolctl

    clear = getattr(
        getattr(threadpoolctl, "OpenBLASController", None), "clear_controlling_thread", None
    )
    if clear is not None:
        clear(force=True)


_limits = _Limits()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Numerical libraries are single-threaded inside; nothing changes without threadpoolctl."""
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        yield
        return
    own = _limits.hold(ThreadpoolController())
    try:
        yield
    finally:
        _limits.release(own)


@contextlib.contextmanager
def one_torch_thread() -> Iterator[None]:
    """torch, too, is single-threaded inside."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with one_thread():
            yield
    finally:
        torch.set_num_threads(before)


def one_loaded_thread() -> contextlib.AbstractContextManager[None]:
    """Numerical libraries are single-threaded inside; torch is, if it is loaded."""
    return one_torch_thread() if "torch" in sys.modules else one_thread()


_limited = False


def limit_threads() -> None:
    """Make numerical libraries of this process single-threaded, loaded already or later."""
    global _limited  # noqa: PLW0603
    if _limited:
        return
    _limited = True
    for name in _VARIABLES:
        # numba reads its variable again at every compilation, and refuses another value than the
        # one it started with (a cluster job imports it while the task is unpickled)
        if name != "NUMBA_NUM_THREADS" or "numba" not in sys.modules:
            os.environ[name] = "1"
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    if "numba" in sys.modules:
        sys.modules["numba"].set_num_threads(1)
    if "numpy" in sys.modules:
        with contextlib.suppress(ImportError):
            from threadpoolctl import threadpool_limits

            threadpool_limits(1)
