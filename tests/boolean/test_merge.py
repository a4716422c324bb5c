"""Adding up shards, in memory and beside files, against a dictionary, row for row."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from simprior.boolean.sampling import compact, merging
from simprior.boolean.sampling.compact import Run, Spill
from simprior.boolean.sampling.merging import Merger, merge_shards
from simprior.boolean.sampling.ordering import find_rows, row_order, word_order
from simprior.boolean.sampling.rows import Profile, Rows, profile_of_file, read_rows, write_rows
from simprior.boolean.truthtable import n_words, pack
from simprior.errors import StoreError

COLUMNS = ("words", "count", "clusters", "sumsq")


def make_shards(directory: Path, m: int, number: int = 5, rows: int = 800) -> list[Path]:
    rng = np.random.default_rng(m)
    pool = rng.integers(0, 2**64, (1000, n_words(m)), np.uint64)
    pool[:, 0] |= np.uint64(1) << np.uint64(63)  # beyond the signed range
    pool[:500, 0] &= np.uint64(2**63 - 1)
    paths = []
    for i in range(number):
        words = pool[np.sort(rng.choice(1000, rows, replace=False))]
        c = rng.geometric(0.5, rows)
        k = c + rng.integers(0, 3, rows)
        path = directory / f"it's-{i}.parquet"  # a quote, for SQL
        write_rows(path, Rows(words, k, c, k * k))
        paths.append(path)
    return paths


def by_dictionary(paths: list[Path], m: int) -> Rows:
    total: dict[bytes, np.ndarray] = {}
    for path in paths:
        r = read_rows(path, m)
        for w, *values in zip(r.words, r.count, r.clusters, r.sumsq, strict=True):
            key = w.astype(">u8").tobytes()
            total[key] = total.get(key, np.zeros(3, np.int64)) + values
    order = sorted(total, key=lambda key: (-total[key][0], key))
    words = np.array([np.frombuffer(key, ">u8") for key in order]).astype(np.uint64)
    return Rows(words, *np.array([total[key] for key in order]).T)


def same(a: Rows, b: Rows) -> None:
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def tiny(patch: pytest.MonkeyPatch, rows: int = 64) -> None:
    """Parts, runs, groups and files of a few rows."""
    for name, value in {"_PART": rows, "_FRESH": rows, "_GROUP": 3 * rows, "_FILLED": rows}.items():
        patch.setattr(merging, name, value)
    for name in ("_TRIED", "_MARK"):
        patch.setattr(compact, name, 4)


def same_profile(found: Profile, wanted: Profile) -> None:
    for name in ("count", "clusters", "sumsq", "multiplicity"):
        np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name))


@pytest.mark.parametrize("m", [7, 8, 64, 128, 130, 1024, 2048])
def test_merges_equal_a_dictionary(tmp_path: Path, m: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole, in many parts, and in files; by one thread and three, and in another order."""
    directory = tmp_path / "ü b"
    directory.mkdir()
    paths = make_shards(directory, m)
    expected = by_dictionary(paths, m)
    wanted = Profile.of(expected.count, expected.clusters, expected.sumsq)
    out = directory / "a.parquet"
    for given, memory, threads, small in (
        (paths, 2**30, 1, False),
        (paths[::-1], 2**30, 3, True),
        (paths, 0, 1, True),
        (paths[::-1], 2**14, 3, True),
    ):
        with monkeypatch.context() as patch:
            if small:
                tiny(patch)
            profile, head = merge_shards(given, out, m, memory, threads=threads, top=77)
        same(read_rows(out, m), expected)
        same(head, expected.part(0, 77))
        for found in (profile, profile_of_file(out)):
            same_profile(found, wanted)
        assert profile.functions == len(expected.count)
    left = {p.name for p in directory.iterdir()} - {p.name for p in paths}
    assert left == {"a.parquet"}  # nothing temporary stays


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("group", [1, 300, 4000])
def test_groups_of_rows_end_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int, threads: int
) -> None:
    tiny(monkeypatch, 100)
    monkeypatch.setattr(merging, "_GROUP", group)
    paths = make_shards(tmp_path, 128, rows=500 if group > 1 else 40)
    out = tmp_path / "a.parquet"
    profile, head = merge_shards(paths, out, 128, 2**30, threads=threads, top=10**6)
    expected = by_dictionary(paths, 128)
    same(read_rows(out, 128), expected)
    same(head, expected)
    assert profile.functions == len(expected.count)


@pytest.mark.parametrize("m", [8, 128, 2048])
def test_no_rows_and_one_shard(tmp_path: Path, m: int) -> None:
    out, path = tmp_path / "a.parquet", tmp_path / "none.parquet"
    none = np.zeros(0, np.int64)
    write_rows(path, Rows(np.zeros((0, n_words(m)), np.uint64), none, none, none))
    full = make_shards(tmp_path, m, number=1)
    for folded in (False, True) if m < 2048 else (False,):
        for paths in ([], [path], [path, path]):
            profile, head = merge_shards(paths, out, m, 2**26, folded, top=5)
            assert profile.functions == 0 and len(read_rows(out, m).count) == len(head.count) == 0
    expected = by_dictionary(full, m)
    merge_shards([path, *full, path], out, m, 2**26)
    same(read_rows(out, m), expected)


def test_counts_beyond_32_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums up to 2^62, and rows met once whose other numbers are not 1."""
    tiny(monkeypatch)
    rng = np.random.default_rng(3)
    pool = np.unique(rng.integers(0, 2**64, (900, 2), np.uint64), axis=0)
    paths = []
    for i in range(4):
        words = pool[rng.random(len(pool)) < 0.6]
        k = rng.choice([1, 1, 1, 2, 2**31, 2**32 + 1, 2**60], len(words))
        q = np.where(rng.random(len(words)) < 0.5, k, rng.integers(1, 2**60, len(words)))
        paths.append(tmp_path / f"{i}.parquet")
        write_rows(paths[-1], Rows(words, k, np.ones_like(k), q))
    expected = by_dictionary(paths, 128)
    for memory in (0, 2**30):
        profile, _ = merge_shards(paths, tmp_path / "a", 128, memory, threads=2)
        same(read_rows(tmp_path / "a", 128), expected)
        same_profile(profile, Profile.of(expected.count, expected.clusters, expected.sumsq))


def test_top_rows_only(tmp_path: Path) -> None:
    paths = make_shards(tmp_path, 128)
    merge_shards(paths, tmp_path / "a.parquet", 128, 2**30)
    whole = read_rows(tmp_path / "a.parquet", 128)
    for top in (1, 17, 10**6):
        part = read_rows(tmp_path / "a.parquet", 128, top)
        same(part, Rows(*(getattr(whole, name)[:top] for name in COLUMNS)))


def test_merger_does_not_depend_on_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [read_rows(p, 128) for p in make_shards(tmp_path, 128, rows=900)]
    results = []
    for order, waiting in (((0, 1, 2, 3, 4), 2**30), ((4, 2, 0, 3, 1), 0)):
        monkeypatch.setattr(merging, "_WAITING", waiting)
        monkeypatch.setattr(merging, "_FRESH", 1000 if waiting else 1)
        merger = Merger(128)
        for i in order:
            merger.add(parts[i])
            if not waiting:
                merger.rows()
        results += [merger.rows(), merger.finish()]
        assert len(merger.rows().count) == 0  # given back
    for found in results[1:]:
        same(found, results[0])
    empty = Merger(128).rows()
    assert empty.words.shape == (0, 2) and len(empty.count) == 0


@pytest.mark.parametrize("folded", [False, True])
def test_what_does_not_fit_is_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folded: bool
) -> None:
    """200,000 rows and 2 MiB: sums that are in files, and added up again; it is gone at the end."""
    rng = np.random.default_rng(0)
    paths, kept = [], []
    for i in range(10):
        words = rng.integers(0, 2**63, (20_000, 2), np.uint64)
        words[::5] = [[7, i % 2]]
        one = np.ones(len(words), np.int64)
        paths.append(tmp_path / f"{i}.parquet")
        write_rows(paths[-1], Rows(words, one, one, one))
    keep = Spill.keep
    monkeypatch.setattr(Spill, "keep", lambda *given: kept.append(1) or keep(*given))
    outs = [tmp_path / "a", tmp_path / "b"]
    merge_shards(paths, outs[0], 128, 2**30, folded, threads=2)
    assert not kept
    profile, _ = merge_shards(paths[::-1], outs[1], 128, 2**21, folded)
    assert len(kept) > 20 and not (tmp_path / ".merge").exists()
    same(read_rows(outs[1], 128), read_rows(outs[0], 128))
    assert profile.functions == 160_002 * (1 + folded) and profile.count[0] == 20_000
    assert int((profile.count * profile.multiplicity).sum()) == 2 * 10**5 * (1 + folded)


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = make_shards(tmp_path, 128)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("simprior.boolean.sampling.compact.os.pwrite", full)
    with pytest.raises(StoreError, match=r"o\.parquet: .*the disk is full.*--resume$"):
        merge_shards(paths, tmp_path / "o.parquet", 128, 0)
    assert {p.suffix for p in tmp_path.iterdir()} == {".parquet"}
    assert not (tmp_path / "o.parquet").exists()


def test_damaged_tables_are_named(tmp_path: Path) -> None:
    paths = make_shards(tmp_path, 128, number=2)
    data = paths[1].read_bytes()
    paths[1].write_bytes(data[: len(data) // 2])
    for threads in (1, 2):
        with pytest.raises(StoreError, match=r"\.parquet: .*--resume$") as error:
            merge_shards(paths, tmp_path / "o.parquet", 128, 2**27, threads=threads)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "o.parquet").exists()


@pytest.mark.parametrize("n_words", [1, 2, 5])
def test_runs_in_files_are_those_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_words: int
) -> None:
    monkeypatch.setattr(compact, "_MARK", 8)
    rng = np.random.default_rng(n_words)
    words = rng.integers(0, 2**64, (100, n_words), np.uint64)
    numbers = rng.choice([1, 1, 1, 5], (3, 100))
    runs = [Run.of([(words[:size], *numbers[:, :size])]) for size in (100, 0, 1, 17)]
    with Spill(tmp_path / "x") as spill:
        kept = [spill.keep(run) for run in runs]
        for run, other in zip(runs, kept, strict=True):
            assert len(run) == len(other)
            np.testing.assert_array_equal(run.words, other.words)
            for start in range(len(run) + 1):
                for stop in range(start, len(run) + 1):
                    a, b = run.part(start, stop), other.part(start, stop)
                    for name in ("words", "often", "numbers"):
                        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        spill.path.write_bytes(b"")
        with pytest.raises(StoreError, match="cut off"):
            kept[0].part(0, 100)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("threads", [1, 3])
def test_adding_up_equals_a_dictionary(
    width: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Functions that several blocks have, and one block several times; numbers beyond 32 bits."""
    tiny(monkeypatch, 128)
    rng = np.random.default_rng(width)
    pool = rng.integers(0, 2**64, (2000, width), np.uint64)
    blocks, total = [], dict[bytes, np.ndarray]()
    for size in (0, 1, 5000, 900, 0, 3000):
        words = rng.choice(pool, size)
        numbers = rng.integers(1, 2**45, (3, size))
        blocks.append((words, *numbers))
        for word, three in zip(words, numbers.T, strict=True):
            total[word.tobytes()] = total.get(word.tobytes(), np.zeros(3, np.int64)) + three
    merger = Merger(64 * width, threads)
    merger.add(*(Rows(*block) for block in blocks))
    rows = merger.rows()
    assert len(rows.words) == len(total)
    for word, *three in zip(*rows.columns, strict=True):
        np.testing.assert_array_equal(three, total[word.tobytes()])


@pytest.mark.parametrize("width", [1, 2, 5])
def test_row_order_is_the_lexicographic_one(width: int) -> None:
    rng = np.random.default_rng(width)
    words = rng.integers(0, [3] * (width - 1) + [2**62], (5000, width)).astype(np.uint64)
    words = np.unique(words, axis=0)
    rng.shuffle(words)
    count = rng.choice([1, 1, 1, 2, 7, 65_534, 65_535, 10**7], len(words))
    expected = np.lexsort((*words.T[::-1], -count))
    assert np.array_equal(row_order(words, count), expected)


@pytest.mark.parametrize("m", [1, 7, 64, 128, 130, 1024])
def test_merges_of_pairs_of_complements_equal_those_of_all_functions(
    tmp_path: Path, m: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Shards of one function of each pair, against shards of both."""
    rng = np.random.default_rng(m)
    full = pack(np.ones((1, m), np.uint8))
    pool = rng.integers(0, 2**64, (300, n_words(m)), np.uint64) & full
    pool[:, 0] &= np.uint64(2**63 - 1)
    pool = np.unique(pool, axis=0)
    half, both = [], []
    for i in range(4):
        words = pool[rng.random(len(pool)) < 0.7]
        k = rng.geometric(0.5, len(words))
        rows = Rows(words, k, np.ones_like(k), k * k)
        twice = Rows(np.concatenate([words, words ^ full]), *np.tile([k, k // k, k * k], 2))
        for paths, part in ((half, rows), (both, twice)):
            paths.append(tmp_path / f"{len(half)}-{len(both)}-{i}.parquet")
            write_rows(paths[-1], part)
    expected = by_dictionary(both, m)
    out = tmp_path / "a"
    for paths, memory, threads in ((half, 2**30, 1), (half[::-1], 0, 1), (half, 2**30, 3)):
        profile, head = merge_shards(paths, out, m, memory, True, threads=threads, top=100)
        same(read_rows(out, m), expected)
        same(head, expected.part(0, 100))
        same_profile(profile, Profile.of(expected.count, expected.clusters, expected.sumsq))
        tiny(monkeypatch, 16)


@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("threads", [1, 3])
def test_rows_in_parts_have_the_same_order(
    width: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many parts, counts that are nearly all equal or all different, words nearly all equal."""
    tiny(monkeypatch, 128)
    monkeypatch.setattr(merging, "within", lambda *_: 128)
    rng = np.random.default_rng(width)
    for counts in ([1], [1, 1, 1, 1, 2, 65_535, 10**7], range(1, 9000)):
        words = rng.integers(0, [3] * (width - 1) + [2**62], (9000, width)).astype(np.uint64)
        words = rng.permutation(np.unique(words, axis=0))
        numbers = rng.integers(0, 2**40, (3, len(words)))
        numbers[0] = rng.choice(counts, len(words))
        order = np.lexsort((*words.T[::-1], -numbers[0]))
        merger = Merger(64 * width, threads)
        merger.add(Rows(words[:4000], *numbers[:, :4000]), Rows(words[4000:], *numbers[:, 4000:]))
        for column, expected in zip(merger.finish().columns, (words, *numbers), strict=True):
            np.testing.assert_array_equal(column, expected[order])


@pytest.mark.parametrize("shared", [0, 1, 63, 64, 70, 127, 128])
def test_rows_that_begin_alike_are_sorted(shared: int) -> None:
    """The first bits of all rows are the same; and some rows are equal."""
    rng = np.random.default_rng(shared)
    bits = rng.integers(0, 2, (700, 128), np.uint8)
    bits[:, :shared] = bits[0, :shared]
    words = rng.choice(pack(bits), 2000)
    found = words[word_order(words)]
    np.testing.assert_array_equal(found, words[np.lexsort(words.T[::-1])])
    assert word_order(words[:0]).shape == (0,)


@pytest.mark.parametrize("sizes", [(0, 0), (0, 5), (5, 0), (300, 40), (40, 300), (1, 1)])
def test_rows_are_found(sizes: tuple[int, int]) -> None:
    """Few among many and many among few, some of them again and again, some not there."""
    rng = np.random.default_rng(1)
    pool = rng.permutation(np.unique(rng.integers(0, 9, (600, 3)).astype(np.uint64), axis=0))
    known, wanted = pool[: sizes[0]], rng.choice(pool[: sizes[0] + 30], sizes[1])
    rows = {row.tobytes(): number for number, row in enumerate(known)}
    expected = [rows.get(row.tobytes(), -1) for row in wanted]
    assert find_rows(known, wanted).tolist() == expected
