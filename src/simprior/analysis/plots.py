"""Draw and write the figures that a run supports (``simprior plot``)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from simprior.analysis import figures_counts as draw
from simprior.analysis.complexity_stats import EXACT_ROWS, complexity_profile
from simprior.analysis.style import save_figure
from simprior.boolean.counts import FunctionCounts
from simprior.boolean.counts_io import COUNTS
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
    """Draw all figures of a run with function counts, as PDF and PNG.

    Files go to ``<path>/figures`` and are registered with their hashes in the manifest, or to the
    folder ``out``. Each is written under a temporary name and renamed. The same run gives the same
    bytes again with the same versions of the libraries.

    Returns
    -------
    list of Path
        The files written, PDF before PNG, in the order rank, complexity, ones,
        complexity-histogram.

    Raises
    ------
    StoreError
        Not a complete run with function counts, a damaged file, another process is writing to the
        run, or a file cannot be written.
    """
    path = Path(path)
    counts = FunctionCounts.load(path, top=EXACT_ROWS)
    run = load_run(path)
    seed = run.manifest.get("seed")
    figures = count_figures(counts, path / COUNTS, seed if isinstance(seed, int) else 0)
    subject = provenance(run)
    if out is not None:
        return _write(figures, Path(out), subject)
    with RunDir.attach(path) as store:
        files = _write(figures, path / FOLDER, subject)
        for file in files:
            store.add_file(file.relative_to(path))
        store.save()
    return files


def count_figures(
    counts: FunctionCounts, table: Path | None = None, seed: int = 0
) -> Iterator[tuple[str, Figure]]:
    """(name, figure) of every figure that ``counts`` supports, drawn one after the other.

    ``table`` is the run's Parquet table, needed when ``counts`` holds only its first rows; ``seed``
    is for the uniformly random functions that the histogram compares with.
    """
    yield "rank", draw.rank_figure(counts)
    profile = complexity_profile(counts, table)
    yield "complexity", draw.complexity_figure(counts, profile)
    if counts.ones[:, 0].any():
        yield "ones", draw.ones_figure(counts)
    yield "complexity-histogram", draw.histogram_figure(counts, profile, seed)


def provenance(run: RunInfo) -> str:
    """What made a run, in one line for the metadata of a figure or the comment of a table."""
    config = json.dumps(run.config, sort_keys=True)
    digest = run.files.get(COUNTS, {}).get("sha256", "unknown")
    version = run.manifest["versions"].get("simprior", "unknown")
    commit = run.manifest.get("git_commit") or "unknown"
    return (
        f"simprior {run.command}, version {version}, commit {commit}, config {config}, "
        f"{COUNTS} sha256 {digest}"
    )


def _write(figures: Iterator[tuple[str, Figure]], folder: Path, subject: str) -> list[Path]:
    with translate_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, figure in figures:
        for form in FORMS:
            files.append(folder / f"{name}.{form}")
            save_figure(figure, files[-1], subject, TITLES[name])
    return files
