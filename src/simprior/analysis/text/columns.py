"""Which columns of a frame belong together: a value, its standard error, its limits.

``x_stderr`` is the standard error of the column ``x``; ``x_low`` and ``x_high`` are its limits.
Where there is no column ``x``, they are columns in their own right.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from simprior.analysis.text.numbers import interval_decimals

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
