"""Docstrings as the site's generator reads them.

Simple tables (columns under rows of ``=``) become tables of Markdown. Parameters that share a
description get one each, so that each is shown with its own type.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_TABLE = re.compile(r"^(=+ +=+)\n(.*?)^\1 *\n?", re.MULTILINE | re.DOTALL)
_SHARED = re.compile(r"^(\w+(?:, \w+)+)\n((?: {4,}.*(?:\n|\Z))+)", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Rewrites docstrings when they have been read."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of ``obj``."""
        if obj.docstring is not None:
            text = _SHARED.sub(_apart, obj.docstring.value)
            obj.docstring.value = _TABLE.sub(_markdown, text)


def _apart(found: re.Match[str]) -> str:
    text = found[2].rstrip("\n")
    return "".join(f"{name}\n{text}\n" for name in found[1].split(", "))


def _markdown(found: re.Match[str]) -> str:
    """A table of two columns; a line with an empty first column goes on with the one before."""
    start = re.match(r"=+ +", found[1]).end()  # type: ignore[union-attr]
    rows: list[list[str]] = []
    for line in found[2].splitlines():
        name, text = line[:start].strip(), line[start:].strip()
        # A list of names may go on below: then the line before ends with a comma.
        goes_on = rows and (not name or rows[-1][0].endswith(","))
        if goes_on:
            rows[-1] = [f"{rows[-1][0]} {name}".strip(), f"{rows[-1][1]} {text}".strip()]
        else:
            rows.append([name, text])
    lines = ["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows)]
    return "\n".join(lines) + "\n"
