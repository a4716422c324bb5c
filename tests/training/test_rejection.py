"""Rejection: the same networks as the sampler's, exact laws, clustered errors, bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simprior.boolean.sampling.dnf import RandomDNF, exact_probabilities
from simprior.boolean.sampling.sample import sample
from simprior.boolean.truthtable import named
from simprior.errors import InputError, NumericalError
from simprior.network.spec import Network
from simprior.training.posterior import rejection_posterior


def cube(z):  # a user's activation
    return z**3


EQUAL = {
    "shared": (Network(n=4, hidden=(6, 6)), 16, 200_000),
    "many heads": (Network(n=3, hidden=(5,)), 200, 100_000),
    "independent": (Network(n=4, hidden=(6,)), 1, 50_000),
    "two words": (Network(n=7, hidden=(8,), activation="tanh"), 16, 200_000),
    "perceptron": (Network(n=3, hidden=(), sigma_b=0.0), 1, 100_000),
    "uniform law": (Network(n=4, hidden=(6,), weight_dist="uniform"), 16, 100_000),
    "explicit inputs": (
        Network(hidden=(6,), inputs=np.random.default_rng(5).normal(size=(11, 3))), 16, 100_000,
    ),
    "user activation": (Network(n=3, hidden=(4,), activation=cube), 8, 4_000),
    "random DNF": (RandomDNF(n=4), 1, 200_000),
}  # fmt: skip


@pytest.mark.parametrize("name", EQUAL)
def test_keeps_exactly_the_sampled_networks_that_agree(name: str) -> None:
    network, heads, draws = EQUAL[name]
    m = network.m
    index = np.random.default_rng(1).permutation(m)[: 40 if m == 128 else 3]
    bits = np.zeros(len(index), np.uint8)
    bits[: len(index) // 3] = 1 if m < 128 else 0
    kept = rejection_posterior(
        network, index, bits, samples=draws, seed=3, heads=heads, max_draws=draws
    )
    everything = sample(network, draws, seed=3, heads=heads, mirror=False)
    agree = (everything.tables()[:, index] == bits).all(axis=1)
    assert 5 < kept.samples == everything.count[agree].sum() < draws
    assert (kept.words == everything.words[agree]).all()
    assert (kept.count == everything.count[agree]).all()
    assert (kept.rows.clusters == everything.rows.clusters[agree]).all()
    assert kept.ones[:, 0].sum() == kept.samples
    info = kept.info["posterior"]
    assert info["prior_draws"] == draws
    assert info["acceptance"] == kept.samples / draws
    assert not info["converged"]


def test_random_dnf_against_its_exact_posterior() -> None:
    dnf, target = RandomDNF(n=4), named("x1", 4)
    exact = exact_probabilities(dnf)
    tables = ((np.arange(1 << 16)[:, None] >> np.arange(15, -1, -1)) & 1).astype(np.uint8)
    index = np.array([0, 3, 6, 9, 15])
    agree = (tables[:, index] == target[index]).all(axis=1)
    evidence = exact[agree].sum()
    counts = rejection_posterior(dnf, index, None, 100_000, seed=2, target="x1")
    info = counts.info["posterior"]
    # 4 standard errors: false alarm 6e-5
    assert abs(info["log_evidence"] - math.log(evidence)) < 4 * info["log_evidence_stderr"]
    assert info["acceptance_low"] < info["acceptance"] < info["acceptance_high"]
    p = np.where(agree, exact / evidence, 0.0)
    common = np.flatnonzero(p > 2e-4)
    row = counts.find(tables[common])
    assert (row >= 0).all()  # expected counts of at least 20 each: missing one e^-20
    z = (counts.p[row] - p[common]) / np.sqrt(p[common] * (1 - p[common]) / counts.samples)
    assert len(common) > 100
    # 4.5 standard errors for some hundred functions: false alarm below 1e-2 * 0.1
    assert np.abs(z).max() < 4.5
    # and their standard deviation, of independent scores up to the sum of all p
    assert abs(z.std() - 1) < 4.5 / math.sqrt(2 * len(common))
    wrong = (tables != target).sum(axis=1) / 11
    mean = (p * wrong).sum()
    assert abs(info["error"] - mean) < 4 * info["error_stderr"]
    spread = math.sqrt((p * (wrong - mean) ** 2).sum() / counts.samples)
    kurtosis = (p * (wrong - mean) ** 4).sum() / (p * (wrong - mean) ** 2).sum() ** 2
    relative = math.sqrt((kurtosis - 1) / (4 * counts.samples))  # of a standard deviation
    assert info["error_stderr"] == pytest.approx(spread, rel=4.5 * relative)


@pytest.mark.slow
def test_clustered_errors_are_right() -> None:
    # 64 heads on 3 hidden units: kept draws come in bursts. 100 repeats; standardised errors of the
    # commonest functions have mean 0 and deviation 1: 4.5 standard errors (chi-square with 99
    # degrees of freedom: 0.68 .. 1.32). Errors that ignored clusters give 1.37.
    network, index = Network(n=3, hidden=(3,)), [1, 2, 5]
    bits = np.array([0, 0, 1], np.uint8)
    truth = rejection_posterior(network, index, bits, 400_000, seed=1000, heads=8)
    top = truth.tables(3)
    z, naive, evidence = [], [], []
    for seed in range(100):
        counts = rejection_posterior(network, index, bits, 1, seed=seed, heads=64)
        row = counts.find(top)
        error = np.hypot(counts.stderr[row], truth.stderr[:3])
        z.append((counts.p[row] - truth.p[:3]) / error)
        naive.append(counts.design_effects[row])
        info = counts.info["posterior"]
        evidence.append(
            (info["log_evidence"] - truth.info["posterior"]["log_evidence"])
            / math.hypot(
                info["log_evidence_stderr"], truth.info["posterior"]["log_evidence_stderr"]
            )
        )
    assert np.mean(naive) > 1.7
    for values in (*np.array(z).T, np.array(evidence)):
        assert abs(values.mean()) < 4.5 / 10 * 1.3
        assert 0.68 < values.std() < 1.32


@pytest.mark.slow
def test_same_counts_whatever_the_workers() -> None:
    network = Network(n=4, hidden=(6,))
    one = rejection_posterior(network, [0, 1, 2], [0, 1, 1], 5000, seed=5)
    two = rejection_posterior(network, [0, 1, 2], [0, 1, 1], 5000, seed=5, workers=2)
    assert (one.words == two.words).all()
    assert (one.count == two.count).all()
    assert (one.rows.sumsq == two.rows.sumsq).all()
    assert one.info["posterior"] == two.info["posterior"]
    other = rejection_posterior(network, [0, 1, 2], [0, 1, 1], 5000, seed=6)
    assert one.samples != other.samples


def test_saved_and_loaded_with_the_same_intervals(tmp_path) -> None:
    from simprior.boolean.sampling.counts import FunctionCounts

    counts = rejection_posterior(Network(n=4, hidden=(4,)), [0, 7], [1, 1], 5000, heads=64)
    counts.save(tmp_path / "run")
    loaded = FunctionCounts.load(tmp_path / "run")
    for mine, theirs in zip(counts.intervals(), loaded.intervals(), strict=True):
        assert (mine == theirs).all()


def test_impossible_labels_end_in_one_line() -> None:
    network = Network(n=3, hidden=(4,), sigma_b=0.0)  # f(0) = 0 always
    with pytest.raises(NumericalError, match="none of 1000 networks agrees"):
        rejection_posterior(network, [0], [1], 10, max_draws=1000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train_index": []}, "training set of 0"),
        ({"train_index": list(range(8))}, "training set of 8"),
        ({"train_index": [0, 0], "labels": [0, 0]}, "repeated"),
        ({"train_index": [8], "labels": [0]}, "from 8 to 8"),
        ({"train_index": [0.5], "labels": [0]}, "integers from 0 to 7"),
        ({"labels": [0, 2]}, "labels"),
        ({"labels": [0]}, "labels"),
        ({"labels": None}, "labels or a target"),
        ({"labels": None, "target": "01"}, "target"),
        ({"samples": 0}, "samples=0"),
        ({"max_draws": 0.5}, "samples=0.5"),
        ({"heads": 0}, "heads=0"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_bad_input(arguments: dict, message: str) -> None:
    given = {"train_index": [0, 1], "labels": [0, 1]} | arguments
    with pytest.raises(InputError, match=message):
        rejection_posterior(Network(n=3, hidden=(4,)), **given)


def test_masks_of_inputs_in_both_words() -> None:
    # each single input of a two-word function can be the training set
    network = Network(n=7, hidden=(4,))
    for j in (0, 1, 63, 64, 127):
        counts = rejection_posterior(network, [j], [1], 200, seed=j, max_draws=1e5)
        assert (counts.tables()[:, j] == 1).all()
        assert counts.words.shape[1] == 2
