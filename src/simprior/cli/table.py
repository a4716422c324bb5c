"""``simprior table``: print the most frequent functions of a run, or its table of measures."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from simprior.cli.options import Reading, say_unlisted, set_up_logging
from simprior.cli.parse import Count, MaybeCount, MaybePath, MaybeText, Texts, choice
from simprior.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

LABEL = "tab:functions"


TOP = 20


@dataclass(frozen=True, kw_only=True)
class Table(Reading):
    """Print the most frequent functions of a run, with intervals and measures.

    Of a run without functions (measure, correlate, compare, logp, bound, study, sweep, sensitivity)
    it prints the main table, or the one named by --file. In LaTeX (booktabs and siunitx) an
    estimate is a value with its interval, or with its error; a table fits a column of a two-column
    paper, and without --columns what has no room is left out.
    """

    path: Annotated[Positional[Path], arg(help="a run directory")]
    file: Annotated[MaybeText, arg(help="a table of the run, for example tables/sweep.parquet")] = (
        None
    )
    pooled: Annotated[
        bool, arg(help="classes of functions of a run with --pool, by descending P")
    ] = False
    top: Annotated[
        MaybeCount,
        arg(help="number of functions, or of rows; default: 20, of coefficients or with --out all"),
    ] = None
    format: Annotated[
        str, choice("csv", "latex", "markdown", "json", "parquet"), arg(help="form of the table")
    ] = "csv"
    columns: Annotated[Texts, arg(help="columns to print, in this order")] = None
    width: Annotated[
        str,
        choice("column", "text", "none"),
        arg(help="latex: fit a column or the text of a two-column page; none: as wide as it is"),
    ] = "column"
    rows: Annotated[Count, arg(help="latex: rows of one part of a longer table")] = 40
    caption: Annotated[MaybeText, arg(help="latex: the caption")] = None
    label: Annotated[str, arg(help="latex: the label")] = LABEL
    out: Annotated[MaybePath, arg(help="write to this file in place of stdout")] = None
    overwrite: Annotated[bool, arg(help="replace the file that is at --out")] = False


SPEC = Table


@dataclass(frozen=True)
class _Content:
    """A table to print: the first rows of ``total``, and what of them a page has room for.

    ``summary`` is what JSON adds; ``level`` is that of the intervals, if it is known.
    """

    frame: pd.DataFrame
    total: int
    caption: str
    label: str
    summary: Mapping[str, Any]
    level: float | None
    paper: pd.DataFrame


def run(spec: Table) -> int:
    """Load the table, choose columns, print or write it."""
    set_up_logging(spec.quiet)
    from simprior.analysis.table_runs import has_functions
    from simprior.analysis.text.latex import check_label

    form = "json" if spec.json else spec.format
    if form == "parquet" and spec.out is None:
        raise InputError("format=parquet", "a file to write to", "add --out table.parquet")
    if spec.out is not None and not spec.overwrite:
        _check_new(spec.out)
        beside = spec.out.with_name(f"{spec.out.name}.json")
        if form == "csv" and not _is_ours(beside):
            _check_new(beside)
    if form == "latex":
        check_label(spec.label)
    if spec.file is None and has_functions(spec.path):
        content = _functions(spec)
    elif spec.pooled:
        raise InputError("pooled=True", "a run of functions", "leave --pooled out")
    else:
        content = _other(spec)
    _print(spec, form, content)
    _say_cut(spec, form, content)
    return 0


def _check_new(file: Path) -> None:
    """Refuse to replace a file, unless it is empty."""
    if file.is_file() and file.stat().st_size > 0:
        raise InputError(
            f"out={file}, which exists",
            "a new file",
            "choose another name, or pass --overwrite to replace it",
        )


def _is_ours(file: Path) -> bool:
    """Whether this is what stands beside a table in CSV, which has no worth of its own."""
    return file.is_file() and b'"command": "simprior ' in file.read_bytes()


def _functions(spec: Table) -> _Content:
    """The most frequent functions, or the most probable classes."""
    from simprior.analysis.study import paper_tables
    from simprior.boolean.sampling.counts import FunctionCounts
    from simprior.boolean.sampling.watch import load_result

    top = spec.top or TOP
    counts = load_result(spec.path, top=None if spec.pooled else top)
    say_unlisted(spec.path, counts)
    if not spec.pooled:
        frame = paper_tables.function_table(counts, top, spec.columns)
        total = counts.functions if isinstance(counts, FunctionCounts) else len(counts.p)
    else:
        if not isinstance(counts, FunctionCounts) or counts.pooled is None:
            what, remedy = f"{spec.path} with --pooled", "run simprior sample --pool --out"
            raise InputError(what, "a run that pooled its counts", remedy)
        frame = paper_tables.pooled_table(counts, top, spec.columns)
        total = counts.pooled.functions
    paper = frame if spec.columns is not None else paper_tables.functions_for_paper(frame)
    caption = paper_tables.functions_caption(counts, len(frame), spec.pooled)
    caption = spec.caption or caption + paper_tables.symbols(paper, spec.width)
    return _Content(frame, total, caption, spec.label, counts.summary(), 0.95, paper)


def _other(spec: Table) -> _Content:
    """A table that is not one of functions."""
    from simprior.analysis.study import paper_tables
    from simprior.analysis.table_files import table_file
    from simprior.analysis.table_runs import for_paper, run_table
    from simprior.analysis.text.latex import safe_label
    from simprior.runs.directory import load_run

    if spec.file is None:
        _check_whole(spec.path)
    whole = run_table(spec.path, spec.file, columns=spec.columns)
    every = spec.out is not None or bool({"kendall", "noise_ceiling_a"} & set(whole))
    top = spec.top or (len(whole) if every else TOP)
    paper = (for_paper(whole) if spec.columns is None else whole).head(top)
    frame = whole.head(top)
    file = table_file(spec.path, spec.file)
    label = safe_label(f"tab:{Path(file).stem}") if spec.label == LABEL else spec.label
    caption = spec.caption or paper_tables.caption_of(file, len(frame), len(whole))
    run = load_run(spec.path)
    if spec.caption is None and file == "compare.csv" and "verdict" in run.results:
        caption = f"{_with_labels(caption, run.config)} {run.results['verdict']}"
    summary = {"run": str(spec.path), "command": run.command, "file": file, "rows": len(whole)}
    summary |= {name: run.results[name] for name in ("verdict", "notes") if name in run.results}
    known = run.config.get("level")
    level = known if isinstance(known, float) else None
    return _Content(frame, len(whole), caption, label, summary, level, paper)


def _with_labels(caption: str, config: Mapping[str, Any]) -> str:
    """The caption of a comparison with the names that its runs were given, if they were."""
    if "labels" not in config:
        return caption
    a, b = config["labels"]
    return caption.replace("A and B", f"{a} (A) and {b} (B)")


def _print(spec: Table, form: str, content: _Content) -> None:
    """Print the table, or write it with the command that makes it."""
    from simprior.analysis.study import paper_tables

    options: dict[str, Any] = {}
    frame = content.frame
    if form == "latex":
        frame = content.paper
        options = {"width": spec.width, "rows": spec.rows, "level": content.level}
        options["keep"] = spec.columns is not None
    elif form == "json":
        options = {"summary": content.summary}
    texts = content.caption, content.label
    if spec.out is None:
        sys.stdout.write(paper_tables.render(frame, form, *texts, **options))
    else:
        note = command_line(spec, form)
        paper_tables.write(frame, spec.out, form, note, *texts, **options)


def _say_cut(spec: Table, form: str, content: _Content) -> None:
    """Say on stderr what of a table was not printed."""
    logger = logging.getLogger("simprior")
    if len(content.frame) < content.total:
        found = len(content.frame), content.total, content.total
        logger.info("%d of %d rows; --top %d for all", *found)
    if form != "latex" or spec.columns is not None:
        return
    from simprior.analysis.study.paper_tables import shown_columns

    shown, every = shown_columns(content.paper, spec.width), len(content.frame.columns)
    if len(shown) < every:
        logger.info("%d of %d columns; choose with --columns or --width", len(shown), every)


def _check_whole(path: Path) -> None:
    """Refuse the main table of a run that is not done: it may be another one until then."""
    from simprior.runs.directory import load_run

    run = load_run(path)
    if run.status != "complete" and run.command != "study":  # a study may be read by stages
        remedy = "finish it with --resume, or name a table with --file"
        raise run.in_place_of("a complete run", remedy)


def command_line(spec: Table, form: str) -> str:
    """The command that makes the table, for the comment in its file."""
    words = ["simprior", "table", str(spec.path), "--format", form]
    words += ["--pooled"] if spec.pooled else []
    words += ["--top", str(spec.top)] if spec.top else []
    words += ["--file", spec.file] if spec.file is not None else []
    if spec.columns is not None:
        words += ["--columns", ",".join(spec.columns)]
    if form == "latex":
        words += ["--width", spec.width] if spec.width != "column" else []
        words += ["--rows", str(spec.rows)] if spec.rows != 40 else []
        words += ["--caption", spec.caption] if spec.caption else []
        words += ["--label", spec.label]
    return shlex.join([*words, "--out", str(spec.out)])
