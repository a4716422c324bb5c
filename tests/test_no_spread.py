"""No spread is no certainty: where no draw differed, errors and intervals say what may be missed.

Each test is a case in which a plug-in standard error is 0, or a diagnostic is 0/0.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

import simprior as sp
from simprior.boolean.complexity import lz76, most_words
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.sampling.nonconstant import NonConstant
from simprior.boolean.sampling.unseen import good_turing
from simprior.boolean.truthtable import named, pack
from simprior.gp.covariance import factor, make_event
from simprior.network.spec import Network
from simprior.numerics.estimate import clopper_pearson, mean_stderr, sample_sd, share_stderr
from simprior.training.posterior import rejection_posterior, slice_posterior
from simprior.training.posterior.chains import convergence, counts_of_chains, make_training_set

RULE_OF_THREE = 3.7  # -ln 0.025: of a two-sided 95 % interval


def test_error_of_a_share_that_was_not_met() -> None:
    plain = math.sqrt(0.3 * 0.7 / 50)
    np.testing.assert_allclose(share_stderr([0.3, 0.0, 1.0], 50), [plain, 1 / 52, 1 / 52])
    # the upper limit of the binomial interval is 3.7 of them, and a single hit has about the same
    assert clopper_pearson(np.array(0), 1000)[1] == pytest.approx(
        RULE_OF_THREE * float(share_stderr(0.0, 1000)), rel=0.01
    )
    assert share_stderr(0.0, 1000) == pytest.approx(share_stderr(0.001, 1000), rel=0.01)
    assert mean_stderr(np.full(50, 0.1)) == pytest.approx(1 / 52)
    assert mean_stderr(np.array([1.0, 3.0])) == pytest.approx(1.0)
    assert math.isnan(mean_stderr(np.ones(1)))


# ------------------------------------------------ Markov chains


def test_chains_that_never_moved_are_not_converged() -> None:
    """32 chains of 100 draws, all of the function that is parity but for the input outside S."""
    parity, outside = named("parity", 4), 9
    given = make_training_set(16, np.delete(np.arange(16), outside), None, target="parity")
    stuck = parity.copy()
    stuck[outside] ^= 1
    words = np.tile(pack(stuck[None])[:, None], (32, 100, 1))
    counts = counts_of_chains(words, given, 4, {})
    info = counts.info["posterior"]
    assert math.isnan(info["rhat"])
    assert not info["converged"] and not info["reliable"]
    assert "never moved" in info["reason"]
    assert info["error"] == 1.0 and info["error_stderr"] == pytest.approx(1 / 34)
    # 32 chains are 32 draws: P_B(target) = .028 is within what 32 draws leave open
    assert counts.intervals()[0][0] < 0.9 and counts.stderr[0] > 0.02
    assert counts.find("parity")[0] == -1 and 0.1 < counts.unmet_bound() < 0.2
    frame = counts.ones_frame()
    assert (frame.p_high[frame["count"] == 0] > 0.1).all()
    assert frame.p_low[int(stuck.sum())] < 0.9


def test_a_run_of_slice_sampling_that_never_moved() -> None:
    index = np.delete(np.arange(16), 9)
    counts = slice_posterior(
        Network(n=4, hidden=(6, 6)), index, None, 80, seed=5, target="parity", chains=4
    )
    assert len(counts) == 1 and counts.count[0] == 80
    info = counts.info["posterior"]
    assert not info["converged"] and "cannot tell" in info["reason"]
    assert counts.intervals()[0][0] < 0.4


def test_statistics_without_spread_have_no_error() -> None:
    moving = np.random.default_rng(0).normal(size=(4, 1000))
    found = convergence({"x": moving, "constant": np.ones((4, 1000))})
    assert found.converged and math.isnan(found.table["constant"]["stderr"])
    assert not convergence({"constant": np.ones((4, 1000))}).converged


def test_a_soft_likelihood_that_was_not_violated() -> None:
    given = make_training_set(8, [0], [0])
    words = np.random.default_rng(0).integers(0, 64, (8, 500)).astype(np.uint64) << np.uint64(57)
    info = counts_of_chains(words[:, :, None], given, 3, {"beta": 10.0}).info["posterior"]
    assert info["violating"] == 0.0 and 3 / 4000 < info["violating_high"] < 0.01


# ------------------------------------------------ rejection


def test_rejection_that_keeps_all_or_one_cluster() -> None:
    network = Network(n=2, hidden=(4,), sigma_b=0.0)  # f(00) = 0 always
    kept = rejection_posterior(network, [0], [0], 3000, seed=1, heads=30, target="const0")
    info = kept.info["posterior"]
    assert info["acceptance"] == 1.0 and info["log_evidence"] == 0.0
    assert info["acceptance_low"] < 1 and info["log_evidence_stderr"] > 1e-6
    # heads of one hidden draw: the errors of its functions say nothing of those of another draw
    one = rejection_posterior(
        Network(n=4, hidden=(8,)), [0], None, 1, seed=0, heads=64, target="x1", max_draws=64
    )
    assert one.draws == 1 and one.samples > 1
    assert one.info["posterior"]["error_stderr"] == pytest.approx(1 / 3)
    # independent networks which all make no error outside S: input 0 without biases
    network = Network(n=1, hidden=(4,), sigma_b=0.0)
    same = rejection_posterior(network, [1], None, 50, seed=2, heads=1, target="01", max_draws=200)
    info = same.info["posterior"]
    assert info["error"] == 0 and info["error_stderr"] == pytest.approx(1 / (same.samples + 2))


# ------------------------------------------------ estimators of ln P


def test_an_event_that_no_draw_missed() -> None:
    """Two correlated outputs of mean 4.5: P = 1 - 6.8e-6 and 2,000 draws."""
    K = np.array([[1.0, 0.5], [0.5, 1.0]])
    event = make_event(np.ones(2, np.uint8), K, factor(K), np.full(2, 4.5))
    truth = math.log1p(-2 * norm.sf(4.5))
    from simprior.gp.crosschecks import liness, montecarlo

    for found in (liness(event, seed=0), montecarlo(event, draws=2000, seed=0)):
        assert found.value == 0.0 and found.stderr == pytest.approx(1 / 2000, rel=0.01)
        assert abs(found.value - truth) < 3 * found.stderr


def test_tilted_says_when_there_are_too_few_draws() -> None:
    K = 0.5 + 0.5 * np.eye(8)
    for draws, reliable in ((64, False), (255, False), (256, True)):
        found = sp.gp.log_prior(named("parity", 3)[None], K, method="tilted", draws=draws)[0]
        assert found.diagnostics["reliable"] is reliable
        assert ("reason" in found.diagnostics) is not reliable


def test_hidden_layers_that_all_give_the_same_probability() -> None:
    """P(f(1) = 1) = (1 - 2^-10) / 2, the units all dead in 2^-10 of the hidden layers: 40 draws of
    them miss that, and the error must not be 1e-16."""
    from simprior.gp.finite_width import conditional_log_prior

    network = Network(n=1, hidden=(10,), sigma_b=0.0)
    found = conditional_log_prior(network, ["01"], draws=40, seed=0)[0]
    assert found.diagnostics["impossible"] == 0 and found.value == pytest.approx(math.log(0.5))
    assert abs(found.value - math.log(0.5 * (1 - 2.0**-10))) < found.stderr < 0.05


def test_kernel_entries_that_were_0_in_every_network() -> None:
    """One relu, inputs 1 and -1: outputs are never both different from 0; the entry is 0 exactly,
    but 20 networks can't tell. An input of zeros is 0 without error."""
    network = Network(hidden=(1,), inputs=[[1.0], [-1.0], [0.0]], sigma_b=0.0)
    mean, stderr = sp.gp.empirical_nngp(network, [[1.0], [-1.0], [0.0]], samples=20, seed=0)
    assert mean[0, 1] == 0 and stderr[0, 1] == pytest.approx(mean.max() / 22)
    assert (mean[2] == 0).all() and (stderr[2] == 0).all()


# ------------------------------------------------ counts


def test_watched_functions_that_none_or_all_draws_gave() -> None:
    network = Network(n=2, hidden=(4,), sigma_b=0.0)  # f(00) = 0 always: half of all never occur
    found = sp.watch(network, ["1000", "0000"], samples=2000, heads=20)
    assert found.draws == 100 and found.p[0] == 0
    assert found.stderr[0] == pytest.approx(1 / 102) and found.variance_reduction[0] == 1
    frame = found.ones_frame()
    assert frame.p[4] == 0 and frame.p_high[4] == pytest.approx(RULE_OF_THREE / 100, rel=0.01)
    sure = sp.watch(
        Network(n=1, hidden=(), sigma_w=1e-9, sigma_b=1.0), ["00", "11"], samples=400, heads=20
    )
    assert sure.stderr.min() > 0.01  # all draws give P(const) = 1/2: others may not
    assert (sure.ones_frame().p_high <= 1).all()


def test_unseen_mass_of_samples_that_are_all_new_or_all_old() -> None:
    new, old = good_turing(np.ones(40), None, None, 40), good_turing(np.full(4, 10), None, None, 40)
    assert new.mass == 1 and old.mass == 0
    assert new.stderr == old.stderr == pytest.approx(1 / 40)


def counts_of(text: str, samples: int) -> FunctionCounts:
    words = pack(np.array([[int(c) for c in text]], np.uint8))
    return FunctionCounts.from_counts(words, np.array([samples]), m=len(text), n=2)


def test_runs_of_a_single_function_are_not_known_exactly() -> None:
    a, b, other = counts_of("0110", 10), counts_of("0110", 20), counts_of("0111", 20)
    same = {s.name: s for s in sp.compare(a, b, target="0110").statistics}
    apart = {s.name: s for s in sp.compare(a, other, target="0110").statistics}
    for name, top in (("total_variation", 1.0), ("jensen_shannon", math.log(2))):
        assert same[name].value == 0 and same[name].stderr > 0.05 and same[name].high > 0.3 * top
        assert apart[name].value == pytest.approx(top) and apart[name].low < 0.7 * top
    assert same["mass_common_a"].stderr == pytest.approx(1 / 12)
    assert same["mean_error_a"].value == 0 and same["mean_error_a"].stderr == pytest.approx(1 / 12)
    difference = apart["mean_error_difference"]
    assert difference.value == -0.25 and difference.low < -0.4 and difference.high > -0.1


def test_known_probabilities_stay_exact() -> None:
    from simprior.analysis.compare.sources import WeightedFunctions

    word = pack(np.array([[0, 1, 1, 0]], np.uint8))
    side = WeightedFunctions(4, word, np.ones(1), math.inf, 2)
    other = WeightedFunctions(4, word, np.ones(1), math.inf, 2)
    found = {s.name: s for s in sp.compare(side, other, target="0110").statistics}
    for name in ("total_variation", "mass_common_a", "mean_error_a", "mean_error_difference"):
        assert found[name].stderr == 0 and found[name].low == found[name].high


# ------------------------------------------------ means over networks


def test_networks_that_are_all_alike() -> None:
    from simprior.analysis.strings.predictions import _interval
    from simprior.analysis.strings.run import means

    mean, error, low, high = _interval(np.full(20, 3.0), 0.95)
    assert mean == 3 and error == pytest.approx(1 / 22)
    assert low < 2.95 and high > 3.05
    columns = ("test_error", "distance", "flips", "unchanged", "uniform_distance", "uniform_flips")
    frame = pd.DataFrame({name: np.full(20, 0.5) for name in columns})
    assert means(frame)["test_error_stderr"] == pytest.approx(1 / 22)


def test_trained_networks_with_the_same_error() -> None:
    from simprior.training.records import TrainResult

    runs, target = 12, named("const1", 2)
    problem = {
        "m": 4, "n": 2, "labels": "111", "train_index": [0, 1, 2], "attack_index": [],
        "target": "0xf", "majority_error": 0.0, "name": "const1", "text": "const1", "seed": 0,
        "corrupt": 0.0,
    }  # fmt: skip
    none = np.zeros(runs, np.int64)
    result = TrainResult(
        np.repeat(pack(target[None]), runs, axis=0), none + 5, none + 5, none, none + 0.1,
        problem, {},
    )  # fmt: skip
    summary = result.summary()
    assert summary["test_error"] == summary["test_error_sd"] == 0
    assert summary["test_error_stderr"] == pytest.approx(1 / (runs + 2))


def test_flips_that_always_change_the_class() -> None:
    from simprior.analysis.strings.networks import Spec
    from simprior.analysis.strings.predictions import flip_law

    found = flip_law(Spec(n=30, network=Network(n=7, hidden=(), sigma_b=0, encoding="pm1")), 200)
    assert found.unchanged == 0 and found.unchanged_stderr == pytest.approx(1 / 202)


def test_errors_of_correlated_columns() -> None:
    from simprior.analysis.correlate.environments import granulated_tau

    cells = pd.DataFrame({"a": [0, 0, 1, 1, 2, 2], "b": [0, 1] * 3, "x": [0, 1, 2, 3, 4, 5],
                          "y": [0, 1, 2, 3, 4, 5]})  # fmt: skip
    for axis, psi, error, groups, _ in granulated_tau(cells, "x", "y", ["a", "b"])[:2]:
        assert psi == 1 and error == pytest.approx(2 / (groups + 2)), axis


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_is_no_number_has_no_spread_and_no_error(bad: float) -> None:
    """nan and inf compare as False with anything: they must not pass for values without spread."""
    values = np.array([bad, 1.0, 2.0])
    assert np.isnan(sample_sd(values))
    assert math.isnan(mean_stderr(values))
    assert np.isnan(share_stderr(math.nan, 10.0))


# ------------------------------------------------ functions that are not constant


def test_complexity_of_one_hidden_draw_has_no_interval() -> None:
    """Of 200 hidden draws with 10 heads one gives functions that are not constant: all are alike,
    and the next hidden draw may give others."""
    parity = pack(named("parity", 4)[None])
    words = np.zeros((2000, 1), np.uint64)
    words[500:503] = parity
    found = NonConstant.of(words, 16, 10)
    value, low, high = found.lz76(16)
    assert value == lz76(named("parity", 4)[None])[0]
    assert low is None and high is None
    words[710:713] = parity  # a second one: others may have the fewest words, or the most
    value, low, high = NonConstant.of(words, 16, 10).lz76(16)
    assert low == math.log2(16) and high == math.log2(16) * most_words(16)
    words[10::10] = parity  # in 199 hidden draws with one head, in two with three
    value, low, high = NonConstant.of(words, 16, 10).lz76(16)
    assert low is not None and high is not None and value is not None
    half = math.log2(16) * (most_words(16) - 1) * (1.0 - 0.025 ** (1 / 192))
    assert (high - value, value - low) == (pytest.approx(half),) * 2
