"""What a multiplied kernel hides: EP with a probit link against the exact value, by multiplier."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pandas as pd

from simprior.analysis.figures.marks import check_columns, draw_points, styled
from simprior.analysis.figures.registry import kind
from simprior.analysis.figures.style import new_figure, style
from simprior.analysis.study.logp_multiplier import multiplier_overview
from simprior.numerics.estimate import normal_factor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@kind("multiplier", "EP with a probit link against the exact ln P, by multiplier", "logp")
def multiplier_figure(frame: pd.DataFrame) -> Figure:
    """-ln P a label against the multiplier of the kernel, a colour a size of the training set.

    ``frame`` as of a stage [logp] of kind ``multiplier``. Points: mean of EP with the probit link
    over training sets, with 95 % intervals. Dashed, in a band of the same kind: the exact value;
    dotted: labels by a fair coin.
    """
    check_columns(frame, ["m", "multiplier", "exact", "probit"])
    table = multiplier_overview(frame)
    factor = normal_factor(0.95)
    with style():
        figure, axes = new_figure(width=4.6, height=3.0)
        low, high = table["multiplier"].min() / 1.6, table["multiplier"].max() * 1.6
        for (m, part), colour, marker in styled(table.groupby("m")):
            value, half = -part["probit"] / m, factor * part["probit_stderr"] / m
            up = (value - half, value + half)
            label = f"$m={m:.0f}$"
            draw_points(
                axes,
                part["multiplier"],
                value,
                up=up,
                colour=colour,
                marker=marker,
                line="-",
                label=label,
            )
            exact = -part["exact"].iloc[0] / m
            half = factor * part["exact_stderr"].iloc[0] / m
            axes.plot([low, high], [exact, exact], color=colour, ls="--", lw=0.8, zorder=1)
            axes.fill_between(
                [low, high], exact - half, exact + half, color=colour, alpha=0.15, lw=0, zorder=0
            )
        axes.axhline(math.log(2.0), color="0.4", ls=":", lw=0.9)
        axes.plot([], [], color="0.4", ls="--", lw=0.8, label="exact")
        axes.plot([], [], color="0.4", ls=":", lw=0.9, label=r"$\ln 2$: a fair coin")
        axes.set(xscale="log", xlim=(low, high), ylim=(0.0, None))
        axes.set_xlabel("multiplier of the kernel")
        axes.set_ylabel(r"$-\ln P$ of the labels$\,/\,m$ (nats)")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure
