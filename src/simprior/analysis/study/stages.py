"""What each kind of stage does: the same library call as the command of that name.

``RUNNERS[kind](stage, recipe, store, fresh, options)`` runs a stage into its directory below the
study ``store`` (or writes the study's own figures, tables and report) and returns the files of the
latter kind. ``fresh`` is false to continue what was interrupted.
"""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simprior.analysis.correlate.checks import check_numbers
from simprior.analysis.measure.registry import check_names, columns, is_column
from simprior.analysis.measure.sources import check_settings as measure_settings
from simprior.analysis.study.recipe import Recipe, Stage, unknown_key
from simprior.runs.directory import RunDir
from simprior.runs.text_files import to_toml
from simprior.training.settings import settings, text
from simprior.training.sweep import expand
from simprior.training.train import check_settings

if TYPE_CHECKING:
    from simprior.analysis.strings.records import SensitivitySettings

GRID, RECIPE = "grid.toml", "recipe.toml"
_ALONE = ("measure", "sensitivity")  # commands that know all that such a stage may ask for
_RUN_OPTIONS = frozenset({
    "out", "path", "paths", "run", "runs", "source", "frame", "resume", "overwrite", "workers",
    "device", "progress", "quiet", "executor", "executor_options", "argv", "command",
})  # fmt: skip


def grid_of(stage: Stage, recipe: Recipe) -> dict[str, Any]:
    """The grid of a stage ``train`` or ``sample``; without lists it has a single cell."""
    grid = dict(stage.config)
    if "grid" not in grid and "optimizers" not in grid:
        grid["grid"] = {"seed": [grid.pop("seed", recipe.seed)]}
    return grid


@dataclass(frozen=True)
class Options:
    """What does not determine results: workers, device, how much is shown."""

    workers: int = 1
    device: str = "auto"
    executor: str = "local"
    executor_options: dict[str, Any] | None = None
    quiet: bool = True
    keep_cells: bool = False


@dataclass(frozen=True)
class GridStage(Stage):
    """A stage ``train`` or ``sample``: its grid, the settings of every cell, networks to train."""

    grid: Mapping[str, Any] = field(default_factory=dict)
    cells: tuple[dict[str, Any], ...] = ()
    networks: int = 0


@dataclass(frozen=True)
class StringsStage(Stage):
    """A stage ``sensitivity``, as the study of strings that its settings describe."""

    study: SensitivitySettings | None = None


def checked_stage(stage: Stage, recipe: Recipe) -> Stage:
    """The stage with its settings parsed, once for all that is done with it.

    Raises :class:`InputError` for what a stage cannot do, before anything is run.
    """
    given = vars(stage)
    if stage.kind in ("train", "sample"):
        grid = grid_of(stage, recipe)
        cells = tuple(expand(grid))
        networks = 0
        if stage.kind == "sample":
            from simprior.analysis.study.settings import sample_settings
        for cell in cells:
            if stage.kind == "sample":
                sample_settings(cell, recipe.seed)
            else:
                job = settings(cell, recipe.seed)
                check_settings({"network": job.network, "target": job.target, **job.keywords})
                networks += job.runs
        return GridStage(**given, grid=grid, cells=cells, networks=networks)
    if stage.kind == "sensitivity":
        from simprior.analysis.study.settings import sensitivity_study

        return StringsStage(**given, study=sensitivity_study(stage.config, recipe.seed))
    _check_derived(stage, recipe)
    return stage


def _check_derived(stage: Stage, recipe: Recipe) -> None:
    """Raise :class:`InputError` for settings or columns that a stage cannot have."""
    if stage.kind == "targets":
        _check_keys(stage, ("draws",))
    elif stage.kind == "logp":
        from simprior.analysis.study.logp import logp_study

        logp_study(stage.config, recipe.seed)
    elif stage.kind == "measure":
        _check_keys(stage, _keywords(_function("measure")))
        check_names(stage.config.get("measures"))
        known = ("tol", "delta", "zeta", "radius", "noise", "held_out", "networks", "alphas")
        given = {k.replace("-", "_"): v for k, v in stage.config.items()}
        measure_settings(**{k: v for k, v in given.items() if k in known})
    elif stage.kind == "correlate":
        _check_keys(stage, (*_keywords(_function("correlate")), "where"))
        check_numbers(stage.config)
        names = ("y", "by", "controls", "measures")
        _check_columns(stage, recipe, stage.config, names, stage.needs)
    elif stage.kind in ("figures", "tables"):
        for config in stage.config[stage.kind]:
            keys = ("x", "y", "by") if stage.kind == "figures" else ("columns", "sort")
            _check_columns(stage, recipe, config, keys, config["from"])


def _check_columns(
    stage: Stage, recipe: Recipe, config: Mapping[str, Any], keys: Sequence[str], needs: Any
) -> None:
    """Raise :class:`InputError` for a column that no table of ``simprior measure`` has."""
    if any(recipe.stage(name).kind != "measure" for name in needs):
        return
    where = config.get("where", {})
    alphas = {a for name in needs for a in _alphas_of(recipe.stage(name))}
    if isinstance(where.get("alpha"), int | float) and where["alpha"] not in alphas:
        raise unknown_key("where.alpha", str(where["alpha"]), map(str, sorted(alphas)))
    for key, value in [("where", list(where)), *((key, config.get(key, [])) for key in keys)]:
        for name in [value] if isinstance(value, str) else value:
            for part in str(name).split(","):
                if part.strip() and not is_column(part.strip()):
                    raise unknown_key(f"{key} of [{stage.kind}]", part.strip(), columns())


def _alphas_of(stage: Stage) -> list[float]:
    given = stage.config.get("alphas", 1.0)
    return [float(a) for a in (given if isinstance(given, list) else [given])]


def _check_keys(stage: Stage, known: tuple[str, ...]) -> None:
    for key in stage.config:
        if key.replace("-", "_") not in known:
            raise unknown_key(f"key of [{stage.kind}]", key, known)


def _keywords(function: Callable[..., Any]) -> tuple[str, ...]:
    """Names of the settings that a library function takes, without those of a run."""
    parameters = list(inspect.signature(function).parameters.values())
    return tuple(p.name for p in parameters if p.name not in _RUN_OPTIONS)


def _function(kind: str) -> Callable[..., Any]:
    if kind == "measure":
        from simprior.analysis.measure.table import measure_runs

        return measure_runs
    from simprior.analysis.correlate import correlate

    return correlate


def size_of(stage: Stage) -> str:
    """How much there is to do, where the settings say it; else empty."""
    if not isinstance(stage, GridStage):
        return ""
    networks = f", {stage.networks:,} networks" if stage.kind == "train" else ""
    return f", {len(stage.cells)} cells{networks}"


def command_of(stage: Stage, recipe: Recipe, out: Path, file: Path | None = None) -> str:
    """The command line that does a stage alone, when the stages that it reads are there.

    ``file`` is the recipe; without it the copy that a study keeps.
    """
    out = _shown(out)
    if stage.kind == "report":
        return shlex.join(["simprior", "report", str(out)])
    if stage.kind not in _ALONE:
        study = ["simprior", "study", str(out / RECIPE if file is None else file)]
        return shlex.join([*study, "--only", stage.name, "--resume", "--out", str(out)])
    flags = [f for key, value in stage.config.items() for f in _flag(key, value)]
    flags += ["--seed", str(recipe.seed)] if "seed" not in stage.config else []
    sources = [str(out / name) for name in stage.needs]
    return shlex.join(
        ["simprior", stage.kind, *sources, *flags, "--out", str(out / stage.name), "--resume"]
    )  # fmt: skip


def _shown(path: Path) -> Path:
    """``path`` relative to where we are, if it is below."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_absolute() and path.is_relative_to(here) else path


def _flag(key: str, value: Any) -> list[str]:
    name = "--" + key.replace("_", "-")
    if isinstance(value, bool):
        return [name] if value else []
    return [name, text(value)]


def _train(
    stage: GridStage, recipe: Recipe, store: RunDir, fresh: bool, options: Options
) -> list[str]:
    from simprior.training.sweep import run_sweep

    out = store.path / stage.name
    run_sweep(
        stage.grid, out, seed=recipe.seed, resume=not fresh, overwrite=fresh,
        keep_cells=options.keep_cells, quiet=options.quiet, workers=options.workers,
        device=options.device, executor=options.executor,
        executor_options=options.executor_options,
    )  # fmt: skip
    with RunDir.attach(out) as run:
        run.write_file(GRID, to_toml(stage.grid))
        run.save()
    return []


def _sample(
    stage: GridStage, recipe: Recipe, store: RunDir, fresh: bool, options: Options
) -> list[str]:
    from simprior.analysis.study.settings import run_samples

    run_samples(
        stage.cells, store.path / stage.name, seed=recipe.seed, resume=not fresh,
        overwrite=fresh, quiet=options.quiet, workers=options.workers, device=options.device,
        executor=options.executor, executor_options=options.executor_options,
    )  # fmt: skip
    return []


def _targets(
    stage: Stage, recipe: Recipe, store: RunDir, fresh: bool, options: Options
) -> list[str]:
    from simprior.analysis.result_runs import write_targets

    note = command_of(stage, recipe, store.path)
    source, out = store.path / stage.needs[0], store.path / stage.name
    write_targets(
        source, out, seed=recipe.seed, resume=not fresh, overwrite=fresh, note=note, **stage.config
    )
    return []


def _measure(
    stage: Stage, recipe: Recipe, store: RunDir, fresh: bool, options: Options
) -> list[str]:
    from simprior.analysis.measure.table import measure_runs

    given: dict[str, Any] = {
        "out": store.path / stage.name, "resume": not fresh, "overwrite": fresh,
        "workers": options.workers, "device": options.device, "quiet": options.quiet,
        "executor": options.executor, "executor_options": options.executor_options,
        "seed": recipe.seed, **stage.config,
    }  # fmt: skip
    measure_runs([store.path / name for name in stage.needs], **given)
    return []


def _correlate(
    stage: Stage, recipe: Recipe, store: RunDir, fresh: bool, options: Options
) -> list[str]:
    from simprior.analysis.result_runs import correlate_stage

    correlate_stage(
        store.path, stage.needs, stage.config, store.path / stage.name, seed=recipe.seed,
        note=command_of(stage, recipe, store.path), resume=not fresh, overwrite=fresh,
        quiet=options.quiet,
    )  # fmt: skip
    return []


def _sensitivity(
    stage: StringsStage, recipe: Recipe, store: RunDir, fresh: bool, options: Options
) -> list[str]:
    from simprior.analysis.result_runs import sensitivity
    from simprior.runs.tasks import progress_bar

    study = stage.study
    assert study is not None
    total = study.networks * len(study.n)
    with progress_bar(total, "network", quiet=options.quiet) as progress:
        sensitivity(
            study, out=store.path / stage.name, resume=not fresh, overwrite=fresh,
            workers=options.workers, executor=options.executor,
            executor_options=options.executor_options, progress=progress,
            command=command_of(stage, recipe, store.path),
        )  # fmt: skip
    return []


def _logp(stage: Stage, recipe: Recipe, store: RunDir, fresh: bool, options: Options) -> list[str]:
    from simprior.analysis.study.logp import logp_stage

    logp_stage(
        stage.config,
        store.path / stage.name,
        seed=recipe.seed,
        resume=not fresh,
        overwrite=fresh,
        quiet=options.quiet,
        workers=options.workers,
        executor=options.executor,
        executor_options=options.executor_options,
    )
    return []


def _figures(
    stage: Stage, recipe: Recipe, store: RunDir, fresh: bool, options: Options
) -> list[str]:
    from simprior.analysis.study.settings import write_figures

    note = command_of(stage, recipe, store.path)
    return _register(store, write_figures(stage.config["figures"], store.path, note, recipe.seed))


def _tables(
    stage: Stage, recipe: Recipe, store: RunDir, fresh: bool, options: Options
) -> list[str]:
    from simprior.analysis.study.settings import write_tables

    note = command_of(stage, recipe, store.path)
    return _register(store, write_tables(stage.config["tables"], store.path, note, recipe.seed))


def _register(store: RunDir, paths: Any) -> list[str]:
    files = [path.relative_to(store.path).as_posix() for path in paths]
    for name in files:
        store.add_file(name)
    return files


def _report(
    stage: Stage, recipe: Recipe, store: RunDir, fresh: bool, options: Options
) -> list[str]:
    from simprior.analysis.report.run_report import REPORT, build_report

    store.write_file(REPORT, build_report(store.path, store.manifest))
    return [REPORT]


RUNNERS: Mapping[str, Callable[..., list[str]]] = {
    "train": _train, "sample": _sample, "targets": _targets, "sensitivity": _sensitivity,
    "logp": _logp, "measure": _measure, "correlate": _correlate, "figures": _figures,
    "tables": _tables, "report": _report,
}  # fmt: skip
