"""The numbers of a comparison: point values, their errors and intervals, and noise ceilings.

Each ``*_rows`` function gives rows (name, value, standard error, low, high), which
:mod:`simprior.analysis.compare.comparison` puts together. Test errors are among them: the error of
a function is the share of the test inputs on which it differs from the target, and
:func:`mean_error` says what class imbalance alone would give.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from simprior.analysis.compare.distances import (
    NAMES,
    HeldOut,
    Points,
    correlations,
    distances,
    held_out,
    line_fit,
    scatter,
    york,
)
from simprior.analysis.compare.sources import Joint, Side
from simprior.analysis.correlate.intervals import (
    Bootstrap,
    Part,
    disjoint_parts,
    redraw,
    unit_total,
)
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.sampling.unseen import partial_table
from simprior.boolean.truthtable import parse_functions, unpack
from simprior.checks import plain_array
from simprior.errors import InputError
from simprior.numerics import random as rng
from simprior.numerics.estimate import clopper_pearson, normal_factor, sample_sd, share_stderr

_HELD_OUT_SPLITS = 4
_POINTS = 4_000_000  # points redrawn in all for the errors of correlations
_FISHER = ("spearman", "kendall", "pearson")
_PLAIN = ("pearson_noise_free", "offset_decades", "scatter_decades")
_SQUARED = ("scatter_decades_noise_free",)
_NAN = math.nan
Row = tuple[str, float, float, float, float]


def measure(
    pa: np.ndarray,
    ka: np.ndarray,
    pb: np.ndarray,
    kb: np.ndarray,
    min_count: float,
    rest: tuple[float, float] = (0.0, 0.0),
) -> dict[str, float]:
    """All point values that need two distributions only: (U,) estimates and effective counts.

    ``rest``: the probability that each side does not list, which counts as met by it alone.
    """
    apart = np.append(pa, [rest[0], 0.0]), np.append(pb, [0.0, rest[1]])
    found = dict(zip(NAMES, distances(*(apart if any(rest) else (pa, pb))).tolist(), strict=True))
    both = (pa > 0) & (pb > 0)
    used = _selected(pa, ka, pb, kb, min_count)
    found |= {
        "functions_a": float((pa > 0).sum()),
        "functions_b": float((pb > 0).sum()),
        "functions_common": float(both.sum()),
        "mass_common_a": min(1.0, float(pa[both].sum())),
        "mass_common_b": min(1.0, float(pb[both].sum())),
        "selected_functions": float(used.sum()),
        "selected_mass_a": min(1.0, float(pa[used].sum())),
        "selected_mass_b": min(1.0, float(pb[used].sum())),
    }
    points = Points.of(pa[used], ka[used], pb[used], kb[used])
    line, plain = line_fit(points), york(points.x, points.y, points.vx, points.vy)
    found |= correlations(points) | scatter(points)
    found |= {
        "slope": line.slope,
        "slope_stderr": line.slope_stderr,
        "slope_counting_only": plain.slope,
        "slope_counting_only_stderr": plain.slope_stderr,
    }
    return found


def _selected(
    pa: np.ndarray, ka: np.ndarray, pb: np.ndarray, kb: np.ndarray, min_count: float
) -> np.ndarray:
    least = min_count * (1 - 1e-9)  # effective counts are products of rounded numbers
    return np.asarray((pa > 0) & (pb > 0) & (ka >= least) & (kb >= least))


def distance_rows(
    a: Side, b: Side, joint: Joint, found: dict[str, float], bootstrap: int, seed: int, level: float
) -> list[Row]:
    """Plug-in values with [held-out lower limit, plug-in upper limit], and the held-out values."""
    z = normal_factor(level)
    unmet, unmet_error = _unmet(a, b, level)
    draws = np.array(
        [
            distances(*replicate)
            for replicate in Bootstrap(joint).replicates(
                bootstrap, rng.generator(seed, "compare/bootstrap")
            )
        ]
    )
    value = np.array([found[name] for name in NAMES])
    error = sample_sd(draws, axis=0)
    squared_error = np.append(error[:2], sample_sd(draws[:, 2] ** 2))
    bound = _held_out(a, b, joint, seed)
    power = np.array([1.0, 1.0, 2.0])
    top = np.array([1.0, math.log(2.0), 1.0])
    half = np.hypot(z * squared_error, unmet * top)
    below = np.hypot(z * bound.stderr, unmet * top)
    held_out_error = np.hypot(bound.stderr, unmet_error * top)
    error = np.hypot(error, unmet_error * top)
    high = np.minimum((value**power + half) ** (1 / power), top)
    low = np.minimum(np.maximum(bound.value - below, 0.0) ** (1 / power), value)
    rows: list[Row] = [
        (name, float(value[i]), float(error[i]), float(low[i]), float(high[i]))
        for i, name in enumerate(NAMES)
    ]
    for i, name in enumerate(NAMES):
        lower = float(bound.value[i] ** (1 / power[i]))
        slope = 1.0 if i < 2 or lower == 0 else 1 / (2 * lower)
        upper = float(min((bound.value[i] + below[i]) ** (1 / power[i]), top[i]))
        rows.append(
            (f"{name}_held_out", lower, float(held_out_error[i]) * slope, float(low[i]), upper)
        )
    return rows


def _unmet(a: Side, b: Side, level: float) -> tuple[float, float]:
    """Mass that runs of a single function may have missed: upper limit, and standard error.

    Redrawing such a run gives the same run: a bootstrap takes it for exact. TV, JS / ln 2 and
    Hellinger squared change by no more than the mass that moves.
    """
    single = [s for s in (a, b) if len(s.p) == 1 and not s.exact]
    limit = sum(float(clopper_pearson(np.array(0.0), s.set_size, level)[1]) for s in single)
    error = math.hypot(*(float(share_stderr(0.0, s.set_size)) for s in single))
    return min(limit, 1.0), error


def _held_out(a: Side, b: Side, joint: Joint, seed: int) -> HeldOut:
    """Mean over some random halvings of the held-out bounds."""
    size_a, size_b = (s if math.isinf(s) else s // 2 for s in (unit_total(a), unit_total(b)))
    if min(size_a, size_b) < 1:
        return HeldOut(np.zeros(3), np.zeros(3))
    found = []
    for index in range(_HELD_OUT_SPLITS):
        source = rng.generator(seed, "compare/held-out", index)
        halves_a = disjoint_parts(a, joint.row_a, size_a, source)
        halves_b = disjoint_parts(b, joint.row_b, size_b, source)
        if a.rest or b.rest:
            listed = ((joint.row_a >= 0) | (a.rest == 0)) & ((joint.row_b >= 0) | (b.rest == 0))
            halves_a, halves_b = ([_lumped(x, listed) for x in h] for h in (halves_a, halves_b))
        found.append(held_out(halves_a, halves_b, a.set_size, b.set_size))
    return HeldOut(
        np.mean([f.value for f in found], axis=0), np.mean([f.stderr for f in found], axis=0)
    )


def _lumped(part: Part, listed: np.ndarray) -> Part:
    """A part with everything outside ``listed`` (U,) as one class: what tables that list part of
    the functions know. No distance grows by lumping, so the bounds from below stay bounds."""
    rest = float(part.p[~listed].sum()) + part.rest
    units = float(part.units[~listed].sum()) + part.rest * part.size
    return Part(np.append(part.p[listed], rest), np.append(part.units[listed], units), part.size)


def mass_rows(a: Side, b: Side, found: dict[str, float], level: float) -> list[Row]:
    """Numbers of functions, and shares of each run's mass on common and on selected functions."""
    rows: list[Row] = [
        (name, found[name], _NAN, _NAN, _NAN)
        for name in ("functions_a", "functions_b", "functions_common")
    ]
    rows += [_share("mass_common_a", found, a, level), _share("mass_common_b", found, b, level)]
    rows.append(("selected_functions", found["selected_functions"], _NAN, _NAN, _NAN))
    rows += [_share("selected_mass_a", found, a, level), _share("selected_mass_b", found, b, level)]
    for name, side in (("a", a), ("b", b)):
        if side.rest and isinstance(side.source, FunctionCounts):
            rows.append(_unlisted(f"unlisted_mass_{name}", side.source, level))
    return rows


def _unlisted(name: str, counts: FunctionCounts, level: float) -> Row:
    """Mass of the functions that a table does not list."""
    profile = counts.profile
    found = partial_table(profile.count, counts.samples, profile.multiplicity, level)
    return name, found.mass, found.stderr, found.low, found.high


def _share(name: str, found: dict[str, float], side: Side, level: float) -> Row:
    """A binomial share: exact for a set of functions that the other run defines."""
    value = found[name]
    if side.exact:
        return name, value, 0.0, value, value
    low, high = clopper_pearson(np.array(value * side.set_size), side.set_size, level)
    error = float(share_stderr(value, side.set_size))
    return name, value, error, float(low), float(high)


def agreement_rows(
    joint: Joint, found: dict[str, float], min_count: float, bootstrap: int, seed: int, level: float
) -> list[Row]:
    """Correlations, offset, scatter (errors by bootstrap of the counts) and slopes (York's)."""
    z = normal_factor(level)
    used = _selected(joint.pa, joint.ka, joint.pb, joint.kb, min_count)
    columns = (joint.pa[used], joint.ka[used], joint.pb[used], joint.kb[used])
    number = min(bootstrap, max(10, _POINTS // max(int(used.sum()), 1)))
    draws = list(_redrawn(*columns, number, rng.generator(seed, "compare/points")))
    rows: list[Row] = []
    for name in (*_FISHER, *_PLAIN, *_SQUARED):
        value = found[name]
        values = np.array([draw[name] for draw in draws])
        values = values[np.isfinite(values)]
        if not math.isfinite(value) or len(values) < 2:
            rows.append((name, value, _NAN, _NAN, _NAN))
            continue
        error = float(sample_sd(values))
        rows.append((name, value, error, *_interval(name, value, values, z)))
    for name in ("slope", "slope_counting_only"):
        value, error = found[name], found[f"{name}_stderr"]
        rows.append((name, value, error, value - z * error, value + z * error))
    return rows


def _redrawn(
    pa: np.ndarray,
    ka: np.ndarray,
    pb: np.ndarray,
    kb: np.ndarray,
    number: int,
    source: np.random.Generator,
) -> Iterator[dict[str, float]]:
    """Statistics of redrawn counts, whose noise is that of the data once more."""
    for _ in range(number):
        x, y = redraw(pa, ka, source), redraw(pb, kb, source)
        kept = (x > 0) & (y > 0)
        points = Points.of(x[kept], ka[kept] / 2, y[kept], kb[kept] / 2)
        yield correlations(points) | scatter(points)


def _interval(name: str, value: float, draws: np.ndarray, z: float) -> tuple[float, float]:
    """Normal interval, for correlations on Fisher's scale, for the noise-free scatter squared."""
    if name in _FISHER:
        bound = 1 - 1e-12
        centre = math.atanh(max(-bound, min(bound, value)))
        half = z * float(sample_sd(np.arctanh(np.clip(draws, -bound, bound))))
        return math.tanh(centre - half), math.tanh(centre + half)
    if name in _SQUARED:
        half = z * float(sample_sd(draws**2))
        return math.sqrt(max(0.0, value**2 - half)), math.sqrt(value**2 + half)
    half = z * float(sample_sd(draws))
    if name == "pearson_noise_free":
        return max(-1.0, value - half), min(1.0, value + half)
    return value - half, value + half


def error_rows(
    a: Side, b: Side, target: Any, test_mask: Any, level: float
) -> tuple[list[Row], pd.DataFrame]:
    """Mean test errors, their difference and the baselines; and the histogram of errors.

    Raises :class:`InputError` for a target or mask that does not fit the inputs.
    """
    if target is None:
        raise InputError("a test mask without a target", "both", "pass target= too")
    task = check_task(target, test_mask, a.m, a.n)
    found = mean_error(a, task, level), mean_error(b, task, level)
    rows: list[Row] = [
        (f"mean_error_{name}", f.value, f.stderr, f.low, f.high)
        for name, f in zip("ab", found, strict=True)
    ]
    difference = _difference(*found, normal_factor(level))
    if a.rest or b.rest:  # any test error of what is not listed
        limits = found[0].low - found[1].high, found[0].high - found[1].low
        difference = (*difference[:3], *limits)
    rows.append(difference)
    known = baselines(task)
    known |= {f"baseline_permuted_{name}": f.permuted for name, f in zip("ab", found, strict=True)}
    rows += [(name, value, _NAN, _NAN, _NAN) for name, value in known.items()]
    return rows, error_histogram((a, b), found, task.tests, level)


def _difference(a: MeanError, b: MeanError, z: float) -> Row:
    value, error = a.value - b.value, math.hypot(a.stderr, b.stderr)
    half = math.hypot(*(max(z * s.stderr, s.high - s.value, s.value - s.low) for s in (a, b)))
    return "mean_error_difference", value, error, value - half, value + half


def ceilings(
    a: Side, b: Side, joint: Joint, size: float, min_count: float, splits: int, seed: int
) -> dict[str, tuple[float, float, float]]:
    """(matched, ceiling of a, ceiling of b) of every statistic of :func:`measure`."""
    if size < 1:
        return {}
    found: dict[str, list[tuple[float, float, float]]] = {}
    for index in range(splits):
        source = rng.generator(seed, "compare/ceiling", index)
        a1, a2 = disjoint_parts(a, joint.row_a, size, source)
        b1, b2 = disjoint_parts(b, joint.row_b, size, source)
        three = [
            measure(x.p, x.units, y.p, y.units, min_count, (x.rest, y.rest))
            for x, y in ((a1, b1), (a1, a2), (b1, b2))
        ]
        for name in three[0]:
            found.setdefault(name, []).append((three[0][name], three[1][name], three[2][name]))
    out = {}
    for name, values in found.items():
        table = np.array(values)
        known = np.isfinite(table)
        total = np.where(known, table, 0.0).sum(axis=0)
        mean = np.divide(total, known.sum(axis=0), out=np.full(3, _NAN), where=known.any(axis=0))
        out[name] = (float(mean[0]), float(mean[1]), float(mean[2]))
    return out


_BLOCK = 1 << 17


@dataclass(frozen=True)
class Task:
    """A target (m,) of 0/1 and the test inputs, a (m,) mask; the others were the training set."""

    target: np.ndarray
    test: np.ndarray

    @property
    def tests(self) -> int:
        """Number of test inputs."""
        return int(self.test.sum())


def check_task(target: Any, test_mask: Any, m: int, n: int) -> Task:
    """A task from a target in any accepted form and the mask of test inputs (all if None).

    Raises :class:`InputError` for a target that is not a function of the inputs, or a mask of
    another length, of other values, or without any test input.
    """
    table = parse_functions(target, m, n)
    if len(table) != 1:
        raise InputError(f"{len(table)} targets", "one function", "pass one target")
    mask = np.ones(m, bool) if test_mask is None else plain_array("test_mask", test_mask)
    if mask.shape != (m,) or not np.isin(mask, (0, 1)).all() or not mask.any():
        raise InputError(
            f"test_mask of shape {mask.shape}",
            f"{m} values, true for test inputs, at least one of them true",
            "mark every input that is not in the training set",
        )
    return Task(table[0], mask.astype(bool))


def wrong_outputs(words: np.ndarray, m: int, task: Task) -> np.ndarray:
    """(F,) number of test inputs on which each packed function differs from the target."""
    out = np.empty(len(words), np.int64)
    for first in range(0, len(words), _BLOCK):
        part = slice(first, first + _BLOCK)
        tables = unpack(words[part], m)[:, task.test]
        out[part] = (tables != task.target[task.test]).sum(axis=1)
    return out


@dataclass(frozen=True)
class MeanError:
    """Mean test error of a run, its standard error and interval, and the histogram's masses."""

    value: float
    stderr: float
    low: float
    high: float
    permuted: float
    histogram: np.ndarray


def mean_error(side: Side, task: Task, level: float) -> MeanError:
    """Mean error of a side's functions, weighted by p.

    The interval is the mean plus and minus z standard errors within [0, 1]; where all functions
    make the same number of errors it is widened by the exact binomial bound of a deviation that was
    not met, and the standard error is that of a share that was not met.

    ``permuted`` is the mean error against targets whose labels on the test inputs are
    permuted at random (same number of ones, hence the same entropy): what the balance of classes
    alone gives. Where a table lists part of its samples only, value, error and ``permuted`` are
    those of the listed functions, and the interval allows any error of the others.
    """
    z = normal_factor(level)
    p = side.p / side.p.sum()
    wrong = wrong_outputs(side.words, side.m, task) / task.tests
    value = float(p @ wrong)
    same = np.ptp(wrong) == 0  # exact, unlike a variance of equal shares
    variance = 0.0 if same else max(0.0, float(p @ (wrong - value) ** 2))
    error = 0.0 if side.exact else math.sqrt(variance / side.set_size)
    half = z * error
    if np.ptp(wrong[p > 0]) == 0 and not side.exact:
        error = float(share_stderr(0.0, side.set_size))
        half = float(clopper_pearson(np.array(0.0), side.set_size, level)[1])
    low, high = value - half, value + half
    if side.rest:
        low, high = _any_error(side, wrong, z)
    listed = side.p if side.rest else p
    histogram = np.bincount(np.rint(wrong * task.tests).astype(int), listed, task.tests + 1)
    return MeanError(
        value,
        error,
        max(0.0, low),
        min(1.0, high),
        _permuted(side, p, task),
        histogram,
    )


def _any_error(side: Side, wrong: np.ndarray, z: float) -> tuple[float, float]:
    """Limits of the mean error: no error, and error 1, of all that is not listed."""
    ends = []
    for sign, error in ((-1.0, 0.0), (1.0, 1.0)):
        mean = float(side.p @ wrong) + side.rest * error
        square = float(side.p @ wrong**2) + side.rest * error
        ends.append(mean + sign * z * math.sqrt(max(0.0, square - mean * mean) / side.set_size))
    return ends[0], ends[1]


def _permuted(side: Side, p: np.ndarray, task: Task) -> float:
    """Mean over functions and permutations of the test labels: u (1 - v) + v (1 - u)."""
    v = float(task.target[task.test].mean())
    none = Task(np.zeros_like(task.target), task.test)
    u = wrong_outputs(side.words, side.m, none) / task.tests
    return float(p @ (u * (1 - v) + v * (1 - u)))


def baselines(task: Task) -> dict[str, float]:
    """Test errors of two predictors that know only the balance of classes.

    ``baseline_majority``: always the commoner training label (the commoner label of the target if
    there is no training set; a tie gives 1/2). ``baseline_entropy_matched``: random functions with
    the target's number of ones.
    """
    known = task.target[~task.test] if (~task.test).any() else task.target
    share, test = float(known.mean()), float(task.target[task.test].mean())
    majority = 0.5 if share == 0.5 else (1.0 - test if share > 0.5 else test)
    q = float(task.target.mean())
    matched = q * (1 - test) + test * (1 - q)
    return {"baseline_majority": majority, "baseline_entropy_matched": matched}


def error_histogram(
    sides: tuple[Side, Side], found: tuple[MeanError, MeanError], tests: int, level: float
) -> pd.DataFrame:
    """P(error) of both runs: columns wrong, error, p_a, p_a_low, p_a_high, p_b, ...

    Upper limits are as if all samples that a side does not list had that error.
    """
    wrong = np.arange(tests + 1)
    columns: dict[str, np.ndarray] = {"wrong": wrong, "error": wrong / tests}
    for name, side, result in zip("ab", sides, found, strict=True):
        p = np.clip(result.histogram, 0.0, 1.0)
        low, high = (
            (p, p) if side.exact else clopper_pearson(p * side.set_size, side.set_size, level)
        )
        if side.rest:
            most = np.minimum(p + side.rest, 1.0) * side.set_size
            high = clopper_pearson(most, side.set_size, level)[1]
        columns |= {f"p_{name}": p, f"p_{name}_low": low, f"p_{name}_high": high}
    return pd.DataFrame(columns)
