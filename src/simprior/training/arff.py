"""ARFF files (OpenML, Weka): attributes and rows as text, dense or sparse.

What is read: comments (``%``), names and values in single or double quotes, backslash escapes,
nominal, numeric, string and date attributes, missing values (``?``), sparse rows ``{0 1.5, 3 yes}``
(what is left out is 0, and for a nominal attribute the FIRST value that it declares). Relational
attributes and weights of rows are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from simprior.runs.text_files import short

_TOKEN = re.compile(
    r"""\s*(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^,'"\s{}][^,]*?|))\s*(?:,|\Z)"""
)
_SPARSE = re.compile(
    r"""\s*(\d+)\s+(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^,'"\s{}][^,]*?))\s*(?:,|\Z)"""
)
_ATTRIBUTE = re.compile(
    r"""@attribute\s+(?:'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)"|([^\s'"{]+))\s*(.+)\Z""",
    re.IGNORECASE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)")
_NUMERIC = frozenset(("numeric", "real", "integer"))


@dataclass(frozen=True)
class Attribute:
    """A column: its name, its kind (numeric, nominal, string, date) and declared values."""

    name: str
    kind: str
    values: tuple[str, ...] = ()

    @property
    def zero(self) -> str:
        """What a sparse row leaves out."""
        return self.values[0] if self.values else "0"


@dataclass(frozen=True, eq=False)
class Arff:
    """Attributes of a file; iterating gives (line number, cells), None for a missing value."""

    attributes: tuple[Attribute, ...]
    lines: list[str]
    first: int

    def __iter__(self) -> Iterator[tuple[int, list[str | None]]]:
        for number, line in enumerate(self.lines[self.first :], self.first + 1):
            text = line.strip()
            if text and text[0] != "%":
                try:
                    yield number, self._cells(text)
                except ValueError as error:
                    raise ValueError(f"line {number}: {error}") from None

    def _cells(self, text: str) -> list[str | None]:
        if text[0] == "{":
            cells = self._sparse(text)
        elif "'" in text or '"' in text:
            cells = [_cell(match) for match in _split(_TOKEN, text)]
        else:
            bare = map(str.strip, text.split(","))
            cells = [None if cell in {"", "?"} else cell for cell in bare]
        if len(cells) != len(self.attributes):
            raise ValueError(f"{len(cells)} values for {len(self.attributes)} attributes")
        for place, values in self._declared:
            if cells[place] is not None and cells[place] not in values:
                name = short(self.attributes[place].name)
                raise ValueError(
                    f"{short(cells[place])!r} is no value that attribute {name!r} declares"
                )
        return cells

    @cached_property
    def _declared(self) -> list[tuple[int, frozenset[str]]]:
        """(place, values) of the nominal attributes."""
        return [(i, frozenset(a.values)) for i, a in enumerate(self.attributes) if a.values]

    def _sparse(self, text: str) -> list[str | None]:
        end = text.find("}")
        if end != len(text) - 1:
            raise ValueError("no sparse row in braces" if end < 0 else "a weight behind the row")
        cells: list[str | None] = [attribute.zero for attribute in self.attributes]
        seen: set[int] = set()
        for match in _split(_SPARSE, text[1:-1]) if text[1:-1].strip() else ():
            place = int(match[1]) if len(match[1]) < 12 else len(cells)
            if place >= len(cells) or place in seen:
                raise ValueError(f"index {short(match[1])} twice or beyond the last attribute")
            seen.add(place)
            cells[place] = _cell(match, 2)
        return cells


def read_arff(text: str) -> Arff:
    """Header of an ARFF text. Raises :class:`ValueError` (why)."""
    lines = text.split("\n")
    attributes: list[Attribute] = []
    for number, line in enumerate(lines, 1):
        bare = line.strip()
        word = bare.partition(" ")[0].partition("\t")[0].lower()
        if word == "@attribute":
            try:
                attributes.append(_attribute(bare))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
        elif word == "@data":
            if not attributes:
                raise ValueError("no @attribute before @data")
            return Arff(tuple(attributes), lines, number)
        elif bare and bare[0] != "%" and word != "@relation":
            raise ValueError(f"line {number} is neither @relation, @attribute nor a comment")
    raise ValueError("no @data")


def _attribute(line: str) -> Attribute:
    match = _ATTRIBUTE.match(line)
    if match is None:
        raise ValueError("no @attribute NAME TYPE")
    name, kind = str(_cell(match, 1, missing=False)), match[4].strip()
    if kind[0] == "{":
        end = kind.rfind("}")
        rest = kind[end + 1 :].strip()
        if end < 0 or (rest and rest[0] != "%"):
            raise ValueError("a list of values without its closing brace")
        values = [_cell(m, missing=False) for m in _split(_TOKEN, kind[1:end])]
        return Attribute(name, "nominal", tuple(str(value) for value in values))
    word = kind.split()[0].lower()
    if word in _NUMERIC:
        return Attribute(name, "numeric")
    if word in {"string", "date"}:
        return Attribute(name, word)
    raise ValueError(f"attribute {short(name)!r} of type {short(word)!r}, which is not supported")


def _split(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """Matches of ``pattern`` one behind the other, up to the end of ``text``."""
    place = 0
    while True:
        match = pattern.match(text, place)
        if match is None:
            raise ValueError(f"cannot be read from {short(text[place:])!r} on")
        yield match
        if not match[0].endswith(","):
            return
        place = match.end()
        if place == len(text):  # a delimiter at the end: one more, empty
            last = pattern.match(text, place)
            if last is not None:
                yield last
            return


def _cell(match: re.Match[str], first: int = 1, missing: bool = True) -> str | None:
    """The value of a match whose groups from ``first`` on are '...', "..." and bare text."""
    for quoted in (match[first], match[first + 1]):
        if quoted is not None:
            return _ESCAPE.sub(r"\1", quoted)
    bare = match[first + 2] or ""
    return None if missing and bare in {"", "?"} else bare
