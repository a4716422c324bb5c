"""Forward pass of one random network on all inputs, for the compiled sampler (float32).

Layout: activations are ``[block of 16 inputs][unit][16]`` float32; weights are made a panel of
``nt`` units at a time, ``[fan_in + 1][nt]`` with the bias in the last row, from the counter-based
stream ``(key, network, layer)``; input i sits in lane i % 16 of block i // 16. For every block a
list of the units that are not identically zero on it is kept; only these enter the next layer.

The compiled sampler: hidden draw -> features -> heads -> packed functions -> counts.

``run_clusters`` processes hidden draws ("clusters") one after the other; every number it uses is a
function of ``(key, cluster, position)``, so that any split of the clusters over tasks, workers or
resumed runs gives the same counts.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from simprior.boolean.sampling.table import hash_row, insert, popcount, prefetch, reverse64
from simprior.boolean.sampling.tile import HEAD_TILE, relu_tile, sign_one, sign_tile, store_tile
from simprior.network.compiled import RELU, activate
from simprior.numerics.compiled import BLOCK, fill, normals_block, uniforms_block


@njit(nogil=True)
def draw_panel(w, p, fan_in, nt, buf, words, layer, network, key, scale, bias_ratio, uniform):
    """Weights of panel ``p``: ``w[j * nt + i]``, row ``fan_in`` the bias; all are float32."""
    blocks = ((fan_in + 1) * nt + BLOCK - 1) // BLOCK
    fill(w, blocks, buf, words, p * blocks, layer, network, key, scale, uniform)
    last = np.uint64(fan_in * nt)
    for i in range(nt):
        w[last + np.uint64(i)] *= bias_ratio


@njit(nogil=True)
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


@njit(nogil=True)
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


@njit(nogil=True)
def hidden_features(arch, consts, scratch, network, key):
    """Activations of the last hidden layer for hidden draw ``network``.

    Returns the index (0 or 1) of the ping-pong buffer that holds them.
    """
    widths, pads, tiles, code, uniform = arch
    scales, ratios, h_inputs, idx_inputs, cnt_inputs, d = consts
    w, buf, words, h, idx, cnt, alive = scratch
    side = 0
    for layer in range(widths.size):
        width, pad, nt = widths[layer], pads[layer], tiles[layer]
        fan_in = d if layer == 0 else widths[layer - 1]
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
                network,
                key,
                scales[layer],
                ratios[layer],
                uniform,
            )
            if layer == 0:
                dense_layer(
                    w, p, fan_in, nt, code, width, h_inputs, d, idx_inputs, cnt_inputs,
                    pad, h[side], idx[side], cnt[side], alive[side],
                )  # fmt: skip
            else:
                o = 1 - side
                dense_layer(
                    w, p, fan_in, nt, code, width, h[o], pads[layer - 1], idx[o], cnt[o],
                    pad, h[side], idx[side], cnt[side], alive[side],
                )  # fmt: skip
        side = 1 - side
    return 1 - side


@njit(nogil=True)
def draw_heads(
    v, group, fan_in, alive, buf, words, layer, network, key, scale, bias_scale, uniform
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


@njit(nogil=True)
def heads_signs(v, panel, fan_in, h, pad, idx, cnt, out, out_stride):
    """Sign bits of one panel of 16 heads: row r of ``out`` gets two bytes a block of inputs."""
    w = v.ctypes.data + panel * (fan_in + 1) * HEAD_TILE * 4
    for b in range(cnt.size):
        sign_tile(
            w, h.ctypes.data + b * pad * 64, idx.ctypes.data + b * pad * 4, cnt[b], fan_in,
            out + 2 * b, out_stride,
        )  # fmt: skip


@njit(nogil=True)
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
):
    """One head (independent networks): weights drawn flat, all blocks with one list of units."""
    fill(v, (fan_in + 1 + 63) // 64, buf, words, 0, layer, network, key, scale, uniform)
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
            nb, v.ctypes.data, h.ctypes.data + b * pad * 64, live.ctypes.data, n, fan_in,
            out + 2 * b, pad * 64,
        )  # fmt: skip
        b += nb


@njit(nogil=True)
def count_rows(
    keys, rows, n_words, full, tail, cluster, iid, keep_shift, table, tally, t_table, hashes
):
    """Count ``rows`` functions of one cluster; returns the number of new entries in the table.

    ``tally`` (2, 4) holds count, clusters, sumsq, in-cluster count of the two constants;
    ``t_table`` (m + 1, 4) count, sumsq, last cluster + 1, in-cluster count by number of ones.
    """
    new = 0
    mask = np.uint64(table.shape[0] - 1)
    row_bytes = table.shape[1] * 8
    for r in range(rows):
        keys[r, n_words - 1] &= tail
        ones = np.uint64(0)
        for w in range(n_words):
            ones += popcount(keys[r, w])
        t = np.int64(ones)
        c = cluster + r if iid else cluster
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
                prefetch(table.ctypes.data + np.int64(hashes[r] & mask) * row_bytes)
    for r in range(rows):
        h = hashes[r]
        if h == 0 or (keep_shift > 0 and ((h << np.uint64(1)) >> np.uint64(64 - keep_shift)) != 0):
            continue
        new += insert(table, keys, r, h, n_words, cluster + r if iid else cluster)
    return new


@njit(nogil=True)
def _close_cluster(tally):
    for side in range(2):
        inside = tally[side, 3]
        if inside > 0:
            tally[side, 1] += 1
            tally[side, 2] += inside * inside
            tally[side, 3] = 0


@njit(nogil=True, cache=True)
def count_many(words, heads, full, tail, first_cluster, keep_shift, table, tally, t_table):
    """Count functions made elsewhere: (F, W) packed words, ``heads`` consecutive rows a cluster.

    The table must have room. Returns the number of new entries.
    """
    n_words = words.shape[1]
    rows = words.shape[0]
    keys, hashes = np.empty((GROUP, n_words), np.uint64), np.zeros(GROUP, np.uint64)
    iid = heads == 1
    new, start, cluster = 0, 0, first_cluster
    while start < rows:
        left = rows - start if iid else heads - start % heads
        size = min(GROUP, left, rows - start)
        for r in range(size):
            for w in range(n_words):
                keys[r, w] = reverse64(words[start + r, w])
        new += count_rows(
            keys, size, n_words, full, tail, cluster, iid, keep_shift, table, tally, t_table, hashes
        )
        start += size
        if iid:
            cluster += size
        elif start % heads == 0 or start == rows:
            _close_cluster(tally)
            cluster += 1
    return new


@njit(nogil=True, cache=True)
def run_clusters(
    arch,
    consts,
    scratch,
    heads_arch,
    out_buffers,
    at,
    stop,
    base,
    total,
    key,
    table,
    used,
    limit,
    tally,
    t_table,
):
    """Sample the clusters ``at .. stop - 1`` and count their functions.

    Stops early when the table holds more than ``limit`` entries. Returns (next cluster, entries).
    ``total`` is the number of samples of the whole run: the last cluster may be cut short. In the
    table clusters are numbered from ``base`` (the first of the task), so that 32 bits are enough.
    """
    widths, pads, _tiles, _code, uniform = arch
    scales, ratios, h_inputs, idx_inputs, cnt_inputs, d = consts
    _w, buf, words, h, idx, cnt, alive = scratch
    heads, n_words, full, tail, iid, keep_shift, ones_list = heads_arch
    v, out16, keys, hashes, live = out_buffers
    depth = widths.size
    blocks = cnt_inputs.size
    fan_in = d if depth == 0 else widths[depth - 1]
    out = out16.ctypes.data
    out_stride = out16.shape[1] * 2
    scale, ratio = scales[depth], ratios[depth]
    cluster = at
    while cluster < stop and used <= limit:
        wanted = min(heads, total - cluster * heads)
        if depth == 0:
            hh, ii, cc, aa, pad = h_inputs, idx_inputs, cnt_inputs, ones_list, d
        else:
            side = hidden_features(arch, consts, scratch, cluster, key)
            hh, ii, cc, aa, pad = h[side], idx[side], cnt[side], alive[side], pads[depth - 1]
        done = 0
        while done < wanted:
            rows = min(GROUP, wanted - done)
            if heads == 1:
                single_head(
                    v, fan_in, hh, pad, aa, live, out, blocks, buf, words, depth, cluster, key,
                    scale, ratio, uniform,
                )  # fmt: skip
            else:
                draw_heads(
                    v, done // GROUP, fan_in, aa, buf, words, depth, cluster, key, scale,
                    scale * ratio, uniform,
                )  # fmt: skip
                for panel in range((rows + HEAD_TILE - 1) // HEAD_TILE):
                    heads_signs(
                        v, panel, fan_in, hh, pad, ii, cc,
                        out + panel * HEAD_TILE * out_stride, out_stride,
                    )  # fmt: skip
            used += count_rows(
                keys, rows, n_words, full, tail,
                (cluster - base) * heads + done if iid else cluster - base, iid,
                keep_shift, table, tally, t_table, hashes,
            )  # fmt: skip
            done += rows
        _close_cluster(tally)
        cluster += 1
    return cluster, used
