"""LaTeX tables with booktabs rules: of functions (:func:`latex`), and for papers with siunitx.

In a table of functions numbers are mathematics, and the columns ``p`` and ``stderr`` become one
column "value plus-minus error". In a table for a paper (:func:`siunitx_table`) a column with a
``<name>_stderr`` beside it becomes ``value(error)`` with two digits of the error, which siunitx
reads (``0.384(66)``); one with ``<name>_low`` and ``<name>_high`` becomes a value and a column with
its interval, both with the decimals of :mod:`simprior.analysis.text.numbers`. A table of more than
:data:`PAGE` rows breaks over pages. The preamble needs booktabs, for papers also siunitx, and for
long tables longtable.

A frame as a table in any form, as text or in a file, with a note on how it was made.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from simprior.analysis.text.html import P_VALUES, Column, columns_of
from simprior.analysis.text.numbers import (
    four_digits,
    interval,
    p_value,
    plain_column,
    plus_minus,
    to_decimals,
    value_error,
)
from simprior.analysis.text.plaintext import html_comment, json_text, markdown
from simprior.errors import InputError
from simprior.runs.files import comment, csv_text, write_bytes, write_table

PAGE = 40
"""Rows of a table on one page; a longer one breaks over pages (``longtable``)."""
PREAMBLE = r"\usepackage{booktabs,longtable,siunitx}"
_CHARACTERS = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{chr(code): " " for code in (*range(32), 127)},
}
_SIGNS = {
    "σ": "sigma",
    "α": "alpha",
    "ρ": "rho",
    "τ": "tau",
    "ε": "varepsilon",
    "δ": "delta",
    "ζ": "zeta",
    "β": "beta",
    "±": "pm",
    "≤": "le",
    "≥": "ge",
}
_LABEL = re.compile(r"[\w :;.,+\-/*@()=!]+")
_MATHS = re.compile(r"(\$[^$]*\$)")
_COMMANDS = """
alpha beta gamma delta epsilon varepsilon zeta eta theta kappa lambda mu nu xi pi rho
sigma tau phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega ell infty
frac sqrt sum prod int pm mp le ge leq geq ne neq ll gg lt gt approx sim simeq propto times cdot
in notin subset cup cap to mapsto mid dots ldots cdots langle rangle lfloor rfloor lceil rceil
ln log exp max min sup inf sin cos tan arcsin arccos arctan Pr mathrm mathbf mathcal mathit
hat tilde bar vec dot overline underline left right quad prime partial nabla
"""
_COMMAND = re.compile(rf"\\(?:(?:{'|'.join(_COMMANDS.split())})(?![A-Za-z@])|[,;:! ])")


def latex(frame: pd.DataFrame, caption: str, label: str) -> str:
    """A table of functions: text escaped, numbers as mathematics, ``p`` merged with ``stderr``.

    Raises :class:`InputError` for a label with special characters.
    """
    label = check_label(label)
    heads, kinds, columns = [], [], []
    merged = {"p", "stderr"} <= set(frame.columns)
    for name in frame.columns:
        values = frame[name].tolist()
        if merged and name == "stderr":
            continue
        kinds.append("l" if frame[name].dtype.kind in "OUT" else "r")
        if merged and name == "p":
            heads.append(r"p $\pm$ stderr")
            pairs = zip(values, frame["stderr"].tolist(), strict=True)
            columns.append([f"${plus_minus(p, error)}$" for p, error in pairs])
        else:
            heads.append(escape_latex(name))
            columns.append([_cell(value, name not in ("p_low", "p_high")) for value in values])
    lines = _environment(kinds, heads, columns, escape_latex(caption), label, siunitx=False)
    return "\n".join([*lines, ""])


def siunitx_table(
    frame: pd.DataFrame,
    caption: str,
    label: str,
    note: str = "",
    names: Mapping[str, str] | None = None,
) -> str:
    r"""A table for a paper: a complete ``table`` (``longtable``) environment.

    Parameters
    ----------
    frame : DataFrame
        Any columns; those that end in ``_stderr``, ``_low``, ``_high`` join the one they are of.
    caption, label : str
        Special characters of the caption are escaped (``$...$`` is left as mathematics if it holds
        nothing but mathematics, see :func:`escape_text`), and refused in the label.
    note : str
        The command that made the table; one comment line.
    names : mapping, optional
        Headings by column name (``$...$`` is mathematics); the column's name otherwise.

    Raises
    ------
    InputError
        A table without columns, or a label with special characters.
    """
    label = check_label(label)
    if not len(frame.columns):
        raise InputError("a table without columns", "at least one column", "choose columns")
    heads, kinds, columns = [], [], []
    for column in columns_of(frame):
        cells, kind = _cells(column)
        heading = escape_text((names or {}).get(column.name, column.name))
        heads.append(heading if kind == "l" else f"{{{heading}}}")
        kinds.append(kind)
        columns.append(cells)
        if column.has_interval:
            heads.append("interval")
            kinds.append("r")
            columns.append([interval(*row) for row in column.intervals()])
    comment = [f"% {' '.join(note.split())}"] if note else []
    lines = _environment(kinds, heads, columns, escape_text(caption), label, siunitx=True)
    return "\n".join([*comment, *lines, ""])


def _environment(
    kinds: Sequence[str],
    heads: Sequence[str],
    columns: Sequence[Sequence[str]],
    caption: str,
    label: str,
    siunitx: bool,
) -> list[str]:
    """The lines of a table on one page, or of one that repeats its headings on every page.

    ``kinds``, ``heads`` and ``columns`` hold one entry a column; all texts are LaTeX.
    """
    rows = [" & ".join(row) + r" \\" for row in zip(*columns, strict=True)]
    head = [r"\toprule", " & ".join(heads) + r" \\", r"\midrule"]
    if len(rows) <= PAGE:
        preamble = [f"% preamble: {PREAMBLE.replace(',longtable', '')}"] if siunitx else []
        centred = [r"\centering"] if siunitx else []
        title = [rf"\caption{{{caption}}}", rf"\label{{{label}}}"]
        begin = [
            r"\begin{table}[htbp]",
            *centred,
            *title,
            rf"\begin{{tabular}}{{{''.join(kinds)}}}",
        ]
        end = [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
        return [*preamble, *begin, *head, *rows, *end]
    preamble = [f"% preamble: {PREAMBLE}"] if siunitx else []
    begin = [
        rf"\begin{{longtable}}{{{''.join(kinds)}}}",
        rf"\caption{{{caption}}} \label{{{label}}} \\",
    ]
    again = [] if siunitx else [rf"\caption[]{{{caption}}} \\"]
    words = "continued on the next page" if siunitx else "Continued on next page"
    foot = [r"\midrule", rf"\multicolumn{{{len(kinds)}}}{{r}}{{{words}}} \\"]
    foot += [] if siunitx else [r"\midrule"]
    foot += [r"\endfoot", r"\bottomrule", r"\endlastfoot"]
    heading = [*head, r"\endfirsthead", *again, *head, r"\endhead"]
    return [*preamble, *begin, *heading, *foot, *rows, r"\end{longtable}"]


# Text


def escape_latex(text: str) -> str:
    """``text`` with the ten special characters of LaTeX escaped, control characters as blanks."""
    return "".join(_CHARACTERS.get(character, character) for character in text)


def escape_text(text: str) -> str:
    r"""Text for LaTeX: special characters escaped outside ``$...$``, Greek as mathematics.

    Mathematics stays only with balanced braces and commands of a short list (Greek, fractions,
    functions): anything else, such as ``$\input{x}$``, is printed as text.
    """
    parts = _MATHS.split(text)
    return "".join(part if _is_maths(part) else _escape(part) for part in parts)


def _is_maths(text: str) -> bool:
    """Whether this is ``$...$`` that cannot do anything but print."""
    if not _MATHS.fullmatch(text) or not text.isprintable():
        return False
    depth, rest = 0, _COMMAND.sub("", text[1:-1])
    for character in rest:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth < 0:
            return False
    return depth == 0 and not set(rest) & set("\\%#&~") and "^^" not in text


def _escape(text: str) -> str:
    return "".join(
        rf"$\{_SIGNS[letter]}$" if letter in _SIGNS else escape_latex(letter) for letter in text
    )


def check_label(label: str) -> str:
    r"""A label for LaTeX, else :class:`InputError`: ``\label`` cannot hold escaped characters."""
    if not _LABEL.fullmatch(label):
        raise InputError(
            f"label={label[:60]!r}",
            "letters, digits, blanks and . , : ; - _ + / * @ ( ) = !",
            "pass for example --label tab:functions",
        )
    return label


def safe_label(text: str) -> str:
    """A label made of any text, such as the name of a file."""
    return re.sub(r"[^\w :;.,+\-/*@()=!]", "-", text) or "tab"


# Cells


def _cell(value: Any, trim: bool) -> str:
    """A cell of a table of functions."""
    if isinstance(value, float):
        return four_digits(value, trim)
    if not isinstance(value, str):
        return str(value)
    escaped = _guarded(escape_latex(value))
    return rf"\texttt{{{escaped}}}" if value.startswith("0x") else escaped


def _guarded(cell: str) -> str:
    r"""A cell that the ``\\`` of the row before it cannot take for its argument."""
    return "{}" * cell.lstrip().startswith(("[", "*")) + cell


def _word(value: Any) -> str:
    """A cell of a table for a paper that is no number."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "--"
    if isinstance(value, str) and value.startswith("0x"):
        return rf"\texttt{{{escape_latex(value)}}}"
    flag = isinstance(value, bool | np.bool_)
    return _guarded(escape_text(("yes" if value else "no") if flag else str(value)))


def _cells(column: Column) -> tuple[list[str], str]:
    """Cells of a column and its kind: ``l``, or an S column wide enough for them."""
    if not column.numeric:
        return [_word(value) for value in column.series], "l"
    values = column.numbers()
    if column.name in P_VALUES:
        cells = [p_value(value) for value in values]
    elif column.has_error:
        pairs = zip(values, column.numbers("_stderr"), strict=True)
        cells = [value_error(value, error) for value, error in pairs]
    elif column.has_interval:
        cells = to_decimals(values, [decimals for _, _, decimals in column.intervals()])
    else:
        cells = plain_column(values)
    return cells, _s_column(cells)


def _s_column(cells: Sequence[str]) -> str:
    """``S[table-format=...]`` for these cells."""
    number = re.compile(r"(-?)(\d+)(?:\.(\d+))?(?:\(([\d.]+)\))?(?:e(-?)(\d+))?")
    found = [match.groups("") for cell in cells if (match := number.fullmatch(cell))]
    minus, whole, decimals, error, exponent_minus, exponent = (
        max((len(part.replace(".", "")) for part in parts), default=0)
        for parts in (zip(*found, strict=True) if found else [()] * 6)
    )
    text = f"{'-' * minus}{max(whole, 1)}.{decimals}"
    text += f"({error})" if error else ""
    text += f"e{'-' * exponent_minus}{exponent}" if exponent else ""
    return f"S[table-format={text}]"


TEXT_FORMS = ("csv", "latex", "markdown", "json")
FORMS = (*TEXT_FORMS, "parquet")


def render(
    frame: pd.DataFrame,
    form: str,
    caption: str = "The most frequent functions.",
    label: str = "tab:functions",
    note: str | None = None,
    names: Mapping[str, str] | None = None,
) -> str:
    """The table as text that ends with a newline.

    Parameters
    ----------
    frame : DataFrame
        Any columns. CSV and JSON keep every digit, and CSV texts start no formula
        (:func:`simprior.runs.files.csv_text`); in Markdown numbers have six digits.
    form : str
        One of ``csv latex markdown json``.
    caption, label : str
        For LaTeX; special characters of the caption are escaped, and refused in the label.
    note : str, optional
        How the table was made, kept as a comment: a line ``# note`` (CSV), ``% note`` (LaTeX),
        ``<!-- note -->`` (Markdown); JSON becomes ``{"comment": note, "functions": [...]}``.
    names : mapping, optional
        For LaTeX: headings by column name. With them the table is one for a paper
        (:func:`simprior.analysis.text.tables.siunitx_table`), without them one of functions.

    Raises
    ------
    InputError
        Another ``form``, or a label with special characters.
    """
    note = " ".join((note or "").split())
    if form == "csv":
        return (f"# {comment(note)}\n" if note else "") + csv_text(frame)
    if form == "latex" and names is not None:
        return siunitx_table(frame, caption, label, note, names)
    if form == "latex":
        return (f"% {note}\n" if note else "") + latex(frame, caption, label)
    if form == "markdown":
        text = markdown(list(frame.columns), frame.to_numpy(dtype=object).tolist()) + "\n"
        return text + (f"\n{html_comment(note)}\n" if note else "")
    if form == "json":
        rows = frame.to_dict("records")
        return json_text({"comment": note, "functions": rows} if note else rows) + "\n"
    raise InputError(f"format={form!r}", f"one of {', '.join(TEXT_FORMS)}", "choose one of them")


def write(frame: pd.DataFrame, path: Path | str, form: str, note: str, **options: Any) -> None:
    """Write a table with the comment ``note`` to ``path``, atomically.

    ``form`` is one of ``csv latex markdown json parquet``; ``options`` are those of
    :func:`render`. In Parquet the note is the schema's metadata ``comment``. Raises
    :class:`InputError` for another form, :class:`StoreError` if the file cannot be written.
    """
    if form != "parquet":
        write_bytes(path, render(frame, form, note=note, **options).encode())
        return
    import pyarrow as pa

    table = pa.Table.from_pandas(frame, preserve_index=False)
    metadata = {**(table.schema.metadata or {}), b"comment": note.encode()}
    write_table(path, table.replace_schema_metadata(metadata))
