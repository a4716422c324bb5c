"""Forward pass of one random network on all inputs, for the compiled sampler (float32).

Layout: activations are ``[block of 16 inputs][unit][16]`` float32; weights are made a panel of
``nt`` units at a time, ``[fan_in + 1][nt]`` with the bias in the last row, from the counter-based
stream ``(key, network, layer)``; input i sits in lane i % 16 of block i // 16. For every block a
list of the units that are not identically zero on it is kept; only these enter the next layer.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from simprior.boolean._table import popcount
from simprior.boolean._tile import relu_tile, store_tile
from simprior.compiled_activations import RELU, activate
from simprior.philox import BLOCK, fill


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
