"""Tables with readable headings and captions, in the forms a paper needs: LaTeX, CSV, Parquet.

Tables of functions have columns and captions of their own (:func:`function_table`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from simprior.analysis.figures.style import axis_label, name_of
from simprior.analysis.text import latex, tables
from simprior.analysis.text.numbers import own_columns
from simprior.boolean.readable import readable
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
    "compare": "Two distributions over functions, A and B; a row a statistic.",
    "pairs": "Functions of two runs, A and B; a row a function.",
    "logp": r"$\ln P(f)$ in nats, under the prior of infinite width; a row an estimate.",
    "evidence": "What was computed for each data set.",
    "findings": "Findings: contrasts over data sets, with their verdicts; a row each.",
    "memorised": "How far each example is memorised by trained networks and by the posterior.",
    "influence": "How far each example changes what is found on another input.",
    "bounds": r"PAC-Bayes bounds from $\ln P(C(S))$ (nats); a row a size of $S$.",
    "rare": r"$\ln P$ of rare outputs of one network, in nats; a row an estimate.",
    "removal": "Errors outside $S$ after removing examples; a row a share and order.",
    "subsets": "Networks trained on random subsets of $S$; a row a subset and input.",
    "runs": "Trained networks; a row each.",
}
"""What the rows of a table of a run are, by the name of its file."""

NAMED = ("measure", "given", "axis")
"""Columns whose values are names of columns."""
ESTIMATES = ("value", "p", "logp")
"""Columns whose standard error and limits are called ``stderr``, ``low`` and ``high``."""
FUNCTIONS = (
    *("rank", "representative", "function", "p", "orbit", "test_error", "lz76", "ones"),
    *("entropy", "count", "variance_reduction", "members", "design_effect"),
)
"""Columns of a table of functions in LaTeX, the most wanted first."""

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
    "p": "$P(f)$",
    "logp": r"$\ln P(f)$",
    "log10": r"$\log_{10} P(f)$",
    "log10_p": r"$\log_{10} P(f)$",
    "function": "function $f$",
    "orbit": "class size",
    "stderr": "standard error",
    "p_low": "$P$ from",
    "p_high": "$P$ to",
    "low": "from",
    "high": "to",
    "pareto_k": r"$\hat k$",
    "ess": "effective draws",
    "name": "name",
    "matched": "parts of A and B",
    "noise_ceiling_a": "parts of A",
    "noise_ceiling_b": "parts of B",
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
    r"\log_{10}": "log10",
    r"\hat k": "k̂",
    r"\tilde K": "K̃",
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
    keep: bool = False,
) -> Iterator[Path]:
    """``stem.tex``, ``stem.csv`` (with ``stem.csv.json``) and ``stem.parquet``.

    ``paper`` is the table in LaTeX (default: ``frame`` as well), as wide as the text of a
    two-column page; columns that do not fit are left out, with ``keep`` the table is scaled down.
    Yields the path of each file once it is written.
    """
    for form, ending in (("latex", "tex"), ("csv", "csv"), ("parquet", "parquet")):
        path = stem.with_name(f"{stem.name}.{ending}")
        shown = frame if paper is None or form != "latex" else paper
        yield from write(shown, path, form, note, caption, label, width="text", keep=keep)


def render(
    frame: pd.DataFrame, form: str, caption: str, label: str, note: str = "", **options: Any
) -> str:
    """The table as text (:func:`simprior.analysis.text.tables.render`), with readable headings."""
    shown = named(frame) if form == "latex" else frame
    return tables.render(shown, form, caption, label, note, headings(shown), **options)


def write(
    frame: pd.DataFrame,
    path: Path,
    form: str,
    note: str,
    caption: str,
    label: str,
    **options: Any,
) -> list[Path]:
    """Write the table to a file, with ``note`` in it or beside it; gives the files.

    See :func:`simprior.analysis.text.tables.write`. Raises :class:`StoreError`.
    """
    shown = named(frame) if form == "latex" else frame
    texts = {"caption": caption, "label": label, "names": headings(shown)}
    return tables.write(shown, path, form, note, **texts, **options)


def shown_columns(frame: pd.DataFrame, width: str) -> list[str]:
    """The columns of a table that have room in LaTeX, with their errors and limits."""
    shown = named(frame)
    return latex.shown_columns(shown, width, headings(shown))


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as a reader wants it: measures by their names, errors beside their values.

    Names are written out in the columns of :data:`NAMED`, and those of the statistics of a
    comparison. The first of :data:`ESTIMATES` that there is gets the columns ``stderr``, ``low``
    and ``high`` as its error and limits.
    """
    for estimate in [name for name in ESTIMATES if name in frame][:1]:
        ends = [end for end in ("stderr", "low", "high") if f"{estimate}_{end}" not in frame]
        frame = frame.rename(columns={end: f"{estimate}_{end}" for end in ends})
    for column in NAMED:
        if column in frame and frame[column].dtype.kind not in "fiu":
            names = [name_of(str(value)) or "–" for value in frame[column]]
            frame = frame.assign(**{column: names})
    if {"name", "noise_ceiling_a"} <= set(frame):
        frame = frame.assign(name=[statistic(str(name)) for name in frame["name"]])
    return frame


SYMBOLS = {"lz76": r"$\tilde K$ is the Lempel-Ziv complexity in bits."}
"""Sentences of captions on columns of functions whose headings are symbols."""


def symbols(frame: pd.DataFrame, width: str) -> str:
    """What the symbols in the headings of a table of functions are, with a blank before."""
    shown = shown_columns(frame, width)
    return "".join(f" {text}" for name, text in SYMBOLS.items() if name in shown)


def statistic(name: str) -> str:
    """The name of a statistic of a comparison in words."""
    text = name.replace("_held_out", ", held out").replace("_", " ")
    for plain, proper in (("jensen shannon", "Jensen-Shannon"), ("hellinger", "Hellinger")):
        text = text.replace(plain, proper)
    return re.sub(r" ([ab])$", lambda end: f" {end[1].upper()}", text)


def headings(frame: pd.DataFrame) -> dict[str, str]:
    """Headings of the columns of a table; ``$...$`` is mathematics.

    In a table of functions the complexity is a symbol, which :func:`symbols` explains.
    """
    short = {"lz76": r"$\tilde K$", "ones": "ones"} if {"p", "lz76"} <= set(frame) else {}
    return short | {str(name): _heading(str(name)) for name in frame.columns if name not in short}


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
    return _chosen(counts.to_frame(top=top), columns)


def pooled_table(
    counts: FunctionCounts, top: int | None = 20, columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """The ``top`` classes of functions, equal up to the symmetries of the prior, by descending P.

    ``function`` is a member, ``representative`` the same in words
    (:func:`simprior.boolean.readable.readable`); ``p`` with its interval is the probability of
    *each* member, ``orbit`` the number of members. Raises :class:`InputError` for counts that were
    not pooled.
    """
    pooled = counts.pooled
    if pooled is None:
        raise InputError("counts that are not pooled", "a run with --pool", "sample with --pool")
    frame = pooled.to_frame(top=None)
    order = np.argsort(-frame["p"].to_numpy(), kind="stable")[:top]
    words = pooled.words[order]
    texts = readable(words, counts.m, counts.n)
    frame = frame.iloc[order].reset_index(drop=True)
    frame["rank"] = np.arange(1, len(frame) + 1)
    frame.insert(1, "representative", pd.Series(texts, dtype=object))
    return _chosen(frame, columns)


def _chosen(frame: pd.DataFrame, columns: Sequence[str] | None) -> pd.DataFrame:
    for name in columns or ():
        if name not in frame.columns:
            raise InputError(
                f"columns={name}", f"some of {', '.join(frame.columns)}", "check the spelling"
            )
    return frame if columns is None else frame[list(columns)]


def functions_for_paper(frame: pd.DataFrame) -> pd.DataFrame:
    """A table of functions with its columns as a page wants them, the most wanted first.

    A design effect that is 1 throughout, and the hex beside a representative, say nothing more.
    """
    shown = named(frame)
    flat = "design_effect" in frame and (frame["design_effect"] == 1).all()
    useless = {"design_effect"} if flat else set()
    useless |= {"function"} if "representative" in frame else set()
    ends = ("", "_stderr", "_low", "_high")
    wanted = [name for name in FUNCTIONS if name not in useless]
    rest = [n for n in own_columns(shown) if n not in FUNCTIONS]
    return shown[[n + end for n in (*wanted, *rest) for end in ends if n + end in shown]]


def functions_caption(
    counts: FunctionCounts | WatchResult, shown: int, pooled: bool = False
) -> str:
    """What the first ``shown`` rows of a table of functions are, and of what."""
    functions = "function" if shown == 1 else "functions"
    if hasattr(counts, "variance_reduction"):  # watched: in the order given, not by frequency
        total = len(counts.p)
        first = "" if shown == total else f"first {shown} of the "
        caption = f"The {first}{total} watched {functions if total == shown else 'functions'}"
        return f"{caption}, in {counts.samples:,} networks."
    if pooled and counts.pooled is not None:
        total = counts.pooled.functions
        return (
            f"The {shown:,} most probable of {total:,} classes of functions that are equal but for "
            f"the symmetries of the prior; $P(f)$ is that of each member. {counts.samples:,} "
            "networks."
        )
    of = f" of {counts.functions:,}" if shown < counts.functions else ""
    caption = f"The {shown:,} most frequent {functions}{of}, in {counts.samples:,} samples."
    unlisted = counts.unlisted
    if not unlisted:
        return caption
    share = 100 * (1 - unlisted / counts.samples)
    return f"{caption} The whole table lists {share:.3g} % of {counts.samples:,} samples."
