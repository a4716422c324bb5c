"""Rare outputs: moments, closed forms, exact enumeration, refusals, and honest error bars."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_ndtr
from scipy.stats import multivariate_normal, norm

import simprior as sp
from simprior.analysis.plot import plot_run
from simprior.analysis.rare.extrapolate import _inside
from simprior.analysis.rare.given import Given, find_given
from simprior.analysis.rare.laws import BitLaw, GaussianLaw
from simprior.analysis.rare.methods import METHODS, Effort, exact
from simprior.analysis.rare.moments import _quadrature, activated, bivariate_cdf, output_moments
from simprior.analysis.rare.particles import Ladder
from simprior.analysis.rare.question import Question, effective, finding, log_mean, relative_error
from simprior.analysis.rare.run import rare
from simprior.analysis.rare.weighted import _estimate, _log_weights
from simprior.cli import main
from simprior.errors import InputError
from simprior.network.parameters import Parameters
from simprior.network.spec import Network
from simprior.runs.directory import load_run
from simprior.runs.tasks import one_thread

NET = Network(n=3, hidden=(4,))
TEN = Network(n=10, hidden=(5,), encoding="pm1", sigma_b=0.5)
SMALL = {"samples": 4000, "particles": 100, "runs": 8, "moves": 10}
UNBIASED = [name for name, method in METHODS.items() if method.kind == "unbiased"]


def linear(weights: list[float], bias: float) -> Given:
    """z = weights . x + bias."""
    network = Network(n=len(weights), hidden=(), activation="linear")
    flat = np.array([[*weights, bias]])
    return Given(network, flat, "a linear network", network.input_matrix())


def asked(name: str, question: Question, effort: Effort, seed: int = 0) -> Any:
    with one_thread():
        return METHODS[name].estimate(question, effort, np.random.default_rng(seed))


# -- moments ---------------------------------------------------------------------------------------


def test_the_bivariate_normal_integral() -> None:
    points = np.array([(0.3, -1.2), (0.0, 0.0), (0.0, -2.0), (-1.0, -3.0), (2.0, 0.0), (-2.0, 4.0)])
    for rho in (-0.999, -0.4, 0.0, 0.7, 0.999):
        found = bivariate_cdf(points[:, 0], points[:, 1], np.full(len(points), rho))
        law = multivariate_normal([0, 0], [[1, rho], [rho, 1]])
        assert np.allclose(found, [law.cdf(p) for p in points], atol=1e-7), rho


@pytest.mark.parametrize("activation", ["relu", "step", "linear"])
def test_closed_moments_are_those_of_a_dense_grid(activation: str) -> None:
    """Midpoints of 4000 x 4000 equal shares of the two normal variables: error 2e-3 of a kink."""
    network = Network(n=2, hidden=(2,), activation=activation)
    mean, covariance = np.array([0.4, -0.7]), np.array([[1.3, -0.6], [-0.6, 0.8]])
    first, second = activated(network, mean, covariance)
    at = norm.ppf((np.arange(4000) + 0.5) / 4000)
    from simprior.network.callables import array_function

    f, root = array_function(network), np.linalg.cholesky(covariance)
    u = f(mean[0] + root[0, 0] * at)
    v = np.array([f(mean[1] + root[1, 0] * z + root[1, 1] * at).mean() for z in at])
    assert first[0] == pytest.approx(u.mean(), abs=2e-3)
    assert first[1] == pytest.approx(v.mean(), abs=2e-3)
    assert second[0, 1] == pytest.approx((u * v).mean() - u.mean() * v.mean(), abs=2e-3)
    assert second[0, 0] == pytest.approx(u.var(), abs=4e-3)
    if activation == "linear":
        quadrature = _quadrature(network, 48)(*(np.array([x]) for x in (0.4, -0.7, 1.0, 2.0, 0.3)))
        assert quadrature[0] == pytest.approx(0.4 * -0.7 + 0.3 * 2.0)


def test_gelu_moments_by_quadrature_and_constant_units() -> None:
    """E[u Phi(u)] = a Phi(a/r) + (s^2/r) phi(a/r), r^2 = 1 + s^2, of a normal u with mean a."""
    network = Network(n=2, hidden=(2,), activation="gelu")
    first, second = activated(network, np.array([0.5, 2.0]), np.diag([1.5, 0.0]))
    r = math.sqrt(2.5)
    assert first[0] == pytest.approx(0.5 * norm.cdf(0.5 / r) + 1.5 / r * norm.pdf(0.5 / r))
    assert first[1] == pytest.approx(2.0 * norm.cdf(2.0)) and second[1, 1] == 0.0


# -- closed forms ----------------------------------------------------------------------------------


def test_a_linear_network_of_gaussian_inputs_is_a_normal_tail_down_to_1e_12() -> None:
    """sd 3, threshold 21.1: ln P = -27.4. Estimates within 4 standard errors, 5 of the 12 runs of
    chains, whose tails are those of Student's t: false alarm 1e-3 for all four."""
    given = linear([2.0, -2.0, 1.0], 0.1)
    question = Question(given, GaussianLaw.standard(3), 21.1)
    wanted = float(log_ndtr(-7.0))
    assert wanted < math.log(2e-12)
    for found in (exact(question), asked("gaussian", question, Effort())):
        assert found.value == pytest.approx(wanted, rel=1e-12) and found.stderr == 0
    effort = Effort(samples=4000, particles=400, runs=12, moves=20)
    for name in ("tilt", "itgis", "mhis", "splitting"):
        found = asked(name, question, effort)
        assert found.diagnostics["reliable"], (name, found)
        reach = 5 if name in ("mhis", "splitting") else 4
        assert abs(found.value - wanted) < reach * found.stderr < 1.0, name
    assert math.isnan(asked("sampling", question, effort).value)
    below = Question(given, GaussianLaw.standard(3), -20.9, above=False)
    assert asked("gaussian", below, effort).value == pytest.approx(wanted)
    assert abs(asked("gld", below, effort).value - wanted) < 1.0


def test_bits_of_a_linear_network_are_binomial() -> None:
    """z = the number of ones of 20 bits; P(z > 17) = 211 / 2^20, and P(z <= 2) is the same."""
    given = linear([1.0] * 16, 0.0)
    for threshold, above in ((13.5, True), (2.5, False), (2.0, False)):
        found = exact(Question(given, BitLaw(16), threshold, above))
        assert found.value == pytest.approx(math.log((1 + 16 + 120) / 2**16))
    question = Question(given, BitLaw(16), 13.0)  # 13 ones are not above 13
    assert exact(question).value == pytest.approx(math.log(137 / 2**16))
    assert question.evaluations == 2**16
    mean, variance = output_moments(question)
    assert (mean, variance) == (8.0, 4.0)


def test_enumeration_counts_the_ones_of_the_function() -> None:
    found = rare(NET, member=2, seed=1, event="above", methods="exact")
    table = sp.sample(NET, samples=3, heads=1, seed=1)
    assert found.summary["law"] == "bits" and found.table["evaluations"][0] == 8
    ones = 8 * math.exp(found.table["logp"][0])
    assert round(ones) == pytest.approx(ones) and len(table.words) >= 1


def test_qld_of_a_linear_network_is_its_tail_and_gld_with_exact_moments() -> None:
    """All fields are normal, so both are right but for the fit: 5 standard errors (t of 8 fits)."""
    network = Network(n=3, hidden=(4,), activation="linear", inputs=np.zeros((2, 3)))
    given = find_given(network, member=1, seed=2)
    question = Question(given, GaussianLaw.standard(3), 0.0)
    mean, variance = output_moments(question)
    question = Question(given, GaussianLaw.standard(3), mean + 4 * math.sqrt(variance))
    for name in ("qld", "gld"):
        found = asked(name, question, Effort(samples=8000))
        assert abs(found.value - log_ndtr(-4.0)) < 5 * found.stderr < 2.0, name


def test_the_probability_along_a_direction() -> None:
    at = np.linspace(-12, 12, 481)
    for low, high in ((1.03, 2.51), (-3.0, 0.4), (9.0, 9.5)):
        scores = np.minimum(at - low, high - at)
        found = _inside(at, np.stack([scores, np.full(481, -1.0)]))
        assert found.tolist() == pytest.approx([norm.sf(low) - norm.sf(high), 0.0], rel=1e-6)


# -- exact enumeration -----------------------------------------------------------------------------


def test_unbiased_methods_agree_with_enumeration() -> None:
    """Ten bits, P of some 0.4 %. 5 estimates within 4 of their errors, of 8 runs 6 (t: 5e-4)."""
    given = find_given(TEN, member=4, seed=0)
    z = np.sort(given.outputs(BitLaw(10, True).inputs(BitLaw(10, True).strings(0, 1024))))
    question = Question(given, BitLaw(10, True), float(z[-5] + z[-4]) / 2)
    wanted = exact(question).value
    assert wanted == pytest.approx(math.log(4 / 1024))
    for name in UNBIASED:
        found = asked(name, question, Effort(**SMALL), seed=1)
        reach = 6 if name in ("mhis", "splitting") else 4
        assert abs(found.value - wanted) < reach * found.stderr < 6.0, (name, found)


def test_no_hits_are_an_upper_limit_and_never_zero() -> None:
    question = Question(linear([1.0] * 16, 0.0), BitLaw(16), 15.5)
    found = asked("sampling", question, Effort(samples=100))
    assert math.isnan(found.value) and math.isnan(found.stderr) and found.ess == 0
    assert found.diagnostics["high"] == pytest.approx(math.log(1 - 0.025 ** (1 / 100)))
    assert not found.diagnostics["reliable"] and "no hits" in found.diagnostics["note"]


@pytest.mark.parametrize("name", ["tilt", "itgis", "mhis", "splitting"])
def test_an_event_that_never_happens_is_said_to_be_out_of_reach(name: str) -> None:
    question = Question(linear([1.0] * 6, 0.0), BitLaw(6), 6.0)
    found = asked(name, question, Effort(**SMALL))
    assert math.isnan(found.value) and not found.diagnostics["reliable"]
    assert exact(question).value == -math.inf


def test_importance_weights_average_to_one_and_are_bounded() -> None:
    """The mean weight over all strings under the mixture is 1; no weight exceeds 10."""
    question = Question(linear([1.0] * 8, 0.0), BitLaw(8), 7.5)
    theta, states = np.linspace(-2, 3, 8), BitLaw(8).strings(0, 256)
    logs = _log_weights(question, states, theta)
    assert np.exp(-logs).mean() == pytest.approx(1.0) and logs.max() <= math.log(10)


def test_a_part_of_the_event_that_the_tilt_misses_is_in_the_error() -> None:
    """z = max(u, v - 1/4) of two normal inputs, tilted towards u alone: the other part has a share
    of 0.25 at 4, and draws of the law itself hardly find it. Without the chains the error would be
    0.02 for an estimate that is off by 0.29."""
    weights = (np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([[1.0], [1.0]]))
    network = Network(n=2, hidden=(2,), inputs=np.zeros((2, 2)))
    flat = Parameters(weights, (np.array([-3.0, -3.25]), np.array([-1.0]))).flat()[None]
    question = Question(Given(network, flat, "two ways", np.zeros((2, 2))), GaussianLaw.standard(2))
    theta, source = np.array([4.0, 0.0]), np.random.default_rng(5)
    with one_thread():
        found = _estimate("tilt", question, theta, 2000, 400, source, True)
    wanted = math.log(2 * norm.sf(4.0) * 0.5 * (1 + norm.sf(4.25) / norm.sf(4.0)))
    assert found.stderr > 0.15 and "chains find the event" in found.diagnostics["note"]
    assert abs(found.value - wanted) < 4 * found.stderr


def test_log_means_and_their_errors() -> None:
    logs = np.log(np.array([1.0, 2.0, 3.0])) - 800.0
    assert log_mean(logs) == pytest.approx(math.log(2.0) - 800.0)
    assert relative_error(logs) == pytest.approx(1 / math.sqrt(3) / 2)
    assert effective(logs) == pytest.approx(36 / 14)
    none = np.full(3, -math.inf)
    assert log_mean(none) == -math.inf and effective(none) == 0
    assert math.isnan(relative_error(none))
    assert finding("x", -3.0, 0.1).diagnostics["low"] == pytest.approx(-3.196, abs=1e-3)


def test_weights_of_a_ladder_multiply_to_the_event() -> None:
    scores = np.array([-1.0, 0.5])
    ladder = Ladder("mhis", (0.5, 2.0))
    total = ladder.log_step(scores, None, 0.5) + ladder.log_step(scores, 0.5, 2.0)
    assert (total + ladder.log_end(scores)).tolist() == [-math.inf, 0.0]


def test_moves_keep_the_laws() -> None:
    """Moments after Metropolis moves are those of the law: 20000 states, 5 standard errors."""
    source = np.random.default_rng(3)
    like = GaussianLaw.like(np.array([[0.0, 0.0, 1.0], [1.0, 1.0, 1.0], [2.0, 0.0, 1.0]]))
    assert like.size == 2 and np.allclose(like.moments()[1], np.cov(like_rows().T))
    for law in (BitLaw(4), like):
        states = law.draw(20000, source)
        proposed, gain = law.propose(states, 0.5, source)
        assert (proposed != states).any(axis=1).all()
        yes = np.log(source.random(20000)) < gain
        moved = np.where(yes[:, None], proposed, states)
        mean, spread = (0.5, 0.5) if law.name == "bits" else (0.0, 1.0)
        assert np.abs(moved.mean(0) - mean).max() < 5 * spread / math.sqrt(20000)
        assert np.abs(moved.std(0) - spread).max() < 5 * spread / math.sqrt(20000)


def like_rows() -> np.ndarray:
    return np.array([[0.0, 0.0, 1.0], [1.0, 1.0, 1.0], [2.0, 0.0, 1.0]])


# -- the whole -------------------------------------------------------------------------------------


def test_a_run_is_the_same_with_workers_and_after_an_interruption(tmp_path: Path) -> None:
    options = {"member": 4, "threshold": [0.2, 0.5], "methods": "exact,sampling,tilt,gaussian,gld"}
    alone = rare(TEN, **options, **SMALL)
    kept = rare(TEN, **options, **SMALL, out=tmp_path / "run")
    again = rare(TEN, **options, **SMALL, out=tmp_path / "run", resume=True)
    for other in (kept, again):
        pd.testing.assert_frame_equal(alone.table, other.table)
    run = load_run(tmp_path / "run")
    assert run.verify() == [] and run.results["verdict"] == alone.verdict
    assert alone.verdict.startswith("ln P(z") and alone.verdict.count("exact") == 2
    first = alone.table[alone.table["threshold"] == 0.2].set_index("method")
    assert first.loc["exact", "off"] == 0 and first.loc["gld", "kind"] == "approximation"
    assert first.loc["gld", "off"] == first.loc["gld", "logp"] - first.loc["exact", "logp"]
    assert {Path(path).name for path in plot_run(tmp_path / "run")} >= {"rare.png"}
    assert sp.load(tmp_path / "run").verdict == alone.verdict


def test_the_rarer_side_and_the_best_estimate_as_reference() -> None:
    given = {"member": 4, "law": "gaussian", "methods": ["tilt", "gld"], **SMALL}
    found = rare(TEN, threshold=(-3.0, 3.0), **given).table
    assert found["event"].tolist() == ["below", "below", "above", "above"]
    assert found["off"].notna().all() and found.loc[0, "off"] == 0
    assert math.isnan(found.loc[0, "off_stderr"])
    few = rare(TEN, threshold=30.0, **{**given, "methods": ["sampling"]})
    assert "no method has an estimate" in few.verdict and "ln P <" in few.verdict


def test_networks_of_runs_files_and_modules(tmp_path: Path) -> None:
    result = sp.train(NET, "x1", train=6, runs=4, lr=0.1, max_epochs=400, out=tmp_path / "run")
    member = int(np.flatnonzero(result.fitted)[0])
    found = rare(tmp_path / "run", event="above", methods="exact")
    ones = bin(int(result.words[member][0])).count("1")
    assert found.table["logp"][0] == pytest.approx(math.log(ones / 8))
    assert found.summary["network"] == f"member {member}"
    weights = [np.ones((3, 4)), np.ones((4, 1))]
    flat = Parameters(tuple(weights), (np.zeros(4), np.array([-11.0])))
    same = rare(flat, network=NET, methods="exact")  # 4 (x1 + x2 + x3) > 11 for 111 alone
    assert same.table["logp"][0] == pytest.approx(-3 * math.log(2))
    mlp = sp.Module("mlp", n=3, options={"hidden": (4,)})
    names = rare(mlp, **SMALL).table["method"]
    assert set(names) == set(METHODS)
    tokens = sp.Module("transformer", n=3, options={"d_model": 4, "layers": 1, "heads": 1})
    left = set(METHODS) - set(rare(tokens, **{**SMALL, "runs": 2, "moves": 2}).table["method"])
    assert left == {"itgis", "gaussian", "qld"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"methods": "spliting"}, "did you mean splitting"),
        ({"methods": "qld,qld"}, "each method once"),
        ({"methods": "exact", "law": "gaussian"}, "the output is not normal"),
        ({"law": "bit"}, "did you mean bits"),
        ({"law": np.ones((3, 2))}, "two rows or more that differ"),
        ({"law": np.eye(4)}, "4 columns"),
        ({"event": "rarest"}, "one of rare, above, below"),
        ({"threshold": (1.0, 1.0)}, "each threshold once"),
        ({"samples": 10}, "samples=10"),
        ({"runs": 1}, "--runs 16"),
        ({"network": NET}, "it is for files"),
        ({"given": "net.pt"}, "pass network="),
        ({"given": "nothing-there"}, "nothing-there"),
        ({"given": Parameters((np.ones((3, 4)),), (np.ones(4),)), "network": NET}, "layers in"),
    ],
)
def test_refusals(values: dict[str, Any], message: str) -> None:
    values = {"given": NET, **values}
    with pytest.raises((InputError, sp.SimpriorError), match=message):
        rare(values.pop("given"), **values)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = "rare --n 3 --hidden 4 --workers 1 --samples 500 --threshold 0.1 --quiet"
    assert main([*line.split(), "--methods", "exact,gld", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in found["table"]] == ["exact", "gld"]
    assert found["table"][0]["logp"] is None  # no string: -inf is no JSON
    assert found["summary"]["verdict"] == "P(z <= 0.1): no input gives it (exact)."
    assert main([*line.split(), "--methods", "exact", "--law", "bits", "--member", "1"]) == 0
    assert "P(z" in capsys.readouterr().out
    for more, said in (
        (["--methods", "qdl"], "did you mean qld"),
        (["--data", "x.csv"], "leave data out"),
        (["run", "--hidden", "5"], "the network of the run"),
        (["run.pt"], "run.pt"),
    ):
        assert main([*line.split(), *more]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and said in error, error


# -- honest error bars -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", UNBIASED)
def test_error_bars_are_true(name: str) -> None:
    """P of 40 networks of 10 bits, 4 of 1024 strings each, against enumeration.

    The 95 % limits must hold P with binomial chance: of 40 at least 33 (false alarm 3e-3 a method,
    0.0166 for all five). The mean of P-hat / P over the networks is 1 within 4 standard errors.
    """
    law, ratios, inside = BitLaw(10, True), [], 0
    for member in range(40):
        given = find_given(TEN, member=member, seed=7)
        z = np.sort(given.outputs(law.inputs(law.strings(0, 1024))))
        question = Question(given, law, float(z[-5] + z[-4]) / 2)
        wanted = exact(question).value
        found = asked(name, question, Effort(samples=8000, particles=200, runs=16), seed=member)
        inside += found.diagnostics["low"] <= wanted <= found.diagnostics["high"]
        ratios.append(0.0 if math.isnan(found.value) else math.exp(found.value - wanted))
    error = float(np.std(ratios, ddof=1)) / math.sqrt(40)
    assert inside >= 33, (name, inside)
    assert abs(np.mean(ratios) - 1) < 4 * error, (name, np.mean(ratios), error)
