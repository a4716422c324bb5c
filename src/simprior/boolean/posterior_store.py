"""A posterior as a run directory: shards while it is drawn, then counts and ``posterior.json``.

The lock is held from the start to the end, and the run is marked complete when both files are there
and registered.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from simprior.boolean.counts import FunctionCounts
from simprior.boolean.counts_io import COUNTS
from simprior.boolean.rows import write_rows
from simprior.errors import StoreError
from simprior.store import RunDir, load_run

COMMAND, REPORT = "posterior", "posterior.json"


def stored_posterior(
    draw: Callable[[RunDir], FunctionCounts], out: Path | str, config: Mapping[str, Any], *,
    about: Callable[[FunctionCounts], Mapping[str, Any]] = lambda counts: {},
    resume: bool = False, overwrite: bool = False, options: Mapping[str, Any] | None = None,
) -> FunctionCounts:  # fmt: skip
    """What ``draw`` gives, kept in the run directory ``out``.

    Parameters
    ----------
    draw : callable
        Draws with the run directory as ``store=``, e.g. ``slice_posterior``.
    config : mapping
        Everything that determines the result; ``resume`` demands an equal one.
    about : callable, optional
        Further entries of the report, of the counts (``posterior.json`` alone has
        ``train_index``).
    resume, overwrite, options
        As of :meth:`simprior.store.RunDir.open`. A finished run is only read.

    Raises
    ------
    StoreError, Interrupted, and what ``draw`` raises.
    """
    with RunDir.open(
        out, COMMAND, config, resume=resume, overwrite=overwrite, options=options
    ) as store:
        if store.finished(COUNTS, REPORT):
            return load_posterior(store.path)
        counts = draw(store)
        report = counts.info["posterior"]
        report |= about(counts)
        write_rows(store.path / COUNTS, counts.rows)
        store.add_file(COUNTS, rows=len(counts))
        plain = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in report.items()
        }
        store.write_file(REPORT, json.dumps(plain, indent=1) + "\n")
        store.finish(counts.run_totals())
        store.clear_shards()
    report.pop("train_index", None)
    return counts


def load_posterior(path: Path | str) -> FunctionCounts:
    """Counts of a complete run with its report. Raises :class:`StoreError`."""
    path, run = Path(path), load_run(path)
    if run.command != COMMAND or run.status != "complete" or REPORT not in run.files:
        raise StoreError(
            f"{path}: expected a complete run of 'simprior {COMMAND}', found one of "
            f"'simprior {run.command}' that is {run.status}; {run.way_on}"
        )
    counts = FunctionCounts.load(path)
    report = run.read_json(REPORT)
    report.pop("train_index", None)
    counts.info["posterior"] = report
    return counts
