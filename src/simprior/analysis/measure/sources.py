"""Where the rows of a measures table come from, in pieces; and what is known of each unmeasured.

A :class:`Source` is a training run, a table of functions, a result in memory, or networks from
elsewhere. It is done in pieces: a :class:`Chunk` is the unit of work and of resuming, some networks
or some rows of a table. Pieces depend on the source and on the number of networks asked for, never
on workers.

The first columns of a table need no measuring: who a network is, how it was trained, how well it
does (:data:`IDENTITY`, :data:`SETTINGS`, :data:`OUTCOME`). ``cluster`` names what networks share
(:func:`cluster_of`): their data.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from simprior.analysis.measure.settings import Request
from simprior.boolean.sampling.counts import COUNTS, FunctionCounts
from simprior.boolean.truthtable import to_hex, unpack
from simprior.errors import InputError, StoreError
from simprior.numerics import random as rng
from simprior.runs.directory import load_run
from simprior.training.records import RUNS, TrainResult, unpack_hex
from simprior.training.spec import Optimizer

if TYPE_CHECKING:
    from simprior.network.spec import Network
    from simprior.training.targets import Problem

NETWORKS_CHUNK, FUNCTIONS_CHUNK = 50, 200
CELLS = "cells"


@dataclass(frozen=True, eq=False)
class Given:
    """Networks from elsewhere: their weights, and the problem and loss that they are measured on.

    ``parameters`` (N, p) float64 in the flat layout of ``network``, which has the inputs of
    ``problem``; ``first`` is the number of the first of them in their source.
    """

    parameters: np.ndarray
    network: Network
    problem: Problem
    loss: str
    first: int = 0

    def of(self, members: np.ndarray) -> np.ndarray:
        """(k, p) parameters of ``members``."""
        return np.asarray(self.parameters[members - self.first])


@dataclass(frozen=True)
class Source:
    """Where networks or functions come from.

    ``kind`` is ``networks`` or ``functions``; ``sha256`` is that of what is known of them: of the
    table of a run directory ``path``, or of ``result`` in memory. ``given`` are the weights of
    networks from elsewhere.
    """

    name: str
    kind: str
    sha256: str
    path: Path | None = None
    result: TrainResult | None = field(default=None, compare=False, repr=False)
    given: Given | None = field(default=None, compare=False, repr=False)

    @property
    def where(self) -> str:
        """Its path, or its name, for messages."""
        return self.name if self.path is None else str(self.path)

    def record(self) -> TrainResult:
        """What is known of its networks. Raises :class:`StoreError` for a damaged run."""
        return TrainResult.load(self._path) if self.result is None else self.result

    def counts(self, top: int) -> FunctionCounts:
        """The ``top`` commonest functions of a table. Raises :class:`StoreError`."""
        return FunctionCounts.load(self._path, top=top)

    def config(self) -> dict[str, Any]:
        """The settings of the run. Raises :class:`StoreError`."""
        return dict(load_run(self._path).config if self.result is None else self.result.config)

    def bits(self) -> int:
        """Number of bits of the inputs of a table of functions; 0 for inputs that are data."""
        return int(load_run(self._path).results.get("n") or 0)

    def rows(self) -> int:
        """Number of functions of a table."""
        return int(load_run(self._path).files[COUNTS]["rows"])

    @property
    def _path(self) -> Path:
        assert self.path is not None
        return self.path


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
    def size(self) -> int:
        """Networks or functions in it."""
        return len(self.rows)

    @property
    def range(self) -> dict[str, Any]:
        """Which rows of which source it is: its shard is registered with them."""
        ends = [self.rows[0], self.rows[-1], len(self.rows)]
        return {"source": self.source.name, "sha256": self.source.sha256, "rows": ends}


def find_sources(given: Sequence[Path | str | TrainResult]) -> list[Source]:
    """The runs below paths: runs as they are, sweeps and grids cell by cell; and results in memory.

    Raises
    ------
    InputError
        A run without networks or functions, or both kinds together.
    StoreError
        Not a run directory, or not complete.
    """
    found: list[Source] = []
    for number, one in enumerate(given):
        if isinstance(one, TrainResult):
            name = "result" if number == 0 else f"result-{number}"
            found.append(Source(name, "networks", digest_of(one), result=one))
            continue
        path = Path(one)
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
    return with_own_names(found)


def with_own_names(sources: list[Source]) -> list[Source]:
    """The sources, called by their paths if names repeat."""
    names = [source.name for source in sources]
    if len(set(names)) == len(names):
        return sources
    return [replace(source, name=source.where) for source in sources]


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
    path = path.absolute()
    return Source(path.name, kind, str(run.files[file]["sha256"]), path)


def digest_of(result: TrainResult, *more: np.ndarray) -> str:
    """SHA-256 (hex) of what a result in memory knows of its networks, and of further arrays."""
    text = json.dumps([result.config, result.problem], sort_keys=True, default=str)
    found = hashlib.sha256(text.encode())
    for array in (result.words, result.steps, result.errors, *more):
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


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
        trained = source.config().get("network")
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

    Of networks from elsewhere all are measured, also those that do not fit the training set.

    Raises :class:`InputError` if no member of any run fitted its training set.
    """
    chunks: list[Chunk] = []
    left_out = unfitted = 0
    for source in sources:
        if source.given is not None:
            rows, size = np.arange(len(source.given.parameters)), NETWORKS_CHUNK
        elif source.kind == "networks":
            result = source.record()
            fitted = np.flatnonzero(result.fitted)
            unfitted += result.runs - len(fitted)
            rows, size = fitted[:networks], NETWORKS_CHUNK
            left_out += len(fitted) - len(rows)
        else:
            total = source.rows()
            rows, size = np.arange(min(total, networks)), FUNCTIONS_CHUNK
            left_out += total - len(rows)
        for at in range(0, len(rows), size):
            part = rows[at : at + size]
            chunks.append(Chunk(len(chunks), _part(source, part), tuple(part.tolist())))
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


def _part(source: Source, rows: np.ndarray) -> Source:
    """The source without the weights of other networks than ``rows``, which are consecutive."""
    if source.given is None:
        return source
    given = replace(source.given, parameters=source.given.of(rows), first=int(rows[0]))
    return replace(source, given=given)


IDENTITY = ("run", "member", "function")
SETTINGS = (
    *("optimizer", "lr", "batch_size", "loss", "train_size", "attack", "corrupt", "data_seed"),
    *("seed", "hidden", "depth", "width", "activation", "sigma_w", "sigma_b", "encoding"),
    *("weight_dist", "options", "stop", "max_epochs", "check", "pretrain", "n", "m", "target"),
    "alpha",
)
OUTCOME = (
    *("fitted", "steps", "train_loss", "train_error", "test_error", "test_size"),
    *("held_out_error", "held_out_size", "total_error", "majority_error", "cluster"),
)
SAMPLED = {"test_error": "test_size", "held_out_error": "held_out_size"}
"""Outcomes that are shares of a sample of inputs, and the column with its size."""
_NAME = 24


def _changed_options(config: Mapping[str, Any]) -> str:
    """Options of the optimiser that are not its defaults: ``weight_decay=0.01``; else empty."""
    given = config["optimizer_options"]
    usual = Optimizer(config["optimizer"]).options
    return ",".join(f"{k}={v}" for k, v in given.items() if v != usual.get(k))


def settings_of(result: TrainResult) -> dict[str, Any]:
    """Settings of a training run, one value a column; per-layer sigmas become text.

    How networks from elsewhere were trained is not known: they have no such settings.
    """
    config, problem = result.config, result.problem
    network = config.get("network") or config["architecture"]
    hidden = [int(w) for w in network["hidden"]]
    found: dict[str, Any] = {
        "loss": config["loss"],
        "train_size": len(problem["train_index"]),
        "attack": len(problem["attack_index"]),
        "corrupt": float(problem["corrupt"]),
        "data_seed": int(problem["seed"]),
        "hidden": ",".join(map(str, hidden)),
        "depth": len(hidden),
        "width": max(hidden, default=0),
        "activation": str(network["activation"]),
        "sigma_w": _number(network["sigma_w"]),
        "sigma_b": _number(network["sigma_b"]),
        "encoding": network["encoding"],
        "weight_dist": network["weight_dist"],
        "n": int(problem["n"]),
        "m": int(problem["m"]),
        "target": str(problem["name"] if problem["n"] == 0 else problem["text"]),
        "alpha": 1.0,
    }
    if _trained_here(result):
        found |= {
            "optimizer": config["optimizer"],
            "lr": float(config["lr"]),
            "batch_size": int(config["batch_size"]),
            "seed": int(config["seed"]),
            "options": _changed_options(config),
            "stop": str(config["stop"]),
            "max_epochs": int(config["max_epochs"]),
            "check": int(config["check"]),
            "pretrain": int(config["pretrain"]),
        }
    return {name: found[name] for name in SETTINGS if name in found}


def _trained_here(result: TrainResult) -> bool:
    return "optimizer" in result.config


def cluster_of(result: TrainResult) -> str:
    """Name of what networks share: data seed and target.

    Training sets of one data seed overlap, whatever their size, corruption and attack points (a
    larger set contains the smaller), so that networks trained on them are not independent.
    """
    s = settings_of(result)
    name = str(s["target"])
    if len(name) > _NAME:  # a whole truth table
        name = f"{name[:_NAME]}...{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return f"{s['data_seed']}/{name}"


def held_out_inputs(result: TrainResult, share: float) -> np.ndarray:
    """A random ``share`` of the test inputs of a run on data, a function of its data seed.

    Raises :class:`InputError` if that is none of them, or all.
    """
    used = [*result.problem["train_index"], *result.problem["attack_index"]]
    test = np.setdiff1d(np.arange(result.m), used)
    number = round(share * len(test))
    if share and not 0 < number < len(test):
        raise InputError(
            f"held-out={share:g} of {len(test)} test inputs, which is {number}",
            "at least one held out and one not",
            "change --held-out, or test on more inputs",
        )
    order = rng.generator(int(result.problem["seed"]), "measure/held-out").permutation(len(test))
    return np.sort(test[order[len(test) - number :]])


def network_rows(
    result: TrainResult, run: str, members: np.ndarray, held_out: float = 0.0
) -> pd.DataFrame:
    """A row for each of ``members`` of a run called ``run``: identity, settings, outcome.

    ``held_out``: share of the test inputs of data that no measure sees, with an error of their own.
    On bit strings ``total_error`` is the error over all of them, the training set included.
    """
    k = len(members)
    test = result.m - len(result.problem["train_index"]) - len(result.problem["attack_index"])
    columns: dict[str, Any] = {
        "run": [run] * k,
        "member": members,
        "function": to_hex(result.words[members], result.m),
    }
    columns |= {name: [value] * k for name, value in settings_of(result).items()}
    columns["fitted"] = result.fitted[members]
    if _trained_here(result):
        columns["steps"] = result.steps[members]
    columns |= {
        "train_loss": result.loss[members],
        "train_error": result.errors[members] / result.size,
        "test_error": result.test_error[members],
        "test_size": [test] * k,
        **_further_errors(result, members, held_out),
        "majority_error": [float(result.problem["majority_error"])] * k,
        "cluster": [cluster_of(result)] * k,
    }
    return pd.DataFrame(columns)


def _further_errors(
    result: TrainResult, members: np.ndarray, held_out: float
) -> dict[str, np.ndarray]:
    if not result.problem["n"] and not held_out:
        return {}
    target = unpack_hex(result.problem["target"], result.m)
    wrong = unpack(result.words[members], result.m) != target
    if result.problem["n"]:
        return {"total_error": wrong.mean(axis=1)}
    index = held_out_inputs(result, held_out)
    return {
        "held_out_error": wrong[:, index].mean(axis=1),
        "held_out_size": np.full(len(members), len(index)),
    }


def function_rows(words: np.ndarray, m: int, n: int, run: str, first: int) -> pd.DataFrame:
    """A row for each packed function of a table: identity, rank (from ``first``), n and m."""
    k = len(words)
    return pd.DataFrame(
        {
            "run": [run] * k,
            "member": np.full(k, -1),
            "function": to_hex(words, m),
            "rank": np.arange(first, first + k),
            "n": [n] * k,
            "m": [m] * k,
            "alpha": [1.0] * k,
        }
    )


def _number(value: Any) -> Any:
    """A standard deviation as a number; one a layer as text."""
    if isinstance(value, list | tuple):
        return ",".join(f"{float(v):g}" for v in value)
    return float(value)
