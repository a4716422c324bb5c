"""Adding up shards: hash table and DuckDB against a dictionary, row for row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from simprior.boolean.sampling import buckets
from simprior.boolean.sampling import rows as merge
from simprior.boolean.sampling.adding import add_up
from simprior.boolean.sampling.ordering import in_order, row_order
from simprior.boolean.sampling.rows import (
    Merger,
    Profile,
    Rows,
    merge_in_memory,
    merge_out_of_core,
    merge_shards,
    profile_of_file,
    read_rows,
    write_rows,
)
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


@pytest.mark.parametrize("m", [7, 64, 128, 130, 1024, 2048])
def test_both_merges_equal_a_dictionary(tmp_path: Path, m: int) -> None:
    directory = tmp_path / "ü b"
    directory.mkdir()
    paths = make_shards(directory, m)
    expected = by_dictionary(paths, m)
    first = merge_in_memory(paths, directory / "a.parquet", m)
    second = merge_out_of_core(paths[::-1], directory / "b.parquet", m, 2**27)
    for name in ("a", "b"):
        same(read_rows(directory / f"{name}.parquet", m), expected)
    for profile in (first, second, profile_of_file(directory / "a.parquet")):
        wanted = Profile.of(expected.count, expected.clusters, expected.sumsq)
        for name in ("count", "clusters", "sumsq", "multiplicity"):
            np.testing.assert_array_equal(getattr(profile, name), getattr(wanted, name))
        assert profile.functions == len(expected.count)
    left = {p.name for p in directory.iterdir()} - {p.name for p in paths}
    assert left == {"a.parquet", "b.parquet"}  # nothing temporary stays


def test_the_choice_of_merge_does_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = make_shards(tmp_path, 128)
    merge_shards(paths, tmp_path / "a.parquet", 128, 2**30)
    monkeypatch.setattr(merge, "merge_in_memory", None)
    monkeypatch.setattr(merge, "_ENTRY_OVERHEAD", 2**20)
    merge_shards(paths, tmp_path / "b.parquet", 128, 2**27)
    same(read_rows(tmp_path / "a.parquet", 128), read_rows(tmp_path / "b.parquet", 128))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("group", [1, 300, 4000])
def test_tables_are_written_while_they_are_sorted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: int, threads: int
) -> None:
    """Many buckets, in groups that end within them; the rows are handed over as well."""
    monkeypatch.setattr(buckets, "BUCKET", 64)
    monkeypatch.setattr(merge, "_GROUP", group)
    paths, kept = make_shards(tmp_path, 128), list[Rows]()
    out = tmp_path / "a.parquet"
    profile = merge_in_memory(paths, out, 128, threads=threads, receive=kept.append)
    expected = by_dictionary(paths, 128)
    same(read_rows(out, 128), expected)
    same(kept[0], expected)
    assert profile.functions == len(expected.count)
    none = merge_in_memory([], tmp_path / "b.parquet", 128, threads=threads)
    assert none.functions == 0 and len(read_rows(tmp_path / "b.parquet", 128).count) == 0


def test_top_rows_only(tmp_path: Path) -> None:
    paths = make_shards(tmp_path, 128)
    merge_in_memory(paths, tmp_path / "a.parquet", 128)
    whole = read_rows(tmp_path / "a.parquet", 128)
    for top in (1, 17, 10**6):
        part = read_rows(tmp_path / "a.parquet", 128, top)
        same(part, Rows(*(getattr(whole, name)[:top] for name in COLUMNS)))


def test_merger_does_not_depend_on_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [read_rows(p, 128) for p in make_shards(tmp_path, 128, rows=900)]
    results = []
    for order, waiting in (((0, 1, 2, 3, 4), 10**6), ((4, 2, 0, 3, 1), 0)):
        monkeypatch.setattr(merge, "_WAITING", waiting)
        merger = Merger(128)
        for i in order:
            merger.add(parts[i])
        results.append(merger.rows())
    same(*results)
    empty = Merger(128).rows()
    assert empty.words.shape == (0, 2) and len(empty.count) == 0


def test_out_of_core_within_little_memory(tmp_path: Path) -> None:
    """A million rows, 64 MiB asked for."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(4):
        words = rng.integers(0, 2**64, (250_000, 2), np.uint64)
        words[::5] = [[7, i % 2]]
        one = np.ones(len(words), np.int64)
        paths.append(tmp_path / f"{i}.parquet")
        write_rows(paths[-1], Rows(words, one, one, one))
    profile = merge_out_of_core(paths, tmp_path / "out.parquet", 128, 2**26)
    assert profile.functions == 800_002 and profile.count[0] == 100_000
    assert int((profile.count * profile.multiplicity).sum()) == 10**6


def test_damaged_tables_are_named(tmp_path: Path) -> None:
    paths = make_shards(tmp_path, 128, number=2)
    data = paths[1].read_bytes()
    paths[1].write_bytes(data[: len(data) // 2])
    for use in (
        lambda: merge_in_memory(paths, tmp_path / "o.parquet", 128),
        lambda: merge_out_of_core(paths, tmp_path / "o.parquet", 128, 2**27),
    ):
        with pytest.raises(StoreError, match=r"\.parquet: .*--resume$") as error:
            use()
        assert "\n" not in str(error.value)
    assert not (tmp_path / "o.parquet").exists()


@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("threads", [1, 3])
def test_adding_up_equals_a_dictionary(
    width: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Functions that several blocks have, and one block several times; numbers beyond 32 bits."""
    monkeypatch.setattr(buckets, "BUCKET", 128)
    rng = np.random.default_rng(width)
    pool = rng.integers(0, 2**64, (2000, width), np.uint64)
    blocks, total = [], dict[bytes, np.ndarray]()
    for size in (0, 1, 5000, 900, 0, 3000):
        words = rng.choice(pool, size)
        numbers = rng.integers(1, 2**45, (3, size))
        blocks.append((words, *numbers))
        for word, three in zip(words, numbers.T, strict=True):
            total[word.tobytes()] = total.get(word.tobytes(), np.zeros(3, np.int64)) + three
    words, *found = add_up(blocks, threads)
    assert len(words) == len(total)
    for word, three in zip(words, np.array(found).T, strict=True):
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
    tmp_path: Path, m: int
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
    outs = [tmp_path / "a", tmp_path / "b"]
    profiles = [
        merge_in_memory(half, outs[0], m, folded=True),
        merge_out_of_core(half[::-1], outs[1], m, 2**27, folded=True),
    ]
    for out, profile in zip(outs, profiles, strict=True):
        same(read_rows(out, m), expected)
        assert profile.functions == len(expected.count)


@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("threads", [1, 3])
def test_rows_in_buckets_have_the_same_order(
    width: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many buckets, counts that are nearly all equal or all different, words nearly all equal."""
    monkeypatch.setattr(buckets, "BUCKET", 128)
    rng = np.random.default_rng(width)
    for counts in ([1], [1, 1, 1, 1, 2, 65_535, 10**7], range(1, 9000)):
        words = rng.integers(0, [3] * (width - 1) + [2**62], (9000, width)).astype(np.uint64)
        words = rng.permutation(np.unique(words, axis=0))
        numbers = rng.integers(0, 2**40, (3, len(words)))
        numbers[0] = rng.choice(counts, len(words))
        order = np.lexsort((*words.T[::-1], -numbers[0]))
        found = in_order((words, *numbers), threads)
        for column, expected in zip(found, (words, *numbers), strict=True):
            np.testing.assert_array_equal(column, expected[order])
