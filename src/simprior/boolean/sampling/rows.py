"""Counted functions: rows of a table, the tallies beside them, and their files.

Counts are made in a hash table. In a file rows have the columns that are told here. A manifest has
totals: whether these fit together, and with the table that they are of, is checked here, too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from simprior.boolean.sampling import kernel as _kernel
from simprior.boolean.sampling.complexity_sums import ComplexitySums, Measuring
from simprior.boolean.sampling.nonconstant import NonConstant
from simprior.boolean.sampling.table import EXTRA, export, grow, unfold
from simprior.boolean.sampling.unseen import singleton_dispersion
from simprior.boolean.truthtable import n_words, pack
from simprior.errors import StoreError
from simprior.runs.directory import Written
from simprior.runs.files import finite_in, whole_in, write_parts

START_ENTRIES = 1 << 16
MAX_WORD_COLUMNS = 16


@dataclass
class Rows:
    """Counted functions: (F, W) packed words and three (F,) columns."""

    words: np.ndarray
    count: np.ndarray
    clusters: np.ndarray
    sumsq: np.ndarray

    @property
    def columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Words, count, clusters and sumsq."""
        return self.words, self.count, self.clusters, self.sumsq

    def part(self, start: int, stop: int) -> Rows:
        """Rows ``start .. stop - 1``, which share their memory with these."""
        return Rows(*(column[start:stop] for column in self.columns))

    def put(self, other: Rows) -> None:
        """Replace these rows by as many others."""
        for mine, new in zip(self.columns, other.columns, strict=True):
            mine[...] = new


def empty_rows(rows: int, words: int, order: Literal["C", "F"] = "C") -> Rows:
    """Arrays for so many rows, to be filled; with ``order`` F a word of all rows lies together."""
    return Rows(np.empty((rows, words), np.uint64, order=order), *np.empty((3, rows), np.int64))


@dataclass
class Tally:
    """What a task reports besides its rows: totals by number of ones, and the two constants.

    ``ones`` is (m + 1, 2): count and sum over hidden draws of squared counts, by number of ones t
    (rows 0 and m are the constants, kept out of the hash table). ``constants`` is (2,): number of
    hidden draws that gave constant 0 and constant 1. ``dispersion`` is the index of dispersion of
    the number of singletons a hidden draw (see ``unseen.singleton_dispersion``). ``nonconstant``
    is kept where torch modules are sampled, ``complexity`` where functions are measured.
    """

    samples: int
    ones: np.ndarray
    constants: np.ndarray
    dispersion: float = 1.0
    nonconstant: NonConstant | None = None
    complexity: ComplexitySums | None = None

    def to_meta(self) -> dict[str, Any]:
        """Plain values for the shard's manifest entry."""
        used = np.flatnonzero(self.ones[:, 0])
        parts = {"nonconstant": self.nonconstant, "complexity": self.complexity}
        given = {name: part.to_dict() for name, part in parts.items() if part is not None}
        return given | {
            "samples": self.samples,
            "t": used.tolist(),
            "count": self.ones[used, 0].tolist(),
            "sumsq": self.ones[used, 1].tolist(),
            "constants": self.constants.tolist(),
            "dispersion": self.dispersion,
        }

    @classmethod
    def from_meta(cls, meta: dict[str, Any], m: int) -> Tally:
        """Inverse of :meth:`to_meta`."""
        ones = np.zeros((m + 1, 2), np.int64)
        ones[meta["t"], 0], ones[meta["t"], 1] = meta["count"], meta["sumsq"]
        given = NonConstant(**meta["nonconstant"]) if "nonconstant" in meta else None
        sums = ComplexitySums.from_dict(meta["complexity"]) if "complexity" in meta else None
        constants = np.array(meta["constants"], np.int64)
        return cls(meta["samples"], ones, constants, meta["dispersion"], given, sums)


@dataclass
class Counter:
    """Hash table of a task with the tallies that go along with it.

    With ``folded`` every function was counted for itself and its complement: see
    ``kernel.count_rows``. ``entries`` is the room of the table at the start, a power of 2.
    """

    m: int
    keep_shift: int
    folded: bool = False
    table: np.ndarray = field(init=False)
    used: int = 0
    tally: np.ndarray = field(init=False)
    ones: np.ndarray = field(init=False)
    nonconstant: NonConstant | None = None
    measuring: Measuring | None = None
    entries: int = START_ENTRIES

    def __post_init__(self) -> None:
        self.table = np.zeros((self.entries, n_words(self.m) + EXTRA), np.uint64)
        self.tally, self.ones = np.zeros((2, 4), np.int64), np.zeros((self.m + 1, 4), np.int64)

    @property
    def limit(self) -> int:
        """Entries beyond which the table must grow."""
        return int(self.table.shape[0] // 2)

    def grow(self) -> None:
        """Double the table."""
        new = np.zeros((2 * self.table.shape[0], self.table.shape[1]), np.uint64)
        grow(self.table, new)
        self.table = new

    def result(self, samples: int, draws: int, iid: bool) -> tuple[Rows, Tally]:
        """Rows (constants included) and tally of ``samples`` of ``draws`` hidden draws.

        The rows of a folded counter are those of the functions that give 0 on the first input; the
        tally is of all functions.
        """
        words, count, clusters, sumsq, last = export(self.table, self.used)
        dispersion = 1.0
        if not iid:
            single = clusters == 1
            per_draw = np.bincount(last[single], count[single], minlength=draws)
            dispersion = singleton_dispersion(2 * per_draw if self.folded else per_draw)
        ones = self.ones[:, :2].copy()
        full = pack(np.array([[0] * self.m, [1] * self.m], np.uint8))
        ones[0], ones[self.m] = self.tally[0, [0, 2]], self.tally[1, [0, 2]]
        constants = self.tally[:, 1].copy()
        if self.folded:
            ones, constants = unfolded_totals(ones), constants[[0, 0]]
        seen = self.tally[:, 0] > 0
        rows = Rows(
            np.concatenate([full[seen], words]),
            np.concatenate([self.tally[seen, 0], count]),
            np.concatenate([self.tally[seen, 1], clusters]),
            np.concatenate([self.tally[seen, 2], sumsq]),
        )
        sums = None if self.measuring is None else self.measuring.result()
        return rows, Tally(samples, ones, constants, dispersion, self.nonconstant, sums)


def unfolded_totals(ones: np.ndarray) -> np.ndarray:
    """(m + 1, 2) totals by number of ones of functions and their complements.

    ``ones`` has one of each pair, by the lesser number of ones. With t ones there are as many as
    with m - t in every hidden draw; with m / 2 there are two a pair.
    """
    out = ones + ones[::-1]
    if len(ones) % 2:
        out[len(ones) // 2] = ones[len(ones) // 2] * [2, 4]
    return out


def count_words(words: np.ndarray, heads: int, first_draw: int, counter: Counter) -> None:
    """Count (F, W) packed functions, ``heads`` in turn a hidden draw (1: independent)."""
    m = counter.m
    tail = np.uint64((1 << (m - 64 * (words.shape[1] - 1))) - 1)
    while counter.used + len(words) > counter.limit:
        counter.grow()
    counter.used += _kernel.count_many(
        words,
        heads,
        m,
        tail,
        first_draw,
        counter.keep_shift,
        counter.folded,
        counter.table,
        counter.tally,
        counter.ones,
    )


def write_rows(path: Path, rows: Rows) -> Written:
    """Write rows as Parquet, see :func:`row_columns`."""
    return write_parts(path, [row_columns(rows)], repeated=COUNT_COLUMNS)


def row_columns(rows: Rows) -> dict[str, Any]:
    """Columns of a table of rows: those of :func:`key_columns`, then the three numbers."""
    numbers = {"count": rows.count, "clusters": rows.clusters, "sumsq": rows.sumsq}
    return {**key_columns(rows.words), **numbers}


def key_columns(words: np.ndarray) -> dict[str, Any]:
    """Columns that hold the packed functions: w0, w1, ... or ``table`` (big-endian bytes)."""
    if words.shape[1] <= MAX_WORD_COLUMNS:
        return {f"w{i}": np.ascontiguousarray(words[:, i]) for i in range(words.shape[1])}
    import pyarrow as pa

    octets = np.ascontiguousarray(words.astype(">u8")).view(np.uint8)
    width = octets.shape[1] if octets.ndim == 2 else 8 * words.shape[1]
    return {
        "table": pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(width), len(words), [None, pa.py_buffer(octets.tobytes())]
        )
    }


def words_from_columns(columns: dict[str, Any], m: int) -> np.ndarray:
    """Inverse of :func:`key_columns`."""
    if "table" not in columns:
        return np.stack([columns[f"w{i}"] for i in range(n_words(m))], axis=1).astype(np.uint64)
    joined = b"".join(columns["table"].tolist())
    return np.frombuffer(joined, ">u8").reshape(-1, n_words(m)).astype(np.uint64)


_MOST = 2**62
_REMEDY = "the run is damaged: make it again with --overwrite, or import the table again"


def check_totals(path: Path, results: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Raise :class:`StoreError` unless the totals of a run of function counts are in range and
    agree with each other and with the configuration."""
    problem = next(_problems(results, config), None)
    if problem:
        raise StoreError(f"{path}: {problem} in manifest.json; {_REMEDY}")


def check_rows(
    path: Path, rows: Rows, profile: Profile, samples: int, functions: int | None = None
) -> None:
    """Raise :class:`StoreError` unless the rows of a table are counts of ``samples`` samples."""
    k, c, q = profile.count, profile.clusters, profile.sumsq
    total = float((k.astype(float) * profile.multiplicity).sum())
    problem = None
    if len(k) and (k.min() < 1 or c.min() < 1 or (c > k).any() or (q < k).any()):
        problem = "a count that cannot be"
    elif total > samples * (1 + 1e-12):
        problem = f"counts that add up to {total:.0f}, more than the {samples} samples"
    elif functions is not None and functions != profile.functions:
        problem = f"{profile.functions} functions in place of the {functions} of the manifest"
    elif len(rows.count) > profile.functions or (np.diff(rows.count) > 0).any():
        problem = "rows that are not in order of their counts"
    if problem:
        raise StoreError(f"{path}: {problem}; {_REMEDY}")


def inputs_of(config: Mapping[str, Any]) -> int | None:
    """Number m of inputs of a run's functions by its configuration; None if that does not say."""
    model = config.get("network") or config.get("dnf") or config.get("modules")
    if not isinstance(model, dict):
        return None
    if model.get("inputs") is not None:
        return len(model["inputs"]) if isinstance(model["inputs"], list) else -1
    n = model.get("n")
    return 1 << int(n) if n is not None and whole_in(n, 1, 62) else None


def _problems(results: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[str]:
    found = {"functions": 0, **results}  # which the earliest runs do not name
    for key, low in (("m", 1), ("n", 0), ("samples", 0), ("heads", 1), ("functions", 0)):
        if not whole_in(found.get(key), low, _MOST):
            yield f"{key}={found.get(key)!r}, no whole number >= {low},"
    m, n, samples = results["m"], results["n"], results["samples"]
    expected = inputs_of(config)
    if (n and m != 1 << min(n, 62)) or (expected is not None and m != expected):
        says = f"m={expected}" if expected is not None else f"n={n}"
        yield f"m={m} beside {says} of the configuration"
    for key, high in (("draws", float(samples)), ("keep", 1.0), ("dispersion", 1e300)):
        if not finite_in(results.get(key), 0.0, high):
            yield f"{key}={results.get(key)!r}, no number from 0 to {high:g},"
    sampled = {"samples", "seed", "pool"} <= set(config)  # a run of simprior sample
    if sampled and config["samples"] != samples:
        yield f"samples={samples} beside samples={config['samples']!r} of the configuration"
    yield from _ones_problems(results.get("ones"), m, samples)
    given = results.get("nonconstant")
    if given is not None and not NonConstant.fits(given):
        yield f"nonconstant={given!r}, no sums over hidden draws,"
    sums = results.get("complexity")
    if sums is not None and not ComplexitySums.fits(sums, m):
        yield "complexity, no sums over hidden draws,"
    pooled = results.get("pooled")
    if pooled is not None:
        good = isinstance(pooled, dict) and whole_in(pooled.get("classes"), 0, _MOST)
        if not good or not finite_in(pooled.get("replicates"), 0.0, float(samples)):
            yield f"pooled={pooled!r}, no classes and replicates,"


def _ones_problems(ones: Any, m: int, samples: int) -> Iterator[str]:
    columns = ones if isinstance(ones, dict) else {}
    found = [
        column for key in ("t", "count", "sumsq") if isinstance(column := columns.get(key), list)
    ]
    if len(found) < 3:
        yield "no totals by number of ones"
        return
    t, count, squares = found
    if not len(t) == len(count) == len(squares):
        yield "totals by number of ones of different lengths"
    elif not all(whole_in(x, 0, m) for x in t) or t != sorted(set(t)):
        yield f"numbers of ones outside 0 to {m}, or not in order,"
    elif not all(
        whole_in(k, 1, samples) and whole_in(q, k, _MOST)
        for k, q in zip(count, squares, strict=True)
    ):
        yield "totals by number of ones that cannot be"
    elif sum(count) > samples:
        yield f"totals by number of ones that add up to {sum(count)} of {samples} samples"


COUNT_COLUMNS = ("count", "clusters", "sumsq")


@dataclass(frozen=True)
class Profile:
    """The distinct (count, clusters, sumsq) of a table and how many functions share each.

    Every statistic of a run that does not name functions is computed from it. Four (G,) int64
    arrays, sorted by descending count.
    """

    count: np.ndarray
    clusters: np.ndarray
    sumsq: np.ndarray
    multiplicity: np.ndarray

    @property
    def functions(self) -> int:
        """Number of functions in the table."""
        return int(self.multiplicity.sum())

    @classmethod
    def of(
        cls,
        count: np.ndarray,
        clusters: np.ndarray,
        sumsq: np.ndarray,
        multiplicity: np.ndarray | None = None,
    ) -> Profile:
        """Profile of three (F,) columns, each row so many times as said (once); quick where equal
        rows follow each other."""
        starts = _changes(count, clusters, sumsq)
        if multiplicity is not None and len(starts):
            lengths = np.add.reduceat(multiplicity, starts)
        else:
            lengths = np.diff(np.append(starts, len(count)))
        k, c, q = count[starts], clusters[starts], sumsq[starts]
        order = np.lexsort((q, c, -k))
        k, c, q = k[order], c[order], q[order]
        starts = _changes(k, c, q)
        found = np.add.reduceat(lengths[order], starts) if len(starts) else lengths
        return cls(k[starts], c[starts], q[starts], found)

    @classmethod
    def joined(cls, parts: Sequence[Profile]) -> Profile:
        """Profile of the rows of all parts, at least one."""
        names = (*COUNT_COLUMNS, "multiplicity")
        return cls.of(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def _changes(*columns: np.ndarray) -> np.ndarray:
    """Numbers of the rows that differ from the row before them, or have none."""
    new = np.zeros(len(columns[0]), bool)
    new[:1] = True
    for column in columns:
        new[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(new)


def unfolded(rows: Rows, m: int) -> Rows:
    """The rows of functions and their complements, of those of one of each pair; both are sorted
    by descending count, then ascending table."""
    tail = pack(np.ones((1, m), np.uint8))[0, -1]
    given, twice = (rows.count, rows.clusters, rows.sumsq), 2 * len(rows.count)
    words = np.empty((twice, rows.words.shape[1]), np.uint64)
    numbers = tuple(np.empty(twice, np.int64) for _ in given)
    unfold(0, twice, rows.words, given, tail, words, numbers)
    return Rows(words, *numbers)


def read_rows(path: Path, m: int, top: int | None = None) -> Rows:
    """Rows of a table written by ``rows.write_rows``; the first ``top`` of them if given."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if top is None:
            table = pq.read_table(path)
        else:
            batches, have = [], 0
            with pq.ParquetFile(path) as file:
                for batch in file.iter_batches(batch_size=min(max(top, 1024), 1 << 20)):
                    batches.append(batch)
                    have += batch.num_rows
                    if have >= top:
                        break
                table = pa.Table.from_batches(batches, file.schema_arrow).slice(0, top)
        rows = empty_rows(table.num_rows, n_words(m))
        if "table" in table.column_names:
            octets = b"".join(table["table"].to_pylist())
            rows.words[...] = np.frombuffer(octets, ">u8").reshape(-1, n_words(m))
        else:
            for i in range(n_words(m)):
                rows.words[:, i] = table[f"w{i}"].to_numpy()
        for name in COUNT_COLUMNS:
            getattr(rows, name)[...] = table[name].to_numpy()
    except (pa.ArrowException, OSError, LookupError, TypeError, ValueError) as error:
        raise _unreadable(path, error) from None
    return rows


def profile_of_file(path: Path) -> Profile:
    """Profile of a merged table, without loading it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            batches = file.iter_batches(batch_size=1 << 20, columns=list(COUNT_COLUMNS))
            parts = [_profile_of(batch) for batch in batches]
    except (pa.ArrowException, OSError, LookupError, TypeError, ValueError) as error:
        raise _unreadable(path, error) from None
    return Profile.joined(parts) if parts else Profile(*np.empty((4, 0), np.int64))


def _profile_of(batch: Any) -> Profile:
    return Profile.of(*(batch[name].to_numpy(zero_copy_only=False) for name in COUNT_COLUMNS))


def _unreadable(path: Path, error: Exception) -> StoreError:
    reason = " ".join(str(error).split())[:200]
    return StoreError(f"{path}: not a readable table ({reason}); run again with --resume")
