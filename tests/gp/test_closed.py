"""The oracle itself: closed forms against each other and against plain integrals."""

import math

import numpy as np
import pytest
from orthants import equicorrelated, kernel
from scipy.stats import multivariate_normal

from simprior.errors import InputError
from simprior.gp.orthant import log_prior


def closed(bits: np.ndarray, K: np.ndarray, mean: np.ndarray | None = None) -> float:
    result = log_prior(bits, K, "closed", mean=mean)[0]
    assert result.stderr == 0.0
    return result.value


@pytest.mark.parametrize("rho", [-0.999, -0.3, 0.0, 0.7, 0.9999])
def test_two_inputs(rho: float) -> None:
    K = np.array([[4.0, 6.0 * rho], [6.0 * rho, 9.0]])
    both = 0.25 + math.asin(rho) / (2 * math.pi)
    assert closed(np.array([1, 1]), K) == pytest.approx(math.log(both), rel=1e-10)
    assert closed(np.array([1, 0]), K) == pytest.approx(math.log(0.5 - both), rel=1e-10)


def test_three_inputs() -> None:
    g = np.random.default_rng(1).standard_normal((3, 5))
    K = g @ g.T
    R = K / np.sqrt(np.outer(np.diag(K), np.diag(K)))
    angles = np.arcsin([R[0, 1], R[0, 2], R[1, 2]])
    expected = math.log(1 / 8 + angles.sum() / (4 * math.pi))
    assert closed(np.ones(3, int), K) == pytest.approx(expected, rel=1e-11)
    total = sum(math.exp(closed(np.array(b), K)) for b in np.ndindex(2, 2, 2))
    assert total == pytest.approx(1.0, rel=1e-12)


@pytest.mark.parametrize("m", [2, 4, 10, 128, 512])
def test_equicorrelated_half(m: int) -> None:
    value = closed(np.ones(m, int), equicorrelated(m, 0.5))
    assert value == pytest.approx(-math.log(m + 1), abs=1e-10)


def test_one_factor_with_mixed_signs_against_scipy() -> None:
    loading = np.array([0.9, -0.5, 0.3, 0.7])
    K = np.outer(loading, loading)
    K[np.diag_indices(4)] = 1.0
    bits = np.array([1, 0, 1, 1])
    signs = 2.0 * bits - 1
    mean = np.array([0.3, -0.2, 0.5, 0.0])
    law = multivariate_normal(
        np.zeros(4), K * np.outer(signs, signs), seed=0, maxpts=10**6, abseps=1e-9, releps=1e-9
    )
    assert closed(bits, K, mean) == pytest.approx(law.logcdf(signs * mean), abs=1e-5)


def test_blocks_add_up() -> None:
    K = np.zeros((7, 7))
    K[:4, :4] = equicorrelated(4, 0.5)
    K[4:6, 4:6] = equicorrelated(2, -0.4)
    K[6, 6] = 2.0
    expected = -math.log(5) + math.log(0.25 + math.asin(-0.4) / (2 * math.pi)) - math.log(2)
    assert closed(np.ones(7, int), K) == pytest.approx(expected, abs=1e-11)
    order = np.random.default_rng(0).permutation(7)
    assert closed(np.ones(7, int), K[np.ix_(order, order)]) == pytest.approx(expected, abs=1e-11)


def test_linear_conditional_gauss_example() -> None:
    """The 100-dimensional shifted orthant of the LinConGauss package, P = 4.4346e-42."""
    shift = np.random.RandomState(0).randn(100)
    exact = math.log(4.4346483368318176e-42)
    assert closed(np.ones(100, int), np.eye(100), shift) == pytest.approx(exact, abs=1e-12)


def test_general_covariance_is_refused() -> None:
    with pytest.raises(InputError, match="at most 3 inputs without a mean, 2 with one, or one-f"):
        closed(np.ones(16, int), kernel(4))


def test_three_inputs_with_a_mean_say_what_is_supported() -> None:
    """Two with a mean and one-factor blocks of any size have a formula, three in general do not."""
    K = np.array([[1.0, 0.5, 0.3], [0.5, 1.0, -0.2], [0.3, -0.2, 1.0]])
    mean = np.array([0.1, 0.0, 0.2])
    with pytest.raises(InputError, match=r"block of 3 .* with a mean: expected at most 3 inputs "
                       r"without a mean, 2 with one"):  # fmt: skip
        closed(np.ones(3, int), K, mean)
    assert closed(np.ones(3, int), K) < 0
    law = multivariate_normal(mean[:2], K[:2, :2])
    assert closed(np.zeros(2, int), K[:2, :2], mean[:2]) == pytest.approx(
        law.logcdf(np.zeros(2)), abs=1e-10
    )
    near = np.full((3, 3), 1 - 1e-12) + 1e-12 * np.eye(3)
    near[0, 1] = near[1, 0] = 1 - 3e-12
    with pytest.raises(InputError, match="eigenvalue below 1e-10"):
        closed(np.array([1, 0, 1]), near)


def test_covariances_of_rounding_size_make_no_block() -> None:
    K = np.zeros((6, 6))
    K[:3, :3] = equicorrelated(3, 0.5)
    K[3:, 3:] = equicorrelated(3, 0.25)
    want = closed(np.ones(6, int), K)
    rounding = 1e-17 * np.random.default_rng(0).standard_normal((6, 6))
    K[:3, 3:] += rounding[:3, 3:]
    K[3:, :3] = K[:3, 3:].T
    assert closed(np.ones(6, int), K) == pytest.approx(want, rel=1e-13)
