"""``simprior table``: print the most frequent functions of a run, or its table of measures."""

from __future__ import annotations

import logging
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from simprior.cli.options import Reading, say_unlisted, set_up_logging
from simprior.cli.parse import MaybeCount, MaybePath, MaybeText, Texts, choice
from simprior.errors import InputError, StoreError

LABEL = "tab:functions"


TOP = 20


@dataclass(frozen=True, kw_only=True)
class Table(Reading):
    """Print the most frequent functions of a run, with intervals and measures.

    Of a run without functions (measure, correlate, study, sweep, sensitivity) it prints the main
    table, or the one named by --file. In LaTeX values have their errors in brackets (siunitx), and
    without --columns there are those that a page has room for: settings that vary, test error,
    measures.
    """

    path: Annotated[Positional[Path], arg(help="a run directory")]
    file: Annotated[MaybeText, arg(help="a table of the run, for example tables/sweep.parquet")] = (
        None
    )
    top: Annotated[
        MaybeCount,
        arg(help="number of functions, or of rows; default: 20, of coefficients or with --out all"),
    ] = None
    format: Annotated[
        str, choice("csv", "latex", "markdown", "json", "parquet"), arg(help="form of the table")
    ] = "csv"
    columns: Annotated[Texts, arg(help="columns to print, in this order")] = None
    caption: Annotated[MaybeText, arg(help="latex: the caption")] = None
    label: Annotated[str, arg(help="latex: the label")] = LABEL
    out: Annotated[MaybePath, arg(help="write to this file in place of stdout")] = None
    overwrite: Annotated[bool, arg(help="replace the file that is at --out")] = False


SPEC = Table


def run(spec: Table) -> int:
    """Load the counts, choose columns, print or write the table."""
    set_up_logging(spec.quiet)
    from simprior.analysis.run_tables import has_functions
    from simprior.analysis.study.paper_tables import function_table, functions_caption
    from simprior.analysis.text import tables
    from simprior.analysis.text.tables import check_label
    from simprior.boolean.sampling.counts import FunctionCounts
    from simprior.boolean.sampling.watch import load_result

    form = "json" if spec.json else spec.format
    if form == "parquet" and spec.out is None:
        raise InputError("format=parquet", "a file to write to", "add --out table.parquet")
    if spec.out is not None and not spec.overwrite:
        _check_new(spec.out)
    if form == "latex":
        check_label(spec.label)
    if spec.file is not None or not has_functions(spec.path):
        return _other(spec, form)
    top = spec.top or TOP
    counts = load_result(spec.path, top=top)
    frame = function_table(counts, top, spec.columns)
    caption = spec.caption or functions_caption(counts, len(frame))
    say_unlisted(spec.path, counts)
    if spec.out is None:
        sys.stdout.write(tables.render(frame, form, caption, spec.label))
    else:
        note = command_line(spec, form)
        tables.write(frame, spec.out, form, note, caption=caption, label=spec.label)
    found = counts.functions if isinstance(counts, FunctionCounts) else len(counts.p)
    _say_cut(len(frame), found)
    return 0


def _check_new(file: Path) -> None:
    """Refuse to replace a file, unless it is empty."""
    if file.is_file() and file.stat().st_size > 0:
        raise InputError(
            f"out={file}, which exists",
            "a new file",
            "choose another name, or pass --overwrite to replace it",
        )


def _say_cut(shown: int, total: int) -> None:
    """Say on stderr that a table has more rows than were printed."""
    if shown < total:
        logging.getLogger("simprior").info("%d of %d rows; --top %d for all", shown, total, total)


def _other(spec: Table, form: str) -> int:
    """Print or write a table that is not one of functions."""
    from simprior.analysis.run_tables import for_paper, run_table
    from simprior.analysis.study import paper_tables
    from simprior.analysis.table_files import table_file
    from simprior.analysis.text.tables import safe_label

    if spec.file is None:
        _check_whole(spec.path)
    whole = run_table(spec.path, spec.file, columns=spec.columns)
    paper = form == "latex" and spec.columns is None
    every = spec.out is not None or "kendall" in whole
    top = spec.top or (len(whole) if every else TOP)
    frame = (for_paper(whole) if paper else whole).head(top)
    file = table_file(spec.path, spec.file)
    label = safe_label(f"tab:{Path(file).stem}") if spec.label == LABEL else spec.label
    caption = spec.caption or paper_tables.caption_of(file, len(frame), len(whole))
    if spec.out is None:
        sys.stdout.write(paper_tables.render(frame, form, caption, label))
    else:
        note = command_line(spec, form)
        paper_tables.write(frame, spec.out, form, note, caption, label)
    _say_cut(len(frame), len(whole))
    if len(frame.columns) < len(whole.columns):
        logging.getLogger("simprior").info(
            "%d of %d columns; choose with --columns", len(frame.columns), len(whole.columns)
        )
    return 0


def _check_whole(path: Path) -> None:
    """Refuse the main table of a run that is not done: it may be another one until then."""
    from simprior.runs.directory import load_run

    run = load_run(path)
    if run.status != "complete" and run.command != "study":  # a study may be read by stages
        raise StoreError(
            f"{path}: expected a complete run, found one of 'simprior {run.command}' that is "
            f"{run.status}; finish it with --resume, or name a table with --file"
        )


def command_line(spec: Table, form: str) -> str:
    """The command that makes the table, for the comment in its file."""
    words = ["simprior", "table", str(spec.path), "--format", form]
    words += ["--top", str(spec.top)] if spec.top else []
    words += ["--file", spec.file] if spec.file is not None else []
    if spec.columns is not None:
        words += ["--columns", ",".join(spec.columns)]
    if form == "latex":
        words += ["--caption", spec.caption] if spec.caption else []
        words += ["--label", spec.label]
    return shlex.join([*words, "--out", str(spec.out)])
