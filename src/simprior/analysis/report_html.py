"""One self-contained HTML page: style, script and data inside; it asks nothing of the network."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from simprior.analysis.numbers import decimals_of, fixed, interval_decimals
from simprior.analysis.report_assets import SCRIPT, STYLE
from simprior.analysis.tables_latex import P_VALUES, limits, own_columns, p_value

if TYPE_CHECKING:
    import pandas as pd

ROWS = 500
"""Rows of a table that are shown; the rest is in the files."""


@dataclass(frozen=True)
class Section:
    """A heading with its content, as HTML; ``anchor`` is where the contents point to."""

    title: str
    anchor: str
    body: str


@dataclass(frozen=True)
class Page:
    """A report: its title, a line below it, its sections in order."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    facts: Mapping[str, str] = field(default_factory=dict)


def page(content: Page) -> str:
    """The whole document."""
    links = "".join(f'<a href="#{s.anchor}">{escape(s.title)}</a>' for s in content.sections)
    sections = "\n".join(
        f'<section id="{s.anchor}" aria-labelledby="{s.anchor}-title">'
        f'<h2 id="{s.anchor}-title">{escape(s.title)}</h2>\n{s.body}</section>'
        for s in content.sections
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n"
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(content.title)}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
        f"<header><h1>{escape(content.title)}</h1>\n"
        f'<p class="lead">{escape(content.subtitle)}</p>\n'
        f'{definitions(content.facts)}<nav aria-label="Contents">{links}</nav></header>\n'
        f"<main>\n{sections}\n</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n"
    )


def escape(text: Any) -> str:
    """Text for HTML, also inside attributes."""
    return html.escape(str(text), quote=True)


def definitions(values: Mapping[str, Any]) -> str:
    """Names with their values."""
    if not values:
        return ""
    rows = "".join(
        f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in values.items()
    )
    return f'<dl class="facts">{rows}</dl>\n'


def figure(name: str, png: bytes, caption: str, links: Iterable[str] = ()) -> str:
    """An image inside the page with its caption and the names of its files."""
    data = base64.b64encode(png).decode()
    files = ", ".join(f"<code>{escape(link)}</code>" for link in links)
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{escape(caption or name)}">'
        f"<figcaption>{escape(caption)} {files}</figcaption></figure>\n"
    )


def table(
    frame: pd.DataFrame, caption: str, names: Mapping[str, str] | None = None, rows: int = ROWS
) -> str:
    """A table that sorts by its headings; numbers keep their full value for sorting.

    A column with ``<name>_low`` and ``<name>_high`` becomes one, ``0.71 [0.64, 0.77]``; one with
    ``<name>_stderr`` alone ``0.71 ± 0.03``.
    """
    shown = frame.head(rows)
    heads, columns = [], []
    for name in own_columns(frame):
        numeric = frame[name].dtype.kind in "iuf"
        kind = ' class="number"' if numeric else ""
        heads.append(
            f'<th scope="col" aria-sort="none"{kind}><button type="button">'
            f"{escape((names or {}).get(name, name))}{_joined(frame, name)}</button></th>"
        )
        columns.append(_column(shown, name, numeric))
    body = "".join(f"<tr>{''.join(cells)}</tr>\n" for cells in zip(*columns, strict=True))
    more = f" The first {rows:,} of {len(frame):,} rows." if len(frame) > rows else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f'<table class="sortable"><caption>{escape(caption)}{more}</caption>'
        f"<thead><tr>{''.join(heads)}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
    )


def _joined(frame: pd.DataFrame, name: str) -> str:
    """What stands behind a value in its column."""
    if {f"{name}_low", f"{name}_high"} <= set(frame):
        return " [interval]"
    return " ± error" if f"{name}_stderr" in frame else ""


def _column(frame: pd.DataFrame, name: str, numeric: bool) -> list[str]:
    """Cells of a column, with intervals or errors behind the values."""
    values = frame[name].tolist()
    joined = _joined(frame, name) if numeric else ""
    if joined.endswith("]"):
        lows, highs = limits(frame, name)
        rows = zip(values, lows, highs, interval_decimals(lows, highs), strict=True)
        return [_number(v, with_interval(v, low, high, d)) for v, low, high, d in rows]
    if joined:
        errors = frame[f"{name}_stderr"].to_numpy(float).tolist()
        return [_number(v, with_error(v, e)) for v, e in zip(values, errors, strict=True)]
    if name in P_VALUES:
        return [_number(v, p_value(v)) for v in values]
    return [_cell(value, numeric) for value in values]


def with_interval(value: float, low: float, high: float, decimals: int | None) -> str:
    """``0.71 [0.64, 0.77]``; the value alone without a finite interval."""
    sizes = (abs(value), abs(low), abs(high))
    plain = decimals is None or decimals > 6 or not max(sizes) < 1e6
    shown = [short_number(v) if plain else fixed(v, decimals or 0) for v in (value, low, high)
             if math.isfinite(v)]  # fmt: skip
    return f"{shown[0]} [{shown[1]}, {shown[2]}]" if len(shown) == 3 else "".join(shown[:1])


def with_error(value: float, error: float) -> str:
    """``0.71 ± 0.03``; the value alone without a positive error."""
    decimals = decimals_of(error)
    if not math.isfinite(value) or decimals is None:
        return short_number(value) if math.isfinite(value) else ""
    if decimals > 6 or max(abs(value), error) >= 1e6:
        return f"{short_number(value)} ± {error:.2g}"
    return f"{fixed(value, decimals)} ± {fixed(error, decimals)}"


def _number(value: float, text: str) -> str:
    """A cell that sorts by ``value`` and shows ``text``."""
    if not math.isfinite(value):
        return _cell(value, True)
    return f'<td class="number" data-value="{float(value)!r}">{text.replace("-", "−")}</td>'


def _cell(value: Any, numeric: bool) -> str:
    if not numeric:
        text = "" if _missing(value) else str(value)
        kind = ' class="code"' if text.startswith("0x") else ""
        short = text if len(text) <= 60 else text[:57] + "..."
        title = f' title="{escape(text)}"' if short != text else ""
        return f'<td{kind} data-value="{escape(text)}"{title}>{escape(short)}</td>'
    number = float(value)
    if not math.isfinite(number):
        return '<td class="number" data-value="">–</td>'
    return f'<td class="number" data-value="{number!r}">{short_number(number)}</td>'


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def short_number(value: float) -> str:
    """Four significant digits, with a true minus sign; whole numbers whole."""
    if value == int(value) and abs(value) < 1e9:
        text = f"{int(value):,}" if abs(value) >= 10_000 else str(int(value))
    else:
        text = f"{value:.4g}"
    return text.replace("-", "−")


def notes(lines: Iterable[str]) -> str:
    """A list of remarks."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<ul class="notes">{items}</ul>\n' if items else ""


def code(text: str, label: str = "") -> str:
    """A block of text in a fixed-width face, folded if it has a label."""
    block = f"<pre><code>{escape(text.rstrip())}</code></pre>\n"
    if not label:
        return block
    return fold(label, block)


def fold(label: str, body: str) -> str:
    """Something that opens by a click on its label."""
    return f"<details><summary>{escape(label)}</summary>\n{body}</details>\n"


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{escape(text)}</p>\n"
