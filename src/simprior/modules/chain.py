"""Is a module a chain: linear layers, and between them functions of single units?

Norms of paths and products of norms of layers are defined for chains only. That a module is one is
not read off its code, but tested on some inputs and parameters. Each linear layer's output is cut
off from what came before it. What the next layer reads must then depend on this output alone (no
residual connections), and each of its units on one unit (no normalisation over units).
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from simprior.modules.build import Built, evaluation, some_parameters

_INPUTS = 4
_SAME = 1e-4  # of the largest derivative, in float32


class Link(NamedTuple):
    """Names of the weights and biases (None: no biases) of a linear layer."""

    weight: str
    bias: str | None


class _Step(NamedTuple):
    """A linear layer by its name, what it read, and its output, cut off from what came before."""

    name: str
    layer: nn.Linear
    read: Tensor
    output: Tensor


def chain_of(built: Built, inputs: Tensor) -> tuple[Link, ...] | None:
    """The linear layers in their order; None if the module is no chain of them on ``inputs``."""
    x = inputs[:_INPUTS].float()
    with evaluation(), torch.enable_grad():
        steps, z = _steps(built, x)
        if not steps:
            return None
        links = [_link(step) for step in steps]
        names = [name for link in links for name in link if name is not None]
        if sorted(names) != sorted(t.name for t in built.tensors):
            return None
        ends = steps[-1].output.flatten(), z.flatten()
        if steps[0].read.shape != x.shape or not torch.equal(*ends):
            return None
        cuts = [step.output for step in steps]
        good = all(_unitwise(cuts, i, steps[i + 1].read) for i in range(len(steps) - 1))
    return tuple(links) if good else None


def _steps(built: Built, x: Tensor) -> tuple[list[_Step], Tensor]:
    """The calls of linear layers, in their order, and the output of the module."""
    steps: list[_Step] = []
    module = copy.deepcopy(built.skeleton).float()
    names = {part: name for name, part in module.named_modules()}

    def cut(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
        assert isinstance(layer, nn.Linear)
        leaf = output.detach().requires_grad_()
        steps.append(_Step(names[layer], layer, given[0], leaf))
        return leaf

    for part in names:
        if isinstance(part, nn.Linear):
            part.register_forward_hook(cut)
    parameters = {name: t[1] for name, t in some_parameters(built.tensors, 2).items()}
    return steps, functional_call(module, parameters, (x,))


def _link(step: _Step) -> Link:
    prefix = f"{step.name}." if step.name else ""
    return Link(f"{prefix}weight", None if step.layer.bias is None else f"{prefix}bias")


def _unitwise(cuts: list[Tensor], number: int, read: Tensor) -> bool:
    """Whether unit j of ``read`` depends on unit j of cut ``number`` only."""
    if read.shape != cuts[number].shape or not read.requires_grad:
        return False
    others = [cut for i, cut in enumerate(cuts) if i != number]
    weights = torch.linspace(1.0, 2.0, read.numel()).reshape(read.shape)
    found = torch.autograd.grad(
        (read * weights).sum(), [cuts[number], *others], retain_graph=True, allow_unused=True
    )
    if found[0] is None or any(part is not None for part in found[1:]):
        return False
    (plain,) = torch.autograd.grad(read.sum(), cuts[number], retain_graph=True)
    gap = (found[0] - weights * plain).abs().max()
    return bool(gap <= _SAME * found[0].abs().max())
