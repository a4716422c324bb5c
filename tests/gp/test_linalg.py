"""Factors, rank, and refusals."""

import numpy as np
import pytest
from orthants import kernel
from scipy.special import ndtr

from simprior.errors import NumericalError
from simprior.gp.covariance import factor, factor_for_noise
from simprior.gp.orthant import METHODS, log_prior
from simprior.gp.triangles import lower_factor, reverse_cholesky, rows_over


def test_full_rank() -> None:
    K = kernel(5)
    f = factor(K)
    assert f.rank == f.m
    np.testing.assert_allclose(f.A @ f.A.T, K, rtol=1e-13, atol=1e-14)
    scale = np.sqrt(np.diag(K))
    condition = np.linalg.cond(K / np.outer(scale, scale), 1)
    assert 0.2 < f.rcond * condition < 5.0


@pytest.mark.parametrize(("sigma_b", "encoding", "rank"), [(1.0, "01", 8), (0.0, "pm1", 7)])
def test_rank_of_the_perceptron(sigma_b: float, encoding: str, rank: int) -> None:
    K = kernel(7, depth=0, sigma_b=sigma_b, encoding=encoding)
    f = factor(K)
    assert f.rank == rank
    np.testing.assert_allclose(f.A @ f.A.T, K, rtol=1e-12, atol=1e-13)
    head = f.A[f.pivots]
    assert np.abs(np.triu(head, 1)).max() < 1e-15


def test_negative_eigenvalue_is_refused() -> None:
    K = np.eye(3)
    K[0, 1] = K[1, 0] = 1.2
    with pytest.raises(NumericalError, match=r"eigenvalue -0\.2.*jitter"):
        factor(K)


@pytest.mark.parametrize("depth", [35, 40])
def test_deep_kernels_are_refused_not_jittered(depth: int) -> None:
    with pytest.raises(NumericalError, match="singular to working precision"):
        factor(kernel(7, depth=depth))


def test_depth_20_is_accepted() -> None:
    deep = factor(kernel(7, depth=20))
    assert deep.rank == deep.m


def test_reverse_cholesky() -> None:
    g = np.random.default_rng(0).standard_normal((6, 9))
    J = g @ g.T
    U = reverse_cholesky(J)
    np.testing.assert_allclose(U @ U.T, J, rtol=1e-12)
    assert np.abs(np.tril(U, -1)).max() == 0.0
    with pytest.raises(NumericalError):
        reverse_cholesky(-J)
    assert lower_factor(-J) is None and lower_factor(np.full((2, 2), np.nan)) is None


@pytest.mark.parametrize("r", [1, 3, 4, 7, 30, 300])
def test_rows_over(r: int) -> None:
    """Below the size at which LAPACK takes over and above it; the rows stay as they are."""
    source = np.random.default_rng(r)
    g = source.standard_normal((r, r + 20))
    U, rows = reverse_cholesky(g @ g.T), source.standard_normal((r + 5, r))
    kept = rows.copy()
    np.testing.assert_allclose(rows_over(rows, U) @ U.T, rows, atol=1e-11)
    assert np.array_equal(rows, kept) and rows_over(rows[:0], U).shape == (0, r)


def rbf(m: int = 30) -> np.ndarray:
    """A user's own kernel, of points on a line: its eigenvalues run smoothly into the rounding."""
    x = np.linspace(0.0, 1.0, m)
    return np.exp(-0.5 * ((x[:, None] - x) / 0.5) ** 2)


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"ep-probit", "laplace"}))
def test_a_numerically_singular_kernel_is_refused_by_exact_methods(method: str) -> None:
    with pytest.raises(NumericalError, match=r"singular .*length scale.*method='ep-probit'") as e:
        log_prior(np.ones(30, int), rbf(), method)
    assert "\n" not in str(e.value)
    assert "fewer layers" in str(e.value)  # for a network, and said so
    assert "(of a network:" in str(e.value)


@pytest.mark.parametrize("method", ["ep-probit", "laplace"])
def test_a_numerically_singular_kernel_suits_methods_with_noise(method: str) -> None:
    """K + I is well posed: a jitter of 1e-9 on K has no effect beside unit noise."""
    K = 4.0 * rbf()
    bits = np.stack([np.ones(30, int), (np.arange(30) >= 15).astype(int), np.arange(30) % 2])
    got = log_prior(bits, K, method)
    for one, other in zip(got, log_prior(bits, K + 1e-9 * np.eye(30), method), strict=True):
        assert one.diagnostics["converged"]
        # d ln P / d jitter is at most m/2 times the largest curvature of ln Phi, 1, plus that of
        # the square of its slope: some 100 here, hence 1e-7
        assert one.value == pytest.approx(other.value, abs=1e-6)


def test_probit_of_a_singular_kernel_is_the_step_seen_through_noise() -> None:
    """EP on K is EP with a step on K + I; ``tilted``, which is exact, says how far both are off."""
    K, bits = rbf(), (np.arange(30) >= 15).astype(int)
    noisy = K + np.eye(30)
    got = log_prior(bits, K, "ep-probit")[0].value
    assert got == pytest.approx(log_prior(bits, noisy, "ep")[0].value, abs=1e-7)
    exact = log_prior(bits, noisy, "tilted", tol=0.005)[0]
    laplace = log_prior(bits, K, "laplace")[0].value
    # here they err by 0.009 and 0.02 nats, against 11 nats in all
    assert got == pytest.approx(exact.value, abs=0.05)
    assert laplace == pytest.approx(exact.value, abs=0.1)


def test_noise_does_not_excuse_a_matrix_that_is_no_covariance() -> None:
    K = np.eye(3)
    K[0, 1] = K[1, 0] = 1.2
    with pytest.raises(NumericalError, match=r"eigenvalue -0\.2"):
        factor_for_noise(K)


@pytest.mark.parametrize("method", ["ep-probit", "laplace"])
def test_copies_have_noise_of_their_own_under_a_probit(method):
    """P of two labels of one z ~ N(0, 2) is E[Phi(z)^2] or E[Phi(z) Phi(-z)], by quadrature.

    EP errs by 0.006 nats here and Laplace by 0.03; as copies under a step they were -inf and -ln 2.
    """
    x, w = np.polynomial.hermite_e.hermegauss(80)
    z, w = np.sqrt(2.0) * x, w / w.sum()
    exact = [np.log(w @ (ndtr(z) * ndtr(sign * z))) for sign in (-1, 1)]
    got = [p.value for p in log_prior(["10", "11"], np.full((2, 2), 2.0), method)]
    assert np.allclose(got, exact, atol=0.05)
    near = np.full((2, 2), 2.0) + 1e-9 * np.eye(2)
    assert np.allclose(got, [p.value for p in log_prior(["10", "11"], near, method)], atol=1e-7)


@pytest.mark.parametrize("method", ["ep-probit", "laplace"])
def test_an_input_of_zero_variance_is_a_coin_under_a_probit(method):
    K = np.array([[0.0, 0, 0], [0, 1.0, 0.3], [0, 0.3, 1.5]])
    (alone,) = log_prior(["11"], K[1:, 1:], method)
    for bits in ("011", "111"):
        (found,) = log_prior([bits], K, method)
        assert found.value == pytest.approx(alone.value - np.log(2), abs=1e-12)
    (mean,) = log_prior(["111"], K, method, mean=np.array([0.7, 0.0, 0.0]))
    assert mean.value == pytest.approx(alone.value + np.log(ndtr(0.7)), abs=1e-12)
    (nothing,) = log_prior(["10"], np.zeros((2, 2)), method)
    assert nothing.value == pytest.approx(-2 * np.log(2), abs=1e-12)
