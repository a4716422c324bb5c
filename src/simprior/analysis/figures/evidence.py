"""Figures of the evidence set: means over data sets with intervals, by scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from simprior.analysis.evidence.deep_linear import METHODS
from simprior.analysis.evidence.double_descent import LEAST
from simprior.analysis.evidence.double_descent_trained import METHODS as WAYS
from simprior.analysis.evidence.double_descent_trained import wrong_labels
from simprior.analysis.evidence.narrow_teachers import INFINITE, TEACHER
from simprior.analysis.evidence.paired import Estimate, mean_of
from simprior.analysis.evidence.rare_outputs import COMPARED, RANDOM, TRAINED
from simprior.analysis.evidence.tickets import ALL, KINDS
from simprior.analysis.figures.marks import check_columns, draw_points, legend, proxy, styled
from simprior.analysis.figures.registry import kind
from simprior.analysis.figures.style import new_panels, style, tidy_ticks
from simprior.checks import Choice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WORDS = {
    "prior": "prior, draws",
    "posterior": "posterior, draws",
    "posterior mean": "posterior mean",
    "gd large": "gradient descent, large start",
    "gd small": "gradient descent, small start",
}


def mean_line(
    axes: Axes, frame: pd.DataFrame, x: str, y: str, shift: float = 0.0, **look: Any
) -> None:
    """The mean of ``y`` over data sets at each ``x``, with 95 % intervals and a line through."""
    found: dict[float, Estimate] = {
        float(str(at)): mean_of(part[y].to_numpy(float)) for at, part in frame.groupby(x)
    }
    values = [one.value for one in found.values()]
    ends = [one.low for one in found.values()], [one.high for one in found.values()]
    at = [place + shift for place in found]
    draw_points(axes, at, values, up=ends, line="-", ms=3.0, lw=0.8, **look)


@kind(
    "completion", "Matrix completion by deep linear networks, by depth", "evidence", takes="width"
)
def completion_figure(frame: pd.DataFrame, width: int | None = None) -> Figure:
    """Wrong signs among the entries that were not observed, and effective rank, against depth.

    ``frame`` as of a stage [evidence] of kind ``deep-linear``; ``width``: of the hidden layers
    (default: the first). Bars are 95 % intervals over data sets. Errors of prior draws, which have
    seen nothing, are not drawn.
    """
    check_columns(frame, ["depth", "width", "method", "wrong", "rank"])
    widths = list(dict.fromkeys(frame["width"]))
    shown = widths[0] if width is None else width
    Choice(list(map(str, widths)), "correct the file")("width", str(shown))
    at = frame[frame["width"] == shown]
    with style():
        figure, (errors, ranks) = new_panels(2, height=4.2)
        handles = []
        for place, (method, colour, marker) in enumerate(styled(METHODS)):
            part, look = at[at["method"] == method], {"colour": colour, "marker": marker}
            shift = 0.05 * (place - 2)
            if method != "prior":
                mean_line(errors, part, "depth", "wrong", shift, **look)
            mean_line(ranks, part, "depth", "rank", shift, **look)
            handles.append(proxy(colour, marker, _WORDS[method], line="-"))
        errors.set(ylabel="wrong signs, unseen entries", ylim=(-0.01, None))
        ranks.set(ylabel="effective rank", xlabel="depth (layers)", ylim=(0.9, None))
        ranks.set_xticks(sorted(at["depth"].unique()))
        for axes in (errors, ranks):
            tidy_ticks(axes, "y")
        legend(figure, handles, columns=2)
    return figure


@kind("rare-outputs", "What methods for rare outputs are off by, by rarity", "evidence")
def rare_outputs_figure(frame: pd.DataFrame) -> Figure:
    """Mean absolute difference of ln P from the exact one against the rarity; one panel a kind.

    ``frame`` as of a stage [evidence] of kind ``rare-outputs``: random networks, and trained ones
    of the same width. Bars are 95 % intervals over networks; estimates of nothing are left out.
    """
    check_columns(frame, ["kind", "width", "bits", "method", "off"])
    trained = frame[frame["kind"] == TRAINED]
    widths = set(trained["width"])
    with style():
        figure, panels = new_panels(2, height=4.2)
        handles = []
        for place, (method, colour, marker) in enumerate(styled(COMPARED)):
            for axes, of in zip(panels, (RANDOM, TRAINED), strict=True):
                part = frame[(frame["kind"] == of) & (frame["method"] == method)]
                part = part[part["width"].isin(widths) & np.isfinite(part["off"])]
                part = part.assign(size=part["off"].abs())
                shift = 0.1 * (place - len(COMPARED) / 2)
                mean_line(axes, part, "bits", "size", shift, colour=colour, marker=marker)
            handles.append(proxy(colour, marker, method, line="-"))
        for axes, of in zip(panels, (RANDOM, TRAINED), strict=True):
            axes.set(ylabel=f"|off| (nats), {of}", ylim=(0, None))
            tidy_ticks(axes, "y")
        panels[1].set(xlabel="rarity: minus log2 P")
        panels[1].set_xticks(sorted(trained["bits"].unique()))
        legend(figure, handles, columns=2)
    return figure


@kind("double-descent", "Error against the number of random features", "evidence", takes="corrupt")
def double_descent_figure(frame: pd.DataFrame, corrupt: float | None = None) -> Figure:
    """Error outside S against the number of features; one panel for draws, one for means.

    ``frame`` as of a stage [evidence] of kind ``double-descent``; ``corrupt``: the share of wrong
    labels (default: the first). Bars are 95 % intervals over data sets.
    """
    check_columns(frame, ["features", "method", "noise", "corrupt", "error"])
    shown = frame["corrupt"].iloc[0] if corrupt is None else corrupt
    Choice([f"{c:g}" for c in frame["corrupt"].unique()], "correct it")("corrupt", f"{shown:g}")
    at = frame[frame["corrupt"] == shown]
    noises = [noise for noise in sorted(at["noise"].unique()) if noise > 0]
    with style():
        figure, panels = new_panels(2, height=4.2)
        handles = []
        for place, (noise, colour, marker) in enumerate(styled([0.0, *noises])):
            label = f"posterior, noise {noise:g}" if noise else LEAST
            for axes, of in zip(panels, ("draw", "mean"), strict=True):
                method = f"posterior {of}" if noise else LEAST
                part = at[(at["noise"] == noise) & (at["method"] == method)]
                part = part.assign(features=part["features"] * 1.02 ** (place - len(noises) / 2))
                mean_line(axes, part, "features", "error", colour=colour, marker=marker)
            handles.append(proxy(colour, marker, label, line="-"))
        for axes, of in zip(panels, ("draws", "means"), strict=True):
            axes.set(xscale="log", ylim=(0, None), ylabel=f"error outside S, {of}")
        panels[1].set(xlabel="random features")
        legend(figure, handles, columns=2)
    return figure


@kind(
    "double-descent-trained",
    "Error of trained networks and posterior draws against width",
    "evidence",
    takes="corrupt",
)
def trained_double_descent_figure(frame: pd.DataFrame, corrupt: float | None = None) -> Figure:
    """Error outside S against the width: a panel for one network, one for the vote of many.

    ``frame`` as of a stage [evidence] of kind ``double-descent-trained``; ``corrupt``: the share of
    wrong labels (default: the first). Bars are 95 % intervals over data sets. A posterior is drawn
    at widths where half of the data sets have networks that fit, if it needs them.
    """
    check_columns(frame, ["labels", "width", "method", "error", "vote"])
    kinds = [name for name in frame["labels"].unique() if name != "random"]
    shown = kinds[0] if corrupt is None else wrong_labels(corrupt)
    Choice(kinds, "correct it")("corrupt", shown)
    at = frame[frame["labels"] == shown]
    with style():
        figure, panels = new_panels(2, height=4.2)
        handles = []
        for place, (method, colour, marker) in enumerate(styled(WAYS)):
            part = at[at["method"] == method]
            known = part["error"].notna()
            part = part[known & (known.groupby(part["width"]).transform("mean") >= 0.5)]
            part = part.assign(width=part["width"] * 1.03 ** (place - len(WAYS) / 2))
            for axes, value in zip(panels, ("error", "vote"), strict=True):
                mean_line(axes, part, "width", value, colour=colour, marker=marker)
            handles.append(proxy(colour, marker, method, line="-"))
        widths = sorted(at["width"].unique())
        for axes, of in zip(panels, ("one network", "vote"), strict=True):
            axes.set(xscale="log", ylim=(0, None), ylabel=f"error outside S, {of}")
            axes.set_xticks(widths, [str(width) for width in widths])
            axes.set_xticks([], minor=True)
        panels[1].set(xlabel="width of the hidden layer")
        legend(figure, handles, columns=2)
    return figure


@kind("narrow-teachers", "Error against |S|, by width of teacher and student", "evidence")
def narrow_teachers_figure(frame: pd.DataFrame) -> Figure:
    """Error of posterior draws outside S against |S|: a panel a student, a line a teacher.

    ``frame`` as of a stage [evidence] of kind ``narrow-teachers``. Bars are 95 % intervals over
    data sets.
    """
    check_columns(frame, ["labels", "teacher", "student", "train", "error"])
    at = frame[frame["labels"] == TEACHER]
    students = sorted(at["student"].unique(), key=lambda width: (width == INFINITE, width))
    teachers = sorted(at["teacher"].unique())
    with style():
        figure, panels = new_panels(len(students), height=1.0 + 1.1 * len(students))
        handles = []
        for place, (teacher, colour, marker) in enumerate(styled(teachers)):
            of = at[at["teacher"] == teacher]
            shifted = of["train"] * 1.02 ** (place - len(teachers) / 2)
            for axes, student in zip(panels, students, strict=True):
                part = of.assign(train=shifted)[of["student"] == student]
                mean_line(axes, part, "train", "error", colour=colour, marker=marker)
            handles.append(proxy(colour, marker, f"teacher of width {teacher}", line="-"))
        for axes, student in zip(panels, students, strict=True):
            width = "infinite" if student == INFINITE else student
            axes.set(ylim=(0, None), ylabel=f"error, width {width}")
            axes.set_xscale("log", base=2)
        panels[-1].set(xlabel="|S|")
        legend(figure, handles, columns=2)
    return figure


@kind("tickets", "Error and prior of masked networks, by density", "evidence", takes="layer")
def tickets_figure(frame: pd.DataFrame, layer: int | None = None) -> Figure:
    """Error outside S of masked networks, and complexity of their prior, against density.

    ``frame`` as of a stage [evidence] of kind ``tickets``; ``layer``: the hidden layer that is
    masked, from 1 (default: all layers). Bars are 95 % intervals over data sets; density 1 is the
    network without a mask.
    """
    check_columns(frame, ["layer", "density", "kind", "error", "lz"])
    shown = ALL if layer is None else layer
    Choice([str(one) for one in sorted(frame["layer"].unique())], "correct it")("layer", str(shown))
    at = frame[frame["layer"] == shown]
    with style():
        figure, panels = new_panels(2, height=4.2)
        handles = []
        for place, (name, colour, marker) in enumerate(styled(KINDS)):
            part = pd.concat([at[at["kind"] == name], frame[frame["kind"] == "dense"]])
            part = part.assign(density=part["density"] * 1.03 ** (place - 1))
            for axes, of in zip(panels, ("error", "lz"), strict=True):
                mean_line(axes, part, "density", of, colour=colour, marker=marker)
            handles.append(proxy(colour, marker, f"{name} masks", line="-"))
        panels[0].set(xscale="log", ylim=(-0.01, None), ylabel="error outside S")
        panels[1].set(xscale="log", ylabel="LZ of the prior (bits)", xlabel="density")
        legend(figure, handles, columns=2)
    return figure
