"""Recipes of studies: one TOML file that names stages, figures and tables.

Top-level keys: ``title``, ``question``, ``held_against``, ``run_time`` (texts) and ``seed``.
Sections, each a stage that is a run directory ``OUT/<stage>``:

* ``[train]``: a grid exactly as ``simprior sweep`` takes it; ``[sample]``: the same for
  ``simprior sample``, also as a list ``[[sample]]``, each with a ``name``; ``[sensitivity]``:
  keywords of ``simprior sensitivity``;
* ``[logp]``: ln P over many priors, see :mod:`simprior.analysis.study.logp`;
* ``[evidence]``, also a list: findings over data sets, see :mod:`simprior.analysis.evidence`;
* ``[targets]``: complexity and ln P of the targets of the training runs, beside their test errors;
* ``[measure]``: keywords of ``simprior measure``; ``[correlate]``: of ``simprior correlate``, and
  ``where``, a table {column = value or list} of the rows to use (``alpha = "random"``: for every
  network one of its rescalings, drawn). Both may be lists ``[[measure]]``, each with a ``name``,
  and take what stage they read in ``from``.

``[quick]`` has, by the name of a stage, the settings that a short run has in place of the others.
``[[figure]]`` and ``[[table]]`` draw and write what the stages have found into ``OUT/figures`` and
``OUT/tables``; ``OUT/report.html`` shows all of it.

What the stages of a study have found is read here too: their tables, filtered and put together
(:func:`stage_frame`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from simprior import checks
from simprior.analysis.figures.registry import recipe_kinds
from simprior.analysis.table_files import read_frame
from simprior.analysis.text.latex import check_label
from simprior.errors import InputError
from simprior.numerics import random as rng
from simprior.numerics.random import check_seed
from simprior.runs.text_files import read_toml, to_toml

TEXTS = ("title", "question", "held_against", "run_time")
SOURCES = ("sample", "train", "sensitivity", "logp", "evidence")
SEVERAL = ("sample", "evidence")
"""Sources of which there may be several, each with a name."""
DERIVED = ("targets", "measure", "correlate")
FINAL = ("figures", "tables", "report")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,40}\Z")
TABLE_KEYS = ("name", "from", "where", "caption", "label", "columns", "file", "top", "sort")


@dataclass(frozen=True)
class Stage:
    """A step of a study: its directory, what it does, its settings, the stages that it reads."""

    name: str
    kind: str
    config: dict[str, Any]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recipe:
    """A study as its file describes it; ``stages`` in the order in which they run.

    ``source`` is the text of the file; of a ``quick`` study, of one with its settings.
    """

    texts: dict[str, str]
    seed: int
    stages: tuple[Stage, ...]
    source: str
    quick: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the stages, in order."""
        return tuple(stage.name for stage in self.stages)

    def stage(self, name: str) -> Stage:
        """The stage of this name. Raises :class:`InputError`."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise unknown_key("stage", name, self.names)

    def upstream(self, names: Iterable[str]) -> set[str]:
        """The stages ``names`` and everything that they read, directly or not."""
        found: set[str] = set()
        todo = [self.stage(name).name for name in names]
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo += self.stage(name).needs
        return found


def read_recipe(path: Path | str, quick: bool = False) -> Recipe:
    """Read and check a recipe; ``quick``: with the settings of its section ``[quick]``.

    Raises :class:`InputError` (one line) naming what is wrong.
    """
    values, source = read_toml(path, "study")
    values, changed = _in_earnest(values), _quick(values)
    if not quick:
        return parse_recipe(values, source)
    if changed is None:
        raise InputError(f"{path} without [quick]", "settings of a short run", "add the section")
    return replace(parse_recipe(changed, to_toml(changed)), quick=True)


def _in_earnest(values: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe without its section ``[quick]``."""
    return {key: value for key, value in values.items() if key != "quick"}


def _quick(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """The recipe with the settings that ``[quick]`` gives to stages by name; None without it."""
    if "quick" not in values:
        return None
    quick, out, known = _table("quick", values["quick"]), _in_earnest(values), []
    for kind in (*SOURCES, *DERIVED):
        if kind not in out:
            continue
        several = isinstance(out[kind], list)
        entries = []
        for entry in out[kind] if several else [out[kind]]:
            config = _table(kind, entry)
            name = f"{kind}-{config['name']}" if "name" in config else kind
            known.append(name)
            entries.append(config | _table(f"quick.{name}", quick.get(name, {})))
        out[kind] = entries if several else entries[0]
    for name in quick:
        if name not in known:
            raise unknown_key("stage of [quick]", name, known)
    return out


def parse_recipe(values: Mapping[str, Any], source: str = "") -> Recipe:
    """A recipe from the mapping that a TOML file gives. Raises :class:`InputError`."""
    _check_top(values)
    texts = {key: values[key] for key in TEXTS if key in values}
    for key, text in texts.items():
        if not isinstance(text, str):
            raise InputError(f"{key}={text!r}", "a text", "put it between quotes")
    seed = check_seed(values.get("seed", 0))
    stages: list[Stage] = []
    for kind in SOURCES:
        stages += _sources(kind, values[kind]) if kind in values else []
    if not stages:
        sections = ", ".join(f"[{kind}]" for kind in SOURCES)
        raise InputError("a recipe without a source", sections, "add it")
    if "targets" in values:
        config = _table("targets", values["targets"])
        reading = _reading(config, "train", stages)
        if len(reading[1]) != 1:
            raise InputError(f"from={list(reading[1])} of [targets]", "one stage", "name one")
        stages.append(Stage("targets", "targets", *reading))
    for kind, default in (("measure", "train"), ("correlate", "measure")):
        stages += _derived(kind, values.get(kind, []), default, stages)
    stages += _final(values, stages)
    return Recipe(texts, seed, tuple(stages), source)


def _check_top(values: Mapping[str, Any]) -> None:
    """Refuse unknown sections; of a file for another command say which command it is for."""
    known = (*TEXTS, "seed", *SOURCES, *DERIVED, "figure", "table")
    wrong = [key for key in values if key not in known]
    if not wrong:
        return
    sections = [key for key in (*SOURCES, *DERIVED) if isinstance(values.get(key), Mapping | list)]
    remedy = None if sections else _not_a_study(values)
    if remedy is None:
        raise unknown_key("key", wrong[0], known)
    found = f"key {wrong[0]!r} in a recipe of simprior study"
    raise InputError(found, f"sections such as {', '.join(SOURCES)}", remedy)


def _not_a_study(values: Mapping[str, Any]) -> str | None:
    """What to do with a file with these keys, if it is known what else it is."""
    other = "this file is for another command: "
    keys = set(values)
    if keys & {"grid", "optimizers"}:
        return f"{other}simprior sweep FILE --out DIR"
    if "study" in keys or {"functions", "prior_draws"} <= keys:
        kind = values.get("study", "ep")
        return f'put its settings below [logp], with kind = "{kind}" (it was of logp --study)'
    if "networks" in keys and isinstance(values.get("n"), list):
        return f"{other}simprior sensitivity --config FILE --out DIR"
    return None


def _sources(kind: str, given: Any) -> list[Stage]:
    """The stage of a section that reads no other; of ``[[sample]]`` there may be several."""
    if kind not in SEVERAL or not isinstance(given, list):
        return [Stage(kind, kind, _table(kind, given))]
    return [Stage(name, kind, config) for name, config in _named(kind, given)]


def _derived(kind: str, given: Any, default: str, stages: list[Stage]) -> list[Stage]:
    return [
        Stage(name, kind, *_reading(config, default, stages))
        for name, config in _named(kind, given if isinstance(given, list) else [given])
    ]


def _named(kind: str, entries: list[Any]) -> list[tuple[str, dict[str, Any]]]:
    """(name of the stage, its settings) of each section of a kind."""
    out: dict[str, dict[str, Any]] = {}
    for entry in entries:
        config = dict(_table(kind, entry))
        label = config.pop("name", None)
        if label is None and len(entries) > 1:
            raise InputError(f"[[{kind}]] without a name", "a name for each", 'add name = "..."')
        if label is not None and not (isinstance(label, str) and _NAME.match(label)):
            raise InputError(f"name={label!r} in [[{kind}]]", "letters, digits, -", "rename it")
        name = kind if label is None else f"{kind}-{label}"
        if name in out:
            raise InputError(f"stage {name}", "one of each name", "rename one of the two")
        out[name] = config
    return list(out.items())


def _reading(
    config: dict[str, Any], default: str, stages: list[Stage]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """(settings without ``from``, the stages it reads)."""
    config = dict(config)
    names = [stage.name for stage in stages]
    if default not in names:  # the first of its kind, or the first source
        kinds = [stage.name for stage in stages if stage.kind == default]
        default = kinds[0] if kinds else names[0]
    given = config.pop("from", default)
    wanted = given if isinstance(given, list) else [given]
    for name in wanted:
        if name not in names:
            raise unknown_key("stage", str(name), names)
    return config, tuple(wanted)


def _final(values: Mapping[str, Any], stages: list[Stage]) -> list[Stage]:
    """The stages figures, tables and report."""
    figures = _entries("figure", values.get("figure", []), stages)
    for config in figures:
        _check_figure(config)
    tables = _entries("table", values.get("table", []), stages)
    for config in tables:
        for key in config:
            if key not in TABLE_KEYS:
                raise unknown_key("key of [[table]]", key, TABLE_KEYS)
        if "label" in config:
            check_label(str(config["label"]))
    needed = [
        tuple(dict.fromkeys(n for c in part for n in c["from"])) for part in (figures, tables)
    ]
    everything = (*(stage.name for stage in stages), "figures", "tables")
    return [
        Stage("figures", "figures", {"figures": figures}, needed[0]),
        Stage("tables", "tables", {"tables": tables}, needed[1]),
        Stage(
            "report", "report", {"texts": {k: values[k] for k in TEXTS if k in values}}, everything
        ),
    ]


def _entries(kind: str, given: Any, stages: list[Stage]) -> list[dict[str, Any]]:
    if not isinstance(given, list):
        raise InputError(f"[{kind}]", f"a list of them, [[{kind}]]", "double the brackets")
    out: list[dict[str, Any]] = []
    for i, entry in enumerate(given):
        config = dict(_table(f"[{kind}]", entry))
        default = _default_source(config.get("kind", kind), stages)
        config, needs = _reading(config, default, stages)
        fallback = f"{config['kind']}-{i + 1}" if "kind" in config else f"{kind}-{i + 1}"
        name = config.setdefault("name", fallback)
        if not isinstance(name, str) or not _NAME.match(name) or name in {c["name"] for c in out}:
            raise InputError(
                f"name={name!r} in [[{kind}]]",
                "a different name for each, of letters, digits, -",
                "rename it",
            )
        out.append({**config, "from": list(needs)})
    return out


def _default_source(kind: str, stages: list[Stage]) -> str:
    known = recipe_kinds().get(kind)
    default = "correlate" if kind == "table" else "measure"
    wanted = default if known is None else known.reads
    found = [stage.name for stage in stages if stage.kind == wanted]
    return found[0] if found else stages[-1].name


def _check_figure(config: Mapping[str, Any]) -> None:
    kind = str(config.get("kind"))
    known = recipe_kinds()
    if kind not in known:
        raise unknown_key("kind of [[figure]]", kind, known)
    needed, allowed = known[kind].needs, known[kind].takes
    for key in needed:
        if key not in config:
            raise InputError(f"[[figure]] of kind {kind}", f"a key {key}", f"add {key} = ...")
    both = (*needed, *allowed, "kind", "name", "from", "where", "caption")
    for key in config:
        if key not in both:
            raise unknown_key(f"key of [[figure]] of kind {kind}", key, both)


def _table(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"{name}={value!r}", f"a table [{name}]", "correct the file")
    return dict(value)


def unknown_key(what: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a name in a recipe that is not one of ``known``."""
    return checks.unknown(f"{what} {name!r}", name, known, "correct the file")


def parse_recipe_of(out: Path) -> Recipe:
    """The recipe that a study directory was last run with.

    Raises :class:`InputError`, and :class:`StoreError` if it is not as it was registered.
    """
    from simprior.runs.directory import load_run

    return read_recipe(load_run(out).check("recipe.toml"))


RANDOM = "random"


def stage_frame(
    out: Path,
    names: Sequence[str],
    where: Mapping[str, Any] | None = None,
    seed: int = 0,
    file: str | None = None,
) -> pd.DataFrame:
    """Tables of stages below ``out``, one after the other, with their name in a column ``stage``.

    ``where`` keeps the rows with these values (see :func:`select`).
    """
    frames = []
    for name in names:
        frame = read_frame(out / name, file)
        frame.insert(0, "stage", name.partition("-")[2] or name)
        frames.append(frame)
    joined = frames[0] if len(frames) == 1 else pd.concat(frames, ignore_index=True)
    return select(joined, where or {}, seed)


def select(frame: pd.DataFrame, where: Mapping[str, Any], seed: int = 0) -> pd.DataFrame:
    """Rows with the given value (or one of a list) in each named column.

    ``alpha = "random"`` takes, for every network, one of its rescalings at random (uniform, a
    function of ``seed``); the column ``alpha`` then says "random".

    Raises :class:`InputError` for an unknown column or if no row is left.
    """
    where = dict(where)
    drawn = where.get("alpha") == RANDOM
    if drawn:
        del where["alpha"]
    for name, value in where.items():
        if name not in frame:
            raise InputError(f"where.{name}", f"one of {', '.join(frame.columns)}", "correct it")
        frame = frame[frame[name].isin(value if isinstance(value, list) else [value])]
    if drawn:
        frame = _draw_alpha(frame, seed)
    if not len(frame):
        raise InputError(f"where={where}", "values that some row has", "correct the recipe")
    return frame.reset_index(drop=True)


def _draw_alpha(frame: pd.DataFrame, seed: int) -> pd.DataFrame:
    for name in ("alpha", "run", "member"):
        if name not in frame:
            raise InputError('where.alpha="random"', f"a column {name}", "measure several alphas")
    random = rng.generator(seed, "study/alpha")
    frame = frame.sort_values(["run", "member", "alpha"], kind="stable").reset_index(drop=True)
    key = frame.groupby(["run", "member"], sort=False).ngroup().to_numpy()
    first = np.flatnonzero(np.diff(key, prepend=-1))
    size = np.diff(first, append=len(key))
    rows = first + (random.random(len(first)) * size).astype(np.int64)
    return frame.iloc[rows].assign(alpha=RANDOM)
