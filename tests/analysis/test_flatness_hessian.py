"""Curvature against the dense Hessian of torch.func in float64: held to 1e-6 relative."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_flatness_ensemble import ACTIVATIONS, made, plain_loss

from simprior.analysis.flatness.geometry import (
    fisher_rao,
    hessian_top,
    hessian_trace,
    relative_flatness,
)
from simprior.errors import InputError
from simprior.network.losses import LOSSES

HELD_TO = 1e-6


def dense(ensemble):
    return [
        torch.func.hessian(plain_loss(ensemble, i))(ensemble.parameters[i])
        for i in range(len(ensemble))
    ]


@pytest.mark.parametrize("hidden", [(), (5,), (6, 5), (6, 5, 4), (3, 4, 5, 3)])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_top_eigenvalue_and_trace_equal_those_of_the_dense_hessian(activation, loss, hidden):
    ensemble = made(activation, loss, hidden)
    matrices = dense(ensemble)
    top, trace = hessian_top(ensemble, 5), hessian_trace(ensemble)
    for i, H in enumerate(matrices):
        values = torch.linalg.eigvalsh(H)
        size = float(values.abs().max())
        assert abs(top.value[i] - float(values[-1])) <= HELD_TO * abs(float(values[-1])) + 1e-14
        # relative to the sum of absolute eigenvalues where the trace cancels
        assert abs(trace.value[i] - float(H.trace())) <= 1e-10 * max(size, 1e-3) * len(values)
        assert abs(trace.value[i] - float(H.trace())) <= HELD_TO * abs(float(H.trace())) + 1e-14
    assert top.converged.all()
    assert (trace.stderr == 0).all() and trace.method == "exact"


def test_lanczos_stops_early_and_says_so():
    ensemble = made("tanh", hidden=(9, 9), count=6)
    rough = hessian_top(ensemble, 1, iterations=2)
    assert (rough.products == 2).all() and not rough.converged.any()
    values = [float(torch.linalg.eigvalsh(H)[-1]) for H in dense(ensemble)]
    assert (rough.value <= np.array(values) * (1 + 1e-12)).all()  # Ritz values are inside
    loose = hessian_top(ensemble, 1, tolerance=1e-2)
    assert (loose.products < hessian_top(ensemble, 1).products).any()
    assert np.allclose(loose.value, values, rtol=1e-2)


def test_negative_curvature_and_no_curvature():
    ensemble = made("linear", "hinge", (), count=4)
    found = hessian_top(ensemble)  # the Hessian is 0
    assert (found.value == 0).all() and found.converged.all()
    assert (hessian_trace(ensemble).value == 0).all()


def test_chunks_and_subsets_do_not_matter():
    ensemble = made("gelu", hidden=(6, 5, 4), count=9)
    small = replace(ensemble, memory=1)
    assert np.allclose(hessian_top(small).value, hessian_top(ensemble).value, rtol=1e-9)
    assert np.allclose(hessian_trace(small).value, hessian_trace(ensemble).value, rtol=1e-9)
    part = ensemble.subset([7, 2])
    for method in ("exact", "hutchinson"):
        whole = hessian_trace(ensemble, 3, method=method)
        assert np.allclose(hessian_trace(part, 3, method=method).value, whole.value[[7, 2]])


@pytest.mark.slow
def test_hutchinsons_standard_error_is_calibrated():
    """600 networks, 256 vectors each: z = (estimate - exact) / stderr. Independent vectors, so the
    number inside 1.96 is binomial; 95 % less the skewness of means of 256 (at most 1 point, from
    Edgeworth's expansion with the skewness 3 of squares of few normals) and 4 binomial standard
    deviations (0.9 points each) leaves 0.904; above, 0.95 + 4 * 0.009 = 0.986. The mean z is N(0,
    1/600) up to the same skewness, of order 0.5 / sqrt(256)."""
    ensemble = made("tanh", hidden=(6, 5), count=600, seed=4)
    exact = hessian_trace(ensemble).value
    found = hessian_trace(ensemble, 11, method="hutchinson", draws=256)
    z = (found.value - exact) / found.stderr
    inside = (np.abs(z) < 1.96).mean()
    assert 0.904 < inside < 0.986
    assert abs(z.mean()) < 4 / 600**0.5 + 0.5 / 16
    assert 0.8 < z.var() < 1.25


def test_the_method_is_chosen_by_cost():
    assert hessian_trace(made("relu", hidden=(80, 80), count=1)).method == "exact"
    assert hessian_trace(made("tanh", hidden=(80, 80), count=1)).method == "exact"
    deep = made("tanh", hidden=(4, 400, 400), count=1)
    assert deep.size > 5000 and hessian_trace(deep, draws=2).method == "hutchinson"
    for bad in ({"method": "dense"}, {"method": "hutchinson", "draws": 1}):
        with pytest.raises(InputError):
            hessian_trace(made(), **bad)


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
@pytest.mark.parametrize("hidden", [(), (5,), (6, 5, 4)])
def test_fisher_rao_norm(activation, hidden):
    ensemble = made(activation, hidden=hidden, own_labels=True)
    found = fisher_rao(ensemble)
    for i in range(len(ensemble)):
        each = []
        for j in range(ensemble.examples):
            one = replace(ensemble, X=ensemble.X[j : j + 1], y=ensemble.y[:, j : j + 1])
            g = torch.func.grad(plain_loss(one, i))(ensemble.parameters[i])
            each.append(float((g * ensemble.parameters[i]).sum()) ** 2)
        assert np.isclose(found[i], np.mean(each) ** 0.5, rtol=1e-9)


def test_fisher_rao_norm_without_biases_is_a_multiple_of_the_output():
    ensemble = made("relu", hidden=(6, 5, 4))
    flat = ensemble.parameters.clone()
    for _, b in ensemble.passes.layers(flat):
        b.zero_()
    ensemble = replace(ensemble, parameters=flat)
    z, t = ensemble.outputs(), 2 * ensemble.y - 1
    expected = 4 * (torch.sigmoid(-t * z) * z).square().mean(1).sqrt()  # depth + 1 = 4
    assert np.allclose(fisher_rao(ensemble), expected, rtol=1e-10)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_relative_flatness_against_blocks_of_the_dense_hessian(activation, layer):
    ensemble = made(activation, hidden=(6, 5, 4))
    shapes = ensemble.passes.shapes
    at = sum((f + 1) * k for f, k in shapes[:layer])
    f, k = shapes[layer]
    found = relative_flatness(ensemble, layer=layer)
    for i, H in enumerate(dense(ensemble)):
        w = ensemble.parameters[i, at : at + f * k].reshape(f, k)
        block = H[at : at + f * k, at : at + f * k].reshape(f, k, f, k)
        traces = torch.einsum("asat->st", block)
        assert np.isclose(found[i], float((w.T @ w * traces).sum()), rtol=1e-9)
    if layer == 2:
        assert (found == relative_flatness(ensemble)).all()
    with pytest.raises(InputError):
        relative_flatness(ensemble, layer=4)
