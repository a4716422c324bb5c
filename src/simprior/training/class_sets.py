"""Two sets of classes, ``A:B``, as a user writes them (see :mod:`simprior.training.datasets`)."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from simprior.delimited import is_number, short
from simprior.errors import InputError

_RANGE = re.compile(r"(-?\d{1,18})-(-?\d{1,18})\Z", re.ASCII)
_WHOLE = re.compile(r"[+-]?\d{1,18}\Z", re.ASCII)
_PARITY = {"even": 0, "odd": 1}


def parse_classes(
    text: str, known: np.ndarray, names: Sequence[str] | None = None
) -> tuple[list[int], list[int]]:
    """The classes with label 0 and those with label 1 (module docstring).

    ``known`` are the classes there are; ``names[i]`` is that of class i if they are words.
    Raises :class:`InputError` on an unknown class, an empty side, or a class on both sides.
    """
    values = [int(c) for c in known]
    shown = [str(v) if names is None else quoted(names[v]) for v in values]
    parts = _split(text, ":")
    if len(parts) == 1 and text.strip().lower() in _PARITY:
        parts = ["even", "odd"] if text.strip().lower() == "even" else ["odd", "even"]
    elif len(parts) == 1:
        pair = _split(text, ",")
        if len(pair) == 2 and not (names is None and any(map(_is_range, pair))):
            parts = pair
    if len(parts) != 2:
        raise _bad_classes(text, shown, names, "two sets A:B")
    sets = []
    for part in parts:
        found = _class_set(part, values, names)
        if isinstance(found, str):
            raise _bad_classes(text, shown, names, found)
        sets.append(found)
    if set(sets[0]) & set(sets[1]):
        raise _bad_classes(text, shown, names, "two sets without a class in common")
    return sets[0], sets[1]


def _class_set(part: str, values: list[int], names: Sequence[str] | None) -> list[int] | str:
    """The classes of one side, or what was expected in its place."""
    found: set[int] = set()
    for item in _split(part, ","):
        one = _class_item(item, values, names)
        if isinstance(one, str):
            return one
        found |= one
    return sorted(found) if found else "known classes"


def _class_item(item: str, values: list[int], names: Sequence[str] | None) -> set[int] | str:
    bare = item.strip()
    if names is not None:
        plain = bare[1:-1] if len(bare) > 1 and bare[0] == bare[-1] == '"' else bare
        for same in (str, str.lower):
            near = {v for v in values if same(names[v]) == same(plain)}
            if len(near) == 1:
                return near
        if any(is_number(name) for name in names):  # a number could mean one of them
            return "known classes"
    if bare.lower() in _PARITY:
        return {c for c in values if c % 2 == _PARITY[bare.lower()]}
    match = _RANGE.match(bare.replace(" ", ""))
    if match:
        low, high = int(match[1]), int(match[2])
        inside = {v for v in values if low <= v <= high}
        return inside if inside and len(inside) == high - low + 1 else "known classes"
    if not _WHOLE.match(bare):
        return "known classes" if names is not None else "classes as numbers or ranges"
    return {int(bare)} if int(bare) in values else "known classes"


def _is_range(item: str) -> bool:
    return _RANGE.match(item.replace(" ", "")) is not None


def _split(text: str, delimiter: str) -> list[str]:
    """Parts of a text between delimiters that are not in double quotes."""
    parts, quoted = [""], False
    for character in text:
        quoted ^= character == '"'
        if character == delimiter and not quoted:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def quoted(name: str) -> str:
    """The name of a class as a set of classes takes it."""
    return f'"{name}"' if any(c in name for c in ",:") else name


def _bad_classes(
    text: str, shown: list[str], names: Sequence[str] | None, wanted: str
) -> InputError:
    few = ", ".join(map(short, shown[:12])) + (", ..." if len(shown) > 12 else "")
    known = f"of {few}" if names is not None else f"from {shown[0]} to {shown[-1]} ({few})"
    example = ":".join(map(short, shown[:2]))
    if names is None and {"3", "8"} <= set(shown):
        example = "3,8 or 0-4:5-9"
    return InputError(
        f"classes={short(text, 200)!r}", f"{wanted}, {known}", f"write for example {example}"
    )
