"""Functions and counts from files made elsewhere (``simprior import``).

Text tables (blanks, CSV, Markdown), JSON and Parquet as ``simprior table`` writes them, PLA, BLIF;
gzip too. :func:`read_functions` says in words what it read.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import IO, Any, cast

import numpy as np

from simprior.boolean.import_text import (
    COUNT,
    EXTRA,
    FUNCTION,
    HEX,
    Chunk,
    TextReader,
    header_columns,
    number,
    samples_of,
)
from simprior.boolean.logic import bad_line, read_blif, read_pla
from simprior.boolean.truthtable import from_bits, from_hex, n_words, pack
from simprior.checks import Integer, whole
from simprior.errors import InputError
from simprior.network.spec import MAX_BITS

DEFAULT_BITS = 7
_BLIF_KEYS = (".model", ".inputs", ".outputs", ".names", ".search")


@dataclass(frozen=True)
class Imported:
    """What a file holds.

    Attributes
    ----------
    words : (F, W) uint64
        Packed functions in the order of the file; one may come more than once.
    count : (F,) int64
        Their counts.
    m, n : int
        Number of inputs; number of bits (0 when the inputs are not all bit strings).
    samples : int
        Number of networks drawn; the sum of the counts where the table lists all.
    notes : tuple of str
        What was read, skipped and assumed.
    """

    words: np.ndarray
    count: np.ndarray
    m: int
    n: int
    samples: int
    notes: tuple[str, ...] = ()

    @property
    def report(self) -> str:
        """What was read, in one line."""
        return self.said(len(np.unique(self.words, axis=0)))

    def said(self, distinct: int) -> str:
        """What was read, in one line, with the number of different functions."""
        total = int(self.count.sum())
        kind = f"n={self.n}" if self.n else f"m={self.m}"
        twice = max(0, len(self.words) - distinct)
        read = [_many(len(self.words), "line"), _many(distinct, "function"), kind]
        parts = [f"{', '.join(read)}, counts {total:,}"]
        parts += [f"functions repeated on {_many(twice, 'line')}: counts added"] if twice else []
        return "; ".join([*parts, *self.notes])


def read_functions(
    path: Path | str,
    *,
    n: int | None = None,
    m: int | None = None,
    order: str = "standard",
    columns: Sequence[str] | None = None,
    samples: int | None = None,
) -> Imported:
    """The functions and counts of a file.

    Parameters
    ----------
    path : Path
        A text table: lines of a function (bits, or hex with or without ``0x``) and a count in
        either order, or a function alone, which counts once; with a header of ``function`` and
        ``count`` any columns. Or JSON, Parquet or Markdown as written by ``simprior table``; PLA or
        BLIF (one function). Any of them compressed by gzip.
    n, m : int, optional
        Bits of an input, so that m = 2^n; or m alone, for labels of any m inputs (n is then 0).
        Default: n = 7, or what a PLA or BLIF file says.
    order : str
        ``standard`` or ``reversed`` (:mod:`simprior.boolean.truthtable`).
    columns : sequence of str, optional
        What the columns of a text table are: ``function``, ``count``, or ``_`` for any other.
    samples : int, optional
        Networks drawn, at least the sum of the counts. Default: by a column ``p`` (count / samples)
        if there is one, else that sum.

    Raises
    ------
    InputError
        The file cannot be read, or a line of it, which the message names; or it is ambiguous.
    """
    file = _File.of(Path(path))
    bits, inputs = _sizes(n, m)
    form = _form(file)
    if form in ("pla", "blif"):
        return _logic(file, form, n, samples, {"m": m, "bit-order": order, "columns": columns})
    if form != "text":
        if columns is not None:
            shown = ",".join(columns)[:60]
            raise InputError(f"columns={shown}", "none: the file names its own", "leave it out")
        chunks, notes = iter([_json(file) if form == "json" else _parquet(file)]), list[str]()
    else:
        reader = TextReader(str(path), inputs, columns)
        chunks, notes = reader.chunks(_lines(file)), reader.notes
    parts = [(_packed(str(path), c, inputs, order), c.count, c.extra) for c in chunks]
    if not parts:
        raise InputError(f"file={path}", "at least one line with a function", "it has none")
    words, count = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    extra = {name: np.concatenate([part[2][name] for part in parts]) for name in parts[0][2]}
    samples, more = samples_of(str(path), count, extra, samples)
    return Imported(words, count, inputs, bits, samples, (*notes, *more))


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _sizes(n: int | None, m: int | None) -> tuple[int, int]:
    """(n, m) of the functions."""
    if n is not None and m is not None:
        raise InputError(f"n={n} with m={m}", "one of the two", "leave --m out for 2^n inputs")
    if m is not None:
        return 0, whole("m", m, 1, 1 << MAX_BITS)
    n = DEFAULT_BITS if n is None else n
    n = Integer(1, MAX_BITS, "pass for example --n 7")("n", n)
    return n, 1 << n


@dataclass(frozen=True)
class _File:
    """A file by its path, and what it holds if it can be read only once (a pipe)."""

    path: Path
    content: bytes | None = None

    @classmethod
    def of(cls, path: Path) -> _File:
        try:
            once = path.exists() and not path.is_file() and not path.is_dir()
            return cls(path, path.read_bytes() if once else None)
        except OSError as error:
            raise _unreadable(path, error) from None

    def __str__(self) -> str:
        return str(self.path)

    def open(self) -> IO[bytes]:
        """The bytes, decompressed if they are gzip's."""
        try:
            with self._raw() as file:
                packed = file.read(2) == b"\x1f\x8b"
            raw = self._raw()
        except OSError as error:
            raise _unreadable(self.path, error) from None
        return cast(IO[bytes], _Unpacked(raw) if packed else raw)

    def _raw(self) -> IO[bytes]:
        return self.path.open("rb") if self.content is None else BytesIO(self.content)


class _Unpacked(gzip.GzipFile):
    """A gzip file that closes what it reads from."""

    def __init__(self, raw: IO[bytes]) -> None:
        super().__init__(fileobj=raw)
        self._raw_file = raw

    def close(self) -> None:
        super().close()
        self._raw_file.close()


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"file={path}", f"a readable text file ({error.strerror})", "check the path")


@contextmanager
def _reading(path: _File) -> Iterator[IO[bytes]]:
    """An open file; broken gzip data become an :class:`InputError`."""
    with path.open() as file:
        try:
            yield file
        except (gzip.BadGzipFile, EOFError, zlib.error, OSError) as error:
            reason = " ".join(str(error).split())[:100]
            raise InputError(f"file={path}", f"a whole file ({reason})", "fetch it again") from None


def _lines(path: _File) -> Generator[tuple[int, str], None, None]:
    """Numbered lines without blanks around them."""
    try:
        with _reading(path) as file, TextIOWrapper(file, encoding="utf-8-sig") as lines:
            for number, text in enumerate(lines, 1):
                yield number, text.strip()
    except UnicodeDecodeError:
        raise InputError(f"file={path}", "a text file in UTF-8", "it holds other bytes") from None


def _form(path: _File) -> str:
    """``text``, ``json``, ``parquet``, ``pla`` or ``blif``: by the name for the last two, and by
    the first line that is no comment."""
    with _reading(path) as file:
        if file.read(4) == b"PAR1":
            return "parquet"
    names = [suffix.lower() for suffix in path.path.suffixes if suffix.lower() != ".gz"]
    if names and names[-1] in (".pla", ".blif"):
        return names[-1][1:]
    with closing(_lines(path)) as lines:
        text = next((text for _, text in lines if text and text[0] != "#"), "")
    if text[:1] in ("{", "["):
        return "json"
    if text.startswith(_BLIF_KEYS):
        return "blif"
    if text[:1] == "%" or text.startswith("\\begin"):
        remedy = "write it again with simprior table --format csv"
        raise InputError(f"file={path}", "a table with all its digits, not LaTeX", remedy)
    return "pla" if text[:1] == "." and text[1:2].isalpha() else "text"


def _logic(
    path: _File, form: str, n: int | None, samples: int | None, other: dict[str, Any]
) -> Imported:
    """The one function of a PLA or BLIF file."""
    for name, value in other.items():
        if value not in (None, "standard"):
            what = f"{name}={value} with a {form.upper()} file"
            raise InputError(what, "the order and inputs of the file", f"leave --{name} out")
    found = (read_pla if form == "pla" else read_blif)(str(path), _lines(path))
    if n is not None and n != found.n:
        raise InputError(f"n={n}", f"the {found.n} inputs of {path}", "leave --n out")
    names = ", ".join(found.inputs[:8]) + (", ..." if found.n > 8 else "")
    note = f"{form.upper()}: {found.output} as a function of x1, x2, ... = {names}"
    words, one = pack(found.table[None]), np.ones(1, np.int64)
    return Imported(words, one, 1 << found.n, found.n, samples or 1, (note,))


def _json(path: _File) -> Chunk:
    """A table as ``simprior table --format json`` writes it."""
    try:
        with _reading(path) as file:
            value = json.loads(file.read().decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise InputError(f"file={path}", "JSON", "it is broken, or of another form") from None
    if isinstance(value, dict):  # "functions": of earlier versions, which also wrote plain lists
        value = value.get("table", value.get("functions"))
    rows = value
    if not isinstance(rows, list) or not rows or not all(isinstance(r, dict) for r in rows):
        what = f"file={path}"
        raise InputError(what, "rows with function and count", "write it with simprior table")
    return _columns(path, {str(k): [r.get(k) for r in rows] for k in rows[0]})


def _parquet(path: _File) -> Chunk:
    """A table as ``simprior table --format parquet`` writes it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with _reading(path) as file:
            table = pq.read_table(BytesIO(file.read()))
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"file={path}", f"Parquet ({reason})", "fetch it again") from None
    names = table.column_names
    used = {names[i] for i in header_columns(names).values()}
    return _columns(path, {n: table[n].to_pylist() if n in used else [] for n in names})


def _columns(path: _File, values: dict[str, list[Any]]) -> Chunk:
    """The table with these columns."""
    names = list(values)
    at = header_columns(names)
    if FUNCTION not in at or COUNT not in at:
        what = f"{path}: columns {', '.join(names)[:80]}"
        remedy = "use a run directory as it is; tables of watched functions have no counts"
        raise InputError(what, "function and count among them", remedy)
    functions = [str(value) for value in values[names[at[FUNCTION]]]]
    lines = list(enumerate(functions, 1))
    reader = TextReader(str(path), 1)
    texts = map(str, values[names[at[COUNT]]])
    count = np.array([reader.count(*pair) for pair in zip(lines, texts, strict=True)], np.int64)
    extra = {
        name: np.array([number(str(value)) for value in values[names[at[name]]]])
        for name in EXTRA
        if name in at
    }
    return Chunk(lines, functions, count, extra)


def _packed(name: str, chunk: Chunk, m: int, order: str) -> np.ndarray:
    """(L, W) words of the functions of some lines."""
    words = np.empty((len(chunk.functions), n_words(m)), np.uint64)
    is_bits = np.array([len(f) == m and f.isdigit() for f in chunk.functions])
    for where, read in ((is_bits, from_bits), (~is_bits, from_hex)):
        texts = [chunk.functions[i] for i in np.flatnonzero(where)]
        if not texts:
            continue
        try:
            words[where] = read(texts, m, order)
        except InputError:
            for i in np.flatnonzero(where):
                _check_function(name, chunk.lines[i], chunk.functions[i], m, order)
            raise
    return words


def _check_function(name: str, line: tuple[int, str], text: str, m: int, order: str) -> None:
    """Raise the error of a line whose function cannot be read, if that is so."""
    as_bits = len(text) == m or (len(text) != (m + 3) // 4 and set(text) <= set("0123456789"))
    try:
        from_bits([text], m, order) if as_bits else from_hex([text], m, order)
    except InputError as error:
        raise bad_line(name, *line, error.expected, _remedy(text, m)) from None


def _remedy(text: str, m: int) -> str:
    """What to pass if all functions have the length of this one."""
    is_hex = text[:2].lower() == "0x"
    size = 4 * (len(text) - 2) if is_hex else len(text)
    readable = set(text[2:]) <= HEX if is_hex else set(text) <= {"0", "1"}
    if not readable or not 1 < size <= 1 << MAX_BITS or size in (m, 4 * ((m + 3) // 4)):
        return "correct it"
    fits = f"--n {size.bit_length() - 1}" if size & (size - 1) == 0 else f"--m {size}"
    return f"correct it, or pass {fits} if all functions have {size} outputs"
