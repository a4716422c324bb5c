"""Figures of what predicts generalisation: they draw tables of networks, of functions, of runs.

Every function takes a table and gives a matplotlib Figure, one column wide. Bars are intervals of
:mod:`simprior.analysis.figure_means`: of a mean Student's t over the networks of a training set (or
over data sets), with the error of a finite sample of test inputs; of one network Clopper-Pearson;
of a measure its own standard error times the normal quantile. Open markers are means whose spread
is unknown. A line below each figure says what its points and bars are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.analysis.figure_frames import axis_label, check_columns, groups
from simprior.analysis.figure_means import FEWEST, cell_means, means_by_value
from simprior.analysis.figure_parts import (
    areas,
    bars,
    face,
    legend,
    places,
    proxy,
    scale,
    small_print,
    styled,
)  # fmt: skip
from simprior.analysis.style import COLUMN_WIDTH, HEIGHT, new_figure, style, tidy_ticks
from simprior.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS = ("run", "network")


def scatter_figure(
    frame: pd.DataFrame, x: str, y: str = "test_error", by: str | None = None,
    points: str = "run", level: float = 0.95, title: str = "",
) -> Figure:  # fmt: skip
    """``y`` against a measure, a point a training run (mean of its networks) or a network.

    Bars of a run: Student's t over its networks, or the measure's standard error if wider; of the
    test error with the error of the sample of test inputs. Bars of a network: the measure's
    standard error, Clopper-Pearson for the test error on a sample of inputs; the area counts the
    networks at one place. Colour and marker: the group ``by``. Open: fewer than three networks, or
    equal ones, whose spread is not in the bars.

    Raises :class:`InputError` for a column that is missing or has no finite value.
    """
    check_columns(frame, [x, y, *([by] if by else [])])
    if points not in POINTS:
        raise InputError(f"points={points!r}", f"one of {', '.join(POINTS)}", "correct the figure")
    parts = [
        (name, places(cell_means(part, [x, y], points, level), x, y))
        for name, part in groups(frame, by)
    ]
    most = max((int(data["number"].max()) for _, data in parts if len(data)), default=1)
    handles, known, exact = [], True, True
    with style():
        figure, axes = new_figure(COLUMN_WIDTH, HEIGHT)
        for (name, data), colour, marker in styled(parts):
            sure = (data[f"{x}_known"] & data[f"{y}_known"]).to_numpy(bool)
            known &= bool(sure.all())
            across, up = bars(data, x), bars(data, y)
            exact &= not (across.any() or up.any())
            axes.errorbar(
                data[x], data[y], xerr=across, yerr=up, fmt="none",
                ecolor=(*colour, 0.35), elinewidth=0.5, zorder=1,
            )  # fmt: skip
            axes.scatter(
                data[x], data[y], s=areas(data["number"].to_numpy(), most), marker=marker,
                c=face(colour, sure), edgecolors=[colour], linewidths=0.6, alpha=0.85, zorder=2,
            )  # fmt: skip
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
    return [f"a point a training set: mean of its networks{note}",
            "" if known else _unknown("networks")]  # fmt: skip


def _unknown(what: str) -> str:
    return f"open: fewer than {FEWEST} {what}, or equal ones: bars without their spread"


def bound_figure(
    frame: pd.DataFrame, x: str = "train_size", by: str | None = None, level: float = 0.95
) -> Figure:
    """PAC-Bayes bound (dashed, open) and observed error (solid, filled) against ``x``.

    ``frame`` has ``bound``, ``bound_low``, ``bound_high`` and ``test_error``; of bit strings also
    ``total_error``, which is drawn in its place: the bound is on the error over all inputs, and the
    test error leaves the training set out. Each point is a mean
    over data sets, its bar Student's t over them. Of fewer than three data sets, or equal ones, it
    is the error within them: of the bound that of ln P(C(S)), of the test error the spread over
    networks and the sample of test inputs. The line below the figure says which.
    """
    bits = "total_error" in frame and frame["total_error"].notna().all()
    error = "total_error" if bits else "test_error"
    check_columns(frame, [x, "bound", "bound_low", "bound_high", error])
    handles, known = [], True
    with style():
        figure, axes = new_figure(COLUMN_WIDTH, HEIGHT)
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


def sweep_figure(
    frame: pd.DataFrame, x: str, y: Sequence[str], by: str | None = None, level: float = 0.95
) -> Figure:
    """One panel for each of ``y`` against a setting ``x``: means over data sets.

    Bars: Student's t over data sets; a single row that is itself a mean has its own standard error.
    Open: fewer than three data sets, or equal ones: their spread is not in the bars, which are the
    error within them.
    """
    check_columns(frame, [x, *y, *([by] if by else [])])
    handles, known = [], True
    with style():
        figure, first = new_figure(COLUMN_WIDTH, 0.6 + 1.5 * len(y))
        panels = _stack(figure, first, len(y))
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
    axes: Axes, data: pd.DataFrame, x: str, column: str, colour: Any, marker: str, line: str,
    filled: np.ndarray,
) -> None:  # fmt: skip
    """Means with bars along a line; markers open where not ``filled``."""
    axes.errorbar(
        data[x], data[column], yerr=bars(data, column), fmt="none", ls=line, ecolor=colour,
        elinewidth=0.7,
    )  # fmt: skip
    axes.plot(data[x], data[column], ls=line, color=colour, lw=0.8)
    axes.scatter(
        data[x], data[column], s=9, marker=marker, c=face(colour, filled), edgecolors=[colour],
        linewidths=0.7, zorder=3,
    )  # fmt: skip


def _stack(figure: Figure, first: Axes, number: int) -> list[Axes]:
    if number == 1:
        return [first]
    first.remove()
    panels = list(figure.subplots(number, 1, sharex=True))
    for axes in panels:
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return panels
