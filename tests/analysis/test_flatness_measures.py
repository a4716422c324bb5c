"""Norms, margins, noise, volumes against closed forms; the table of measures under rescaling."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_flatness_ensemble import made, plain_loss
from test_flatness_sharpness import one_example

from simprior.analysis.flatness import geometry as norms
from simprior.analysis.flatness.ensemble import Ensemble
from simprior.analysis.flatness.geometry import hessian_trace
from simprior.analysis.flatness.volume import (
    local_volume,
    log_unit_ball,
    sigma_flatness,
    unit_directions,
)
from simprior.analysis.measure.registry import (
    MEASURES,
    SUFFIXES,
    WEIGHT_GROUPS,
    measure_weights,
)
from simprior.errors import InputError
from simprior.network.spec import Network
from simprior.training.draws import Parameters
from simprior.training.train import train


def test_path_norm_is_the_sum_over_paths():
    ensemble = made(hidden=(3, 2), count=2)
    for i, (w, b) in enumerate(_networks(ensemble)):
        total = 0.0
        for a, c, d in itertools.product(range(4), range(3), range(2)):
            total += (w[0][a, c] * w[1][c, d] * w[2][d, 0]) ** 2
        for c, d in itertools.product(range(3), range(2)):
            total += (b[0][c] * w[1][c, d] * w[2][d, 0]) ** 2
        total += sum((b[1][d] * w[2][d, 0]) ** 2 for d in range(2)) + b[2][0] ** 2
        assert np.isclose(norms.path_norm(ensemble)[i], 0.5 * math.log(total), rtol=1e-12)


def test_norms_of_layers():
    ensemble = made(hidden=(6, 5))
    for i, (w, _) in enumerate(_networks(ensemble)):
        frobenius = [np.linalg.norm(m) for m in w]
        spectral = [np.linalg.norm(m, 2) for m in w]
        assert np.isclose(norms.frobenius_norm(ensemble)[i], np.hypot.reduce(frobenius))
        assert np.isclose(norms.log_frobenius_product(ensemble)[i], np.log(frobenius).sum())
        assert np.isclose(norms.spectral_norm(ensemble)[i], np.log(spectral).sum())
    assert np.isnan(norms.distance_norm(ensemble)).all()
    moved = replace(ensemble, initial=ensemble.parameters - 2.0)
    assert np.allclose(norms.distance_norm(moved), 2 * ensemble.size**0.5)


@pytest.mark.parametrize("loss", ["ce", "mse01"])
def test_margins(loss):
    ensemble = made(loss=loss)
    z, t = ensemble.outputs().numpy(), 2 * ensemble.y.numpy() - 1
    signed = t * (z - (0.5 if loss == "mse01" else 0))
    assert np.allclose(norms.margin(ensemble, quantile=0), signed.min(axis=1))
    assert np.allclose(norms.margin(ensemble), np.quantile(signed, 0.1, axis=1))
    divided = norms.margin(ensemble, normalise=True) * np.exp(norms.spectral_norm(ensemble))
    assert np.allclose(divided, norms.margin(ensemble))
    with pytest.raises(InputError):
        norms.margin(ensemble, quantile=1.5)


def test_sigma_of_a_quadratic_loss():
    """E (e + sigma n.x~)^2 - e^2 = sigma^2 |x~|^2. 40 networks with noise of their own: |z| < 5 in
    all fails by chance once in 40,000 runs, the mean of z at 5 / sqrt(40) as rarely; a delta
    method of 400 draws has a skewness of some 0.1, far below."""
    ensemble, x, _ = one_example(count=40)
    for target in (0.1, 2.0):
        sigma, stderr = sigma_flatness(ensemble, 3, target=target, criterion="loss", draws=400)
        z = (sigma - target**0.5 / np.linalg.norm(x)) / stderr
        assert np.abs(z).max() < 5
        assert abs(z.mean()) < 5 / 40**0.5 + 0.1
        assert abs(z.std() - 1) < 4.5 * 0.113  # chi with 39 degrees of freedom: 1 +- 0.113


def test_sigma_of_the_training_error_of_a_perceptron():
    """One example with margin M flips with probability Phi(-M / (sigma |x~|))."""
    from scipy.special import ndtri

    ensemble, x, e = one_example(count=60)
    right = e + 1 > 0  # label 1
    ensemble = ensemble.subset(right)
    sigma, stderr = sigma_flatness(ensemble, 3, draws=1000)
    expected = (e[right] + 1) / np.linalg.norm(x) / -ndtri(0.1)
    z = (sigma - expected) / stderr
    # 0-1 means move in steps of 1/1000 (0.1 standard errors); 5 as above, 1 for the skewness
    assert len(z) > 10 and np.abs(z).max() < 6


def test_noise_is_shared_between_a_network_and_its_copy():
    ensemble = made(hidden=(6, 5), count=4)
    ensemble = replace(ensemble, y=ensemble.classes().double())  # all fit
    sigma, stderr = sigma_flatness(ensemble, 1)
    small, _ = sigma_flatness(replace(ensemble, memory=1), 1)
    assert np.allclose(sigma, small, rtol=1e-9)
    assert np.allclose(sigma_flatness(ensemble.subset([3, 0]), 1)[0], sigma[[3, 0]], rtol=1e-9)
    assert (stderr > 0).all()
    for bad in ({"target": 0.0}, {"criterion": "z"}, {"draws": 1}):
        with pytest.raises(InputError):
            sigma_flatness(ensemble, **bad)


def two_examples(scale):
    """w x + b fitted exactly to +-1 at x = +-scale: L rises by scale^2 dw^2 + db^2."""
    network = Network(hidden=(), inputs=np.array([[scale], [-scale]]))
    exact = Parameters((np.array([[1 / scale]]),), (np.zeros(1),))
    return Ensemble.of_parameters([exact] * 20, network, network.inputs, [1, 0], "mse")


@pytest.mark.slow
def test_volume_of_a_disc_and_of_ellipses():
    disc = local_volume(two_examples(1.0), criterion="loss", rise=0.25)
    assert np.allclose(disc.value, math.log(math.pi * 0.25), atol=1e-3)  # ln r to 1e-3 / P
    assert np.allclose(disc.ess, 32, rtol=1e-2)
    ellipse = local_volume(two_examples(3.0), 5, criterion="loss", rise=0.25, rays=2000)
    z = (ellipse.value - math.log(math.pi * 0.25 / 3)) / ellipse.stderr
    # 20 independent sets of rays: |z| < 5 in all fails by chance once in 80,000 runs
    assert np.abs(z).max() < 5
    assert abs(z.std() - 1) < 4.5 * 0.162  # chi with 19 degrees of freedom
    assert log_unit_ball(3) == pytest.approx(math.log(4 * math.pi / 3))


def test_a_ray_ends_where_a_label_changes():
    """Between the first radius of 1, 2, 4, ... (or 1, 1/2, ...) with another label and the one
    before, at the change in between. Changes are looked for in steps of 0.1 %: the middle of a step
    is off by at most half of it, the search by 2e-3 / P."""
    ensemble, count = made(hidden=(6, 5), count=8), 4
    found = local_volume(ensemble, 2, rays=count)
    assert np.isfinite(found.value).all() and (found.capped < 1).all()
    rays, before = unit_directions(ensemble, 2, "volume", count), ensemble.classes()

    def same(i, k, radii):
        """Whether network i still has its labels at these radii along its ray k."""
        points = ensemble.parameters[i] + torch.as_tensor(radii)[:, None] * rays[i, k]
        rows = ensemble.subset([i] * len(radii))
        return (rows.classes(None, points) == before[i]).all(1).numpy()

    def end(i, k):
        """ln of the radius where ray k of network i ends."""
        reach = math.log(10 * float(ensemble.parameters[i].norm()))
        doubled = 2.0 ** np.arange(-30, math.ceil(reach / math.log(2)) + 1)
        alike = same(i, k, doubled)
        if alike[30:].all():
            return reach
        up, down = 29 + int(np.argmin(alike[30:])), np.flatnonzero(alike[:30])
        last = up if alike[30] else int(down[-1])
        logs = math.log(doubled[last]) + np.arange(0, math.log(2) + 1e-3, 1e-3)
        alike = same(i, k, np.exp(logs))
        changes = logs[:-1][alike[:-1] & ~alike[1:]]
        assert len(changes) == 1  # true of these networks, not of all: an end is then defined
        return min(float(changes[0]) + 0.5e-3, reach)

    for i in range(len(ensemble)):
        expected = np.mean([end(i, k) for k in range(count)])
        assert abs(found.mean_log_radius[i] - expected) < 0.5e-3 + 2e-3 / ensemble.size


def test_criteria_of_the_volume_agree_where_they_must():
    ensemble = made(hidden=(6, 5), count=5)
    fitted = replace(ensemble, y=ensemble.classes().double())
    labels = local_volume(fitted, 1)
    first = local_volume(fitted, 1, criterion="error", rise=0.01)  # the first error of nine
    assert np.allclose(labels.value, first.value, rtol=1e-9)
    more = local_volume(fitted, 1, criterion="error", rise=0.3)
    assert (more.mean_log_radius > first.mean_log_radius).all()
    inputs = np.vstack([fitted.X.numpy(), np.random.default_rng(0).normal(size=(50, 4))])
    assert (local_volume(fitted, 1, inputs=inputs).value <= labels.value + 1e-6).all()
    for bad in ({"criterion": "z"}, {"rise": 0.0}, {"rays": 1}, {"inputs": np.zeros((3, 7))}):
        with pytest.raises(InputError):
            local_volume(fitted, **bad)


@pytest.fixture(scope="module")
def trained():
    net = Network(n=5, hidden=(10, 9))
    result = train(net, "lz:15", train=14, runs=30, lr=0.01, seed=3, stop="epochs:5")
    return Ensemble.of_run(result)


def test_rescaling_changes_what_the_table_says_and_nothing_else(trained):
    before, after = measure_weights(trained), measure_weights(trained.rescaled(4.0))
    for group in WEIGHT_GROUPS.values():
        for column in (c for c in group.columns() if c in MEASURES and c in before):
            a, b = before[column], after[column]
            moved = np.abs(b - a) > 1e-6 * np.abs(a)
            assert moved.all() if MEASURES[column].moves else not moved.any(), column


@pytest.mark.slow
def test_rescaling_moves_the_trace_as_the_chain_rule_says(trained):
    """Parameters times alpha have their diagonal of the Hessian over alpha^2.

    Sums of 169 numbers in float64: 1e-10 of their absolute sum is some 1e5 roundings.
    """
    alpha, first, second = 4.0, 6 * 10, 10 * 9  # weights and biases of layer 0; weights of layer 1
    few = trained.subset(slice(5))
    after = hessian_trace(few.rescaled(alpha)).value
    for row in range(5):
        hessian = torch.func.hessian(plain_loss(few, row))(few.parameters[row])
        diagonal = hessian.diagonal().clone()
        diagonal[:first] /= alpha**2
        diagonal[first : first + second] *= alpha**2
        assert abs(after[row] - diagonal.sum()) < 1e-10 * diagonal.abs().sum()


def test_every_group_gives_its_columns(trained):
    few = trained.subset(slice(4))
    for name, group in WEIGHT_GROUPS.items():
        short = {"warmup": 5, "draws": 4} if "warmup" in group.options else {}
        found = group.compute(few, 0, **short)
        assert tuple(found) == group.columns()
        assert all(v.shape == (4,) for v in found.values())
        assert {c for c in group.columns() if c in MEASURES} == {
            c for c in group.columns() if not c.endswith(SUFFIXES)
        }
        assert {k: v.dtype.kind for k, v in found.items()} == {
            c: "b" if c.endswith("_converged") else "f" for c in group.columns()
        }, name
        assert all(np.isfinite(v).all() for v in found.values()), name


def test_measures_do_not_depend_on_chunks_or_on_the_other_networks(trained):
    few = trained.subset(slice(6))
    whole = measure_weights(few, seed=4)
    small = measure_weights(replace(few, memory=1), seed=4)
    turned = measure_weights(few.subset([5, 3, 1]), seed=4)
    for column, values in whole.items():
        assert np.allclose(small[column], values, rtol=1e-6), column
        assert np.allclose(turned[column], values[[5, 3, 1]], rtol=1e-6), column


def test_options_reach_their_measures_and_others_are_refused(trained):
    few = trained.subset(slice(3))
    usual = measure_weights(few, ["sharpness", "margin"])
    other = measure_weights(few, ["sharpness", "margin"], options={"zeta": 1e-3, "quantile": 0})
    assert (other["keskar"] > usual["keskar"]).all() and (other["margin"] < usual["margin"]).all()
    assert (other["sam"] == usual["sam"]).all()
    with pytest.raises(InputError, match="sharpnes"):
        measure_weights(few, ["sharpnes"])
    with pytest.raises(InputError, match="beta"):
        measure_weights(few, ["margin"], options={"beta": 1})


def test_step_networks_have_the_measures_without_gradients():
    result = train(
        Network(n=5, hidden=(30,), activation="step"), "lz:15", train=5, runs=8, max_epochs=3000,
        optimizer="guess-and-check", seed=1,
    )  # fmt: skip
    ensemble = Ensemble.of_run(result)
    for group in WEIGHT_GROUPS.values():
        if group.gradients:
            with pytest.raises(InputError, match="step"):
                group.compute(ensemble, 0)
        else:
            assert not np.isnan(group.compute(ensemble, 0)[group.columns()[0]]).any()


def _networks(ensemble):
    layers = ensemble.passes.layers(ensemble.parameters)
    for i in range(len(ensemble)):
        yield [w[i].numpy() for w, _ in layers], [b[i, 0].numpy() for _, b in layers]
