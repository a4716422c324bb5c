"""What a measures table is made from: training runs, sweeps, tables of functions; and in pieces.

A piece (:class:`Chunk`) is the unit of work and of resuming: some fitted members of a training run,
or some rows of a table of functions. Pieces depend on the run and on the number of networks asked
for, never on workers.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from simprior.analysis.measure_request import Request
from simprior.boolean.counts_io import COUNTS
from simprior.errors import InputError, StoreError
from simprior.store import load_run
from simprior.training.records import RUNS, TrainResult

NETWORKS_CHUNK, FUNCTIONS_CHUNK = 50, 200
CELLS = "cells"


@dataclass(frozen=True)
class Source:
    """A run directory: ``kind`` is ``networks`` or ``functions``; ``sha256`` of its table."""

    path: Path
    name: str
    kind: str
    sha256: str


@dataclass(frozen=True)
class Chunk:
    """Members (or rows) ``rows`` of a source; ``index`` numbers the chunks of a table."""

    index: int
    source: Source
    rows: tuple[int, ...]

    @property
    def name(self) -> str:
        """Name of its shard."""
        return f"{self.index:06d}"

    @property
    def range(self) -> dict[str, Any]:
        """Which rows of which source it is: its shard is registered with them."""
        ends = [self.rows[0], self.rows[-1], len(self.rows)]
        return {"source": self.source.name, "sha256": self.source.sha256, "rows": ends}


def find_sources(paths: Sequence[Path | str]) -> list[Source]:
    """The runs below ``paths``: runs as they are, sweeps and grids cell by cell.

    Raises
    ------
    InputError
        A run without networks or functions, or both kinds together.
    StoreError
        Not a run directory, or not complete.
    """
    found: list[Source] = []
    for path in map(Path, paths):
        run = load_run(path)
        cells = sorted(p for p in (path / CELLS).glob("*") if (p / "manifest.json").is_file())
        if run.status != "complete":
            raise StoreError(
                f"{path}: expected a complete run, found one of 'simprior {run.command}' that is "
                f"{run.status}; finish it with --resume"
            )
        found += [_source(p, load_run(p)) for p in cells] if cells else [_source(path, run)]
    if not found:
        raise InputError("no runs", "at least one run directory", "pass for example results/sgd")
    kinds = {source.kind for source in found}
    if len(kinds) > 1:
        raise InputError(
            "training runs together with tables of functions", "one kind", "measure them apart"
        )
    names = [source.name for source in found]
    if len(set(names)) < len(names):
        found = [Source(s.path, str(s.path), s.kind, s.sha256) for s in found]
    return found


def _source(path: Path, run: Any) -> Source:
    known = {"networks": RUNS, "functions": COUNTS}
    kind = "networks" if run.command == "train" else "functions"
    file = known[kind]
    if run.status != "complete" or file not in run.files:
        raise InputError(
            f"{path}, a run of 'simprior {run.command}' that is {run.status}",
            "a complete run of train, sweep, sample, import or posterior",
            run.way_on,
        )
    return Source(path.absolute(), path.absolute().name, kind, str(run.files[file]["sha256"]))


def check_files(request: Request, sources: Sequence[Source]) -> None:
    """Raise before anything is written: a data file that is not there, or a ``prior_from`` that is
    no sampled prior of the networks measured (:class:`InputError`, :class:`StoreError`)."""
    if request.data is not None and not Path(request.data).is_file():
        raise InputError(f"data={request.data}", "a readable file", "check the path")
    if request.prior_from is None:
        return
    run = load_run(request.prior_from)
    if run.command not in ("sample", "import"):
        raise InputError(
            f"prior-from={request.prior_from}, a run of 'simprior {run.command}'",
            "a run of sample (or import)",
            "sample the prior of the architecture first",
        )
    for source in sources:
        trained = load_run(source.path).config.get("network")
        sampled = run.config.get("network")
        if trained is None or sampled is None:
            continue
        for key in ("n", "hidden", "activation", "sigma_w", "sigma_b", "encoding", "weight_dist"):
            if trained.get(key) != sampled.get(key):
                raise InputError(
                    f"prior-from={request.prior_from} with {key}={sampled.get(key)}",
                    f"the {key}={trained.get(key)} of {source.name}",
                    "sample the same architecture",
                )


def split(sources: Sequence[Source], networks: int) -> list[Chunk]:
    """Pieces of the first ``networks`` fitted members (or commonest functions) of each source.

    Raises :class:`InputError` if no member of any run fitted its training set.
    """
    chunks: list[Chunk] = []
    left_out = unfitted = 0
    for source in sources:
        if source.kind == "networks":
            result = TrainResult.load(source.path)
            fitted = np.flatnonzero(result.fitted)
            unfitted += result.runs - len(fitted)
            rows, size = fitted[:networks], NETWORKS_CHUNK
            left_out += len(fitted) - len(rows)
        else:
            total = int(load_run(source.path).files[COUNTS]["rows"])
            rows, size = np.arange(min(total, networks)), FUNCTIONS_CHUNK
            left_out += total - len(rows)
        for at in range(0, len(rows), size):
            chunks.append(Chunk(len(chunks), source, tuple(rows[at : at + size].tolist())))
    log = logging.getLogger("simprior")
    if not chunks:
        raise InputError(
            f"{unfitted} networks, none of which fitted its training set",
            "networks that fitted",
            "train longer: raise --max-epochs, change --lr",
        )
    if unfitted:
        log.info("%s networks did not fit their training set and are left out", f"{unfitted:,}")
    if left_out:
        log.info("%s more are left out: raise --networks to measure them", f"{left_out:,}")
    return chunks
