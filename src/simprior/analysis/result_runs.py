"""The run directories that analysis writes: of coefficients, of sensitivity, of targets.

The packages that compute return frames and know no text. Here their frames become the tables of a
run directory, as the commands ``correlate`` and ``sensitivity`` and the stages of a study want it.
What computes is imported inside the functions, so that a command loads only what it needs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from simprior.analysis.run_tables import for_paper
from simprior.analysis.strings.records import FITS, LAW, NETWORKS, SUMMARY, SensitivityResult
from simprior.analysis.study.paper_tables import CAPTIONS, write_forms
from simprior.analysis.study.recipe import select, stage_frame
from simprior.analysis.table_files import read_run_table
from simprior.analysis.text.tables import write
from simprior.errors import InputError
from simprior.runs.directory import RunDir, load_run, write_table

if TYPE_CHECKING:
    from simprior.analysis.correlate.correlations import Correlations
    from simprior.analysis.strings.records import SensitivitySettings

_ROWS = "tables/rows.parquet"
TABLES = {
    "correlations": "table",
    "granulated": "granulated",
    "conditional-mi": "conditional_mi",
    "environments": "environments",
    "baselines": "baselines",
}
"""Tables of a run of ``correlate``: file, attribute of ``Correlations``."""


def correlate_into(
    frame: pd.DataFrame,
    options: Mapping[str, Any],
    source: Mapping[str, Any],
    out: Path | str,
    note: str,
    *,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = True,
) -> Correlations:
    """:func:`correlate` into the run directory ``out``; ``source`` says what ``frame`` is from.

    ``options`` are the keywords of :func:`correlate`; ``note`` is the command, kept in the tables.
    With ``resume`` a finished run of the same settings is only read, and one that was stopped goes
    on after the last coefficient that it has.

    Raises :class:`InputError` (nothing is left written), :class:`Interrupted`,
    :class:`StoreError`.
    """
    from simprior.analysis.correlate.correlations import correlations, prepare

    config = {k: v for k, v in options.items() if v is not None} | dict(source)
    table = prepare(frame, **options)
    with RunDir.open(out, "correlate", config, resume=resume, overwrite=overwrite) as store:
        files = list(store.manifest["files"])
        if store.finished(*(name for name in files if name.startswith("tables/"))):
            return read_correlations(store.path)
        try:
            found = correlations(table, store, quiet=quiet)
        except InputError:
            store.clear_shards()
            raise
        store.make_folder("tables")
        write(frame, store.path / _ROWS, "parquet", note)
        files = [store.path / _ROWS]
        for name, attribute in TABLES.items():
            table = getattr(found, attribute)
            if len(table):
                stem = store.path / "tables" / name
                paper = for_paper(table) if name == "correlations" else None
                files += write_forms(table, stem, CAPTIONS[name], f"tab:{name}", note, paper)
        for file in files:
            store.add_file(file)
        totals = {"rows": len(frame), "verdict": found.verdict, "notes": list(found.notes)}
        store.finish(totals)
        store.clear_shards()
    return found


def correlate_stage(
    study: Path,
    sources: Sequence[str],
    config: Mapping[str, Any],
    out: Path,
    *,
    seed: int,
    note: str,
    **options: bool,
) -> list[str]:
    """Correlate the rows of stages below ``study``, as the stage ``[correlate]`` does.

    ``config`` has the keywords of :func:`simprior.analysis.correlate.correlate`, and ``where``
    (:func:`simprior.analysis.study.recipe.select`). ``options`` are resume, overwrite and quiet of
    :func:`correlate_into`. Returns the notes of the run: what was refused, and why.

    Raises :class:`InputError`, :class:`StoreError`.
    """
    where = dict(config.get("where", {}))
    keywords = {"seed": seed, **{k: v for k, v in config.items() if k != "where"}}
    frame = select(stage_frame(study, sources).drop(columns="stage"), where, seed)
    source = {"from": list(sources), "where": where}
    return list(correlate_into(frame, keywords, source, out, note, **options).notes)


def read_correlations(run: Path) -> Correlations:
    """What :func:`correlate_into` has written into the run directory ``run``."""
    from simprior.analysis.correlate.correlations import Correlations

    info, tables = load_run(run), {}
    for name, attribute in TABLES.items():
        file = f"tables/{name}.parquet"
        tables[attribute] = read_run_table(info, file) if file in info.files else pd.DataFrame()
    notes = info.results.get("notes", [])
    controls = info.config.get("controls", ())
    controls = (controls,) if isinstance(controls, str) else tuple(controls)
    return Correlations(
        **tables,
        notes=[str(note) for note in notes],
        y=str(info.config.get("y", "test_error")),
        controls=controls,
    )


def sensitivity(
    study: SensitivitySettings, *, command: str = "", **options: Any
) -> SensitivityResult:
    """Measure distance and flips of random classifiers, summarise, fit, and predict by the GP.

    ``options`` are those of :func:`simprior.analysis.strings.records.run_networks`. The run
    directory ``out`` holds ``networks.parquet`` and ``tables/sensitivity*``; ``command`` is kept as
    a comment in the tables.
    """
    from simprior.analysis.strings.records import run_networks

    return run_networks(study, partial(_save_sensitivity, command=command), **options)


def _save_sensitivity(result: SensitivityResult, store: RunDir, command: str) -> None:
    """Write the tables and close the run."""
    for name, frame in ((NETWORKS, result.rows), (LAW, result.law)):
        store.make_folder(str(Path(name).parent))
        write_table(store.path / name, {c: frame[c].to_numpy() for c in frame})
        store.add_file(name, rows=len(frame))
    for base, frame in ((SUMMARY, result.summary), (FITS, result.fits)):
        stem, paper = store.path / base, for_paper(frame)
        texts = CAPTIONS[stem.name], f"tab:{stem.name}", command
        if len(frame):
            for file in write_forms(frame, stem, *texts, paper):
                store.add_file(file, rows=len(frame))
    totals = {"rows": len(result.rows), "networks": int(result.summary["networks"].sum())}
    store.finish(totals | ({"notes": result.notes} if result.notes else {}))
    store.clear_shards()


def save_trained(
    frame: pd.DataFrame,
    run: Path | str,
    out: Path | str,
    command: str,
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> None:
    """Write the table of :func:`simprior.analysis.strings.records.trained_sensitivity`.

    It goes to ``tables/trained-sensitivity`` (CSV and Parquet) of the run directory ``out``. Raises
    :class:`StoreError`.
    """
    from simprior.analysis.strings.records import TRAINED

    origin = load_run(Path(run))
    config = {"run": str(run), "trained": origin.config, "seed": origin.config.get("seed", 0)}
    with RunDir.open(out, "sensitivity", config, resume=resume, overwrite=overwrite) as store:
        _write_plain(frame, TRAINED, store, command, ("csv", "parquet"))
        store.finish({"members": len(frame)})


def write_targets(
    train: Path,
    out: Path,
    *,
    seed: int,
    draws: int = 1000,
    resume: bool = False,
    overwrite: bool = False,
    note: str = "",
) -> pd.DataFrame:
    """:func:`simprior.analysis.study.settings.target_table` as a run directory ``out``."""
    from simprior.analysis.study.settings import TARGETS, target_table

    config = {"runs": train.name, "seed": seed, "draws": draws}
    with RunDir.open(out, "targets", config, resume=resume, overwrite=overwrite) as store:
        frame = target_table(train, seed, draws)
        _write_plain(frame, TARGETS, store, note, ("parquet", "csv"))
        store.finish({"rows": len(frame)})
    return frame


def _write_plain(
    frame: pd.DataFrame, parquet: str, store: RunDir, note: str, forms: Sequence[str]
) -> None:
    """The table ``parquet`` of a run (its path in the run) in Parquet and CSV, in this order."""
    store.make_folder("tables")
    for form in forms:
        name = f"{parquet.removesuffix('.parquet')}.{form}"
        write(frame, store.path / name, form, note)
        store.add_file(name, rows=len(frame))
