"""The figures of a run of measure, correlate or study (``simprior plot``)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from simprior.analysis import figures_generalisation as draw
from simprior.analysis.rescaling import measure_columns, rescaling_table
from simprior.analysis.study_frames import group_column, read_frame
from simprior.store import load_run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def run_figures(path: Path) -> Iterator[tuple[str, Figure]]:
    """The figures that ``simprior plot`` draws of a run of measure, correlate or study.

    Raises :class:`InputError` for a run with nothing to draw.
    """
    run = load_run(path)
    if run.command == "study":
        from simprior.analysis.study import parse_recipe_of
        from simprior.analysis.study_figures import draw_figure

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
