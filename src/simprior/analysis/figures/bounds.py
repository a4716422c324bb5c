"""Figure of PAC-Bayes bounds against the size of the training set."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from simprior.analysis.bound_sizes import BOUNDS
from simprior.analysis.figures.marks import check_columns, draw_points, scale, small_print
from simprior.analysis.figures.registry import Drawing, drawings
from simprior.analysis.figures.style import colours, new_panels, style, tidy_ticks
from simprior.analysis.table_files import read_finished
from simprior.numerics.estimate import normal_factor

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from simprior.runs.directory import RunInfo


@drawings("bound")
def bound_drawings(run: RunInfo) -> list[Drawing]:
    """The figure of a run of ``simprior bound``. Raises :class:`StoreError` if it is unfinished."""
    return [Drawing("bounds", partial(bounds_figure, read_finished(run, BOUNDS)))]


def bounds_figure(frame: pd.DataFrame) -> Figure:
    """Both bounds against the number of training examples; below, -ln P(C(S)) an example.

    ``frame`` as of ``simprior bound --train N,N,...``. Bars: what the 95 % interval of ln P(C(S))
    makes of the bounds, and that interval; open where ln P(C(S)) is not reliable. Dotted: guessing
    the commoner label of S, and labels by a fair coin.
    """
    check_columns(frame, ["train_size", "bound", "single", "guess", "log_evidence"])
    m, filled = frame["train_size"].to_numpy(float), frame["reliable"].to_numpy(bool)
    look = colours()
    with style():
        figure, (above, below) = new_panels(2, height=4.2, sharex=True)
        for name, marker, label, colour in (
            ("bound", "o", "averaged over the posterior", look[0]),
            ("single", "s", "one draw from it", look[1]),
        ):
            ends = (frame[f"{name}_low"], frame[f"{name}_high"])
            draw_points(
                above,
                m,
                frame[name],
                up=ends,
                colour=colour,
                marker=marker,
                filled=filled,
                line="-",
                label=label,
            )
        above.plot(m, frame["guess"], color="0.4", ls=":", lw=0.9, label="the commoner label")
        above.set(ylabel="bound on the error", ylim=(0.0, None))
        above.legend()
        _per_example(below, frame, m, filled, look[2])
        scale(below, "train_size", m)
        for axes in (above, below):
            tidy_ticks(axes, "y")
        below.set_xlabel("training examples $m$")
        unsure = "" if filled.all() else r"open: $\ln P(C(S))$ is not reliable"
        small_print(figure, "bars: 95 % intervals", unsure)
    return figure


def _per_example(
    axes: Axes, frame: pd.DataFrame, m: np.ndarray, filled: np.ndarray, colour: Any
) -> None:
    value = -frame["log_evidence"].to_numpy(float) / m
    half = normal_factor(0.95) * frame["log_evidence_stderr"].to_numpy(float) / m
    ends = (value - half, value + half)
    draw_points(axes, m, value, up=ends, colour=colour, marker="^", filled=filled, line="-")
    axes.axhline(math.log(2.0), color="0.4", ls=":", lw=0.9, label=r"$\ln 2$: a fair coin")
    axes.set(ylabel=r"$-\ln P(C(S))\,/\,m$ (nats)", ylim=(0.0, None))
    axes.legend()
