"""The figures of a run of measure, correlate or study (``simprior plot``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from simprior.analysis import figures_generalisation as draw
from simprior.analysis.figures_rows import forest_figure, rescaling_figure
from simprior.analysis.measure_names import FUNCTION_GROUPS, MEASURES
from simprior.analysis.rescaling import measure_columns, rescaling_table
from simprior.analysis.study_frames import group_column, read_frame
from simprior.errors import InputError
from simprior.store import load_run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Draw = tuple[str, Callable[[], "Figure"]]
FEW_SETS = 8
"""With fewer data sets than these a point of a scatter figure is a network, not a mean of them."""
GROUPS = ("optimizer", "corrupt", "attack")
"""Settings that are kept apart where they vary."""


def run_figures(path: Path) -> Iterator[tuple[str, Figure]]:
    """The figures that ``simprior plot`` draws of a run of measure, correlate or study.

    Raises :class:`InputError` for a run with nothing to draw, before the first is drawn.
    """
    run = load_run(path)
    if run.command == "study":
        found = _study_figures(path)
    else:
        frame = read_frame(path)
        found = _correlate_figures(frame) if run.command == "correlate" else measure_figures(frame)
    if not found:
        raise InputError(f"{path}: nothing to draw", *_WANTED[run.command])
    return ((name, figure()) for name, figure in found)


_WANTED = {
    "study": ("a recipe with figures", "add a [[figure]] to it"),
    "correlate": ("a finite coefficient", "see the notes of the run"),
    "measure": (
        "test errors, or ln P(f), and a measure with different values",
        "measure more networks, or more groups (--measures)",
    ),
}


def _study_figures(path: Path) -> list[Draw]:
    from simprior.analysis.study import parse_recipe_of
    from simprior.analysis.study_figures import draw_figure

    recipe = parse_recipe_of(path)
    configs = recipe.stage("figures").config["figures"]
    return [(c["name"], partial(draw_figure, c, path, recipe.seed)) for c in configs]


def _correlate_figures(frame: pd.DataFrame) -> list[Draw]:
    by = list(frame.columns[: list(frame.columns).index("measure")])
    grouped, column = group_column(frame, by or None)
    return [
        (f"forest-{coefficient}", partial(forest_figure, grouped, coefficient, column))
        for coefficient in ("kendall", "spearman", "pearson")
        if coefficient in frame and np.isfinite(frame[coefficient]).any()
    ]


def measure_figures(frame: pd.DataFrame) -> list[Draw]:
    """Names and drawers of the figures of a measures table.

    Of networks: the test error against each measure (a point a training set, or a network where
    there are fewer than 8 data sets), what rescaling moves, and the bound; settings of ``GROUPS``
    that vary are told apart. Of functions: ln P(f) against each measure of complexity.
    """
    plain = frame[frame["alpha"] == 1.0] if "alpha" in frame else frame
    found: list[Draw] = []
    y = "held_out_error" if _given(plain, "held_out_error") else "test_error"
    if _given(plain, y):
        grouped, by = _grouped(plain)
        few = "cluster" not in plain or plain["cluster"].nunique() < FEW_SETS
        points = "network" if few else "run"
        found += [
            (
                f"scatter-{name}",
                partial(draw.scatter_figure, grouped, name, y, by=by, points=points),
            )
            for name in measure_columns(plain)
            if _different(plain, name)
        ]
    else:
        found += _function_figures(plain)
    if "alpha" in frame and frame["alpha"].nunique() > 1:
        found.append(("rescaling", lambda: rescaling_figure(rescaling_table(frame))))
    x = next((name for name in ("train_size", "corrupt", "attack") if _different(plain, name)), "")
    if _given(plain, "bound") and x:
        grouped, by = _grouped(plain, x)
        found.append(("bound", partial(draw.bound_figure, grouped, x, by)))
    return found


def _function_figures(frame: pd.DataFrame) -> list[Draw]:
    """ln P(f), sampled if known, against each measure of complexity that varies."""
    y = next((name for name in ("log_p_sampled", "log_p") if _given(frame, name)), None)
    if y is None:
        return []
    return [
        (f"scatter-{name}", partial(draw.scatter_figure, frame, name, y, points="network"))
        for name in measure_columns(frame)
        if MEASURES[name].group in FUNCTION_GROUPS and _different(frame[frame[y].notna()], name)
    ]


def _given(frame: pd.DataFrame, name: str) -> bool:
    return name in frame and bool(np.isfinite(frame[name].to_numpy(float)).any())


def _different(frame: pd.DataFrame, name: str) -> bool:
    """Has the column different finite values?"""
    if name not in frame:
        return False
    value = frame[name].to_numpy(float)
    return len(np.unique(value[np.isfinite(value)])) > 1


def _grouped(frame: pd.DataFrame, x: str = "") -> tuple[pd.DataFrame, str | None]:
    """The table with a column of the settings that vary besides ``x``, and the column's name."""
    by = [name for name in GROUPS if name != x and name in frame and frame[name].nunique() > 1]
    return group_column(frame, by[0] if len(by) == 1 else by or None)
