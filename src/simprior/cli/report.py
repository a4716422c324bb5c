"""``simprior report``: build ``report.html`` of a study or of any run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from simprior.cli.options import Reading


@dataclass(frozen=True, kw_only=True)
class Report(Reading):
    """Build report.html of a study or of any run directory: one page that needs no other file.

    Figures are inside the page, tables sort by a click on a heading, and it says what was run, with
    which versions and settings.
    """

    path: Annotated[Positional[Path], arg(help="a run directory")]


SPEC = Report


def run(spec: Report) -> int:
    """Build the page, print its path."""
    from simprior.analysis.report.page import write_report

    file = str(write_report(spec.path))
    spec.print_result({"table": [{"file": file}], "summary": {"report": file}}, file)
    return 0
