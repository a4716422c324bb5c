"""Figures of what predicts generalisation: of tables of networks, of functions, of coefficients.

Every function takes a table and gives a matplotlib Figure, one column wide. Bars are intervals of
:mod:`simprior.analysis.figures.means`. Of a mean: Student's t over the networks of a training set,
or over data sets, with the error of a finite sample of test inputs. Of one network:
Clopper-Pearson. Of a measure: its own standard error times the normal quantile. Open markers are
means whose spread is unknown. A line below each figure says what its points and bars are.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from simprior.analysis.figures.marks import (
    areas,
    check_columns,
    draw_points,
    ends,
    group_column,
    groups,
    legend,
    places,
    proxy,
    scale,
    small_print,
    styled,
)
from simprior.analysis.figures.means import FEWEST, cell_means, means_by_value
from simprior.analysis.figures.registry import Drawing, drawings, kind
from simprior.analysis.figures.style import (
    COLUMN_WIDTH,
    axis_label,
    given_axes,
    name_of,
    new_figure,
    new_panels,
    style,
    tidy_ticks,
)
from simprior.analysis.measure.registry import FUNCTION_GROUPS, MEASURES, measure_columns
from simprior.analysis.measure.table import rescaling_table
from simprior.analysis.table_files import read_frame
from simprior.checks import Choice
from simprior.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from simprior.runs.directory import RunInfo

ROWS = "tables/rows.parquet"
"""The table that a run of ``simprior correlate`` was made of."""
POINTS = ("run", "network")
FEW_SETS = 8
"""With fewer data sets than these a point of a scatter figure is a network, not a mean of them."""
GROUPS = ("optimizer", "corrupt", "attack")
"""Settings that are kept apart where they vary."""
_MOST_FACTOR = 1e6
_COEFFICIENTS = {
    "pearson": "Pearson correlation",
    "spearman": "Spearman rank correlation",
    "kendall": r"Kendall rank correlation $\tau_b$",
    "partial_spearman": "partial rank correlation",
    "partial_pearson": "partial correlation",
}
_SHORT = {
    "pearson": "correlation $r$",
    "spearman": r"rank correlation $\rho$",
    "partial_pearson": "partial $r$",
    "partial_spearman": r"partial $\rho$",
}
MOST_LEVELS = 5
"""Values of a control that are told apart in a scatter figure; more are put into classes."""
MOST_MARKS = 10
"""Groups of points in a scatter figure: as many as there are colours."""


@kind(
    "scatter",
    "A measure against the test error, or against ln P(f)",
    reads="measure",
    needs="x",
    takes="y by points level",
)
def scatter_figure(
    frame: pd.DataFrame,
    x: str,
    y: str = "test_error",
    by: str | None = None,
    points: str = "run",
    level: float = 0.95,
    title: str = "",
) -> Figure:
    """``y`` against a measure, a point a training run (mean of its networks) or a network.

    Bars of a run: Student's t over its networks, or the measure's standard error if wider; of the
    test error with the error of the sample of test inputs. Bars of a network: the measure's
    standard error, Clopper-Pearson for the test error on a sample of inputs; the area counts the
    networks at one place. A table without the column ``run`` has a point a row. Colour and marker:
    the group ``by``. Open: fewer than three networks, or equal ones, whose spread is not in the
    bars.

    Raises :class:`InputError` for a column that is missing or has no finite value.
    """
    check_columns(frame, [x, y, *([by] if by else [])])
    Choice(POINTS, "correct the figure")("points", points)
    if "run" not in frame:  # a table from elsewhere: each row is a network of its own
        points = "network"
    parts = [
        (name, places(cell_means(part, [x, y], points, level), x, y))
        for name, part in groups(frame, by)
    ]
    most = max((int(data["number"].max()) for _, data in parts if len(data)), default=1)
    handles, known, exact = [], True, True
    with style():
        figure, axes = new_figure()
        for (name, data), colour, marker in styled(parts):
            sure = (data[f"{x}_known"] & data[f"{y}_known"]).to_numpy(bool)
            known &= bool(sure.all())
            across, up = ends(data, x), ends(data, y)
            exact &= not (_any_length(across) or _any_length(up))
            draw_points(
                axes,
                data[x],
                data[y],
                across,
                up,
                colour=colour,
                marker=marker,
                filled=sure,
                thick=0.5,
                faint=True,
                s=areas(data["number"].to_numpy(), most),
                linewidths=0.6,
                alpha=0.85,
            )
            handles.append(proxy(colour, marker, name))
        scale(axes, x, np.concatenate([data[x].to_numpy(float) for _, data in parts]))
        tidy_ticks(axes, "y")
        axes.set(xlabel=axis_label(x), ylabel=axis_label(y), title=title)
        legend(figure, handles, by)
        note = "" if exact else f", bars {100 * level:g} %"
        small_print(figure, *_scatter_print(frame, points, note, most, known))
    return figure


def _scatter_print(
    frame: pd.DataFrame, points: str, note: str, most: int, known: bool
) -> list[str]:
    """What a point of a scatter figure is."""
    one = "function" if "rank" in frame and "optimizer" not in frame else "network"
    if points == "network":
        several = f"; area: {one}s at one place, up to {most}" if most > 1 else ""
        return [f"a point a {one}{note}{several}"]
    whole = f"a point a training set: mean of its networks{note}"
    return [whole, "" if known else _unknown("networks")]


def _any_length(bars: tuple[pd.Series, pd.Series]) -> bool:
    """Has any of the bars between these ends a length?"""
    low, high = bars
    return bool((high > low).any())


def _unknown(what: str) -> str:
    return f"open: fewer than {FEWEST} {what}, or equal ones: bars without their spread"


@kind(
    "forest",
    "Coefficients of correlation, with their intervals",
    reads="correlate",
    takes="coefficient by top controls",
)
def forest_figure(
    table: pd.DataFrame,
    coefficient: str = "kendall",
    by: str | None = None,
    top: int = 40,
    controls: Sequence[str] = (),
) -> Figure:
    """Coefficients with their intervals, a row a measure, a colour a group.

    ``table`` as :func:`simprior.analysis.correlate.correlate` gives it: ``measure``,
    ``<coefficient>``, ``_low`` and ``_high``, the ends of the bars. Rows are ordered by the mean
    size of the coefficient; measures whose coefficient was refused everywhere are left out. A
    partial coefficient (``controls`` names what is held fixed) has a second panel beside it, with
    the same coefficient without controls; drawn on a single panel of the caller it is alone.
    """
    shown = [coefficient]
    raw = coefficient.removeprefix("partial_")
    if raw != coefficient and f"{raw}_low" in table and len(given_axes()) != 1:
        shown.append(raw)
    for name in shown:
        low, high = f"{name}_low", f"{name}_high"
        check_columns(table, ["measure", name, low, high, *([by] if by else [])])
    table = table[np.isfinite(table[coefficient])]
    if not len(table):
        raise InputError(f"coefficient={coefficient}", "a finite value", "see the notes of the run")
    size = table[coefficient].abs().groupby(table["measure"]).mean().sort_values()
    names = list(size.index[-top:])
    parts = list(groups(table[table["measure"].isin(names)], by))
    with style():
        height = 0.9 + 0.115 * len(names) * (1 + 0.55 * len(parts)) + 0.15 * (len(shown) - 1)
        figure, panels = new_panels(len(shown), COLUMN_WIDTH, height, across=True)
        for axes, column in zip(panels, shown, strict=True):
            for k, ((_, part), colour, marker) in enumerate(styled(parts)):
                at = _rows(part, names, 0.7 * ((k + 0.5) / len(parts) - 0.5))
                across = ends(part, column)
                look: dict[str, Any] = {"colour": colour, "marker": marker, "thick": 0.8}
                draw_points(axes, part[column], at, across, **look, ms=2.8, mew=0)
            axes.axvline(0, color="0.3", lw=0.6, zorder=0)
            axes.set_ylim(-0.6, len(names) - 0.4)
            axes.set_xlim(-1.05, 1.05)
            for i in range(1, len(names)):
                axes.axhline(i - 0.5, color="0.92", lw=0.5, zorder=0)
            axes.set_xlabel(_COEFFICIENTS.get(column, column))
        panels[0].set_yticks(range(len(names)), [name_of(n) for n in names])
        if len(shown) > 1:
            held = ",\n".join(map(name_of, controls)) or "the controls"
            panels[0].set_title(f"given {held}")
            panels[1].set_title("raw")
            for axes in panels:
                axes.set_xlabel(_SHORT.get(raw, raw) if axes is panels[1] else _SHORT[coefficient])
        handles = [proxy(colour, marker, name) for (name, _), colour, marker in styled(parts)]
        legend(figure, handles, by)
    return figure


def _rows(part: pd.DataFrame, names: list[str], shift: float) -> np.ndarray:
    """Heights of the rows of ``part``: that of its measure, less the shift of its group."""
    heights = {name: height for height, name in enumerate(names)}
    return part["measure"].map(heights).to_numpy(float) - shift


@kind("rescaling", "Value after rescaling over value before", reads="measure")
def rescaling_of_measures(frame: pd.DataFrame) -> Figure:
    """:func:`rescaling_figure` of a table of measures at several ``alpha``."""
    return rescaling_figure(rescaling_table(frame))


def rescaling_figure(change: pd.DataFrame) -> Figure:
    """How much each measure moves when relu layers are rescaled and the function stays.

    ``change`` as :func:`simprior.analysis.measure.table.rescaling_table` gives it: ``measure``,
    ``alpha``, ``factor`` (median of after / before), ``factor_low``, ``factor_high`` (central 95 %
    of the networks: the bars, no interval of the median), ``moved`` (share of the networks in which
    it changed: filled if any did). Factors beyond 1e6 or below 1e-6 (a volume, in high dimension)
    are drawn there.
    """
    check_columns(change, ["measure", "alpha", "factor", "factor_low", "factor_high", "moved"])
    drawn = ["factor", "factor_low", "factor_high"]
    beyond = _beyond(change)
    change = change.assign(**{c: _within(change[c].to_numpy(float)) for c in drawn})
    names = _by_size(change)
    alphas = list(groups(change, "alpha"))
    handles = []
    with style():
        figure, axes = new_figure(COLUMN_WIDTH, 1.1 + 0.125 * len(names) * (1 + 0.4 * len(alphas)))
        for k, ((alpha, part), colour, marker) in enumerate(styled(alphas)):
            at = _rows(part, names, 0.6 * ((k + 0.5) / len(alphas) - 0.5))
            look: dict[str, Any] = {
                "colour": colour,
                "marker": marker,
                "filled": part["moved"] > 0,
                "thick": 0.8,
            }
            across = ends(part, "factor")
            draw_points(axes, part["factor"], at, across, **look, s=11, linewidths=0.8, zorder=3)
            handles.append(proxy(colour, marker, rf"$\alpha={float(alpha):g}$"))
        axes.axvline(1, color="0.3", lw=0.6, zorder=0)
        axes.set_yticks(range(len(names)), [name_of(n) for n in names])
        axes.set_xscale("symlog" if (change["factor_low"] <= 0).any() else "log")
        _wide_enough(axes, change)
        axes.set_xlabel("value after / before")
        handles.append(proxy("0.3", "o", "moved in some network"))
        handles.append(proxy("0.3", "o", "moved in none", filled=False))
        legend(figure, handles, columns=3 if len(alphas) == 1 else 2)
        edge = "at the edge: beyond $10^{6}$ or $10^{-6}$" if beyond else ""
        small_print(figure, "median, bars: central 95 % of the networks", edge)
    return figure


def _beyond(change: pd.DataFrame) -> bool:
    """Is any factor too large or too small to be drawn where it is?"""
    large = change[["factor", "factor_low", "factor_high"]].abs() > _MOST_FACTOR
    small = (change["factor_low"] > 0) & (change["factor_low"] < 1 / _MOST_FACTOR)
    return bool(large.any(axis=None)) or bool(small.any())


def _by_size(change: pd.DataFrame) -> list[str]:
    """Measures in order of the share of networks that moved, then of how far."""
    order = change.groupby("measure")["moved"].mean()
    size = change["factor"].apply(lambda v: abs(np.log(v)) if v > 0 else 0.0)
    order = order + 1e-3 * size.groupby(change["measure"]).mean()
    return list(order.sort_values(kind="stable").index)


def _within(factors: np.ndarray) -> np.ndarray:
    """Positive factors within [1 / _MOST_FACTOR, _MOST_FACTOR]; others at most that in size."""
    least = np.where(factors > 0, 1 / _MOST_FACTOR, -_MOST_FACTOR)
    return np.clip(factors, least, _MOST_FACTOR)


def _wide_enough(axes: Axes, change: pd.DataFrame) -> None:
    """Room for labels on both sides of 1 even if nothing moved."""
    low = float(np.nanmin(change["factor_low"].clip(lower=1e-6)))
    high = float(np.nanmax(change["factor_high"]))
    if axes.get_xscale() == "log":
        axes.set_xlim(min(low / 1.6, 0.5), max(high * 1.6, 2.0))
        tidy_ticks(axes, "x", 0.5)


@kind("bound", "PAC-Bayes bound and observed error", reads="measure", takes="x by level")
def bound_figure(
    frame: pd.DataFrame, x: str = "train_size", by: str | None = None, level: float = 0.95
) -> Figure:
    """PAC-Bayes bound (dashed, open) and observed error (solid, filled) against ``x``.

    ``frame`` has ``bound``, ``bound_low``, ``bound_high`` and ``test_error``; of bit strings also
    ``total_error``, which is drawn in its place: the bound is on the error over all inputs, and the
    test error leaves the training set out. Each point is a mean over
    data sets, and its bar Student's t over them. Of fewer than three data sets, or equal ones, the
    bar is the error within them: of the bound that of ln P(C(S)), of the test error the spread over
    networks and the sample of test inputs. The line below the figure says which.
    """
    bits = "total_error" in frame and frame["total_error"].notna().all()
    error = "total_error" if bits else "test_error"
    check_columns(frame, [x, "bound", "bound_low", "bound_high", error])
    handles, known = [], True
    with style():
        figure, axes = new_figure()
        for (name, part), colour, marker in styled(groups(frame, by)):
            for column, line, suffix in (("bound", "--", "bound"), (error, "-", "error")):
                data = means_by_value(part, x, column, level)
                known &= bool(data[f"{column}_known"].all())
                filled = column == error
                _line(axes, data, x, column, colour, marker, line, np.full(len(data), filled))
                label = f"{name}: {suffix}" if name else suffix
                handles.append(proxy(colour, marker, label, filled, line))
        scale(axes, x, frame[x].to_numpy(float))
        axes.set_ylim(bottom=0)
        tidy_ticks(axes, "y")
        axes.set(xlabel=axis_label(x), ylabel="share of wrong outputs")
        legend(figure, handles[::2] + handles[1::2], by, columns=2)  # a column each
        note = f"means over data sets, bars {100 * level:g} %"
        without = f"where they are fewer than {FEWEST}, or equal, bars without their spread"
        small_print(figure, note, "" if known else without)
    return figure


@kind(
    "sweep",
    "Means over data sets against a setting",
    reads="measure",
    needs="x y",
    takes="by level",
)
def sweep_figure(
    frame: pd.DataFrame, x: str, y: str | Sequence[str], by: str | None = None, level: float = 0.95
) -> Figure:
    """One panel for each of ``y`` against a setting ``x``: means over data sets.

    Bars: Student's t over data sets; a single row that is itself a mean has its own standard error.
    Open: fewer than three data sets, or equal ones: their spread is not in the bars, which are the
    error within them.
    """
    y = [y] if isinstance(y, str) else y
    check_columns(frame, [x, *y, *([by] if by else [])])
    handles, known = [], True
    with style():
        figure, panels = new_panels(len(y), height=0.6 + 1.5 * len(y))
        for column, axes in zip(y, panels, strict=True):
            for (name, part), colour, marker in styled(groups(frame, by)):
                data = means_by_value(part, x, column, level)
                sure = data[f"{column}_known"].to_numpy(bool)
                known &= bool(sure.all())
                _line(axes, data, x, column, colour, marker, "-", sure)
                if column == y[0]:
                    handles.append(proxy(colour, marker, name, line="-"))
            tidy_ticks(axes, "y")
            axes.set_ylabel(axis_label(column))
        scale(panels[-1], x, frame[x].to_numpy(float))
        panels[-1].set_xlabel(axis_label(x))
        legend(figure, handles, by)
        what = "data sets" if "cluster" in frame else "runs"
        note = f"means over {what}, bars {100 * level:g} %"
        small_print(figure, note, "" if known else _unknown(what))
    return figure


def _line(
    axes: Axes,
    data: pd.DataFrame,
    x: str,
    column: str,
    colour: Any,
    marker: str,
    line: str,
    filled: np.ndarray,
) -> None:
    """Means with bars along a line; markers open where not ``filled``."""
    look: dict[str, Any] = {
        "colour": colour,
        "marker": marker,
        "filled": filled,
        "line": line,
        "zorder": 3,
    }
    up = ends(data, column)
    draw_points(axes, data[x], data[column], up=up, **look, s=9, linewidths=0.7)


@drawings("correlate")
def correlate_drawings(run: RunInfo) -> list[Drawing]:
    """The figures of a run of ``simprior correlate``.

    A forest of each coefficient. With controls the partial ones come first, the same without
    controls beside them; and the outcome against each measure, with the controls told apart.
    """
    frame = read_frame(run.path)
    controls = run.config.get("controls") or []
    controls = [controls] if isinstance(controls, str) else list(controls)
    by = list(frame.columns[: list(frame.columns).index("measure")])
    grouped, column = group_column(frame, by or None)
    names = ("partial_spearman", "partial_pearson", "kendall")
    names = names if controls else ("kendall", "spearman", "pearson")
    found = [
        Drawing(
            f"forest-{coefficient}",
            partial(forest_figure, grouped, coefficient, column, controls=controls),
        )
        for coefficient in names
        if coefficient in frame and np.isfinite(frame[coefficient]).any()
    ]
    if not controls or ROWS not in run.files:
        return found
    rows, marked = control_column(read_frame(run.path, ROWS), [*controls, *by])
    y = str(run.config.get("y", "test_error"))
    points = "run" if "run" in rows and rows["run"].nunique() >= FEW_SETS else "network"
    draw = partial(scatter_figure, rows, y=y, by=marked, points=points)
    return found + [
        Drawing(f"scatter-{name}", partial(draw, x=name))
        for name in dict.fromkeys(frame.loc[frame["pearson"].notna(), "measure"])
    ]


def control_column(frame: pd.DataFrame, names: Sequence[str]) -> tuple[pd.DataFrame, str]:
    """(table, column) with the values of ``names`` as text, that a figure can tell apart.

    Numbers of more than ``MOST_LEVELS`` values are put into that many classes of equal size. Where
    all of ``names`` together have more than ``MOST_MARKS`` values the last ones are left out.
    """
    known = frame[frame[list(names)].notna().all(axis=1)]
    texts: list[str] = []
    values: pd.Series | None = None
    for name in names:
        level = known[name]
        if level.dtype.kind in "iuf" and level.nunique() > MOST_LEVELS:
            part = level.groupby(pd.qcut(level, MOST_LEVELS, duplicates="drop"), observed=True)
            level = part.transform(lambda v: f"{v.min():.3g} to {v.max():.3g}").astype(str)
        else:
            level = level.map(lambda v: f"{v:g}" if isinstance(v, float) else v)
        joined = level if values is None else values.astype(str) + ", " + level.astype(str)
        if values is not None and joined.nunique() > MOST_MARKS:
            break
        values, texts = joined, [*texts, name]
    column = ", ".join(texts)
    return known.assign(**{column: values}), column


@drawings("measure")
def measure_drawings(run: RunInfo) -> list[Drawing]:
    """:func:`measure_figures` of the table of a run of ``simprior measure``."""
    return measure_figures(read_frame(run.path))


def measure_figures(frame: pd.DataFrame) -> list[Drawing]:
    """Names and drawers of the figures of a measures table.

    Of networks: the test error against each measure (a point a training set, or a network where
    there are fewer than 8 data sets), what rescaling moves, and the bound; settings of ``GROUPS``
    that vary are told apart. Of functions: ln P(f) against each measure of complexity.
    """
    plain = frame[frame["alpha"] == 1.0] if "alpha" in frame else frame
    found: list[Drawing] = []
    y = "held_out_error" if _given(plain, "held_out_error") else "test_error"
    if _given(plain, y):
        grouped, by = _grouped(plain)
        few = "cluster" not in plain or plain["cluster"].nunique() < FEW_SETS
        points = "network" if few else "run"
        draw = partial(scatter_figure, grouped, y=y, by=by, points=points)
        found += [
            Drawing(f"scatter-{name}", partial(draw, x=name))
            for name in measure_columns(plain)
            if _different(plain, name)
        ]
    else:
        found += _function_figures(plain)
    if "alpha" in frame and frame["alpha"].nunique() > 1:
        found.append(Drawing("rescaling", partial(rescaling_of_measures, frame)))
    x = next((name for name in ("train_size", "corrupt", "attack") if _different(plain, name)), "")
    if _given(plain, "bound") and x:
        grouped, by = _grouped(plain, x)
        found.append(Drawing("bound", partial(bound_figure, grouped, x, by)))
    return found


def _function_figures(frame: pd.DataFrame) -> list[Drawing]:
    """ln P(f), sampled if known, against each measure of complexity that varies."""
    y = next((name for name in ("log_p_sampled", "log_p") if _given(frame, name)), None)
    if y is None:
        return []
    return [
        Drawing(f"scatter-{name}", partial(scatter_figure, frame, name, y, points="network"))
        for name in measure_columns(frame)
        if MEASURES[name].group in FUNCTION_GROUPS and _different(frame[frame[y].notna()], name)
    ]


def _given(frame: pd.DataFrame, name: str) -> bool:
    return name in frame and bool(np.isfinite(frame[name].to_numpy(float)).any())


def _different(frame: pd.DataFrame, name: str) -> bool:
    """Has the column different finite values?"""
    if name not in frame:
        return False
    value = frame[name].to_numpy(float)
    return len(np.unique(value[np.isfinite(value)])) > 1


def _grouped(frame: pd.DataFrame, x: str = "") -> tuple[pd.DataFrame, str | None]:
    """The table with a column of the settings that vary besides ``x``, and the column's name."""
    by = [name for name in GROUPS if name != x and name in frame and frame[name].nunique() > 1]
    return group_column(frame, by[0] if len(by) == 1 else by or None)
