"""Figures of ln P under the Gaussian-process prior.

Against sampled frequencies; the error of EP over many priors; the approach of networks of growing
width to the limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from simprior.analysis.figures.marks import check_columns, draw_points
from simprior.analysis.figures.multiplier import multiplier_figure
from simprior.analysis.figures.registry import Drawing, drawings, kind
from simprior.analysis.figures.style import SEQUENTIAL, colours, model_label, new_figure, style
from simprior.analysis.figures.width import logp_width_figure
from simprior.analysis.study.logp import fit_width, summarise_study
from simprior.analysis.table_files import read_finished
from simprior.boolean.sampling.counts import model_of
from simprior.errors import StoreError
from simprior.gp.orthant import TABLE
from simprior.network.spec import Network
from simprior.numerics.estimate import normal_factor
from simprior.runs.directory import RunInfo, load_run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RESOLVED = 2.0  # standard errors below which a gap is drawn as an upper limit
_LABELS = {
    "n": "$n={:g}$",
    "encoding": "{}",
    "depth": "$L={:g}$",
    "sigma_w": r"$\sigma_w={:g}$",
    "source": "{}",
}
_ENCODINGS = {"01": r"$\{0,1\}$", "pm1": r"$\pm1$"}
_SOURCES = {"named": "named", "prior": "from prior", "flipped": "$x_1$ + flips"}


@drawings("logp")
def logp_drawings(run: RunInfo) -> list[Drawing]:
    """The figures that a run of ``simprior logp`` supports.

    Raises :class:`StoreError` if the run is not complete, or holds neither frequencies nor a study.
    """
    frame = read_finished(run, TABLE)
    if "multiplier" in frame:
        return [Drawing("multiplier", partial(multiplier_figure, frame))]
    if "difference" in frame:
        return [
            Drawing("ep-complexity", partial(ep_complexity_figure, frame)),
            Drawing("ep-settings", partial(ep_settings_figure, frame)),
        ]
    if "gain" in frame:
        return [Drawing("logp-width", partial(logp_width_figure, frame))]
    if "gap" in frame:
        return [Drawing("width-convergence", partial(width_figure, frame))]
    if "p_low" not in frame:
        raise StoreError(
            f"{run.path}: expected sampled frequencies or a study of EP to draw, found ln P alone; "
            "compute it with simprior logp --from RUN, or use simprior logp --json"
        )
    title = _title(run)
    return [
        Drawing("sampled-gp", partial(sampled_figure, frame, title)),
        Drawing("sampled-gp-ratio", partial(ratio_figure, frame, title)),
    ]


@kind("sampled-gp", "Sampled probability against the Gaussian-process value", "frequencies")
def sampled_figure(frame: pd.DataFrame, title: str = "") -> Figure:
    """Sampled P(f) against the Gaussian-process P(f), both with 95 % intervals, and y = x.

    ``frame`` as written by ``simprior logp --from``: one colour a method; methods without a
    standard error (EP, Laplace) have no vertical bar.
    """
    with style():
        figure, axes = new_figure()
        for colour, method, part in _by_method(frame):
            y, error = np.exp(part["logp"]), normal_factor(0.95) * part["stderr"].fillna(0.0)
            across = part["p_low"], part["p_high"]
            up = y * np.exp(-error), y * np.exp(error)
            _faint_points(axes, part["p"], y, across, up, colour, method)
        low = min(axes.get_xlim()[0], axes.get_ylim()[0])
        ends = np.array([max(low, frame.loc[frame["p"] > 0, "p_low"].min() / 2), 1.0])
        axes.plot(ends, ends, color="0.25", ls=":", lw=1.0, zorder=1, label="$y=x$")
        axes.set(xscale="log", yscale="log", title=title)
        axes.set(xlabel="sampled $P(f)$", ylabel="Gaussian-process $P(f)$")
        axes.legend()
    return figure


@kind("sampled-gp-ratio", "Gaussian-process value over sampled probability", "frequencies")
def ratio_figure(frame: pd.DataFrame, title: str = "") -> Figure:
    """Gaussian-process over sampled P(f), with the 95 % interval of both, against the sampled P(f).

    What is left of 1 beyond the intervals is the finite width (tilted) or the method's own error.
    """
    with style():
        figure, axes = new_figure()
        for colour, method, part in _by_method(frame):
            ratio = np.exp(part["logp"]) / part["p"]
            error = normal_factor(0.95) * np.hypot(
                part["stderr"].fillna(0.0), part["p_stderr"] / part["p"]
            )
            up = ratio * np.exp(-error), ratio * np.exp(error)
            _faint_points(axes, part["p"], ratio, None, up, colour, method)
        axes.axhline(1.0, color="0.25", ls=":", lw=1.0, zorder=1)
        axes.set(xscale="log", ylim=(0.0, None), title=title)
        axes.set(xlabel="sampled $P(f)$", ylabel="Gaussian-process / sampled $P(f)$")
        axes.legend(loc="lower right")
    return figure


def _faint_points(
    axes: Axes, x: Any, y: Any, across: Any, up: Any, colour: Any, label: str
) -> None:
    """Small points of a method with thin, pale bars."""
    look: dict[str, Any] = {"colour": colour, "thick": 0.35, "faint": True, "ms": 1.8, "mew": 0}
    draw_points(axes, x, y, across, up, label=label, **look)


@kind("ep-complexity", "Error of expectation propagation against complexity", "logp")
def ep_complexity_figure(frame: pd.DataFrame) -> Figure:
    """EP minus exact against LZ complexity, coloured by depth, for the largest n of the study."""
    from matplotlib.lines import Line2D

    check_columns(frame, ["lz76", "difference"])
    largest = int(frame["n"].max())
    part = _trusted(frame[frame["n"] == largest])
    depths = sorted(part["depth"].unique())
    shades = _shades(len(depths))
    markers = {"named": "D", "prior": "o", "flipped": "x"}
    sizes: dict[str, Any] = {"ms": 2.6, "mew": 0.0}
    thin: dict[str, Any] = {"ms": 2.8, "mew": 0.5}
    with style():
        figure, axes = new_figure()
        axes.axhline(0.0, color="0.25", lw=0.6)
        for shade, depth in zip(shades, depths, strict=True):
            for source, marker in markers.items():
                some = part[(part["depth"] == depth) & (part["source"] == source)]
                look = thin if marker == "x" else sizes
                x, y = some["lz76"], some["difference"]
                axes.plot(x, y, marker, color=shade, ls="", alpha=0.7, **look)
        keys = [
            Line2D([], [], color=s, marker="s", ls="", label=f"$L={d}$")
            for s, d in zip(shades, depths, strict=True)
        ]
        keys += [
            Line2D([], [], color="0.4", marker=m, ls="", label=_SOURCES[s], mew=0.6)
            for s, m in markers.items()
        ]
        axes.legend(handles=keys, ncol=2, loc="lower right")
        axes.set_title(f"relu, $n={largest}$, all encodings and $\\sigma_w$")
        axes.set_xlabel(r"LZ complexity $\tilde K$ (bits)")
        axes.set_ylabel(r"$\ln P_\mathrm{EP}(f)-\ln P(f)$ (nats)")
    return figure


@kind("ep-settings", "Error of expectation propagation over priors", "logp")
def ep_settings_figure(frame: pd.DataFrame) -> Figure:
    """EP minus exact by n, encoding, depth, sigma_w and source: median, 5-95 % and extremes."""
    check_columns(frame, ["difference"])
    rows: list[tuple[str, Any]] = []
    trusted = _trusted(frame)
    for by, form in _LABELS.items():
        for _, row in summarise_study(trusted, by).iterrows():
            text = {"encoding": _ENCODINGS, "source": _SOURCES}.get(by, {}).get(row[by], row[by])
            rows.append((form.format(text), row))
    with style():
        figure, axes = new_figure(height=3.2)
        axes.axvline(0.0, color="0.25", lw=0.6)
        place, blue, previous = 0.0, colours()[0], ""
        ticks = []
        for label, row in rows:
            group = row.index[0]
            place -= 1.0 + (0.6 if previous not in {"", group} else 0.0)
            previous = group
            ticks.append((place, label))
            axes.plot([row["least"], row["greatest"]], [place] * 2, color=blue, lw=0.6)
            axes.plot(
                [row["q05"], row["q95"]], [place] * 2, color=blue, lw=3, solid_capstyle="butt"
            )
            axes.plot(row["median"], place, "o", color="white", mec=blue, ms=3.4, mew=0.8)
        axes.set_yticks([t[0] for t in ticks], [t[1] for t in ticks])
        axes.set_title("median, 5-95 %, extremes over all other settings")
        axes.set_xlabel(r"$\ln P_\mathrm{EP}(f)-\ln P(f)$ (nats)")
    return figure


def _by_method(frame: pd.DataFrame) -> Iterator[tuple[Any, str, pd.DataFrame]]:
    """(colour, method, rows with a frequency and a finite ln P)."""
    usable = frame[np.isfinite(frame["logp"]) & (frame["p"] > 0)]
    for colour, method in zip(colours(), frame["method"].unique(), strict=False):
        yield colour, str(method), usable[usable["method"] == method]


def _trusted(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows whose exact value and EP fixed point can be relied on."""
    return frame[frame["reliable"].astype(bool) & frame["ep_converged"].astype(bool)]


def _shades(count: int) -> list[Any]:
    import matplotlib as mpl

    return list(mpl.colormaps[SEQUENTIAL](np.linspace(0.0, 0.85, count)))


def _title(run: RunInfo) -> str:
    source = run.config.get("from")
    if not source:
        return ""
    try:
        model = model_of(load_run(source).config)
    except StoreError:
        return ""
    return model_label(model) if isinstance(model, Network) else ""


@kind("width-convergence", "Sampled probability against its infinite-width limit, by width", "logp")
def width_figure(frame: pd.DataFrame) -> Figure:
    """|ln P_width - ln P_GP| against width on log axes, with the line c/width of each function.

    ``frame`` as of :func:`simprior.analysis.study.logp.run_logp`. One colour for each kind of
    function (the part of its name before the comma); filled: more probable than in the limit, open:
    less; bars are one standard error; carets: gaps within two of 0 (drawn at the upper limit).
    """
    from matplotlib.lines import Line2D

    check_columns(frame, ["width", "gap", "gap_stderr"])
    kinds = list(dict.fromkeys(_kind(name) for name in frame["name"]))
    palette = dict(zip(kinds, colours() * (1 + len(kinds) // 10), strict=False))
    finite = frame[np.isfinite(frame["width"])]
    with style():
        figure, axes = new_figure()
        for name, part in finite.groupby("name", sort=False):
            _gaps(axes, part, palette[_kind(name)])
        low = axes.get_ylim()[0]
        widths = np.geomspace(finite["width"].min() / 1.15, finite["width"].max() * 1.15, 200)
        for _, fit in fit_width(frame).iterrows():
            line = abs(fit["c"]) / widths
            axes.plot(widths, line, color=palette[_kind(fit["name"])], lw=0.5, zorder=1)
        axes.set(xscale="log", yscale="log")
        axes.set_xlabel("width of both hidden layers")
        axes.set_ylabel(r"$|\ln P_\mathrm{width}(f)-\ln P_\mathrm{GP}(f)|$ (nats)")
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


def _gaps(axes: Axes, part: pd.DataFrame, colour: tuple[float, float, float]) -> None:
    """The gaps of one function with a standard error each; carets where it is not resolved."""
    width, size, error = part["width"], part["gap"].abs(), part["gap_stderr"]
    clear = size > RESOLVED * error
    for some, face in ((clear & (part["gap"] > 0), colour), (clear & (part["gap"] < 0), "white")):
        x, y, half = width[some], size[some], error[some]
        look: dict[str, Any] = {"colour": colour, "mfc": face, "ms": 2.6, "mew": 0.6}
        draw_points(axes, x, y, up=(y - half, y + half), thick=0.5, **look)
    limit = (size + RESOLVED * error)[~clear]
    axes.plot(width[~clear], limit, "v", color=colour, ms=2.2, mew=0.0, alpha=0.5)
