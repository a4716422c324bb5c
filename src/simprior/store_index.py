"""shards/index.jsonl: one appended, flushed line per finished shard.

Rewriting a manifest for each of thousands of shards would cost more than the shards; a line costs
one flush. A torn last line (the writer was killed) is cut off before anything is appended; an
unreadable line elsewhere is reported in ``damaged`` and its shard counts as not finished.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simprior.store_io import fsync_directory, translate_errors
from simprior.store_toml import plain

INDEX = "index.jsonl"


class ShardIndex:
    """Registered shards of one run: those of the manifest, then those of the index file."""

    def __init__(self, directory: Path, registered: Mapping[str, Any]) -> None:
        self.path = directory / INDEX
        self.entries, self.damaged, self._sound = _read(self.path, registered)
        self._descriptor: int | None = None

    def repair(self) -> None:
        """Cut off what a killed writer left after the last whole line."""
        with translate_errors(self.path):
            if self.path.exists() and self.path.stat().st_size > self._sound:
                os.truncate(self.path, self._sound)

    def append(self, name: str, entry: Mapping[str, Any] | None) -> None:
        """Register (or, with None, remove) a shard durably. Raises :class:`StoreError`."""
        record = {"name": name, "entry": None if entry is None else plain(entry)}
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


def read_entries(directory: Path, registered: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Registered shards of a run directory's ``shards`` folder, read-only."""
    return _read(directory / INDEX, registered)[0]


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
    path: Path, registered: Mapping[str, Any]
) -> tuple[dict[str, dict[str, Any]], list[str], int]:
    """(entries, damaged lines, length in bytes of the whole lines)."""
    entries = {name: dict(entry) for name, entry in registered.items()}
    damaged: list[str] = []
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return entries, damaged, 0
    sound = data.rfind(b"\n") + 1
    for line in data[:sound].splitlines():
        try:
            record = json.loads(line)
            if not isinstance(record["name"], str):
                raise TypeError
            if record["entry"] is not None:
                str(record["entry"]["sha256"]), int(record["entry"]["bytes"])
        except (ValueError, TypeError, KeyError):
            damaged.append(line[:80].decode(errors="replace"))
            continue
        _apply(entries, record)
    return entries, damaged, sound


def _apply(entries: dict[str, dict[str, Any]], record: Mapping[str, Any]) -> None:
    entries.pop(record["name"], None)
    if record["entry"] is not None:
        entries[record["name"]] = dict(record["entry"])
