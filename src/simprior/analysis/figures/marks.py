"""What figures are made of: points with bars, groups, axes that fit the quantity, legends.

Every error bar of the package is drawn by :func:`draw_points`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from simprior.analysis.figures.style import colours, name_of, tidy_ticks
from simprior.analysis.measure.registry import MEASURES, WEIGHT_GROUPS
from simprior.checks import Choice, unknown
from simprior.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_FEW = 8
_LINEAR = ("target_lz76", "target_entropy", "target_log_p")
_AREA, _SMALLEST = 7.0, 3.0  # points^2: of one network, at least
_CHARACTER = 0.023  # of the width of an axis
_CLEAR = 0.02  # of the height of a panel: between a legend and what is drawn below it
Ends = tuple[Any, Any]


def check_columns(frame: pd.DataFrame, names: Sequence[str]) -> None:
    """Raise :class:`InputError` for a column that is missing or, if numeric, never finite."""
    for name in names:
        if name not in frame:
            raise unknown(f"column {name!r}", name, frame.columns)
        if frame[name].dtype.kind == "f" and not np.isfinite(frame[name]).any():
            raise InputError(f"column {name!r}", "a finite value", "it was not computed here")


def groups(frame: pd.DataFrame, by: str | None) -> Iterator[tuple[str, pd.DataFrame]]:
    """(name, rows) of each value of the column ``by`` in order of value; all rows if None."""
    if by is None:
        yield "", frame
        return
    for value, part in frame.groupby(by, sort=True):
        yield (f"{value:g}" if isinstance(value, float) else str(value)), part


def group_column(frame: pd.DataFrame, by: str | Sequence[str] | None) -> tuple[Any, str | None]:
    """(frame, one column to group by): several columns are joined into one."""
    if by is None or isinstance(by, str):
        return frame, by
    for name in by:
        Choice(list(frame.columns), "correct it")("by", name)
    texts = [frame[name].map(lambda v: f"{v:g}" if isinstance(v, float) else str(v)) for name in by]
    joined = texts[0]
    for text in texts[1:]:
        joined = joined + ", " + text
    name = ", ".join(by)
    return frame.assign(**{name: joined}), name


def styled(parts: Any) -> Iterator[tuple[Any, Any, str]]:
    """Each of ``parts`` with its colour and its marker."""
    palette = colours()
    for i, part in enumerate(parts):
        yield part, palette[i % len(palette)], MARKERS[i % len(MARKERS)]


def draw_points(
    axes: Axes,
    x: Any,
    y: Any,
    across: Ends | None = None,
    up: Ends | None = None,
    *,
    colour: Any,
    marker: str = "o",
    filled: Any = None,
    line: str = "",
    thick: float = 0.7,
    faint: bool = False,
    zorder: float = 2,
    **look: Any,
) -> None:
    """Points at (``x``, ``y``) with bars: the one place where error bars are drawn.

    Parameters
    ----------
    axes : Axes
        The panel.
    x, y : (points,) arrays
    across, up : pair of (points,) arrays, optional
        Where the horizontal and the vertical bars begin and end, in the units of ``x`` and ``y``. A
        bar that would point inwards, or has no finite end, is left out.
    colour, marker : of all points
        Marker "none": bars alone.
    filled : (points,) booleans, optional
        Which markers are filled; the others are white inside. Without it all are, and points and
        bars are one artist of matplotlib with a label of its own.
    line : str
        Style of a line through the points; empty for none.
    thick : float
        Width of the bars.
    faint : bool
        Bars of the same colour, but pale.
    zorder : float
        What is drawn over what.
    look
        Further keywords of ``Axes.errorbar``, or of ``Axes.scatter`` where ``filled`` is given.
    """
    bars: dict[str, Any] = {
        "xerr": _lengths(x, across),
        "yerr": _lengths(y, up),
        "elinewidth": thick,
    }
    shade = (*colour, 0.35) if faint else look.pop("ecolor", colour)
    if filled is None:
        axes.errorbar(
            x, y, fmt=f"{marker}{line}", color=colour, ecolor=shade, zorder=zorder, **bars, **look
        )
        return
    axes.errorbar(x, y, fmt="none", ecolor=shade, zorder=min(zorder - 1, 2), **bars)
    if line:
        axes.plot(x, y, ls=line, color=colour, lw=0.8)
    faces = [colour if one else "white" for one in filled]
    axes.scatter(x, y, marker=marker, c=faces, edgecolors=[colour], zorder=zorder, **look)


def _lengths(value: Any, ends: Ends | None) -> np.ndarray | None:
    """(2, points) lengths of bars from ``value`` to their ends."""
    if ends is None:
        return None
    middle = np.asarray(value, float)
    low, high = (np.asarray(end, float) for end in ends)
    return np.nan_to_num(np.stack([middle - low, high - middle]).clip(0))


def ends(data: pd.DataFrame, name: str) -> Ends:
    """Ends of the bars of a column: the columns ``<name>_low`` and ``<name>_high``."""
    return data[f"{name}_low"], data[f"{name}_high"]


def places(data: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """Rows of equal ``x`` and ``y`` (to rounding) as one, with their number: ``number``."""
    good = data[np.isfinite(data[x]) & np.isfinite(data[y])]
    keys = [good[name].astype(np.float32).rename(i) for i, name in enumerate((x, y))]
    by = good.groupby(keys, sort=False)
    return good.assign(number=by[x].transform("size"))[by.cumcount() == 0]


def areas(number: np.ndarray, most: int, largest: float = 60.0) -> np.ndarray:
    """Areas of markers (points^2) in proportion to ``number``, at most ``largest`` for ``most``."""
    unit = min(_AREA, largest / max(most, 1))
    return np.maximum(unit * number, _SMALLEST)


def logarithmic(column: str) -> bool:
    """May this quantity have a logarithmic axis?

    Settings may, and measures of weights that are not logarithms themselves. All others always have
    a linear axis, so that figures of them compare.
    """
    if column in MEASURES:
        return MEASURES[column].group in WEIGHT_GROUPS and not MEASURES[column].log
    return column not in _LINEAR


def scale(axes: Axes, column: str, values: np.ndarray) -> None:
    """The x axis of ``column``: logarithmic if :func:`logarithmic` and over more than a factor 10.

    Few values are the ticks themselves.
    """
    known = np.unique(values[np.isfinite(values)])
    wide = len(known) > 0 and known[0] > 0 and known[-1] / known[0] > 10
    if not (wide and logarithmic(column)):
        tidy_ticks(axes, "x")
        return
    axes.set_xscale("log")
    if len(known) > _FEW:
        tidy_ticks(axes, "x")
        return
    axes.xaxis.set_ticks(list(known), _spaced(axes, known))
    axes.xaxis.set_ticks([], minor=True)


def _spaced(axes: Axes, ticks: np.ndarray) -> list[str]:
    """Labels of ticks of a logarithmic axis, empty where they would run into the one before."""
    low, high = np.log(axes.get_xlim())
    at = (np.log(ticks) - low) / (high - low)
    labels: list[str] = []
    last, size = -math.inf, 0
    for place, tick in zip(at, ticks, strict=True):
        text = f"{tick:g}"
        fits = place - last >= _CHARACTER * ((len(text) + size) / 2 + 1.5)
        labels.append(text if fits else "")
        if fits:
            last, size = place, len(text)
    return labels


def decades(axes: Axes, which: str = "xy") -> None:
    """Readable ticks on log axes of many decades: at most 7 labels, and minor ticks between."""
    from matplotlib.ticker import LogLocator, NullFormatter

    for name in which:
        axis = axes.xaxis if name == "x" else axes.yaxis
        axis.set_major_locator(LogLocator(numticks=8))
        axis.set_minor_locator(LogLocator(subs=(1.0,), numticks=99))
        axis.set_minor_formatter(NullFormatter())


def proxy(colour: Any, marker: str, label: str, filled: bool = True, line: str = "none") -> Any:
    """A handle of a legend."""
    from matplotlib.lines import Line2D

    return Line2D(
        [],
        [],
        color=colour,
        marker=marker,
        ls=line,
        ms=3,
        lw=0.8,
        mew=0.7,
        label=label,
        mfc=colour if filled else "white",
    )


def legend(figure: Figure, handles: Sequence[Any], by: str | None = None, columns: int = 3) -> None:
    """A legend above the panels, titled with the group ``by``; the figure grows with its rows."""
    handles = [handle for handle in handles if handle.get_label()]
    if not handles:
        return
    rows = math.ceil(len(handles) / columns)
    if rows > 2:
        figure.set_figheight(figure.get_figheight() + 0.13 * (rows - 2))
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=min(columns, len(handles)),
        title=name_of(by) if by else None,
        columnspacing=1.0,
        handletextpad=0.4,
    )


def make_room(axes: Axes, x: Any, y: Any) -> None:
    """Raise the top of a logarithmic y axis until no point (``x``, ``y``) is under the legend."""
    found = axes.get_legend()
    if found is None:
        return
    figure: Any = axes.figure
    figure.draw_without_rendering()
    box = found.get_window_extent().transformed(axes.transAxes.inverted())
    at = axes.transLimits.transform(axes.transScale.transform(np.column_stack([x, y])))
    under = at[(at[:, 0] > box.x0 - _CLEAR) & (at[:, 0] < box.x1 + _CLEAR), 1]
    highest = float(under.max(initial=0.0))
    if highest > box.y0 - _CLEAR:
        low, high = axes.get_ylim()
        axes.set_ylim(low, low * (high / low) ** (highest / (box.y0 - 2 * _CLEAR)))


def small_print(figure: Figure, *lines: str) -> None:
    """What points, bars and open markers are, below the figure."""
    text = "\n".join(line for line in lines if line)
    if text:
        figure.supxlabel(text, fontsize=5.8, color="0.3")
