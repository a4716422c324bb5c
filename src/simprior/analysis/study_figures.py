"""The figures and tables that a recipe asks for, from what its stages have found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from simprior.analysis.figures import files
from simprior.analysis.figures.marks import group_column
from simprior.analysis.figures.registry import recipe_kinds
from simprior.analysis.paper_tables import write_forms
from simprior.analysis.study_frames import stage_frame
from simprior.checks import unknown
from simprior.store_io import translate_errors

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_figure(config: Mapping[str, Any], out: Path, seed: int = 0) -> Figure:
    """One ``[[figure]]`` of a recipe, from the stages below ``out``. Raises InputError."""
    kind = recipe_kinds()[str(config["kind"])]
    names = [str(name) for name in config["from"]]
    options = {key: config[key] for key in (*kind.needs, *kind.takes) if key in config}
    if kind.whole:
        return kind.draw(out / names[0], **options)
    frame = stage_frame(out, names, config.get("where"), seed)
    if "by" in options:
        frame, options["by"] = group_column(frame, options["by"])
    return kind.draw(frame, **options)


def title_of(config: Mapping[str, Any]) -> str:
    """The title of a ``[[figure]]`` in the metadata of its files: its caption, or its name."""
    return str(config.get("caption", config["name"]))


def write_figures(configs: list[dict[str, Any]], out: Path, note: str, seed: int = 0) -> list[Path]:
    """Draw every figure of a recipe into ``out/figures`` as PDF and PNG; ``note`` is metadata."""
    drawn = (
        (config["name"], title_of(config), draw_figure(config, out, seed)) for config in configs
    )
    return files.write_figures(drawn, out / "figures", note)


def recipe_table(config: Mapping[str, Any], out: Path, seed: int = 0) -> pd.DataFrame:
    """One ``[[table]]`` of a recipe. Raises :class:`InputError` for an unknown column."""
    names, where = list(config["from"]), config.get("where")
    frame = stage_frame(out, names, where, seed, config.get("file"))
    if config.get("file") is None and len(config["from"]) == 1:
        frame = frame.drop(columns="stage")
    if "sort" in config:
        _check(frame, [config["sort"]])
        frame = frame.sort_values(config["sort"], kind="stable")
    if "columns" in config:
        _check(frame, config["columns"])
        frame = frame[list(config["columns"])]
    return frame.head(int(config["top"])) if "top" in config else frame


def _check(frame: pd.DataFrame, names: list[str]) -> None:
    for name in names:
        if name not in frame:
            raise unknown(f"columns={name}", name, frame.columns)


def write_tables(
    configs: list[dict[str, Any]], out: Path, note: str, seed: int = 0
) -> Iterator[Path]:
    """Write every table of a recipe into ``out/tables`` as LaTeX, CSV and Parquet."""
    folder = out / "tables"
    with translate_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for config in configs:
        frame = recipe_table(config, out, seed)
        caption = str(config.get("caption", config["name"]))
        label = str(config.get("label", f"tab:{config['name']}"))
        yield from write_forms(frame, folder / str(config["name"]), caption, label, note)
