"""A frame as a table in any form, as text or in a file, with a note on how it was made."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from simprior.analysis.text.latex import latex
from simprior.analysis.text.plaintext import html_comment, json_text, markdown
from simprior.checks import Choice
from simprior.runs.files import csv_text, write_bytes, write_table

TEXT_FORMS = ("csv", "latex", "markdown", "json")
FORMS = (*TEXT_FORMS, "parquet")


def render(
    frame: pd.DataFrame,
    form: str,
    caption: str = "The most frequent functions.",
    label: str = "tab:functions",
    note: str | None = None,
    names: Mapping[str, str] | None = None,
    summary: Mapping[str, Any] | None = None,
    **layout: Any,
) -> str:
    """The table as text that ends with a newline.

    Parameters
    ----------
    frame : DataFrame
        Any columns. CSV and JSON keep every digit, and CSV texts start no formula
        (:func:`simprior.runs.files.csv_text`); in Markdown numbers have six digits.
    form : str
        One of ``csv latex markdown json``.
    caption, label : str
        For LaTeX; special characters of the caption are escaped, and refused in the label.
    note : str, optional
        How the table was made, kept as a comment: a line ``% note`` (LaTeX), ``<!-- note -->``
        (Markdown), an entry ``comment`` of the summary (JSON). CSV has no comments.
    names : mapping, optional
        For LaTeX: headings by column name.
    summary : mapping, optional
        For JSON, which is ``{"table": [...], "summary": {...}}``.
    **layout
        For LaTeX: ``width``, ``rows``, ``keep`` and ``level`` of
        :func:`simprior.analysis.text.latex.latex`.

    Raises
    ------
    InputError
        Another ``form``, or a label with special characters.
    """
    Choice(TEXT_FORMS, "choose one of them")("format", form)
    note = " ".join((note or "").split())
    if form == "csv":
        return csv_text(frame)
    if form == "latex":
        return latex(frame, caption, label, note, names, **layout)
    if form == "markdown":
        text = markdown(list(frame.columns), frame.to_numpy(dtype=object).tolist()) + "\n"
        return text + (f"\n{html_comment(note)}\n" if note else "")
    totals = {**(summary or {}), **({"comment": note} if note else {})}
    return json_text({"table": frame.to_dict("records"), "summary": totals}) + "\n"


def write(
    frame: pd.DataFrame, path: Path | str, form: str, note: str, **options: Any
) -> list[Path]:
    """Write a table to ``path``, atomically, and give the files written.

    ``form`` is one of ``csv latex markdown json parquet``; ``options`` are those of
    :func:`render`. The comment ``note`` is in the file, in Parquet as the schema's metadata
    ``comment``; beside a CSV file it is in ``NAME.csv.json`` (:func:`provenance`). Raises
    :class:`InputError` for another form, :class:`StoreError` if a file cannot be written.
    """
    path = Path(path)
    if form == "parquet":
        import pyarrow as pa

        table = pa.Table.from_pandas(frame, preserve_index=False)
        metadata = {**(table.schema.metadata or {}), b"comment": note.encode()}
        write_table(path, table.replace_schema_metadata(metadata))
        return [path]
    data = render(frame, form, note=note, **options).encode()
    write_bytes(path, data)
    if form != "csv":
        return [path]
    beside = path.with_name(f"{path.name}.json")
    caption = str(options.get("caption", ""))
    write_bytes(beside, (json_text(provenance(frame, data, note, caption)) + "\n").encode())
    return [path, beside]


def provenance(frame: pd.DataFrame, data: bytes, note: str, caption: str = "") -> dict[str, Any]:
    """What is known about a CSV file: the command that made it, what it holds, its SHA-256."""
    return {
        "command": " ".join(note.split()),
        "caption": caption,
        "rows": len(frame),
        "columns": [str(name) for name in frame.columns],
        "sha256": hashlib.sha256(data).hexdigest(),
    }
