"""Figures of complexity given that the function is not constant, beside P(constant).

One of a run that measured its functions, one of a grid of networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from simprior.analysis.figures.counts import COMPLEXITY
from simprior.analysis.figures.marks import (
    check_columns,
    draw_points,
    ends,
    groups,
    legend,
    proxy,
    scale,
    small_print,
    styled,
)
from simprior.analysis.figures.registry import Drawing, drawings, kind
from simprior.analysis.figures.style import (
    axis_label,
    blank_figure,
    colours,
    drawn_on,
    given_axes,
    model_label,
    name_of,
    new_panels,
    style,
    tidy_ticks,
)
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from simprior.runs.directory import RunInfo

_MOST_FACETS = 6
_LABEL = 21  # characters of a line of the label of an axis
_SHARES = "p_"
"""Columns that begin with this are probabilities, drawn from 0 to 1."""


@drawings("sample")
def measured_drawings(run: RunInfo) -> list[Drawing]:
    """The figure of a run that measured its functions; of others none."""
    if "complexity" not in run.results:
        return []
    counts = FunctionCounts.load(run.path, top=0)
    return [Drawing("nonconstant", partial(nonconstant_figure, counts))]


@kind("nonconstant", "P(constant), and complexity given that it is not", reads="counts")
def nonconstant_figure(counts: FunctionCounts) -> Figure:
    """What functions are like given that they are not constant, and over all functions.

    Three panels: the distribution of LZ complexity given non-constant; the weight by Fourier
    degree; and P(at most k relevant inputs), which over all functions begins with P(constant) at
    k = 0. Bars: 95 % intervals over hidden draws. Of functions of other inputs than all bit strings
    the first alone. The run must have measured its functions (``complexity``).
    """
    frame = counts.complexity_frame()
    with style():
        wide = bool(counts.n)
        size = (3.4, 5.6) if wide else (3.4, 2.4)
        figure, rows = _grid(3 if wide else 1, 1, size, share=False)
        panels = [axes for (axes,) in rows]
        _complexity_panel(panels[0], frame)
        if wide:
            _weight_panel(panels[1], frame)
            _relevant_panel(panels[2], frame)
        title = model_label(counts.info.get("model"))
        panels[0].set_title(f"{title}\nP(constant) = {_shown(frame.iloc[0])}")
        if wide:
            given, every = colours()[:2]
            handles = [
                proxy(given, "o", "given non-constant", line="-"),
                proxy(every, "s", "all functions", line="-"),
            ]
            legend(figure, handles, columns=2)
        draws = int(frame["draws"].iloc[-1])
        heads = "" if counts.iid else " with their heads"
        small_print(figure, f"bars: 95 %, over {draws:,} hidden draws{heads}")
    return figure


def _shown(row: pd.Series) -> str:
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def _complexity_panel(axes: Axes, frame: pd.DataFrame) -> None:
    """P(LZ76) given non-constant, and its mean."""
    part = frame[frame["quantity"] == "p_lz76"]
    colour = colours()[0]
    look: dict[str, Any] = {"colour": colour, "ms": 2.0, "line": "-", "lw": 0.7}
    draw_points(axes, part["at"], part["value"], up=ends_of(part, "value"), **look)
    mean = frame[frame["quantity"] == "lz76"].iloc[0]
    if math.isfinite(mean["value"]):
        axes.axvline(mean["value"], color="0.3", lw=0.8, ls="--")
        text = f"mean {mean['value']:.1f} [{mean['low']:.1f}, {mean['high']:.1f}]"
        axes.text(0.02, 0.95, text, transform=axes.transAxes, va="top", fontsize=6.5)
    axes.set(xlabel=COMPLEXITY, ylabel="P given non-constant")
    axes.set_ylim(0, 1.15 * axes.get_ylim()[1])
    tidy_ticks(axes, "y")


def _weight_panel(axes: Axes, frame: pd.DataFrame) -> None:
    part = frame[frame["quantity"] == "fourier_weight"]
    _two(axes, part["at"], part)
    found = frame[frame["quantity"] == "sensitivity"].iloc[0]
    lines = [f"mean sensitivity: {found['all']:.3g} (all)"]
    if math.isfinite(found["value"]):
        lines.append(f"{found['value']:.3g} (given non-constant)")
    place: dict[str, Any] = {"transform": axes.transAxes, "va": "top", "ha": "right"}
    axes.text(0.98, 0.95, "\n".join(lines), fontsize=6.5, **place)
    axes.set(xlabel="degree $k$", ylabel="Fourier weight $W_k$", ylim=(0, 1))


def _relevant_panel(axes: Axes, frame: pd.DataFrame) -> None:
    part = frame[frame["quantity"] == "p_relevant_at_most"]
    p = frame.iloc[0]
    none = {"at": 0.0, "value": 0.0, "low": 0.0, "high": 0.0}
    none |= {"all": p["value"], "all_low": p["low"], "all_high": p["high"]}
    whole = {"at": len(part) + 1.0, **dict.fromkeys(part.columns[2:8], 1.0)}
    part = pd.concat([pd.DataFrame([none]), part, pd.DataFrame([whole])], ignore_index=True)
    _two(axes, part["at"], part)
    axes.set(xlabel="$k$", ylabel="P(at most $k$ relevant inputs)", ylim=(0, 1.03))


def _two(axes: Axes, x: pd.Series, part: pd.DataFrame) -> None:
    """Values given non-constant and over all functions against ``x``."""
    for colour, marker, name in zip(colours(), "os", ("value", "all"), strict=False):
        look: dict[str, Any] = {"colour": colour, "marker": marker, "ms": 2.6, "line": "-"}
        draw_points(axes, x, part[name], up=ends_of(part, name), lw=0.8, **look)
    axes.set_xticks(sorted(x))


def ends_of(part: pd.DataFrame, name: str) -> tuple[Any, Any]:
    """Ends of the bars of ``value`` or of ``all``."""
    return ends(part, name) if name == "all" else (part["low"], part["high"])


@kind(
    "architectures",
    "P(constant) beside complexity given non-constant",
    reads="sample",
    needs="x",
    takes="y by facets",
)
def architectures_figure(
    frame: pd.DataFrame,
    x: str,
    y: Sequence[str] = ("p_constant", "lz76_nonconstant"),
    by: str | None = "component",
    facets: str | None = None,
) -> Figure:
    """A panel for each of ``y`` against the setting ``x``, beside one another.

    ``frame``: of stages [sample] whose cells measured their functions (``complexity``). ``by``: a
    line for each of its values; ``facets``: a row of panels for each of its values. ``y`` are
    columns with limits ``<y>_low`` and ``<y>_high``; the bars are 95 % intervals over hidden draws,
    which leave the panel where they are longer than all points together.
    There is no point where nothing is known: all functions were constant, or those of a single
    hidden draw were not.
    """
    y = [y] if isinstance(y, str) else list(y)
    wanted = [name for column in y for name in (column, f"{column}_low", f"{column}_high")]
    check_columns(frame, [x, *wanted, *(name for name in (by, facets) if name)])
    rows = list(groups(frame, facets))
    if len(rows) > _MOST_FACETS:
        what = f"facets={facets!r} of {len(rows)} values"
        raise InputError(what, f"at most {_MOST_FACETS}", "keep some of them with where")
    names = [name for name, _ in groups(frame, by)]
    with style():
        size = (1.2 + 2.0 * len(y), 0.9 + 1.35 * len(rows))
        figure, panels = _grid(len(rows), len(y), size, share=True)
        for (value, part), line in zip(rows, panels, strict=True):
            for column, axes in zip(y, line, strict=True):
                _panel(axes, part, x, column, by, names)
            if facets:
                line[0].set_title(f"{name_of(facets)} = {value}")
        _share_ends(panels, frame, y)
        for axes in panels[-1]:
            scale(axes, x, frame[x].to_numpy(float))
            axes.set_xlabel(axis_label(x))
        for line in panels:
            for column, axes in zip(y, line, strict=True):
                axes.set_ylabel(fill(axis_label(column), _LABEL))
        look = [proxy(colour, marker, name, line="-") for name, colour, marker in styled(names)]
        legend(figure, look, None if by == "component" else by, columns=3 if len(y) < 3 else 6)
        small_print(figure, "bars: 95 % intervals over hidden draws")
    return figure


def _grid(
    rows: int, columns: int, size: tuple[float, float], share: bool
) -> tuple[Figure, list[list[Axes]]]:
    """A figure of ``rows`` times ``columns`` panels, of ``size`` in inches; ``share``: those of a
    column have one x axis."""
    if given_axes():
        figure, flat = new_panels(rows * columns)
    else:
        figure = blank_figure(*size)
        found = figure.subplots(rows, columns, squeeze=False, sharex="col" if share else False)
        flat = list(found.ravel())
        for axes in flat:
            axes.spines[["top", "right"]].set_visible(False)
        drawn_on(flat)
    return figure, [flat[i : i + columns] for i in range(0, len(flat), columns)]


def _panel(
    axes: Axes, part: pd.DataFrame, x: str, column: str, by: str | None, names: Sequence[str]
) -> None:
    known = dict(groups(part, by))
    for name, colour, marker in styled(names):
        data = known.get(name)
        data = None if data is None else data[np.isfinite(data[f"{column}_low"].to_numpy(float))]
        if data is None or not len(data):
            continue
        data = data.sort_values(x)
        look: dict[str, Any] = {"colour": colour, "marker": marker, "ms": 2.6, "mew": 0}
        draw_points(axes, data[x], data[column], up=ends(data, column), line="-", lw=0.8, **look)


def _share_ends(panels: Sequence[Sequence[Axes]], frame: pd.DataFrame, y: Sequence[str]) -> None:
    """One y axis a column of panels: probabilities from 0 to 1, other quantities as far as points
    go, and bars that are not longer than that."""
    for place, column in enumerate(y):
        names = (column, f"{column}_low", f"{column}_high")
        value, low, high = (frame[name].to_numpy(float) for name in names)
        known = np.isfinite(low)
        span = float(np.ptp(value[known])) or 1.0
        short = known & (high - low <= span)
        bottom = min(value[known].min(), low[short].min(initial=math.inf))
        top = max(value[known].max(), high[short].max(initial=-math.inf))
        limits = (bottom - 0.05 * span, top + 0.05 * span)
        for line in panels:
            line[place].set_ylim((-0.03, 1.03) if column.startswith(_SHARES) else limits)
            tidy_ticks(line[place], "y")
