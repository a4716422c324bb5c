"""Grids of training settings: one run directory a cell, one table of the cells.

A grid is a mapping as a TOML file gives it. Keys at the top are settings of every cell (the names
of the flags of ``simprior train``); ``[grid]`` has lists of values to combine: every combination is
a cell. A table ``[optimizers.NAME]`` (optional) adds an optimiser with lists of its own (its
learning rates, say), which are combined with those of ``[grid]``.

``OUT/cells/NAME`` is a run directory of ``simprior train`` each, ``OUT/tables/sweep.parquet`` (and
``.csv``) has a row a cell. A finished cell is never trained again unless its settings, or the data
file that it reads, change.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simprior.errors import InputError, StoreError
from simprior.runs.directory import RunDir, load_run, write_table
from simprior.runs.files import csv_text, translate_errors
from simprior.runs.manifest import read_manifest
from simprior.runs.tasks import Progress, progress_bar
from simprior.runs.text_files import read_toml
from simprior.runs.wipe import discard
from simprior.training.records import dtype_of
from simprior.training.settings import Settings, files_read, settings, text
from simprior.training.train import train

if TYPE_CHECKING:
    import pandas as pd

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


_FEW = 64
CELLS, TABLE = "cells", "tables/sweep"
_ASIDE = "kept-"
READERS = ("loaders", "datasets", "overlap")
COLUMNS = (
    "runs", "fitted_share", "fitted_low", "fitted_high", "steps_to_fit_median", "test_error",
    "test_error_stderr", "functions", "target_found", "unseen_mass", "majority_error",
)  # fmt: skip
"""What the table says about a cell, after its name and the settings that vary."""


def run_sweep(
    grid: Mapping[str, Any], out: Path | str, *, seed: int = 0, resume: bool = False,
    overwrite: bool = False, keep_cells: bool = False, quiet: bool = True, **run_options: Any,
) -> pd.DataFrame:  # fmt: skip
    """Train every cell of ``grid`` into ``out`` and return the table of the cells.

    Parameters
    ----------
    grid : mapping
        As :func:`simprior.training.sweep.expand` takes it.
    out : path
        Run directory; cells that are there already are resumed, whole ones only read.
    seed : int
        Root of all random numbers of the cells that give none of their own.
    resume, overwrite : bool
        As for every run directory; ``overwrite`` trains every cell again.
    keep_cells : bool
        With ``overwrite``: cells of the earlier sweep with the same settings are kept.
    quiet : bool
        No progress on stderr.
    **run_options
        ``workers``, ``device``, ``executor``, ``executor_options`` of ``training.train``.

    Raises
    ------
    InputError
        A setting that does not exist or cannot be used, before anything is trained.
    StoreError, Interrupted
    """
    cells = expand(grid)
    names = varying(cells)
    jobs = {cell_name(i, c, names): (c, settings(c, seed)) for i, c in enumerate(cells)}
    config = {"cells": [{k: text(v) for k, v in cell.items()} for cell in cells], "seed": seed}
    read = files_read(grid)
    if read:
        config["read"] = read
    kept = _unchanged(Path(out), config, list(jobs)) if overwrite and keep_cells else {}
    log = logging.getLogger("simprior")
    rows = []
    with RunDir.open(out, "sweep", config, resume=resume, overwrite=overwrite) as store:
        _settle(store.path / CELLS)
        if overwrite:
            _rename(store.path / CELLS, kept)
            remove_stale(store.path / CELLS, set(kept))  # at once: none is met when resuming
        total = sum(job.runs for _, job in jobs.values())
        with progress_bar(total, "run", quiet=quiet) as progress, quiet_stores():
            for i, (name, (cell, job)) in enumerate(jobs.items()):
                log.info("cell %d of %d: %s", i + 1, len(jobs), name)
                row = _train_cell(job, store.path / CELLS / name, progress, run_options)
                rows.append({"cell": name, **{k: text(cell.get(k)) for k in names}, **row})
        return write_sweep(rows, store, COLUMNS)


def _train_cell(
    job: Settings, out: Path, progress: Progress, options: Mapping[str, Any]
) -> dict[str, Any]:
    if job.runs < _FEW:  # starting workers takes longer
        options = {**options, "workers": 1}
    result = train(
        job.network, job.target, **job.keywords, **options, out=out, resume=out.exists(),
        progress=progress,
    )  # fmt: skip
    summary = result.summary()
    if not result.fitted.any():
        logging.getLogger("simprior").warning("%s: no member fitted", out.name)
    return {name: summary.get(name) for name in COLUMNS}


@contextlib.contextmanager
def quiet_stores() -> Iterator[None]:
    """Run directories opened inside tell their logs, but not stderr, that they start and end; what
    data was read is said once."""
    said: set[str] = set()

    def other(record: logging.LogRecord) -> bool:
        if record.levelno > logging.INFO or record.module not in ("store", *READERS):
            return True
        new = record.module in {"loaders", "datasets"} and record.getMessage() not in said
        said.add(record.getMessage())
        return new

    log = logging.getLogger("simprior")
    log.addFilter(other)
    try:
        yield
    finally:
        log.removeFilter(other)


def remove_stale(folder: Path, names: set[str]) -> None:
    """Remove what simprior wrote into cells that are not of this sweep (and nothing else)."""
    for cell in sorted(folder.glob("*")) if folder.is_dir() else []:
        if cell.name not in names:
            discard(cell)


def _unchanged(out: Path, config: Mapping[str, Any], names: list[str]) -> dict[str, str]:
    """{name of a cell: its earlier name} of cells that an earlier sweep in ``out`` has trained with
    the same settings, seed and data, wherever in the grid they stood."""
    try:
        before = read_manifest(out)["config"]
    except StoreError:
        return {}
    if any(before.get(key) != config.get(key) for key in ("seed", "read")):
        return {}
    folders = {path.name.partition("-")[0]: path.name for path in (out / CELLS).glob("*")}
    earlier = before.get("cells", [])
    kept = {}
    for name, cell in zip(names, config["cells"], strict=True):
        place = earlier.index(cell) if cell in earlier else -1
        folder = folders.get(cell_number(place))
        if place >= 0 and folder is not None and _sound(out / CELLS / folder):
            kept[name] = folder
    return kept


def _rename(folder: Path, kept: Mapping[str, str]) -> None:
    """Give kept cells their new names.

    Each is moved to a temporary name first: the new name of one may be the old one of another.
    """
    moved = {name: before for name, before in kept.items() if name != before}
    with translate_errors(folder):
        for name, before in moved.items():
            (folder / before).rename(folder / f"{_ASIDE}{name}")
    if moved:  # what stands in their way is of no cell that is kept
        remove_stale(folder, {*(set(kept) - set(moved)), *(f"{_ASIDE}{name}" for name in moved)})
    _settle(folder)


def _settle(folder: Path) -> None:
    """Cells that stepped aside take their places, also after an interruption in between."""
    with translate_errors(folder):
        for path in sorted(folder.glob(f"{_ASIDE}*")):
            place = folder / path.name.removeprefix(_ASIDE)
            if not place.exists():
                path.rename(place)


def _sound(cell: Path) -> bool:
    """Whether a cell is there and none of its files has been altered."""
    try:
        return not load_run(cell).verify()
    except StoreError:
        return False


def write_sweep(rows: list[dict[str, Any]], store: RunDir, numeric: tuple[str, ...]) -> Any:
    """Write the table of a sweep as CSV and Parquet, and close the run."""
    import pandas as pd

    frame = pd.DataFrame(rows)
    for name in numeric:
        frame[name] = pd.to_numeric(frame[name])
    store.write_file(f"{TABLE}.csv", csv_text(frame))
    path = store.path / f"{TABLE}.parquet"
    write_table(path, {name: frame[name].to_numpy(dtype_of(frame[name])) for name in frame})
    store.add_file(path, rows=len(frame))
    store.finish({"cells": len(frame)})
    return frame
