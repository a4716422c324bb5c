"""How all figures look, what they call things, and how they become files.

Look: sizes, colours, settings of matplotlib, ticks, titles. Names of columns, for axes, ticks,
legends and heads of tables. Files: PDF and PNG, whole or not at all, equal bytes for equal figures.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simprior.analysis.measure.registry import MEASURES
from simprior.errors import InputError
from simprior.runs.files import atomic_path, translate_errors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN_WIDTH, HEIGHT = 3.4, 2.6  # inches: one column of a two-column page
DPI = 300
SEQUENTIAL = "viridis"
DASHED = (0, (2.5, 1.2))
_SETTINGS = {
    "font.size": 7.5,
    "axes.labelsize": 8,
    "axes.titlesize": 7,
    "legend.fontsize": 6.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.title_fontsize": 6.5,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "mathtext.fontset": "dejavusans",
    "text.usetex": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.0,
    "lines.markersize": 3,
    "axes.titlelocation": "left",
    "axes.titlepad": 4,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.borderaxespad": 0.3,
    "legend.labelspacing": 0.35,
    "pdf.fonttype": 42,
    "ps.fonttype": 42,
    "pdf.compression": 6,
    "savefig.bbox": None,
    "figure.dpi": 100,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
_TICKS = {"major.width": 0.6, "major.size": 3, "minor.width": 0.4, "minor.size": 1.6}


def colours() -> list[tuple[float, float, float]]:
    """Colour-blind-safe palette of seaborn: blue, orange, green, red, ..."""
    import seaborn as sns

    return list(sns.color_palette("colorblind"))


@contextlib.contextmanager
def style() -> Iterator[None]:
    """matplotlib settings of this package inside a ``with`` block; the caller's come back after."""
    import matplotlib as mpl
    import seaborn as sns

    ticks = {f"{axis}tick.{name}": size for axis in "xy" for name, size in _TICKS.items()}
    settings: Any = {
        **sns.axes_style("ticks"),
        **sns.plotting_context("paper"),
        **_SETTINGS,
        **ticks,
    }
    with mpl.rc_context(settings):
        yield


def blank_figure(width: float = COLUMN_WIDTH, height: float = HEIGHT) -> Figure:
    """A figure without panels, in inches, with constrained layout and without a window."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def new_figure(width: float = COLUMN_WIDTH, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """A figure of one panel without lines at its top and right; see :func:`blank_figure`."""
    figure, (axes,) = new_panels(1, width, height)
    return figure, axes


def new_panels(
    number: int,
    width: float = COLUMN_WIDTH,
    height: float = HEIGHT,
    across: bool = False,
    **grid: Any,
) -> tuple[Figure, list[Axes]]:
    """A figure of ``number`` panels, one below the other, that share their x axis.

    ``across``: one beside the other, with a common y axis. ``grid``: further keywords of
    ``Figure.subplots``. Within :func:`drawing_on` some axes these are the panels.
    """
    given = given_axes()
    if given:
        if len(given) != number:
            raise InputError(
                f"ax of {len(given)} panels", f"{number} for this figure", "pass those"
            )
        guest: Any = Guest(given)
        return guest, list(given)
    figure = blank_figure(width, height)
    rows, columns = (1, number) if across else (number, 1)
    grid |= {"squeeze": False, "sharex": not across, "sharey": across}
    panels = list(figure.subplots(rows, columns, **grid).ravel())
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    drawn_on(panels)
    return figure, panels


@dataclass
class Canvas:
    """Where figures are drawn: the axes that were ``given``, or the ``panels`` of a new figure."""

    given: tuple[Axes, ...]
    panels: list[Axes] = field(default_factory=list)


_CANVAS: ContextVar[Canvas | None] = ContextVar("canvas", default=None)


@contextlib.contextmanager
def drawing_on(axes: Sequence[Axes] = ()) -> Iterator[Canvas]:
    """Figures within this block are drawn on ``axes``, in place of a new figure if there are any.

    The canvas that it gives has the panels afterwards.
    """
    canvas = Canvas(tuple(axes), list(axes))
    token = _CANVAS.set(canvas)
    try:
        yield canvas
    finally:
        _CANVAS.reset(token)


def given_axes() -> tuple[Axes, ...]:
    """The axes that the caller wants drawn on; empty for a new figure."""
    canvas = _CANVAS.get()
    return () if canvas is None else canvas.given


def drawn_on(panels: Sequence[Axes]) -> None:
    """Tell :func:`drawing_on` what the panels of a new figure are."""
    canvas = _CANVAS.get()
    if canvas is not None:
        canvas.panels = list(panels)


class Guest:
    """What stands for the figure where the axes, and so the figure, are the caller's.

    Legends and titles go into the axes; size and layout of the figure are left alone, and the small
    print below a figure is left out.
    """

    def __init__(self, panels: Sequence[Axes]) -> None:
        self._panels = panels

    def legend(self, **options: Any) -> None:
        """A legend in the first panel."""
        self._panels[0].legend(**{**options, "loc": "best"})

    def colorbar(self, marks: Any, ax: Any, **options: Any) -> Any:
        """A bar of colours beside the panels."""
        figure: Any = self._panels[0].figure
        return figure.colorbar(marks, ax=list(self._panels), **options)

    def suptitle(self, text: str, **options: Any) -> None:
        """A title of the first panel."""
        self._panels[0].set_title(text, fontsize=options.get("fontsize"), loc="left")

    def supxlabel(self, text: str, **options: Any) -> None:
        """No small print."""

    def get_figheight(self) -> float:
        """Height of the caller's figure in inches."""
        figure: Any = self._panels[0].figure
        return float(figure.get_figheight())

    def set_figheight(self, height: float) -> None:
        """The size stays."""


_DIGITS = ((1, 2, 5), (1, 2, 3, 5, 7), (1, 1.5, 2, 3, 4, 5, 6, 8))
_STEPS = [1, 2, 2.5, 5, 10]
_CHARACTER = 4.6  # points: width of a character of a tick label


def tidy_ticks(axes: Axes, which: str, share: float = 0.75) -> None:
    """Tick labels that do not overlap, for the limits that the axis has now.

    Linear: small and large numbers as a factor and a power of ten. Logarithmic: powers of ten, or
    plain numbers where fewer than two of them are in view. ``share`` of the figure's width is what
    the panel has, about.
    """
    from matplotlib.ticker import NullFormatter

    axis = axes.xaxis if which == "x" else axes.yaxis
    if axis.get_scale() == "linear":
        inches = axes.figure.bbox.width / axes.figure.dpi
        room = share * inches * 72 / _CHARACTER
        _linear_ticks(axis, room if which == "x" else float("inf"))
        return
    axis.set_minor_formatter(NullFormatter())
    low, high = sorted(axis.get_view_interval())
    few = log_ticks(low, high) if axis.get_scale() == "log" else []
    if few:
        axis.set_ticks(few, [f"{tick:g}" for tick in few])
        axis.set_ticks([], minor=True)


def _linear_ticks(axis: Any, room: float) -> None:
    """At most 7 ticks, fewer where their labels have more than ``room`` characters together."""
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    formatter = ScalarFormatter(useMathText=True)
    formatter.set_powerlimits((-3, 4))
    axis.set_major_formatter(formatter)
    for most in (6, 5, 4, 3):
        axis.set_major_locator(MaxNLocator(nbins=most, steps=_STEPS))
        texts = formatter.format_ticks(axis.get_majorticklocs())
        if sum(len(text.removeprefix("$\\mathdefault{")) - 0.5 for text in texts) <= room:
            break
    axis.get_offset_text().set_fontsize(6.5)
    if axis.axis_name == "x":  # beside the axis, away from its label
        axis.get_offset_text().set(x=1.01, horizontalalignment="left")


def log_ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Ticks of a logarithmic axis with fewer than two powers of ten in view; else none."""
    from matplotlib.ticker import MaxNLocator

    powers = [10.0**k for k in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    if sum(low <= power <= high for power in powers) > 1:
        return []
    for digits in _DIGITS:
        ticks = [d * power for power in powers for d in digits if low <= d * power <= high]
        if 3 <= len(ticks) <= most:
            return ticks
    found = MaxNLocator(nbins=most - 1, steps=_STEPS).tick_values(low, high)
    return [float(tick) for tick in found if low <= tick <= high]


def model_label(model: Any) -> str:
    """One line for a title (two if long): widths, activation, standard deviations, inputs."""
    if model is None:
        return "imported counts"
    if hasattr(model, "alpha"):
        return rf"random DNF, $n={model.n}$, $\alpha={model.alpha:g}$"
    inputs = {"01": r"$\{0,1\}$", "pm1": r"$\pm1$"}[model.encoding]
    inputs = inputs if model.inputs is None else f"{model.m} inputs"
    if hasattr(model, "make_name"):
        return f"{model.make_name.split(':')[-1]}, $n={model.d}$,\n{_sigmas(model)}, {inputs}"
    widths = list(map(str, model.hidden))
    if len(widths) > 3:
        same = len(set(widths)) == 1
        widths = [rf"${widths[0]}^{{\times{len(widths)}}}$"] if same else [*widths[:2], "..."]
    sizes = ", ".join([str(model.d), *widths, "1"])
    activation = f" {model.activation_name.split(':')[-1]}" if model.hidden else ""
    uniform = " uniform" if model.weight_dist == "uniform" else ""
    head, tail = f"({sizes}){activation}{uniform}", f"{_sigmas(model)}, {inputs}"
    if model.masked:
        kept = "" if model.rescale else ", not rescaled"
        tail += f",\ndensity {_sigma(model.density)}{kept}"
    return f"{head},{chr(10) if len(head) + len(_sigma(model.sigma_w)) > 24 else ' '}{tail}"


def _sigmas(model: Any) -> str:
    if getattr(model, "init", "simprior") == "own":
        return "own initialiser"
    return rf"$\sigma_w={_sigma(model.sigma_w)}$, $\sigma_b={_sigma(model.sigma_b)}$"


def _sigma(value: float | tuple[float, ...]) -> str:
    if isinstance(value, tuple):
        text = [f"{v:g}" for v in value]
        return "(" + ", ".join(text if len(text) <= 3 else [*text[:2], "..."]) + ")"
    return f"{value:.4g}"


_LABELS = {
    "pearson": "Pearson $r$",
    "spearman": r"Spearman $\rho$",
    "kendall": r"Kendall $\tau_b$",
    "partial_pearson": "partial $r$",
    "partial_spearman": r"partial $\rho$",
    "p_value": "$p$",
    "p_adjusted": "$p$ (BH)",
    "p_holm": "$p$ (Holm)",
    "partial_p_value": "partial $p$",
    "partial_p_adjusted": "partial $p$ (BH)",
    "partial_p_holm": "partial $p$ (Holm)",
    "test_error": "test error",
    "held_out_error": "error on held-out inputs",
    "total_error": "error over all inputs",
    "train_error": "training error",
    "majority_error": "error of the commoner class",
    "train_size": "training examples",
    "attack": "attack points",
    "corrupt": "share of labels replaced by coin flips",
    "sigma_w": r"$\sigma_w$",
    "sigma_b": r"$\sigma_b$",
    "optimizer": "optimiser",
    "alpha": r"$\alpha$",
    "target": "target",
    "n": "input bits $n$",
    "depth": "hidden layers",
    "width": "width",
    "steps": "steps",
    "data_seed": "data seed",
    "activation": "activation",
    "batch_size": "batch size",
    "lr": "learning rate",
    "options": "options of the optimiser",
    "loss": "loss",
    "p_constant": "P(constant)",
    "lz76_nonconstant": "LZ complexity given non-constant",
    "sensitivity": "mean sensitivity",
    "sensitivity_nonconstant": "mean sensitivity given non-constant",
    "relevant_inputs_nonconstant": "relevant inputs given non-constant",
    "component": "component",
    "density_first": "density of the first layer",
    "density_hidden": "density of the hidden layers",
    "functions": "distinct functions",
    "fitted_share": "share fitted",
    "target_lz76": "LZ complexity of the target",
    "target_entropy": "entropy of the target",
    "target_log_p": r"$\ln P$(target)",
}
_UNITS = {
    "lz76_nonconstant": "bits",
    "target_lz76": "bits",
    "target_entropy": "bits",
    "target_log_p": "nats",
}


def name_of(column: str | None) -> str:
    """Short name of a column for ticks and legends."""
    if column is None:
        return ""
    if ", " in column:  # a group of several
        return ", ".join(map(name_of, column.split(", ")))
    known = MEASURES.get(column)
    return str(known.label) if known is not None else _LABELS.get(column, column)


def axis_label(column: str) -> str:
    """Name of a column with its unit, for an axis."""
    known = MEASURES.get(column)
    unit = str(known.unit) if known is not None else _UNITS.get(column, "")
    return f"{name_of(column)} ({unit})" if unit and unit not in ("1", "-") else name_of(column)


FORMS = ("pdf", "png")


def write_figures(
    figures: Iterable[tuple[str, str, Figure]], folder: Path, subject: str
) -> list[Path]:
    """Write each of ``figures`` (name, title, figure) into ``folder``, as PDF and as PNG.

    ``subject`` says what made them; it goes into the metadata with the title. ``figures`` may be a
    generator: each figure is written before the next is drawn.

    Returns
    -------
    list of Path
        The files written, PDF before PNG.

    Raises
    ------
    StoreError
        The folder or a file cannot be written.
    """
    with translate_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, title, figure in figures:
        for form in FORMS:
            files.append(folder / f"{name}.{form}")
            save_figure(figure, files[-1], subject, title)
    return files


def save_figure(figure: Figure, path: Path, subject: str, title: str) -> None:
    """Write ``figure`` as PDF or PNG, by the suffix of ``path``, atomically.

    No date and no random identifier is written: equal figures are equal files. Fonts are embedded.
    ``subject`` goes into the metadata. Raises :class:`StoreError` if the file cannot be written.
    """
    form = path.suffix[1:]
    metadata: dict[str, Any] = {"Title": title, "Subject": subject, "Creator": "simprior"}
    if form == "pdf":
        metadata["CreationDate"] = None
    else:
        metadata = {"Title": title, "Description": subject, "Software": "simprior"}
    _print_bad_maths(figure)
    with style(), atomic_path(path) as temporary:
        figure.savefig(temporary, format=form, dpi=DPI, metadata=metadata)


def _print_bad_maths(figure: Figure) -> None:
    """Show a text whose ``$...$`` is no mathematics (a name of a file, a setting) as it is."""
    from matplotlib.cbook import is_math_text
    from matplotlib.mathtext import MathTextParser
    from matplotlib.text import Text

    parser = MathTextParser("path")
    for text in figure.findobj(Text):
        if not isinstance(text, Text) or not is_math_text(text.get_text()):
            continue
        for line in text.get_text().splitlines():
            try:
                if is_math_text(line):
                    parser.parse(line)
            except ValueError:
                text.set_parse_math(False)
