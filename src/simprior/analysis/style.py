"""Look of all figures, and how they are written: column width, colours, deterministic files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN_WIDTH, HEIGHT = 3.4, 2.6  # inches: one column of a two-column page
DPI = 300
SEQUENTIAL = "viridis"


def colours() -> list[tuple[float, float, float]]:
    """Colour-blind-safe palette of seaborn: blue, orange, green, red, ..."""
    import seaborn as sns

    return list(sns.color_palette("colorblind"))


@contextlib.contextmanager
def style() -> Iterator[None]:
    """matplotlib settings of this package inside a ``with`` block; the caller's come back after."""
    import matplotlib as mpl
    import seaborn as sns

    settings: Any = {
        **sns.axes_style("ticks"), **sns.plotting_context("paper"),
        "font.size": 7.5, "axes.labelsize": 8, "axes.titlesize": 7, "legend.fontsize": 6.5,
        "xtick.labelsize": 7, "ytick.labelsize": 7, "legend.title_fontsize": 6.5,
        "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"],
        "mathtext.fontset": "dejavusans", "text.usetex": False,
        "axes.linewidth": 0.6, "lines.linewidth": 1.0, "lines.markersize": 3,
        "xtick.major.width": 0.6, "ytick.major.width": 0.6, "xtick.major.size": 3,
        "ytick.major.size": 3, "xtick.minor.width": 0.4, "ytick.minor.width": 0.4,
        "xtick.minor.size": 1.6, "ytick.minor.size": 1.6,
        "axes.titlelocation": "left", "axes.titlepad": 4, "legend.frameon": False,
        "legend.handlelength": 1.6, "legend.borderaxespad": 0.3, "legend.labelspacing": 0.35,
        "pdf.fonttype": 42, "ps.fonttype": 42, "pdf.compression": 6, "savefig.bbox": None,
        "figure.dpi": 100, "figure.facecolor": "white", "savefig.facecolor": "white",
    }  # fmt: skip
    with mpl.rc_context(settings):
        yield


def new_figure(width: float = COLUMN_WIDTH, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """A figure of one panel, in inches, with constrained layout and without a window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def save_figure(figure: Figure, path: Path, subject: str, title: str) -> None:
    """Write ``figure`` as PDF or PNG, by the suffix of ``path``, atomically.

    No date and no random identifier is written: equal figures are equal files. Fonts are embedded.
    ``subject`` goes into the metadata. Raises :class:`StoreError` if the file cannot be written.
    """
    from simprior.store_io import atomic_path

    form = path.suffix[1:]
    metadata: dict[str, Any] = {"Title": title, "Subject": subject, "Creator": "simprior"}
    if form == "pdf":
        metadata["CreationDate"] = None
    else:
        metadata = {"Title": title, "Description": subject, "Software": "simprior"}
    with style(), atomic_path(path) as temporary:
        figure.savefig(temporary, format=form, dpi=DPI, metadata=metadata)


def model_label(model: Any) -> str:
    """One line for a title (two if long): widths, activation, standard deviations, inputs."""
    if model is None:
        return "imported counts"
    if hasattr(model, "alpha"):
        return rf"random DNF, $n={model.n}$, $\alpha={model.alpha:g}$"
    widths = list(map(str, model.hidden))
    if len(widths) > 3:
        same = len(set(widths)) == 1
        widths = [rf"${widths[0]}^{{\times{len(widths)}}}$"] if same else [*widths[:2], "..."]
    sizes = ", ".join([str(model.d), *widths, "1"])
    activation = f" {model.activation_name.split(':')[-1]}" if model.hidden else ""
    uniform = " uniform" if model.weight_dist == "uniform" else ""
    sigmas = rf"$\sigma_w={_sigma(model.sigma_w)}$, $\sigma_b={_sigma(model.sigma_b)}$"
    inputs = {"01": r"$\{0,1\}$", "pm1": r"$\pm1$"}[model.encoding]
    inputs = inputs if model.inputs is None else f"{model.m} inputs"
    head, tail = f"({sizes}){activation}{uniform}", f"{sigmas}, {inputs}"
    return f"{head},{chr(10) if len(head) + len(_sigma(model.sigma_w)) > 24 else ' '}{tail}"


def _sigma(value: float | tuple[float, ...]) -> str:
    if isinstance(value, tuple):
        text = [f"{v:g}" for v in value]
        return "(" + ", ".join(text if len(text) <= 3 else [*text[:2], "..."]) + ")"
    return f"{value:.4g}"
