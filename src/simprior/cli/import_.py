"""``simprior import``: a file of functions and counts -> a run directory."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from simprior.cli.options import RunDirectory, say_unlisted
from simprior.cli.parse import MaybeCount, Texts, choice
from simprior.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Import(RunDirectory):
    """Turn a file of functions and counts into a run directory.

    A line of text is a function (bits, or hex digits) and a count in either order, with blanks, a
    tab, a comma or a semicolon between, or a function alone, which counts once. What simprior table
    writes is read back (CSV, Markdown, JSON, Parquet). PLA and BLIF files hold one function, x1 the
    first input. Any file may be compressed (gzip).
    """

    file: Annotated[Positional[Path], arg(help="the file")]
    n: Annotated[
        MaybeCount,
        arg(help="input bits; a function has 2^n outputs (default: 7, or PLA's, BLIF's)"),
    ] = None
    m: Annotated[
        MaybeCount, arg(help="in place of --n: outputs of a function, on any m inputs")
    ] = None
    bit_order: Annotated[
        str,
        choice("standard", "reversed"),
        arg(help="standard: input 0 comes first; reversed: last (C++ tools, ABC, kitty)"),
    ] = "standard"
    columns: Annotated[Texts, arg(help="what the columns are: function, count, _ for others")] = (
        None
    )
    samples: Annotated[
        MaybeCount, arg(help="networks drawn, if not all are listed (default: the sum of counts)")
    ] = None


SPEC = Import


def run(spec: Import) -> int:
    """Read, count, save, print the totals."""
    if spec.out is None:
        raise InputError("out=none", "a run directory", "pass for example --out results/old")
    from simprior.boolean.import_files import read_functions
    from simprior.boolean.sampling.counts import FunctionCounts
    from simprior.runs.wipe import check_occupied

    check_occupied(spec.out, "import", resume=False, overwrite=spec.overwrite)
    options = spec.chosen("n m columns samples")
    found = read_functions(spec.file, order=spec.bit_order, **options)
    counts = FunctionCounts.from_counts(
        found.words, found.count, m=found.m, n=found.n, samples=found.samples
    )
    logging.getLogger("simprior").info("%s: %s", spec.file, found.said(counts.functions))
    say_unlisted(spec.file, counts)
    counts.save(spec.out, overwrite=spec.overwrite)
    summary = counts.summary()
    spec.print_result({"table": counts.to_frame(), "summary": summary}, summary)
    return 0
