"""ln P of functions of real networks against their width, with its infinite-width limit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from simprior.analysis.figures.marks import check_columns, draw_points
from simprior.analysis.figures.registry import kind
from simprior.analysis.figures.style import colours, new_figure, style
from simprior.analysis.study.logp_finite import NEAR, slope
from simprior.checks import unknown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LOOKS = ("o", "s", "^", "D", "v")


@kind("logp-width", "ln P of functions against the width of the network", "logp")
def logp_width_figure(frame: pd.DataFrame) -> Figure:
    """ln P against width, a colour a function: points with standard errors.

    ``frame`` as of a stage [logp] of kind ``finite``. Dashed: the limit of infinite width; dotted:
    ln P = limit + c/width, as far as c/width is below ``NEAR``. Open: values that did not converge,
    which have no standard error; the legend counts them.
    """
    from matplotlib.lines import Line2D

    check_columns(frame, ["width", "logp"])
    if "gain" not in frame:  # all nan without the limit, which check_columns would refuse
        raise unknown("column 'gain'", "gain", frame.columns)
    finite = frame[np.isfinite(frame["width"])]
    names = list(dict.fromkeys(frame["name"]))
    with style():
        figure, axes = new_figure(width=5.2, height=3.4)
        axes.set(xscale="log")
        low, high = finite["width"].min() / 1.2, finite["width"].max() * 1.2
        looks = [(c, m) for m in _LOOKS for c in colours()]
        handles = []
        for name, (colour, marker) in zip(names, looks, strict=False):
            part = frame[frame["name"] == name].sort_values("width")
            _limit_lines(axes, part, colour, (low, high))
            _values(axes, part[np.isfinite(part["width"])], colour, marker)
            handles.append(Line2D([], [], color=colour, marker=marker, ms=3, lw=0.6, label=name))
        grey: dict[str, Any] = {"color": "0.4", "lw": 0.8}
        if np.isinf(frame["width"]).any():
            handles.append(Line2D([], [], ls="--", label="infinite width", **grey))
        if any(np.isfinite(slope(frame[frame["name"] == name])) for name in names):
            handles.append(Line2D([], [], ls=":", label="limit $+\\,c/$width", **grey))
        doubted = int((~finite["converged"].astype(bool)).sum())
        if doubted:
            note = f"not converged ({doubted})"
            handles.append(Line2D([], [], color="0.4", marker="o", mfc="white", ls="", label=note))
        ticks = sorted(finite["width"].unique())
        axes.set_xticks(ticks, [f"{t:.0f}" for t in ticks], minor=False)
        axes.xaxis.minorticks_off()
        axes.set(xlim=(low, high), xlabel="width of the hidden layers", ylabel="$\\ln P(f)$ (nats)")
        axes.legend(handles=handles, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def _limit_lines(axes: Axes, part: pd.DataFrame, colour: Any, ends: tuple[float, float]) -> None:
    """The limit of one function, and the approach to it as c/width."""
    limit = part.loc[np.isinf(part["width"]), "logp"]
    if not len(limit):
        return
    value, c = float(limit.iloc[0]), slope(part)
    axes.plot(ends, [value, value], color=colour, ls="--", lw=0.6, zorder=1)
    if math.isfinite(c) and abs(c) / NEAR < ends[1]:
        x = np.geomspace(max(ends[0], abs(c) / NEAR), ends[1], 60)
        axes.plot(x, value + c / x, color=colour, ls=":", lw=0.9, zorder=1)


def _values(axes: Axes, part: pd.DataFrame, colour: Any, marker: str) -> None:
    """ln P of one function at finite widths."""
    part = part[np.isfinite(part["logp"])]
    x, y, error = part["width"], part["logp"], part["stderr"].to_numpy()
    good = part["converged"].to_numpy(bool)
    axes.plot(x, y, color=colour, lw=0.5, zorder=1.5)
    look: dict[str, Any] = {"colour": colour, "marker": marker, "thick": 0.6}
    bars = (y - error)[good], (y + error)[good]
    draw_points(axes, x[good], y[good], up=bars, ms=3.0, mew=0.0, **look)
    axes.plot(x[~good], y[~good], marker, color=colour, mfc="white", ms=3.0, mew=0.7)
