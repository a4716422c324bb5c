"""Quadrature kernels: against closed forms, with honest error estimates and honest failures."""

import numpy as np
import pytest
import torch
from scipy.special import erf, ndtr

from simprior.errors import InputError, NumericalError
from simprior.gp.duals import POLAR, SERIES, Polar, Series
from simprior.gp.kernels import nngp, ntk
from simprior.network.spec import Network

RNG = np.random.default_rng(0)
X = np.vstack([RNG.standard_normal((7, 4)), np.zeros((1, 4))])
NUMPY = {
    "relu": lambda u: np.maximum(u, 0.0),
    "step": lambda u: (u > 0) * 1.0,
    "linear": lambda u: 1.0 * u,
    "erf": erf,
    "sin": np.sin,
    "gelu": lambda u: u * ndtr(u),
}
TORCH = {
    "relu": torch.relu,
    "linear": lambda u: 1.0 * u,
    "erf": torch.erf,
    "sin": torch.sin,
    "gelu": torch.nn.functional.gelu,
    "tanh": torch.tanh,
}


def net(activation, depth=3, **kwargs):
    return Network(inputs=X, hidden=(1,) * depth, activation=activation, **kwargs)


def relative(K, want):
    s = np.sqrt(want.diagonal())
    s = np.where(s > 0, s, 1.0)
    return np.abs((K - want) / s / s[:, None]).max()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NUMPY))
@pytest.mark.parametrize("sigmas", [(1.0, 1.0), (3.0, 0.0), (30.0, 1.0)])
def test_reaches_closed_forms_within_its_error(name, sigmas):
    sw, sb = sigmas
    want = nngp(net(name, sigma_w=sw, sigma_b=sb), X)
    got, error = nngp(net(NUMPY[name], sigma_w=sw, sigma_b=sb), X, return_error=True)
    assert 0 < error <= 1e-10
    # the estimate is the error of the coarser of two rules: an upper bound, up to rounding
    assert relative(got, want) <= error + 1e-14
    assert (got == got.T).all()


@pytest.mark.parametrize("name", ["erf", "sin", "gelu", "relu"])
def test_looser_request_still_bounds_the_error(name):
    want = nngp(net(name), X)
    for rtol in (1e-3, 1e-5, 1e-7):
        got, error = nngp(net(NUMPY[name]), X, rtol=rtol, return_error=True)
        assert error <= rtol
        assert relative(got, want) <= error + 1e-14


@pytest.mark.parametrize("name", sorted(TORCH))
def test_tangent_kernel_of_torch_callables(name):
    want = ntk(net(name, sigma_w=1.4), X)
    assert relative(ntk(net(TORCH[name], sigma_w=1.4), X), want) < 1e-10


def test_the_two_rules_agree_on_tanh():
    var = np.array([0.3, 1.0, 2.0, 2.0])
    cov = np.sqrt(var[:, None] * var) * np.array(
        [[1, 0.2, -0.9, 0.4], [0.2, 1, 0, 0.99], [-0.9, 0, 1, -1], [0.4, 0.99, -1, 1]]
    )
    everything = slice(0, 4)
    a = Series(np.tanh, *SERIES[3])(var)(everything, everything, cov, None)[0]
    b = Polar(np.tanh, POLAR[2])(var)(everything, everything, cov, None)[0]
    np.testing.assert_allclose(a, b, atol=1e-12)


def test_tanh_against_gauss_hermite():
    z, w = np.polynomial.hermite_e.hermegauss(120)
    w = w / w.sum()
    a, b, c = 0.8, 0.5, 0.3
    u = np.sqrt(a) * z[:, None]
    v = c / np.sqrt(a) * z[:, None] + np.sqrt(b - c * c / a) * z
    want = (np.tanh(u) * np.tanh(v) * w[:, None] * w).sum()
    inputs = np.array([[np.sqrt(a), 0.0], [c / np.sqrt(a), np.sqrt(b - c * c / a)]])
    spec = Network(inputs=inputs, hidden=(1,), activation="tanh", sigma_w=(2**0.5, 1.0), sigma_b=0)
    # Gauss-Hermite with 120 nodes is good to about exp(-pi sqrt(240/0.8)/...) ~ 1e-12 here
    assert nngp(spec, inputs)[0, 1] == pytest.approx(want, rel=1e-10)


def test_kinks_away_from_zero_fail_in_the_open():
    clip = net(lambda u: np.clip(u, -1.0, 1.0))
    with pytest.raises(NumericalError, match=r"relative error of .*rtol=1e-10") as failure:
        nngp(clip, X)
    assert "\n" not in str(failure.value)
    got, error = nngp(clip, X, rtol=1e-3, return_error=True)
    assert error <= 1e-3
    # clip(u) = u - relu(u - 1) + relu(-u - 1): its second moment in one layer, by fine sums
    one = Network(inputs=X[:1], hidden=(1,), activation=clip.activation)
    s = np.sqrt(1 + X[0] @ X[0] / 4)
    z = np.linspace(-9, 9, 200_001)
    want = 1 + (np.clip(s * z, -1, 1) ** 2 * np.exp(-0.5 * z * z)).sum() * (z[1] - z[0]) / np.sqrt(
        2 * np.pi
    )
    assert nngp(one, X[:1], rtol=1e-3)[0, 0] == pytest.approx(want, rel=1e-3)
    assert np.isfinite(got).all()


def test_activation_by_import_path_and_depth_100():
    spec = net("torch.nn.functional:silu", depth=100, sigma_w=1.2)
    K = nngp(spec, X)
    assert np.isfinite(K).all() and (K == K.T).all()
    same = nngp(net(lambda u: u / (1 + np.exp(-u)), depth=100, sigma_w=1.2), X)
    np.testing.assert_allclose(K, same, rtol=1e-9)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: nngp(net(lambda u: u.sum()), X), "elementwise"),
        (lambda: nngp(net(lambda u, v: u), X), "elementwise"),
        (lambda: nngp(net("tanh"), X, rtol=0.0), "rtol"),
        (lambda: ntk(net(NUMPY["gelu"]), X), "torch"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InputError, match=words) as error:
        call()
    assert "\n" not in str(error.value)
