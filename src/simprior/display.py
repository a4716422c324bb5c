"""How results show themselves: three lines in a terminal, a table in a notebook."""

from __future__ import annotations

import html
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_WIDEST = 128
"""Characters of a line; three of them are fewer than 400."""
_ROWS = 20
"""Rows of a table in a notebook."""


class Shown:
    """A result with a short text: :meth:`lines` says what it is, ``to_frame`` is its table.

    Dataclasses that inherit it are declared with ``repr=False``, or they would print their arrays.
    """

    def lines(self) -> list[str]:
        """What to say about this result, in three lines at most."""
        raise NotImplementedError

    def to_frame(self) -> pd.DataFrame:
        """The result as a table."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return "\n".join(_cut(line) for line in self.lines()[:3])

    def _repr_html_(self) -> str:
        """The lines, and below them the first rows of the table."""
        said = "<br>".join(html.escape(_cut(line)) for line in self.lines()[:3])
        frame = self.to_frame()
        return f"<p>{said}</p>\n{frame.head(_ROWS).to_html(index=False, border=0)}"


def _cut(line: str) -> str:
    line = " ".join(line.split())
    return line if len(line) <= _WIDEST else f"{line[: _WIDEST - 3]}..."


def estimate(value: Any, low: Any = math.nan, high: Any = math.nan, stderr: Any = math.nan) -> str:
    """``0.363 [0.346, 0.381]``, or ``0.363 ± 0.009`` without limits, to three digits."""
    value, low, high, stderr = (float(x) for x in (value, low, high, stderr))
    if math.isfinite(low) and math.isfinite(high):
        return f"{value:.3g} [{low:.3g}, {high:.3g}]"
    return f"{value:.4g} ± {stderr:.2g}" if math.isfinite(stderr) and stderr > 0 else f"{value:.4g}"


def short(function: str) -> str:
    """A function in hex of which long ones lack the middle."""
    return function if len(function) <= 14 else f"{function[:8]}..{function[-4:]}"
