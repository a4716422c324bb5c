"""``simprior correlate``: what predicts the test error? Coefficients with intervals and tests."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from simprior.cli.options import Reading, Resumable, Seeded
from simprior.cli.parse import Count, Integer, Number, Texts
from simprior.errors import InputError

if TYPE_CHECKING:
    from simprior.analysis.correlate.correlations import Correlations


@dataclass(frozen=True, kw_only=True)
class Correlate(Resumable, Seeded, Reading):
    """Correlate measures with an outcome, in each group, and say how sure that is.

    PATH is a run of simprior measure, or a .parquet or .csv table with a row a network. Intervals
    are bootstrap-t over training sets, p-values from permutations of training sets. Coefficients
    that the points cannot support are not printed; the notes say why.
    """

    path: Annotated[Positional[Path], arg(help="a run of simprior measure, or a table")]
    y: Annotated[str, arg(help="the outcome")] = "test_error"
    measures: Annotated[Texts, arg(help="columns (default: all measures that vary)")] = None
    by: Annotated[Texts, arg(help="columns whose values are kept apart")] = None
    controls: Annotated[Texts, arg(help="columns held fixed in partial correlations")] = None
    cluster: Annotated[str, arg(help="column of what networks share: resampled as a whole")] = (
        "cluster"
    )
    bootstrap: Annotated[Count, arg(help="bootstrap resamples")] = 2000
    permutations: Annotated[Integer, arg(help="permutations of the test; 0 is none")] = 2000
    level: Annotated[Number, arg(help="probability of the intervals")] = 0.95
    resume: Annotated[bool, arg(help="continue a run of the same settings")] = False


SPEC = Correlate


def run(spec: Correlate) -> int:
    """Correlate, print the coefficients, write the run directory."""
    from simprior.analysis.correlate.correlations import correlate
    from simprior.analysis.measure.table import load_measures
    from simprior.analysis.table_runs import correlate_into
    from simprior.runs.files import sha256_file

    if not spec.path.exists():
        raise InputError(f"{spec.path}", "a run directory or a table", "check the path")
    frame = load_measures(spec.path)
    options = spec.chosen("y measures by controls cluster seed bootstrap permutations level")
    options["controls"] = spec.controls or ()
    options |= {k: list(value) for k, value in options.items() if isinstance(value, tuple)}
    if spec.out is None:
        found = correlate(frame, **options, quiet=spec.quiet)
    else:
        table = spec.path / "measures.parquet" if spec.path.is_dir() else spec.path
        source = {"from": str(spec.path), "sha256": sha256_file(table)[0]}
        flags = "y measures by controls cluster bootstrap permutations level seed out"
        note = spec.command_line("correlate", [spec.path], flags)
        state = spec.chosen("resume overwrite quiet")
        found = correlate_into(frame, options, source, spec.out, note, **state)
    show(found, spec)
    return 0


def show(found: Correlations, spec: Correlate) -> None:
    """Print verdict and coefficients (or everything as JSON), and the notes on stderr."""
    from simprior.analysis.correlate.words import explained, readable

    names = ("table", "granulated", "conditional_mi", "environments", "baselines")
    values = {name: getattr(found, name) for name in names}
    about = {"verdict": found.verdict, "y": found.y, "controls": list(found.controls)}
    values["summary"] = about | {"notes": found.notes}
    notes = explained(found.table, found.controls)
    spec.print_result(values, found.verdict, readable(found.table), notes)
    for note in found.notes:
        logging.getLogger("simprior").info("note: %s", note)
    spec.say_written()
