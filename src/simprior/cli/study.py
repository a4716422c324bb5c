"""``simprior study``: a recipe of stages, from training to the report, run as far as needed."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from simprior.cli.options import ComputeOptions, markdown
from simprior.cli.parse import MaybePath, MaybeText, Texts
from simprior.errors import InputError

if TYPE_CHECKING:
    from simprior.analysis.study.recipe import Recipe
    from simprior.analysis.study.run import Step


@dataclass(frozen=True, kw_only=True)
class StudyCommand(ComputeOptions):
    """Run a study: train or sample, measure, correlate, draw, tabulate, report.

    RECIPE is a TOML file (docs/studies.md). In examples/ these are recipes: architectures,
    boolean-generalisation, bound-corruption, depalma-study, flatness, how-wrong-is-ep, multiplier,
    sensitivity-generalisation, sigma-w, width, width-convergence.
    Every stage is a run directory below --out. With --resume a study goes on where it stopped, also
    with an edited recipe: a stage is run again only if its settings or what it reads have changed.
    The seed is in the recipe.
    """

    recipe: Annotated[Positional[MaybePath], arg(help="TOML file of the study")]
    stages: Annotated[Texts, arg(help="only these stages and what they read")] = None
    only: Annotated[MaybeText, arg(help="only this stage, from what is there")] = None
    quick: Annotated[bool, arg(help="a short run: with the settings of its section [quick]")] = (
        False
    )
    dry_run: Annotated[bool, arg(help="print the plan with the command of each stage")] = False


SPEC = StudyCommand


def run(spec: StudyCommand) -> int:
    """Plan or run; print what is or was done with each stage."""
    from simprior.analysis.study.recipe import read_recipe
    from simprior.analysis.study.run import plan

    if spec.out is None:
        raise InputError("no --out", "a directory for the study", "pass --out results/study")
    assert spec.recipe is not None
    recipe = read_recipe(spec.recipe, spec.quick)
    if spec.dry_run:
        steps = plan(recipe, spec.out, spec.stages, spec.only, spec.recipe)
    else:
        steps = _run(recipe, spec)
    table = [[step.stage, step.action, step.reason] for step in steps]
    parts = [markdown(["stage", "action", "reason"], table)]
    if spec.dry_run:
        parts.append("\n".join(step.command for step in steps))
    summary = {"report": None if spec.dry_run else str(spec.out / "report.html")}
    spec.print_result({"table": [vars(step) for step in steps], "summary": summary}, *parts)
    if spec.dry_run:
        return 0
    logging.getLogger("simprior").info("report: %s", spec.out / "report.html")
    return 0


def _run(recipe: Recipe, spec: StudyCommand) -> list[Step]:
    from simprior.analysis.study.run import Options, run_study

    chosen = spec.chosen("device executor executor_options quiet")
    options = Options(workers=spec.worker_count(), **chosen)
    assert spec.out is not None
    state = spec.chosen("stages only resume overwrite")
    return run_study(recipe, spec.out, options=options, **state)
