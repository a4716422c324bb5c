"""Local learning coefficients: exact values, an independent sampler, steps, networks."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_flatness_ensemble import made

import simprior as sp
from simprior.analysis.flatness.llc import (
    SGLD,
    Chains,
    Coefficient,
    ensemble_llc,
    local_learning_coefficient,
    rank_regression_coefficient,
)
from simprior.analysis.flatness.sharpness import differentiated
from simprior.analysis.measure.registry import WEIGHT_GROUPS
from simprior.analysis.measure.table import measure
from simprior.errors import InputError
from simprior.numerics.estimate import student_factor

SIZE = 4
SHORT = Chains(chains=8, warmup=80, draws=200, leaps=6)


def regression(rank: int, examples: float, settings: Chains, seed: int = 0) -> Coefficient:
    """Reduced-rank regression, M = N = H = 4, at its most singular minimum; the loss is that of
    infinitely many inputs N(0, I) with unit noise, half the squared distance of B A."""
    A = torch.zeros(SIZE, SIZE, dtype=torch.float64)
    A.diagonal()[:rank] = 1.0

    def loss(w: torch.Tensor) -> torch.Tensor:
        first, second = w.reshape(-1, 2, SIZE, SIZE).unbind(1)
        return 0.5 * (second @ first - A @ A).square().sum((1, 2))

    centre = torch.stack([A, A]).reshape(1, -1)
    source = np.random.default_rng(seed)
    return local_learning_coefficient(differentiated(loss), centre, examples, [source], settings)


def by_gibbs(rank: int, examples: float, draws: int, seed: int) -> tuple[float, float]:
    """The same by Gibbs sampling, gamma = 1: each layer given the other is Gaussian, row by row."""
    source = np.random.default_rng(seed)
    tempered, chains = examples / math.log(examples), 200
    start = np.diag([1.0] * rank + [0.0] * (SIZE - rank))
    layers = [np.tile(start, (chains, 1, 1)) for _ in range(2)]  # A transposed, B
    losses = []
    for _ in range(draws):
        for own in (0, 1):
            other = layers[1 - own]  # own @ other.T is B A, or its transpose
            precision = tempered * other.transpose(0, 2, 1) @ other + np.eye(SIZE)
            pull = tempered * start @ start @ other + start
            root = np.linalg.cholesky(np.linalg.inv(precision))
            mean = np.linalg.solve(precision, pull.transpose(0, 2, 1)).transpose(0, 2, 1)
            noise = source.standard_normal(mean.shape)
            layers[own] = mean + noise @ root.transpose(0, 2, 1)
        gap = layers[1] @ layers[0].transpose(0, 2, 1) - start @ start
        losses.append(0.5 * tempered * (gap**2).sum((1, 2)))
    means = np.array(losses[draws // 5 :]).mean(0)
    return float(means.mean()), float(means.std(ddof=1) / math.sqrt(chains))


@pytest.mark.parametrize(
    ("sizes", "value"),
    [
        ((4, 4, 4, 1), 7.0),
        ((4, 4, 4, 4), 8.0),
        ((4, 4, 4, 0), 6.0),  # 4 x 4 x 4 and nothing to fit: 3 H^2 / 8
        ((2, 5, 1, 0), 1.0),  # B A = 0 with one hidden unit: min(M, N) / 2
        ((5, 2, 1, 0), 1.0),
        ((2, 2, 9, 0), 2.0),  # more hidden units than B A needs: M N / 2
        ((3, 4, 2, 2), 5.0),  # a full rank is regular: r (M + N - r) / 2
    ],
)
def test_exact_coefficients_of_reduced_rank_regression(
    sizes: tuple[int, int, int, int], value: float
) -> None:
    assert rank_regression_coefficient(*sizes) == value


def test_coefficients_that_do_not_exist() -> None:
    with pytest.raises(InputError, match="rank 5"):
        rank_regression_coefficient(4, 4, 4, 5)


def test_a_quadratic_loss_has_half_its_curved_directions() -> None:
    """L = sum_i h_i w_i^2 / 2: n beta E L = sum_i n beta h_i / (n beta h_i + gamma) / 2, here of
    two centres with different curvatures. |z| < 5 of t with 15 degrees of freedom, both: 3e-4."""
    curved = torch.tensor([[1.0, 4.0, 0.0], [1.0, 0.25, 2.0]], dtype=torch.float64)

    def loss(points: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = curved[rows]
        return 0.5 * (h * points**2).sum(1), h * points

    sources = [np.random.default_rng(i) for i in range(2)]
    centres = torch.zeros(2, 3, dtype=torch.float64)
    settings = replace(SHORT, chains=16)
    found = local_learning_coefficient(loss, centres, 1000, sources, settings)
    sharp = 1000 / math.log(1000) * curved.numpy()
    exact = (sharp / (sharp + 1)).sum(1) / 2
    assert (np.abs(found.value - exact) < 5 * found.stderr).all()
    assert (found.stderr < 0.1).all() and (found.rhat < 1.05).all() and found.converged.all()
    assert ((found.accepted > 0.6) & (found.accepted < 0.95)).all()


@pytest.mark.slow
def test_standard_errors_are_true() -> None:
    """200 repeats at a known value: 95 % intervals (t, 7 degrees of freedom) hold it in 95 % of
    them, the mean is right, and the variance between repeats is the one that errors say. Bounds of
    4.5 standard errors each: false alarm 2e-5."""
    repeats, curved = 200, torch.tensor([1.0, 0.25, 2.0], dtype=torch.float64)
    loss = differentiated(lambda w: 0.5 * (curved * w.square()).sum(1))
    centres = torch.zeros(repeats, 3, dtype=torch.float64)
    sources = [np.random.default_rng([7, i]) for i in range(repeats)]
    found = local_learning_coefficient(loss, centres, 1000, sources, SHORT)
    sharp = 1000 / math.log(1000) * curved.numpy()
    away = found.value - float((sharp / (sharp + 1)).sum() / 2)
    held = int((np.abs(away) < student_factor(SHORT.chains, 0.95) * found.stderr).sum())
    assert abs(held - 0.95 * repeats) < 4.5 * math.sqrt(repeats * 0.95 * 0.05), held
    assert abs(away.mean()) < 4.5 * away.std(ddof=1) / math.sqrt(repeats)
    ratio = away.var(ddof=1) / float((found.stderr**2).mean())
    assert abs(ratio - 1) < 4.5 * math.sqrt(2 / (repeats - 1) * (1 + 1 / 7)), ratio


def test_langevin_steps_depend_on_the_step_and_say_so() -> None:
    """Of h w^2 / 2 a Langevin step e gives 1 / (1 - e (n beta h + gamma) / 4) times the true value:
    2 where e is twice the reciprocal. Half the step gives 4/3 of it: flagged."""
    tempered = 1000 / math.log(1000)
    settings = replace(SHORT, chains=64, leaps=4, method=SGLD, step=2 / (tempered + 1))
    loss = differentiated(lambda w: 0.5 * w.square().sum(1))
    centre = torch.zeros(1, 2, dtype=torch.float64)
    found = local_learning_coefficient(loss, centre, 1000, [np.random.default_rng(0)], settings)
    exact = tempered / (tempered + 1)
    assert abs(found.value[0] - 2 * exact) < 5 * found.stderr[0] < 0.3
    assert abs(found.halved[0] - 4 / 3 * exact) < 5 * found.halved_stderr[0]
    assert not found.converged[0]


def test_networks_do_not_depend_on_each_other() -> None:
    ensemble = made(count=4)
    short = Chains(chains=2, warmup=3, draws=4, leaps=2)
    together = ensemble_llc(ensemble, 1, short)
    alone = ensemble_llc(ensemble.subset([2]), 1, short)
    assert alone.value[0] == pytest.approx(together.value[2], rel=1e-9)
    again = ensemble_llc(ensemble, 1, short)
    assert np.array_equal(again.value, together.value)
    assert not np.array_equal(ensemble_llc(ensemble, 2, short).value, again.value)


def test_refusals() -> None:
    with pytest.raises(InputError, match="examples of llc=2"):
        regression(1, 2, SHORT)
    with pytest.raises(InputError, match="gamma=0"):
        Chains(gamma=0.0)
    with pytest.raises(InputError, match="method='mala'"):
        Chains(method="mala")


def test_sgld_warns(caplog: pytest.LogCaptureFixture) -> None:
    ensemble = made(count=2)
    with caplog.at_level(logging.WARNING, "simprior"):
        found = WEIGHT_GROUPS["llc-sgld"].compute(ensemble, warmup=2, draws=4, step=1e-3)
    assert "depends on the step" in caplog.text
    assert (found["llc_sgld_step"] == 1e-3).all() and (found["llc_sgld_accepted"] == 1).all()


@pytest.mark.slow
@pytest.mark.parametrize("rank", [1, 4])
def test_reduced_rank_regression_is_that_of_another_sampler(rank: int) -> None:
    """Against Gibbs sampling of the same local posterior, 4 combined standard errors (31 and 199
    degrees of freedom: 2e-4); and against the exact value, from which a minimum of multiplicity m
    differs by (m - 1) / ln(n beta) to first order (m = 2 where M + N + H + r is odd)."""
    examples = 1e5
    found = regression(rank, examples, Chains(chains=32, draws=400, warmup=200, leaps=16))
    value, error = by_gibbs(rank, examples, 2000, 5)
    assert abs(found.value[0] - value) < 4 * math.hypot(found.stderr[0], error)
    assert found.converged[0] and found.stderr[0] < 0.08
    exact = rank_regression_coefficient(SIZE, SIZE, SIZE, rank)
    first_order = 1 / math.log(examples / math.log(examples)) if rank == 1 else 0.0
    assert exact - 2 * first_order < found.value[0] + 4 * found.stderr[0]
    assert found.value[0] - 4 * found.stderr[0] < exact


@pytest.mark.slow
def test_measured_of_a_run(tmp_path) -> None:
    network = sp.Network(n=3, hidden=(4,))
    sp.train(network, "x1", train=6, runs=3, lr=0.05, out=tmp_path / "run")
    frame = measure(tmp_path / "run", "llc", networks=2)
    assert {"llc", "llc_stderr", "llc_rhat", "llc_halved", "llc_converged"} <= set(frame)
    assert np.isfinite(frame["llc"]).all() and (frame["llc_stderr"] > 0).all()
    usual = measure(tmp_path / "run", "all", networks=2, draws=50)
    assert "llc" not in usual and "llc_sgld" not in usual
