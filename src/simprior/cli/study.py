"""``simprior study``: a recipe of stages, from training to the report, run as far as needed."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from simprior.cli.common import ComputeOptions
from simprior.cli.output import markdown, print_json, set_up_logging
from simprior.cli.values import MaybePath, MaybeText, Texts
from simprior.errors import InputError

if TYPE_CHECKING:
    from simprior.analysis.study import Recipe
    from simprior.analysis.study_run import Step


@dataclass(frozen=True, kw_only=True)
class StudyCommand(ComputeOptions):
    """Run a study: train or sample, measure, correlate, draw, tabulate, report.

    RECIPE is a TOML file (docs/studies.md). In examples/ these are recipes: boolean-generalisation,
    bound-corruption, depalma-study, flatness, how-wrong-is-ep, sensitivity-generalisation, sigma-w,
    width-convergence.
    Every stage is a run directory below --out. With --resume a study goes on where it stopped, also
    with an edited recipe: a stage is run again only if its settings or what it reads have changed.
    The seed is in the recipe.
    """

    recipe: Annotated[Positional[MaybePath], arg(help="TOML file of the study")]
    stages: Annotated[Texts, arg(help="only these stages and what they read")] = None
    only: Annotated[MaybeText, arg(help="only this stage, from what is there")] = None
    dry_run: Annotated[bool, arg(help="print the plan with the command of each stage")] = False


SPEC = StudyCommand


def run(spec: StudyCommand) -> int:
    """Plan or run; print what is or was done with each stage."""
    set_up_logging(spec.quiet)
    from simprior.analysis.study import read_recipe
    from simprior.analysis.study_run import plan

    if spec.out is None:
        raise InputError("no --out", "a directory for the study", "pass --out results/study")
    assert spec.recipe is not None
    recipe = read_recipe(spec.recipe)
    if spec.dry_run:
        show(plan(recipe, spec.out, spec.stages, spec.only, spec.recipe), spec)
        return 0
    show(_run(recipe, spec), spec)
    logging.getLogger("simprior").info("report: %s", spec.out / "report.html")
    return 0


def _run(recipe: Recipe, spec: StudyCommand) -> list[Step]:
    from simprior.analysis.study_run import Options, run_study

    options = Options(
        workers=spec.worker_count(), device=spec.device, executor=spec.executor,
        executor_options=spec.executor_options, quiet=spec.quiet,
    )  # fmt: skip
    assert spec.out is not None
    return run_study(
        recipe, spec.out, stages=spec.stages, only=spec.only, resume=spec.resume,
        overwrite=spec.overwrite, options=options,
    )  # fmt: skip


def show(steps: list[Step], spec: StudyCommand) -> None:
    """Print the steps as a table, with their commands below, or as JSON."""
    if spec.json:
        print_json([vars(step) for step in steps])
        return
    print(markdown(["stage", "action", "reason"], [[s.stage, s.action, s.reason] for s in steps]))
    if spec.dry_run:
        print()
        print("\n".join(step.command for step in steps))
