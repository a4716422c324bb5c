"""Hash table that counts functions by their exact packed keys (open addressing, numba).

One entry is a row of ``W + 3`` uint64: the W key words, then ``count | clusters << 32``,
``sum of squares over clusters`` and ``(last cluster + 1) | (count in it) << 32``; the last is 0 for
an empty row. ``sum of squares`` and ``clusters`` are what clustered standard errors need: they are
updated on the fly because samples arrive cluster by cluster. Keys are compared in full, so distinct
functions are never merged, whatever the hash does.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from simprior.numerics.compiled import inner

EXTRA = 3  # words an entry besides the key
_ONE32 = np.uint64(1 << 32)
_SHORT = 16  # rows that are sorted by insertion
_LOW32 = np.uint64(0xFFFFFFFF)


@intrinsic
def prefetch(typingctx, address):
    """Ask the processor to bring the cache line at ``address`` (an integer) for writing."""

    def codegen(context, builder, signature, args):
        i32, i8p = ir.IntType(32), ir.IntType(8).as_pointer()
        name = "llvm.prefetch.p0"
        fn = builder.module.globals.get(name)
        if fn is None:
            kind = ir.FunctionType(ir.VoidType(), [i8p, i32, i32, i32])
            fn = ir.Function(builder.module, kind, name)
        pointer = builder.inttoptr(args[0], i8p)
        builder.call(fn, [pointer, i32(1), i32(3), i32(1)])
        return context.get_dummy_value()

    return types.void(types.intp), codegen


@intrinsic
def popcount(typingctx, x):
    """Number of ones of a uint64."""

    def codegen(context, builder, signature, args):
        return builder.ctpop(args[0])

    return types.uint64(types.uint64), codegen


@njit(inline="always")
def mix(h):
    """Full-avalanche permutation of 64 bits (the finaliser of SplitMix64, Steele et al. 2014)."""
    h = np.uint64(h)
    h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


@njit(inline="always")
def hash_row(keys, r, n_words):
    """64-bit hash of row ``r`` of ``keys``; every input bit moves every output bit."""
    h = np.uint64(0x9E3779B97F4A7C15)
    for w in range(n_words):
        h = mix(h ^ keys[r, w]) + np.uint64(0x9E3779B97F4A7C15)
    return h


@njit(inline="always")
def _same(table, slot, keys, r, n_words):
    for w in range(n_words):  # noqa: SIM110
        if table[slot, w] != keys[r, w]:
            return False
    return True


@inner()
def insert(table, keys, r, h, n_words, cluster):
    """Count row ``r`` of ``keys`` once in ``cluster``; returns 1 if the function is new, else 0."""
    mask = np.uint64(table.shape[0] - 1)
    slot = h & mask
    tag = np.uint64(cluster) + np.uint64(1)
    while True:
        state = table[slot, n_words + 2]
        if state == 0:
            for w in range(n_words):
                table[slot, w] = keys[r, w]
            table[slot, n_words] = np.uint64(1) | _ONE32
            table[slot, n_words + 1] = np.uint64(1)
            table[slot, n_words + 2] = tag | _ONE32
            return 1
        if _same(table, slot, keys, r, n_words):
            if (state & _LOW32) == tag:
                table[slot, n_words] += np.uint64(1)
                table[slot, n_words + 1] += np.uint64(2) * (state >> np.uint64(32)) + np.uint64(1)
                table[slot, n_words + 2] = state + _ONE32
            else:
                table[slot, n_words] += np.uint64(1) + _ONE32
                table[slot, n_words + 1] += np.uint64(1)
                table[slot, n_words + 2] = tag | _ONE32
            return 0
        slot = (slot + np.uint64(1)) & mask


@njit(nogil=True, cache=True)
def grow(old, new):
    """Move every entry of ``old`` into the empty table ``new``."""
    width = old.shape[1]
    n_words = width - EXTRA
    mask = np.uint64(new.shape[0] - 1)
    for i in range(old.shape[0]):
        if old[i, n_words + 2] != 0:
            slot = hash_row(old, i, n_words) & mask
            while new[slot, n_words + 2] != 0:
                slot = (slot + np.uint64(1)) & mask
            for w in range(width):
                new[slot, w] = old[i, w]


@njit(inline="always")
def reverse64(x):
    """Bit reversal: lane order (input 0 lowest) -> packed order (input 0 highest)."""
    x = np.uint64(x)
    m1, m2, m4 = (
        np.uint64(0x5555555555555555),
        np.uint64(0x3333333333333333),
        np.uint64(0x0F0F0F0F0F0F0F0F),
    )
    x = ((x >> np.uint64(1)) & m1) | ((x & m1) << np.uint64(1))
    x = ((x >> np.uint64(2)) & m2) | ((x & m2) << np.uint64(2))
    x = ((x >> np.uint64(4)) & m4) | ((x & m4) << np.uint64(4))
    m8, m16 = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0000FFFF0000FFFF)
    x = ((x >> np.uint64(8)) & m8) | ((x & m8) << np.uint64(8))
    x = ((x >> np.uint64(16)) & m16) | ((x & m16) << np.uint64(16))
    return (x >> np.uint64(32)) | (x << np.uint64(32))


@njit(nogil=True, cache=True)
def export(table, used):
    """Entries as (words in packed order (F, W), count, clusters, sumsq, last cluster)."""
    n_words = table.shape[1] - EXTRA
    words = np.empty((used, n_words), np.uint64)
    count = np.empty(used, np.int64)
    clusters = np.empty(used, np.int64)
    sumsq = np.empty(used, np.int64)
    last = np.empty(used, np.int64)
    k = 0
    for i in range(table.shape[0]):
        if table[i, n_words + 2] != 0:
            for w in range(n_words):
                words[k, w] = reverse64(table[i, w])
            count[k] = np.int64(table[i, n_words] & _LOW32)
            clusters[k] = np.int64(table[i, n_words] >> np.uint64(32))
            sumsq[k] = np.int64(table[i, n_words + 1])
            last[k] = np.int64(table[i, n_words + 2] & _LOW32) - 1
            k += 1
    return words, count, clusters, sumsq, last


@inner()
def _first_below(count, value):
    """The first place of ``count``, which descends, with less than ``value``."""
    low, high = 0, count.size
    while low < high:
        middle = (low + high) // 2
        if count[middle] < value:
            high = middle
        else:
            low = middle + 1
    return low


@njit(nogil=True, cache=True)
def unfold(first, last, words, numbers, tail, both, out):
    """Rows ``first .. last - 1`` of functions and their complements, from one of each pair.

    The given ones, (F, W) functions and three (F,) numbers, give 0 on the first input, and are
    sorted by descending count (the first number), then ascending words; so are those that go to
    ``both`` (2F, W) and ``out`` (three of (2F,)): of each count the given ones, then their
    complements in reverse. ``tail`` has the bits of the last word that are in use.
    """
    n_words, count = words.shape[1], numbers[0]
    at = first
    while at < last:
        value = count[at // 2]
        start, stop = _first_below(count, value + 1), _first_below(count, value)
        while at < min(start + stop, last):
            r = at - start
            for w in range(n_words):
                both[at, w] = words[r, w]
            for c in range(3):
                out[c][at] = numbers[c][r]
            at += 1
        while at < min(2 * stop, last):
            r = start + 2 * stop - 1 - at
            for w in range(n_words):
                both[at, w] = ~words[r, w]
            both[at, n_words - 1] &= tail
            for c in range(3):
                out[c][at] = numbers[c][r]
            at += 1


@njit(inline="always")
def _after(words, a, b):
    """Whether row ``a`` comes after row ``b`` in ascending order of the words."""
    for w in range(words.shape[1]):
        if words[a, w] != words[b, w]:
            return words[a, w] > words[b, w]
    return False


@njit(nogil=True, cache=True)
def sort_ties(words, first, order, longest):
    """Finish a sort by ``first``, whose values are in order: the runs of equal ones are sorted.

    ``words`` and ``order`` are in the order of ``first``, and their rows are moved. Returns (start,
    stop) of the runs of more than ``longest`` rows, which are left as they are.
    """
    n, n_words = order.size, words.shape[1]
    left = [(0, 0) for _ in range(0)]
    rows, moved = np.empty(longest, np.int64), np.empty((longest, n_words), np.uint64)
    start = 0
    while start < n:
        stop = start + 1
        while stop < n and first[stop] == first[start]:
            stop += 1
        size = stop - start
        if size > longest:
            left.append((start, stop))
        elif size > _SHORT:
            _sort_by_heap(words[start:stop], order[start:stop], rows[:size], moved[:size])
        elif size > 1:
            _sort_by_insertion(words, order, start, stop)
        start = stop
    return left


@inner()
def _sort_by_insertion(words, order, start, stop):
    for i in range(start + 1, stop):
        at = i
        while at > start and _after(words, at - 1, at):
            for w in range(words.shape[1]):
                words[at - 1, w], words[at, w] = words[at, w], words[at - 1, w]
            order[at - 1], order[at] = order[at], order[at - 1]
            at -= 1


@inner()
def _sort_by_heap(words, order, rows, moved):
    size = order.size
    for i in range(size):
        rows[i] = i
    for i in range(size // 2 - 1, -1, -1):
        _sift(words, rows, i, size)
    for last in range(size - 1, 0, -1):
        rows[0], rows[last] = rows[last], rows[0]
        _sift(words, rows, 0, last)
    for i in range(size):
        for w in range(words.shape[1]):
            moved[i, w] = words[rows[i], w]
        rows[i] = order[rows[i]]
    for i in range(size):
        for w in range(words.shape[1]):
            words[i, w] = moved[i, w]
        order[i] = rows[i]


@inner()
def _sift(words, rows, root, size):
    while True:
        child = 2 * root + 1
        if child >= size:
            return
        if child + 1 < size and _after(words, rows[child + 1], rows[child]):
            child += 1
        if not _after(words, rows[child], rows[root]):
            return
        rows[root], rows[child] = rows[child], rows[root]
        root = child
