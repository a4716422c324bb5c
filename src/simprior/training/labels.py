"""The labels of a data file as classes: numbers keep their values, words are sorted.

* Numeric labels that are whole (``5``, ``5.0``, ``-1``) are the classes themselves.
* Other numeric labels (0.5, 1.5) are classes in the order of their values, named by them, as long
  as they are few and recur; a continuous target is refused.
* Words are numbered in sorted order; ``names[i]`` is the word of class i.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np

from simprior.delimited import is_number, short

MISSING = frozenset(
    ("", "?", "na", "n/a", "nan", "-nan", "+nan", "none", "null", "<na>", "nat", "#n/a", "#na")
)
"""What stands for a missing value, in lower case."""
MOST_FRACTIONS = 50
_WHOLE = re.compile(r"[+-]?\d+\Z", re.ASCII)
_INFINITE = re.compile(r"[+-]?inf(inity)?\Z", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Labels:
    """``y`` (k,) int64 classes; ``names`` the text of class i where the classes are not numbers."""

    y: np.ndarray
    names: tuple[str, ...] | None


def is_missing(text: str) -> bool:
    """Whether a cell says that there is no value."""
    return text.strip().lower() in MISSING


def as_text(value: Any) -> str | None:
    """One label as text without blanks around it; None if it is missing."""
    if value is None:
        return None
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, float) and math.isnan(value):
        return None
    text = str(value).strip()
    return None if is_missing(text) else text


def classify(texts: Sequence[str], mixed: bool = False) -> Labels:
    """Classes of labels that are all there.

    Parameters
    ----------
    texts : sequence of str
        The labels, none of them missing.
    mixed : bool
        Whether numbers and words may stand side by side (the column is declared as words).

    Raises
    ------
    ValueError
        They are not labels; the message says why.
    """
    counts = Counter(texts)
    numeric = {text for text in counts if is_number(text)}
    infinite = [text for text in counts if _INFINITE.match(text)]
    if numeric and infinite:
        raise ValueError(f"the label {infinite[0]!r} is not finite")
    if len(numeric) < len(counts):
        if numeric and not mixed:
            words = [text for text in counts if text not in numeric]
            raise ValueError(
                f"labels are numbers but for {sum(counts[w] for w in words)}, such as "
                f"{short(words[0])!r}: correct them, or write all classes as words"
            )
        return _named(texts, sorted(counts))
    values = {text: _value(text) for text in counts}
    whole = [value for value in values.values() if isinstance(value, int)]
    if len(whole) == len(values):
        if any(abs(value) >= 2**63 for value in whole):
            raise ValueError("the labels are whole numbers beyond 2^63: no classes")
        return Labels(np.array([values[text] for text in texts], np.int64), None)
    distinct = sorted(set(values.values()))
    if len(distinct) > MOST_FRACTIONS or 2 * len(distinct) > len(texts):
        raise ValueError(
            f"{len(distinct)} different numbers such as {_fraction(counts)} among {len(texts)} "
            "labels, not all whole: that is a continuous target, and classes are wanted"
        )
    places = {value: place for place, value in enumerate(distinct)}
    names = tuple(str(v if isinstance(v, int) else v.normalize()) for v in distinct)
    return Labels(np.array([places[values[text]] for text in texts], np.int64), names)


def _named(texts: Sequence[str], names: list[str]) -> Labels:
    places = {name: place for place, name in enumerate(names)}
    return Labels(np.array([places[text] for text in texts], np.int64), tuple(names))


def _value(text: str) -> int | Decimal:
    """A numeric label exactly: an int if it is whole, however it is written (5, 5.0, 5e0)."""
    if _WHOLE.match(text) and len(text) < 40:
        return int(text)
    try:
        value = Decimal(text)
    except InvalidOperation:  # an exponent beyond all bounds
        return 2**63
    if value.adjusted() > 40:
        return 2**63
    return int(value) if value == value.to_integral_value() else value


def _fraction(counts: Counter[str]) -> str:
    return next(text for text in counts if not isinstance(_value(text), int))
