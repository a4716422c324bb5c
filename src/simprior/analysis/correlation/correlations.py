"""Correlation of measures with test error, by group, with intervals, tests, controls, baselines."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior import rng
from simprior.analysis.correlation import checks
from simprior.analysis.correlation.environments import LEAST, sign_errors, summarise
from simprior.analysis.correlation.granulated import (
    conditional_information,
    granulated_tau,
    settings_means,
)
from simprior.analysis.correlation.intervals import (
    KINDS,
    NONE,
    Coefficient,
    Sample,
    interval,
    resamples,
)
from simprior.analysis.correlation.permutation import benjamini_hochberg, holm, p_value
from simprior.errors import InputError
from simprior.rng import check_seed
from simprior.training.spec import whole

if TYPE_CHECKING:
    import pandas as pd

BASELINES = ("majority_error", "ones", "entropy")


@dataclass(frozen=True, eq=False)
class Correlations:
    """Tables of :func:`correlate`; each starts with the group columns and ``measure``.

    ``table`` coefficients; ``granulated`` psi an axis and Psi; ``conditional_mi`` K;
    ``environments`` sign errors; ``baselines`` what class imbalance alone predicts; ``notes`` what
    was left out or refused, and why.
    """

    table: pd.DataFrame
    granulated: pd.DataFrame
    conditional_mi: pd.DataFrame
    environments: pd.DataFrame
    baselines: pd.DataFrame
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Setup:
    y: str
    measures: list[str]
    by: list[str]
    controls: list[str]
    cluster: str
    seed: int
    bootstrap: int
    permutations: int
    level: float


def correlate(
    frame: pd.DataFrame,
    y: str = "test_error",
    measures: Sequence[str] | str | None = None,
    by: str | Sequence[str] | None = None,
    controls: str | Sequence[str] = (),
    cluster: str = "cluster",
    seed: int = 0,
    bootstrap: int = 2000,
    permutations: int = 2000,
    level: float = 0.95,
) -> Correlations:
    """Correlate every measure with ``y``, separately in each group of ``by``.

    Parameters
    ----------
    frame : DataFrame
        A row a network, as ``simprior measure`` writes it.
    y : str
        The outcome.
    measures : str or sequence of str, optional
        Columns; default: all measures that vary.
    by : str or sequence of str, optional
        Group columns: a coefficient a group. Needed where optimisers, architectures, losses or
        rescalings are mixed.
    controls : str or sequence of str
        Columns held fixed in the partial correlations.
    cluster : str
        Column of what networks share (their training set); whole clusters are resampled. Without
        such a column every row is its own.
    seed, bootstrap, permutations, level
        Randomness, numbers of resamples and of permutations, probability of the intervals.

    Returns
    -------
    Correlations
        ``table`` has, for c of pearson, spearman, kendall (tau_b): ``c``, ``c_stderr``, ``c_low``,
        ``c_high``; with controls also partial_pearson and partial_spearman; ``p_value`` of a
        permutation test of Kendall's tau, ``p_adjusted`` (Benjamini-Hochberg) and ``p_holm`` over
        all rows; ``reliability`` = 1 - mean(stderr^2) / variance of the measure where its standard
        error is known, and ``disattenuated``, Pearson's coefficient over the square root of the
        reliabilities of measure and outcome (Spearman 1904), with limits scaled alike.

    Raises
    ------
    InputError
        Unknown, constant or non-numeric columns, mixed networks, or too few points everywhere.
    """
    notes: list[str] = []
    groups, held = _names(by), _names(controls)
    asked = _names(measures) if measures is not None else None
    values = checks.column(frame, y, "y")
    finite = values[np.isfinite(values)]
    if not len(finite) or finite.min() == finite.max():
        found = f"constant ({finite[0]:g})" if len(finite) else "never finite"
        raise InputError(f"y={y}, which is {found}", "an outcome that varies", "choose another")
    checks.check_group_columns(frame, groups, "by")
    for name in held:
        checks.column(frame, name, "controls")
    checks.check_mixed(frame, groups, held)
    frame = frame.replace([np.inf, -np.inf], np.nan)
    number = whole("bootstrap", bootstrap, 100)
    tests = whole("permutations", permutations, 0)
    if not (isinstance(level, float) and 0.5 <= level < 1):
        raise InputError(f"level={level!r}", "a probability from 0.5 to 1", "pass --level 0.95")
    chosen = checks.chosen_measures(frame, y, asked, notes)
    setup = _Setup(y, chosen, groups, held, cluster, check_seed(seed), number, tests, level)
    return _tables(frame, setup, notes)


def _tables(frame: pd.DataFrame, setup: _Setup, notes: list[str]) -> Correlations:
    import pandas as pd

    rows: dict[str, list[dict[str, Any]]] = {
        k: [] for k in ("table", "granulated", "conditional_mi", "environments", "baselines")
    }
    for key, part in _groups(frame, setup.by):
        head = dict(zip(setup.by, key, strict=True))
        name = ", ".join(f"{k}={v}" for k, v in head.items())
        where = f"{name}: " if name else ""
        for measure in setup.measures:
            rows["table"].append(
                {**head, "measure": measure, **_row(part, measure, setup, where, notes, name)}
            )
        _controlled_analyses(part, setup, head, name, rows, notes)
        rows["baselines"] += [{**head, **row} for row in _baselines(part, setup, name)]
    table = pd.DataFrame(rows["table"])
    if not table["pearson"].notna().any():
        raise InputError(
            f"no coefficient of {setup.y}", "points enough in some group", "; ".join(notes[:2])
        )
    at = list(table.columns).index("p_value")
    table.insert(at + 1, "p_adjusted", benjamini_hochberg(table["p_value"].to_numpy(float)))
    table.insert(at + 2, "p_holm", holm(table["p_value"].to_numpy(float)))
    others = {k: pd.DataFrame(v) for k, v in rows.items() if k != "table"}
    return Correlations(table, **others, notes=notes)


def _row(
    part: pd.DataFrame, measure: str, setup: _Setup, where: str, notes: list[str], name: str
) -> dict[str, Any]:
    """Everything about one measure in one group."""
    sample, lost = _sample(part, measure, setup)
    if lost:
        notes.append(f"{where}{measure}: {lost} rows without a finite value left out")
    row: dict[str, Any] = {"points": sample.points,
                           "clusters": sample.clusters if sample.points else 0}  # fmt: skip
    why = checks.too_few(sample.points, row["clusters"])
    if not why and (np.ptp(sample.x) == 0 or np.ptp(sample.y) == 0):
        why = f"{measure if np.ptp(sample.x) == 0 else setup.y} is constant here"
    if why:
        notes.append(f"{where}{measure}: no coefficient: {why}")
    random = rng.generator(setup.seed, f"correlate/{name}/{measure}")
    draws = np.zeros((1, 1)) if why else resamples(sample.clusters, setup.bootstrap, random)
    plain = sample.without_controls()
    for kind in KINDS:
        found = NONE if why else interval(plain, kind, draws, setup.level)
        row |= _columns(kind, found)
    for kind in KINDS[:2] if setup.controls else ():
        found = NONE if why else interval(sample, kind, draws, setup.level)
        row |= _columns(f"partial_{kind}", found)
    row["p_value"] = math.nan
    if not why and setup.permutations:
        row["p_value"] = p_value(plain, "kendall", setup.permutations, random)
    return row | _attenuation(part, measure, setup, row)


def _columns(name: str, found: Coefficient) -> dict[str, float]:
    return {name: found.value, f"{name}_stderr": found.stderr, f"{name}_low": found.low,
            f"{name}_high": found.high}  # fmt: skip


def _attenuation(
    part: pd.DataFrame, measure: str, setup: _Setup, row: dict[str, Any]
) -> dict[str, float]:
    """Reliabilities and the coefficient that error-free columns would have."""
    of_x = _reliability(part, measure, _errors(part, measure))
    of_y = _reliability(part, setup.y, _errors(part, setup.y))
    out = {"reliability": of_x, "reliability_y": of_y}
    known = [r for r in (of_x, of_y) if math.isfinite(r)]
    scale = math.sqrt(math.prod(known)) if known and min(known) > 0 else math.nan
    for end in ("", "_low", "_high"):
        value = row[f"pearson{end}"] / scale if math.isfinite(scale) else math.nan
        out[f"disattenuated{end}"] = float(np.clip(value, -1, 1))
    return out


def _errors(part: pd.DataFrame, name: str) -> np.ndarray | None:
    """Standard errors of a column: its own, or binomial for a share of a sample of test inputs."""
    if f"{name}_stderr" in part:
        return part[f"{name}_stderr"].to_numpy(float)
    sampled = "test_size" in part and not ("n" in part and (part["n"] > 0).all())
    if name != "test_error" or not sampled:
        return None
    share = part[name].to_numpy(float)
    return np.sqrt(share * (1 - share) / part["test_size"].to_numpy(float))


def _reliability(part: pd.DataFrame, name: str, error: np.ndarray | None) -> float:
    """1 - mean squared error / variance, at least 0; NaN where the error is unknown."""
    if error is None:
        return math.nan
    value = part[name].to_numpy(float)
    good = np.isfinite(value) & np.isfinite(error)
    if good.sum() < 2 or np.ptp(value[good]) == 0:
        return math.nan
    return max(0.0, 1.0 - float((error[good] ** 2).mean() / value[good].var(ddof=1)))


def _sample(part: pd.DataFrame, measure: str, setup: _Setup) -> tuple[Sample, int]:
    """Points with finite measure, outcome and controls; and how many were not."""
    used = part[[measure, setup.y, *setup.controls]].to_numpy(float)
    good = np.isfinite(used).all(axis=1)
    label = np.arange(len(part))
    if setup.cluster in part:
        label = np.unique(part[setup.cluster].astype(str).to_numpy(), return_inverse=True)[1]
    cluster = np.unique(label[good], return_inverse=True)[1] if good.any() else label[:0]
    used = used[good]
    return Sample(used[:, 0], used[:, 1], cluster.astype(np.int64), used[:, 2:]), int((~good).sum())


def _controlled_analyses(
    part: pd.DataFrame, setup: _Setup, head: dict[str, Any], name: str,
    rows: dict[str, list[dict[str, Any]]], notes: list[str],
) -> None:  # fmt: skip
    """Granulated tau, conditional information and sign errors, where hyperparameters vary."""
    axes = checks.varying_axes(part, setup.by)
    if not axes:
        return
    cells = settings_means(part, setup.measures, setup.y, axes)
    random = rng.generator(setup.seed, f"correlate/information/{name}")
    for measure in setup.measures:
        for axis, psi, error, groups, pairs in granulated_tau(cells, measure, setup.y, axes):
            rows["granulated"].append({
                **head, "measure": measure, "axis": axis, "psi": psi, "psi_stderr": error,
                "groups": groups, "pairs": pairs,
            })  # fmt: skip
        found = conditional_information(cells, measure, setup.y, axes, random)
        if found is not None:
            rows["conditional_mi"].append({**head, "measure": measure, **found})
        direction = _direction(rows["table"], measure, head)
        errors = sign_errors(part, measure, setup.y, axes, sign=direction)
        if errors:
            rows["environments"].append({
                **head, "measure": measure, "expected_sign": int(direction), **summarise(errors),
            })  # fmt: skip
        elif measure == setup.measures[0]:
            notes.append(
                f"{name + ': ' if name else ''}no sign errors: no two settings that differ in one "
                f"hyperparameter have {LEAST:g} effective pairs; measure more networks a setting"
            )


def _direction(rows: list[dict[str, Any]], measure: str, head: dict[str, Any]) -> float:
    """Sign of the overall tau of this measure in this group: the order it is taken to predict."""
    for row in rows:
        if row["measure"] == measure and all(row[k] == v for k, v in head.items()):
            return -1.0 if row["kendall"] < 0 else 1.0
    return 1.0


def _baselines(part: pd.DataFrame, setup: _Setup, name: str) -> Iterator[dict[str, Any]]:
    """What predictors that know no network reach, and what each measure adds to them."""
    for base in BASELINES:
        if base == setup.y or base not in part or part[base].nunique() < 2:
            continue
        given = _Setup(**{**setup.__dict__, "controls": [base]})
        random = rng.generator(setup.seed, f"correlate/baseline/{name}/{base}")
        sample, _ = _sample(part, base, given)
        if checks.too_few(sample.points, sample.clusters if sample.points else 0):
            continue
        draws = resamples(sample.clusters, setup.bootstrap, random)
        alone = interval(sample.without_controls(), "spearman", draws, setup.level)
        yield {"measure": base, "given": "", **_columns("spearman", alone)}
        for measure in setup.measures:
            if measure == base:
                continue
            sample, _ = _sample(part, measure, given)
            few = checks.too_few(sample.points, sample.clusters if sample.points else 0)
            if few or np.ptp(sample.x) == 0:
                continue
            draws = resamples(sample.clusters, setup.bootstrap, random)
            found = interval(sample, "spearman", draws, setup.level)
            yield {"measure": measure, "given": base, **_columns("spearman", found)}


def _groups(frame: pd.DataFrame, by: list[str]) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    if not by:
        yield (), frame
        return
    for key, part in frame.groupby(by, sort=True):
        yield (key if isinstance(key, tuple) else (key,)), part


def _names(given: str | Sequence[str] | None) -> list[str]:
    if given is None:
        return []
    parts = given.split(",") if isinstance(given, str) else list(given)
    return [str(part).strip() for part in parts if str(part).strip()]
