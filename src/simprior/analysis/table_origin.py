"""Did ``simprior table`` write a file? By the command that it keeps in each of its forms."""

from __future__ import annotations

import itertools
import json
import re
import shlex
from pathlib import Path

from simprior.errors import InputError

_FIRST = {"csv": "# ", "latex": "% "}
_MARKDOWN = re.compile(r"\|[^\n]*\n(?:\|[^\n]*\n|\s*\n)*<!-- ([^\n]*) -->\s*\Z")


def check_replaceable(path: Path, overwrite: bool) -> None:
    """Refuse to replace a file that ``simprior table`` did not write, unless ``overwrite``.

    Raises :class:`InputError`.
    """
    if overwrite or not path.is_file() or path.stat().st_size == 0 or made_by_table(path):
        return
    raise InputError(
        f"out={path}", "a new file, or one that simprior table wrote",
        "choose another name, or pass --overwrite to replace it",
    )  # fmt: skip


def made_by_table(path: Path) -> bool:
    """Whether the file is a table with the comment of ``simprior table`` in it, whole."""
    try:
        with path.open("rb") as file:
            parquet = file.read(4) == b"PAR1"
        if parquet:
            return _is_command(_parquet_comment(path), "parquet")
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):  # not readable, not text, or a broken Parquet file
        return False
    return any(_is_command(_comment(text, form), form) for form in (*_FIRST, "markdown", "json"))


def _parquet_comment(path: Path) -> str:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(path).metadata or {}
    except pa.ArrowException:
        return ""
    return bytes(metadata.get(b"comment", b"")).decode(errors="replace")


def _comment(text: str, form: str) -> str:
    """The comment of a table of this form; empty for any other text."""
    if form in _FIRST:
        first, _, rest = text.partition("\n")
        whole = r"\begin{" in rest if form == "latex" else bool(rest)
        return first.removeprefix(_FIRST[form]) if first.startswith(_FIRST[form]) and whole else ""
    if form == "markdown":
        found = _MARKDOWN.match(text)
        return found[1] if found else ""
    try:
        value = json.loads(text)
    except ValueError:
        return ""
    whole = isinstance(value, dict) and set(value) == {"comment", "functions"}
    return str(value["comment"]) if whole else ""


def _is_command(comment: str, form: str) -> bool:
    """Whether this is the command of ``simprior table`` that writes such a form to a file."""
    try:
        words = shlex.split(comment)
    except ValueError:
        return False
    pairs = list(itertools.pairwise(words))
    return words[:2] == ["simprior", "table"] and ("--format", form) in pairs and "--out" in words
