"""Single-precision elementary functions without branches or calls, for loops that LLVM vectorises.

Every function is a scalar numba function inlined into its caller. The polynomial coefficients are
our own Chebyshev fits over the stated interval; ``tests/test_vecmath.py`` holds each function to a
few units in the last place of the float64 value. No function here allocates or raises.

Counter-based random numbers for the compiled kernels: Philox4x32-10 (Salmon et al., SC 2011).

Number ``i`` of a stream is a pure function of ``(key, counter)``: nothing depends on workers, chunk
sizes or the order of evaluation. A *block* is 64 numbers made from 16 consecutive counters: number
``16 w + l`` of block ``b`` comes from word ``w`` of counter ``16 b + l``. Loops over the 16
counters have no branches, so that LLVM turns them into vector code. Normals are Box-Muller pairs in
single precision (tails to 6.7 standard deviations).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

_f = np.float32
_u = np.uint32
TWO_OVER_SQRT_PI = np.float32(2.0 / math.sqrt(math.pi))

LANES = 16
"""Single-precision numbers in a vector of the code that is written as LLVM instructions."""
F32, I16, I32, I64 = ir.FloatType(), ir.IntType(16), ir.IntType(32), ir.IntType(64)
VECTOR = ir.VectorType(F32, LANES)


def emit_load(builder: Any, address: Any, kind: Any) -> Any:
    """Code that loads a value of LLVM type ``kind`` from a byte address (aligned to 4 bytes)."""
    load = builder.load(builder.inttoptr(address, kind.as_pointer()))
    load.align = 4
    return load


def emit_store(builder: Any, value: Any, address: Any, align: int = 4) -> None:
    """Code that stores a value at a byte address."""
    store = builder.store(value, builder.inttoptr(address, value.type.as_pointer()))
    store.align = align


def emit_splat(builder: Any, scalar: Any) -> Any:
    """Code of the vector whose lanes are all ``scalar``."""
    undef = ir.Constant(VECTOR, ir.Undefined)
    one = builder.insert_element(undef, scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(one, undef, ir.Constant(ir.VectorType(I32, LANES), [0] * LANES))


def emit_fma(builder: Any, a: Any, b: Any, c: Any, *, always: bool) -> Any:
    """Code of a * b + c on vectors: ``always`` fused, or only where the processor has it."""
    name = f"llvm.{'fma' if always else 'fmuladd'}.v{LANES}f32"
    fn = builder.module.globals.get(name)
    if fn is None:
        fn = ir.Function(builder.module, ir.FunctionType(VECTOR, [VECTOR] * 3), name)
    return builder.call(fn, [a, b, c])


def _reinterpret(source: types.Type, target: types.Type):
    @intrinsic
    def cast(typingctx, x):
        def codegen(context, builder, signature, args):
            return builder.bitcast(args[0], context.get_value_type(target))

        return target(source), codegen

    return cast


bits_to_float = _reinterpret(types.uint32, types.float32)
float_to_bits = _reinterpret(types.float32, types.uint32)


@njit(inline="always")
def log_f32(x):
    """Natural logarithm of a positive, normal float32."""
    # x = 2^e f with f in [sqrt(1/2), sqrt(2)); ln f = t - t^2/2 + t^3 P(t), t = f - 1
    shifted = _u(float_to_bits(_f(x)) - _u(0x3F3504F3))
    e = _f(np.int32(shifted) >> np.int32(23))
    t = _f(bits_to_float(_u(_u(shifted & _u(0x007FFFFF)) + _u(0x3F3504F3))) - _f(1.0))
    z = _f(t * t)
    p = _f(_f(7.149753948e-02) * t + _f(-1.157120076e-01))
    p = _f(p * t + _f(1.166151106e-01))
    p = _f(p * t + _f(-1.241105068e-01))
    p = _f(p * t + _f(1.424993653e-01))
    p = _f(p * t + _f(-1.666848024e-01))
    p = _f(p * t + _f(2.000070748e-01))
    p = _f(p * t + _f(-2.499998905e-01))
    p = _f(p * t + _f(3.333333119e-01))
    # ln 2 in two pieces, the first exact in few bits
    y = _f(t * z * p + e * _f(-2.12194440e-4))
    return _f(t + _f(y - _f(0.5) * z) + e * _f(0.693359375))


@njit(inline="always")
def sincos_turn_f32(word):
    """(sin, cos) of 2 pi word / 2^32 for a uint32 word: the angle is reduced in integers."""
    w = _u(word)
    quarter = _u(_u(w + _u(0x20000000)) >> _u(30))
    rest = np.int32(_u(w - _u(quarter << _u(30))))  # in [-2^29, 2^29): an eighth of a turn
    x = _f(_f(rest) * _f(2.0 * math.pi / 2.0**32))
    z = _f(x * x)
    s = _f(_f(-1.958792470e-04) * z + _f(8.332748518e-03))
    s = _f(s * z + _f(-1.666666466e-01))
    s = _f(x + x * z * s)
    c = _f(_f(2.454797310e-05) * z + _f(-1.388830328e-03))
    c = _f(c * z + _f(4.166666466e-02))
    c = _f(_f(1.0) - _f(0.5) * z + z * z * c)
    swap = (quarter & _u(1)) != 0
    sine = c if swap else s
    cosine = s if swap else c
    sine = -sine if (quarter & _u(2)) != 0 else sine
    cosine = -cosine if (_u(quarter + _u(1)) & _u(2)) != 0 else cosine
    return _f(sine), _f(cosine)


@njit(inline="always")
def sin_f32(x):
    """Sine of a float32; the range reduction is done in float64."""
    turns = np.float64(x) * 0.15915494309189535
    frac = turns - np.floor(turns)
    word = _u(np.uint64(np.int64(frac * 4294967296.0 + 0.5)) & np.uint64(0xFFFFFFFF))
    value = sincos_turn_f32(word)[0]
    # the integer angle has an absolute grain of 1.5e-9; near zero keep the relative accuracy
    a = _f(x)
    near = _f(a - a * a * a * _f(1.0 / 6.0))
    return near if abs(a) < _f(1e-2) else value


@njit(inline="always")
def exp_f32(x):
    """Exponential of a float32, clipped to [-87, 88]."""
    a = min(max(_f(x), _f(-87.0)), _f(88.0))
    n = _f(np.floor(_f(a * _f(1.4426950408889634) + _f(0.5))))
    r = _f(_f(a - n * _f(0.693359375)) - n * _f(-2.12194440e-4))
    p = _f(_f(1.989939054e-04) * r + _f(1.393373254e-03))
    p = _f(p * r + _f(8.333298344e-03))
    p = _f(p * r + _f(4.166646418e-02))
    p = _f(p * r + _f(1.666666672e-01))
    p = _f(p * r + _f(5.000000014e-01))
    y = _f(_f(1.0) + _f(r + r * r * p))
    return _f(y * bits_to_float(_u(_u(np.int32(n) + np.int32(127)) << _u(23))))


@njit(inline="always")
def tanh_f32(x):
    """Hyperbolic tangent of a float32 (odd, exactly 0 at 0)."""
    a = _f(x)
    z = _f(a * a)
    p = _f(_f(2.295852021e-03) * z + _f(-8.346992092e-03))
    p = _f(p * z + _f(2.176996547e-02))
    p = _f(p * z + _f(-5.395940669e-02))
    p = _f(p * z + _f(1.333330428e-01))
    p = _f(p * z + _f(-3.333333318e-01))
    small = _f(a + a * z * p)
    b = _f(abs(a))
    large = _f(_f(1.0) - _f(2.0) / _f(exp_f32(_f(2.0) * b) + _f(1.0)))
    large = -large if a < 0 else large
    return small if b < _f(0.625) else _f(large)


@njit(inline="always")
def erf_f32(x):
    """Error function of a float32 (odd, exactly 0 at 0)."""
    a = _f(x)
    z = _f(a * a)
    p = _f(_f(7.882497099e-05) * z + _f(-8.018854989e-04))
    p = _f(p * z + _f(5.189311942e-03))
    p = _f(p * z + _f(-2.685432880e-02))
    p = _f(p * z + _f(1.128359746e-01))
    p = _f(p * z + _f(-3.761262690e-01))
    small = _f(a * _f(p * z + TWO_OVER_SQRT_PI))
    b = min(_f(abs(a)), _f(4.2))  # erf(4.2) rounds to 1
    g = _f(_f(1.525575135e-06) * b + _f(-4.385324286e-05))
    g = _f(g * b + _f(5.782396061e-04))
    g = _f(g * b + _f(-4.672751575e-03))
    g = _f(g * b + _f(2.617481314e-02))
    g = _f(g * b + _f(-1.096470750e-01))
    g = _f(g * b + _f(3.677139883e-01))
    g = _f(g * b + _f(-1.129963819e00))
    g = _f(g * b + _f(2.534073643e-04))
    large = _f(_f(1.0) - exp_f32(_f(g - b * b)))
    large = -large if a < 0 else large
    return small if z < _f(1.0) else _f(large)


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
