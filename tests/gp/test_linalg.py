"""Factors, rank, and refusals."""

import numpy as np
import pytest
from orthants import kernel

from simprior.errors import NumericalError
from simprior.gp.linalg import factor, reverse_cholesky


def test_full_rank() -> None:
    K = kernel(5)
    f = factor(K)
    assert f.full
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
    assert factor(kernel(7, depth=20)).full


def test_reverse_cholesky() -> None:
    g = np.random.default_rng(0).standard_normal((6, 9))
    J = g @ g.T
    U = reverse_cholesky(J)
    np.testing.assert_allclose(U @ U.T, J, rtol=1e-12)
    assert np.abs(np.tril(U, -1)).max() == 0.0
    with pytest.raises(NumericalError):
        reverse_cholesky(-J)
