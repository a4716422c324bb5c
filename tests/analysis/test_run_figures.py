"""Which figures a table of measures gives, and what is told apart in them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simprior.analysis.figures.generalisation import measure_figures
from simprior.analysis.plot import run_figures
from simprior.errors import InputError
from simprior.runs.directory import RunDir


def table(sets: int, **columns: object) -> pd.DataFrame:
    """Three networks in each of ``sets`` data sets at each of two training sizes."""
    random = np.random.default_rng(0)
    rows = [
        {"run": f"{s}-{size}", "member": k, "optimizer": "adam", "cluster": str(s), "corrupt": 0.0,
         "attack": 0, "n": 0, "test_size": 100, "train_size": size, "alpha": 1.0,
         "test_error": random.integers(1, 40) / 100, "lz76": float(random.integers(5, 50)),
         "bound": 0.5, "bound_low": 0.4, "bound_high": 0.6}
        for s in range(sets) for size in (20, 40) for k in range(3)
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(**columns)


def drawer(frame: pd.DataFrame, name: str) -> partial:
    return dict(measure_figures(frame))[name]  # type: ignore[return-value]


def small_print(frame: pd.DataFrame, name: str) -> str:
    return str(dict(measure_figures(frame))[name]().get_supxlabel())


@pytest.mark.parametrize(("sets", "text"), [(7, "a point a network"), (8, "a point a training")])
def test_few_data_sets_are_drawn_network_by_network(sets: int, text: str) -> None:
    assert small_print(table(sets), "scatter-lz76").startswith(text)


def test_settings_that_vary_are_told_apart() -> None:
    frame = table(4)
    assert drawer(frame, "bound").args[1:] == ("train_size", None)
    levels = pd.concat([frame.assign(corrupt=c) for c in (0.0, 0.25, 0.5)])
    assert drawer(levels, "bound").args[1:] == ("train_size", "corrupt")
    assert drawer(levels, "scatter-lz76").keywords["by"] == "corrupt"
    both = pd.concat([levels, levels.assign(optimizer="sgd")])
    legends = drawer(both, "bound")().legends[0]
    assert legends.get_title().get_text().startswith("optimiser, share of labels")
    assert "sgd, 0.25: bound" in {text.get_text() for text in legends.get_texts()}
    # one size of training set: against what varies
    assert drawer(levels[levels["train_size"] == 20], "bound").args[1:] == ("corrupt", None)


def test_functions_without_a_test_error() -> None:
    frame = pd.DataFrame({
        "run": "s", "member": -1, "function": [f"0x{k}" for k in range(6)], "rank": range(1, 7),
        "n": 2, "m": 4, "alpha": 1.0, "lz76": [2.0, 2, 3, 4, 5, 5], "entropy": 0.5,
        "log_p": np.linspace(-1, -6, 6), "log_p_stderr": 0.1,
    })  # fmt: skip
    assert [name for name, _ in measure_figures(frame)] == ["scatter-lz76"]  # entropy: one value
    figure = dict(measure_figures(frame))["scatter-lz76"]()
    assert figure.axes[0].get_ylabel() == "ln P(f) (nats)"
    assert figure.get_supxlabel() == "a point a function, bars 95 %"
    sampled = frame.assign(log_p_sampled=[-1.1, -2.1, -3.3, -4.4, np.nan, np.nan])
    figure = dict(measure_figures(sampled))["scatter-lz76"]()
    assert figure.axes[0].get_ylabel() == "ln P(f), sampled (nats)"
    assert measure_figures(frame.drop(columns="log_p")) == []


def test_nothing_to_draw_is_said_in_one_line(tmp_path: Path) -> None:
    with RunDir.open(tmp_path / "m", "measure", {}) as store:
        table(1, test_error=np.nan, train_size=20).to_parquet(store.path / "measures.parquet")
        store.add_file("measures.parquet", rows=6)
        store.finish({})
    with pytest.raises(InputError, match="nothing to draw") as info:
        run_figures(tmp_path / "m")
    assert "\n" not in str(info.value)
