"""Tables with readable headings and captions, in the forms a paper needs: LaTeX, CSV, Parquet.

Tables of functions have columns and captions of their own (:func:`function_table`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from simprior.analysis.figures.style import axis_label, name_of
from simprior.analysis.text import tables
from simprior.errors import InputError

if TYPE_CHECKING:
    from simprior.boolean.sampling.counts import FunctionCounts
    from simprior.boolean.sampling.watch import WatchResult

CAPTIONS = {
    "measures": "Measures of networks, or of functions; a row each.",
    "correlations": "Correlation of each measure with the outcome; a row a measure.",
    "granulated": "Granulated rank correlation; a row a measure and hyperparameter.",
    "conditional-mi": "Conditional mutual information; a row a measure.",
    "environments": "Sign errors over environments; a row a measure.",
    "baselines": "What predicts without a measure, and what measures add; a row a measure.",
    "rows": "The rows that were correlated.",
    "sweep": "Runs of a grid; a row a cell.",
    "targets": "Targets of the training runs and test errors; a row a training run.",
    "sensitivity": "Random networks: distance to the other class and flips; a row a length $n$.",
    "sensitivity-fits": "Growth with the length $n$; a row a fit.",
    "sensitivity-gp": "Flips predicted by the Gaussian process; a row a length $n$ and number $k$.",
    "trained-sensitivity": "Trained networks: distance to the other class and flips; a row each.",
    "networks": "Distance and flips of each network; a row a start string.",
}
"""What the rows of a table of a run are, by the name of its file."""

NAMED = ("measure", "given", "axis")
"""Columns whose values are names of columns."""

_NAMES = {
    "member": "network",
    "distance": "distance $h$",
    "ratio": r"$h/\sqrt{n/\ln n}$",
    "asymptote": r"$\sqrt{n/(2\pi\ln n)}$",
    "gp_distance_low": "GP floor of $h$",
    "gp_flips": "flips (GP)",
    "flips_share": "$flips/n$",
    "exact_distance": "exact distance",
    "exact_flips": "exact flips",
    "not_found": "no other class",
    "chi2": r"$\chi^2$",
    "dof": "degrees of freedom",
    "p": "P(f)",
    "psi": r"$\psi$",
    "steps_to_fit_median": "median steps to fit",
    "target_entropy": "entropy of the target",
}
_PLAIN = {
    r"\sqrt{n/\ln n}": "√(n/ln n)",
    r"\sqrt{n/(2\pi\ln n)}": "√(n/(2π ln n))",
    r"\ln": "ln",
    r"\chi^2": "χ²",
    r"\sigma": "σ",
    r"\alpha": "α",
    r"\tau": "τ",
    r"\rho": "ρ",
    r"\varepsilon": "ε",
    r"\psi": "ψ",
    **dict.fromkeys([r"\mathrm", "$", "{", "}"], ""),
}
"""Mathematics in the order in which it is replaced, with what stands for it in plain text."""


def write_forms(
    frame: pd.DataFrame,
    stem: Path,
    caption: str,
    label: str,
    note: str,
    paper: pd.DataFrame | None = None,
) -> Iterator[Path]:
    """``stem.tex`` (siunitx), ``stem.csv`` and ``stem.parquet``, each with the command in it.

    ``paper`` is the table in LaTeX, which has a page's width (default: ``frame`` as well). Yields
    the path of each file once it is written.
    """
    for form, ending in (("latex", "tex"), ("csv", "csv"), ("parquet", "parquet")):
        path = stem.with_name(f"{stem.name}.{ending}")
        shown = frame if paper is None or form != "latex" else paper
        write(shown, path, form, note, caption, label)
        yield path


def render(frame: pd.DataFrame, form: str, caption: str, label: str, note: str = "") -> str:
    """The table as text (:func:`simprior.analysis.text.tables.render`), in LaTeX for a paper."""
    shown = named(frame) if form == "latex" else frame
    return tables.render(shown, form, caption, label, note, headings(frame))


def write(frame: pd.DataFrame, path: Path, form: str, note: str, caption: str, label: str) -> None:
    """Write the table to a file, in LaTeX one for a paper, with ``note`` as a comment.

    See :func:`simprior.analysis.text.tables.write`. Raises :class:`StoreError`.
    """
    shown = named(frame) if form == "latex" else frame
    options = {"caption": caption, "label": label, "names": headings(frame)}
    tables.write(shown, path, form, note, **options)


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as a reader wants it: measures by their names, errors beside their values.

    Names are written out in the columns of :data:`NAMED`. A column ``value`` gets the columns
    ``stderr``, ``low`` and ``high`` as its error and limits.
    """
    if "value" in frame:
        frame = frame.rename(columns={end: f"value_{end}" for end in ("stderr", "low", "high")})
    for column in NAMED:
        if column in frame and frame[column].dtype.kind not in "fiu":
            names = [name_of(str(value)) or "–" for value in frame[column]]
            frame = frame.assign(**{column: names})
    return frame


def headings(frame: pd.DataFrame) -> dict[str, str]:
    """Headings of the columns of a table; ``$...$`` is mathematics."""
    return {str(name): _heading(str(name)) for name in frame.columns}


def _heading(column: str) -> str:
    known = name_of(column)
    return _NAMES.get(column, axis_label(column) if known != column else column.replace("_", " "))


def words(text: str) -> str:
    """A heading or caption without the marks of mathematics."""
    if "$" not in text:
        return text
    for mark, sign in _PLAIN.items():
        text = text.replace(mark, sign)
    return text


def caption_of(file: str, shown: int = 0, total: int = 0) -> str:
    """What the rows of the table ``file`` of a run are, and how many of them these are."""
    stem = Path(file).stem
    caption = CAPTIONS.get(stem, f"The table {stem}.")
    return caption if shown >= total else f"{caption} The first {shown:,} of {total:,}."


def function_table(
    counts: FunctionCounts | WatchResult, top: int | None = 20, columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """The ``top`` most frequent functions (all for None), with the named columns in that order.

    See :meth:`FunctionCounts.to_frame` for the columns. Raises :class:`InputError` for a column
    that does not exist.
    """
    frame = counts.to_frame(top=top)
    for name in columns or ():
        if name not in frame.columns:
            raise InputError(
                f"columns={name}", f"some of {', '.join(frame.columns)}", "check the spelling"
            )
    return frame if columns is None else frame[list(columns)]


def functions_caption(counts: FunctionCounts | WatchResult, shown: int) -> str:
    """What the first ``shown`` rows of a table of functions are."""
    functions = "function" if shown == 1 else "functions"
    if hasattr(counts, "variance_reduction"):  # watched: in the order given, not by frequency
        total = len(counts.p)
        first = "" if shown == total else f"first {shown} of the "
        return f"The {first}{total} watched {functions if total == shown else 'functions'}."
    caption = f"The {shown} most frequent {functions}."
    unlisted = getattr(counts, "unlisted", 0)
    if not unlisted:
        return caption
    share = 100 * (1 - unlisted / counts.samples)
    return f"{caption} The whole table lists {share:.3g} % of {counts.samples:,} samples."
