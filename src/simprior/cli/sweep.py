"""``simprior sweep``: train over a grid of settings; one run directory a cell, one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg

from simprior.cli.options import RunOptions
from simprior.cli.parse import MaybePath
from simprior.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Sweep(RunOptions):
    """Train over a grid of settings: optimiser, batch size, learning rate, loss, or any other.

    GRID is a TOML file: settings of simprior train at the top, lists to combine in [grid], and
    optimisers with lists of their own in [optimizers.NAME]. Every cell is a run directory
    OUT/cells/NAME, resumed where it stopped; the table is OUT/tables/sweep.csv and .parquet.
    """

    grid: Annotated[Positional[MaybePath], arg(help="TOML file of the grid")]


SPEC = Sweep


def run(spec: Sweep) -> int:
    """Train every cell, print and write the table."""
    from simprior.training.sweep import read_grid, run_sweep

    if spec.out is None:
        raise InputError("no --out", "a directory for the cells", "pass --out results/sweep")
    if spec.grid is None:
        raise InputError("no grid", "a TOML file of the grid", "see simprior sweep --help")
    grid, options = read_grid(spec.grid), spec.chosen("seed device quiet")
    frame = run_sweep(grid, **options, **spec.run_options())
    spec.print_result({"table": frame, "summary": {"cells": len(frame)}}, frame)
    spec.say_written()
    return 0
