"""Many random networks at several lengths, into one table a network and a run directory.

A shard is a chunk of consecutive networks of one length. Every number depends on (seed, n, network)
only, never on chunks or workers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.analysis.hamming import gp_prediction, scaling
from simprior.analysis.hamming.flips import first_change
from simprior.analysis.hamming.nearest import Search, nearest
from simprior.analysis.hamming.networks import Source, Spec
from simprior.analysis.hamming.output import (
    COMMAND,
    NETWORKS,
    SUMMARY,
    SensitivityResult,
    load,
)
from simprior.checks import shown
from simprior.engine import Progress, run_tasks
from simprior.errors import InputError
from simprior.memory import check_fits
from simprior.network import Network
from simprior.rng import check_seed
from simprior.store import RunDir, write_table
from simprior.threads import one_thread

if TYPE_CHECKING:
    import pandas as pd

CHUNK = 20  # networks a shard
Columns = dict[str, np.ndarray]


MOST = 10**12
"""Of any number of things asked for; beyond, no run ends."""


@dataclass(frozen=True)
class SensitivitySettings:
    """What is measured: ``networks`` networks at each length of ``n``.

    Each gets ``strings`` random start strings, each of them ``paths`` random orders of flips.
    ``network`` gives the law (its inputs do not matter), ``classifier`` is ``"network"`` or
    ``"uniform"``, ``gp_draws`` the Gaussian sequences a length (0: no prediction).

    Raises
    ------
    InputError
        A field out of range.
    """

    n: tuple[int, ...]
    network: Network
    classifier: str = "network"
    networks: int = 500
    strings: int = 1
    paths: int = 1
    search: Search = field(default_factory=Search)
    gp_draws: int = gp_prediction.DRAWS
    seed: int = 0

    def __post_init__(self) -> None:
        check_seed(self.seed)
        for name, least in (("networks", 1), ("strings", 1), ("paths", 1), ("gp_draws", 0)):
            value = getattr(self, name)
            good = isinstance(value, int) and not isinstance(value, bool)
            if not good or not least <= value <= MOST:
                raise InputError(
                    f"{name}={shown(value)}", f"an integer >= {least} (and <= {MOST:,})",
                    f"pass for example {name}={max(least, 10)}",
                )  # fmt: skip
        if not self.n or len(set(self.n)) < len(self.n):
            raise InputError(
                f"n={','.join(map(str, self.n)) or 'none'}", "lengths of strings, each once",
                "pass for example --n 100,200,400",
            )  # fmt: skip
        object.__setattr__(self, "n", tuple(sorted(self.specs)))
        fan_ins = (max(self.n), *self.network.hidden)
        weights = zip(fan_ins, (*self.network.hidden, 1), strict=True)
        largest = max(4.0 * fan_in * width for fan_in, width in weights)
        what = f"hidden={shown(self.network.hidden)} on {max(self.n)} bits"
        check_fits(what, largest, "pass smaller --hidden or --n")
        rows = self.networks * self.strings * len(self.n)
        check_fits(f"{rows:,} start strings", 64.0 * rows, "pass fewer --networks or --strings")
        check_fits(f"gp_draws={self.gp_draws}", 8.0 * self.gp_draws, "pass fewer --gp-draws")

    @property
    def specs(self) -> dict[int, Spec]:
        """The law of the classifiers of each length."""
        return {n: Spec(n, self.network, self.classifier) for n in self.n}

    def config(self) -> dict[str, Any]:
        """Plain values for the run directory; their names are those of the flags."""
        network = self.network.to_dict()
        kept = ("hidden", "activation", "sigma_w", "sigma_b", "encoding", "weight_dist")
        search = self.search
        return {
            "n": list(self.n), "network": {name: network[name] for name in kept},
            "classifier": self.classifier, "networks": self.networks, "strings": self.strings,
            "paths": self.paths, "beam": search.beam, "candidates": search.candidates,
            "budget": search.budget, "gp_draws": self.gp_draws, "seed": self.seed,
        }  # fmt: skip


@dataclass(frozen=True)
class Chunk:
    """Networks ``first`` to ``stop`` - 1 of length ``n``."""

    n: int
    first: int
    stop: int

    @property
    def name(self) -> str:
        """Name of its shard."""
        return f"{self.n:06d}-{self.first:08d}"

    @property
    def range(self) -> dict[str, int]:
        """Which networks it is: its shard is registered with them."""
        return {"n": self.n, "first": self.first, "stop": self.stop}


def run_networks(
    study: SensitivitySettings,
    save: Callable[[SensitivityResult, RunDir], None],
    *,
    out: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    workers: int = 1,
    executor: str = "local",
    executor_options: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> SensitivityResult:
    """Measure distance and flips of random classifiers, summarise, fit, and predict by the GP.

    With ``out`` the networks are kept in a run directory as they are done, and ``save`` writes the
    result into it and closes it. Raises :class:`InputError`, :class:`StoreError`, or
    ``engine.Interrupted`` (resumable).
    """
    chunks = [
        Chunk(n, first, min(first + CHUNK, study.networks))
        for n in sorted(study.n, reverse=True)
        for first in range(0, study.networks, CHUNK)
    ]
    go = partial(
        run_tasks, partial(measure, study), executor=executor, executor_options=executor_options,
        progress=progress, amount=lambda chunk: chunk.stop - chunk.first,
    )  # fmt: skip
    if out is None:
        parts: dict[Chunk, Columns] = {}
        go(chunks, on_result=parts.__setitem__, workers=min(workers, len(chunks)))
        return complete(study, [parts[chunk] for chunk in chunks])
    study.network.check_storable()
    options = {"workers": workers, "executor": executor}
    with RunDir.open(
        out, COMMAND, study.config(), resume=resume, overwrite=overwrite, options=options
    ) as store:
        if store.finished(NETWORKS, f"{SUMMARY}.parquet"):
            return load(store.path)
        kept = [chunk for chunk in chunks if store.has_shard(chunk.name, chunk.range)]
        if progress is not None and kept:
            progress.update(sum(chunk.stop - chunk.first for chunk in kept))

        def write(chunk: Chunk, columns: Columns) -> None:
            written = write_table(store.shard_path(chunk.name), columns)
            store.register_shard(
                chunk.name, written.sha256, written.rows, written.bytes, chunk.range
            )

        todo = [chunk for chunk in chunks if chunk not in set(kept)]
        go(todo, on_result=write, workers=min(workers, max(len(todo), 1)))
        result = complete(study, [store.read_shard(chunk.name) for chunk in chunks])
        save(result, store)
    return result


def measure(study: SensitivitySettings, chunk: Chunk) -> Columns:
    """Rows of the networks of one chunk, in order."""
    with one_thread():
        source = _source(study.specs[chunk.n], study.seed)
        rows = [
            row for k in range(chunk.first, chunk.stop) for row in measure_network(study, source, k)
        ]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


@functools.lru_cache(maxsize=1)
def _source(spec: Spec, seed: int) -> Source:
    """The last source, so that its memory serves the chunks that follow."""
    return Source(spec, seed)


def measure_network(study: SensitivitySettings, source: Source, index: int) -> list[dict[str, Any]]:
    """A row for each start string of network ``index``."""
    classifier, n = source.draw(index), source.spec.n
    strings, orders = source.rng("strings", index), source.rng("orders", index)
    rows = []
    for string in range(study.strings):
        centred = classifier.at(strings.integers(0, 2, n))
        found = nearest(centred, study.search)
        flips = np.array([first_change(centred, orders.permutation(n)) for _ in range(study.paths)])
        rows.append({
            "n": n, "network": index, "string": string, "distance": found.distance,
            "search": found.search, "certified": found.certified,
            "flips": float(np.where(flips > 0, flips, n).mean()),
            "unchanged": float((flips == 0).mean()),
        })  # fmt: skip
    return rows


def complete(study: SensitivitySettings, parts: list[Columns]) -> SensitivityResult:
    """Summary, fits and predictions of the rows of all chunks."""
    import pandas as pd

    rows = pd.DataFrame({k: np.concatenate([part[k] for part in parts]) for k in parts[0]})
    rows = rows.sort_values(["n", "network", "string"], ignore_index=True)
    summary = scaling.summarise(rows)
    why = scaling.too_few(rows)
    fits = pd.DataFrame() if why else scaling.fit(rows, study.seed)
    notes = [f"no fits over n: {why}"] if why else scaling.without_spread(fits)
    with one_thread():
        predictions, law = predict(study)
    summary = summary.merge(predictions, on="n")
    if "gp_distance_low" in summary:  # it counts functions without another class, distance does not
        summary.loc[summary["not_found"] > 0, "gp_distance_low"] = np.nan
    return SensitivityResult(rows, summary, fits, law, notes)


def predict(study: SensitivitySettings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions a length: those of the GP; for uniform classifiers the exact values."""
    import pandas as pd

    rows, laws = [], []
    for n, spec in study.specs.items():
        row = dict.fromkeys(("gp_flips", "gp_flips_stderr", "gp_unchanged", "gp_distance_low"),
                            np.nan)  # fmt: skip
        if study.classifier == "uniform":
            row = {"exact_distance": gp_prediction.uniform_distance(n),
                   "exact_flips": gp_prediction.uniform_flips(n)}  # fmt: skip
        elif study.gp_draws and study.network.weight_dist == "gaussian":
            law = gp_prediction.flip_law(spec, study.gp_draws, study.seed)
            row |= {"gp_flips": law.mean, "gp_flips_stderr": law.stderr,
                    "gp_unchanged": law.unchanged}  # fmt: skip
            if spec.network.encoding == "pm1":
                row["gp_distance_low"] = gp_prediction.distance_floor(spec)
            k = np.arange(n + 1)
            laws.append(pd.DataFrame({"n": n, "k": k, "survival": law.survival}))
        rows.append({"n": n, **row})
    empty = pd.DataFrame({"n": [], "k": [], "survival": []})
    return pd.DataFrame(rows), pd.concat(laws, ignore_index=True) if laws else empty
