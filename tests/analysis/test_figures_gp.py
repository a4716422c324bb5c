"""Figures of ln P: what is drawn is what the table says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from simprior.analysis.figures.gp import (
    ep_complexity_figure,
    ep_settings_figure,
    ratio_figure,
    sampled_figure,
)
from simprior.analysis.study.logp import EpStudy, run_logp


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    p = np.array([0.3, 0.01, 2e-5])
    rows = {
        "method": ["tilted", "ep"] * 3,
        "logp": np.repeat(np.log(p), 2) + np.tile([0.0, -0.5], 3),
        "stderr": [0.01, np.nan] * 3,
        "p": np.repeat(p, 2),
        "p_stderr": np.repeat(p * 0.05, 2),
        "p_low": np.repeat(p * 0.9, 2),
        "p_high": np.repeat(p * 1.1, 2),
    }
    return pd.DataFrame(rows)


def points(axes: object) -> list[np.ndarray]:
    """Marker positions of the error-bar containers."""
    return [np.stack(c.lines[0].get_data(), 1) for c in axes.containers]  # type: ignore[attr-defined]


def test_sampled_against_gp(frame: pd.DataFrame) -> None:
    axes = sampled_figure(frame, "a title").axes[0]
    exact, ep = points(axes)
    assert exact[:, 1] == pytest.approx(exact[:, 0])
    assert ep[:, 1] == pytest.approx(ep[:, 0] * np.exp(-0.5))
    assert axes.get_xscale() == axes.get_yscale() == "log"
    texts = [t.get_text() for t in axes.get_legend().get_texts()]
    assert texts == ["$y=x$", "tilted", "ep"]
    line = next(x for x in axes.lines if x.get_linestyle() == ":")
    assert (line.get_xdata() == line.get_ydata()).all()


def test_intervals_are_95_percent(frame: pd.DataFrame) -> None:
    axes = ratio_figure(frame).axes[0]
    bars = axes.containers[0].lines[2][0].get_segments()
    low, high = bars[0][0][1], bars[0][1][1]
    error = 1.959964 * np.hypot(0.01, 0.05)
    assert np.log(high) == pytest.approx(error, rel=1e-4)
    assert np.log(low) == pytest.approx(-error, rel=1e-4)
    assert axes.get_ylim()[0] == 0.0


def test_impossible_functions_and_zero_counts_are_left_out(frame: pd.DataFrame) -> None:
    worse = frame.copy()
    worse.loc[0, "logp"] = -np.inf
    exact, ep = points(sampled_figure(worse).axes[0])
    assert len(exact) == 2
    assert len(ep) == 3


def test_study_figures_show_the_trusted_rows() -> None:
    study = EpStudy(
        n=(3, 4), encoding=("01",), depth=(1, 2), sigma_w=(1.0,), prior_draws=3, flips=1
    )
    frame = run_logp(study)
    frame.loc[frame["name"] == "x1", "reliable"] = False
    axes = ep_complexity_figure(frame).axes[0]
    drawn = np.concatenate([line.get_ydata() for line in axes.lines if line.get_marker() in "Dox"])
    shown = frame[(frame["n"] == 4) & (frame["name"] != "x1")]
    assert sorted(drawn) == pytest.approx(sorted(shown["difference"]))
    labels = [t.get_text() for t in ep_settings_figure(frame).axes[0].get_yticklabels()]
    assert labels[:2] == ["$n=3$", "$n=4$"]
    assert "$L=2$" in labels
    assert r"$\sigma_w=1$" in labels
