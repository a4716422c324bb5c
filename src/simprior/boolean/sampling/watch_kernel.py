"""Compiled part of the watch mode: P(f) and P(t) with the last bias integrated out.

Given the hidden layers and one head's weights, let g(x) be the output without its bias. As the bias
b runs from -inf to inf, the function runs through the m + 1 *prefixes* of the inputs sorted by
falling g: with t ones it is the prefix of length t, and has it for -g_(t) < b <= -g_(t+1). So one
head gives the exact conditional probability of m + 1 functions at once, and every other function
has conditional probability 0. Watched functions are looked up by hash.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from simprior.boolean.sampling.kernel import GROUP, draw_heads, hidden_features
from simprior.boolean.sampling.table import hash_row
from simprior.boolean.sampling.tile import HEAD_TILE, store_tile
from simprior.numerics.compiled import float_to_bits, inner


@njit(inline="always")
def _sort_key(g, index):
    """uint64 that sorts by falling g, ties by index."""
    bits = float_to_bits(np.float32(g) + np.float32(0.0))  # -0 becomes +0
    ordered = ~bits if (bits >> np.uint32(31)) != 0 else bits | np.uint32(0x80000000)
    return (np.uint64(np.uint32(~ordered)) << np.uint64(32)) | np.uint64(index)


@njit(inline="always")
def _tail(c, uniform):
    """P(b > |c|) for a standard normal b, or a uniform one of variance 1."""
    if uniform:
        edge = math.sqrt(3.0)
        return (edge - min(abs(c), edge)) / (2.0 * edge)
    return 0.5 * math.erfc(abs(c) * math.sqrt(0.5))


@njit(inline="always")
def _between(low, tail_low, high, tail_high):
    """P(low < b <= high) from the tails beyond |low| and |high|: no cancellation in either tail."""
    if low >= 0.0:
        return tail_low - tail_high
    if high <= 0.0:
        return tail_high - tail_low
    return 1.0 - tail_low - tail_high


@inner()
def _sort(order, spare, m):
    """Sort ``order[:m]`` by the upper 32 bits, ties as they were (by index)."""
    if m < 48:
        order[:m].sort()
        return
    starts = np.empty(256, np.int64)
    source, target = order, spare
    for shift in range(32, 64, 8):  # an even number of passes ends in ``order``
        place = np.uint64(shift)
        starts[:] = 0
        for i in range(m):
            starts[(source[i] >> place) & np.uint64(255)] += 1
        total = 0
        for digit in range(256):
            count = starts[digit]
            starts[digit] = total
            total += count
        for i in range(m):
            digit = (source[i] >> place) & np.uint64(255)
            target[starts[digit]] = source[i]
            starts[digit] += 1
        source, target = target, source


@inner()
def _lookup(slots, targets, keys, row, n_words):
    """Index of the watched function equal to ``keys[row]``, or -1."""
    mask = np.uint64(slots.size - 1)
    slot = hash_row(keys, row, n_words) & mask
    while slots[slot] >= 0:
        entry = slots[slot]
        same = True
        for w in range(n_words):
            if targets[entry, w] != keys[row, w]:
                same = False
        if same:
            return entry
        slot = (slot + np.uint64(1)) & mask
    return -1


@njit(nogil=True, cache=True)
def fill_slots(slots, targets):
    """Hash index of the (F, W) watched functions; ``slots`` is -1 everywhere at the start."""
    mask = np.uint64(slots.size - 1)
    for i in range(targets.shape[0]):
        slot = hash_row(targets, i, targets.shape[1]) & mask
        while slots[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = i


@inner()
def _one_function(g, key, m, slots, targets, group, watched_t, inside, ones):
    """:func:`_one_head` without a last bias: the head computes one function, with probability 1."""
    key[0, :] = 0
    t = 0
    for i in range(m):
        if g[i] > 0.0:
            key[0, i >> 6] |= np.uint64(1) << np.uint64(i & 63)
            t += 1
    ones[t] += 1.0
    if watched_t[t]:
        found = _lookup(slots, targets, key, 0, key.shape[1])
        if found >= 0:
            inside[group[found]] += 1.0


@inner()
def _one_head(
    g, order, spare, key, m, sigma, uniform, slots, targets, group, watched_t, inside, ones
):
    """Add the conditional probabilities of one head to ``inside`` (classes) and ``ones`` (t).

    ``sigma`` > 0. ``watched_t`` (m + 1,): whether any watched function has t ones; others are not
    looked up.
    """
    n_words = key.shape[1]
    key[0, :] = 0
    for i in range(m):
        order[i] = _sort_key(g[i], i)
    _sort(order, spare, m)
    low, tail_low = -math.inf, 0.0
    for t in range(m + 1):
        if t > 0:
            x = np.int64(order[t - 1] & np.uint64(0xFFFFFFFF))
            key[0, x >> 6] |= np.uint64(1) << np.uint64(x & 63)
        high, tail_high = math.inf, 0.0
        if t < m:
            high = -np.float64(g[np.int64(order[t] & np.uint64(0xFFFFFFFF))]) / sigma
            if not low < high:  # a tie: this prefix has no room
                continue
            tail_high = _tail(high, uniform)
        p = _between(low, tail_low, high, tail_high)
        low, tail_low = high, tail_high
        if p > 0.0:
            ones[t] += p
            if watched_t[t]:
                found = _lookup(slots, targets, key, 0, n_words)
                if found >= 0:
                    inside[group[found]] += p


@njit(nogil=True, cache=True)
def watch_block(
    arch,
    consts,
    scratch,
    heads_arch,
    buffers,
    sigma,
    first,
    stop,
    total,
    key_,
    slots,
    targets,
    group,
    watched_t,
    classes,
    sums,
    squares,
    ones_sums,
    ones_squares,
):
    """Sum conditional probabilities over the hidden draws ``first .. stop - 1``.

    ``sums`` and ``squares`` (classes,) get the sums over hidden draws of s and s^2, where s is the
    sum over the heads of a draw; ``ones_sums`` and ``ones_squares`` (m + 1,) the same for P(t).
    """
    widths, _pads, _tiles, _code, uniform = arch
    scales, _ratios, kept, _h_inputs, _idx_inputs, cnt_inputs, d = consts
    _w, buf, words, _h, _idx, _cnt, _alive = scratch
    heads, n_words, m, _tail, _iid, _keep_shift, ones_list = heads_arch
    v = buffers[0]
    depth, blocks = widths.size, cnt_inputs.size
    fan_in = d if depth == 0 else widths[depth - 1]
    g16 = np.empty(blocks * HEAD_TILE * 16, np.float32)
    g = np.empty(blocks * 16, np.float32)
    order, spare = np.empty(blocks * 16, np.uint64), np.empty(blocks * 16, np.uint64)
    prefix = np.zeros((1, n_words), np.uint64)
    inside, ones = np.zeros(classes), np.zeros(m + 1)
    for draw in range(first, stop):
        hh, ii, cc, aa, pad = hidden_features(arch, consts, scratch, ones_list, draw, key_)
        inside[:] = 0.0
        ones[:] = 0.0
        wanted = min(heads, total - draw * heads)
        for start in range(0, wanted, GROUP):
            draw_heads(
                v,
                start // GROUP,
                fan_in,
                aa,
                buf,
                words,
                depth,
                draw,
                key_,
                scales[depth],
                np.float32(0.0),
                uniform,
                kept[depth],
            )
            rows = min(GROUP, wanted - start)
            for panel in range((rows + HEAD_TILE - 1) // HEAD_TILE):
                base = v.ctypes.data + panel * (fan_in + 1) * HEAD_TILE * 4
                for b in range(blocks):
                    store_tile(
                        HEAD_TILE,
                        base,
                        hh.ctypes.data + b * pad * 64,
                        ii.ctypes.data + b * pad * 4,
                        cc[b],
                        fan_in,
                        g16.ctypes.data + b * HEAD_TILE * 64,
                        0,
                    )
                for r in range(min(HEAD_TILE, rows - panel * HEAD_TILE)):
                    for b in range(blocks):
                        for l in range(16):  # noqa: E741
                            g[b * 16 + l] = g16[(b * HEAD_TILE + r) * 16 + l]
                    if sigma == 0.0:
                        _one_function(g, prefix, m, slots, targets, group, watched_t, inside, ones)
                        continue
                    _one_head(
                        g,
                        order,
                        spare,
                        prefix,
                        m,
                        sigma,
                        uniform,
                        slots,
                        targets,
                        group,
                        watched_t,
                        inside,
                        ones,
                    )
        for i in range(classes):
            sums[i] += inside[i]
            squares[i] += inside[i] * inside[i]
        for t in range(m + 1):
            ones_sums[t] += ones[t]
            ones_squares[t] += ones[t] * ones[t]
