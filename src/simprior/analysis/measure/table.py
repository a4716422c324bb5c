"""Measures of trained networks and of functions, as one tidy table (``simprior measure``).

A row a network: who it is, how it was trained, how well it does (:mod:`.records`), then a column a
measure and ``<measure>_stderr`` where there is one. :mod:`.measure_names` says what each column is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from simprior.analysis.measure.groups import check_groups, function_columns, network_columns
from simprior.analysis.measure.sources import (
    Chunk,
    Request,
    check_alphas,
    check_files,
    check_settings,
    find_sources,
    split,
)
from simprior.analysis.table_files import read_file, read_run_table
from simprior.checks import RUN_OPTIONS, File, Maybe, Text, checked, shown, whole
from simprior.errors import InputError, StoreError
from simprior.numerics.random import check_seed
from simprior.runs.directory import RunDir, load_run, write_table
from simprior.runs.tasks import Progress, progress_bar, resolve_device, run_tasks

TABLE, COMMAND = "measures.parquet", "measure"
Columns = dict[str, np.ndarray]


@checked(
    device=Text(), prior_from=Maybe(File()), data=Maybe(Text()), label=Maybe(Text()), **RUN_OPTIONS
)
def measure_runs(
    paths: Path | str | Sequence[Path | str],
    measures: str | Sequence[str] | None = None,
    *,
    networks: int | float = 1000,
    alphas: Sequence[float] | float = (1.0,),
    draws: int | None = None,
    tol: float | None = None,
    delta: float = 0.01,
    zeta: float = 1e-4,
    radius: float = 0.05,
    noise: float = 0.9,
    held_out: float = 0.0,
    prior_from: Path | str | None = None,
    data: str | None = None,
    label: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    workers: int = 1,
    executor: str = "local",
    executor_options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    quiet: bool = True,
) -> pd.DataFrame:
    """Measure the networks of training runs and sweeps, or the functions of tables.

    Parameters
    ----------
    paths : path or sequence of paths
        Run directories of train, sweep (all cells), or of sample, import, posterior.
    measures : str or sequence of str, optional
        Groups of ``measure_names.GROUPS``, or ``all`` that apply; default: the groups marked as
        default there that apply. Groups that need weights train
        the members again, exactly (no weights are stored).
    networks : int
        The first fitted members of each run (or the commonest functions of each table).
    alphas : numbers
        Rescalings of the first hidden layer of relu networks, each a row: 1 is as trained. Only
        measures of weights are computed again.
    draws, tol
        Of ln P: importance samples, or the standard error wanted (nats).
    delta : float
        The bound may fail with this probability.
    zeta : float
        Box of the Keskar sharpness.
    radius : float
        Half side of the box of the critical sample ratio of data, in units of the inputs.
    noise : float
        Correlation rho of the noise stability.
    held_out : float
        For data: share of the test inputs that no measure sees, and ``held_out_error`` is of those
        alone. Measures of the outputs (ln P, complexity) otherwise share the sampling error of
        ``test_error``.
    prior_from : path, optional
        Run of ``simprior sample`` whose frequencies give ``log_p_sampled`` of networks' functions.
    data, label : str, optional
        For runs on a local data file, which must be read again: its path and its class column.
    device : str
        Where measures of weights are computed: ``cpu`` (also for ``auto``) or ``cuda``; training
        again, ln P and truth tables are for the CPU.
    seed : int
        Root of the random numbers of the measures: samples of ln P, directions, probes. (Networks
        are trained again with their own.)
    out, resume, overwrite, workers, executor, executor_options, progress, quiet
        As in :func:`simprior.sample`; the table is ``out/measures.parquet``.

    Returns
    -------
    DataFrame
        A row a network and alpha, in the order of the runs.

    Raises
    ------
    InputError
        A setting, a group that a run does not support, data that is not what a run recorded.
    StoreError
        A run that is damaged or incomplete; ``out`` occupied or of other settings.
    NumericalError
        Networks trained again are not those recorded (another version or machine).
    DeviceError
        ``device="cuda"`` without one.
    Interrupted
        Ctrl-C; with ``out``, ``resume`` goes on.
    """
    check_settings(tol=tol, delta=delta, zeta=zeta, radius=radius, noise=noise, held_out=held_out)
    alphas = check_alphas(alphas)
    many = [paths] if isinstance(paths, str | Path) else paths
    if not isinstance(many, Sequence) or not all(isinstance(p, str | Path) for p in many):
        raise InputError(
            f"paths={shown(paths)}", "a run directory, or a list of them", "pass a path"
        )
    sources = find_sources(many)
    groups = check_groups(measures, sources)
    sampled = None if prior_from is None else str(Path(prior_from).absolute())
    request = Request(
        groups=groups,
        alphas=alphas,
        draws=draws,
        tol=tol,
        delta=float(delta),
        zeta=float(zeta),
        radius=float(radius),
        noise=float(noise),
        held_out=float(held_out),
        prior_from=sampled,
        seed=check_seed(seed),
        device="cpu" if device == "auto" else resolve_device(device),
        data=data,
        label=label,
    )
    check_files(request, sources)
    wanted = whole("networks", networks, 1)
    chunks = split(sources, wanted)
    job = partial(measure_chunk, request)
    go = partial(
        run_tasks, job, executor=executor, executor_options=executor_options,
        amount=lambda chunk: len(chunk.rows),
    )  # fmt: skip
    total = sum(len(chunk.rows) for chunk in chunks)
    with progress_bar(total, "network", quiet=quiet or progress is not None) as bar:
        told = bar if progress is None else progress
        if out is None:
            parts: dict[int, Columns] = {}
            go(chunks, on_result=lambda c, r: parts.__setitem__(c.index, r), progress=told,
               workers=min(workers, len(chunks)))  # fmt: skip
            return joined([parts[chunk.index] for chunk in chunks])
        config = {
            "sources": {source.name: source.sha256 for source in sources}, "networks": wanted,
            **{k: list(v) if isinstance(v, tuple) else v
               for k, v in asdict(request).items() if v is not None},
        }  # fmt: skip
        options = {"workers": workers, "executor": executor, "paths": list(map(str, many))}
        with RunDir.open(
            out, COMMAND, config, resume=resume, overwrite=overwrite, options=options
        ) as store:
            if store.finished(TABLE):
                return load_measures(store.path)
            return _into(store, chunks, go, workers, told)


def _into(
    store: RunDir, chunks: list[Chunk], go: Any, workers: int, progress: Progress
) -> pd.DataFrame:
    """Run what has no shard yet, join the shards, close the run."""
    todo = [chunk for chunk in chunks if not store.has_shard(chunk.name, chunk.range)]
    progress.update(sum(len(c.rows) for c in chunks) - sum(len(c.rows) for c in todo))

    def receive(chunk: Chunk, columns: Columns) -> None:
        written = write_table(store.shard_path(chunk.name), columns)
        store.register_shard(chunk.name, written.sha256, written.rows, written.bytes, chunk.range)

    go(todo, on_result=receive, progress=progress, workers=min(workers, max(1, len(todo))))
    frame = joined([store.read_shard(chunk.name) for chunk in chunks])
    write_table(store.path / TABLE, as_columns(frame))
    store.add_file(TABLE, rows=len(frame))
    store.finish({"rows": len(frame), "columns": list(map(str, frame.columns))})
    store.clear_shards()
    return frame


def measure_chunk(request: Request, chunk: Chunk) -> Columns:
    """All columns of one piece."""
    make = network_columns if chunk.source.kind == "networks" else function_columns
    return as_columns(make(request, chunk.source, np.array(chunk.rows)))


def load_measures(path: Path | str) -> pd.DataFrame:
    """The table of a run directory of ``simprior measure``, or a Parquet or CSV file like it.

    Raises :class:`InputError` for another file, :class:`StoreError` for another run.
    """
    path = Path(path)
    if not path.is_dir():
        return read_file(path)
    run = load_run(path)
    if TABLE not in run.files or run.status != "complete":
        raise StoreError(
            f"{path}: expected a complete run of 'simprior measure', found one of "
            f"'simprior {run.command}' that is {run.status}; measure it first"
        )
    return read_run_table(run, TABLE)


def joined(parts: list[Columns]) -> pd.DataFrame:
    """One table of all pieces; a column that some lack is NaN there."""
    return pd.concat([pd.DataFrame(part) for part in parts], ignore_index=True)


def as_columns(frame: pd.DataFrame) -> Columns:
    """Columns as arrays that Parquet can hold; text as objects."""
    return {
        str(name): frame[name].to_numpy(None if frame[name].dtype.kind in "iufb" else object)
        for name in frame
    }
