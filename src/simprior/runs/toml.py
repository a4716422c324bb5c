"""TOML files: reading with one-line errors, and a writer for what run configurations use.

Reading is the standard library's ``tomllib``; the writer knows scalars, lists and tables. TOML has
no null: keys whose value is None are left out, which a reader takes as "the default".
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simprior.errors import InputError

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")


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
    lines: list[str] = []
    _write_table(plain(values), (), lines)
    return "\n".join(lines).strip() + "\n"


def _write_table(table: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    scalars = {k: v for k, v in table.items() if not isinstance(v, dict) and v is not None}
    tables = {k: v for k, v in table.items() if isinstance(v, dict)}
    if path and (scalars or not tables):
        lines += ["", f"[{'.'.join(_key(part) for part in path)}]"]
    lines += [f"{_key(key)} = {_value(value)}" for key, value in scalars.items()]
    for key, value in tables.items():
        _write_table(value, (*path, key), lines)


def _key(key: str) -> str:
    return key if _BARE_KEY.match(key) else _string(key)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, list):
        if any(entry is None for entry in value):
            raise InputError(f"list {value!r}", "no None inside a list", "TOML has no null")
        return "[" + ", ".join(_value(entry) for entry in value) + "]"
    if isinstance(value, dict):
        pairs = (f"{_key(k)} = {_value(v)}" for k, v in value.items() if v is not None)
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, str):
        return _string(value)
    return str(value).lower()  # true, 10, 0.5, 1e-08, inf, nan
