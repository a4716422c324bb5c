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

EXTRA = 3  # words an entry besides the key
_ONE32 = np.uint64(1 << 32)
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


@njit(nogil=True)
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


BATCH = 64  # rows whose places in memory are asked for ahead


@njit(nogil=True, cache=True)
def absorb(index, entries, used, words, count, clusters, sumsq, start):
    """Add rows ``start ...`` of (words, count, clusters, sumsq) to the entries of a merge.

    ``entries`` (capacity, W + 3) are the key words, then count, clusters and sumsq as full 64-bit
    numbers; the first ``used`` are in use, in the order in which they came. ``index`` finds them
    by open addressing: the lower half of a slot is that of the hash of an entry, the upper half its
    number plus 1; 0 is an empty slot. Stops at a half-full index or when there is no capacity left.
    Returns (next row, used).
    """
    n_words = words.shape[1]
    mask = np.uint64(index.size - 1)
    limit = min(index.size // 2, entries.shape[0])
    size = entries.shape[1] * 8
    tags = np.empty(BATCH, np.uint64)
    r = start
    while r < words.shape[0] and used < limit:
        rows = min(BATCH, words.shape[0] - r, limit - used)
        for i in range(rows):
            tags[i] = hash_row(words, r + i, n_words) & _LOW32
            prefetch(index.ctypes.data + np.int64(tags[i] & mask) * 8)
        for i in range(rows):
            slot = index[np.int64(tags[i] & mask)]
            if slot != 0 and (slot & _LOW32) == tags[i]:
                entry = entries.ctypes.data + (np.int64(slot >> np.uint64(32)) - 1) * size
                prefetch(entry)
                prefetch(entry + size - 1)
        for i in range(rows):
            at = _entry(index, entries, used, words, r + i, tags[i], n_words)
            if at == used:
                used += 1
            entries[at, n_words] += np.uint64(count[r + i])
            entries[at, n_words + 1] += np.uint64(clusters[r + i])
            entries[at, n_words + 2] += np.uint64(sumsq[r + i])
        r += rows
    return r, used


@njit(inline="always")
def _entry(index, entries, used, words, r, tag, n_words):
    """Number of the entry of row ``r`` of ``words``; entry ``used`` if that is made for it here."""
    mask = np.uint64(index.size - 1)
    at = tag & mask
    while index[np.int64(at)] != 0:
        slot = index[np.int64(at)]
        number = np.int64(slot >> np.uint64(32)) - 1
        if (slot & _LOW32) == tag and _same(entries, number, words, r, n_words):
            return number
        at = (at + np.uint64(1)) & mask
    index[np.int64(at)] = tag | (np.uint64(used + 1) << np.uint64(32))
    for w in range(n_words):
        entries[used, w] = words[r, w]
    for w in range(n_words, n_words + EXTRA):
        entries[used, w] = np.uint64(0)
    return used


@njit(nogil=True, cache=True)
def reindex(old, new):
    """Fill the empty, larger index ``new`` of a merge with the slots of ``old``."""
    mask = np.uint64(new.size - 1)
    for slot in old:
        if slot != 0:
            at = slot & mask
            while new[np.int64(at)] != 0:
                at = (at + np.uint64(1)) & mask
            new[np.int64(at)] = slot


_AHEAD = 16  # entries that are asked for before they are read


@njit(nogil=True, cache=True)
def collect(entries, order, count, tail, folded):
    """Entries of a merge in some order: words (F, W), and count, clusters, sumsq (3, F) int64.

    With ``folded`` each stands for a function that gives 0 on the first input and for its
    complement: the 2 F rows of both are returned. ``order`` is by descending count, then ascending
    words, and so are they. ``count`` (F,) are the counts in that order, ``tail`` has the bits of
    the last word that are in use.
    """
    n_words, size = entries.shape[1] - EXTRA, entries.shape[1] * 8
    rows = order.size * (2 if folded else 1)
    words, numbers = np.empty((rows, n_words), np.uint64), np.empty((EXTRA, rows), np.int64)
    start = 0
    while start < order.size:
        stop = start + 1
        while stop < order.size and count[stop] == count[start]:
            stop += 1
        for i in range(start, stop):
            if i + _AHEAD < order.size:
                ahead = entries.ctypes.data + order[i + _AHEAD] * size
                prefetch(ahead)
                prefetch(ahead + size - 1)
            same, other = (start + i, start + 2 * stop - 1 - i) if folded else (i, i)
            entry = entries[order[i]]
            if folded:
                for w in range(n_words):
                    words[other, w] = ~entry[w]
                words[other, n_words - 1] &= tail
            for w in range(n_words):
                words[same, w] = entry[w]
            for c in range(EXTRA):
                numbers[c, same] = np.int64(entry[n_words + c])
                numbers[c, other] = numbers[c, same]
        start = stop
    return words, numbers


@njit(inline="always")
def _after(words, a, b):
    """Whether row ``a`` comes after row ``b`` in ascending order of the words."""
    for w in range(words.shape[1]):
        if words[a, w] != words[b, w]:
            return words[a, w] > words[b, w]
    return False


@njit(nogil=True, cache=True)
def sort_ties(words, first, order, longest):
    """Finish a sort by ``first``, whose values are in order: heap sort of the runs of equal ones.

    Returns (start, stop) of the runs of more than ``longest`` rows, which are left as they are.
    """
    n = order.size
    left = [(0, 0) for _ in range(0)]
    start = 0
    while start < n:
        stop = start + 1
        while stop < n and first[stop] == first[start]:
            stop += 1
        size = stop - start
        if size > longest:
            left.append((start, stop))
        elif size > 1:
            for i in range(size // 2 - 1, -1, -1):
                _sift(words, order, start, i, size)
            for last in range(size - 1, 0, -1):
                order[start], order[start + last] = order[start + last], order[start]
                _sift(words, order, start, 0, last)
        start = stop
    return left


@njit(nogil=True)
def _sift(words, order, start, root, size):
    while True:
        child = 2 * root + 1
        if child >= size:
            return
        if child + 1 < size and _after(words, order[start + child + 1], order[start + child]):
            child += 1
        if not _after(words, order[start + child], order[start + root]):
            return
        order[start + root], order[start + child] = order[start + child], order[start + root]
        root = child
