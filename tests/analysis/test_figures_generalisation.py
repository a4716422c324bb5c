"""Figures of what predicts generalisation, and the table of what rescaling changes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from simprior.analysis import figures_generalisation as draw
from simprior.analysis.figure_frames import axis_label, cell_means, name_of
from simprior.analysis.rescaling import rescaling_table
from simprior.errors import InputError
from simprior.estimate import clopper_pearson


@pytest.fixture
def frame() -> pd.DataFrame:
    random = np.random.default_rng(0)
    rows = [
        {"run": f"{o}{s}", "member": k, "optimizer": o, "cluster": str(s), "attack": 0, "m": 200,
         "train_size": 100, "alpha": 1.0, "function": f"0x{s}{k}", "log_p": -50.0 - s,
         "log_p_stderr": 0.5, "keskar": 10.0 ** random.uniform(-2, 1), "test_error": 0.01 * (s + k),
         "sigma_w": float(s)}
        for o in ("adam", "sgd") for s in range(1, 5) for k in range(3)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_means_of_runs_and_limits_of_networks(frame: pd.DataFrame) -> None:
    part = frame[frame["run"] == "adam1"]
    row = cell_means(part, ["log_p", "test_error"]).iloc[0]
    # three equal values with errors 0.5: spread 0, so 0.5 / sqrt(3)
    assert row["log_p"] == -51 and row["log_p_stderr"] == pytest.approx(0.5 / np.sqrt(3))
    assert row["test_error_stderr"] == pytest.approx(0.01 / np.sqrt(3))
    networks = cell_means(part, ["test_error"], "network")
    low, high = clopper_pearson(np.array([1.0, 2.0, 3.0]), 100)
    assert np.allclose(networks["test_error_low"], low)
    assert np.allclose(networks["test_error_high"], high)


def test_scatter(frame: pd.DataFrame) -> None:
    axes = draw.scatter_figure(frame, "keskar", by="optimizer").axes[0]
    assert axes.get_xscale() == "log" and axes.get_xlabel() == "Keskar sharpness (%)"
    assert [len(line.get_xdata()) for line in axes.lines] == [4, 4]
    axes = draw.scatter_figure(frame, "log_p", points="network").axes[0]
    assert len(axes.lines[0].get_xdata()) == 24 and axes.get_xlabel() == "ln P(f) (nats)"
    for bad in ({"x": "nothing"}, {"x": "log_p", "points": "all"}):
        with pytest.raises(InputError):
            draw.scatter_figure(frame, **bad)
    with pytest.raises(InputError, match="finite"):
        draw.scatter_figure(frame.assign(log_p=np.nan), "log_p")


def test_forest() -> None:
    table = pd.DataFrame({
        "optimizer": ["adam", "sgd"] * 3, "measure": ["log_p"] * 2 + ["keskar"] * 2 + ["lz76"] * 2,
        "kendall": [-0.8, -0.7, 0.3, np.nan, np.nan, np.nan],
        "kendall_low": -0.9, "kendall_high": 0.5,
    })  # fmt: skip
    axes = draw.forest_figure(table, by="optimizer").axes[0]
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels == ["Keskar sharpness", "ln P(f)"]  # refused everywhere: left out
    with pytest.raises(InputError, match="finite"):
        draw.forest_figure(table.assign(kendall=np.nan))


def test_rescaling(frame: pd.DataFrame) -> None:
    after = frame.assign(alpha=4.0, keskar=16 * frame["keskar"])
    # within four standard errors, of each network and of their mean
    after["log_p"] += np.tile([0.3, -0.3], len(after) // 2)
    table = rescaling_table(pd.concat([frame, after])).set_index("measure")
    assert table.loc["keskar", "moved"] == 1 and table.loc["log_p", "moved"] == 0
    assert table.loc["keskar", "factor"] == pytest.approx(16)
    assert (table["function_changed"] == 0).all() and (table["networks"] == 24).all()
    axes = draw.rescaling_figure(table.reset_index()).axes[0]
    assert axes.get_xscale() == "log"
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
    bound = frame.assign(bound=0.5, bound_low=0.45, bound_high=0.55)
    axes = draw.bound_figure(bound, "sigma_w", by="optimizer").axes[0]
    assert len(axes.containers) == 4 and axes.get_ylim()[0] == 0


def test_names() -> None:
    assert name_of("optimizer") == "optimiser" and name_of("something") == "something"
    assert axis_label("lz76") == "LZ complexity (bits)" and name_of(None) == ""
