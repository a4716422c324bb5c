"""Reading a run directory without touching it: manifest, shards, verification of every hash."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simprior.store_index import read_entries
from simprior.store_io import sha256_file
from simprior.store_manifest import read_manifest

LOCK = ".simprior.lock"


@dataclass(frozen=True)
class RunInfo:
    """What a run directory says about itself; see ``store_manifest`` for the manifest's keys."""

    path: Path
    manifest: dict[str, Any]
    shards: dict[str, dict[str, Any]]
    active: bool

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
    def status(self) -> str:
        """``running``, ``interrupted`` (also when killed: no lock is held) or ``complete``."""
        stored = str(self.manifest["status"])
        if stored == "running" and not self.active:
            return "interrupted"
        return stored

    def verify(self) -> list[str]:
        """Problems found by reading every registered file again; empty when all hashes agree."""
        expected = dict(self.files)
        expected |= {f"shards/{name}.parquet": entry for name, entry in self.shards.items()}
        problems = []
        for name, entry in expected.items():
            problem = file_problem(self.path / name, entry)
            if problem is not None:
                problems.append(f"{name}: {problem}")
        return problems


def load_run(path: Path | str) -> RunInfo:
    """Describe the run directory ``path``, read-only.

    Raises :class:`StoreError` (one line) when there is no manifest, or it cannot be understood.
    """
    path = Path(path)
    manifest = read_manifest(path)
    shards = read_entries(path / "shards", manifest["shards"])
    return RunInfo(path, manifest, shards, is_active(path))


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
