"""All recipes of the evidence set, and the one table of what they found.

The recipes are the files of ``recipes/``, ordinary ones of ``simprior study``; each is run into a
directory of its own below the run directory of the set. The table has the findings of all studies
that are complete there, corrected together for their number.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from simprior.analysis.evidence.experiments import FINDINGS
from simprior.analysis.evidence.findings import failed_controls, judged
from simprior.analysis.report.page import REPORT, build_report
from simprior.analysis.study.paper_tables import caption_of, write_forms
from simprior.analysis.study.recipe import Recipe, read_recipe
from simprior.analysis.study.run import Step, plan, run_study
from simprior.analysis.study.stages import Options
from simprior.analysis.table_files import read_frame
from simprior.checks import unknown
from simprior.errors import InputError
from simprior.runs.directory import RunDir, load_run
from simprior.runs.manifest import MANIFEST

RECIPES = Path(__file__).parent / "recipes"
COMMAND = "evidence"
PAPER = (
    *("recipe", "claim", "effect", "effect_low", "effect_high", "p_holm"),
    *("slope", "slope_low", "slope_high", "along", "cause", "verdict", "literature", "datasets"),
)
"""Columns of the table as it is printed."""
_log = logging.getLogger("simprior")


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes of the set, in order."""
    return tuple(sorted(path.stem for path in RECIPES.glob("*.toml")))


def chosen_names(only: Sequence[str] | None) -> tuple[str, ...]:
    """The recipes named, in the order of the set; all for None. Raises :class:`InputError`."""
    known = recipe_names()
    for name in only or ():
        if name not in known:
            raise unknown(f"only={name!r}", name, known)
    if only is not None and not only:
        raise InputError("only without a name", f"some of {', '.join(known)}", "name one")
    return known if only is None else tuple(name for name in known if name in only)


def run_evidence(
    out: Path | str,
    *,
    only: Sequence[str] | None = None,
    quick: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    options: Options | None = None,
) -> pd.DataFrame:
    """Run the recipes of the set and give the table of all findings (columns ``PAPER`` and more).

    Parameters
    ----------
    out : path
        Run directory of the set; each study is a directory below it, under the recipe's name.
    only : sequence of str, optional
        Recipes to run. The table also has those that an earlier call completed.
    quick : bool
        With the settings of the recipes' sections ``[quick]``: minutes, and wide intervals.
    resume, overwrite : bool
        Go on with what is there, also with further recipes; or do everything again.
    options : Options, optional
        Workers, executor, how much is shown.

    Raises
    ------
    InputError, StoreError, Interrupted
        A recipe that is not known before anything is run.
    """
    out, names = Path(out), chosen_names(only)
    recipes = {name: read_recipe(RECIPES / f"{name}.toml", quick) for name in recipe_names()}
    config = {"title": "The evidence set", "quick": quick}
    with RunDir.open(out, COMMAND, config, resume=resume, overwrite=overwrite) as store:
        store.manifest["status"] = "running"
        store.save()
        for name in names:
            _log.info("%s: %s", name, recipes[name].texts["question"])
            where = store.path / name
            run_study(recipes[name], where, resume=resume, overwrite=overwrite, options=options)
        frame = collected(store.path, recipes)
        note = f"simprior evidence --out {out.name}{' --quick' if quick else ''}"
        store.make_folder("tables")
        stem = store.path / FINDINGS.removesuffix(".parquet")
        for path in write_forms(
            frame, stem, caption_of(FINDINGS), "tab:evidence", note, frame[list(PAPER)], keep=True
        ):
            store.add_file(path)
        store.finish({"verdict": verdict(frame), "notes": notes(frame, quick)})
        store.write_file(REPORT, build_report(store.path, store.manifest))
        store.save()
    return frame


def plan_evidence(
    out: Path | str, only: Sequence[str] | None = None, quick: bool = False
) -> list[Step]:
    """What :func:`run_evidence` would do with each stage, as ``recipe/stage``; nothing is done."""
    steps = []
    for name in chosen_names(only):
        file = RECIPES / f"{name}.toml"
        for step in plan(read_recipe(file, quick), Path(out) / name, file=file):
            steps.append(replace(step, stage=f"{name}/{step.stage}"))
    return steps


def collected(out: Path, recipes: dict[str, Recipe]) -> pd.DataFrame:
    """Findings of all complete studies below ``out``, judged together, with their ``recipe``.

    Raises :class:`StoreError` for files that are damaged.
    """
    parts = []
    for name, recipe in recipes.items():
        folder = out / name
        if not (folder / MANIFEST).is_file() or load_run(folder).status != "complete":
            continue
        for stage in recipe.stages:
            if stage.kind == "evidence":
                parts.append(read_frame(folder / stage.name, FINDINGS).assign(recipe=name))
    joined = pd.concat(parts, ignore_index=True)
    frame = judged(joined)
    frame.insert(0, "recipe", joined["recipe"])
    return frame


def verdict(frame: pd.DataFrame) -> str:
    """How many findings agree, and whether all controls are null."""
    controls = frame["source"] == "control"
    counts = [(frame["verdict"] == name).sum() for name in ("agrees", "opposite", "not shown")]
    null = controls.sum() - len(failed_controls(frame))
    return (
        f"{counts[0]} of {(~controls).sum()} contrasts agree with the literature, {counts[1]} "
        f"contradict it, {counts[2]} are not shown; "
        f"{null} of {controls.sum()} negative controls are null."
    )


def notes(frame: pd.DataFrame, quick: bool) -> list[str]:
    """What a reader must know: controls that failed, and that a run was short."""
    found = [f"the control is not null: {claim}" for claim in failed_controls(frame)]
    return found + (["a quick run: fewer data sets, wider intervals"] if quick else [])
