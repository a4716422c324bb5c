"""Figure of the approach of sampled networks to their infinite-width limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simprior.analysis.style import colours, new_figure, style
from simprior.gp.study_width import fit_width

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

RESOLVED = 2.0  # standard errors below which a gap is drawn as an upper limit


def width_figure(frame: pd.DataFrame) -> Figure:
    """|ln P_width - ln P_GP| against width on log axes, with the line c/width of each function.

    ``frame`` as of :func:`simprior.gp.study_width.run_width_study`. One colour for each kind of
    function (the part of its name before the comma); filled: more probable than in the limit, open:
    less; bars are one standard error; carets: gaps within two of 0 (drawn at the upper limit).
    """
    from matplotlib.lines import Line2D

    kinds = list(dict.fromkeys(_kind(name) for name in frame["name"]))
    palette = dict(zip(kinds, colours() * (1 + len(kinds) // 10), strict=False))
    finite = frame[np.isfinite(frame["width"])]
    with style():
        figure, axes = new_figure()
        for name, part in finite.groupby("name", sort=False):
            _points(axes, part, palette[_kind(name)])
        low = axes.get_ylim()[0]
        widths = np.geomspace(finite["width"].min() / 1.15, finite["width"].max() * 1.15, 200)
        for _, fit in fit_width(frame).iterrows():
            line = abs(fit["c"]) / widths
            axes.plot(widths, line, color=palette[_kind(fit["name"])], lw=0.5, zorder=1)
        axes.set(
            xscale="log", yscale="log", xlabel="width of both hidden layers",
            ylabel=r"$|\ln P_\mathrm{width}(f)-\ln P_\mathrm{GP}(f)|$ (nats)",
        )  # fmt: skip
        floor = finite.loc[finite["gap"] != 0, "gap_stderr"].min() / 2
        axes.set_ylim(max(low, floor), 1.5 * finite["gap"].abs().max())
        ticks = sorted(finite["width"].unique())
        axes.set_xticks(ticks, [f"{t:.0f}" for t in ticks], minor=False)
        axes.xaxis.minorticks_off()
        handles = [
            Line2D([], [], color=palette[kind], marker="o", label=kind, lw=0.5) for kind in kinds
        ]
        axes.legend(handles=handles, loc="lower left")
    return figure


def _kind(name: str) -> str:
    return str(name).split(",", maxsplit=1)[0]


def _points(axes: object, part: pd.DataFrame, colour: tuple[float, float, float]) -> None:
    size, error = part["gap"].abs(), part["gap_stderr"]
    clear = size > RESOLVED * error
    for some, face in ((clear & (part["gap"] > 0), colour), (clear & (part["gap"] < 0), "white")):
        axes.errorbar(  # type: ignore[attr-defined]
            part["width"][some], size[some], yerr=error[some], fmt="o", ms=2.6, mew=0.6,
            color=colour, mfc=face, lw=0.0, elinewidth=0.5,
        )  # fmt: skip
    limit = (size + RESOLVED * error)[~clear]
    axes.plot(  # type: ignore[attr-defined]
        part["width"][~clear], limit, "v", color=colour, ms=2.2, mew=0.0, alpha=0.5
    )
