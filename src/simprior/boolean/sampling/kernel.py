"""The compiled sampler: hidden draw -> features -> heads -> packed functions -> counts (float32).

``count_draws`` processes hidden draws one after the other; every number it uses is a function of
``(key, hidden draw, position)``, so that any split of the hidden draws over tasks, workers or
resumed runs gives the same counts.

Layout of the forward pass of one network on all inputs: activations are
``[block of 16 inputs][unit][16]`` float32; weights are made a panel of ``nt`` units at a time,
``[fan_in + 1][nt]`` with the bias in the last row, from the counter-based stream
``(key, network, layer)``; input i sits in lane i % 16 of block i // 16. For every block a list of
the units that are not identically zero on it is kept; only these enter the next layer.

Mirrors: the law of the last layer is symmetric, so that every head gives a second sample of the
same hidden draw for nothing, the network with the output -z. Where z is never 0 its function is the
complement, and of the two the one that gives 0 on the first input is counted for both
(:data:`FOLD`). Elsewhere both are counted (:data:`BOTH`): which outputs are 0 differs from one
hidden draw to the next.

Masks: a weight is set to 0 unless the word in its place, of the stream of masks of that layer, is
below ``kept[layer]``. The heads of a hidden draw share the masks of its hidden layers, and each
has its own mask of the last layer.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from simprior.boolean.sampling.table import hash_row, insert, popcount, prefetch, reverse64
from simprior.boolean.sampling.tile import (
    HEAD_TILE,
    MIRRORS,
    both_tile,
    relu_tile,
    sign_one,
    sign_tile,
    store_tile,
)
from simprior.network.compiled import RELU, activate
from simprior.numerics.compiled import (
    BLOCK,
    fill,
    inner,
    normals_block,
    thin,
    thin_block,
    uniforms_block,
)


@inner()
def draw_panel(w, p, fan_in, nt, buf, words, layer, network, key, scale, bias_ratio, uniform, kept):
    """Weights of panel ``p``: ``w[j * nt + i]``, row ``fan_in`` the bias; all are float32."""
    blocks = ((fan_in + 1) * nt + BLOCK - 1) // BLOCK
    fill(w, blocks, buf, words, p * blocks, layer, network, key, scale, uniform)
    thin(w, fan_in * nt, buf, words, p * blocks, layer, network, key, kept)
    last = np.uint64(fan_in * nt)
    for i in range(nt):
        w[last + np.uint64(i)] *= bias_ratio


@inner()
def _mark(mask, first, width, b, pad, idx, cnt, alive):
    """Append the units of ``mask`` (bit i = unit first + i) to the list of block ``b``."""
    c = cnt[b]
    base = b * pad
    while mask != 0:
        low = mask & -mask
        i = np.int64(popcount(np.uint64(low - 1)))
        mask ^= low
        if first + i < width:
            idx[base + c] = first + i
            alive[first + i] = 1
            c += 1
    cnt[b] = c


@inner()
def dense_layer(
    w, p, fan_in, nt, code, width, h_in, pad_in, idx_in, cnt_in, pad, h, idx, cnt, alive
):
    """Panel ``p`` of a hidden layer from the activations of the layer below."""
    first = p * nt
    for b in range(cnt.size):
        args_h = h_in.ctypes.data + b * pad_in * 64
        args_idx = idx_in.ctypes.data + b * pad_in * 4
        out = h.ctypes.data + (b * pad + first) * 64
        if code == RELU:
            mask = relu_tile(nt, w.ctypes.data, args_h, args_idx, cnt_in[b], fan_in, out, 0)
            _mark(np.int64(mask), first, width, b, pad, idx, cnt, alive)
        else:
            store_tile(nt, w.ctypes.data, args_h, args_idx, cnt_in[b], fan_in, out, 0)
            activate(code, h, (b * pad + first) * 16, nt * 16)
            _mark(np.int64((1 << nt) - 1), first, width, b, pad, idx, cnt, alive)


GROUP = 64  # heads whose weights come from one random block
PLAIN, FOLD, BOTH = 0, 1, 2
"""What is counted of a head: its function; it and its complement as one; it and its mirror."""


@inner()
def hidden_features(arch, consts, scratch, ones_list, draw, key):
    """What the heads of hidden draw ``draw`` read from: the last hidden layer, or the inputs.

    Returns activations, lists of the units that are not zero on a block, the lengths of these
    lists, which units are not zero anywhere (``ones_list`` for the inputs), and the padded number
    of units. Layers are written in turn into the two halves of the scratch arrays.
    """
    widths, pads, tiles, code, uniform = arch
    scales, ratios, kept, h_inputs, idx_inputs, cnt_inputs, d = consts
    w, buf, words, h, idx, cnt, alive = scratch
    if widths.size == 0:
        return h_inputs, idx_inputs, cnt_inputs, ones_list, d
    side = 0
    for layer in range(widths.size):
        width, pad, nt = widths[layer], pads[layer], tiles[layer]
        fan_in = d if layer == 0 else widths[layer - 1]
        scale, ratio = scales[layer], ratios[layer]
        below, pad_in = 1 - side, d if layer == 0 else pads[layer - 1]
        cnt[side, :] = 0
        alive[side, :] = 0
        for p in range((width + nt - 1) // nt):
            draw_panel(
                w,
                p,
                fan_in,
                nt,
                buf,
                words,
                layer,
                draw,
                key,
                scale,
                ratio,
                uniform,
                kept[layer],
            )
            h_in, idx_in, cnt_in = h[below], idx[below], cnt[below]
            if layer == 0:
                h_in, idx_in, cnt_in = h_inputs, idx_inputs, cnt_inputs
            dense_layer(
                w,
                p,
                fan_in,
                nt,
                code,
                width,
                h_in,
                pad_in,
                idx_in,
                cnt_in,
                pad,
                h[side],
                idx[side],
                cnt[side],
                alive[side],
            )
        side = 1 - side
    last = 1 - side
    return h[last], idx[last], cnt[last], alive[last], pads[widths.size - 1]


@inner()
def draw_heads(
    v, group, fan_in, alive, buf, words, layer, network, key, scale, bias_scale, uniform, kept
):
    """Weights of 64 heads: four panels ``[fan_in + 1][16]``; units dead everywhere are left out."""
    stride = (fan_in + 1) * HEAD_TILE
    for j in range(fan_in + 1):
        if j < fan_in and alive[j] == 0:
            continue
        s = bias_scale if j == fan_in else scale
        block = group * (fan_in + 1) + j
        if uniform:
            uniforms_block(v, j * HEAD_TILE, stride, buf, words, block, layer, network, key, s)
        else:
            normals_block(v, j * HEAD_TILE, stride, buf, words, block, layer, network, key, s)
        if j < fan_in:
            at = j * HEAD_TILE
            thin_block(v, at, stride, v.size, buf, words, block, layer, network, key, kept)


@inner()
def heads_signs(v, panel, fan_in, h, pad, idx, cnt, out, out_stride, mirrors):
    """Sign bits of one panel of 16 heads: row r of ``out`` gets two bytes a block of inputs.

    With ``mirrors`` those of the mirrors as well, ``MIRRORS`` rows further on.
    """
    w = v.ctypes.data + panel * (fan_in + 1) * HEAD_TILE * 4
    for b in range(cnt.size):
        units, listed, place = (
            h.ctypes.data + b * pad * 64,
            idx.ctypes.data + b * pad * 4,
            out + 2 * b,
        )
        if mirrors:
            both_tile(w, units, listed, cnt[b], fan_in, place, out_stride)
        else:
            sign_tile(w, units, listed, cnt[b], fan_in, place, out_stride)


@inner()
def single_head(
    v,
    fan_in,
    h,
    pad,
    alive,
    live,
    out,
    blocks,
    buf,
    words,
    layer,
    network,
    key,
    scale,
    bias_ratio,
    uniform,
    kept,
):
    """One head (independent networks): weights drawn flat, all blocks with one list of units."""
    first = np.int64(0)  # the type that draw_panel's blocks have
    fill(v, (fan_in + 1 + 63) // 64, buf, words, first, layer, network, key, scale, uniform)
    thin(v, fan_in, buf, words, first, layer, network, key, kept)
    v[fan_in] *= bias_ratio
    n = 0
    for j in range(fan_in):
        if alive[j] != 0:
            live[n] = j
            n += 1
    b = 0
    while b < blocks:
        nb = 8 if blocks - b >= 8 else 4 if blocks - b >= 4 else 2 if blocks - b >= 2 else 1
        sign_one(
            nb,
            v.ctypes.data,
            h.ctypes.data + b * pad * 64,
            live.ctypes.data,
            n,
            fan_in,
            out + 2 * b,
            pad * 64,
        )
        b += nb


@inner()
def _fold(keys, rows, n_words):
    """Complement the rows that give 1 on the first input (bits beyond the last input as well)."""
    for r in range(rows):
        turned = np.uint64(0) - (keys[r, 0] & np.uint64(1))
        for w in range(n_words):
            keys[r, w] ^= turned


@inner()
def count_rows(
    keys, rows, n_words, full, tail, draw, iid, keep_shift, fold, table, tally, t_table, hashes
):
    """Count ``rows`` functions of one hidden draw; returns the number of new table entries.

    With ``iid`` every row is a hidden draw of its own, ``draw`` the number of the first. ``tally``
    (2, 4) holds, of the two constants, count, hidden draws, sumsq and count in this hidden draw;
    ``t_table`` (m + 1, 4), by number of ones, count, sumsq, last hidden draw + 1 and count in that.
    With ``fold`` a row counts for itself and its complement: what is counted is the one of the two
    that gives 0 on the first input, and the lesser number of ones.
    """
    new = 0
    if fold:
        _fold(keys, rows, n_words)
    mask = np.uint64(table.shape[0] - 1)
    row_bytes = table.shape[1] * 8
    for r in range(rows):
        keys[r, n_words - 1] &= tail
        ones = np.uint64(0)
        for w in range(n_words):
            ones += popcount(keys[r, w])
        t = min(np.int64(ones), full - np.int64(ones)) if fold else np.int64(ones)
        c = draw + r if iid else draw
        if t == 0 or t == full:  # noqa: PLR1714
            side = 0 if t == 0 else 1
            tally[side, 0] += 1
            if iid:
                tally[side, 1] += 1
                tally[side, 2] += 1
            else:
                tally[side, 3] += 1
            hashes[r] = np.uint64(0)
            keys[r, n_words - 1] = np.uint64(0)
        else:
            if t_table[t, 2] == c + 1:
                t_table[t, 1] += 2 * t_table[t, 3] + 1
                t_table[t, 3] += 1
            else:
                t_table[t, 1] += 1
                t_table[t, 2] = c + 1
                t_table[t, 3] = 1
            t_table[t, 0] += 1
            hashes[r] = hash_row(keys, r, n_words) | np.uint64(1 << 63)
            if table.shape[0] > 65536:
                entry = table.ctypes.data + np.int64(hashes[r] & mask) * row_bytes
                prefetch(entry)
                prefetch(entry + row_bytes - 1)  # an entry may lie across two cache lines
    for r in range(rows):
        h = hashes[r]
        if h == 0 or (keep_shift > 0 and ((h << np.uint64(1)) >> np.uint64(64 - keep_shift)) != 0):
            continue
        new += insert(table, keys, r, h, n_words, draw + r if iid else draw)
    return new


@inner()
def _close_draw(tally):
    """Add the counts of the two constants in the hidden draw that ends to their sums."""
    for side in range(2):
        inside = tally[side, 3]
        if inside > 0:
            tally[side, 1] += 1
            tally[side, 2] += inside * inside
            tally[side, 3] = 0


@njit(nogil=True, cache=True)
def count_many(words, heads, full, tail, first_draw, keep_shift, fold, table, tally, t_table):
    """Count functions made elsewhere: (F, W) packed words, ``heads`` rows in turn a hidden draw.

    With ``fold`` each is counted for itself and its complement. The table must have room. Returns
    the number of new entries.
    """
    n_words = words.shape[1]
    rows = words.shape[0]
    keys, hashes = np.empty((GROUP, n_words), np.uint64), np.zeros(GROUP, np.uint64)
    iid = heads == 1
    new, start, draw = 0, 0, first_draw
    while start < rows:
        left = rows - start if iid else heads - start % heads
        size = min(GROUP, left, rows - start)
        for r in range(size):
            for w in range(n_words):
                keys[r, w] = reverse64(words[start + r, w])
        new += count_rows(
            keys,
            size,
            n_words,
            full,
            tail,
            draw,
            iid,
            keep_shift,
            fold,
            table,
            tally,
            t_table,
            hashes,
        )
        start += size
        if iid:
            draw += size
        elif start % heads == 0 or start == rows:
            _close_draw(tally)
            draw += 1
    return new


@njit(inline="always")
def head_layer(arch, consts, scratch, buffers):
    """(numbers, arrays) of the output layer that :func:`head_functions` needs for every draw."""
    widths, _pads, _tiles, _code, uniform = arch
    scales, ratios, kept, _h_inputs, _idx_inputs, cnt_inputs, d = consts
    v, out16, _keys, _hashes, live = buffers
    depth = widths.size
    fan_in = d if depth == 0 else widths[depth - 1]
    out, stride = out16.ctypes.data, out16.shape[1] * 2
    law = (scales[depth], ratios[depth], uniform, kept[depth])
    numbers = (depth, fan_in, cnt_inputs.size, law, out, stride)
    return numbers, (v, live, scratch[1], scratch[2])


@njit(inline="always")
def head_functions(layer, below, heads, draw, first, rows, key, mirrors):
    """Functions of heads ``first .. first + rows - 1`` of a hidden draw, up to 64 from a 64th on.

    ``layer`` is from :func:`head_layer`, ``below`` from :func:`hidden_features`. The sign bits (in
    lane order) are left in the keys of the buffers, a row a head; with ``mirrors`` (of several
    heads) those of the mirrors from row ``MIRRORS`` on.
    """
    depth, fan_in, blocks, law, out, stride = layer[0]
    scale, ratio, uniform, kept = law
    v, live, buf, words = layer[1]
    h, idx, cnt, alive, pad = below
    if heads == 1:
        single_head(
            v,
            fan_in,
            h,
            pad,
            alive,
            live,
            out,
            blocks,
            buf,
            words,
            depth,
            draw,
            key,
            scale,
            ratio,
            uniform,
            kept,
        )
    else:
        group, bias = first // GROUP, scale * ratio
        draw_heads(
            v, group, fan_in, alive, buf, words, depth, draw, key, scale, bias, uniform, kept
        )
        for panel in range((rows + HEAD_TILE - 1) // HEAD_TILE):
            at = out + panel * HEAD_TILE * stride
            heads_signs(v, panel, fan_in, h, pad, idx, cnt, at, stride, mirrors)


@njit(nogil=True, cache=True)
def count_draws(
    arch,
    consts,
    scratch,
    heads_arch,
    buffers,
    at,
    stop,
    base,
    total,
    key,
    mirror,
    table,
    used,
    limit,
    tally,
    t_table,
):
    """Make the hidden draws ``at .. stop - 1`` and count the functions of their heads.

    ``mirror`` is what is counted of a head: ``PLAIN``, ``FOLD`` or ``BOTH``. Stops early when the
    table holds more than ``limit`` entries. Returns (next hidden draw, entries). ``total`` is the
    number of heads of the whole run: the last hidden draw may be cut short. In the table hidden
    draws are numbered from ``base`` (the first of the task), so that 32 bits are enough.
    """
    heads, n_words, full, tail, iid, keep_shift, ones_list = heads_arch
    keys, hashes = buffers[2], buffers[3]
    layer = head_layer(arch, consts, scratch, buffers)
    draw = at
    while draw < stop and used <= limit:
        wanted = min(heads, total - draw * heads)
        below = hidden_features(arch, consts, scratch, ones_list, draw, key)
        done = 0
        while done < wanted:
            rows = min(GROUP, wanted - done)
            head_functions(layer, below, heads, draw, done, rows, key, mirror == BOTH)
            number = (draw - base) * heads + done if iid else draw - base
            for side in range(2 if mirror == BOTH else 1):
                used += count_rows(
                    keys[side * MIRRORS :],
                    rows,
                    n_words,
                    full,
                    tail,
                    number,
                    iid,
                    keep_shift,
                    mirror == FOLD,
                    table,
                    tally,
                    t_table,
                    hashes,
                )
            done += rows
        _close_draw(tally)
        draw += 1
    return draw, used
