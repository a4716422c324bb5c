"""Single-precision elementary functions without branches or calls, for loops that LLVM vectorises.

Every function is a scalar numba function inlined into its caller. The polynomial coefficients are
our own Chebyshev fits over the stated interval; ``tests/test_vecmath.py`` holds each function to a
few units in the last place of the float64 value. No function here allocates or raises.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

_f = np.float32
_u = np.uint32
TWO_OVER_SQRT_PI = np.float32(2.0 / math.sqrt(math.pi))


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
