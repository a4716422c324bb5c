"""``simprior table``: print the most frequent functions of a run."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from simprior.cli.common import Output
from simprior.cli.output import markdown, print_json, set_up_logging
from simprior.cli.values import Count, MaybePath, MaybeText, Texts, choice
from simprior.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Table(Output):
    """Print the most frequent functions of a run, with intervals and measures."""

    path: Annotated[Positional[Path], arg(help="a run directory")]
    top: Annotated[Count, arg(help="number of functions")] = 20
    format: Annotated[
        str, choice("csv", "latex", "markdown", "json"), arg(help="form of the table")
    ] = "csv"
    columns: Annotated[Texts, arg(help="columns to print, in this order")] = None
    caption: Annotated[MaybeText, arg(help="latex: the caption")] = None
    label: Annotated[str, arg(help="latex: the label")] = "tab:functions"
    out: Annotated[MaybePath, arg(help="write to this file in place of stdout")] = None


SPEC = Table


def run(spec: Table) -> int:
    """Load the counts, choose columns, write the table."""
    set_up_logging(spec.quiet)
    from simprior.boolean.counts import FunctionCounts

    counts = FunctionCounts.load(spec.path)
    frame = choose_columns(counts.to_frame(top=spec.top), spec.columns)
    form = "json" if spec.json else spec.format
    if spec.out is None and form == "json":
        print_json(frame.to_dict(orient="records"))
    elif spec.out is None:
        sys.stdout.write(render(frame, form, _caption(spec), spec.label))
    else:
        from simprior.store_io import write_bytes

        write_bytes(spec.out, render(frame, form, _caption(spec), spec.label).encode())
    return 0


def choose_columns(frame: pd.DataFrame, columns: tuple[str, ...] | None) -> pd.DataFrame:
    """The named columns in the order given; all of them for None."""
    for name in columns or ():
        if name not in frame.columns:
            raise InputError(
                f"columns={name}", f"some of {', '.join(frame.columns)}", "check the spelling"
            )
    return frame if columns is None else frame[list(columns)]


def render(frame: pd.DataFrame, form: str, caption: str, label: str) -> str:
    """The table as text that ends with a newline."""
    if form == "csv":
        return str(frame.to_csv(index=False))
    if form == "latex":
        text = frame.to_latex(
            index=False,
            escape=True,
            caption=caption,
            label=label,
            float_format=_latex_float,
            column_format="".join(
                "l" if frame[name].dtype.kind in "OUT" else "r" for name in frame
            ),
        )
        return str(text).rstrip() + "\n"
    if form == "markdown":
        return markdown(list(frame.columns), frame.to_numpy(dtype=object).tolist()) + "\n"
    return str(frame.to_json(orient="records", indent=1, double_precision=15)) + "\n"


def _latex_float(value: float) -> str:
    text = f"{value:.4g}"
    mantissa, sign, exponent = text.partition("e")
    return rf"${mantissa} \times 10^{{{int(exponent)}}}$" if sign else mantissa


def _caption(spec: Table) -> Any:
    return spec.caption or f"The {spec.top} most frequent functions."
