"""Every figure is a function of ``sp.plot`` that draws results in memory, on axes of the caller."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import simprior as sp
from simprior.analysis.correlate.correlations import Correlations
from simprior.analysis.evidence.bad_minima import STARTS
from simprior.analysis.evidence.capacity import RANDOM
from simprior.analysis.evidence.deep_linear import METHODS
from simprior.analysis.evidence.double_descent import LEAST
from simprior.analysis.evidence.rare_outputs import COMPARED
from simprior.analysis.evidence.robust import PARTS
from simprior.analysis.evidence.tickets import KINDS
from simprior.analysis.figures import registry
from simprior.analysis.strings.settings import StringsSettings
from simprior.analysis.study.logp import EpStudy, run_logp
from simprior.analysis.table_runs import sensitivity
from simprior.errors import InputError
from simprior.network.spec import Network

PANELS = {
    "nearest-distance": 2,
    "architectures": 2,
    "nonconstant": 3,
    "completion": 2,
    "double-descent": 2,
    "double-descent-trained": 2,
    "rare": 2,
    "grokking": 4,
    "rare-outputs": 2,
    "narrow-teachers": 2,
    "tickets": 2,
}


def measures() -> pd.DataFrame:
    """24 networks of eight data sets in two sizes, each measured before and after rescaling."""
    rng = np.random.default_rng(0)
    at = np.arange(24)
    plain = pd.DataFrame(
        {
            "run": [f"r{i // 3}" for i in at],
            "member": at % 3,
            "cluster": [str(i // 3) for i in at],
            "train_size": np.where(at < 12, 16, 32),
            "alpha": 1.0,
            "n": 4,
            "test_error": rng.integers(1, 9, 24) / 16,
            "lz76": rng.integers(3, 9, 24) * 1.0,
            "hessian_trace": rng.random(24),
            "bound": 0.8 + 0.1 * rng.random(24),
        }
    ).assign(bound_low=0.7, bound_high=0.95)
    again = plain.assign(alpha=4.0, hessian_trace=3 * plain["hessian_trace"])
    return pd.concat([plain, again], ignore_index=True)


def coefficients() -> Correlations:
    rows = {"measure": ["lz76", "hessian_trace"]}
    for name in ("pearson", "spearman", "kendall", "partial_spearman"):
        rows |= {name: [0.5, -0.1], f"{name}_low": [0.2, -0.4], f"{name}_high": [0.7, 0.2]}
    none = pd.DataFrame()
    return Correlations(pd.DataFrame(rows), none, none, none, none)


def frequencies() -> pd.DataFrame:
    p = np.array([0.3, 0.01, 2e-5])
    return pd.DataFrame(
        {
            "method": "ep",
            "logp": np.log(p) - 0.1,
            "stderr": 0.01,
            "p": p,
            "p_stderr": p / 20,
            "p_low": 0.9 * p,
            "p_high": 1.1 * p,
        }
    )


def widths() -> pd.DataFrame:
    width = np.array([64.0, 128, 256, np.inf])
    frame = pd.DataFrame({"name": "x1", "width": width, "gap": 3 / width, "gap_stderr": 0.01})
    return frame.assign(logp=-5 + frame["gap"], stderr=0.01)


def priors() -> pd.DataFrame:
    rows = pd.DataFrame({"sigma_w": [1.0, 2.0], "component": "relu"})
    for name in ("p_constant", "lz76_nonconstant"):
        rows = rows.assign(**{name: 0.5, f"{name}_low": 0.4, f"{name}_high": 0.6})
    return rows


def finite_widths() -> pd.DataFrame:
    frame = widths().assign(method="finite-smc", converged=True)
    return frame.assign(gain=frame["gap"], gain_stderr=0.01)


def evidence() -> pd.DataFrame:
    """Columns of all stages [evidence] that are drawn."""
    methods = [*dict.fromkeys([*METHODS, LEAST, "posterior draw", "posterior mean"])]
    rows = pd.DataFrame({"method": methods * 2, "dataset": [0] * len(methods) + [1] * len(methods)})
    rows = rows.assign(depth=1, width=5, wrong=0.5, rank=2.0, features=16, corrupt=0.0, error=0.2)
    rows = rows.assign(noise=np.where(rows["method"].str.startswith("posterior "), 0.5, 0.0))
    return rows.assign(sgd=0.3, sgd_stderr=0.1, subset_bayes=0.2, subset_bayes_stderr=0.1)


def trained_descent() -> pd.DataFrame:
    """Columns of a stage [evidence] of kind double-descent-trained."""
    rows = pd.DataFrame({"method": ["sgd", "adam"] * 4, "width": [1, 1, 2, 2] * 2})
    return rows.assign(dataset=[0] * 4 + [1] * 4, labels="0 wrong", error=0.2, vote=0.1)


def rare_outputs() -> pd.DataFrame:
    rows = pd.DataFrame(
        {"method": ["exact", "tilt", "gld"] * 2, "threshold": [1.0] * 3 + [2.0] * 3}
    )
    rows = rows.assign(logp=-5.0 - rows["threshold"], low=-8.0, high=-5.0, off=[0, 0.1, -1] * 2)
    return rows.assign(reliable=[True, False, True] * 2)


def grokking() -> pd.DataFrame:
    """Columns of a stage [evidence] of kind grokking."""
    moments = pd.DataFrame({"moment": ["curve", "curve", "end", "random function"]})
    arms = pd.DataFrame({"decay": [0.0, 1.0], "generalised": [-1, 20]})
    rows = moments.merge(arms, how="cross").assign(step=50, fit=10, target="parity:2", scale=1.0)
    rows = rows.assign(error=0.1, train_error=0.0, lz76=30.0, sensitivity=2.0)
    return rows.assign(**{"log_p 1:0.1": -50.0})


def rare_networks() -> pd.DataFrame:
    rows = pd.DataFrame({"method": [*COMPARED] * 4, "dataset": np.repeat([0, 1, 0, 1], 4)})
    rows = rows.assign(kind=np.repeat(["random", "trained"], 8), width=8, bits=4)
    return rows.assign(off=np.linspace(-1, 1, 16))


def teachers() -> pd.DataFrame:
    rows = pd.DataFrame({"student": [8, 8, 0, 0], "dataset": [0, 1, 0, 1]})
    return rows.assign(labels="teacher", teacher=1, train=16, error=[0.2, 0.3, 0.2, 0.4])


def tickets() -> pd.DataFrame:
    kinds = ["dense", *KINDS]
    rows = pd.DataFrame({"kind": kinds * 2, "dataset": [0] * len(kinds) + [1] * len(kinds)})
    density = np.where(rows["kind"] == "dense", 1.0, 0.5)
    return rows.assign(layer=0, density=density, error=0.1, lz=20.0)


def fits() -> pd.DataFrame:
    """Columns of stages [evidence] of kinds robust, capacity and bad-minima."""
    rows = pd.DataFrame({"part": [*PARTS] * 4, "width": np.repeat([4, 8], 2 * len(PARTS))})
    rows = rows.assign(measure="fitted", depth=2, value=0.5, labels=RANDOM, train=16, fitted=0.5)
    return rows.assign(start=[*STARTS[:3]] * 4, parameters=41, error=0.1, log_p=-40.0)


def multipliers() -> pd.DataFrame:
    rows = pd.DataFrame({"m": 12, "subset": [0, 0, 1, 1], "multiplier": [1.0, 10.0, 1.0, 10.0]})
    rows = rows.assign(exact=[-5.0, -5.0, -6.0, -6.0], ep=-5.6, probit=-7.0, difference=-1.5)
    return rows.assign(reliable=True, ep_converged=True, probit_converged=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Any, dict[str, Any]]]:
    """{kind: (what is drawn, keywords)}."""
    a = sp.sample(Network(n=4, hidden=(10,)), samples=20_000, seed=0, heads=1)
    b = sp.sample(Network(n=4, hidden=(10,), sigma_b=0.3), samples=5000, seed=1, heads=1)
    mask = np.arange(16) > 5
    c = sp.sample(Network(n=4, hidden=(10,)), samples=2000, seed=0, heads=4, complexity=500)
    both = sp.compare(a, b, bootstrap=5, splits=2, target="x1", test_mask=mask)
    study = EpStudy(
        n=(3, 4), encoding=("01",), depth=(1, 2), sigma_w=(1.0,), prior_draws=3, flips=1
    )
    out = tmp_path_factory.mktemp("strings") / "run"
    small = StringsSettings(n=(6, 9, 12), hidden=(8,), networks=6, gp_draws=64)
    strings, errors, frame = sensitivity(small, out=out), run_logp(study), measures()
    plain = frame[frame["alpha"] == 1.0]
    fitted = pd.DataFrame({"fitted": [True, True], "distance": 1.0, "flips": [2.0, 3.0]})
    return {
        **dict.fromkeys(("rank", "complexity", "ones", "complexity-histogram"), (a, {})),
        "nonconstant": (c, {}),
        "architectures": (priors(), {"x": "sigma_w"}),
        **dict.fromkeys(("compare-scatter", "compare-errors"), (both, {"labels": ("A", "B")})),
        "scatter": (plain, {"x": "lz76", "by": "train_size"}),
        "forest": (coefficients(), {"coefficient": "partial_spearman"}),
        "rescaling": (frame, {}),
        "bound": (plain, {"x": "train_size"}),
        "sweep": (plain, {"x": "train_size", "y": "test_error"}),
        **dict.fromkeys(("sampled-gp", "sampled-gp-ratio"), (frequencies(), {})),
        **dict.fromkeys(("ep-complexity", "ep-settings"), (errors, {})),
        "width-convergence": (widths(), {}),
        "logp-width": (finite_widths(), {}),
        "multiplier": (multipliers(), {}),
        **dict.fromkeys(("completion", "double-descent"), (evidence(), {})),
        **dict.fromkeys(("grokking", "delay"), (grokking(), {})),
        **dict.fromkeys(("robust", "capacity", "bad-minima"), (fits(), {})),
        "rare-outputs": (rare_networks(), {}),
        "double-descent-trained": (trained_descent(), {}),
        "narrow-teachers": (teachers(), {}),
        "tickets": (tickets(), {}),
        "memorised": (evidence().assign(wrong=[True, False] * 7), {}),
        "rare": (rare_outputs(), {}),
        **dict.fromkeys(("nearest-distance", "random-flips", "flips-law"), (strings, {})),
        "sensitivity": (out, {"figure": "random-flips"}),
        "trained-sensitivity": (fitted.assign(test_error=[0.1, 0.2], uniform_flips=1.9), {}),
    }


@pytest.mark.parametrize("name", sorted(registry.kinds()))
def test_every_figure_draws_into_given_axes(name: str, data: dict[str, Any]) -> None:
    given, keywords = data[name]  # a new kind of figure needs an entry there
    figure = Figure(figsize=(7, 4))
    number = PANELS.get(name, 1)
    panels = figure.subplots(1, number + 1)
    other, *ours = panels
    plot = getattr(sp.plot, name.replace("-", "_"))
    assert name.replace("-", "_") in dir(sp.plot)
    found = plot(given, ax=ours[0] if number == 1 else ours, title="A title", **keywords)
    assert list(np.ravel(found)) == ours
    assert ours[0].get_title() == "A title" or ours[0].get_title(loc="left") == "A title"
    assert all(axes.has_data() for axes in ours) and not other.has_data()
    assert figure.get_size_inches().tolist() == [7, 4]
    assert not figure.legends and figure.get_supxlabel() == ""
    figure.draw_without_rendering()


def test_without_axes_there_is_a_new_figure(data: dict[str, Any]) -> None:
    axes = sp.plot.compare(data["compare-scatter"][0], labels=("SGD", "Bayes"))
    assert isinstance(axes, Axes)
    strips = axes.figure.axes[1:3]
    assert {s.get_xlabel() + s.get_ylabel() for s in strips} == {
        "probability in SGD",
        "probability in Bayes",
    }
    both = sp.plot.forest(data["forest"][0], coefficient="partial_spearman", controls=["target"])
    assert [axes.get_title(loc="left") for axes in both] == ["given target", "raw"]
    one = sp.plot.forest(data["forest"][0])
    assert isinstance(one, Axes)


def test_results_and_paths_are_the_same_figure(tmp_path: Path) -> None:
    counts = sp.sample(Network(n=3, hidden=(4,)), samples=2000, out=tmp_path / "run")
    first, second = sp.plot.rank(counts), sp.plot.rank(tmp_path / "run")
    for one, other in zip(first.lines, second.lines, strict=True):
        np.testing.assert_array_equal(one.get_xydata(), other.get_xydata())
    assert sp.plot.rank(sp.train(Network(n=3, hidden=(4,)), "x1", runs=4, train=4)).lines


def test_labels_name_the_groups(data: dict[str, Any]) -> None:
    frame, keywords = data["scatter"]

    def names(labels: Any) -> list[str]:
        axes = sp.plot.scatter(frame, **keywords, labels=labels)
        return [text.get_text() for text in axes.figure.legends[0].get_texts()]

    assert names(None) == ["16", "32"]
    assert names(["few", "many"]) == ["few", "many"]
    assert names({"32": "many"}) == ["16", "many"]
    with pytest.raises(InputError, match="2 names"):
        names(["few"])
    with pytest.raises(InputError, match="33"):
        names({"33": "many"})


def test_what_is_refused(data: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="FunctionCounts"):
        sp.plot.rank(data["scatter"][0])
    with pytest.raises(InputError, match="panels"):
        sp.plot.rank(data["rank"][0], ax=Figure().subplots(1, 2))
    with pytest.raises(AttributeError, match="pie"):
        sp.plot.pie  # noqa: B018


def test_a_table_from_elsewhere_has_a_point_a_row() -> None:
    """Without the column ``run`` nothing says which networks belong together."""
    table = pd.DataFrame({"log_p": [-3.0, -2.0, -1.0], "test_error": [0.3, 0.2, 0.2]})
    axes = sp.plot.scatter(table, x="log_p")
    points = np.concatenate([c.get_offsets() for c in axes.collections if len(c.get_offsets())])
    assert {tuple(p) for p in np.asarray(points)} >= {(-3.0, 0.3), (-2.0, 0.2), (-1.0, 0.2)}
