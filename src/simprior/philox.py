"""Counter-based random numbers for the compiled kernels: Philox4x32-10 (Salmon et al., SC 2011).

Number ``i`` of a stream is a pure function of ``(key, counter)``: nothing depends on workers, chunk
sizes or the order of evaluation. A *block* is 64 numbers made from 16 consecutive counters: number
``16 w + l`` of block ``b`` comes from word ``w`` of counter ``16 b + l``. Loops over the 16
counters have no branches, so that LLVM turns them into vector code. Normals are Box-Muller pairs in
single precision (tails to 6.7 standard deviations).
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from simprior.vecmath import log_f32, sincos_turn_f32

BLOCK = 64

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_SQRT3 = np.float32(math.sqrt(3.0))
_FASTMATH = {"contract", "nsz"}


@njit(inline="always")
def _rounds(a0, a1, a2, a3, k0, k1):
    """Ten rounds on uint64 variables whose high halves are ignored (and hold rubbish)."""
    for _ in range(10):
        p0 = _M0 * (a0 & _LOW)
        p1 = _M1 * (a2 & _LOW)
        a0 = (p1 >> _HALF) ^ a1 ^ k0
        a2 = (p0 >> _HALF) ^ a3 ^ k1
        a1 = p1
        a3 = p0
        k0 = k0 + _W0
        k1 = k1 + _W1
    return a0, a1, a2, a3


@njit(nogil=True)
def philox4x32(c0, c1, c2, c3, k0, k1):
    """Philox4x32-10 of one counter: four counter words and two key words -> four uint32."""
    a0, a1, a2, a3 = _rounds(
        np.uint64(c0), np.uint64(c1), np.uint64(c2), np.uint64(c3), np.uint64(k0), np.uint64(k1)
    )
    return np.uint32(a0 & _LOW), np.uint32(a1 & _LOW), np.uint32(a2 & _LOW), np.uint32(a3 & _LOW)


@njit(inline="always")
def words_block(buf, block, c1, network, key):
    """64 uint32 words of one block into ``buf`` ((32,) uint64; view it as (64,) uint32).

    Counter words: (16 block + lane, c1, low half of ``network``, high half of ``network``).
    """
    base = np.uint64(block) << np.uint64(4)
    c1 = np.uint64(c1)
    c2, c3 = np.uint64(network) & _LOW, np.uint64(network) >> _HALF
    k0, k1 = np.uint64(key) & _LOW, np.uint64(key) >> _HALF
    for l in range(8):  # noqa: E741
        lane = np.uint64(2 * l)
        a0, a1, a2, a3 = _rounds(base + lane, c1, c2, c3, k0, k1)
        b0, b1, b2, b3 = _rounds(base + lane + np.uint64(1), c1, c2, c3, k0, k1)
        buf[l] = (a0 & _LOW) | (b0 << _HALF)
        buf[8 + l] = (a1 & _LOW) | (b1 << _HALF)
        buf[16 + l] = (a2 & _LOW) | (b2 << _HALF)
        buf[24 + l] = (a3 & _LOW) | (b3 << _HALF)


@njit(inline="always")
def normal_pair(u, v):
    """Two independent standard normals (float32) from two uint32 words (Box-Muller)."""
    x = np.float32(np.float32(u) * np.float32(2.0**-32) + np.float32(2.0**-33))
    r = np.float32(np.sqrt(np.float32(np.float32(-2.0) * log_f32(min(x, np.float32(1.0))))))
    s, c = sincos_turn_f32(v)
    return np.float32(r * c), np.float32(r * s)


@njit(inline="always")
def normals_block(out, at, stride, buf, words, block, c1, network, key, scale):
    """64 normals N(0, scale^2) of one block into ``out`` (float32): word w, lane l goes to
    ``out[at + w * stride + l]``.

    ``buf`` is (32,) uint64 scratch and ``words`` its view as (64,) uint32.
    """
    words_block(buf, block, c1, network, key)
    at, step = np.uint64(at), np.uint64(stride)
    for l in range(16):  # noqa: E741
        a, b = normal_pair(words[l], words[16 + l])
        c, d = normal_pair(words[32 + l], words[48 + l])
        i = at + np.uint64(l)  # unsigned: a signed index would be tested for wrap-around
        out[i] = a * scale
        out[i + step] = b * scale
        out[i + np.uint64(2) * step] = c * scale
        out[i + np.uint64(3) * step] = d * scale


@njit(inline="always")
def uniforms_block(out, at, stride, buf, words, block, c1, network, key, scale):
    """64 uniform numbers of variance scale^2 and mean 0 of one block, placed as in
    :func:`normals_block`."""
    words_block(buf, block, c1, network, key)
    at, step = np.uint64(at), np.uint64(stride)
    factor = np.float32(2.0**-31) * (_SQRT3 * scale)
    for w in range(4):
        start = at + np.uint64(w) * step
        for l in range(16):  # noqa: E741
            centred = np.float32(np.int32(words[16 * w + l])) + np.float32(0.5)
            out[start + np.uint64(l)] = centred * factor


@njit(nogil=True, fastmath=_FASTMATH)
def fill(out, blocks, buf, words, first_block, c1, network, key, scale, uniform):
    """Fill ``out[0 : 64 blocks]`` (float32) with consecutive blocks from ``first_block``."""
    for b in range(blocks):
        if uniform:
            uniforms_block(out, b * BLOCK, 16, buf, words, first_block + b, c1, network, key, scale)
        else:
            normals_block(out, b * BLOCK, 16, buf, words, first_block + b, c1, network, key, scale)
