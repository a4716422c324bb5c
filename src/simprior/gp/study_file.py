"""Recipes of studies: a TOML file, whose key ``study`` names the kind (``ep`` if left out)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from simprior.errors import InputError
from simprior.gp.study_ep import EpStudy
from simprior.gp.study_width import WidthStudy
from simprior.store_toml import read_toml

KINDS: dict[str, type[EpStudy] | type[WidthStudy]] = {"ep": EpStudy, "width": WidthStudy}


def load_study(path: Path) -> EpStudy | WidthStudy:
    """Read a study from a TOML file; :class:`InputError` on an unknown key or a wrong type."""
    values, _ = read_toml(path, "study")
    name = values.pop("study", "ep")
    if not isinstance(name, str) or name not in KINDS:
        raise InputError(
            f"study={name!r} in {path}", f"one of {', '.join(KINDS)}", "correct the file"
        )
    kind = KINDS[name]
    default = kind()
    known = {f.name: getattr(default, f.name) for f in fields(kind)}
    chosen: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise InputError(
                f"key {key!r} in {path}", f"one of {', '.join(known)}", "correct or remove it"
            )
        chosen[key] = _as_type(key, value, known[key], path)
    return kind(**chosen)


def _as_type(key: str, value: Any, default: Any, path: Path) -> Any:
    """``value`` in the type of ``default``; a single value is a list of one."""
    single = not isinstance(default, tuple)
    items = [value] if single or not isinstance(value, list) else value
    kind = type(default if single else default[0])
    wanted = (int, float) if kind is float else (kind,)
    bad = [v for v in items if isinstance(v, bool | list | Mapping) or not isinstance(v, wanted)]
    if bad or not items:
        raise InputError(
            f"{key}={value!r} in {path}", f"{kind.__name__} {'value' if single else 'values'}",
            "correct the file",
        )  # fmt: skip
    converted = tuple(kind(v) for v in items)
    return converted[0] if single else converted
