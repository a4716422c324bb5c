"""Functions and random numbers for compiled code, all scalar and inlined into loops that vectorise.

**Single precision.** Elementary functions (``log_f32`` to ``erf_f32``) without branches or calls.
The polynomial coefficients are our own Chebyshev fits over the stated interval.
``tests/test_vecmath.py`` holds each function to a few units in the last place of the float64 value.
No function allocates or raises.

**Random numbers.** Counter-based: Philox4x32-10 (Salmon et al., SC 2011). Number ``i`` of a stream
is a pure function of ``(key, counter)``: nothing depends on workers, chunk sizes or the order of
evaluation. A *block* is 64 numbers made from 16 consecutive counters: number ``16 w + l`` of block
``b`` comes from word ``w`` of counter ``16 b + l``. Loops over the 16 counters have no branches, so
that LLVM turns them into vector code. Normals are Box-Muller pairs in single precision (tails to
6.7 standard deviations).

**The standard normal, in float64.** ``Q(a) = P(X > a)`` is the survival function, ``phi`` the
density. Everything is written around the scaled survival function ``G(t) = Q(t) exp(t^2/2) =
erfcx(t/sqrt 2)/2``, a smooth function on ``[0, inf)`` that one polynomial in ``(t - 4)/(t + 4)``
gives to 5e-15 (Chebyshev interpolation, computed at import from scipy's erfcx), so that nothing
ever underflows. The inverse is Wichura's AS241 (Applied Statistics 37, 1988) down to probabilities
of 1e-280, and Newton's method on ``log Q`` below.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.options import DefaultOptions
from numba.core.registry import CPUDispatcher
from numba.extending import intrinsic
from numpy.polynomial import chebyshev

_f = np.float32
_u = np.uint32
TWO_OVER_SQRT_PI = np.float32(2.0 / math.sqrt(math.pi))

LANES = 16
"""Single-precision numbers in a vector of the code that is written as LLVM instructions."""
F32, I16, I32, I64 = ir.FloatType(), ir.IntType(16), ir.IntType(32), ir.IntType(64)
VECTOR = ir.VectorType(F32, LANES)


class _NoMachineCode(JITCodeLibrary):  # type: ignore[misc]
    """Code that is linked into that of callers, and optimised and made machine code of there."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        self._ensure_finalized()
        return 0  # there is none

    @property
    def codegen(self) -> Any:
        return self

    def set_env(self, name: str, environment: Any) -> None:
        """No machine code that could look for its environment."""


class _InnerCompiler(Compiler):  # type: ignore[misc]
    def compile_extra(self, func: Any) -> Any:
        if self.state.library is None:
            codegen = self.state.targetctx.codegen()
            self.state.library = _NoMachineCode(codegen, func.__qualname__)
        return super().compile_extra(func)


class _Inner(CPUDispatcher):  # type: ignore[misc]
    """A compiled function that is compiled once more if it is called from Python."""

    def __call__(self, *args: Any) -> Any:
        if "callable" not in self.__dict__:
            options = self.targetoptions | {"no_cpython_wrapper": False, "no_cfunc_wrapper": False}
            del options["nopython"]
            self.callable = njit(cache=True, **options)(self.py_func)
        return self.callable(*args)


def inner(**options: Any) -> Any:
    """``numba.njit`` for a function that compiled code calls.

    It is linked into the functions that call it, which are optimised as a whole. Machine code of
    its own, and what makes it callable from Python, are made only where it is called from Python:
    else they would take half of the time of compiling. Its code is kept with that of its callers.
    """
    given = {"nogil": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}

    def compiled(function: Any) -> Any:
        dispatcher = njit(pipeline_class=_InnerCompiler, **given | options)(function)
        dispatcher.__class__ = _Inner
        return dispatcher

    return compiled


UNCOUNTED: dict[str, Any] = {"_nrt": False} if hasattr(DefaultOptions, "_nrt") else {}
"""Options of :func:`inner` for a function that makes no arrays, but for views: it does not count
references to those that it is given. Counting takes half of the time of functions that are called
often with many arrays. Assignments to slices may make arrays: :func:`copy` does not."""


@inner(**UNCOUNTED)
def copy(source, out):  # type: ignore[no-untyped-def]
    """out = source, for arrays of one dimension that do not overlap."""
    for j in range(out.size):
        out[j] = source[j]


@inner(**UNCOUNTED)
def copy_rows(source, out, start, stop):  # type: ignore[no-untyped-def]
    """Rows ``start .. stop - 1`` of ``out`` become those of ``source``."""
    for i in range(start, stop):
        for j in range(out.shape[1]):
            out[i, j] = source[i, j]


def emit_load(builder: Any, address: Any, kind: Any) -> Any:
    """Code that loads a value of LLVM type ``kind`` from a byte address (aligned to 4 bytes)."""
    load = builder.load(builder.inttoptr(address, kind.as_pointer()))
    load.align = 4
    return load


def emit_store(builder: Any, value: Any, address: Any, align: int = 4) -> None:
    """Code that stores a value at a byte address."""
    store = builder.store(value, builder.inttoptr(address, value.type.as_pointer()))
    store.align = align


def emit_splat(builder: Any, scalar: Any, lanes: int = LANES) -> Any:
    """Code of the vector whose lanes are all ``scalar``."""
    undef = ir.Constant(ir.VectorType(F32, lanes), ir.Undefined)
    one = builder.insert_element(undef, scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(one, undef, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))


def named(function: Any, name: str) -> Any:
    """``function``, not compiled yet, under a name of its own.

    Machine code that numba kept in files of different processes is linked by names. Functions that
    one factory makes have one name, and a number that another process may have given to another of
    them: it would be called in its place.
    """
    function.__name__ = function.__qualname__ = name
    return function


def emit_fma(builder: Any, a: Any, b: Any, c: Any, *, always: bool) -> Any:
    """Code of a * b + c on vectors: ``always`` fused, or only where the processor has it."""
    name = f"llvm.{'fma' if always else 'fmuladd'}.v{a.type.count}f32"
    fn = builder.module.globals.get(name)
    if fn is None:
        fn = ir.Function(builder.module, ir.FunctionType(a.type, [a.type] * 3), name)
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
_bits_to_double: Any = _reinterpret(types.int64, types.float64)
_double_to_bits: Any = _reinterpret(types.float64, types.int64)


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
    """Ten rounds on uint64 variables whose high halves hold nothing of use."""
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


@inner()
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


@inner(**UNCOUNTED)
def fill(out, blocks, buf, words, first_block, c1, network, key, scale, uniform):
    """Fill ``out[0 : 64 blocks]`` (float32) with consecutive blocks from ``first_block``."""
    counters = np.int64(first_block), np.uint64(c1), np.uint64(network)
    _fill(out, np.int64(blocks), buf, words, *counters, np.uint64(key), scale, bool(uniform))


@inner(fastmath=_FASTMATH, **UNCOUNTED)
def _fill(out, blocks, buf, words, first_block, c1, network, key, scale, uniform):
    """:func:`fill` for one set of types: it takes two seconds to compile, for each."""
    for b in range(blocks):
        if uniform:
            uniforms_block(out, b * BLOCK, 16, buf, words, first_block + b, c1, network, key, scale)
        else:
            normals_block(out, b * BLOCK, 16, buf, words, first_block + b, c1, network, key, scale)


MASKS = np.uint64(1 << 31)
"""Added to the counter word c1 of a block: the words that say which of its numbers are kept."""


@njit(inline="always")
def thin_block(out, at, stride, stop, buf, words, block, c1, network, key, kept):
    """Set to 0 what is not kept of the numbers of one block, placed as in :func:`normals_block`.

    A number is kept where the word in its place is below ``kept`` (uint64; 2^32 keeps all). Those
    at ``out[stop]`` and beyond are left as they are.
    """
    if kept > _LOW:
        return
    words_block(buf, block, np.uint64(c1) + MASKS, network, key)
    for w in range(4):
        start = at + w * stride
        for l in range(16):  # noqa: E741
            if start + l < stop and words[16 * w + l] >= kept:
                out[start + l] = np.float32(0.0)


@inner(**UNCOUNTED)
def thin(out, size, buf, words, first_block, c1, network, key, kept):
    """Set to 0 what is not kept of ``out[:size]``, which :func:`fill` made from the same block."""
    if kept > _LOW:
        return
    counters = np.int64(first_block), np.uint64(c1), np.uint64(network)
    _thin(out, np.int64(size), buf, words, *counters, np.uint64(key), np.uint64(kept))


@inner(**UNCOUNTED)
def _thin(out, size, buf, words, first_block, c1, network, key, kept):
    """:func:`thin` for one set of types."""
    for b in range((size + BLOCK - 1) // BLOCK):
        at = b * BLOCK
        thin_block(out, at, 16, size, buf, words, first_block + b, c1, network, key, kept)


SQRT_2PI = math.sqrt(2.0 * math.pi)
TAIL = 36.0  # beyond this bound Q is taken in log space
_SHIFT = 4.0
_LOG2E = 1.4426950408889634
_LN2_HI = 6.93147180369123816490e-01
_LN2_LO = 1.90821492927058770002e-10


def _scaled_survival_coefficients() -> tuple[float, ...]:
    from scipy.special import erfcx

    def target(y: np.ndarray) -> np.ndarray:
        t = _SHIFT * (1.0 + y) / np.maximum(1.0 - y, 1e-12)
        return 0.5 * erfcx(t / math.sqrt(2.0)) * (t + _SHIFT)

    interpolate: Any = chebyshev.chebinterpolate
    poly = chebyshev.cheb2poly(interpolate(target, 20))
    return tuple(float(c) for c in poly[::-1])


_G_POLY = _scaled_survival_coefficients()
_G_EVEN, _G_ODD = _G_POLY[0::2], _G_POLY[1::2]
_EXP_POLY = tuple(1.0 / math.factorial(k) for k in range(12, -1, -1))
_LOG_POLY = tuple(1.0 / (2 * k + 1) for k in range(10, -1, -1))
_MANTISSA = (1 << 52) - 1
_HALF_ROOT = 0x3FE6A09E667F3BCD  # bits of sqrt(1/2)
# fmt: off
_A = (2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4,
      4.5921953931549871457e4, 1.3731693765509461125e4, 1.9715909503065514427e3,
      1.3314166789178437745e2, 3.3871328727963666080e0)
_B = (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4,
      2.1213794301586595867e4, 5.3941960214247511077e3, 6.8718700749205790830e2,
      4.2313330701600911252e1, 1.0)
_C = (7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
      1.27045825245236838258e0, 3.64784832476320460504e0, 5.76949722146069140550e0,
      4.63033784615654529590e0, 1.42343711074968357734e0)
_D = (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
      1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940e0,
      2.05319162663775882187e0, 1.0)
_E = (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
      2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580e0,
      5.46378491116411436990e0, 6.65790464350110377720e0)
_F = (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
      7.86869131145613259100e-4, 1.48753612908506148525e-2, 1.36929880922735805310e-1,
      5.99832206555887937690e-1, 1.0)
# fmt: on

OPTIONS: dict[str, Any] = {
    "nogil": True,
    "fastmath": {"contract"},
    "error_model": "numpy",
}
INLINE: dict[str, Any] = OPTIONS | {"forceinline": True}  # else loops over draws stay scalar


def _choose(typingctx: Any, condition: Any, yes: Any, no: Any) -> Any:
    """yes if condition else no, both evaluated: a branch would keep loops from vectorising."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(args[0], args[1], args[2])

    return types.float64(types.boolean, types.float64, types.float64), codegen


select: Any = intrinsic(_choose)


@inner(**INLINE)
def horner(coefficients: tuple[float, ...], x: float) -> float:
    """Polynomial with the highest power first."""
    total = coefficients[0]
    for k in range(1, len(coefficients)):
        total = total * x + coefficients[k]
    return total


@inner(**INLINE)
def exp_negative(x: float) -> float:
    """exp(x) for x <= 0, relative error 2e-16; below -700 it returns exp(-700)."""
    x = select(x > -700.0, x, -700.0)
    k = math.floor(x * _LOG2E + 0.5)
    r = (x - k * _LN2_HI) - k * _LN2_LO
    return horner(_EXP_POLY, r) * _bits_to_double((np.int64(k) + 1023) << 52)


@inner(**INLINE)
def scaled_survival(t: float) -> float:
    """G(t) = Q(t) exp(t^2/2) for t >= 0."""
    s = 1.0 / (t + _SHIFT)
    y = (t - _SHIFT) * s
    return (horner(_G_EVEN, y * y) + y * horner(_G_ODD, y * y)) * s


@inner(**INLINE)
def survival(a: float) -> float:
    """P(X > a), for a below about 37."""
    g, e = scaled_survival(abs(a)), exp_negative(-0.5 * a * a)
    return select(a > 0.0, g * e, 1.0 - g * e)


@inner(**OPTIONS)
def log_survival(a: float) -> float:
    """ln P(X > a), any a."""
    if a > 0.0:
        return -0.5 * a * a + math.log(scaled_survival(a))
    return math.log1p(-scaled_survival(-a) * exp_negative(-0.5 * a * a))


@inner(**OPTIONS)
def hazard(z: float) -> tuple[float, float]:
    """(ln Phi(z), phi(z)/Phi(z)); the second is the mean of X ~ N(0, 1) given X > -z."""
    if z > 0.0:
        e = exp_negative(-0.5 * z * z)
        cdf = 1.0 - scaled_survival(z) * e
        return math.log(cdf), e / (SQRT_2PI * cdf)
    g = scaled_survival(-z)
    return -0.5 * z * z + math.log(g), 1.0 / (SQRT_2PI * g)


@inner(**OPTIONS)
def truncated_variance(z: float, ratio: float) -> float:
    """Variance of X ~ N(0, 1) given X > -z, from ratio = phi(z)/Phi(z).

    For z < -40 from the asymptotic series, where the difference would lose its digits.
    """
    if z < -40.0:
        w = 1.0 / (z * z)
        return w * (1.0 - w * (6.0 - w * (50.0 - w * (518.0 - w * 6354.0))))
    return 1.0 - ratio * (z + ratio)


@inner(**INLINE)
def log_positive(x: float) -> float:
    """ln x for a normal positive number, absolute error 2e-16; vectorises."""
    bits = _double_to_bits(x) - _HALF_ROOT
    k = bits >> 52
    f = _bits_to_double((bits & _MANTISSA) + _HALF_ROOT)
    s = (f - 1.0) / (f + 1.0)
    return 2.0 * s * horner(_LOG_POLY, s * s) + (k * _LN2_LO + k * _LN2_HI)


@inner(**INLINE)
def quantile(p: float) -> float:
    """Standard normal quantile, 1e-300 < p < 1 (Wichura 1988, algorithm PPND16), branch-free."""
    q = p - 0.5
    central = 0.180625 - q * q
    middle = q * horner(_A, central) / horner(_B, central)
    tail = select(q < 0.0, p, 1.0 - p)
    tail = select(tail > 1e-300, tail, 1e-300)
    r = math.sqrt(-log_positive(tail))
    near, far = r - 1.6, r - 5.0
    x = horner(_C, near) / horner(_D, near)
    y = horner(_E, far) / horner(_F, far)
    x = select(r <= 5.0, x, y)
    return select(abs(q) <= 0.425, middle, select(q < 0.0, -x, x))


@inner(**OPTIONS)
def tail_quantile(a: float, v: float) -> float:
    """x > a with Q(x) = v Q(a), for a large positive a: Newton's method on ln Q(x)."""
    target = math.log(v) + math.log(scaled_survival(a))
    x = math.sqrt(a * a - 2.0 * math.log(v))
    for _ in range(4):
        g = scaled_survival(x)
        excess = -0.5 * (x - a) * (x + a) + math.log(g) - target
        x = max(x + excess * SQRT_2PI * g, a)
    return x


@inner(**OPTIONS)
def truncated_draw(a: float, v: float) -> float:
    """X ~ N(0, 1) given X > a by inverse survival function; v uniform on (0, 1]."""
    if a > TAIL:
        return tail_quantile(a, v)
    return max(-quantile(v * survival(a)), a)


@inner(**OPTIONS)
def log_interval(a: float, b: float) -> float:
    """ln P(a < X < b), -inf where b <= a; b may be inf and a may be -inf."""
    if b <= a:
        return -math.inf
    if a + b < 0.0:
        a, b = -b, -a
    if a > 0.0:
        if b == math.inf:
            return log_survival(a)
        inner = scaled_survival(b) * exp_negative(-0.5 * (b - a) * (b + a))
        return -0.5 * a * a + math.log(max(scaled_survival(a) - inner, 1e-300))
    upper = scaled_survival(b) * exp_negative(-0.5 * b * b) if b < math.inf else 0.0
    lower = scaled_survival(-a) * exp_negative(-0.5 * a * a) if a > -math.inf else 0.0
    return math.log(max(1.0 - lower - upper, 1e-300))


@inner(**OPTIONS)
def interval_draw(a: float, b: float, v: float) -> float:
    """X ~ N(0, 1) given a < X < b by inversion; v uniform on (0, 1]."""
    if b == math.inf:
        return truncated_draw(a, v)
    if a == -math.inf:
        return -truncated_draw(-b, v)
    flip = a + b < 0.0
    if flip:
        a, b = -b, -a
    if a > 0.0:
        ratio = scaled_survival(b) / scaled_survival(a) * exp_negative(-0.5 * (b - a) * (b + a))
        x = truncated_draw(a, max(v * (1.0 - ratio) + ratio, 1e-300))
    else:
        top = 1.0 - scaled_survival(-a) * exp_negative(-0.5 * a * a)
        bottom = scaled_survival(b) * exp_negative(-0.5 * b * b)
        x = -quantile(max(bottom + v * (top - bottom), 1e-300))
    x = min(max(x, a), b)
    return -x if flip else x


@njit(cache=True, nogil=True)
def log_survival_array(a: np.ndarray) -> np.ndarray:
    """ln P(X > a), elementwise on a 1-d array."""
    out = np.empty_like(a)
    for i in range(a.shape[0]):
        out[i] = log_survival(a[i])
    return out
