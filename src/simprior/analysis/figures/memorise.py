"""Figures of memorised examples: trained networks against the posterior, and removal curves."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from simprior.analysis.figures.marks import check_columns, draw_points, proxy, styled
from simprior.analysis.figures.registry import Drawing, drawings, kind
from simprior.analysis.figures.style import colours, new_figure, style, tidy_ticks
from simprior.analysis.memorise.run import REMOVAL, TABLE
from simprior.analysis.table_files import read_finished, read_run_table
from simprior.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from simprior.runs.directory import RunInfo

_MANY = 300  # points without error bars
_ORDERS = {
    "sgd": "most memorised by networks",
    "bayes": "most memorised by the posterior",
    "random": "at random",
}


@drawings("memorise")
def memorise_drawings(run: RunInfo) -> list[Drawing]:
    """The figures that a run of ``simprior memorise`` supports.

    Raises :class:`StoreError` if the run is not complete.
    """
    found = [Drawing("memorised", partial(memorised_figure, read_finished(run, TABLE)))]
    if run.files[REMOVAL].get("rows"):
        found.append(Drawing("removal", partial(removal_figure, read_run_table(run, REMOVAL))))
    return found


@kind("memorised", "Memorised examples: trained networks against the posterior", "evidence")
def memorised_figure(frame: pd.DataFrame) -> Figure:
    """Memorisation of each example by trained networks against that by the posterior.

    ``frame`` as of ``simprior memorise`` or of a stage [evidence] of kind ``memorisation``. Both
    values are of the same random subsets; of few points the bars are standard errors over subsets.
    """
    names = ["sgd", "subset_bayes", "wrong"]
    check_columns(frame, names)
    with style():
        figure, axes = new_figure(height=3.2)
        axes.plot([0, 1], [0, 1], color="0.6", lw=0.7, ls="--", zorder=0)
        handles = []
        few = len(frame) <= _MANY
        for wrong, label in ((False, "clean label"), (True, "wrong label")):
            part = frame[frame["wrong"].astype(bool) == wrong]
            colour, marker = colours()[3 if wrong else 0], "o" if wrong else "s"
            x, y = part["subset_bayes"], part["sgd"]
            bars: dict[str, Any] = {}
            if few:
                bars = {
                    way: (at - part[f"{name}_stderr"], at + part[f"{name}_stderr"])
                    for way, at, name in (("across", x, "subset_bayes"), ("up", y, "sgd"))
                }
            draw_points(
                axes, x, y, colour=colour, marker=marker, ms=3 if few else 1.6, mew=0,
                alpha=0.9 if few else 0.6, thick=0.4, faint=True, **bars,
            )  # fmt: skip
            if len(part):
                handles.append(proxy(colour, marker, f"{label} ({len(part):,})"))
        axes.set(xlabel="memorised by the posterior", ylabel="memorised by trained networks")
        axes.legend(handles=handles, loc="upper left")
        for way in "xy":
            tidy_ticks(axes, way)
    return figure


def removal_figure(frame: pd.DataFrame) -> Figure:
    """Error outside S of trained networks against the share of S that was removed.

    ``frame``: the table of removals of ``simprior memorise``. Bars are standard errors; lines
    without markers are the mean error of the posterior. Raises :class:`InputError` without rows.
    """
    if not len(frame):
        raise InputError("a run without removals", "shares to remove", "pass --removal 0.1,0.2")
    whole = frame[frame["share"] == 0]
    with style():
        figure, axes = new_figure(height=2.8)
        handles = []
        for order, colour, marker in styled(_ORDERS):
            part = pd.concat([whole, frame[frame["order"] == order]])
            up = part["sgd"] - part["sgd_stderr"], part["sgd"] + part["sgd_stderr"]
            draw_points(
                axes,
                part["share"],
                part["sgd"],
                up=up,
                colour=colour,
                marker=marker,
                line="-",
                ms=3,
            )
            axes.plot(part["share"], part["bayes"], color=colour, ls="--", lw=0.8)
            handles.append(proxy(colour, marker, _ORDERS[order], line="-"))
        handles.append(proxy("0.4", "", "posterior", line="--"))
        top = np.nanmax(np.r_[frame["sgd"] + frame["sgd_stderr"], frame["bayes"]])
        axes.set(xlabel="share of S removed", ylabel="error outside S", ylim=(0, 1.35 * top))
        axes.legend(handles=handles, loc="upper left", ncols=2)
        for way in "xy":
            tidy_ticks(axes, way)
    return figure
