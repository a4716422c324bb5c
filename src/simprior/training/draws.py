"""The random choices of the members of an ensemble: initial parameters, minibatches, noise, labels.

Every number belongs to (seed, member). The compiled kernel makes them as it trains; here they are
made again, for the torch engine, for tests, and for whoever wants to look at a member.
"""

from __future__ import annotations

import numpy as np

from simprior.network import Network
from simprior.parameters import Parameters
from simprior.rng import philox_key
from simprior.training._plan import STREAMS, geometry
from simprior.training._plan import parameter_slices as slices
from simprior.training._random import (
    draw_noise,
    draw_parameters,
    draw_weighted,
    flat_size,
    random_labels,
    shuffle,
)


def unpadded(P: np.ndarray, network: Network) -> Parameters:
    """Parameters in a padded vector of the compiled kernel."""
    parts = [P[index] for index in slices(network)]
    weights = (w.reshape(f, -1) for w, f in zip(parts[::2], network.fan_ins, strict=True))
    return Parameters(tuple(weights), tuple(parts[1::2]))


class Source:
    """Random choices of the members of ``(network, seed)``, for any member."""

    def __init__(self, network: Network, seed: int) -> None:
        self._network = network
        self._net, length = geometry(self._network)
        self._init, self._order, self._noise, self._labels = (
            np.uint64(philox_key(seed, name)) for name in STREAMS
        )
        self._P = np.zeros(length, np.float32)
        self._flat = np.zeros(flat_size(self._net[0]), np.float32)
        self._buf = np.zeros(32, np.uint64)
        self._words = self._buf.view(np.uint32)

    def parameters(self, member: int) -> Parameters:
        """Initial parameters of ``member``."""
        n = self._network
        pairs = list(zip(n.sigma_ws, n.sigma_bs, n.fan_ins, strict=True))
        scales = np.array([s / np.sqrt(f) for s, _, f in pairs], np.float32)
        ratios = np.array([b * np.sqrt(f) / s for s, b, f in pairs], np.float32)
        draw_parameters(
            self._P, self._net, scales, ratios, n.weight_dist == "uniform", np.uint64(member),
            self._init, self._flat, self._buf, self._words,
        )  # fmt: skip
        return unpadded(self._P.copy(), n)

    def order(self, member: int, epoch: int, size: int) -> np.ndarray:
        """(size,) order of the examples in an epoch (from 0) of ``member``."""
        perm = np.zeros(size, np.int64)
        shuffle(perm, epoch, np.uint64(member), self._order, self._buf, self._words)
        return perm

    def weighted(self, member: int, step: int, weights: np.ndarray, count: int) -> np.ndarray:
        """``count`` examples for step ``step`` (from 0), drawn in proportion to ``weights``."""
        chosen = np.zeros(count, np.int64)
        draw_weighted(
            chosen, np.asarray(weights, np.float32), np.zeros(len(weights)), step,
            np.uint64(member), self._order, self._buf, self._words,
        )  # fmt: skip
        return chosen

    def labels(self, member: int, size: int) -> np.ndarray:
        """(size,) labels 0/1 of the pre-training stage of ``member``."""
        y = np.zeros(size, np.float32)
        random_labels(y, np.uint64(member), self._labels, self._buf, self._words)
        return y

    def noise(self, member: int, step: int) -> Parameters:
        """Standard normals added at step ``step`` (from 1) by SGLD and Entropy-SGD."""
        out = np.zeros_like(self._P)
        draw_noise(out, step, np.uint64(member), self._noise, self._buf, self._words)
        return unpadded(out, self._network)
