"""``simprior measure``: every measure of trained networks or of functions, a row a network."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from simprior.analysis.measure.registry import GROUPS
from simprior.analysis.measure.settings import MeasureSettings
from simprior.cli.options import Reading, RunOptions, flags, markdown, print_json, set_up_logging
from simprior.cli.parse import MaybePath, MaybeText, Refused, kind, parse_count
from simprior.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

NOT_IN_ALL = ", ".join(name for name, group in GROUPS.items() if group.all_bits is not None)
DEFAULT = ", ".join(name for name, group in GROUPS.items() if group.default)
SETTINGS = "alphas draws tol delta zeta radius noise held_out data label prior_from"
_Settings: Any = flags(SETTINGS.split(), MeasureSettings)


def _parse_networks(text: str) -> int | tuple[str, ...]:
    if not text.strip():
        raise Refused("a number of networks, or files of networks", "pass for example 1000")
    try:
        return parse_count(text)
    except Refused:
        if text.strip().lstrip("+-")[:1].isdigit() and "." not in text:
            raise
    return tuple(part.strip() for part in text.split(","))


Networks = Annotated[int | tuple[str, ...], kind(_parse_networks, "COUNT|FILE[,FILE...]")]


@dataclass(frozen=True, kw_only=True)
class _What(RunOptions, Reading):
    """What is measured, and of which networks."""

    path: Annotated[Positional[tuple[Path, ...]], arg(help="run directories")] = ()
    measures: Annotated[
        MaybeText,
        arg(
            help=f"groups with commas between, of {', '.join(GROUPS)}; or all that apply "
            f"(no {NOT_IN_ALL}); default: {DEFAULT}, those that apply"
        ),
    ] = None
    networks: Annotated[
        Networks,
        arg(
            help="fitted networks of each run, or functions of a table; or files of networks "
            "trained elsewhere (.safetensors, or state dicts .pt)"
        ),
    ] = 1000
    like: Annotated[
        MaybePath,
        arg(help="for files of networks: the run of simprior train with their inputs and labels"),
    ] = None
    loss: Annotated[
        MaybeText, arg(help="for files of networks: their loss (default: that of the run)")
    ] = None


@dataclass(frozen=True, kw_only=True)
class Measure(_Settings, _What):
    """Measure trained networks, or functions, into one table: a row a network, a column a measure.

    PATH is a run of simprior train, a sweep (all its cells), or a table of functions (sample,
    import, posterior). Weights are not stored: measures that need them train the networks again,
    exactly. Networks trained elsewhere are measured with --networks FILE --like RUN.
    """


SPEC = Measure


def run(spec: Measure) -> int:
    """Measure, print a summary of every column."""
    set_up_logging(spec.quiet)
    from simprior.analysis.measure.registry import measure_columns
    from simprior.analysis.measure.table import measure

    frame = measure(
        _source(spec),
        spec.measures,
        networks=list(spec.networks) if isinstance(spec.networks, tuple) else spec.networks,
        loss=spec.loss,
        seed=spec.seed,
        device=spec.device,
        quiet=spec.quiet,
        **spec.chosen(SETTINGS),
        **spec.run_options(),
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


def _source(spec: Measure) -> Any:
    """The runs to measure, or the one that networks of files are like."""
    if isinstance(spec.networks, int):
        if spec.like is not None:
            what = f"like={spec.like} without files of networks"
            raise InputError(what, "files of networks", "pass --networks FILE.safetensors")
        if not spec.path:
            raise InputError(
                "no PATH...", "simprior measure PATH...", "see simprior measure --help"
            )
        return list(spec.path)
    files = ",".join(spec.networks)
    if spec.path:
        what = f"networks={files} with the runs {', '.join(map(str, spec.path))}"
        raise InputError(what, "files of networks or runs", "pass the run with --like")
    if spec.like is None:
        remedy = "pass for example --like results/sgd"
        raise InputError(f"networks={files}", "a run with their inputs and labels", remedy)
    return spec.like


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
