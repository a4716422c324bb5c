"""Conditional Monte Carlo for finite networks against plain sampling and its infinite limit."""

import math

import numpy as np
import pytest
from orthants import kernel, table

from simprior.boolean.truthtable import bit_matrix
from simprior.errors import InputError
from simprior.gp.finite_width import conditional_log_prior, last_features
from simprior.gp.orthant import log_prior
from simprior.network.spec import Network
from simprior.numerics import random as rng

SIGMAS = 4.5


@pytest.mark.slow
def test_against_sampling_the_whole_network() -> None:
    net = Network(n=3, hidden=(6, 5))
    X = bit_matrix(3, "01")
    generator = rng.generator(11, "test")
    hits, samples = 0, 20_000
    for _ in range(samples):
        B = last_features(net, X, generator)
        hits += bool((B @ generator.standard_normal(B.shape[1]) > 0).all())
    p = hits / samples
    result = conditional_log_prior(net, np.ones(8, int), draws=300, inner_draws=64)[0]
    error = math.hypot(result.stderr, math.sqrt((1 - p) / hits))
    assert abs(result.value - math.log(p)) < SIGMAS * error
    assert result.diagnostics["reliable"]


@pytest.mark.slow
def test_wide_networks_approach_the_kernel() -> None:
    """At width 2,000 the 1/width correction of ln P is below 0.01 nats."""
    tables = np.array([table("const1", 4), table("x1", 4)])
    finite = conditional_log_prior(Network(n=4, hidden=(2000,)), tables, draws=60, inner_draws=512)
    limit = log_prior(tables, kernel(4, depth=1), draws=16_384)
    for a, b in zip(finite, limit, strict=True):
        assert abs(a.value - b.value) < SIGMAS * math.hypot(a.stderr, b.stderr) + 0.01
        assert a.diagnostics["spread"] < 1.0


@pytest.mark.slow
def test_says_when_it_fails() -> None:
    net = Network(n=4, hidden=(12,))
    result = conditional_log_prior(net, table("parity", 4), draws=40, inner_draws=64)[0]
    assert not result.diagnostics["reliable"]
    assert result.diagnostics["spread"] > 2.0 or result.diagnostics["impossible"] > 0.5


def test_reproducible_and_the_same_in_any_batch() -> None:
    net = Network(n=3, hidden=(5,))
    tables = np.array([table("const1", 3), table("x1", 3)])
    both = conditional_log_prior(net, tables, draws=16, seed=3, inner_draws=32)
    alone = conditional_log_prior(net, tables[1], draws=16, seed=3, inner_draws=32)[0]
    assert both[1].value == alone.value


def test_zero_input_without_biases() -> None:
    net = Network(n=3, hidden=(30,), sigma_b=0.0)
    result = conditional_log_prior(net, np.ones(8, int), draws=16, inner_draws=32)[0]
    assert result.value == -math.inf
    zero = conditional_log_prior(net, np.zeros(8, int), draws=16, inner_draws=32)[0]
    assert -3.0 < zero.value < 0.0


@pytest.mark.parametrize(
    ("net", "match"),
    [(Network(n=3, hidden=()), "hidden"), (Network(n=3, weight_dist="uniform"), "gaussian")],
)
def test_bad_networks(net: Network, match: str) -> None:
    with pytest.raises(InputError, match=match):
        conditional_log_prior(net, np.ones(8, int), draws=16)


@pytest.mark.slow
def test_a_network_whose_units_are_all_dead_is_the_constant() -> None:
    """Two relu layers of width 3 without biases: in some draws every unit is 0 on all inputs."""
    network = Network(n=2, hidden=(3, 3), sigma_w=1.4, sigma_b=0.0, encoding="pm1")
    for seed in range(20):
        never, constant = conditional_log_prior(network, ["0110", "0000"], draws=20, seed=seed)
        assert constant.value > -math.inf and not never.diagnostics["reliable"]
