"""NNGP and NTK: independent integration, published numbers, invariances, degenerate inputs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import dblquad
from scipy.special import erf, ndtr

from simprior.errors import InputError, NumericalError
from simprior.gp.covariance import check_psd, factor, reduce_inputs, root
from simprior.gp.duals import dual_of, slope_of
from simprior.gp.kernels import nngp, ntk
from simprior.network.activations import ACTIVATIONS
from simprior.network.spec import Network

PHI = {
    "relu": lambda u: np.maximum(u, 0.0),
    "step": lambda u: (u > 0) * 1.0,
    "linear": lambda u: u,
    "erf": erf,
    "sin": np.sin,
    "gelu": lambda u: u * ndtr(u),
}
CLOSED = sorted(PHI)


def bits(n, encoding="01"):
    x = ((np.arange(2**n)[:, None] >> np.arange(n - 1, -1, -1)) & 1).astype(float)
    return x if encoding == "01" else 2 * x - 1


def net(X, depth, **kwargs):
    return Network(inputs=X, hidden=(1,) * depth, **kwargs)


@pytest.mark.parametrize("activation", CLOSED)
@pytest.mark.parametrize("abc", [(1.3, 0.6, -0.5), (0.2, 2.5, 0.69), (1.0, 1.0, 0.0)])
def test_closed_forms_against_scipy(activation, abc):
    a, b, c = abc
    phi, slope = PHI[activation], np.sqrt(b - c * c / a)

    def integrand(y, x):
        density = np.exp(-0.5 * (x * x + y * y)) / (2 * np.pi)
        return phi(np.sqrt(a) * x) * phi(c / np.sqrt(a) * x + slope * y) * density

    # both kinks (x = 0, and the y where v changes sign) are edges of the pieces
    def kink(x):
        return -c / np.sqrt(a) / slope * x

    pieces = ((-9, 0), (0, 9))
    want = sum(
        dblquad(integrand, *x, *y, epsabs=1e-10)[0]
        for x in pieces
        for y in ((lambda x: -14.0, kink), (kink, lambda x: 14.0))
    )
    got = dual_of(activation)(np.float64(a), np.float64(b), np.float64(c))
    assert got == pytest.approx(want, abs=1e-8)


@pytest.mark.parametrize("activation", sorted(name for name in ACTIVATIONS if slope_of(name)))
def test_slopes_are_derivatives_in_the_covariance(activation):
    # Price's theorem: d E[phi phi] / dc = E[phi' phi']
    a, b, c = np.float64(1.4), np.float64(0.7), np.linspace(-0.8, 0.8, 9)
    h = 1e-5
    want = (dual_of(activation)(a, b, c + h) - dual_of(activation)(a, b, c - h)) / (2 * h)
    np.testing.assert_allclose(slope_of(activation)(a, b, c), want, atol=1e-8)


@pytest.mark.parametrize("activation", CLOSED)
def test_two_layers_against_monte_carlo_of_the_definition(activation):
    """K_2 from Gaussian draws of the layer-1 field: no formula of the module is used."""
    rng = np.random.default_rng(7)
    X = np.array([[0.3, -1.0, 0.5], [1.0, 0.2, -0.4]])
    sw, sb, draws = (1.2, 0.9, 1.4), (0.3, 0.6, 0.1), 1_000_000
    phi = PHI[activation]
    K0 = sb[0] ** 2 + sw[0] ** 2 * X @ X.T / 3
    u = phi(rng.standard_normal((draws, 2)) @ np.linalg.cholesky(K0).T)
    K1 = sb[1] ** 2 + sw[1] ** 2 * u.T @ u / draws
    v = phi(rng.standard_normal((draws, 2)) @ np.linalg.cholesky(K1).T)
    products = sb[2] ** 2 + sw[2] ** 2 * np.stack([v[:, 0] ** 2, v[:, 0] * v[:, 1]])
    got = nngp(net(X, 2, activation=activation, sigma_w=sw, sigma_b=sb), X)
    # both layers err; the first is amplified by at most ~sw^2 sup|dE/dK| (<= 4 in these cases);
    # 5 standard errors of the second layer x (1 + 4): false alarms below 1e-6
    stderr = products.std(axis=1) / np.sqrt(draws)
    assert np.all(np.abs(products.mean(axis=1) - got[0]) < 25 * np.maximum(stderr, 1e-5))


@pytest.mark.parametrize(
    ("depth", "want"), [(0, 1.72726), (1, 1.57363), (2, 1.44733), (5, 1.17246), (10, 0.89750)]
)
def test_expected_average_sensitivity(depth, want):
    X = bits(7, "pm1")
    K = nngp(net(X, depth, sigma_b=0.0), X)
    s = np.sqrt(K.diagonal())
    near = np.arange(128)[:, None] ^ (1 << np.arange(7))
    corr = np.clip((K / s / s[:, None])[np.arange(128)[:, None], near], -1, 1)
    assert 7 * np.mean(np.arccos(corr) / np.pi) == pytest.approx(want, abs=5.1e-6)


@pytest.mark.parametrize("activation", CLOSED)
@pytest.mark.parametrize("encoding", ["01", "pm1"])
@pytest.mark.parametrize("sigma_b", [0.0, 1.0])
def test_depth_one_to_hundred(activation, encoding, sigma_b):
    X = bits(5, encoding)
    for depth in (0, 1, 2, 10, 100):
        K = nngp(net(X, depth, activation=activation, sigma_b=sigma_b, sigma_w=1.2), X)
        assert K.dtype == np.float64 and np.isfinite(K).all()
        assert (K == K.T).all()
        values = np.linalg.eigvalsh(K)
        # rounding of m^2 entries moves an eigenvalue by at most m eps max|K|; 10 for the recursion
        assert values[0] >= -10 * 32 * np.finfo(float).eps * K.diagonal().max()
        if sigma_b == 0 and encoding == "01":
            assert not K[0].any()


def test_perceptron_is_the_affine_gram_matrix():
    X = np.random.default_rng(0).standard_normal((6, 4))
    K = nngp(net(X, 0, sigma_w=1.5, sigma_b=0.5, activation="tanh"), X)
    np.testing.assert_allclose(K, 0.25 + 2.25 * X @ X.T / 4, rtol=1e-14)
    np.testing.assert_array_equal(ntk(net(X, 0, sigma_w=1.5, sigma_b=0.5), X), K)


def test_relu_ntk_single_input_by_hand():
    # one hidden layer, x.x/d = 1, sb = 0: K_1 = 1/2, Theta_1 = K_1 + 1/2 K_0
    X = np.ones((1, 3))
    assert ntk(net(X, 1, sigma_b=0.0), X)[0, 0] == pytest.approx(1.0, rel=1e-15)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(CLOSED), st.integers(0, 3))
def test_invariances(seed, activation, depth):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((8, 3))
    spec = net(X, depth, activation=activation, sigma_w=1.3, sigma_b=0.4)
    K = nngp(spec, X)
    rows, cols = rng.permutation(8), rng.permutation(3)
    tolerance = {"rtol": 0, "atol": 1e-7 if activation == "step" else 1e-12 * K.max()}
    np.testing.assert_allclose(nngp(spec, X[rows]), K[np.ix_(rows, rows)], **tolerance)
    np.testing.assert_allclose(nngp(spec, X[:, cols]), K, **tolerance)
    Q, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    np.testing.assert_allclose(nngp(spec, X @ Q), K, **tolerance)
    np.testing.assert_allclose(nngp(spec, X[:3], X[2:]), K[:3, 2:], **tolerance)


@pytest.mark.parametrize("activation", CLOSED)
def test_equal_inputs_have_equal_rows(activation):
    X = np.random.default_rng(3).standard_normal((40, 7))
    X[[5, 39]], X[17] = X[0], 0.0
    K = nngp(net(X, 3, activation=activation, sigma_b=0.0), X)
    for i in (5, 39):
        assert (K[i] == K[0]).all() and (K[:, i] == K[:, 0]).all()
    cut = reduce_inputs(K, X)
    assert cut.zero.tolist() == [17]
    assert cut.duplicate_of[[0, 5, 39]].tolist() == [0, 0, 0]
    assert len(cut.keep) == 37 and cut.dropped == "1 of zero variance, 2 repeated"
    labels = np.zeros((3, 40), int)
    labels[0, [0, 5, 39]], labels[1, 5], labels[2, 17] = 1, 1, 1
    kept, possible = cut.reduce_labels(labels)
    assert possible.tolist() == [True, False, False]
    assert (cut.expand_labels(kept[0]) == labels[0]).all()


@pytest.mark.parametrize("activation", ["erf", "sin", "linear", "tanh"])
def test_odd_networks_mirror(activation):
    X = bits(4, "pm1")
    K = nngp(net(X, 2, activation=activation, sigma_b=0.0), X)
    cut = reduce_inputs(K, X)
    assert cut.duplicate_of.tolist() == [*range(8), *range(7, -1, -1)]
    assert cut.sign.tolist() == [1] * 8 + [-1] * 8
    assert cut.expand_labels(np.ones(8, int)).tolist() == [1] * 8 + [0] * 8


@pytest.mark.parametrize("rows", [3, 8, 17])
def test_mirrored_rows_do_not_depend_on_the_matrix_product(rows):
    """x and -x anywhere among many rows of many columns, where a product blocks its sums."""
    rng = np.random.default_rng(rows)
    half = rng.standard_normal((rows, 701)) * 10.0 ** rng.integers(-3, 4, 701)
    X = np.vstack([half, -half])[rng.permutation(2 * rows)]
    K = nngp(net(X, 2, activation="erf", sigma_b=0.0), X)
    cut = reduce_inputs(K, X)
    assert len(cut.keep) == rows and (cut.sign == -1).sum() == rows
    np.testing.assert_allclose(nngp(net(X, 0, sigma_b=0.0), X), X @ X.T / 701, rtol=1e-12)


def test_confused_inputs_are_not_called_copies():
    X = bits(4)
    K = nngp(net(X, 100), X)  # correlations 1 - 2^-100: equal rows in float64
    with pytest.raises(NumericalError, match="cannot tell inputs"):
        reduce_inputs(K, X)


def test_singular_kernel_is_an_error_with_numbers():
    X = bits(4)
    K = nngp(net(X, 0, sigma_b=0.0), X)
    K = K[1:, 1:]
    with pytest.raises(NumericalError, match=r"smallest eigenvalue .* rank about 4.*sigma_b") as e:
        check_psd(K)
    assert "\n" not in str(e.value)
    R = root(K)
    assert R.shape == (15, 4)
    np.testing.assert_allclose(R @ R.T, K, atol=1e-14)


def test_cholesky_reproduces_the_kernel_and_bounds_the_condition():
    X = bits(6)
    K = nngp(net(X, 2), X)
    A = factor(K).A
    np.testing.assert_allclose(A @ A.T, K, rtol=1e-14)
    s = np.sqrt(K.diagonal())
    true = np.linalg.cond(K / s / s[:, None], 1)
    assert 0.1 * true < check_psd(K) < 10 * true  # an estimate of the 1-norm condition
    with pytest.raises(NumericalError, match="condition number"):
        check_psd(K, max_condition=10.0)


@pytest.mark.parametrize("K", [np.eye(3)[:2], np.array([[1, 0.5], [0.4, 1]]), [[np.nan]], "K"])
def test_bad_matrices(K):
    with pytest.raises(InputError):
        check_psd(K)
    with pytest.raises(InputError):
        reduce_inputs(K)


def test_deep_tiny_variances_keep_their_correlation():
    X = bits(4, "pm1")
    small = nngp(net(X, 100, sigma_w=0.05, sigma_b=0.0), X)  # variances about (1/800)^100
    usual = nngp(net(X, 100, sigma_w=2**0.5, sigma_b=0.0), X)
    assert small.diagonal().max() < 1e-280
    np.testing.assert_allclose(small / small[0, 0], usual / usual[0, 0], rtol=1e-11, atol=1e-13)
    with pytest.raises(NumericalError, match="underflows"):
        nngp(net(X, 100, sigma_w=0.005, sigma_b=0.0), X)
    with pytest.raises(NumericalError, match="overflows"), np.errstate(over="ignore"):
        nngp(net(X, 100, sigma_w=1e4, sigma_b=0.0), X)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda X: nngp(net(X, 1, weight_dist="uniform"), X), "uniform"),
        (lambda X: nngp(net(X, 1), X[0]), "X1"),
        (lambda X: nngp(net(X, 1), X, X[:, :2]), "X2"),
        (lambda X: nngp(net(X, 1), X * np.nan), "finite"),
        (lambda X: ntk(net(X, 1, activation="step"), X), "derivative"),
    ],
)
def test_bad_input(call, words):
    with pytest.raises(InputError, match=words) as error:
        call(bits(3))
    assert "\n" not in str(error.value)
