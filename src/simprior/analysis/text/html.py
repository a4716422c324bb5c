"""Which columns of a frame belong together: a value, its standard error, its limits.

``x_stderr`` is the standard error of the column ``x``; ``x_low`` and ``x_high`` are its limits.
Where there is no column ``x``, they are columns in their own right.

A table in HTML that sorts by its headings, and the templates that pages are made from.
"""

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
    interval_decimals,
    p_value,
    short_number,
    with_error,
    with_interval,
)

_SUFFIXES = ("_stderr", "_low", "_high")
P_VALUES = tuple(f"{of}{p}" for of in ("", "partial_") for p in ("p_value", "p_adjusted", "p_holm"))
"""Columns printed with two significant digits."""


@dataclass(frozen=True)
class Column:
    """A column of ``frame`` that has a column of its own in the printed table."""

    frame: pd.DataFrame
    name: str

    @property
    def series(self) -> pd.Series:
        """Its values."""
        return self.frame[self.name]

    @property
    def numeric(self) -> bool:
        """Whether it holds numbers (and not texts, flags or objects)."""
        return self.series.dtype.kind in "iuf"

    @property
    def has_error(self) -> bool:
        """Whether a standard error stands beside it."""
        return f"{self.name}_stderr" in self.frame

    @property
    def has_interval(self) -> bool:
        """Whether both limits of an interval stand beside it."""
        return {f"{self.name}_low", f"{self.name}_high"} <= set(self.frame)

    def numbers(self, suffix: str = "") -> list[float]:
        """Its values as floats; with a suffix those of its error or of one limit."""
        return self.frame[self.name + suffix].to_numpy(float).tolist()

    def intervals(self) -> list[tuple[float, float, int | None]]:
        """(low, high, decimals that suit the column) of each row."""
        low, high = self.numbers("_low"), self.numbers("_high")
        return list(zip(low, high, interval_decimals(low, high), strict=True))


def own_columns(frame: pd.DataFrame) -> list[str]:
    """Names of the columns that are not the error or a limit of another one."""
    known = set(frame.columns)
    return [
        name
        for name in map(str, frame.columns)
        if not any(name.endswith(s) and name[: -len(s)] in known for s in _SUFFIXES)
    ]


def columns_of(frame: pd.DataFrame) -> list[Column]:
    """The columns that the printed table has, in order."""
    return [Column(frame, name) for name in own_columns(frame)]


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
