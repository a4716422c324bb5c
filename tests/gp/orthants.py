"""Kernels and functions shared by the tests of the estimators of ln P."""

from __future__ import annotations

import numpy as np

from simprior.boolean.truthtable import bit_matrix
from simprior.gp.covariance import Event, factor, make_event
from simprior.gp.kernels import nngp
from simprior.network.spec import Network

# NNGP relu, 2 hidden layers, sigmas 1, all 2^5 inputs {0,1}: ln P and its standard error, from two
# estimators outside this project that agreed (EP-tilted sequential sampling and a second method).
N5 = {
    "const1": (-0.9668, 0.0007),
    "x1": (-8.9088, 0.0007),
    "needle": (-7.7511, 0.0007),
    "majority": (-14.0481, 0.0007),
    "xor2": (-26.4784, 0.0007),
    "parity": (-62.1576, 0.0007),
}


def kernel(
    n: int, depth: int = 2, sigma_b: float = 1.0, encoding: str = "01", sigma_w: float = 1.0
) -> np.ndarray:
    """NNGP of a relu network on all 2^n inputs."""
    net = Network(n=n, hidden=(40,) * depth, sigma_w=sigma_w, sigma_b=sigma_b, encoding=encoding)
    return nngp(net, bit_matrix(n, encoding))


def table(name: str, n: int) -> np.ndarray:
    """Truth table of a named function."""
    x = bit_matrix(n, "01").astype(np.int64)
    tables = {
        "const1": np.ones(len(x), np.int64),
        "x1": x[:, 0],
        "needle": x.all(1).astype(np.int64),
        "majority": (x.sum(1) > n / 2).astype(np.int64),
        "xor2": x[:, 0] ^ x[:, 1],
        "parity": x.sum(1) % 2,
        "random": np.random.default_rng(0).integers(0, 2, len(x)),
    }
    return tables[name]


def event(bits: np.ndarray, K: np.ndarray, mean: np.ndarray | None = None) -> Event:
    """The event sign z = bits under z ~ N(mean, K)."""
    return make_event(bits, K, factor(K), mean)


def equicorrelated(m: int, rho: float) -> np.ndarray:
    """Unit variances, correlation rho."""
    return np.full((m, m), rho) + (1.0 - rho) * np.eye(m)
