"""Figures of function counts: rank, complexity, number of ones, histogram of complexity.

Each function takes counts and returns a matplotlib Figure; the tables drawn come from
``rank_stats`` and ``complexity_stats``. Intervals are 95 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from simprior.analysis.figures.marks import decades, draw_points, ends, make_room
from simprior.analysis.figures.registry import Drawing, drawings, kind
from simprior.analysis.figures.style import (
    DASHED,
    SEQUENTIAL,
    colours,
    model_label,
    new_figure,
    style,
)
from simprior.analysis.simplicity import (
    ENOUGH,
    EXACT_ROWS,
    BoundFit,
    ComplexityProfile,
    cells_of,
    complexity_profile,
    envelope,
    fit_bound,
    prior_histogram,
    rank_frame,
    steps_per_bin,
    uniform_histogram,
    zipf,
)
from simprior.analysis.text.numbers import plus_minus, scientific
from simprior.boolean.sampling.counts import COUNTS, FunctionCounts
from simprior.boolean.sampling.watch import WatchResult, load_result
from simprior.numerics.estimate import korn_graubard

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from simprior.runs.directory import RunInfo

COMPLEXITY = r"LZ complexity $\tilde K$ (bits)"
_MAX_POINTS, _MAX_MAXIMA = 260, 48


@drawings("sample", "import", "posterior")
def run_drawings(run: RunInfo) -> list[Drawing]:
    """The figures of a run that counted functions, or watched some (then P(t) alone)."""
    counts = load_result(run.path, top=EXACT_ROWS)
    if isinstance(counts, WatchResult):
        return [Drawing("ones", partial(ones_figure, counts))]
    seed = run.manifest.get("seed")
    return _drawings(counts, run.path / COUNTS, seed if isinstance(seed, int) else 0)


def count_figures(
    counts: FunctionCounts, table: Path | None = None, seed: int = 0
) -> Iterator[tuple[str, Figure]]:
    """(name, figure) of every figure that ``counts`` supports, drawn one after the other.

    ``table`` is the run's Parquet table, needed when ``counts`` holds only its first rows; ``seed``
    is for the uniformly random functions that the histogram compares with.
    """
    return ((drawing.name, drawing.draw()) for drawing in _drawings(counts, table, seed))


def _drawings(counts: FunctionCounts, table: Path | None, seed: int) -> list[Drawing]:
    profile = cache(partial(complexity_profile, counts, table))
    found = [
        Drawing("rank", lambda: rank_figure(counts)),
        Drawing("complexity", lambda: complexity_figure(counts, profile())),
        Drawing("ones", lambda: ones_figure(counts)),
        Drawing("complexity-histogram", lambda: histogram_figure(counts, profile(), seed)),
    ]
    if counts.m == 1:  # on a single input every function has complexity 0
        found = [drawing for drawing in found if "complexity" not in drawing.name]
    if not counts.ones[:, 0].any():
        found = [drawing for drawing in found if drawing.name != "ones"]
    return found


@kind("rank", "Probability against rank", reads="counts")
def rank_figure(counts: FunctionCounts) -> Figure:
    """Probability against rank with intervals, and Zipf's line 1 / (r ln N_O), N_O = 2^m.

    Dashed: fewer than 10 counts a function, where chance bends the curve. With pooled counts, the
    probabilities of single functions from the counts of their symmetry classes are added.
    """
    with style():
        figure, axes = new_figure()
        blue, orange = colours()[:2]
        frames = [(rank_frame(counts), blue, "sampled functions")]
        if counts.pooled is not None:
            frames.append((rank_frame(counts.pooled), orange, "pooled over symmetries"))
        for frame, colour, label in frames:
            _draw_ranks(axes, frame, colour, label, 4.0 if colour == blue else 2.0)
        ranks = np.geomspace(1, max(f["last"].iloc[-1] for f, _, _ in frames), 50)
        label = rf"Zipf: $1/(r\,\ln N_O)$, $\ln N_O={counts.m}\,\ln 2$"
        axes.plot(ranks, zipf(ranks, counts.m), color="0.25", ls=":", lw=1.0, label=label, zorder=1)
        if any((f["count"] < ENOUGH).any() for f, _, _ in frames):
            axes.plot([], [], color="0.4", ls=DASHED, label=f"fewer than {ENOUGH} counts")
        lowest = min(f["p"].min() for f, _, _ in frames)
        axes.set(xscale="log", yscale="log", ylim=(lowest / 30, 2.0), title=_title(counts))
        axes.set(xlabel="rank $r$", ylabel="probability $P(f)$")
        axes.legend()
        decades(axes)
    return figure


def _draw_ranks(axes: Axes, frame: pd.DataFrame, colour: Any, label: str, zorder: float) -> None:
    rank, p, sure = frame["rank"], frame["p"], frame["count"] >= ENOUGH
    axes.fill_between(
        rank, frame["p_low"], frame["p_high"], color=colour, alpha=0.25, lw=0, zorder=zorder
    )
    axes.plot(rank, p.where(sure), color=colour, label=label, zorder=zorder + 1)
    joined = ~sure | ~sure.shift(-1, fill_value=True)  # reaches back to the solid line
    axes.plot(rank, p.where(joined), color=colour, ls=DASHED, zorder=zorder + 1)
    head = frame[frame["last"] <= 10]
    up = ends(head, "p")
    draw_points(axes, head["rank"], head["p"], up=up, colour=colour, ms=2.2, zorder=zorder + 2)


@kind("complexity", "Probability against LZ complexity", reads="counts")
def complexity_figure(counts: FunctionCounts, profile: ComplexityProfile | None = None) -> Figure:
    """P(f) against LZ complexity: functions a cell in colour, maxima, and the fitted upper bound.

    Filled circles: the most probable function of each complexity, met at least 10 times. Dashed:
    the least-squares line through their log2 P; solid: the bound 2^(-a K - b) of the same slope
    below which all of them lie (``complexity_stats.fit_bound``). Open circles: maxima met less
    often, not used; of more than 48 evenly spaced ones are drawn.
    """
    from matplotlib.colors import LogNorm

    profile = profile or complexity_profile(counts)
    best = envelope(counts, profile)
    fit = fit_bound(best)
    with style():
        figure, axes = new_figure()
        x, y, cells = cells_of(profile, counts.samples)
        norm = LogNorm(1, max(10.0, np.nanmax(cells)))
        mesh = axes.pcolormesh(x, y, cells, norm=norm, cmap=SEQUENTIAL, rasterized=True)
        _bar(figure, mesh, axes)
        _draw_maxima(axes, best)
        if fit is not None:
            _draw_bound(axes, fit, np.array([best["lz76"].min(), best["lz76"].max()]))
        margin = 0.02 * (x[-1] - x[0])
        top = 3.0 * counts.samples**0.18  # room for the legend
        axes.set(yscale="log", xlim=(x[0] - margin, x[-1] + margin))
        axes.set(ylim=(0.4 / counts.samples, top), title=_title(counts))
        axes.set(xlabel=COMPLEXITY, ylabel="probability $P(f)$")
        if profile.stride > 1:
            note = (
                rf"beyond rank ${scientific(profile.exact_rows)}$: 1 in {profile.stride} measured"
            )
            axes.text(0.98, 0.42, note, transform=axes.transAxes, ha="right", fontsize=6)
        axes.legend(loc="upper right", frameon=True, framealpha=0.85, edgecolor="none")
        decades(axes, "y")
    return figure


def _draw_bound(axes: Axes, fit: BoundFit, span: np.ndarray) -> None:
    red = colours()[3]
    label = rf"bound $2^{{-a\,\tilde K-b}}$, $b={fit.b_bound:.2f}$,"
    label += f"\n$a={plus_minus(fit.a, fit.a_stderr)}$"
    axes.plot(span, fit(span, bound=True), color=red, label=label, zorder=3)
    label = f"least squares, $b={plus_minus(fit.b, fit.b_stderr)}$"
    axes.plot(span, fit(span), color=red, lw=0.8, ls=DASHED, label=label, zorder=3)


def _draw_maxima(axes: Axes, best: pd.DataFrame) -> None:
    sure = best["count"] >= ENOUGH
    for rows, face, label in (
        (sure, "black", "largest $P$"),
        (~sure, "white", "(under 10 counts)"),
    ):
        part = best[rows]
        if not len(part):
            continue
        part = part.iloc[:: -(-len(part) // _MAX_MAXIMA)]
        look: dict[str, Any] = {"colour": "black", "ecolor": "0.2", "mfc": face, "ms": 2.2}
        x, p, up = part["lz76"], part["p"], ends(part, "p")
        draw_points(axes, x, p, up=up, label=label, mew=0.5, thick=0.6, zorder=4, **look)


def _bar(figure: Figure, mesh: Any, axes: Axes) -> None:
    bar = figure.colorbar(mesh, ax=axes, pad=0.02, aspect=25)
    bar.set_label("functions a cell")
    bar.outline.set_linewidth(0.5)  # type: ignore[operator]


@kind("ones", "Probability of the number of ones", reads="counts")
def ones_figure(counts: FunctionCounts | WatchResult) -> Figure:
    """P(t) against the number of ones t, with clustered intervals; binomial law for comparison.

    Of more than 260 values of t evenly spaced ones are drawn, 0 and m among them.
    """
    from matplotlib.ticker import MaxNLocator
    from scipy.special import gammaln

    frame = counts.ones_frame()
    m = counts.m
    every = -(-m // _MAX_POINTS)
    shown = frame[(frame["t"] % every == 0) | (frame["t"] == m)]
    seen, missed = shown[shown["p"] > 0], shown[shown["p"] == 0]
    with style():
        figure, axes = new_figure()
        blue, orange = colours()[:2]
        t = np.arange(m + 1)
        log_binomial = gammaln(m + 1) - gammaln(t + 1) - gammaln(m - t + 1) - m * math.log(2)
        law = np.exp(np.maximum(log_binomial, -600))
        axes.plot(t, law, color=orange, lw=0.9, label="uniformly random functions", zorder=1)
        up = ends(seen, "p")
        draw_points(axes, seen["t"], seen["p"], up=up, colour=blue, ms=2.0, label="prior", zorder=3)
        if len(missed):
            limit: dict[str, Any] = {"ls": "none", "marker": 11, "ms": 2.5, "mew": 0}
            label = "none seen: 95 % upper limit"
            axes.plot(missed["t"], missed["p_high"], color="0.55", label=label, zorder=2, **limit)
        low = max(seen["p_low"].min(), 0.3 / counts.samples)
        if len(missed):
            low = min(low, missed["p_high"].min())
        axes.set(yscale="log", xlim=(-0.03 * m, 1.03 * m), ylim=(low / 3, 3.0))
        axes.set(title=_title(counts))
        axes.set(xlabel="number of ones $t$", ylabel="probability $P(t)$")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if every > 1:
            axes.set_xlabel(f"number of ones $t$ (every {every}th)")
        axes.legend(loc="upper center")
        decades(axes, "y")
        make_room(axes, [*shown["t"], *t], [*shown["p_high"], *law])
    return figure


@kind(
    "complexity-histogram", "LZ complexity under the prior and of random functions", reads="counts"
)
def histogram_figure(
    counts: FunctionCounts, profile: ComplexityProfile | None = None, seed: int = 0
) -> Figure:
    """Density of LZ complexity under the prior and for uniformly random functions, per bit.

    Intervals: Korn-Graubard at the effective number of samples (clustered) for the prior,
    Clopper-Pearson for the random functions, none where all functions were measured.
    """
    profile = profile or complexity_profile(counts)
    prior, uniform = prior_histogram(counts, profile, seed), uniform_histogram(counts.m, seed)
    number = uniform.attrs["functions"]
    whole = counts.m <= 16
    which = "all" if whole else "uniformly random:"
    both = np.concatenate([prior["steps"], uniform["steps"]])
    width = steps_per_bin(both)
    with style():
        figure, axes = new_figure()
        names = ("prior (networks drawn)", rf"{which} ${scientific(number)}$ functions")
        lowest = 1.0
        for frame, colour, label, marker in zip(
            (prior, uniform), colours(), names, "os", strict=False
        ):
            samples = counts.samples if marker == "o" else number
            draws = counts.draws if marker == "o" and not counts.iid else samples
            part = _binned(frame, int(both.min()), width, profile.unit, samples, draws)
            x, p = part["x"], part["p"]
            up = None if marker == "s" and whole else (part["low"], part["high"])
            draw_points(
                axes, x, p, up=up, colour=colour, marker=marker, ms=2.2, label=label, zorder=3
            )
            axes.step(x, p, where="mid", color=colour, lw=0.6, alpha=0.6, zorder=2)
            lowest = min(lowest, p[p > 0].min())
        axes.set(yscale="log", ylim=(lowest / 4, 20.0), title=_title(counts))
        axes.set(xlabel=COMPLEXITY, ylabel=r"density $p(\tilde K)$ (1/bit)")
        axes.legend(loc="upper center")
        decades(axes, "y")
    return figure


def _binned(
    frame: pd.DataFrame, start: int, width: int, unit: float, samples: int, draws: float
) -> dict[str, np.ndarray]:
    """Centres x in bits, densities p per bit and their interval, in bins of ``width`` steps."""
    index = (frame["steps"].to_numpy() - start) // width
    used = np.unique(index)
    p = np.minimum(np.bincount(index, frame["p"])[used], 1.0)
    variance, binomial = np.bincount(index, frame["stderr"] ** 2)[used], p * (1 - p) / samples
    worst = np.full_like(p, samples / draws)  # where nothing varies
    effect = np.divide(variance, binomial, out=worst, where=binomial > 0)
    low, high = korn_graubard(p * samples, samples, effect, clusters=draws)
    scale = width * unit
    centre = (start + width * used + (width - 1) / 2) * unit
    return {
        "x": centre,
        "p": p / scale,
        "low": np.minimum(low, p) / scale,
        "high": np.maximum(high, p) / scale,
    }


def _title(counts: FunctionCounts | WatchResult) -> str:
    label = model_label(counts.info.get("model"))
    part = f",\n1 in {1 / counts.keep:g} functions counted" if counts.keep < 1 else ""
    if isinstance(counts, FunctionCounts) and counts.unlisted > 0:
        listed = 100 * (1 - counts.unlisted / counts.samples)
        part = f",\n{listed:.3g} % of the samples listed"
    return rf"{label}; $N={scientific(counts.samples)}${part}"
