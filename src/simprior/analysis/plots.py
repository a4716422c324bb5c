"""Draw and write the figures that a run supports (``simprior plot``)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from simprior.analysis import figures_counts as draw
from simprior.analysis import figures_gp, figures_hamming
from simprior.analysis.complexity_stats import EXACT_ROWS, complexity_profile
from simprior.analysis.study_frames import MAIN_TABLES
from simprior.analysis.style import save_figure
from simprior.boolean.counts import FunctionCounts
from simprior.boolean.counts_io import COUNTS
from simprior.boolean.results import load_result
from simprior.boolean.watch_result import WatchResult
from simprior.store import RunDir, RunInfo, load_run
from simprior.store_io import translate_errors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER = "figures"
FORMS = ("pdf", "png")
TITLES = {
    "rank": "Probability against rank",
    "complexity": "Probability against LZ complexity",
    "ones": "Probability of the number of ones",
    "complexity-histogram": "LZ complexity under the prior and of random functions",
}


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
    figures = _figures(path, run)
    subject = provenance(run)
    if out is not None:
        return _write(figures, Path(out), subject)
    with RunDir.attach(path) as store:
        files = _write(figures, path / FOLDER, subject)
        for file in files:
            store.add_file(file.relative_to(path))
        store.save()
    return files


def _figures(path: Path, run: RunInfo) -> Iterator[tuple[str, Figure]]:
    """The figures for the command that made the run."""
    if run.command == "logp":
        return figures_gp.gp_figures(run)
    if run.command == "sensitivity":
        return figures_hamming.sensitivity_figures(path)
    if run.command in ("measure", "correlate", "study"):
        from simprior.analysis.run_figures import run_figures

        return run_figures(path)
    counts = load_result(path, top=EXACT_ROWS)
    if isinstance(counts, WatchResult):
        return iter([("ones", draw.ones_figure(counts))])
    seed = run.manifest.get("seed")
    return count_figures(counts, path / COUNTS, seed if isinstance(seed, int) else 0)


def count_figures(
    counts: FunctionCounts, table: Path | None = None, seed: int = 0
) -> Iterator[tuple[str, Figure]]:
    """(name, figure) of every figure that ``counts`` supports, drawn one after the other.

    ``table`` is the run's Parquet table, needed when ``counts`` holds only its first rows; ``seed``
    is for the uniformly random functions that the histogram compares with.
    """
    yield "rank", draw.rank_figure(counts)
    if counts.m > 1:  # on a single input every function has complexity 0
        profile = complexity_profile(counts, table)
        yield "complexity", draw.complexity_figure(counts, profile)
    if counts.ones[:, 0].any():
        yield "ones", draw.ones_figure(counts)
    if counts.m > 1:
        yield "complexity-histogram", draw.histogram_figure(counts, profile, seed)


def provenance(run: RunInfo) -> str:
    """What made a run, in one line for the metadata of a figure or the comment of a table."""
    config = json.dumps(run.config, sort_keys=True)
    tables = {"logp": figures_gp.TABLE, "sensitivity": figures_hamming.table_of(run)}
    main = next((name for name in (COUNTS, *MAIN_TABLES) if name in run.files), COUNTS)
    table = tables.get(run.command, main)
    digest = run.files.get(table, {}).get("sha256", "unknown")
    version = run.manifest["versions"].get("simprior", "unknown")
    commit = run.manifest.get("git_commit") or "unknown"
    return (
        f"simprior {run.command}, version {version}, commit {commit}, config {config}, "
        f"{table} sha256 {digest}"
    )


def _title(name: str) -> str:
    return (TITLES | figures_gp.TITLES | figures_hamming.TITLES).get(name, name)


def _write(figures: Iterator[tuple[str, Figure]], folder: Path, subject: str) -> list[Path]:
    with translate_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, figure in figures:
        for form in FORMS:
            files.append(folder / f"{name}.{form}")
            save_figure(figure, files[-1], subject, _title(name))
    return files
