"""Figures of ``simprior sensitivity``: both quantities against the length of the strings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.analysis.hamming.gp_prediction import asymptote
from simprior.analysis.style import COLUMN_WIDTH, colours, new_figure, style

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from simprior.store import RunInfo

TITLES = {
    "nearest-distance": "Hamming distance to the nearest string of the other class",
    "random-flips": "Random flips until the class changes",
    "flips-law": "Law of the number of random flips",
    "trained-sensitivity": "Sensitivity of trained networks against test error",
}
_FLAT = 0.25  # half-width of the band about the mean ratio


def sensitivity_figures(path: Path) -> Iterator[tuple[str, Figure]]:
    """(name, figure) for a run directory of ``simprior sensitivity``."""
    from simprior.analysis.hamming.records import load
    from simprior.analysis.hamming.trained import TRAINED, load_trained

    if (path / TRAINED).exists():
        yield "trained-sensitivity", trained_figure(load_trained(path))
        return
    result = load(path)
    yield "nearest-distance", distance_figure(result.summary)
    yield "random-flips", flips_figure(result.summary, result.fits)
    if len(result.law):
        yield "flips-law", law_figure(result.rows, result.law)


def table_of(run: RunInfo) -> str:
    """The file of a run that its figures are drawn from."""
    from simprior.analysis.hamming.records import NETWORKS
    from simprior.analysis.hamming.trained import TRAINED

    return TRAINED if TRAINED in run.files else NETWORKS


def distance_figure(summary: pd.DataFrame) -> Figure:
    """Mean distance with intervals, the lower bounds, and below it the ratio to sqrt(n / ln n).

    ``summary`` as of :func:`simprior.analysis.hamming.records.sensitivity`.
    """
    n = summary["n"].to_numpy(float)
    palette = colours()
    with style():
        figure, top = new_figure(COLUMN_WIDTH, 3.4)
        top.remove()
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        for axes in (top, bottom):
            axes.spines[["top", "right"]].set_visible(False)
        grid = np.geomspace(max(n.min() / 1.15, 2.0), n.max() * 1.15, 200)
        top.plot(grid, asymptote(grid), color="0.35", ls="--", lw=0.8,
                 label=r"$\sqrt{n/(2\pi\ln n)}$")  # fmt: skip
        if _has(summary, "gp_distance_low"):
            top.plot(n, summary["gp_distance_low"], color=palette[1], marker="_", ms=5, lw=0.8,
                     label="lower bound, infinite width")  # fmt: skip
        if _has(summary, "exact_distance"):
            top.plot(n, summary["exact_distance"], color=palette[1], lw=0.8, label="exact")
        _bars(top, n, summary, "distance", palette[0], "random networks")
        top.set(xscale="log", yscale="log", ylabel="distance to the other class")
        top.legend(loc="upper left")
        scale = np.sqrt(n / np.log(n))
        ratios = {name: summary[name] / scale for name in _interval_names("distance")}
        _ratio_panel(bottom, n, ratios, palette[0])
        _sizes(top, bottom, n)
        _plain_numbers(top)
    return figure


def _ratio_panel(axes: Axes, n: np.ndarray, ratios: dict[str, Any], colour: Any) -> None:
    import pandas as pd

    frame = pd.DataFrame(ratios)
    middle = float(np.sqrt(frame["distance"].min() * frame["distance"].max()))
    half = float(np.sqrt(1 + _FLAT))
    axes.axhspan(middle / half, middle * half, color="0.92", lw=0, label="25 % range")
    axes.axhline(1 / np.sqrt(2 * np.pi), color="0.35", ls="--", lw=0.8)
    _bars(axes, n, frame, "distance", colour, None)
    top = max(float(np.nanmax(frame["distance_high"])), middle * half)
    axes.set(xscale="log", ylim=(0, 1.25 * top), ylabel=r"$\div\sqrt{n/\ln n}$",
             xlabel="length $n$ of the strings (bits)")  # fmt: skip
    axes.legend(loc="lower left")


def flips_figure(summary: pd.DataFrame, fits: pd.DataFrame) -> Figure:
    """Mean number of random flips until the class changes, the fitted line and the prediction."""
    n = summary["n"].to_numpy(float)
    palette = colours()
    with style():
        figure, axes = new_figure()
        if len(fits):
            value = fits.set_index("fit")["value"]
            half = fits.set_index("fit")["stderr"]["flips slope"]
            x = np.array([0.0, 1.05 * n.max()])
            slope = value["flips slope"]
            axes.plot(x, value["flips intercept"] + slope * x, color=palette[0], lw=0.8,
                      label=rf"line, slope ${slope:.3f}\pm{half:.3f}$")  # fmt: skip
        if _has(summary, "gp_flips"):
            axes.plot(n, summary["gp_flips"], "D", mfc="none", mec=palette[1], ms=5, mew=0.8,
                      label="infinite width", zorder=2)  # fmt: skip
        if _has(summary, "exact_flips"):
            axes.plot(n, summary["exact_flips"], color=palette[1], lw=0.8, label="exact")
        _bars(axes, n, summary, "flips", palette[0], "random networks")
        axes.set(xlabel="length $n$ of the strings (bits)", ylabel="mean number of random flips")
        axes.set(xlim=(0, 1.06 * n.max()), ylim=(0, None))
        axes.legend(loc="upper left")
    return figure


def law_figure(rows: pd.DataFrame, law: pd.DataFrame) -> Figure:
    """Share of networks whose class is unchanged after k flips, against k/n; and the GP's.

    With several paths a string the table holds their means: the GP's curves are drawn alone.
    """
    sizes = sorted(law["n"].unique())
    palette = colours() * (1 + len(sizes) // 10)
    with style():
        figure, axes = new_figure()
        for n, colour in zip(sizes, palette, strict=False):
            part = law[law["n"] == n]
            axes.plot(part["k"] / n, part["survival"], color=colour, lw=0.7, ls="--")
            flips, never = (rows.loc[rows["n"] == n, name] for name in ("flips", "unchanged"))
            k, label = np.arange(n + 1), f"{n:.0f}"
            if not never.isin((0.0, 1.0)).all() or (flips % 1.0 != 0).any():
                axes.plot([], [], color=colour, lw=0.8, label=label)  # means of several paths
                continue
            times = np.sort(np.where(never > 0, n + 1, flips))
            share = 1 - np.searchsorted(times, k, side="right") / len(times)
            axes.step(k / n, share, where="post", color=colour, lw=0.8, label=label)
        axes.set(xlabel="share of the bits flipped", ylabel="share with the same class",
                 xlim=(0, 1), ylim=(0, 1.02))  # fmt: skip
        axes.legend(title="$n$ (dashed: infinite width)", loc="upper right")
    return figure


def trained_figure(frame: pd.DataFrame) -> Figure:
    """Test error against the mean number of flips to the other class, a point a fitted network."""
    good = frame[frame["fitted"] & np.isfinite(frame["distance"])]
    palette = colours()
    with style():
        figure, axes = new_figure()
        axes.plot(good["flips"], good["test_error"], "o", color=palette[0], ms=2, mew=0, alpha=0.4)
        if len(frame):
            axes.axvline(frame["uniform_flips"].iloc[0], color="0.35", ls="--", lw=0.8)
        axes.set(xlabel="mean random flips until the class changes", ylabel="test error")
    return figure


def _interval_names(name: str) -> tuple[str, str, str]:
    return name, f"{name}_low", f"{name}_high"


def _bars(
    axes: Axes, x: np.ndarray, frame: pd.DataFrame, name: str, colour: Any, label: str | None
) -> None:
    middle, low, high = (frame[column].to_numpy(float) for column in _interval_names(name))
    error = np.nan_to_num(np.stack([middle - low, high - middle]))
    axes.errorbar(x, middle, yerr=error, fmt="o", color=colour, elinewidth=0.8, capsize=1.5,
                  label=label, zorder=3)  # fmt: skip


def _has(summary: pd.DataFrame, name: str) -> bool:
    return name in summary and bool(np.isfinite(summary[name]).all())


def _sizes(top: Axes, bottom: Axes, n: np.ndarray) -> None:
    bottom.set_xticks(n, [f"{v:.0f}" for v in n], minor=False)
    for axes in (top, bottom):
        axes.xaxis.minorticks_off()


def _plain_numbers(axes: Axes) -> None:
    """Ticks 1, 2, 3, 5, 7, 10, ... on a logarithmic axis, as plain numbers."""
    low, high = axes.get_ylim()
    ticks = [
        d * 10.0**e for e in range(-1, 5) for d in (1, 2, 3, 5, 7) if low <= d * 10.0**e <= high
    ]
    axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
    axes.yaxis.minorticks_off()
