"""Data in tables: CSV, Parquet and ARFF files as features, labels and a note of what was dropped.

One column holds the labels: the one named, or the only one called label, class, target or y (in
any case). All others must be numbers. A column that only numbers the rows is no feature: one
without a name (``DataFrame.to_csv()`` writes it), one called id or index with a different whole
number in every row, and a first column that counts the rows are left out, and said. A first column
that may number the rows of a larger table (whole numbers that rise from row to row, or a shuffled
numbering) is refused: sorted or filtered by class, it would give the class away.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.checks import SHOWN, unknown
from simprior.errors import InputError
from simprior.runs.text_files import (
    Records,
    check_names,
    is_number,
    read_records,
    read_text,
    short,
    unreadable,
)
from simprior.training.arff import Attribute, read_arff
from simprior.training.images import as_text, is_missing

if TYPE_CHECKING:
    import pandas as pd

LABELS = ("label", "class", "target", "y")
SUFFIXES = (".arff", ".csv", ".tsv", ".parquet")
_ROW_NAMES = re.compile(r"(unnamed: \d+(\.\d+)?)?\Z")
_IDS = frozenset(("id", "index", "idx", "row", "row_id", "rowid", "row_names", "rownames"))
_LARGE = 1 << 20  # characters
_BY_CHANCE = 12  # so few whole numbers may all differ by chance
_FEW_ROWS = 5  # so few numbers may count the rows by chance
_MANY_NAMES = 12  # so many numbers that count up are names, not data
_BOOLS = {"true": 1.0, "false": 0.0}


@dataclass(eq=False)
class Columns:
    """A table read: ``features`` (k, d) float64 with NaN where a value is missing, their ``names``,
    ``labels`` k texts (None: missing) from the column ``label``, ``mixed`` if that may hold both
    numbers and words, what was left out or decided (``notes``), and what stood for a missing label
    (``marks``)."""

    names: list[str]
    features: np.ndarray
    labels: list[str | None]
    label: str
    mixed: bool = False
    notes: list[str] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)


def table_suffix(path: Path) -> str | None:
    """``.csv`` for ``x.csv`` and ``X.CSV.gz``; None for what is no table."""
    name = path.name.lower().removesuffix(".gz")
    return next((suffix for suffix in SUFFIXES if name.endswith(suffix)), None)


def read_table(path: Path, label: str | None) -> Columns:
    """The table in a file, without the columns that only number its rows.

    Raises :class:`InputError` (one line) for a damaged or ambiguous file; :class:`OSError`.
    """
    kind = table_suffix(path)
    readers: dict[str | None, Callable[[Path, str | None], Columns]] = {
        ".arff": _read_arff,
        ".parquet": _read_parquet,
    }
    try:
        found = readers.get(kind, _read_csv)(path, label)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise unreadable(f"data={str(path)!r}", " ".join(str(error).split())) from None
    _drop_row_numbers(found, str(path))
    for name in found.names:
        if name.lower() in LABELS:
            found.notes.append(f"column {short(name)!r} is a feature")
    if not found.names:
        raise unreadable(
            f"data={str(path)!r}",
            f"no column of features beside the label {short(found.label)!r}"
            + "".join(f"; {note}" for note in found.notes),
            "if a feature counts the rows, shuffle them",
        )
    return found


def choose_label(path: Path, names: Sequence[str], label: str | None, headless: bool) -> int:
    """The place of the label column. Raises :class:`InputError` unless exactly one is meant."""
    if label is not None:
        return _named(names, label)
    found = [i for i, name in enumerate(names) if name.lower() in LABELS]
    if len(found) == 1:
        return found[0]
    shown = ", ".join(short(name) for name in names[:12]) + (", ..." if len(names) > 12 else "")
    what = f"data={str(path)!r} with {len(found)} columns called {', '.join(LABELS)}"
    expected = f"the name of the column with the labels (of {shown})"
    if headless:
        what = f"data={str(path)!r}, whose first row is numbers, not names"
        expected = f"the number of the column with the labels, 1 to {len(names)}, first or last"
    example = names[found[0]] if found else ("first" if headless else names[-1])
    raise InputError(what, expected, f"pass for example --label {short(example)}")


def _named(names: Sequence[str], label: str) -> int:
    if label in names:
        return names.index(label)
    near = [i for i, name in enumerate(names) if name.lower() == label.strip().lower()]
    if len(near) == 1:
        return near[0]
    ends = {"first": 0, "last": len(names) - 1}
    if label.lower() in ends:
        return ends[label.lower()]
    raise unknown(f"label={short(label)!r}", label, [short(name) for name in names[:SHOWN]])


def _read_csv(path: Path, label: str | None) -> Columns:
    records = read_records(path)
    head = records.head()
    headless, notes = _header(head)
    names = [str(i + 1) for i in range(len(head[0]))] if headless else [n.strip() for n in head[0]]
    width = len(names)
    if headless:
        notes.append(f"no names: the first row is data, columns are 1 to {width}")
    rows = _rows(records, width, headless)
    left_out = _unnamed(names, notes, records, headless)
    check_names(names)
    where = choose_label(path, names, label, headless)
    places = [i for i in range(width) if i != where and i not in left_out]
    fast = _fast_cells(records, width, headless, places, where)
    features, texts = fast if fast is not None else _cells(rows, names, places, where)
    labels = [as_text(text) for text in texts]
    marks = [str(t).strip() for t, text in zip(texts, labels, strict=True) if text is None]
    return Columns([names[i] for i in places], features, labels, names[where], False, notes, marks)


def _header(head: list[list[str]]) -> tuple[bool, list[str]]:
    """Whether the first record is data; raises :class:`ValueError` if it could be either."""
    first = [cell.strip() for cell in head[0]]
    numbers = [i for i, cell in enumerate(first) if is_number(cell)]
    if not numbers:
        return False, []
    words = [i for i, c in enumerate(first) if not is_number(c) and not is_missing(c)]
    counting = len(numbers) > 1 and _counts_up([first[i] for i in numbers])
    if not words:
        if counting and len(numbers) > _MANY_NAMES and len(first) - len(numbers) <= 1:
            return False, ["names are numbers that count the columns"]
        if counting and first[numbers[0]] in {"0", "1"}:
            raise ValueError(
                f"its first row, {short(','.join(first))}, could be names or data: name the columns"
            )
        return True, []
    below = [row for row in head[1:] if len(row) == len(first)]
    recurs = any(first[i] == row[i].strip() for i in words for row in below)
    if recurs and not counting:
        return True, []
    named = any(first[i].lower() in LABELS for i in words)
    if not recurs and (named or (counting and len(numbers) > _MANY_NAMES)):
        return False, [f"the first row is names, {len(numbers)} of them numbers"]
    raise ValueError(
        f"its first row, {short(','.join(first))}, could be names or data: name columns in words"
    )


def _counts_up(cells: Sequence[str]) -> bool:
    """Whether the cells are whole numbers, each one more than the one before."""
    if not all(cell.isascii() and cell.isdigit() for cell in cells):
        return False
    values = [int(cell) for cell in cells]
    return values == list(range(values[0], values[0] + len(values)))


def _rows(records: Records, width: int, headless: bool) -> Iterator[tuple[int, list[str]]]:
    """The records that are data, each as wide as the first."""
    for place, (line, cells) in enumerate(records):
        if len(cells) != width:
            more = (
                ": a delimiter at its end, or row names without a name?"
                if (len(cells) == width + 1)
                else ""
            )
            raise ValueError(f"line {line} has {len(cells)} values, the first row {width}{more}")
        if place or headless:
            yield line, cells


def _unnamed(names: list[str], notes: list[str], records: Records, headless: bool) -> set[int]:
    """Places of the columns without a name: row names in front, an empty column at the end."""
    if headless:
        return set()
    found = {i for i, name in enumerate(names) if _ROW_NAMES.match(name.lower())}
    for place in sorted(found):
        title = short(names[place]) or "without a name"
        if place == 0 or names[place]:
            notes.append(f"column {place + 1} ({title}) dropped: row names")
            continue
        filled = any(cells[place].strip() for _, cells in _rows(records, len(names), False))
        if place != len(names) - 1 or filled:
            raise ValueError(f"column {place + 1} has no name")
        notes.append(f"column {place + 1} ({title}) dropped: it is empty")
    return found


def _fast_cells(
    records: Records, width: int, headless: bool, places: list[int], where: int
) -> tuple[np.ndarray, list[str | None]] | None:
    """As :func:`_cells` by numpy, for a large text without quotes in which nothing is missing,
    ragged or no number; None for any other, which the slow way reads or refuses by name."""
    text = (records.text if headless else records.text.partition("\n")[2]).rstrip("\n")
    if len(text) < _LARGE or '"' in text or "\n\n" in text or not places:
        return None
    options: dict[str, Any] = {"delimiter": records.delimiter, "comments": None, "ndmin": 2}
    try:
        features = np.loadtxt(io.StringIO(text), np.float64, usecols=places, **options)
        labels = np.loadtxt(io.StringIO(text), str, usecols=[where], **options)[:, 0].tolist()
    except ValueError:
        return None
    if not np.isfinite(features).all():
        return None
    if text.count(records.delimiter) != len(features) * (width - 1):
        return None
    return features, labels


def _cells(
    rows: Iterable[tuple[int, Sequence[str | None]]],
    names: Sequence[str],
    places: list[int],
    where: int,
) -> tuple[np.ndarray, list[str | None]]:
    """(k, d) features and k labels, as they stand there, of rows of text."""
    features: list[np.ndarray] = []
    labels: list[str | None] = []
    for line, cells in rows:
        labels.append(cells[where])
        chosen = [cells[i] for i in places]
        features.append(_numbers(chosen, line, names, places))
    return np.array(features).reshape(len(labels), len(places)), labels


def _numbers(
    cells: Sequence[str | None], line: int, names: Sequence[str], places: Sequence[int]
) -> np.ndarray:
    """A row of features: quickly where all is plain, else cell by cell with a name to blame."""
    try:
        whole = "".join(cells)  # type: ignore[arg-type]
        if whole.isascii() and "_" not in whole:
            return np.array(list(map(float, cells)))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        pass
    return np.array(
        [_number(cell, f"line {line}", names[i]) for cell, i in zip(cells, places, strict=True)]
    )


def _number(cell: str | None, where: str, name: str) -> float:
    """One feature; NaN if it is missing. Raises :class:`ValueError` naming it."""
    text = "" if cell is None else cell.strip()
    if is_missing(text):
        return np.nan
    if is_number(text):
        return float(text)
    if text.lower() in _BOOLS:
        return _BOOLS[text.lower()]
    if text.lower().lstrip("+-") in {"inf", "infinity"}:
        return np.inf
    cause = "no number"
    if re.fullmatch(r"[+-]?\d+(,\d{3})*(\.\d+)?|[+-]?\d*,\d+", text, re.ASCII):
        cause = "a number with a comma: write 1234.5 for 1,234.5 or 1234,5"
    elif "#" in text:
        cause = "no number: only whole lines above the names are comments"
    raise ValueError(f"column {short(name)!r} has {short(text)!r} in {where}, {cause}")


def _read_arff(path: Path, label: str | None) -> Columns:
    table = read_arff(read_text(path))
    names = [attribute.name.strip() for attribute in table.attributes]
    check_names(names)
    where = choose_label(path, names, label, False)
    places = [i for i in range(len(names)) if i != where]
    _no_dates(table.attributes, places)
    features, labels = _cells(table, names, places, where)
    mixed = table.attributes[where].kind == "nominal"
    if not mixed:  # what is declared as a value is not missing, be it None
        labels = [as_text(text) for text in labels]
    return Columns([names[i] for i in places], features, labels, names[where], mixed)


def _no_dates(attributes: Sequence[Attribute], places: Sequence[int]) -> None:
    for i in places:
        if attributes[i].kind == "date":
            raise ValueError(f"column {short(attributes[i].name)!r} holds dates")


def _read_parquet(path: Path, label: str | None) -> Columns:
    import pandas as pd
    import pyarrow.parquet as pq

    try:
        check_names(pq.read_schema(path).names)
        frame = pd.read_parquet(path)
    except (OSError, InputError):
        raise
    except Exception as error:  # every reader has its own classes of errors
        raise ValueError(" ".join(str(error).split())[:120]) from None
    frame, notes = _index_of(frame)
    names = [str(name).strip() for name in frame.columns]
    check_names(names)
    frame.columns = pd.Index(names)
    if not names:
        raise ValueError("no columns")
    for name in [n for n in names if _ROW_NAMES.match(n.lower()) or n == "__index_level_0__"]:
        notes.append(f"column {short(name) or 'without a name'} dropped: row names")
        names.remove(name)
    where = choose_label(path, names, label, False)
    chosen = names.pop(where)
    values = [_feature(frame[name], name) for name in names]
    features = np.array(values).T.reshape(len(frame), len(names))
    labels = [as_text(_known(value)) for value in frame[chosen]]
    words = not pd.api.types.is_numeric_dtype(frame[chosen])
    return Columns(names, features, labels, chosen, words, notes)


def _index_of(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The table with the named levels of its index as columns; row names without a name are left
    out, and reported unless they only count the rows."""
    import pandas as pd

    named = [name for name in frame.index.names if name is not None]
    clash = [str(name) for name in named if name in frame.columns]
    if clash:
        raise ValueError(f"{short(clash[0])!r} is a column and names the index")
    if len(named) < frame.index.nlevels:
        plain = isinstance(frame.index, pd.RangeIndex) or frame.index.equals(
            pd.RangeIndex(len(frame))
        )
        notes = [] if plain else ["index (without a name) dropped: row names"]
        return (frame.reset_index(level=named) if named else frame), notes
    return frame.reset_index(), []


def _known(value: Any) -> Any:
    """None for pandas' missing values."""
    import pandas as pd

    return None if pd.api.types.is_scalar(value) and pd.isna(value) else value


def _feature(column: pd.Series[Any], name: str) -> np.ndarray:
    """A column of a data frame as float64, NaN where a value is missing."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_complex_dtype(column):
        return column.to_numpy(np.float64, na_value=np.nan)
    if pd.api.types.is_datetime64_any_dtype(column) or column.dtype.kind == "m":
        raise ValueError(f"column {short(name)!r} holds dates")
    cells = (as_text(_known(value)) for value in column)
    return np.array([_number(cell, f"row {i}", name) for i, cell in enumerate(cells, 1)])


def _drop_row_numbers(table: Columns, what: str) -> None:
    """Leave out columns that only number the rows."""
    count = len(table.features)
    drop = []
    for i, name in enumerate(table.names):
        column = table.features[:, i]
        if name.lower() not in _IDS and (i or count < _FEW_ROWS):
            continue
        if count > 1 and _numbers_rows(column, any_order=name.lower() in _IDS):
            drop.append(i)
            table.notes.append(f"column {short(name)!r} dropped: it numbers the rows")
        elif i == 0 and _may_number_rows(column):
            raise unreadable(
                f"data={what!r}",
                f"column {short(name)!r} comes first, has a different whole number in every row "
                "and may number the rows of a larger table, which gives labels away",
                "remove it, or if it is a feature, put another column before it",
            )
    if drop:
        table.names = [name for i, name in enumerate(table.names) if i not in drop]
        table.features = np.delete(table.features, drop, axis=1)


def _may_number_rows(column: np.ndarray) -> bool:
    """Whole numbers without a repeat that rise or fall throughout, or leave out at most three of
    four of those between the least and the largest."""
    if not np.isfinite(column).all() or (column != np.floor(column)).any():
        return False
    if len(column) < _BY_CHANCE or len(np.unique(column)) < len(column):
        return False
    steps = np.diff(column)
    dense = np.ptp(column) < 4 * len(column)
    return bool((steps > 0).all() or (steps < 0).all() or dense)


def _numbers_rows(column: np.ndarray, any_order: bool) -> bool:
    if any_order:
        whole = np.isfinite(column).all() and (column == np.floor(column)).all()
        return bool(whole and len(np.unique(column)) == len(column))
    start = column[0]
    if not np.isfinite(start) or start != np.floor(start):
        return False
    return bool((column == start + np.arange(len(column))).all())
