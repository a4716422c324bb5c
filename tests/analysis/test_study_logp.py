"""The stage [logp] of studies: recipes are read, tables are right, a small run finds the limit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simprior import gp
from simprior.analysis.study import logp as study_logp
from simprior.analysis.study.logp import (
    OVERVIEW,
    EpStudy,
    Setting,
    WidthStudy,
    fit_width,
    functions_of,
    logp_study,
    run_logp,
    summarise_study,
)
from simprior.analysis.study.recipe import parse_recipe, read_recipe
from simprior.analysis.study.run import plan, run_study
from simprior.boolean.truthtable import bit_matrix
from simprior.errors import InputError
from simprior.gp.orthant import TABLE
from simprior.network.spec import Network
from simprior.runs.directory import load_run

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = """
[logp]
kind = "ep"
n = 3
depth = [1, 2]
encoding = ["01", "pm1"]
sigma_w = 1
flips = 1
prior_draws = 3
tol = 0.02
functions = ["const0", "x1"]
[[figure]]
kind = "ep-complexity"
[[table]]
name = "overview"
from = "logp"
file = "tables/overview.parquet"
"""


def test_the_recipe_is_read() -> None:
    study = logp_study(read_recipe(EXAMPLES / "width-convergence.toml").stage("logp").config)
    assert isinstance(study, WidthStudy)
    assert len(study.functions) == len(study.labels) == 16
    assert study.widths == (40, 100, 200, 400, 1600)
    study = logp_study(read_recipe(EXAMPLES / "how-wrong-is-ep.toml").stage("logp").config, 5)
    assert isinstance(study, EpStudy)
    assert len(study.pieces()) == 48 and study.seed == 5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "width", "width": 3}, "'width'"),
        ({"kind": "ep", "width": 40}, "'width'"),
        ({"kind": "ep", "depth": ["deep"]}, "depth="),
        ({"kind": "ep", "functions": ["x9"]}, "x9"),
        ({"kind": "ep", "encoding": ["02"]}, "encoding"),
        ({"kind": "ep", "tol": 0.0}, "tol=0"),
        ({"kind": "width", "functions": ["x9"]}, "x9"),
        ({"kind": "width", "heads": [1]}, "heads of 1 entries: expected one for each of the 3"),
        ({"kind": "width", "labels": ["a", "b"]}, "labels of 2 entries"),
        ({"kind": "widht"}, "did you mean width"),
        ({"n": 3}, "add kind"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_run(
    values: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message) as info:
        plan(parse_recipe({"logp": values}), tmp_path / "o")
    assert "\n" not in str(info.value)


@pytest.mark.slow
def test_a_stage_is_a_run_of_logp_with_an_overview(tmp_path: Path) -> None:
    """The recipe gives the rows of the library call, whatever the number of workers."""
    (tmp_path / "r.toml").write_text(SMALL)
    out = tmp_path / "o"
    run_study(read_recipe(tmp_path / "r.toml"), out)
    run = load_run(out / "logp")
    assert run.command == "logp" and run.status == "complete" and run.verify() == []
    frame = pd.DataFrame(run.read_table(TABLE))
    wanted = run_logp(logp_study(parse_recipe_config(SMALL)), workers=2)
    pd.testing.assert_frame_equal(frame, wanted)
    assert set(zip(frame["encoding"], frame["depth"], strict=True)) == {
        ("01", 1), ("01", 2), ("pm1", 1), ("pm1", 2),
    }  # fmt: skip
    assert np.allclose(frame["difference"], frame["ep"] - frame["exact"])
    assert frame["reliable"].all() and frame["exact_stderr"].between(0, 0.02).all()
    K = gp.nngp(Network(n=3, hidden=(1,)), bit_matrix(3))
    x1 = frame[(frame["name"] == "x1") & (frame["depth"] == 1) & (frame["encoding"] == "01")]
    assert x1["ep"].item() == gp.log_prior("x1", K, "ep")[0].value
    table = pd.read_parquet(out / "logp" / OVERVIEW)
    shown = pd.read_parquet(out / "tables" / "overview.parquet")
    pd.testing.assert_frame_equal(shown.drop(columns="stage"), table)
    assert table[table["by"] == "source"]["functions"].sum() == len(frame)
    assert table[table["by"] == "depth"]["value"].tolist() == ["1", "2"]
    assert (out / "figures" / "ep-complexity-1.png").stat().st_size > 1000
    again = run_study(read_recipe(tmp_path / "r.toml"), out, resume=True)
    assert {step.action for step in again} == {"skip"}


def parse_recipe_config(text: str) -> dict[str, object]:
    import tomllib

    return parse_recipe(tomllib.loads(text)).stage("logp").config


def test_a_figure_of_the_other_kind_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(SMALL.replace("ep-complexity", "width-convergence"))
    with pytest.raises(InputError, match="column 'width'") as info:
        run_study(read_recipe(tmp_path / "r.toml"), tmp_path / "o")
    assert "\n" not in str(info.value)


@pytest.mark.slow
def test_the_gap_falls_as_one_over_width() -> None:
    """Relu networks of three bits: the gap at width 256 is consistent with the fit, c != 0."""
    study = WidthStudy(
        n=3, widths=(8, 32, 256), samples=(400_000,) * 3, heads=(16, 16, 64),
        functions=("const0", "x1"), labels=("constant", "x1"), tol=0.002, seed=1,
    )  # fmt: skip
    frame = run_logp(study)
    fits = fit_width(frame)
    # 2 functions: c of the constants is known to 5 sigma at least; chi2 above 5 standard deviations
    # of its law (2 degrees of freedom: p < 1e-6 is chi2 > 27.6)
    assert np.isfinite(fits["c"]).all()
    assert (fits["chi2"] < 27.6 + 27.6).all()  # 1/width^2 terms at width 8 are allowed for
    constant = fits[fits["name"] == "constant"].iloc[0]
    assert abs(constant["c"]) > 5 * constant["c_stderr"]
    overview = study_logp.overview(frame).set_index("name")
    assert overview.loc["constant", "c"] == constant["c"]
    assert overview.loc["x1", "gap_8"] == frame.set_index("name").loc["x1"].iloc[0]["gap"]


def test_functions_of_a_study_are_distinct_and_possible() -> None:
    study = EpStudy(functions=("const0", "x1"), flips=2, prior_draws=10)
    setting = Setting(4, "01", 2, 1.0, 0.0)
    K0 = gp.nngp(setting.network(), bit_matrix(4))
    names, sources, tables = functions_of(study, setting, K0)
    assert len(np.unique(tables, axis=0)) == len(tables) == len(names) == len(sources)
    assert (tables[:, 0] == 0).all()  # the input of zero variance
    flipped = [t for n, t in zip(names, tables, strict=True) if "4 of 16" in n]
    assert [int((t != tables[1]).sum()) for t in flipped] == [4] * len(flipped)
    again = functions_of(study, setting, K0)
    assert (again[2] == tables).all()


def test_ep_error_of_the_study_is_that_of_the_published_range() -> None:
    # EP errs by less than 1 nat at n = 4 and by more than its resolution on simple functions
    study = EpStudy(n=(4,), encoding=("01",), depth=(1,), sigma_w=(1.0,), prior_draws=5, flips=1)
    frame = run_logp(study)
    assert frame["reliable"].all()
    assert frame["ep_converged"].all()
    assert (frame["difference"].abs() < 1.0).all()
    x1 = frame[frame["name"] == "x1"].iloc[0]
    assert x1["difference"] < -5 * x1["exact_stderr"]
    table = summarise_study(frame, "source")
    assert table["functions"].sum() == len(frame)
    assert (table["least"] <= table["median"]).all()
    assert (table["median"] <= table["greatest"]).all()
