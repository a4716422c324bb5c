"""From parts in ascending order to a table: by descending count, then by ascending truth table.

The rows of a part are put in order of their counts; of one count they are then still in ascending
order, part after part. A table is laid out in stretches: of one count that many rows have, whose
rows are copied from part to part, and of several counts, whose rows are sorted together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from simprior.boolean.sampling.compact import Run, Spilled
from simprior.boolean.sampling.ordering import row_order
from simprior.boolean.sampling.rows import Profile, Rows, empty_rows, unfolded
from simprior.boolean.truthtable import pack

SORTED = 1 << 18  # rows that are sorted together, at most


@dataclass(frozen=True)
class Arranged:
    """A part by descending count, then ascending words.

    ``count`` (L,) are its counts, descending, ``ends`` (L + 1,) where the rows of each begin and
    the last ones end; ``profile`` is that of its rows.
    """

    run: Run | Spilled
    count: np.ndarray
    ends: np.ndarray
    profile: Profile


def arranged(run: Run) -> Arranged:
    """The rows of a part in ascending order, by descending count."""
    many = run.numbers[:, 0] > 1
    first, numbers, others = run.often[many], run.numbers[many], run.numbers[~many]
    order = np.argsort(-numbers[:, 0], kind="stable")
    once = np.ones(len(run), bool)
    once[first] = False
    words = np.concatenate([run.words[first[order]], run.words[once]])
    rest = run.often[~many]
    rest = rest + len(first) - np.searchsorted(first, rest)
    numbers = np.concatenate([numbers[order], others])
    count = numbers[: len(first), 0]
    starts = np.flatnonzero(np.diff(count, prepend=-1))
    levels = count[starts]
    if len(first) < len(run):
        starts, levels = np.append(starts, len(first)), np.append(levels, 1)
    plain = len(run) - len(run.often)
    columns = np.concatenate([numbers, np.ones((1, 3), np.int64)]) if plain else numbers
    weights = np.append(np.ones(len(numbers), np.int64), plain)[: len(columns)]
    profile = Profile.of(columns[:, 0], columns[:, 1], columns[:, 2], weights)
    found = Run(words, np.concatenate([np.arange(len(first)), rest]), numbers)
    return Arranged(found, levels, np.append(starts, len(run)), profile)


@dataclass(frozen=True)
class Table:
    """The rows of all parts, which follow each other, in the order of a table.

    ``folded``: the parts have one function of each pair of complements, the table has both. At
    most ``most`` rows are sorted together.
    """

    parts: Sequence[Arranged]
    m: int
    n_words: int
    folded: bool = False
    most: int = SORTED

    @property
    def rows(self) -> int:
        """How many there are."""
        return int(self._starts[-1])

    def profile(self) -> Profile:
        """The profile of all rows."""
        none = np.zeros(0, np.int64)
        found = Profile.joined([part.profile for part in self.parts] or [Profile(*[none] * 4)])
        return replace(found, multiplicity=2 * found.multiplicity) if self.folded else found

    @cached_property
    def _stretches(self) -> np.ndarray:
        """(S, 2): the largest and the smallest count of each stretch."""
        if not self.parts:
            return np.zeros((0, 2), np.int64)
        count = np.concatenate([part.count for part in self.parts])
        sizes = np.concatenate([np.diff(part.ends) for part in self.parts])
        order = np.argsort(-count, kind="stable")
        starts = np.flatnonzero(np.diff(count[order], prepend=-1))
        levels, totals = count[order][starts], np.add.reduceat(sizes[order], starts)
        found, rows = list[list[int]](), self.most
        for level, total in zip(levels.tolist(), totals.tolist(), strict=True):
            rows += total
            if rows > self.most:
                found.append([level, level])
                rows = total
            found[-1][1] = level
        return np.array(found)

    @cached_property
    def _at(self) -> np.ndarray:
        """(parts, S + 1): the row of each part at which each stretch begins, or the last ends."""
        lows = self._stretches[:, 1]
        found = np.zeros((len(self.parts), len(lows) + 1), np.int64)
        for at, part in zip(found, self.parts, strict=True):
            at[1:] = part.ends[np.searchsorted(-part.count, -lows, side="right")]
        return found

    @cached_property
    def _before(self) -> np.ndarray:
        """(parts + 1, S): rows of each stretch in the parts before each; and in all parts."""
        sizes = np.diff(self._at, axis=1)
        return np.concatenate([np.zeros_like(sizes[:1]), np.cumsum(sizes, axis=0)])

    @cached_property
    def _starts(self) -> np.ndarray:
        """(S + 1,): rows of the table before each stretch; and all."""
        sizes = np.diff(self._at, axis=1).sum(axis=0) * (1 + self.folded)
        return np.concatenate([[0], np.cumsum(sizes)])

    def fill(self, first: int, out: Rows) -> None:
        """Put the rows from ``first`` on into the arrays of ``out``, as many as these have."""
        done, stop = first, first + len(out.count)
        while done < stop:
            stretch = int(np.searchsorted(self._starts, done, side="right")) - 1
            start = int(self._starts[stretch])
            last = min(stop, int(self._starts[stretch + 1]))
            here = out.part(done - first, last - first)
            high, low = self._stretches[stretch]
            if high == low:
                self._copy(stretch, done - start, last - start, here)
            else:
                here.put(self._sorted(stretch).part(done - start, last - start))
            done = last

    def _sorted(self, stretch: int) -> Rows:
        """All rows of a stretch of several counts."""
        half = int(self._before[-1, stretch])
        rows = empty_rows(half, self.n_words)
        self._ascending(stretch, 0, half, rows)
        order = row_order(rows.words, rows.count)
        rows = Rows(*(column[order] for column in rows.columns))
        return unfolded(rows, self.m) if self.folded else rows

    def _copy(self, stretch: int, first: int, stop: int, out: Rows) -> None:
        """Rows ``first .. stop - 1`` of a stretch of one count: the given ones, then, if folded,
        their complements in reverse."""
        half = int(self._before[-1, stretch])
        middle = min(max(first, half), stop)
        self._ascending(stretch, first, middle, out.part(0, middle - first))
        if middle < stop:
            back = Rows(*(column[middle - first :][::-1] for column in out.columns))
            self._ascending(stretch, 2 * half - stop, 2 * half - middle, back)
            np.invert(back.words, out=back.words)
            back.words[:, -1] &= pack(np.ones((1, self.m), np.uint8))[0, -1]

    def _ascending(self, stretch: int, first: int, stop: int, out: Rows) -> None:
        """Rows ``first .. stop - 1`` of a stretch, part after part."""
        before = self._before[:, stretch]
        number = int(np.searchsorted(before, first, side="right")) - 1
        at = first
        while at < stop:
            last = min(int(before[number + 1]), stop)
            if at < last:
                move = int(self._at[number, stretch]) - int(before[number])
                run = self.parts[number].run.part(at + move, last + move)
                _spread(run, out.part(at - first, last - first))
                at = last
            number += 1


def _spread(run: Run, out: Rows) -> None:
    """The rows of a run with all their numbers."""
    words, *columns = out.columns
    words[...] = run.words
    for number, column in enumerate(columns):
        column[...] = 1
        column[run.often] = run.numbers[:, number]
