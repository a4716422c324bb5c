"""Critical sample ratio in a box, against networks where it is known."""

from __future__ import annotations

import numpy as np
import pytest

from simprior.analysis.flatness.ensemble import Ensemble
from simprior.analysis.strings.search import box_csr, critical_points
from simprior.errors import InputError
from simprior.network.spec import Network
from simprior.training.draws import Source

X = np.random.default_rng(0).normal(size=(60, 6))
LABELS = (X[:, 0] > 0).astype(float)


def _ensemble(network: Network, members: int = 12, loss: str = "ce") -> Ensemble:
    source = Source(network, 1)
    return Ensemble.of_parameters(
        [source.parameters(k) for k in range(members)], network, X, LABELS, loss
    )


@pytest.mark.parametrize("loss", ["ce", "mse01"])
def test_linear_networks_are_exact(loss: str) -> None:
    # w.x + b crosses the threshold in the box iff |w.x + b - threshold| < r |w|_1
    network = Network(hidden=(), inputs=X)
    ensemble = _ensemble(network, loss=loss)
    level = 0.5 if loss == "mse01" else 0.0
    w = ensemble.parameters.numpy()
    margin = np.abs(X @ w[:, :6].T + w[:, 6] - level).T
    for radius in (0.05, 0.3):
        exact = margin < radius * np.abs(w[:, :6]).sum(axis=1, keepdims=True)
        assert (critical_points(ensemble, X, radius) == exact).all()
        found = box_csr(ensemble, X, radius)
        share = exact.mean(axis=1)
        assert found["box_csr"] == pytest.approx(share)
        error = np.where((share > 0) & (share < 1), np.sqrt(share * (1 - share) / 60), 1 / 62)
        assert found["box_csr_stderr"] == pytest.approx(error)
        assert 0 < share.mean() < 1


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_search_finds_what_random_points_find(activation: str) -> None:
    # any point of another class proves a point critical; the gradient must miss none of those that
    # 3,000 random points of the box prove
    network = Network(hidden=(25, 25), inputs=X, activation=activation, sigma_w=1.4, sigma_b=0.1)
    ensemble = _ensemble(network)
    radius = 0.25
    found = critical_points(ensemble, X, radius, seed=3)
    rng = np.random.default_rng(1)
    classes = ensemble.classes(X).numpy()
    proved = np.zeros_like(found)
    for _ in range(50):
        shifts = rng.uniform(-radius, radius, (60, *X.shape))
        other = ensemble.classes((X + shifts).reshape(-1, 6)).numpy().reshape(len(found), 60, 60)
        proved |= (other != classes[:, None]).any(axis=1)
    assert proved.sum() > 20
    assert not (proved & ~found).any()


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_points_that_cannot_be_critical_are_not_found(activation: str) -> None:
    """Bounds of every layer's values over the box, by intervals, prove what no search may find."""
    network = Network(hidden=(25, 25), inputs=X, activation=activation, sigma_w=1.4, sigma_b=0.1)
    ensemble = _ensemble(network)
    phi = {"relu": lambda z: np.maximum(z, 0), "tanh": np.tanh}[activation]
    radius = 0.03
    found = critical_points(ensemble, X, radius, seed=3)
    low = np.broadcast_to(X - radius, (len(ensemble), *X.shape))
    high = np.broadcast_to(X + radius, low.shape)
    for layer, (w, b) in enumerate(ensemble.passes.layers(ensemble.parameters)):
        if layer:
            low, high = phi(low), phi(high)
        up, down = np.maximum(w.numpy(), 0), np.minimum(w.numpy(), 0)
        low, high = low @ up + high @ down + b.numpy(), high @ up + low @ down + b.numpy()
    never = ((low > 0) | (high < 0))[:, :, 0]
    assert not (never & found).any()
    assert never.sum() > 100 and found.sum() > 10


@pytest.mark.slow
def test_growth_with_the_radius_and_independence_of_chunks() -> None:
    from dataclasses import replace

    network = Network(hidden=(20,), inputs=X, sigma_b=0.2)
    ensemble = _ensemble(network)
    small, large = (critical_points(ensemble, X, r, seed=2) for r in (0.02, 0.5))
    assert not (small & ~large).any() and small.sum() < large.sum()
    again = critical_points(replace(ensemble, memory=1), X, 0.02, seed=2)
    assert (again == small).all()
    some = critical_points(ensemble.subset(np.array([7, 3])), X, 0.02, seed=2)
    assert (some == small[[7, 3]]).all()
    assert (critical_points(ensemble, None, 0.02, seed=2) == small).all()


def test_bad_input() -> None:
    ensemble = _ensemble(Network(hidden=(4,), inputs=X), 2)
    for call, text in (
        (lambda: box_csr(ensemble, X, 0.0), "radius=0.0: expected a finite number > 0"),
        (lambda: box_csr(ensemble, X[:, :3], 0.1), r"X of shape \(60, 3\)"),
        (lambda: box_csr(ensemble, X, 0.1, steps=0), "steps=0"),
        (
            lambda: box_csr(_ensemble(Network(hidden=(4,), inputs=X, activation="step"), 2), X, 1),
            "activation='step'",
        ),
    ):
        with pytest.raises(InputError, match=text):
            call()
