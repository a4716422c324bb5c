"""``sp.plot``: every figure of ``simprior plot`` as a function that draws on axes.

``sp.plot.rank(counts)``, ``sp.plot.forest(found, ax=ax)``: the functions are the kinds of figures
of :func:`simprior.analysis.figures.registry.kinds`, with ``_`` for ``-``; ``compare`` is short for
``compare_scatter``. They are the functions that the command line calls.

Each takes a result in memory, its table, or the path of a run:

* of functions (``rank``, ``complexity``, ``ones``, ``complexity_histogram``, ``nonconstant``):
  ``FunctionCounts``, a ``WatchResult`` (``ones`` alone), a ``TrainResult``, or a run of sample,
  import, posterior, train;
* of comparisons (``compare_scatter``, ``compare_errors``): a ``Comparison``, or a pair of what
  :func:`simprior.compare` takes;
* of priors (``architectures``): the table of a stage [sample], or its run;
* of networks (``scatter``, ``sweep``, ``bound``, ``rescaling``): the table of measures, or its run;
* of coefficients (``forest``): ``Correlations``, its table, or its run;
* of strings: a ``StringsResult`` (``trained_sensitivity``: the table), or its run;
* of ln P: the table of ``simprior logp``, or its run;
* of rare outputs (``rare``): a ``RareOutputs``, its table, or its run.

Further keywords are those of the figure, and three of all:

* ``ax``: axes to draw on; several for a figure of several panels. Without it a new figure, one
  column wide, which is ``ax.figure`` of what is returned;
* ``labels``: names in the legend, in its order, or ``{name: other name}``; of a comparison the
  names of the two runs;
* ``title``: over the (first) panel.

They return the Axes; of several panels an array of them. On axes of the caller the small print
below the figure, which says what points and bars are, is left out: the docstring says it too.

``simprior plot`` draws all that a run supports, and writes it: :func:`plot_run`.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from simprior.analysis.figures.registry import Drawing, Kind, drawings_of, kinds, title_of
from simprior.analysis.figures.style import drawing_on, write_figures
from simprior.analysis.strings.run import NETWORKS, TRAINED
from simprior.analysis.study.recipe import parse_recipe_of
from simprior.analysis.study.stages import draw_figure
from simprior.analysis.table_files import MAIN_TABLES, read_frame
from simprior.boolean.sampling.counts import COUNTS
from simprior.checks import shown, unknown
from simprior.errors import InputError
from simprior.runs.directory import RunDir, RunInfo, load_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHORT = {"compare": "compare-scatter"}
"""Other names of kinds."""


def draw(
    kind: Kind,
    data: Any,
    *args: Any,
    ax: Any = None,
    labels: Sequence[str] | Mapping[str, str] | None = None,
    title: str | None = None,
    **keywords: Any,
) -> Any:
    """Draw a figure of ``kind`` of ``data``; see the module docstring.

    Raises :class:`InputError` for data that the figure is not of, axes of another number than it
    has panels, or labels of another number than its legend has.
    """
    if labels is not None and kind.reads == "comparison":
        keywords["labels"], labels = tuple(labels), None
    given = arguments(kind, data)
    with drawing_on([] if ax is None else list(np.ravel(ax))) as canvas:
        kind.draw(*given, *args, **keywords)
    panels = canvas.panels
    if labels is not None:
        _rename(panels, labels, whole=ax is None)
    if title is not None:
        panels[0].set_title(title)
    return panels[0] if len(panels) == 1 else np.array(panels, dtype=object)


def _rename(panels: list[Any], labels: Any, whole: bool) -> None:
    """Other names in the legends of the panels, and of the figure if the ``whole`` is ours."""
    legends = [axes.get_legend() for axes in panels] + (panels[0].figure.legends if whole else [])
    texts = [text for one in legends if one is not None for text in one.get_texts()]
    names = [text.get_text() for text in texts]
    if isinstance(labels, Mapping):
        for name in labels:
            if name not in names:
                raise unknown(f"labels of {name!r}", name, names)
        labels = [labels.get(name, name) for name in names]
    if len(labels) != len(names):
        raise InputError(
            f"labels={shown(list(labels))}", f"{len(names)} names", f"in place of {names}"
        )
    for text, label in zip(texts, labels, strict=True):
        text.set_text(label)


def arguments(kind: Kind, data: Any) -> tuple[Any, ...]:
    """What the function of ``kind`` takes, of a result, a table or the path of a run.

    Raises :class:`InputError` for anything else, :class:`StoreError` for another run.
    """
    read = _READERS.get(kind.reads)
    if kind.whole:
        found = (Path(data),) if isinstance(data, str | Path) else None
    elif read is not None:
        found = read(kind, data)
    else:
        found = _table(kind, data)
    if found is None:
        raise InputError(
            f"a figure {kind.name} of {type(data).__name__}",
            f"{_WANTED.get(kind.reads, 'a table')} or the path of its run",
            "see help(sp.plot)",
        )
    return found


_WANTED = {
    "counts": "FunctionCounts, TrainResult",
    "comparison": "a Comparison, or two results",
    "correlate": "Correlations, its table",
    "strings": "a StringsResult",
}


def _counts(kind: Kind, data: Any) -> tuple[Any, ...] | None:
    from simprior.boolean.sampling.counts import FunctionCounts
    from simprior.boolean.sampling.watch import WatchResult, load_result

    if isinstance(data, str | Path):
        data = load_result(data)
    if not isinstance(data, FunctionCounts):
        data = getattr(data, "counts", data)  # of a training run or a posterior
    watched = isinstance(data, WatchResult) and kind.name == "ones"
    return (data,) if watched or isinstance(data, FunctionCounts) else None


def _comparison(kind: Kind, data: Any) -> tuple[Any, ...] | None:
    from simprior.analysis.compare.comparison import Comparison, compare

    if isinstance(data, tuple | list) and len(data) == 2:
        data = compare(*data)
    return (data,) if isinstance(data, Comparison) else None


def _strings(kind: Kind, data: Any) -> tuple[Any, ...] | None:
    from simprior.analysis.strings.run import load, load_trained

    if kind.name == "trained-sensitivity":
        data = load_trained(Path(data)) if isinstance(data, str | Path) else data
        return (data,) if isinstance(data, pd.DataFrame) else None
    if isinstance(data, str | Path):
        data = load(data)
    names = list(inspect.signature(kind.draw).parameters)  # of the frames of the result
    known = all(hasattr(data, name) for name in names)
    return tuple(getattr(data, name) for name in names) if known else None


def _table(kind: Kind, data: Any) -> tuple[Any, ...] | None:
    if isinstance(data, str | Path):
        data = read_frame(Path(data))
    elif hasattr(data, "to_frame"):
        data = data.to_frame()
    return (data,) if isinstance(data, pd.DataFrame) else None


_READERS: dict[str, Callable[[Kind, Any], tuple[Any, ...] | None]] = {
    "counts": _counts,
    "comparison": _comparison,
    "strings": _strings,
}


def _names() -> dict[str, str]:
    """{name of the function: name of the kind}."""
    return {name.replace("-", "_"): name for name in kinds()} | SHORT


def __getattr__(name: str) -> Callable[..., Any]:
    if name.startswith("_") or name not in _names():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    kind = kinds()[_names()[name]]
    function: Any = partial(draw, kind)
    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{inspect.getdoc(kind.draw)}\n\n    {_COMMON}"
    _, *rest = inspect.signature(kind.draw).parameters.values()
    own = [p for p in rest if p.name not in ("labels", "title", *_taken(kind))]
    common = [
        inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=None)
        for key in ("ax", "labels", "title")
    ]
    data = inspect.Parameter("data", inspect.Parameter.POSITIONAL_ONLY)
    function.__signature__ = inspect.Signature([data, *own, *common])
    return function  # type: ignore[no-any-return]


_COMMON = (
    "``data``: a result, its table, or the path of a run. ``ax``, ``labels``, ``title`` and what\n"
    "    is returned: see ``help(sp.plot)``."
)


def _taken(kind: Kind) -> tuple[str, ...]:
    """Arguments of a figure that come from the result itself."""
    return ("fits", "law") if kind.reads == "strings" else ()


def __dir__() -> list[str]:
    return sorted([*_names(), "draw", "arguments"])


FOLDER = "figures"
_TABLES = (COUNTS, TRAINED, NETWORKS, *MAIN_TABLES)
_NEEDED = {
    "study": ("a recipe with figures", "add a [[figure]] to it"),
    "correlate": ("a finite coefficient", "see the notes of the run"),
    "measure": (
        "test errors, or ln P(f), and a measure with different values",
        "measure more networks, or more groups (--measures)",
    ),
}
"""Where nothing can be drawn: what a run of the command must hold, and what to do."""


def plot_run(path: Path | str, out: Path | str | None = None) -> list[Path]:
    """Draw all figures of a run (function counts, or ln P by ``simprior logp``) as PDF and PNG.

    Files go to ``<path>/figures`` and are registered with their hashes in the manifest, or to the
    folder ``out``. Each is written under a temporary name and renamed. The same run gives the same
    bytes again with the same versions of the libraries.

    Returns
    -------
    list of Path
        The files written, PDF before PNG: rank, complexity, ones, complexity-histogram for
        function counts, and nonconstant if they were measured; for ln P sampled-gp and
        sampled-gp-ratio, or (a study of EP) ep-complexity
        and ep-settings, or (a study of widths) width-convergence; for sensitivity
        nearest-distance, random-flips and flips-law, or trained-sensitivity; for rare outputs rare;
        for measures
        scatter-<measure>, rescaling and bound; for correlations forest-<coefficient>; for a study
        those of its recipe.

    Raises
    ------
    StoreError
        Not a complete run with something to draw, a damaged file, another process is writing to the
        run, or a file cannot be written.
    InputError
        A table of measures or coefficients in which nothing varies, or a recipe without figures.
    """
    path = Path(path)
    run = load_run(path)
    figures = (
        (name, name if run.command == "study" else title_of(name), figure)
        for name, figure in run_figures(path)
    )
    subject = provenance(run)
    if out is not None:
        return write_figures(figures, Path(out), subject)
    with RunDir.attach(path) as store:
        files = write_figures(figures, path / FOLDER, subject)
        for file in files:
            store.add_file(file.relative_to(path))
        store.save()
    return files


def run_figures(path: Path) -> Iterator[tuple[str, Figure]]:
    """(name, figure) of what ``simprior plot`` draws of a run, drawn one after the other.

    Raises :class:`InputError` for a run with nothing to draw, before the first is drawn.
    """
    run = load_run(path)
    if run.command == "study":
        recipe = parse_recipe_of(path)
        draw = partial(draw_figure, out=path, seed=recipe.seed)
        configs = recipe.stage("figures").config["figures"]
        found = [Drawing(config["name"], partial(draw, config)) for config in configs]
    else:
        found = drawings_of(run, default="sample")
    if not found and run.command in _NEEDED:
        raise InputError(f"{path}: nothing to draw", *_NEEDED[run.command])
    return ((name, draw()) for name, draw in found)


def provenance(run: RunInfo) -> str:
    """What made a run, in one line for the metadata of a figure or the comment of a table."""
    config = json.dumps(run.config, sort_keys=True)
    table = next((name for name in _TABLES if name in run.files), COUNTS)
    digest = run.files.get(table, {}).get("sha256", "unknown")
    version = run.manifest["versions"].get("simprior", "unknown")
    commit = run.manifest.get("git_commit") or "unknown"
    return (
        f"simprior {run.command}, version {version}, commit {commit}, config {config}, "
        f"{table} sha256 {digest}"
    )
