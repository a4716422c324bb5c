"""Choice of the number of heads: correlation from known clusters, cost model, limits."""

from __future__ import annotations

import numpy as np
import pytest

from simprior import Network
from simprior.boolean.sampling.prepare import (
    MOST_HEADS,
    choose_heads,
    make_job,
    within_cluster_correlation,
)
from simprior.boolean.sampling.sample import sample
from simprior.errors import InputError


@pytest.mark.parametrize("rho", [0.0, 0.01, 0.1, 0.4])
def test_correlation_of_beta_binomial_clusters(rho: float) -> None:
    """Beta-binomial counts with known within-cluster correlation; mean of 50 estimates, each from
    400 clusters of 32, within 5 of its own standard errors."""
    rng = np.random.default_rng(1)
    p, heads = 0.3, 32
    found = []
    for _ in range(50):
        q = np.full(400, p)
        if rho > 0:
            q = rng.beta(p * (1 - rho) / rho, (1 - p) * (1 - rho) / rho, 400)
        found.append(within_cluster_correlation(rng.binomial(heads, q), heads))
    error = np.std(found, ddof=1) / np.sqrt(50)
    # the estimator's own bias is of order rho / clusters
    assert abs(np.mean(found) - rho) < 5 * error + rho / 100


def test_correlation_of_events_that_never_vary() -> None:
    for counts in (np.zeros(10), np.full(10, 8), np.array([3])):
        assert within_cluster_correlation(counts, 8) == 0.0
    assert within_cluster_correlation(np.array([0, 8, 0, 8]), 8) == pytest.approx(1.0)


def test_choice_is_reproducible_and_within_limits() -> None:
    for network in (Network(), Network(n=3, hidden=(4,)), Network(hidden=(8,) * 8, sigma_w=2.0)):
        job = make_job(network, 10**8, 3)
        assert job.heads == make_job(network, 10**8, 3).heads
        assert job.heads == 1 or (job.heads % 16 == 0 and 16 <= job.heads <= MOST_HEADS)
        heads, rho = choose_heads(job)
        assert heads == job.heads and 0 < rho <= 0.5
    assert make_job(Network(), 1000, 3).heads == 1  # too few clusters to see their spread
    assert make_job(Network(), 10**8, 3).heads >= 16  # sharing pays for the default network


def test_wider_hidden_layers_share_more() -> None:
    narrow, wide = (make_job(Network(hidden=(w, w)), 10**9, 0).heads for w in (16, 256))
    assert narrow < wide


def test_stated_correlation_is_the_one_of_the_run() -> None:
    """1 + (R - 1) rho against the design effect of a run (rho of the constant is at most the
    larger of two that is stated)."""
    network = Network()
    _, rho = choose_heads(make_job(network, 10**8, 1))
    run = sample(network, samples=64 * 8000, seed=2, heads=64, mirror=False)
    effect = run.constant_design_effect()
    # 512 pilot clusters: rho is known to some 10 %
    assert 1 < effect < 1 + 63 * rho * 1.5
    # published figure at R = 48: design effect 1.05 for a constant
    many = sample(network, samples=48 * 20_000, seed=2, heads=48, mirror=False)
    at48 = many.constant_design_effect()
    assert abs(at48 - 1.05) < 5 * np.sqrt(2 / 20_000)


def test_asked_heads() -> None:
    assert make_job(Network(), 7, 0, heads=64).heads == 7
    for heads in (0, -1, 1.5, True, "many", 10**6):
        with pytest.raises(InputError, match=r"heads=.*: expected an integer from 1 to .* or auto"):
            make_job(Network(), 10**6, 0, heads=heads)  # type: ignore[arg-type]


@pytest.mark.parametrize("heads", ["auto", 1, 48])
def test_perceptrons_are_independent_however_many_are_made_at_once(heads: int | str) -> None:
    counts = sample(Network(n=3, hidden=()), samples=10_001, seed=0, heads=heads)
    assert counts.iid and counts.draws == 10_001 and (counts.design_effects == 1).all()
    np.testing.assert_array_equal(counts.rows.clusters, counts.count)
    np.testing.assert_array_equal(counts.rows.sumsq, counts.count)
    np.testing.assert_array_equal(counts.ones[:, 0], counts.ones[:, 1])
    assert counts.dispersion == 1 and counts.constant_design_effect() == 1
