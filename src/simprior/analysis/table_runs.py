"""Run directories that hold tables, and no functions: how they are written, and printed.

The packages that compute return frames and know no text. Here their frames become the tables of a
run directory, as the commands ``correlate`` and ``sensitivity`` and the stages of a study want it.
Two stages that no command does alone are whole here: a grid of priors (:func:`run_samples`), and
how complex and probable the targets of training runs were (:func:`target_table`).

Of any such run ``simprior table`` prints the main table (:func:`run_table`), with the columns that
have room on paper (:func:`for_paper`).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from simprior.analysis.measure.groups import cluster_of
from simprior.analysis.measure.prior import prior_of
from simprior.analysis.measure.registry import MEASURES
from simprior.analysis.strings.run import FITS, LAW, NETWORKS, SUMMARY, StringsResult
from simprior.analysis.study.paper_tables import CAPTIONS, write_forms
from simprior.analysis.study.priors import KEYS, complexity_columns, component_of, prior_of_cell
from simprior.analysis.study.recipe import select, stage_frame
from simprior.analysis.table_files import read_frame, read_run_table
from simprior.analysis.text.numbers import own_columns
from simprior.analysis.text.tables import write
from simprior.boolean.complexity import entropy_packed, lz76_packed, ones_packed
from simprior.boolean.sampling.counts import COUNTS, FunctionCounts
from simprior.boolean.sampling.sample import sample
from simprior.boolean.truthtable import from_hex
from simprior.checks import RUN_OPTIONS, Maybe, Whole, shown, unknown
from simprior.errors import InputError, StoreError
from simprior.modules.spec import Module
from simprior.network.losses import threshold
from simprior.network.spec import Network
from simprior.numerics.estimate import mean_stderr, share_stderr
from simprior.runs.directory import RunDir, load_run, write_table
from simprior.runs.tasks import RunOptions, progress_bar
from simprior.training.records import TrainResult
from simprior.training.settings import text
from simprior.training.sweep import (
    CELLS,
    cell_name,
    quiet_stores,
    remove_stale,
    varying,
    write_sweep,
)

if TYPE_CHECKING:
    from simprior.analysis.correlate.correlations import Correlations
    from simprior.analysis.strings.settings import StringsSettings

_ROWS = "tables/rows.parquet"
TABLES = {
    "correlations": "table",
    "granulated": "granulated",
    "conditional-mi": "conditional_mi",
    "environments": "environments",
    "baselines": "baselines",
}
"""Tables of a run of ``correlate``: file, attribute of ``Correlations``."""


def correlate_into(
    frame: pd.DataFrame,
    options: Mapping[str, Any],
    source: Mapping[str, Any],
    out: Path | str,
    note: str,
    *,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = True,
) -> Correlations:
    """:func:`correlate` into the run directory ``out``; ``source`` says what ``frame`` is from.

    ``options`` are the keywords of :func:`correlate`; ``note`` is the command, kept in the tables.
    With ``resume`` a finished run of the same settings is only read, and one that was stopped goes
    on after the last coefficient that it has.

    Raises :class:`InputError` (nothing is left written), :class:`Interrupted`,
    :class:`StoreError`.
    """
    from simprior.analysis.correlate.correlations import correlations, prepare

    config = {k: v for k, v in options.items() if v is not None} | dict(source)
    table = prepare(frame, **options)
    with RunDir.open(out, "correlate", config, resume=resume, overwrite=overwrite) as store:
        files = list(store.manifest["files"])
        if store.finished(*(name for name in files if name.startswith("tables/"))):
            return read_correlations(store.path)
        try:
            found = correlations(table, store, quiet=quiet)
        except InputError:
            store.clear_shards()
            raise
        store.make_folder("tables")
        write(frame, store.path / _ROWS, "parquet", note)
        files = [store.path / _ROWS]
        for name, attribute in TABLES.items():
            table = getattr(found, attribute)
            if len(table):
                stem = store.path / "tables" / name
                paper = for_paper(table) if name == "correlations" else None
                files += write_forms(table, stem, CAPTIONS[name], f"tab:{name}", note, paper)
        for file in files:
            store.add_file(file)
        totals = {"rows": len(frame), "verdict": found.verdict, "notes": list(found.notes)}
        store.finish(totals)
        store.clear_shards()
    return found


def correlate_stage(
    study: Path,
    sources: Sequence[str],
    config: Mapping[str, Any],
    out: Path,
    *,
    seed: int,
    note: str,
    **options: bool,
) -> list[str]:
    """Correlate the rows of stages below ``study``, as the stage ``[correlate]`` does.

    ``config`` has the keywords of :func:`simprior.analysis.correlate.correlate`, and ``where``
    (:func:`simprior.analysis.study.recipe.select`). ``options`` are resume, overwrite and quiet of
    :func:`correlate_into`. Returns the notes of the run: what was refused, and why.

    Raises :class:`InputError`, :class:`StoreError`.
    """
    where = dict(config.get("where", {}))
    keywords = {"seed": seed, **{k: v for k, v in config.items() if k != "where"}}
    frame = select(stage_frame(study, sources).drop(columns="stage"), where, seed)
    source = {"from": list(sources), "where": where}
    return list(correlate_into(frame, keywords, source, out, note, **options).notes)


def read_correlations(run: Path) -> Correlations:
    """What :func:`correlate_into` has written into the run directory ``run``."""
    from simprior.analysis.correlate.correlations import Correlations

    info, tables = load_run(run), {}
    for name, attribute in TABLES.items():
        file = f"tables/{name}.parquet"
        tables[attribute] = read_run_table(info, file) if file in info.files else pd.DataFrame()
    notes = info.results.get("notes", [])
    controls = info.config.get("controls", ())
    controls = (controls,) if isinstance(controls, str) else tuple(controls)
    return Correlations(
        **tables,
        notes=[str(note) for note in notes],
        y=str(info.config.get("y", "test_error")),
        controls=controls,
    )


def sensitivity(
    study: StringsSettings | Network | Module, *, command: str = "", **options: Any
) -> StringsResult:
    """Measure distance and flips of random classifiers, summarise, fit, and predict by the GP.

    ``study`` says what is measured; or it is a network or module, whose own number of inputs does
    not matter, and ``options`` has the other settings of
    :class:`simprior.analysis.strings.settings.StringsSettings` (``n``, ``networks``, ...).
    ``options`` are those of :class:`simprior.runs.tasks.RunOptions`. The run directory ``out``
    holds ``networks.parquet`` and ``tables/sensitivity*``; ``command`` is kept as a comment in the
    tables.

    Raises :class:`InputError`, :class:`StoreError`, or :class:`Interrupted` (resumable).
    """
    from simprior.analysis.strings.run import run_networks
    from simprior.analysis.strings.settings import NAMES, StringsSettings, settings_for

    if not isinstance(study, StringsSettings):
        study, options = settings_for(study, options)
    for name, value in options.items():
        if name not in RUN_OPTIONS:
            raise unknown(f"{name}={shown(value)}", name, (*RUN_OPTIONS, *NAMES), "leave it out")
        RUN_OPTIONS[name](name, value)
    save = partial(_save_sensitivity, command=command)
    return run_networks(study, save, RunOptions(**options))


def _save_sensitivity(result: StringsResult, store: RunDir, command: str) -> None:
    """Write the tables and close the run."""
    for name, frame in ((NETWORKS, result.rows), (LAW, result.law)):
        store.make_folder(str(Path(name).parent))
        write_table(store.path / name, {c: frame[c].to_numpy() for c in frame})
        store.add_file(name, rows=len(frame))
    for base, frame in ((SUMMARY, result.summary), (FITS, result.fits)):
        stem, paper = store.path / base, for_paper(frame)
        texts = CAPTIONS[stem.name], f"tab:{stem.name}", command
        if len(frame):
            for file in write_forms(frame, stem, *texts, paper):
                store.add_file(file, rows=len(frame))
    totals = {"rows": len(result.rows), "networks": int(result.summary["networks"].sum())}
    store.finish(totals | ({"notes": result.notes} if result.notes else {}))
    store.clear_shards()


def save_trained(
    frame: pd.DataFrame,
    run: Path | str,
    out: Path | str,
    command: str,
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> None:
    """Write the table of :func:`simprior.analysis.strings.run.trained_sensitivity`.

    It goes to ``tables/trained-sensitivity`` (CSV and Parquet) of the run directory ``out``. Raises
    :class:`StoreError`.
    """
    from simprior.analysis.strings.run import TRAINED

    origin = load_run(Path(run))
    config = {"run": str(run), "trained": origin.config, "seed": origin.config.get("seed", 0)}
    with RunDir.open(out, "sensitivity", config, resume=resume, overwrite=overwrite) as store:
        _write_plain(frame, TRAINED, store, command, ("csv", "parquet"))
        store.finish({"members": len(frame)})


def write_targets(
    train: Path,
    out: Path,
    *,
    seed: int,
    draws: int = 1000,
    resume: bool = False,
    overwrite: bool = False,
    note: str = "",
) -> pd.DataFrame:
    """:func:`target_table` as a run directory ``out``."""
    config = {"runs": train.name, "seed": seed, "draws": draws}
    with RunDir.open(out, "targets", config, resume=resume, overwrite=overwrite) as store:
        frame = target_table(train, seed, draws)
        _write_plain(frame, TARGETS, store, note, ("parquet", "csv"))
        store.finish({"rows": len(frame)})
    return frame


def _write_plain(
    frame: pd.DataFrame, parquet: str, store: RunDir, note: str, forms: Sequence[str]
) -> None:
    """The table ``parquet`` of a run (its path in the run) in Parquet and CSV, in this order."""
    store.make_folder("tables")
    for form in forms:
        name = f"{parquet.removesuffix('.parquet')}.{form}"
        for file in write(frame, store.path / name, form, note):
            store.add_file(file, rows=len(frame))


_ROUNDING = 1e-12  # relative differences that are none
_SAMPLE_KEYS = ("samples", "heads", "dtype", "seed", "complexity")
COLUMNS = (
    "samples",
    "functions",
    "p_constant",
    "p_constant_stderr",
    "lz76",
    "lz76_stderr",
    "entropy",
    "entropy_stderr",
    "unseen_mass",
)


def run_samples(
    cells: Sequence[dict[str, Any]],
    out: Path | str,
    *,
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = True,
    **run_options: Any,
) -> pd.DataFrame:
    """Sample every one of ``cells`` into ``out/cells`` and return a row a cell.

    ``cells`` are the settings that :func:`simprior.training.sweep.expand` makes of a grid.

    The row has the settings that vary, the number of distinct functions, P(constant), and means
    over the prior of LZ complexity and entropy (bits), each with a standard error: the spread over
    samples, over the number of independent hidden draws (with shared heads an upper limit). A cell
    with ``complexity`` has the columns of :func:`simprior.analysis.study.priors.complexity_columns`
    as well, and its ``component`` in words.
    ``run_options``: workers, device, executor, executor_options of ``boolean.sampling.sample``.

    Raises :class:`InputError`, :class:`StoreError`.
    """
    names = varying(list(cells))
    jobs = {cell_name(i, c, names): (c, sample_settings(c, seed)) for i, c in enumerate(cells)}
    config = {"cells": [{k: text(v) for k, v in cell.items()} for cell in cells], "seed": seed}
    rows = []
    with RunDir.open(out, "sample-grid", config, resume=resume, overwrite=overwrite) as store:
        if overwrite:
            remove_stale(store.path / CELLS, set())
        total = sum(int(job["samples"]) for _, (_, job) in jobs.values())
        with progress_bar(total, "net", quiet=quiet) as progress, quiet_stores():
            for i, (name, (cell, (network, job))) in enumerate(jobs.items()):
                logging.getLogger("simprior").info("cell %d of %d: %s", i + 1, len(jobs), name)
                path = store.path / CELLS / name
                counts = sample(
                    network,
                    **job,
                    out=path,
                    resume=path.exists(),
                    progress=progress,
                    **run_options,
                )
                assert isinstance(counts, FunctionCounts)
                varied = {k: _entry(cell.get(k)) for k in names}
                row = {"cell": name, **varied, **prior_means(counts)}
                if counts.complexity is not None:
                    row |= {"component": component_of(network), **complexity_columns(counts)}
                rows.append(row)
        return write_sweep(rows, store, COLUMNS)


def sample_settings(cell: Mapping[str, Any], seed: int) -> tuple[Any, dict[str, Any]]:
    """(network, keywords of ``sample``) of a cell. Raises :class:`InputError`."""
    cell = {key.replace("-", "_"): value for key, value in cell.items()}
    known = (*KEYS, *_SAMPLE_KEYS)
    wrong = [key for key in cell if key not in known]
    if wrong:
        raise unknown(f"setting {wrong[0]} of [sample]", wrong[0], known, "correct or remove it")
    network = prior_of_cell({k: v for k, v in cell.items() if k in KEYS})
    job = {"seed": seed, "samples": 10**6, "heads": 1}
    job |= {k: v for k, v in cell.items() if k in _SAMPLE_KEYS}
    Maybe(Whole(1))("complexity", job.get("complexity"))
    return network, job


def _entry(value: Any) -> Any:
    """A setting as an entry of a table: lists become text."""
    return text(value) if isinstance(value, list | Mapping) else value


def prior_means(counts: FunctionCounts) -> dict[str, Any]:
    """Totals of a sampled prior and means of its functions' complexity, with standard errors."""
    p, m, words = counts.p, counts.m, counts.words
    draws = max(1, counts.samples // max(1, counts.heads))
    constant = np.isin(ones_packed(words, m), [0, m])
    values = {
        "lz76": lz76_packed(words, m),
        "entropy": entropy_packed(words, m),
        "p_constant": constant.astype(float),
    }
    row: dict[str, Any] = {
        "samples": counts.samples,
        "functions": counts.functions,
        "unseen_mass": counts.unseen.mass,
    }
    for name, value in values.items():
        mean, squares = float(p @ value), float(p @ value**2)
        row[name] = mean
        row[f"{name}_stderr"] = math.sqrt(max(squares - mean**2, 0.0) / draws)
        if squares - mean**2 <= _ROUNDING * squares:  # all alike: another may differ by a step
            step = math.log2(m) / 2.0 if name == "lz76" else 1.0
            row[f"{name}_stderr"] = step * float(share_stderr(0.0, draws))
    return row


TARGETS = "tables/targets.parquet"


def target_table(train: Path, seed: int = 0, draws: int = 1000) -> pd.DataFrame:
    """A row a training run below ``train``: its target's complexity and ln P, mean errors.

    Columns: run, cluster, target, optimizer, train_size, data_seed, ``target_lz76``,
    ``target_entropy`` (bits), ``target_log_p`` with ``_stderr`` (nats; infinite width, without the
    condition on the training set), ``test_error`` with ``_stderr`` (mean over members that fitted),
    ``networks``. Raises :class:`StoreError` where no training run is found.
    """
    paths = sorted(train.glob("cells/*")) or [train]
    rows, known = [], {}
    for path in paths:
        result = TrainResult.load(path)
        on, good, config = result.trained_on, result.fitted, result.config
        key = (on.target, repr(config.get("network")), threshold(config["loss"]))
        if key not in known:
            known[key] = _log_p(result, seed, draws)
        words = from_hex(on.target, result.m)
        error = result.test_error[good]
        row = {
            "run": path.name,
            "cluster": cluster_of(result),
            "target": on.target,
            "optimizer": config["optimizer"],
            "train_size": len(on.train_index),
            "data_seed": on.seed,
            "target_lz76": float(lz76_packed(words, result.m)[0]),
            "target_entropy": float(entropy_packed(words, result.m)[0]),
            "target_log_p": known[key]["log_p"],
            "target_log_p_stderr": known[key]["log_p_stderr"],
            "test_error": float(error.mean()) if len(error) else np.nan,
            "test_error_stderr": mean_stderr(error),
            "networks": int(good.sum()),
        }
        rows.append(row)
    if not rows:
        raise StoreError(f"{train}: expected runs of simprior train below it; train first")
    return pd.DataFrame(rows)


def _log_p(result: TrainResult, seed: int, draws: int) -> dict[str, float]:
    """``log_p`` and ``log_p_stderr`` of the target under the prior of the run's networks."""
    if result.trained_on.n == 0:
        raise StoreError("targets: expected Boolean inputs; leave [targets] out for real data")
    words = from_hex(result.trained_on.target, result.m)
    found = prior_of(result, seed, draws=draws).log_p(words)
    return {name: float(value[0]) for name, value in found.items()}


MOST = 8
"""Columns of a LaTeX table, not counting errors and limits."""
SENSITIVITY = (
    *("n", "networks", "distance", "distance_stderr", "certified", "ratio", "ratio_stderr"),
    *("gp_distance_low", "flips", "flips_stderr", "gp_flips", "gp_flips_stderr"),
)
"""Columns of the table of ``simprior sensitivity`` in LaTeX."""
LOGP = (
    *("name", "function", "method", "logp", "stderr", "ess", "pareto_k", "reliable"),
    *("rank", "count", "p", "p_stderr", "p_low", "p_high"),
)
"""Columns of the table of ``simprior logp`` in LaTeX."""
COMPARISON = "name value stderr low high matched noise_ceiling_a noise_ceiling_b".split()
"""Columns of the table of ``simprior compare`` in LaTeX."""
_IDS = ("run", "cell", "cluster", "function", "seed")
_OUTCOMES = (
    *("fitted", "runs", "fitted_share", "steps", "test_error", "networks", "samples"),
    *("functions", "p_constant", "target_lz76", "target_log_p"),
)
_TABLES = (
    *("measure", "correlate", "study", "sweep", "sample-grid", "targets", "sensitivity"),
    *("compare", "logp", "bound"),
)
"""Commands whose runs have a main table that is not one of functions."""


def has_functions(path: Path) -> bool:
    """Whether the main table of a run is one of functions. Raises :class:`StoreError`."""
    run = load_run(path)
    return COUNTS in run.files or run.command not in _TABLES


def run_table(
    path: Path,
    file: str | None = None,
    top: int | None = None,
    columns: Sequence[str] | None = None,
) -> pd.DataFrame:
    """The first ``top`` rows of a run's main table, or of its table ``file``.

    Raises :class:`InputError` for a table or a column that does not exist, :class:`StoreError`
    where there is no table.
    """
    frame = read_frame(path, file)
    for name in columns or ():
        if name not in frame:
            raise unknown(f"columns={name}", name, frame.columns)
    frame = frame if columns is None else frame[list(columns)]
    return frame if top is None else frame.head(top)


def for_paper(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns that a page has room for, with their errors.

    Of coefficients: groups, measure, tau, the partial coefficient and p-values. Of networks or
    cells: the settings that vary, the test error, and measures, those with errors first. A table of
    :data:`MOST` columns or fewer stays as it is.
    """
    names = [str(name) for name in frame.columns]
    if {"measure", "kendall"} <= set(names):
        chosen = [name for name in _coefficients(names) if name in frame]
    elif {"name", "noise_ceiling_a"} <= set(names):
        return frame[COMPARISON].dropna(subset=["value"])
    elif {"logp", "method"} <= set(names):
        chosen = [name for name in LOGP if name in frame and frame[name].notna().any()]
        if "name" in chosen and (frame["name"] == frame["function"]).all():
            chosen.remove("function")
    elif {"gp_flips", "certified"} <= set(names):
        chosen = [name for name in SENSITIVITY if name in frame and frame[name].notna().any()]
    elif len(own_columns(frame)) > MOST:
        chosen = _short(frame)
    else:
        chosen = names
    return frame[chosen]


def _coefficients(names: list[str]) -> list[str]:
    """The columns of a table of coefficients that a page has room for.

    Groups, measure, numbers, Kendall's tau, the partial rank coefficient (the rank coefficient if
    there is none), and the adjusted p-values.
    """
    head = names[: names.index("measure") + 1]
    kinds = ["kendall", "partial_spearman" if "partial_spearman" in names else "spearman"]
    ends = ("", "_stderr", "_low", "_high")
    numbers = [kind + end for kind in kinds for end in ends]
    return [*head, "points", "clusters", *numbers, "p_adjusted", "partial_p_adjusted"]


def _short(frame: pd.DataFrame) -> list[str]:
    """At most :data:`MOST` columns that vary, with the standard errors of those that have them."""
    own = [name for name in own_columns(frame) if _varies(frame[name])]
    first = next((i for i, name in enumerate(own) if name in _OUTCOMES or name in MEASURES), 0)
    chosen = _independent(frame, [name for name in own[:first] if name not in _IDS])
    rest = [name for name in own[first:] if name != "cluster"]
    known = [name for name in rest if name in MEASURES]
    sure = [name for name in known or rest if f"{name}_stderr" in frame]
    wanted = ["test_error", *sure, *(known or rest)]
    chosen += [name for name in dict.fromkeys(wanted) if name in rest]
    columns = [c for name in chosen[:MOST] for c in (name, f"{name}_stderr") if c in frame]
    return columns or [str(name) for name in frame.columns[:MOST]]


def _independent(frame: pd.DataFrame, names: list[str]) -> list[str]:
    """Settings that say more than those before them (a learning rate may follow the optimiser)."""
    chosen: list[str] = []
    for name in names:
        if not chosen or frame.groupby(chosen)[name].nunique().max() > 1:
            chosen.append(name)
    return chosen


def _varies(column: pd.Series) -> bool:
    return len(column) < 2 or column.astype(str).nunique() > 1
