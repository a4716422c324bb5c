"""``simprior plot``: draw the figures of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from simprior.cli.options import Reading, print_json, set_up_logging
from simprior.cli.parse import MaybePath


@dataclass(frozen=True, kw_only=True)
class Plot(Reading):
    """Draw the figures of a run as PDF and PNG into its ``figures`` folder."""

    path: Annotated[Positional[Path], arg(help="a run directory")]
    out: Annotated[MaybePath, arg(help="another folder for the figures")] = None


SPEC = Plot


def run(spec: Plot) -> int:
    """Draw, and print the paths of the files."""
    set_up_logging(spec.quiet)
    from simprior.analysis.plot import plot_run

    paths = [str(path) for path in plot_run(spec.path, out=spec.out)]
    if spec.json:
        print_json({"table": [{"file": path} for path in paths], "summary": {"files": len(paths)}})
    else:
        print("\n".join(paths))
    return 0
