"""Tables as CSV that a spreadsheet can open without running a cell as a formula."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_FORMULA = ("=", "+", "-", "@", "\t", "\n")
"""What a spreadsheet takes for the start of a formula."""


def csv_text(frame: pd.DataFrame) -> str:
    """A table as CSV with every digit, without its index.

    Texts and headings that a spreadsheet would run as a formula get a ``'`` before them; numbers
    stay as they are, also as texts.
    """
    import pandas as pd

    columns: dict[int, Any] = {}
    for i, dtype in enumerate(frame.dtypes):
        column = frame.iloc[:, i]
        plain = pd.api.types.is_numeric_dtype(dtype)
        columns[i] = column if plain else [quoted(value) for value in column.tolist()]
    safe = pd.DataFrame(columns, index=frame.index)
    safe.columns = pd.Index([quoted(name) for name in frame.columns], dtype=object)
    return str(safe.to_csv(index=False))


def quoted(value: Any) -> Any:
    """A cell: a text that would start a formula with a ``'`` before it; lines end in a newline."""
    if not isinstance(value, str):
        return value
    value = value.replace("\r\n", "\n").replace("\r", "\n")  # a bare one would end the row
    if not value.lstrip(" ").startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def comment(command: str) -> str:
    """A command line (of :func:`shlex.join`) as a comment whose commas start no formula: the empty
    string '' stands before it, so that a shell reads the same words."""
    return re.sub(r"([,;]['\" ]*)(?=[=+@]|-(?![\d.]))", r"\1''", command)
