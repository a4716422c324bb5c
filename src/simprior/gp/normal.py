"""Accurate, fast scalar functions of the standard normal for compiled kernels.

``Q(a) = P(X > a)`` is the survival function, ``phi`` the density. Everything is written around the
scaled survival function ``G(t) = Q(t) exp(t^2/2) = erfcx(t/sqrt 2)/2``, a smooth function on
``[0, inf)`` that one polynomial in ``(t - 4)/(t + 4)`` gives to 5e-15 (Chebyshev interpolation,
computed at import from scipy's erfcx), so that nothing ever underflows and loops over draws
vectorise. The inverse is Wichura's AS241 (Applied Statistics 37, 1988) down to probabilities of
1e-280 and Newton's method on ``log Q`` below.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numpy.polynomial import chebyshev

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
_A = (2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4,
      4.5921953931549871457e4, 1.3731693765509461125e4, 1.9715909503065514427e3,
      1.3314166789178437745e2, 3.3871328727963666080e0)  # fmt: skip
_B = (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4,
      2.1213794301586595867e4, 5.3941960214247511077e3, 6.8718700749205790830e2,
      4.2313330701600911252e1, 1.0)  # fmt: skip
_C = (7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
      1.27045825245236838258e0, 3.64784832476320460504e0, 5.76949722146069140550e0,
      4.63033784615654529590e0, 1.42343711074968357734e0)  # fmt: skip
_D = (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
      1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940e0,
      2.05319162663775882187e0, 1.0)  # fmt: skip
_E = (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
      2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580e0,
      5.46378491116411436990e0, 6.65790464350110377720e0)  # fmt: skip
_F = (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
      7.86869131145613259100e-4, 1.48753612908506148525e-2, 1.36929880922735805310e-1,
      5.99832206555887937690e-1, 1.0)  # fmt: skip

OPTIONS: dict[str, Any] = {
    "cache": True, "nogil": True, "fastmath": {"contract"}, "error_model": "numpy",
}  # fmt: skip
INLINE: dict[str, Any] = OPTIONS | {"forceinline": True}  # else loops over draws stay scalar


def _bits_to_float(typingctx: Any, bits: Any) -> Any:
    """float64 with the bit pattern of an int64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.DoubleType())

    return types.float64(types.int64), codegen


def _float_to_bits(typingctx: Any, value: Any) -> Any:
    """int64 with the bit pattern of a float64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(64))

    return types.int64(types.float64), codegen


def _choose(typingctx: Any, condition: Any, yes: Any, no: Any) -> Any:
    """yes if condition else no, both evaluated: a branch would keep loops from vectorising."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(args[0], args[1], args[2])

    return types.float64(types.boolean, types.float64, types.float64), codegen


select: Any = intrinsic(_choose)
_from_bits: Any = intrinsic(_bits_to_float)
_to_bits: Any = intrinsic(_float_to_bits)


@numba.njit(**INLINE)
def horner(coefficients: tuple[float, ...], x: float) -> float:
    """Polynomial with the highest power first."""
    total = coefficients[0]
    for k in range(1, len(coefficients)):
        total = total * x + coefficients[k]
    return total


@numba.njit(**INLINE)
def exp_negative(x: float) -> float:
    """exp(x) for x <= 0, relative error 2e-16; below -700 it returns exp(-700)."""
    x = select(x > -700.0, x, -700.0)
    k = math.floor(x * _LOG2E + 0.5)
    r = (x - k * _LN2_HI) - k * _LN2_LO
    return horner(_EXP_POLY, r) * _from_bits((np.int64(k) + 1023) << 52)


@numba.njit(**INLINE)
def scaled_survival(t: float) -> float:
    """G(t) = Q(t) exp(t^2/2) for t >= 0."""
    s = 1.0 / (t + _SHIFT)
    y = (t - _SHIFT) * s
    return (horner(_G_EVEN, y * y) + y * horner(_G_ODD, y * y)) * s


@numba.njit(**INLINE)
def survival(a: float) -> float:
    """P(X > a), for a below about 37."""
    g, e = scaled_survival(abs(a)), exp_negative(-0.5 * a * a)
    return select(a > 0.0, g * e, 1.0 - g * e)


@numba.njit(**OPTIONS)
def log_survival(a: float) -> float:
    """ln P(X > a), any a."""
    if a > 0.0:
        return -0.5 * a * a + math.log(scaled_survival(a))
    return math.log1p(-scaled_survival(-a) * exp_negative(-0.5 * a * a))


@numba.njit(**OPTIONS)
def hazard(z: float) -> tuple[float, float]:
    """(ln Phi(z), phi(z)/Phi(z)); the second is the mean of X ~ N(0, 1) given X > -z."""
    if z > 0.0:
        e = exp_negative(-0.5 * z * z)
        cdf = 1.0 - scaled_survival(z) * e
        return math.log(cdf), e / (SQRT_2PI * cdf)
    g = scaled_survival(-z)
    return -0.5 * z * z + math.log(g), 1.0 / (SQRT_2PI * g)


@numba.njit(**OPTIONS)
def truncated_variance(z: float, ratio: float) -> float:
    """Variance of X ~ N(0, 1) given X > -z, from ratio = phi(z)/Phi(z).

    For z < -40 from the asymptotic series, where the difference would lose its digits.
    """
    if z < -40.0:
        w = 1.0 / (z * z)
        return w * (1.0 - w * (6.0 - w * (50.0 - w * (518.0 - w * 6354.0))))
    return 1.0 - ratio * (z + ratio)


@numba.njit(**INLINE)
def log_positive(x: float) -> float:
    """ln x for a normal positive number, absolute error 2e-16; vectorises."""
    bits = _to_bits(x) - _HALF_ROOT
    k = bits >> 52
    f = _from_bits((bits & _MANTISSA) + _HALF_ROOT)
    s = (f - 1.0) / (f + 1.0)
    return 2.0 * s * horner(_LOG_POLY, s * s) + (k * _LN2_LO + k * _LN2_HI)


@numba.njit(**INLINE)
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


@numba.njit(**OPTIONS)
def tail_quantile(a: float, v: float) -> float:
    """x > a with Q(x) = v Q(a), for a large positive a: Newton's method on ln Q(x)."""
    target = math.log(v) + math.log(scaled_survival(a))
    x = math.sqrt(a * a - 2.0 * math.log(v))
    for _ in range(4):
        g = scaled_survival(x)
        excess = -0.5 * (x - a) * (x + a) + math.log(g) - target
        x = max(x + excess * SQRT_2PI * g, a)
    return x


@numba.njit(**OPTIONS)
def truncated_draw(a: float, v: float) -> float:
    """X ~ N(0, 1) given X > a by inverse survival function; v uniform on (0, 1]."""
    if a > TAIL:
        return tail_quantile(a, v)
    return max(-quantile(v * survival(a)), a)


@numba.njit(**OPTIONS)
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


@numba.njit(**OPTIONS)
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


@numba.njit(cache=True)
def log_survival_array(a: np.ndarray) -> np.ndarray:
    """ln P(X > a), elementwise on a 1-d array."""
    out = np.empty_like(a)
    for i in range(a.shape[0]):
        out[i] = log_survival(a[i])
    return out
