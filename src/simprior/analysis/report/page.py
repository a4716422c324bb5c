"""``report.html`` of a study or of any run: figures, sortable tables, what was run, with what.

A report is built from the files of a run directory alone, and can be built again at any time
(:func:`build_report`). It is one self-contained page: style, script and data are inside, and it
asks nothing of the network.

The parts of a page are the macros of ``page.html.j2``. Each function for a part (:func:`figure`,
:func:`notes`, ...) returns Markup, that is HTML in which everything it was given has been escaped.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from markupsafe import Markup

from simprior.analysis.figures.style import name_of
from simprior.analysis.study.paper_tables import (
    NAMED,
    caption_of,
    functions_caption,
    headings,
    named,
    words,
)
from simprior.analysis.table_files import MAIN_TABLES, NoRows, read_registered
from simprior.analysis.text.html import table, templates
from simprior.errors import InputError
from simprior.runs.directory import RunDir, RunInfo, load_run
from simprior.runs.manifest import MANIFEST
from simprior.runs.text_files import to_toml

if TYPE_CHECKING:
    from simprior.analysis.study.recipe import Recipe

REPORT = "report.html"
TOP = 20
RAW, RAW_ROWS = ("networks.parquet", "tables/rows.parquet", "tables/sensitivity-gp.parquet"), 200
"""Tables of single rows, which come last, folded and cut: their summaries are what is read."""


def write_report(path: Path | str) -> Path:
    """Build ``report.html`` of a run directory and register it. Raises :class:`StoreError`."""
    path = Path(path)
    text = build_report(path)
    with RunDir.attach(path) as store:
        file = store.write_file(REPORT, text)
        store.save()
    return file


def build_report(path: Path | str, manifest: Mapping[str, Any] | None = None) -> str:
    """The page as text; ``manifest`` in place of the stored one while a study is running."""
    path = Path(path)
    run = load_run(path)
    shown = dict(manifest or run.manifest)
    parts = {"study": _study_sections, "evidence": _evidence_sections}.get(run.command)
    sections = list(_run_sections(run) if parts is None else parts(path, shown))
    sections.append(_manifest_section(path, shown))
    config = shown["config"]
    title = config.get("title") or f"simprior {run.command}: {path.resolve().name}"
    return page(Page(title, config.get("question", ""), sections, _facts(shown)))


def _facts(manifest: Mapping[str, Any]) -> dict[str, str]:
    versions, stages = manifest["versions"], manifest["results"].get("stages", {})
    seconds = sum(entry.get("seconds", 0.0) for entry in stages.values())
    facts = {
        "made by": f"simprior {versions.get('simprior', '')} {manifest['command']}",
        "commit": (manifest.get("git_commit") or "not recorded")[:12],
        "seed": str(manifest.get("seed")),
        "finished": str(manifest["updated"]),
    }
    return facts | ({"stages took": _duration(seconds)} if seconds else {})


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _study_sections(path: Path, manifest: Mapping[str, Any]) -> Iterator[Section]:
    from simprior.analysis.study.recipe import parse_recipe_of

    recipe = parse_recipe_of(path)
    if {"held_against", "run_time"} & set(recipe.texts):
        yield _background(recipe)
    verdicts = [
        f"{stage.name}: {text}" for stage in recipe.stages if (text := _verdict(path / stage.name))
    ]
    if verdicts:
        yield Section("Verdicts", "verdict", Markup().join(map(paragraph, verdicts)))
    pictures = [
        _figure(path, config["name"], config.get("caption", config["name"]))
        for config in recipe.stage("figures").config["figures"]
    ]
    if any(pictures):
        yield Section("Figures", "figures", figures(pictures))
    moved = _rescaling(recipe, path)
    if moved:
        yield Section("What rescaling changes", "rescaling", moved)
    tables = [
        _table(path, f"tables/{config['name']}.parquet", config.get("caption", config["name"]))
        for config in recipe.stage("tables").config["tables"]
    ]
    if any(tables):
        yield Section("Tables", "tables", Markup().join(tables))
    remarks = list(_notes(recipe, path))
    if remarks:
        yield Section("Notes and refused coefficients", "notes", notes(remarks))
    recipe_text = code(recipe.source, "The recipe")
    yield Section("What was run", "run", _stages(manifest) + recipe_text)


def _evidence_sections(path: Path, manifest: Mapping[str, Any]) -> Iterator[Section]:
    """The table of all findings first; then each study's figures, and where its report is."""
    from simprior.analysis.study.recipe import parse_recipe_of

    results = manifest["results"]
    file = "tables/findings.parquet"
    yield Section(
        "What was found",
        "findings",
        paragraph(results.get("verdict", ""))
        + _table(path, file, caption_of(file), drop=("finding", "source", "expected")),
    )
    if results.get("notes"):
        yield Section("Notes", "notes", notes(results["notes"]))
    for folder in sorted(path.iterdir()):
        if not (_complete(folder) and load_run(folder).command == "study"):
            continue
        recipe = parse_recipe_of(folder)
        body = paragraph(recipe.texts.get("question", ""))
        body += figures(
            _figure(folder, config["name"], config.get("caption", config["name"]), folder.name)
            for config in recipe.stage("figures").config["figures"]
        )
        body += paragraph(f"The whole study: {folder.name}/{REPORT}")
        yield Section(recipe.texts.get("title", folder.name), folder.name, body)


def _verdict(folder: Path) -> str:
    """The sentence that a stage draws from its intervals; empty if it draws none."""
    return str(load_run(folder).results.get("verdict", "")) if _complete(folder) else ""


def _background(recipe: Recipe) -> Section:
    body = paragraph(recipe.texts.get("held_against", ""))
    if "run_time" in recipe.texts:
        body += paragraph(f"Expected run time: {recipe.texts['run_time']}")
    return Section("Held against", "held-against", body)


def _figure(path: Path, name: str, caption: str, below: str = "") -> Markup:
    """A figure of a run; ``below``: its directory as seen from the page, if that is another."""
    file = f"figures/{name}.png"
    run = load_run(path)
    if file not in run.files:
        return Markup()
    prefix = f"{below}/" if below else ""
    links = [f"{prefix}figures/{name}.{form}" for form in ("pdf", "png")]
    return figure(name, run.read_bytes(file), words(caption), links)


def _table(
    path: Path, file: str, caption: str, folded: bool = False, drop: Sequence[str] = ()
) -> Markup:
    run = (path / MANIFEST).is_file()
    if not (file in load_run(path).files if run else (path / file).is_file()):
        return Markup()
    try:
        frame = named(read_registered(path, file).drop(columns=list(drop)))
    except NoRows:  # the predicted flips of modules, say, of which there are none
        return Markup()
    for column in NAMED:
        if column in frame and frame[column].dtype.kind not in "fiu":
            frame[column] = [words(str(value)) for value in frame[column]]
    names = {name: words(text) for name, text in headings(frame).items()}
    if not folded:
        return table(frame, words(caption), names)
    shown = table(frame, file, names, RAW_ROWS)
    return fold(f"{words(caption)} ({len(frame):,} rows)", shown)


def _rescaling(recipe: Recipe, path: Path) -> Markup:
    """Which measures moved under alpha-rescaling, for every measure stage that has several."""
    from simprior.analysis.measure.table import rescaling_table
    from simprior.analysis.study.recipe import stage_frame

    body = Markup()
    for stage in recipe.stages:
        if stage.kind != "measure":
            continue
        if not _complete(path / stage.name):
            continue
        try:
            frame = rescaling_table(stage_frame(path, [stage.name]))
        except InputError:  # one alpha only
            continue
        changed = float(frame["function_changed"].max())
        still = sorted({name_of(m) for m in frame.loc[frame["moved"] == 0, "measure"]})
        moved = sorted({name_of(m) for m in frame.loc[frame["moved"] > 0.5, "measure"]})
        body += paragraph(
            "Relu layers were multiplied by α and divided again one layer on. The function changed "
            f"in {100 * changed:g} % of the networks. Unchanged: {words(', '.join(still))}. "
            f"Changed in most networks: {words(', '.join(moved)) or 'none'}."
        )
        frame = frame.assign(measure=[words(name_of(m)) for m in frame["measure"]])
        body += table(frame, f"Value after rescaling over value before ({stage.name}).")
    return body


def _complete(folder: Path) -> bool:
    return (folder / MANIFEST).is_file() and load_run(folder).status == "complete"


def _notes(recipe: Recipe, path: Path) -> Iterator[str]:
    """Remarks that the stages left: coefficients that were refused, and why."""
    for stage in recipe.stages:
        if not (path / stage.name / MANIFEST).is_file():
            continue
        for note in load_run(path / stage.name).results.get("notes", []):
            yield f"{stage.name}: {note}"


def _stages(manifest: Mapping[str, Any]) -> Markup:
    entries = manifest["results"].get("stages", {})
    missing = {"status": "", "seconds": float("nan"), "finished": ""}
    rows = [
        {"stage": name, **{key: entry.get(key, missing[key]) for key in missing}}
        for name, entry in entries.items()
        if name != "report"
    ]
    commands = "\n".join(e.get("command", "") for e in entries.values())
    return table(pd.DataFrame(rows), "Stages, in order.") + code(commands)


def _run_sections(run: RunInfo) -> Iterator[Section]:
    """Figures, tables and totals of a run that is no study."""
    files = list(run.files)
    if "verdict" in run.results:
        yield Section("Verdict", "verdict", paragraph(run.results["verdict"]))
    pictures = [
        _figure(run.path, Path(name).stem, Path(name).stem)
        for name in files
        if name.startswith("figures/") and name.endswith(".png")
    ]
    if pictures:
        yield Section("Figures", "figures", figures(pictures))
    tables = _in_order(files)
    body = Markup().join(
        _table(run.path, name, caption_of(name), name in RAW and len(tables) > 1) for name in tables
    )
    if "counts.parquet" in run.files and run.status == "complete":
        body = _counts(run.path) + body
    if body:
        yield Section("Tables", "tables", body)
    remarks = run.results.get("notes", [])
    if remarks:
        yield Section("Notes and refused coefficients", "notes", notes(remarks))
    numbers = (int, float, str)
    totals = {k: v for k, v in run.results.items() if isinstance(v, numbers) and k != "verdict"}
    yield Section("Totals", "totals", definitions(totals))


def _in_order(files: list[str]) -> list[str]:
    """Tables of a run: the main one first, raw rows last; CSV where there is no Parquet."""
    tables = [name for name in files if name.endswith(".parquet") and name != "counts.parquet"]
    stems = {name.removesuffix(".parquet") for name in tables}
    tables += [n for n in files if n.endswith(".csv") and n.removesuffix(".csv") not in stems]
    return sorted(tables, key=lambda name: (name in RAW, name not in MAIN_TABLES))


def _counts(path: Path) -> Markup:
    from simprior.boolean.sampling.counts import FunctionCounts

    counts = FunctionCounts.load(path, top=TOP)
    frame = counts.to_frame(top=TOP)
    return table(frame, functions_caption(counts, len(frame)))


def _manifest_section(path: Path, manifest: Mapping[str, Any]) -> Section:
    body = definitions(manifest["versions"])
    body += code(" ".join(map(str, manifest.get("argv", []))))
    body += code(to_toml(manifest["config"]), "Configuration (config.toml)")
    files = [
        {"file": name, "bytes": entry["bytes"], "sha256": entry["sha256"]}
        for name, entry in manifest["files"].items()
        if name != REPORT
    ]
    if files:
        body += table(pd.DataFrame(files), "Files and their hashes.")
    rest = {k: manifest[k] for k in ("conventions", "options", "device") if k in manifest}
    body += code(json.dumps(rest, indent=1, ensure_ascii=False), "Conventions and options")
    return Section("Manifest", "manifest", body)


# The parts of a page

_MACROS: Any = templates(Path(__file__).parent).get_template("page.html.j2").module


@dataclass(frozen=True)
class Section:
    """A heading with its content; ``anchor`` is where the contents point to.

    A ``body`` that is no Markup is shown as text.
    """

    title: str
    anchor: str
    body: str


@dataclass(frozen=True)
class Page:
    """A report: its title, a line below it, its sections in order."""

    title: str
    subtitle: str
    sections: Sequence[Section]
    facts: Mapping[str, str] = field(default_factory=dict)


def page(content: Page) -> str:
    """The whole document."""
    return str(_MACROS.page(content))


def definitions(values: Mapping[str, Any]) -> Markup:
    """Names with their values."""
    return Markup(_MACROS.definitions(values))


def figure(name: str, png: bytes, caption: str, links: Iterable[str] = ()) -> Markup:
    """An image inside the page with its caption and the names of its files."""
    data = base64.b64encode(png).decode()
    return Markup(_MACROS.figure(name, data, caption, list(links)))


def figures(pictures: Iterable[Markup]) -> Markup:
    """Several of :func:`figure` beside one another."""
    return Markup(_MACROS.figures(list(pictures)))


def notes(lines: Iterable[str]) -> Markup:
    """A list of remarks."""
    return Markup(_MACROS.notes(list(lines)))


def code(text: str, label: str = "") -> Markup:
    """A block of text in a fixed-width face, folded if it has a label."""
    block = Markup(_MACROS.code(text.rstrip()))
    return fold(label, block) if label else block


def fold(label: str, body: Markup) -> Markup:
    """Something that opens by a click on its label."""
    return Markup(_MACROS.fold(label, body))


def paragraph(text: str) -> Markup:
    """A paragraph of plain text."""
    return Markup(_MACROS.paragraph(text))
