"""The run directory of ``simprior sensitivity``: its tables, written and read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from simprior.errors import StoreError
from simprior.store import RunDir, load_run, write_table

if TYPE_CHECKING:
    import pandas as pd

NETWORKS, SUMMARY, FITS, LAW = (
    "networks.parquet", "tables/sensitivity", "tables/sensitivity-fits",
    "tables/sensitivity-gp.parquet",
)  # fmt: skip
COMMAND = "sensitivity"


@dataclass(frozen=True, eq=False)
class SensitivityResult:
    """``rows``: a row a network and start string (n, network, string, distance, search, certified,
    flips, unchanged); ``summary``: a row a length (:func:`scaling.summarise`, with gp_flips,
    gp_flips_stderr, gp_unchanged and gp_distance_low, nan where there is no prediction, or where
    some strings had no other class within reach, which a prediction of the distance would count);
    ``fits``: :func:`scaling.fit` (empty where :func:`scaling.too_few` says why); ``law``: columns
    n, k, survival of the GP's flips; ``notes``: what was not fitted, and why.
    """

    rows: pd.DataFrame
    summary: pd.DataFrame
    fits: pd.DataFrame
    law: pd.DataFrame
    notes: list[str] = field(default_factory=list)


def save(result: SensitivityResult, store: RunDir, command: str) -> None:
    """Write the tables and close the run."""
    from simprior.analysis.paper_tables import CAPTIONS, write_forms
    from simprior.analysis.run_tables import for_paper

    for name, frame in ((NETWORKS, result.rows), (LAW, result.law)):
        store.make_folder(str(Path(name).parent))
        write_table(store.path / name, {c: frame[c].to_numpy() for c in frame})
        store.add_file(name, rows=len(frame))
    for base, frame in ((SUMMARY, result.summary), (FITS, result.fits)):
        stem, columns = Path(base).name, [str(name) for name in for_paper(frame)]
        where = store.path / base
        if len(frame):
            for file in write_forms(frame, where, CAPTIONS[stem], f"tab:{stem}", command, columns):
                store.add_file(file, rows=len(frame))
    totals = {"rows": len(result.rows), "networks": int(result.summary["networks"].sum())}
    store.finish(totals | ({"notes": result.notes} if result.notes else {}))
    store.clear_shards()


def load(path: Path | str) -> SensitivityResult:
    """A complete run directory of ``simprior sensitivity``. Raises :class:`StoreError`."""
    import pandas as pd

    path = Path(path)
    run = load_run(path)
    if run.command != COMMAND or run.status != "complete" or NETWORKS not in run.files:
        raise StoreError(
            f"{path}: expected a complete run of 'simprior {COMMAND}' over random networks, found "
            f"one of 'simprior {run.command}' that is {run.status}; finish it with --resume"
        )
    names = {"rows": NETWORKS, "summary": f"{SUMMARY}.parquet", "fits": f"{FITS}.parquet",
             "law": LAW}  # fmt: skip
    frames = {
        key: pd.DataFrame(run.read_table(name)) if name in run.files else pd.DataFrame()
        for key, name in names.items()
    }
    notes = [str(note) for note in run.results.get("notes", [])]
    return SensitivityResult(**frames, notes=notes)
