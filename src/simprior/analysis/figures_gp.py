"""Figures of ln P under the Gaussian-process prior: against sampled frequencies, and EP's error."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.analysis.figures_width import width_figure
from simprior.analysis.style import colours, model_label, new_figure, style
from simprior.errors import StoreError
from simprior.gp.study_ep import summarise_study
from simprior.gp.table import TABLE
from simprior.store import RunInfo

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["TABLE", "TITLES", "ep_complexity_figure", "ep_settings_figure", "gp_figures"]

TITLES = {
    "sampled-gp": "Sampled probability against the Gaussian-process value",
    "sampled-gp-ratio": "Gaussian-process value over sampled probability",
    "ep-complexity": "Error of expectation propagation against complexity",
    "ep-settings": "Error of expectation propagation over priors",
    "width-convergence": "Sampled probability against its infinite-width limit, by width",
}
_LABELS = {
    "n": "$n={:g}$", "encoding": "{}", "depth": "$L={:g}$", "sigma_w": r"$\sigma_w={:g}$",
    "source": "{}",
}  # fmt: skip
_ENCODINGS = {"01": r"$\{0,1\}$", "pm1": r"$\pm1$"}
_SOURCES = {"named": "named", "prior": "from prior", "flipped": "$x_1$ + flips"}
_Z95 = 1.959964


def gp_figures(run: RunInfo) -> Iterator[tuple[str, Figure]]:
    """(name, figure) of every figure that a ``simprior logp`` run supports.

    Raises :class:`StoreError` if the run is not complete, or holds neither frequencies nor a study.
    """
    import pandas as pd

    if run.status != "complete" or TABLE not in run.files:
        raise StoreError(
            f"{run.path}: expected a complete run of simprior logp, found one that is "
            f"{run.status}; {run.way_on}"
        )
    frame = pd.DataFrame(run.read_table(TABLE))
    if "difference" in frame:
        return _study_figures(frame)
    if "gap" in frame:
        return iter([("width-convergence", width_figure(frame))])
    if "p_low" not in frame:
        raise StoreError(
            f"{run.path}: expected sampled frequencies or a study of EP to draw, found ln P alone; "
            "compute it with simprior logp --from RUN, or use simprior logp --json"
        )
    return _sampled_figures(frame, run)


def _study_figures(frame: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    yield "ep-complexity", ep_complexity_figure(frame)
    yield "ep-settings", ep_settings_figure(frame)


def _sampled_figures(frame: pd.DataFrame, run: RunInfo) -> Iterator[tuple[str, Figure]]:
    title = _title(run)
    yield "sampled-gp", sampled_figure(frame, title)
    yield "sampled-gp-ratio", ratio_figure(frame, title)


def sampled_figure(frame: pd.DataFrame, title: str = "") -> Figure:
    """Sampled P(f) against the Gaussian-process P(f), both with 95 % intervals, and y = x.

    ``frame`` as written by ``simprior logp --from``: one colour a method; methods without a
    standard error (EP, Laplace) have no vertical bar.
    """
    with style():
        figure, axes = new_figure()
        for colour, method, part in _by_method(frame):
            y, error = np.exp(part["logp"]), _Z95 * part["stderr"].fillna(0.0)
            across = [part["p"] - part["p_low"], part["p_high"] - part["p"]]
            up = [y * -np.expm1(-error), y * np.expm1(error)]
            axes.errorbar(
                part["p"], y, xerr=np.maximum(across, 0.0), yerr=up, fmt="o", ms=1.8, mew=0,
                lw=0.0, elinewidth=0.35, color=colour, ecolor=(*colour, 0.35), label=method,
            )  # fmt: skip
        low = min(axes.get_xlim()[0], axes.get_ylim()[0])
        ends = np.array([max(low, frame.loc[frame["p"] > 0, "p_low"].min() / 2), 1.0])
        axes.plot(ends, ends, color="0.25", ls=":", lw=1.0, zorder=1, label="$y=x$")
        axes.set(
            xscale="log", yscale="log", xlabel="sampled $P(f)$",
            ylabel="Gaussian-process $P(f)$", title=title,
        )  # fmt: skip
        axes.legend()
    return figure


def ratio_figure(frame: pd.DataFrame, title: str = "") -> Figure:
    """Gaussian-process over sampled P(f), with the 95 % interval of both, against the sampled P(f).

    What is left of 1 beyond the intervals is the finite width (tilted) or the method's own error.
    """
    with style():
        figure, axes = new_figure()
        for colour, method, part in _by_method(frame):
            ratio = np.exp(part["logp"]) / part["p"]
            error = _Z95 * np.hypot(part["stderr"].fillna(0.0), part["p_stderr"] / part["p"])
            axes.errorbar(
                part["p"], ratio, yerr=[ratio * -np.expm1(-error), ratio * np.expm1(error)],
                fmt="o", ms=1.8, mew=0, lw=0.0, elinewidth=0.35, color=colour,
                ecolor=(*colour, 0.35), label=method,
            )  # fmt: skip
        axes.axhline(1.0, color="0.25", ls=":", lw=1.0, zorder=1)
        axes.set(
            xscale="log", xlabel="sampled $P(f)$", ylabel="Gaussian-process / sampled $P(f)$",
            ylim=(0.0, None), title=title,
        )  # fmt: skip
        axes.legend(loc="lower right")
    return figure


def ep_complexity_figure(frame: pd.DataFrame) -> Figure:
    """EP minus exact against LZ complexity, coloured by depth, for the largest n of the study."""
    from matplotlib.lines import Line2D

    largest = int(frame["n"].max())
    part = _trusted(frame[frame["n"] == largest])
    depths = sorted(part["depth"].unique())
    shades = _shades(len(depths))
    markers = {"named": "D", "prior": "o", "flipped": "x"}
    with style():
        figure, axes = new_figure()
        axes.axhline(0.0, color="0.25", lw=0.6)
        for shade, depth in zip(shades, depths, strict=True):
            for source, marker in markers.items():
                some = part[(part["depth"] == depth) & (part["source"] == source)]
                axes.plot(
                    some["lz76"], some["difference"], marker, color=shade, ls="", alpha=0.7,
                    ms=2.6 if marker != "x" else 2.8, mew=0.5 if marker == "x" else 0.0,
                )  # fmt: skip
        keys = [
            Line2D([], [], color=s, marker="s", ls="", label=f"$L={d}$")
            for s, d in zip(shades, depths, strict=True)
        ]
        keys += [
            Line2D([], [], color="0.4", marker=m, ls="", label=_SOURCES[s], mew=0.6)
            for s, m in markers.items()
        ]
        axes.legend(handles=keys, ncol=2, loc="lower right")
        axes.set(
            xlabel=r"LZ complexity $\tilde K$ (bits)",
            ylabel=r"$\ln P_\mathrm{EP}(f)-\ln P(f)$ (nats)",
            title=f"relu, $n={largest}$, all encodings and $\\sigma_w$",
        )
    return figure


def ep_settings_figure(frame: pd.DataFrame) -> Figure:
    """EP minus exact by n, encoding, depth, sigma_w and source: median, 5-95 % and extremes."""
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
        axes.set(
            xlabel=r"$\ln P_\mathrm{EP}(f)-\ln P(f)$ (nats)",
            title="median, 5-95 %, extremes over all other settings",
        )
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

    return list(mpl.colormaps["viridis"](np.linspace(0.0, 0.85, count)))


def _title(run: RunInfo) -> str:
    from simprior.boolean.counts_io import model_of
    from simprior.network import Network

    source = run.config.get("from")
    if not source:
        return ""
    try:
        from simprior.store import load_run

        model = model_of(load_run(source).config)
    except StoreError:
        return ""
    return model_label(model) if isinstance(model, Network) else ""
