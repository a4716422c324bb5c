"""Parameters of networks: one flat layout, and one forward pass in torch.

The flat layout of a network is a vector of p numbers: layer by layer the weights (fan_in, width)
row by row, then the biases (width,). Scales are included: z = h @ weights + biases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.network.spec import Network

if TYPE_CHECKING:
    from torch import Tensor

Shapes = list[tuple[int, int]]
"""(fan_in, width) of every layer."""


@dataclass(frozen=True)
class Parameters:
    """``weights[l]`` (fan_in, width) and ``biases[l]`` (width,) of one network, float32.

    The last layer has one column a head.
    """

    weights: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]

    @classmethod
    def from_flat(cls, flat: np.ndarray, network: Network) -> Parameters:
        """Inverse of :meth:`flat`, for a network with one output."""
        layers = flat_layers(flat[None], shapes_of(network))
        return cls(tuple(w[0] for w, _ in layers), tuple(b[0, 0] for _, b in layers))

    def flat(self) -> np.ndarray:
        """(p,) all parameters in the flat layout."""
        pairs = zip(self.weights, self.biases, strict=True)
        return np.concatenate([part.ravel() for pair in pairs for part in pair])


def shapes_of(network: Network, heads: int = 1) -> Shapes:
    """(fan_in, width) of every affine layer."""
    return list(zip(network.fan_ins, (*network.hidden, heads), strict=True))


def flat_size(shapes: Shapes) -> int:
    """Number p of parameters."""
    return sum((fan_in + 1) * width for fan_in, width in shapes)


def flat_layers(P: Any, shapes: Shapes) -> list[tuple[Any, Any]]:
    """Views (N, fan_in, width) and (N, 1, width) of every layer; ``P`` is an (N, p) array or tensor
    whose rows are in the flat layout."""
    at, out = 0, []
    for fan_in, width in shapes:
        middle, end = at + fan_in * width, at + (fan_in + 1) * width
        out.append((P[:, at:middle].reshape(len(P), fan_in, width), P[:, None, middle:end]))
        at = end
    return out


def plain_affine(b: Tensor, h: Tensor, w: Tensor) -> Tensor:
    """h @ w + b for tensors that broadcast."""
    return h @ w + b


def forward(
    x: Tensor,
    layers: Sequence[tuple[Tensor, Tensor]],
    activation: Callable[[Tensor], Tensor],
    affine: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
    inspect: Callable[[Tensor, int], None] | None = None,
) -> Tensor:
    """Outputs (..., m, heads) of networks on inputs (..., m, d), from their (W, b) layer by layer.

    ``affine`` is (b, h, W) -> b + h W, by default ``torch.baddbmm`` (three dimensions each).
    ``inspect`` is shown the activations of every hidden layer (1, 2, ...), and at last the outputs.
    """
    import torch

    product = torch.baddbmm if affine is None else affine
    h = x
    for number, (w, b) in enumerate(layers, start=1):
        z = product(b, h, w)
        h = activation(z) if number < len(layers) else z
        if inspect is not None:
            inspect(h, number)
    return h
