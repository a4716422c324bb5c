"""The figures and tables that a recipe asks for, from what its stages have found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simprior.analysis import figures_generalisation as draw
from simprior.analysis.figure_frames import name_of
from simprior.analysis.rescaling import rescaling_table
from simprior.analysis.study_frames import group_column, read_frame, stage_frame
from simprior.analysis.style import save_figure
from simprior.analysis.tables import write
from simprior.analysis.tables_latex import siunitx_table
from simprior.errors import InputError
from simprior.store import load_run
from simprior.store_io import translate_errors, write_bytes

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
        return draw.rescaling_figure(rescaling_table(frame))
    if "by" in options:
        frame, options["by"] = group_column(frame, options["by"])
    if kind == "sweep":
        y = options.pop("y")
        options["y"] = [y] if isinstance(y, str) else y
    return {
        "scatter": draw.scatter_figure,
        "forest": draw.forest_figure,
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
            raise InputError(f"columns={name}", f"some of {', '.join(frame.columns)}", "correct it")


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


def write_forms(
    frame: pd.DataFrame, stem: Path, caption: str, label: str, note: str,
    columns: list[str] | None = None,
) -> Iterator[Path]:  # fmt: skip
    """``stem.tex`` (siunitx), ``stem.csv`` and ``stem.parquet``, each with the command in it.

    ``columns``: those of the LaTeX table, which has a page's width (default: all).
    """
    tex = stem.with_name(f"{stem.name}.tex")
    narrow = frame if columns is None else frame[columns]
    write_bytes(tex, siunitx_table(named(narrow), caption, label, note, headings(narrow)).encode())
    yield tex
    for form in ("csv", "parquet"):
        path = stem.with_name(f"{stem.name}.{form}")
        write(frame, path, form, note)
        yield path


def named(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with measures by their names (column ``measure``)."""
    if "measure" not in frame or frame["measure"].dtype.kind in "fiu":
        return frame
    return frame.assign(measure=[name_of(str(value)) for value in frame["measure"]])


def headings(frame: pd.DataFrame) -> dict[str, str]:
    """Headings of the columns of a table."""
    return {str(name): name_of(str(name)) for name in frame.columns}


def run_figures(path: Path) -> Iterator[tuple[str, Figure]]:
    """The figures that ``simprior plot`` draws of a run of measure, correlate or study.

    Raises :class:`InputError` for a run with nothing to draw.
    """
    run = load_run(path)
    if run.command == "study":
        from simprior.analysis.study import parse_recipe_of

        recipe = parse_recipe_of(path)
        for config in recipe.stage("figures").config["figures"]:
            yield config["name"], draw_figure(config, path, recipe.seed)
        return
    frame = read_frame(path)
    if run.command == "correlate":
        yield from _correlate_figures(frame)
        return
    yield from _measure_figures(frame)


def _correlate_figures(frame: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    by = list(frame.columns[: list(frame.columns).index("measure")])
    grouped, column = group_column(frame, by or None)
    for coefficient in ("kendall", "spearman", "pearson"):
        if coefficient in frame and frame[coefficient].notna().any():
            yield f"forest-{coefficient}", draw.forest_figure(grouped, coefficient, column)


def _measure_figures(frame: pd.DataFrame) -> Iterator[tuple[str, Figure]]:
    from simprior.analysis.rescaling import measure_columns

    several = frame["optimizer"].nunique() > 1 if "optimizer" in frame else False
    plain = frame[frame["alpha"] == 1.0] if "alpha" in frame else frame
    if "test_error" in plain and plain["test_error"].notna().any():
        for name in measure_columns(plain):
            if plain[name].nunique() > 1:
                by = "optimizer" if several else None
                yield f"scatter-{name}", draw.scatter_figure(plain, name, by=by)
    if "alpha" in frame and frame["alpha"].nunique() > 1:
        yield "rescaling", draw.rescaling_figure(rescaling_table(frame))
    if "bound" in frame and frame["bound"].notna().any() and frame["train_size"].nunique() > 1:
        yield "bound", draw.bound_figure(frame)


def sensitivity_figure(path: Path, name: str) -> Figure:
    """A figure of a run of ``simprior sensitivity`` by its name. Raises :class:`InputError`."""
    from simprior.analysis.figures_hamming import sensitivity_figures
    from simprior.analysis.study import unknown

    found = dict(sensitivity_figures(path))
    if name not in found:
        raise unknown("figure", name, found)
    return found[name]
