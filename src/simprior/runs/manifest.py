"""What a run directory says about itself: ``manifest.json``, and a line a finished shard.

Keys of ``manifest.json``: ``schema_version``, ``command``, ``argv``, ``config`` (everything that
determines the result), ``options`` (everything that does not: workers, memory, ...),
``conventions``, ``seed``, ``device``, ``versions``, ``git_commit``, ``status`` (running,
interrupted, complete), ``created``, ``updated``, ``files`` and ``shards``
(``{name: {sha256, bytes, rows, ...}}``), ``results``, and ``checksum`` (see
:mod:`simprior.runs.files`).

Shards that finish while a run goes on have a line each in ``shards/index.jsonl``, appended and
flushed. Rewriting the manifest for each of thousands of shards would cost more than the shards; a
line costs one flush. Each line has a checksum of its own, ``sum``. A torn last line (the writer was
killed) is cut off before anything is appended; an unreadable or altered line is reported in
``damaged`` and its shard counts as not finished.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from simprior.errors import StoreError
from simprior.runs.files import (
    CHECKSUM,
    SCHEMA_VERSION,
    canonical_sha256,
    entry_problem,
    fsync_directory,
    manifest_checksum,
    name_problem,
    schema_problem,
    translate_errors,
    write_bytes,
)
from simprior.runs.text_files import plain

MANIFEST = "manifest.json"
_PACKAGES = ("numpy", "scipy", "numba", "pyarrow", "pandas", "torch", "scikit-learn")
_MISSING = object()

CONVENTIONS: Mapping[str, str] = {
    "weights": "w ~ N(0, sigma_w^2/fan_in), b ~ N(0, sigma_b^2), standard deviations, all layers",
    "inputs": "input i = binary form of i, most significant bit first",
    "truth_table": "position j = output on input j; output 1 iff f(x) > 0",
    "text_form": "hex or bit string, first digit = first inputs",
    "packed_form": "64-bit words, input 0 in the most significant bit of word 0",
    "log_probability": "natural logarithm (nats), float64",
    "complexity": "lz76 (Dingle, Camargo & Louis 2018)",
    "randomness": "(root seed, stream name, index); independent of workers and scheduling",
}


def new_manifest(
    command: str,
    config: Mapping[str, Any],
    options: Mapping[str, Any],
    conventions: Mapping[str, Any],
) -> dict[str, Any]:
    """The manifest of a run that starts now."""
    resolved = plain(config)
    return {
        "schema_version": SCHEMA_VERSION,
        "command": command,
        "argv": list(sys.argv),
        "config": resolved,
        "options": plain(options),
        "conventions": {**CONVENTIONS, **plain(conventions)},
        "seed": resolved.get("seed"),
        "device": str(options.get("device") or config.get("device") or "cpu"),
        "versions": versions(),
        "git_commit": git_commit(),
        "status": "running",
        "created": now(),
        "updated": now(),
        "files": {},
        "shards": {},
        "results": {},
    }


def now() -> str:
    """The present moment, UTC, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@functools.cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("simprior", *_PACKAGES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def versions() -> dict[str, str]:
    """Versions of Python, simprior and the libraries a result may depend on."""
    return dict(_versions())


def git_commit() -> str | None:
    """Commit of the source tree this package runs from (``-dirty`` if changed), or None."""
    package = Path(__file__).resolve().parent
    if not (package.parents[1] / ".git").exists():
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    try:
        done = subprocess.run(
            command,
            cwd=package,
            env=environment,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


def save_manifest(directory: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest atomically, stamped ``updated``, with its checksum.

    Raises :class:`StoreError`.
    """
    manifest["schema_version"], manifest["updated"] = SCHEMA_VERSION, now()
    manifest[CHECKSUM] = manifest_checksum(manifest)
    text = json.dumps(manifest, indent=1, ensure_ascii=False)
    write_bytes(directory / MANIFEST, (text + "\n").encode())


def read_manifest(directory: Path) -> dict[str, Any]:
    """Read and check ``manifest.json``; a one-line :class:`StoreError` names what is wrong."""
    path = directory / MANIFEST
    again = "restore the file from a copy, or start again with --overwrite"
    try:
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise StoreError(
            f"{path}: no such file, so {directory} is not a simprior run directory; "
            "check the path, or choose a new one with --out"
        ) from None
    except NotADirectoryError:
        raise StoreError(f"{directory}: is a file, not a run directory; check the path") from None
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be read ({error.strerror}); check its permissions"
        ) from error
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise StoreError(f"{path}: corrupt manifest, not JSON ({reason}); {again}") from error
    problem = schema_problem(manifest)
    if problem:
        raise StoreError(f"{path}: {problem}; {again}")
    return manifest


def check_same_run(
    directory: Path, manifest: Mapping[str, Any], command: str, config: Mapping[str, Any]
) -> None:
    """Raise :class:`StoreError` unless the manifest is of this command with this configuration."""
    if manifest["command"] != command:
        raise StoreError(
            f"{directory}: made by 'simprior {manifest['command']}', not 'simprior {command}'; "
            "choose another directory with --out, or --overwrite"
        )
    difference = first_difference(manifest["config"], plain(config))
    if difference:
        key, stored, given = difference
        raise StoreError(
            f"{directory}: cannot resume, {key} is {stored} there and {given} now; "
            "give the same values, or choose another --out, or --overwrite"
        )


def first_difference(
    stored: Mapping[str, Any], given: Mapping[str, Any]
) -> tuple[str, str, str] | None:
    """(dotted key, stored value, given value) of the first difference, or None if equal."""
    left, right = dict(_flatten(stored)), dict(_flatten(given))
    for key in [*left, *(key for key in right if key not in left)]:
        a, b = left.get(key, _MISSING), right.get(key, _MISSING)
        if a != b or isinstance(a, bool) != isinstance(b, bool):
            return key, _show(a), _show(b)
    return None


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _show(value: Any) -> str:
    if value is _MISSING:
        return "absent"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


INDEX = "index.jsonl"
SUM, _SUM_DIGITS = "sum", 16


class ShardIndex:
    """Registered shards of one run: those of the manifest, then those of the index file.

    ``protected``: whether every line must have its checksum (runs of schema version 2).
    """

    def __init__(
        self, directory: Path, registered: Mapping[str, Any], *, protected: bool = True
    ) -> None:
        self.path, self.protected = directory / INDEX, protected
        self.entries, self.damaged, self._sound = _read(self.path, registered, protected)
        self._descriptor: int | None = None

    def repair(self) -> bool:
        """Cut off what a killed writer left after the last whole line; whether there was any."""
        with translate_errors(self.path):
            if self.path.exists() and self.path.stat().st_size > self._sound:
                os.truncate(self.path, self._sound)
                return True
        return False

    def append(self, name: str, entry: Mapping[str, Any] | None) -> None:
        """Register (or, with None, remove) a shard durably. Raises :class:`StoreError`."""
        record = {"name": name, "entry": None if entry is None else plain(entry)}
        record[SUM] = _sum(record)
        line = (json.dumps(record, ensure_ascii=False) + "\n").encode()
        with translate_errors(self.path):
            if self._descriptor is None:
                self._open()
            assert self._descriptor is not None
            _append_whole(self._descriptor, line)
        _apply(self.entries, record)

    def forget(self, name: str) -> None:
        """Drop a shard whose file turned out bad, in memory only; rewriting registers it again."""
        self.entries.pop(name, None)

    def clear(self) -> None:
        """Remove the file, once the manifest holds its content."""
        self.close()
        with translate_errors(self.path):
            self.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> None:
        self.repair()
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        fsync_directory(self.path.parent)


def read_entries(
    directory: Path, registered: Mapping[str, Any], *, protected: bool = True
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """(registered shards, what is wrong with the index) of a ``shards`` folder, read-only."""
    path = directory / INDEX
    entries, damaged, sound = _read(path, registered, protected)
    problems = [
        f"{directory.name}/{INDEX}: altered or unreadable entry: {line}" for line in damaged
    ]
    with contextlib.suppress(OSError):
        if path.stat().st_size > sound:
            problems.append(f"{directory.name}/{INDEX}: the last entry is not whole")
    return entries, problems


def _append_whole(descriptor: int, line: bytes) -> None:
    """Append and flush; a partial line (disk full) is taken back."""
    size = os.fstat(descriptor).st_size
    try:
        written = 0
        while written < len(line):
            written += os.write(descriptor, line[written:])
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def _read(
    path: Path, registered: Mapping[str, Any], protected: bool
) -> tuple[dict[str, dict[str, Any]], list[str], int]:
    """(entries, damaged lines, length in bytes of the whole lines)."""
    entries = {name: dict(entry) for name, entry in registered.items()}
    damaged: list[str] = []
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return entries, damaged, 0
    sound = data.rfind(b"\n") + 1
    for line in data[:sound].split(b"\n")[:-1]:
        record = _record(line, protected)
        if record is None:
            damaged.append("".join(c if c.isprintable() else "?" for c in _text(line[:80])))
        else:
            _apply(entries, record)
    return entries, damaged, sound


def _record(line: bytes, protected: bool) -> dict[str, Any] | None:
    """The record of a line, or None if it is not one as it was written."""
    try:
        record = json.loads(line)
        if name_problem(record["name"]) is not None:
            return None
        if record["entry"] is not None and entry_problem(record["entry"]) is not None:
            return None
        if (protected or SUM in record) and record[SUM] != _sum(record):
            return None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return dict(record)


def _sum(record: Mapping[str, Any]) -> str:
    return canonical_sha256({key: record[key] for key in ("name", "entry")})[:_SUM_DIGITS]


def _text(line: bytes) -> str:
    return line.decode(errors="replace")


def _apply(entries: dict[str, dict[str, Any]], record: Mapping[str, Any]) -> None:
    entries.pop(record["name"], None)
    if record["entry"] is not None:
        entries[record["name"]] = dict(record["entry"])
