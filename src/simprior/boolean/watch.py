"""Watch mode: P(f) of given functions and P(t), the last bias integrated out; constant memory.

Plain counting estimates a rare function from its few hits. Given everything but the last bias, its
probability is known exactly (see ``_watch_kernel``); averaging that conditional probability is
unbiased and has a far smaller variance (conditional Monte Carlo: Rao-Blackwell). Standard errors
are by hidden draw.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from simprior.activations import COMPILED, code_of
from simprior.boolean._bitperm import reverse64
from simprior.boolean._plan import make_plan, make_scratch
from simprior.boolean._watch_kernel import fill_slots, watch_block
from simprior.boolean.complexity import ones_packed
from simprior.boolean.inputs import bit_matrix
from simprior.boolean.job import STREAM, Job, Task, symmetry_of
from simprior.boolean.prepare import make_job
from simprior.boolean.symmetry import Symmetry, canonical
from simprior.boolean.truthtable import pack, parse_functions, to_hex, unpack
from simprior.boolean.watch_result import TRUSTED_DRAWS, WatchResult
from simprior.checks import RUN_OPTIONS, Switch, checked, shown
from simprior.engine import Progress, RunOptions
from simprior.errors import InputError
from simprior.estimate import share_stderr
from simprior.network import Network
from simprior.rng import philox_key
from simprior.sharded import Shard, Work, open_run, run_sharded
from simprior.store import RunDir, write_table
from simprior.store_csv import csv_text

BLOCK_DRAWS = 1024  # hidden draws summed in one fixed order; the unit of reproducible addition
DEFAULT_HEADS = 16
ROUNDING = 1e-12  # variance between hidden draws, relative to their squares, that is none
MAX_MEMBERS = 5_000_000
SAID = 10  # pairs of functions of one class that are named
COST = "some 7 times"  # at n = 7 (docs/benchmarks.md): the sort and 128 error functions a head
_logger = logging.getLogger("simprior")
_FIELDS = ("sums", "squares", "ones_sums", "ones_squares")
Sums = dict[str, np.ndarray]


@dataclass(frozen=True)
class WatchJob:
    """What determines the result of a watch run."""

    job: Job
    targets: np.ndarray  # (M, W) packed, every member of every class
    group: np.ndarray  # (M,) class of each
    classes: int
    row: np.ndarray  # (F,) class of each function given

    @property
    def sizes(self) -> dict[str, int]:
        """Numbers that are summed, by field: one a class, or one a number of ones."""
        ones = self.job.model.m + 1
        return dict(zip(_FIELDS, (self.classes, self.classes, ones, ones), strict=True))


@checked(**RUN_OPTIONS, pool=Switch())
def watch(
    network: Network,
    functions: Any,
    samples: int | float = 10**6,
    seed: int = 0,
    workers: int = 1,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    heads: int | str = "auto",
    pool: bool = False,
    executor: str = "local",
    executor_options: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> WatchResult:
    """Estimate P(f) of ``functions`` and P(t) from ``samples`` networks, last bias integrated out.

    ``pool=True`` averages over all functions of the symmetry class of each watched one; functions
    of one class share one estimate (a log line says so). Without a last bias (sigma_b = 0 there)
    the conditional probabilities are 0 or 1 and nothing is gained: that is said before the run, and
    so is that a network takes several times as long as in counting.
    Other parameters as in :func:`simprior.boolean.sampling.sample`; memory does not grow with
    ``samples``.

    Raises
    ------
    InputError, StoreError, Interrupted
    """
    if not isinstance(network, Network) or code_of(network) is None:
        raise InputError(
            f"watch with {shown(getattr(network, 'activation', type(network).__name__))}",
            f"a Network with one of the activations {', '.join(COMPILED)}",
            "sample without watch and look the functions up in the counts",
        )
    job = make_job(
        network,
        samples,
        seed,
        DEFAULT_HEADS if isinstance(heads, str) and heads == "auto" else heads,
    )
    words = pack(parse_functions(functions, network.m, network.n if network.inputs is None else 0))
    work = _expand(job, words, pool)
    _say_cost(network)
    options = RunOptions.of(locals())
    if out is None:
        return _run(work, words, options, None)
    config = {
        "network": {k: v for k, v in network.to_dict().items() if v is not None},
        "samples": job.samples,
        "seed": job.seed,
        "heads": job.heads,
        "pool": pool,
        "watch": to_hex(words, network.m),
    }
    with open_run(options, "sample", config) as store:
        if store.finished("watch.parquet", "ones.parquet", shards=True):
            return WatchResult.load(store.path)
        result = _run(work, words, options, store)
        _write(store, result)
        return result


def _say_cost(network: Network) -> None:
    """What watching costs and gains, before the work."""
    if network.sigma_bs[-1] == 0:
        _logger.warning(
            "watch with sigma_b=0 in the last layer: no bias to integrate out, so the errors are "
            "those of counting (sample without --watch counts all functions at that cost)"
        )
    else:
        _logger.info(
            "watch: a network takes %s the time of one in counting; worth it for functions whose "
            "variance_reduction in the result is larger", COST,
        )  # fmt: skip


def _write(store: RunDir, result: WatchResult) -> None:
    frames = {"watch": result.to_frame(), "ones": result.ones_frame()}
    for name, frame in frames.items():
        columns = {c: frame[c].to_numpy() for c in frame if c != "function"}
        if "function" in frame:
            columns = {"function": frame["function"].to_numpy(object), **columns}
        write_table(store.path / f"{name}.parquet", columns)
        store.add_file(f"{name}.parquet", rows=len(frame))
        store.write_file(f"tables/{name}.csv", csv_text(frame))
    store.finish({"watch": result.summary(), "m": result.m})


def _expand(job: Job, words: np.ndarray, pool: bool) -> WatchJob:
    """The functions to look up: those given, or all members of their classes, each class once."""
    m = job.model.m
    _check_distinct(words, m)
    if not pool:
        every = np.arange(len(words))
        return WatchJob(job, words, every, len(words), every)
    assert isinstance(job.model, Network)
    symmetry, n = symmetry_of(job.model), job.model.n
    if symmetry.permute and n > 8:
        raise InputError(f"pool with n={n}", "n <= 8 for watched classes", "watch without pool")
    forms, sizes = canonical(words, n, symmetry, None if symmetry.permute else m)
    _, first, row = np.unique(forms, axis=0, return_index=True, return_inverse=True)
    row = row.reshape(-1)
    _check_members(words, m, sizes, first)
    for i in np.flatnonzero(first[row] != np.arange(len(words)))[:SAID]:
        names = to_hex(words[[first[row[i]], i]], m)
        _logger.info("%s and %s are of one class: one estimate for both", *names)
    parts = [orbit_members(words[i], n, symmetry, m) for i in first]
    group = np.repeat(np.arange(len(parts)), [len(p) for p in parts])
    return WatchJob(job, np.concatenate(parts), group, len(parts), row)


def _check_distinct(words: np.ndarray, m: int) -> None:
    _, first, row = np.unique(words, axis=0, return_index=True, return_inverse=True)
    repeats = np.flatnonzero(first[row.reshape(-1)] != np.arange(len(words)))
    if len(repeats):
        one = int(repeats[0])
        raise InputError(
            f"watch of {len(words)} functions",
            f"distinct functions (numbers {first[row.reshape(-1)[one]] + 1} and {one + 1} are both "
            f"{to_hex(words[[one]], m)[0]})",
            "remove the repeats",
        )


def _check_members(words: np.ndarray, m: int, sizes: np.ndarray, first: np.ndarray) -> None:
    """Refuse more members than fit, before they are listed."""
    total, largest = int(sizes[first].sum()), first[np.argmax(sizes[first])]
    if total > MAX_MEMBERS:
        raise InputError(
            f"watch of {len(words)} functions whose classes have {total:,} members",
            f"at most {MAX_MEMBERS:,} (the class of {to_hex(words[[largest]], m)[0]} alone has "
            f"{int(sizes[largest]):,})",
            "watch fewer functions, or without pool",
        )


def orbit_members(word: np.ndarray, n: int, symmetry: Symmetry, m: int) -> np.ndarray:
    """All distinct functions of the class of one packed function: (orbit, W)."""
    table = unpack(word[None], m)[0]
    tables = table[None]
    if symmetry.permute:
        place = 1 << np.arange(n - 1, -1, -1)
        bits = bit_matrix(n).astype(np.int64)
        index = np.array([bits[:, list(p)] @ place for p in permutations(range(n))])
        tables = table[index]
    packed = np.unique(pack(tables), axis=0)
    if symmetry.flip:
        tables, at = unpack(packed, m), np.arange(m)
        packed = np.unique(
            np.concatenate([pack(tables[:, at ^ mask]) for mask in range(m)]), axis=0
        )
    if symmetry.negate:
        packed = np.unique(np.concatenate([packed, pack(1 - unpack(packed, m))]), axis=0)
    return packed


@lru_cache(maxsize=1)
def _prepared(network: Network, heads: int) -> tuple[Any, Any]:
    plan = make_plan(network, heads)
    return plan, make_scratch(plan)


def run_watch_task(work: WatchJob, task: Task) -> Sums:
    """Sums of the blocks of ``task``: one row a block of ``BLOCK_DRAWS`` hidden draws."""
    network, job = work.job.model, work.job
    assert isinstance(network, Network)
    plan, (scratch, buffers) = _prepared(network, job.heads)
    slots = np.full(1 << max(4, (2 * len(work.targets)).bit_length()), -1, np.int64)
    targets = _lane_order(work.targets)
    fill_slots(slots, targets)
    watched_t = np.zeros(network.m + 1, np.bool_)
    watched_t[np.asarray(ones_packed(work.targets, network.m), np.int64)] = True
    blocks = range(task.first, task.stop, BLOCK_DRAWS)
    out = {field: np.zeros((len(blocks), size)) for field, size in work.sizes.items()}
    key = np.uint64(philox_key(job.seed, STREAM))
    for row, first in enumerate(blocks):
        watch_block(
            plan.arch, plan.consts, scratch, plan.heads_arch, buffers, network.sigma_bs[-1], first,
            min(first + BLOCK_DRAWS, task.stop), job.samples, key, slots, targets, work.group,
            watched_t, work.classes, *(out[k][row] for k in _FIELDS),
        )  # fmt: skip
    return out


def _lane_order(words: np.ndarray) -> np.ndarray:
    return np.array([[reverse64(x) for x in row] for row in words], np.uint64).reshape(words.shape)


def _tasks(job: Job) -> list[Task]:
    """Tasks of whole blocks, some 1e6 heads each."""
    total = -(-job.samples // job.heads)
    draws = max(1, (1 << 20) // (job.heads * BLOCK_DRAWS)) * BLOCK_DRAWS
    return [
        Task(i, a, min(a + draws, total), min((a + draws) * job.heads, job.samples) - a * job.heads)
        for i, a in enumerate(range(0, total, draws))
    ]


@dataclass(frozen=True)
class Watching(Work[Task, "Sums"]):
    """The work of a watch run: a shard a task, a column a class (or number of ones)."""

    watched: WatchJob

    def compute(self, piece: Task) -> Sums:
        """Sums of the blocks of a task."""
        return run_watch_task(self.watched, piece)

    def shards(self, piece: Task, result: Sums) -> list[Shard]:
        """One shard of all sums."""
        flat = {
            f"{field}{i}": result[field][:, i].copy()
            for field in _FIELDS
            for i in range(result[field].shape[1])
        }
        return [Shard(piece.name, flat)]

    def read(self, store: RunDir, piece: Task) -> Sums:
        """The sums of a shard."""
        flat = store.read_shard(piece.name)
        return {
            field: np.stack([flat[f"{field}{i}"] for i in range(size)], axis=1)
            for field, size in self.watched.sizes.items()
        }


def _run(
    work: WatchJob, words: np.ndarray, options: RunOptions, store: RunDir | None
) -> WatchResult:
    return _result(work, words, run_sharded(Watching(work), _tasks(work.job), options, store))


def _result(work: WatchJob, words: np.ndarray, parts: Sequence[Sums]) -> WatchResult:
    totals = {k: _sum([p[k] for p in parts]) for k in _FIELDS}
    job = work.job
    draws = -(-job.samples // job.heads)
    members = np.bincount(work.group, minlength=work.classes).astype(float)[work.row]
    p, error = (x[work.row] for x in _mean(totals["sums"], totals["squares"], job.samples, draws))
    ones_p, ones_error = _mean(totals["ones_sums"], totals["ones_squares"], job.samples, draws)
    result = WatchResult(
        job.model.m, words, members, p / members, error / members, ones_p, ones_error,
        job.samples, draws, info={"model": job.model},
    )  # fmt: skip
    few = int((result.effective_draws < TRUSTED_DRAWS).sum())
    if few:
        _logger.warning(
            "watch: %d of %d functions rest on fewer than %d effective hidden draws; their "
            "intervals may be too short, for draws with much of P(f) may not have been met: "
            "raise --samples or lower --heads", few, len(words), TRUSTED_DRAWS,
        )  # fmt: skip
    return result


def _sum(parts: list[np.ndarray]) -> np.ndarray:
    """Sum of all block rows, one after the other: the same whatever the tasks were."""
    total: np.ndarray = np.cumsum(np.concatenate(parts), axis=0)[-1]
    return total


def _mean(
    sums: np.ndarray, squares: np.ndarray, samples: int, draws: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean a sample and its standard error from sums over hidden draws.

    Where all hidden draws agree (none met it, or all did) others may not have been met: the error
    is that of a share of draws without a hit (:func:`simprior.estimate.share_stderr`).
    """
    if draws < 2:
        return sums / samples, np.full_like(sums, np.inf)
    between = np.maximum(squares - sums * sums / draws, 0.0) * draws / (draws - 1)
    flat = between <= ROUNDING * squares
    error = np.where(flat, share_stderr(0.0, draws), np.sqrt(between) / samples)
    return sums / samples, error
