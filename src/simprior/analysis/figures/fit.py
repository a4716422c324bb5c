"""Figures of what networks can fit: half-fit widths, and costs of robustness."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from simprior.analysis.evidence.robust import PARTS
from simprior.analysis.figures.evidence import _mean_line as mean_line
from simprior.analysis.figures.marks import check_columns, legend, proxy, styled
from simprior.analysis.figures.registry import kind
from simprior.analysis.figures.style import new_figure, style, tidy_ticks

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
