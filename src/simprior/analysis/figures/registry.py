"""The kinds of figures that there are: each is told here once, by the module that draws it.

``simprior plot`` and recipes of ``simprior study`` look here for what they can draw.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from simprior.runs.directory import RunInfo

_F = TypeVar("_F", bound=Callable[..., Any])
STAGES = ("measure", "correlate", "sensitivity", "logp", "sample", "evidence")
"""Kinds of stages whose tables a recipe can draw."""


@dataclass(frozen=True)
class Kind:
    """A kind of figure.

    ``title`` is written into its files. ``draw`` makes the Figure from what ``reads`` names: the
    table of a stage of that kind (``STAGES``), or something that only Python code has ("counts",
    "comparison"). ``needs`` and ``takes`` are the keywords of ``draw`` that a recipe must and may
    give. ``whole``: ``draw`` takes the directory of the stage's run in place of its table.
    """

    name: str
    title: str
    draw: Callable[..., Figure]
    reads: str
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    whole: bool = False


class Drawing(NamedTuple):
    """A figure that can be drawn: the name of its files, and the function that draws it."""

    name: str
    draw: Callable[[], Figure]


_KINDS: dict[str, Kind] = {}
_DRAWINGS: dict[str, list[Callable[[RunInfo], list[Drawing]]]] = {}


def kind(
    name: str, title: str, reads: str, needs: str = "", takes: str = "", whole: bool = False
) -> Callable[[_F], _F]:
    """Register the decorated function as the kind ``name``; ``needs``, ``takes``: words."""

    def register(draw: _F) -> _F:
        known = _KINDS.get(name)
        if known is not None and known.draw.__qualname__ != draw.__qualname__:
            raise ValueError(f"two kinds of figures called {name!r}")
        _KINDS[name] = Kind(
            name, title, draw, reads, tuple(needs.split()), tuple(takes.split()), whole
        )
        return draw

    return register


def drawings(*commands: str) -> Callable[[_F], _F]:
    """Register the decorated function: it gives the figures that a run of ``commands`` supports.

    The function takes the :class:`RunInfo` and returns a list of :class:`Drawing`.
    """

    def register(find: _F) -> _F:
        for command in commands:
            _DRAWINGS.setdefault(command, []).append(find)
        return find

    return register


def kinds() -> Mapping[str, Kind]:
    """All kinds of figures by name."""
    _import_all()
    return _KINDS


def recipe_kinds() -> Mapping[str, Kind]:
    """The kinds that a recipe may ask for: those that read the table of a stage."""
    return {name: one for name, one in kinds().items() if one.reads in STAGES}


def drawings_of(run: RunInfo, default: str) -> list[Drawing]:
    """The figures that a run supports; of an unknown command as if it were ``default``."""
    _import_all()
    found = _DRAWINGS.get(run.command) or _DRAWINGS[default]
    return [drawing for find in found for drawing in find(run)]


def title_of(name: str) -> str:
    """The title of a kind of figure; of another name the name."""
    found = kinds().get(name)
    return name if found is None else found.title


@functools.cache
def _import_all() -> None:
    """Import every module of this package, so that each registers its figures."""
    package = importlib.import_module(__package__)
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
