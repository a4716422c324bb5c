"""A grid of priors: ``simprior sample`` for every cell, and what its functions are like on average.

Keys are those of ``simprior sample``: the network's, and samples, heads, dtype, seed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.boolean.complexity import entropy_packed, lz76_packed, ones_packed
from simprior.boolean.counts import FunctionCounts
from simprior.boolean.sampling import sample
from simprior.engine import progress_bar
from simprior.errors import InputError
from simprior.store import RunDir
from simprior.training.settings import NETWORK, settings, text
from simprior.training.sweep import cell_name, varying
from simprior.training.sweep_run import CELLS, quiet_stores, remove_stale, write_sweep

if TYPE_CHECKING:
    import pandas as pd

_OWN = ("samples", "heads", "dtype", "seed")
COLUMNS = (
    "samples", "functions", "p_constant", "p_constant_stderr", "lz76", "lz76_stderr", "entropy",
    "entropy_stderr", "unseen_mass",
)  # fmt: skip


def run_samples(
    cells: Sequence[dict[str, Any]], out: Path | str, *, seed: int = 0, resume: bool = False,
    overwrite: bool = False, quiet: bool = True, **run_options: Any,
) -> pd.DataFrame:  # fmt: skip
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
                    network, **job, out=path, resume=path.exists(), progress=progress,
                    **run_options,
                )  # fmt: skip
                assert isinstance(counts, FunctionCounts)
                varied = {k: cell.get(k) for k in names}
                rows.append({"cell": name, **varied, **prior_means(counts)})
        return write_sweep(rows, store, COLUMNS)


def sample_settings(cell: Mapping[str, Any], seed: int) -> tuple[Any, dict[str, Any]]:
    """(network, keywords of ``sample``) of a cell. Raises :class:`InputError`."""
    cell = {key.replace("-", "_"): value for key, value in cell.items()}
    wrong = [key for key in cell if key not in (*NETWORK, *_OWN)]
    if wrong:
        raise InputError(
            f"setting {wrong[0]} of [sample]", f"one of {', '.join((*NETWORK, *_OWN))}",
            "correct or remove it",
        )  # fmt: skip
    network = settings({k: v for k, v in cell.items() if k in NETWORK}).network
    job = {"seed": seed, "samples": 10**6, "heads": 1}
    job |= {k: v for k, v in cell.items() if k in _OWN}
    return network, job


def prior_means(counts: FunctionCounts) -> dict[str, Any]:
    """Totals of a sampled prior and means of its functions' complexity, with standard errors."""
    p, m, words = counts.p, counts.m, counts.words
    draws = max(1, counts.samples // max(1, counts.heads))
    constant = np.isin(ones_packed(words, m), [0, m])
    values = {"lz76": lz76_packed(words, m), "entropy": entropy_packed(words, m),
              "p_constant": constant.astype(float)}  # fmt: skip
    row: dict[str, Any] = {
        "samples": counts.samples, "functions": counts.functions,
        "unseen_mass": counts.unseen.mass,
    }  # fmt: skip
    for name, value in values.items():
        mean = float(p @ value)
        row[name] = mean
        row[f"{name}_stderr"] = math.sqrt(max(float(p @ value**2) - mean**2, 0.0) / draws)
    return row
