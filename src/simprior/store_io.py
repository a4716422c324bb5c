"""Files that are either whole or absent: atomic writes, hashes, Parquet tables.

Every file is written to a temporary name in its own directory, flushed to the disk, renamed, and
the directory flushed; a crash at any moment leaves the old file or the new one, never a part.
Errors of the operating system become one-line :class:`~simprior.errors.StoreError`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from simprior.errors import InputError, StoreError

if TYPE_CHECKING:
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
    import pyarrow.parquet as pq

    table = _as_table(columns)
    with atomic_path(path) as temp, temp.open("wb", buffering=_CHUNK) as raw:
        sink = _HashingFile(raw)
        pq.write_table(table, sink, compression="zstd", compression_level=1, use_dictionary=False)
    return Written(sink.sha256, sink.bytes, table.num_rows)


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
