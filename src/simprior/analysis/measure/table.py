"""Measures of trained networks and of functions, as one tidy table (``simprior measure``).

A row a network: who it is, how it was trained, how well it does, then a column a measure and
``<measure>_stderr`` where there is one. :mod:`.registry` says what each column is.

The same table tells which measures change when relu layers are rescaled and the function does not
(:func:`rescaling_table`). Multiplying a layer's weights and biases by alpha and dividing the next
layer's weights by it leaves the function of a relu network as it is (Dinh et al. 2017). A measure
that moves under it says something about the parameters, not about the function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from simprior.analysis.measure.groups import (
    calls_no_foreign_code,
    check_groups,
    function_columns,
    network_columns,
)
from simprior.analysis.measure.registry import MEASURES, measure_columns
from simprior.analysis.measure.settings import MeasureSettings, Request
from simprior.analysis.measure.sources import (
    Chunk,
    Source,
    check_files,
    find_sources,
    given_sources,
    split,
)
from simprior.analysis.table_files import read_file, read_run_table
from simprior.checks import RUN_OPTIONS, File, Maybe, Text, checked, shown
from simprior.errors import InputError
from simprior.modules.spec import Module
from simprior.runs.directory import load_run, write_table
from simprior.runs.sharded import Work, open_run, run_sharded
from simprior.runs.tasks import Progress, RunOptions, progress_bar
from simprior.training.records import TrainResult
from simprior.training.targets import Problem

TABLE, COMMAND = "measures.parquet", "measure"
Columns = dict[str, np.ndarray]
Measured = Path | str | TrainResult | Problem


@checked(
    device=Text(),
    prior_from=Maybe(File()),
    data=Maybe(Text()),
    label=Maybe(Text()),
    loss=Maybe(Text()),
    **RUN_OPTIONS,
)
def measure(
    source: Measured | Sequence[Measured],
    measures: str | Sequence[str] | None = None,
    *,
    networks: Any = 1000,
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
    loss: str | None = None,
    architecture: Module | None = None,
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
    """Measure trained networks, or the functions of tables.

    Parameters
    ----------
    source : path, TrainResult, Problem, or a sequence of paths and results
        Run directories of train, sweep (all cells), or of sample, import, posterior; results of
        :func:`simprior.train` in memory. For ``networks`` from elsewhere one of train, or the
        problem that they were trained on.
    measures : str or sequence of str, optional
        Groups of ``registry.GROUPS``, or ``all`` that apply; default: the groups marked as default
        there that apply. Groups that need weights train the members again, exactly (no weights are
        stored).
    networks : int, or networks from elsewhere
        How many are measured: the first fitted members of each run (or the commonest functions of
        each table). Or torch modules, state dicts, ``.safetensors`` or ``.pt`` files, or a list of
        these (:mod:`simprior.network.states`), all of which are measured, with the inputs, labels
        and training set of ``source``. What each computes, and its errors, come from its weights,
        which are taken as they are.
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
    loss : str, optional
        Loss of networks from elsewhere; default: that of the run, or ``ce``.
    architecture : Module, optional
        What makes networks from elsewhere, if it is not the network of ``source``: any torch
        module, on the inputs of ``source``.
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
        A setting, a group that a run does not support, data that is not what a run recorded,
        networks of another architecture (the message names the first layer that does not fit).
    StoreError
        A run that is damaged or incomplete; ``out`` occupied or of other settings.
    NumericalError
        Networks trained again are not those recorded (another version or machine).
    DeviceError
        ``device="cuda"`` without one.
    Interrupted
        Ctrl-C; with ``out``, ``resume`` goes on.
    """
    given = dict(locals())
    counted = networks is None or isinstance(networks, Real)
    if not counted:
        del given["networks"]
    settings = MeasureSettings.of(given)
    like = {"loss": loss, "architecture": architecture}
    sources = _sources(source, None if counted else networks, like, data, label)
    groups = check_groups(settings.measures, sources)
    request = Request(**{**vars(settings), "groups": groups})
    check_files(request, sources)
    chunks = split(sources, request.networks)
    total = sum(chunk.size for chunk in chunks)
    threads = request.device != "cuda" and all(calls_no_foreign_code(one) for one in sources)
    work = Measuring(request, threads)
    with progress_bar(total, "network", quiet=quiet or progress is not None) as bar:
        how = RunOptions.of({**given, "progress": bar if progress is None else progress})
        if out is None:
            return joined(run_sharded(work, chunks, how, None))
        many = source if isinstance(source, list | tuple) else [source]
        paths = [str(one) for one in many if isinstance(one, str | Path)]
        with open_run(how, COMMAND, config_of(request, sources, counted), paths=paths) as store:
            if store.finished(TABLE):
                return load_measures(store.path)
            frame = joined(run_sharded(work, chunks, how, store))
            write_table(store.path / TABLE, as_columns(frame))
            store.add_file(TABLE, rows=len(frame))
            store.finish({"rows": len(frame), "columns": list(map(str, frame.columns))})
            store.clear_shards()
            return frame


def _sources(
    source: Any,
    networks: Any,
    like: Mapping[str, Any],
    data: str | None,
    label: str | None,
) -> list[Source]:
    """What the arguments of :func:`measure` name; ``like`` are those of networks from elsewhere.

    Raises :class:`InputError`.
    """
    many = list(source) if isinstance(source, list | tuple) else [source]
    if not all(isinstance(one, str | Path | TrainResult | Problem) for one in many):
        raise InputError(
            f"source={shown(source)}", "a run directory, or a list of them", "pass a path"
        )
    if networks is not None:
        if len(many) != 1:
            raise InputError(
                f"networks from elsewhere with {len(many)} runs",
                "one run, which has their inputs and labels",
                "pass one (--like)",
            )
        return given_sources(networks, many[0], data=data, label=label, **like)
    if any(isinstance(one, Problem) for one in many):
        raise InputError("a problem without networks", "networks=[...]", "pass the networks")
    for name, value in like.items():
        if value is not None:
            text = value if isinstance(value, str) else shown(value)
            what = f"{name}={text} without networks from elsewhere"
            raise InputError(what, "nothing", "runs know theirs")
    return find_sources(many)


def config_of(request: Request, sources: Sequence[Source], counted: bool) -> dict[str, Any]:
    """What determines the table, for the manifest; equal on resume."""
    number = {"networks": request.networks} if counted else {}
    found = {source.name: source.sha256 for source in sources}
    return {"sources": found, **number, **request.config()}


@dataclass(frozen=True)
class Measuring(Work[Chunk, Columns]):
    """The work of :func:`measure`: a shard for every piece.

    ``threads``: whether pieces may be measured in threads.
    """

    request: Request
    threads: bool = False

    def in_threads(self) -> bool:
        """Compiled measures run side by side, and products of torch."""
        return self.threads

    def compute(self, piece: Chunk) -> Columns:
        """All columns of one piece."""
        make = network_columns if piece.source.kind == "networks" else function_columns
        return as_columns(make(self.request, piece.source, np.array(piece.rows)))


def load_measures(path: Path | str) -> pd.DataFrame:
    """The table of a run directory of ``simprior measure``, or a Parquet or CSV file like it.

    Raises :class:`InputError` for another file, :class:`StoreError` for another run.
    """
    path = Path(path)
    if not path.is_dir():
        return read_file(path)
    run = load_run(path)
    if TABLE not in run.files or run.status != "complete":
        raise run.in_place_of("a complete run of 'simprior measure'", "measure it first")
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


RELATIVE = 1e-5
"""Relative change that counts as moved: well above float64 rounding of a rescaled forward pass."""
SIGMAS = 4.0
_MANY = 20
_MOST = 690.0  # exp of it is finite


def rescaling_table(frame: pd.DataFrame) -> pd.DataFrame:
    """How far each measure moves between alpha = 1 and every other alpha, network by network.

    Returns
    -------
    DataFrame
        A row a measure and alpha: ``measure``, ``alpha``, ``networks``, ``moved`` (share whose
        value changed by more than 1e-5 of itself and more than four standard errors, where the
        measure has one, or four of the mean change over 20 networks or more), ``factor`` (median
        of value after / before; of a measure that is a logarithm, of the quantity itself) with
        ``factor_low`` and ``factor_high`` (central 95 % of the networks), ``function_changed``
        (share of networks).

    Raises
    ------
    InputError
        Without networks measured both at alpha = 1 and at another alpha.
    """
    for name in ("alpha", "run", "member"):
        if name not in frame:
            raise InputError(f"no column {name!r}", "a table of simprior measure", "measure first")
    keys = ["run", "member"]
    before = frame[frame["alpha"] == 1.0].set_index(keys)
    alphas = sorted(a for a in frame["alpha"].unique() if a != 1.0)
    if not alphas or not len(before):
        raise InputError(
            f"alpha={sorted(frame['alpha'].unique())}",
            "alpha = 1 and at least one other",
            "measure with alphas = [1, 4]",
        )
    rows = []
    for alpha in alphas:
        after = frame[frame["alpha"] == alpha].set_index(keys)
        both = before.index.intersection(after.index)
        a, b = before.loc[both], after.loc[both]
        changed = float((a["function"] != b["function"]).mean()) if "function" in a else np.nan
        for name in measure_columns(frame):
            row = _row(name, a, b)
            if row is not None:
                rows.append({"measure": name, "alpha": alpha, **row, "function_changed": changed})
    return pd.DataFrame(rows)


def _row(name: str, before: pd.DataFrame, after: pd.DataFrame) -> dict[str, Any] | None:
    old, new = before[name].to_numpy(float), after[name].to_numpy(float)
    good = np.isfinite(old) & np.isfinite(new)
    if not good.any():
        return None
    limit = RELATIVE * np.abs(old)
    stderr = f"{name}_stderr"
    if stderr in before:
        errors = np.hypot(before[stderr].to_numpy(float), after[stderr].to_numpy(float))
        limit = np.maximum(limit, SIGMAS * np.nan_to_num(errors))
    change = np.abs(new - old)[good]
    moved = change > limit[good]
    if stderr in before and _mean_moved((new - old)[good]):
        moved = change > RELATIVE * np.abs(old[good])
    factor = _factors(old[good], new[good], MEASURES[name].log)
    low, middle, high = np.quantile(factor, [0.025, 0.5, 0.975])
    return {
        "networks": int(good.sum()),
        "moved": float(moved.mean()),
        "factor": float(middle),
        "factor_low": float(low),
        "factor_high": float(high),
    }


def _mean_moved(change: np.ndarray) -> bool:
    """Whether the mean change is more than four standard errors from 0, over the networks.

    Estimates before and after use the same random directions: their errors are not independent, and
    what one network does not show many may. Directions of different networks are independent.
    """
    k = len(change)
    return k >= _MANY and bool(abs(change.mean()) > SIGMAS * change.std(ddof=1) / np.sqrt(k))


def _factors(old: np.ndarray, new: np.ndarray, log: bool) -> np.ndarray:
    """How many times larger each value has become; 1 where there is nothing to compare."""
    if log:
        return np.exp(np.clip(new - old, -_MOST, _MOST))
    nonzero = old != 0
    return new[nonzero] / old[nonzero] if nonzero.any() else np.ones(1)
