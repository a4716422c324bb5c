"""Figures as files: PDF and PNG, whole or not at all, equal bytes for equal figures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simprior.analysis.figures.style import DPI, style
from simprior.store_io import atomic_path, translate_errors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMS = ("pdf", "png")


def write_figures(
    figures: Iterable[tuple[str, str, Figure]], folder: Path, subject: str
) -> list[Path]:
    """Write each of ``figures`` (name, title, figure) into ``folder``, as PDF and as PNG.

    ``subject`` says what made them; it goes into the metadata with the title. ``figures`` may be a
    generator: each figure is written before the next is drawn.

    Returns
    -------
    list of Path
        The files written, PDF before PNG.

    Raises
    ------
    StoreError
        The folder or a file cannot be written.
    """
    with translate_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, title, figure in figures:
        for form in FORMS:
            files.append(folder / f"{name}.{form}")
            save_figure(figure, files[-1], subject, title)
    return files


def save_figure(figure: Figure, path: Path, subject: str, title: str) -> None:
    """Write ``figure`` as PDF or PNG, by the suffix of ``path``, atomically.

    No date and no random identifier is written: equal figures are equal files. Fonts are embedded.
    ``subject`` goes into the metadata. Raises :class:`StoreError` if the file cannot be written.
    """
    form = path.suffix[1:]
    metadata: dict[str, Any] = {"Title": title, "Subject": subject, "Creator": "simprior"}
    if form == "pdf":
        metadata["CreationDate"] = None
    else:
        metadata = {"Title": title, "Description": subject, "Software": "simprior"}
    _print_bad_maths(figure)
    with style(), atomic_path(path) as temporary:
        figure.savefig(temporary, format=form, dpi=DPI, metadata=metadata)


def _print_bad_maths(figure: Figure) -> None:
    """Show a text whose ``$...$`` is no mathematics (a name of a file, a setting) as it is."""
    from matplotlib.cbook import is_math_text
    from matplotlib.mathtext import MathTextParser
    from matplotlib.text import Text

    parser = MathTextParser("path")
    for text in figure.findobj(Text):
        if not isinstance(text, Text) or not is_math_text(text.get_text()):
            continue
        for line in text.get_text().splitlines():
            try:
                if is_math_text(line):
                    parser.parse(line)
            except ValueError:
                text.set_parse_math(False)
