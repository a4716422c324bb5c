"""shards/index.jsonl: one appended, flushed line per finished shard.

Rewriting a manifest for each of thousands of shards would cost more than the shards; a line costs
one flush. Each line has a checksum of its own, ``sum``. A torn last line (the writer was killed)
is cut off before anything is appended; an unreadable or altered line is reported in ``damaged`` and
its shard counts as not finished.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simprior.store_io import fsync_directory, translate_errors
from simprior.store_schema import canonical_sha256, entry_problem, name_problem
from simprior.store_toml import plain

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
