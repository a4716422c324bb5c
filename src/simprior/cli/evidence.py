"""``simprior evidence``: findings about deep networks, put to prior, posterior and optimiser."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from simprior.analysis.text.numbers import interval_decimals, p_value, with_interval
from simprior.cli.options import ComputeOptions, markdown
from simprior.cli.parse import Texts
from simprior.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Evidence(ComputeOptions):
    """Run the evidence set: is a finding in the prior, the posterior, or the optimiser?

    Every finding is an ordinary recipe of simprior study (examples/evidence/), run into a directory
    below --out. One table has all contrasts with their intervals over independent data sets, their
    slopes with scale, and their verdicts, p-values corrected together; report.html begins with it.
    """

    only: Annotated[Texts, arg(help="these recipes only, for example grokking,memorisation")] = None
    quick: Annotated[bool, arg(help="short runs with wide intervals, a few minutes in all")] = False
    dry_run: Annotated[bool, arg(help="print what would be done with each stage")] = False


SPEC = Evidence


def run(spec: Evidence) -> int:
    """Run the recipes; print the verdict and the table."""
    from simprior.analysis.evidence.suite import notes, run_evidence, verdict
    from simprior.analysis.study.stages import Options

    if spec.out is None:
        raise InputError("no --out", "a directory", "pass --out results/evidence")
    if spec.dry_run:
        return _plan(spec)
    chosen = spec.chosen("device executor executor_options quiet")
    options = Options(workers=spec.worker_count(), **chosen)
    state = spec.chosen("only quick resume overwrite")
    frame = run_evidence(spec.out, options=options, **state)
    said = notes(frame, spec.quick)
    summary = {"verdict": verdict(frame), "notes": said, "report": str(spec.out / "report.html")}
    spec.print_result({"table": frame, "summary": summary}, summary["verdict"], shown(frame))
    for note in said:
        logging.getLogger("simprior").info("note: %s", note)
    spec.say_written()
    return 0


def _plan(spec: Evidence) -> int:
    from simprior.analysis.evidence.suite import plan_evidence

    assert spec.out is not None
    steps = plan_evidence(spec.out, spec.only, spec.quick)
    table = [[step.stage, step.action, step.reason] for step in steps]
    values = {"table": [vars(step) for step in steps], "summary": {"report": None}}
    spec.print_result(values, markdown(["stage", "action", "reason"], table))
    return 0


def shown(frame: pd.DataFrame) -> str:
    """The table as text, an interval with its value."""
    rows = []
    for row in frame.to_dict(orient="records"):
        effect, slope = (_interval(row, name) for name in ("effect", "slope"))
        along = f"{slope} / {row['along']}" if row["along"] else ""
        rows.append(
            [row["claim"], effect, along, p_value(row["p_holm"])]
            + [str(row[name]) for name in ("cause", "verdict", "literature", "datasets")]
        )
    head = ["contrast", "effect", "with scale", "p (Holm)"]
    return markdown([*head, "cause", "verdict", "literature", "data sets"], rows)


def _interval(row: Mapping[Any, Any], name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return with_interval(row[name], low, high, interval_decimals([low], [high])[0])
