"""The kinds of a stage ``[evidence]``, and running one: rows, an overview, findings.

The run directory has the rows of all data sets (``evidence.parquet``), means over them
(``tables/overview.parquet``) and the judged findings (``tables/findings.parquet``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from simprior.analysis.evidence.bad_minima import BadMinima
from simprior.analysis.evidence.capacity import Capacity
from simprior.analysis.evidence.deep_linear import DeepLinear, SingleOutput
from simprior.analysis.evidence.double_descent import DoubleDescent
from simprior.analysis.evidence.double_descent_trained import TrainedDoubleDescent
from simprior.analysis.evidence.findings import Finding, failed_controls, table_of
from simprior.analysis.evidence.grokking import Grokking
from simprior.analysis.evidence.memorisation import Memorisation
from simprior.analysis.evidence.narrow_teachers import NarrowTeachers
from simprior.analysis.evidence.rare_outputs import RareNetworks
from simprior.analysis.evidence.robust import Robust
from simprior.analysis.evidence.tickets import Tickets
from simprior.analysis.study.sections import Pieced, run_section, section_settings
from simprior.analysis.table_files import keep_table
from simprior.runs.directory import RunDir
from simprior.runs.tasks import RunOptions, progress_bar

TABLE, OVERVIEW, FINDINGS = "evidence.parquet", "tables/overview.parquet", "tables/findings.parquet"


class Experiment(Pieced, Protocol):
    """What a section describes, with what was found by it."""

    def overview(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Means over data sets, with intervals."""

    def findings(self, frame: pd.DataFrame) -> list[Finding]:
        """The contrasts that the table of evidence lists."""


KINDS: dict[str, type[Any]] = {
    "deep-linear": DeepLinear,
    "single-output": SingleOutput,
    "memorisation": Memorisation,
    "double-descent": DoubleDescent,
    "double-descent-trained": TrainedDoubleDescent,
    "grokking": Grokking,
    "robust": Robust,
    "capacity": Capacity,
    "bad-minima": BadMinima,
    "rare-outputs": RareNetworks,
    "narrow-teachers": NarrowTeachers,
    "tickets": Tickets,
}


def experiment(values: Mapping[str, Any], seed: int = 0) -> Experiment:
    """What a section ``[evidence]`` asks for; ``seed`` is the recipe's, used if it has none.

    Raises :class:`InputError` for an unknown kind or key, or a bad value.
    """
    found: Experiment = section_settings("evidence", KINDS, values, seed)
    return found


def run_experiment(given: Experiment, **run_options: Any) -> pd.DataFrame:
    """The rows of an experiment, and with ``out`` a run directory of its three tables.

    ``run_options`` are fields of :class:`simprior.runs.tasks.RunOptions`. Raises InputError,
    StoreError, Interrupted.
    """
    options = RunOptions(**run_options)
    columns = run_section(
        "experiment", KINDS, given, options, table=TABLE, totals=lambda columns: {}
    )
    frame = pd.DataFrame(columns)
    if options.out is not None:
        _write_tables(given, frame, Path(options.out))
    return frame


def _write_tables(given: Experiment, frame: pd.DataFrame, out: Path) -> None:
    findings = table_of(given.findings(frame))
    with RunDir.attach(out) as run:
        for name, table in ((OVERVIEW, given.overview(frame)), (FINDINGS, findings)):
            keep_table(run, name, table)
        notes = [f"the control is not null: {claim}" for claim in failed_controls(findings)]
        run.finish(run.results | {"verdict": verdict(findings), "notes": notes})


def verdict(findings: pd.DataFrame) -> str:
    """What the findings of one experiment say, in a line."""
    return "; ".join(f"{r.claim}: {r.effect:.3g} ({r.verdict})" for r in findings.itertuples())


def evidence_stage(
    values: Mapping[str, Any], out: Path, *, seed: int = 0, quiet: bool = True, **run_options: Any
) -> None:
    """Run a section ``[evidence]`` into the directory ``out``."""
    given = experiment(values, seed)
    with progress_bar(len(given.pieces()), "piece", quiet=quiet) as progress:
        run_experiment(given, out=out, progress=progress, **run_options)
