"""Figures of a comparison: P_A against P_B, and the test errors of both runs.

Each function takes a :class:`simprior.analysis.compare.comparison.Comparison` and returns a
matplotlib Figure; intervals are at the level of the comparison.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.analysis.compare.comparison import Comparison
from simprior.analysis.compare.sources import Side
from simprior.analysis.figures import style as files
from simprior.analysis.figures.marks import draw_points
from simprior.analysis.figures.registry import kind, title_of
from simprior.analysis.figures.style import (
    COLUMN_WIDTH,
    DASHED,
    SEQUENTIAL,
    blank_figure,
    colours,
    drawn_on,
    given_axes,
    new_figure,
    style,
)
from simprior.analysis.text.numbers import scientific
from simprior.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BARS = 150  # functions drawn with intervals, the commonest
_STRIP = 0.085  # width of a margin over that of the panel


def compare_figures(
    comparison: Comparison, labels: tuple[str, str] = ("A", "B")
) -> Iterator[tuple[str, Figure]]:
    """(name, figure) of every figure that a comparison supports."""
    yield "scatter", scatter_figure(comparison, labels)
    if comparison.errors is not None:
        yield "errors", errors_figure(comparison, labels)


def write_figures(
    comparison: Comparison, folder: Path, labels: tuple[str, str], subject: str, prefix: str = ""
) -> list[Path]:
    """Write all figures as PDF and PNG; ``subject`` goes into their metadata.

    Raises :class:`StoreError` if a file cannot be written.
    """
    drawn = compare_figures(comparison, labels)
    return files.write_figures(
        ((f"{prefix}{name}", title_of(f"compare-{name}"), figure) for name, figure in drawn),
        folder,
        subject,
    )


@kind("compare-scatter", "Probabilities of functions in two runs", reads="comparison")
def scatter_figure(comparison: Comparison, labels: tuple[str, str] = ("A", "B")) -> Figure:
    """P_A(f) against P_B(f), a point a function met by both, with intervals for the commonest 150.

    Colour: functions at the same point (rare functions share few counts). Dashed: equality. Lines
    in the strips left and below: functions met by one run only, at their probability in it; they
    have no place on logarithmic axes.
    """
    from matplotlib.colors import LogNorm

    with style():
        figure, axes, left, below = _panels()
        j = comparison.joint
        both = (j.row_a >= 0) & (j.row_b >= 0)
        points, number = np.unique(np.stack([j.pa[both], j.pb[both]]), axis=1, return_counts=True)
        _draw_bars(axes, comparison, both)
        many = bool(len(number)) and number.max() > 1
        colour: dict[str, Any] = {"color": colours()[0]}
        if many:
            order = np.argsort(number, kind="stable")
            points, number = points[:, order], number[order]
            norm = LogNorm(1, max(10, int(number.max())))
            colour = {"c": number, "norm": norm, "cmap": SEQUENTIAL}
        marks = axes.scatter(points[0], points[1], s=5, lw=0, zorder=3, **colour)
        if many:
            bar = figure.colorbar(marks, ax=[axes, left, below], pad=0.015, aspect=30)
            bar.set_label("functions", fontsize=7)
            bar.ax.tick_params(labelsize=6)
        limits = _limits(j.pa, j.pb)
        axes.plot(limits, limits, color="0.25", ls=DASHED, lw=0.8, zorder=2)
        _strip(left, j.pb[~both & (j.row_b >= 0)], "y", labels[1], len(j.pa))
        _strip(below, j.pa[~both & (j.row_a >= 0)], "x", labels[0], len(j.pa))
        axes.set(xscale="log", yscale="log", xlim=limits, ylim=limits)
        below.set_xlabel(rf"probability in {labels[0]}")
        left.set_ylabel(rf"probability in {labels[1]}")
        figure.suptitle(_title(comparison), fontsize=6.5, x=0.02, ha="left")
        axes.text(0.03, 0.97, _facts(comparison), transform=axes.transAxes, va="top", fontsize=6)
        _few_ticks(below.xaxis, left.yaxis)
    return figure


def _panels() -> tuple[Figure, Axes, Axes, Axes]:
    """The panel, and the strips left of it and below it, which share its axes."""
    if given_axes():
        guest, axes = new_figure()
        left = axes.inset_axes((-1.2 * _STRIP, 0, _STRIP, 1), sharey=axes)
        below = axes.inset_axes((0, -1.2 * _STRIP, 1, _STRIP), sharex=axes)
        return guest, axes, *_bare_strips(axes, left, below)
    figure = blank_figure(COLUMN_WIDTH, 3.1)
    engine: Any = figure.get_layout_engine()
    engine.set(w_pad=0.02, h_pad=0.02, wspace=0.0, hspace=0.0)
    grid = figure.add_gridspec(
        2, 2, width_ratios=[_STRIP, 1], height_ratios=[1, _STRIP], wspace=0.02, hspace=0.02
    )
    axes = figure.add_subplot(grid[0, 1])
    left = figure.add_subplot(grid[0, 0], sharey=axes)
    below = figure.add_subplot(grid[1, 1], sharex=axes)
    drawn_on([axes])
    return figure, axes, *_bare_strips(axes, left, below)


def _bare_strips(axes: Axes, left: Axes, below: Axes) -> tuple[Axes, Axes]:
    """The strips, grey and without ticks across; their other ticks are those of the panel."""
    axes.tick_params(which="both", labelleft=False, labelbottom=False)
    for strip in (left, below):
        strip.set_facecolor("0.95")
    left.set(xticks=[], xlim=(0, 1))
    below.set(yticks=[], ylim=(0, 1))
    return left, below


def _draw_bars(axes: Axes, comparison: Comparison, both: np.ndarray) -> None:
    """Intervals of the commonest functions met by both, by the smaller effective count."""
    j = comparison.joint
    rows = np.flatnonzero(both)
    rows = rows[np.argsort(-np.minimum(j.ka, j.kb)[rows], kind="stable")][:BARS]
    if not len(rows):
        return
    x, y = j.pa[rows], j.pb[rows]
    draw_points(
        axes,
        x,
        y,
        across=_ends(comparison.a, j.row_a[rows], comparison.level),
        up=_ends(comparison.b, j.row_b[rows], comparison.level),
        colour="0.55",
        marker="none",
        thick=0.6,
    )


def _ends(side: Side, row: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    low, high = side.intervals(level)
    return low[row], high[row]


def _strip(strip: Axes, p: np.ndarray, axis: str, label: str, total: int) -> None:
    """A line for each probability of functions met by one run only, darker for more functions."""
    levels, number = np.unique(p, return_counts=True)
    shade = 0.25 + 0.75 * np.log1p(number) / np.log1p(max(total, 1))
    lines = strip.vlines if axis == "x" else strip.hlines
    red = (*colours()[3],)
    lines(levels, 0, 1, colors=[(*red, a) for a in shade], lw=0.9)
    text = f"{label} only: {len(p):,} ({100 * p.sum():.2g} %)"
    place: dict[str, Any] = {"x": 0.97, "y": 0.5, "ha": "right", "va": "center"}
    if axis == "y":
        place = {"x": 0.5, "y": 0.97, "ha": "center", "va": "top", "rotation": 90}
    box = {"facecolor": "white", "alpha": 0.8, "lw": 0, "pad": 0.8}
    strip.text(s=text, transform=strip.transAxes, fontsize=5.5, bbox=box, **place)


def _limits(pa: np.ndarray, pb: np.ndarray) -> tuple[float, float]:
    positive = np.concatenate([pa[pa > 0], pb[pb > 0]])
    return float(positive.min()) / 2.5, min(float(positive.max()) * 2.5, 2.5)


def _few_ticks(*axes: Any) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

    for axis in axes:
        low, high = axis.get_view_interval()
        step = int(np.ceil(np.log10(high / low) / 7))
        axis.set_major_locator(LogLocator(10.0**step, numticks=20))
        minor = LogLocator(10, subs=tuple(range(2, 10))) if step == 1 else NullLocator()
        axis.set_minor_locator(minor)
        axis.set_minor_formatter(NullFormatter())


def _title(comparison: Comparison) -> str:
    sizes = [s.set_size for s in (comparison.a, comparison.b)]
    words = [f"${scientific(float(f'{n:.3g}'))}$" if np.isfinite(n) else "exact" for n in sizes]
    kind = ", halves of one run" if comparison.split else ""
    return f"effective samples {words[0]} and {words[1]}{kind}; {100 * comparison.level:g} % bars"


def _facts(comparison: Comparison) -> str:
    tv, rank = comparison["total_variation"], comparison["spearman"]
    lines = [f"TV in [{tv.low:.3f}, {tv.high:.3f}]"]
    if np.isfinite(tv.matched):
        lines.append(
            f"parts: {tv.matched:.3f}; ceilings {tv.noise_ceiling_a:.3f}, {tv.noise_ceiling_b:.3f}"
        )
    if np.isfinite(rank.value):
        functions = int(comparison["selected_functions"].value)
        lines.append(f"Spearman {rank.value:.3f} ({functions:,} functions)")
    return "\n".join(lines)


@kind("compare-errors", "Test errors of the functions of two runs", reads="comparison")
def errors_figure(comparison: Comparison, labels: tuple[str, str] = ("A", "B")) -> Figure:
    """Histogram of the test error of both runs' functions with intervals, and class baselines.

    Vertical lines: mean errors (in the run's colour), the predictor of the commoner class, and
    random functions with the target's number of ones. Bars at 0 counts are left out.

    Raises :class:`InputError` for a comparison without a target.
    """
    frame = comparison.errors
    if frame is None:
        raise InputError("a comparison without a target", "errors", "pass target= to compare")
    with style():
        figure, axes = new_figure()
        for name, label, colour, shift in zip(
            "ab", labels, colours()[:2], (-0.12, 0.12), strict=True
        ):
            p = frame[f"p_{name}"].to_numpy(float)
            met = p > 0
            x = frame["error"].to_numpy(float) + shift / (len(frame) - 1)
            low, high = frame[f"p_{name}_low"].to_numpy(), frame[f"p_{name}_high"].to_numpy()
            mean = comparison[f"mean_error_{name}"]
            draw_points(
                axes,
                x[met],
                p[met],
                up=(low[met], high[met]),
                colour=colour,
                line="-",
                lw=0.7,
                ms=2.2,
                label=f"{label}: mean {mean.value:.3f}",
                zorder=3,
            )
            axes.axvline(mean.value, color=colour, lw=0.8, ls=DASHED)
        for key, label, line in (
            ("baseline_majority", "commoner class", ":"),
            ("baseline_entropy_matched", "entropy-matched", "-."),
        ):
            value = comparison[key].value
            axes.axvline(value, color="0.35", lw=0.8, ls=line, label=f"{label}: {value:.3f}")
        axes.set(yscale="log", xlabel=r"test error $\varepsilon$", ylabel="probability")
        figure.legend(ncols=2, loc="outside upper center", columnspacing=1.0)
    return figure
