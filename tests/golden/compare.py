"""Comparison, reading and writing of golden values: plain dicts, lists, numbers, texts, None.

A golden file is JSON: one object, a key a case. ``NaN`` and ``Infinity`` stand in it as Python's
``json`` writes them, integers of any size are exact, and floats have all their digits. A list of
plain numbers is one line, so that a change of the file is readable.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

FLOOR = 1e-15
"""Floats whose difference is below this are equal: what is left of a sum that cancels."""


def same(actual: Any, expected: Any, rel: float = 1e-9, path: str = "") -> None:
    """Raise AssertionError, with the path to the value, unless ``actual`` is ``expected``.

    Types must agree; bools, integers, texts and None are equal exactly, floats within ``rel`` of
    the larger one (or ``FLOOR``). NaN equals NaN, and an infinity only itself.
    """
    where = path or "value"
    actual = plain(actual)
    found = f"{where}: expected {_short(expected)}, found {_short(actual)}"
    assert type(actual) is type(expected), found
    if isinstance(expected, dict):
        missing, new = set(expected) - set(actual), set(actual) - set(expected)
        assert not missing, f"{where}: keys {sorted(missing)} are missing"
        assert not new, f"{where}: keys {sorted(new)} are new"
        for key, value in expected.items():
            same(actual[key], value, rel, f"{path}.{key}" if path else str(key))
    elif isinstance(expected, list):
        assert len(actual) == len(expected), (
            f"{where}: expected {len(expected)} entries, found {len(actual)}"
        )
        for i, (one, other) in enumerate(zip(actual, expected, strict=True)):
            same(one, other, rel, f"{path}[{i}]")
    elif isinstance(expected, float):
        assert _close(actual, expected, rel), f"{found} (relative tolerance {rel})"
    else:
        assert actual == expected, found


def _close(actual: float, expected: float, rel: float) -> bool:
    if math.isnan(expected) or math.isnan(actual):
        return math.isnan(expected) and math.isnan(actual)
    return math.isclose(actual, expected, rel_tol=rel, abs_tol=FLOOR)


def plain(value: Any) -> Any:
    """``value`` as JSON gives it back: str keys, lists for tuples and arrays, Python's numbers.

    Raises TypeError for any other type: an object's ``repr`` is no golden value.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    for kind in (bool, int, float, str):  # of a subclass of these, only the value
        if isinstance(value, kind):
            return kind(value)
    if value is None:
        return None
    raise TypeError(f"{type(value).__name__} is no plain value: {value!r}")


def write(path: Path, values: Mapping[str, Any]) -> None:
    """Write ``values`` as a golden file, keys in the order given."""
    path.write_text(_text(plain(values), "") + "\n", encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    """The values of a golden file."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _text(value: Any, indent: str) -> str:
    inner = indent + " "
    if isinstance(value, dict) and value:
        rows = [f"{inner}{json.dumps(key)}: {_text(v, inner)}" for key, v in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(entry, dict | list) for entry in value):
        return "[\n" + ",\n".join(inner + _text(entry, inner) for entry in value) + f"\n{indent}]"
    return json.dumps(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:100]}... ({type(value).__name__})"
