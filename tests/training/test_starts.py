"""Chains that start at trained networks: noisy labels are fitted, and the start is forgotten."""

from __future__ import annotations

import math

import numpy as np
import pytest

import simprior as sp
from simprior.boolean.truthtable import unpack
from simprior.errors import NumericalError
from simprior.training.posterior import slice_posterior
from simprior.training.posterior.chains import make_training_set
from simprior.training.posterior.slice import OPTIMIZERS, origin_counts, trained_network

NOISY = sp.Problem(sp.Network(n=6, hidden=(24,)), "majority", train=40, corrupt=0.3, seed=1)


@pytest.mark.parametrize("start", ["auto", "trained", "both"])
def test_noisy_labels_are_fitted(start: str) -> None:
    counts = sp.posterior(NOISY, "slice", 60, chains=6, start=start)
    tables = unpack(counts.words, 64)
    assert (tables[:, NOISY.fitted_index] == NOISY.labels).all()


def test_the_optimisers_take_turns() -> None:
    counts = sp.posterior(NOISY, "slice", 36, chains=6, start="trained")
    starts = counts.info["posterior"]["starts"]
    assert all(name in starts for name in OPTIMIZERS) and "prior" not in starts
    both = sp.posterior(
        sp.Problem(sp.Network(n=4, hidden=(8,)), "x1", train=6), "slice", 36, chains=6, start="both"
    ).info["posterior"]["starts"]
    assert both.startswith("3 prior")


def test_a_start_is_a_function_of_its_seed_and_chain() -> None:
    given = make_training_set(64, NOISY.fitted_index, NOISY.labels)
    first, again, other = (trained_network(NOISY.network, given, 1, chain) for chain in (0, 0, 3))
    assert first is not None and again is not None and other is not None
    assert np.array_equal(first[1].flat(), again[1].flat())
    assert first[0] == other[0] and not np.array_equal(first[1].flat(), other[1].flat())


def test_resumed_chains_are_the_same(tmp_path) -> None:
    plain = sp.posterior(NOISY, "slice", 40, chains=4, start="trained")
    stored = sp.posterior(NOISY, "slice", 40, chains=4, start="trained", out=tmp_path / "run")
    again = sp.posterior(
        NOISY, "slice", 40, chains=4, start="trained", out=tmp_path / "run", resume=True
    )
    for other in (stored, again):
        assert np.array_equal(plain.words, other.words) and np.array_equal(plain.count, other.count)


@pytest.mark.slow
def test_the_start_is_forgotten() -> None:
    """Chains from trained networks and from the prior have the same errors: 4 standard errors of
    the difference, by the spread between 32 chains each; a false alarm in 5,000 runs at 31 degrees
    of freedom."""
    problem = sp.Problem(sp.Network(n=4, hidden=(8,)), "majority", train=8, corrupt=0.5, seed=3)
    found = [
        sp.posterior(problem, "slice", 6400, seed=5, chains=32, thin=4, start=start)
        for start in ("prior", "trained")
    ]
    a, b = (counts.info["posterior"] for counts in found)
    assert abs(a["error"] - b["error"]) < 4 * math.hypot(a["error_stderr"], b["error_stderr"])


def test_without_a_gradient_nothing_is_trained() -> None:
    network = sp.Network(n=4, hidden=(6,), activation="step")
    given = make_training_set(16, [0, 1, 2], [0, 1, 1])
    assert trained_network(network, given, 0, 0) is None
    with pytest.raises(NumericalError, match="no optimiser fitted"):
        slice_posterior(network, [0, 1, 2], [0, 1, 1], 10, start="trained")


def test_what_no_network_can_fit_is_said() -> None:
    """Labels that a perceptron cannot give (xor): from the prior and from training."""
    xor = sp.Network(inputs=[[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [2.0, 2.0]], hidden=())
    labels = [0, 1, 1, 0]
    with pytest.raises(NumericalError, match="fitted after 50 sweeps"):
        slice_posterior(xor, range(4), labels, 8, chains=2, settle_limit=50, start="prior")
    with pytest.raises(NumericalError, match="no optimiser fitted"):
        slice_posterior(xor, range(4), labels, 8, chains=2, start="trained")


def test_counts_of_origins() -> None:
    assert origin_counts(["adam", "prior", "prior"]) == "2 prior, 1 adam"
