"""Elliptical slice sampling: joint distribution test, exact cases, honesty about convergence."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simprior.boolean.truthtable import named
from simprior.errors import InputError, NumericalError
from simprior.network.spec import ACTIVATIONS, Network
from simprior.numerics import random as rng
from simprior.training.posterior import rejection_posterior, slice_posterior
from simprior.training.posterior.chains import (
    TrainingSet,
    convergence,
    counts_of_chains,
    ess,
    make_training_set,
    rhat,
)
from simprior.training.posterior.slice import advance, settle, start, with_labels


def statistics(state, given: TrainingSet) -> list[float]:
    """Functions of the parameters that a wrong invariant distribution would move."""
    w, _, _, z = state.arrays
    table = state.function()
    last = w.shape[0] - 1
    outside = table[given.outside]
    return [
        float((w[0] ** 2).sum()),
        float((w[1] ** 2).sum()),
        float((w[last, 0] ** 2).sum()),
        float(w[last, 0, state.spec[0][last]]),  # output bias
        float(w[0, 0, state.spec[0][0]]),  # a bias of the first layer
        float(np.log(np.abs(z).min())),
        float(np.abs(z).mean()),
        float(z.mean()),
        float(outside.sum()),
        float((outside[:-1] != outside[1:]).sum()),
    ]


JOINT = {
    "two layers": (Network(n=3, hidden=(4, 3)), 4, 1600),
    "one layer, tanh": (Network(n=3, hidden=(5,), activation="tanh", sigma_b=0.5), 5, 800),
    "three layers, pm1": (Network(n=3, hidden=(3, 3, 3), encoding="pm1", sigma_w=2.0), 3, 600),
}


@pytest.mark.parametrize("name", JOINT)
@pytest.mark.parametrize("scale", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_joint_distribution(name: str, scale: int) -> None:
    """Geweke 2004: theta from the prior, S its own labels, then sweeps: theta is still the prior's.

    Differences before and after have mean 0 for every statistic: 4.5 standard errors of the paired
    differences, 30 statistics in all (false alarm 2e-4). 25 sweeps let a small error add up.
    """
    network, size, repeats = JOINT[name]
    repeats *= scale
    differences, moved = [], 0
    index = np.random.default_rng(0).permutation(network.m)[:size]
    for k in range(repeats):
        source = rng.generator(11, "geweke", k)
        blank = make_training_set(network.m, index, np.zeros(size, np.uint8))
        state = start(network, blank, source)
        given = with_labels(blank, state.function())
        assert settle(state, given, source, 1) == 0
        before, table = statistics(state, given), state.function()
        advance(state, given, source, 25)
        after = statistics(state, given)
        assert given.agree(state.function())
        moved += bool((state.function() != table).any())
        differences.append(np.subtract(after, before))
    d = np.array(differences)
    assert moved > 0.05 * repeats  # mostly constants, which stay
    z = d.mean(axis=0) / (d.std(axis=0, ddof=1) / math.sqrt(repeats))
    assert np.abs(z).max() < 4.5


def test_perceptron_against_rejection() -> None:
    # only the exact output move is used
    network = Network(n=3, hidden=())
    kept = rejection_posterior(network, [1, 2, 4, 7], [0, 0, 1, 1], 50_000, seed=1)
    counts = slice_posterior(network, [1, 2, 4, 7], [0, 0, 1, 1], 64_000, seed=2, chains=64)
    _agree(kept, counts)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_against_rejection(activation: str) -> None:
    network = Network(n=3, hidden=(3, 2), activation=activation, sigma_b=0.7)
    index, target = [0, 3, 5], named("x1", 3)
    kept = rejection_posterior(network, index, target[index], 40_000, seed=1)
    counts = slice_posterior(network, index, target[index], 48_000, seed=2, chains=48, thin=2)
    info = counts.info["posterior"]
    assert info["violating"] == 0.0
    assert info["converged"], info["reason"]
    _agree(kept, counts)


def _agree(kept, counts) -> None:
    """P of the functions that rejection found often, 4.5 standard errors (false alarm < 1e-3)."""
    common = kept.tables(20)
    row = counts.find(common)
    assert (row >= 0).all()
    error = np.hypot(kept.stderr[:20][: len(row)], counts.stderr[row])
    p = kept.p[: len(row)]
    z = np.divide(counts.p[row] - p, error, out=np.zeros(len(row)), where=error > 0)
    assert np.abs(z).max() < 4.5


def test_labels_hold_and_the_report_is_complete() -> None:
    network, index = Network(n=7, hidden=(12, 12)), np.arange(0, 128, 4)
    counts = slice_posterior(network, index, None, 4000, seed=1, target="majority", chains=8)
    tables = counts.tables()
    assert (tables[:, index] == named("majority", 7)[index]).all()
    assert (counts.samples, counts.draws, counts.heads) == (4000, 8, 500)
    info = counts.info["posterior"]
    assert info["violating"] == 0.0
    assert 0 < info["acceptance"] < 1
    assert set(info["statistics"]) == {"ones", "lz76", "error", "f1", "f2", "f3", "f4", "f5"}
    frame = counts.to_frame(top=3)
    assert {"p", "stderr", "p_low", "p_high", "design_effect"} <= set(frame.columns)
    wrong = (tables != named("majority", 7)).sum(axis=1) / 96
    assert info["error"] == pytest.approx((counts.p * wrong).sum(), rel=1e-9)


def test_same_seed_same_counts_whatever_the_workers() -> None:
    network = Network(n=3, hidden=(4,))
    runs = [
        slice_posterior(network, [0, 1], [0, 1], 600, seed=seed, chains=3, workers=workers)
        for seed, workers in ((5, 1), (5, 2), (6, 1))
    ]
    assert (runs[0].words == runs[1].words).all()
    assert (runs[0].count == runs[1].count).all()
    assert runs[0].info["posterior"]["rhat"] == runs[1].info["posterior"]["rhat"]
    same = len(runs[0]) == len(runs[2]) and (runs[0].count == runs[2].count).all()
    assert not same


def test_chains_do_not_depend_on_how_many_there_are() -> None:
    network = Network(n=3, hidden=(4,))
    few = slice_posterior(network, [0, 1], [0, 1], 300, seed=5, chains=1, burn_in=10)
    more = slice_posterior(network, [0, 1], [0, 1], 600, seed=5, chains=2, burn_in=10)
    row = more.find(few.tables())
    assert (row >= 0).all()
    assert (more.count[row] >= few.count).all()


def test_zero_variance_input() -> None:
    network = Network(n=3, hidden=(4,), sigma_b=0.0)  # f(0) = 0 always
    counts = slice_posterior(network, [0, 7], [0, 1], 2000, seed=1, chains=4)
    assert (counts.tables()[:, 0] == 0).all()
    with pytest.raises(NumericalError, match="1 of 2 training labels fitted after 50 sweeps"):
        slice_posterior(network, [0, 7], [1, 1], 10, chains=1, settle_limit=50)


def test_rhat_and_ess_of_known_chains() -> None:
    source = np.random.default_rng(3)
    white = source.normal(size=(8, 2000))
    assert rhat(white) < 1.005
    assert ess(white) == pytest.approx(16_000, rel=0.1)
    rho = 0.8  # AR(1): effective size N (1 - rho) / (1 + rho)
    slow = np.zeros((8, 20_000))
    for t in range(1, slow.shape[1]):
        slow[:, t] = rho * slow[:, t - 1] + source.normal(size=8)
    assert ess(slow) == pytest.approx(160_000 / 9, rel=0.1)
    apart = white + np.arange(8)[:, None]
    assert rhat(apart) > 1.5
    stuck = np.repeat(np.arange(8.0)[:, None], 100, axis=1)
    assert rhat(stuck) == math.inf
    assert math.isnan(rhat(np.ones((4, 100))))


def test_a_bad_chain_is_reported_and_widens_the_errors() -> None:
    # seven chains that mix and one that never leaves a function
    source = np.random.default_rng(0)
    given = make_training_set(8, [0], [0], target="x1")
    words = source.integers(0, 2, (8, 500)).astype(np.uint64) << np.uint64(56)
    good = counts_of_chains(words[:, :, None], given, 3, {})
    words[7] = np.uint64(0)
    bad = counts_of_chains(words[:, :, None], given, 3, {})
    assert good.info["posterior"]["converged"]
    assert good.info["posterior"]["rhat"] < 1.01
    info = bad.info["posterior"]
    assert not info["converged"]
    assert not info["reliable"]
    assert info["rhat"] > 1.05
    assert "R-hat of ones" in info["reason"]
    assert bad.stderr[0] > 5 * good.stderr[0]
    low, high = bad.intervals()
    row = bad.find(np.zeros((1, 8), np.uint8))[0]
    assert low[row] < 0.5 < high[row]


def test_too_short_is_not_converged() -> None:
    found = convergence({"x": np.random.default_rng(0).normal(size=(1, 3))})
    assert not found.converged
    assert "1 chains of 3 draws" in found.reason
    constant = convergence({"x": np.ones((4, 100))})
    assert not constant.converged  # R-hat is 0/0: cannot tell
    assert math.isnan(constant.rhat)


@pytest.mark.slow
def test_intervals_cover() -> None:
    # 200 runs of 32 chains of 20 draws after a fair burn-in; 95 % intervals of the 4 commonest
    # functions: 4 standard errors below 0.95 for 200 trials is 0.888
    network, index = Network(n=3, hidden=(4,)), [1, 2, 5]
    truth = rejection_posterior(network, index, [0, 1, 1], 2e6, seed=9, heads=8)
    top = truth.tables(4)
    inside = np.zeros(4)
    for seed in range(200):
        counts = slice_posterior(network, index, [0, 1, 1], 640, seed=seed, chains=32, burn_in=20)
        low, high = counts.intervals()
        for i, row in enumerate(counts.find(top)):
            assert row >= 0
            inside[i] += low[row] <= truth.p[i] <= high[row]
    assert (inside / 200 > 0.888).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"chains": 0}, "chains=0"),
        ({"thin": 0}, "thin=0"),
        ({"burn_in": -1}, "burn_in=-1"),
        ({"chains": 2.5}, "chains=2.5"),
        ({"samples": 0}, "samples=0"),
        ({"train_index": [9]}, "from 9 to 9"),
        ({"network": Network(n=3, weight_dist="uniform")}, "weight_dist='uniform'"),
        ({"network": Network(n=3, activation=np.tanh)}, "activation="),
    ],
)
def test_bad_input(arguments: dict, message: str) -> None:
    given = {"network": Network(n=3, hidden=(4,)), "train_index": [0], "labels": [1]} | arguments
    with pytest.raises(InputError, match=message):
        slice_posterior(**given)


def test_output_move_is_uniform_on_its_arc() -> None:
    # one weight and one bias, one input x = 1 with label 1: P(z_2 > 0 | z_1 > 0) by the arcsine law
    x = np.array([[1.0], [-2.0]])
    network = Network(hidden=(), inputs=x, sigma_w=1.0, sigma_b=1.0)
    counts = slice_posterior(network, [0], [1], 40_000, seed=4, chains=40)
    rho = (1 - 2) / math.sqrt(2 * 5)
    exact = 2 * (0.25 + math.asin(rho) / (2 * math.pi))
    row = counts.find(np.array([[1, 1]]))[0]
    assert abs(counts.p[row] - exact) < 4 * counts.stderr[row]
