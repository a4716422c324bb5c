"""The columns of a measures table, for networks of a source and for functions of a table.

The first columns need no measuring: who a network is, how it was trained, how well it does
(:func:`network_rows`, :func:`function_rows`). ``cluster`` names what networks share
(:func:`cluster_of`): their data. Then come the columns of each group of measures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from simprior.analysis.measure.registry import (
    FUNCTION_GROUPS,
    GROUPS,
    PRIOR,
    SETTINGS,
    WEIGHTS,
    Group,
    check_names,
    group_names,
)
from simprior.analysis.measure.settings import Request
from simprior.analysis.measure.sources import Source, rebuilt
from simprior.boolean.truthtable import pack, to_hex, unpack
from simprior.errors import InputError
from simprior.modules.spec import FLAGGED
from simprior.network.activations import ACTIVATIONS
from simprior.numerics import random as rng
from simprior.runs.files import sha256_file
from simprior.training.records import TrainResult
from simprior.training.spec import Optimizer

if TYPE_CHECKING:
    from simprior.analysis.flatness.ensemble import Ensemble
    from simprior.analysis.measure.prior import Prior
    from simprior.training.targets import Problem


def check_groups(
    measures: str | Sequence[str] | None, sources: Sequence[Source]
) -> tuple[str, ...]:
    """The groups asked for, in the order of ``GROUPS``.

    ``all`` means those that all sources allow, without groups that have too many columns or take
    too long for so many bits (``Group.all_bits``). None means the default ones that all sources
    allow.

    Raises :class:`InputError` for an unknown group, one that needs weights where there are none, a
    gradient where the activation has none, or all bit strings where the inputs are data.
    """
    kinds = [_kind(source) for source in sources]
    possible = [g for g in GROUPS.values() if not any(_problem(g, kind) for kind in kinds)]
    if measures is None:
        return tuple(g.name for g in possible if g.default)
    check_names(measures)
    asked = group_names(measures)
    if "all" in asked:
        n = max(kind.n for kind in kinds)
        return tuple(g.name for g in possible if g.all_bits is None or n <= g.all_bits)
    for name in asked:
        for source, kind in zip(sources, kinds, strict=True):
            problem = _problem(GROUPS[name], kind)
            if problem:
                raise InputError(f"measures={name} of {source.where}", problem, "leave it out")
    return tuple(g for g in GROUPS if g in asked)


@dataclass(frozen=True)
class _Kind:
    """What decides which groups a source allows; ``n`` = 0 for inputs that are data; ``module``:
    the networks are torch modules."""

    networks: bool
    n: int
    activation: str
    module: bool = False


def _kind(source: Source) -> _Kind:
    if source.kind == "functions":
        return _Kind(False, source.bits(), "")
    result = source.record()
    n, network = result.trained_on.n, _law_of(result)
    return _Kind(True, n, str(network.get("activation", "")), is_module(network))


_LAWS = ("network", "modules", "architecture")
"""Where a run records its network or module."""


def _law_of(result: TrainResult) -> Mapping[str, Any]:
    """The network or module of a run, as it is recorded."""
    found = next(result.config[name] for name in _LAWS if result.config.get(name))
    assert isinstance(found, Mapping)
    return found


def calls_no_foreign_code(source: Source) -> bool:
    """Whether no torch module and no activation of a user's is called to measure a source.

    Both may hold Python's lock, or change what belongs to the whole process.
    """
    config = source.config()
    law: Mapping[str, Any] = next((config[name] for name in _LAWS if config.get(name)), {})
    return not is_module(law) and law.get("activation", "relu") in ACTIVATIONS


def is_module(network: Mapping[str, Any]) -> bool:
    """Whether a record is that of a torch module."""
    return "module" in network or "architecture" in network


def _problem(group: Group, kind: _Kind) -> str:
    """Why ``group`` cannot be computed, as what was expected instead; empty if it can."""
    if not kind.networks:
        if group.of == PRIOR and group.on_table is None:
            return f"a run of train or sweep: a {group.name} needs a training set"
        if group.of == WEIGHTS:
            return "a run of train or sweep: it needs weights, a table of functions has none"
    if kind.module and group.layered:
        return f"fully connected networks: {group.name} is not known for torch modules"
    if kind.activation == "step" and group.gradients:
        return "an activation with a gradient, not step"
    on_data = kind.networks and group.on_data is not None
    bits = kind.n > 0 or on_data or not group.needs_bits
    return "" if bits else "functions of all bit strings"


def network_columns(request: Request, source: Source, members: np.ndarray) -> pd.DataFrame:
    """Rows of ``members`` of a training run, once for every alpha."""
    result = source.record()
    frame = network_rows(result, source.name, members, request.held_out)
    columns = _of_networks_functions(request, result, members)
    on_data = [] if result.trained_on.n else [g for g in _asked(request) if g.on_data is not None]
    weights = [g for g in _asked(request) if g.of == WEIGHTS]
    columns |= _priors(request, source, result, members)
    ensemble = None
    if weights or on_data or request.alphas != (1.0,):
        problem = _problem_of(request, source, result)
        ensemble = _ensemble(request, source, result, problem, members)
    for group in on_data:
        assert ensemble is not None and group.on_data is not None
        points = problem.inputs[compared_inputs(result, request.held_out)]
        columns |= group.on_data(ensemble, points, request)
    frame = _with(frame, columns)
    rows = []
    for alpha in request.alphas:
        part = frame.assign(alpha=alpha)
        if ensemble is not None:
            scaled = ensemble if alpha == 1.0 else ensemble.rescaled(alpha)
            if scaled is not ensemble:
                part = _checked(part, ensemble, scaled, problem.inputs)
            found: dict[str, np.ndarray] = {}
            for group in weights:
                found |= group.compute(scaled, request.seed, **_settings(group, request))
            part = _with(part, found)
        rows.append(part)
    return pd.concat(rows, ignore_index=True)


def function_columns(request: Request, source: Source, rows: np.ndarray) -> pd.DataFrame:
    """Rows ``rows`` (consecutive) of a table of functions."""
    stop = int(rows[-1]) + 1
    counts = source.counts(stop)
    words = np.ascontiguousarray(counts.words[rows])
    frame = function_rows(words, counts.m, counts.n, source.name, int(rows[0]) + 1)
    columns = _of_functions(request, words, counts.m, counts.n)
    for group in _asked(request):
        if group.on_table is not None:
            columns |= group.on_table(request, counts, rows, words)
    return _with(frame, columns)


def _asked(request: Request) -> list[Group]:
    """The groups of a request."""
    return [GROUPS[name] for name in request.groups]


def _settings(group: Group, request: Request) -> dict[str, Any]:
    """The settings of a request that a group takes, by the names that it has for them."""
    return {own: getattr(request, name) for name, own in group.settings.items()}


def compared_inputs(result: TrainResult, held_out: float = 0.0) -> np.ndarray:
    """Inputs on which functions are compared: all bit strings; of data, training and test inputs
    but the share ``held_out`` of the latter.

    Attack points are left out: their number would otherwise decide ln P and complexity.
    """
    index = np.arange(result.m)
    if result.trained_on.n:
        return index
    unseen = held_out_inputs(result, held_out)
    return np.setdiff1d(index, [*result.trained_on.attack_index, *unseen])


def _of_networks_functions(
    request: Request, result: TrainResult, members: np.ndarray
) -> dict[str, np.ndarray]:
    """Columns of the functions that the members of a run compute."""
    index, words = compared_inputs(result, request.held_out), result.words[members]
    if len(index) < result.m:
        words = pack(unpack(words, result.m)[:, index])
    return _of_functions(request, words, len(index), result.trained_on.n)


def _of_functions(request: Request, words: np.ndarray, m: int, n: int) -> dict[str, np.ndarray]:
    """Columns of the groups that need the truth table only, computed once a distinct function."""
    groups = [g for g in _asked(request) if g.name in FUNCTION_GROUPS and (n or not g.needs_bits)]
    if not groups:
        return {}
    distinct, where = np.unique(words, axis=0, return_inverse=True)
    out: dict[str, np.ndarray] = {}
    for group in groups:
        found = group.compute(distinct, m, n, **_settings(group, request))
        out |= {k: np.asarray(v, np.float64)[where.ravel()] for k, v in found.items()}
    return out


def _priors(
    request: Request, source: Source, result: TrainResult, members: np.ndarray
) -> dict[str, Any]:
    """Columns of the groups that need ln P of functions or of labels."""
    groups = [g for g in _asked(request) if g.of == PRIOR]
    if not groups:
        return {}
    options = tuple(sorted(request.prior_options().items()))
    prior, problem = _prior(
        _Key(source, _hash_of_file(request.data)),
        request.seed,
        options,
        request.data,
        request.label,
    )
    index = compared_inputs(result, request.held_out)
    columns: dict[str, Any] = {}
    for group in groups:
        columns |= group.compute(request, prior, problem, result.words[members], index)
    return columns


@dataclass(frozen=True)
class _Key:
    """What a prior is kept by: the source, and the hash of the data file that is read again."""

    source: Source
    file: str


def _hash_of_file(data: str | None) -> str:
    return sha256_file(Path(data))[0] if data is not None and Path(data).is_file() else ""


@lru_cache(maxsize=2)
def _prior(
    key: _Key,
    seed: int,
    options: tuple[tuple[str, Any], ...],
    data: str | None,
    label: str | None,
) -> tuple[Prior, Problem]:
    """Prior and problem of a source, shared by its pieces."""
    from simprior.analysis.measure.prior import Prior
    from simprior.network.losses import threshold
    from simprior.training.replay import spec_of

    given = key.source.given
    if given is not None:
        problem, network, loss = given.problem, given.network, given.loss
    else:
        result = key.source.record()
        problem = rebuilt(result, data, label)
        spec = spec_of(result, problem)
        network, loss = spec.network, spec.loss
    return Prior(network, seed, threshold(loss), **dict(options)), problem


def _problem_of(request: Request, source: Source, result: TrainResult) -> Problem:
    if source.given is not None:
        return source.given.problem
    return rebuilt(result, request.data, request.label)


def _ensemble(
    request: Request, source: Source, result: TrainResult, problem: Problem, members: np.ndarray
) -> Ensemble:
    from simprior.analysis.flatness.ensemble import Ensemble

    given = source.given
    if given is None:
        return Ensemble.of_run(result, members, problem=problem, device=request.device)
    return Ensemble.of_given(
        given.of(members),
        given.network,
        problem,
        given.loss,
        request.device,
        members,
        f"{source.sha256}/",
    )


def _checked(
    part: pd.DataFrame, before: Ensemble, after: Ensemble, inputs: np.ndarray
) -> pd.DataFrame:
    """Rows with the function of the rescaled networks: evaluated, not taken for granted."""
    old, new = (e.classes(inputs).cpu().numpy() for e in (before, after))
    changed = (old != new).any(axis=1)
    if not changed.any():
        return part
    functions = part["function"].to_numpy(object, copy=True)
    functions[changed] = to_hex(pack(new[changed].astype(np.uint8)), len(inputs))
    return part.assign(function=functions)


def _with(frame: pd.DataFrame, columns: dict[str, Any]) -> pd.DataFrame:
    """The table with further columns, put together at once."""
    if not columns:
        return frame
    return pd.concat([frame, pd.DataFrame(columns, index=frame.index)], axis=1)


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
    config, on = result.config, result.trained_on
    network = _law_of(result)
    found: dict[str, Any] = {
        "loss": config["loss"],
        "train_size": len(on.train_index),
        "attack": len(on.attack_index),
        "corrupt": float(on.corrupt),
        "data_seed": on.seed,
        **_shape(network),
        "sigma_w": _number(network["sigma_w"]),
        "sigma_b": _number(network["sigma_b"]),
        "encoding": network["encoding"],
        "weight_dist": network["weight_dist"],
        "n": on.n,
        "m": on.m,
        "target": on.text if on.n else on.name,
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


def _shape(network: Mapping[str, Any]) -> dict[str, Any]:
    """Widths and activation of a network; of a torch module what makes it, with its options."""
    found: dict[str, Any] = {}
    if is_module(network):
        name = network.get("module") or network["architecture"]
        options = {k: network[k] for k in FLAGGED if k in network} | (network.get("option") or {})
        chosen = ",".join(f"{k}={_short(v)}" for k, v in options.items())
        found["architecture"] = f"{name} {chosen}".strip()
    if "hidden" in network:
        hidden = [int(w) for w in network["hidden"]]
        found |= {
            "hidden": ",".join(map(str, hidden)),
            "depth": len(hidden),
            "width": max(hidden, default=0),
        }
    if "activation" in network:
        found["activation"] = str(network["activation"])
    return found


def _short(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


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
    test = np.flatnonzero(result.trained_on.test_mask)
    number = round(share * len(test))
    if share and not 0 < number < len(test):
        raise InputError(
            f"held-out={share:g} of {len(test)} test inputs, which is {number}",
            "at least one held out and one not",
            "change --held-out, or test on more inputs",
        )
    order = rng.generator(result.trained_on.seed, "measure/held-out").permutation(len(test))
    return np.sort(test[order[len(test) - number :]])


def network_rows(
    result: TrainResult, run: str, members: np.ndarray, held_out: float = 0.0
) -> pd.DataFrame:
    """A row for each of ``members`` of a run called ``run``: identity, settings, outcome.

    ``held_out``: share of the test inputs of data that no measure sees, with an error of their own.
    On bit strings ``total_error`` is the error over all of them, the training set included.
    """
    k = len(members)
    test = result.m - len(result.trained_on.fitted_index)
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
        "majority_error": [float(result.trained_on.majority_error)] * k,
        "cluster": [cluster_of(result)] * k,
    }
    return pd.DataFrame(columns)


def _further_errors(
    result: TrainResult, members: np.ndarray, held_out: float
) -> dict[str, np.ndarray]:
    if not result.trained_on.n and not held_out:
        return {}
    wrong = unpack(result.words[members], result.m) != result.trained_on.table
    if result.trained_on.n:
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
