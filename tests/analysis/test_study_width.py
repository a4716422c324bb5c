"""The stage [logp] of kind ``finite``: ln P of real networks against their width."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simprior.analysis.figures.width import logp_width_figure
from simprior.analysis.study.logp import OVERVIEW, logp_study, run_logp
from simprior.analysis.study.logp_finite import FiniteStudy, finite_overview, slope
from simprior.analysis.study.recipe import parse_recipe, read_recipe
from simprior.analysis.study.run import plan, run_study
from simprior.analysis.study.stages import Options
from simprior.cli import main
from simprior.errors import InputError
from simprior.finite import log_prior_finite
from simprior.gp.orthant import TABLE
from simprior.network.spec import Network
from simprior.runs.directory import load_run

EXAMPLES = Path(__file__).parents[2] / "examples"
QUICK = """
[logp]
kind = "finite"
n = 2
widths = [4, 2]
functions = ["x1", "x1^x2"]
labels = ["one bit", "xor"]
particles = 30
runs = 4
tol = 0.02
[[figure]]
kind = "logp-width"
[[table]]
name = "overview"
from = "logp"
file = "tables/overview.parquet"
"""
SMALL = FiniteStudy(n=2, widths=(4, 2), functions=("x1", "x1^x2"), particles=30, runs=4, tol=0.02)


def test_the_recipe_is_read() -> None:
    study = logp_study(read_recipe(EXAMPLES / "width.toml").stage("logp").config)
    assert isinstance(study, FiniteStudy)
    assert len(study.functions) == len(study.labels) == len(set(map(bytes, study.tables()))) == 10
    assert study.widths == (5, 10, 20, 40, 400, 1600) and len(study.pieces()) == 70
    assert [study.method_of(width) for width in (5, 40, 400)] == ["auto", "auto", "conditional"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": "narrow"}, "finite, infinite or finite,infinite"),
        ({"widths": [0]}, "hidden"),
        ({"widths": [3, 3]}, "each width once"),
        ({"widths": ["wide"]}, "widths="),
        ({"functions": ["x9"]}, "x9"),
        ({"labels": ["a"]}, "labels of 1 entries"),
        ({"runs": 2}, "runs=2"),
        ({"particles": 1}, "particles=1"),
        ({"tol": 0.0}, "tol=0"),
        ({"samples": 3}, "'samples'"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_run(
    values: dict[str, object], message: str, tmp_path: Path
) -> None:
    values = {"kind": "finite", "functions": ["const0", "x1", "and2"], **values}
    with pytest.raises(InputError, match=message) as info:
        plan(parse_recipe({"logp": values}), tmp_path / "o")
    assert "\n" not in str(info.value)


@pytest.mark.slow
def test_a_small_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rows are those of the library, whatever the workers; figure, overview, resume and plot."""
    (tmp_path / "r.toml").write_text(QUICK)
    out = tmp_path / "o"
    run_study(read_recipe(tmp_path / "r.toml"), out, options=Options(workers=2))
    run = load_run(out / "logp")
    assert run.status == "complete" and run.verify() == []
    frame = pd.DataFrame(run.read_table(TABLE))
    assert frame["name"].tolist() == ["one bit"] * 3 + ["xor"] * 3
    assert frame["width"].tolist() == [2.0, 4.0, math.inf] * 2
    alone = run_logp(SMALL)
    for name in ("function", "width", "logp", "stderr", "gain", "gain_stderr", "reason"):
        pd.testing.assert_series_equal(frame[name], alone[name])
    found = log_prior_finite(Network(n=2, hidden=(4, 4)), "x1^x2", particles=30, runs=4)[0]
    assert frame["logp"][4] == found.value
    assert np.allclose(frame["gain"], frame["logp"] - frame["logp"][[2, 2, 2, 5, 5, 5]].to_numpy())
    table = pd.read_parquet(out / "logp" / OVERVIEW).set_index("name")
    assert table.loc["xor", "logp_4"] == found.value
    assert table.loc["xor", "limit"] == frame["logp"][5]
    assert (out / "figures" / "logp-width-1.png").stat().st_size > 1000
    again = run_study(read_recipe(tmp_path / "r.toml"), out, resume=True)
    assert {step.action for step in again} == {"skip"}
    assert main(["plot", str(out / "logp"), "--quiet"]) == 0
    assert (out / "logp" / "figures" / "logp-width.png").exists()
    capsys.readouterr()


def rows(name: str, widths: list[float], logp: list[float], **columns: object) -> pd.DataFrame:
    limit = logp[-1]
    frame = pd.DataFrame({"name": name, "width": widths, "logp": logp, "method": "finite-smc"})
    frame["gain"] = frame["logp"] - limit
    frame["stderr"], frame["gain_stderr"], frame["converged"] = 0.1, 0.1, True
    frame.loc[frame["width"] == math.inf, ["stderr", "gain_stderr"]] = 0.0
    return frame.assign(**columns)


def test_the_slope_is_that_of_wide_networks_near_the_limit() -> None:
    inf = math.inf
    frame = rows("f", [5, 20, 40, 80, inf], [-8.0, -19.0, -19.5, -19.75, -20.0])
    assert slope(frame) == pytest.approx(20.0)  # 12 nats away, and 1/16 as wide: not width 5
    frame.loc[3, ["stderr", "gain_stderr"]] = math.nan
    frame.loc[2, "gain"] = 5.0
    assert slope(frame) == pytest.approx(20.0)  # of width 20 alone
    assert math.isnan(slope(frame.assign(gain_stderr=math.nan)))
    first = rows("f", [100.0, 200.0], [-19.7, -20.0], method="first-order", gain=[0.3, 0.15])
    assert slope(pd.concat([frame, first])) == pytest.approx(30.0)
    assert finite_overview(frame).loc[0, "limit"] == -20.0


def test_values_that_did_not_converge_are_open_and_counted() -> None:
    inf = math.inf
    good = rows("f", [5, 20, inf], [-8.0, -9.0, -10.0])
    bad = rows("g", [5, 20, inf], [-18.0, -19.0, -20.0])
    bad.loc[0, ["stderr", "gain_stderr"]] = math.nan
    bad.loc[0, "converged"] = False
    axes = logp_width_figure(pd.concat([good, bad])).axes[0]
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts[:2] == ["f", "g"] and texts[-1] == "not converged (1)"
    unfilled = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert [len(line.get_xdata()) for line in unfilled] == [0, 1]
    dashed = [line.get_ydata()[0] for line in axes.lines if line.get_linestyle() == "--"]
    assert dashed == [-10.0, -20.0]
    alone = good[np.isfinite(good["width"])].assign(gain=math.nan)  # without the limit
    legend = logp_width_figure(alone).axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["f"]
    with pytest.raises(InputError, match="'gain'"):
        logp_width_figure(good.drop(columns="gain"))


@pytest.mark.slow
def test_xor_gains_from_narrow_layers() -> None:
    """x1^x2 at n = 3 is likelier at width 6 than in the limit, by 1.15 nats: at 4 errors."""
    study = FiniteStudy(n=3, widths=(6, 48), functions=("xor2",), particles=100, tol=0.01)
    frame = run_logp(study)
    assert frame["converged"].all()
    narrow, wide = frame["gain"][0], frame["gain"][1]
    assert narrow > 4 * frame["gain_stderr"][0] and narrow - wide > 4 * math.hypot(
        frame["gain_stderr"][0], frame["gain_stderr"][1]
    )
