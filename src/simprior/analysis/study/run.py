"""Running a study: what must be done, doing it, and keeping account of it.

A stage is done again when its settings, the SHA-256 of any file that it reads, or the version of
simprior have changed, or when one of its own files is missing or altered; it is resumed when it was
interrupted, and left alone otherwise. The account is kept in the study's ``manifest.json``
(``results.stages``) and written after every stage, so that a study may be stopped at any moment.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from simprior.analysis.study.recipe import FINAL, Recipe, Stage
from simprior.analysis.study.stages import (
    RECIPE,
    RUNNERS,
    Options,
    checked_stage,
    command_of,
    size_of,
)
from simprior.errors import InputError, StoreError
from simprior.runs.directory import RunDir, load_run
from simprior.runs.files import write_bytes
from simprior.runs.manifest import MANIFEST, now, read_manifest, versions
from simprior.runs.reading import file_problem
from simprior.runs.text_files import plain, to_toml
from simprior.runs.wipe import check_occupied, discard
from simprior.training.settings import files_read

RUN, RESUME, SKIP, LEFT_OUT, MAYBE = "run", "resume", "skip", "left out", "run if needed"
NEW = "new"
GRIDS = ("train", "sample")
_log = logging.getLogger("simprior")


@dataclass(frozen=True)
class Step:
    """What is to be done with a stage, why, and the command that does it alone."""

    stage: str
    action: str
    reason: str
    command: str


def plan(
    recipe: Recipe,
    out: Path | str,
    stages: Sequence[str] | None = None,
    only: str | None = None,
    file: Path | None = None,
) -> list[Step]:
    """What :func:`run_study` would do with each stage, without doing anything.

    ``file``: the recipe's, for the commands; without it the copy in ``out``.

    Raises :class:`InputError` for a stage or a setting that does not exist.
    """
    out = Path(out)
    typed = [checked_stage(stage, recipe) for stage in recipe.stages]
    wanted = selected(recipe, stages, only)
    records = _records(out)
    steps: list[Step] = []
    moved: set[str] = set()
    for stage in typed:
        if stage.name not in wanted:
            action, reason = LEFT_OUT, "not asked for"
        else:
            action, reason = _decide(stage, recipe, out, records)
            reason += size_of(stage)
            changed = [name for name in stage.needs if name in moved]
            if action == SKIP and changed:
                action, reason = MAYBE, f"reads {', '.join(changed)}"
        if action in (RUN, RESUME, MAYBE):
            moved.add(stage.name)
        steps.append(Step(stage.name, action, reason, command_of(stage, recipe, out, file)))
    return steps


def selected(recipe: Recipe, stages: Sequence[str] | None, only: str | None) -> set[str]:
    """The stages to look at: all; ``stages`` with all that they read; or ``only`` one."""
    if only is not None:
        if stages is not None:
            raise InputError("stages and only together", "one of the two", "leave one out")
        return {recipe.stage(only).name}
    return set(recipe.names) if stages is None else recipe.upstream(stages)


def run_study(
    recipe: Recipe,
    out: Path | str,
    *,
    stages: Sequence[str] | None = None,
    only: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    options: Options | None = None,
) -> list[Step]:
    """Run what must be run of a study, and return what was done with each stage.

    Parameters
    ----------
    recipe : Recipe
        From :func:`simprior.analysis.study.recipe.read_recipe`.
    out : path
        Directory of the study, a run directory itself; each stage is one below it.
    stages, only : optional
        These stages and what they read; or exactly one, from what is there.
    resume : bool
        Continue, also with an edited recipe: what has not changed is left alone.
    overwrite : bool
        Do every stage again.

    Raises
    ------
    InputError, StoreError, Interrupted
        Before anything is run where that is possible.
    """
    out, options = Path(out), options or Options()
    typed = [checked_stage(stage, recipe) for stage in recipe.stages]
    wanted = selected(recipe, stages, only)
    if only is not None:
        _check_inputs(recipe.stage(only), _records(out))
    done: list[Step] = []
    with _open(recipe, out, resume=resume, overwrite=overwrite) as store:
        store.write_file(RECIPE, recipe.source)
        store.save()
        records: dict[str, Any] = store.manifest["results"].setdefault("stages", {})
        for stage in typed:
            if stage.name in wanted:
                done.append(_run_stage(stage, recipe, store, records, options))
        for name in [n for n in records if n not in recipe.names]:
            del records[name]
        complete = all(records.get(n, {}).get("status") == "complete" for n in recipe.names)
        if complete:
            store.finish(store.manifest["results"])
        else:
            store.save()
    return done


def _run_stage(
    stage: Stage, recipe: Recipe, store: RunDir, records: dict[str, Any], options: Options
) -> Step:
    command = command_of(stage, recipe, store.path)
    _check_inputs(stage, records)
    action, reason = _decide(stage, recipe, store.path, records)
    if action == SKIP:
        _log.info("%s: %s, skipped", stage.name, reason)
        return Step(stage.name, action, reason, command)
    _log.info("%s: %s (%s)", stage.name, action, reason)
    entry: dict[str, Any] = {
        "fingerprint": fingerprint(stage, recipe, records),
        "status": "running",
        "kind": stage.kind,
        "command": command,
        "files": [],
    }
    if action == RUN and stage.kind not in (*FINAL, *GRIDS):
        discard(store.path / stage.name)  # now: an interruption must not find the old results
    records[stage.name] = entry
    store.save()
    begun = time.monotonic()
    # cells of a grid that an edit did not touch are not trained again
    options = replace(options, keep_cells=reason != NEW)
    files = RUNNERS[stage.kind](stage, recipe, store, action != RESUME, options)
    entry |= {
        "status": "complete",
        "seconds": round(time.monotonic() - begun, 1),
        "finished": now(),
        "files": files,
        "digest": _digest(store, stage, files),
    }
    store.save()
    return Step(stage.name, action, reason, command)


def _check_inputs(stage: Stage, records: Mapping[str, Any]) -> None:
    missing = [n for n in stage.needs if records.get(n, {}).get("status") != "complete"]
    if missing and stage.kind != "report":
        raise StoreError(
            f"stage {stage.name}: {missing[0]}, which it reads, is not complete; "
            "run the study without --only"
        )


def _decide(stage: Stage, recipe: Recipe, out: Path, records: Mapping[str, Any]) -> tuple[str, str]:
    """(what to do, why), from the account and from the files that are there."""
    before = records.get(stage.name)
    if before is None:
        return RUN, NEW
    if before["fingerprint"] != fingerprint(stage, recipe, records):
        return RUN, "its settings or what it reads have changed"
    if before["status"] != "complete":
        return (RUN if _is_complete(out / stage.name) else RESUME), "was interrupted"
    problem = _damaged(out, stage, before)
    return (RUN, problem) if problem else (SKIP, "unchanged")


def _is_complete(folder: Path) -> bool:
    """Whether a stage that is not recorded as done has a finished run: that of earlier settings, or
    its own by a hair. A grid keeps the cells of it that have not changed."""
    try:
        return load_run(folder).status == "complete"
    except StoreError:
        return False


def fingerprint(stage: Stage, recipe: Recipe, records: Mapping[str, Any]) -> str:
    """Hash of all that determines a stage: settings, seed, version, content of what it reads
    (stages, and files named as ``data``, ``inputs`` or ``prior_from``)."""
    inputs = {name: records.get(name, {}).get("digest", "absent") for name in stage.needs}
    value = {
        "kind": stage.kind,
        "config": plain(stage.config),
        "seed": recipe.seed,
        "inputs": inputs,
        "version": versions().get("simprior"),
    }
    read = files_read(stage.config)
    if read:
        value["files"] = read
    if stage.kind == "report":  # it also shows what the stages took
        value["finished"] = {n: records.get(n, {}).get("finished") for n in stage.needs}
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _digest(store: RunDir, stage: Stage, files: Sequence[str]) -> str:
    """Hash over the files of a stage: those of its run directory and of the cells below it."""
    found: dict[str, str] = {}
    if stage.name in FINAL:
        found = {name: store.manifest["files"][name]["sha256"] for name in files}
    else:
        folder = store.path / stage.name
        for path in (folder, *sorted(folder.glob("cells/*"))):
            if (path / MANIFEST).is_file():
                entries = read_manifest(path)["files"]
                found |= {
                    f"{path.name}/{name}": entry["sha256"]
                    for name, entry in entries.items()
                    if name != "report.html" and not name.startswith("figures/")
                }
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def _damaged(out: Path, stage: Stage, record: Mapping[str, Any]) -> str:
    """What is wrong with the files of a finished stage; empty if nothing."""
    if stage.name in FINAL:
        entries = read_manifest(out)["files"]
        for name in record["files"]:
            problem = file_problem(out / name, entries.get(name, {"sha256": ""}))
            if problem:
                return f"{name} {problem}"
        return ""
    folder = out / stage.name
    for path in (folder, *sorted(folder.glob("cells/*"))):
        try:
            run = load_run(path)
        except StoreError:
            return f"{path.relative_to(out)} is not a run directory"
        problems = run.verify()
        if run.status != "complete" or problems:
            return problems[0] if problems else f"{path.relative_to(out)} is not complete"
    return ""


def _records(out: Path) -> dict[str, Any]:
    """The account of the stages of a study, empty where there is none.

    Raises :class:`StoreError` for a manifest that is damaged."""
    if not (out / MANIFEST).is_file():
        return {}
    return dict(read_manifest(out)["results"].get("stages", {}))


def _open(recipe: Recipe, out: Path, *, resume: bool, overwrite: bool) -> RunDir:
    """The study's own run directory; an edited recipe may be resumed."""
    config = {
        **recipe.texts,
        "seed": recipe.seed,
        "stages": {
            stage.name: {**stage.config, "reads": list(stage.needs)}
            for stage in recipe.stages
            if stage.name not in FINAL
        },
    }
    occupied = check_occupied(out, "study", resume=resume, overwrite=overwrite)
    if not (occupied and resume and not overwrite):
        return RunDir.open(out, "study", config, overwrite=overwrite, resume=resume)
    found = read_manifest(out)
    if found["command"] != "study":
        raise StoreError(
            f"{out}: made by 'simprior {found['command']}', not 'simprior study'; "
            "choose another directory with --out"
        )
    store = RunDir.attach(out)
    store.manifest["config"], store.manifest["seed"] = plain(config), recipe.seed
    store.manifest["status"] = "running"
    store.manifest["versions"] = versions()
    write_bytes(store.path / "config.toml", to_toml(plain(config)).encode())
    store.add_file("config.toml")
    store.save()
    store.log("resumed")
    return store
