"""Counted functions in ascending order, in little memory.

Nearly all functions of a large table were met once. A :class:`Run` therefore holds the packed words
of its rows, and numbers only of the rows whose three numbers are not all 1. It may lie in memory or
in a :class:`Spill`, a file that runs are appended to.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numba import njit

from simprior.boolean.sampling.ordering import in_order
from simprior.errors import StoreError

# mypy: disable-error-code="no-untyped-def"

Columns: TypeAlias = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""(F, W) packed words, and count, clusters and sumsq, (F,) int64 each."""
_TRIED = 256  # rows of which one is looked at to see where the rows lie
_MARK = 4096  # rows of a spilled run between two of which it is known where their numbers lie


@dataclass(frozen=True)
class Run:
    """Rows of counted functions.

    ``words`` (F, W); ``often`` (E,) are the rows whose numbers are not 1, 1, 1, in ascending order,
    and ``numbers`` (E, 3) are theirs: count, clusters, sumsq.
    """

    words: np.ndarray
    often: np.ndarray
    numbers: np.ndarray

    def __len__(self) -> int:
        return len(self.words)

    @property
    def bytes(self) -> int:
        """Memory that it takes."""
        return int(self.words.nbytes + self.often.nbytes + self.numbers.nbytes)

    def part(self, start: int, stop: int) -> Run:
        """Rows ``start .. stop - 1``."""
        first, last = np.searchsorted(self.often, [start, stop])
        often = self.often[first:last] - start
        return Run(self.words[start:stop], often, self.numbers[first:last])

    @property
    def tried(self) -> np.ndarray:
        """Some of its words, evenly."""
        return self.words[_TRIED // 2 :: _TRIED].copy()

    @classmethod
    def of(cls, blocks: Sequence[Columns]) -> Run:
        """The rows of ``blocks`` in ascending order; equal ones are added up."""
        pieces = []
        for words, count, clusters, sumsq in blocks:
            often = np.flatnonzero((count != 1) | (clusters != 1) | (sumsq != 1))
            numbers = np.stack([column[often] for column in (count, clusters, sumsq)], axis=1)
            pieces.append(cls(np.ascontiguousarray(words), often, numbers))
        return added(pieces)

    @classmethod
    def empty(cls, n_words: int) -> Run:
        """No rows."""
        none = np.zeros(0, np.int64)
        return cls(np.zeros((0, n_words), np.uint64), none, np.zeros((0, 3), np.int64))


class Spill:
    """A file in ``folder`` to which runs are appended; it goes with its block."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.path, self.bytes = folder, folder / f"{os.getpid()}.rows", 0
        self._file: int | None = None

    def __enter__(self) -> Spill:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is None:
            return
        os.close(self._file)
        self._file = None
        self.path.unlink(missing_ok=True)
        if not any(self._folder.iterdir()):
            self._folder.rmdir()

    def keep(self, run: Run) -> Spilled:
        """Append a run. Raises ``OSError``, say of a full disk."""
        if self._file is None:
            self._folder.mkdir(exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        marks = np.searchsorted(run.often, np.arange(0, len(run) + _MARK, _MARK))
        at = [self._append(part) for part in (run.words, run.often, run.numbers)]
        return Spilled(self, len(run), run.words.shape[1], at[0], at[1], at[2], marks, run.tried)

    def _append(self, array: np.ndarray) -> int:
        start, left = self.bytes, np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
        assert self._file is not None
        while len(left):
            written = os.pwrite(self._file, left[: 1 << 26], self.bytes)
            left, self.bytes = left[written:], self.bytes + written
        return start

    def read(self, at: int, shape: tuple[int, ...], kind: type) -> np.ndarray:
        """An array that was appended, or a part of it, from byte ``at`` on."""
        found: np.ndarray = np.empty(shape, kind)
        left = found.reshape(-1).view(np.uint8).data
        assert self._file is not None
        while len(left):
            size = os.preadv(self._file, [left[: 1 << 26]], at)
            if not size:
                raise StoreError(f"{self.path}: was cut off by another program; run with --resume")
            left, at = left[size:], at + size
        return found


@dataclass(frozen=True)
class Spilled:
    """A :class:`Run` in a file: where its words, its ``often`` and its numbers begin."""

    spill: Spill
    rows: int
    n_words: int
    words_at: int
    often_at: int
    numbers_at: int
    marks: np.ndarray
    tried: np.ndarray

    bytes = 0

    def __len__(self) -> int:
        return self.rows

    @property
    def words(self) -> np.ndarray:
        """(F, W), read for this call."""
        return self.spill.read(self.words_at, (self.rows, self.n_words), np.uint64)

    def part(self, start: int, stop: int) -> Run:
        """Rows ``start .. stop - 1``."""
        first, last = self.marks[start // _MARK], self.marks[-(-stop // _MARK)]
        often = self.spill.read(self.often_at + 8 * first, (last - first,), np.int64)
        numbers = self.spill.read(self.numbers_at + 24 * first, (last - first, 3), np.int64)
        here = slice(*np.searchsorted(often, [start, stop]))
        width = 8 * self.n_words
        shape = (stop - start, self.n_words)
        words = self.spill.read(self.words_at + width * start, shape, np.uint64)
        return Run(words, often[here] - start, numbers[here])


def added(pieces: Sequence[Run]) -> Run:
    """All rows of the pieces, in ascending order; equal ones are added up."""
    starts = np.cumsum([0, *map(len, pieces)])
    words = pieces[0].words
    if len(pieces) > 1:
        words = np.concatenate([piece.words for piece in pieces])
    often = np.concatenate([p.often + at for p, at in zip(pieces, starts[:-1], strict=True)])
    numbers = np.concatenate([piece.numbers for piece in pieces])
    which = np.full(len(words), -1, np.int32)
    which[often] = np.arange(len(often))
    out, order = in_order(words)
    found = np.empty(min(len(often) + len(words) // 2, len(words)), np.int64)
    sums = np.empty((len(found), 3), np.int64)
    rows, kept = _add_sorted(out, which[order], numbers, found, sums)
    if rows < len(out):
        out = out[:rows].copy()
    return Run(out, found[:kept].copy(), sums[:kept].copy())


@njit(nogil=True, cache=True)
def _add_sorted(words, which, numbers, often, sums):
    """Add up equal rows of ``words``, in place; how many rows there are then, and how many of these
    have other numbers than 1, 1, 1.

    ``which`` (F,) is the place of the numbers of a row, -1 for 1, 1, 1.
    """
    n_words, used, kept = words.shape[1], 0, 0
    k, c, q = 0, 0, 0
    for r in range(which.size):
        new = used == 0
        for w in range(n_words):
            if new:
                break
            new = words[r, w] != words[used - 1, w]
        if new:
            if used and not (k == 1 and c == 1 and q == 1):
                often[kept] = used - 1
                sums[kept, 0], sums[kept, 1], sums[kept, 2] = k, c, q
                kept += 1
            for w in range(n_words):
                words[used, w] = words[r, w]
            used += 1
            k, c, q = 0, 0, 0
        at = which[r]
        if at < 0:
            k, c, q = k + 1, c + 1, q + 1
        else:
            k, c, q = k + numbers[at, 0], c + numbers[at, 1], q + numbers[at, 2]
    if used and not (k == 1 and c == 1 and q == 1):
        often[kept] = used - 1
        sums[kept, 0], sums[kept, 1], sums[kept, 2] = k, c, q
        kept += 1
    return used, kept


@njit(nogil=True, cache=True)
def places(words: np.ndarray, splitters: np.ndarray) -> np.ndarray:
    """(S + 2,): where rows of ``words``, in ascending order, reach each of the splitters, which are
    too; 0 before and all rows after."""
    found = np.zeros(len(splitters) + 2, np.int64)
    for s in range(len(splitters)):
        low, high = found[s], len(words)
        while low < high:
            middle = (low + high) // 2
            below = False
            for w in range(words.shape[1]):
                if words[middle, w] != splitters[s, w]:
                    below = words[middle, w] < splitters[s, w]
                    break
            if below:
                low = middle + 1
            else:
                high = middle
        found[s + 1] = low
    found[-1] = len(words)
    return found
