"""Figures of grokking: how functions change while networks train, and when they generalise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from simprior.analysis.evidence.grokking import CONTROL, CURVE, END, RANDOM, delays
from simprior.analysis.evidence.survival import survival
from simprior.analysis.figures.marks import check_columns, legend, proxy, styled
from simprior.analysis.figures.registry import kind
from simprior.analysis.figures.style import DASHED, new_figure, new_panels, style, tidy_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LOG_P = "log_p "


@kind("grokking", "Error, ln P(f) and complexity while networks train", "evidence")
def grokking_figure(frame: pd.DataFrame) -> Figure:
    """Error, ln P(f) by kernel, LZ complexity and sensitivity against the step of training.

    ``frame`` as of a stage [evidence] of kind ``grokking``. Lines are medians over members, bands
    their quartiles. ln P(f) is that of the arm with the largest weight decay, the others also have
    the smallest one; dotted: of uniformly random functions.
    """
    names = [str(name) for name in frame if str(name).startswith(_LOG_P)]
    check_columns(frame, ["decay", "step", "error", "train_error", "lz76", "sensitivity", *names])
    shown = frame[(frame["target"] != CONTROL) & (frame["scale"] == frame["scale"].iloc[0])]
    curve = shown[(shown["moment"] == CURVE) & (shown["step"] > 0)]
    decays = [curve["decay"].max(), curve["decay"].min()]
    with style():
        figure, panels = new_panels(4, height=7.0)
        errors, priors, *others = panels
        handles = []
        for decay, colour, _ in styled(decays):
            of = curve[curve["decay"] == decay]
            _band(errors, of, "error", colour)
            _band(errors, of, "train_error", colour, ls=DASHED)
            for axes, column in zip(others, ("lz76", "sensitivity"), strict=True):
                _band(axes, of, column, colour)
            handles.append(proxy(colour, "none", f"weight decay {decay:g}", line="-"))
        random = shown[shown["moment"] == RANDOM]
        for name, colour, _ in list(styled([None, None, *names]))[2:]:
            _band(priors, curve[curve["decay"] == decays[0]], name, colour)
            priors.axhline(random[name].median(), color=colour, ls=":", lw=0.8)
            depth, bias = name.removeprefix(_LOG_P).split(":")
            handles.append(proxy(colour, "none", f"depth {depth}, $\\sigma_b$ {bias}", line="-"))
        errors.set(ylabel="error (dashed: in S)", ylim=(-0.02, None), xscale="log")
        priors.set(ylabel="ln P(f) (nats)")
        others[0].set(ylabel="LZ complexity")
        others[1].set(ylabel="average sensitivity", xlabel="step")
        for axes in panels:
            tidy_ticks(axes, "y")
        legend(figure, handles, columns=2)
    return figure


def _band(axes: Axes, frame: pd.DataFrame, column: str, colour: Any, **look: Any) -> None:
    """The median of a column at each step, with its quartiles as a band."""
    known = frame[np.isfinite(frame[column])]
    found = known.groupby("step")[column].quantile([0.25, 0.5, 0.75]).unstack()
    axes.plot(found.index, found[0.5], color=colour, **look)
    axes.fill_between(found.index, found[0.25], found[0.75], color=colour, alpha=0.18, lw=0)


@kind("delay", "Share of networks that have not generalised yet", "evidence")
def delay_figure(frame: pd.DataFrame) -> Figure:
    """Share of members that have not generalised against the delay (product limit), by arm.

    ``frame`` as of a stage [evidence] of kind ``grokking``. Solid: weight decays at the first
    initial scale. Dashed: other initial scales.
    """
    check_columns(frame, ["decay", "scale", "fit", "generalised", "step"])
    ends = frame[(frame["target"] != CONTROL) & (frame["moment"] == END)]
    steps, first = int(ends["step"].max()), ends["scale"].iloc[0]
    with style():
        figure, axes = new_figure()
        handles = []
        arms = sorted(ends.groupby(["scale", "decay"]), key=lambda arm: arm[0][0] != first)
        for ((scale, decay), part), colour, _ in styled(arms):
            times, seen = delays(part, steps)
            at, share = survival(times, seen)
            ends_at = np.append(at, max(times.max(), 1.0))
            look = "-" if scale == first else "--"
            left = np.append(share, share[-1] if len(share) else 1.0)
            axes.step(
                np.concatenate([[1.0], ends_at]),
                np.concatenate([[1.0], left]),
                where="post",
                color=colour,
                ls=look,
            )
            label = f"decay {decay:g}" + ("" if scale == first else f", weights x {scale:g}")
            handles.append(proxy(colour, "none", label, line=look))
        axes.set(xscale="log", ylim=(-0.02, 1.04), xlabel="step of generalisation / step of fit")
        axes.set(ylabel="not generalised yet")
        legend(figure, handles, columns=2)
    return figure
