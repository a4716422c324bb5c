"""What the engines of training are given: arguments of the kernel, and random choices of members.

:func:`make_plan` prepares the arguments of the compiled kernel from a spec and a problem.

:class:`Source` makes the initial parameters, minibatches, noise and labels of members. Every number
belongs to (seed, member). The compiled kernel makes them as it trains; here they are made again,
for the torch engine, for tests, and for whoever wants to look at a member.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from simprior.boolean.sampling.job import aligned
from simprior.boolean.truthtable import n_words
from simprior.modules.spec import network_only
from simprior.network.activations import code_of
from simprior.network.density import thresholds
from simprior.network.losses import LOSSES
from simprior.network.parameters import Parameters
from simprior.network.spec import Network
from simprior.numerics.compiled import BLOCK
from simprior.numerics.random import philox_key
from simprior.training import kernels as kernel
from simprior.training.kernels import BLOCK_ROWS
from simprior.training.products import pad4, pad16
from simprior.training.spec import CODES, STOPS, TrainSpec
from simprior.training.targets import Problem
from simprior.training.updates import (
    draw_mask,
    draw_noise,
    draw_parameters,
    draw_weighted,
    flat_size,
    random_labels,
    shuffle,
)

STREAMS = ("train/init", "train/order", "train/noise", "train/labels")


@dataclass(frozen=True)
class Plan:
    """Tuples for :func:`simprior.training.kernels.train_members`; see the docstring there."""

    net: tuple[Any, ...]
    law: tuple[Any, ...]
    data: tuple[Any, ...]
    rule: np.ndarray
    stop_loss: float
    scalars: np.ndarray
    keys: np.ndarray
    length: int

    @property
    def words(self) -> int:
        """64-bit words of a packed function."""
        return n_words(self.data[4])


def geometry(network: Network) -> tuple[tuple[Any, ...], int]:
    """The ``net`` tuple of the kernels and the length of a parameter vector (multiple of 64)."""
    widths = np.array([network.d, *network.hidden], np.int64)
    pads = np.array([pad16(int(w)) for w in widths], np.int64)
    depth = len(network.hidden)
    off, boff = np.zeros(depth + 1, np.int64), np.zeros(depth + 1, np.int64)
    hoff, toff = np.zeros(depth + 1, np.int64), np.zeros(depth + 1, np.int64)
    at = back = 0
    for l in range(depth):  # noqa: E741
        off[l], boff[l] = at, at + pad4(int(widths[l])) * pads[l + 1]
        at = int(boff[l] + pads[l + 1])
        hoff[l + 1] = hoff[l] + (BLOCK_ROWS * pads[l] if l else 0)
        toff[l] = back
        back += int(pads[l + 1] * pads[l]) if l else 0
    off[depth], boff[depth] = at, at + pads[depth]
    length = -(-int(boff[depth] + 16) // BLOCK) * BLOCK
    return (widths, pads, off, boff, hoff, toff, code_of(network) or 0), length


def padded_inputs(x: np.ndarray) -> np.ndarray:
    """(m, d) inputs as one flat float32 array: rows padded to vectors, rows of zeros to a block."""
    m, d = x.shape
    pad = pad16(d)
    out = aligned(-(-m // BLOCK_ROWS) * BLOCK_ROWS * pad + 16, np.float32)
    out[: m * pad].reshape(m, pad)[:, :d] = x
    return out


def make_plan(spec: TrainSpec, problem: Problem) -> Plan:
    """Everything the kernel needs except scratch."""
    network = network_only(spec.network, "compiled training")
    net, length = geometry(network)
    scales, ratios, kept = _law(network_only(spec.start, "compiled training"))
    mask = np.zeros(length, np.float32)
    for index in parameter_slices(network):
        mask[index] = 1.0
    size = problem.size
    y = np.zeros(size + 16, np.float32)
    y[:size] = problem.labels
    data = (padded_inputs(problem.train_inputs), y, size, padded_inputs(problem.inputs), problem.m)
    keys = np.array([philox_key(spec.seed, name) for name in STREAMS], np.uint64)
    law = (scales, ratios, network.weight_dist == "uniform", mask, kept)
    stop_loss = spec.stop.value if spec.stop.kind == "loss" else 0.0
    return Plan(
        net, law, data, _rule(spec, size), stop_loss, spec.optimizer.scalars(), keys, length
    )


def _law(network: Network) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each layer: scale of its weights, of its biases over that, and threshold of its masks."""
    parts = zip(network.sigma_ws, network.sigma_bs, network.fan_ins, strict=True)
    dense = np.array([b * math.sqrt(f) / s for s, b, f in parts])
    ratios = dense * np.sqrt(network.densities) if network.rescale else dense
    scales = np.array(network.weight_scales, np.float32)
    return scales, ratios.astype(np.float32), thresholds(network.densities)


def _rule(spec: TrainSpec, size: int) -> np.ndarray:
    rule = np.zeros(9, np.int64)
    name = spec.optimizer.rule
    rule[kernel.R_OPTIMIZER] = CODES.index(name) if name in CODES else 0
    rule[kernel.R_LOSS] = list(LOSSES).index(spec.loss)
    rule[kernel.R_BATCH] = spec.batch(size)
    rule[kernel.R_STOP] = STOPS.index(spec.stop.kind)
    rule[kernel.R_STOP_N] = int(spec.stop.value) if spec.stop.kind == "epochs" else 0
    rule[kernel.R_MAX_STEPS] = spec.max_steps(size)
    rule[kernel.R_CHECK] = spec.check
    rule[kernel.R_ADVERSARIAL] = round(1000 * spec.optimizer.power)
    rule[kernel.R_PRETRAIN] = spec.pretrain
    return rule


def make_scratch(plan: Plan) -> tuple[np.ndarray, tuple[Any, ...]]:
    """(P, scratch) for one worker; the order of the tuple is that of the kernels."""
    widths, pads, *_ = plan.net
    size, batch = plan.data[2], int(plan.rule[kernel.R_BATCH])
    f32 = lambda n: aligned(int(n), np.float32)  # noqa: E731
    units = int(BLOCK_ROWS * pads[1:].sum()) + 16
    back = int(sum(pads[i] * pads[i + 1] for i in range(1, len(pads) - 1))) + 16
    slack = 16 * int(pads.max())  # blocks of 16 rows are read for transposition
    P = f32(plan.length + slack)[: plan.length]
    buf = np.zeros(32, np.uint64)
    scratch = (
        f32(flat_size(widths)),
        f32(size + 16),
        f32(units),
        f32(units),
        f32(back),
        f32(BLOCK_ROWS),
        f32(BLOCK_ROWS),
        f32(BLOCK_ROWS * pads[0] + 16),
        f32(BLOCK_ROWS),
        *(f32(plan.length) for _ in range(5)),
        np.zeros(size, np.int64),
        np.zeros(max(batch, 1), np.int64),
        f32(size),
        np.zeros(size),
        buf,
        buf.view(np.uint32),
    )
    return P, scratch


def parameter_slices(network: Network) -> list[np.ndarray]:
    """Positions in P of: weights (fan_in, width), bias (width,) of every layer in turn."""
    (_, pads, off, boff, *_), _ = geometry(network)
    depth, out = len(network.hidden), []
    for i, (fan_in, width) in enumerate(zip(network.fan_ins, (*network.hidden, 1), strict=True)):
        stride = int(pads[i + 1]) if i < depth else 1
        out.append(off[i] + np.arange(fan_in)[:, None] * stride + np.arange(width))
        out.append(boff[i] + np.arange(width))
    return out


def unpadded(P: np.ndarray, network: Network) -> Parameters:
    """Parameters in a padded vector of the compiled kernel."""
    parts = [P[index] for index in parameter_slices(network)]
    weights = (w.reshape(f, -1) for w, f in zip(parts[::2], network.fan_ins, strict=True))
    return Parameters(tuple(weights), tuple(parts[1::2]))


class Choices:
    """Random choices of the members of a seed that do not depend on what is trained."""

    def __init__(self, seed: int) -> None:
        self._init, self._order, self._noise, self._labels = (
            np.uint64(philox_key(seed, name)) for name in STREAMS
        )
        self._buf = np.zeros(32, np.uint64)
        self._words = self._buf.view(np.uint32)

    def names(self, keys: list[int]) -> list[int]:
        """The numbers that the random choices of members ``keys`` belong to: themselves."""
        return keys

    def order(self, member: int, epoch: int, size: int) -> np.ndarray:
        """(size,) order of the examples in an epoch (from 0) of ``member``."""
        perm = np.zeros(size, np.int64)
        shuffle(perm, epoch, np.uint64(member), self._order, self._buf, self._words)
        return perm

    def weighted(self, member: int, step: int, weights: np.ndarray, count: int) -> np.ndarray:
        """``count`` examples for step ``step`` (from 0), drawn in proportion to ``weights``."""
        chosen = np.zeros(count, np.int64)
        draw_weighted(
            chosen,
            np.asarray(weights, np.float32),
            np.zeros(len(weights)),
            step,
            np.uint64(member),
            self._order,
            self._buf,
            self._words,
        )
        return chosen

    def labels(self, member: int, size: int) -> np.ndarray:
        """(size,) labels 0/1 of the pre-training stage of ``member``."""
        y = np.zeros(size, np.float32)
        random_labels(y, np.uint64(member), self._labels, self._buf, self._words)
        return y


class Source(Choices):
    """Random choices of the members of ``(network, seed)``, for any member."""

    def __init__(self, network: Network, seed: int) -> None:
        super().__init__(seed)
        self._network = network
        self._net, length = geometry(self._network)
        self._P = np.zeros(length, np.float32)
        self._flat = np.zeros(flat_size(self._net[0]), np.float32)

    def parameters(self, member: int) -> Parameters:
        """Initial parameters of ``member``."""
        n = self._network
        scales, ratios, kept = _law(n)
        draw_parameters(
            self._P,
            self._net,
            scales,
            ratios,
            n.weight_dist == "uniform",
            kept,
            np.uint64(member),
            self._init,
            self._flat,
            self._buf,
            self._words,
        )
        return unpadded(self._P.copy(), n)

    def mask(self, member: int) -> Parameters:
        """1 for the parameters of ``member`` that training moves, 0 for its masked weights."""
        out, kept = np.ones_like(self._P), thresholds(self._network.densities)
        number = np.uint64(member)
        draw_mask(out, self._net, kept, number, self._init, self._flat, self._buf, self._words)
        return unpadded(out, self._network)

    def noise(self, member: int, step: int) -> Parameters:
        """Standard normals added at step ``step`` (from 1) by SGLD and Entropy-SGD."""
        out = np.zeros_like(self._P)
        draw_noise(out, step, np.uint64(member), self._noise, self._buf, self._words)
        return unpadded(out, self._network)
