"""Sharpness against closed forms: quadratics over boxes and balls, a perceptron with one example.

A perceptron under the square loss on one example is the quadratic (e + dw.x~)^2, x~ = (x, 1): its
maximum over a box or a ball, its mean over a sphere, its curvature and its noise tolerance are all
known.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from simprior.analysis.flatness.ensemble import Ensemble
from simprior.analysis.flatness.sharpness import (
    box_maximum,
    keskar_sharpness,
    random_sharpness,
    sam_sharpness,
)
from simprior.errors import InputError
from simprior.network.spec import Network
from simprior.training.draws import Parameters
from simprior.training.train import train


def one_example(count=5, d=6, seed=0):
    """Perceptrons with one example and the square loss, its x~ and the errors e."""
    random = np.random.default_rng(seed)
    x, w, b = random.normal(size=d), random.normal(size=(count, d)), random.normal(size=count)
    parameters = [Parameters((w[i][:, None],), (b[i : i + 1],)) for i in range(count)]
    network = Network(hidden=(), inputs=x[None])
    ensemble = Ensemble.of_parameters(parameters, network, x[None], [1], "mse")
    return ensemble, np.append(x, 1.0), w @ x + b - 1


def small_relu(count=20, hidden=(2,), seed=1):
    random = np.random.default_rng(seed)
    network = Network(hidden=hidden, inputs=random.normal(size=(5, 1)))
    sizes = list(zip(network.fan_ins, (*hidden, 1), strict=True))
    parameters = [
        Parameters(
            tuple(random.normal(size=s) for s in sizes),
            tuple(random.normal(size=s[1]) for s in sizes),
        )
        for _ in range(count)
    ]
    return Ensemble.of_parameters(parameters, network, network.inputs, [0, 1, 1, 0, 1], "ce")


@pytest.mark.parametrize("kind", ["convex", "concave", "mixed", "flat", "curved only"])
def test_diagonal_quadratics_over_a_box(kind):
    random = np.random.default_rng(2)
    n, size = 7, 12
    g, h = random.normal(size=(2, n, size))
    h = {"convex": abs(h), "concave": -abs(h), "flat": 0 * h}.get(kind, h)
    if kind == "curved only":
        g, h = 0 * g, abs(h)
    centre, radius = random.normal(size=(n, size)), random.uniform(0.1, 2, size=(n, size))
    best = np.abs(g) * radius + h * radius**2 / 2  # at the end that the slope points to
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = (h < 0) & (np.abs(g / h) < radius)
        best = np.where(inside, -(g**2) / (2 * h), best)
    c, gt, ht = (torch.from_numpy(a) for a in (centre, g, h))
    gains, gaps, good = [], [], []
    for i in range(n):  # a function of its own for each row

        def function(w, i=i):
            d = w - c[i]
            return 3.0 + (gt[i] * d + 0.5 * ht[i] * d * d).sum(1)

        found = box_maximum(
            function, c[i : i + 1], torch.from_numpy(radius[i : i + 1]), tolerance=1e-9,
            iterations=500,
        )  # fmt: skip
        gains.append(found.value[0])
        gaps.append(found.gap[0])
        good.append(found.converged[0])
    # in one dimension the end that the slope points to is best, so that the ascent from the middle
    # finds the maximum; where the function is concave the gap bounds what is missing
    assert np.allclose(gains, best.sum(1), rtol=1e-8, atol=0)
    assert max(gaps) <= 1e-9
    if kind in ("concave", "flat", "curved only"):  # one maximum, or all vertices alike
        assert all(good)


def test_a_ridge_whose_maximum_is_at_the_vertex_away_from_the_gradient_of_the_start():
    a = torch.tensor([3.0, -1.0, 2.0, 0.5], dtype=torch.float64)
    centre, radius = torch.zeros(1, 4, dtype=torch.float64), torch.ones(1, 4, dtype=torch.float64)
    found = box_maximum(lambda w: (w @ a - 0.1).square(), centre, radius, seed=3)
    assert np.isclose(found.value[0], (6.5 + 0.1) ** 2 - 0.01, rtol=1e-12)
    assert found.converged[0]
    assert found.agreement[0] < 1e-9


@pytest.mark.parametrize("zeta", [1e-4, 5e-4, 1e-3, 0.5])
def test_keskar_of_a_quadratic_loss(zeta):
    ensemble, x, e = one_example()
    shift = zeta * ((ensemble.parameters.abs().numpy() + 1) * abs(x)).sum(1)
    expected = 100 * ((abs(e) + shift) ** 2 - e**2) / (1 + e**2)
    found = keskar_sharpness(ensemble, zeta=zeta)
    # differences of losses of order 1 in float64: 1e-15 absolute, of gains of 1e-4 and more
    assert np.allclose(found.value, expected, rtol=1e-9)
    assert (found.gap <= 1e-9).all()
    # the lower of the two maxima is at (|e| - shift)^2: starts that find it disagree by 4 |e| shift
    if zeta < 0.01:
        assert found.converged.all()


@pytest.mark.parametrize("rho", [0.05, 1.0])
def test_sam_of_a_quadratic_loss(rho):
    ensemble, x, e = one_example()
    expected = (abs(e) + rho * np.linalg.norm(x)) ** 2 - e**2
    assert np.allclose(sam_sharpness(ensemble, rho=rho).value, expected, rtol=1e-9)
    assert np.allclose(sam_sharpness(ensemble, rho=rho, one_step=True).value, expected, rtol=1e-9)


def test_random_directions_of_a_quadratic_loss():
    ensemble, x, _ = one_example(count=40)
    mean, stderr = random_sharpness(ensemble, 7, rho=0.3, draws=200)
    expected = 0.3**2 * (x @ x) / ensemble.size
    score = (mean - expected) / stderr
    # independent directions a network: 40 scores, |score| < 5 fails by chance once in 40,000 runs
    assert np.abs(score).max() < 5
    assert np.abs(score.mean()) < 5 / 40**0.5
    again, _ = random_sharpness(ensemble, 7, rho=0.3, draws=200)
    assert (again == mean).all()
    assert len(set(mean)) == 40  # each network has its own directions


@pytest.mark.slow
def test_keskar_is_no_less_than_the_best_of_all_vertices():
    """In a large box the ascent may end at a lower maximum (40 starts: 1.6 % lower, once in 20).
    Of 2,000 random starts none is the best of 128 vertices with probability 1.5e-7 a network."""
    corners = torch.tensor(np.indices((2,) * 7).reshape(7, -1).T * 2.0 - 1)
    few = small_relu().subset([7, 13, 18])
    for ensemble, zeta, starts in ((small_relu(), 1e-3, 2), (few, 0.3, 2000)):
        found = keskar_sharpness(ensemble, zeta=zeta, starts=starts)
        radius = zeta * (ensemble.parameters.abs() + 1)
        base = ensemble.losses()
        best = torch.full_like(base, -1)
        for c in corners:
            best = torch.maximum(best, ensemble.losses(ensemble.parameters + radius * c) - base)
        assert (found.gain >= best.numpy() * (1 - 1e-9)).all()
        assert found.converged.all() or zeta > 1e-3


@pytest.mark.slow
def test_sam_is_no_less_than_its_first_step_or_random_points():
    ensemble = small_relu(hidden=(4, 3))
    many = sam_sharpness(ensemble, rho=0.3)
    assert (many.gain >= sam_sharpness(ensemble, rho=0.3, one_step=True).gain - 1e-12).all()
    random = np.random.default_rng(3)
    base = ensemble.losses().numpy()
    for _ in range(50):
        step = random.normal(size=ensemble.parameters.shape)
        step *= 0.3 / np.linalg.norm(step, axis=1, keepdims=True)
        rise = ensemble.losses(ensemble.parameters + torch.from_numpy(step)).numpy() - base
        assert (many.gain >= rise - 1e-9).all()


@pytest.mark.slow
def test_rescaling_changes_sharpness_and_not_the_function():
    net = Network(n=5, hidden=(10, 9))
    result = train(net, "lz:15", train=14, runs=30, lr=0.01, seed=3, stop="epochs:5")
    ensemble = Ensemble.of_run(result)
    other = ensemble.rescaled(4.0)
    assert torch.equal(other.classes(), ensemble.classes())
    before, after = keskar_sharpness(ensemble), keskar_sharpness(other)
    assert before.converged.all()
    assert (np.abs(after.value / before.value - 1) > 1e-3).all()  # rounding is below 1e-6
    small = replace(ensemble, memory=1)
    assert np.allclose(keskar_sharpness(small).value, before.value, rtol=1e-6)


def test_no_gradient_no_sharpness():
    network = Network(hidden=(), inputs=np.array([[1.0], [-1.0]]))
    safe = Parameters((np.array([[5.0]]),), (np.zeros(1),))
    ensemble = Ensemble.of_parameters([safe], network, network.inputs, [1, 0], "hinge")
    found = keskar_sharpness(ensemble)
    assert found.value[0] == 0 and found.converged[0]
    assert sam_sharpness(ensemble).value[0] == 0


def test_refuses():
    ensemble, _, _ = one_example()
    for call in (keskar_sharpness, sam_sharpness, random_sharpness):
        name = "zeta" if call is keskar_sharpness else "rho"
        for bad in (0.0, -1.0, float("nan")):
            with pytest.raises(InputError, match=name):
                call(ensemble, **{name: bad})
    steps = small_relu()
    steps = replace(steps, network=replace(steps.network, activation="step"))
    with pytest.raises(InputError, match="step"):
        keskar_sharpness(steps)
    assert np.isfinite(random_sharpness(steps)[0]).all()  # needs no gradient
