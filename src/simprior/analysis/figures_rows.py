"""Figures with a row a measure: coefficients, and what a rescaling of layers changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from simprior.analysis.figure_frames import check_columns, groups, name_of
from simprior.analysis.figure_parts import bars, face, legend, proxy, small_print, styled
from simprior.analysis.style import COLUMN_WIDTH, new_figure, style, tidy_ticks
from simprior.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_FACTOR = 1e6
_COEFFICIENTS = {
    "pearson": "Pearson correlation", "spearman": "Spearman rank correlation",
    "kendall": r"Kendall rank correlation $\tau_b$",
    "partial_spearman": "partial rank correlation", "partial_pearson": "partial correlation",
}  # fmt: skip


def forest_figure(
    table: pd.DataFrame, coefficient: str = "kendall", by: str | None = None, top: int = 40
) -> Figure:
    """Coefficients with their intervals, a row a measure, a colour a group.

    ``table`` as :func:`simprior.analysis.correlation.correlate` gives it: ``measure``,
    ``<coefficient>``, ``_low`` and ``_high``, the ends of the bars. Rows are ordered by the mean
    size of the coefficient; measures whose coefficient was refused everywhere are left out.
    """
    low, high = f"{coefficient}_low", f"{coefficient}_high"
    check_columns(table, ["measure", coefficient, low, high, *([by] if by else [])])
    table = table[np.isfinite(table[coefficient])]
    if not len(table):
        raise InputError(f"coefficient={coefficient}", "a finite value", "see the notes of the run")
    size = table[coefficient].abs().groupby(table["measure"]).mean().sort_values()
    names = list(size.index[-top:])
    place = {name: i for i, name in enumerate(names)}
    parts = list(groups(table[table["measure"].isin(names)], by))
    handles = []
    with style():
        figure, axes = new_figure(COLUMN_WIDTH, 0.9 + 0.115 * len(names) * (1 + 0.55 * len(parts)))
        for k, ((name, part), colour, marker) in enumerate(styled(parts)):
            shift = 0.7 * ((k + 0.5) / len(parts) - 0.5)
            at = part["measure"].map(place).to_numpy(float) - shift
            value = part[coefficient].to_numpy()
            bars = np.stack([value - part[low], part[high] - value]).clip(0)
            axes.errorbar(
                value, at, xerr=np.nan_to_num(bars), fmt=marker, color=colour, ms=2.8, mew=0,
                elinewidth=0.8,
            )  # fmt: skip
            handles.append(proxy(colour, marker, name))
        axes.axvline(0, color="0.3", lw=0.6, zorder=0)
        axes.set_yticks(range(len(names)), [name_of(n) for n in names])
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set_xlim(-1.05, 1.05)
        for i in range(1, len(names)):
            axes.axhline(i - 0.5, color="0.92", lw=0.5, zorder=0)
        axes.set_xlabel(_COEFFICIENTS.get(coefficient, coefficient))
        legend(figure, handles, by)
    return figure


def rescaling_figure(change: pd.DataFrame) -> Figure:
    """How much each measure moves when relu layers are rescaled and the function stays.

    ``change`` as :func:`simprior.analysis.rescaling.rescaling_table` gives it: ``measure``,
    ``alpha``, ``factor`` (median of after / before), ``factor_low``, ``factor_high`` (central 95 %
    of the networks: the bars, no interval of the median), ``moved`` (share of the networks in which
    it changed: filled if any did). Factors beyond 1e6 or below 1e-6 (a volume, in high dimension)
    are drawn there.
    """
    check_columns(change, ["measure", "alpha", "factor", "factor_low", "factor_high", "moved"])
    ends = ["factor", "factor_low", "factor_high"]
    beyond = _beyond(change)
    change = change.assign(**{c: _within(change[c].to_numpy(float)) for c in ends})
    names = _by_size(change)
    place = {name: i for i, name in enumerate(names)}
    alphas = list(groups(change, "alpha"))
    handles = []
    with style():
        figure, axes = new_figure(COLUMN_WIDTH, 1.1 + 0.125 * len(names) * (1 + 0.4 * len(alphas)))
        for k, ((alpha, part), colour, marker) in enumerate(styled(alphas)):
            shift = 0.6 * ((k + 0.5) / len(alphas) - 0.5)
            at = part["measure"].map(place).to_numpy(float) - shift
            value = part["factor"].to_numpy(float)
            axes.errorbar(value, at, xerr=bars(part, "factor"), fmt="none", ecolor=colour, lw=0.8)
            axes.scatter(
                value, at, s=11, c=face(colour, part["moved"] > 0), edgecolors=[colour],
                linewidths=0.8, marker=marker, zorder=3,
            )  # fmt: skip
            handles.append(proxy(colour, marker, rf"$\alpha={float(alpha):g}$"))
        axes.axvline(1, color="0.3", lw=0.6, zorder=0)
        axes.set_yticks(range(len(names)), [name_of(n) for n in names])
        axes.set_xscale("symlog" if (change["factor_low"] <= 0).any() else "log")
        _wide_enough(axes, change)
        axes.set_xlabel("value after / before")
        handles.append(proxy("0.3", "o", "moved in some network"))
        handles.append(proxy("0.3", "o", "moved in none", filled=False))
        legend(figure, handles, columns=3 if len(alphas) == 1 else 2)
        small_print(figure, "median, bars: central 95 % of the networks",
                    "at the edge: beyond $10^{6}$ or $10^{-6}$" if beyond else "")  # fmt: skip
    return figure


def _beyond(change: pd.DataFrame) -> bool:
    """Is any factor too large or too small to be drawn where it is?"""
    large = change[["factor", "factor_low", "factor_high"]].abs() > _MOST_FACTOR
    small = (change["factor_low"] > 0) & (change["factor_low"] < 1 / _MOST_FACTOR)
    return bool(large.any(axis=None)) or bool(small.any())


def _by_size(change: pd.DataFrame) -> list[str]:
    """Measures in order of the share of networks that moved, then of how far."""
    order = change.groupby("measure")["moved"].mean()
    size = change["factor"].apply(lambda v: abs(np.log(v)) if v > 0 else 0.0)
    order = order + 1e-3 * size.groupby(change["measure"]).mean()
    return list(order.sort_values(kind="stable").index)


def _within(factors: np.ndarray) -> np.ndarray:
    """Positive factors within [1 / _MOST_FACTOR, _MOST_FACTOR]; others at most that in size."""
    least = np.where(factors > 0, 1 / _MOST_FACTOR, -_MOST_FACTOR)
    return np.clip(factors, least, _MOST_FACTOR)


def _wide_enough(axes: Axes, change: pd.DataFrame) -> None:
    """Room for labels on both sides of 1 even if nothing moved."""
    low = float(np.nanmin(change["factor_low"].clip(lower=1e-6)))
    high = float(np.nanmax(change["factor_high"]))
    if axes.get_xscale() == "log":
        axes.set_xlim(min(low / 1.6, 0.5), max(high * 1.6, 2.0))
        tidy_ticks(axes, "x", 0.5)
