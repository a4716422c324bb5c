"""Numbers as TeX, for figures (mathtext) and tables; strings come without dollars."""

from __future__ import annotations

import math


def scientific(value: float, digits: int = 3, trim: bool = True) -> str:
    r"""``2.15\times10^{6}``; short (``10^{5}``, ``50``, no trailing zeros) if ``trim``."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if trim and value == int(value) and abs(value) < 1e6 and (abs(value) < 1e4 or value % 1000):
        return f"{int(value):,}".replace(",", "{,}")
    if 1e-2 <= abs(value) < 1e4:
        return f"{value:.{digits}g}"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    if trim and "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    power = f"10^{{{int(exponent)}}}"
    return power if trim and mantissa == "1" else rf"{mantissa} \times {power}"


def plus_minus(value: float, error: float) -> str:
    r"""``0.384 \pm 0.066`` or ``(1.50 \pm 0.12) \times 10^{-5}``: two digits of the error.

    A value without a positive finite error is written with four digits.
    """
    if not (error > 0 and math.isfinite(error) and math.isfinite(value)):
        return scientific(value, 4)
    largest = max(abs(value), error)
    exponent = math.floor(math.log10(largest))
    if -3 <= exponent <= 3:
        return _fixed(value, error)
    return rf"({_fixed(value / 10.0**exponent, error / 10.0**exponent)}) \times 10^{{{exponent}}}"


def _fixed(value: float, error: float) -> str:
    first = math.floor(math.log10(float(f"{error:.1e}")))  # after rounding: 0.0996 is 0.10
    decimals = max(0, 1 - first)
    return rf"{value:.{decimals}f} \pm {error:.{decimals}f}"
