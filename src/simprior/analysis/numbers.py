"""Numbers as text: how many digits, and as TeX for figures (mathtext) and tables, without dollars.

An estimate has two significant digits of its standard error or of the half-width of its interval;
both limits have as many decimals as the estimate, and a column of them as many in every row, but
where that would move a limit to 0 or 1.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence


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
    decimals = max(0, decimals_of(error) or 0)
    return rf"{fixed(value, decimals)} \pm {fixed(error, decimals)}"


def decimals_of(error: float) -> int | None:
    """Decimals for two significant digits of an error (-1: tens); None if it is not positive."""
    if not (math.isfinite(error) and error > 0):
        return None
    return 1 - math.floor(math.log10(float(f"{error:.1e}")))  # after rounding: 0.0996 is 0.10


def fixed(value: float, decimals: int) -> str:
    """``value`` with so many decimals (-1: to tens), and never -0.00."""
    text = f"{round(value, decimals):.{max(decimals, 0)}f}"
    return text.lstrip("-") if not text.strip("-0.") else text


def column_decimals(errors: Iterable[float]) -> list[int | None]:
    """Decimals of the rows of a column: those of the middle error throughout.

    A row whose own error asks for two more or fewer has its own. None without any error.
    """
    own = [decimals_of(error) for error in errors]
    known = [d for d in own if d is not None]
    if not known:
        return [None] * len(own)
    middle = statistics.median_low(known)
    return [d if d is not None and abs(d - middle) > 1 else middle for d in own]


def interval_decimals(lows: Sequence[float], highs: Sequence[float]) -> list[int | None]:
    """:func:`column_decimals` of a column of intervals: of their half-widths; more in a row where a
    limit other than 0 would be printed as 0, or one within 1 as 1."""
    chosen = column_decimals((high - low) / 2 for low, high in zip(lows, highs, strict=True))
    return [
        d if d is None else max(_telling(low, d), _telling(high, d))
        for d, low, high in zip(chosen, lows, highs, strict=True)
    ]


def _telling(limit: float, decimals: int) -> int:
    """Decimals with which ``limit`` stays on its side of 0 and of 1, if three more suffice."""
    for more in range(4):
        shown = round(limit, decimals + more)
        if (shown != 0 or limit == 0) and (abs(shown) < 1 or abs(limit) >= 1):
            return decimals + more
    return decimals
