"""Findings: contrasts over data sets, correction within the table, verdicts; stages of recipes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from simprior.analysis.evidence.experiments import FINDINGS, OVERVIEW, TABLE
from simprior.analysis.evidence.findings import Finding, failed_controls, judged, table_of
from simprior.analysis.evidence.paired import Estimate, mean_of, slope_of
from simprior.analysis.figures.evidence import completion_figure
from simprior.analysis.study.recipe import parse_recipe, read_recipe
from simprior.analysis.study.run import plan, run_study
from simprior.errors import InputError
from simprior.runs.directory import load_run

EXAMPLES = Path(__file__).parents[2] / "examples" / "evidence"
RECIPE = """
[[evidence]]
name = "completion"
kind = "deep-linear"
datasets = 50
depth = [1, 2]
draws = 9
[[evidence]]
name = "more"
kind = "deep-linear"
size = 4
observed = 9
[[figure]]
kind = "completion"
from = "evidence-completion"
[[table]]
name = "findings"
from = ["evidence-completion", "evidence-more"]
file = "tables/findings.parquet"
[quick.evidence-completion]
datasets = 3
draws = 4
thin = 1
burn = 2
steps = 30
[quick.evidence-more]
depth = [1, 2]
datasets = 3
draws = 4
thin = 1
burn = 2
steps = 30
"""
FULL = RECIPE.partition("[quick")[0]


def test_means_are_those_of_the_t_test() -> None:
    values = np.random.default_rng(0).standard_normal(12) + 0.5
    found, test = mean_of(values), stats.ttest_1samp(values, 0)
    assert found.p == pytest.approx(test.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert found.number == 12


def test_values_without_a_spread_have_the_p_of_the_sign_test() -> None:
    assert mean_of(np.zeros(5)) == Estimate(0, 0, 0, 1.0, 5)
    assert mean_of(np.full(5, 0.1)) == Estimate(0.1, 0.1, 0.1, 2.0**-4, 5)
    for values in ([1.0], [1.0, math.nan]):
        with pytest.raises(InputError, match="add data sets"):
            mean_of(np.array(values))


def test_slopes_are_fitted_in_each_data_set() -> None:
    x, source = np.array([1.0, 2, 4]), np.random.default_rng(1)
    values = source.standard_normal((7, 3))
    each = [np.polyfit(x, row, 1)[0] for row in values]
    assert slope_of(x, values).value == pytest.approx(np.mean(each))
    assert slope_of(x, values).p == pytest.approx(stats.ttest_1samp(each, 0).pvalue)
    with pytest.raises(InputError, match="slope"):
        slope_of(np.array([2.0, 2.0]), values[:, :2])


def finding(p: float, effect: float = -1.0, expected: int = -1, source: str = "prior") -> Finding:
    value = Estimate(effect, effect - 1, effect + 1, p, 9)
    return Finding("f", f"p={p}", value, source, expected, "nobody")


def test_verdicts_follow_from_the_corrected_p_and_the_sign() -> None:
    table = table_of(
        [
            finding(0.001),
            finding(0.002, effect=1.0),
            finding(0.04),
            finding(0.3, source="control", expected=0),
            finding(0.03, source="control", expected=0),
        ]
    )
    assert np.allclose(table["p_holm"], [0.005, 0.008, 0.09, 0.3, 0.09])
    expected = ["agrees", "opposite", "not shown", "null, as a control must be"]
    assert list(table["verdict"]) == [*expected, "control is not null"]
    assert list(table["cause"]) == ["prior", "none shown", "none shown", "", ""]
    assert failed_controls(table) == ["p=0.03"]
    again = judged(table.iloc[[2]])  # in a table of its own
    assert again["verdict"].item() == "agrees" and again["p_holm"].item() == 0.04
    with pytest.raises(InputError, match="source="):
        finding(0.1, source="luck")


def write(folder: Path, text: str = RECIPE) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def test_a_quick_study_has_other_settings_and_can_be_resumed(tmp_path: Path) -> None:
    path, out = write(tmp_path), tmp_path / "out"
    recipe = read_recipe(path, quick=True)
    assert recipe.stage("evidence-completion").config["datasets"] == 3
    assert read_recipe(path).stage("evidence-completion").config["datasets"] == 50
    steps = plan(recipe, out, file=path)
    assert all("--quick" in step.command for step in steps if step.stage != "report")
    run_study(recipe, out)
    run = load_run(out / "evidence-completion")
    assert {TABLE, OVERVIEW, FINDINGS} <= set(run.files) and run.status == "complete"
    assert run.results["verdict"].count(";") == 6 and run.verify() == []
    assert (out / "figures" / "completion-1.png").is_file()
    table = pd.read_parquet(out / "tables" / "findings.parquet")
    assert list(table["stage"].unique()) == ["completion", "more"] and len(table) == 14
    again = run_study(read_recipe(path, quick=True), out, resume=True)
    assert {step.action for step in again} == {"skip"}
    kept = read_recipe(out / "recipe.toml")  # what is kept is the recipe as it was run
    assert {step.action for step in plan(kept, out)} == {"skip"}


@pytest.mark.slow
def test_results_are_the_same_with_workers_and_after_an_interruption(tmp_path: Path) -> None:
    from simprior.analysis.evidence.deep_linear import DeepLinear
    from simprior.analysis.evidence.experiments import run_experiment

    given = DeepLinear(datasets=50, depth=(1, 2), draws=4, thin=1, burn=2, steps=30)
    alone = run_experiment(given)
    shared = run_experiment(given, out=tmp_path / "run", workers=2)
    pd.testing.assert_frame_equal(alone, shared)
    again = run_experiment(given, out=tmp_path / "run", resume=True)
    pd.testing.assert_frame_equal(alone, again)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (RECIPE + "[quick.nothing]\nx = 1\n", "stage of .quick. 'nothing'"),
        ("quick = 3\n" + FULL, "quick=3"),
        (RECIPE.replace("deep-linear", "deep-linar", 1), "did you mean deep-linear"),
        (RECIPE.replace("observed = 9", "observe = 9"), "did you mean observed"),
        (RECIPE.replace("observed = 9", "observed = 16"), "observed=16"),
        (RECIPE.replace("observed = 9", "linked = 1"), "linked=1 of .evidence.: expected bool"),
        (FULL.replace('name = "more"\n', ""), "a name for each"),
    ],
)
def test_bad_recipes_are_refused_before_the_work(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan(read_recipe(write(tmp_path, text)), tmp_path / "out")


def test_quick_needs_its_section(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"without \[quick\]"):
        read_recipe(write(tmp_path, FULL), quick=True)


def test_the_figure_refuses_a_width_that_was_not_computed() -> None:
    frame = pd.DataFrame(
        {"dataset": [0, 1], "depth": 1, "width": 5, "method": "prior", "wrong": 0.5, "rank": 2.0}
    )
    with pytest.raises(InputError, match="width='4'"):
        completion_figure(frame, width=4)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda p: p.stem)
@pytest.mark.parametrize("quick", [False, True])
def test_the_recipes_are_read(path: Path, quick: bool, tmp_path: Path) -> None:
    steps = plan(read_recipe(path, quick), tmp_path)
    assert any(step.stage.startswith("evidence") for step in steps)
    assert parse_recipe(values_of(path)).texts.keys() >= {"title", "question", "run_time"}


def values_of(path: Path) -> dict:
    import tomllib

    values = tomllib.loads(path.read_text())
    values.pop("quick")
    return values
