"""Sections of a recipe that describe one of several kinds of computation by a frozen dataclass.

A section has a key ``kind``, which names the dataclass; its other keys are the fields. Each value
must have the type of the field's default: a recipe is refused before anything is computed. What is
described is computed piece by piece.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import Any, Protocol, TypeVar

from simprior.checks import Validator, unknown
from simprior.errors import InputError
from simprior.gp.orthant import Columns, run_batches
from simprior.runs.tasks import RunOptions

Settings = TypeVar("Settings")


class Pieced(Protocol):
    """A frozen dataclass of settings, whose work may be split over workers piece by piece."""

    def pieces(self) -> Sequence[Any]:
        """What is computed one by one, in order."""

    def compute(self, piece: Any) -> Columns:
        """Columns of the rows of a piece."""

    def join(self, columns: Columns) -> Columns:
        """Columns of the whole table, from those of all pieces."""


class AsComputed:
    """For a :class:`Pieced` whose table is the rows of its pieces, as they are."""

    def join(self, columns: Columns) -> Columns:
        """See :class:`Pieced`."""
        return columns


def check_once(settings: Any, *names: str) -> None:
    """Raise :class:`InputError` if a setting of several values has one of them twice."""
    for name in names:
        values = getattr(settings, name)
        if len(set(values)) < len(values):
            raise InputError(f"{name}={list(values)}", "each value once", "correct the file")


def check_rising(settings: Any, *names: str) -> None:
    """Raise :class:`InputError` unless each of these settings has two values or more, rising."""
    for name in names:
        values = list(getattr(settings, name))
        if len(values) < 2 or values != sorted(set(values)):
            expected = "two or more increasing values"
            raise InputError(f"{name}={values}", expected, "correct the file")


def check_each(settings: Any, check: Validator, *names: str) -> None:
    """Apply a validator to settings, and to every value of those that have several."""
    for name in names:
        value = getattr(settings, name)
        for one in value if isinstance(value, tuple | list) else (value,):
            check(name, one)


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


def run_section(
    command: str,
    kinds: Mapping[str, type[Any]],
    given: Pieced,
    options: RunOptions,
    **how: Any,
) -> Columns:
    """The whole table of what a section describes; with ``options.out`` a run of ``command``.

    Until the end each piece is a shard there. ``how``: other keywords of
    :func:`simprior.gp.orthant.run_batches`. Raises InputError, StoreError, Interrupted.
    """
    name = next(name for name, kind in kinds.items() if isinstance(given, kind))
    settings = {k: list(v) if isinstance(v, tuple) else v for k, v in vars(given).items()}
    return run_batches(
        command,
        given.compute,
        given.pieces(),
        partial(_digest, given),
        options,
        config={"kind": name, **settings},
        join=given.join,
        **how,
    )


def _digest(given: Pieced, piece: Any) -> str:
    return hashlib.sha256(repr((given, piece)).encode()).hexdigest()
