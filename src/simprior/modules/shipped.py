"""Shipped architectures: factories of torch modules (``docs/architectures.md``).

All take inputs (m, n) and end in a linear layer, so that heads can share what comes before. They
are written so that ``torch.func.vmap`` makes matrix products of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from simprior.checks import Choice, Integer, Switch, shown, unknown
from simprior.errors import InputError
from simprior.modules.spec import NORMS
from simprior.network.activations import ACTIVATIONS
from simprior.network.callables import import_activation

POSITIONS = ("learned", "sinusoidal", "none")
POOLS = ("mean", "max", "flat")
_COUNT = Integer(1, 2**20, "pass a positive whole number")
Call = Callable[[Tensor], Tensor]


def mlp(
    n: int,
    hidden: Sequence[int] | int | str = (40, 40),
    activation: str = "relu",
    norm: str = "none",
    residual: bool = False,
) -> nn.Module:
    """A fully connected network.

    Parameters
    ----------
    n : int
        Dimension of the inputs.
    hidden : sequence of int, int or text such as ``40x40``
        Widths of the hidden layers, at least one.
    activation : str
        A name that :class:`simprior.Network` knows, or an import path of a function of tensors.
    norm : str
        ``none``, ``layer`` or ``rms``: normalisation of each hidden layer's pre-activations.
    residual : bool
        h + f(h) in place of f(h), in every hidden layer as wide as the one before it.

    Raises
    ------
    InputError
        An option is out of range.
    """
    widths = [_COUNT("hidden", width) for width in widths_of("hidden", hidden)]
    Choice(NORMS, "pass norm='layer'")("norm", norm)
    return _MLP(n, widths, activation_of(activation), norm, Switch()("residual", residual))


def transformer(
    n: int,
    d_model: int = 32,
    layers: int = 2,
    heads: int = 4,
    feedforward: int = 0,
    position: str = "learned",
    pool: str = "mean",
    norm: str = "pre",
    activation: str = "relu",
) -> nn.Module:
    """A transformer encoder over the bits as tokens.

    A bit is a token, 1 where the input is positive; its embedding gets that of its position added.

    Parameters
    ----------
    n : int
        Number of tokens.
    d_model, layers, heads : int
        Width, number of blocks, and attention heads (which divide ``d_model``).
    feedforward : int
        Width of the two-layer network of each block; 0 is 4 d_model.
    position : str
        ``learned`` (an embedding), ``sinusoidal`` (fixed), or ``none``.
    pool : str
        ``mean`` over the positions, or the ``last`` one.
    norm : str
        Layer norm ``pre`` (before attention and network, and at the end) or ``post`` (after each
        sum, as Vaswani et al. 2017).
    activation : str
        Of the two-layer networks.

    Raises
    ------
    InputError
        An option is out of range.
    """
    for name, value in (("d_model", d_model), ("layers", layers), ("heads", heads)):
        _COUNT(name, value)
    wide = Integer(0, 2**20, "pass 0 for 4 d_model")("feedforward", feedforward) or 4 * d_model
    if d_model % heads:
        what = f"d_model={d_model}, heads={heads}"
        raise InputError(what, "heads that divide d_model", "pass for example d_model=32,heads=4")
    Choice(POSITIONS, "pass position='learned'")("position", position)
    Choice(("mean", "last"), "pass pool='mean'")("pool", pool)
    Choice(("post", "pre"), "pass norm='post'")("norm", norm)
    act = activation_of(activation)
    pre = norm == "pre"
    blocks = (_Block(d_model, heads, wide, pre, act) for _ in range(layers))
    return _Transformer(n, d_model, blocks, position, pool, pre)


def lstm(n: int, width: int = 32, layers: int = 1, pool: str = "last") -> nn.Module:
    """A long short-term memory network that reads the bits one after the other.

    The pre-activation of a layer is W x_t + U s + b: W with the fan-in of what comes in (1 in the
    first layer), U with ``width``, and one bias.

    Parameters
    ----------
    n : int
        Number of bits.
    width, layers : int
        Size of the state, and number of layers.
    pool : str
        ``last`` state, or the ``mean`` of all.

    Raises
    ------
    InputError
        An option is out of range.
    """
    del n
    Choice(("last", "mean"), "pass pool='last'")("pool", pool)
    return _LSTM(_COUNT("width", width), _COUNT("layers", layers), pool)


def cnn(
    n: int,
    channels: Sequence[int] | int | str = (16, 16),
    window: int = 3,
    pool: str = "mean",
    activation: str = "relu",
) -> nn.Module:
    """A convolutional network over the bit string, closed to a circle (no edges).

    Parameters
    ----------
    n : int
        Length of the string.
    channels : sequence of int, int or text such as ``16x16``
        Channels of the layers.
    window : int
        Bits (positions) that a unit sees of the layer below, at most n.
    pool : str
        ``mean`` over the positions, their ``max``, or ``flat``: all of them.
    activation : str
        As for :func:`mlp`.

    Raises
    ------
    InputError
        An option is out of range.
    """
    sizes = [_COUNT("channels", size) for size in widths_of("channels", channels)]
    Integer(1, n, f"pass at most window={n}")("window", window)
    Choice(POOLS, "pass pool='mean'")("pool", pool)
    return _CNN(n, sizes, window, pool, activation_of(activation))


def cnn2d(
    n: int,
    channels: Sequence[int] | int | str = (16, 16),
    window: Sequence[int] | int | str = 3,
    shape: Sequence[int] | str = "",
    pool: str = "mean",
    activation: str = "relu",
) -> nn.Module:
    """A convolutional network over images of one channel, with zeros around them.

    The layers keep the size of the image (padding ``same`` of torch): of an even window, the larger
    part is below and to the right.

    Parameters
    ----------
    n : int
        Pixels of an image, row by row.
    channels : sequence of int, int or text such as ``16x16``
        Channels of the layers.
    window : int, pair of int or text such as ``3x5``
        Height and width of what a unit sees of the layer below; one number is both.
    shape : pair of int or text such as ``28x28``
        Height and width of an image; by default it is square.
    pool : str
        ``mean`` over the positions, their ``max``, or ``flat``: all of them.
    activation : str
        As for :func:`mlp`.

    Raises
    ------
    InputError
        An option is out of range, or n is no number of pixels of such an image.
    """
    sizes = [_COUNT("channels", size) for size in widths_of("channels", channels)]
    image, sides = image_shape(n, shape), window_sides(window)
    for side, limit in zip(sides, image, strict=True):
        Integer(1, limit, "pass a window that fits into the image")("window", side)
    Choice(POOLS, "pass pool='mean'")("pool", pool)
    return _CNN2d(image, sizes, sides, pool, activation_of(activation))


def image_shape(n: int, shape: Sequence[int] | str) -> tuple[int, int]:
    """(height, width) of an image of n pixels. Raises :class:`InputError`."""
    if not isinstance(shape, str) or shape:
        sides = [_COUNT("shape", side) for side in widths_of("shape", shape)]
    else:
        sides = [math.isqrt(n)] * 2
    if len(sides) != 2 or sides[0] * sides[1] != n:
        what = f"shape={shown(shape)} of inputs with {n} numbers"
        raise InputError(what, "height x width = that many pixels", "pass for example shape=28x28")
    return sides[0], sides[1]


def window_sides(window: Sequence[int] | int | str) -> tuple[int, int]:
    """(height, width) of a window, one number for both. Raises :class:`InputError`."""
    sides = [_COUNT("window", side) for side in widths_of("window", window)]
    if len(sides) > 2:
        what = f"window={shown(window)}"
        raise InputError(what, "its height and width", "pass for example window=3x3")
    return sides[0], sides[-1]


def activation_of(name: Any) -> Call:
    """An activation on tensors, by name or import path. Raises :class:`InputError`."""
    if not isinstance(name, str):
        what = f"activation={shown(name)}"
        raise InputError(what, f"one of {', '.join(ACTIVATIONS)}, or an import path", "name it")
    if name in ACTIVATIONS:
        return ACTIVATIONS[name].tensor
    if ":" not in name:
        raise unknown(f"activation={name!r}", name, ACTIVATIONS)
    return import_activation(name)


def widths_of(name: str, value: Any) -> list[Any]:
    """Widths from a sequence, one number, or a text such as 40x40."""
    parts = value.split("x") if isinstance(value, str) else value
    parts = list(parts) if isinstance(parts, Sequence) else [parts]
    if isinstance(value, str) and all(part.strip().isdigit() for part in parts):
        parts = [int(part) for part in parts]
    if not parts or any(isinstance(part, str) for part in parts):
        what = f"{name}={shown(value)}"
        raise InputError(
            what, "one positive whole number a layer", f"pass for example {name}=16x16"
        )
    return parts


class _MLP(nn.Module):
    """Hidden layers, then a linear one."""

    def __init__(
        self, n: int, widths: list[int], activation: Call, norm: str, residual: bool
    ) -> None:
        super().__init__()
        kinds: dict[str, Callable[[int], nn.Module]]
        kinds = {"none": lambda _: nn.Identity(), "layer": nn.LayerNorm, "rms": nn.RMSNorm}
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise((n, *widths)))
        self.norms = nn.ModuleList(kinds[norm](width) for width in widths)
        self.activation, self.residual = activation, residual
        self.adds = [False, *(residual and a == b for a, b in pairwise(widths))]
        self.head = nn.Linear(widths[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        h = x
        for layer, norm, adds in zip(self.hidden, self.norms, self.adds, strict=True):
            new = self.activation(norm(layer(h)))
            h = h + new if adds else new
        return self.head(h)


class _Block(nn.Module):
    """Attention and a two-layer network, each added to what it reads."""

    def __init__(self, width: int, heads: int, wide: int, pre: bool, activation: Call) -> None:
        super().__init__()
        self.heads, self.pre, self.activation = heads, pre, activation
        self.project = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, wide), nn.Linear(wide, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))

    def attend(self, h: Tensor) -> Tensor:
        m, length, width = h.shape
        parts = self.project(h).reshape(m, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        scores = query @ key.transpose(-1, -2) / math.sqrt(width // self.heads)
        mixed = scores.softmax(dim=-1) @ value
        return self.merge(mixed.transpose(1, 2).reshape(m, length, width))

    def network(self, h: Tensor) -> Tensor:
        return self.contract(self.activation(self.expand(h)))

    def forward(self, h: Tensor) -> Tensor:
        first, second = self.norms
        if self.pre:
            h = h + self.attend(first(h))
            return h + self.network(second(h))
        h = first(h + self.attend(h))
        return second(h + self.network(h))


class _Transformer(nn.Module):
    """Tokens and positions, blocks, pooling, and a linear layer."""

    def __init__(
        self, n: int, width: int, blocks: Iterable[_Block], position: str, pool: str, pre: bool
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(2, width)
        self.places = nn.Embedding(n, width) if position == "learned" else None
        fixed = _waves(n, width) if position == "sinusoidal" else None
        self.register_buffer("waves", fixed, persistent=False)
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(width) if pre else nn.Identity()
        self.pool = pool
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.tokens((x > 0).long())
        if self.places is not None:
            h = h + self.places.weight
        if self.waves is not None:
            h = h + self.waves
        for block in self.blocks:
            h = block(h)
        h = self.norm(h)
        return self.head(h.mean(dim=1) if self.pool == "mean" else h[:, -1])


def _waves(n: int, width: int) -> Tensor:
    """Sines and cosines of the position (Vaswani et al. 2017, section 3.5): (n, width)."""
    place = torch.arange(n, dtype=torch.float32)[:, None]
    column = torch.arange(width)
    angle = place / 10000.0 ** ((column - column % 2) / width)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos())


class _LSTM(nn.Module):
    """Gates from the input and the state, layer by layer, and a linear layer."""

    def __init__(self, width: int, layers: int, pool: str) -> None:
        super().__init__()
        fans = [1, *[width] * (layers - 1)]
        self.inputs = nn.ModuleList(nn.Linear(fan, 4 * width) for fan in fans)
        self.states = nn.ModuleList(nn.Linear(width, 4 * width, bias=False) for _ in fans)
        self.pool = pool
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        steps = list(x.unsqueeze(-1).unbind(dim=1))
        for read, recur in zip(self.inputs, self.states, strict=True):
            steps = self.layer(steps, read, recur)
        return self.head(steps[-1] if self.pool == "last" else torch.stack(steps).mean(dim=0))

    @staticmethod
    def layer(steps: list[Tensor], read: nn.Module, recur: nn.Module) -> list[Tensor]:
        states: list[Tensor] = []
        memory: Tensor | None = None
        for step in steps:
            gates = read(step) + recur(states[-1]) if states else read(step)
            enter, forget, new, leave = gates.chunk(4, dim=-1)
            added = enter.sigmoid() * new.tanh()
            memory = added if memory is None else forget.sigmoid() * memory + added
            states.append(leave.sigmoid() * memory.tanh())
        return states


class _CNN(nn.Module):
    """Convolutions on a circle as products of windows with weights, pooling, a linear layer."""

    def __init__(self, n: int, sizes: list[int], window: int, pool: str, activation: Call) -> None:
        super().__init__()
        self.window, self.pool, self.activation = window, pool, activation
        fans = pairwise((1, *sizes))
        self.layers = nn.ModuleList(nn.Linear(a * window, b) for a, b in fans)
        self.head = nn.Linear(sizes[-1] * (n if pool == "flat" else 1), 1)

    def forward(self, x: Tensor) -> Tensor:
        h = x.unsqueeze(-1)  # (m, n, channels)
        for layer in self.layers:
            shifted = [h.roll(-shift, dims=1) for shift in range(self.window)]
            h = self.activation(layer(torch.cat(shifted, dim=-1)))
        return self.head(_pooled(h, self.pool))


class _CNN2d(nn.Module):
    """The same on images with zeros around them."""

    def __init__(
        self,
        shape: tuple[int, int],
        sizes: list[int],
        window: tuple[int, int],
        pool: str,
        activation: Call,
    ) -> None:
        super().__init__()
        self.shape, self.window, self.pool, self.activation = shape, window, pool, activation
        fans = pairwise((1, *sizes))
        self.layers = nn.ModuleList(nn.Linear(a * math.prod(window), b) for a, b in fans)
        self.head = nn.Linear(sizes[-1] * (math.prod(shape) if pool == "flat" else 1), 1)

    def forward(self, x: Tensor) -> Tensor:
        (height, width), (tall, wide) = self.shape, self.window
        up, left = (tall - 1) // 2, (wide - 1) // 2
        h = x.reshape(-1, height, width, 1)  # (m, height, width, channels)
        for layer in self.layers:
            around = (0, 0, left, wide - 1 - left, up, tall - 1 - up)
            padded = nn.functional.pad(h, around)
            shifted = [
                padded[:, i : i + height, j : j + width] for i in range(tall) for j in range(wide)
            ]
            h = self.activation(layer(torch.cat(shifted, dim=-1)))
        return self.head(_pooled(h.flatten(1, 2), self.pool))


def _pooled(h: Tensor, pool: str) -> Tensor:
    """(m, k) features from those of all positions, (m, positions, channels)."""
    if pool == "flat":
        return h.flatten(start_dim=1)
    return h.mean(dim=1) if pool == "mean" else h.amax(dim=1)
