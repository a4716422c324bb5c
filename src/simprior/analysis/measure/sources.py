"""Where the rows of a measures table come from, and in which pieces they are done.

A :class:`Source` is a training run, a table of functions, a result in memory, or networks from
elsewhere. Of the latter the functions and errors are computed from their weights; what they are
held against (network, inputs, labels, training set) comes from a run or a problem.

A piece (:class:`Chunk`) is the unit of work and of resuming: some networks of a source, or some
rows of a table. Pieces depend on the source and on the number of networks asked for, never on
workers.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from simprior.analysis.measure.settings import Request
from simprior.boolean.sampling.counts import COUNTS, FunctionCounts
from simprior.boolean.truthtable import pack
from simprior.checks import shown
from simprior.errors import InputError
from simprior.modules.spec import Module
from simprior.network.losses import check_loss
from simprior.network.spec import Network
from simprior.network.states import flat_parameters
from simprior.runs.directory import load_run
from simprior.runs.tasks import one_thread
from simprior.training.records import RUNS, TrainResult
from simprior.training.replay import load_result, problem_from_file, problem_of, spec_of
from simprior.training.targets import Problem

NETWORKS_CHUNK, FUNCTIONS_CHUNK = 50, 200
CELLS = "cells"


@dataclass(frozen=True, eq=False)
class Given:
    """Networks from elsewhere: their weights, and the problem and loss that they are measured on.

    ``parameters`` (N, p) float64 in the flat layout of ``network`` (of a module: that of
    ``analysis.flatness.modules``), which has the inputs of ``problem``; ``first`` is the number of
    the first of them in their source.
    """

    parameters: np.ndarray
    network: Network | Module
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
            raise run.in_place_of("a complete run")
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


Like = Path | str | TrainResult | Problem


def rebuilt(result: TrainResult, data: str | None, label: str | None) -> Problem:
    """The problem of a run with its inputs, from the record or from its data file.

    Raises :class:`InputError`.
    """
    given = None if data is None else problem_from_file(result, data, label)
    return problem_of(result, given)


def given_sources(
    networks: Any,
    like: Like,
    *,
    loss: str | None = None,
    data: str | None = None,
    label: str | None = None,
    architecture: Module | None = None,
) -> list[Source]:
    """A source for every file of ``networks``, or one for all networks in memory.

    ``networks`` is a file, a module, a state dict or parameters, or a list of these
    (:func:`simprior.network.states.flat_parameters`); ``like`` is the run, result or problem with
    the network, the inputs and the labels; ``loss`` is by default that of the run, or ``ce``;
    ``architecture`` makes the networks, where it is not the one of ``like``.

    Raises :class:`InputError` for networks that do not fit.
    """
    network, problem, loss = _setting(like, loss, data, label)
    if architecture is not None:
        network = _on_inputs(architecture, problem)
    many = list(networks) if isinstance(networks, list | tuple) else [networks]
    parts: list[tuple[str, Path | None, Any]]
    if many and all(isinstance(one, str | Path) for one in many):
        paths = [Path(one).absolute() for one in many]
        parts = [(path.name, path, path) for path in paths]
    else:
        parts = [("networks", None, networks)]
    sources = []
    for name, path, part in parts:
        given = Given(_parameters(part, network), network, problem, loss)
        result = record_of(given)
        digest = digest_of(result, given.parameters)
        sources.append(Source(name, "networks", digest, path, result, given))
    return with_own_names(sources)


def _on_inputs(module: Any, problem: Problem) -> Module:
    """A module on the inputs of a problem. Raises :class:`InputError` for what is none."""
    if not isinstance(module, Module):
        what = f"architecture={shown(module)}"
        raise InputError(what, "an sp.Module", "pass for example sp.Module(make)")
    if problem.n:
        return replace(module, n=problem.n, inputs=None)
    return replace(module, n=problem.inputs.shape[1], inputs=problem.inputs)


def _parameters(part: Any, network: Network | Module) -> np.ndarray:
    if isinstance(network, Network):
        return flat_parameters(part, network)
    from simprior.modules.states import module_parameters

    return module_parameters(part, network)


def _setting(
    like: Like, loss: str | None, data: str | None, label: str | None
) -> tuple[Network | Module, Problem, str]:
    """The network, the problem and the loss that networks are measured with."""
    if isinstance(like, Problem):
        network = getattr(like, "network", None)
        if not isinstance(network, Network | Module):
            raise InputError(
                f"a problem {like.name!r} without a network",
                "one with it",
                "pass a run or a result",
            )
        return network, like, check_loss("ce" if loss is None else loss)
    if not isinstance(like, str | Path | TrainResult):
        raise InputError(
            f"networks like {shown(like)}",
            "a training run, its result, or a problem",
            "pass for example results/sgd",
        )
    result = load_result(like)
    problem = rebuilt(result, data, label)
    spec = spec_of(result, problem)
    return spec.network, problem, spec.loss if loss is None else check_loss(loss)


def record_of(given: Given) -> TrainResult:
    """What the networks do on their problem, in the form of a training result.

    How they were trained is not known: there are no settings of training, no steps.
    """
    from simprior.analysis.flatness.ensemble import Ensemble

    problem = given.problem
    ensemble = Ensemble.of_given(given.parameters, given.network, problem, given.loss)
    inputs = problem.inputs.astype(np.float32)
    with one_thread():
        words = np.concatenate(
            [
                pack(ensemble.subset(part).classes(inputs).numpy().astype(np.uint8))
                for part in ensemble.chunks(len(inputs) * ensemble.passes.units)
            ]
        )
        errors = np.rint(ensemble.errors().numpy() * problem.size).astype(np.int64)
        loss = ensemble.losses().numpy()
    none = np.full(len(words), -1, np.int64)
    kind = "network" if isinstance(given.network, Network) else "modules"
    key = kind if problem.n else "architecture"
    config = {key: given.network.to_dict(), "loss": given.loss}
    return TrainResult(words, none, none, errors, loss, problem.describe(), config)


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
        for key in (f.name for f in fields(Network) if f.name != "inputs"):
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
