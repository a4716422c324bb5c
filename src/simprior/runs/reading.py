"""Reading a run directory without touching it; nothing is used that is not as it was registered.

Every file that is read is hashed first and compared with the SHA-256 in the manifest, and so is
``config.toml``. Within ``verification(False)`` (``--no-verify``, huge files) hashes are not
compared, and every file read so is named in the log. A file of 64 MiB or more is hashed once a
process, as long as its size and time of change stay the same.
"""

from __future__ import annotations

import contextlib
import contextvars
import fcntl
import io
import json
import logging
import multiprocessing
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from simprior.errors import SimpriorError, StoreError
from simprior.runs.files import UNPROTECTED, read_table, sha256_file
from simprior.runs.manifest import read_entries, read_manifest
from simprior.runs.text_files import to_toml

LOCK, CONFIG = ".simprior.lock", "config.toml"
_REMEDY = "make it again: run the command that made it with --resume, or with --overwrite"
_LARGE = 1 << 26  # bytes from which a file is not hashed again for every piece of work
_logger = logging.getLogger("simprior")
_verify: contextvars.ContextVar[bool] = contextvars.ContextVar("simprior_verify", default=True)
_WORKER = multiprocessing.parent_process() is not None
_hashed: set[tuple[Any, ...]] = set()
_seen: set[tuple[Any, ...]] = set()
_told: set[str] = set()
_saying = threading.RLock()
"""Held while it is found out what is still to be said: threads would say it twice."""


@contextlib.contextmanager
def verification(verify: bool) -> Iterator[None]:
    """With False, hashes are not compared within the block; other threads go on comparing.

    Workers are told by :func:`simprior.runs.sharded.run_pieces`. True, the default of every reader,
    leaves things as they are.
    """
    token = _verify.set(verify and _verify.get())
    try:
        yield
    finally:
        _verify.reset(token)


def comparing() -> bool:
    """Whether hashes are compared here, see :func:`verification`."""
    return _verify.get()


@dataclass(frozen=True)
class RunInfo:
    """What a run directory says about itself; see :mod:`simprior.runs.manifest` for its keys.

    ``index_problems``: entries of the shard index that are not as they were written.
    """

    path: Path
    manifest: dict[str, Any]
    shards: dict[str, dict[str, Any]]
    active: bool
    index_problems: tuple[str, ...] = field(default=())

    @property
    def command(self) -> str:
        """The command that made the run."""
        return str(self.manifest["command"])

    @property
    def config(self) -> dict[str, Any]:
        """Everything that determines the result."""
        return dict(self.manifest["config"])

    @property
    def results(self) -> dict[str, Any]:
        """Run totals; empty until the run is complete."""
        return dict(self.manifest["results"])

    @property
    def files(self) -> dict[str, dict[str, Any]]:
        """Hashed files other than shards, by path relative to the directory."""
        return dict(self.manifest["files"])

    @property
    def protected(self) -> bool:
        """Whether the manifest has a checksum (runs of older versions have none)."""
        return int(self.manifest["schema_version"]) > UNPROTECTED

    @property
    def status(self) -> str:
        """``running``, ``interrupted`` (also when killed: no lock is held) or ``complete``."""
        stored = str(self.manifest["status"])
        if stored == "running" and not self.active:
            return "interrupted"
        return stored

    @property
    def way_on(self) -> str:
        """What to do where a complete run of another kind was expected, for messages."""
        return "name another run" if self.status == "complete" else "finish it with --resume"

    def in_place_of(self, expected: str, way_on: str = "") -> StoreError:
        """The error where ``expected`` was asked for and this run was found."""
        found = f"one of 'simprior {self.command}' that is {self.status}"
        way_on = way_on or self.way_on
        return StoreError(f"{self.path}: expected {expected}, found {found}; {way_on}")

    @property
    def _registered(self) -> dict[str, dict[str, Any]]:
        """All hashed files, shards included, by path relative to the directory."""
        return self.files | {f"shards/{name}.parquet": e for name, e in self.shards.items()}

    def verify(self) -> list[str]:
        """Problems found by reading every registered file again; empty when all hashes agree."""
        expected = self._registered
        problems = [] if self.active else list(self.index_problems)
        if CONFIG not in expected and not self.active:  # of an unfinished run: not registered yet
            problems += self._config_problem()
        for name, entry in expected.items():
            problem = file_problem(self.path / name, entry)
            if problem is not None:
                problems.append(f"{name}: {problem}")
        return problems

    def _config_problem(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            if (self.path / CONFIG).read_bytes() != to_toml(self.config).encode():
                return [f"{CONFIG}: is not what the manifest says"]
        return []

    def check(self, name: str) -> Path:
        """The path of the registered file ``name``, once its hash and the configuration's agree.

        Raises :class:`StoreError` naming the file that is missing, altered or not registered.
        """
        path = self.path / name
        if name not in self.files:
            raise StoreError(f"{path}: is not registered in the manifest; {_REMEDY}")
        if not comparing():
            _say_once(f"{path}: read without comparing its SHA-256 with the registered one")
            return path
        if not self.protected:
            _say_once(
                f"{self.path}: its manifest is of an earlier version, not protected by a checksum",
                logging.INFO,
            )
        for one in (CONFIG, name) if CONFIG in self.files else (name,):
            problem = problem_once(self.path / one, self.files[one])
            if problem is not None:
                raise StoreError(f"{self.path / one}: {problem}; {_REMEDY}")
        if not _WORKER:
            self._warn_of_others()
        return path

    def _warn_of_others(self) -> None:
        """Name the other registered files that are damaged, each once as long as it stays as it is.

        What reads them refuses them; who reads this one should know.
        """
        for name, entry in (self.files if self.active else self._registered).items():
            path = self.path / name
            with _saying, contextlib.suppress(OSError):
                stat = path.stat()
                state = (str(path), entry["sha256"], stat.st_ino, stat.st_mtime_ns, stat.st_size)
                if state in _seen:
                    continue
                _seen.add(state)
                problem = file_problem(path, entry)
                if problem is not None:
                    _logger.warning("%s: %s; %s", path, problem, _REMEDY)
                continue
            _say_once(f"{path}: is missing; {_REMEDY}")

    def read_bytes(self, name: str) -> bytes:
        """The content of the registered file ``name``, its hash compared. Raises StoreError."""
        path = self.check(name)
        try:
            return path.read_bytes()
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror}); {_REMEDY}") from error

    def read_json(self, name: str) -> Any:
        """The value in the registered JSON file ``name``. Raises :class:`StoreError`."""
        data = self.read_bytes(name)
        with damaged(self.path / name):
            return json.load(io.BytesIO(data))

    def read_table(self, name: str, columns: Sequence[str] | None = None) -> dict[str, np.ndarray]:
        """The registered Parquet table ``name`` by column, its hash compared. Raises StoreError."""
        return read_table(self.check(name), columns)


def load_run(path: Path | str) -> RunInfo:
    """Describe the run directory ``path``, read-only.

    Raises :class:`StoreError` (one line) when there is no manifest, or it is damaged.
    """
    path = Path(path)
    manifest = read_manifest(path)
    protected = manifest["schema_version"] > UNPROTECTED
    shards, problems = read_entries(path / "shards", manifest["shards"], protected=protected)
    return RunInfo(path, manifest, shards, is_active(path), tuple(problems))


@contextlib.contextmanager
def damaged(path: Path | str) -> Iterator[None]:
    """Turn what parsing a file of unexpected content raises into a one-line :class:`StoreError`."""
    try:
        yield
    except SimpriorError:
        raise
    except (LookupError, ValueError, TypeError, ArithmeticError, AttributeError) as error:
        lines = str(error).splitlines() or [""]
        reason = f"{type(error).__name__}: {lines[0][:100]}"
        raise StoreError(
            f"{path}: its content is not what it should be ({reason}); {_REMEDY}"
        ) from (error)


def file_problem(path: Path, entry: Mapping[str, Any]) -> str | None:
    """What is wrong with a registered file (missing, unreadable, size, hash), or None."""
    try:
        size = path.stat().st_size
        if size != entry.get("bytes", size):
            return f"has {size} bytes in place of {entry['bytes']}"
        digest = sha256_file(path)[0]
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return None if digest == entry["sha256"] else "has another sha256 than registered"


def problem_once(path: Path, entry: Mapping[str, Any]) -> str | None:
    """:func:`file_problem`; a large file that has not been touched is hashed once a process."""
    key: tuple[Any, ...] | None = None
    with contextlib.suppress(OSError):
        stat = path.stat()
        if stat.st_size >= _LARGE:
            key = (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size)
            key = (*key, entry["sha256"])
    if key is not None and key in _hashed:
        return None
    problem = file_problem(path, entry)
    if key is not None and problem is None:
        _hashed.add(key)
    return problem


def _say_once(message: str, level: int = logging.WARNING) -> None:
    with _saying:
        if message not in _told:
            _told.add(message)
            _logger.log(level, message)


def is_active(path: Path) -> bool:
    """Whether a living process holds the directory's lock."""
    try:
        descriptor = os.open(path / LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
