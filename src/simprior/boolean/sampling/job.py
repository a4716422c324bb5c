"""What a sampling run is made of: its job, its tasks, and what the compiled sampler needs of them.

A :class:`Job` determines the samples of a run; a :class:`Task` is a range of its hidden draws; a
:class:`Plan` holds the arguments of the compiled kernel, prepared from a
:class:`~simprior.network.spec.Network`. These are the types that the samplers take; they know no
sampler.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from simprior.boolean.sampling.complexity_sums import MOST_HEADS, ComplexitySums, Measuring
from simprior.boolean.sampling.dnf import RandomDNF
from simprior.boolean.sampling.kernel import GROUP
from simprior.boolean.sampling.rows import MAX_WORD_COLUMNS
from simprior.boolean.sampling.tile import LANES, tile_width
from simprior.boolean.symmetry import Symmetry, symmetries
from simprior.boolean.truthtable import input_matrix, n_words
from simprior.errors import InputError
from simprior.modules.spec import Module
from simprior.network.activations import code_of, entry_of
from simprior.network.density import thresholds
from simprior.network.spec import Network

STREAM = "networks"


@dataclass(frozen=True)
class Job:
    """What determines the samples of a run."""

    model: Network | RandomDNF | Module
    samples: int
    seed: int
    heads: int = 1
    dtype: str = "float32"
    device: str = "cpu"
    keep_shift: int = 0
    pool: bool = False
    replicate: int = 0  # samples of a full task: pooled standard errors compare tasks
    complexity: int = 0  # hidden draws, from the first on, whose functions are measured
    mirror: bool = False  # half of the heads are the others with the sign of their weights turned

    @property
    def output_layers(self) -> int:
        """Output layers drawn on a hidden draw: its heads, or half of them with mirrors."""
        return self.heads // 2 if self.mirror else self.heads

    @cached_property
    def folded(self) -> bool:
        """Whether a function and its mirror are counted as one entry.

        They are complements of each other, and equally often met in every hidden draw, where no
        output can be exactly 0. (The tables of very long functions are not folded.)
        """
        if not self.mirror or n_words(self.model.m) > MAX_WORD_COLUMNS:
            return False
        return symmetry_of(self.model).negate

    @property
    def iid(self) -> bool:
        """Whether the samples are independent (no hidden layers shared)."""
        shares = not isinstance(self.model, Network) or self.model.depth > 0
        return self.heads == 1 or not shares

    @property
    def replicates(self) -> float:
        """Full tasks among the samples (a part counts as that), at least one."""
        return max(1.0, self.samples / self.replicate)

    def measuring(self) -> Measuring | None:
        """What measures the functions of the first hidden draws; None if none are to be."""
        if not self.complexity:
            return None
        model = self.model
        bits = model.n if getattr(model, "inputs", None) is None else 0
        drawn = self.output_layers  # mirrors say nothing new
        heads = 1 if self.iid else min(drawn, MOST_HEADS)
        return Measuring(ComplexitySums(model.m, bits, heads), self.complexity, drawn)

    @property
    def compiled(self) -> bool:
        """Whether the compiled kernel does the job (else torch does)."""
        if isinstance(self.model, Module):
            return False
        builtin = isinstance(self.model, RandomDNF) or code_of(self.model) is not None
        return builtin and self.dtype == "float32" and self.device == "cpu"


@dataclass(frozen=True)
class Task:
    """Hidden draws ``first .. stop - 1`` of a job; ``samples`` of the run's samples."""

    index: int
    first: int
    stop: int
    samples: int

    @property
    def name(self) -> str:
        """Name of the shard."""
        return f"{self.index:06d}"

    @property
    def range(self) -> dict[str, int]:
        """Which draws it is of: its shard is registered with them."""
        return {"first": self.first, "stop": self.stop, "samples": self.samples}

    @property
    def size(self) -> int:
        """Units of progress: networks."""
        return self.samples


def symmetry_of(model: Network | RandomDNF | Module) -> Symmetry:
    """Exact symmetries of the prior of ``model``; a DNF's law has all of them, and those of a torch
    module are not known."""
    if isinstance(model, Module):
        return Symmetry(False, False, False, ("the symmetries of a torch module are not known",))
    if isinstance(model, RandomDNF):
        why = "literals are drawn alike for every variable and sign; the global sign is fair"
        return Symmetry(True, True, True, (why,))
    return symmetries(model)


FLOAT32_SAFE = 1e30
_SINE_SAFE = 1e6  # the phase of a larger float32 is rounding error
_TAIL = 6.7  # largest normal deviate that the generator can make


@dataclass(frozen=True)
class Plan:
    """Arguments of ``kernel.count_draws`` that do not change during a run."""

    arch: tuple[Any, ...]
    consts: tuple[Any, ...]
    heads_arch: tuple[Any, ...]

    @property
    def n_words(self) -> int:
        """Number of 64-bit words of a packed function."""
        return int(self.heads_arch[1])


def aligned(size: int, dtype: Any) -> np.ndarray:
    """Zeroed 1-d array that starts at a cache line."""
    width = np.dtype(dtype).itemsize
    raw = np.zeros(size * width + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size * width].view(dtype)


def make_plan(network: Network, heads: int, keep_shift: int = 0, checked: bool = True) -> Plan:
    """Compile-time constants and layer geometry of ``network`` with ``heads`` a hidden draw.

    Raises
    ------
    InputError
        If ``checked`` and the pre-activations could leave the range of float32.
    """
    if checked:
        check_range(network)
    depth = network.depth
    tiles = np.array([tile_width(w) for w in network.hidden], np.int64)
    widths = np.array(network.hidden, np.int64)
    pads = (widths + tiles - 1) // tiles * tiles if depth else widths
    code = code_of(network) or 0
    scales = np.array(network.weight_scales)
    ratios = np.array(network.sigma_bs) / scales
    arch = (widths, pads, tiles, code, network.weight_dist == "uniform")
    law = (scales.astype(np.float32), ratios.astype(np.float32), thresholds(network.densities))
    consts = (*law, *_inputs(network), network.d)
    words = n_words(network.m)
    tail = np.uint64((1 << (network.m - 64 * (words - 1))) - 1)
    iid = depth == 0 or heads == 1
    ones = np.ones(network.d, np.uint8)
    return Plan(arch, consts, (heads, words, network.m, tail, iid, keep_shift, ones))


def make_scratch(plan: Plan) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Working memory of one worker: (scratch, output buffers)."""
    widths, pads, _, _, _ = plan.arch
    *_, cnt_inputs, d = plan.consts
    blocks, words = cnt_inputs.size, plan.n_words
    pad = int(max(pads, default=1))
    fan = max(d, int(max(widths, default=1))) + 1
    buf = aligned(32, np.uint64)
    h = aligned(2 * blocks * pad * LANES, np.float32).reshape(2, -1)
    lists = np.zeros((2, blocks * pad), np.int32)
    counts, alive = np.zeros((2, blocks), np.int64), np.zeros((2, max(pad, d)), np.uint8)
    scratch = (
        aligned(fan * 24 + 64, np.float32),
        buf,
        buf.view(np.uint32),
        h,
        lists,
        counts,
        alive,
    )
    out16 = aligned(2 * GROUP * words * 4, np.uint16).reshape(2 * GROUP, words * 4)
    heads = aligned(fan * GROUP + 128, np.float32)
    live = np.zeros(fan + GROUP, np.int32)
    return scratch, (heads, out16, out16.view(np.uint64), np.zeros(GROUP, np.uint64), live)


def _inputs(network: Network) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs as blocks [block][coordinate][16], with lists of the nonzero coordinates."""
    x = input_matrix(network).astype(np.float32)
    blocks = -(-network.m // LANES)
    padded = np.zeros((blocks * LANES, network.d), np.float32)
    padded[: network.m] = x
    tiled = padded.reshape(blocks, LANES, network.d).transpose(0, 2, 1)
    h = aligned(tiled.size, np.float32)
    h[:] = tiled.ravel()
    used = (tiled != 0).any(axis=2)
    lists = np.zeros((blocks, network.d), np.int32)
    for b in range(blocks):
        found = np.flatnonzero(used[b])
        lists[b, : found.size] = found
    return h, lists.ravel(), used.sum(axis=1).astype(np.int64)


def check_range(network: Network, limit: float = FLOAT32_SAFE) -> None:
    """Raise :class:`InputError` if pre-activations could leave the range of the arithmetic.

    ``limit`` is the largest size allowed; typical sizes below ``1 / limit`` are refused as well
    (products would underflow, and functions would silently turn into constants).
    """
    floor, x = 1.0 / limit, np.abs(input_matrix(network))
    entry = entry_of(network)
    periodic, bounded = (entry.periodic, entry.bounded) if entry else (False, False)
    size, low = float(x.max()), float(x[x > 0].min(initial=1.0))
    sine = _SINE_SAFE if limit <= FLOAT32_SAFE else _SINE_SAFE**2
    for layer, (scale, sb, fan_in) in enumerate(
        zip(network.weight_scales, network.sigma_bs, network.fan_ins, strict=True)
    ):
        sw, inner = scale * math.sqrt(fan_in), layer < network.depth
        top = sine if periodic and inner else limit
        size = _TAIL * (sb + sw * math.sqrt(fan_in) * size)
        if not size < top:
            _refuse_range(network, f"below {top:g}", layer, size)
        low = max(sb, scale * low if layer == 0 else sw / 2.0 * low)
        if low < floor or scale < floor or 0 < sb < floor or sb > limit * scale:
            _refuse_range(network, f"above {floor:g}", layer, min(low, scale))
        if bounded:
            size, low = 1.0, 1.0 if network.activation == "step" else min(low, 1.0)


def _refuse_range(network: Network, expected: str, layer: int, size: float) -> None:
    raise InputError(
        f"sigma_w={network.sigma_w!r}, sigma_b={network.sigma_b!r}",
        f"pre-activations {expected} (layer {layer + 1} can reach {size:.1e})",
        "scale both together (relu functions do not change) or use dtype float64",
    )
