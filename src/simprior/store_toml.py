"""TOML files: reading with one-line errors, and a writer for what run configurations use.

Reading is by the standard library's ``tomllib``, writing by ``tomli_w``. TOML has no null: keys
whose value is None are left out, which a reader takes as "the default".
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from simprior.errors import InputError

_LINE_BREAKS = (
    (re.compile(r"\[\n +"), "["),
    (re.compile(r",\n *\]"), "]"),
    (re.compile(r",\n +"), ", "),
)
"""Line breaks inside lists, which ``tomli_w`` writes with an entry a line; strings have none."""


def read_toml(path: Path | str, name: str) -> tuple[dict[str, Any], str]:
    """Values and text of a TOML file; ``name`` is the argument it was given as.

    Raises :class:`InputError` when it cannot be read or is no TOML.
    """
    try:
        text = Path(path).read_text()
        return tomllib.loads(text), text
    except OSError as error:
        raise InputError(
            f"{name}={path}", f"a readable TOML file ({error.strerror})", "check the path"
        ) from None
    except (ValueError, RecursionError) as error:  # not TOML or text, numbers of 5,000 digits
        raise InputError(f"{name}={path}", f"TOML ({error})", "correct the file") from None


def plain(value: Any) -> Any:
    """``value`` with tuples, arrays and numpy scalars replaced by what JSON and TOML know.

    Raises :class:`InputError` for anything that has no plain form.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if hasattr(value, "tolist"):  # an array or a scalar of numpy
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if hasattr(value, "__fspath__"):
        return str(value)
    raise InputError(
        f"{type(value).__name__} value {value!r}",
        "numbers, strings, lists and tables",
        "convert it before it goes into a configuration",
    )


def to_toml(values: Mapping[str, Any]) -> str:
    """The TOML text of ``values``; ``tomllib.loads`` gives back :func:`plain` of it, less Nones."""
    text = tomli_w.dumps(_without_none(plain(values)))
    for line_break, mark in _LINE_BREAKS:
        text = line_break.sub(mark, text)
    return text.strip() + "\n"


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(entry) for k, entry in value.items() if entry is not None}
    if not isinstance(value, list):
        return value
    if any(entry is None for entry in value):
        raise InputError(f"list {value!r}", "no None inside a list", "TOML has no null")
    return [_without_none(entry) for entry in value]


def holds(text: bytes, values: Mapping[str, Any]) -> bool:
    """Whether a TOML file, read as bytes, holds exactly ``values``, in whatever layout."""
    try:
        found = json.dumps(tomllib.loads(text.decode()), sort_keys=True)
    except (ValueError, TypeError, RecursionError):  # no text, no TOML, or values we never write
        return False
    return found == json.dumps(tomllib.loads(to_toml(values)), sort_keys=True)
