"""What each kind of stage does: the same library call as the command of that name.

``RUNNERS[kind](stage, recipe, store, fresh, options)`` runs a stage into its directory below the
study ``store`` (or writes the study's own figures, tables and report) and returns the files of the
latter kind. ``fresh`` is false to continue what was interrupted.

The figures and tables that a recipe asks for are made here too, from what its stages have found.
"""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from simprior.analysis.correlate.checks import check_numbers
from simprior.analysis.figures import style
from simprior.analysis.figures.marks import group_column
from simprior.analysis.figures.registry import recipe_kinds
from simprior.analysis.measure.registry import check_names, columns, is_column
from simprior.analysis.measure.settings import NAMES as MEASURE
from simprior.analysis.measure.settings import MeasureSettings
from simprior.analysis.strings.settings import LAW, StringsSettings, module_law
from simprior.analysis.strings.settings import NAMES as STRINGS
from simprior.analysis.study.paper_tables import write_forms
from simprior.analysis.study.recipe import Recipe, Stage, stage_frame, unknown_key
from simprior.checks import unknown
from simprior.errors import InputError
from simprior.modules.spec import Module
from simprior.runs.directory import RunDir
from simprior.runs.files import translate_errors
from simprior.runs.tasks import RunKeywords
from simprior.runs.text_files import to_toml
from simprior.training.settings import MODULE, settings, text
from simprior.training.sweep import expand
from simprior.training.train import check_settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GRID, RECIPE = "grid.toml", "recipe.toml"
_ALONE = ("measure", "sensitivity")  # commands that know all that such a stage may ask for
_RUN_OPTIONS = frozenset(("frame", "out", "resume", "overwrite", "quiet", "progress"))
"""Keywords of ``correlate`` and of its run that no recipe sets."""


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
    """A stage ``sensitivity``, with its settings as the command takes them."""

    settings: StringsSettings | None = None


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
            from simprior.analysis.table_runs import sample_settings
        for cell in cells:
            if stage.kind == "sample":
                sample_settings(cell, recipe.seed)
            else:
                job = settings(cell, recipe.seed)
                check_settings({"problem": job.network, "target": job.target, **job.keywords})
                networks += job.runs
        return GridStage(**given, grid=grid, cells=cells, networks=networks)
    if stage.kind == "sensitivity":
        return StringsStage(**given, settings=strings_settings(stage.config, recipe.seed))
    _check_derived(stage, recipe)
    return stage


def _check_derived(stage: Stage, recipe: Recipe) -> None:
    """Raise :class:`InputError` for settings or columns that a stage cannot have."""
    if stage.kind == "targets":
        _check_keys(stage, ("draws",))
    elif stage.kind == "logp":
        from simprior.analysis.study.logp import logp_study

        logp_study(stage.config, recipe.seed)
    elif stage.kind == "evidence":
        from simprior.analysis.evidence.experiments import experiment

        experiment(stage.config, recipe.seed)
    elif stage.kind == "measure":
        _check_keys(stage, MEASURE)
        check_names(stage.config.get("measures"))
        MeasureSettings(**_keywords(stage.config))
    elif stage.kind == "correlate":
        _check_keys(stage, (*_correlate_keywords(), "where"))
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


def _keywords(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by the names of keywords: a recipe may write them as flags."""
    return {key.replace("-", "_"): value for key, value in config.items()}


def _correlate_keywords() -> tuple[str, ...]:
    """Names of the settings of ``correlate``, without those of a run."""
    from simprior.analysis.correlate import correlate

    parameters = list(inspect.signature(correlate).parameters.values())
    return tuple(p.name for p in parameters if p.name not in _RUN_OPTIONS)


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
        study += ["--quick"] if recipe.quick and file is not None else []
        return shlex.join([*study, "--only", stage.name, "--resume", "--out", str(out)])
    flags = [f for key, value in stage.config.items() for f in _flag(key, value)]
    flags += ["--seed", str(recipe.seed)] if "seed" not in stage.config else []
    sources = [str(out / name) for name in stage.needs]
    return shlex.join(
        ["simprior", stage.kind, *sources, *flags, "--out", str(out / stage.name), "--resume"]
    )


def _shown(path: Path) -> Path:
    """``path`` relative to where we are, if it is below."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_absolute() and path.is_relative_to(here) else path


def _flag(key: str, value: Any) -> list[str]:
    name = "--" + key.replace("_", "-")
    if isinstance(value, bool):
        return [name] if value else []
    return [name, text(value)]


def _running(stage: Stage, store: RunDir, fresh: bool, options: Options) -> RunKeywords:
    """How a stage is run and where, as keywords of what computes it."""
    return {
        "out": store.path / stage.name,
        "resume": not fresh,
        "overwrite": fresh,
        "workers": options.workers,
        "executor": options.executor,
        "executor_options": options.executor_options,
    }


def _train(
    stage: GridStage, recipe: Recipe, store: RunDir, fresh: bool, options: Options
) -> list[str]:
    from simprior.training.sweep import run_sweep

    running: dict[str, Any] = {**_running(stage, store, fresh, options)}
    run_sweep(
        stage.grid,
        running.pop("out"),
        seed=recipe.seed,
        keep_cells=options.keep_cells,
        quiet=options.quiet,
        device=options.device,
        **running,
    )
    with RunDir.attach(store.path / stage.name) as run:
        run.write_file(GRID, to_toml(stage.grid))
        run.save()
    return []


def _sample(
    stage: GridStage, recipe: Recipe, store: RunDir, fresh: bool, options: Options
) -> list[str]:
    from simprior.analysis.table_runs import run_samples

    running: dict[str, Any] = {**_running(stage, store, fresh, options)}
    run_samples(
        stage.cells,
        running.pop("out"),
        seed=recipe.seed,
        quiet=options.quiet,
        device=options.device,
        **running,
    )
    return []


def _targets(
    stage: Stage, recipe: Recipe, store: RunDir, fresh: bool, options: Options
) -> list[str]:
    from simprior.analysis.table_runs import write_targets

    note = command_of(stage, recipe, store.path)
    source, out = store.path / stage.needs[0], store.path / stage.name
    write_targets(
        source, out, seed=recipe.seed, resume=not fresh, overwrite=fresh, note=note, **stage.config
    )
    return []


def _measure(
    stage: Stage, recipe: Recipe, store: RunDir, fresh: bool, options: Options
) -> list[str]:
    from simprior.analysis.measure.table import measure

    running: dict[str, Any] = {**_running(stage, store, fresh, options)}
    given = {"seed": recipe.seed, "device": options.device, **_keywords(stage.config)}
    measure([store.path / name for name in stage.needs], quiet=options.quiet, **given, **running)
    return []


def _correlate(
    stage: Stage, recipe: Recipe, store: RunDir, fresh: bool, options: Options
) -> list[str]:
    from simprior.analysis.table_runs import correlate_stage

    correlate_stage(
        store.path,
        stage.needs,
        stage.config,
        store.path / stage.name,
        seed=recipe.seed,
        note=command_of(stage, recipe, store.path),
        resume=not fresh,
        overwrite=fresh,
        quiet=options.quiet,
    )
    return []


def _sensitivity(
    stage: StringsStage, recipe: Recipe, store: RunDir, fresh: bool, options: Options
) -> list[str]:
    from simprior.analysis.table_runs import sensitivity
    from simprior.runs.tasks import progress_bar

    settings = stage.settings
    assert settings is not None
    command = command_of(stage, recipe, store.path)
    with progress_bar(settings.total, "network", quiet=options.quiet) as progress:
        running = _running(stage, store, fresh, options)
        sensitivity(settings, command=command, progress=progress, **running)
    return []


def _logp(stage: Stage, recipe: Recipe, store: RunDir, fresh: bool, options: Options) -> list[str]:
    from simprior.analysis.study.logp import logp_stage

    running: dict[str, Any] = {**_running(stage, store, fresh, options)}
    logp_stage(stage.config, running.pop("out"), seed=recipe.seed, quiet=options.quiet, **running)
    return []


def _evidence(
    stage: Stage, recipe: Recipe, store: RunDir, fresh: bool, options: Options
) -> list[str]:
    from simprior.analysis.evidence.experiments import evidence_stage

    running: dict[str, Any] = {**_running(stage, store, fresh, options)}
    out = running.pop("out")
    evidence_stage(stage.config, out, seed=recipe.seed, quiet=options.quiet, **running)
    return []


def _figures(
    stage: Stage, recipe: Recipe, store: RunDir, fresh: bool, options: Options
) -> list[str]:
    note = command_of(stage, recipe, store.path)
    return _register(store, write_figures(stage.config["figures"], store.path, note, recipe.seed))


def _tables(
    stage: Stage, recipe: Recipe, store: RunDir, fresh: bool, options: Options
) -> list[str]:
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
    from simprior.analysis.report.page import REPORT, build_report

    store.write_file(REPORT, build_report(store.path, store.manifest))
    return [REPORT]


def strings_settings(values: Mapping[str, Any], seed: int = 0) -> StringsSettings:
    """What a stage ``[sensitivity]`` says, with the defaults of ``simprior sensitivity``.

    Raises :class:`InputError`.
    """
    values = {key.replace("-", "_"): value for key, value in values.items()}
    for key in values:
        if key not in (*STRINGS, *MODULE):
            raise unknown_key("key of [sensitivity]", key, (*STRINGS, *MODULE))
    if "n" not in values:
        raise InputError("[sensitivity] without n", "lengths of strings", "add n = [100, 200]")
    n = values.pop("n")
    law = {key: values.pop(key) for key in (*LAW, *MODULE) if key in values}
    given = {"seed": seed, **values, "n": tuple(n) if isinstance(n, list) else (n,)}
    if law.keys() & {"module", "architecture"}:
        module = settings(module_law(law)).network
        assert isinstance(module, Module)
        return StringsSettings(module=module, **given)
    network = settings(law).network
    return StringsSettings(**given, **{key: getattr(network, key) for key in law})


def draw_figure(config: Mapping[str, Any], out: Path, seed: int = 0) -> Figure:
    """One ``[[figure]]`` of a recipe, from the stages below ``out``. Raises InputError."""
    kind = recipe_kinds()[str(config["kind"])]
    names = [str(name) for name in config["from"]]
    options = {key: config[key] for key in (*kind.needs, *kind.takes) if key in config}
    if kind.whole:
        return kind.draw(out / names[0], **options)
    frame = stage_frame(out, names, config.get("where"), seed)
    if "by" in options:
        frame, options["by"] = group_column(frame, options["by"])
    return kind.draw(frame, **options)


def title_of(config: Mapping[str, Any]) -> str:
    """The title of a ``[[figure]]`` in the metadata of its files: its caption, or its name."""
    return str(config.get("caption", config["name"]))


def write_figures(configs: list[dict[str, Any]], out: Path, note: str, seed: int = 0) -> list[Path]:
    """Draw every figure of a recipe into ``out/figures`` as PDF and PNG; ``note`` is metadata."""
    drawn = (
        (config["name"], title_of(config), draw_figure(config, out, seed)) for config in configs
    )
    return style.write_figures(drawn, out / "figures", note)


def recipe_table(config: Mapping[str, Any], out: Path, seed: int = 0) -> pd.DataFrame:
    """One ``[[table]]`` of a recipe. Raises :class:`InputError` for an unknown column."""
    names, where = list(config["from"]), config.get("where")
    frame = stage_frame(out, names, where, seed, config.get("file"))
    if config.get("file") is None and len(config["from"]) == 1:
        frame = frame.drop(columns="stage")
    if "sort" in config:
        _check_names(frame, [config["sort"]])
        frame = frame.sort_values(config["sort"], kind="stable")
    if "columns" in config:
        _check_names(frame, config["columns"])
        frame = frame[list(config["columns"])]
    return frame.head(int(config["top"])) if "top" in config else frame


def _check_names(frame: pd.DataFrame, names: list[str]) -> None:
    for name in names:
        if name not in frame:
            raise unknown(f"columns={name}", name, frame.columns)


def write_tables(
    configs: list[dict[str, Any]], out: Path, note: str, seed: int = 0
) -> Iterator[Path]:
    """Write every table of a recipe into ``out/tables`` as LaTeX, CSV and Parquet."""
    folder = out / "tables"
    with translate_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for config in configs:
        frame = recipe_table(config, out, seed)
        caption = str(config.get("caption", config["name"]))
        label = str(config.get("label", f"tab:{config['name']}"))
        stem = folder / str(config["name"])
        yield from write_forms(frame, stem, caption, label, note, keep="columns" in config)


RUNNERS: Mapping[str, Callable[..., list[str]]] = {
    "train": _train,
    "sample": _sample,
    "targets": _targets,
    "sensitivity": _sensitivity,
    "logp": _logp,
    "evidence": _evidence,
    "measure": _measure,
    "correlate": _correlate,
    "figures": _figures,
    "tables": _tables,
    "report": _report,
}
