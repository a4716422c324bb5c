"""Figure of rare outputs: every method's ln P, and what it is off by."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from simprior.analysis.figures.marks import check_columns, draw_points, legend, proxy, styled
from simprior.analysis.figures.registry import Drawing, drawings, kind
from simprior.analysis.figures.style import new_panels, style, tidy_ticks
from simprior.analysis.rare.methods import METHODS
from simprior.analysis.rare.run import TABLE
from simprior.analysis.table_files import read_finished

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from simprior.runs.directory import RunInfo

_APART = 0.05  # share of the range of thresholds over which points of one threshold are spread


@drawings("rare")
def rare_drawings(run: RunInfo) -> list[Drawing]:
    """The figure of a run of ``simprior rare``. Raises :class:`StoreError` if it is unfinished."""
    return [Drawing("rare", partial(rare_figure, read_finished(run, TABLE)))]


@kind("rare", "Rare outputs: ln P by every method, and what it is off by", "rare")
def rare_figure(frame: pd.DataFrame) -> Figure:
    """ln P of each method against the threshold; below, its difference from the reference.

    ``frame`` as of ``simprior rare``. Bars are 95 % limits, white markers estimates that are
    flagged, the line through is exact. Estimates of nothing (nan, -inf) are not drawn.
    """
    check_columns(frame, ["threshold", "method", "logp", "low", "high", "off", "reliable"])
    known = [name for name in METHODS if name in set(frame["method"])]
    thresholds = frame["threshold"].to_numpy(float)
    wide = float(np.ptp(thresholds)) or 1.0
    with style():
        figure, (values, gaps) = new_panels(2, height=4.2)
        handles = []
        for place, (name, colour, marker) in enumerate(styled(known)):
            part = frame[(frame["method"] == name) & np.isfinite(frame["logp"])]
            part = part.sort_values("threshold")
            shift = wide * _APART * (place / max(1, len(known) - 1) - 0.5)
            line = "-" if name == "exact" else ""
            x = part["threshold"] + (0.0 if line else shift)
            _points(values, x, part, "logp", colour, marker)
            _points(gaps, x, part[np.isfinite(part["off"])], "off", colour, marker)
            if line and len(part):
                values.plot(x, part["logp"], color=colour, lw=0.8, zorder=1)
            handles.append(proxy(colour, marker, name, line=line or "none"))
        values.set(ylabel="ln P (nats)")
        gaps.axhline(0.0, color="0.6", lw=0.7, zorder=0)
        gaps.set(ylabel="off by (nats)", xlabel="threshold of the output")
        for axes in (values, gaps):
            tidy_ticks(axes, "y")
        tidy_ticks(gaps, "x")
        legend(figure, handles)
    return figure


def _points(
    axes: Axes, x: pd.Series, part: pd.DataFrame, name: str, colour: str, marker: str
) -> None:
    """Points of one method; a bar of ``off`` is as long as that of ln P."""
    y = part[name]
    ends = y + part["low"] - part["logp"], y + part["high"] - part["logp"]
    filled = part["reliable"].to_numpy(bool)
    if len(part):
        draw_points(
            axes, x[part.index], y, up=ends, colour=colour, marker=marker, filled=filled, s=12
        )
