"""What is to be measured: the settings of a :class:`Request`, and the ranges they must be in.

What a measures table is made from: training runs, sweeps, tables of functions; and in pieces.

A piece (:class:`Chunk`) is the unit of work and of resuming: some fitted members of a training run,
or some rows of a table of functions. Pieces depend on the run and on the number of networks asked
for, never on workers.

What is known of a trained network without measuring it: settings, outcome, training set.

The first columns of a measures table, in the order of :data:`IDENTITY`, :data:`SETTINGS` and
:data:`OUTCOME`. ``cluster`` names what networks share (:func:`cluster_of`): their data.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.boolean.sampling.counts import COUNTS
from simprior.boolean.truthtable import to_hex, unpack
from simprior.checks import finite, shown, whole
from simprior.errors import InputError, StoreError
from simprior.numerics import random as rng
from simprior.runs.directory import load_run
from simprior.training.records import RUNS, TrainResult, unpack_hex
from simprior.training.spec import Optimizer

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Request:
    """What is measured, and with which settings; see ``measure.measure_runs``."""

    groups: tuple[str, ...]
    alphas: tuple[float, ...] = (1.0,)
    draws: int | None = None
    tol: float | None = None
    delta: float = 0.01
    zeta: float = 1e-4
    radius: float = 0.05
    noise: float = 0.9
    held_out: float = 0.0
    prior_from: str | None = None
    seed: int = 0
    device: str = "cpu"
    data: str | None = None
    label: str | None = None

    def prior_options(self) -> dict[str, Any]:
        """Options of the estimator of ln P."""
        given = {"draws": self.draws, "tol": self.tol}
        return {name: value for name, value in given.items() if value is not None}


def check_settings(**settings: Any) -> None:
    """Raise :class:`InputError` for a setting of ``measure.measure_runs`` outside its range."""
    if "networks" in settings:
        whole("networks", settings.pop("networks"), 1)
    if "alphas" in settings:
        check_alphas(settings.pop("alphas"))
    ranges = {
        "tol": (0, np.inf),
        "delta": (0, 1),
        "zeta": (0, np.inf),
        "radius": (0, np.inf),
        "noise": (-1, 1),
        "held_out": (0, 1),
    }
    for name, value in settings.items():
        low, high = ranges[name]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        number = number and finite(value)
        inside = value is None or (number and low < value < high)
        inside |= number and (name, value) in (("noise", -1), ("noise", 1), ("held_out", 0))
        if not inside:
            span = f"a number from {low} to {high}" if high < np.inf else f"a finite number > {low}"
            span = "a number >= 0 and < 1" if name == "held_out" else span
            raise InputError(f"{name}={shown(value)}", span, f"change --{name}".replace("_", "-"))


def check_alphas(alphas: Sequence[float] | float) -> tuple[float, ...]:
    """The factors as numbers. Raises :class:`InputError` unless distinct, finite and > 0."""
    given: list[Any] = list(alphas) if isinstance(alphas, list | tuple) else [alphas]
    good = all(
        isinstance(a, int | float) and not isinstance(a, bool) and 0 < a < np.inf for a in given
    )
    if not given or not good or len(set(given)) < len(given):
        raise InputError(
            f"alphas={shown(alphas)}",
            "distinct finite factors > 0",
            "pass for example --alphas 1,4",
        )
    return tuple(float(a) for a in given)


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


IDENTITY = ("run", "member", "function")
SETTINGS = (
    "optimizer", "lr", "batch_size", "loss", "train_size", "attack", "corrupt", "data_seed", "seed",
    "hidden", "depth", "width", "activation", "sigma_w", "sigma_b", "encoding", "weight_dist",
    "options", "stop", "max_epochs", "check", "pretrain", "n", "m", "target", "alpha",
)  # fmt: skip
OUTCOME = (
    "fitted", "steps", "train_loss", "train_error", "test_error", "test_size", "held_out_error",
    "held_out_size", "total_error", "majority_error", "cluster",
)  # fmt: skip
SAMPLED = {"test_error": "test_size", "held_out_error": "held_out_size"}
"""Outcomes that are shares of a sample of inputs, and the column with its size."""
_NAME = 24


def _changed_options(config: Mapping[str, Any]) -> str:
    """Options of the optimiser that are not its defaults: ``weight_decay=0.01``; else empty."""
    given = config["optimizer_options"]
    usual = Optimizer(config["optimizer"]).options
    return ",".join(f"{k}={v}" for k, v in given.items() if v != usual.get(k))


def settings_of(result: TrainResult) -> dict[str, Any]:
    """Settings of a training run, one value a column; per-layer sigmas become text."""
    config, problem = result.config, result.problem
    network = config.get("network") or config["architecture"]
    hidden = [int(w) for w in network["hidden"]]
    size, attack = len(problem["train_index"]), len(problem["attack_index"])
    named = str(problem["name"]) if problem["n"] == 0 else str(problem["text"])
    return {
        "optimizer": config["optimizer"], "lr": float(config["lr"]),
        "batch_size": int(config["batch_size"]), "loss": config["loss"], "train_size": size,
        "attack": attack, "corrupt": float(problem["corrupt"]), "data_seed": int(problem["seed"]),
        "seed": int(config["seed"]), "hidden": ",".join(map(str, hidden)), "depth": len(hidden),
        "width": max(hidden, default=0), "activation": str(network["activation"]),
        "sigma_w": _number(network["sigma_w"]), "sigma_b": _number(network["sigma_b"]),
        "encoding": network["encoding"], "weight_dist": network["weight_dist"],
        "options": _changed_options(config), "stop": str(config["stop"]),
        "max_epochs": int(config["max_epochs"]), "check": int(config["check"]),
        "pretrain": int(config["pretrain"]),
        "n": int(problem["n"]), "m": int(problem["m"]), "target": named, "alpha": 1.0,
    }  # fmt: skip


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
            "at least one held out and one not", "change --held-out, or test on more inputs",
        )  # fmt: skip
    order = rng.generator(int(result.problem["seed"]), "measure/held-out").permutation(len(test))
    return np.sort(test[order[len(test) - number :]])


def network_rows(
    result: TrainResult, run: str, members: np.ndarray, held_out: float = 0.0
) -> pd.DataFrame:
    """A row for each of ``members`` of a run called ``run``: identity, settings, outcome.

    ``held_out``: share of the test inputs of data that no measure sees, with an error of their own.
    On bit strings ``total_error`` is the error over all of them, the training set included.
    """
    import pandas as pd

    k = len(members)
    test = result.m - len(result.problem["train_index"]) - len(result.problem["attack_index"])
    columns: dict[str, Any] = {
        "run": [run] * k, "member": members,
        "function": to_hex(result.words[members], result.m),
    }  # fmt: skip
    columns |= {name: [value] * k for name, value in settings_of(result).items()}
    columns |= {
        "fitted": result.fitted[members], "steps": result.steps[members],
        "train_loss": result.loss[members], "train_error": result.errors[members] / result.size,
        "test_error": result.test_error[members], "test_size": [test] * k,
        **_further_errors(result, members, held_out),
        "majority_error": [float(result.problem["majority_error"])] * k,
        "cluster": [cluster_of(result)] * k,
    }  # fmt: skip
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
    import pandas as pd

    k = len(words)
    return pd.DataFrame({
        "run": [run] * k, "member": np.full(k, -1), "function": to_hex(words, m),
        "rank": np.arange(first, first + k), "n": [n] * k, "m": [m] * k, "alpha": [1.0] * k,
    })  # fmt: skip


def _number(value: Any) -> Any:
    """A standard deviation as a number; one a layer as text."""
    if isinstance(value, list | tuple):
        return ",".join(f"{float(v):g}" for v in value)
    return float(value)
