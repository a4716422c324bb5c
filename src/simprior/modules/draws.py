"""The parameters of many networks, stacked, and their last layers (heads).

Every number on CPU is a function of (seed, hidden draw, position), so that a network is the same
whatever is drawn with it. On a GPU torch's generator of the device makes a block of hidden draws at
a time, seeded by (seed, block): the same law, other numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from simprior.modules.architecture import ParameterTensor
from simprior.modules.build import Built
from simprior.modules.own import seeded
from simprior.network.density import DENSE, thresholds
from simprior.numerics.compiled import BLOCK, MASKS, fill, words_block
from simprior.numerics.random import derive, philox_key

STREAM = "modules"
_BODY, _BODY_UNIFORM, _HEADS = 0, 1, 2


@njit(nogil=True, cache=True)
def _fill_rows(out, first, c1, key, uniform):  # type: ignore[no-untyped-def]
    """Row i of ``out`` (float32, whole blocks): standard numbers of hidden draw first + i."""
    buf = np.zeros(32, np.uint64)
    words = buf.view(np.uint32)
    for i in range(out.shape[0]):
        number = np.uint64(first + i)
        fill(out[i], out.shape[1] // 64, buf, words, 0, c1, number, key, np.float32(1.0), uniform)


@njit(nogil=True, cache=True)
def _thin_rows(out, first, c1, key, kept):  # type: ignore[no-untyped-def]
    """Set to 0 what is not kept of numbers of :func:`_fill_rows`; ``kept`` is the threshold of each
    position (uint64)."""
    buf = np.zeros(32, np.uint64)
    words = buf.view(np.uint32)
    for i in range(out.shape[0]):
        for at in range(kept.shape[0]):
            if at % 64 == 0:
                words_block(buf, at // 64, np.uint64(c1) + MASKS, np.uint64(first + i), key)
            if words[at % 64] >= kept[at]:
                out[i, at] = np.float32(0.0)


@dataclass(frozen=True)
class Heads:
    """Last linear layers on the same features: weights (B, R, k), biases (B, R, 1)."""

    weights: Tensor
    biases: Tensor

    def outputs(self, features: Tensor) -> Tensor:
        """(B, R, m) outputs on features (B, m, k)."""
        return torch.baddbmm(self.biases, self.weights, features.transpose(1, 2))


class Draws:
    """Stacked parameters of the networks of a run, by the numbers of their hidden draws.

    ``at_once`` hidden draws are made together (:meth:`simprior.modules.build.Built.at_once`).
    ``stream`` names the random numbers: other names, other networks of the same seed. With
    ``ones`` all numbers are 1 before masks are applied.
    """

    def __init__(
        self,
        built: Built,
        heads: int,
        seed: int,
        device: str,
        dtype: str,
        stream: str = STREAM,
        *,
        ones: bool = False,
    ) -> None:
        self._built, self._heads, self._seed, self._stream = built, heads, seed, stream
        self._device, self.dtype = torch.device(device), getattr(torch, dtype)
        self._key = np.uint64(philox_key(seed, stream))
        self.at_once, self._ones = built.at_once(heads), ones
        own = () if built.last is None else (built.last.weight, built.last.bias)
        self._last = {t.name: t for t in built.tensors if t.name in own}
        self._body = [t for t in built.tensors if t.name not in own]

    def network(self, number: int) -> dict[str, Tensor]:
        """All parameters of hidden draw ``number`` with its first head; each with a first axis of
        length 1."""
        parameters = self.body(number, 1)
        last = self._built.last
        if last is None or last.weight in parameters:
            return parameters
        heads = self.heads(number, 1)
        parameters[last.weight] = heads.weights[:, :1]
        if last.bias is not None:
            parameters[last.bias] = heads.biases[:, 0]
        return parameters

    def mask(self, number: int) -> dict[str, Tensor]:
        """1 for the parameters of :meth:`network` that are kept, 0 for masked weights (CPU)."""
        same = (self._built, self._heads, self._seed, "cpu", "float32", self._stream)
        drawn = Draws(*same, ones=True).network(number)
        return {
            t.name: (drawn[t.name] != 0).float() if t.density < 1 else torch.ones(1, *t.shape)
            for t in self._built.tensors
        }

    def body(self, first: int, count: int | None = None) -> dict[str, Tensor]:
        """Parameters but those of the last linear layer, of ``count`` (``at_once``) hidden draws
        from ``first``; all parameters where only the module can draw them or there is no such
        layer."""
        count = self.at_once if count is None else count
        if self._built.drawn_whole:
            modules = [self._module(number) for number in range(first, first + count)]
            names = [t.name for t in self._built.tensors]
            return {name: torch.stack([one[name] for one in modules]) for name in names}
        parts: dict[str, Tensor] = {}
        for uniform, stream in ((False, _BODY), (True, _BODY_UNIFORM)):
            chosen = [t for t in self._body if t.deviation and t.uniform is uniform]
            numbers = self._numbers(first, count, stream, uniform, _kept(chosen))
            at = 0
            for t in chosen:
                part = numbers[:, at : at + t.size].reshape(count, *t.shape)
                parts[t.name] = _scaled(part, t)
                at += t.size
        for t in self._body:
            if not t.deviation:
                blank = torch.full((), t.centre, device=self._device, dtype=self.dtype)
                parts[t.name] = blank.expand(count, *t.shape)
        return parts

    def heads(self, first: int, count: int | None = None) -> Heads:
        """The last linear layers of ``count`` (``at_once``) hidden draws from ``first``."""
        last, count = self._built.last, self.at_once if count is None else count
        assert last is not None
        weight = self._last[last.weight]
        k, each = last.fan_in, last.fan_in + 1
        kept = np.full((self._heads, each), np.uint64(DENSE))
        kept[:, :k] = thresholds([weight.density])
        numbers = self._numbers(first, count, _HEADS, weight.uniform, kept.reshape(-1))
        numbers = numbers.reshape(count, self._heads, each)
        weights = _scaled(numbers[..., :k], weight)
        biases = numbers[..., k:]
        bias = None if last.bias is None else self._last[last.bias]
        return Heads(weights, torch.zeros_like(biases) if bias is None else _scaled(biases, bias))

    def _numbers(
        self, first: int, count: int, stream: int, uniform: bool, kept: np.ndarray
    ) -> Tensor:
        """(count, size) independent numbers of mean 0 and variance 1, those masked 0; ``kept``
        (size,) are the thresholds of their masks."""
        size, masked = len(kept), bool((kept < DENSE).any())
        if self._device.type == "cpu":
            out = np.empty((count, -(-size // BLOCK) * BLOCK), np.float32)
            if self._ones:
                out[:] = 1.0
            else:
                _fill_rows(out, first, stream, self._key, uniform)
            if masked:
                _thin_rows(out, first, stream, self._key, kept)
            return torch.from_numpy(out[:, :size]).to(self.dtype)
        generator = torch.Generator(self._device)
        block = 4 * (first // count) + stream
        generator.manual_seed(int.from_bytes(derive(self._seed, self._stream, block)[:7], "little"))
        options: dict[str, Any] = {"device": self._device, "dtype": self.dtype}
        if uniform:
            numbers = torch.rand((count, size), generator=generator, **options)
            numbers = (2.0 * numbers - 1.0) * 3.0**0.5
        else:
            numbers = torch.randn((count, size), generator=generator, **options)
        if masked:
            shares = torch.as_tensor(kept.astype(np.float64) / DENSE, device=self._device)
            draws = torch.rand((count, size), generator=generator, device=self._device)
            numbers = numbers * (draws < shares)
        return numbers

    def _module(self, number: int) -> Mapping[str, Tensor]:
        """The parameters of a module of its own, made under the seed of hidden draw ``number``."""
        seed = int.from_bytes(derive(self._seed, self._stream, number)[:7], "little")
        module = seeded(self._built.make, seed)
        return {name: t.to(self._device, self.dtype) for name, t in module.named_parameters()}


def _kept(tensors: Sequence[ParameterTensor]) -> np.ndarray:
    """The threshold of the mask of every entry of some tensors."""
    sizes = [t.size for t in tensors]
    return np.repeat(thresholds([t.density for t in tensors]), sizes)


def _scaled(numbers: Tensor, tensor: ParameterTensor) -> Tensor:
    """Standard numbers with the mean and the deviation of a parameter."""
    assert tensor.deviation is not None
    scaled = numbers * tensor.deviation
    return scaled + tensor.centre if tensor.centre else scaled
