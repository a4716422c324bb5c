"""manifest.json: what a run directory says about itself.

Keys: ``schema_version``, ``command``, ``argv``, ``config`` (everything that determines the result),
``options`` (everything that does not: workers, memory, ...), ``conventions``, ``seed``, ``device``,
``versions``, ``git_commit``, ``status`` (running, interrupted, complete), ``created``, ``updated``,
``files`` and ``shards`` (``{name: {sha256, bytes, rows, ...}}``), ``results``, and ``checksum``
(see ``store_schema``).
"""

from __future__ import annotations

import datetime
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
from simprior.store_io import write_bytes
from simprior.store_schema import CHECKSUM, SCHEMA_VERSION, manifest_checksum, schema_problem
from simprior.store_toml import plain

MANIFEST = "manifest.json"
_PACKAGES = (
    "numpy", "scipy", "numba", "pyarrow", "duckdb", "pandas", "torch", "scikit-learn",
)  # fmt: skip
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


def versions() -> dict[str, str]:
    """Versions of Python, simprior and the libraries a result may depend on."""
    found = {"python": platform.python_version()}
    for name in ("simprior", *_PACKAGES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


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
