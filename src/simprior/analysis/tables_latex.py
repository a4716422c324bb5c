r"""Tables for papers: booktabs rules, siunitx columns, values with their errors in brackets.

A column with a ``<name>_stderr`` beside it becomes ``value(error)`` with two digits of the error,
which siunitx reads (``0.384(66)``); one with ``<name>_low`` and ``<name>_high`` becomes a value and
a column with its interval, both with the decimals of :mod:`simprior.analysis.numbers`. A table of
more than :data:`PAGE` rows breaks over pages. The preamble needs booktabs, siunitx and, for those,
longtable.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.analysis.numbers import decimals_of, fixed, interval_decimals
from simprior.analysis.tables import PAGE, check_label, escape_latex
from simprior.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

PREAMBLE = r"\usepackage{booktabs,longtable,siunitx}"
_SUFFIXES = ("_stderr", "_low", "_high")
P_VALUES = tuple(f"{of}{p}" for of in ("", "partial_") for p in ("p_value", "p_adjusted", "p_holm"))
"""Columns printed with two significant digits."""
_LARGE, _SMALL = 1e6, 1e-4
_SIGNS = {
    "σ": "sigma", "α": "alpha", "ρ": "rho", "τ": "tau", "ε": "varepsilon", "δ": "delta",
    "ζ": "zeta", "β": "beta", "±": "pm", "≤": "le", "≥": "ge",
}  # fmt: skip
_MATHS = re.compile(r"(\$[^$]*\$)")
_COMMAND = re.compile(
    r"\\(?:(?:alpha|beta|gamma|delta|epsilon|varepsilon|zeta|eta|theta|kappa|lambda|mu|nu|xi|pi|rho"
    r"|sigma|tau|phi|varphi|chi|psi|omega|Gamma|Delta|Theta|Lambda|Xi|Pi|Sigma|Phi|Psi|Omega|ell|infty"
    r"|frac|sqrt|sum|prod|int|pm|mp|le|ge|leq|geq|ne|neq|ll|gg|lt|gt|approx|sim|simeq|propto|times|cdot"
    r"|in|notin|subset|cup|cap|to|mapsto|mid|dots|ldots|cdots|langle|rangle|lfloor|rfloor|lceil|rceil"
    r"|ln|log|exp|max|min|sup|inf|sin|cos|tan|arcsin|arccos|arctan|Pr|mathrm|mathbf|mathcal|mathit"
    r"|hat|tilde|bar|vec|dot|overline|underline|left|right|quad|prime|partial|nabla)(?![A-Za-z@])"
    r"|[,;:! ])"
)  # fmt: skip


def siunitx_table(
    frame: pd.DataFrame, caption: str, label: str, note: str = "",
    names: Mapping[str, str] | None = None,
) -> str:  # fmt: skip
    r"""A complete ``table`` (``longtable``) environment; text escaped, ``note`` kept as a comment.

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
    for name in own_columns(frame):
        heading = "{" + escape_text((names or {}).get(name, name)) + "}"
        cells, kind = _column(frame, name)
        heads.append(heading if kind != "l" else heading[1:-1])
        kinds.append(kind)
        columns.append(cells)
        if {f"{name}_low", f"{name}_high"} <= set(frame.columns):
            heads.append("interval")
            kinds.append("r")
            columns.append(_intervals(frame, name))
    rows = [" & ".join(row) + r" \\" for row in zip(*columns, strict=True)]
    comment = [f"% {' '.join(note.split())}"] if note else []
    head, title = " & ".join(heads) + r" \\", (rf"\caption{{{escape_text(caption)}}}", label)
    write = _short if len(rows) <= PAGE else _long
    return "\n".join([*comment, *write(kinds, head, rows, title), ""])


def _short(kinds: list[str], head: str, rows: list[str], title: tuple[str, str]) -> list[str]:
    """The lines of a table on one page."""
    return [
        f"% preamble: {PREAMBLE.replace(',longtable', '')}", r"\begin{table}[htbp]", r"\centering",
        title[0], rf"\label{{{title[1]}}}", rf"\begin{{tabular}}{{{''.join(kinds)}}}", r"\toprule",
        head, r"\midrule", *rows, r"\bottomrule", r"\end{tabular}", r"\end{table}",
    ]  # fmt: skip


def _long(kinds: list[str], head: str, rows: list[str], title: tuple[str, str]) -> list[str]:
    """The lines of a table that breaks over pages, with its headings on each."""
    more = rf"\multicolumn{{{len(kinds)}}}{{r}}{{continued on the next page}} \\"
    return [
        f"% preamble: {PREAMBLE}", rf"\begin{{longtable}}{{{''.join(kinds)}}}",
        rf"{title[0]} \label{{{title[1]}}} \\", r"\toprule", head, r"\midrule", r"\endfirsthead",
        r"\toprule", head, r"\midrule", r"\endhead", r"\midrule", more, r"\endfoot",
        r"\bottomrule", r"\endlastfoot", *rows, r"\end{longtable}",
    ]  # fmt: skip


def escape_text(text: str) -> str:
    r"""Text for LaTeX: special characters escaped outside ``$...$``, Greek as mathematics.

    Mathematics stays only with balanced braces and commands of a short list (Greek, fractions,
    functions): anything else, such as ``$\input{x}$``, is printed as text.
    """
    parts = _MATHS.split(text)
    return "".join(p if _is_maths(p) else _escape(p) for p in parts)


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


def value_error(value: float, error: float) -> str:
    """``0.384(66)``: the value to the digits of its error, of which two are given.

    Errors of 100 and more are rounded to two digits as well; without a positive finite error the
    value is :func:`plain`. Non-finite values give ``{--}``.
    """
    if not math.isfinite(value):
        return "{--}"
    if not (math.isfinite(error) and error > 0):
        return plain(value)
    if max(abs(value), error) >= _LARGE or max(abs(value), error) < _SMALL:
        exponent = math.floor(math.log10(max(abs(value), error)))
        scale = 10.0**exponent
        return f"{_bracketed(value / scale, error / scale)}e{exponent}"
    return _bracketed(value, error)


def _bracketed(value: float, error: float) -> str:
    decimals = decimals_of(error) or 0
    shown, digits = fixed(value, decimals), fixed(error, decimals)
    whole = decimals <= 0 or not digits.startswith("0.")
    return f"{shown}({digits})" if whole else f"{shown}({round(error * 10**decimals)})"


def plain(value: float) -> str:
    """A number as siunitx reads it: four significant digits, without zeros at the end."""
    if not math.isfinite(value):
        return "{--}"
    if value == int(value) and abs(value) < _LARGE:
        return str(int(value))
    if abs(value) >= _LARGE or abs(value) < _SMALL:
        mantissa, exponent = f"{value:.3e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    decimals = max(0, 3 - math.floor(math.log10(abs(value))))
    text = fixed(value, decimals)
    return text.rstrip("0").rstrip(".") if decimals else text


def plain_column(values: Sequence[float]) -> list[str]:
    """:func:`plain` numbers; measured ones of like size have the same decimals."""
    sizes = [abs(v) for v in values if math.isfinite(v) and v != 0]
    exact = all(float(f"{size:.4g}") == size for size in sizes)
    if exact or max(sizes) >= 100 * min(sizes) or not _SMALL <= max(sizes) < _LARGE:
        return [plain(v) for v in values]
    decimals = max(0, 3 - math.floor(math.log10(max(sizes))))
    return [fixed(v, decimals) if math.isfinite(v) else "{--}" for v in values]


def p_value(value: float) -> str:
    """A p-value with two significant digits: ``0.50``, ``0.00074``, ``1.2e-7``."""
    if not math.isfinite(value):
        return "{--}"
    mantissa, sign, exponent = f"{value:#.2g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if sign else mantissa


def interval(low: float, high: float, decimals: int | None = None) -> str:
    """``$[0.12, 0.34]$`` with two digits of its half-width, or so many decimals; ``--`` if it is
    not finite."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "--"
    if decimals is None:
        decimals = decimals_of((high - low) / 2)
        decimals = 3 if decimals is None else decimals
    if decimals > 6 or max(abs(low), abs(high)) >= _LARGE:
        return rf"$[\num{{{low:.3e}}}, \num{{{high:.3e}}}]$"
    return f"$[{fixed(low, decimals)}, {fixed(high, decimals)}]$"


def own_columns(frame: pd.DataFrame) -> list[str]:
    """Columns that are not the error or a limit of another one."""
    known = set(frame.columns)
    return [
        name for name in map(str, frame.columns)
        if not any(name.endswith(s) and name[: -len(s)] in known for s in _SUFFIXES)
    ]  # fmt: skip


def _column(frame: pd.DataFrame, name: str) -> tuple[list[str], str]:
    """Cells of a column and its kind: ``l``, or an S column wide enough for them."""
    column = frame[name]
    if column.dtype.kind in "OUTb" or str(column.dtype) in ("str", "string", "category"):
        return [_word(v) for v in column], "l"
    values = column.to_numpy(float)
    if name in P_VALUES:
        cells = [p_value(v) for v in values]
    elif f"{name}_stderr" in frame:
        errors = frame[f"{name}_stderr"].to_numpy(float)
        cells = [value_error(v, e) for v, e in zip(values, errors, strict=True)]
    elif f"{name}_low" in frame and f"{name}_high" in frame:
        cells = _to_decimals(values, interval_decimals(*limits(frame, name)))
    else:
        cells = plain_column(values.tolist())
    return cells, _s_column(cells)


def _to_decimals(values: np.ndarray, decimals: Sequence[int | None]) -> list[str]:
    """Values with the decimals of their intervals; what is too small or large for them plain."""
    return [
        plain(v) if not math.isfinite(v) or d is None or d > 6 or abs(v) >= _LARGE else fixed(v, d)
        for v, d in zip(values, decimals, strict=True)
    ]


def _s_column(cells: Sequence[str]) -> str:
    """``S[table-format=...]`` for these cells."""
    whole = decimals = uncertainty = exponent = 1
    signed = negative_exponent = False
    some_decimals = some_error = some_exponent = False
    for cell in cells:
        match = re.fullmatch(r"(-?)(\d+)(?:\.(\d+))?(?:\(([\d.]+)\))?(?:e(-?)(\d+))?", cell)
        if match is None:
            continue
        signed |= bool(match[1])
        whole = max(whole, len(match[2]))
        if match[3]:
            some_decimals, decimals = True, max(decimals, len(match[3]))
        if match[4]:
            some_error = True
            uncertainty = max(uncertainty, len(match[4].replace(".", "")))
        if match[6]:
            some_exponent, exponent = True, max(exponent, len(match[6]))
            negative_exponent |= bool(match[5])
    text = f"{'-' if signed else ''}{whole}.{decimals if some_decimals else 0}"
    text += f"({uncertainty})" if some_error else ""
    text += f"e{'-' if negative_exponent else ''}{exponent}" if some_exponent else ""
    return f"S[table-format={text}]"


def limits(frame: pd.DataFrame, name: str) -> tuple[list[float], list[float]]:
    """Both limits of a column of estimates."""
    low, high = (frame[f"{name}_{end}"].to_numpy(float).tolist() for end in ("low", "high"))
    return low, high


def _intervals(frame: pd.DataFrame, name: str) -> list[str]:
    lows, highs = limits(frame, name)
    rows = zip(lows, highs, interval_decimals(lows, highs), strict=True)
    return [interval(*row) for row in rows]


def _word(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "--"
    if isinstance(value, str) and value.startswith("0x"):
        return rf"\texttt{{{escape_latex(value)}}}"
    text = escape_text({True: "yes", False: "no"}[bool(value)] if _flag(value) else str(value))
    return "{}" * text.lstrip().startswith(("[", "*")) + text  # the \\ before would take them


def _flag(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)
