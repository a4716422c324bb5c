"""Canonical forms of packed truth tables (numba); :mod:`.symmetry` says what they are.

The search (:func:`canonical_rows`) has these stages, in the order in which it uses them: admissible
signs and flips, the pair weights and the refinement of the order of the variables, the enumeration
of what is left. It stands on bit kernels: popcount, reversal, permutations of variables.

Tables are in the packed form of :mod:`.truthtable`: input i is bit 63 - (i mod 64) of word i div
64. The "place" p of a variable is the weight 2^p it has in the input index, so x1 has place n - 1.
Variables of place < 6 move bits inside words (delta swaps), the others move whole words.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from simprior.numerics.compiled import UNCOUNTED, copy, inner

U0, U1, U2, U4, U56, U63, U64 = (np.uint64(k) for k in (0, 1, 2, 4, 56, 63, 64))
ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
M1 = np.uint64(0x5555555555555555)
M2 = np.uint64(0x3333333333333333)
M4 = np.uint64(0x0F0F0F0F0F0F0F0F)
M8 = np.uint64(0x00FF00FF00FF00FF)
M16 = np.uint64(0x0000FFFF0000FFFF)
_B1 = np.uint64(0x0101010101010101)
_S8, _S16, _S32 = np.uint64(8), np.uint64(16), np.uint64(32)
# bits of a word whose input has a 1 at place p < 6
_PLACE = np.array([M1, M2, M4, M8, M16, np.uint64(0x00000000FFFFFFFF)])


def full_words(n: int) -> np.ndarray:
    """(W,) words of the constant 1 on 2^n inputs."""
    if n >= 6:
        return np.full(1 << (n - 6), ALL)
    return np.array([ALL << np.uint64(64 - (1 << n))])


def place_masks(n: int) -> np.ndarray:
    """(n, W) words: row p is the function "the bit at place p"."""
    full = full_words(n)
    masks = np.empty((n, full.size), dtype=np.uint64)
    for p in range(n):
        if p < 6:
            masks[p] = full & _PLACE[p]
        else:
            masks[p] = np.where((np.arange(full.size) >> (p - 6)) & 1, ALL, U0)
    return masks


def layer_masks(n: int) -> np.ndarray:
    """(n + 1, W) words: row k is the function "the input has k ones"."""
    width = 64 * full_words(n).size
    weight = np.array([i.bit_count() for i in range(1 << n)])
    bits = np.zeros((n + 1, width), dtype=np.uint8)
    bits[:, : 1 << n] = weight == np.arange(n + 1)[:, None]
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64)


@njit(cache=True, nogil=True, inline="always")
def popcount(x):  # type: ignore[no-untyped-def]  # numba infers u64 -> i64
    """Number of ones of a 64-bit word."""
    x = x - ((x >> U1) & M1)
    x = (x & M2) + ((x >> U2) & M2)
    x = (x + (x >> U4)) & M4
    return np.int64((x * _B1) >> U56)


@njit(cache=True, nogil=True, inline="always")
def reverse64(x):  # type: ignore[no-untyped-def]
    """The 64 bits in reverse order."""
    x = ((x >> U1) & M1) | ((x & M1) << U1)
    x = ((x >> U2) & M2) | ((x & M2) << U2)
    x = ((x >> U4) & M4) | ((x & M4) << U4)
    x = ((x >> _S8) & M8) | ((x & M8) << _S8)
    x = ((x >> _S16) & M16) | ((x & M16) << _S16)
    return (x >> _S32) | (x << _S32)


@inner(**UNCOUNTED)
def swap_places(x, a, b):  # type: ignore[no-untyped-def]
    """Exchange the variables at places a < b of the table ``x`` (W,), in place."""
    if b < 6:
        shift = np.uint64((1 << b) - (1 << a))
        low = _PLACE[b] & ~_PLACE[a]
        for w in range(x.size):
            t = ((x[w] >> shift) ^ x[w]) & low
            x[w] ^= t ^ (t << shift)
    elif a < 6:
        shift, step = np.uint64(1 << a), 1 << (b - 6)
        for w in range(x.size):
            if not w & step:
                t = (x[w] ^ (x[w | step] >> shift)) & _PLACE[a]
                x[w] ^= t
                x[w | step] ^= t << shift
    else:
        low, high = 1 << (a - 6), 1 << (b - 6)
        for w in range(x.size):
            if w & low and not w & high:
                x[w], x[w ^ low ^ high] = x[w ^ low ^ high], x[w]


@inner(**UNCOUNTED)
def flip_place(x, p):  # type: ignore[no-untyped-def]
    """Complement the variable at place p of the table ``x`` (W,), in place."""
    if p < 6:
        shift, mask = np.uint64(1 << p), _PLACE[p]
        for w in range(x.size):
            x[w] = ((x[w] & mask) << shift) | ((x[w] >> shift) & mask)
    else:
        step = 1 << (p - 6)
        for w in range(x.size):
            if not w & step:
                x[w], x[w | step] = x[w | step], x[w]


_MIX1, _MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)


@inner(**UNCOUNTED)
def _compare(x, y):  # type: ignore[no-untyped-def]
    """-1, 0 or 1: order of two tables as bit strings."""
    for w in range(x.size):
        if x[w] != y[w]:
            return -1 if x[w] < y[w] else 1
    return 0


@inner(**UNCOUNTED)
def _overlap(x, y):  # type: ignore[no-untyped-def]
    """Number of inputs on which both are 1."""
    total = np.int64(0)
    for w in range(x.size):
        total += popcount(x[w] & y[w])
    return total


@njit(cache=True, nogil=True, inline="always")
def _mix(x):  # type: ignore[no-untyped-def]
    x = (x ^ (x >> _S30)) * _MIX1
    x = (x ^ (x >> _S27)) * _MIX2
    return x ^ (x >> _S31)


@inner(**UNCOUNTED)
def _refine(rank, pair, key):  # type: ignore[no-untyped-def]
    """Split cells of equal rank by the pair weights to all cells, until nothing changes.

    rank[v] = number of variables in earlier cells. Key collisions leave a tie, never an error.
    """
    n = rank.size
    changed = True
    while changed:
        changed = False
        for v in range(n):
            key[v] = U0
            for u in range(n):
                if u != v and rank[u] == rank[v]:
                    key[v] = U1
            if key[v]:
                for u in range(n):
                    if u != v:
                        key[v] += _mix(np.uint64((rank[u] + 1) << 20) + np.uint64(pair[u, v]))
        for v in range(n):  # ranks of the next partition, kept beside the old ones in the high bits
            later = rank[v] & 255
            for u in range(n):
                if (rank[u] & 255) == (rank[v] & 255) and key[u] < key[v]:
                    later += 1
            rank[v] |= later << 8
        for v in range(n):
            changed |= (rank[v] >> 8) != (rank[v] & 255)
            rank[v] >>= 8


@inner(**UNCOUNTED)
def _interchangeable(x, rank, group, scratch):  # type: ignore[no-untyped-def]
    """group[v] = first variable whose exchange with v leaves ``x`` unchanged; returns prod |g|!."""
    factor = 1.0
    for v in range(rank.size):
        group[v] = v
        size = 1
        for u in range(v):
            if rank[u] != rank[v]:
                continue
            if group[v] == v and group[u] == u:
                copy(x, scratch)
                swap_places(scratch, u, v)
                if _compare(scratch, x) == 0:
                    group[v] = u
            if group[v] != v and group[u] == group[v]:
                size += 1
        factor *= size
    return factor


@inner(**UNCOUNTED)
def _open_cell(rank, group):  # type: ignore[no-untyped-def]
    """Smallest rank shared by variables that are not interchangeable; -1 if there is none."""
    best = -1
    for v in range(rank.size):
        for u in range(v):
            if rank[u] == rank[v] and group[u] != group[v] and (best < 0 or rank[v] < best):
                best = rank[v]
    return best


@inner(**UNCOUNTED)
def _arrange(x, rank, out, at):  # type: ignore[no-untyped-def]
    """out = ``x`` with the variable of rank r moved to place n - 1 - r (ties in index order)."""
    n = rank.size
    copy(x, out)
    for p in range(n):
        at[p] = p
    taken = 0
    for r in range(n):  # r-th variable in order of (rank, index)
        chosen = -1
        for v in range(n):
            if not (taken >> v) & 1 and (chosen < 0 or rank[v] < rank[chosen]):
                chosen = v
        taken |= 1 << chosen
        target, now = n - 1 - r, 0
        while at[now] != chosen:
            now += 1
        if now != target:
            swap_places(out, now, target)
            at[now], at[target] = at[target], chosen


@inner(**UNCOUNTED)
def _offer(candidate, factor, best, found):  # type: ignore[no-untyped-def]
    """Keep the smaller table in ``best``; returns the number of group elements that give it."""
    order = -1 if found == 0.0 else _compare(candidate, best)
    if order < 0:
        copy(candidate, best)
        return factor
    return found + factor if order == 0 else found


@inner(**UNCOUNTED)
def _first_ranks(x, masks, pair, rank):  # type: ignore[no-untyped-def]
    """Fill the (n, n) pair weights of ``x`` and rank the variables by their own weight."""
    n = masks.shape[0]
    for v in range(n):
        for u in range(v + 1):
            total = np.int64(0)
            for w in range(x.size):
                total += popcount(x[w] & masks[u, w] & masks[v, w])
            pair[u, v] = pair[v, u] = total
    for v in range(n):
        rank[v] = 0
        for u in range(n):
            rank[v] += pair[u, u] > pair[v, v]


@inner(**UNCOUNTED)
def _next_member(rank, group, cell, following):  # type: ignore[no-untyped-def]
    """Next variable of the cell from ``following`` on, the first of its group; -1 if none."""
    seen = 0
    for v in range(rank.size):
        if rank[v] == cell and not (seen >> group[v]) & 1:
            seen |= 1 << group[v]
            if v >= following:
                return v
    return -1


@inner(**UNCOUNTED)
def _search_orders(x, masks, best, found, weight, space):  # type: ignore[no-untyped-def]
    """Offer every admissible order of the variables of ``x`` (individualise and refine).

    Interchangeable variables are taken in index order and counted by the factorials of their
    number; ``weight`` is the number of group elements that lead to ``x``.
    """
    rank, pair, key, group, cell, following, at, scratch = space
    n = masks.shape[0]
    _first_ranks(x, masks, pair, rank[0])
    _refine(rank[0], pair, key)
    factor = weight * _interchangeable(x, rank[0], group, scratch)
    depth, cell[0], following[0] = 0, _open_cell(rank[0], group), 0
    while depth >= 0:
        here = rank[depth]
        if cell[depth] < 0:
            _arrange(x, here, scratch, at)
            found = _offer(scratch, factor, best, found)
            depth -= 1
            continue
        chosen = _next_member(here, group, cell[depth], following[depth])
        if chosen < 0:
            depth -= 1
            continue
        following[depth] = chosen + 1
        deeper = rank[depth + 1]
        for v in range(n):
            deeper[v] = here[v] + (1 if here[v] == cell[depth] and v != chosen else 0)
        _refine(deeper, pair, key)
        depth += 1
        cell[depth], following[depth] = _open_cell(deeper, group), 0
    return found


@inner(**UNCOUNTED)
def _orient(x, masks, tied, scratch):  # type: ignore[no-untyped-def]
    """Flip each variable of ``x`` to have most ones on its 1 side, in place.

    Returns (number of undecided variables, listed in ``tied``; number of irrelevant variables).
    """
    ties, idle, total = 0, 0, _overlap(x, x)
    for p in range(masks.shape[0]):
        upper = 2 * _overlap(x, masks[p])
        if upper < total:
            flip_place(x, p)
        elif upper == total:
            copy(x, scratch)
            flip_place(scratch, p)
            if _compare(scratch, x) == 0:
                idle += 1
            else:
                tied[ties] = p
                ties += 1
    return ties, idle


@inner(**UNCOUNTED)
def _layer_key(x, layers):  # type: ignore[no-untyped-def]
    """A number that depends on how many ones lie at each Hamming weight, not on the order."""
    key = U0
    for k in range(layers.shape[0]):
        key += _mix(np.uint64(k + 1)) * np.uint64(_overlap(x, layers[k]))
    return key


@inner(**UNCOUNTED)
def _keep_least(tables, weight, count, layers, keys):  # type: ignore[no-untyped-def]
    """Keep the tables of least layer key, equal ones once with summed weight; returns how many."""
    least = ALL
    for c in range(count):
        keys[c] = _layer_key(tables[c], layers)
        least = min(least, keys[c])
    kept = 0
    for c in range(count):
        if keys[c] != least:
            continue
        same = 0
        while same < kept and _compare(tables[same], tables[c]) != 0:
            same += 1
        if same < kept:
            weight[same] += weight[c]
        else:
            copy(tables[c], tables[kept])
            weight[kept] = weight[c]
            kept += 1
    return kept


@inner(**UNCOUNTED)
def _choices(row, full, masks, flip, negate, space):  # type: ignore[no-untyped-def]
    """All admissible signs and flips of ``row`` into space's ``tables``; returns how many.

    ``weight`` counts the flips of irrelevant variables, which change nothing.
    """
    tables, weight, x, tied, scratch = space
    size, twice, count = 1 << masks.shape[0], 2 * _overlap(row, row), 0
    first = 1 if negate and twice > size else 0
    last = 1 if negate and twice >= size else 0
    for sign in range(first, last + 1):
        copy(row, x)
        if sign:
            for w in range(x.size):
                x[w] ^= full[w]
        ties, idle = 0, 0
        if flip:
            ties, idle = _orient(x, masks, tied, scratch)
        for step in range(1 << ties):  # Gray code: one flip a step
            if step:
                low = 0
                while not (step >> low) & 1:
                    low += 1
                flip_place(x, tied[low])
            copy(x, tables[count])
            weight[count] = 2.0**idle
            count += 1
    return count


@njit(cache=True, nogil=True)
def canonical_rows(words, full, masks, layers, permute, flip, negate):  # type: ignore[no-untyped-def]
    """Canonical form and stabiliser order of each row: ((F, W) u64, (F,) f64)."""
    n, width = masks.shape
    out, stabiliser = np.empty_like(words), np.zeros(words.shape[0])
    scratch = np.empty(width, np.uint64)
    orders = (
        np.empty((n + 1, n), np.int64),
        np.empty((n, n), np.int64),
        np.empty(n, np.uint64),
        np.empty(n, np.int64),
        np.empty(n + 1, np.int64),
        np.empty(n + 1, np.int64),
        np.empty(n, np.int64),
        scratch,
    )
    tables, weight = np.empty((2 << n, width), np.uint64), np.empty(2 << n)
    choices = (tables, weight, np.empty(width, np.uint64), np.empty(n, np.int64), scratch)
    keys = np.empty(2 << n, np.uint64)
    for f in range(words.shape[0]):
        count = _choices(words[f], full, masks, flip, negate, choices)
        if count > 1:
            count = _keep_least(tables, weight, count, layers, keys)
        for c in range(count):
            if permute:
                found = _search_orders(tables[c], masks, out[f], stabiliser[f], weight[c], orders)
            else:
                found = _offer(tables[c], weight[c], out[f], stabiliser[f])
            stabiliser[f] = found
    return out, stabiliser
