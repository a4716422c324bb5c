"""Text tables of functions and counts: which column is what, header lines, counts, shares."""

from __future__ import annotations

import contextlib
import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain, islice

import numpy as np

from simprior.boolean.logic import bad_line
from simprior.errors import InputError

CHUNK_LINES = 1 << 18
FUNCTION, COUNT, OTHER = "function", "count", "_"
EXTRA = ("p", "orbit", "design_effect", "samples")
"""Columns that tell more than the counts: those of ``simprior table``, and the networks drawn."""
_NAMES = (
    dict.fromkeys(("function", "functions", "truth_table", "table"), FUNCTION)
    | dict.fromkeys(("count", "counts", "frequency", "freq"), COUNT)
    | {name: name for name in EXTRA}
)
_BLANKS = re.compile(r"[\s,;]+")
_RULE = re.compile(r"\|?[\s:|-]*---[\s:|-]*\Z")
_NUMBER = re.compile(r"[+-]?\d{1,40}(\.\d*)?(e[+-]?\d{1,3})?\Z", re.IGNORECASE | re.ASCII)
_LARGEST = 2**53
HEX = set("0123456789abcdefABCDEF")
_AMBIGUOUS = "one column that can only be the function"
_SAME = 1e-12  # relative rounding of p = count / samples with all its digits
_ALIKE = 0.05  # p of fewer digits


@dataclass(frozen=True)
class Layout:
    """Number of columns of a line, the separator, and the index of every column that is used;
    ``at`` is empty where a line is a function and perhaps a count, in either order."""

    width: int = 0
    separator: str | None = None
    at: dict[str, int] = field(default_factory=dict)


@dataclass
class Chunk:
    """Some lines: (number, text) each, their functions as text, (L,) counts, and (L,) numbers of
    the columns :data:`EXTRA` that the file has."""

    lines: list[tuple[int, str]]
    functions: list[str]
    count: np.ndarray
    extra: dict[str, np.ndarray] = field(default_factory=dict)


class TextReader:
    """Reads the numbered lines of a text table in chunks; afterwards ``notes`` says in words what
    was skipped and which columns were used."""

    def __init__(self, name: str, m: int, columns: Sequence[str] | None = None) -> None:
        self.name, self.m, self.notes = name, m, list[str]()
        self._columns = None if columns is None else _checked(columns)
        self._usual: int | None = None

    def chunks(self, lines: Iterator[tuple[int, str]]) -> Iterator[Chunk]:
        """The table, at most :data:`CHUNK_LINES` lines at a time.

        Raises :class:`InputError` naming the first line that cannot be read.
        """
        wanted = (line for line in lines if line[1] and not line[1].startswith(("#", "<!--")))
        first = next(wanted, None)
        if first is None:
            return
        layout, rest = self._layout(first, wanted)
        self._note(layout)
        if layout.separator == "|":
            rest = (line for line in rest if not _RULE.match(line[1]))
        while block := list(islice(rest, CHUNK_LINES)):
            parts = [self._split(line, layout) for line in block]
            yield (
                self._either_order(block, parts)
                if not layout.at
                else self._by_column(block, parts, layout)
            )

    def _note(self, layout: Layout) -> None:
        if layout.at:
            used = [f"{name} = column {at + 1}" for name, at in layout.at.items() if name != OTHER]
            self.notes.append(", ".join(used))
            if COUNT not in layout.at:
                self.notes.append("no counts: every line counts once")

    def _layout(
        self, first: tuple[int, str], rest: Iterator[tuple[int, str]]
    ) -> tuple[Layout, Iterator[tuple[int, str]]]:
        """The layout, from --columns or the first line, and the lines that hold functions."""
        text = first[1]
        separator = next((s for s in "\t;," if s in text), None)
        separator = "|" if text[0] == "|" else separator
        parts = split(text, separator)
        is_header = self._is_header(parts)
        if self._columns is not None:
            at = {name: i for i, name in enumerate(self._columns) if name != OTHER}
            layout = Layout(len(self._columns), separator, at)
        elif is_header:
            layout = self._named(first, parts, separator)
        elif len(parts) > 2:
            expected = f"a function and a count, not {len(parts)} columns"
            remedy = "name them, for example --columns function,_,count"
            raise bad_line(self.name, *first, expected, remedy)
        else:
            layout = Layout()
        if not is_header:
            return layout, chain([first], rest)
        shown = text if len(text) <= 60 else text[:57] + "..."
        self.notes.append(f"line {first[0]} is a header ({shown})")
        return layout, rest

    def _is_header(self, parts: list[str]) -> bool:
        """Whether a line names columns: no cell is a number or a function. A name may look like hex
        digits (``f``) only where --columns tell that the count is none."""
        if {FUNCTION, COUNT} & {part.lower() for part in parts}:
            return True
        if any(_NUMBER.match(part) or self.score(part) == 2 for part in parts):
            return False
        return (self._columns is not None and COUNT in self._columns) or not any(
            map(self.score, parts)
        )

    def _named(self, first: tuple[int, str], parts: list[str], separator: str | None) -> Layout:
        """The layout that a header gives; none if its names are others and there are two."""
        at = header_columns(parts)
        if len(parts) == 2 and COUNT in at:
            at.setdefault(FUNCTION, 1 - at[COUNT])
        if FUNCTION in at and (COUNT in at or len(parts) == 1):
            return Layout(len(parts), separator, at)
        if len(parts) > 2 or FUNCTION in at or COUNT in at:
            remedy = f"name the {len(parts)} columns, for example --columns function,_,count"
            raise bad_line(self.name, *first, "a header with function and count", remedy)
        return Layout()

    def _split(self, line: tuple[int, str], layout: Layout) -> list[str]:
        parts = split(line[1], layout.separator if layout.at else None)
        if layout.at and len(parts) != layout.width:
            expected = f"{layout.width} columns, not {len(parts)}"
            raise bad_line(self.name, *line, expected, "correct it, or name all columns: --columns")
        return parts

    def _by_column(
        self, block: list[tuple[int, str]], parts: list[list[str]], layout: Layout
    ) -> Chunk:
        at = layout.at
        functions = [part[at[FUNCTION]] for part in parts]
        count = np.ones(len(block), np.int64)
        if COUNT in at:
            texts = (part[at[COUNT]] for part in parts)
            pairs = zip(block, texts, strict=True)
            count[:] = [self.count(line, text) for line, text in pairs]
        extra = {
            name: np.array([number(part[at[name]]) for part in parts])
            for name in EXTRA
            if name in at
        }
        return Chunk(block, functions, count, extra)

    def _either_order(self, block: list[tuple[int, str]], parts: list[list[str]]) -> Chunk:
        """Lines of a function and a count in either order, or of a function alone."""
        places = [self._place(part) for part in parts]
        known = [place for place in places if place is not None]
        if self._usual is None and known:
            self._usual = int(known.count(1) > known.count(0))
        if self._usual is None:
            raise bad_line(self.name, *block[0], _AMBIGUOUS, "say which: --columns function,count")
        functions, count = [], np.ones(len(block), np.int64)
        for i, (line, part, place) in enumerate(zip(block, parts, places, strict=True)):
            if len(part) > 2:
                expected = "a function of 0 and 1 (or hex) and a count"
                raise bad_line(self.name, *line, expected, "correct or remove it")
            at = self._usual if place is None else place
            functions.append(part[at])
            if len(part) == 2:
                count[i] = self.count(line, part[1 - at])
        return Chunk(block, functions, count)

    def _place(self, parts: list[str]) -> int | None:
        """Which part of a line is the function; None if both could be (count 1000 at m = 4)."""
        if len(parts) != 2:
            return 0
        first, second = (self.score(parts[i]) * _is_count(parts[1 - i]) for i in (0, 1))
        if first != second:
            return int(second > first)
        if first:
            return None
        first, second = map(self.score, parts)
        return int(second > first) if first != second else int(len(parts[1]) > len(parts[0]))

    def score(self, text: str) -> int:
        """2 for a text that is surely a function (bits, 0x), 1 for hex digits, 0 for another."""
        if text[:2] in {"0x", "0X"} or (len(text) == self.m and set(text) <= {"0", "1"}):
            return 2
        return int(len(text) == (self.m + 3) // 4 and set(text) <= HEX)

    def count(self, line: tuple[int, str], text: str) -> int:
        """A count >= 1: ``5``, ``5.0``, ``5e3``; :class:`InputError` for another text."""
        if _NUMBER.match(text):
            value = Decimal(text)
            if value == value.to_integral_value() and 1 <= value < _LARGEST:
                return int(value)
        remedy = "give a whole count from 1 to 2^53, or remove the line"
        raise bad_line(self.name, *line, "a function of 0 and 1 (or hex) and a count", remedy)


def split(text: str, separator: str | None) -> list[str]:
    """The cells of a line, without quotes; blanks, commas and semicolons if no separator."""
    if separator == "|":
        cells = text.strip("|").split("|")
    elif separator is None:
        cells = [part for part in _BLANKS.split(text) if part]
    else:
        cells = text.split(separator)
        with contextlib.suppress(csv.Error):  # a cell of 128 KiB
            cells = next(csv.reader([text], delimiter=separator)) if '"' in text else cells
    return [cell.strip().strip("\"'") for cell in cells]


def header_columns(names: Sequence[str]) -> dict[str, int]:
    """Index of each column that is used, by what it is.

    ``function`` and ``count`` go before other words for them; :class:`InputError` for two of those.
    """
    clean = [str(name).strip().lower() for name in names]
    at: dict[str, int] = {}
    for kind in dict.fromkeys(_NAMES.values()):
        found = [i for i, name in enumerate(clean) if _NAMES.get(name) == kind]
        exact = [i for i in found if clean[i] == kind] or found
        if len(exact) > 1:
            both = " and ".join(repr(clean[i][:40]) for i in exact[:2])
            remedy = "say which with --columns, for example function,_,count"
            raise InputError(f"columns {both}", f"one column for {kind}", remedy)
        if exact:
            at[kind] = exact[0]
    return at


def _checked(columns: Sequence[str]) -> list[str]:
    names = [name.strip().lower() for name in columns]
    wrong = [name for name in names if name not in (FUNCTION, COUNT, OTHER)]
    if wrong or names.count(FUNCTION) != 1 or names.count(COUNT) > 1:
        what = f"columns={','.join(columns)[:60]}"
        expected = "function once, count at most once, _ for others"
        raise InputError(what, expected, "pass for example --columns function,_,count")
    return names


def _is_count(text: str) -> bool:
    return bool(_NUMBER.match(text)) and text[0] not in "-0"


def number(text: str) -> float:
    """The number that a text is, NaN for another."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _drawn(name: str, drawn: np.ndarray, total: int, given: int | None) -> int:
    """Networks drawn, from a column that says so in every row; what ``given`` says goes before."""
    if given is not None:
        return given
    values = np.unique(drawn)
    if len(values) != 1 or values[0] != np.floor(values[0]) or not total <= values[0] < _LARGEST:
        what = f"{name}: column samples of {len(values)} different values up to {values.max():.6g}"
        expected = f"one whole number of at least the sum of counts, {total}"
        raise InputError(what, expected, "pass --samples")
    return int(values[0])


def samples_of(
    name: str, count: np.ndarray, extra: dict[str, np.ndarray], given: int | None
) -> tuple[int, list[str]]:
    """Number of networks drawn, from the column ``p`` = count / samples; and what to say of it.

    The sum of the counts where neither ``given`` nor the file tells another number. Raises
    :class:`InputError` if ``given`` is less than that sum, or not what ``p`` says; if ``p`` says
    that there were more samples but has too few digits to say how many; or if the rows are symmetry
    classes, whose counts belong to several functions.
    """
    notes: list[str] = []
    total = float(count.sum(dtype=float))
    if total >= _LARGEST or (given is not None and given < total):
        low = f"at least the sum of counts, {total:.16g}"
        raise InputError(f"samples={given}", low, "leave --samples out")
    whole = int(total)
    orbit = extra.get("orbit")
    if orbit is not None and (orbit > 1).any():
        what = f"{name}: counts of symmetry classes (orbit up to {np.nanmax(orbit):g})"
        expected = "counts of functions"
        raise InputError(what, expected, "write the table of the functions, not of the classes")
    effect = extra.get("design_effect")
    if effect is not None and (effect > 1).any():
        notes.append(
            f"design effects up to {np.nanmax(effect):.3g} are not kept: the samples count as "
            "independent, so intervals are too short; use the run itself"
        )
    drawn = extra.get("samples")
    if drawn is not None:
        return _drawn(name, drawn, whole, given), notes
    p = extra.get("p")
    if p is None or not ((p > 0) & (p <= 1)).all():
        return given or whole, notes
    top = int(np.argmax(count))
    samples = round(float(count[top]) / float(p[top]))
    off = float(np.abs(p * samples / count - 1).max())
    if off > _ALIKE:
        return given or whole, [*notes, "column p is not count / samples and was not used"]
    if off > _SAME:
        if given is None and abs(samples / total - 1) > 2 * off:
            what = f"{name}: p of few digits, of about {samples:.4g} samples, counts {whole:,}"
            raise InputError(what, "the number of samples", "pass it: --samples")
        return given or whole, notes
    if given is not None and given != samples:
        what = f"samples={given}"
        raise InputError(what, f"{samples}, as the column p of {name} says", "leave --samples out")
    return samples, [*notes, f"{samples:,} samples, by the column p"]
