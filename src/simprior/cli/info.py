"""``simprior info``: describe a run directory and verify its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from simprior.cli.options import Output, key_values

if TYPE_CHECKING:
    from simprior.runs.directory import RunInfo


@dataclass(frozen=True, kw_only=True)
class Info(Output):
    """Describe a run directory in words and verify the hash of every file; exit 2 if one fails."""

    path: Annotated[Positional[Path], arg(help="a run directory")]


SPEC = Info


def run(spec: Info) -> int:
    """Print the manifest and the verdict."""
    from simprior.errors import StoreError
    from simprior.runs.directory import load_run

    info = load_run(spec.path)
    problems = info.verify()
    files = [{"file": name, **_registered(entry)} for name, entry in info.files.items()]
    summary = {**info.manifest, "status": info.status, "problems": problems}
    values = {"table": files, "summary": summary}
    spec.print_result(values, describe(info), verdict(info, problems))
    if problems:
        raise StoreError(
            f"{spec.path}: {len(problems)} of {_number_of_files(info)} files fail ({problems[0]}); "
            "run the command that made them again with --resume"
        )
    return 0


def _registered(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What is registered about a file, the same keys for each."""
    return {name: entry.get(name) for name in ("bytes", "rows", "sha256")}


def describe(info: RunInfo) -> str:
    """The manifest in human words."""
    manifest = info.manifest
    state = {"running": "still running", "interrupted": "interrupted (continue with --resume)"}
    parts: dict[str, Any] = {
        "run": f"simprior {info.command}, {state.get(info.status, info.status)}",
        "started": manifest.get("created"),
        "last change": manifest.get("updated"),
        "seed": "none" if manifest.get("seed") is None else str(manifest["seed"]),
        "device": manifest.get("device"),
        "versions": ", ".join(f"{name} {text}" for name, text in manifest["versions"].items()),
        "source commit": manifest.get("git_commit"),
        "size": _size(info),
        "manifest": "its checksum agrees"
        if info.protected
        else "of an earlier version, not protected by a checksum",
    }
    text = [key_values(parts)]
    sections = {
        "configuration": info.config,
        "run options": manifest["options"],
        "results": info.results,
        "conventions": manifest["conventions"],
    }
    for title, values in sections.items():
        if values:
            text += ["", f"{title}:", _indent(key_values(_flat(values)))]
    return "\n".join(text)


def verdict(info: RunInfo, problems: list[str]) -> str:
    """What the verification of the hashes found."""
    total = _number_of_files(info)
    if not problems:
        return f"files: {total} verified, all hashes agree"
    return "\n".join([f"files: {len(problems)} of {total} fail", *(f"  {p}" for p in problems)])


def _number_of_files(info: RunInfo) -> int:
    return len(info.files) + len(info.shards)


def _size(info: RunInfo) -> str:
    entries = [*info.files.values(), *info.shards.values()]
    total = sum(entry.get("bytes", 0) for entry in entries)
    return f"{len(info.shards):,} shards, {len(info.files):,} other files, {total / 1e6:,.1f} MB"


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list) and len(value) > 20:
            flat[prefix + key] = f"{len(value):,} entries"
        else:
            flat[prefix + key] = value
    return flat


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
