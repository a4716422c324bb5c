"""One task of a sampling run: a range of hidden draws -> counts of the functions found there.

Everything here runs in a worker; a task's result depends on (job, range) only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from simprior.boolean.sampling import kernel as _kernel
from simprior.boolean.sampling.dnf import RandomDNF, sample_dnf_chunk
from simprior.boolean.sampling.job import (
    STREAM,
    Job,
    Plan,
    Task,
    make_plan,
    make_scratch,
    symmetry_of,
)
from simprior.boolean.sampling.rows import (
    COUNT_COLUMNS,
    START_ENTRIES,
    Counter,
    Rows,
    Tally,
    count_words,
    row_columns,
)
from simprior.boolean.symmetry import canonical
from simprior.modules.spec import Module
from simprior.network.spec import Network
from simprior.numerics.random import philox_key
from simprior.runs.sharded import Shard, Work
from simprior.runs.threads import per_thread


@dataclass
class Counted:
    """Result of a task: its tally, its rows, and those of the classes if these are pooled."""

    tally: Tally
    rows: Rows
    pooled: Rows | None = None


@per_thread(maxsize=2)
def _prepared(network: Network, heads: int, keep_shift: int) -> tuple[Plan, Any]:
    plan = make_plan(network, heads, keep_shift)
    return plan, make_scratch(plan)


def count_range(job: Job, first: int, stop: int, entries: int = START_ENTRIES) -> Counter:
    """Count the functions of the hidden draws ``first .. stop - 1`` (at most 2^32 - 2 of them).

    ``entries`` is the room of its table at the start.
    """
    counter = Counter(
        job.model.m, job.keep_shift, job.folded, measuring=job.measuring(), entries=entries
    )
    if isinstance(job.model, RandomDNF):
        _count_dnf(job, first, stop, counter)
    elif isinstance(job.model, Module):
        from simprior.boolean.sampling.module_engine import count_modules  # torch is heavy

        count_modules(job, first, stop, counter)
    elif job.compiled:
        _count_compiled(job, first, stop, counter)
    else:
        from simprior.boolean.sampling.torch_engine import count_with_torch  # torch is heavy

        count_with_torch(job, first, stop, counter)
    return counter


def _count_compiled(job: Job, first: int, stop: int, counter: Counter) -> None:
    assert isinstance(job.model, Network)
    drawn = job.output_layers
    plan, (scratch, buffers) = _prepared(job.model, drawn, job.keep_shift)
    key = np.uint64(philox_key(job.seed, STREAM))
    mirror = _kernel.PLAIN if not job.mirror else _kernel.FOLD if job.folded else _kernel.BOTH
    at = first
    while True:
        at, counter.used = _kernel.count_draws(
            plan.arch,
            plan.consts,
            scratch,
            plan.heads_arch,
            buffers,
            at,
            stop,
            first,
            job.samples // 2 if job.mirror else job.samples,
            key,
            mirror,
            counter.table,
            counter.used,
            counter.limit,
            counter.tally,
            counter.ones,
        )
        if at >= stop:
            break
        counter.grow()
    if counter.measuring is not None and first < job.complexity:
        from simprior.boolean.sampling.functions import compiled_functions

        made = drawn if job.iid else counter.measuring.sums.heads
        for number, words in compiled_functions(job, first, min(stop, job.complexity), made):
            wanted = words[: job.samples - number * job.heads] if job.iid else words
            counter.measuring.add(number, wanted, made)


def _count_dnf(job: Job, first: int, stop: int, counter: Counter) -> None:
    assert isinstance(job.model, RandomDNF)
    key = philox_key(job.seed, STREAM)
    for start in range(first, stop, 1 << 16):
        words = sample_dnf_chunk(job.model, key, start, min(start + (1 << 16), stop))
        count_words(words, 1, start - first, counter)
        if counter.measuring is not None:
            counter.measuring.add(start, words)


@dataclass(frozen=True)
class Counting(Work[Task, Counted]):
    """The work of a sampling run: shards ``NAME`` of the rows and ``pool-NAME`` of the classes."""

    job: Job

    def in_threads(self) -> bool:
        """Compiled samplers run in threads; what torch does holds Python's lock too long."""
        return self.job.compiled

    def compute(self, piece: Task) -> Counted:
        """Counts of the hidden draws of a task."""
        counter = count_range(self.job, piece.first, piece.stop)
        rows, tally = counter.result(piece.samples, piece.stop - piece.first, self.job.iid)
        pooled = pool_rows(rows, self.job, piece.samples) if self.job.pool else None
        return Counted(tally, rows, pooled)

    def names(self, piece: Task) -> tuple[str, ...]:
        """One shard, or two if classes are pooled."""
        return (piece.name, f"pool-{piece.name}")[: 2 if self.job.pool else 1]

    def shards(self, piece: Task, result: Counted) -> list[Shard]:
        """The rows with the tally; the classes before them."""
        meta = result.tally.to_meta()
        main = Shard(piece.name, row_columns(result.rows), meta, COUNT_COLUMNS)
        if result.pooled is None:
            return [main]
        pooled = row_columns(result.pooled)
        return [Shard(f"pool-{piece.name}", pooled, repeated=COUNT_COLUMNS), main]


def pool_rows(rows: Rows, job: Job, samples: int) -> Rows:
    """Rows of symmetry classes by canonical form; the task of ``samples`` samples is the cluster.

    Of a folded job ``rows`` has one function of each pair of complements, which are of one class.
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
    count = np.add.reduceat(rows.count[order], starts) * (2 if job.folded else 1)
    squares = np.rint(count.astype(float) ** 2 * (job.replicate / samples)).astype(np.int64)
    ones = np.ones(len(starts), np.int64)
    return Rows(canon[starts], count, ones, np.maximum(squares, count))
