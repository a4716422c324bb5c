"""What may be in a run directory, and removing exactly that."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

from simprior.errors import StoreError
from simprior.runs.files import TEMP_SUFFIX, name_problem, translate_errors
from simprior.runs.manifest import MANIFEST, read_manifest, save_manifest
from simprior.runs.reading import LOCK

_FILES = ("config.toml", "counts.parquet", "report.html", "log.txt")
SPILL = ".merge"
"""Folder into which a merge out of core spills."""
_PATTERNS = {
    "shards": ("*.parquet", "index.jsonl"),
    "figures": ("*.pdf", "*.png", "*.svg"),
    "tables": ("*.tex", "*.csv", "*.md", "*.json", "*.parquet"),
}


AT_ONCE = ("import", "compare")
"""Commands without --resume: they only write what they have."""


def check_occupied(path: Path, command: str, *, resume: bool, overwrite: bool) -> bool:
    """Whether an earlier run is in ``path``; False for a fresh start.

    Raises :class:`StoreError` when something is there that these options do not allow to use.
    """
    entries = _entries(path)
    if not [name for name in entries if name != LOCK and not name.endswith(TEMP_SUFFIX)]:
        return False  # at most what a writer left that was killed at its start
    if overwrite:
        if not _is_run(path, entries):
            raise StoreError(
                f"{path}: not a simprior run directory, so --overwrite leaves it alone; "
                "choose another directory with --out"
            )
        return True
    if not resume:
        remedy = "add --resume to continue or --overwrite to start again"
        if command in AT_ONCE:
            remedy = "add --overwrite to replace it"
        if not _is_run(path, entries):
            remedy = "it is not a simprior run directory"
        raise StoreError(f"{path}: the directory is not empty; {remedy}, or choose another --out")
    read_manifest(path)
    return True


def wipe(path: Path, manifest: dict[str, Any]) -> None:
    """Replace the manifest by ``manifest``, then remove what an earlier run may have written.

    The directory stays recognisable throughout: the manifest is replaced first, in one step.
    Files that simprior does not write are left where they are. Raises :class:`StoreError`.
    """
    registered = _registered(path)
    save_manifest(path, manifest)
    with translate_errors(path):
        for name in (*_FILES, *registered):
            (path / name).unlink(missing_ok=True)
        for folder, patterns in _PATTERNS.items():
            _empty(path / folder, patterns)
        remove_temporaries(path)


def discard(path: Path) -> None:
    """Remove a run directory: what simprior wrote into it, and nothing else.

    Nothing happens where there is no run. Raises :class:`StoreError`.
    """
    if not _has_manifest(path):
        return
    wipe(path, read_manifest(path))
    with translate_errors(path):
        for name in (MANIFEST, LOCK):
            (path / name).unlink(missing_ok=True)
    for leftover in (*(p for p in path.glob("*") if p.is_dir()), path):
        with contextlib.suppress(OSError):  # not empty: someone else's files
            leftover.rmdir()


def _registered(path: Path) -> list[str]:
    """Files that the manifest of an earlier run lists, inside ``path`` only."""
    try:
        names = list(read_manifest(path)["files"])
    except StoreError:  # corrupt: what every run may contain is removed all the same
        return []
    return [name for name in names if name_problem(name, "files") is None]


def remove_temporaries(path: Path) -> None:
    """Remove what killed writers left under temporary names, and what a killed merge spilled."""
    for folder in (path, *(path / name for name in _PATTERNS)):
        for leftover in folder.glob(f"*{TEMP_SUFFIX}"):  # DuckDB puts tmp_ before the name
            leftover.unlink(missing_ok=True)
    spilled = path / SPILL
    if spilled.is_dir() and not spilled.is_symlink():
        shutil.rmtree(spilled, ignore_errors=True)


def shard_files(folder: Path) -> list[Path]:
    """Shards, registered or not, and their index in a run's folder ``shards``."""
    return [file for pattern in _PATTERNS["shards"] for file in sorted(folder.glob(pattern))]


def remove_shard_files(folder: Path) -> None:
    """Remove all shards of a finished run, and their index. Raises :class:`StoreError`."""
    with translate_errors(folder):
        for file in shard_files(folder):
            file.unlink(missing_ok=True)


def _empty(folder: Path, patterns: tuple[str, ...]) -> None:
    if folder.is_symlink() or not folder.is_dir():
        return
    for pattern in patterns:
        for file in folder.glob(pattern):
            file.unlink(missing_ok=True)


def _entries(path: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in path.iterdir())
    except FileNotFoundError:
        return []
    except NotADirectoryError:
        raise StoreError(
            f"{path}: is a file or lies below one, not a directory; choose another --out"
        ) from None
    except OSError as error:
        raise StoreError(
            f"{path}: cannot be read ({error.strerror}); choose another --out"
        ) from error


def _is_run(path: Path, entries: list[str]) -> bool:
    return LOCK in entries or _has_manifest(path)


def _has_manifest(path: Path) -> bool:
    try:
        read_manifest(path)
    except StoreError:
        return False
    return True
