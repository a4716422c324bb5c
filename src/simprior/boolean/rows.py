"""Counted functions: rows of a table, the tallies beside them, the hash table that makes them, and
the columns that hold them in a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from simprior.boolean import _kernel
from simprior.boolean._table import EXTRA, export, grow
from simprior.boolean.truthtable import n_words, pack
from simprior.boolean.unseen import singleton_dispersion
from simprior.store import Written, write_table

_START_ENTRIES = 1 << 16
MAX_WORD_COLUMNS = 16


@dataclass
class Rows:
    """Counted functions: (F, W) packed words and three (F,) columns."""

    words: np.ndarray
    count: np.ndarray
    clusters: np.ndarray
    sumsq: np.ndarray


@dataclass
class Tally:
    """What a task reports besides its rows: totals by number of ones, and the two constants.

    ``ones`` is (m + 1, 2): count and sum over clusters of squared counts, by number of ones t (rows
    0 and m are the constants, kept out of the hash table). ``constants`` is (2,): number of
    clusters that gave constant 0 and constant 1. ``dispersion`` is the index of dispersion of the
    number of singletons a cluster (see ``unseen.singleton_dispersion``).
    """

    samples: int
    ones: np.ndarray
    constants: np.ndarray
    dispersion: float = 1.0

    def to_meta(self) -> dict[str, Any]:
        """Plain values for the shard's manifest entry."""
        used = np.flatnonzero(self.ones[:, 0])
        return {
            "samples": self.samples,
            "t": used.tolist(),
            "count": self.ones[used, 0].tolist(),
            "sumsq": self.ones[used, 1].tolist(),
            "constants": self.constants.tolist(),
            "dispersion": self.dispersion,
        }

    @classmethod
    def from_meta(cls, meta: dict[str, Any], m: int) -> Tally:
        """Inverse of :meth:`to_meta`."""
        ones = np.zeros((m + 1, 2), np.int64)
        ones[meta["t"], 0], ones[meta["t"], 1] = meta["count"], meta["sumsq"]
        return cls(meta["samples"], ones, np.array(meta["constants"], np.int64), meta["dispersion"])


@dataclass
class Counter:
    """Hash table of a task with the tallies that go along with it."""

    m: int
    keep_shift: int
    table: np.ndarray = field(init=False)
    used: int = 0
    tally: np.ndarray = field(init=False)
    ones: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.table = np.zeros((_START_ENTRIES, n_words(self.m) + EXTRA), np.uint64)
        self.tally, self.ones = np.zeros((2, 4), np.int64), np.zeros((self.m + 1, 4), np.int64)

    @property
    def limit(self) -> int:
        """Entries beyond which the table must grow."""
        return int(self.table.shape[0] // 2)

    def grow(self) -> None:
        """Double the table."""
        new = np.zeros((2 * self.table.shape[0], self.table.shape[1]), np.uint64)
        grow(self.table, new)
        self.table = new

    def result(self, samples: int, draws: int, iid: bool) -> tuple[Rows, Tally]:
        """Rows (constants included) and tally of ``samples`` counted in ``draws`` clusters."""
        words, count, clusters, sumsq, last = export(self.table, self.used)
        dispersion = 1.0
        if not iid:
            single = clusters == 1
            per_cluster = np.bincount(last[single], count[single], minlength=draws)
            dispersion = singleton_dispersion(per_cluster)
        ones = self.ones[:, :2].copy()
        full = pack(np.array([[0] * self.m, [1] * self.m], np.uint8))
        ones[0], ones[self.m] = self.tally[0, [0, 2]], self.tally[1, [0, 2]]
        seen = self.tally[:, 0] > 0
        rows = Rows(
            np.concatenate([full[seen], words]),
            np.concatenate([self.tally[seen, 0], count]),
            np.concatenate([self.tally[seen, 1], clusters]),
            np.concatenate([self.tally[seen, 2], sumsq]),
        )
        return rows, Tally(samples, ones, self.tally[:, 1].copy(), dispersion)


def count_words(words: np.ndarray, heads: int, first_cluster: int, counter: Counter) -> None:
    """Count (F, W) packed functions, ``heads`` consecutive ones a cluster (1: independent)."""
    m = counter.m
    tail = np.uint64((1 << (m - 64 * (words.shape[1] - 1))) - 1)
    while counter.used + len(words) > counter.limit:
        counter.grow()
    counter.used += _kernel.count_many(
        words, heads, m, tail, first_cluster, counter.keep_shift, counter.table, counter.tally,
        counter.ones,
    )  # fmt: skip


def write_rows(path: Path, rows: Rows) -> Written:
    """Write rows as Parquet, see :func:`row_columns`."""
    return write_table(path, row_columns(rows))


def row_columns(rows: Rows) -> dict[str, Any]:
    """Columns of a table of rows: those of :func:`key_columns`, then the three numbers."""
    numbers = {"count": rows.count, "clusters": rows.clusters, "sumsq": rows.sumsq}
    return {**key_columns(rows.words), **numbers}


def key_columns(words: np.ndarray) -> dict[str, Any]:
    """Columns that hold the packed functions: w0, w1, ... or ``table`` (big-endian bytes)."""
    if words.shape[1] <= MAX_WORD_COLUMNS:
        return {f"w{i}": np.ascontiguousarray(words[:, i]) for i in range(words.shape[1])}
    import pyarrow as pa

    octets = np.ascontiguousarray(words.astype(">u8")).view(np.uint8)
    width = octets.shape[1] if octets.ndim == 2 else 8 * words.shape[1]
    return {"table": pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(width), len(words), [None, pa.py_buffer(octets.tobytes())]
    )}  # fmt: skip


def words_from_columns(columns: dict[str, Any], m: int) -> np.ndarray:
    """Inverse of :func:`key_columns`."""
    if "table" not in columns:
        return np.stack([columns[f"w{i}"] for i in range(n_words(m))], axis=1).astype(np.uint64)
    joined = b"".join(columns["table"].tolist())
    return np.frombuffer(joined, ">u8").reshape(-1, n_words(m)).astype(np.uint64)
