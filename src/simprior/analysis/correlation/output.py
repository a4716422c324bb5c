"""Correlations as a run directory: ``simprior correlate``, and the stage of a study."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simprior.analysis.correlation.correlations import Correlations
from simprior.analysis.frames import read_run_table
from simprior.analysis.text.tables import write
from simprior.store import RunDir, load_run
from simprior.store_manifest import MANIFEST

if TYPE_CHECKING:
    import pandas as pd

COMMAND, ROWS = "correlate", "tables/rows.parquet"
TABLES = {
    "correlations": ("table", "Coefficients of each measure with intervals."),
    "granulated": ("granulated", "Granulated rank correlation."),
    "conditional-mi": ("conditional_mi", "Conditional mutual information."),
    "environments": ("environments", "Sign errors over environments."),
    "baselines": ("baselines", "What predicts without a measure, and what measures add."),
}
"""Tables of a run: file, attribute of ``Correlations``, caption."""


def write_correlations(
    found: Correlations, frame: pd.DataFrame, store: RunDir, note: str
) -> list[Path]:
    """Write the tables (LaTeX, CSV, Parquet) and the rows they are of, and close the run."""
    from simprior.analysis.paper_tables import write_forms

    store.make_folder("tables")
    write(frame, store.path / ROWS, "parquet", note)
    files = [store.path / ROWS]
    for name, (attribute, caption) in TABLES.items():
        table = getattr(found, attribute)
        if len(table):
            stem = store.path / "tables" / name
            columns = paper_columns(table) if name == "correlations" else None
            files += write_forms(table, stem, caption, f"tab:{name}", note, columns)
    for file in files:
        store.add_file(file)
    store.finish({"rows": len(frame), "notes": list(found.notes)})
    return files


def paper_columns(table: pd.DataFrame) -> list[str]:
    """Columns of the table of coefficients that a page has room for: groups, measure, numbers,
    Kendall's tau, the partial rank coefficient if there is one, and the adjusted p-values."""
    head = list(table.columns[: list(table.columns).index("measure") + 1])
    kinds = ["kendall", "partial_spearman" if "partial_spearman" in table else "spearman"]
    ends = ("", "_stderr", "_low", "_high")
    tests = [p for p in ("p_adjusted", "partial_p_adjusted") if p in table]
    return [*head, "points", "clusters", *(k + end for k in kinds for end in ends), *tests]


def read_correlations(run: Path) -> Correlations:
    """What :func:`write_correlations` has written below the run directory ``run``."""
    import pandas as pd

    info, tables = load_run(run), {}
    for name, (attribute, _) in TABLES.items():
        file = f"tables/{name}.parquet"
        tables[attribute] = read_run_table(info, file) if file in info.files else pd.DataFrame()
    notes = info.results.get("notes", [])
    return Correlations(**tables, notes=[str(note) for note in notes])


def correlate_into(
    frame: pd.DataFrame, options: Mapping[str, Any], source: Mapping[str, Any], out: Path | str,
    note: str, *, resume: bool = False, overwrite: bool = False, quiet: bool = True,
) -> Correlations:  # fmt: skip
    """:func:`correlate` into the run directory ``out``; ``source`` says what ``frame`` is from.

    With ``resume`` a finished run of the same settings is only read.

    Raises :class:`InputError` (before anything is written), :class:`StoreError`.
    """
    from simprior.analysis.correlation.correlations import correlate

    config = {k: v for k, v in options.items() if v is not None} | dict(source)
    if resume and not overwrite and (Path(out) / MANIFEST).is_file():
        with RunDir.open(out, COMMAND, config, resume=True) as store:
            files = list(store.manifest["files"])
            if store.finished(*(name for name in files if name.startswith("tables/"))):
                return read_correlations(store.path)
    found = correlate(frame, **options, quiet=quiet)
    with RunDir.open(out, COMMAND, config, resume=resume, overwrite=overwrite) as store:
        write_correlations(found, frame, store, note)
    return found
