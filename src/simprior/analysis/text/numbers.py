"""A number as text: how many digits it is given, and how each notation writes it.

An estimate has two significant digits of its standard error, or of the half-width of its interval.
Both limits have as many decimals as the estimate, and a column of them as many in every row, except
where that would round a limit to 0 or to 1. There are four notations: LaTeX mathematics (for
figures, without the dollar signs), siunitx (for LaTeX tables), HTML (with a true minus sign), and
plain text (Markdown and the terminal).

In a frame a value stands beside its error (:class:`Column`): ``x_stderr`` is the standard error of
the column ``x``, and ``x_low`` and ``x_high`` are its limits. Where there is no column ``x``, they
are columns in their own right.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_LARGE, _SMALL = 1e6, 1e-4
"""Sizes from which, and below which, siunitx numbers have an exponent."""
_MOST_DECIMALS = 6
_MISSING = "{--}"  # a cell of an S column without a number


# How many digits


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
    """Decimals of each row of a column: those that the median error asks for.

    A row whose own error asks for at least two decimals more or fewer keeps its own. None
    throughout if no error is positive and finite.
    """
    own = [decimals_of(error) for error in errors]
    known = [d for d in own if d is not None]
    if not known:
        return [None] * len(own)
    middle = statistics.median_low(known)
    return [d if d is not None and abs(d - middle) > 1 else middle for d in own]


def interval_decimals(lows: Sequence[float], highs: Sequence[float]) -> list[int | None]:
    """:func:`column_decimals` of the half-widths of a column of intervals.

    A row has more decimals where a limit other than 0 would be printed as 0, or one within 1 as 1.
    """
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


def _suits(decimals: int | None, size: float) -> bool:
    """Whether numbers of this size are readable with so many decimals (False for NaN)."""
    return decimals is not None and decimals <= _MOST_DECIMALS and size < _LARGE


# LaTeX mathematics


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
        mantissa = _trimmed(mantissa)
    power = f"10^{{{int(exponent)}}}"
    return power if trim and mantissa == "1" else rf"{mantissa} \times {power}"


def plus_minus(value: float, error: float) -> str:
    r"""``0.384 \pm 0.066`` or ``(1.50 \pm 0.12) \times 10^{-5}``: two digits of the error.

    A value without a positive finite error is written with four digits.
    """
    if not (error > 0 and math.isfinite(error) and math.isfinite(value)):
        return scientific(value, 4)
    exponent = math.floor(math.log10(max(abs(value), error)))
    if -3 <= exponent <= 3:
        return _pair(value, error, r" \pm ", least=0)
    scale = 10.0**exponent
    pair = _pair(value / scale, error / scale, r" \pm ", least=0)
    return rf"({pair}) \times 10^{{{exponent}}}"


def _pair(value: float, error: float, sign: str, least: int = -99) -> str:
    """Value and error with the decimals of the error, but at least ``least``."""
    decimals = max(least, decimals_of(error) or 0)
    return f"{fixed(value, decimals)}{sign}{fixed(error, decimals)}"


def _trimmed(decimal: str) -> str:
    """A number with a decimal point, without zeros at its end."""
    return decimal.rstrip("0").rstrip(".")


# siunitx


def plain(value: float) -> str:
    """A number as siunitx reads it: four significant digits, without zeros at the end."""
    if not math.isfinite(value):
        return _MISSING
    if value == int(value) and abs(value) < _LARGE:
        return str(int(value))
    if abs(value) >= _LARGE or abs(value) < _SMALL:
        mantissa, exponent = f"{value:.3e}".split("e")
        return f"{_trimmed(mantissa)}e{int(exponent)}"
    decimals = _four_digits_from(value)
    text = fixed(value, decimals)
    return _trimmed(text) if decimals else text


def plain_column(values: Sequence[float]) -> list[str]:
    """:func:`plain` numbers; measured ones of like size have the same decimals."""
    sizes = [abs(v) for v in values if math.isfinite(v) and v != 0]
    exact = all(float(f"{size:.4g}") == size for size in sizes)
    if exact or max(sizes) >= 100 * min(sizes) or not _SMALL <= max(sizes) < _LARGE:
        return [plain(v) for v in values]
    decimals = _four_digits_from(max(sizes))
    return [fixed(v, decimals) if math.isfinite(v) else _MISSING for v in values]


def _four_digits_from(value: float) -> int:
    """Decimals with which ``value`` has four significant digits."""
    return max(0, 3 - math.floor(math.log10(abs(value))))


def with_limits(value: float, low: float, high: float, decimals: int | None) -> tuple[str, str]:
    r"""A value for siunitx and the mathematics that stands behind it: ``0.23``, ``$[0.12, 0.34]$``.

    ``decimals`` are those of the column; very small and very large numbers share a power,
    ``2.3e-6`` and ``$[1.2, 3.4] \times 10^{-6}$``, with two digits of their own half-width. Without
    finite limits the second text is empty.
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return _cell(value, decimals), ""
    if decimals is None:
        decimals = decimals_of((high - low) / 2)
        decimals = 3 if decimals is None else decimals
    largest = max(abs(v) for v in (value, low, high) if math.isfinite(v))
    if largest == 0 or (largest >= _SMALL and _suits(decimals, largest)):
        return _cell(value, decimals), f"$[{fixed(low, decimals)}, {fixed(high, decimals)}]$"
    exponent, scale = _power(largest)
    own = decimals_of((high - low) / 2 / scale)
    digits = 3 if own is None else max(own, 0)
    limits = f"[{fixed(low / scale, digits)}, {fixed(high / scale, digits)}]"
    return _scaled(value, digits, exponent), rf"${limits} \times 10^{{{exponent}}}$"


def with_plus_minus(value: float, error: float) -> tuple[str, str]:
    r"""A value for siunitx and its error, of two digits, behind it: ``0.384``, ``$\pm 0.066$``.

    Very small and very large ones have powers, ``1.50e-5`` and ``$\pm \num{1.2e-6}$``. Without a
    positive finite error the second text is empty.
    """
    decimals = decimals_of(error)
    if decimals is None or not math.isfinite(value):
        return plain(value), ""
    largest = max(abs(value), error)
    if largest >= _SMALL and _suits(decimals, largest):
        return fixed(value, decimals), rf"$\pm {fixed(error, decimals)}$"
    exponent, scale = _power(largest)
    cell = _scaled(value, max(decimals_of(error / scale) or 0, 0), exponent)
    mantissa, power = f"{error:.1e}".split("e")
    return cell, rf"$\pm \num{{{mantissa}e{int(power)}}}$"


def _cell(value: float, decimals: int | None) -> str:
    """A value with so many decimals, four digits if they do not suit it."""
    return fixed(value, decimals or 0) if _suits(decimals, abs(value)) else plain(value)


def _power(largest: float) -> tuple[int, float]:
    exponent = math.floor(math.log10(largest))
    return exponent, 10.0**exponent


def _scaled(value: float, decimals: int, exponent: int) -> str:
    """``1.50e-5``; a value that is no number as such."""
    if not math.isfinite(value):
        return _MISSING
    return f"{fixed(value / 10.0**exponent, decimals)}e{exponent}"


def p_value(value: float) -> str:
    """A p-value with two significant digits: ``0.50``, ``0.00074``, ``1.2e-7``."""
    if not math.isfinite(value):
        return _MISSING
    mantissa, sign, exponent = f"{value:#.2g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if sign else mantissa


# HTML


def short_number(value: float) -> str:
    """Four significant digits, with a true minus sign; whole numbers whole."""
    if value == int(value) and abs(value) < 1e9:
        text = f"{int(value):,}" if abs(value) >= 10_000 else str(int(value))
    else:
        text = f"{value:.4g}"
    return text.replace("-", "−")


def with_interval(value: float, low: float, high: float, decimals: int | None) -> str:
    """``0.71 [0.64, 0.77]``; the value alone without a finite interval."""
    suits = _suits(decimals, max(abs(value), abs(low), abs(high)))
    finite = [v for v in (value, low, high) if math.isfinite(v)]
    shown = [fixed(v, decimals or 0) if suits else short_number(v) for v in finite]
    return f"{shown[0]} [{shown[1]}, {shown[2]}]" if len(shown) == 3 else "".join(shown[:1])


def with_error(value: float, error: float) -> str:
    """``0.71 ± 0.03``; the value alone without a positive error."""
    decimals = decimals_of(error)
    if not math.isfinite(value) or decimals is None:
        return short_number(value) if math.isfinite(value) else ""
    if not _suits(decimals, max(abs(value), error)):
        return f"{short_number(value)} ± {error:.2g}"
    return _pair(value, error, " ± ")


# Plain text


def six_digits(value: float) -> str:
    """A number with six significant digits; ``-`` for NaN."""
    return "-" if math.isnan(value) else f"{value:.6g}"


def human(value: Any) -> str:
    """Any value in words: digits in groups of three, floats to six figures, yes and no."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(human(entry) for entry in value) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {human(entry)}" for key, entry in value.items()) or "none"
    return str(value)


# What stands beside a value

_SUFFIXES = ("_stderr", "_low", "_high")
P_VALUES = tuple(f"{of}{p}" for of in ("", "partial_") for p in ("p_value", "p_adjusted", "p_holm"))
"""Columns printed with two significant digits."""


@dataclass(frozen=True)
class Column:
    """A column of ``frame`` that has a column of its own in the printed table."""

    frame: pd.DataFrame
    name: str

    @property
    def series(self) -> pd.Series:
        """Its values."""
        return self.frame[self.name]

    @property
    def numeric(self) -> bool:
        """Whether it holds numbers (and not texts, flags or objects)."""
        return self.series.dtype.kind in "iuf"

    @property
    def has_error(self) -> bool:
        """Whether a standard error stands beside it."""
        return f"{self.name}_stderr" in self.frame

    @property
    def has_interval(self) -> bool:
        """Whether both limits of an interval stand beside it."""
        return {f"{self.name}_low", f"{self.name}_high"} <= set(self.frame)

    def numbers(self, suffix: str = "") -> list[float]:
        """Its values as floats; with a suffix those of its error or of one limit."""
        return self.frame[self.name + suffix].to_numpy(float).tolist()

    def intervals(self) -> list[tuple[float, float, int | None]]:
        """(low, high, decimals that suit the column) of each row."""
        low, high = self.numbers("_low"), self.numbers("_high")
        return list(zip(low, high, interval_decimals(low, high), strict=True))


def own_columns(frame: pd.DataFrame) -> list[str]:
    """Names of the columns that are not the error or a limit of another one."""
    known = set(frame.columns)
    return [
        name
        for name in map(str, frame.columns)
        if not any(name.endswith(s) and name[: -len(s)] in known for s in _SUFFIXES)
    ]


def columns_of(frame: pd.DataFrame) -> list[Column]:
    """The columns that the printed table has, in order."""
    return [Column(frame, name) for name in own_columns(frame)]
