"""Draw and write the figures that a run supports (``simprior plot``)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from simprior.analysis.figures.counts import count_figures
from simprior.analysis.figures.registry import Drawing, drawings_of, title_of
from simprior.analysis.figures.style import write_figures
from simprior.analysis.strings.run import NETWORKS, TRAINED
from simprior.analysis.study.recipe import parse_recipe_of
from simprior.analysis.study.stages import draw_figure
from simprior.analysis.table_files import MAIN_TABLES
from simprior.boolean.sampling.counts import COUNTS
from simprior.errors import InputError
from simprior.runs.directory import RunDir, RunInfo, load_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FOLDER", "count_figures", "plot_run", "provenance", "run_figures"]

FOLDER = "figures"
_TABLES = (COUNTS, TRAINED, NETWORKS, *MAIN_TABLES)
_WANTED = {
    "study": ("a recipe with figures", "add a [[figure]] to it"),
    "correlate": ("a finite coefficient", "see the notes of the run"),
    "measure": (
        "test errors, or ln P(f), and a measure with different values",
        "measure more networks, or more groups (--measures)",
    ),
}
"""Where nothing can be drawn: what a run of the command must hold, and what to do."""


def plot_run(path: Path | str, out: Path | str | None = None) -> list[Path]:
    """Draw all figures of a run (function counts, or ln P by ``simprior logp``) as PDF and PNG.

    Files go to ``<path>/figures`` and are registered with their hashes in the manifest, or to the
    folder ``out``. Each is written under a temporary name and renamed. The same run gives the same
    bytes again with the same versions of the libraries.

    Returns
    -------
    list of Path
        The files written, PDF before PNG: rank, complexity, ones, complexity-histogram for
        function counts; for ln P sampled-gp and sampled-gp-ratio, or (a study of EP) ep-complexity
        and ep-settings, or (a study of widths) width-convergence; for sensitivity
        nearest-distance, random-flips and flips-law, or trained-sensitivity; for measures
        scatter-<measure>, rescaling and bound; for correlations forest-<coefficient>; for a study
        those of its recipe.

    Raises
    ------
    StoreError
        Not a complete run with something to draw, a damaged file, another process is writing to the
        run, or a file cannot be written.
    InputError
        A table of measures or coefficients in which nothing varies, or a recipe without figures.
    """
    path = Path(path)
    run = load_run(path)
    figures = (
        (name, name if run.command == "study" else title_of(name), figure)
        for name, figure in run_figures(path)
    )
    subject = provenance(run)
    if out is not None:
        return write_figures(figures, Path(out), subject)
    with RunDir.attach(path) as store:
        files = write_figures(figures, path / FOLDER, subject)
        for file in files:
            store.add_file(file.relative_to(path))
        store.save()
    return files


def run_figures(path: Path) -> Iterator[tuple[str, Figure]]:
    """(name, figure) of what ``simprior plot`` draws of a run, drawn one after the other.

    Raises :class:`InputError` for a run with nothing to draw, before the first is drawn.
    """
    run = load_run(path)
    if run.command == "study":
        recipe = parse_recipe_of(path)
        draw = partial(draw_figure, out=path, seed=recipe.seed)
        configs = recipe.stage("figures").config["figures"]
        found = [Drawing(config["name"], partial(draw, config)) for config in configs]
    else:
        found = drawings_of(run, default="sample")
    if not found and run.command in _WANTED:
        raise InputError(f"{path}: nothing to draw", *_WANTED[run.command])
    return ((name, draw()) for name, draw in found)


def provenance(run: RunInfo) -> str:
    """What made a run, in one line for the metadata of a figure or the comment of a table."""
    config = json.dumps(run.config, sort_keys=True)
    table = next((name for name in _TABLES if name in run.files), COUNTS)
    digest = run.files.get(table, {}).get("sha256", "unknown")
    version = run.manifest["versions"].get("simprior", "unknown")
    commit = run.manifest.get("git_commit") or "unknown"
    return (
        f"simprior {run.command}, version {version}, commit {commit}, config {config}, "
        f"{table} sha256 {digest}"
    )
