"""Tables of ln P for many functions and methods: batches, workers, shards, resume.

A table has a row a function and method, in the order of the functions given:

    index, name, function (hex), method, logp (nats), log10, stderr, ess, pareto_k, reliable,
    converged, seconds

and further columns that the caller joins to each function (e.g. its sampled frequency).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.boolean.truthtable import pack, to_hex
from simprior.checks import Choice
from simprior.engine import Progress, run_tasks
from simprior.errors import InputError
from simprior.gp.log_prior import METHODS, iter_log_prior
from simprior.gp.memory import check_memory
from simprior.store import RunDir, load_run, write_table
from simprior.threads import one_thread

if TYPE_CHECKING:
    import pandas as pd

TABLE = "logp.parquet"
Columns = dict[str, np.ndarray]
_BATCH_WORK = 256 * 128**2  # functions a batch at m = 128: about a second of `tilted`


@dataclass(frozen=True)
class Request:
    """Functions, kernel and methods of one table.

    ``K`` (m, m); ``tables`` (F, m) uint8; ``names`` F texts shown in place of the hex form;
    ``methods`` names in ``METHODS``; ``options`` (draws, tol) of the estimators; ``joined`` further
    (F,) columns.
    """

    K: np.ndarray
    tables: np.ndarray
    methods: tuple[str, ...] = ("tilted",)
    seed: int = 0
    names: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    joined: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for method in self.methods:
            Choice(METHODS, expected=f"some of {', '.join(METHODS)}")("method", method)
        if len(set(self.methods)) < max(len(self.methods), 1):
            found, expected = f"method={','.join(self.methods)}", "each method once, at least one"
            raise InputError(found, expected, "pass for example --method tilted,ep")


def log_prior_table(
    request: Request,
    *,
    out: Path | str | None = None,
    config: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    workers: int = 1,
    executor: str = "local",
    executor_options: dict[str, Any] | None = None,
    progress: Progress | None = None,
    results: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """ln P of every function by every method; with ``out`` a run directory, a shard a batch.

    The values depend on the request only: not on batches, workers or interruptions. ``results``
    are further entries of the manifest.

    Raises
    ------
    InputError, NumericalError, StoreError, Interrupted
    """
    check_memory(len(request.K), min(workers, len(request.tables)))
    size = max(1, int(_BATCH_WORK / len(request.K) ** 2))
    batches = [slice(i, i + size) for i in range(0, len(request.tables), size)]
    columns = run_batches(
        "logp", partial(compute, request), batches, lambda b: _digest(request, b), out=out,
        config=config or {}, resume=resume, overwrite=overwrite, workers=workers,
        executor=executor, executor_options=executor_options, progress=progress,
        amount=lambda b: len(request.tables[b]) * len(request.methods),
        join=partial(_join, request), results=results,
    )  # fmt: skip
    import pandas as pd

    return pd.DataFrame(columns)


def compute(request: Request, batch: slice) -> Columns:
    """Columns of the functions in ``batch``; function by function, method by method."""
    tables = request.tables[batch]
    results = [
        list(iter_log_prior(
            tables, request.K, method, n=0, seed=request.seed, **request.options
        ))
        for method in request.methods
    ]  # fmt: skip
    rows = [result for of_function in zip(*results, strict=True) for result in of_function]
    repeat = len(request.methods)

    def diagnostic(name: str, missing: Any) -> np.ndarray:
        return np.array([row.diagnostics.get(name, missing) for row in rows])

    return {
        "index": np.repeat(np.arange(batch.start, batch.start + len(tables)), repeat),
        "function": np.repeat(to_hex(pack(tables), tables.shape[1]), repeat).astype(object),
        "method": np.tile(np.array(request.methods, object), len(tables)),
        "logp": np.array([row.value for row in rows]),
        "log10": np.array([row.log10 for row in rows]),
        "stderr": np.array([row.stderr for row in rows]),
        "ess": np.array([row.ess for row in rows]),
        "pareto_k": diagnostic("pareto_k", math.nan).astype(float),
        "reliable": diagnostic("reliable", False).astype(bool),
        "converged": diagnostic("converged", True).astype(bool),
        "seconds": diagnostic("seconds", 0.0).astype(float),
    }


def run_batches(
    command: str,
    function: Callable[[Any], Columns],
    batches: Sequence[Any],
    digest: Callable[[Any], str],
    *,
    out: Path | str | None,
    config: Mapping[str, Any],
    resume: bool = False,
    overwrite: bool = False,
    workers: int = 1,
    executor: str = "local",
    executor_options: dict[str, Any] | None = None,
    progress: Progress | None = None,
    amount: Callable[[Any], int] | None = None,
    join: Callable[[Columns], Columns] | None = None,
    results: Mapping[str, Any] | None = None,
) -> Columns:
    """Columns of all batches, in order; in a run directory each batch is a shard until the end.

    ``digest`` identifies what a batch computes: a shard left by an earlier run is used again only
    if it agrees. ``join`` completes the columns of the whole table.
    """
    parts: dict[int, Columns] = {}
    numbered = list(enumerate(batches))

    def go(todo: list[tuple[int, Any]], receive: Callable[[int, Columns], None]) -> None:
        run_tasks(
            partial(_numbered, function), todo, on_result=lambda t, r: receive(t[0], r),
            workers=min(workers, max(1, len(todo))), executor=executor,
            executor_options=executor_options, progress=progress,
            amount=None if amount is None else lambda t: amount(t[1]),
        )  # fmt: skip

    finish = join or (lambda columns: columns)
    if out is None:
        go(numbered, parts.__setitem__)
        return finish(_concatenate([parts[i] for i, _ in numbered]))
    options = {"workers": workers, "executor": executor}
    with RunDir.open(
        out, command, config, resume=resume, overwrite=overwrite, options=options
    ) as store:
        if store.finished(TABLE):
            return load_run(store.path).read_table(TABLE)
        digests = {i: digest(batch) for i, batch in numbered}
        names = {i: f"{i:06d}" for i, _ in numbered}
        kept = {
            i for i, _ in numbered
            if store.has_shard(names[i], {"digest": digests[i]})
        }  # fmt: skip
        if progress is not None and kept:
            progress.update(
                sum(1 if amount is None else amount(b) for i, b in numbered if i in kept)
            )

        def write(i: int, columns: Columns) -> None:
            written = write_table(store.shard_path(names[i]), columns)
            store.register_shard(
                names[i], written.sha256, written.rows, written.bytes, {"digest": digests[i]}
            )

        go([(i, batch) for i, batch in numbered if i not in kept], write)
        columns = finish(_concatenate([store.read_shard(names[i]) for i, _ in numbered]))
        written = write_table(store.path / TABLE, columns)
        store.add_file(TABLE, rows=written.rows)
        store.finish({"rows": written.rows, **summarise(columns), **(results or {})})
        store.clear_shards()
    return columns


def summarise(columns: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Totals of a table for people: functions, seconds, and what is not to be trusted."""
    out: dict[str, Any] = {"functions": len(np.unique(columns["function"]))}
    if "method" in columns:
        sampled = np.isfinite(columns["stderr"].astype(float))
        out["unreliable"] = int((sampled & ~columns["reliable"].astype(bool)).sum())
        out["not_converged"] = int((~columns["converged"].astype(bool)).sum())
        out["seconds"] = float(columns["seconds"].sum())
    return out


def _numbered(function: Callable[[Any], Columns], task: tuple[int, Any]) -> Columns:
    with one_thread():
        return function(task[1])


def _concatenate(parts: list[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _join(request: Request, columns: Columns) -> Columns:
    index = columns["index"].astype(np.intp)
    names = np.array(request.names or to_hex(pack(request.tables), request.tables.shape[1]), object)
    joined = {name: np.asarray(values)[index] for name, values in request.joined.items()}
    return {"index": columns["index"], "name": names[index], **columns, **joined}


def _digest(request: Request, batch: slice) -> str:
    text = hashlib.sha256(np.packbits(request.tables[batch]).tobytes())
    text.update(np.ascontiguousarray(request.K).tobytes())
    text.update(repr((request.methods, request.seed, sorted(request.options.items()))).encode())
    return text.hexdigest()
