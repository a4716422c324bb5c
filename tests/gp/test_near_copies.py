"""Kernels of inputs that nearly coincide, against 60-digit arithmetic, and what follows from it.

The figures come from the recursion K_l, Theta_l of the closed forms in mpmath at 60 digits
(``mp.dps = 60``): E[phi phi] of p u + q |u| is p^2 c + q^2 (2/pi)(sqrt(ab - c^2) + c asin rho), its
slope p^2 + q^2 (2/pi) asin rho (relu: p = q = 1/2; abs: 0, 1; leaky: 11/20, 9/20), step
1/4 + asin(rho)/(2 pi), and the forms of erf, gelu and sin in ``simprior.gp.duals``.
"""

import numpy as np
import pytest
import torch

from simprior.errors import NumericalError
from simprior.gp.duals import jumps
from simprior.gp.gpytorch_kernels import NNGPKernel, NTKKernel
from simprior.gp.kernels import nngp, ntk
from simprior.network.spec import Network

X = np.array([[1.0, 0.0, 0.0], [1.0, 1e-6, 0.0]])
CALLABLES = {
    "abs": torch.abs,
    "leaky": lambda u: torch.nn.functional.leaky_relu(u, 0.1),
}
# activation, depth, sigma_w, sigma_b, K_01, Theta_01
FIGURES = [
    ("relu", 20, 1.0, 1.0, 1.9999993642171223, 3.999984739988242),
    ("relu", 5, 1.5, 0.5, 3.406097412109375, 15.999992303274382),
    ("erf", 5, 1.5, 0.5, 1.4502538112354693, 10.687742597965297),
    ("gelu", 5, 1.5, 0.5, 2.2946324599994563, 11.320941979840057),
    ("sin", 5, 1.5, 0.5, 1.2896421388088246, 12.436233587656577),
    ("step", 5, 1.5, 0.5, 1.293612524925391, None),
    ("abs", 2, 1.5, 0.5, 5.875, 16.562491618947202),
    ("leaky", 5, 1.5, 0.5, 3.5342372415641754, 16.700671542431074),
]


def net(activation, depth, sigma_w=1.0, sigma_b=1.0, inputs=X):
    phi = CALLABLES.get(activation, activation) if isinstance(activation, str) else activation
    return Network(
        inputs=inputs, hidden=(1,) * depth, activation=phi, sigma_w=sigma_w, sigma_b=sigma_b
    )


@pytest.mark.parametrize(("activation", "depth", "sw", "sb", "K", "theta"), FIGURES)
def test_near_copies_to_the_last_digits(activation, depth, sw, sb, K, theta):
    spec = net(activation, depth, sw, sb)
    # roundings of 4 or 5 operations a layer: 20 layers give some 1e-14
    assert nngp(spec, X)[0, 1] == pytest.approx(K, rel=1e-14, abs=0)
    if theta is not None:
        assert ntk(spec, X)[0, 1] == pytest.approx(theta, rel=1e-14, abs=0)


@pytest.mark.parametrize(
    ("activation", "depth", "sw", "sb", "K", "theta"),
    [row for row in FIGURES if row[0] not in CALLABLES],
)
def test_near_copies_in_torch(activation, depth, sw, sb, K, theta):
    x = torch.tensor(X, requires_grad=True)
    for cls, want in ((NNGPKernel, K), (NTKKernel, theta)):
        if want is None:
            continue
        kernel = cls(depth=depth, activation=activation, sigma_w=sw, sigma_b=sb).double()
        kernel.sigma_w, kernel.sigma_b = sw, sb  # built in float32
        for value in (kernel(x).to_dense()[0, 1], kernel(x[:1], x[1:], diag=True)[0]):
            # softplus and its inverse move sigma by some 4e-16, and K twice as much a layer
            assert value.item() == pytest.approx(want, rel=(1 + 4 * depth) * 1e-15, abs=0)
            value.backward(retain_graph=True)
            assert torch.isfinite(x.grad).all()
            assert all(torch.isfinite(p.grad).all() for p in kernel.parameters())
        both = torch.stack([x[0], x[0], torch.zeros(3)])  # copies, and an input of zeros
        kernel(both).to_dense().sum().backward()
        assert torch.isfinite(x.grad).all()


def test_gradient_of_the_tangent_kernel_between_near_copies():
    """By differences of the numpy kernel: the angle is |x - y| to first order, so is its slope."""
    x, y = torch.tensor(X[:1], dtype=torch.float64), torch.tensor(X[1:], requires_grad=True)
    kernel = NTKKernel(depth=3, activation="relu", sigma_w=1.2, sigma_b=0.4).double()
    kernel(x, y, diag=True).sum().backward()

    def value(step):
        inputs = X + np.array([[0.0, 0.0, 0.0], [0.0, step, 0.0]])
        return ntk(net("relu", 3, 1.2, 0.4, inputs), inputs)[0, 1]

    h = 1e-7
    want = (value(h) - value(-h)) / (2 * h)
    # differences of values of about 3 err by 1e-15 / h = 1e-8, and by h / |x - y| of order 2: none
    assert y.grad[0, 1].item() == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("gap", [1e-9, 3e-8, 1e-5, 1e-2])
@pytest.mark.parametrize("sigma_b", [0.0, 1.0])
def test_tangent_kernels_of_kinks_between_near_copies(gap, sigma_b):
    """One layer of abs: Theta = K_1 + (1 - 2 theta/pi) K_0, theta by subtracting the inputs."""
    inputs = np.array([[3.0, 4.0], [3.0, 4.0 + gap]])
    x, y = (np.append(v / np.sqrt(2), sigma_b) for v in inputs)
    angle = np.arctan2(_sine(x, y), x @ y)
    spec = net("abs", 1, 1.0, sigma_b, inputs)
    base = nngp(net("abs", 0, 1.0, sigma_b, inputs), inputs)[0, 1]
    got = (ntk(spec, inputs) - nngp(spec, inputs))[0, 1] / base
    # 1 - 1e-16/1e-10: the subtraction leaves 1e-15 of values of about 20
    assert 1 - got == pytest.approx(2 * angle / np.pi, abs=4e-15)


def _sine(x, y):
    """|x cross y| of 3-vectors, from y - x, whose components are exact."""
    return float(np.linalg.norm(np.cross(x, y - x)))


def bits(n, encoding):
    x = ((np.arange(2**n)[:, None] >> np.arange(n - 1, -1, -1)) & 1).astype(float)
    return x if encoding == "01" else 2 * x - 1


@pytest.mark.parametrize(
    ("activation", "p", "q", "depth", "encoding"),
    [("abs", 0.0, 1.0, 2, "pm1"), ("leaky", 0.55, 0.45, 5, "pm1"), ("abs", 0.0, 1.0, 2, "01")],
)
def test_tangent_kernels_of_kinks_on_bit_strings(activation, p, q, depth, encoding):
    """At the default tolerance (x and -x are copies after one layer of abs); closed form."""
    inputs = bits(3, encoding)
    K = inputs @ inputs.T / 3
    theta = K
    for _ in range(depth):
        r = np.sqrt(np.outer(K.diagonal(), K.diagonal()))
        rho = np.divide(K, r, out=np.zeros_like(K), where=r > 0).clip(-1, 1)
        # a difference of 1e-15 from +-1 is a rounding here: the inputs are few and far apart
        rho = np.where(np.abs(rho) > 1 - 1e-13, np.round(rho), rho)
        slope = np.where(r > 0, p * p + q * q * 2 / np.pi * np.arcsin(rho), 0.0)
        K = p * p * K + q * q * 2 / np.pi * r * (np.sqrt(1 - rho**2) + rho * np.arcsin(rho))
        theta = K + slope * theta
    got = ntk(net(activation, depth, 1.0, 0.0, inputs), inputs)
    alive = np.ix_(*[np.any(inputs, axis=1)] * 2)
    np.testing.assert_allclose(got[alive], theta[alive], rtol=0, atol=1e-10 * theta.max())


@pytest.mark.parametrize(
    ("activation", "p", "q", "depth"), [("abs", 0.0, 1.0, 2), ("leaky", 0.55, 0.45, 5)]
)
def test_tangent_kernels_of_kinks_on_one_line(activation, p, q, depth):
    """x, 3x, x (1 + 1e-6) and -x at sigma_b = 0: every angle is 0 or pi, and stays so."""
    scale = np.array([1.0, 3.0, 1.0 + 1e-6, -1.0])
    inputs = scale[:, None] * np.random.default_rng(1).standard_normal(7)
    K0 = inputs @ inputs.T / 7
    same = scale > 0
    # for u = s z, phi(u) = s p z + |s| q |z|: linear in z on either side of 0
    size = (p + q) * np.abs(scale), (q - p) * np.abs(scale)  # slopes times z > 0, and z < 0
    fields = np.where(same, size[0], size[1]), np.where(same, size[1], size[0])
    slopes = np.where(same, p + q, p - q), np.where(same, p - q, p + q)
    K = 0.5 * sum(np.outer(f, f) for f in fields) * K0[0, 0]
    gain = 0.5 * sum(np.outer(s, s) for s in slopes)
    theta = K + gain * K0
    got = ntk(net(activation, 1, 1.0, 0.0, inputs), inputs)
    np.testing.assert_allclose(got, theta, rtol=0, atol=1e-13 * theta.max())
    deep = ntk(net(activation, depth, 1.0, 0.0, inputs), inputs)  # at the default tolerance
    line = np.ix_(same, same)  # fields stay multiples of one another: gain (p^2 + q^2) a layer
    gain = (p * p + q * q) ** depth
    np.testing.assert_allclose(deep[line], (1 + depth) * gain * K0[line], rtol=1e-10)


def test_jumps_are_found():
    np.testing.assert_allclose(jumps(lambda u: np.sign(u - 2.5) + (u > -1)), [-1, 2.5], atol=1e-12)
    assert not len(jumps(np.tanh)) and not len(jumps(lambda u: np.tanh(1e4 * u)))


def test_a_kink_elsewhere_is_named():
    spec = net(torch.nn.functional.relu6, 1, 3.0)
    with pytest.raises(NumericalError, match=r"smooth except at 0 \(it has a kink .* at 6\)"):
        ntk(spec, X)
