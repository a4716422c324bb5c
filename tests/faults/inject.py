"""Run a command in a forked child that dies, or fails, at its k-th file-system event.

Events are: opening for writing, ``os.write``/``pwrite`` (after half of the data), fsync, rename,
removal, mkdir, rmdir, truncation, and each block that pyarrow writes. The fork comes from a process
in which everything is imported and compiled, so that a point costs a fraction of a second.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

AUDITED = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
BLOCK = "table block"
KILL, FULL, BROKEN, STOP = "kill", "ENOSPC", "EIO", "KeyboardInterrupt"


@dataclass(frozen=True)
class Ended:
    """Exit status (negative: the signal), what was printed, and the events met, in order."""

    status: int
    out: str
    err: str
    trace: tuple[str, ...]

    @property
    def last(self) -> str:
        """The event met last."""
        return self.trace[-1] if self.trace else "none"


def run_child(
    argv: list[str], base: Path, fault: str | None = None, at: int = 0,
    prepare: Callable[[], None] | None = None,
) -> Ended:  # fmt: skip
    """``simprior`` with ``argv`` in ``base``; ``fault`` at event number ``at`` (from 1)."""
    with tempfile.TemporaryDirectory() as scratch:
        names = [Path(scratch) / name for name in ("out", "err", "events")]
        for name in names:
            name.touch()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads that never write
            child = os.fork()
        if child == 0:
            _be_child(argv, base, fault, at, names, prepare)
        _, raw = os.waitpid(child, 0)
        status = os.waitstatus_to_exitcode(raw)
        out, err = (name.read_text(errors="replace") for name in names[:2])
        met = names[2].read_text().splitlines()
    return Ended(status, out, err, tuple(met))


def run_here(argv: list[str], base: Path) -> Ended:
    """``simprior`` with ``argv`` in ``base``, in this process: what reads, and meets no fault. An
    exception that ends it is one of the test."""
    from simprior.cli import main

    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(base),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            status = main(argv)
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except Exception as error:
            raise AssertionError(f"{argv}: {error!r}") from error
    return Ended(status, out.getvalue(), err.getvalue(), ())


def distinct(trace: tuple[str, ...]) -> list[int]:
    """Events (from 1) before which a kill leaves what no kill at an earlier one does.

    A flush changes nothing that another process sees, and of the blocks of a table, which all go to
    a temporary file, the last stands for all.
    """
    found = []
    for k, event in enumerate(trace, 1):
        before = trace[k - 2] if k > 1 else ""
        if not before.startswith("fsync") and not before == event == BLOCK:
            found.append(k)
    return found


def kind(event: str) -> str:
    """What is done, to which file: numbers in its name (of tasks, processes) left out."""
    what, _, path = event.partition(" ") if event != BLOCK else (event, "", "")
    return f"{what} {re.sub('[0-9]+', '#', Path(path).name)}"


def first_and_last(trace: tuple[str, ...], events: list[int]) -> set[int]:
    """Of ``events`` (from 1) the first and the last of each kind."""
    of_kind: dict[str, list[int]] = {}
    for k in events:
        of_kind.setdefault(kind(trace[k - 1]), []).append(k)
    return {k for found in of_kind.values() for k in (found[0], found[-1])}


def _be_child(
    argv: list[str], base: Path, fault: str | None, at: int, names: list[Path],
    prepare: Callable[[], None] | None,
) -> NoReturn:  # fmt: skip
    status = 99
    try:
        files = [os.open(name, os.O_WRONLY | os.O_APPEND) for name in names]
        sys.stdout = open(files[0], "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(files[1], "w", closefd=False)  # noqa: SIM115
        os.chdir(base)
        if prepare is not None:
            prepare()
        from simprior.cli import main

        _install(base, fault, at, files[2])
        try:
            status = main(argv)
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc(file=sys.stderr)
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _install(base: Path, fault: str | None, at: int, record: int) -> None:
    count, busy = 0, False
    inside = str(base.resolve())
    write = os.write

    def event(what: str, half: Callable[[], object] | None = None) -> None:
        nonlocal count, busy
        if busy:
            return
        busy = True
        try:
            count += 1
            write(record, f"{what}\n".encode())
            if count != at or fault is None:
                return
            if fault == KILL:
                if half is not None:
                    half()
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            busy = False
        if fault == STOP:
            raise KeyboardInterrupt
        number = errno.ENOSPC if fault == FULL else errno.EIO
        raise OSError(number, os.strerror(number))

    def named(descriptor: int) -> str:
        with contextlib.suppress(OSError):
            return str(Path(f"/proc/self/fd/{descriptor}").readlink())
        return ""

    def ours(path: Any) -> bool:
        if isinstance(path, int):
            return named(path).startswith(inside)
        with contextlib.suppress(TypeError, ValueError):
            return os.path.abspath(os.fspath(path)).startswith(inside)  # noqa: PTH100
        return False

    def audit(name: str, arguments: tuple[Any, ...]) -> None:
        if name == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & WRITING and ours(path):
                event(f"open {path}")
        elif name in AUDITED and ours(arguments[0]):
            event(f"{name} {arguments[0]}")

    def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(descriptor: int, *rest: Any) -> Any:
            name = named(descriptor)
            if name.startswith(inside):
                half = None
                if rest and len(rest[0]) > 1:
                    half = lambda: function(descriptor, rest[0][: len(rest[0]) // 2], *rest[1:])  # noqa: E731
                event(f"{function.__name__} {name}", half)
            return function(descriptor, *rest)

        return wrapped

    for name in ("write", "pwrite", "fsync"):
        setattr(os, name, wrap(getattr(os, name)))
    from simprior.runs import files as store_io

    sink_write = store_io._HashingFile.write

    def table_write(self: Any, data: Any) -> int:
        event(BLOCK, self._raw.flush)
        return sink_write(self, data)

    store_io._HashingFile.write = table_write  # type: ignore[method-assign]
    sys.addaudithook(audit)


def content(folder: Path) -> dict[str, Any]:
    """All files below ``folder`` as something to compare: bytes, or what does not change from run
    to run (times and seconds are left out)."""
    return dict(_content(folder)) if folder.is_dir() else {"": folder.read_bytes()}


def _content(folder: Path) -> Iterator[tuple[str, Any]]:
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if path.name in ("log.txt", ".simprior.lock"):
            continue
        yield name, _comparable(path)


def _comparable(path: Path) -> Any:
    import json

    if path.name == "manifest.json":
        return _stable(json.loads(path.read_text()))
    if path.suffix == ".parquet":
        import pandas as pd

        frame = pd.read_parquet(path)
        if "seconds" in frame:
            return frame.drop(columns="seconds").to_csv()
    if path.name == "report.html":
        text = re.sub(r"\d{4}-\d\d-\d\dT[\d:+.]+", "TIME", path.read_text())
        return len(re.sub(r"\d+\.\d+ s", "SECONDS", text)) > 0
    return path.read_bytes()


UNSTABLE = {"created", "updated", "finished", "seconds", "argv", "digest", "sha256", "bytes",
            "checksum", "fingerprint", "options", "versions", "git_commit"}  # fmt: skip


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _stable(v) for k, v in value.items() if k not in UNSTABLE}
    return [_stable(entry) for entry in value] if isinstance(value, list) else value
