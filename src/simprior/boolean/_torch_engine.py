"""The sampler for what the compiled kernel does not do: callables, float64, CUDA.

On CPU the parameters are those of the compiled kernel (same counters), so that float64 runs and
built-in activations can be compared with it function by function. On CUDA they come from torch's
generator on the device, seeded by (seed, block of hidden draws): the same distribution, other
numbers. TF32 is switched off: it changes about 1 % of the functions.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from simprior.boolean._parameters import ParameterSource
from simprior.boolean._plan import FLOAT32_SAFE, check_range
from simprior.boolean.inputs import input_matrix
from simprior.boolean.job import STREAM, Job
from simprior.boolean.rows import Counter, count_words
from simprior.boolean.truthtable import n_words
from simprior.callables import tensor_function
from simprior.errors import NumericalError
from simprior.network import Network
from simprior.parameters import forward, plain_affine
from simprior.rng import derive, philox_key

if TYPE_CHECKING:
    from torch import Tensor

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
        for cluster, words in batches(job, first, stop):
            heads = 1 if job.iid else job.heads
            wanted = job.samples - cluster * job.heads
            at = (cluster - first) * (job.heads if job.iid else 1)
            count_words(words[:wanted], heads, at, counter)


def _cpu_batches(job: Job, first: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
    """(hidden draw, (heads, W) packed functions), one hidden draw at a time."""
    assert isinstance(job.model, Network)
    dtype = getattr(torch, job.dtype)
    source = ParameterSource(job.model, job.heads, philox_key(job.seed, STREAM))
    act = tensor_function(job.model)
    x = torch.from_numpy(input_matrix(job.model)).to(dtype)
    for cluster in range(first, stop):
        params = source.draw(cluster)
        layers = [
            (torch.from_numpy(w).to(dtype), torch.from_numpy(b).to(dtype))
            for w, b in zip(params.weights, params.biases, strict=True)
        ]
        yield cluster, pack_signs(_outputs(x, layers, act).T)


def _device_batches(job: Job, first: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
    """(first hidden draw, (draws * heads, W) packed functions), a part of a block at a time."""
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
            layers = _random_layers(network, part, job.heads, generator, dtype)
            if at >= stop or at + part <= first:
                continue
            out = _outputs(x, layers, act).transpose(1, 2)  # (draws, heads, m)
            out = out[max(0, first - at) : stop - at].reshape(-1, network.m)
            yield max(at, first), pack_signs(out)


def _random_layers(
    network: Network, draws: int, heads: int, generator: torch.Generator, dtype: torch.dtype
) -> list[tuple[Tensor, Tensor]]:
    """Parameters of ``draws`` hidden draws: ((draws, fan_in, fan_out), (draws, 1, fan_out))."""
    out = []
    widths = (*network.hidden, heads)
    spec = zip(network.fan_ins, widths, network.sigma_ws, network.sigma_bs, strict=True)
    for fan_in, width, sw, sb in spec:
        w = _draw((draws, fan_in, width), network.weight_dist, generator, dtype)
        b = _draw((draws, 1, width), network.weight_dist, generator, dtype)
        out.append((w * (sw / math.sqrt(fan_in)), b * sb))
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
