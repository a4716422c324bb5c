"""Figures of ``simprior sensitivity``: both quantities against the length of the strings."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from simprior.analysis.figures.marks import areas, draw_points, ends, places, small_print
from simprior.analysis.figures.registry import Drawing, drawings, kind
from simprior.analysis.figures.style import (
    COLUMN_WIDTH,
    colours,
    new_figure,
    new_panels,
    style,
    tidy_ticks,
)
from simprior.analysis.strings.predictions import asymptote
from simprior.analysis.strings.run import TRAINED, load, load_trained
from simprior.checks import unknown
from simprior.numerics.estimate import clopper_pearson
from simprior.runs.directory import load_run

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from simprior.runs.directory import RunInfo

_FLAT = 0.25  # top over bottom of the band about the middle ratio, minus 1
_LARGEST = 120.0  # points^2: area of the largest marker
_NETWORKS = "means over random networks, bars 95 %"


@drawings("sensitivity")
def sensitivity_drawings(run: RunInfo) -> list[Drawing]:
    """The figures of a run of ``simprior sensitivity``: of random or of trained networks."""
    return _drawings(run.path)


@kind("sensitivity", "Sensitivity of networks", "sensitivity", needs="figure", whole=True)
def sensitivity_figure(path: Path, figure: str) -> Figure:
    """A figure of a run of ``simprior sensitivity`` by its name. Raises :class:`InputError`."""
    found = {drawing.name: drawing.draw for drawing in _drawings(path)}
    if figure not in found:
        raise unknown(f"figure {figure!r}", figure, found)
    return found[figure]()


def _drawings(path: Path) -> list[Drawing]:
    if TRAINED in load_run(path).files:
        return [Drawing("trained-sensitivity", partial(trained_figure, load_trained(path)))]
    result = load(path)
    found = [
        Drawing("nearest-distance", partial(distance_figure, result.summary)),
        Drawing("random-flips", partial(flips_figure, result.summary, result.fits)),
    ]
    if len(result.law):
        found.append(Drawing("flips-law", partial(law_figure, result.rows, result.law)))
    return found


@kind("nearest-distance", "Hamming distance to the nearest string of the other class", "strings")
def distance_figure(summary: pd.DataFrame) -> Figure:
    """Mean distance and the lower bounds on logarithmic axes; below it the ratio to sqrt(n / ln n).

    ``summary`` as of :func:`simprior.analysis.strings.run.run_networks`. Bars: 95 %, Student's t
    over networks. The band of the lower panel has a top 1.25 times its bottom, for scale.
    """
    n = summary["n"].to_numpy(float)
    palette = colours()
    with style():
        figure, (top, bottom) = new_panels(2, height=3.8, height_ratios=(2, 1))
        grid = np.geomspace(max(n.min() / 1.15, 2.0), n.max() * 1.15, 200)
        law = r"$\sqrt{n/(2\pi\ln n)}$"
        top.plot(grid, asymptote(grid), color="0.35", ls="--", lw=0.8, label=law)
        if _has(summary, "gp_distance_low"):
            bound: dict[str, Any] = {"color": palette[1], "marker": "_", "ms": 5, "lw": 0.8}
            label = "lower bound, infinite width"
            top.plot(n, summary["gp_distance_low"], **bound, label=label)
        if _has(summary, "exact_distance"):
            top.plot(n, summary["exact_distance"], color=palette[1], lw=0.8, label="exact")
        _bars(top, n, summary, "distance", palette[0], "random networks")
        top.set(xscale="log", yscale="log", ylabel="distance to the other class\n(log scale)")
        scale = np.sqrt(n / np.log(n))
        columns = ["distance", "distance_low", "distance_high"]
        _ratio_panel(bottom, n, summary[columns].div(scale, axis=0), palette[0])
        _sizes(top, bottom, n)
        _enclosed(top)
        handles = [h for axes in (top, bottom) for h in axes.get_legend_handles_labels()[0]]
        figure.legend(handles=handles, loc="outside upper center", ncols=2)
        small_print(figure, _NETWORKS)
    return figure


def _ratio_panel(axes: Axes, n: np.ndarray, frame: pd.DataFrame, colour: Any) -> None:
    middle = float(np.sqrt(frame["distance"].min() * frame["distance"].max()))
    half = float(np.sqrt(1 + _FLAT))
    label = f"band: top = {1 + _FLAT:g} $\\times$ bottom"
    axes.axhspan(middle / half, middle * half, color="0.92", lw=0, label=label)
    axes.axhline(1 / np.sqrt(2 * np.pi), color="0.35", ls="--", lw=0.8)
    _bars(axes, n, frame, "distance", colour, None)
    top = np.nanmax([*frame["distance_high"], *frame["distance"], middle * half])
    axes.set(xscale="log", ylim=(0, 1.1 * top), ylabel="distance /\n" r"$\sqrt{n/\ln n}$")
    axes.set_xlabel("length $n$ of the strings (bits)")
    tidy_ticks(axes, "y")


@kind("random-flips", "Random flips until the class changes", "strings")
def flips_figure(summary: pd.DataFrame, fits: pd.DataFrame) -> Figure:
    """Mean number of random flips until the class changes, the fitted line and the prediction.

    Bars: 95 %, Student's t over networks. The slope has its bootstrap standard error.
    """
    n = summary["n"].to_numpy(float)
    palette = colours()
    with style():
        figure, axes = new_figure()
        if len(fits):
            value = fits.set_index("fit")["value"]
            half = fits.set_index("fit")["stderr"]["flips slope"]
            x = np.array([0.0, 1.05 * n.max()])
            slope = value["flips slope"]
            label = rf"line, slope ${slope:.3f}\pm{half:.3f}$ (standard error)"
            line = value["flips intercept"] + slope * x
            axes.plot(x, line, color=palette[0], lw=0.8, label=label)
        if _has(summary, "gp_flips"):
            look: dict[str, Any] = {
                "mfc": "none",
                "mec": palette[1],
                "ms": 5,
                "mew": 0.8,
                "zorder": 2,
            }
            axes.plot(n, summary["gp_flips"], "D", label="infinite width", **look)
        if _has(summary, "exact_flips"):
            axes.plot(n, summary["exact_flips"], color=palette[1], lw=0.8, label="exact")
        _bars(axes, n, summary, "flips", palette[0], "random networks")
        axes.set(xlabel="length $n$ of the strings (bits)", ylabel="mean number of random flips")
        axes.set(xlim=(0, 1.06 * n.max()), ylim=(0, None))
        figure.legend(loc="outside upper center", ncols=2)
        small_print(figure, _NETWORKS)
    return figure


@kind("flips-law", "Law of the number of random flips", "strings")
def law_figure(rows: pd.DataFrame, law: pd.DataFrame) -> Figure:
    """Share of networks whose class is unchanged after k flips, against k/n; and the GP's.

    Bands: 95 %, Clopper-Pearson at each k with as many trials as networks (strings of one network
    as if they were one). With several paths a string the table holds their means: the GP's curves
    are drawn alone.
    """
    sizes = sorted(law["n"].unique())
    palette = colours() * (1 + len(sizes) // 10)
    measured = False
    with style():
        figure, axes = new_figure()
        for n, colour in zip(sizes, palette, strict=False):
            part = law[law["n"] == n]
            axes.plot(part["k"] / n, part["survival"], color=colour, lw=0.7, ls="--")
            found = unchanged_share(rows[rows["n"] == n], int(n))
            x = np.arange(n + 1) / n
            axes.plot([], [], color=colour, lw=0.8, label=f"{n:.0f}")
            if found is None:
                continue
            share, low, high = found
            measured = True
            axes.fill_between(x, low, high, step="post", color=colour, alpha=0.13, lw=0)
            axes.step(x, share, where="post", color=colour, lw=0.8)
        axes.set(xlabel="share of the bits flipped", ylabel="share with the same class")
        axes.set(xlim=(0, 1), ylim=(0, 1.02))
        axes.legend(title="$n$ (dashed: infinite width)", loc="upper right")
        small_print(figure, "steps: random networks; bands: 95 % at each k" if measured else "")
    return figure


def unchanged_share(
    rows: pd.DataFrame, n: int, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Share of strings whose class is unchanged after k = 0 ... n flips, with its limits.

    None where the rows are means over several paths. Limits: see :func:`law_figure`.
    """
    flips, never = rows["flips"], rows["unchanged"]
    if not never.isin((0.0, 1.0)).all() or (flips % 1.0 != 0).any():
        return None
    times = np.sort(np.where(never > 0, n + 1, flips))
    share = 1 - np.searchsorted(times, np.arange(n + 1), side="right") / len(times)
    networks = int(rows["network"].nunique())
    low, high = clopper_pearson(share * networks, networks, level)
    return share, low, high


@kind("trained-sensitivity", "Sensitivity of trained networks against test error", "strings")
def trained_figure(frame: pd.DataFrame) -> Figure:
    """Test error against the mean number of flips to the other class of fitted networks.

    Areas count the networks at one place. Both quantities are exact: no bars.
    """
    good = frame[frame["fitted"] & np.isfinite(frame["distance"])]
    data = places(good, "flips", "test_error")
    colour = colours()[0]
    most = int(data["number"].max()) if len(data) else 1
    with style():
        figure, axes = new_figure(COLUMN_WIDTH, 2.8)
        look: dict[str, Any] = {"c": [colour], "lw": 0, "alpha": 0.7}
        size = areas(data["number"].to_numpy(), most, _LARGEST)
        axes.scatter(data["flips"], data["test_error"], s=size, **look)
        handles: list[Any] = []
        for k in sorted({1, max(round(most / 4), 1), most}):
            (size,) = areas(np.array([k]), most, _LARGEST)
            label = f"{k} network{'s' * (k > 1)}"
            handles.append(axes.scatter([], [], s=size, label=label, **look))
        if len(frame):
            at = frame["uniform_flips"].iloc[0]
            line = axes.axvline(at, color="0.35", ls="--", lw=0.8, label="random function")
            handles.append(line)
        axes.set(xlabel="mean random flips until the class changes", ylabel="test error")
        for which in ("x", "y"):
            tidy_ticks(axes, which)
        figure.legend(handles=handles, loc="outside upper center", ncols=2, labelspacing=0.9)
    return figure


def _bars(
    axes: Axes, x: np.ndarray, frame: pd.DataFrame, name: str, colour: Any, label: str | None
) -> None:
    middle, up = frame[name], ends(frame, name)
    look: dict[str, Any] = {"colour": colour, "thick": 0.8, "capsize": 1.5}
    draw_points(axes, x, middle, up=up, label=label, zorder=3, **look)


def _has(summary: pd.DataFrame, name: str) -> bool:
    return name in summary and bool(np.isfinite(summary[name]).all())


def _sizes(top: Axes, bottom: Axes, n: np.ndarray) -> None:
    bottom.set_xticks(n, [f"{v:.0f}" for v in n], minor=False)
    for axes in (top, bottom):
        axes.xaxis.minorticks_off()


def _enclosed(axes: Axes) -> None:
    """Limits of a logarithmic y axis at ticks on both sides of what is drawn, and more between."""
    low, high = axes.get_ylim()
    ends = [d * 10.0**e for e in range(-3, 6) for d in (1, 1.5, 2, 3, 5, 7)]
    axes.set_ylim(max(t for t in ends if t <= low), min(t for t in ends if t >= high))
    low, high = axes.get_ylim()
    digits = (1, 1.5, 2, 2.5, 3, 4, 5, 7) if high < 7 * low else (1, 2, 3, 5)
    ticks = [d * 10.0**e for e in range(-3, 6) for d in digits]
    ticks = [t for t in ticks if 0.999 * low <= t <= 1.001 * high]
    axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axes.yaxis.minorticks_off()
