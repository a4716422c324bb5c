"""Figures of what predicts generalisation: they draw tables of measures and of coefficients.

Every function takes a table and gives a matplotlib Figure, one column wide. Bars are intervals:
of a mean over networks (normal, clustered where the table says so), of a share (Clopper-Pearson),
or a measure's own standard error times the normal quantile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.analysis.figure_frames import (
    axis_label,
    cell_means,
    check_columns,
    groups,
    level_factor,
    name_of,
    positive_span,
)  # fmt: skip
from simprior.analysis.style import COLUMN_WIDTH, HEIGHT, colours, new_figure, style
from simprior.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
POINTS = ("run", "network")
_FEW = 8


def scatter_figure(
    frame: pd.DataFrame, x: str, y: str = "test_error", by: str | None = None,
    points: str = "run", level: float = 0.95, title: str = "",
) -> Figure:  # fmt: skip
    """``y`` against a measure, a point a training run (mean of its networks) or a network.

    Horizontal bars: the measure's standard error (with the spread over the networks of a run);
    vertical: of the mean, or of a share of the test inputs. Colour and marker: the group ``by``.

    Raises :class:`InputError` for a column that is missing or has no finite value.
    """
    check_columns(frame, [x, y, *([by] if by else [])])
    if points not in POINTS:
        raise InputError(f"points={points!r}", f"one of {', '.join(POINTS)}", "correct the figure")
    z = level_factor(level)
    with style():
        figure, axes = new_figure(COLUMN_WIDTH, HEIGHT)
        for (name, part), colour, marker in _styled(groups(frame, by)):
            data = cell_means(part, [x, y], points, level)
            axes.errorbar(
                data[x], data[y], xerr=z * data[f"{x}_stderr"],
                yerr=np.stack([data[y] - data[f"{y}_low"], data[f"{y}_high"] - data[y]]).clip(0),
                fmt="none", ecolor=(*colour, 0.35), elinewidth=0.5, zorder=1,
            )  # fmt: skip
            axes.plot(
                data[x], data[y], marker, color=colour, ms=2.6, mew=0, alpha=0.85, zorder=2,
                label=name or None,
            )  # fmt: skip
        _scale(axes, "x", frame[x].to_numpy(float))
        axes.set(xlabel=axis_label(x), ylabel=axis_label(y), title=title)
        _legend(figure, axes, by)
    return figure


def forest_figure(
    table: pd.DataFrame, coefficient: str = "kendall", by: str | None = None, top: int = 40
) -> Figure:
    """Coefficients with their intervals, a row a measure, a colour a group.

    ``table`` as :func:`simprior.analysis.correlation.correlate` gives it: ``measure``,
    ``<coefficient>``, ``_low`` and ``_high``. Rows are ordered by the mean size of the coefficient;
    measures whose coefficient was refused everywhere are left out.
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
    with style():
        figure, axes = new_figure(COLUMN_WIDTH, 0.9 + 0.115 * len(names) * (1 + 0.55 * len(parts)))
        for k, ((name, part), colour, marker) in enumerate(_styled(parts)):
            shift = 0.7 * ((k + 0.5) / len(parts) - 0.5)
            at = part["measure"].map(place).to_numpy(float) - shift
            value = part[coefficient].to_numpy()
            bars = np.stack([value - part[low], part[high] - value]).clip(0)
            axes.errorbar(
                value, at, xerr=np.nan_to_num(bars), fmt=marker, color=colour, ms=2.8, mew=0,
                elinewidth=0.8, label=name or None,
            )  # fmt: skip
        axes.axvline(0, color="0.3", lw=0.6, zorder=0)
        axes.set_yticks(range(len(names)), [name_of(n) for n in names])
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.set_xlim(-1.05, 1.05)
        for i in range(1, len(names)):
            axes.axhline(i - 0.5, color="0.92", lw=0.5, zorder=0)
        axes.set_xlabel(_COEFFICIENTS.get(coefficient, coefficient))
        _legend(figure, axes, by)
    return figure


def rescaling_figure(change: pd.DataFrame) -> Figure:
    """How much each measure moves when relu layers are rescaled and the function stays.

    ``change`` as :func:`simprior.analysis.rescaling.rescaling_table` gives it: ``measure``,
    ``alpha``, ``factor`` (median of after / before), ``factor_low``, ``factor_high`` (central 95 %
    of the networks), ``moved`` (share of the networks in which it changed). Factors beyond 1e6
    or below 1e-6 (a volume, in high dimension) are drawn there.
    """
    check_columns(change, ["measure", "alpha", "factor", "factor_low", "factor_high", "moved"])
    ends = ["factor", "factor_low", "factor_high"]
    beyond = bool((change[ends].abs() > _MOST_FACTOR).any(axis=None))
    small = (change["factor_low"] > 0) & (change["factor_low"] < 1 / _MOST_FACTOR)
    beyond |= bool(small.any())
    change = change.assign(**{c: _within(change[c].to_numpy(float)) for c in ends})
    order = change.groupby("measure")["moved"].mean()
    size = change["factor"].apply(lambda v: abs(np.log(v)) if v > 0 else 0.0)
    order = order + 1e-3 * size.groupby(change["measure"]).mean()
    names = list(order.sort_values(kind="stable").index)
    place = {name: i for i, name in enumerate(names)}
    alphas = list(groups(change, "alpha"))
    with style():
        figure, axes = new_figure(COLUMN_WIDTH, 0.9 + 0.125 * len(names) * (1 + 0.4 * len(alphas)))
        for k, ((alpha, part), colour, marker) in enumerate(_styled(alphas)):
            shift = 0.6 * ((k + 0.5) / len(alphas) - 0.5)
            at = part["measure"].map(place).to_numpy(float) - shift
            value = part["factor"].to_numpy(float)
            bars = np.stack([value - part["factor_low"], part["factor_high"] - value]).clip(0)
            face = [colour if m > 0 else "white" for m in part["moved"]]
            axes.errorbar(value, at, xerr=np.nan_to_num(bars), fmt="none", ecolor=colour, lw=0.8)
            axes.scatter(
                value, at, s=11, c=face, edgecolors=[colour], linewidths=0.8, marker=marker,
                zorder=3, label=rf"$\alpha={float(alpha):g}$",
            )  # fmt: skip
        axes.axvline(1, color="0.3", lw=0.6, zorder=0)
        axes.set_yticks(range(len(names)), [name_of(n) for n in names])
        axes.set_xscale("symlog" if (change["factor_low"] <= 0).any() else "log")
        _wide_enough(axes, change)
        note = "open: moved in no network" + ("; at the edge: beyond" if beyond else "")
        axes.set_xlabel(f"value after rescaling / value before\n({note})")
        _legend(figure, axes, "alpha", labels=False)
    return figure


def bound_figure(
    frame: pd.DataFrame, x: str = "train_size", by: str | None = None, level: float = 0.95
) -> Figure:
    """PAC-Bayes bound (dashed, with its own interval) and observed error (solid) against ``x``.

    ``frame`` has ``bound``, ``bound_low``, ``bound_high`` and ``test_error``; each point is a mean
    over training sets, the band or bar its interval over them.
    """
    check_columns(frame, [x, "bound", "bound_low", "bound_high", "test_error"])
    with style():
        figure, axes = new_figure(COLUMN_WIDTH, HEIGHT)
        for (name, part), colour, marker in _styled(groups(frame, by)):
            for column, line, fill, suffix in (
                ("bound", "--", "white", ": bound"), ("test_error", "-", colour, ": error"),
            ):  # fmt: skip
                data = _by_value(part, x, column, level)
                label = f"{name}{suffix}" if name else suffix[2:]
                axes.errorbar(
                    data[x], data["mean"], yerr=_bars(data), fmt=marker, ls=line, color=colour,
                    mfc=fill, ms=3, lw=0.8, elinewidth=0.7, label=label,
                )  # fmt: skip
        values = np.sort(frame[x].astype(float).unique())
        _scale(axes, "x", values)
        axes.set_ylim(bottom=0)
        axes.set(xlabel=axis_label(x), ylabel="share of wrong outputs")
        _legend(figure, axes, by, columns=2)
    return figure


def sweep_figure(
    frame: pd.DataFrame, x: str, y: Sequence[str], by: str | None = None, level: float = 0.95
) -> Figure:
    """One panel for each of ``y`` against a setting ``x``: means with intervals over clusters."""
    check_columns(frame, [x, *y, *([by] if by else [])])
    with style():
        figure, first = new_figure(COLUMN_WIDTH, 0.5 + 1.5 * len(y))
        panels = _stack(figure, first, len(y))
        for column, axes in zip(y, panels, strict=True):
            for (name, part), colour, marker in _styled(groups(frame, by)):
                data = _by_value(part, x, column, level)
                axes.errorbar(
                    data[x], data["mean"], yerr=_bars(data), fmt=marker, ls="-", color=colour,
                    ms=2.8, lw=0.8, elinewidth=0.7, label=name or None,
                )  # fmt: skip
            axes.set_ylabel(axis_label(column))
        _scale(panels[-1], "x", frame[x].to_numpy(float))
        panels[-1].set_xlabel(axis_label(x))
        _legend(figure, panels[0], by)
    return figure


_MOST_FACTOR = 1e6
_COEFFICIENTS = {
    "pearson": "Pearson correlation", "spearman": "Spearman rank correlation",
    "kendall": r"Kendall rank correlation $\tau_b$",
    "partial_spearman": "partial rank correlation", "partial_pearson": "partial correlation",
}  # fmt: skip


def _styled(parts: Any) -> Iterator[tuple[Any, Any, str]]:
    palette = colours()
    for i, part in enumerate(parts):
        yield part, palette[i % len(palette)], MARKERS[i % len(MARKERS)]


def _by_value(part: pd.DataFrame, x: str, column: str, level: float) -> pd.DataFrame:
    """Mean of ``column`` at each value of ``x`` with its interval; rows of one are themselves."""
    import pandas as pd

    z, rows = level_factor(level), []
    for value, some in part.groupby(x, sort=True):
        given = some[column].to_numpy(float)
        keep = np.isfinite(given)
        if not keep.any():
            continue
        mean, half = float(given[keep].mean()), 0.0
        if f"{column}_low" in some and column == "bound":
            low, high = some["bound_low"].mean(), some["bound_high"].mean()
            rows.append({x: value, "mean": mean, "low": low, "high": high})
            continue
        stderr = f"{column}_stderr"
        clusters = some.loc[keep].groupby("cluster")[column].mean() if "cluster" in some else given
        if len(clusters) > 1:
            half = z * float(np.std(clusters, ddof=1)) / np.sqrt(len(clusters))
        elif stderr in some:
            half = z * float(some[stderr].iloc[0])
        elif keep.sum() > 1:
            half = z * float(given[keep].std(ddof=1)) / np.sqrt(keep.sum())
        rows.append({x: value, "mean": mean, "low": mean - half, "high": mean + half})
    if not rows:
        raise InputError(f"column {column!r}", "a finite value", "see the notes of the run")
    return pd.DataFrame(rows)


def _bars(data: pd.DataFrame) -> np.ndarray:
    value = data["mean"].to_numpy(float)
    return np.nan_to_num(np.stack([value - data["low"], data["high"] - value]).clip(0))


def _stack(figure: Figure, first: Axes, number: int) -> list[Axes]:
    if number == 1:
        return [first]
    first.remove()
    panels = list(figure.subplots(number, 1, sharex=True))
    for axes in panels:
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return panels


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


def _scale(axes: Axes, which: str, values: np.ndarray) -> None:
    """A logarithmic axis for positive values over more than a factor of 10.

    Few values are the ticks themselves.
    """
    if positive_span(values) <= 10:
        return
    axes.set(**{f"{which}scale": "log"})
    known = np.unique(values[np.isfinite(values)])
    if len(known) <= _FEW:
        axis = axes.xaxis if which == "x" else axes.yaxis
        axis.set_ticks(list(known), [f"{value:g}" for value in known])
        axis.set_ticks([], minor=True)


def _legend(
    figure: Figure, axes: Axes, by: str | None, columns: int = 3, labels: bool = True
) -> None:
    handles, names = axes.get_legend_handles_labels()
    if not names:
        return
    title = name_of(by) if by and labels else None
    figure.legend(
        handles, names, loc="outside upper center", ncols=min(columns, len(names)), title=title,
        columnspacing=1.0, handletextpad=0.4,
    )  # fmt: skip
