"""The figures and tables that a recipe asks for, from what its stages have found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simprior.analysis import figures_generalisation as draw
from simprior.analysis import figures_rows as rows
from simprior.analysis.paper_tables import write_forms
from simprior.analysis.rescaling import rescaling_table
from simprior.analysis.study_frames import group_column, stage_frame
from simprior.analysis.style import save_figure
from simprior.checks import unknown
from simprior.store_io import translate_errors

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

FORMS = ("pdf", "png")


def draw_figure(config: Mapping[str, Any], out: Path, seed: int = 0) -> Figure:
    """One ``[[figure]]`` of a recipe, from the stages below ``out``. Raises InputError."""
    kind = str(config["kind"])
    names = [str(name) for name in config["from"]]
    if kind == "sensitivity":
        return sensitivity_figure(out / names[0], str(config["figure"]))
    frame = stage_frame(out, names, config.get("where"), seed)
    keys = ("x", "y", "by", "points", "level", "coefficient", "top")
    options = {key: config[key] for key in keys if key in config}
    if kind == "rescaling":
        return rows.rescaling_figure(rescaling_table(frame))
    if "by" in options:
        frame, options["by"] = group_column(frame, options["by"])
    if kind == "sweep":
        y = options.pop("y")
        options["y"] = [y] if isinstance(y, str) else y
    return {
        "scatter": draw.scatter_figure,
        "forest": rows.forest_figure,
        "bound": draw.bound_figure,
        "sweep": draw.sweep_figure,
    }[kind](frame, **options)  # type: ignore[operator]


def write_figures(
    configs: list[dict[str, Any]], out: Path, note: str, seed: int = 0
) -> Iterator[Path]:
    """Draw every figure of a recipe into ``out/figures`` as PDF and PNG; ``note`` is metadata."""
    folder = out / "figures"
    with translate_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for config in configs:
        figure = draw_figure(config, out, seed)
        for form in FORMS:
            path = folder / f"{config['name']}.{form}"
            save_figure(figure, path, note, str(config.get("caption", config["name"])))
            yield path


def recipe_table(config: Mapping[str, Any], out: Path, seed: int = 0) -> pd.DataFrame:
    """One ``[[table]]`` of a recipe. Raises :class:`InputError` for an unknown column."""
    frame = stage_frame(
        out, list(config["from"]), config.get("where"), seed, config.get("file")
    )  # fmt: skip
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


def sensitivity_figure(path: Path, name: str) -> Figure:
    """A figure of a run of ``simprior sensitivity`` by its name. Raises :class:`InputError`."""
    from simprior.analysis.figures_hamming import sensitivity_figures

    found = dict(sensitivity_figures(path))
    if name not in found:
        raise unknown(f"figure {name!r}", name, found)
    return found[name]
