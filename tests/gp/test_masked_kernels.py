"""Kernels of networks with masks: sums over masks, means over random ones, wide networks."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

import simprior as sp
from simprior import finite, gp
from simprior.boolean.truthtable import input_matrix
from simprior.gp.masks import masks_of
from simprior.numerics.random import generator

MASKED = sp.Network(n=3, hidden=(200, 200), density=(0.4, 0.5, 0.5), sigma_w=1.3, sigma_b=0.5)


def relu_mean(K: np.ndarray) -> np.ndarray:
    """E[relu(u) relu(v)] for (u, v) ~ N(0, K): Cho & Saul 2009."""
    size = np.sqrt(np.outer(K.diagonal(), K.diagonal()))
    theta = np.arccos(np.clip(K / size, -1, 1))
    return np.asarray(size / (2 * math.pi) * (np.sin(theta) + (math.pi - theta) * np.cos(theta)))


def test_a_first_layer_is_summed_over_its_masks() -> None:
    X = input_matrix(MASKED)
    mean = np.zeros((8, 8))
    for kept in itertools.product((0, 1), repeat=3):
        chance = math.prod(0.4 if one else 0.6 for one in kept)
        seen = X * np.array(kept)
        mean += chance * relu_mean(0.25 + 1.69 * seen @ seen.T / (3 * 0.4))
    expected = 0.25 + 1.69 * relu_mean(0.25 + 1.69 * mean)
    K, error = gp.nngp(MASKED, X, return_error=True)
    assert np.allclose(K, expected, rtol=1e-12) and error == 0.0
    assert np.array_equal(K, K.T) and np.array_equal(gp.nngp(MASKED, X[:2], X), K[:2])


@pytest.mark.parametrize("activation", ["relu", "tanh", "step"])
@pytest.mark.parametrize("rescale", [True, False])
def test_hidden_masks_change_no_kernel(activation: str, rescale: bool) -> None:
    """Where the weights kept are not rescaled, it is the kernel of sigma_w sqrt(density)."""
    network = replace(MASKED, activation=activation, density=(1, 0.5, 0.25), rescale=rescale)
    sigma_w = 1.3 if rescale else (1.3, 1.3 * math.sqrt(0.5), 1.3 * 0.5)
    dense = replace(network, density=1.0, rescale=True, sigma_w=sigma_w)
    X = input_matrix(network)
    assert np.allclose(gp.nngp(network, X), gp.nngp(dense, X), rtol=1e-14)
    if activation != "step":
        assert np.allclose(gp.ntk(network, X), gp.ntk(dense, X), rtol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("hidden", [(200,), (300, 300)])
def test_kernels_are_those_of_wide_masked_networks(
    activation: str, hidden: tuple[int, ...]
) -> None:
    """Within 4 standard errors an entry, of 36: false alarms in 2.3e-3 at most, by Bonferroni.

    With two hidden layers also the bias of width 300, of the order 1/width, is allowed for.
    """
    density = (0.2, *(0.5,) * len(hidden))
    law = {"activation": activation, "sigma_b": 0.2, "encoding": "pm1", "rescale": False}
    network = replace(MASKED, hidden=hidden, density=density, sigma_w=2.0, **law)
    X = input_matrix(network)
    K = gp.nngp(network, X)
    found, stderr = gp.empirical_nngp(network, X, samples=1500, seed=1)
    slack = 0.0 if len(hidden) == 1 else 3 / 300
    assert (np.abs(found - K) < 4 * stderr + slack * np.abs(K)).all()
    dense = gp.nngp(replace(network, density=(1.0, *density[1:])), X)
    assert (np.abs(found - dense) > 4 * stderr + slack * np.abs(K)).any()
    T = gp.ntk(network, X)
    found, stderr = gp.empirical_ntk(network, X, samples=60, seed=2)
    assert (np.abs(found - T) < 4 * stderr + 2 * slack * np.abs(T)).all()


@pytest.mark.slow
def test_random_masks_agree_with_each_other_within_their_error() -> None:
    """The error is the largest standard error of an entry, of 21: 5 of them, false alarms 1e-5."""
    X = generator(0, "test/masks").standard_normal((6, 20))
    network = sp.Network(inputs=X, hidden=(40, 40), density=(0.2, 1, 1))
    K, error = gp.nngp(network, X, return_error=True)
    other = gp.nngp(network, X, masks=40_000, seed=1)
    size = np.sqrt(np.outer(K.diagonal(), K.diagonal()))
    assert 1e-4 < error < 0.02
    assert np.abs((K - other) / size).max() < 5 * error * math.sqrt(1.1)
    assert np.linalg.eigvalsh(K).min() > 0
    assert np.array_equal(gp.nngp(network, X[:3], X), K[:3])


def test_random_masks_estimate_what_the_sum_gives() -> None:
    """Shares of masks of 3 inputs, within 5 standard errors: false alarms in 5e-6."""
    exact, drawn = masks_of(0.3, 3, 1000, 0), masks_of(0.3, 13, 20_000, 0)
    assert exact.exact and not drawn.exact and math.isclose(exact.shares.sum(), 1.0)
    for kept, share in zip(exact.kept, exact.shares, strict=True):
        found = (drawn.kept[:, :3] == kept).all(axis=1).mean()
        assert abs(found - share) < 5 * math.sqrt(share * (1 - share) / 20_000)


@pytest.mark.slow
def test_conditional_estimates_agree_with_sampling() -> None:
    """ln P(f | hidden layers and masks), averaged, against counts: 5 standard errors of 4
    functions, false alarms in 3e-6."""
    network = sp.Network(n=3, hidden=(60, 40), sigma_b=0.3, density=(0.7, 0.5, 0.6))
    counts = sp.sample(network, 400_000, seed=5, heads=1).to_frame(10).set_index("function")
    names = [str(f) for f in counts.index[2:6]]
    for name, found in zip(
        names, finite.log_prior_by(network, names, "conditional", draws=2000), strict=True
    ):
        assert found.diagnostics["reliable"]
        spread = math.hypot(found.stderr * math.exp(found.value), counts["stderr"][name])
        assert abs(math.exp(found.value) - counts["p"][name]) < 5 * spread
