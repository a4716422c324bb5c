"""Networks as the compiled moves see them: layout of the parameters, inputs, labels, scratch.

What inputs alone decide is settled here, before anything is drawn: copies of an input share a
label, an input that is 0 in a network without biases has output 0, and an odd network without
biases gives opposite inputs opposite outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from simprior.boolean.truthtable import input_matrix
from simprior.checks import Choice
from simprior.errors import InputError, check_fits
from simprior.network.activations import COMPILED, code_of
from simprior.network.density import refuse_density
from simprior.network.spec import Network

ODD = ("tanh", "erf", "sin", "linear")
"""Compiled activations with f(-u) = -f(u)."""
_POOL = 1024  # normals made at a time, at most (or a row of weights)
_BLOCK = 64


@dataclass(frozen=True)
class Inputs:
    """The inputs that matter: ``X`` (k, d) distinct rows; ``place`` (m,) the row of each input.

    ``place`` is -1 for an input whose output is always 0; ``opposite`` (pairs, 2) are rows with
    opposite outputs.
    """

    X: np.ndarray
    place: np.ndarray
    opposite: np.ndarray

    def labels(self, table: np.ndarray) -> np.ndarray | None:
        """(k,) labels of the rows for a function (m,), or None if no network computes it."""
        bits = np.zeros(len(self.X), np.uint8)
        alive = self.place >= 0
        bits[self.place[alive]] = table[alive]
        wrong = table[~alive].any() or (bits[self.place[alive]] != table[alive]).any()
        twins = bits[self.opposite]
        return None if wrong or (twins[:, 0] == twins[:, 1]).any() else bits


def distinct_inputs(network: Network) -> Inputs:
    """The distinct inputs of a network."""
    X, place = np.unique(input_matrix(network), axis=0, return_inverse=True)
    place = place.reshape(-1)
    opposite = np.empty((0, 2), np.intp)
    if not any(network.sigma_bs):
        moving = X.any(axis=1)
        place = np.where(moving, np.cumsum(moving) - 1, -1)[place]
        X = X[moving]
        if network.depth == 0 or network.activation in ODD:
            opposite = _opposite(X)
    return Inputs(np.ascontiguousarray(X), place, opposite)


def _opposite(X: np.ndarray) -> np.ndarray:
    """(pairs, 2) numbers of rows x and -x."""
    where = {tuple(row): i for i, row in enumerate((X + 0.0).tolist())}
    pairs = [(i, where.get(tuple((-X[i] + 0.0).tolist()), -1)) for i in range(len(X))]
    return np.array([(i, j) for i, j in pairs if i < j], np.intp).reshape(-1, 2)


def check_network(network: Network, remedy: str = "sample them (simprior sample --watch)") -> None:
    """Refuse networks that the moves do not know. Raises :class:`InputError`."""
    refuse_density(network, "moves of parameters along ellipses")
    expected = "gaussian (the moves are along ellipses of a Gaussian prior)"
    Choice(("gaussian",), remedy, expected)("weight_dist", network.weight_dist)
    if code_of(network) is None:
        expected = f"one of {', '.join(COMPILED)}"
        raise InputError(f"activation={network.activation_name!r}", expected, remedy)


@dataclass
class Machine:
    """Layout of the parameters of one network, and scratch for one worker.

    ``net``, ``state``, ``work`` are the arguments of :mod:`simprior.finite.kernels`; ``size`` is
    the number of parameters.
    """

    net: tuple[Any, ...]
    state: tuple[np.ndarray, ...]
    work: tuple[np.ndarray, ...]
    size: int
    pool: int

    def dice(self, key: int) -> tuple[Any, ...]:
        """A source of random numbers."""
        return (
            np.empty(self.pool, np.float32), np.empty(_BLOCK // 2, np.uint64),
            np.empty(_BLOCK // 2, np.uint64), np.zeros(6, np.int64), np.uint64(key),
        )  # fmt: skip

    def labels(self, bits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(k,) signs of the labels, and (k,) ones (none where outputs are never exactly 0)."""
        ones = bits.astype(np.float32)
        never_zero = self.net[5][-1] > 0  # a bias of the output
        return 2 * ones - 1, np.empty(0, np.float32) if never_zero else ones


def scratch_bytes(network: Network, inputs: int) -> float:
    """Memory of a machine on so many inputs, without particles."""
    units = network.d + sum(network.hidden)
    return 4.0 * inputs * (4 * units + max((*network.hidden, 1)) + 8)


def make_machine(network: Network, X: np.ndarray) -> Machine:
    """Layout and scratch of a network on inputs X (k, d)."""
    m = len(X)
    check_fits(f"networks of {m} inputs", scratch_bytes(network, m), "pass fewer inputs")
    fans = np.array(network.fan_ins, np.int64)
    widths = np.array(network.hidden, np.int64)
    units = np.array((*network.hidden, 1), np.int64)
    offsets = np.concatenate([[0], np.cumsum(units * (fans + 1))[:-1]]).astype(np.int64)
    rows = np.concatenate([[0], np.cumsum([network.d, *network.hidden])]).astype(np.int64)
    scales = (np.array(network.sigma_ws) / np.sqrt(fans)).astype(np.float32)
    biases = np.array(network.sigma_bs, np.float32)
    net = (fans, widths, offsets, rows, scales, biases, code_of(network))
    total, widest, fan = int(rows[-1]), max((*network.hidden, 1)), int(fans.max())

    def zeros(*shape: int) -> np.ndarray:
        return np.zeros(shape, np.float32)

    h = zeros(total, m)
    h[: network.d] = X.T
    state = (zeros(total, m), h, zeros(m))
    h_new = h.copy()
    work = (
        zeros(m), zeros(m), zeros(m), zeros(m), zeros(fan + 1), zeros(widest), zeros(widest),
        zeros(widest), zeros(widest), zeros(total, m), h_new,
    )  # fmt: skip
    size = int((units * (fans + 1)).sum())
    row = max(fan + 1, widest)
    pool = -(-max(row, min(_POOL, 2 * size)) // _BLOCK) * _BLOCK
    return Machine(net, state, work, size, pool)
