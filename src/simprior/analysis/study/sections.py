"""Sections of a recipe that describe one of several kinds of computation by a frozen dataclass.

A section has a key ``kind``, which names the dataclass; its other keys are the fields. Each value
must have the type of the field's default: a recipe is refused before anything is computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from simprior.checks import unknown
from simprior.errors import InputError

Settings = TypeVar("Settings")


def section_settings(
    section: str, kinds: Mapping[str, type[Settings]], values: Mapping[str, Any], seed: int = 0
) -> Settings:
    """The settings that a section asks for; ``seed`` is the recipe's, used if it has none.

    ``kinds`` are dataclasses by name, whose fields all have defaults. Keys may be written as flags.

    Raises :class:`InputError` for an unknown kind or key, or a value of the wrong type.
    """
    values = {"seed": seed, **{key.replace("-", "_"): value for key, value in values.items()}}
    if "kind" not in values:
        example = next(iter(kinds))
        what = f"[{section}] without kind"
        raise InputError(what, f"one of {', '.join(kinds)}", f'add kind = "{example}"')
    name = values.pop("kind")
    if name not in list(kinds):
        raise unknown(f"kind of [{section}] {name!r}", str(name), kinds, "correct the file")
    kind: Any = kinds[name]
    known = {f.name: f.default for f in fields(kind)}
    for key in values:
        if key not in known:
            what = f"key of [{section}] {key!r}"
            raise unknown(what, key, ("kind", *known), "correct the file")
    found: Settings = kind(**{k: _as_type(section, k, v, known[k]) for k, v in values.items()})
    return found


def _as_type(section: str, key: str, value: Any, default: Any) -> Any:
    """``value`` in the type of ``default``; where that is a tuple, one value is a list of one."""
    single = not isinstance(default, tuple)
    items = [value] if single or not isinstance(value, list) else value
    kind = type(default if single else default[0])
    wanted = (int, float) if kind is float else (kind,)
    switch = kind is bool
    bad = [
        v
        for v in items
        if isinstance(v, list | Mapping)
        or isinstance(v, bool) is not switch
        or not isinstance(v, wanted)
    ]
    if bad or not items:
        expected = f"{kind.__name__} {'value' if single else 'values'}"
        raise InputError(f"{key}={value!r} of [{section}]", expected, "correct the file")
    converted = tuple(kind(v) for v in items)
    return converted[0] if single else converted
