"""Grids of networks: what a stage [sample] may cross, what its table says, and its figures."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import simprior as sp
from simprior.analysis.figures.architectures import architectures_figure
from simprior.analysis.plot import plot_run
from simprior.analysis.study.priors import component_of, prior_of_cell
from simprior.analysis.study.recipe import parse_recipe
from simprior.analysis.study.run import plan, run_study
from simprior.analysis.table_files import read_frame
from simprior.analysis.table_runs import prior_means
from simprior.errors import InputError

RECIPE = """
title = "Tiny"
seed = 3
[[sample]]
name = "plain"
n = 3
width = 6
samples = 600
heads = 4
complexity = 100
[sample.grid]
activation = ["relu", "tanh"]
sigma_w = [0.5, 2.0]
depth = [1, 2]
[[sample]]
name = "parts"
architecture = "mlp"
n = 3
width = 6
depth = 2
samples = 300
heads = 4
complexity = 60
[sample.grid]
norm = ["none", "layer"]
residual = [false, true]
sigma_w = [0.5, 2.0]
[[figure]]
kind = "architectures"
name = "parts"
from = ["sample-plain", "sample-parts"]
x = "sigma_w"
where = {component = ["relu", "relu + layer norm", "relu + residual"]}
[[figure]]
kind = "architectures"
name = "plain"
x = "sigma_w"
y = ["sensitivity", "p_constant", "sensitivity_nonconstant"]
facets = "depth"
[[table]]
from = "sample-parts"
columns = ["component", "sigma_w", "p_constant", "lz76_nonconstant", "fourier_weight_1_nonconstant"]
"""


def recipe(text: str = RECIPE):
    return parse_recipe(tomllib.loads(text), text)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "o"
    run_study(recipe(), out)
    return out


@pytest.mark.slow
def test_a_study_of_architectures(study: Path) -> None:
    assert recipe().names[:2] == ("sample-plain", "sample-parts")
    frame = read_frame(study / "sample-parts")
    assert len(frame) == 8
    plain, both = ["relu", "relu + residual"], ["relu + layer norm", "relu + layer norm + residual"]
    assert list(dict.fromkeys(frame["component"])) == plain + both
    row = frame[frame["cell"].str.startswith("005")].iloc[0]
    module = sp.Module(
        "mlp", n=3, options={"hidden": (6, 6), "norm": "layer"}, sigma_w=row["sigma_w"]
    )
    counts = sp.sample(module, 300, seed=3, heads=4, complexity=60)
    found = counts.complexity_frame()
    assert (row["norm"], row["residual"], row["sigma_w"]) == ("layer", False, 2.0)
    for end, name in (("", "value"), ("_low", "low"), ("_high", "high")):
        assert row[f"p_constant{end}"] == found[name][0]
        assert row[f"lz76_nonconstant{end}"] == found[name][1]
    weights = found[found["quantity"] == "fourier_weight"]
    assert row["fourier_weight_1_nonconstant"] == weights["value"].iloc[1]
    assert row["fourier_weight_1_high"] == weights["all_high"].iloc[1]
    for name in ("parts.png", "plain.png"):
        assert (study / "figures" / name).stat().st_size > 10_000
    assert "relu + layer norm" in (study / "report.html").read_text()


@pytest.mark.slow
def test_a_finished_study_is_left_alone(study: Path) -> None:
    steps = {step.stage: step.action for step in plan(recipe(), study)}
    assert set(steps.values()) == {"skip"}
    edited = recipe(RECIPE.replace("complexity = 60", "complexity = 50"))
    changed = {step.stage: step.action for step in plan(edited, study)}
    assert changed["sample-parts"] == "run" and changed["sample-plain"] == "skip"


def test_what_a_cell_describes() -> None:
    assert prior_of_cell({"n": 3, "depth": 2, "width": 5}) == sp.Network(n=3, hidden=(5, 5))
    assert prior_of_cell({"depth": 0}) == sp.Network(hidden=())
    deep = prior_of_cell({"architecture": "transformer", "depth": 3, "option": {"d_model": 8}})
    assert isinstance(deep, sp.Module) and deep.options == {"d_model": 8, "layers": 3}
    masked = prior_of_cell({"depth": 3, "density_first": 0.2, "density_hidden": 0.5})
    assert masked == sp.Network(hidden=(40, 40, 40), density=(0.2, 0.5, 0.5, 1.0))
    assert prior_of_cell({"depth": 1, "density_hidden": 1.0}) == sp.Network(hidden=(40,))
    normed = {"architecture": "mlp", "activation": "gelu", "norm": "rms", "residual": True}
    cells = {
        "tanh": {"activation": "tanh"},
        "perceptron": {"hidden": []},
        "lstm": {"architecture": "lstm"},
        "gelu + RMS norm + residual": normed,
    }
    for name, cell in cells.items():
        assert component_of(prior_of_cell(cell)) == name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("depth = 2", "depth = -1"), "depth"),
        (("depth = 2", "depth = 2\nhidden = [3]"), "depth, or depth and width, or hidden"),
        (("width = 6\ndepth = 2", "width = 6"), "depth and width"),
        (('"mlp"', '"transformer"'), "depth alone"),
        (('"mlp"', '"mpl"'), "mlp"),
        (('architecture = "mlp"', "densities = 3"), "densities"),
        (("depth = 2", "depth = 2\ndensity_first = 0.5"), "density_first=0.5.* with mlp"),
        (('"tanh"]', '"tanh"]\ndensity_first = [0.0]'), "density"),
        (('"tanh"]', '"tanh"]\ndensity_hidden = [0.5]'), "as many hidden layers"),
        (('"layer"]', '"leyer"]'), "norm"),
        (("[false, true]", "[0, 1]"), "residual"),
        (('architecture = "mlp"', 'weight_dist = "gaussian"'), "residual=true without a module"),
        (("complexity = 60", "complexity = 0"), "complexity"),
        (("complexity = 60", "complexities = 6"), "complexities"),
        (('name = "parts"\narch', "arch"), "a name for each"),
        (('name = "parts"\narch', 'name = "plain"\narch'), "sample-plain"),
        (('facets = "depth"', 'facet = "depth"'), "facets"),
    ],
)
def test_bad_keys_are_one_line(change: tuple[str, str], message: str, tmp_path: Path) -> None:
    assert change[0] in RECIPE
    with pytest.raises(InputError, match=message) as error:
        plan(recipe(RECIPE.replace(*change, 1)), tmp_path)
    assert "\n" not in str(error.value)


def frame_of(number: int) -> pd.DataFrame:
    rows = pd.DataFrame({"sigma_w": np.arange(1.0, number + 1), "component": "relu"})
    for name in ("p_constant", "lz76_nonconstant"):
        rows = rows.assign(**{name: 0.5, f"{name}_low": 0.4, f"{name}_high": 0.6})
    return rows


def test_panels_of_a_grid() -> None:
    figure = architectures_figure(frame_of(3), x="sigma_w")
    left, right = figure.axes
    assert (left.get_ylabel(), right.get_xlabel()) == ("P(constant)", r"$\sigma_w$")
    assert "given\n" in right.get_ylabel() or "\ngiven" in right.get_ylabel()
    assert left.get_ylim() == (-0.03, 1.03)
    with pytest.raises(InputError, match="at most 6"):
        architectures_figure(frame_of(7), x="sigma_w", facets="sigma_w")
    with pytest.raises(InputError, match="lz76_nonconstant"):
        architectures_figure(frame_of(3), x="sigma_w", y=["lz76_nonconst"])


@pytest.mark.slow
def test_a_run_that_measured_its_functions_is_drawn(tmp_path: Path) -> None:
    network = sp.Network(n=3, hidden=(6,))
    sp.sample(network, 400, heads=4, complexity=100, out=tmp_path / "run")
    names = [path.name for path in plot_run(tmp_path / "run")]
    assert names[-2:] == ["nonconstant.pdf", "nonconstant.png"]
    panels = sp.plot.nonconstant(tmp_path / "run")
    assert len(panels) == 3 and "P(constant) = 0." in panels[0].get_title(loc="left")
    first = panels[2].lines[1].get_ydata()  # over all functions: begins with P(constant)
    assert first[0] == pytest.approx(sp.load(tmp_path / "run").constant_share()[0])
    sp.sample(network, 400, heads=4, out=tmp_path / "plain")
    assert "nonconstant.png" not in [path.name for path in plot_run(tmp_path / "plain")]


def test_a_grid_of_constants_has_an_error() -> None:
    """A network whose bias decides: all 50 functions are constant, and the next may not be."""
    row = prior_means(sp.sample(sp.Network(n=2, hidden=(), sigma_w=1e-6), 50, seed=1))
    assert row["p_constant"] == 1.0
    assert row["p_constant_stderr"] == row["entropy_stderr"] > 0.01
    assert row["lz76"] == 2.0 and row["lz76_stderr"] == row["p_constant_stderr"]
