"""Grids of training settings: every combination of the listed values is a cell.

A grid is a mapping as a TOML file gives it. Keys at the top are settings of every cell (the names
of the flags of ``simprior train``); ``[grid]`` has lists of values to combine; a table
``[optimizers.NAME]`` (optional) adds an optimiser with lists of its own (its learning rates, say),
which are combined with those of ``[grid]``.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simprior.errors import InputError
from simprior.store_toml import read_toml

_NOT_IN_A_CELL = ("out", "resume", "overwrite", "config", "json", "quiet", "top", "workers")


def read_grid(path: Path | str) -> dict[str, Any]:
    """The grid in a TOML file. Raises :class:`InputError` when it cannot be read."""
    return read_toml(path, "grid")[0]


def expand(grid: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The cells of a grid, in order: settings by name, those that vary last.

    Raises :class:`InputError` on an empty grid, an empty list, or a setting given twice.
    """
    fixed = {k: v for k, v in grid.items() if k not in ("grid", "optimizers")}
    common = _lists(grid.get("grid", {}), "grid")
    groups = grid.get("optimizers", {})
    if not isinstance(groups, Mapping) or not all(isinstance(g, Mapping) for g in groups.values()):
        raise InputError("optimizers", "tables [optimizers.NAME]", "correct the file")
    if not common and not groups:
        raise InputError("a grid without values to vary", "a table [grid]", "list for example lr")
    branches = [
        {"optimizer": [name], **_lists(own, f"optimizers.{name}")} for name, own in groups.items()
    ] or [{}]
    cells = []
    for own in branches:
        for name in (*common, *own):
            twice = name in fixed or (name in common and name in own)
            if twice or name in _NOT_IN_A_CELL:
                raise InputError(
                    f"key {name!r} of the grid", "a setting that no other part of the file gives",
                    "give it once; run options go on the command line",
                )  # fmt: skip
        lists = {**own, **common}
        for values in itertools.product(*lists.values()):
            cells.append({**fixed, **dict(zip(lists, values, strict=True))})
    for name in fixed:
        if name in _NOT_IN_A_CELL:
            raise InputError(
                f"key {name!r} of the grid", "settings of the training", "pass it as a flag"
            )
    return cells


def varying(cells: list[dict[str, Any]]) -> list[str]:
    """Names of the settings that differ between cells."""
    names = dict.fromkeys(name for cell in cells for name in cell)
    return [n for n in names if len({repr(cell.get(n)) for cell in cells}) > 1]


def cell_name(index: int, cell: Mapping[str, Any], names: list[str]) -> str:
    """Directory name of a cell: its number and what varies."""
    parts = [str(cell[name]) for name in names if name in cell]
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(parts)).strip("-")
    return f"{cell_number(index)}-{slug}"[:80]


def cell_number(index: int) -> str:
    """The number with which the name of a cell begins."""
    return f"{index:03d}"


def _lists(table: Any, where: str) -> dict[str, list[Any]]:
    if not isinstance(table, Mapping):
        raise InputError(f"{where}", "a table of lists", "write for example lr = [0.1, 0.01]")
    out = {}
    for name, values in table.items():
        out[str(name)] = list(values) if isinstance(values, list) else [values]
        if not out[str(name)]:
            raise InputError(f"{where}.{name} = []", "at least one value", "add one or remove it")
    return out
