"""Counts of functions on disk: run directories of ``simprior sample`` and ``simprior import``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from simprior.boolean._tasks import Rows, write_rows
from simprior.boolean.dnf import RandomDNF
from simprior.boolean.merge import profile_of_file, read_rows
from simprior.errors import StoreError
from simprior.network import Network
from simprior.store import RunDir, load_run

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
        No run directory, not complete, or its table is missing, corrupt or unreadable.
    """
    path = Path(path)
    run = load_run(path)
    results = run.results
    if run.status != "complete" or "ones" not in results:
        raise StoreError(
            f"{path}: expected a complete run with function counts, found a run of "
            f"'simprior {run.command}' that is {run.status}; finish it with --resume"
        )
    _check(run.path, run.files, COUNTS)
    out: dict[str, Any] = {
        "totals": results,
        "rows": read_rows(path / COUNTS, results["m"], top),
        "profile": profile_of_file(path / COUNTS),
        "model": model_of(run.config),
        "config": run.config,
    }
    if "pooled" in results:
        _check(run.path, run.files, POOLED)
        out["pooled"] = read_rows(path / POOLED, results["m"], top)
        out["pooled_profile"] = profile_of_file(path / POOLED)
    return out


def _check(path: Path, files: Mapping[str, Any], name: str) -> None:
    size = (path / name).stat().st_size if (path / name).exists() else -1
    if name not in files or size != files[name]["bytes"]:
        raise StoreError(
            f"{path / name}: missing or not the registered file; run again with --resume"
        )


def save_counts(
    path: Path | str, command: str, config: Mapping[str, Any], rows: Rows, totals: dict[str, Any],
    *, overwrite: bool = False,
) -> None:  # fmt: skip
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
