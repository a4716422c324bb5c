"""What a manifest must look like: types, ranges, and the checksum that covers all of it.

Since schema version 2 the manifest has a ``checksum``: SHA-256 of the canonical JSON of everything
else in it. Version 1 had none; its directories are read, and said to be unprotected.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any

SCHEMA_VERSION = 2
UNPROTECTED = 1
"""The last schema version without checksums."""
STATUSES = ("running", "interrupted", "complete")
CHECKSUM = "checksum"
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_KINDS: Mapping[str, type] = {
    "command": str, "config": dict, "options": dict, "conventions": dict, "versions": dict,
    "files": dict, "shards": dict, "results": dict, "status": str,
}  # fmt: skip
_TEXTS = ("created", "updated", "device")


def canonical_sha256(value: Any) -> str:
    """SHA-256 (hex) of the one JSON text of ``value`` with sorted keys and no white space."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def manifest_checksum(manifest: Mapping[str, Any]) -> str:
    """The checksum that belongs to ``manifest``."""
    return canonical_sha256({key: value for key, value in manifest.items() if key != CHECKSUM})


def schema_problem(manifest: Any) -> str | None:
    """What is wrong with a manifest, as a phrase, or None."""
    if not isinstance(manifest, dict) or "schema_version" not in manifest:
        return "corrupt manifest, it has no schema_version"
    version = manifest["schema_version"]
    if type(version) is not int or not UNPROTECTED <= version <= SCHEMA_VERSION:
        return (
            f"schema_version {version!r}, but this version of simprior reads 1 to {SCHEMA_VERSION}"
        )
    for key, kind in _KINDS.items():
        if not isinstance(manifest.get(key), kind):
            return f"corrupt manifest, {key!r} is missing or not a {kind.__name__}"
    guarded = version > UNPROTECTED or CHECKSUM in manifest
    if guarded and manifest.get(CHECKSUM) != manifest_checksum(manifest):
        return "corrupt manifest, its content does not have its checksum (damaged, or edited)"
    return next(_field_problems(manifest), None)


def _field_problems(manifest: Mapping[str, Any]) -> Iterator[str]:
    status, seed = manifest["status"], manifest.get("seed")
    if status not in STATUSES:
        yield f"corrupt manifest, status {status!r} is not one of {', '.join(STATUSES)}"
    if not isinstance(seed, int | float | str | None):
        yield f"corrupt manifest, seed {seed!r} is not a number"
    for key in _TEXTS:
        if not isinstance(manifest.get(key, ""), str):
            yield f"corrupt manifest, {key!r} is not a text"
    draws = manifest["options"].get("task_draws")
    if draws is not None and not whole_in(draws, 1, 2**62):
        yield f"corrupt manifest, task_draws {draws!r} is not a positive whole number"
    for group in ("files", "shards"):
        for name, entry in manifest[group].items():
            problem = name_problem(name, group) or entry_problem(entry)
            if problem:
                yield f"corrupt manifest, {group} entry {name!r} {problem}"


def name_problem(name: Any, group: str = "shards") -> str | None:
    """Why ``name`` cannot be that of a registered file or shard: it must stay in its folder."""
    path = PurePosixPath(name) if isinstance(name, str) and name else PurePosixPath("/")
    inside = not path.is_absolute() and ".." not in path.parts and "\0" not in str(name)
    if not inside or (group == "shards" and len(path.parts) != 1):
        return "lies outside the run directory"
    return None


def entry_problem(entry: Any) -> str | None:
    """What is wrong with what is registered about a file, or None."""
    if not isinstance(entry, dict) or not isinstance(entry.get("sha256"), str):
        return "has no sha256"
    if not _SHA256.match(entry["sha256"]):
        return "has a sha256 that is none"
    for key in ("bytes", "rows"):
        if key in entry and not whole_in(entry[key], 0, 2**62):
            return f"has {key}={entry[key]!r}"
    return None if isinstance(entry.get("meta", {}), dict) else "has a meta that is no table"


def whole_in(value: Any, low: int, high: int) -> bool:
    """Whether ``value`` is an int (no bool) in [low, high]."""
    return type(value) is int and low <= value <= high


def finite_in(value: Any, low: float, high: float) -> bool:
    """Whether ``value`` is a finite number (no bool) in [low, high]."""
    return type(value) in (int, float) and math.isfinite(value) and low <= value <= high
