"""Figures of simprior sensitivity: intervals, legends, ticks."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.collections import FillBetweenPolyCollection

from simprior.analysis.figures.strings import (
    distance_figure,
    law_figure,
    trained_figure,
    unchanged_share,
)
from simprior.numerics.estimate import clopper_pearson


def rows(n: int, flips: list[int], strings: int = 1) -> pd.DataFrame:
    """A row a string; flips of n + 1 means never."""
    times = np.array(flips)
    return pd.DataFrame(
        {
            "n": n,
            "network": np.arange(len(times)) // strings,
            "flips": np.minimum(times, n) * 1.0,
            "unchanged": (times > n) * 1.0,
        }
    )


def test_share_unchanged_has_limits_of_as_many_trials_as_networks() -> None:
    share, low, high = unchanged_share(rows(4, [1, 2, 5, 5]), 4)
    assert share.tolist() == [1, 0.75, 0.5, 0.5, 0.5]
    wanted = clopper_pearson(np.array([4.0, 3, 2, 2, 2]), 4)
    assert np.allclose([low, high], wanted)
    _, low, high = unchanged_share(rows(4, [1, 2, 5, 5], strings=2), 4)
    assert np.allclose([low, high], clopper_pearson(np.array([2.0, 1.5, 1, 1, 1]), 2))
    means = rows(4, [1, 2]).assign(flips=[1.5, 2.0])
    assert unchanged_share(means, 4) is None


def test_bands_cover_the_law_at_every_k() -> None:
    """Geometric flips (1/2 a step), 20 networks: Clopper-Pearson covers 0.95 at least at each k,
    but for 4 standard errors of 1000 repetitions."""
    random = np.random.default_rng(0)
    found = [
        unchanged_share(rows(6, list(np.minimum(random.geometric(0.5, 20), 7))), 6)
        for _ in range(1000)
    ]
    truth = 0.5 ** np.arange(7)
    inside = np.mean([(low <= truth) & (truth <= high) for _, low, high in found], axis=0)
    assert (inside > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 1000)).all()


def test_law_figure_has_a_band_a_length() -> None:
    law = pd.DataFrame({"n": [4] * 5, "k": range(5), "survival": [1, 0.7, 0.5, 0.4, 0.3]})
    axes = law_figure(rows(4, [1, 2, 5, 5]), law).axes[0]
    bands = [c for c in axes.collections if isinstance(c, FillBetweenPolyCollection)]
    assert len(bands) == 1
    means = law_figure(rows(4, [1, 2]).assign(flips=[1.5, 2.0]), law)
    assert not means.axes[0].collections and not means.get_supxlabel()


def test_distance_ticks_enclose_the_data() -> None:
    n = np.array([100.0, 200, 400])
    h = np.array([2.1, 3.0, 4.7])
    summary = pd.DataFrame(
        {"n": n, "distance": h, "distance_low": h - 0.3, "distance_high": h + 0.3}
    )
    figure = distance_figure(summary)
    top, bottom = figure.axes
    ticks = top.get_yticks()
    assert ticks.min() <= 1.8 and ticks.max() >= 5 and len(ticks) >= 5
    assert "log scale" in top.get_ylabel() and bottom.get_ylabel().startswith("distance /")
    names = {text.get_text() for text in figure.legends[0].get_texts()}
    assert r"band: top = 1.25 $\times$ bottom" in names


def test_trained_networks_at_one_place_are_counted() -> None:
    frame = pd.DataFrame(
        {
            "fitted": True,
            "distance": 1.0,
            "flips": [2.0] * 9 + [3.0],
            "test_error": [0.1] * 9 + [0.2],
            "uniform_flips": 1.9,
        }
    )
    figure = trained_figure(frame)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["1 network", "2 networks", "9 networks", "random function"]
    drawn = figure.axes[0].collections[0]
    assert len(drawn.get_offsets()) == 2
    assert drawn.get_sizes()[0] == 9 * drawn.get_sizes()[1]
    trained_figure(frame.assign(fitted=False)).canvas.draw()
