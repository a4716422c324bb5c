r"""Tables for papers: booktabs rules, siunitx columns, values with their errors in brackets.

A column with a ``<name>_stderr`` beside it becomes ``value(error)`` with two digits of the error,
which siunitx reads (``0.384(66)``); one with ``<name>_low`` and ``<name>_high`` becomes a value and
a column with its interval. The preamble needs ``\usepackage{booktabs,siunitx}``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.analysis.tables import escape_latex
from simprior.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

PREAMBLE = r"\usepackage{booktabs,siunitx}"
_SUFFIXES = ("_stderr", "_low", "_high")
P_VALUES = tuple(f"{of}{p}" for of in ("", "partial_") for p in ("p_value", "p_adjusted", "p_holm"))
"""Columns printed with two significant digits."""
_LARGE, _SMALL = 1e6, 1e-4
_SIGNS = {
    "σ": "sigma", "α": "alpha", "ρ": "rho", "τ": "tau", "ε": "varepsilon", "δ": "delta",
    "ζ": "zeta", "β": "beta", "±": "pm", "≤": "le", "≥": "ge",
}  # fmt: skip
_MATHS = re.compile(r"(\$[^$]*\$)")


def siunitx_table(
    frame: pd.DataFrame, caption: str, label: str, note: str = "",
    names: Mapping[str, str] | None = None,
) -> str:  # fmt: skip
    r"""A complete ``table`` environment; text escaped, ``note`` kept as a comment.

    Parameters
    ----------
    frame : DataFrame
        Any columns; those that end in ``_stderr``, ``_low``, ``_high`` join the one they are of.
    caption, label : str
        Special characters of the caption are escaped (``$...$`` is left as mathematics).
    note : str
        The command that made the table; one comment line.
    names : mapping, optional
        Headings by column name (``$...$`` is mathematics); the column's name otherwise.

    Raises
    ------
    InputError
        A table without columns.
    """
    if not len(frame.columns):
        raise InputError("a table without columns", "at least one column", "choose columns")
    heads, kinds, columns = [], [], []
    for name in _own_columns(frame):
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
    return "\n".join([
        *comment, f"% preamble: {PREAMBLE}", r"\begin{table}[htbp]", r"\centering",
        rf"\caption{{{escape_text(caption)}}}", rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{{''.join(kinds)}}}", r"\toprule", " & ".join(heads) + r" \\",
        r"\midrule", *rows, r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
    ])  # fmt: skip


def escape_text(text: str) -> str:
    """Text for LaTeX: special characters escaped outside ``$...$``, Greek as mathematics."""
    parts = _MATHS.split(text)
    return "".join(p if _MATHS.fullmatch(p) else _escape(p) for p in parts)


def _escape(text: str) -> str:
    return "".join(
        rf"$\{_SIGNS[letter]}$" if letter in _SIGNS else escape_latex(letter) for letter in text
    )


def value_error(value: float, error: float) -> str:
    """``0.384(66)``: the value to the digits of its error, of which two are given.

    Errors of 100 and more are rounded to two digits as well; without a positive finite error the
    value has four significant digits. Non-finite values give ``{--}``.
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
    first = math.floor(math.log10(float(f"{error:.1e}")))  # after rounding: 0.0996 is 0.10
    decimals = 1 - first
    if decimals <= 0:
        unit = 10 ** (-decimals)
        return f"{round(value / unit) * unit}({round(error / unit) * unit})"
    digits = round(error * 10**decimals)
    shown = f"{value:.{decimals}f}"
    return f"{shown}({digits})" if first < 0 else f"{shown}({error:.{decimals}f})"


def plain(value: float) -> str:
    """A number as siunitx reads it: four significant digits, whole numbers whole."""
    if not math.isfinite(value):
        return "{--}"
    if value == int(value) and abs(value) < _LARGE:
        return str(int(value))
    if abs(value) >= _LARGE or abs(value) < _SMALL:
        mantissa, exponent = f"{value:.3e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    decimals = max(0, 3 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"


def interval(low: float, high: float) -> str:
    """``$[0.12, 0.34]$`` with digits for a twentieth of its width; ``--`` if it is not finite."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return "--"
    width = high - low
    decimals = 3 if width <= 0 else max(0, 1 - math.floor(math.log10(width)))
    if decimals > 6:
        return rf"$[\num{{{low:.3e}}}, \num{{{high:.3e}}}]$"
    return f"$[{low:.{decimals}f}, {high:.{decimals}f}]$"


def _own_columns(frame: pd.DataFrame) -> list[str]:
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
        cells = [f"{v:.2g}" if math.isfinite(v) else "{--}" for v in values]
        return cells, _s_column(cells)
    stderr = f"{name}_stderr"
    errors = frame[stderr].to_numpy(float) if stderr in frame else np.full(len(values), math.nan)
    cells = [value_error(v, e) for v, e in zip(values, errors, strict=True)]
    return cells, _s_column(cells)


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


def _intervals(frame: pd.DataFrame, name: str) -> list[str]:
    pairs = zip(frame[f"{name}_low"], frame[f"{name}_high"], strict=True)
    return [interval(float(low), float(high)) for low, high in pairs]


def _word(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "--"
    if isinstance(value, str) and value.startswith("0x"):
        return rf"\texttt{{{value}}}"
    return escape_text({True: "yes", False: "no"}[bool(value)] if _flag(value) else str(value))


def _flag(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)
