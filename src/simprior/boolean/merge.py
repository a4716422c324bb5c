"""Adding up counts of functions: in memory (hash table), or out of core (DuckDB over Parquet)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from simprior.boolean._table import EXTRA, absorb, compact, regrow, sort_ties
from simprior.boolean.rows import Rows, write_rows
from simprior.boolean.truthtable import n_words
from simprior.engine import available_cores
from simprior.errors import StoreError
from simprior.store_wipe import SPILL

_RADIX = 65535
_COUNTS = ("count", "clusters", "sumsq")
_THREAD_MEMORY = 2**28  # DuckDB fails, rather than spill more, with less a thread
_ENTRY_OVERHEAD = 6  # table at half load, the read rows and the sort


@dataclass(frozen=True)
class Profile:
    """The distinct (count, clusters, sumsq) of a table and how many functions share each.

    Every statistic of a run that does not name functions is computed from it. Four (G,) int64
    arrays, sorted by descending count.
    """

    count: np.ndarray
    clusters: np.ndarray
    sumsq: np.ndarray
    multiplicity: np.ndarray

    @property
    def functions(self) -> int:
        """Number of functions in the table."""
        return int(self.multiplicity.sum())

    @classmethod
    def of(cls, count: np.ndarray, clusters: np.ndarray, sumsq: np.ndarray) -> Profile:
        """Profile of three (F,) columns."""
        order = np.lexsort((sumsq, clusters, -count))
        k, c, q = count[order], clusters[order], sumsq[order]
        new = np.ones(len(k), bool)
        new[1:] = (k[1:] != k[:-1]) | (c[1:] != c[:-1]) | (q[1:] != q[:-1])
        starts = np.flatnonzero(new)
        return cls(k[starts], c[starts], q[starts], np.diff(np.append(starts, len(k))))


class Merger:
    """Adds rows of many tasks in one hash table; the result does not depend on their order."""

    def __init__(self, m: int) -> None:
        self._table = np.zeros((1 << 12, n_words(m) + EXTRA), np.uint64)
        self._used = 0

    def add(self, rows: Rows) -> None:
        """Add the counts of ``rows``."""
        at = 0
        while at < len(rows.words):
            at, self._used = absorb(
                self._table, self._used, rows.words, rows.count, rows.clusters, rows.sumsq, at
            )
            if at < len(rows.words):
                factor = 4 if self._table.shape[0] < 1 << 22 else 2
                new = np.zeros((factor * self._table.shape[0], self._table.shape[1]), np.uint64)
                regrow(self._table, new)
                self._table = new

    def rows(self) -> Rows:
        """Everything added so far, by descending count, then ascending table."""
        words, numbers = compact(self._table, self._used)
        order = row_order(words, numbers[0])
        count, clusters, sumsq = (np.ascontiguousarray(column[order]) for column in numbers)
        return Rows(words[order], count, clusters, sumsq)


def row_order(words: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Order of the rows by descending count, then ascending words (all rows distinct): (F,) int64.

    As ``np.lexsort``, several times faster: one unstable sort by the first word, ties mended,
    then a radix sort by count (counts of 65,535 and more are few and sorted apart).
    """
    order = np.argsort(words[:, 0])
    sort_ties(np.ascontiguousarray(words), order)
    ranked = count[order]
    often = ranked >= _RADIX
    head = np.flatnonzero(often)
    head = head[np.argsort(-ranked[head], kind="stable")]
    rest = np.flatnonzero(~often)
    rest = rest[np.argsort((_RADIX - ranked[rest]).astype(np.uint16), kind="stable")]
    found: np.ndarray = order[np.concatenate([head, rest])]
    return found


def merge_shards(paths: list[Path], out: Path, m: int, memory: int) -> Profile:
    """Add up shards into ``out``, sorted by descending count, then ascending table.

    In memory if the rows fit into ``memory`` bytes, otherwise out of core by DuckDB; the file holds
    the same rows either way. Returns the profile of the merged table.
    """
    import pyarrow.parquet as pq

    rows = sum(pq.read_metadata(path).num_rows for path in paths)
    if rows * 8 * (n_words(m) + EXTRA) * _ENTRY_OVERHEAD <= memory:
        return merge_in_memory(paths, out, m)
    return merge_out_of_core(paths, out, m, memory)


def merge_in_memory(paths: list[Path], out: Path, m: int) -> Profile:
    """Hash-table merge of the shards ``paths`` into ``out``."""
    merger = Merger(m)
    for path in paths:
        merger.add(read_rows(path, m))
    rows = merger.rows()
    write_rows(out, rows)
    return Profile.of(rows.count, rows.clusters, rows.sumsq)


def read_rows(path: Path, m: int, top: int | None = None) -> Rows:
    """Rows of a table written by ``rows.write_rows``; the first ``top`` of them if given."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if top is None:
            table = pq.read_table(path)
        else:
            batches, have = [], 0
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=min(max(top, 1024), 1 << 20)):
                    batches.append(batch)
                    have += batch.num_rows
                    if have >= top:
                        break
                table = pa.Table.from_batches(batches, file.schema_arrow).slice(0, top)
        if "table" in table.column_names:
            octets = b"".join(table["table"].to_pylist())
            words = np.frombuffer(octets, ">u8").reshape(-1, n_words(m)).astype(np.uint64)
        else:
            words = np.stack([table[f"w{i}"].to_numpy() for i in range(n_words(m))], axis=1)
        k, c, q = (table[name].to_numpy().astype(np.int64) for name in _COUNTS)
    except (pa.ArrowException, OSError, LookupError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise StoreError(
            f"{path}: not a readable table ({reason}); run again with --resume"
        ) from None
    return Rows(np.ascontiguousarray(words, np.uint64), k, c, q)


def merge_out_of_core(paths: list[Path], out: Path, m: int, memory: int) -> Profile:
    """DuckDB merge of the shards within ``memory`` bytes (256 MiB at least), spilling next to
    ``out``."""
    import duckdb

    from simprior.store_io import atomic_path, translate_errors

    keys = ["table"] if n_words(m) > 16 else [f"w{i}" for i in range(n_words(m))]
    key_list = ", ".join(f'"{k}"' for k in keys)
    sums = ", ".join(f"sum({name})::BIGINT AS {name}" for name in _COUNTS)
    with translate_errors(out), atomic_path(out) as temporary:
        connection = duckdb.connect(config={
            "memory_limit": f"{max(memory, _THREAD_MEMORY) // 2**20}MiB",
            "temp_directory": str(out.parent / SPILL),
            "preserve_insertion_order": "false",
            "threads": max(1, min(available_cores(), memory // _THREAD_MEMORY)),
        })  # fmt: skip
        try:
            names = ", ".join(_quoted(path) for path in paths)
            connection.execute(
                f"COPY (SELECT {key_list}, {sums} FROM read_parquet([{names}]) GROUP BY {key_list} "
                f"ORDER BY count DESC, {key_list}) TO {_quoted(temporary)} "
                "(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)"
            )
            found = profile_query(connection, temporary)
        except duckdb.Error as error:
            reason = " ".join(str(error).split())[:200]
            raise StoreError(
                f"{out}: the merge failed ({reason}); free disk or raise --memory, then --resume"
            ) from None
        finally:
            connection.close()
    return found


def profile_of_file(path: Path) -> Profile:
    """Profile of a merged table, without loading it."""
    import duckdb

    connection = duckdb.connect()
    try:
        return profile_query(connection, path)
    except duckdb.Error as error:
        reason = " ".join(str(error).split())[:200]
        raise StoreError(f"{path}: not a readable table ({reason}); run again") from None
    finally:
        connection.close()


def profile_query(connection: object, path: Path) -> Profile:
    """Profile of the Parquet table at ``path`` on an open DuckDB connection."""
    found = connection.execute(  # type: ignore[attr-defined]
        "SELECT count, clusters, sumsq, count(*) AS multiplicity "
        f"FROM read_parquet({_quoted(path)}) GROUP BY ALL ORDER BY count DESC, clusters, sumsq"
    ).fetchnumpy()
    return Profile(*(np.asarray(found[k], np.int64) for k in (*_COUNTS, "multiplicity")))


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
