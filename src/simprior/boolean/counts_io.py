"""Counts of functions on disk: run directories of ``simprior sample`` and ``simprior import``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from simprior.boolean.counts_check import check_rows, check_totals
from simprior.boolean.dnf import RandomDNF
from simprior.boolean.merge import Profile, profile_of_file, read_rows
from simprior.boolean.rows import Rows, write_rows
from simprior.errors import StoreError
from simprior.network import Network
from simprior.store import RunDir, RunInfo, load_run
from simprior.store_manifest import MANIFEST
from simprior.store_read import damaged

COUNTS, POOLED = "counts.parquet", "pooled.parquet"


def model_of(config: Mapping[str, Any]) -> Network | RandomDNF | None:
    """The model that a run's configuration describes; None for imported counts."""
    if "network" in config:
        return Network.from_dict(config["network"])
    return RandomDNF.from_dict(config["dnf"]) if "dnf" in config else None


def read_counts(path: Path | str, top: int | None = None) -> dict[str, Any]:
    """What :meth:`FunctionCounts.load` needs: totals, rows, profile, model, pooled rows.

    Raises
    ------
    StoreError
        No run directory, not complete, totals that do not fit together, or a table that is
        missing, altered (its SHA-256 is compared) or unreadable.
    """
    path = Path(path)
    run = load_run(path)
    results = run.results
    if run.status != "complete" or "ones" not in results:
        raise StoreError(
            f"{path}: expected a complete run with function counts, found a run of "
            f"'simprior {run.command}' that is {run.status}; {run.way_on}"
        )
    with damaged(path / MANIFEST):
        check_totals(path, results, run.config)
        out: dict[str, Any] = {
            "totals": results,
            "model": model_of(run.config),
            "config": run.config,
        }
    out["rows"], out["profile"] = _table(run, COUNTS, top, results.get("functions"))
    if "pooled" in results:
        classes = results["pooled"]["classes"]
        out["pooled"], out["pooled_profile"] = _table(run, POOLED, top, classes)
    return out


def _table(run: RunInfo, name: str, top: int | None, functions: int | None) -> tuple[Rows, Profile]:
    """Rows and profile of a table of a run, once its hash agrees with the registered one."""
    table, results = run.check(name), run.results
    with damaged(table):
        rows, profile = read_rows(table, results["m"], top), profile_of_file(table)
        check_rows(table, rows, profile, results["samples"], functions)
    return rows, profile


def save_counts(
    path: Path | str,
    command: str,
    config: Mapping[str, Any],
    rows: Rows,
    totals: dict[str, Any],
    *,
    overwrite: bool = False,
) -> None:
    """Write counts made elsewhere as a complete run directory."""
    with RunDir.open(path, command, config, overwrite=overwrite) as store:
        write_rows(store.path / COUNTS, rows)
        store.add_file(COUNTS, rows=len(rows.count))
        store.finish(totals)


def ones_totals(ones: np.ndarray) -> dict[str, Any]:
    """Sparse form of the (m + 1, 2) totals by number of ones, for a manifest."""
    used = np.flatnonzero(ones[:, 0])
    return {
        "t": used.tolist(),
        "count": ones[used, 0].tolist(),
        "sumsq": ones[used, 1].tolist(),
    }
