"""Files that are either whole or absent, and known to be what was written.

*Writing.* Every file is written to a temporary name in its own directory, flushed to the disk,
renamed, and the directory flushed; a crash at any moment leaves the old file or the new one, never
a part. Errors of the operating system become one-line :class:`~simprior.errors.StoreError`.

*Forms.* Bytes, Parquet tables, and tables as CSV that a spreadsheet can open without running a cell
as a formula.

*The manifest.* Its entries have types and ranges that are checked here. Since schema version 2 it
has a ``checksum``: SHA-256 of the canonical JSON of everything else in it. Version 1 had none; its
directories are read, and said to be unprotected.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from simprior.errors import InputError, StoreError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

TEMP_SUFFIX = ".simprior-tmp"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_CHUNK = 1 << 20


class Written(NamedTuple):
    """What :func:`write_table` wrote: SHA-256 (hex) and size of the file, rows of the table."""

    sha256: str
    bytes: int
    rows: int


@contextlib.contextmanager
def translate_errors(path: Path | str) -> Iterator[None]:
    """Turn an ``OSError`` met while writing ``path`` into a one-line :class:`StoreError`."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise StoreError(_explain(error, path)) from error


def _explain(error: OSError, path: Path | str) -> str:
    if error.errno in _FULL:
        return (
            f"{path}: cannot be written, the disk is full ({os.strerror(error.errno or 0)}); "
            "finished shards are kept: free some space and run the same command with --resume"
        )
    if error.errno in _DENIED:
        return (
            f"{path}: cannot be written ({os.strerror(error.errno or 0)}); "
            "finished shards are kept: choose a directory you may write to with --out, "
            "or make this one writable and --resume"
        )
    reason = error.strerror or str(error).splitlines()[0]
    return f"{path}: {reason}; choose another directory with --out, or repair it and use --resume"


class _HashingFile:
    """A write-only binary file that hashes and counts what passes (pyarrow writes in sequence)."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw, self._hash, self.bytes = raw, hashlib.sha256(), 0
        self.closed = False

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._raw.write(view)
        self._hash.update(view)
        self.bytes += len(view)
        return len(view)

    def tell(self) -> int:
        return self.bytes

    def flush(self) -> None:
        self._raw.flush()

    def close(self) -> None:
        self.closed = True

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


def temp_path(path: Path) -> Path:
    """The temporary name this process uses for ``path`` (same directory, hidden)."""
    return path.with_name(f".{path.name}.{os.getpid()}{TEMP_SUFFIX}")


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Give a temporary name to write to; on success flush it and rename it to ``path``.

    For writers that insist on a file name (DuckDB, matplotlib). On an exception the temporary file
    is removed and ``path`` is left as it was. Raises :class:`StoreError`.
    """
    path = Path(path)
    temp = temp_path(path)
    with translate_errors(path):
        try:
            yield temp
            with temp.open("rb") as handle:
                os.fsync(handle.fileno())
            temp.replace(path)
            fsync_directory(path.parent)
        finally:
            with contextlib.suppress(OSError):
                temp.unlink()


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically. Raises :class:`StoreError`."""
    with atomic_path(path) as temp, temp.open("wb") as handle:
        handle.write(data)


def fsync_directory(path: Path) -> None:
    """Flush a directory entry to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path | str) -> tuple[str, int]:
    """(SHA-256 in hex, size in bytes) of a file; ``OSError`` if it cannot be read."""
    digest, size = hashlib.sha256(), 0
    with Path(path).open("rb") as handle:
        while block := handle.read(_CHUNK):
            digest.update(block)
            size += len(block)
    return digest.hexdigest(), size


def write_table(path: Path | str, columns: Mapping[str, np.ndarray] | pa.Table) -> Written:
    """Write a table to a Parquet file atomically (zstd level 1, no dictionaries).

    Parameters
    ----------
    path : path
        The directory must exist.
    columns : mapping of (rows,) arrays, or pyarrow.Table
        Arrays of one length; numbers, booleans or strings.

    Raises
    ------
    InputError
        Columns of different lengths or of more than one dimension.
    StoreError
        The file cannot be written (disk full, no permission).
    """
    return write_parts(path, [_as_table(columns)])


def write_parts(
    path: Path | str,
    parts: Iterable[Mapping[str, np.ndarray] | pa.Table],
    *,
    repeated: Sequence[str] = (),
) -> Written:
    """Write tables of the same columns, at least one, as one; else as :func:`write_table`.

    They are written as they come. Columns that are ``repeated`` have few different values, in runs:
    they get a dictionary, which is faster. Raises also what ``parts`` raises, and leaves no file
    then.
    """
    import pyarrow.parquet as pq

    options: dict[str, Any] = {"compression": "zstd", "compression_level": 1}
    options["use_dictionary"] = list(repeated) or False
    with atomic_path(path) as temp, temp.open("wb", buffering=_CHUNK) as raw:
        sink, rows = _HashingFile(raw), 0
        with contextlib.ExitStack() as stack:
            writer = None
            for table in map(_as_table, parts):
                if writer is None:
                    writer = stack.enter_context(pq.ParquetWriter(sink, table.schema, **options))
                writer.write_table(table)
                rows += table.num_rows
    return Written(sink.sha256, sink.bytes, rows)


def _as_table(columns: Mapping[str, np.ndarray] | pa.Table) -> pa.Table:
    import pyarrow as pa

    if isinstance(columns, pa.Table):
        return columns
    arrays = {name: np.asarray(values) for name, values in columns.items()}
    shapes = {name: values.shape for name, values in arrays.items()}
    if len(set(shapes.values())) > 1 or any(len(shape) != 1 for shape in shapes.values()):
        raise InputError(
            f"columns of shapes {shapes}",
            "one-dimensional columns of one length",
            "split matrices into one column each",
        )
    return pa.table({name: pa.array(values) for name, values in arrays.items()})


def read_table(path: Path | str, columns: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Read a Parquet file as (rows,) arrays by column name.

    Raises :class:`StoreError` naming the file when it is missing, truncated or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = None if columns is None else list(columns)
    try:
        with pq.ParquetFile(Path(path)) as file:
            table = file.read(columns=wanted)
    except (OSError, pa.ArrowException) as error:
        raise StoreError(
            f"{path}: not a readable Parquet file ({str(error).splitlines()[0]}); "
            "recompute it with --resume"
        ) from error
    missing = [name for name in wanted or () if name not in table.column_names]
    if missing:
        raise StoreError(
            f"{path}: no column {missing[0]!r} (it has {', '.join(table.column_names)}); "
            "the file was written by another command"
        )
    return {name: table.column(name).to_numpy() for name in table.column_names}


SCHEMA_VERSION = 2
UNPROTECTED = 1
"""The last schema version without checksums."""
STATUSES = ("running", "interrupted", "complete")
CHECKSUM = "checksum"
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_KINDS: Mapping[str, type] = {
    "command": str,
    "config": dict,
    "options": dict,
    "conventions": dict,
    "versions": dict,
    "files": dict,
    "shards": dict,
    "results": dict,
    "status": str,
}
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


_FORMULA = ("=", "+", "-", "@", "\t", "\n")
"""What a spreadsheet takes for the start of a formula."""


def csv_text(frame: pd.DataFrame) -> str:
    """A table as CSV with every digit, without its index.

    Texts and headings that a spreadsheet would run as a formula get a ``'`` before them; numbers
    stay as they are, also as texts.
    """
    import pandas as pd

    columns: dict[int, Any] = {}
    for i, dtype in enumerate(frame.dtypes):
        column = frame.iloc[:, i]
        plain = pd.api.types.is_numeric_dtype(dtype)
        columns[i] = column if plain else [quoted(value) for value in column.tolist()]
    safe = pd.DataFrame(columns, index=frame.index)
    safe.columns = pd.Index([quoted(name) for name in frame.columns], dtype=object)
    return str(safe.to_csv(index=False))


def quoted(value: Any) -> Any:
    """A cell: a text that would start a formula with a ``'`` before it; lines end in a newline."""
    if not isinstance(value, str):
        return value
    value = value.replace("\r\n", "\n").replace("\r", "\n")  # a bare one would end the row
    if not value.lstrip(" ").startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
