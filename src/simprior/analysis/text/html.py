"""A table in HTML that sorts by its headings, and the templates that pages are made from."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from simprior.analysis.text.numbers import (
    P_VALUES,
    Column,
    columns_of,
    p_value,
    short_number,
    with_error,
    with_interval,
)

ROWS = 500
"""Rows of a table that are shown; the rest is in the files."""
_WIDEST = 60  # characters of a cell


def templates(folder: Path) -> Environment:
    """The jinja2 templates of a folder. What they are given is escaped unless it is Markup."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        finalize=_escaped,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )


def _escaped(value: Any) -> Markup:
    return Markup(value if hasattr(value, "__html__") else html.escape(str(value), quote=True))


_TABLE = templates(Path(__file__).parent).get_template("table.html.j2")


@dataclass(frozen=True)
class _Cell:
    """``text`` is shown; the table sorts by ``key``; ``title`` is the whole text if it was cut."""

    text: str
    key: str
    kind: str = ""
    title: str = ""


def table(
    frame: pd.DataFrame, caption: str, names: Mapping[str, str] | None = None, rows: int = ROWS
) -> Markup:
    """A table that sorts by its headings; numbers keep their full value for sorting.

    A column with ``<name>_low`` and ``<name>_high`` becomes one, ``0.71 [0.64, 0.77]``; one with
    ``<name>_stderr`` alone ``0.71 ± 0.03``. Of more than ``rows`` rows the first are shown.
    """
    columns = columns_of(frame)
    heads = [
        {
            "text": (names or {}).get(column.name, column.name) + _joined(column),
            "kind": _kind(column),
        }
        for column in columns
    ]
    shown = frame.head(rows)
    cells = [_cells(Column(shown, column.name)) for column in columns]
    text = _TABLE.render(
        caption=caption,
        more=f" The first {rows:,} of {len(frame):,} rows." if len(frame) > rows else "",
        heads=heads,
        rows=list(zip(*cells, strict=True)),
    )
    return Markup(text) + "\n"


def _kind(column: Column) -> str:
    return "number" if column.numeric else ""


def _joined(column: Column) -> str:
    """What stands behind the values of a column."""
    if column.has_interval:
        return " [interval]"
    return " ± error" if column.has_error else ""


def _cells(column: Column) -> list[_Cell]:
    """Cells of a column, with intervals or errors behind the values."""
    if not column.numeric:
        return [_text(value) for value in column.series.tolist()]
    values = column.numbers()
    if column.has_interval:
        pairs = zip(values, column.intervals(), strict=True)
        texts = [with_interval(value, *row) for value, row in pairs]
    elif column.has_error:
        errors = column.numbers("_stderr")
        texts = [with_error(value, error) for value, error in zip(values, errors, strict=True)]
    elif column.name in P_VALUES:
        texts = [p_value(value) for value in values]
    else:
        texts = [short_number(value) if math.isfinite(value) else "" for value in values]
    return [_number(value, text) for value, text in zip(values, texts, strict=True)]


def _number(value: float, text: str) -> _Cell:
    if not math.isfinite(value):
        return _Cell("–", "", "number")
    return _Cell(text.replace("-", "−"), repr(value), "number")


def _text(value: Any) -> _Cell:
    missing = value is None or (isinstance(value, float) and math.isnan(value))
    text = "" if missing else str(value)
    kind = "code" if text.startswith("0x") else ""
    if len(text) <= _WIDEST:
        return _Cell(text, text, kind)
    return _Cell(text[: _WIDEST - 3] + "...", text, kind, title=text)
