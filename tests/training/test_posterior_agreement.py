"""Routes to the same posterior agree, in standard errors: rejection, slice, Gaussian process."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.truthtable import bit_matrix, named
from simprior.network.spec import Network
from simprior.training.posterior import rejection_posterior, slice_posterior


def training_set(n: int, size: int) -> np.ndarray:
    return np.sort(np.random.default_rng(size).permutation(2**n)[:size])


def agree(a: FunctionCounts, b: FunctionCounts, top: int) -> None:
    """The ``top`` functions of each side have equal P_B: 4 standard errors each.

    The commonest of one side are a little too common there (they were selected), hence both sides;
    Only functions expected more than 20 times on either side.
    16 comparisons at 4 standard errors: false alarm 1e-3.
    """
    tables = np.unique(np.concatenate([a.tables(top), b.tables(top)]), axis=0)
    rows = a.find(tables), b.find(tables)
    common = np.minimum(
        *(np.where(r >= 0, c.count[r], 0) for r, c in zip(rows, (a, b), strict=True))
    )
    expected = (a.p[rows[0]] * (rows[0] >= 0) + b.p[rows[1]] * (rows[1] >= 0)) / 2
    normal = expected * min(a.samples, b.samples) > 20
    assert normal.any()
    assert (common[normal] > 0).all()
    p, q = a.p[rows[0]], b.p[rows[1]]
    z = (p - q)[normal] / np.hypot(a.stderr[rows[0]], b.stderr[rows[1]])[normal]
    assert np.abs(z).max() < 4


def same_error(a: dict, b: dict) -> None:
    assert abs(a["error"] - b["error"]) < 4 * math.hypot(a["error_stderr"], b["error_stderr"])


@pytest.mark.slow
@pytest.mark.parametrize("target", ["x1", "majority"])
def test_rejection_and_slice_n5(target: str) -> None:
    network, index = Network(n=5, hidden=(16, 16)), training_set(5, 16)
    kept = rejection_posterior(network, index, None, 4000, seed=1, target=target, max_draws=4e7)
    chains = slice_posterior(network, index, None, 32_000, seed=2, target=target, chains=40)
    info = chains.info["posterior"]
    assert info["converged"], info["reason"]
    assert kept.samples > 1000
    agree(kept, chains, 8)
    same_error(kept.info["posterior"], info)


@pytest.mark.slow
@pytest.mark.parametrize(("size", "target"), [(16, "x1"), (32, "x1"), (64, "const0")])
def test_rejection_and_slice_n7(size: int, target: str) -> None:
    network, index = Network(n=7, hidden=(40, 40)), training_set(7, size)
    kept = rejection_posterior(network, index, None, 2000, seed=1, target=target, max_draws=1e8)
    chains = slice_posterior(network, index, None, 16_000, seed=2, target=target, chains=40)
    info = chains.info["posterior"]
    assert info["converged"], info["reason"]
    assert kept.samples > 500
    agree(kept, chains, 5)
    same_error(kept.info["posterior"], info)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "size", "samples"), [(5, 16, 16_000), (7, 32, 9600)])
def test_wide_network_and_gaussian_process(n: int, size: int, samples: int) -> None:
    # one hidden layer of 1000 units: the kernel's relative error is of order 1/1000, far below the
    # errors of the draws
    from simprior import gp

    network, index = Network(n=n, hidden=(1000,)), training_set(n, size)
    target = named("x1", n)
    K = gp.nngp(network, bit_matrix(n))
    limit = gp.sample_posterior(K, index, target[index], 200_000, seed=1)
    chains = slice_posterior(
        network, index, None, samples, seed=2, target=target, chains=32, thin=2
    )
    info = chains.info["posterior"]
    assert info["converged"], info["reason"]
    agree(limit, chains, 5)
    outside = np.setdiff1d(np.arange(2**n), index)
    wrong = (limit.tables()[:, outside] != target[outside]).mean(axis=1)
    mean = float((limit.p * wrong).sum())
    spread = math.sqrt((limit.p * (wrong - mean) ** 2).sum() / limit.info["posterior"]["ess"])
    same_error({"error": mean, "error_stderr": spread}, info)
