"""How alike two distributions over functions are: P_SGD(f|S) against P_B(f|S), or any two runs.

:func:`compare` takes two tables of functions and gives distances, correlations of log-probabilities
and test errors, with intervals, and next to each the *noise ceiling*: what two disjoint parts of
one and the same run show at the size at which parts of the two runs are compared (``matched``).
A value is no evidence of a difference unless ``matched`` lies apart from both ceilings.

Intervals cover counting noise only: the functions, the training set and the networks' law are
fixed. (The two slopes are an exception, see :func:`simprior.analysis.agreement.line_fit`.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior import rng
from simprior.analysis.agreement import Points, correlations, line_fit, scatter, york
from simprior.analysis.distances import NAMES, HeldOut, distances, held_out
from simprior.analysis.errors_stats import (
    MeanError,
    baselines,
    check_task,
    error_histogram,
    mean_error,
)
from simprior.analysis.resample import Bootstrap, disjoint_parts, redraw, split_halves, unit_total
from simprior.analysis.sides import Joint, Side, WeightedFunctions, join, side_of
from simprior.boolean.counts import FunctionCounts
from simprior.boolean.truthtable import to_hex
from simprior.errors import InputError
from simprior.estimate import clopper_pearson

if TYPE_CHECKING:
    import pandas as pd

SPLITS = 16
_HELD_OUT_SPLITS = 4
_POINTS = 4_000_000  # points redrawn in all for the errors of correlations
_FISHER = ("spearman", "kendall", "pearson")
_PLAIN = ("pearson_noise_free", "offset_decades", "scatter_decades")
_SQUARED = ("scatter_decades_noise_free",)
_NAN = math.nan


@dataclass(frozen=True)
class Statistic:
    """One number of a comparison.

    ``stderr`` and [``low``, ``high``]: counting noise, at the level of the comparison; NaN where
    the number is a plain count. ``matched``: mean over splits of the statistic of a part of A
    against a part of B; ``noise_ceiling_a``, ``noise_ceiling_b``: of two parts of A, of B, all
    parts of the same effective size; NaN where the notion does not apply.
    """

    name: str
    value: float
    stderr: float = _NAN
    low: float = _NAN
    high: float = _NAN
    matched: float = _NAN
    noise_ceiling_a: float = _NAN
    noise_ceiling_b: float = _NAN


@dataclass(frozen=True)
class Comparison:
    """What :func:`compare` found; ``errors`` is the error histogram, None without a target.

    ``part_size`` is the effective size of the parts behind ``matched`` and the ceilings; ``split``
    tells that one run was compared with itself, dealt out in halves.
    """

    a: Side
    b: Side
    joint: Joint
    statistics: tuple[Statistic, ...]
    min_count: float
    level: float
    part_size: float
    split: bool
    errors: pd.DataFrame | None = None

    def __getitem__(self, name: str) -> Statistic:
        """The statistic of that name; KeyError if there is none."""
        for entry in self.statistics:
            if entry.name == name:
                return entry
        raise KeyError(name)

    def to_frame(self) -> pd.DataFrame:
        """One row a statistic; columns as the fields of :class:`Statistic`."""
        import pandas as pd

        names = [field.name for field in fields(Statistic)]
        return pd.DataFrame([astuple(entry) for entry in self.statistics], columns=names)

    def pairs(self, top: int | None = None) -> pd.DataFrame:
        """One row a function, by descending p_a + p_b: function (hex), p_a, p_a_low, p_a_high,
        effective_a, p_b, ..., seen_in ("both", "a only", "b only").

        A function that a run did not meet has p = 0 there and the exact upper limit of 0 counts.
        """
        import pandas as pd

        j = self.joint
        order = np.argsort(-(j.pa + j.pb), kind="stable")[:top]
        columns: dict[str, Any] = {"function": to_hex(j.words[order], self.a.m)}
        for name, side, row, p, units in (
            ("a", self.a, j.row_a, j.pa, j.ka), ("b", self.b, j.row_b, j.pb, j.kb),
        ):  # fmt: skip
            low, high = side.intervals(self.level)
            at, met = row[order], row[order] >= 0
            columns[f"p_{name}"] = p[order]
            columns[f"p_{name}_low"] = np.where(met, low[at], 0.0)
            columns[f"p_{name}_high"] = np.where(met, high[at], side.unseen_bound(self.level))
            columns[f"effective_{name}"] = units[order]
        seen = np.where(j.pb[order] == 0, "a only", np.where(j.pa[order] == 0, "b only", "both"))
        columns["seen_in"] = seen.astype(object)
        return pd.DataFrame(columns)


def compare(
    a: FunctionCounts | WeightedFunctions,
    b: FunctionCounts | WeightedFunctions,
    *,
    min_count: float = 10,
    bootstrap: int = 200,
    splits: int = SPLITS,
    seed: int = 0,
    level: float = 0.95,
    target: Any = None,
    test_mask: Any = None,
) -> Comparison:
    """Compare two distributions over functions on the same inputs.

    Parameters
    ----------
    a, b : FunctionCounts or WeightedFunctions
        Whole tables on the same m inputs. The same object twice: the run is dealt out in two
        halves, which are compared.
    min_count : float
        Correlations, slopes and scatter use functions with this effective count (the count, for
        independent networks) on both sides; at least 1.
    bootstrap : int
        Replicates behind the standard errors; 2 at least.
    splits : int
        Random divisions behind ``matched`` and the noise ceilings.
    seed : int
        Of bootstrap and divisions; same seed, same result.
    level : float
        Confidence level of all intervals.
    target : optional
        The target function in any accepted form; gives test errors, their histogram, baselines.
    test_mask : (m,) of bool, optional
        The inputs that were not trained on; all if not given.

    Returns
    -------
    Comparison
        Statistics (nats unless named decades; see docs/comparing.md):
        total_variation, jensen_shannon, hellinger (plug-in values, never low on average; the
        interval covers the true distance) and ``*_held_out`` (never high on average);
        functions_a/b/common, mass_common_a/b (share of a run's networks whose function the other
        run met); selected_functions, selected_mass_a/b; spearman, kendall, pearson,
        pearson_noise_free; offset_decades, scatter_decades, scatter_decades_noise_free; slope,
        slope_counting_only; with a target mean_error_a/b, mean_error_difference, baseline_*.

    Raises
    ------
    InputError
        Different inputs, a table that is pooled, subsampled or loaded in part, a bad parameter.
    """
    _check(min_count, bootstrap, splits, level)
    rng.check_seed(seed)
    split = a is b
    if split:
        a, b = _halves(a, seed)
    side_a, side_b = side_of(a, "a"), side_of(b, "b")
    _check_same_inputs(side_a, side_b)
    joint = join(side_a, side_b)
    found = measure(joint.pa, joint.ka, joint.pb, joint.kb, min_count)
    size = min(unit_total(side_a), unit_total(side_b))
    size = size if math.isinf(size) else float(size // 2)
    ceilings = _ceilings(side_a, side_b, joint, size, min_count, splits, seed)
    rows = [
        *_distance_rows(side_a, side_b, joint, found, bootstrap, seed, level),
        *_mass_rows(side_a, side_b, found, level),
        *_agreement_rows(joint, found, min_count, bootstrap, seed, level),
    ]
    errors = None
    if target is not None or test_mask is not None:
        more, errors = _error_rows(side_a, side_b, target, test_mask, level)
        rows += more
    statistics = tuple(Statistic(*row, *ceilings.get(row[0], (_NAN,) * 3)) for row in rows)
    return Comparison(
        side_a, side_b, joint, statistics, min_count, level, size, split, errors
    )  # fmt: skip


def measure(
    pa: np.ndarray, ka: np.ndarray, pb: np.ndarray, kb: np.ndarray, min_count: float
) -> dict[str, float]:
    """All point values that need two distributions only: (U,) estimates and effective counts."""
    found = dict(zip(NAMES, distances(pa, pb).tolist(), strict=True))
    both = (pa > 0) & (pb > 0)
    used = _selected(pa, ka, pb, kb, min_count)
    found |= {
        "functions_a": float((pa > 0).sum()), "functions_b": float((pb > 0).sum()),
        "functions_common": float(both.sum()),
        "mass_common_a": min(1.0, float(pa[both].sum())),
        "mass_common_b": min(1.0, float(pb[both].sum())),
        "selected_functions": float(used.sum()),
        "selected_mass_a": min(1.0, float(pa[used].sum())),
        "selected_mass_b": min(1.0, float(pb[used].sum())),
    }  # fmt: skip
    points = Points.of(pa[used], ka[used], pb[used], kb[used])
    line, plain = line_fit(points), york(points.x, points.y, points.vx, points.vy)
    found |= correlations(points) | scatter(points)
    found |= {
        "slope": line.slope, "slope_stderr": line.slope_stderr,
        "slope_counting_only": plain.slope,
        "slope_counting_only_stderr": plain.slope_stderr,
    }  # fmt: skip
    return found


def _selected(
    pa: np.ndarray, ka: np.ndarray, pb: np.ndarray, kb: np.ndarray, min_count: float
) -> np.ndarray:
    least = min_count * (1 - 1e-9)  # effective counts are products of rounded numbers
    return np.asarray((pa > 0) & (pb > 0) & (ka >= least) & (kb >= least))


Row = tuple[str, float, float, float, float]


def _distance_rows(
    a: Side, b: Side, joint: Joint, found: dict[str, float], bootstrap: int, seed: int, level: float
) -> list[Row]:
    """Plug-in values with [held-out lower limit, plug-in upper limit], and the held-out values."""
    z = _z(level)
    draws = np.array([
        distances(*replicate)
        for replicate in Bootstrap(joint).replicates(
            bootstrap, rng.generator(seed, "compare/bootstrap")
        )
    ])  # fmt: skip
    value = np.array([found[name] for name in NAMES])
    error = draws.std(axis=0, ddof=1)
    squared_error = np.append(error[:2], (draws[:, 2] ** 2).std(ddof=1))
    bound = _held_out(a, b, joint, seed)
    power = np.array([1.0, 1.0, 2.0])
    top = np.array([1.0, math.log(2.0), 1.0])
    high = np.minimum((value**power + z * squared_error) ** (1 / power), top)
    low = np.minimum(np.maximum(bound.value - z * bound.stderr, 0.0) ** (1 / power), value)
    rows: list[Row] = [
        (name, float(value[i]), float(error[i]), float(low[i]), float(high[i]))
        for i, name in enumerate(NAMES)
    ]
    for i, name in enumerate(NAMES):
        lower = float(bound.value[i] ** (1 / power[i]))
        slope = 1.0 if i < 2 or lower == 0 else 1 / (2 * lower)
        upper = float(min((bound.value[i] + z * bound.stderr[i]) ** (1 / power[i]), top[i]))
        rows.append(
            (f"{name}_held_out", lower, float(bound.stderr[i]) * slope, float(low[i]), upper)
        )
    return rows


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
        found.append(held_out(halves_a, halves_b, a.set_size, b.set_size))
    return HeldOut(
        np.mean([f.value for f in found], axis=0), np.mean([f.stderr for f in found], axis=0)
    )  # fmt: skip


def _mass_rows(a: Side, b: Side, found: dict[str, float], level: float) -> list[Row]:
    rows: list[Row] = [
        (name, found[name], _NAN, _NAN, _NAN)
        for name in ("functions_a", "functions_b", "functions_common")
    ]
    rows += [_share("mass_common_a", found, a, level), _share("mass_common_b", found, b, level)]
    rows.append(("selected_functions", found["selected_functions"], _NAN, _NAN, _NAN))
    rows += [_share("selected_mass_a", found, a, level), _share("selected_mass_b", found, b, level)]
    return rows


def _share(name: str, found: dict[str, float], side: Side, level: float) -> Row:
    """A binomial share: exact for a set of functions that the other run defines."""
    value = found[name]
    if side.exact:
        return name, value, 0.0, value, value
    low, high = clopper_pearson(np.array(value * side.set_size), side.set_size, level)
    error = math.sqrt(value * (1 - value) / side.set_size)
    return name, value, error, float(low), float(high)


def _agreement_rows(
    joint: Joint, found: dict[str, float], min_count: float, bootstrap: int, seed: int, level: float
) -> list[Row]:
    """Correlations, offset, scatter (errors by bootstrap of the counts) and slopes (York's)."""
    z = _z(level)
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
        error = float(values.std(ddof=1))
        rows.append((name, value, error, *_interval(name, value, values, z)))
    for name in ("slope", "slope_counting_only"):
        value, error = found[name], found[f"{name}_stderr"]
        rows.append((name, value, error, value - z * error, value + z * error))
    return rows


def _redrawn(
    pa: np.ndarray, ka: np.ndarray, pb: np.ndarray, kb: np.ndarray, number: int,
    source: np.random.Generator,
) -> Iterator[dict[str, float]]:  # fmt: skip
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
        half = z * float(np.arctanh(np.clip(draws, -bound, bound)).std(ddof=1))
        return math.tanh(centre - half), math.tanh(centre + half)
    if name in _SQUARED:
        half = z * float((draws**2).std(ddof=1))
        return math.sqrt(max(0.0, value**2 - half)), math.sqrt(value**2 + half)
    half = z * float(draws.std(ddof=1))
    if name == "pearson_noise_free":
        return max(-1.0, value - half), min(1.0, value + half)
    return value - half, value + half


def _error_rows(
    a: Side, b: Side, target: Any, test_mask: Any, level: float
) -> tuple[list[Row], pd.DataFrame]:
    if target is None:
        raise InputError("a test mask without a target", "both", "pass target= too")
    task = check_task(target, test_mask, a.m, a.n)
    found = mean_error(a, task, level), mean_error(b, task, level)
    rows: list[Row] = [
        (f"mean_error_{name}", f.value, f.stderr, f.low, f.high)
        for name, f in zip("ab", found, strict=True)
    ]
    rows.append(_difference(*found, _z(level)))
    known = baselines(task)
    known |= {f"baseline_permuted_{name}": f.permuted for name, f in zip("ab", found, strict=True)}
    rows += [(name, value, _NAN, _NAN, _NAN) for name, value in known.items()]
    return rows, error_histogram((a, b), found, task.tests, level)


def _difference(a: MeanError, b: MeanError, z: float) -> Row:
    value, error = a.value - b.value, math.hypot(a.stderr, b.stderr)
    return "mean_error_difference", value, error, value - z * error, value + z * error


def _ceilings(
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
            measure(x.p, x.units, y.p, y.units, min_count)
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


def _halves(source: Any, seed: int) -> tuple[Any, Any]:
    """Two halves of one table; of effective counts where samples are dependent."""
    side = side_of(source, "a")
    if isinstance(source, FunctionCounts) and source.iid and side.set_size == source.samples:
        return split_halves(source, seed)
    size = unit_total(side)
    if not 2 <= size < math.inf:
        raise InputError(
            "one table given twice", "a table of two effective samples at least, not exact",
            "pass two tables",
        )  # fmt: skip
    parts = disjoint_parts(
        side, np.arange(len(side.p)), size // 2, rng.generator(seed, "compare/halves")
    )
    return tuple(
        WeightedFunctions(
            side.m,
            side.words[x.p > 0],
            x.p[x.p > 0],
            (x.units / np.maximum(x.p, 1e-300))[x.p > 0],
            side.n,
        )
        for x in parts
    )  # type: ignore[return-value]


def _check(min_count: float, bootstrap: int, splits: int, level: float) -> None:
    if not 1 <= min_count < math.inf:
        raise InputError(
            f"min_count={min_count!r}", "a number from 1", "pass for example --min-count 10"
        )
    if bootstrap < 2:
        raise InputError(f"bootstrap={bootstrap!r}", "2 replicates at least", "pass 200")
    if splits < 1:
        raise InputError(f"splits={splits!r}", "1 split at least", f"pass {SPLITS}")
    if not 0 < level < 1:
        raise InputError(f"level={level!r}", "a number between 0 and 1", "pass for example 0.95")


def _check_same_inputs(a: Side, b: Side) -> None:
    remedy = "compare functions on the same inputs in the same order"
    if a.m != b.m:
        raise InputError(f"functions on m={b.m} inputs", f"m={a.m}, as in the first table", remedy)
    known_a, known_b = (getattr(s.source.info.get("model"), "inputs", None) for s in (a, b))
    if known_a is not None and known_b is not None and not np.array_equal(known_a, known_b):
        raise InputError("runs on different inputs", "the same inputs", remedy)


def _z(level: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(0.5 + level / 2))
