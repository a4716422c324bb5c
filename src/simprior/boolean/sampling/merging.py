"""Adding up the rows of many tasks, in memory or from shards into a table, within some memory.

Rows wait as they come, compact (``compact.Run``), until they take too much memory; then they are
added up part by part (``adding``). What still takes too much goes to a file beside the table. At
the end all is added up, and each part put in order of its counts, so that the table (``arranging``)
can be made row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from simprior.boolean.sampling.adding import added_in_parts
from simprior.boolean.sampling.arranging import SORTED, Arranged, Table, arranged
from simprior.boolean.sampling.compact import Columns, Run, Spill, Spilled
from simprior.boolean.sampling.rows import (
    COUNT_COLUMNS,
    MAX_WORD_COLUMNS,
    Profile,
    Rows,
    empty_rows,
    read_rows,
    row_columns,
)
from simprior.boolean.sampling.table import EXTRA
from simprior.boolean.truthtable import n_words
from simprior.runs.files import translate_errors, write_parts
from simprior.runs.threads import ahead, in_threads
from simprior.runs.wipe import SPILL

_WAITING = 1 << 28  # bytes of rows that wait to be added up
_FRESH = 1 << 18  # rows that become a run
_PART = 1 << 17  # rows that are added up together, about
_GROUP = 1 << 20  # rows that Parquet keeps together
_FILLED = 1 << 18  # rows of a table in memory that a thread makes at a time
_SHARE = 64  # of the memory: the rows that a thread adds up, and a group of Parquet
Made = TypeVar("Made", Run, Arranged)


class Merger:
    """Adds up rows of many tasks; the result does not depend on their order.

    With ``folded`` the rows added are those of one function of each pair of complements (see
    ``rows.Counter``), and the result has both. With ``memory`` no more than about so many bytes are
    used, and the rest is in ``spill``.
    """

    def __init__(
        self,
        m: int,
        threads: int = 1,
        folded: bool = False,
        *,
        memory: int | None = None,
        spill: Spill | None = None,
    ) -> None:
        self._m, self._threads, self._folded = m, threads, folded
        self._memory, self._spill = memory, spill
        self._most = _PART if memory is None else within(memory // threads, m, _PART)
        self._fresh: list[Columns] = []
        self._fresh_rows = 0
        self._runs: list[Run] = []
        self._runs_bytes = 0
        self._sums: list[Run] = []
        self._sums_bytes = 0
        self._spilled: list[Spilled] = []

    def add(self, *parts: Rows) -> None:
        """Add the counts of ``parts``, whose arrays stay as they are until :meth:`rows`."""
        for part in parts:
            self._fresh.append((part.words, part.count, part.clusters, part.sumsq))
            self._fresh_rows += len(part.count)
            if self._fresh_rows >= min(_FRESH, 2 * self._most):
                self._sort_fresh()

    def add_run(self, run: Run) -> None:
        """Add rows that are in order."""
        self._runs.append(run)
        self._runs_bytes += run.bytes
        if self._memory is not None:
            full = self._sums_bytes + self._runs_bytes > self._memory // 2
        else:
            full = self._runs_bytes > max(_WAITING, 2 * self._sums_bytes)
        if full:
            self._add_up()

    def _sort_fresh(self) -> None:
        if self._fresh:
            fresh, self._fresh, self._fresh_rows = self._fresh, [], 0
            self.add_run(Run.of(fresh))

    def _add_up(self) -> None:
        if self._runs:
            given: list[Run | Spilled] = [*self._sums, *self._runs]
            room = self._room()
            parts = list(map(room.keep, self._added(given, lambda run: run)))
            self._keep([part for part in parts if isinstance(part, Run)])
            self._spilled += [part for part in parts if isinstance(part, Spilled)]

    def _keep(self, sums: list[Run]) -> None:
        self._sums, self._sums_bytes = sums, sum(part.bytes for part in sums)
        self._runs, self._runs_bytes = [], 0

    def _added(
        self, runs: Sequence[Run | Spilled], finish: Callable[[Run], Made]
    ) -> Iterator[Made]:
        return added_in_parts(runs, self._most, self._threads, finish)

    def _room(self) -> _Room:
        """What three quarters of the memory leave beside what is added up."""
        beside = self._sums_bytes + self._runs_bytes
        return _Room((self._memory or 0) * 3 // 4 - beside, self._spill)

    def _table(self, parts: Sequence[Arranged]) -> Table:
        return Table(parts, self._m, n_words(self._m), self._folded, within(self._memory, self._m))

    def table(self) -> Table:
        """Everything added so far, for the last time: what was added is given back."""
        self._sort_fresh()
        given: list[Run | Spilled] = [*self._sums, *self._runs, *self._spilled]
        room = self._room()
        parts = [replace(p, run=room.keep(p.run)) for p in self._added(given, arranged)]
        self._keep([])
        self._spilled = []
        return self._table(parts)

    def rows(self) -> Rows:
        """Everything added so far, by descending count, then ascending table."""
        self._sort_fresh()
        self._add_up()
        parts = in_threads(arranged, self._sums, self._threads)
        return in_memory(self._table(parts), self._threads)

    def finish(self) -> Rows:
        """The same as :meth:`rows` for the last time: what was added up is given back."""
        return in_memory(self.table(), self._threads)


class _Room:
    """Keeps rows in so many bytes of memory, as long as they fit there, and else in ``spill``."""

    def __init__(self, memory: int, spill: Spill | None) -> None:
        self._left, self._spill = memory, spill

    def keep(self, run: Run | Spilled) -> Run | Spilled:
        """The run, here or there."""
        if self._spill is None or isinstance(run, Spilled):
            return run
        self._left -= run.bytes
        return run if self._left >= 0 else self._spill.keep(run)


def within(memory: int | None, m: int, most: int = SORTED) -> int:
    """So many rows are a small part of the memory; ``most`` at most."""
    if memory is None:
        return most
    return min(most, max(1024, memory // (_SHARE * 8 * (n_words(m) + EXTRA))))


def in_memory(table: Table, threads: int = 1) -> Rows:
    """All rows of a table."""
    rows = empty_rows(table.rows, table.n_words)

    def fill(first: int) -> None:
        table.fill(first, rows.part(first, first + _FILLED))

    in_threads(fill, range(0, table.rows, _FILLED), threads)
    return rows


def merge_shards(
    paths: Sequence[Path],
    out: Path,
    m: int,
    memory: int,
    folded: bool = False,
    *,
    threads: int = 1,
    top: int = 0,
) -> tuple[Profile, Rows]:
    """Add up shards into ``out``, sorted by descending count, then ascending table.

    ``folded``: the shards have one function of each pair of complements, ``out`` has both. About
    ``memory`` bytes are used (64 MiB at least), and what does not fit goes to a file next to
    ``out``; the table holds the same rows either way. Returns its profile and its first ``top``
    rows. Raises :class:`StoreError`.
    """
    with translate_errors(out), Spill(out.parent / SPILL) as spill:
        merger = Merger(m, threads, folded, memory=memory, spill=spill)

        def load(path: Path) -> Rows | Run:
            rows = read_rows(path, m)
            small = len(rows.count) < _FRESH // 4
            return rows if small else Run.of([rows.columns])

        for found in ahead(load, paths, threads):
            if isinstance(found, Run):
                merger.add_run(found)
            else:
                merger.add(found)
        table = merger.table()
        return table.profile(), _write(table, out, within(memory, m, _GROUP), threads, top)


def _write(table: Table, out: Path, group: int, threads: int, top: int) -> Rows:
    """Write a table in groups of rows; returns the first ``top`` of them."""
    order: Literal["C", "F"] = "F" if table.n_words <= MAX_WORD_COLUMNS else "C"
    head = empty_rows(min(top, table.rows), table.n_words)

    def make(first: int) -> dict[str, Any]:
        rows = empty_rows(min(group, table.rows - first), table.n_words, order)
        table.fill(first, rows)
        size = min(len(rows.count), len(head.count) - first)
        if size > 0:
            head.part(first, first + size).put(rows.part(0, size))
        return row_columns(rows)

    starts = range(0, max(table.rows, 1), group)
    write_parts(out, ahead(make, starts, threads), repeated=COUNT_COLUMNS)
    return head
