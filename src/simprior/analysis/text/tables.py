"""A frame as a table in any form, as text or in a file, with a note on how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from simprior.analysis.text.latex import latex, siunitx_table
from simprior.analysis.text.plaintext import html_comment, json_text, markdown
from simprior.errors import InputError
from simprior.store_csv import comment, csv_text
from simprior.store_io import write_bytes, write_table

TEXT_FORMS = ("csv", "latex", "markdown", "json")
FORMS = (*TEXT_FORMS, "parquet")


def render(
    frame: pd.DataFrame,
    form: str,
    caption: str = "The most frequent functions.",
    label: str = "tab:functions",
    note: str | None = None,
    names: Mapping[str, str] | None = None,
) -> str:
    """The table as text that ends with a newline.

    Parameters
    ----------
    frame : DataFrame
        Any columns. CSV and JSON keep every digit, and CSV texts start no formula
        (:func:`simprior.store_csv.csv_text`); in Markdown numbers have six digits.
    form : str
        One of ``csv latex markdown json``.
    caption, label : str
        For LaTeX; special characters of the caption are escaped, and refused in the label.
    note : str, optional
        How the table was made, kept as a comment: a line ``# note`` (CSV), ``% note`` (LaTeX),
        ``<!-- note -->`` (Markdown); JSON becomes ``{"comment": note, "functions": [...]}``.
    names : mapping, optional
        For LaTeX: headings by column name. With them the table is one for a paper
        (:func:`simprior.analysis.text.latex.siunitx_table`), without them one of functions.

    Raises
    ------
    InputError
        Another ``form``, or a label with special characters.
    """
    note = " ".join((note or "").split())
    if form == "csv":
        return (f"# {comment(note)}\n" if note else "") + csv_text(frame)
    if form == "latex" and names is not None:
        return siunitx_table(frame, caption, label, note, names)
    if form == "latex":
        return (f"% {note}\n" if note else "") + latex(frame, caption, label)
    if form == "markdown":
        text = markdown(list(frame.columns), frame.to_numpy(dtype=object).tolist()) + "\n"
        return text + (f"\n{html_comment(note)}\n" if note else "")
    if form == "json":
        rows = frame.to_dict("records")
        return json_text({"comment": note, "functions": rows} if note else rows) + "\n"
    raise InputError(f"format={form!r}", f"one of {', '.join(TEXT_FORMS)}", "choose one of them")


def write(frame: pd.DataFrame, path: Path | str, form: str, note: str, **options: Any) -> None:
    """Write a table with the comment ``note`` to ``path``, atomically.

    ``form`` is one of ``csv latex markdown json parquet``; ``options`` are those of
    :func:`render`. In Parquet the note is the schema's metadata ``comment``. Raises
    :class:`InputError` for another form, :class:`StoreError` if the file cannot be written.
    """
    if form != "parquet":
        write_bytes(path, render(frame, form, note=note, **options).encode())
        return
    import pyarrow as pa

    table = pa.Table.from_pandas(frame, preserve_index=False)
    metadata = {**(table.schema.metadata or {}), b"comment": note.encode()}
    write_table(path, table.replace_schema_metadata(metadata))
