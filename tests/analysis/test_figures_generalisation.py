"""Figures of what predicts generalisation, and the table of what rescaling changes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from simprior.analysis.figures import generalisation as draw
from simprior.analysis.figures.generalisation import forest_figure, rescaling_figure
from simprior.analysis.figures.style import axis_label, name_of, new_figure, style, tidy_ticks
from simprior.analysis.measure.table import rescaling_table
from simprior.errors import InputError


@pytest.fixture
def frame() -> pd.DataFrame:
    random = np.random.default_rng(0)
    rows = [
        {
            "run": f"{o}{s}",
            "member": k,
            "optimizer": o,
            "cluster": str(s),
            "attack": 0,
            "m": 200,
            "train_size": 100,
            "alpha": 1.0,
            "function": f"0x{s}{k}",
            "log_p": -50.0 - s,
            "log_p_stderr": 0.5,
            "keskar": 10.0 ** random.uniform(-2, 1),
            "test_error": 0.01 * (s + k),
            "sigma_w": float(s),
        }
        for o in ("adam", "sgd")
        for s in range(1, 5)
        for k in range(3)
    ]
    return pd.DataFrame(rows)


def texts(figure: Figure) -> list[str]:
    """Legend entries and small print of a figure."""
    found = [t.get_text() for one in figure.legends for t in one.get_texts()]
    return [*found, figure.get_supxlabel()]


def collided(figure: Figure, which: str = "x") -> bool:
    """Do any two tick labels of the last panel overlap, as drawn?"""
    figure.canvas.draw()
    axes = figure.axes[-1]
    axis = axes.xaxis if which == "x" else axes.yaxis
    ticks = [t for minor in (False, True) for t in axis.get_ticklabels(minor=minor)]
    boxes = [t.get_window_extent() for t in ticks if t.get_text() and t.get_visible()]
    ends = sorted((b.x0, b.x1) if which == "x" else (b.y0, b.y1) for b in boxes)
    assert len(ends) >= 2
    return any(before[1] > after[0] for before, after in pairwise(ends))


def test_scatter(frame: pd.DataFrame) -> None:
    figure = draw.scatter_figure(frame, "keskar", by="optimizer")
    axes = figure.axes[0]
    assert axes.get_xscale() == "log" and axes.get_xlabel() == "Keskar sharpness (%)"
    assert [len(c.get_offsets()) for c in points(figure)] == [4, 4]
    assert any("mean of its networks, bars 95 %" in text for text in texts(figure))
    figure = draw.scatter_figure(frame, "log_p", points="network")
    assert len(points(figure)[0].get_offsets()) == 12  # adam and sgd are at the same places
    assert texts(figure)[-1].startswith("a point a network, bars 95 %; area: networks at one place")
    assert figure.axes[0].get_xlabel() == "ln P(f) (nats)"
    for bad in ({"x": "nothing"}, {"x": "log_p", "points": "all"}):
        with pytest.raises(InputError):
            draw.scatter_figure(frame, **bad)
    with pytest.raises(InputError, match="finite"):
        draw.scatter_figure(frame.assign(log_p=np.nan), "log_p")


def points(figure: Figure) -> list[PathCollection]:
    return [c for c in figure.axes[0].collections if isinstance(c, PathCollection)]


def test_means_whose_spread_is_unknown_are_open(frame: pd.DataFrame) -> None:
    few = frame[(frame["run"] != "adam1") | (frame["member"] < 2)]
    figure = draw.scatter_figure(few, "keskar", by="optimizer")
    faces = [[tuple(f[:3]) == (1, 1, 1) for f in c.get_facecolors()] for c in points(figure)]
    assert faces == [[True, False, False, False], [False] * 4]
    assert any("open: fewer than 3 networks" in text for text in texts(figure))
    whole = draw.scatter_figure(frame, "keskar", by="optimizer")
    assert not any("open" in text for text in texts(whole))


def test_one_quantity_has_one_kind_of_axis(frame: pd.DataFrame) -> None:
    wide = frame.assign(lz76=10.0 ** frame["sigma_w"], target_lz76=10.0 ** frame["sigma_w"])
    for name in ("lz76", "target_lz76"):
        axes = draw.scatter_figure(wide, name).axes[0]
        assert axes.get_xscale() == "linear"
        assert axes.get_xlabel().endswith("(bits)")
    assert draw.scatter_figure(wide.assign(sam=wide["lz76"]), "sam").axes[0].get_xscale() == "log"


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (0.4, 0.6),
        (0.0011, 0.00119),
        (1000.01, 1000.06),
        (0.011, 0.0119),
        (0.4, 6),
        (-0.01, 0.013),
        (1.1e-7, 1.9e-7),
        (12345, 12365),
        (-123.4, -122.9),
    ],
)
def test_tick_labels_do_not_overlap(frame: pd.DataFrame, low: float, high: float) -> None:
    x = np.linspace(low, high, len(frame))
    figure = draw.scatter_figure(frame.assign(sam=x, run=np.arange(len(frame))), "sam")
    assert not collided(figure) and not collided(figure, "y")


@pytest.mark.parametrize("span", [(0.4, 0.6), (0.98, 1.02), (0.5, 6), (0.2, 30), (1e-4, 1e4)])
def test_tick_labels_of_a_narrow_logarithmic_axis(span: tuple[float, float]) -> None:
    with style():
        figure, axes = new_figure()
        axes.plot(span, (1, 2))
        axes.set_xscale("log")
        tidy_ticks(axes, "x")
    assert not collided(figure)


def test_labels_of_few_values_leave_out_what_has_no_room(frame: pd.DataFrame) -> None:
    size = frame["sigma_w"].map({1: 1000, 2: 1020, 3: 1050, 4: 20000})
    figure = draw.sweep_figure(frame.assign(width=size), "width", ["test_error"])
    assert not collided(figure)
    assert len(figure.axes[0].get_xticks()) == 4


def test_forest() -> None:
    table = pd.DataFrame(
        {
            "optimizer": ["adam", "sgd"] * 3,
            "measure": ["log_p"] * 2 + ["keskar"] * 2 + ["lz76"] * 2,
            "kendall": [-0.8, -0.7, 0.3, np.nan, np.nan, np.nan],
            "kendall_low": -0.9,
            "kendall_high": 0.5,
        }
    )
    axes = forest_figure(table, by="optimizer").axes[0]
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels == ["Keskar sharpness", "ln P(f)"]  # refused everywhere: left out
    with pytest.raises(InputError, match="finite"):
        forest_figure(table.assign(kendall=np.nan))


def test_rescaling(frame: pd.DataFrame) -> None:
    after = frame.assign(alpha=4.0, keskar=16 * frame["keskar"])
    # within four standard errors, of each network and of their mean
    after["log_p"] += np.tile([0.3, -0.3], len(after) // 2)
    table = rescaling_table(pd.concat([frame, after])).set_index("measure")
    assert table.loc["keskar", "moved"] == 1 and table.loc["log_p", "moved"] == 0
    assert table.loc["keskar", "factor"] == pytest.approx(16)
    assert (table["function_changed"] == 0).all() and (table["networks"] == 24).all()
    figure = rescaling_figure(table.reset_index())
    assert figure.axes[0].get_xscale() == "log"
    assert {"moved in some network", "moved in none"} <= set(texts(figure))
    assert not collided(figure)
    width = figure.bbox.width
    assert figure.axes[0].xaxis.label.get_window_extent().x1 <= width
    after.loc[after.index[0], "function"] = "0xff"
    changed = rescaling_table(pd.concat([frame, after]))["function_changed"]
    assert changed.iloc[0] == pytest.approx(1 / 24)
    with pytest.raises(InputError, match="at least one other"):
        rescaling_table(frame)


def test_rescaling_sees_a_change_that_no_network_shows_alone(frame: pd.DataFrame) -> None:
    """Estimates before and after share their random directions; the mean over networks decides."""
    rng = np.random.default_rng(0)
    before = frame.assign(alpha=1.0, sigma_flatness=1.0, sigma_flatness_stderr=0.3)
    after = before.assign(alpha=4.0)
    after["sigma_flatness"] -= 0.2 + 0.01 * rng.standard_normal(len(after))
    table = rescaling_table(pd.concat([before, after])).set_index("measure")
    assert table.loc["sigma_flatness", "moved"] == 1


def test_sweep_and_bound(frame: pd.DataFrame) -> None:
    figure = draw.sweep_figure(frame, "sigma_w", ["test_error", "log_p"], by="optimizer")
    assert [axes.get_ylabel() for axes in figure.axes] == ["test error", "ln P(f) (nats)"]
    assert any("open: fewer than 3 data sets" in text for text in texts(figure))
    bound = frame.assign(bound=0.5, bound_low=0.45, bound_high=0.55)
    figure = draw.bound_figure(bound, "sigma_w", by="optimizer")
    assert len(figure.axes[0].lines) == 4 and figure.axes[0].get_ylim()[0] == 0
    assert texts(figure)[:2] == ["adam: bound", "sgd: bound"]
    assert "bars without their spread" in texts(figure)[-1]
    sets = pd.concat([bound.assign(cluster=str(k), test_error=0.1 * k) for k in range(4)])
    figure = draw.bound_figure(sets.assign(bound=sets["test_error"] + 0.2), "sigma_w")
    assert texts(figure)[-1] == "means over data sets, bars 95 %"


def test_names() -> None:
    assert name_of("optimizer") == "optimiser" and name_of("something") == "something"
    assert axis_label("lz76") == "LZ complexity (bits)" and name_of(None) == ""
