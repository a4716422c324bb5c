"""Any run directory as the result that it holds: ``simprior.load(path)``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from simprior.analysis.strings.run import NETWORKS
from simprior.analysis.strings.run import load as load_sensitivity
from simprior.analysis.table_files import read_frame, table_file
from simprior.analysis.table_runs import read_correlations
from simprior.boolean.sampling.chains import COMMAND as POSTERIOR
from simprior.boolean.sampling.chains import load_posterior
from simprior.boolean.sampling.counts import COUNTS
from simprior.boolean.sampling.watch import load_result
from simprior.display import Shown
from simprior.runs.directory import load_run
from simprior.training.records import TrainResult


@dataclass(frozen=True, eq=False, repr=False)
class RunTable(Shown):
    """The main table of a run (measures, ln P, a comparison, cells of a grid), and its totals.

    ``run["logp"]`` is a column, ``run[0]`` a row (a pandas Series); ``len`` is the number of rows
    and iteration goes over them, as named tuples. :meth:`table` reads the run's other tables.
    """

    path: Path
    command: str
    file: str
    frame: pd.DataFrame
    summary: Mapping[str, Any]

    @property
    def verdict(self) -> str:
        """The sentence with which the command began; empty if it had none."""
        return str(self.summary.get("verdict", ""))

    def to_frame(self) -> pd.DataFrame:
        """The whole table."""
        return self.frame

    def table(self, file: str) -> pd.DataFrame:
        """Another table of the run, such as ``pairs.parquet`` of a comparison.

        Raises :class:`InputError` for a file that the run does not have.
        """
        return read_frame(self.path, file)

    def lines(self) -> list[str]:
        """Which run, its size, its verdict or the names of its columns."""
        columns = ", ".join(map(str, self.frame.columns))
        return [
            f"RunTable: simprior {self.command}, {self.path.name}/{self.file}",
            f"{len(self.frame):,} rows, {len(self.frame.columns)} columns",
            self.verdict or columns,
        ]

    def __len__(self) -> int:
        return len(self.frame)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.frame.itertuples(index=False, name="Row"))

    def __getitem__(self, which: str | int) -> pd.Series:
        return self.frame[which] if isinstance(which, str) else self.frame.iloc[which]


def load(path: Path | str) -> Any:
    """The result in a run directory, as the function that made it returned it where possible.

    Parameters
    ----------
    path : path
        A complete run of any command; of ``simprior study`` with its main table.

    Returns
    -------
    FunctionCounts or WatchResult
        Of sample, import, posterior (with its report), and the cells of a grid of samples.
    TrainResult
        Of train.
    Correlations, StringsResult
        Of correlate; of sensitivity of random networks.
    RunTable
        Of compare, logp, measure, sweep, study and all others: their main table.

    Raises
    ------
    StoreError
        No run, not complete, or a file that is missing, altered or damaged.
    """
    path = Path(path)
    run = load_run(path)
    if run.status != "complete":
        raise run.in_place_of("a complete run")
    if run.command == "train":
        return TrainResult.load(path)
    if run.command == "correlate":
        return read_correlations(path)
    if run.command == "sensitivity" and NETWORKS in run.files:
        return load_sensitivity(path)
    if run.command == POSTERIOR:
        return load_posterior(path)
    if COUNTS in run.files or "watch" in run.results:
        return load_result(path)
    file = table_file(path)
    return RunTable(path, run.command, file, read_frame(path, file), run.results)
