"""The list of figure kinds: a new kind is one file, and what is listed can be drawn."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from simprior.analysis import figures
from simprior.analysis.figures import registry
from simprior.analysis.figures.counts import ones_figure
from simprior.analysis.figures.marks import draw_points
from simprior.analysis.figures.style import new_figure
from simprior.analysis.plot import plot_run
from simprior.analysis.study.recipe import parse_recipe
from simprior.analysis.study.stages import draw_figure
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.truthtable import pack
from simprior.errors import InputError
from simprior.runs.directory import RunDir

ROOT = Path(figures.__file__).parents[1]
TOY = '''
"""A toy: the number of rows at each value."""

from functools import partial

from simprior.analysis.figures.registry import Drawing, drawings, kind
from simprior.analysis.figures.style import new_figure
from simprior.analysis.table_files import read_frame


@kind("toy", "A toy figure", reads="measure", needs="x", takes="by")
def toy_figure(frame, x, by=None):
    figure, axes = new_figure()
    values = frame[x].value_counts().sort_index()
    axes.plot(values.index, values, "o")
    axes.set_xlabel(x)
    return figure


@drawings("measure")
def toy_drawings(run):
    return [Drawing("toy", partial(toy_figure, read_frame(run.path), "lz76"))]
'''
RECIPE = {
    "train": {"n": 3},
    "measure": {"measures": "lz"},
    "figure": [{"kind": "toy", "x": "lz76"}],
}


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A file more in the package ``figures``, as a contributor would add it."""
    before = dict(registry.kinds())
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "toy.py").write_text(TOY)
    monkeypatch.setattr(figures, "__path__", [*figures.__path__, str(tmp_path / "package")])
    monkeypatch.setattr(registry, "_KINDS", before)
    found = {command: list(find) for command, find in registry._DRAWINGS.items()}
    monkeypatch.setattr(registry, "_DRAWINGS", found)
    registry._import_all.cache_clear()
    yield
    monkeypatch.undo()
    monkeypatch.delitem(__import__("sys").modules, "simprior.analysis.figures.toy", raising=False)


def measured(path: Path) -> Path:
    """A run of ``simprior measure`` with the values 1, 2, 2 of one measure, and nothing else."""
    with RunDir.open(path, "measure", {}) as store:
        frame = pd.DataFrame({"run": "a", "member": [0, 1, 2], "lz76": [1.0, 2.0, 2.0]})
        frame.to_parquet(store.path / "measures.parquet")
        store.add_file("measures.parquet", rows=3)
        store.finish({})
    return path


def test_a_new_kind_of_figure_is_one_file(toy: None, tmp_path: Path) -> None:
    """The file alone gives the kind to recipes, with its keys checked, and to simprior plot."""
    (config,) = parse_recipe(RECIPE).stage("figures").config["figures"]
    assert config == {"kind": "toy", "x": "lz76", "name": "toy-1", "from": ["measure"]}
    with pytest.raises(InputError, match="a key x"):
        parse_recipe({**RECIPE, "figure": [{"kind": "toy"}]})
    with pytest.raises(InputError, match="colour"):
        parse_recipe({**RECIPE, "figure": [{"kind": "toy", "x": "lz76", "colour": "red"}]})
    run = measured(tmp_path / "measure")
    (line,) = draw_figure(config, tmp_path).axes[0].lines
    assert line.get_xydata().tolist() == [[1, 1], [2, 2]]
    assert [file.name for file in plot_run(run)] == ["toy.pdf", "toy.png"]
    assert b"A toy figure" in (run / "figures" / "toy.png").read_bytes()


def test_without_the_file_nothing_is_left_of_the_toy(tmp_path: Path) -> None:
    assert "toy" not in registry.kinds()
    with pytest.raises(InputError, match="kind of"):
        parse_recipe(RECIPE)
    with pytest.raises(InputError, match="nothing to draw"):
        plot_run(measured(tmp_path / "m"))


def test_one_name_is_one_kind() -> None:
    with pytest.raises(ValueError, match="two kinds"):
        registry.kind("scatter", "Another", reads="measure")(lambda frame: Figure())


def test_every_kind_takes_the_keys_that_it_is_said_to_take() -> None:
    for name, kind in registry.kinds().items():
        parameters = inspect.signature(kind.draw).parameters
        assert set(kind.needs) | set(kind.takes) <= set(parameters), name
        assert kind.title and kind.draw.__doc__, name
    assert set(registry.recipe_kinds()) >= {"scatter", "forest", "rescaling", "bound", "sweep"}
    assert "rank" not in registry.recipe_kinds()


@pytest.mark.parametrize(
    ("method", "home"), [("errorbar", "figures/marks.py"), ("savefig", "figures/style.py")]
)
def test_bars_and_files_have_one_home(method: str, home: str) -> None:
    """One function draws points with bars, and one writes figures."""
    calls = [
        str(file.relative_to(ROOT))
        for file in sorted(ROOT.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == method
    ]
    assert calls and set(calls) == {home}


@pytest.mark.parametrize("filled", [None, [True, False, True]])
def test_bars_end_where_they_are_said_to_end(filled: list[bool] | None) -> None:
    """Limits are given, not lengths; a bar that points inwards or has no end is left out."""
    _, axes = new_figure()
    x, y = np.arange(3.0), np.array([1.0, 2.0, 3.0])
    low, high = np.array([0.5, 2.5, np.nan]), np.array([1.25, 4.0, np.nan])
    draw_points(axes, x, y, up=(low, high), colour=(0.0, 0.0, 0.0), filled=filled)
    (container,) = axes.containers
    (bars,) = container.lines[2]
    ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
    assert ends == [[0.5, 1.25], [2.0, 4.0], [3.0, 3.0]]


@pytest.mark.parametrize("listed", [3, 40])
def test_the_legend_of_ones_covers_nothing_in_a_partial_table(listed: int) -> None:
    """Where most samples are not listed, upper limits are near 1, where the legend used to lie."""
    tables = np.random.default_rng(0).permutation(2**16)[:listed].astype(">u2")
    words = pack(np.unpackbits(tables.view(np.uint8)).reshape(-1, 16))
    counts = np.arange(1000, 1000 - listed, -1)
    part = FunctionCounts.from_counts(words, counts, m=16, n=4, samples=10**5)
    figure = ones_figure(part)
    (axes,) = figure.axes
    figure.draw_without_rendering()
    box = axes.get_legend().get_window_extent()
    frame = part.ones_frame()
    ends = axes.transData.transform(np.column_stack([frame["t"], frame["p_high"]]))
    assert (frame["p_high"] > 0.5).all() and (ends[:, 1] < axes.bbox.y1).all()
    inside = (ends[:, 0] > box.x0) & (ends[:, 0] < box.x1)
    assert inside.any() and (ends[inside, 1] < box.y0).all()
