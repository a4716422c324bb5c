"""The run directory: resolved configuration, manifest, shards, results; resumable at any moment.

Layout: ``config.toml``, ``manifest.json``, ``shards/*.parquet``, ``counts.parquet``, ``figures/``,
``tables/``, ``report.html``, ``log.txt``. One process writes at a time (a lock that the system
releases when the writer dies, however it dies). A shard counts as finished when its file has been
flushed *and* a line about it has been flushed to ``shards/index.jsonl``; the lines are folded into
the manifest when the run ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from simprior.errors import InputError, StoreError
from simprior.runs.files import (
    UNPROTECTED,
    Written,
    canonical_sha256,
    read_table,
    sha256_file,
    translate_errors,
    write_bytes,
    write_table,
)
from simprior.runs.manifest import (
    MANIFEST,
    ShardIndex,
    check_same_run,
    new_manifest,
    now,
    read_manifest,
    save_manifest,
)
from simprior.runs.reading import (
    CONFIG,
    LOCK,
    RunInfo,
    comparing,
    file_problem,
    load_run,
    problem_once,
    verification,
)
from simprior.runs.text_files import plain, to_toml
from simprior.runs.wipe import (
    AT_ONCE,
    check_occupied,
    remove_shard_files,
    remove_temporaries,
    shard_files,
    wipe,
)

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "RunDir",
    "RunInfo",
    "Written",
    "comparing",
    "load_run",
    "read_table",
    "verification",
    "write_table",
]

SHARDS, LOG = "shards", "log.txt"
_CONFIG_DIGITS = 16
_logger = logging.getLogger("simprior")


class RunDir:
    """A run directory open for writing; use :meth:`open` or :meth:`attach` in a ``with`` block.

    Leaving the block marks the run ``interrupted`` unless :meth:`finish` was called, and releases
    the lock. Only the process that opened it registers shards; workers write theirs with
    :func:`write_table` and hand back the :class:`Written` record.
    """

    def __init__(self, path: Path, lock: int, manifest: dict[str, Any], *, resumed: bool) -> None:
        # absolute: files are registered relative to it, and workers may start elsewhere
        self.path, self.manifest, self.resumed = path.absolute(), manifest, resumed
        self.corrupt: list[str] = []
        self._lock: int | None = lock
        protected = manifest["schema_version"] > UNPROTECTED
        self._index = ShardIndex(path / SHARDS, manifest["shards"], protected=protected)

    @classmethod
    def open(
        cls,
        path: Path | str,
        command: str,
        config: Mapping[str, Any],
        *,
        resume: bool = False,
        overwrite: bool = False,
        options: Mapping[str, Any] | None = None,
        conventions: Mapping[str, Any] | None = None,
    ) -> RunDir:
        """Create, resume or overwrite the run directory ``path`` and take its lock.

        Parameters
        ----------
        path : path
            The directory; parents are created.
        command : str
            The command that owns the run, e.g. ``"sample"``.
        config : mapping
            Everything that determines the result; ``resume`` demands an equal one.
        resume, overwrite : bool
            Continue what is there (or start, if there is nothing), or remove what an earlier run
            left. Without either a non-empty directory is refused.
        options, conventions : mapping, optional
            What is recorded but not compared (workers, device, ...), and additions to the
            conventions of ``store_manifest.CONVENTIONS``.

        Raises
        ------
        StoreError
            Occupied, locked, not a run directory, corrupt manifest, other configuration, not
            writable or full; one line with the remedy.
        """
        path = Path(path)
        fresh = new_manifest(command, config, options or {}, conventions or {})
        check_occupied(path, command, resume=resume, overwrite=overwrite)
        with translate_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        lock = _take_lock(path)
        try:
            occupied = check_occupied(path, command, resume=resume, overwrite=overwrite)
            with translate_errors(path):
                remove_temporaries(path)
            if occupied and resume and not overwrite:
                return cls._continue(path, lock, command, fresh)
            if occupied:
                wipe(path, fresh)
            return cls._start(path, lock, fresh)
        except BaseException:
            os.close(lock)
            raise

    @classmethod
    def attach(cls, path: Path | str) -> RunDir:
        """Open a finished or interrupted run to add files to it (figures, tables).

        Raises :class:`StoreError` when it is not a run directory or another process writes to it.
        """
        path = Path(path)
        read_manifest(path)
        lock = _take_lock(path)
        try:
            with translate_errors(path):
                remove_temporaries(path)
            return cls(path, lock, read_manifest(path), resumed=True)
        except BaseException:
            os.close(lock)
            raise

    @classmethod
    def _start(cls, path: Path, lock: int, manifest: dict[str, Any]) -> RunDir:
        save_manifest(path, manifest)
        with translate_errors(path / SHARDS):
            (path / SHARDS).mkdir(exist_ok=True)
        run = cls(path, lock, manifest, resumed=False)
        run._write_config()
        run.log(f"started simprior {manifest['command']}")
        return run

    @classmethod
    def _continue(cls, path: Path, lock: int, command: str, fresh: dict[str, Any]) -> RunDir:
        manifest = read_manifest(path)
        check_same_run(path, manifest, command, fresh["config"])
        with translate_errors(path / SHARDS):
            (path / SHARDS).mkdir(exist_ok=True)
        unprotected = manifest["schema_version"] <= UNPROTECTED
        run = cls(path, lock, manifest, resumed=True)
        torn = run._index.repair()
        found = f"resumed, {len(run.shards):,} shards are registered"
        run.log("resumed, the run is complete already" if run.complete else found)
        for line in run._index.damaged:
            run.log(
                f"{SHARDS}/index.jsonl: altered or unreadable entry ignored, its shard is "
                f"recomputed: {line}",
                logging.WARNING,
            )
        if torn:
            run.log(f"{SHARDS}/index.jsonl: the last entry is not whole, its shard is recomputed")
        if unprotected:
            run.log("the manifest is of an earlier version, not protected by a checksum; it is now")
            run.save()
        if manifest["versions"] != fresh["versions"]:
            run.log(f"versions differ: {manifest['versions']} then, {fresh['versions']} now")
        run._write_config()
        if manifest["status"] != "complete":
            manifest["status"] = "running"
            save_manifest(path, manifest)
        return run

    def _write_config(self) -> None:
        data = to_toml(self.manifest["config"]).encode()
        config = self.path / CONFIG
        if config.exists():
            with translate_errors(config):
                if config.read_bytes() == data:
                    return
            self.log(
                f"{CONFIG}: is not what the manifest says (damaged or edited); it is written again",
                logging.WARNING,
            )
        write_bytes(config, data)

    def __enter__(self) -> RunDir:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, InputError) and self._nothing_done():
            self._withdraw()
        stopped = error is None or type(error).__name__ in ("Interrupted", "KeyboardInterrupt")
        if error is not None and (self.shards or self.manifest["files"]):
            error.kept = True  # type: ignore[attr-defined]
        self.close("interrupted" if stopped else f"stopped by an error ({type(error).__name__})")

    def _nothing_done(self) -> bool:
        """Whether this run has only been started, here, and nothing is in it."""
        return not (self.resumed or self.shards or self.manifest["files"])

    def _withdraw(self) -> None:
        """Take back a run that bad input ended: the directory is free for the corrected one."""
        ours = (CONFIG, LOG, MANIFEST, LOCK)
        with contextlib.suppress(OSError):
            if {entry.name for entry in self.path.iterdir()} - {*ours, SHARDS}:
                return
            (self.path / SHARDS).rmdir()
            for name in ours:
                (self.path / name).unlink(missing_ok=True)
            self.manifest["status"] = "interrupted"  # the error is on its way to the user
            self.path.rmdir()

    def close(self, why: str = "interrupted") -> None:
        """Release the lock; an unfinished run is marked ``interrupted`` and logs ``why``."""
        if self._lock is None:
            return
        try:
            if self.manifest["status"] == "running":
                self.manifest["status"] = "interrupted"
                with contextlib.suppress(StoreError):
                    self.save()
                kept = f"{len(self.shards):,} finished shards are kept, continue with --resume"
                remedy = "start again with --overwrite"
                self.log(f"{why}; {remedy if self.manifest['command'] in AT_ONCE else kept}")
        finally:
            self._index.close()
            os.close(self._lock)
            self._lock = None

    @property
    def complete(self) -> bool:
        """Whether :meth:`finish` has been called for this configuration, now or earlier."""
        return bool(self.manifest["status"] == "complete")

    @property
    def results(self) -> dict[str, Any]:
        """The run totals recorded by :meth:`finish` (empty before)."""
        return dict(self.manifest["results"])

    @property
    def shards(self) -> dict[str, dict[str, Any]]:
        """Registered shards, in order: ``{name: {sha256, bytes, rows, meta}}``."""
        return dict(self._index.entries)

    @property
    def shards_folder(self) -> Path:
        """The folder of the shards."""
        return self.path / SHARDS

    def shard_path(self, name: str) -> Path:
        """Where the shard ``name`` lives: ``shards/<name>.parquet``."""
        return self.shards_folder / f"{name}.parquet"

    @cached_property
    def _config_digest(self) -> str:
        return canonical_sha256(self.manifest["config"])[:_CONFIG_DIGITS]

    def has_shard(self, name: str, meta: Mapping[str, Any] | None = None) -> bool:
        """Whether ``name`` is registered and its file has the registered hash.

        ``meta`` is what the shard must have been registered with (its range, say); a shard of
        another range or of another configuration is not the one asked for. A missing, truncated or
        altered file is logged by name, listed in ``corrupt`` and reported as absent, so that the
        caller recomputes it; it is never used silently.
        """
        entry = self._index.entries.get(name)
        if entry is None:
            return False
        problem = self._other(entry, meta or {}) or file_problem(self.shard_path(name), entry)
        if problem is None:
            return True
        self._index.forget(name)
        self.corrupt.append(name)
        self.log(f"shard {name}: {problem}; it is recomputed", logging.WARNING)
        return False

    def _other(self, entry: Mapping[str, Any], meta: Mapping[str, Any]) -> str | None:
        """Why a registered shard is not the one meant; None for shards of earlier versions that do
        not say."""
        if entry.get("config", self._config_digest) != self._config_digest:
            return "is of another configuration"
        known = entry.get("meta", {})
        for key, value in plain(dict(meta)).items():
            if known.get(key, None if "config" in entry else value) != value:
                return f"has {key} {known.get(key)} in place of {value}"
        return None

    def register_shard(
        self, name: str, sha256: str, rows: int, bytes: int, meta: Mapping[str, Any] | None = None
    ) -> None:
        """Record a finished shard durably (one appended, flushed line), with what it is of:
        ``meta`` (its range, say) and the hash of the configuration. Raises StoreError."""
        entry = {"sha256": sha256, "bytes": bytes, "rows": rows, "meta": dict(meta or {})}
        self._index.append(name, entry | {"config": self._config_digest})

    def check_shard(self, name: str) -> Path:
        """The path of a registered shard whose hash still agrees. Raises :class:`StoreError`."""
        entry, path = self._index.entries.get(name), self.shard_path(name)
        problem = "is not registered" if entry is None else file_problem(path, entry)
        if problem is not None:
            raise StoreError(f"{path}: {problem}; run again with --resume to compute it again")
        return path

    def read_shard(self, name: str) -> dict[str, np.ndarray]:
        """The columns of a registered shard, its hash compared. Raises :class:`StoreError`."""
        return read_table(self.check_shard(name))

    def remove_shard(self, name: str) -> None:
        """Forget a shard and delete its file (after a merge, say)."""
        self._index.append(name, None)
        with translate_errors(self.shard_path(name)):
            self.shard_path(name).unlink(missing_ok=True)

    def clear_shards(self) -> None:
        """Forget all shards of a finished run, save, and delete their files, registered or not."""
        self._index.entries.clear()
        self.save()
        self._index.clear()
        remove_shard_files(self.path / SHARDS)

    def finished(self, *names: str, shards: bool = False) -> bool:
        """Whether the run is complete and its files ``names`` are as registered; otherwise logged.

        Then what a writer left that was killed while it cleaned up is removed: all shards, unless
        the run keeps its ``shards``.
        """
        if not self.complete or not all(self.has_file(name) for name in names):
            return False
        for name in self.manifest["files"]:
            if name not in names and (self.path / name).is_file():
                self.has_file(name, "make it again with the command that made it")
        if not shards and (self.shards or shard_files(self.path / SHARDS)):
            self.log("shards that were left when an earlier run was stopped are removed")
            self.clear_shards()
        elif shards and self._index.path.exists():  # it is in the manifest already
            self._index.clear()
        return True

    def add_file(self, path: Path | str, **extra: Any) -> None:
        """Hash a finished file of the directory into the manifest (``extra``: rows=, ...)."""
        path = Path(path) if Path(path).is_absolute() else self.path / path
        with translate_errors(path):
            digest, size = sha256_file(path)
        name = path.relative_to(self.path).as_posix()
        self.manifest["files"][name] = {"sha256": digest, "bytes": size, **extra}

    def has_file(self, name: str, remedy: str = "it is made again") -> bool:
        """Whether the file ``name`` is in the manifest and still has its hash; logged if not."""
        entry = self.manifest["files"].get(name)
        problem = "is not registered" if entry is None else problem_once(self.path / name, entry)
        if entry is not None and problem is not None:
            self.log(f"{name}: {problem}; {remedy}", logging.WARNING)
        return problem is None

    def make_folder(self, name: str) -> Path:
        """The folder ``name`` of the directory, made if it is not there. Raises StoreError."""
        path = self.path / name
        with translate_errors(path):
            path.mkdir(parents=True, exist_ok=True)
        return path

    def write_file(self, name: str, data: bytes | str) -> Path:
        """Write a file of the directory atomically and hash it into the manifest."""
        path = self.path / name
        with translate_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, data.encode() if isinstance(data, str) else data)
        self.add_file(name)
        return path

    def save(self) -> None:
        """Write the manifest now (after :meth:`add_file`). Raises :class:`StoreError`."""
        self.manifest["shards"] = self.shards
        save_manifest(self.path, self.manifest)
        if not self._index.protected:  # of an earlier version: its lines have no checksums
            self._index.clear()
            self._index.protected = True

    def finish(self, results: Mapping[str, Any] | None = None) -> None:
        """Mark the run complete: fold the shard index into the manifest, record ``results``."""
        self.manifest["results"] = plain(dict(results or {}))
        self._write_config()
        self.add_file(CONFIG)
        self.manifest["status"], self.manifest["finished"] = "complete", now()
        self.save()
        self._index.clear()
        self.log("complete")

    def log(self, message: str, level: int = logging.INFO) -> None:
        """Append a line with the time to ``log.txt`` and pass it to the ``simprior`` logger."""
        _logger.log(level, message)
        with contextlib.suppress(OSError), (self.path / LOG).open("a") as handle:
            handle.write(f"{now()} {message}\n")


def _take_lock(path: Path) -> int:
    name = path / LOCK
    with translate_errors(name):
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _flock(descriptor)
    except BlockingIOError:
        holder = os.pread(descriptor, 64, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise StoreError(
            f"{path}: another process is writing to it ({holder}); "
            "wait for it, stop it, or choose another --out"
        ) from None
    except OSError as error:
        os.close(descriptor)
        reason = f"the file system refuses a lock ({error.strerror})"
        raise StoreError(f"{path}: {reason}; choose an --out on a local disk") from error
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"pid {os.getpid()}".encode(), 0)
    return descriptor


def _flock(descriptor: int) -> None:
    """Take the exclusive lock; try again for a moment, since readers look at it in passing."""
    for _ in range(4):
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.05)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
