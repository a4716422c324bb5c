"""Text files that users write and read: TOML, and delimited text such as CSV.

TOML: reading with one-line errors is the standard library's ``tomllib``; the writer knows scalars,
lists and tables. TOML has no null: keys whose value is None are left out, which a reader takes as
"the default".

Delimited text becomes records that know their lines, once comments, delimiter and header are told.
Only lines at the top that begin with ``#`` are comments: a ``#`` further down belongs to its value.
Quotes follow RFC 4180. A file is read in UTF-8 (with or without a byte order mark) or in UTF-16
with one, compressed by gzip or not; line ends may be those of Windows or of old Macs.
"""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import re
import tomllib
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simprior.errors import InputError

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")


def read_toml(path: Path | str, name: str) -> tuple[dict[str, Any], str]:
    """Values and text of a TOML file; ``name`` is the argument it was given as.

    Raises :class:`InputError` when it cannot be read or is no TOML.
    """
    try:
        text = Path(path).read_text()
        return tomllib.loads(text), text
    except OSError as error:
        raise InputError(
            f"{name}={path}", f"a readable TOML file ({error.strerror})", "check the path"
        ) from None
    except (ValueError, RecursionError) as error:  # not TOML or text, numbers of 5,000 digits
        raise InputError(f"{name}={path}", f"TOML ({error})", "correct the file") from None


def plain(value: Any) -> Any:
    """``value`` with tuples, arrays and numpy scalars replaced by what JSON and TOML know.

    Raises :class:`InputError` for anything that has no plain form.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if hasattr(value, "tolist"):  # an array or a scalar of numpy
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "__fspath__"):
        return str(value)
    raise InputError(
        f"{type(value).__name__} value {value!r}",
        "numbers, strings, lists and tables",
        "convert it before it goes into a configuration",
    )


def to_toml(values: Mapping[str, Any]) -> str:
    """The TOML text of ``values``; ``tomllib.loads`` gives back :func:`plain` of it, less Nones."""
    lines: list[str] = []
    _write_table(plain(values), (), lines)
    return "\n".join(lines).strip() + "\n"


def _write_table(table: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    scalars = {k: v for k, v in table.items() if not isinstance(v, dict) and v is not None}
    tables = {k: v for k, v in table.items() if isinstance(v, dict)}
    if path and (scalars or not tables):
        lines += ["", f"[{'.'.join(_key(part) for part in path)}]"]
    lines += [f"{_key(key)} = {_value(value)}" for key, value in scalars.items()]
    for key, value in tables.items():
        _write_table(value, (*path, key), lines)


def _key(key: str) -> str:
    return key if _BARE_KEY.match(key) else _string(key)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, list):
        if any(entry is None for entry in value):
            raise InputError(f"list {value!r}", "no None inside a list", "TOML has no null")
        return "[" + ", ".join(_value(entry) for entry in value) + "]"
    if isinstance(value, dict):
        pairs = (f"{_key(k)} = {_value(v)}" for k, v in value.items() if v is not None)
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, str):
        return _string(value)
    return str(value).lower()  # true, 10, 0.5, 1e-08, inf, nan


DELIMITERS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?\Z", re.ASCII)
_SAMPLE = 50
_SHOWN = 40


def short(text: object, width: int = _SHOWN) -> str:
    """``text`` for a message: one line, printable, and at most ``width`` characters."""
    line = "".join(c if c.isprintable() else "?" for c in str(text))
    return line if len(line) <= width else line[: width - 3] + "..."


def is_number(text: str) -> bool:
    """Whether a cell is a finite number in digits (``1_000`` and ``0x10`` are none)."""
    return _NUMBER.match(text) is not None


def read_text(path: Path) -> str:
    """The text of a file, with ``\\n`` between lines and without a byte order mark.

    Raises :class:`ValueError` (one line: why) for what is no text, :class:`OSError`.
    """
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (zlib.error, EOFError, OSError) as error:
            raise ValueError(f"it is compressed, but damaged: {error}") from None
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = data.decode("utf-16")
    elif b"\0" in data or data[:4] == b"PK\x03\x04":
        raise ValueError("it holds bytes that no text has")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            raise ValueError(
                f"line {line} is not in UTF-8 (byte 0x{data[error.start]:02x}): save it as UTF-8"
            ) from None
    if "\0" in text:
        raise ValueError("it holds bytes that no text has")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def without_comments(text: str) -> tuple[str, int]:
    """``text`` from its first line that is neither empty nor a comment (``#``) on, and how many
    lines are above that."""
    start = lines = 0
    while start < len(text):
        end = text.find("\n", start)
        line = text[start : end if end >= 0 else len(text)].strip()
        if line and line[0] != "#":
            break
        start = end + 1 if end >= 0 else len(text)
        lines += 1
    return text[start:], lines


@dataclass(frozen=True)
class Records:
    """The records of a delimited text: iterating gives (line number, cells), empty lines left out.

    ``skipped`` is the number of lines above the first record.
    """

    text: str
    delimiter: str
    skipped: int

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        reader = csv.reader(
            _lines(self.text), delimiter=self.delimiter, strict=True, skipinitialspace=True
        )
        while True:
            first = self.skipped + reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise ValueError(f"line {self.skipped + reader.line_num}: {error}") from None
            if cells:
                yield first, cells

    def head(self) -> list[list[str]]:
        """Cells of the first records."""
        return [cells for _, cells in itertools.islice(self, _SAMPLE)]


def _lines(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end + 1
        yield text[start:end]
        start = end


def read_records(path: Path) -> Records:
    """The records of a file, its delimiter found from the first of them.

    Raises :class:`ValueError` (why) when it is no text, is empty or has no delimiter.
    """
    text, skipped = without_comments(read_text(path))
    if not text.strip():
        raise ValueError("it is empty")
    return Records(text, _delimiter(text, skipped), skipped)


def _delimiter(text: str, skipped: int) -> str:
    """The delimiter by which most of the first records have as many cells as the first of all."""
    scores, problems = {}, []
    for delimiter in DELIMITERS:
        try:
            widths = [len(cells) for cells in Records(text, delimiter, skipped).head()]
        except ValueError as error:
            problems.append(error)
            continue
        if widths[0] > 1:
            scores[delimiter] = sum(width == widths[0] for width in widths) / len(widths)
    if not scores and problems:
        raise problems[0]
    if not scores:
        raise ValueError("no comma, semicolon, tab or bar between the values of its first line")
    best = [d for d, score in scores.items() if score == max(scores.values())]
    if len(best) > 1 and "," in best:  # 1,5;2,5: decimal commas, refused with their values
        best.remove(",")
    if len(best) > 1:
        raise ValueError(f"{' and '.join(DELIMITERS[d] for d in best)} could be its delimiter")
    return best[0]


def check_shape(records: Records) -> None:
    """Raise :class:`ValueError` unless all records have the width of the first, whose cells (names)
    all differ."""
    names: list[str] = []
    for line, cells in records:
        names = names or cells
        if len(cells) != len(names):
            raise ValueError(f"line {line} has {len(cells)} values, the first row {len(names)}")
    check_names(names)


def check_names(names: Sequence[str]) -> None:
    """Raise :class:`ValueError` if a name occurs twice."""
    counts = Counter(name for name in names if name)
    for name, count in counts.items():
        if count > 1:
            raise ValueError(f"{count} columns are called {short(name)!r}")


def read_matrix(path: Path) -> list[list[float]]:
    """Rows of numbers with commas between and no header. Raises :class:`ValueError` (why)."""
    text, skipped = without_comments(read_text(path))
    rows: list[list[float]] = []
    for line, cells in Records(text, ",", skipped):
        word = next((cell for cell in cells if not is_number(cell.strip())), None)
        if word is not None:
            raise ValueError(f"line {line}: {short(word)!r} is no number")
        rows.append([float(cell) for cell in cells])
        if len(cells) != len(rows[0]):
            raise ValueError(f"line {line} has {len(cells)} values, the first row {len(rows[0])}")
    if not rows:
        raise ValueError("it is empty")
    return rows


def unreadable(what: str, reason: object, remedy: str = "check the file") -> InputError:
    """The error for a data file that cannot be read, in one line."""
    return InputError(what, f"a readable data file ({short(reason, 300)})", remedy)
