"""Batched passes through N networks of one architecture: outputs, gradients, curvature products.

Parameters are the rows of an (N, P) tensor in the flat layout of :mod:`simprior.parameters`. Inputs
are (k, d), the same for all networks. Derivatives are written out in place of autograd:
back-propagation, and Pearlmutter's R-operator (Neural Computation 1994). What depends on the point
alone is kept in a :class:`Point`, so that each further Hessian product costs six matrix products a
layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from simprior.activations import has_gradient
from simprior.callables import differentiable, tensor_derivatives
from simprior.errors import InputError
from simprior.network import Network
from simprior.parameters import flat_layers, flat_size, forward, shapes_of
from simprior.training.losses import LOSSES

Tensor = torch.Tensor
Layer = tuple[Tensor, Tensor]
NEED = "the measures of trained weights"


@dataclass(frozen=True, eq=False)
class Point:
    """What a pass leaves for derivatives; lists run over affine layers 0..depth.

    ``layers``: (W, b); ``inputs``: the (N, k, fan_in) inputs h of each layer; ``first``,
    ``second``: phi', phi'' of the hidden layers (None: zero); ``deltas``: (N, k, width) dz/du of
    every layer; ``behind``: dz/dh of the hidden layers; ``z``, ``slope``, ``bend``: (N, k) output
    and the loss' two derivatives there.
    """

    layers: list[Layer]
    inputs: list[Tensor]
    first: list[Tensor]
    second: list[Tensor | None]
    deltas: list[Tensor]
    behind: list[Tensor]
    z: Tensor
    slope: Tensor
    bend: Tensor


class Passes:
    """The passes of one architecture."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.shapes = shapes_of(network)
        self.size = flat_size(self.shapes)
        self.activation = differentiable(network, NEED)

    @property
    def units(self) -> int:
        """Units of all layers together: numbers kept an example and network."""
        return sum(k for _, k in self.shapes)

    def derivatives(self) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor | None]]:
        """(u, phi(u)) -> (phi'(u), phi''(u) or None), at a kink as torch's autograd has it.

        Raises :class:`InputError` for ``step``, which has no useful gradient.
        """
        if not has_gradient(self.network):
            raise InputError(
                f"activation={self.network.activation_name!r}",
                "an activation with a gradient",
                "leave out measures that need gradients (sharpness, hessian, fisher, relative)",
            )
        return tensor_derivatives(self.network, NEED)

    def layers(self, P: Tensor) -> list[Layer]:
        """Views (N, fan_in, width) and (N, 1, width) of every layer."""
        return flat_layers(P, self.shapes)

    def outputs(self, P: Tensor, X: Tensor) -> Tensor:
        """(N, m) outputs z of the inputs (m, d)."""
        return forward(X.expand(len(P), -1, -1), self.layers(P), self.activation)[:, :, 0]

    def point(self, P: Tensor, X: Tensor, y: Tensor, loss: str) -> Point:
        """Forward and backward pass at P; ``y`` is (k,) or (N, k)."""
        derive = self.derivatives()
        layers, inputs = self.layers(P), [X.expand(len(P), -1, -1)]
        first: list[Tensor] = []
        second: list[Tensor | None] = []
        for w, b in layers[:-1]:
            u = torch.baddbmm(b, inputs[-1], w)
            h = self.activation(u)
            d1, d2 = derive(u, h)
            inputs.append(h)
            first.append(d1)
            second.append(d2)
        z = torch.baddbmm(layers[-1][1], inputs[-1], layers[-1][0])[:, :, 0]
        deltas: list[Tensor] = [torch.ones_like(z).unsqueeze(2)]
        behind: list[Tensor] = []
        for i in range(len(layers) - 1, 0, -1):
            w = layers[i][0]
            e = w.mT.expand(-1, len(X), -1) if i == len(layers) - 1 else torch.bmm(deltas[0], w.mT)
            behind.insert(0, e)
            deltas.insert(0, first[i - 1] * e)
        slope, bend = LOSSES[loss].derivatives(z, y)
        return Point(layers, inputs, first, second, deltas, behind, z, slope, bend)

    def gradient(self, p: Point) -> Tensor:
        """(N, P) gradients of the mean loss at a point."""
        scale = (p.slope / p.z.shape[1]).unsqueeze(2)
        out = torch.empty(len(p.z), self.size, dtype=p.z.dtype, device=p.z.device)
        for (w, b), h, delta in zip(self.layers(out), p.inputs, p.deltas, strict=True):
            scaled = delta * scale
            w.copy_(torch.bmm(h.mT, scaled))
            b.copy_(scaled.sum(1, keepdim=True))
        return out

    def tangent(self, p: Point, V: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Directional derivatives along V (N, P): of z (N, k), of each u, of each layer's input."""
        dots: list[Tensor] = []
        inputs: list[Tensor] = []
        h_dot: Tensor | None = None
        for i, ((w, _), (v, c)) in enumerate(zip(p.layers, self.layers(V), strict=True)):
            u_dot = torch.baddbmm(c, p.inputs[i], v)
            if h_dot is not None:
                inputs.append(h_dot)
                u_dot = torch.baddbmm(u_dot, h_dot, w)
            dots.append(u_dot)
            if i < len(p.first):
                h_dot = p.first[i] * u_dot
        return dots[-1][:, :, 0], dots, inputs

    def hvp(self, p: Point, V: Tensor) -> Tensor:
        """(N, P) products of each network's Hessian of the mean loss with its row of V."""
        k = p.z.shape[1]
        z_dot, u_dots, h_dots = self.tangent(p, V)
        scale = (p.slope / k).unsqueeze(2)
        delta_dot = (p.bend * z_dot / k).unsqueeze(2)
        out = torch.empty_like(V)
        pieces, directions = self.layers(out), self.layers(V)
        for i in range(len(p.layers) - 1, -1, -1):
            w, b = pieces[i]
            product = torch.bmm(p.inputs[i].mT, delta_dot)
            if i:
                product = torch.baddbmm(product, h_dots[i - 1].mT, p.deltas[i] * scale)
            w.copy_(product)
            b.copy_(delta_dot.sum(1, keepdim=True))
            if i:
                delta_dot = self._back(p, i, delta_dot, scale, directions[i][0], u_dots[i - 1])
        return out

    def _back(
        self, p: Point, i: int, delta_dot: Tensor, scale: Tensor, V: Tensor, u_dot: Tensor
    ) -> Tensor:
        """Derivative of dL/du of hidden layer i - 1 along the direction."""
        e_dot = torch.bmm(delta_dot, p.layers[i][0].mT)
        e_dot = torch.baddbmm(e_dot, p.deltas[i] * scale, V.mT)
        out = p.first[i - 1] * e_dot
        bend = p.second[i - 1]
        if bend is not None:
            out += bend * u_dot * (p.behind[i - 1] * scale)
        return out
