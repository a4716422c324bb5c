"""Function frequencies of random networks: P(f) by sampling.

:func:`sample` draws networks from the prior, counts the functions they compute and returns
:class:`~simprior.boolean.counts.FunctionCounts`. The samples are split into tasks (ranges of hidden
draws); every random number is a function of (seed, hidden draw, position), so the result is bit
for bit the same whatever the number of workers, the split, the order, or an interruption.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from simprior.boolean._kernel import GROUP
from simprior.boolean._table import EXTRA
from simprior.boolean._tasks import Result, run_task
from simprior.boolean.counts import FunctionCounts
from simprior.boolean.counts_io import COUNTS, POOLED
from simprior.boolean.dnf import RandomDNF
from simprior.boolean.heads import choose_heads
from simprior.boolean.job import Job, Task
from simprior.boolean.merge import Merger, merge_shards
from simprior.boolean.rows import Tally
from simprior.boolean.truthtable import n_words
from simprior.checks import RUN_OPTIONS, Choice, Integer, Switch, Text, Whole, checked, shown
from simprior.device import resolve_device
from simprior.engine import Progress, run_tasks
from simprior.errors import InputError
from simprior.network import Network, check_size
from simprior.rng import check_seed
from simprior.store import RunDir, Written, load_run
from simprior.store_manifest import MANIFEST

DTYPES = ("float32", "float64")
DEFAULT_MEMORY = 4 * 2**30
MAX_SAMPLES = 10**13
MAX_HEADS = 1 << 16
_TASK_WORK = 2e11  # multiply-adds a task: a few seconds
_TASK_SAMPLES = 1 << 24
_POOL_TASKS = 64  # pooled standard errors come from the spread over tasks
_TABLES_IN_MEMORY = 48  # half-full tables of eight workers, with room for the export
_ROW_COPIES = 8  # loading holds a row several times for a moment
ALIGN = 64  # tasks start at multiples of this many hidden draws (blocks of the torch engine)


@checked(**RUN_OPTIONS, device=Text(), dtype=Text(), pool=Switch())
def sample(
    network: Network | RandomDNF,
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
    executor: str = "local",
    executor_options: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> Any:
    """Draw random networks and count the Boolean functions they compute.

    Parameters
    ----------
    network : Network or RandomDNF
        The prior over parameters.
    samples : int
        Number of networks (a float such as 1e7 is accepted if it is whole).
    seed : int
        Root seed; same spec and seed, same result bit for bit on CPU.
    workers, executor, executor_options
        See :func:`simprior.engine.run_tasks`.
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
        Estimate only these functions, the last bias integrated out; returns a
        :class:`~simprior.boolean.watch_result.WatchResult`. Constant memory.
    keep : float
        Count only the functions whose hash falls in this share (a power of 1/2) of all hashes; the
        constants and the totals by number of ones are always complete.
    memory : int
        Bytes for tables and merging before work is spilled to disk (default 4 GiB). A resumed run
        may merge with another amount.

    Returns
    -------
    FunctionCounts
        With ``out``, the rows that ``memory`` has room for, the commonest first (its totals are
        those of all rows; the complete table is ``out/counts.parquet``).

    Raises
    ------
    InputError, StoreError, DeviceError, NumericalError, Interrupted
    """
    if watch is not None:
        from simprior.boolean.watch import watch_functions

        if dtype != "float32" or keep_shift(keep) or resolve_device(device) != "cpu":
            raise InputError(
                f"watch with dtype={dtype!r}, keep={keep!r}, device={device!r}",
                "dtype float32, keep 1 and device cpu",
                "leave these options out, or sample without watch",
            )
        return watch_functions(
            network, watch, samples=samples, seed=seed, workers=workers, out=out, resume=resume,
            overwrite=overwrite, heads=heads, pool=pool, executor=executor,
            executor_options=executor_options, progress=progress,
        )  # fmt: skip
    job = make_job(network, samples, seed, heads, device, dtype, pool, keep)
    memory = check_memory(memory)
    run = partial(
        _run, workers=workers, memory=memory, executor=executor, options=executor_options,
        progress=progress,
    )  # fmt: skip
    if out is None:
        return run(job, None)
    if isinstance(network, Network):
        network.check_storable()
    draws = stored_task_draws(Path(out)) if resume and not overwrite else None
    draws = draws or task_draws(job, memory)
    with RunDir.open(
        out, "sample", job_config(job), resume=resume, overwrite=overwrite,
        options={"workers": workers, "executor": executor, "heads": heads, "memory": memory,
                 "task_draws": draws},
    ) as store:  # fmt: skip
        if store.finished(*(COUNTS, POOLED)[: 2 if job.pool else 1]):
            return _load(store, job, memory)
        return run(replace(job, shards=store.path / "shards"), store, draws=draws)


def stored_task_draws(out: Path) -> int | None:
    """The split of a run to be resumed: its shards are found again only with the same tasks."""
    if not (out / MANIFEST).exists():
        return None
    stored = load_run(out).manifest["options"].get("task_draws")
    return stored if isinstance(stored, int) else None


def make_job(
    network: Network | RandomDNF, samples: int | float, seed: int, heads: int | str = "auto",
    device: str = "cpu", dtype: str = "float32", pool: bool = False, keep: float = 1.0,
) -> Job:  # fmt: skip
    """Checked :class:`Job`, its device and number of heads resolved (the pilot runs here)."""
    if not isinstance(network, Network | RandomDNF):
        raise InputError(
            f"network={shown(network)}", "a Network or a RandomDNF", "build one, e.g. Network(n=7)"
        )
    Choice(DTYPES, "pass dtype='float32'")("dtype", dtype)
    if pool and keep_shift(keep):
        raise InputError(
            f"pool with keep={keep!r}",
            "keep 1: classes need all their members",
            "leave one of the two out",
        )
    job = Job(
        model=network, samples=check_samples(samples), seed=check_seed(seed), dtype=dtype,
        device=resolve_device(device), keep_shift=keep_shift(keep), pool=pool,
    )  # fmt: skip
    if isinstance(network, RandomDNF):
        if not isinstance(heads, str | int) or heads not in ("auto", 1):
            raise InputError(
                f"heads={shown(heads)}", "1 or auto for a DNF network", "leave heads out"
            )
        return job
    check_size(network)
    if isinstance(heads, str) and heads == "auto":
        chosen, _ = choose_heads(job)
        return replace(job, heads=chosen)
    expected = f"an integer from 1 to {MAX_HEADS} or auto"
    heads = Integer(1, MAX_HEADS, "pass heads='auto'", expected)("heads", heads)
    return replace(job, heads=GROUP if network.depth == 0 else min(heads, job.samples))


def job_config(job: Job) -> dict[str, Any]:
    """What determines the result, for ``config.toml``; equal on resume."""
    kind = "dnf" if isinstance(job.model, RandomDNF) else "network"
    return {
        "model": kind,
        kind: {k: v for k, v in job.model.to_dict().items() if v is not None},
        "samples": job.samples, "seed": job.seed, "heads": job.heads,
        "dtype": job.dtype, "device": job.device,
        "keep": 2.0**-job.keep_shift, "pool": job.pool,
    }  # fmt: skip


def check_samples(samples: Any) -> int:
    """A whole number >= 1 (1e7 is accepted) as int; else :class:`InputError`."""
    expected = "a whole number from 1 to 1e13"
    return Whole(1, MAX_SAMPLES, "pass for example 1e7", expected)("samples", samples)


def check_memory(memory: int | None) -> int:
    """Bytes to work in: the default, or the value if it is at least 64 MiB."""
    if memory is None:
        return DEFAULT_MEMORY
    least = Integer(2**26, remedy="pass for example --memory 2GB", expected="at least 64 MiB")
    return least("memory", memory)


def keep_shift(keep: float) -> int:
    """k for keep = 2^-k, 0 <= k <= 40; else :class:`InputError`."""
    shift = -np.log2(keep) if isinstance(keep, int | float) and 0 < keep <= 1 else -1.0
    if not 0 <= shift <= 40 or shift != int(shift):
        raise InputError(
            f"keep={shown(keep)}", "1, 1/2, 1/4, ... 2^-40", "pass for example --keep 1/64"
        )
    return int(shift)


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
        work = hidden / job.heads + (layers[-1][0] + 1) * (model.m + 8) + 500
    size = min(_TASK_SAMPLES, _TASK_WORK / work, memory / (_TABLES_IN_MEMORY * entry))
    if job.pool:
        size = min(size, job.samples / _POOL_TASKS)
    most = max(ALIGN, int(size) // (job.heads * ALIGN) * ALIGN)
    tasks = -(-total // most)
    return -(-total // (tasks * ALIGN)) * ALIGN


def split(job: Job, draws: int) -> list[Task]:
    """Tasks of ``draws`` hidden draws each that cover the job."""
    total = -(-job.samples // job.heads)
    return [
        Task(i, a, min(a + draws, total), min((a + draws) * job.heads, job.samples) - a * job.heads)
        for i, a in enumerate(range(0, total, draws))
    ]


def _run(
    job: Job, store: RunDir | None, *, workers: int, memory: int, executor: str,
    options: dict[str, Any] | None, progress: Progress | None, draws: int | None = None,
) -> FunctionCounts:  # fmt: skip
    draws = draws or task_draws(job, memory)
    tasks = split(job, draws)
    job = replace(job, replicate=draws * job.heads)
    todo = [t for t in tasks if store is None or not _finished(store, job, t)]
    if progress is not None and len(todo) < len(tasks):
        progress.update(job.samples - sum(t.samples for t in todo))
    tallies: dict[int, Tally] = {}
    main, pooled = Merger(job.model.m), Merger(job.model.m)

    def receive(task: Task, result: Result) -> None:
        tallies[task.index] = result.tally
        if store is None:
            assert result.rows is not None
            main.add(result.rows)
            if result.pooled is not None:
                pooled.add(result.pooled)
            return
        if result.pooled_written is not None:
            _register(store, f"pool-{task.name}", result.pooled_written, task.range)
        assert result.written is not None
        _register(store, task.name, result.written, result.tally.to_meta() | task.range)

    run_tasks(
        partial(run_task, job), todo, on_result=receive, workers=min(workers, max(1, len(todo))),
        executor=executor, executor_options=options, progress=progress, amount=lambda t: t.samples,
    )  # fmt: skip
    if store is None:
        totals = [tallies[t.index] for t in tasks]
        counts = FunctionCounts.from_rows(job, main.rows(), totals)
        return counts.with_pool(pooled.rows(), job.replicates) if job.pool else counts
    metas = store.shards
    totals = [Tally.from_meta(metas[t.name]["meta"], job.model.m) for t in tasks]
    return _finish(store, job, tasks, totals, memory)


def _register(store: RunDir, name: str, written: Written, meta: dict[str, Any]) -> None:
    store.register_shard(name, written.sha256, written.rows, written.bytes, meta)


def _finished(store: RunDir, job: Job, task: Task) -> bool:
    names = (task.name, f"pool-{task.name}")[: 2 if job.pool else 1]
    return all(store.has_shard(name, task.range) for name in names)


def _finish(
    store: RunDir, job: Job, tasks: list[Task], totals: list[Tally], memory: int
) -> FunctionCounts:
    """Merge the shards into ``counts.parquet`` (and ``pooled.parquet``) and close the run."""
    m = job.model.m
    paths = [store.check_shard(t.name) for t in tasks]
    merged = merge_shards(paths, store.path / "counts.parquet", m, memory)
    store.add_file("counts.parquet", rows=merged.functions)
    results = FunctionCounts.totals(job, totals, merged)
    if job.pool:
        paths = [store.check_shard(f"pool-{t.name}") for t in tasks]
        classes = merge_shards(paths, store.path / "pooled.parquet", m, memory)
        store.add_file("pooled.parquet", rows=classes.functions)
        results["pooled"] = {"classes": classes.functions, "replicates": job.replicates}
    store.finish(results)
    store.clear_shards()
    return _load(store, job, memory)


def _load(store: RunDir, job: Job, memory: int) -> FunctionCounts:
    counts = FunctionCounts.load(store.path, top=loadable(job, memory))
    counts.info["model"] = job.model  # whose activation need not be imported again
    return counts


def loadable(job: Job, memory: int) -> int:
    """How many rows of the table a result keeps in memory: the commonest ones."""
    return max(1000, memory // (_ROW_COPIES * 8 * (n_words(job.model.m) + EXTRA)))
