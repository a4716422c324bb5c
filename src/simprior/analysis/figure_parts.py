"""Parts that figures share: points of groups, axes that fit the quantity, legends, small print."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.analysis.figure_frames import name_of, positive_span
from simprior.analysis.measure_names import MEASURES, WEIGHT_GROUPS
from simprior.analysis.style import colours, tidy_ticks

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_FEW = 8
_LINEAR = ("target_lz76", "target_entropy", "target_log_p")
_AREA, _SMALLEST = 7.0, 3.0  # points^2: of one network, at least
_CHARACTER = 0.023  # of the width of an axis


def styled(parts: Any) -> Iterator[tuple[Any, Any, str]]:
    """Each of ``parts`` with its colour and its marker."""
    palette = colours()
    for i, part in enumerate(parts):
        yield part, palette[i % len(palette)], MARKERS[i % len(MARKERS)]


def face(colour: Any, known: Any) -> list[Any]:
    """Colours of markers: ``colour``, white where ``known`` is false."""
    return [colour if one else "white" for one in known]


def proxy(colour: Any, marker: str, label: str, filled: bool = True, line: str = "none") -> Any:
    """A handle of a legend."""
    from matplotlib.lines import Line2D

    return Line2D(
        [], [], color=colour, marker=marker, ls=line, ms=3, lw=0.8, mew=0.7, label=label,
        mfc=colour if filled else "white",
    )  # fmt: skip


def bars(data: pd.DataFrame, name: str) -> np.ndarray:
    """(2, rows) lengths of the bars from ``name`` to ``<name>_low`` and ``<name>_high``."""
    value = data[name].to_numpy(float)
    ends = np.stack([value - data[f"{name}_low"], data[f"{name}_high"] - value])
    return np.nan_to_num(ends.clip(0))


def places(data: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """Rows of equal ``x`` and ``y`` (to rounding) as one, with their number: ``number``."""
    good = data[np.isfinite(data[x]) & np.isfinite(data[y])]
    keys = [good[name].astype(np.float32).rename(i) for i, name in enumerate((x, y))]
    by = good.groupby(keys, sort=False)
    return good.assign(number=by[x].transform("size"))[by.cumcount() == 0]


def areas(number: np.ndarray, most: int, largest: float = 60.0) -> np.ndarray:
    """Areas of markers (points^2) in proportion to ``number``, at most ``largest`` for ``most``."""
    unit = min(_AREA, largest / max(most, 1))
    return np.maximum(unit * number, _SMALLEST)


def logarithmic(column: str) -> bool:
    """May this quantity have a logarithmic axis? Settings and measures of weights that are not
    logarithms; the others always have a linear one, so that figures of them compare."""
    if column in MEASURES:
        return MEASURES[column].group in WEIGHT_GROUPS and not MEASURES[column].log
    return column not in _LINEAR


def scale(axes: Axes, column: str, values: np.ndarray) -> None:
    """The x axis of ``column``: logarithmic if :func:`logarithmic` and over more than a factor 10.

    Few values are the ticks themselves.
    """
    if not logarithmic(column) or positive_span(values) <= 10:
        tidy_ticks(axes, "x")
        return
    axes.set_xscale("log")
    known = np.unique(values[np.isfinite(values)])
    if len(known) > _FEW:
        tidy_ticks(axes, "x")
        return
    axes.xaxis.set_ticks(list(known), _spaced(axes, known))
    axes.xaxis.set_ticks([], minor=True)


def _spaced(axes: Axes, ticks: np.ndarray) -> list[str]:
    """Labels of ticks of a logarithmic axis, empty where they would run into the one before."""
    low, high = np.log(axes.get_xlim())
    at = (np.log(ticks) - low) / (high - low)
    labels: list[str] = []
    last, size = -math.inf, 0
    for place, tick in zip(at, ticks, strict=True):
        text = f"{tick:g}"
        fits = place - last >= _CHARACTER * ((len(text) + size) / 2 + 1.5)
        labels.append(text if fits else "")
        if fits:
            last, size = place, len(text)
    return labels


def legend(figure: Figure, handles: Sequence[Any], by: str | None = None, columns: int = 3) -> None:
    """A legend above the panels, titled with the group ``by``; the figure grows with its rows."""
    handles = [handle for handle in handles if handle.get_label()]
    if not handles:
        return
    rows = math.ceil(len(handles) / columns)
    if rows > 2:
        figure.set_figheight(figure.get_figheight() + 0.13 * (rows - 2))
    figure.legend(
        handles=handles, loc="outside upper center", ncols=min(columns, len(handles)),
        title=name_of(by) if by else None, columnspacing=1.0, handletextpad=0.4,
    )  # fmt: skip


def small_print(figure: Figure, *lines: str) -> None:
    """What points, bars and open markers are, below the figure."""
    text = "\n".join(line for line in lines if line)
    if text:
        figure.supxlabel(text, fontsize=5.8, color="0.3")
