"""HMC: known densities, the gradient, the soft posterior against importance sampling."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simprior.boolean.truthtable import named, pack
from simprior.errors import InputError, NumericalError
from simprior.network.spec import Network
from simprior.numerics import random as rng
from simprior.training.posterior import hmc_posterior, slice_posterior
from simprior.training.posterior.chains import TrainingSet, ess, make_training_set
from simprior.training.posterior.driver import chain_major
from simprior.training.posterior.soft import Likelihood, SoftTarget, run_hmc


def sources(count: int, seed: int = 0) -> list[np.random.Generator]:
    return [rng.generator(seed, "test-hmc", c) for c in range(count)]


def check_moment(draws: np.ndarray, exact: float) -> None:
    """Mean of (chains, draws) within 4.5 standard errors, by the spread of the chains' means."""
    means = draws.mean(axis=1)
    error = means.std(ddof=1) / math.sqrt(len(means))
    assert abs(means.mean() - exact) < 4.5 * error  # Student t with 63 degrees: 3e-5


def test_correlated_gaussian() -> None:
    mean, cov = np.array([1.0, -2.0]), np.array([[1.0, 0.8 * 3], [0.8 * 3, 9.0]])
    precision = np.linalg.inv(cov)

    def target(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        d = x - mean
        return -0.5 * np.einsum("ci,ij,cj->c", d, precision, d), -d @ precision

    found = run_hmc(target, np.zeros((64, 2)), 500, 300, sources(64), leapfrog=8)
    x = chain_major(found.records)
    assert x.shape == (64, 500, 2)
    for i in range(2):
        check_moment(x[..., i], mean[i])
        check_moment((x[..., i] - mean[i]) ** 2, cov[i, i])
    check_moment((x[..., 0] - mean[0]) * (x[..., 1] - mean[1]), cov[0, 1])
    assert ess(x[..., 0]) > 3000
    assert 0.7 < found.acceptance.mean() < 0.95  # aimed at 0.8; the averaged step is a bit smaller
    assert found.divergent.sum() == 0


def test_logistic_regression_by_quadrature() -> None:
    """One weight, four data, a standard normal prior."""
    x, y, beta = np.array([0.5, 1.0, -2.0, 3.0]), np.array([1.0, -1.0, -1.0, 1.0]), 2.0

    def log_density(u: np.ndarray) -> np.ndarray:
        return -0.5 * u**2 - np.log1p(np.exp(-beta * y * np.multiply.outer(u, x))).sum(axis=-1)

    def target(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        margins = beta * y * u * x
        grad = -u[:, 0] + (beta * y * x / (1 + np.exp(margins))).sum(axis=1)
        return log_density(u[:, 0]), grad[:, None]

    grid = np.linspace(-8, 8, 4001)
    p = np.exp(log_density(grid))
    p /= p.sum()
    found = run_hmc(target, np.zeros((64, 1)), 400, 300, sources(64, 1), leapfrog=4)
    u = chain_major(found.records)[..., 0]
    for power in (1, 2, 3):
        check_moment(u**power, float((p * grid**power).sum()))
    check_moment((u > 1.0).astype(float), float(p[grid > 1.0].sum()))


def test_a_bad_start_and_bad_options_end_in_one_line() -> None:
    def target(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.full(len(x), -np.inf), np.zeros_like(x)

    with pytest.raises(NumericalError, match="not finite"):
        run_hmc(target, np.zeros((2, 1)), 5, 5, sources(2))
    with pytest.raises(InputError, match="leapfrog=0"):
        run_hmc(target, np.zeros((2, 1)), 5, 5, sources(2), leapfrog=0)


def soft_target(network: Network, beta: float) -> tuple[SoftTarget, TrainingSet]:
    given = make_training_set(network.m, [0, 2, 3], None, target=named("x1", network.n))
    return SoftTarget(network, given, Likelihood.of(beta, None)), given


@pytest.mark.parametrize("activation", ["tanh", "gelu", "sin", "relu"])
def test_gradient_by_differences(activation: str) -> None:
    network = Network(n=3, hidden=(4, 3), activation=activation, sigma_w=1.3, sigma_b=0.4)
    target, _ = soft_target(network, 3.0)
    u = np.random.default_rng(0).normal(size=(2, target.size))
    value, grad = target(u)
    for k in range(target.size):
        step = np.zeros_like(u)
        step[:, k] = 1e-6
        slope = (target(u + step)[0] - target(u - step)[0]) / 2e-6
        np.testing.assert_allclose(grad[:, k], slope, rtol=1e-5, atol=1e-7)
    assert value.shape == (2,)


def test_density_is_prior_times_likelihood() -> None:
    network = Network(n=3, hidden=(), sigma_w=2.0, sigma_b=0.5)
    target, given = soft_target(network, 1.5)
    u = np.random.default_rng(1).normal(size=(5, 4))
    bits = (np.arange(8)[:, None] >> np.array([2, 1, 0])) & 1
    z = bits @ (u[:, :3] * 2.0 / math.sqrt(3)).T + 0.5 * u[:, 3]
    sign = 2.0 * given.bits - 1.0
    likelihood = 1 / (1 + np.exp(-1.5 * sign[:, None] * z[given.index]))
    expected = np.log(likelihood).sum(axis=0) - 0.5 * (u**2).sum(axis=1)
    np.testing.assert_allclose(target(u)[0], expected, rtol=1e-12)
    assert (target.functions(u) == pack((z.T > 0).astype(np.uint8))).all()


def importance(network: Network, beta: float, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """(256,) P(f) of the soft posterior on 3 bits and its standard error, by prior draws."""
    target, _ = soft_target(network, beta)
    u = np.random.default_rng(7).normal(size=(draws, target.size))
    logw = target(u)[0] + 0.5 * (u**2).sum(axis=1)
    w = np.exp(logw - logw.max())
    f = (target.functions(u)[:, 0] >> np.uint64(56)).astype(int)
    p = np.bincount(f, w, minlength=256) / w.sum()
    square = np.bincount(f, w * w, minlength=256)
    variance = (square * (1 - 2 * p) + p * p * (w * w).sum()) / w.sum() ** 2
    return p, np.sqrt(variance)


@pytest.mark.slow
@pytest.mark.parametrize("beta", [1.0, 10.0])
def test_soft_posterior_against_importance_sampling(beta: float) -> None:
    network = Network(n=3, hidden=(4,), activation="tanh", sigma_w=3.0)
    p, error = importance(network, beta, 200_000)
    counts = hmc_posterior(
        network, [0, 2, 3], None, 48 * 400, seed=1, target="x1", beta=beta, chains=48, leapfrog=16
    )
    info = counts.info["posterior"]
    assert info["converged"], info["reason"]
    common = np.flatnonzero(p > 0.004)
    assert len(common) > 5
    tables = ((common[:, None] >> np.arange(7, -1, -1)) & 1).astype(np.uint8)
    row = counts.find(tables)
    assert (row >= 0).all()
    z = (counts.p[row] - p[common]) / np.hypot(counts.stderr[row], error[common])
    assert np.abs(z).max() < 4.5  # at most 60 functions: false alarm 1e-3 at t with 47 degrees
    index = np.array([0, 2, 3])
    all_tables = ((np.arange(256)[:, None] >> np.arange(7, -1, -1)) & 1).astype(np.uint8)
    agree = (all_tables[:, index] == named("x1", 3)[index]).all(axis=1)
    statistic = info["statistics"]["agrees"]
    both = math.hypot(statistic["stderr"], math.sqrt((error[agree] ** 2).sum()))
    assert abs(1 - info["violating"] - p[agree].sum()) < 4.5 * both


@pytest.mark.slow
def test_cold_likelihood_approaches_the_step() -> None:
    network = Network(n=3, hidden=(4,))
    hard = slice_posterior(network, [0, 2, 3], None, 20_000, seed=1, target="x1")
    far, violating = [], []
    for beta in (1.0, 10.0, 100.0):
        soft = hmc_posterior(
            network, [0, 2, 3], None, 8000, seed=1, target="x1", beta=beta, chains=16, leapfrog=24
        )
        row = soft.find(hard.tables(10))
        p = np.where(row >= 0, soft.p[row], 0.0)
        far.append(np.abs(p - hard.p[:10]).sum())
        violating.append(soft.info["posterior"]["violating"])
    # total variation on the ten commonest functions falls by factors; sampling noise is below 0.05
    assert far[0] > far[1] + 0.05
    assert far[1] > far[2]
    assert far[2] < 0.15
    assert violating[0] > violating[1] > violating[2]
    assert violating[2] < 0.1


@pytest.mark.slow
def test_same_seed_same_counts_whatever_the_workers() -> None:
    network = Network(n=3, hidden=(4,))
    one, two = (
        hmc_posterior(network, [0, 1], [0, 1], 200, seed=5, chains=10, workers=w) for w in (1, 2)
    )
    assert (one.words == two.words).all()
    assert (one.count == two.count).all()
    other = hmc_posterior(network, [0, 1], [0, 1], 200, seed=6, chains=10)
    assert len(other) != len(one) or (other.count != one.count).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta": 0}, "beta=0"),
        ({"beta": math.inf}, "beta=inf"),
        ({"leapfrog": 0}, "leapfrog=0"),
        ({"accept": 1.0}, "accept=1.0"),
        ({"chains": 0}, "chains=0"),
        ({"network": Network(n=3, activation="step")}, "activation='step'"),
        ({"network": Network(n=3, weight_dist="uniform")}, "weight_dist='uniform'"),
    ],
)
def test_bad_input(arguments: dict, message: str) -> None:
    given = {"network": Network(n=3, hidden=(4,)), "train_index": [0], "labels": [1]} | arguments
    with pytest.raises(InputError, match=message):
        hmc_posterior(**given, samples=32)
