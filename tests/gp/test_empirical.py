"""Monte-Carlo kernels against closed forms, in standard errors.

Each comparison of k entries at 5 standard errors has a false-alarm rate below k * 6e-7 (Gaussian
means of many draws); seeds are fixed, so a failure is reproducible.
"""

import numpy as np
import pytest
import torch

from simprior.errors import InputError, NumericalError
from simprior.gp.finite_width import empirical_nngp, empirical_ntk
from simprior.gp.kernels import nngp, ntk
from simprior.network.spec import Network

X = np.vstack([np.random.default_rng(0).standard_normal((3, 3)), np.zeros((1, 3))])


def z_scores(estimate, want):
    K, stderr = estimate
    assert (stderr > 0).all()
    return (K - want) / stderr


@pytest.mark.parametrize("activation", ["relu", "tanh", "erf", "gelu", "sin", "linear", "step"])
def test_one_hidden_layer_is_exact_at_any_width(activation):
    spec = Network(inputs=X, hidden=(3,), activation=activation, sigma_w=1.3, sigma_b=(0.6, 0.2))
    z = z_scores(empirical_nngp(spec, X, samples=500, seed=1), nngp(spec, X))
    assert np.abs(z).max() < 5
    assert np.abs(z).max() > 1e-3  # an estimate, not the closed form itself


@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_ntk_of_one_hidden_layer(activation):
    spec = Network(inputs=X, hidden=(8,), activation=activation, sigma_w=1.3, sigma_b=0.6)
    estimate = empirical_ntk(spec, X, X[:2], samples=500, seed=2)
    assert np.abs(z_scores(estimate, ntk(spec, X, X[:2]))).max() < 5


@pytest.mark.slow
def test_deep_bias_falls_with_width():
    """L = 2: the bias is O(1/width); at width 2 it is seen, at 256 it is below the noise."""
    narrow = Network(inputs=X[:3], hidden=(2, 2), activation="erf", sigma_w=3.0, sigma_b=0.1)
    wide = Network(inputs=X[:3], hidden=(256, 256), activation="erf", sigma_w=3.0, sigma_b=0.1)
    want = nngp(wide, X[:3])
    z = z_scores(empirical_nngp(narrow, X[:3], samples=20_000, seed=3), want)
    assert np.abs(z).max() > 5
    z = z_scores(empirical_nngp(wide, X[:3], samples=500, seed=3), want)
    assert np.abs(z).max() < 5


@pytest.mark.slow
def test_standard_errors_are_right():
    spec = Network(inputs=X[:2], hidden=(4,), sigma_b=0.3)
    want = nngp(spec, X[:2])
    z = [z_scores(empirical_nngp(spec, X[:2], samples=200, seed=s), want)[0, 1] for s in range(150)]
    # sd of 150 standardised errors: 1 +- 0.058; 4 of those, and the tails of a product at n = 200
    assert 0.75 < np.std(z) < 1.25


def test_uniform_weights_share_the_perceptron_covariance():
    spec = Network(inputs=X, hidden=(), weight_dist="uniform", sigma_b=0.5)
    gauss = Network(inputs=X, hidden=(), sigma_b=0.5)
    z = z_scores(empirical_nngp(spec, X, samples=4000), nngp(gauss, X))
    assert np.abs(z).max() < 5


class _Conv(torch.nn.Module):
    """One circular convolution, relu, mean over sites, linear readout: a kernel known by hand."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv1d(1, 6, 3, padding=1, padding_mode="circular", bias=False)
        self.read = torch.nn.Linear(6, 1, bias=False)
        torch.nn.init.normal_(self.conv.weight, std=3**-0.5)
        torch.nn.init.normal_(self.read.weight, std=6**-0.5)
        self.double()

    def forward(self, x):
        return self.read(torch.relu(self.conv(x[:, None, :])).mean(dim=2))


@pytest.mark.slow
def test_convolutional_module():
    sites = np.random.default_rng(4).standard_normal((3, 5))
    patches = np.stack([np.roll(sites, s, axis=1) for s in (1, 0, -1)], axis=2).reshape(15, 3)
    per_patch = nngp(Network(inputs=patches, hidden=(1,), sigma_b=0.0), patches)
    want = per_patch.reshape(3, 5, 3, 5).mean(axis=(1, 3))
    z = z_scores(empirical_nngp(_Conv, sites, samples=3000, seed=5), want)
    assert np.abs(z).max() < 5
    K, stderr = empirical_ntk(_Conv, sites, samples=50, seed=5)
    assert K.shape == stderr.shape == (3, 3) and np.linalg.eigvalsh(K)[0] > 0


def test_random_state_is_explicit_and_untouched():
    spec = Network(inputs=X, hidden=(5,))
    torch.manual_seed(0)
    np_state = np.random.get_state()[1].copy()  # noqa: NPY002
    before = torch.random.get_rng_state().clone()
    first = empirical_nngp(spec, X, samples=20, seed=9)
    assert (torch.random.get_rng_state() == before).all()
    assert (np.random.get_state()[1] == np_state).all()  # noqa: NPY002
    torch.manual_seed(1)
    again, other = (empirical_nngp(spec, X, samples=20, seed=s) for s in (9, 10))
    assert (first[0] == again[0]).all() and (first[0] == first[0].T).all()
    assert (first[0] != other[0]).any()
    cross = empirical_nngp(spec, X[:2], X[1:], samples=20, seed=9)
    np.testing.assert_allclose(cross[0], first[0][:2, 1:], rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: empirical_nngp(Network(), X, samples=1), InputError, "samples=1"),
        (lambda: empirical_nngp(_Conv(), X), InputError, "function"),
        (lambda: empirical_nngp(lambda: 3, X), InputError, "Module"),
        (lambda: empirical_nngp(lambda: torch.nn.Flatten(0), X), InputError, "module output"),
        (lambda: empirical_nngp(_Conv, X, seed=-1), InputError, "seed"),
        (lambda: empirical_nngp(_Conv, "abc"), InputError, "real numbers"),
        (lambda: empirical_ntk(Network(activation="step"), X), InputError, "derivative"),
        (lambda: empirical_ntk(Network(activation=np.tanh), X), InputError, "torch"),
        (
            lambda: empirical_nngp(Network(inputs=X, activation=lambda u: 1 / (u - u)), X),
            NumericalError,
            "not finite",
        ),
    ],
)
def test_bad_input(call, error, words):
    with pytest.raises(error, match=words) as caught, np.errstate(all="ignore"):
        call()
    assert "\n" not in str(caught.value)
