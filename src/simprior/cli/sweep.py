"""``simprior sweep``: train over a grid of settings; one run directory a cell, one table."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from simprior.cli.common import RunOptions
from simprior.cli.output import markdown, print_json, set_up_logging
from simprior.cli.parse import options, parse
from simprior.cli.train import Train, trained
from simprior.cli.values import MaybePath, show
from simprior.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

TABLE = "tables/sweep"
_COLUMNS = (
    "runs", "fitted_share", "fitted_low", "fitted_high", "steps_to_fit_median", "test_error",
    "test_error_stderr", "functions", "target_found", "unseen_mass", "majority_error",
)  # fmt: skip


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
    set_up_logging(spec.quiet)
    from simprior.training.sweep import cell_name, expand, read_grid, varying

    if spec.out is None:
        raise InputError("no --out", "a directory for the cells", "pass --out results/sweep")
    assert spec.grid is not None
    cells = expand(read_grid(spec.grid))
    names = varying(cells)
    trains = [cell_spec(cell, spec) for cell in cells]
    from simprior.store import RunDir

    rows = []
    log = logging.getLogger("simprior")
    config = {"cells": [{k: show(v) for k, v in cell.items()} for cell in cells],
              "seed": spec.seed}  # fmt: skip
    with RunDir.open(
        spec.out, "sweep", config, resume=spec.resume, overwrite=spec.overwrite
    ) as store:
        for i, (cell, train) in enumerate(zip(cells, trains, strict=True)):
            name = cell_name(i, cell, names)
            log.info("cell %d of %d: %s", i + 1, len(cells), name)
            row = _train_cell(replace(train, out=spec.out / "cells" / name), spec)
            rows.append({"cell": name, **{k: show(cell.get(k)) for k in names}, **row})
        frame = _write(rows, store)
    if spec.json:
        print_json({"cells": frame.to_dict(orient="records")})
    else:
        print(markdown(list(frame.columns), frame.to_numpy(dtype=object).tolist()))
    log.info("written to %s", spec.out)
    return 0


def cell_spec(cell: Mapping[str, Any], spec: Sweep) -> Train:
    """The flags of ``simprior train`` for one cell. Raises :class:`InputError`."""
    known = options(Train)
    tokens = []
    for name, value in cell.items():
        option = known.get(name)
        if option is not None and option.switch:
            tokens += [option.flag] if value else []
        else:
            tokens.append(f"--{name.replace('_', '-')}={_text(value)}")
    found = parse("train", Train, tokens)
    assert found is not None
    seed = found.seed if "seed" in cell else spec.seed
    return replace(
        found, seed=seed, device=spec.device, workers=spec.workers, executor=spec.executor,
        executor_options=spec.executor_options, quiet=spec.quiet,
    )  # fmt: skip


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        return ",".join(f"{key}={show(entry)}" for key, entry in value.items())
    return show(value)


def _train_cell(train: Train, spec: Sweep) -> dict[str, Any]:
    from simprior.engine import progress_bar

    assert train.out is not None
    again = train.out.exists() and not spec.overwrite
    with progress_bar(train.runs, "run", quiet=spec.quiet) as progress:
        result = trained(replace(train, resume=again, overwrite=spec.overwrite), progress)
    summary = result.summary()
    if not result.fitted.any():
        logging.getLogger("simprior").warning("%s: no member fitted", Path(train.out).name)
    return {name: summary.get(name) for name in _COLUMNS}


def _write(rows: list[dict[str, Any]], store: Any) -> pd.DataFrame:
    """Write the table as CSV and Parquet, and close the run."""
    import pandas as pd

    from simprior.store import write_table

    frame = pd.DataFrame(rows)
    for name in _COLUMNS:
        frame[name] = pd.to_numeric(frame[name])
    store.write_file(f"{TABLE}.csv", frame.to_csv(index=False))
    path = store.path / f"{TABLE}.parquet"
    write_table(path, {name: frame[name].to_numpy() for name in frame})
    store.add_file(path, rows=len(frame))
    store.finish({"cells": len(frame)})
    return frame
