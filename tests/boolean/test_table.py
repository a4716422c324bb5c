"""Hash table of the sampler against a dictionary; bit tricks; quality of the hash."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from simprior.boolean.sampling.kernel import GROUP, count_many
from simprior.boolean.sampling.merging import Merger
from simprior.boolean.sampling.rows import Counter, Rows, count_words
from simprior.boolean.sampling.table import (
    EXTRA,
    grow,
    hash_row,
    mix,
    popcount,
    reverse64,
)
from simprior.boolean.truthtable import n_words, pack

Brute = dict[bytes, list[int]]


@njit
def _hashes(keys):  # type: ignore[no-untyped-def]
    out = np.empty(keys.shape[0], np.uint64)
    for r in range(keys.shape[0]):
        out[r] = hash_row(keys, r, keys.shape[1])
    return out


@njit
def _bits(x):  # type: ignore[no-untyped-def]
    return popcount(x), reverse64(x), mix(x)


def test_bit_tricks() -> None:
    rng = np.random.default_rng(0)
    for x in [0, 1, 2**63, 2**64 - 1, *rng.integers(0, 2**64, 100, np.uint64).tolist()]:
        ones, backwards, _ = _bits(np.uint64(x))
        assert int(ones) == x.bit_count()
        assert int(backwards) == int(f"{x:064b}"[::-1], 2)


def structured_keys() -> np.ndarray:
    """Truth tables of two words that differ in few, aligned bits."""
    one = np.uint64(1) << np.arange(64, dtype=np.uint64)
    pairs = np.array([a | b for i, a in enumerate(one) for b in one[:i]], np.uint64)
    some = np.concatenate([one, pairs])
    zero = np.zeros_like(some)
    rows = [(some, zero), (zero, some), (some, some), (~some, some), (some, ~some), (~some, ~some)]
    return np.ascontiguousarray(np.concatenate([np.stack(r, axis=1) for r in rows]))


def test_hash_of_structured_tables() -> None:
    keys = structured_keys()
    h = _hashes(keys)
    assert len(np.unique(keys, axis=0)) == len(keys)
    # 12,480 keys in 64 bits collide with probability 4e-12; low and high bits are what is used
    assert len(np.unique(h)) == len(h)
    for bits in (h & np.uint64(255), h >> np.uint64(56)):
        counts = np.bincount(bits.astype(int), minlength=256)
        chi = ((counts - len(h) / 256) ** 2).sum() / (len(h) / 256)
        assert chi < 255 + 5 * np.sqrt(2 * 255)  # 5 standard deviations


def test_every_bit_of_a_key_moves_half_the_bits_of_its_hash() -> None:
    rng = np.random.default_rng(1)
    keys = rng.integers(0, 2**64, (500, 2), np.uint64)
    base = _hashes(keys)
    for word in range(2):
        for bit in range(0, 64, 7):
            other = keys.copy()
            other[:, word] ^= np.uint64(1) << np.uint64(bit)
            moved = np.unpackbits((base ^ _hashes(other)).view(np.uint8)).reshape(500, 64).mean(0)
            # 64 shares of 500 fair coins, 20 times: 5.5 standard deviations, 5e-5 in all
            assert (np.abs(moved - 0.5) < 5.5 * 0.5 / np.sqrt(500)).all()


def brute_force(tables: np.ndarray, cluster: np.ndarray) -> Brute:
    """{packed: [count, clusters, sum of squares]} by a dictionary."""
    seen: dict[bytes, dict[int, int]] = {}
    for words, c in zip(pack(tables), cluster.tolist(), strict=True):
        inside = seen.setdefault(words.tobytes(), {})
        inside[c] = inside.get(c, 0) + 1
    return {k: [sum(v.values()), len(v), sum(n * n for n in v.values())] for k, v in seen.items()}


def draw_tables(m: int, rows: int, seed: int) -> np.ndarray:
    """Tables with many repeats, near-duplicates and constants."""
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 2, (40, m)).astype(np.uint8)
    tables = base[rng.integers(0, 40, rows)]
    flip = rng.random(rows) < 0.3
    tables[np.flatnonzero(flip), rng.integers(0, m, flip.sum())] ^= 1
    constant = rng.random(rows)
    tables[constant < 0.1] = 0
    tables[constant > 0.9] = 1
    return tables


@pytest.mark.parametrize("heads", [1, 7, 64, 150])
@pytest.mark.parametrize("m", [1, 2, 5, 64, 70, 128, 130, 256])
def test_counting_equals_a_dictionary(m: int, heads: int) -> None:
    rows = 2000  # the last cluster is cut short for 7 and 150
    tables = draw_tables(m, rows, seed=m)
    cluster = np.arange(rows) // heads
    counter = Counter(m, 0)
    half = 1000 // heads * heads  # in two calls, cut between clusters
    count_words(pack(tables[:half]), heads, 0, counter)
    count_words(pack(tables[half:]), heads, half // heads, counter)
    found, tally = counter.result(rows, int(cluster[-1]) + 1, heads == 1)
    expected = brute_force(tables, cluster)
    columns = zip(found.words, found.count, found.clusters, found.sumsq, strict=True)
    assert {w.tobytes(): [int(k), int(c), int(q)] for w, k, c, q in columns} == expected
    t = tables.sum(1)
    np.testing.assert_array_equal(tally.ones[:, 0], np.bincount(t, minlength=m + 1))
    inside = np.zeros((int(cluster[-1]) + 1, m + 1), np.int64)
    np.add.at(inside, (cluster, t), 1)
    np.testing.assert_array_equal(tally.ones[:, 1], (inside**2).sum(0))
    np.testing.assert_array_equal(tally.constants, (inside[:, [0, m]] > 0).sum(0))


def test_singletons_a_cluster_feed_the_dispersion() -> None:
    rng = np.random.default_rng(3)
    heads, clusters = 8, 50
    tables = rng.integers(0, 2, (heads * clusters, 64)).astype(np.uint8)
    tables[: heads * 10] = tables[0]  # ten clusters without any function of their own
    counter = Counter(64, 0)
    count_words(pack(tables), heads, 0, counter)
    _, tally = counter.result(heads * clusters, clusters, False)
    single = np.r_[np.zeros(10), np.full(40, heads)]
    assert tally.dispersion == pytest.approx(single.var(ddof=1) / single.mean())


def test_growing_keeps_every_entry() -> None:
    keys = structured_keys()
    counter = Counter(128, 0)
    table = np.zeros((1 << 15, 2 + EXTRA), np.uint64)
    tally, ones = np.zeros((2, 4), np.int64), np.zeros((129, 4), np.int64)
    full = np.uint64(2**64 - 1)
    new = count_many(keys, 1, 128, full, 0, 0, False, table, tally, ones)
    assert new == len(keys)
    bigger = np.zeros((1 << 16, 2 + EXTRA), np.uint64)
    grow(table, bigger)
    counter.table, counter.used = bigger, new
    counter.ones = ones
    count_words(keys, 1, len(keys), counter)
    rows, _ = counter.result(2 * len(keys), 2 * len(keys), True)
    assert counter.used == len(keys) and (rows.count == 2).all() and (rows.clusters == 2).all()
    assert {w.tobytes() for w in rows.words} == {w.tobytes() for w in keys}


def test_merge_adds_up_large_numbers() -> None:
    keys = structured_keys()[:3000]
    big = np.full(len(keys), 2**40, np.int64)
    merger = Merger(128)
    for part in (keys, keys[::-1], keys):
        merger.add(Rows(part, big, big + 1, big + 2))
    rows = merger.rows()
    order = np.lexsort(keys.T[::-1])  # all counts are equal
    np.testing.assert_array_equal(rows.words, keys[order])
    for column, extra in ((rows.count, 0), (rows.clusters, 1), (rows.sumsq, 2)):
        assert (column == 3 * (2**40 + extra)).all()


@pytest.mark.parametrize("shift", [1, 3, 6])
def test_kept_share_of_functions(shift: int) -> None:
    """The kept functions are a function of the table alone, nested, about 2^-shift of all."""
    keys = structured_keys()
    kept = []
    for s in (shift - 1, shift):
        counter = Counter(128, s)
        count_words(np.concatenate([keys, keys[::-1]]), 1, 0, counter)
        rows, tally = counter.result(2 * len(keys), 2 * len(keys), True)
        assert (rows.count == 2).all() and tally.ones[:, 0].sum() == 2 * len(keys)
        kept.append({w.tobytes() for w in rows.words})
    assert kept[1] <= kept[0]
    share = 2.0**-shift
    spread = np.sqrt(len(keys) * share * (1 - share))
    assert abs(len(kept[1]) - len(keys) * share) < 5 * spread  # fails for 6e-7 of all hashes


def test_group_size_is_a_block_of_random_numbers() -> None:
    assert GROUP == 64 and n_words(128) == 2
