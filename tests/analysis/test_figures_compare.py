"""Figures of comparisons: what is drawn is the data; nothing met by one run only is left out."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure

from simprior.analysis.compare.comparison import Comparison, compare
from simprior.analysis.compare.sources import WeightedFunctions
from simprior.analysis.figures.compare import (
    BARS,
    compare_figures,
    errors_figure,
    scatter_figure,
    write_figures,
)
from simprior.analysis.figures.style import COLUMN_WIDTH
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.sampling.sample import sample
from simprior.errors import InputError
from simprior.network.spec import Network


@pytest.fixture(scope="module")
def found() -> Comparison:
    a = sample(Network(n=4, hidden=(10,)), samples=20_000, seed=0, heads=1)
    b = sample(Network(n=4, hidden=(10,), sigma_b=0.3), samples=5000, seed=1, heads=1)
    return compare(a, b, bootstrap=5, splits=2, target="x1", test_mask=np.arange(16) > 5)


def strip_levels(figure: Figure, index: int, axis: int) -> np.ndarray:
    (lines,) = [c for c in figure.axes[index].collections if isinstance(c, LineCollection)]
    return np.array([segment[0, axis] for segment in lines.get_segments()])


def test_scatter_shows_every_common_function(found: Comparison) -> None:
    figure = scatter_figure(found, ("one", "two"))
    frame = found.pairs()
    both = frame[frame["seen_in"] == "both"]
    panel = figure.axes[0]
    (marks,) = [c for c in panel.collections if isinstance(c, PathCollection)]
    drawn = np.asarray(marks.get_offsets())
    wanted = np.unique(both[["p_a", "p_b"]].to_numpy(), axis=0)
    assert np.allclose(drawn[np.lexsort(drawn.T[::-1])], wanted)
    number = np.asarray(marks.get_array())
    assert number.sum() == len(both)
    assert (panel.get_xscale(), panel.get_yscale()) == ("log", "log")
    assert panel.get_xlim() == panel.get_ylim()
    (x, y), *_ = [line.get_data() for line in panel.lines if len(line.get_xdata()) == 2]
    assert np.array_equal(x, y)  # y = x
    assert figure.get_size_inches()[0] == COLUMN_WIDTH


def test_margins_hold_what_one_run_alone_has_met(found: Comparison) -> None:
    figure = scatter_figure(found, ("one", "two"))
    frame = found.pairs()
    for index, axis, name, text in ((1, 1, "b", "two only"), (2, 0, "a", "one only")):
        alone = frame.loc[frame["seen_in"] == f"{name} only", f"p_{name}"]
        assert len(alone)
        assert np.allclose(np.sort(strip_levels(figure, index, axis)), np.unique(alone))
        low, high = figure.axes[index].get_xlim() if axis == 0 else figure.axes[index].get_ylim()
        assert low < alone.min() and alone.max() < high
        (label,) = figure.axes[index].texts
        assert text in label.get_text() and f"{len(alone):,}" in label.get_text()


def test_bars_are_the_intervals(found: Comparison) -> None:
    panel = scatter_figure(found).axes[0]
    (container,) = [c for c in panel.containers if isinstance(c, ErrorbarContainer)]
    horizontal, vertical = (c.get_segments() for c in container.lines[2])
    assert len(horizontal) == min(BARS, int(found["functions_common"].value))
    first = found.pairs().iloc[0]
    best = max(range(len(horizontal)), key=lambda i: horizontal[i][:, 0].mean())
    assert np.allclose(horizontal[best][:, 0], [first["p_a_low"], first["p_a_high"]])
    assert np.allclose(vertical[best][:, 1], [first["p_b_low"], first["p_b_high"]])


def test_errors_figure_is_the_histogram(found: Comparison) -> None:
    figure = errors_figure(found, ("one", "two"))
    axes, frame = figure.axes[0], found.errors
    assert frame is not None
    bars = [c for c in axes.containers if isinstance(c, ErrorbarContainer)]
    for container, name in zip(bars, "ab", strict=True):
        y = np.asarray(container.lines[0].get_ydata())
        p = frame[f"p_{name}"].to_numpy()
        assert np.allclose(y, p[p > 0])
        assert y.sum() == pytest.approx(1.0)
    (legend,) = figure.legends
    text = " ".join(entry.get_text() for entry in legend.get_texts())
    for word in ("one", "two", "commoner class", "entropy-matched"):
        assert word in text
    assert axes.get_yscale() == "log"


def test_without_a_target_there_is_no_error_figure() -> None:
    run = sample(Network(n=3, hidden=(4,)), samples=500, seed=0, heads=1)
    plain = compare(run, run, bootstrap=2, splits=1)
    assert [name for name, _ in compare_figures(plain)] == ["scatter"]
    with pytest.raises(InputError, match="target"):
        errors_figure(plain)


@pytest.mark.parametrize("kind", ["disjoint", "one function", "exact"])
def test_extreme_tables_can_be_drawn(kind: str, tmp_path: Path) -> None:
    words = (np.arange(4, dtype=np.uint64) << np.uint64(60))[:, None]
    ten = np.array([10])
    a: FunctionCounts | WeightedFunctions = FunctionCounts.from_counts(words[:1], ten, m=4, n=2)
    b: FunctionCounts | WeightedFunctions = a.head(1) if isinstance(a, FunctionCounts) else a
    if kind == "disjoint":
        b = FunctionCounts.from_counts(words[1:2], ten, m=4, n=2)
    elif kind == "exact":
        a, b = (
            WeightedFunctions(4, words, np.array(p), math.inf, 2)
            for p in ([0.25] * 4, [0.1, 0.2, 0.3, 0.4])
        )
    found = compare(a, b, bootstrap=2, splits=1)
    files = write_figures(found, tmp_path / "f", ("A", "B"), "test")
    assert [file.name for file in files] == ["scatter.pdf", "scatter.png"]
    assert all(file.stat().st_size > 1000 for file in files)


@pytest.mark.slow
def test_files_are_the_same_bytes_again(found: Comparison, tmp_path: Path) -> None:
    one = write_figures(found, tmp_path / "one", ("A", "B"), "test")
    two = write_figures(found, tmp_path / "two", ("A", "B"), "test")
    for first, second in zip(one, two, strict=True):
        assert first.read_bytes() == second.read_bytes()
