# mypy: disable-error-code="no-untyped-def"
"""Forward and backward pass of one small network, float32, everything in the first-level cache.

Layout of a parameter vector P (float32): for hidden layer l the weights ``[pad4(fan_in)]
[pad16(width)]`` at ``off[l]``, then its bias row at ``boff[l]``; the output layer is one row of
``pad16(fan_in)`` at ``off[L]`` and its bias at ``boff[L]``. Padding is zero and stays zero (its
gradient is zero), and padded units output f(0) = 0. Activations, their derivatives and the deltas
are ``[rows][pad16(width)]`` at ``hoff[l]`` of H, D, Z. ``net`` is the tuple of ``_net.Net``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from simprior.compiled_activations import activate_with_slope, choose
from simprior.training._gemm import dot16, gemm, transpose16
from simprior.training.losses import LOSSES

BLOCK_ROWS = 32

_FAST = {"contract", "nsz"}
_f = np.float32
_ZERO = np.float32(0.0)


@njit(nogil=True)
def forward(P, net, x, x_row, rows, H, D, z):
    """Pre-activations of the output, z[0:rows], from ``rows`` (a multiple of 4) inputs at ``x``."""
    widths, pads, off, boff, hoff, _, code = net
    depth = widths.size - 1
    p, source, source_row = P.ctypes.data, x, x_row
    for l in range(depth):  # noqa: E741
        cols = pads[l + 1]
        target = H.ctypes.data + 4 * hoff[l + 1]
        gemm(
            source, source_row, 4, p + 4 * off[l], 4 * cols, target, 4 * cols, p + 4 * boff[l], 0,
            rows, cols, widths[l],
        )  # fmt: skip
        activate_with_slope(code, H, D, hoff[l + 1], rows * cols)
        source, source_row = target, 4 * cols
    bias = P[boff[depth]]
    for s in range(rows):
        z[s] = dot16(source + s * source_row, p + 4 * off[depth], pads[depth] // 16) + bias


@njit(nogil=True)
def transpose_weights(P, net, T):
    """Transposes of the weight matrices that deltas pass through, into T (layer l at toff[l])."""
    widths, pads, off, _, _, toff, _ = net
    for l in range(1, widths.size - 1):  # noqa: E741
        cols, back = pads[l + 1], pads[l]
        for i in range(0, back, 16):
            for j in range(0, cols, 16):
                source = P.ctypes.data + 4 * (off[l] + i * cols + j)
                transpose16(
                    source, 4 * cols, T.ctypes.data + 4 * (toff[l] + j * back + i), 4 * back
                )


@njit(nogil=True, fastmath=_FAST)
def _scaled(Z, D, start, rows, width, pad):
    """Delta = dL/dh times f', zero on padded units, whose dL/dh is not meaningful."""
    for s in range(rows):
        at = np.uint64(start + s * pad)
        for i in range(at, at + np.uint64(width)):
            Z[i] *= D[i]
        for i in range(at + np.uint64(width), at + np.uint64(pad)):
            Z[i] = _ZERO


@njit(nogil=True, fastmath=_FAST)
def _add_rows(G, at, Z, start, rows, pad):
    a, n = np.uint64(at), np.uint64(pad)
    for s in range(rows):
        b = np.uint64(start + s * pad)
        for i in range(n):
            G[a + i] += Z[b + i]


@njit(nogil=True, fastmath=_FAST)
def _output_layer(P, G, net, x, rows, H, D, Z, dz):
    widths, pads, off, boff, hoff, _, _ = net
    depth = widths.size - 1
    pad, v, h = np.uint64(pads[depth]), np.uint64(off[depth]), np.uint64(hoff[depth])
    for s in range(np.uint64(rows)):
        g = dz[s]
        G[boff[depth]] += g
        if depth:
            a = h + s * pad
            for i in range(pad):
                G[v + i] += g * H[a + i]
                Z[a + i] = g * P[v + i] * D[a + i]
        else:
            a = s * pad
            for i in range(pad):
                G[v + i] += g * x[a + i]


@njit(nogil=True)
def backward(P, G, net, x, first, rows, H, D, Z, T, dz):
    """Add the gradient of sum_s dz[s] z[s] to G, after :func:`forward` of the same rows.

    ``x`` is the flat array of padded inputs, the rows start at element ``first``.
    """
    widths, pads, off, boff, hoff, toff, _ = net
    depth = widths.size - 1
    _output_layer(P, G, net, x[first:], rows, H, D, Z, dz)
    g, z = G.ctypes.data, Z.ctypes.data
    for l in range(depth - 1, -1, -1):  # noqa: E741
        cols, back = pads[l + 1], pads[l]
        source = H.ctypes.data + 4 * hoff[l] if l else x.ctypes.data + 4 * first
        delta = z + 4 * hoff[l + 1]
        place = g + 4 * off[l]
        gemm(
            source, 4, 4 * back, delta, 4 * cols, place, 4 * cols, place, 4 * cols,
            (widths[l] + 3) // 4 * 4, cols, rows,
        )  # fmt: skip
        _add_rows(G, boff[l], Z, hoff[l + 1], rows, cols)
        if l:
            for i in range(hoff[l], hoff[l] + rows * back):
                Z[i] = _ZERO
            target = z + 4 * hoff[l]
            gemm(
                delta, 4 * cols, 4, T.ctypes.data + 4 * toff[l], 4 * back, target, 4 * back,
                target, 4 * back, rows, back, widths[l + 1],
            )  # fmt: skip
            _scaled(Z, D, hoff[l], rows, widths[l], back)


def _gradient_loop(derivative: Any) -> Any:
    @njit(nogil=True, fastmath=_FAST, error_model="numpy")
    def loop(z, y, dz, rows, scale):
        for s in range(np.uint64(rows)):
            dz[s] = scale * derivative(z[s], y[s])

    return loop


def _value_loop(value: Any) -> Any:
    @njit(nogil=True, fastmath=_FAST, error_model="numpy")
    def loop(z, y, out, rows):
        for s in range(np.uint64(rows)):
            out[s] = value(z[s], y[s])

    return loop


_COMPILED = [loss.compiled() for loss in LOSSES.values()]
_gradient_of = choose([_gradient_loop(derivative) for _, derivative in _COMPILED])
_value_of = choose([_value_loop(value) for value, _ in _COMPILED])
_THRESHOLDS = tuple(_f(loss.threshold) for loss in LOSSES.values())


@njit(nogil=True)
def loss_gradient(z, y, dz, rows, padded, scale, loss):
    """dz[s] = scale d loss / d z of ``rows`` samples with labels y (0 or 1); 0 up to ``padded``."""
    _gradient_of(loss, z, y, dz, rows, scale)
    for s in range(np.uint64(rows), np.uint64(padded)):
        dz[s] = _ZERO


@njit(nogil=True)
def loss_values(z, y, out, rows, loss):
    """Loss of each sample (float32), label y 0 or 1."""
    _value_of(loss, z, y, out, rows)


@njit(nogil=True)
def threshold_of(loss):
    """The class is 1 iff the output is above this."""
    return _THRESHOLDS[loss]
