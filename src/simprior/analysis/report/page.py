"""One self-contained HTML page: style, script and data inside; it asks nothing of the network.

The parts of a page are the macros of ``page.html.j2``. Each function here returns Markup, that is
HTML in which everything it was given has been escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from markupsafe import Markup

from simprior.analysis.text.html import templates

_MACROS: Any = templates(Path(__file__).parent).get_template("page.html.j2").module


@dataclass(frozen=True)
class Section:
    """A heading with its content; ``anchor`` is where the contents point to.

    A ``body`` that is no Markup is shown as text.
    """

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
    return str(_MACROS.page(content))


def definitions(values: Mapping[str, Any]) -> Markup:
    """Names with their values."""
    return Markup(_MACROS.definitions(values))


def figure(name: str, png: bytes, caption: str, links: Iterable[str] = ()) -> Markup:
    """An image inside the page with its caption and the names of its files."""
    data = base64.b64encode(png).decode()
    return Markup(_MACROS.figure(name, data, caption, list(links)))


def figures(pictures: Iterable[Markup]) -> Markup:
    """Several of :func:`figure` beside one another."""
    return Markup(_MACROS.figures(list(pictures)))


def notes(lines: Iterable[str]) -> Markup:
    """A list of remarks."""
    return Markup(_MACROS.notes(list(lines)))


def code(text: str, label: str = "") -> Markup:
    """A block of text in a fixed-width face, folded if it has a label."""
    block = Markup(_MACROS.code(text.rstrip()))
    return fold(label, block) if label else block


def fold(label: str, body: Markup) -> Markup:
    """Something that opens by a click on its label."""
    return Markup(_MACROS.fold(label, body))


def paragraph(text: str) -> Markup:
    """A paragraph of plain text."""
    return Markup(_MACROS.paragraph(text))
