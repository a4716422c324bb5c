"""Tables of functions as text (CSV, LaTeX, Markdown, JSON) and as Parquet (``simprior table``)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simprior.analysis.numbers import plus_minus, scientific
from simprior.errors import InputError
from simprior.store_csv import comment, csv_text

if TYPE_CHECKING:
    import pandas as pd

    from simprior.boolean.counts import FunctionCounts
    from simprior.boolean.watch_result import WatchResult

TEXT_FORMS = ("csv", "latex", "markdown", "json")
FORMS = (*TEXT_FORMS, "parquet")
PAGE = 40
"""Rows of a LaTeX table on one page; a longer one breaks over pages (``longtable``)."""
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
} | {chr(code): " " for code in (*range(32), 127)}  # fmt: skip
_LABEL = re.compile(r"[\w :;.,+\-/*@()=!]+")


def function_table(
    counts: FunctionCounts | WatchResult, top: int | None = 20, columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """The ``top`` most frequent functions (all for None), with the named columns in that order.

    See :meth:`FunctionCounts.to_frame` for the columns. Raises :class:`InputError` for a column
    that does not exist.
    """
    frame = counts.to_frame(top=top)
    for name in columns or ():
        if name not in frame.columns:
            raise InputError(
                f"columns={name}", f"some of {', '.join(frame.columns)}", "check the spelling"
            )
    return frame if columns is None else frame[list(columns)]


def functions_caption(counts: FunctionCounts | WatchResult, shown: int) -> str:
    """What the first ``shown`` rows of a table of functions are."""
    functions = "function" if shown == 1 else "functions"
    if hasattr(counts, "variance_reduction"):  # watched: in the order given, not by frequency
        total = len(counts.p)
        first = "" if shown == total else f"first {shown} of the "
        return f"The {first}{total} watched {functions if total == shown else 'functions'}."
    caption = f"The {shown} most frequent {functions}."
    unlisted = getattr(counts, "unlisted", 0)
    if not unlisted:
        return caption
    share = 100 * (1 - unlisted / counts.samples)
    return f"{caption} The whole table lists {share:.3g} % of {counts.samples:,} samples."


def render(
    frame: pd.DataFrame,
    form: str,
    caption: str = "The most frequent functions.",
    label: str = "tab:functions",
    note: str | None = None,
) -> str:
    """The table as text that ends with a newline.

    Parameters
    ----------
    frame : DataFrame
        Any columns. CSV and JSON keep every digit, and CSV texts start no formula
        (:func:`simprior.store_csv.csv_text`); in LaTeX, columns ``p`` and ``stderr`` become one
        column "value plus-minus error", and in Markdown numbers have six digits.
    form : str
        One of ``csv latex markdown json``.
    caption, label : str
        For LaTeX; special characters of the caption are escaped, and refused in the label.
    note : str, optional
        How the table was made, kept as a comment: a line ``# note`` (CSV), ``% note`` (LaTeX),
        ``<!-- note -->`` (Markdown); JSON becomes ``{"comment": note, "functions": [...]}``.

    Raises
    ------
    InputError
        Another ``form``, or a label with special characters.
    """
    note = None if note is None else " ".join(note.split())
    if form == "csv":
        return (f"# {comment(note)}\n" if note else "") + csv_text(frame)
    if form == "latex":
        return (f"% {note}\n" if note else "") + latex(frame, caption, label)
    if form == "markdown":
        text = markdown(list(frame.columns), frame.to_numpy(dtype=object).tolist()) + "\n"
        closed = re.sub(r"--(!?)>", r"-- \1>", note or "")
        return text + (f"\n<!-- {closed} -->\n" if note else "")
    if form == "json":
        rows = [{k: _plain(v) for k, v in row.items()} for row in frame.to_dict("records")]
        value: Any = {"comment": note, "functions": rows} if note else rows
        return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    raise InputError(f"format={form!r}", f"one of {', '.join(TEXT_FORMS)}", "choose one of them")


def write(
    frame: pd.DataFrame, path: Path | str, form: str, note: str, **options: str
) -> None:  # fmt: skip
    """Write a table with the comment ``note`` to ``path``, atomically.

    ``form`` is one of ``csv latex markdown json parquet``; ``options`` are those of
    :func:`render`. In Parquet the note is the schema's metadata ``comment``. Raises
    :class:`InputError` for another form, :class:`StoreError` if the file cannot be written.
    """
    from simprior.store_io import write_bytes, write_table

    if form != "parquet":
        write_bytes(path, render(frame, form, note=note, **options).encode())
        return
    import pyarrow as pa

    table = pa.Table.from_pandas(frame, preserve_index=False)
    metadata = {**(table.schema.metadata or {}), b"comment": note.encode()}
    write_table(path, table.replace_schema_metadata(metadata))


def latex(frame: pd.DataFrame, caption: str, label: str) -> str:
    """A booktabs table: escaped text, numbers as mathematics, ``p`` merged with its error.

    Of more than :data:`PAGE` rows a ``longtable``.
    """
    import pandas as pd

    columns: dict[str, list[str]] = {}
    kinds = ""
    label = check_label(label)
    merged = {"p", "stderr"} <= set(frame.columns)
    for name in frame.columns:
        values = frame[name].tolist()
        if merged and name == "stderr":
            continue
        kinds += "l" if frame[name].dtype.kind in "OUT" else "r"
        if merged and name == "p":
            pairs = zip(values, frame["stderr"].tolist(), strict=True)
            columns[r"p $\pm$ stderr"] = [f"${plus_minus(p, error)}$" for p, error in pairs]
        else:
            trim = name not in ("p_low", "p_high")
            columns[escape_latex(name)] = [_latex_cell(value, trim) for value in values]
    text = pd.DataFrame(columns).to_latex(
        index=False,
        escape=False,
        caption=escape_latex(caption),
        label=label,
        column_format=kinds,
        longtable=len(frame) > PAGE,
        position=None if len(frame) > PAGE else "htbp",
    )
    return str(text).rstrip() + "\n"


def escape_latex(text: str) -> str:
    """``text`` with the ten special characters of LaTeX escaped, control characters as blanks."""
    return "".join(_LATEX.get(character, character) for character in text)


def check_label(label: str) -> str:
    r"""A label for LaTeX, else :class:`InputError`: ``\label`` cannot hold escaped characters."""
    if not _LABEL.fullmatch(label):
        raise InputError(
            f"label={label[:60]!r}", "letters, digits, blanks and . , : ; - _ + / * @ ( ) = !",
            "pass for example --label tab:functions",
        )  # fmt: skip
    return label


def safe_label(text: str) -> str:
    """A label made of any text, such as the name of a file."""
    return re.sub(r"[^\w :;.,+\-/*@()=!]", "-", text) or "tab"


def _latex_cell(value: Any, trim: bool) -> str:
    if isinstance(value, str):
        escaped = escape_latex(value)
        escaped = "{}" * escaped.lstrip().startswith(("[", "*")) + escaped  # \\ takes them
        return rf"\texttt{{{escaped}}}" if value.startswith("0x") else escaped
    if isinstance(value, float) and not math.isfinite(value):
        return "--"
    if isinstance(value, float) and (0 < abs(value) < 1e-4 or abs(value) >= 1e5):
        return f"${scientific(value, 4, trim)}$"
    return f"{value:{'' if trim else '#'}.4g}" if isinstance(value, float) else str(value)


def markdown(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table: columns padded, numbers to the right, pipes escaped."""
    cells = [[_cell(entry) for entry in row] for row in rows]
    numeric = [
        bool(rows) and all(_is_number(row[column]) for row in rows) for column in range(len(header))
    ]
    heads = [_escape(name) for name in header]
    widths = [
        max([3, len(head), *(len(row[column]) for row in cells)])
        for column, head in enumerate(heads)
    ]

    def line(entries: Sequence[str]) -> str:
        padded = [
            entry.rjust(width) if right else entry.ljust(width)
            for entry, width, right in zip(entries, widths, numeric, strict=True)
        ]
        return "| " + " | ".join(padded) + " |"

    rule = [
        "-" * (width - 1) + (":" if right else "-")
        for width, right in zip(widths, numeric, strict=True)
    ]
    return "\n".join([line(heads), line(rule), *(line(row) for row in cells)])


def _is_number(value: Any) -> bool:
    return not isinstance(value, str | bool) and hasattr(value, "__float__")


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return _escape(value)
    if _is_number(value) and not float(value).is_integer():
        return "-" if math.isnan(value) else f"{float(value):.6g}"
    return _escape(str(int(value)) if _is_number(value) else str(value))


def _escape(text: str) -> str:
    text = " ".join(text.splitlines()).replace("\\", "\\\\").replace("|", "\\|")
    return re.sub(r"<(?=[A-Za-z/!?])", r"\<", text)


def _plain(value: Any) -> Any:
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if not isinstance(value, str | int | float | bool | None):
        return None if str(value) in ("<NA>", "NaT") else str(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value
