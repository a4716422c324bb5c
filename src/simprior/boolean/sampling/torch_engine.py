"""The sampler for what the compiled kernel does not do: callables, float64, CUDA.

On CPU the parameters are those of the compiled kernel, so that float64 runs and built-in
activations can be compared with it function by function. The kernel never stores them: here they
are drawn again from the same counters, as plain matrices. :func:`draw_parameters` gives them to
tests, too, and to anyone who wants to look at network number k of a run.

On CUDA they come from torch's generator on the device, seeded by (seed, block of hidden draws): the
same distribution, other numbers. TF32 is switched off: it changes about 1 % of the functions.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numba import njit

from simprior.boolean.sampling.job import (
    FLOAT32_SAFE,
    STREAM,
    Job,
    Plan,
    check_range,
    make_plan,
    make_scratch,
)
from simprior.boolean.sampling.kernel import GROUP, draw_heads, draw_panel
from simprior.boolean.sampling.rows import Counter, count_words
from simprior.boolean.sampling.tile import HEAD_TILE
from simprior.boolean.truthtable import input_matrix, n_words
from simprior.errors import NumericalError
from simprior.network.callables import tensor_function
from simprior.network.parameters import Parameters, forward, plain_affine, shapes_of
from simprior.network.spec import Network
from simprior.numerics.compiled import fill, thin
from simprior.numerics.random import derive, philox_key

if TYPE_CHECKING:
    from torch import Tensor


class ParameterSource:
    """Draws the parameters of hidden draw k of the stream ``key``, for any k."""

    def __init__(self, network: Network, heads: int, key: int) -> None:
        self._plan: Plan = make_plan(network, heads, checked=False)
        self._scratch, self._buffers = make_scratch(self._plan)
        self._heads, self._key = heads, np.uint64(key)
        self._shapes = shapes_of(network, heads)

    def draw(self, number: int) -> Parameters:
        """Parameters of hidden draw ``number``."""
        _, _, tiles, _, uniform = self._plan.arch
        scales, ratios, kept, *_ = self._plan.consts
        w, buf, words, *_ = self._scratch
        matrices = [np.empty((f + 1, k), np.float32) for f, k in self._shapes]
        for layer, matrix in enumerate(matrices[:-1]):
            _layer_matrix(
                matrix,
                w,
                buf,
                words,
                tiles[layer],
                layer,
                number,
                self._key,
                scales[layer],
                ratios[layer],
                uniform,
                kept[layer],
            )
        last = len(matrices) - 1
        _head_matrix(
            matrices[-1],
            self._buffers[0],
            buf,
            words,
            last,
            number,
            self._key,
            scales[last],
            ratios[last],
            uniform,
            kept[last],
        )
        return Parameters(tuple(x[:-1] for x in matrices), tuple(x[-1] for x in matrices))


def draw_parameters(network: Network, seed: int, number: int, heads: int = 1) -> Parameters:
    """Parameters of hidden draw ``number`` of ``sample(network, seed=seed, heads=heads)``.

    A run with mirrors has half as many output layers as heads: pass that number.
    """
    return ParameterSource(network, heads, philox_key(seed, STREAM)).draw(number)


@njit(nogil=True, cache=True)
def _layer_matrix(out, w, buf, words, nt, layer, network, key, scale, ratio, uniform, kept):
    fan_in, width = out.shape[0] - 1, out.shape[1]
    for p in range((width + nt - 1) // nt):
        draw_panel(w, p, fan_in, nt, buf, words, layer, network, key, scale, ratio, uniform, kept)
        for j in range(fan_in + 1):
            for i in range(min(nt, width - p * nt)):
                out[j, p * nt + i] = w[j * nt + i]


@njit(nogil=True, cache=True)
def _head_matrix(out, v, buf, words, layer, network, key, scale, ratio, uniform, kept):
    fan_in, heads = out.shape[0] - 1, out.shape[1]
    if heads == 1:
        fill(v, (fan_in + 64) // 64, buf, words, 0, layer, network, key, scale, uniform)
        thin(v, fan_in, buf, words, 0, layer, network, key, kept)
        v[fan_in] *= ratio
        for j in range(fan_in + 1):
            out[j, 0] = v[j]
        return
    alive = np.ones(fan_in, np.uint8)
    bias = scale * ratio
    for g in range((heads + GROUP - 1) // GROUP):
        draw_heads(v, g, fan_in, alive, buf, words, layer, network, key, scale, bias, uniform, kept)
        for r in range(min(GROUP, heads - g * GROUP)):
            start = (r // HEAD_TILE) * (fan_in + 1) * HEAD_TILE + r % HEAD_TILE
            for j in range(fan_in + 1):
                out[j, g * GROUP + r] = v[start + j * HEAD_TILE]


DRAWS_PER_BLOCK = 64  # hidden draws that share one generator on a device
_ELEMENTS = 1 << 26  # largest activation tensor on a device


def count_with_torch(job: Job, first: int, stop: int, counter: Counter) -> None:
    """Count the functions of the hidden draws ``first .. stop - 1`` of ``job``.

    Raises
    ------
    NumericalError
        If the activation gives NaN or infinity, or a tensor of another shape.
    """
    assert isinstance(job.model, Network)
    if job.dtype == "float32" and isinstance(job.model.activation, str):
        check_range(job.model, FLOAT32_SAFE)
    batches = _cpu_batches if job.device == "cpu" else _device_batches
    with torch.no_grad(), _exact_matmul():
        for number, words in batches(job, first, stop):
            heads = job.output_layers if job.folded else job.heads
            wanted = words[: (job.samples - number * job.heads) * heads // job.heads]
            at = (number - first) * (heads if job.iid else 1)
            count_words(wanted, 1 if job.iid else heads, at, counter)
            if counter.measuring is not None:
                counter.measuring.add(number, wanted[:: heads // job.output_layers])


def _cpu_batches(job: Job, first: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
    """(hidden draw, (heads, W) packed functions), one hidden draw at a time.

    Each function is followed by its mirror, unless the counter is folded.
    """
    assert isinstance(job.model, Network)
    dtype = getattr(torch, job.dtype)
    source = ParameterSource(job.model, job.output_layers, philox_key(job.seed, STREAM))
    act = tensor_function(job.model)
    x = torch.from_numpy(input_matrix(job.model)).to(dtype)
    for number in range(first, stop):
        params = source.draw(number)
        layers = [
            (torch.from_numpy(w).to(dtype), torch.from_numpy(b).to(dtype))
            for w, b in zip(params.weights, params.biases, strict=True)
        ]
        yield number, pack_signs(_with_mirrors(job, _outputs(x, layers, act).T))


def _device_batches(job: Job, first: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
    """(first hidden draw, (draws * heads, W) packed functions) as :func:`_cpu_batches`, a part of a
    block at a time."""
    network, device, dtype = job.model, torch.device(job.device), getattr(torch, job.dtype)
    assert isinstance(network, Network)
    act = tensor_function(network)
    x = torch.from_numpy(input_matrix(network)).to(device, dtype)
    widest = max((*network.hidden, job.heads))
    part = max(1, min(DRAWS_PER_BLOCK, _ELEMENTS // (network.m * widest)))
    for block in range(first // DRAWS_PER_BLOCK, -(-stop // DRAWS_PER_BLOCK)):
        generator = torch.Generator(device)
        generator.manual_seed(int.from_bytes(derive(job.seed, "torch", block)[:7], "little"))
        start = block * DRAWS_PER_BLOCK
        for at in range(start, start + DRAWS_PER_BLOCK, part):
            layers = _random_layers(network, part, job.output_layers, generator, dtype)
            if at >= stop or at + part <= first:
                continue
            out = _outputs(x, layers, act).transpose(1, 2)  # (draws, heads, m)
            out = out[max(0, first - at) : stop - at].reshape(-1, network.m)
            yield max(at, first), pack_signs(_with_mirrors(job, out))


def _with_mirrors(job: Job, z: Tensor) -> Tensor:
    """The (F, m) outputs; with mirrors that are counted apart each is followed by -z: (2 F, m)."""
    if not job.mirror or job.folded:
        return z
    return torch.stack([z, -z], dim=1).reshape(-1, z.shape[-1])


def _random_layers(
    network: Network, draws: int, heads: int, generator: torch.Generator, dtype: torch.dtype
) -> list[tuple[Tensor, Tensor]]:
    """Parameters of ``draws`` hidden draws: ((draws, fan_in, fan_out), (draws, 1, fan_out))."""
    out = []
    widths = (*network.hidden, heads)
    laws = zip(network.weight_scales, network.sigma_bs, network.densities, strict=True)
    for fan_in, width, (scale, sb, share) in zip(network.fan_ins, widths, laws, strict=True):
        w = _draw((draws, fan_in, width), network.weight_dist, generator, dtype)
        b = _draw((draws, 1, width), network.weight_dist, generator, dtype)
        if share < 1.0:
            w *= torch.rand(w.shape, generator=generator, device=w.device) < share
        out.append((w * scale, b * sb))
    return out


def _draw(
    shape: tuple[int, ...], law: str, generator: torch.Generator, dtype: torch.dtype
) -> Tensor:
    """Numbers of mean 0 and variance 1."""
    if law == "gaussian":
        return torch.randn(shape, generator=generator, device=generator.device, dtype=dtype)
    u = torch.rand(shape, generator=generator, device=generator.device, dtype=dtype)
    return (2.0 * u - 1.0) * math.sqrt(3.0)


def _outputs(
    x: Tensor, layers: list[tuple[Tensor, Tensor]], activation: Callable[[Tensor], Tensor]
) -> Tensor:
    """Outputs z of shape (..., m, heads); :class:`NumericalError` if anything is not finite."""

    def check_finite(values: Tensor, number: int) -> None:
        if not torch.isfinite(values).all():
            hidden = f"the activation of hidden layer {number}"
            raise NumericalError(
                f"{hidden if number < len(layers) else 'the output'} gave NaN or infinity: "
                "expected finite numbers; check the activation's domain, or lower sigma_w and "
                "sigma_b"
            )

    return forward(x, layers, activation, plain_affine, check_finite)


def pack_signs(z: Tensor) -> np.ndarray:
    """(F, W) packed functions of (F, m) outputs: bit 1 iff z > 0, input 0 in the highest bit."""
    rows, m = z.shape
    words = n_words(m)
    bits = torch.zeros((rows, words * 64), dtype=torch.int64, device=z.device)
    bits[:, :m] = z > 0
    shifts = torch.arange(63, -1, -1, dtype=torch.int64, device=z.device)
    packed = (bits.view(rows, words, 64) << shifts).sum(dim=2)
    return packed.cpu().numpy().view(np.uint64)


@contextlib.contextmanager
def _exact_matmul() -> Iterator[None]:
    """Float32 products in float32 (no TF32), restored afterwards."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
