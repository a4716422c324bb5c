"""One task of a sampling run: a range of hidden draws -> counts of the functions found there.

Everything here runs in a worker; a task's result depends on (job, range) only.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from simprior.activations import code_of
from simprior.boolean import _kernel
from simprior.boolean._plan import Plan, make_plan, make_scratch
from simprior.boolean._table import EXTRA, export, grow
from simprior.boolean.dnf import RandomDNF, sample_dnf_chunk
from simprior.boolean.symmetry import Symmetry, canonical, symmetries
from simprior.boolean.truthtable import n_words, pack
from simprior.boolean.unseen import singleton_dispersion
from simprior.network import Network
from simprior.rng import philox_key
from simprior.store import Written, write_table

STREAM = "networks"
_START_ENTRIES = 1 << 16


@dataclass(frozen=True)
class Job:
    """What determines the samples of a run, and where a worker puts its shards."""

    model: Network | RandomDNF
    samples: int
    seed: int
    heads: int = 1
    dtype: str = "float32"
    device: str = "cpu"
    keep_shift: int = 0
    pool: bool = False
    replicate: int = 0  # samples of a full task: pooled standard errors compare tasks
    shards: Path | None = None

    @property
    def iid(self) -> bool:
        """Whether the samples are independent (no hidden layers shared)."""
        return self.heads == 1 or isinstance(self.model, RandomDNF) or self.model.depth == 0

    @property
    def replicates(self) -> float:
        """Full tasks among the samples (a part counts as that), at least one."""
        return max(1.0, self.samples / self.replicate)

    @property
    def compiled(self) -> bool:
        """Whether the compiled kernel does the job (else torch does)."""
        builtin = isinstance(self.model, RandomDNF) or code_of(self.model) is not None
        return builtin and self.dtype == "float32" and self.device == "cpu"


@dataclass(frozen=True)
class Task:
    """Hidden draws ``first .. stop - 1`` of a job; ``samples`` of the run's samples."""

    index: int
    first: int
    stop: int
    samples: int

    @property
    def name(self) -> str:
        """Name of the shard."""
        return f"{self.index:06d}"

    @property
    def range(self) -> dict[str, int]:
        """Which draws it is of: its shard is registered with them."""
        return {"first": self.first, "stop": self.stop, "samples": self.samples}


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
class Result:
    """Result of a task: its tally, and its rows or the records of the files that hold them."""

    tally: Tally
    rows: Rows | None = None
    pooled: Rows | None = None
    written: Written | None = None
    pooled_written: Written | None = None


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


@lru_cache(maxsize=2)
def _prepared(network: Network, heads: int, keep_shift: int) -> tuple[Plan, Any]:
    plan = make_plan(network, heads, keep_shift)
    return plan, make_scratch(plan)


def count_range(job: Job, first: int, stop: int) -> Counter:
    """Count the functions of the hidden draws ``first .. stop - 1`` (at most 2^32 - 2 of them)."""
    counter = Counter(job.model.m, job.keep_shift)
    if isinstance(job.model, RandomDNF):
        _count_dnf(job, first, stop, counter)
    elif job.compiled:
        _count_compiled(job, first, stop, counter)
    else:
        from simprior.boolean._torch_engine import count_with_torch

        count_with_torch(job, first, stop, counter)
    return counter


def _count_compiled(job: Job, first: int, stop: int, counter: Counter) -> None:
    assert isinstance(job.model, Network)
    plan, (scratch, buffers) = _prepared(job.model, job.heads, job.keep_shift)
    key = np.uint64(philox_key(job.seed, STREAM))
    at = first
    while True:
        at, counter.used = _kernel.run_clusters(
            plan.arch, plan.consts, scratch, plan.heads_arch, buffers, at, stop, first, job.samples,
            key, counter.table, counter.used, counter.limit, counter.tally, counter.ones,
        )  # fmt: skip
        if at >= stop:
            return
        counter.grow()


def _count_dnf(job: Job, first: int, stop: int, counter: Counter) -> None:
    assert isinstance(job.model, RandomDNF)
    key = philox_key(job.seed, STREAM)
    for start in range(first, stop, 1 << 16):
        words = sample_dnf_chunk(job.model, key, start, min(start + (1 << 16), stop))
        count_words(words, 1, start - first, counter)


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


def run_task(job: Job, task: Task) -> Result:
    """Do ``task``; with ``job.shards`` set, write the rows there and return only the records."""
    rows, tally = count_range(job, task.first, task.stop).result(
        task.samples, task.stop - task.first, job.iid
    )
    pooled = pool_rows(rows, job, task.samples) if job.pool else None
    if job.shards is None:
        return Result(tally, rows, pooled)
    written = write_rows(job.shards / f"{task.name}.parquet", rows)
    pool_path = job.shards / f"pool-{task.name}.parquet"
    also = None if pooled is None else write_rows(pool_path, pooled)
    return Result(tally, written=written, pooled_written=also)


def symmetry_of(model: Network | RandomDNF) -> Symmetry:
    """Exact symmetries of the prior of ``model``; a DNF's law has all of them."""
    if isinstance(model, RandomDNF):
        why = "literals are drawn alike for every variable and sign; the global sign is fair"
        return Symmetry(True, True, True, (why,))
    return symmetries(model)


def pool_rows(rows: Rows, job: Job, samples: int) -> Rows:
    """Rows of symmetry classes by canonical form; the task of ``samples`` samples is the cluster.

    sumsq is count^2 (full task / this task): tasks differ in size, and the variance between them
    is that of count / sqrt(samples).
    """
    model = job.model
    canon, _ = canonical(rows.words, model.n, symmetry_of(model), model.m)
    order = np.lexsort(canon.T[::-1])
    canon = canon[order]
    new = np.ones(len(order), bool)
    new[1:] = (canon[1:] != canon[:-1]).any(axis=1)
    starts = np.flatnonzero(new)
    count = np.add.reduceat(rows.count[order], starts)
    squares = np.rint(count.astype(float) ** 2 * (job.replicate / samples)).astype(np.int64)
    ones = np.ones(len(starts), np.int64)
    return Rows(canon[starts], count, ones, np.maximum(squares, count))


def write_rows(path: Path, rows: Rows) -> Written:
    """Write rows as Parquet: one uint64 column a word (up to 16), else one binary column."""
    return write_table(path, {**key_columns(rows.words), **_counts(rows)})


def _counts(rows: Rows) -> dict[str, np.ndarray]:
    return {"count": rows.count, "clusters": rows.clusters, "sumsq": rows.sumsq}


MAX_WORD_COLUMNS = 16


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
