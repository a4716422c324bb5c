"""``simprior import``: a text file of functions and counts -> a run directory."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from simprior.cli.common import Output
from simprior.cli.output import key_values, print_json, set_up_logging
from simprior.cli.values import Integer, MaybeCount, MaybePath, choice
from simprior.errors import InputError

if TYPE_CHECKING:
    import numpy as np

_SEPARATOR = re.compile(r"[\s,;]+")
_CHUNK_LINES = 1 << 18


@dataclass(frozen=True, kw_only=True)
class Import(Output):
    """Turn a text file of functions and counts into a run directory.

    A line is a function (bits, or 0x and hex digits) and a count in either order, with blanks, a
    tab or a comma between, or a function alone, which counts once.
    """

    file: Annotated[Positional[Path], arg(help="the text file")]
    n: Annotated[Integer, arg(help="input bits; a function has 2^n outputs")] = 7
    bit_order: Annotated[
        str,
        choice("standard", "reversed"),
        arg(help="standard: first character = input 0; reversed: older C++ tools"),
    ] = "standard"
    samples: Annotated[MaybeCount, arg(help="networks drawn (default: the sum of counts)")] = None
    out: Annotated[MaybePath, arg(help="run directory; refused if not empty")] = None
    overwrite: Annotated[bool, arg(help="remove an earlier run in --out first")] = False


SPEC = Import


def run(spec: Import) -> int:
    """Read, count, save, print the totals."""
    set_up_logging(spec.quiet)
    from simprior.network import MAX_BITS

    if not 1 <= spec.n <= MAX_BITS:
        raise InputError(
            f"n={spec.n}", f"an integer from 1 to {MAX_BITS}", "pass for example --n 7"
        )
    if spec.out is None:
        raise InputError("out=none", "a run directory", "pass for example --out results/old")
    from simprior.boolean.counts import FunctionCounts

    m = 1 << spec.n
    words, count = read_counts(spec.file, m, spec.bit_order)
    total = int(count.sum())
    samples = total if spec.samples is None else spec.samples
    if samples < total:
        raise InputError(
            f"samples={samples}", f"at least the sum of counts, {total}", "leave --samples out"
        )
    counts = FunctionCounts.from_counts(words, count, m=m, n=spec.n, samples=samples)
    counts.save(spec.out, overwrite=spec.overwrite)
    summary = counts.summary()
    if spec.json:
        print_json(summary)
    else:
        print(key_values(summary))
    return 0


def read_counts(path: Path, m: int, order: str) -> tuple[np.ndarray, np.ndarray]:
    """(F, W) packed functions and (F,) counts of a text file, in the order of its lines.

    Raises :class:`InputError` naming the first line that cannot be read.
    """
    import numpy as np

    blocks: list[np.ndarray] = []
    counts: list[np.ndarray] = []
    try:
        with path.open(encoding="utf-8") as handle:
            lines = ((number, text.strip()) for number, text in enumerate(handle, 1))
            wanted = ((number, text) for number, text in lines if text and text[0] != "#")
            while chunk := list(islice(wanted, _CHUNK_LINES)):
                functions, block = _read_chunk(path, chunk, m, order)
                blocks.append(functions)
                counts.append(block)
    except OSError as error:
        raise InputError(
            f"file={path}", f"a readable text file ({error.strerror})", "check the path"
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"file={path}", "a text file", "it holds other bytes") from None
    if not blocks:
        raise InputError(f"file={path}", "at least one line with a function", "it is empty")
    return np.concatenate(blocks), np.concatenate(counts)


def _read_chunk(
    path: Path, chunk: list[tuple[int, str]], m: int, order: str
) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np

    from simprior.boolean.truthtable import n_words

    parts = [[part for part in _SEPARATOR.split(text) if part] for _, text in chunk]
    places = [_function_place(pair, m) for pair in parts]
    usual = 1 if places.count(1) > places.count(0) else 0
    functions, counts = [], []
    for line, part, place in zip(chunk, parts, places, strict=True):
        function, count = _split_line(path, line, part, usual if place is None else place)
        functions.append(function)
        counts.append(count)
    words = np.empty((len(chunk), n_words(m)), dtype=np.uint64)
    is_hex = np.array([function[:2] in {"0x", "0X"} for function in functions])
    for flag in (False, True):
        where = np.flatnonzero(is_hex == flag)
        if where.size:
            part = [functions[i] for i in where]
            numbered = [chunk[i] for i in where]
            words[where] = _pack(path, numbered, part, m, order, is_hex=flag)
    return words, np.array(counts, dtype=np.int64)


def _pack(
    path: Path, lines: list[tuple[int, str]], texts: list[str], m: int, order: str, *, is_hex: bool
) -> np.ndarray:
    from simprior.boolean.truthtable import from_bits, from_hex

    if is_hex and order == "reversed":
        raise _bad_line(
            path, *lines[0], "bits, for hex has no reversed order", "convert it to bits"
        )
    try:
        return from_hex(texts, m) if is_hex else from_bits(texts, m, order)
    except InputError:
        for line, text in zip(lines, texts, strict=True):
            try:
                from_hex([text], m) if is_hex else from_bits([text], m, order)
            except InputError as error:
                raise _bad_line(path, *line, error.expected, "correct it, or check --n") from None
        raise


def _function_place(parts: list[str], m: int) -> int | None:
    """Which part of a line is the function; None if both could be (count 1000 at m = 4)."""
    if len(parts) != 2:
        return 0
    fits = [_is_function(part, m) for part in parts]
    if fits[0] == fits[1]:
        return None if fits[0] else int(len(parts[1]) > len(parts[0]))
    return int(fits[1])


def _split_line(path: Path, line: tuple[int, str], parts: list[str], place: int) -> tuple[str, int]:
    """(function, count) of one line."""
    if len(parts) == 1:
        return parts[0], 1
    if len(parts) == 2:
        function, count = parts[place], parts[1 - place]
        if count.isascii() and count.isdigit() and 1 <= int(count) < 2**63:
            return function, int(count)
    expected = "a function of 0 and 1 (or hex) and a count"
    raise _bad_line(path, *line, expected, "correct or remove it")


def _is_function(text: str, m: int) -> bool:
    return text[:2] in {"0x", "0X"} or (len(text) == m and set(text) <= {"0", "1"})


def _bad_line(path: Path, number: int, text: str, expected: str, remedy: str) -> InputError:
    shown = text if len(text) <= 60 else text[:57] + "..."
    return InputError(f"{path}, line {number}: {shown!r}", expected, remedy)
