"""Figures of what networks can fit: half-fit sizes, costs of robustness, bad minima."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from simprior.analysis.evidence.bad_minima import ATTACKED, BAD, SCRATCH
from simprior.analysis.evidence.capacity import RANDOM
from simprior.analysis.evidence.robust import PARTS
from simprior.analysis.figures.evidence import mean_line
from simprior.analysis.figures.marks import check_columns, draw_points, legend, proxy, styled
from simprior.analysis.figures.registry import kind
from simprior.analysis.figures.style import new_figure, style, tidy_ticks
from simprior.checks import Choice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PARTS = {
    "strings": "labels of the strings alone",
    "balls": "the same on all strings within a flip",
    "places": "as many at random places",
}


@kind("robust", "Networks that fit, and ln P, of robust functions", "evidence", takes="measure")
def robust_figure(frame: pd.DataFrame, measure: str = "fitted") -> Figure:
    """Share of networks that fit against width, or with ``measure`` "logp" ln P against depth.

    ``frame`` as of a stage [evidence] of kind ``robust``. Bars are 95 % intervals over data sets.
    """
    check_columns(frame, ["measure", "part", "depth", "width", "value"])
    at = frame[frame["measure"] == measure]
    x = "width" if measure == "fitted" else "depth"
    with style():
        figure, axes = new_figure(height=3.0)
        if measure == "fitted":
            axes.axhline(0.5, color="0.6", lw=0.7, ls="--", zorder=0)
        handles = []
        for part, colour, marker in styled(PARTS):
            mean_line(axes, at[at["part"] == part], x, "value", colour=colour, marker=marker)
            handles.append(proxy(colour, marker, _PARTS[part], line="-"))
        if measure == "fitted":
            axes.set(xlabel="width of hidden layers", ylabel="share of networks that fit")
            axes.set(ylim=(-0.03, 1.03), xticks=range(0, int(at[x].max()) + 1, 4))
        else:
            axes.set(xlabel="depth (hidden layers)", ylabel="ln P (nats)")
            axes.set_xticks(sorted(at["depth"].unique()))
        tidy_ticks(axes, "y")
        legend(figure, handles, columns=1)
    return figure


@kind("capacity", "Networks that fit random labels", "evidence")
def capacity_figure(frame: pd.DataFrame) -> Figure:
    """Share of networks that fit random labels against their number, by width.

    ``frame`` as of a stage [evidence] of kind ``capacity``. Bars are 95 % intervals over data sets.
    """
    check_columns(frame, ["labels", "width", "parameters", "train", "fitted"])
    at = frame[frame["labels"] == RANDOM]
    with style():
        figure, axes = new_figure(height=3.0)
        axes.axhline(0.5, color="0.6", lw=0.7, ls="--", zorder=0)
        handles = []
        for width, colour, marker in styled(sorted(at["width"].unique())):
            part = at[at["width"] == width]
            mean_line(axes, part, "train", "fitted", colour=colour, marker=marker)
            label = f"width {width}, {part['parameters'].iloc[0]} parameters"
            handles.append(proxy(colour, marker, label, line="-"))
        axes.set(xscale="log", xlabel="|S|, random labels", ylabel="share of networks that fit")
        axes.set_ylim(-0.03, 1.03)
        tidy_ticks(axes, "y")
        legend(figure, handles, columns=1)
    return figure


@kind("bad-minima", "Error and ln P of the functions found, by start", "evidence", takes="width")
def bad_minima_figure(frame: pd.DataFrame, width: int | None = None) -> Figure:
    """Error outside S against ln P(f); a point a data set and start, means over networks.

    ``frame`` as of a stage [evidence] of kind ``bad-minima``; ``width``: of the networks (default:
    the first).
    """
    check_columns(frame, ["start", "width", "error", "log_p"])
    widths = list(dict.fromkeys(frame["width"]))
    shown = widths[0] if width is None else width
    Choice(list(map(str, widths)), "correct the file")("width", str(shown))
    at = frame[frame["width"] == shown]
    with style():
        figure, axes = new_figure(height=3.0)
        handles = []
        for start, colour, marker in styled((SCRATCH, BAD, ATTACKED)):
            part = at[at["start"] == start].dropna(subset=["log_p"])
            look = {"colour": colour, "marker": marker, "ms": 3.0}
            draw_points(axes, part["log_p"], part["error"], **look)
            handles.append(proxy(colour, marker, start))
        axes.set(
            xlabel="ln P(f) at infinite width (nats)", ylabel="error outside S", ylim=(0, None)
        )
        for way in "xy":
            tidy_ticks(axes, way)
        legend(figure, handles)
    return figure
