"""Compiled part of rejection: hidden draw -> functions -> keep those that agree with S."""

from __future__ import annotations

from numba import njit

from simprior.boolean._kernel import (
    GROUP,
    draw_heads,
    heads_signs,
    hidden_features,
    single_head,
)
from simprior.boolean._table import reverse64
from simprior.boolean._tile import HEAD_TILE


@njit(nogil=True)
def _keep(keys, rows, tail, mask, want, cluster, found, owner, filled):
    """Append the rows of ``keys`` that equal ``want`` under ``mask`` (all in lane order)."""
    last = keys.shape[1] - 1
    for r in range(rows):
        keys[r, last] &= tail
        agree = True
        for w in range(keys.shape[1]):
            if (keys[r, w] & mask[w]) != want[w]:
                agree = False
                break
        if agree:
            for w in range(keys.shape[1]):
                found[filled, w] = reverse64(keys[r, w])
            owner[filled] = cluster
            filled += 1
    return filled


@njit(nogil=True, cache=True)
def accept_clusters(
    arch, consts, scratch, heads_arch, out_buffers, at, stop, total, key, mask, want, found, owner
):
    """Draw hidden draws ``at .. stop - 1`` and keep the heads that agree with S.

    The same networks as ``_kernel.run_clusters`` draws. ``mask`` and ``want`` are (W,) in lane
    order. Kept functions go to ``found`` (B, W), packed, their hidden draws to ``owner`` (B,); B
    must be at least the number of heads. Returns (next hidden draw, functions kept); stops early
    when there may be no room for another hidden draw.
    """
    widths, pads, _tiles, _code, uniform = arch
    scales, ratios, h_inputs, idx_inputs, cnt_inputs, d = consts
    _w, buf, words, h, idx, cnt, alive = scratch
    heads, _n_words, _full, tail, _iid, _keep_shift, ones_list = heads_arch
    v, out16, keys, _hashes, live = out_buffers
    depth = widths.size
    blocks = cnt_inputs.size
    fan_in = d if depth == 0 else widths[depth - 1]
    out = out16.ctypes.data
    stride = out16.shape[1] * 2
    scale, ratio = scales[depth], ratios[depth]
    cluster, filled = at, 0
    while cluster < stop and filled + heads <= owner.size:
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
                        v, panel, fan_in, hh, pad, ii, cc, out + panel * HEAD_TILE * stride, stride
                    )
            filled = _keep(keys, rows, tail, mask, want, cluster, found, owner, filled)
            done += rows
        cluster += 1
    return cluster, filled
