"""The passes of a torch module, for N networks at once, by automatic differentiation.

They answer what :class:`simprior.analysis.flatness.ensemble.Passes` answers for fully connected
networks. Derivatives are reverse-mode throughout: a product with the Hessian differentiates the
gradient once more, and a directional derivative of the outputs differentiates, in u, the product
J'u, which is linear in u. At kinks they are what torch says they are.

The rows of an (N, p) tensor are the tensors of the module one after the other, matrices (width,
fan_in) as their transposes. So the parameters of an ``mlp`` are laid out as those of the
:class:`simprior.Network` with the same law, and both are measured along the same random directions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from simprior.errors import InputError
from simprior.modules.build import evaluation, users_code
from simprior.modules.chain import Link, chain_of
from simprior.modules.flat import Layout
from simprior.modules.gradients import trainable
from simprior.modules.laws import tensors_of
from simprior.modules.spec import Module
from simprior.network.losses import LOSSES

Layer = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class ModulePoint:
    """N networks at their parameters, ready for derivatives.

    ``leaf`` (N, p) are the parameters and ``graph`` (N, k) the outputs, with their history; ``z``
    and ``slope`` (N, k) are the outputs and the derivative of the loss there; ``y`` the labels
    (1 or N, k).
    """

    leaf: Tensor
    graph: Tensor
    y: Tensor
    loss: str

    @property
    def z(self) -> Tensor:
        """Outputs."""
        return self.graph.detach()

    @cached_property
    def slope(self) -> Tensor:
        """Derivative of the loss at each output."""
        return LOSSES[self.loss].derivatives(self.z, self.y)[0].expand_as(self.z)

    @cached_property
    def pulled(self) -> tuple[Tensor, Tensor]:
        """(u, J'u): the gradient of u.z in the parameters, with its history in both."""
        with torch.enable_grad():
            u = torch.zeros_like(self.z).requires_grad_()
            return u, _gradient(self.graph, self.leaf, u, create_graph=True)

    @cached_property
    def gradient_graph(self) -> Tensor:
        """(N, p) gradients of the mean loss, with their history."""
        with torch.enable_grad():
            values = LOSSES[self.loss].derivatives(self.graph, self.y)[0] / self.graph.shape[1]
            weights = values.expand_as(self.graph)
            return _gradient(self.graph, self.leaf, weights, create_graph=True)


def _gradient(of: Tensor, leaf: Tensor, weights: Tensor, create_graph: bool = False) -> Tensor:
    """d(of . weights)/d(leaf); 0 where ``of`` does not depend on it."""
    if not of.requires_grad:
        return torch.zeros_like(leaf)
    options = {"create_graph": create_graph, "retain_graph": True, "allow_unused": True}
    (found,) = torch.autograd.grad(of, leaf, weights, **options)
    return torch.zeros_like(leaf) if found is None else found


class ModulePasses:
    """The passes of one module (``AnyPasses`` of :mod:`.ensemble`)."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.layout = Layout(module.tensors(), transposed=True)
        self._built = module.built

    @property
    def size(self) -> int:
        """Number p of parameters."""
        return self.layout.size

    @property
    def units(self) -> int:
        """Numbers kept an example and network."""
        cost = self._built.cost
        return max(1, round(cost.elements / cost.inputs))

    @cached_property
    def chain(self) -> tuple[Link, ...] | None:
        """The layers, if the module is nothing but linear layers with activations between."""
        return chain_of(self._built, torch.from_numpy(self.module.input_matrix()))

    def arranged(self, P: Tensor) -> Tensor:
        """Rows of the layout of trained members as rows of this one."""
        return self.layout.flat(Layout(self.layout.tensors).stacked(P))

    def layers(self, P: Tensor) -> list[Layer] | None:
        """Views (N, fan_in, width) and (N, 1, width) of every layer of a :attr:`chain`, else None;
        a layer without biases has zeros."""
        if self.chain is None:
            return None
        parts = self.layout.stacked(P)
        found = []
        for weight, bias in self.chain:
            w = parts[weight].mT
            b = w.new_zeros(len(w), w.shape[2]) if bias is None else parts[bias]
            found.append((w, b.unsqueeze(1)))
        return found

    def weights(self, P: Tensor) -> list[Tensor]:
        """(N, ...) every tensor of weights or embeddings: no biases, no gains, no shifts."""
        parts = self.layout.stacked(P)
        return [parts[name] for name in self._weight_names]

    @cached_property
    def _weight_names(self) -> list[str]:
        """By the laws that simprior would give; where it knows none, by the number of axes."""
        try:
            laws = tensors_of(self._built.skeleton, 1.0, 1.0, self.module.laws or {}, False)
        except InputError:
            return [t.name for t in self._built.tensors if len(t.shape) > 1]
        return [t.name for t in laws if t.law in ("weight", "embedding")]

    def outputs(self, P: Tensor, X: Tensor) -> Tensor:
        """(N, m) outputs z of the inputs (m, d), or of each network's own (N, m, d)."""
        with evaluation(), users_code(self.module.make_name, X):
            return self._built.apply(self.layout.stacked(P), X)

    outputs_on = outputs

    @contextmanager
    def _differentiating(self, X: Tensor) -> Iterator[None]:
        with evaluation(), users_code(self.module.make_name, X), torch.enable_grad():
            yield

    @cached_property
    def _smooth(self) -> Callable[..., Tensor]:
        """``apply`` of what gradients pass through. Raises :class:`InputError`."""
        inputs = self.module.input_matrix()
        return trainable(self._built, self.module.make_name, inputs).apply

    def point(self, P: Tensor, X: Tensor, y: Tensor, loss: str) -> ModulePoint:
        """Forward pass at P; ``y`` is (k,) or (N, k). Raises :class:`InputError`."""
        apply = self._smooth
        with self._differentiating(X):
            leaf = P.detach().requires_grad_()
            return ModulePoint(leaf, apply(self.layout.stacked(leaf), X), y, loss)

    def take(self, p: ModulePoint, rows: Tensor, X: Tensor) -> ModulePoint:
        """The point of some of its networks, made anew."""
        y = p.y[rows] if p.y.ndim == 2 and len(p.y) == len(p.leaf) else p.y
        return self.point(p.leaf.detach()[rows], X, y, p.loss)

    def gradient(self, p: ModulePoint) -> Tensor:
        """(N, p) gradients of the mean loss at a point."""
        return _gradient(p.graph, p.leaf, p.slope / p.z.shape[1]).detach()

    def tangent(self, p: ModulePoint, V: Tensor) -> Tensor:
        """(N, k) directional derivatives of z along V (N, p)."""
        u, pulled = p.pulled
        return _gradient(pulled, u, V).detach()

    def hvp(self, p: ModulePoint, V: Tensor) -> Tensor:
        """(N, p) products of each network's Hessian of the mean loss with its row of V."""
        return _gradient(p.gradient_graph, p.leaf, V).detach()

    def trace(self, p: ModulePoint) -> Tensor:
        """(N,) traces of the Hessians, a product with it for each parameter."""
        total = p.z.new_zeros(len(p.z))
        for i in range(self.size):
            unit = torch.zeros_like(p.leaf)
            unit[:, i] = 1.0
            total += self.hvp(p, unit)[:, i]
        return total

    def input_slopes(self, P: Tensor, x: Tensor) -> Tensor:
        """(N, m, d) gradients of the outputs in the inputs x (N, m, d).

        Raises :class:`InputError` where there are none: of tokens.
        """
        apply = self._smooth
        with self._differentiating(x):
            leaf = x.detach().requires_grad_()
            z = apply(self.layout.stacked(P.detach()), leaf)
        if not z.requires_grad:
            raise InputError(
                f"box_csr of make={self.module.make_name}",
                "a module whose output has a gradient in its inputs (it reads tokens)",
                "leave the group sensitivity out",
            )
        return _gradient(z, leaf, torch.ones_like(z)).detach()
