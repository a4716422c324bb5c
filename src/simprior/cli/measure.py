"""``simprior measure``: every measure of trained networks or of functions, a row a network."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from simprior.analysis.measure.registry import GROUPS
from simprior.cli.options import Reading, RunOptions, markdown, print_json, set_up_logging
from simprior.cli.parse import Count, MaybeCount, MaybeNumber, MaybePath, MaybeText, Number, Numbers

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

NOT_IN_ALL = ", ".join(name for name, group in GROUPS.items() if group.all_bits is not None)
DEFAULT = ", ".join(name for name, group in GROUPS.items() if group.default)


@dataclass(frozen=True, kw_only=True)
class Measure(RunOptions, Reading):
    """Measure trained networks, or functions, into one table: a row a network, a column a measure.

    PATH is a run of simprior train, a sweep (all its cells), or a table of functions (sample,
    import, posterior). Weights are not stored: measures that need them train the networks again,
    exactly.
    """

    path: Annotated[Positional[tuple[Path, ...]], arg(help="run directories")]
    measures: Annotated[
        MaybeText,
        arg(
            help=f"groups with commas between, of {', '.join(GROUPS)}; or all that apply "
            f"(no {NOT_IN_ALL}); default: {DEFAULT}, those that apply"
        ),
    ] = None
    networks: Annotated[Count, arg(help="fitted networks of each run, or functions of a table")] = (
        1000
    )
    alphas: Annotated[
        Numbers,
        arg(help="factors on the first hidden layer of relu networks, a row each; 1: as trained"),
    ] = 1.0
    draws: Annotated[MaybeCount, arg(help="importance samples for each ln P(f)")] = None
    tol: Annotated[MaybeNumber, arg(help="standard error wanted of each ln P(f), nats")] = None
    delta: Annotated[Number, arg(help="the bound may fail with this probability")] = 0.01
    zeta: Annotated[Number, arg(help="half side of the box of the Keskar sharpness")] = 1e-4
    radius: Annotated[
        Number, arg(help="half side of the box of the critical sample ratio of data")
    ] = 0.05
    noise: Annotated[Number, arg(help="correlation rho of the noise stability")] = 0.9
    held_out: Annotated[
        Number, arg(help="share of the test inputs of data kept from all measures (held_out_error)")
    ] = 0.0
    data: Annotated[
        MaybeText, arg(help="for runs trained on a data file: the file, which is read again")
    ] = None
    label: Annotated[MaybeText, arg(help="column with the classes of the data file")] = None
    prior_from: Annotated[
        MaybePath, arg(help="run of simprior sample: also ln P(f) from its frequencies")
    ] = None


SPEC = Measure


def run(spec: Measure) -> int:
    """Measure, print a summary of every column."""
    set_up_logging(spec.quiet)
    from simprior.analysis.errors_stats import measure_columns
    from simprior.analysis.measure.table import measure_runs

    frame = measure_runs(
        spec.path,
        spec.measures,
        networks=spec.networks,
        alphas=spec.alphas,
        draws=spec.draws,
        tol=spec.tol,
        delta=spec.delta,
        zeta=spec.zeta,
        radius=spec.radius,
        noise=spec.noise,
        held_out=spec.held_out,
        prior_from=spec.prior_from,
        data=spec.data,
        label=spec.label,
        seed=spec.seed,
        device=spec.device,
        out=spec.out,
        resume=spec.resume,
        overwrite=spec.overwrite,
        workers=spec.worker_count(),
        executor=spec.executor,
        executor_options=spec.executor_options,
        quiet=spec.quiet,
    )
    table = summary(frame, measure_columns(frame))
    if spec.json:
        rows = table.to_dict(orient="records")
        print_json({"table": rows, "summary": {"networks": len(frame)}})
    else:
        print(markdown(list(table.columns), table.to_numpy(dtype=object).tolist()))
    if spec.out is not None:
        logging.getLogger("simprior").info("%d rows written to %s", len(frame), spec.out)
    return 0


def spread(values: np.ndarray) -> float:
    """Standard deviation; 0 of values that differ by rounding only, nan of fewer than two."""
    from simprior.numerics.estimate import sample_sd

    return float(sample_sd(values)) if len(values) > 1 else float("nan")


def summary(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """A row a measure: its label and unit, number of values, mean, spread, typical error (the
    median standard error; nan, printed "-", of values that are exact or have none)."""
    import numpy as np
    import pandas as pd

    from simprior.analysis.measure.registry import MEASURES

    rows = []
    for name in [c for c in ("test_error",) if c in frame] + names:
        values = frame[name].to_numpy(float)
        good = values[np.isfinite(values)]
        known = MEASURES.get(name)
        error = f"{name}_stderr"
        typical = np.nan  # "-": exact, or without a known error
        if error in frame and (frame[error] > 0).any():
            typical = float(np.nanmedian(frame[error].to_numpy(float)))
        rows.append(
            {
                "column": name,
                "measure": known.label if known else name.replace("_", " "),
                "unit": known.unit if known else "1",
                "values": len(good),
                "mean": float(good.mean()) if len(good) else np.nan,
                "sd": spread(good),
                "typical_stderr": typical,
            }
        )
    return pd.DataFrame(rows)
