"""``simprior table``: print the most frequent functions of a run."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from simprior.cli.common import Output
from simprior.cli.output import set_up_logging
from simprior.cli.values import Count, MaybePath, MaybeText, Texts, choice
from simprior.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Table(Output):
    """Print the most frequent functions of a run, with intervals and measures."""

    path: Annotated[Positional[Path], arg(help="a run directory")]
    top: Annotated[Count, arg(help="number of functions")] = 20
    format: Annotated[
        str, choice("csv", "latex", "markdown", "json", "parquet"), arg(help="form of the table")
    ] = "csv"
    columns: Annotated[Texts, arg(help="columns to print, in this order")] = None
    caption: Annotated[MaybeText, arg(help="latex: the caption")] = None
    label: Annotated[str, arg(help="latex: the label")] = "tab:functions"
    out: Annotated[MaybePath, arg(help="write to this file in place of stdout")] = None


SPEC = Table


def run(spec: Table) -> int:
    """Load the counts, choose columns, print or write the table."""
    set_up_logging(spec.quiet)
    from simprior.analysis import tables
    from simprior.boolean.results import load_result

    form = "json" if spec.json else spec.format
    if form == "parquet" and spec.out is None:
        raise InputError("format=parquet", "a file to write to", "add --out table.parquet")
    counts = load_result(spec.path, top=spec.top)
    frame = tables.function_table(counts, spec.top, spec.columns)
    words = {"caption": spec.caption or f"The {len(frame)} most frequent functions.",
             "label": spec.label}  # fmt: skip
    if spec.out is None:
        sys.stdout.write(tables.render(frame, form, **words))
    else:
        tables.write(frame, spec.out, form, command_line(spec, form), **words)
    return 0


def command_line(spec: Table, form: str) -> str:
    """The command that makes the table, for the comment in its file."""
    words = ["simprior", "table", str(spec.path), "--top", str(spec.top), "--format", form]
    if spec.columns is not None:
        words += ["--columns", ",".join(spec.columns)]
    if form == "latex":
        words += ["--caption", spec.caption] if spec.caption else []
        words += ["--label", spec.label]
    return shlex.join([*words, "--out", str(spec.out)])
