"""The kinds of a stage ``[evidence]``, and running one: rows, an overview, findings.

The run directory has the rows of all data sets (``evidence.parquet``), means over them
(``tables/overview.parquet``) and the judged findings (``tables/findings.parquet``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from simprior.analysis.evidence.deep_linear import DeepLinear, SingleOutput
from simprior.analysis.evidence.double_descent import DoubleDescent
from simprior.analysis.evidence.findings import Finding, failed_controls, table_of
from simprior.analysis.evidence.memorisation import Memorisation
from simprior.analysis.study.sections import section_settings
from simprior.gp.orthant import run_batches
from simprior.runs.directory import RunDir, write_table
from simprior.runs.tasks import RunOptions, progress_bar

TABLE, OVERVIEW, FINDINGS = "evidence.parquet", "tables/overview.parquet", "tables/findings.parquet"


class Experiment(Protocol):
    """A frozen dataclass of settings, which may be split over workers piece by piece."""

    def pieces(self) -> Sequence[Any]:
        """What is computed one by one, in order."""

    def compute(self, piece: Any) -> dict[str, np.ndarray]:
        """Columns of the rows of a piece."""

    def join(self, columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Columns of the whole table, from those of all pieces."""

    def overview(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Means over data sets, with intervals."""

    def findings(self, frame: pd.DataFrame) -> list[Finding]:
        """The contrasts that the table of evidence lists."""


KINDS: dict[str, type[Any]] = {
    "deep-linear": DeepLinear,
    "single-output": SingleOutput,
    "memorisation": Memorisation,
    "double-descent": DoubleDescent,
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
    name = next(name for name, kind in KINDS.items() if isinstance(given, kind))
    settings = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(given).items()}
    columns = run_batches(
        "experiment",
        given.compute,
        given.pieces(),
        partial(_digest, given),
        options,
        config={"kind": name, **settings},
        join=given.join,
        table=TABLE,
        totals=lambda columns: {},
    )
    frame = pd.DataFrame(columns)
    if options.out is not None:
        _write_tables(given, frame, Path(options.out))
    return frame


def _write_tables(given: Experiment, frame: pd.DataFrame, out: Path) -> None:
    findings = table_of(given.findings(frame))
    with RunDir.attach(out) as run:
        for name, table in ((OVERVIEW, given.overview(frame)), (FINDINGS, findings)):
            run.make_folder("tables")
            written = write_table(run.path / name, {str(c): table[c].to_numpy() for c in table})
            run.add_file(name, rows=written.rows)
        notes = [f"the control is not null: {claim}" for claim in failed_controls(findings)]
        run.finish(run.results | {"verdict": verdict(findings), "notes": notes})


def verdict(findings: pd.DataFrame) -> str:
    """What the findings of one experiment say, in a line."""
    return "; ".join(f"{r.claim}: {r.effect:.3g} ({r.verdict})" for r in findings.itertuples())


def _digest(given: Experiment, piece: Any) -> str:
    return hashlib.sha256(repr((given, piece)).encode()).hexdigest()


def evidence_stage(
    values: Mapping[str, Any], out: Path, *, seed: int = 0, quiet: bool = True, **run_options: Any
) -> None:
    """Run a section ``[evidence]`` into the directory ``out``."""
    given = experiment(values, seed)
    with progress_bar(len(given.pieces()), "piece", quiet=quiet) as progress:
        run_experiment(given, out=out, progress=progress, **run_options)
