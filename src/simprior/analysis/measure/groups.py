"""The columns of each group of measures, for networks of a run and for functions of a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from simprior.analysis.measure.given import rebuilt
from simprior.analysis.measure.registry import (
    FUNCTION_GROUPS,
    GROUPS,
    PRIOR,
    WEIGHTS,
    Group,
    check_names,
    group_names,
)
from simprior.analysis.measure.settings import Request
from simprior.analysis.measure.sources import (
    Source,
    function_rows,
    held_out_inputs,
    network_rows,
)
from simprior.boolean.truthtable import pack, to_hex, unpack
from simprior.errors import InputError
from simprior.runs.files import sha256_file
from simprior.training.records import TrainResult

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
    """What decides which groups a source allows; ``n`` = 0 for inputs that are data."""

    networks: bool
    n: int
    activation: str


def _kind(source: Source) -> _Kind:
    if source.kind == "functions":
        return _Kind(False, source.bits(), "")
    result = source.record()
    network = result.config.get("network") or result.config["architecture"]
    return _Kind(True, int(result.problem["n"]), str(network["activation"]))


def _problem(group: Group, kind: _Kind) -> str:
    """Why ``group`` cannot be computed, as what was expected instead; empty if it can."""
    if not kind.networks:
        if group.of == PRIOR and group.on_table is None:
            return f"a run of train or sweep: a {group.name} needs a training set"
        if group.of == WEIGHTS:
            return "a run of train or sweep: it needs weights, a table of functions has none"
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
    on_data = [] if result.problem["n"] else [g for g in _asked(request) if g.on_data is not None]
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
    if result.problem["n"]:
        return index
    unseen = held_out_inputs(result, held_out)
    return np.setdiff1d(index, [*result.problem["attack_index"], *unseen])


def _of_networks_functions(
    request: Request, result: TrainResult, members: np.ndarray
) -> dict[str, np.ndarray]:
    """Columns of the functions that the members of a run compute."""
    index, words = compared_inputs(result, request.held_out), result.words[members]
    if len(index) < result.m:
        words = pack(unpack(words, result.m)[:, index])
    return _of_functions(request, words, len(index), int(result.problem["n"]))


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
        problem = given.problem
        return Prior(given.network, seed, threshold(given.loss), **dict(options)), problem
    result = key.source.record()
    problem = rebuilt(result, data, label)
    spec = spec_of(result, problem)
    return Prior(spec.network, seed, threshold(spec.loss), **dict(options)), problem


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
