"""A grid of priors: ``simprior sample`` for every cell, and what its functions are like on average.

Keys are those of ``simprior sample``: the network's, and samples, heads, dtype, seed.

The stage ``[sensitivity]`` of a study: settings of ``simprior sensitivity`` by name.

How complex were the targets? LZ complexity and ln P of each, beside the errors of training.

The figures and tables that a recipe asks for, from what its stages have found.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from simprior.analysis.figures import style as files
from simprior.analysis.figures.marks import group_column
from simprior.analysis.figures.registry import recipe_kinds
from simprior.analysis.measure.prior import prior_of
from simprior.analysis.measure.sources import cluster_of
from simprior.analysis.strings.settings import LAW, StringsSettings
from simprior.analysis.strings.settings import NAMES as STRINGS
from simprior.analysis.study.paper_tables import write_forms
from simprior.analysis.study.recipe import stage_frame, unknown_key
from simprior.boolean.complexity import entropy_packed, lz76_packed, ones_packed
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.sampling.sample import sample
from simprior.boolean.truthtable import from_hex
from simprior.checks import unknown
from simprior.errors import InputError, StoreError
from simprior.network.losses import threshold
from simprior.numerics.estimate import mean_stderr
from simprior.runs.directory import RunDir
from simprior.runs.files import translate_errors
from simprior.runs.tasks import progress_bar
from simprior.training.records import TrainResult
from simprior.training.settings import NETWORK, settings, text
from simprior.training.sweep import (
    CELLS,
    cell_name,
    quiet_stores,
    remove_stale,
    varying,
    write_sweep,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_SAMPLE_KEYS = ("samples", "heads", "dtype", "seed")
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
    samples, over the number of independent hidden draws (with shared heads an upper limit).
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
                varied = {k: cell.get(k) for k in names}
                rows.append({"cell": name, **varied, **prior_means(counts)})
        return write_sweep(rows, store, COLUMNS)


def sample_settings(cell: Mapping[str, Any], seed: int) -> tuple[Any, dict[str, Any]]:
    """(network, keywords of ``sample``) of a cell. Raises :class:`InputError`."""
    cell = {key.replace("-", "_"): value for key, value in cell.items()}
    wrong = [key for key in cell if key not in (*NETWORK, *_SAMPLE_KEYS)]
    if wrong:
        raise InputError(
            f"setting {wrong[0]} of [sample]",
            f"one of {', '.join((*NETWORK, *_SAMPLE_KEYS))}",
            "correct or remove it",
        )
    network = settings({k: v for k, v in cell.items() if k in NETWORK}).network
    job = {"seed": seed, "samples": 10**6, "heads": 1}
    job |= {k: v for k, v in cell.items() if k in _SAMPLE_KEYS}
    return network, job


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
        mean = float(p @ value)
        row[name] = mean
        row[f"{name}_stderr"] = math.sqrt(max(float(p @ value**2) - mean**2, 0.0) / draws)
    return row


def strings_settings(values: Mapping[str, Any], seed: int = 0) -> StringsSettings:
    """What a stage ``[sensitivity]`` says, with the defaults of ``simprior sensitivity``.

    Raises :class:`InputError`.
    """
    values = {key.replace("-", "_"): value for key, value in values.items()}
    for key in values:
        if key not in STRINGS:
            raise unknown_key("key of [sensitivity]", key, STRINGS)
    if "n" not in values:
        raise InputError("[sensitivity] without n", "lengths of strings", "add n = [100, 200]")
    n = values.pop("n")
    law = {key: value for key, value in values.items() if key in LAW}
    network = settings(law).network
    given = {"seed": seed, **values, **{key: getattr(network, key) for key in law}}
    return StringsSettings(n=tuple(n) if isinstance(n, list) else (n,), **given)


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
        problem, good = result.problem, result.fitted
        config = result.config
        key = (problem["target"], repr(config.get("network")), threshold(config["loss"]))
        if key not in known:
            known[key] = _log_p(result, seed, draws)
        words = from_hex(problem["target"], result.m)
        error = result.test_error[good]
        size = len(problem["train_index"])
        row = {
            "run": path.name,
            "cluster": cluster_of(result),
            "target": problem["target"],
            "optimizer": result.config["optimizer"],
            "train_size": size,
            "data_seed": problem["seed"],
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
    if int(result.problem["n"]) == 0:
        raise StoreError("targets: expected Boolean inputs; leave [targets] out for real data")
    found = prior_of(result, seed, draws=draws).log_p(from_hex(result.problem["target"], result.m))
    return {name: float(value[0]) for name, value in found.items()}


def draw_figure(config: Mapping[str, Any], out: Path, seed: int = 0) -> Figure:
    """One ``[[figure]]`` of a recipe, from the stages below ``out``. Raises InputError."""
    kind = recipe_kinds()[str(config["kind"])]
    names = [str(name) for name in config["from"]]
    options = {key: config[key] for key in (*kind.needs, *kind.takes) if key in config}
    if kind.whole:
        return kind.draw(out / names[0], **options)
    frame = stage_frame(out, names, config.get("where"), seed)
    if "by" in options:
        frame, options["by"] = group_column(frame, options["by"])
    return kind.draw(frame, **options)


def title_of(config: Mapping[str, Any]) -> str:
    """The title of a ``[[figure]]`` in the metadata of its files: its caption, or its name."""
    return str(config.get("caption", config["name"]))


def write_figures(configs: list[dict[str, Any]], out: Path, note: str, seed: int = 0) -> list[Path]:
    """Draw every figure of a recipe into ``out/figures`` as PDF and PNG; ``note`` is metadata."""
    drawn = (
        (config["name"], title_of(config), draw_figure(config, out, seed)) for config in configs
    )
    return files.write_figures(drawn, out / "figures", note)


def recipe_table(config: Mapping[str, Any], out: Path, seed: int = 0) -> pd.DataFrame:
    """One ``[[table]]`` of a recipe. Raises :class:`InputError` for an unknown column."""
    names, where = list(config["from"]), config.get("where")
    frame = stage_frame(out, names, where, seed, config.get("file"))
    if config.get("file") is None and len(config["from"]) == 1:
        frame = frame.drop(columns="stage")
    if "sort" in config:
        _check(frame, [config["sort"]])
        frame = frame.sort_values(config["sort"], kind="stable")
    if "columns" in config:
        _check(frame, config["columns"])
        frame = frame[list(config["columns"])]
    return frame.head(int(config["top"])) if "top" in config else frame


def _check(frame: pd.DataFrame, names: list[str]) -> None:
    for name in names:
        if name not in frame:
            raise unknown(f"columns={name}", name, frame.columns)


def write_tables(
    configs: list[dict[str, Any]], out: Path, note: str, seed: int = 0
) -> Iterator[Path]:
    """Write every table of a recipe into ``out/tables`` as LaTeX, CSV and Parquet."""
    folder = out / "tables"
    with translate_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for config in configs:
        frame = recipe_table(config, out, seed)
        caption = str(config.get("caption", config["name"]))
        label = str(config.get("label", f"tab:{config['name']}"))
        stem = folder / str(config["name"])
        yield from write_forms(frame, stem, caption, label, note, keep="columns" in config)
