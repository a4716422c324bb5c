"""Function frequencies of random networks: P(f) by sampling.

:func:`sample` draws networks from the prior, counts the functions they compute and returns
:class:`~simprior.boolean.sampling.counts.FunctionCounts`. The samples are split into tasks (ranges
of hidden draws); every random number is a function of (seed, hidden draw, position), so the result
is bit for bit the same whatever the number of workers, the split, the order, or an interruption.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack, cast, overload

import numpy as np

from simprior.boolean.sampling.counts import (
    COMPLEXITY,
    COUNTS,
    POOLED,
    FunctionCounts,
    write_complexity,
)
from simprior.boolean.sampling.dnf import RandomDNF
from simprior.boolean.sampling.job import Job, Task
from simprior.boolean.sampling.merging import Merger, merge_shards
from simprior.boolean.sampling.prepare import (
    check_memory,
    job_config,
    keep_shift,
    make_job,
    work_of_sample,
)
from simprior.boolean.sampling.rows import Profile, Rows, Tally
from simprior.boolean.sampling.table import EXTRA
from simprior.boolean.sampling.tasks import Counted, Counting
from simprior.boolean.sampling.watch import WatchResult
from simprior.boolean.sampling.watch import watch as watch_functions
from simprior.boolean.truthtable import n_words
from simprior.checks import RUN_OPTIONS, Maybe, Switch, Text, Whole, checked
from simprior.errors import InputError
from simprior.modules.outputs import check_outputs, outputs_to_record
from simprior.modules.spec import Module
from simprior.network.spec import Network
from simprior.runs.directory import RunDir, load_run
from simprior.runs.manifest import MANIFEST
from simprior.runs.sharded import open_run, run_pieces
from simprior.runs.tasks import Progress, RunKeywords, RunOptions, resolve_device

_TASK_WORK = 5e10  # multiply-adds a task: a few seconds, on a busy core too
_TASK_SAMPLES = 1 << 24
_EVENLY = 4
_POOL_TASKS = 64  # pooled standard errors come from the spread over tasks
_TABLES_IN_MEMORY = 48  # half-full tables of eight workers, with room for the export
_ROW_COPIES = 8  # loading holds a row several times for a moment
ALIGN = 64  # tasks start at multiples of this many hidden draws (blocks of the torch engine)


class SampleKeywords(RunKeywords, total=False):
    """The keyword arguments of :func:`sample` besides ``watch``."""

    heads: int | str
    device: str
    dtype: str
    pool: bool
    keep: float
    memory: int | None
    complexity: int | None
    mirror: bool | str


@overload
def sample(
    network: Network | RandomDNF | Module,
    samples: int | float = ...,
    seed: int = ...,
    *,
    watch: None = None,
    **keywords: Unpack[SampleKeywords],
) -> FunctionCounts: ...


@overload
def sample(
    network: Network,
    samples: int | float = ...,
    seed: int = ...,
    *,
    watch: Sequence[Any] | np.ndarray | str,
    **keywords: Unpack[SampleKeywords],
) -> WatchResult: ...


@checked(  # type: ignore[misc]
    **RUN_OPTIONS, device=Text(), dtype=Text(), pool=Switch(), complexity=Maybe(Whole(1))
)
def sample(  # mypy does not see that this takes the keywords above
    network: Network | RandomDNF | Module,
    samples: int | float = 10**6,
    seed: int = 0,
    workers: int = 1,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    heads: int | str = "auto",
    device: str = "cpu",
    dtype: str = "float32",
    pool: bool = False,
    watch: Any = None,
    keep: float = 1.0,
    memory: int | None = None,
    complexity: int | None = None,
    mirror: bool | str = "auto",
    executor: str = "local",
    executor_options: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> FunctionCounts | WatchResult:
    """Draw random networks and count the Boolean functions they compute.

    Parameters
    ----------
    network : Network, RandomDNF or Module
        The prior over parameters.
    samples : int
        Number of networks (a float such as 1e7 is accepted if it is whole).
    seed : int
        Root seed; same spec and seed, same result bit for bit on CPU.
    workers, executor, executor_options
        See :func:`simprior.runs.tasks.run_tasks`.
    out : path, optional
        Run directory; without it everything stays in memory.
    resume, overwrite : bool
        Continue or replace what is in ``out``.
    heads : int or "auto"
        Output layers on the same hidden layers (1: independent networks). Standard errors and
        intervals account for the sharing (``docs/sampling.md`` says when not to share).
    device : str
        ``cpu``, ``cuda`` or ``auto``.
    dtype : str
        ``float32``, or ``float64`` for the same parameters evaluated in double precision.
    pool : bool
        Also pool counts over the exact symmetries of the prior (``FunctionCounts.pooled``).
    watch : functions, optional
        Only these functions: as :func:`simprior.boolean.sampling.watch.watch`, with the heads of
        this call.
    keep : float
        Count only the functions whose hash falls in this share (a power of 1/2) of all hashes; the
        constants and the totals by number of ones are always complete.
    memory : int
        Bytes for tables and merging before work is spilled to disk (default 4 GiB). A resumed run
        may merge with another amount.
    complexity : int, optional
        Hidden draws (of independent networks: networks), from the first on, whose functions are
        measured: LZ complexity, sensitivity, Fourier weight and relevant inputs, over all functions
        and given that they are not constant (``FunctionCounts.complexity_frame``). Of a hidden draw
        64 heads at most. More than there are: all.
    mirror : bool or "auto"
        Whether half of the heads of a hidden draw are mirrors of the others: the networks with the
        output -z, as probable as those with the output z. "auto": where hidden layers are shared
        and the numbers of heads and samples are even. Not with ``watch``.

    Returns
    -------
    FunctionCounts
        With ``out``, the rows that ``memory`` has room for, the commonest first (its totals are
        those of all rows; the complete table is ``out/counts.parquet``). With ``watch``, a
        :class:`~simprior.boolean.sampling.watch.WatchResult`.

    Raises
    ------
    InputError, StoreError, DeviceError, NumericalError, Interrupted
    """
    options = RunOptions.of(locals())
    if watch is not None:
        for name, value in {"complexity": complexity, "mirror": mirror is True or None}.items():
            if value is not None:
                what = f"watch with {name}={value}"
                remedy = f"leave {name} out, or sample without watch"
                raise InputError(what, "one of the two", remedy)
        if dtype != "float32" or keep_shift(keep) or resolve_device(device) != "cpu":
            raise InputError(
                f"watch with dtype={dtype!r}, keep={keep!r}, device={device!r}",
                "dtype float32, keep 1 and device cpu",
                "leave these options out, or sample without watch",
            )
        return watch_functions(
            cast(Network, network),
            watch,
            samples,
            seed,
            heads=heads,
            pool=pool,
            **vars(options),
        )
    if mirror == "auto" and out is not None and resume and not overwrite:
        mirror = stored_mirror(Path(out))
    given = (network, samples, seed, heads, device, dtype, pool, keep, complexity)
    job = make_job(*given, mirror=mirror, modules=True)
    memory = check_memory(memory)
    if out is None:
        return _in_memory(job, options, task_draws(job, memory))
    if not isinstance(network, RandomDNF):
        network.check_storable()
    draws = stored_task_draws(Path(out)) if resume and not overwrite else None
    draws = draws or task_draws(job, memory)
    recorded: dict[str, Any] = {"heads": heads, "memory": memory, "task_draws": draws}
    recorded |= outputs_to_record(network)
    with open_run(options, "sample", job_config(job), **recorded) as store:
        if store.finished(*_tables_of(job)):
            return _load(store, job, memory)
        check_outputs(store.path, store.manifest["options"], network)
        return _stored(job, options, draws, store, memory)


def _tables_of(job: Job) -> list[str]:
    """The tables that a run of ``job`` leaves."""
    wanted = {COUNTS: True, POOLED: job.pool, COMPLEXITY: job.complexity > 0}
    return [name for name, one in wanted.items() if one]


def stored_task_draws(out: Path) -> int | None:
    """The split of a run to be resumed: its shards are found again only with the same tasks."""
    if not (out / MANIFEST).exists():
        return None
    stored = load_run(out).manifest["options"].get("task_draws")
    return stored if isinstance(stored, int) else None


def stored_mirror(out: Path) -> bool | str:
    """Whether a run to be resumed may have mirrors: those made before there were any have none."""
    if not (out / MANIFEST).exists():
        return "auto"
    return "auto" if "mirror" in load_run(out).config else False


def task_draws(job: Job, memory: int) -> int:
    """Hidden draws a task: a few seconds of work, and tables of all workers within ``memory``.

    It does not depend on the number of workers, and does not influence the merged result (pooled
    standard errors are computed from the spread over tasks and do depend on it).
    """
    model = job.model
    entry = 8 * (n_words(model.m) + EXTRA)
    total = -(-job.samples // job.heads)
    work = 1e4
    if isinstance(model, Network):
        layers = list(zip(model.fan_ins, (*model.hidden, 1), strict=True))
        hidden = sum((f + 1) * w * (model.m + 8) for f, w in layers[:-1])
        share = job.output_layers / job.heads
        work = hidden / job.heads + share * ((layers[-1][0] + 1) * (model.m + 8) + 500)
    elif isinstance(model, Module):
        work = work_of_sample(job)
    entries = 0.5 if job.folded else 1.0  # at most, a sample
    size = min(_TASK_SAMPLES, _TASK_WORK / work, memory / (_TABLES_IN_MEMORY * entry * entries))
    if job.pool:
        size = min(size, job.samples / _POOL_TASKS)
    most = max(ALIGN, int(size) // (job.heads * ALIGN) * ALIGN)
    tasks = -(-total // most)
    if tasks > 1:  # as many for each of two or four workers
        tasks = -(-tasks // _EVENLY) * _EVENLY
    return -(-total // (tasks * ALIGN)) * ALIGN


def split(job: Job, draws: int) -> list[Task]:
    """Tasks of ``draws`` hidden draws each that cover the job."""
    total = -(-job.samples // job.heads)
    return [
        Task(i, a, min(a + draws, total), min((a + draws) * job.heads, job.samples) - a * job.heads)
        for i, a in enumerate(range(0, total, draws))
    ]


def _in_memory(job: Job, options: RunOptions, draws: int) -> FunctionCounts:
    """Count all tasks, adding up their rows as they come."""
    tasks = split(job, draws)
    job = replace(job, replicate=draws * job.heads)
    tallies: dict[int, Tally] = {}
    main = Merger(job.model.m, options.threads, job.folded)
    pooled = Merger(job.model.m, options.threads)

    def receive(task: Task, result: Counted) -> None:
        tallies[task.index] = result.tally
        main.add(result.rows)
        if result.pooled is not None:
            pooled.add(result.pooled)

    run_pieces(Counting(job), tasks, options, None, receive)
    counts = FunctionCounts.from_rows(job, main.finish(), [tallies[t.index] for t in tasks])
    return counts.with_pool(pooled.finish(), job.replicates) if job.pool else counts


def _stored(
    job: Job, options: RunOptions, draws: int, store: RunDir, memory: int
) -> FunctionCounts:
    """Count all tasks into shards, merge these into the tables of the run, and close it."""
    tasks, m = split(job, draws), job.model.m
    job = replace(job, replicate=draws * job.heads)
    run_pieces(Counting(job), tasks, options, store)
    metas = store.shards
    totals = [Tally.from_meta(metas[t.name]["meta"], m) for t in tasks]
    top = loadable(job, memory)

    def merge(table: str, folded: bool, prefix: str = "") -> tuple[Profile, Rows]:
        paths = [store.check_shard(f"{prefix}{t.name}") for t in tasks]
        where = store.path / table
        found = merge_shards(paths, where, m, memory, folded, threads=options.threads, top=top)
        store.add_file(table, rows=found[0].functions)
        return found

    merged, rows = merge(COUNTS, job.folded)
    results = FunctionCounts.totals(job, totals, merged)
    if job.pool:
        classes, pooled = merge(POOLED, False, "pool-")
        results["pooled"] = {"classes": classes.functions, "replicates": job.replicates}
    if job.complexity:
        counts = FunctionCounts.without_rows(results, merged)
        write_complexity(store, counts.complexity_frame())
    store.finish(results)
    store.clear_shards()
    counts = FunctionCounts.from_rows(job, rows, totals, merged)
    counts.info["config"] = dict(store.manifest["config"])
    return counts.with_pool(pooled, job.replicates, classes) if job.pool else counts


def _load(store: RunDir, job: Job, memory: int) -> FunctionCounts:
    counts = FunctionCounts.load(store.path, top=loadable(job, memory))
    counts.info["model"] = job.model  # whose activation need not be imported again
    return counts


def loadable(job: Job, memory: int) -> int:
    """How many rows of the table a result keeps in memory: the commonest ones."""
    return max(1000, memory // (_ROW_COPIES * 8 * (n_words(job.model.m) + EXTRA)))
