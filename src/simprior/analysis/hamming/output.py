"""What ``simprior sensitivity`` finds, and reading it from its run directory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from simprior.errors import StoreError
from simprior.store import load_run

NETWORKS = "networks.parquet"
SUMMARY, FITS = "tables/sensitivity", "tables/sensitivity-fits"
LAW = "tables/sensitivity-gp.parquet"
COMMAND = "sensitivity"


@dataclass(frozen=True, eq=False)
class SensitivityResult:
    """Distance and flips of random networks.

    Attributes
    ----------
    rows : DataFrame
        A row a network and start string: n, network, string, distance, search, certified, flips,
        unchanged.
    summary : DataFrame
        A row a length: the columns of :func:`scaling.summarise`, and the predictions gp_flips,
        gp_flips_stderr, gp_unchanged and gp_distance_low. These are nan where there is no
        prediction; gp_distance_low also where some string had no other class within reach, as the
        prediction would count it.
    fits : DataFrame
        :func:`scaling.fit`; empty where :func:`scaling.too_few` says why.
    law : DataFrame
        Columns n, k, survival: the law of the number of flips of the Gaussian process.
    notes : list of str
        What was not fitted, and why.
    """

    rows: pd.DataFrame
    summary: pd.DataFrame
    fits: pd.DataFrame
    law: pd.DataFrame
    notes: list[str] = field(default_factory=list)


def load(path: Path | str) -> SensitivityResult:
    """A complete run directory of ``simprior sensitivity``. Raises :class:`StoreError`."""
    path = Path(path)
    run = load_run(path)
    if run.command != COMMAND or run.status != "complete" or NETWORKS not in run.files:
        raise StoreError(
            f"{path}: expected a complete run of 'simprior {COMMAND}' over random networks, found "
            f"one of 'simprior {run.command}' that is {run.status}; finish it with --resume"
        )
    rows, summary, fits, law = (
        pd.DataFrame(run.read_table(name)) if name in run.files else pd.DataFrame()
        for name in (NETWORKS, f"{SUMMARY}.parquet", f"{FITS}.parquet", LAW)
    )
    notes = [str(note) for note in run.results.get("notes", [])]
    return SensitivityResult(rows, summary, fits, law, notes)
