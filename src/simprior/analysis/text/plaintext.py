"""Markdown tables and strict JSON: what commands print, and what is written without pandas."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from simprior.analysis.text.numbers import six_digits


def markdown(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table without a newline at its end.

    Columns are padded to one width, numbers stand to the right with six significant digits, and
    what Markdown would take for its own marks is escaped.
    """
    cells = [[_cell(entry) for entry in row] for row in rows]
    numeric = [
        bool(rows) and all(_is_number(row[column]) for row in rows) for column in range(len(header))
    ]
    heads = [_escape(name) for name in header]
    widths = [
        max([3, len(head), *(len(row[column]) for row in cells)])
        for column, head in enumerate(heads)
    ]

    def line(entries: Sequence[str]) -> str:
        padded = [
            entry.rjust(width) if right else entry.ljust(width)
            for entry, width, right in zip(entries, widths, numeric, strict=True)
        ]
        return "| " + " | ".join(padded) + " |"

    rule = [
        "-" * (width - 1) + (":" if right else "-")
        for width, right in zip(widths, numeric, strict=True)
    ]
    return "\n".join([line(heads), line(rule), *(line(row) for row in cells)])


def html_comment(note: str) -> str:
    """``note`` as a comment of HTML, which no text in it can end."""
    closed = re.sub(r"--(!?)>", r"-- \1>", note)
    return f"<!-- {closed} -->"


def _is_number(value: Any) -> bool:
    return not isinstance(value, str | bool) and hasattr(value, "__float__")


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return _escape(value)
    if _is_number(value) and not float(value).is_integer():
        return six_digits(float(value))
    return _escape(str(int(value)) if _is_number(value) else str(value))


def _escape(text: str) -> str:
    text = " ".join(text.splitlines()).replace("\\", "\\\\").replace("|", "\\|")
    return re.sub(r"<(?=[A-Za-z/!?])", r"\<", text)


def json_text(value: Any) -> str:
    """``value`` as JSON without a newline at its end; NaN and infinities become null."""
    return json.dumps(jsonable(value), indent=1, ensure_ascii=False, allow_nan=False)


def jsonable(value: Any) -> Any:
    """``value`` in the types that JSON has.

    Arrays and scalars of numpy become lists and numbers; NaN, infinities and missing values become
    None; any other object becomes its text.
    """
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, Mapping):
        return {str(key): jsonable(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(entry) for entry in value]
    if not isinstance(value, str | int | float | bool | None):
        return None if str(value) in ("<NA>", "NaT") else str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
