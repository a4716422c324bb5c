"""gpytorch kernels: gpytorch's own contract, agreement with the numpy kernels, gradients."""

import unittest

import gpytorch
import numpy as np
import pytest
import torch
from gpytorch.test.base_kernel_test_case import BaseKernelTestCase

from simprior.errors import InputError
from simprior.gp.gpytorch_kernels import NNGPKernel, NTKKernel
from simprior.gp.kernels import nngp, ntk
from simprior.network.spec import Network

CLOSED = ["relu", "erf", "linear", "step", "sin", "gelu"]


class _Contract(BaseKernelTestCase):
    """gpytorch's contract; random data are drawn by the suite itself, hence the fixed seed."""

    seed = 0

    def create_kernel_no_ard(self, **kwargs):
        return NNGPKernel(depth=2, **kwargs)


class TestNNGPContract(_Contract, unittest.TestCase):
    pass


class TestNTKContract(_Contract, unittest.TestCase):
    def create_kernel_no_ard(self, **kwargs):
        return NTKKernel(depth=2, activation="erf", **kwargs)


class TestQuadratureContract(_Contract, unittest.TestCase):
    def create_kernel_no_ard(self, **kwargs):
        return NNGPKernel(depth=1, activation="tanh", sigma_b=(0.5, 0.2), terms=24, **kwargs)


@pytest.fixture
def x():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((9, 4))
    X[3], X[5], X[6] = X[2], 0.0, -X[1]
    return X


@pytest.mark.parametrize("activation", [*CLOSED, "tanh"])
@pytest.mark.parametrize("sigma_b", [0.0, (0.4, 0.9, 0.2)])
def test_agrees_with_the_numpy_kernel(x, activation, sigma_b):
    net = Network(
        inputs=x, hidden=(1, 1), activation=activation, sigma_w=(1.1, 0.8, 1.3), sigma_b=sigma_b
    )
    t = torch.tensor(x)
    # float32 parameters hold sigma to 6e-8; step has a square-root response to it at theta = 0
    kernel = NNGPKernel.from_network(net, terms=128).double()
    kernel.sigma_w = torch.tensor(net.sigma_ws, dtype=torch.float64)
    if kernel.bias:
        kernel.sigma_b = torch.tensor(net.sigma_bs, dtype=torch.float64)
    tolerance = {"rtol": 1e-9, "atol": 1e-9}
    np.testing.assert_allclose(kernel(t).to_dense().detach().numpy(), nngp(net, x), **tolerance)
    cross = kernel(t[:3], t[2:]).to_dense().detach().numpy()
    np.testing.assert_allclose(cross, nngp(net, x[:3], x[2:]), **tolerance)
    diag = kernel(t, diag=True).detach().numpy()
    np.testing.assert_allclose(diag, nngp(net, x).diagonal(), **tolerance)


@pytest.mark.parametrize("activation", ["relu", "erf", "linear", "sin", "gelu", "tanh"])
def test_ntk_agrees_with_the_numpy_kernel(x, activation):
    net = Network(inputs=x, hidden=(1, 1), activation=activation, sigma_w=1.5, sigma_b=0.5)
    kernel = NTKKernel.from_network(net, terms=384).double()  # sets the error of tanh only
    kernel.sigma_w, kernel.sigma_b = 1.5, 0.5
    got = kernel(torch.tensor(x)).to_dense().detach().numpy()
    # the derivative of relu jumps: theta near 0 costs half the digits on the duplicated input
    tolerance = 1e-7 if activation == "relu" else 1e-9
    np.testing.assert_allclose(got, ntk(net, x), rtol=tolerance, atol=1e-12)


@pytest.mark.parametrize("activation", [*CLOSED, "tanh", torch.nn.functional.silu])
@pytest.mark.parametrize("cls", [NNGPKernel, NTKKernel])
def test_gradients_are_finite_and_right(x, activation, cls):
    if activation == "step" and cls is NTKKernel:
        pytest.skip("refused, see test_bad_input")
    kernel = cls(depth=2, activation=activation, sigma_w=1.2, sigma_b=0.7).double()
    t = torch.tensor(x)
    weight = torch.tensor(np.random.default_rng(2).standard_normal((9, 9)))

    def value():
        return (kernel(t).to_dense() * weight).sum()

    value().backward()
    for name, p in kernel.named_parameters():
        assert torch.isfinite(p.grad).all(), name
        step, base = 1e-5, p.data.clone()
        p.data = base + step
        up = value().item()
        p.data = base - step
        down = value().item()
        p.data = base
        # central difference: error step^2 f'''/6, plus rounding 1e-16 / step; 1e-5 covers both
        # (1e-3 where theta rounds at the duplicates: half the digits of the slope of relu, step)
        loose = activation == "step" or (activation == "relu" and cls is NTKKernel)
        assert p.grad.item() == pytest.approx((up - down) / (2 * step), rel=1e-3 if loose else 1e-5)


def test_gradients_with_zero_input_and_no_bias(x):
    kernel = NNGPKernel(depth=3, sigma_b=0.0)
    t = torch.tensor(x, requires_grad=True)
    kernel(t, diag=True).sum().backward()
    kernel(t, t.detach()[:4]).to_dense().sum().backward()
    assert torch.isfinite(t.grad).all()
    assert torch.isfinite(kernel.raw_sigma_w.grad).all()
    assert kernel(t).to_dense()[5].abs().max().item() == 0.0


def test_last_dim_is_batch(x):
    t, kernel = torch.tensor(x), NNGPKernel(depth=1, batch_shape=torch.Size([2]))
    kernel.sigma_w = torch.tensor([[1.0], [2.0]])
    got = kernel.forward(t.expand(2, 9, 4), t.expand(2, 9, 4), last_dim_is_batch=True)
    assert got.shape == (2, 4, 9, 9)
    for k in range(2):
        for j in range(4):
            torch.testing.assert_close(
                got[k, j], kernel[k].forward(t[:, j : j + 1], t[:, j : j + 1])
            )
    diag = kernel.forward(t.expand(2, 9, 4), t.expand(2, 9, 4), diag=True, last_dim_is_batch=True)
    torch.testing.assert_close(diag, got.diagonal(dim1=-1, dim2=-2))


class _Model(gpytorch.models.ExactGP):
    def __init__(self, x, y, likelihood, kernel):
        super().__init__(x, y, likelihood)
        self.mean_module, self.covar_module = gpytorch.means.ZeroMean(), kernel

    def forward(self, x):
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))


@pytest.mark.parametrize("kernel", [NNGPKernel(depth=2), NTKKernel(depth=1, activation="erf")])
def test_exact_gp_regression_learns(kernel):
    rng = np.random.default_rng(3)
    x = torch.tensor(rng.uniform(-2, 2, (60, 2)))
    y = torch.sin(2 * x[:, 0]) + x[:, 1] + 0.05 * torch.tensor(rng.standard_normal(60))
    likelihood = gpytorch.likelihoods.GaussianLikelihood().double()
    model = _Model(x[:40], y[:40], likelihood, kernel.double())
    mll = gpytorch.mlls.ExactMarginalLogLikelihood(likelihood, model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = -mll(model(x[:40]), y[:40])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.3
    model.eval()
    with torch.no_grad():
        residual = model(x[40:]).mean - y[40:]
    assert residual.pow(2).mean() < 0.2 * y[40:].var()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: NTKKernel(activation="step"), "derivative"),
        (lambda: NNGPKernel(depth=-1), "depth=-1"),
        (lambda: NNGPKernel(activation="rleu"), "rleu"),
        (lambda: NNGPKernel(sigma_w=0.0), "sigma_w"),
        (lambda: NNGPKernel(sigma_b=(0.0, 1.0, 1.0)), "sigma_b"),
        (lambda: NNGPKernel(sigma_w=(1.0, 1.0)), "3"),
        (lambda: NNGPKernel.from_network(Network(weight_dist="uniform")), "uniform"),
    ],
)
def test_bad_input(make, words):
    with pytest.raises(InputError, match=words) as error:
        make()
    assert "\n" not in str(error.value)
