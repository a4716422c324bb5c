r"""LaTeX tables for papers: booktabs rules, siunitx numbers, one style, no wider than a column.

An estimate is printed as ``value [low, high]``, or as ``value \pm error`` where it has no
interval; both have the decimals of :mod:`simprior.analysis.text.numbers`. Headings are words and
symbols. :func:`latex` chooses the size of the font, and what columns are left out, such that the
table is no wider than a column (or the text) of a two-column paper. Widths are estimated with the
metrics of Computer Modern, the font of LaTeX.

The preamble needs booktabs and siunitx; for tables without a width (``width="none"``) of more than
:data:`ROWS` rows also longtable, for columns that cannot be made to fit also graphicx.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from simprior.analysis.text.numbers import (
    P_VALUES,
    Column,
    columns_of,
    p_value,
    plain_column,
    with_limits,
    with_plus_minus,
)
from simprior.checks import Choice
from simprior.errors import InputError

ROWS = 40
"""Rows of a table, or of one part of it."""
WIDTHS = {"column": 229.5, "text": 469.0, "none": math.inf}
"""Points that a table may be wide: a column, or the text, of the class article with twocolumn."""
SIZES = {"normalsize": 1.0, "small": 0.924, "footnotesize": 0.85, "scriptsize": 0.798}
"""Sizes of the font, the first that fits is taken, and their widths relative to ten points."""
_READABLE = "footnotesize"
"""The size at which columns are left out rather than the font made smaller."""
_CORE = 3
"""Columns, from the left, that are never left out."""
_SEP = 4.0
_PAIR = 1.67  # between a value and its error or interval
_SPARE = 1.015  # widths are estimates
_LONGEST = {"column": 14, "text": 34, "none": 10**9}
"""Characters of a function in hexadecimal; of longer ones the middle is left out."""

# Text

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
    "¬": "neg",
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


# How wide a text is

_GROUPS = {
    2.78: "il.:;[]!',",
    3.33: " -fjI",
    3.94: 'trs()"`',
    4.44: "cez",
    5.0: "ago0123456789/*?_",
    5.28: "kqvxyJ",
    5.56: "bdhnpuS",
    6.25: "LZ",
    6.81: "FEP",
    7.22: "wCTBR",
    7.5: "AHNUVXYDK",
    7.78: "O+=<>&GQ",
    8.33: "m%",
    10.28: "MW|",
}
_WIDTHS = {character: width for width, characters in _GROUPS.items() for character in characters}
_OF_COMMANDS = {
    **dict.fromkeys(("pm", "times", "le", "ge", "leq", "geq", "approx", "sim", "cdot"), 12.3),
    **dict.fromkeys(("mathrm", "mathbf", "mathcal", "mathit", "tilde", "hat", "bar", "num"), 0.0),
    **{"ln": 10.0, "sqrt": 9.0, "texttt": 0.0, "ldots": 13.4, "shortstack": 0.0, "frac": 3.0},
    **{"textbackslash": 5.0, "textasciitilde": 5.0, "textasciicircum": 5.0},
}
_TOKEN = re.compile(r"\\[A-Za-z]+ ?|\\.|.", re.DOTALL)


def width_of(text: str) -> float:
    """Points that LaTeX text is about wide, at ten points."""
    lines = text.split(r"\\")
    return max(map(_width_of_line, lines))


def _width_of_line(text: str) -> float:
    total, maths, script, typewriter = 0.0, False, 0, False
    depth, closing = 0, []
    for token in _TOKEN.findall(text):
        if token == "$":
            maths = not maths
        elif token in "^_" and maths:
            script = 2
            continue
        elif token == "{":
            depth += 1
            if script:
                closing.append(depth)
        elif token == "}":
            if closing and closing[-1] == depth:
                closing.pop()
            typewriter = typewriter and depth > 1
            depth -= 1
        else:
            typewriter = typewriter or token == r"\texttt"
            width = _width_of_token(token, maths, typewriter)
            total += width * (0.75 if script or closing else 1.0)
        script = 0
    return total


def _width_of_token(token: str, maths: bool, typewriter: bool) -> float:
    if token.startswith("\\") and len(token) > 1:
        name = token[1:].strip()
        return _OF_COMMANDS.get(name, 6.5) if name.isalpha() else _WIDTHS.get(name, 5.0)
    if typewriter:
        return 5.25
    if maths:
        signs = {"-": 7.78, "+": 12.2, "=": 13.4, "<": 13.4, ">": 13.4, " ": 0.0, ",": 4.5}
        return signs.get(token, _WIDTHS.get(token, 7.5) + (1.3 if token.isupper() else 0.4))
    return _WIDTHS.get(token, 7.5)


# Columns


@dataclass(frozen=True)
class Printed:
    """A column of LaTeX: how it is declared, its heading, its cells.

    ``second`` holds what stands behind the values, intervals or errors; empty if nothing does.
    ``points`` is the width of the column at ten points, ``mark`` what ``second`` is.
    """

    kind: str
    head: str
    cells: Sequence[str]
    second: Sequence[str]
    points: float
    marks: frozenset[str]

    @property
    def declared(self) -> str:
        """Its entry in the argument of ``tabular``."""
        return self.kind + (r"@{\,}l" if self.second else "")

    @property
    def heading(self) -> str:
        """Its cell in the row of headings."""
        if self.second:
            return rf"\multicolumn{{2}}{{c}}{{{self.head}}}"
        return _guarded(self.head) if self.kind == "l" else f"{{{self.head}}}"

    def row(self, index: int) -> str:
        """Its cell, or its two cells, in a row."""
        cell = self.cells[index]
        return f"{cell} & {self.second[index]}" if self.second else cell


def _printed(column: Column, name: str, longest: int) -> Printed:
    """A column as LaTeX, its heading in two lines where that makes the column narrower."""
    if column.numeric:
        cells, second, marks = _numbers(column)
        kind, body = _s_column(cells)
        if second:
            body += _PAIR + max(map(width_of, second), default=0.0)
    else:
        cells = [_word(value, longest) for value in column.series]
        second, marks = [], frozenset({"shortened"} if any(".." in c for c in cells) else ())
        kind, body = "l", max(map(width_of, cells), default=0.0)
    head = _heading(name, body)
    return Printed(kind, head, cells, second, max(body, width_of(head)), marks)


def _heading(name: str, body: float) -> str:
    """A heading, in two lines if it is wider than the column and has a blank to break at."""
    text = escape_text(name)
    return text if width_of(text) <= body else _broken(name) or text


def _broken(name: str) -> str:
    """The heading in two lines, broken where the longer one is shortest; empty if it cannot be."""
    pieces = re.findall(r"(?:\$[^$]*\$|[^ $])+", name)
    if " ".join(pieces) != name:
        return ""
    halves = [
        (escape_text(" ".join(pieces[:i])), escape_text(" ".join(pieces[i:])))
        for i in range(1, len(pieces))
    ]
    if not halves:
        return ""
    first, second = min(halves, key=lambda pair: max(map(width_of, pair)))
    return rf"\shortstack{{{first}\\{second}}}"


def _numbers(column: Column) -> tuple[list[str], list[str], frozenset[str]]:
    """Cells of numbers, what stands behind them, and of what kinds that is."""
    values = column.numbers()
    if column.name in P_VALUES:
        return [p_value(value) for value in values], [], frozenset()
    decided = [("", "")] * len(values)
    if column.has_error:
        pairs = zip(values, column.numbers("_stderr"), strict=True)
        decided = [with_plus_minus(*pair) for pair in pairs]
    if column.has_interval:
        limits = zip(values, column.intervals(), strict=True)
        bounded = [with_limits(value, *row) for value, row in limits]
        decided = [a if a[1] or not b[0] else b for a, b in zip(bounded, decided, strict=True)]
    second = [behind for _, behind in decided]
    if not any(second):
        return plain_column(values), [], frozenset()
    marks = {"interval"} if any("[" in behind for behind in second) else set()
    marks |= {"error"} if any(r"\pm" in behind for behind in second) else set()
    return [cell for cell, _ in decided], second, frozenset(marks)


def _word(value: Any, longest: int) -> str:
    """A cell that is no number."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "--"
    if isinstance(value, str) and value.startswith("0x"):
        shown = value if len(value) <= longest else f"{value[: longest - 6]}..{value[-4:]}"
        return rf"\texttt{{{escape_latex(shown)}}}"
    flag = isinstance(value, bool | np.bool_)
    return _guarded(escape_text(("yes" if value else "no") if flag else str(value)))


def _guarded(cell: str) -> str:
    r"""A cell that the ``\\`` of the row before it, or a rule, cannot take for its argument."""
    return "{}" * cell.lstrip().startswith(("[", "*")) + cell


def _s_column(cells: Sequence[str]) -> tuple[str, float]:
    """``S[table-format=...]`` for these cells, and how wide it is."""
    number = re.compile(r"(-?)(\d+)(?:\.(\d+))?(?:e(-?)(\d+))?")
    found = [match.groups("") for cell in cells if (match := number.fullmatch(cell))]
    minus, whole, decimals, exponent_minus, exponent = (
        max((len(part) for part in parts), default=0)
        for parts in (zip(*found, strict=True) if found else [()] * 5)
    )
    whole = max(whole, 1)
    text = f"{'-' * minus}{whole}.{decimals}"
    text += f"e{'-' * exponent_minus}{exponent}" if exponent else ""
    width = 7.78 * minus + 5.0 * (whole + decimals) + 2.78 * (decimals > 0)
    width += 1.67 * ((whole - 1) // 3 * (whole > 4) + (decimals - 1) // 3 * (decimals > 4))
    width += (22.3 + 6.2 * exponent_minus + 4.49 * exponent) if exponent else 0.0
    return f"S[table-format={text}]", width


# Fitting


@dataclass(frozen=True)
class Layout:
    """What is printed of a table: columns, size of the font, whether it must be scaled down."""

    columns: Sequence[Printed]
    size: str
    scaled: bool = False


def _total(columns: Sequence[Printed]) -> float:
    """Width of a table at ten points, without the spaces between its columns."""
    return sum(column.points for column in columns)


def _fits(columns: Sequence[Printed], size: str, points: float) -> bool:
    between = 2 * _SEP * (len(columns) - 1)
    return _SPARE * SIZES[size] * _total(columns) + between <= points


def _layout(columns: Sequence[Printed], points: float, keep: bool) -> Layout:
    """The largest font with which the columns fit; else the first columns that fit with a readable
    one, or with ``keep`` all of them, scaled down."""
    for size in SIZES:
        if _fits(columns, size, points):
            return Layout(columns, size)
    if keep:
        return Layout(columns, _READABLE, scaled=True)
    chosen = list(columns[:_CORE])
    for size in (_READABLE, list(SIZES)[-1]):
        if _fits(chosen, size, points):
            for column in columns[_CORE:]:
                if _fits([*chosen, column], size, points):
                    chosen.append(column)
            return Layout(chosen, size)
    return Layout(chosen, _READABLE, scaled=True)


def latex(
    frame: pd.DataFrame,
    caption: str,
    label: str,
    note: str = "",
    names: Mapping[str, str] | None = None,
    *,
    width: str = "none",
    rows: int = ROWS,
    keep: bool = True,
    level: float | None = None,
) -> str:
    r"""A table for a paper: complete ``table`` (``table*``, ``longtable``) environments.

    Parameters
    ----------
    frame : DataFrame
        Any columns; those that end in ``_stderr``, ``_low``, ``_high`` join the one they are of.
    caption, label : str
        Special characters of the caption are escaped (``$...$`` is left as mathematics if it holds
        nothing but mathematics, see :func:`escape_text`), and refused in the label. What brackets
        and errors are is added to the caption.
    note : str
        The command that made the table; one comment line.
    names : mapping, optional
        Headings by column name (``$...$`` is mathematics); the column's name otherwise.
    width : str
        ``column`` or ``text`` of a two-column page: a smaller font, and what still does not fit is
        left out from the right (without ``keep``) or the table is scaled down. ``none``: as wide as
        it is, and a table of more than ``rows`` rows breaks over pages.
    rows : int
        With a width, longer tables become several, each with its part in the caption.
    keep : bool
        Whether every column is wanted.
    level : float, optional
        Confidence level of the intervals, for the caption.

    Raises
    ------
    InputError
        A table without columns, another width, or a label with special characters.
    """
    label = check_label(label)
    if not len(frame.columns):
        raise InputError("a table without columns", "at least one column", "choose columns")
    Choice(WIDTHS, "choose one of them")("width", width)
    columns = [
        _printed(column, (names or {}).get(column.name, column.name), _LONGEST[width])
        for column in columns_of(frame)
    ]
    layout = _layout(columns, WIDTHS[width], keep)
    caption = " ".join([escape_text(caption), *_legend(layout.columns, level)])
    comments = [f"% {' '.join(note.split())}"] if note else []
    if width == "none" and len(frame) > rows:
        body = _long(layout.columns, len(frame), caption, label)
    else:
        body = _parts(layout, len(frame), rows, caption, label, star="*" if width == "text" else "")
    return "\n".join([*comments, *body, ""])


def shown_columns(
    frame: pd.DataFrame, width: str, names: Mapping[str, str] | None = None
) -> list[str]:
    """The columns that :func:`latex` prints if it may leave some out, with those that join them."""
    printed = [
        (
            column.name,
            _printed(column, (names or {}).get(column.name, column.name), _LONGEST[width]),
        )
        for column in columns_of(frame)
    ]
    chosen = _layout([column for _, column in printed], WIDTHS[width], keep=False).columns
    kept = [name for name, column in printed if any(column is one for one in chosen)]
    ends = ("", "_stderr", "_low", "_high")
    return [name + end for name in kept for end in ends if name + end in frame]


def _legend(columns: Sequence[Printed], level: float | None) -> list[str]:
    """Sentences on what stands in brackets and behind plus-minus signs, as LaTeX."""
    marks = frozenset().union(*(column.marks for column in columns))
    kind = "confidence" if level is None else rf"{100 * level:g} \%"
    said = {
        "interval": f"Brackets hold {kind} intervals.",
        "error": r"Standard errors follow $\pm$.",
        "shortened": "Of long functions the middle is left out.",
    }
    return [sentence for mark, sentence in said.items() if mark in marks]


def _head(columns: Sequence[Printed]) -> list[str]:
    return [r"\toprule", " & ".join(column.heading for column in columns) + r" \\", r"\midrule"]


def _lines(columns: Sequence[Printed], start: int, stop: int) -> list[str]:
    return [
        " & ".join(column.row(index) for column in columns) + r" \\" for index in range(start, stop)
    ]


def _preamble(*packages: str) -> str:
    return rf"% preamble: \usepackage{{{','.join(['booktabs', *packages, 'siunitx'])}}}"


def _parts(layout: Layout, total: int, rows: int, caption: str, label: str, star: str) -> list[str]:
    """The table, or its parts of ``rows`` rows, one environment each."""
    starts = [*range(0, total, rows)] or [0]
    lines = [_preamble(*(["graphicx"] if layout.scaled else []))]
    for part, (start, stop) in enumerate(pairwise([*starts, total]), 1):
        of = f" (Part {part} of {len(starts)}.)" if len(starts) > 1 else ""
        tag = label if part == 1 else f"{label}-{part}"
        size = [] if layout.size == "normalsize" else [rf"\{layout.size}"]
        lines += [
            rf"\begin{{table{star}}}[htbp]",
            r"\centering",
            rf"\caption{{{caption}{of}}}",
            rf"\label{{{tag}}}",
            *size,
            rf"\setlength{{\tabcolsep}}{{{_SEP:g}pt}}",
            *([r"\resizebox{\linewidth}{!}{%"] if layout.scaled else []),
            rf"\begin{{tabular}}{{@{{}}{''.join(c.declared for c in layout.columns)}@{{}}}}",
            *_head(layout.columns),
            *_lines(layout.columns, start, stop),
            r"\bottomrule",
            r"\end{tabular}" + ("}" if layout.scaled else ""),
            rf"\end{{table{star}}}",
        ]
    return lines


def _long(columns: Sequence[Printed], total: int, caption: str, label: str) -> list[str]:
    """A table that repeats its headings on every page; two-column pages cannot hold one."""
    count = sum(1 + bool(column.second) for column in columns)
    head = _head(columns)
    return [
        _preamble("longtable"),
        rf"\begin{{longtable}}{{{''.join(column.declared for column in columns)}}}",
        rf"\caption{{{caption}}} \label{{{label}}} \\",
        *head,
        r"\endfirsthead",
        *head,
        r"\endhead",
        r"\midrule",
        rf"\multicolumn{{{count}}}{{r}}{{continued on the next page}} \\",
        r"\endfoot",
        r"\bottomrule",
        r"\endlastfoot",
        *_lines(columns, 0, total),
        r"\end{longtable}",
    ]
