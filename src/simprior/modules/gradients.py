"""Whether a torch module can be trained, and whether many of its networks can be at once.

That a module can be evaluated for many networks (:mod:`simprior.modules.build`) does not say that
gradients pass through it. So they are taken once, by ``torch.func.vmap`` and one network after the
other, on a few inputs.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from simprior.errors import InputError
from simprior.modules.build import Built, evaluation, some_parameters, users_code
from simprior.modules.flat import Layout

_LOG = logging.getLogger("simprior")
_INPUTS = 8
_SAME = 1e-3  # of the largest entry of a gradient in float32


def trainable(built: Built, name: str, inputs: np.ndarray) -> Built:
    """``built``, stacked only if gradients of many networks at once are those of each.

    ``name`` is what messages call the module, ``inputs`` (m, d) are those that it is used on.

    Raises
    ------
    InputError
        No gradient reaches its parameters: all those before its last linear layer, if it has one.
    """
    x = torch.from_numpy(inputs[:_INPUTS]).to(torch.float32)
    single = replace(built, stacked=False)
    with evaluation(), users_code(name, x):
        alone = _gradients(single, x)
    _check_reached(built, alone, name)
    if not built.stacked:
        return built
    try:
        with evaluation():
            together = _gradients(built, x)
    except Exception as error:  # whatever a user's module does that vmap cannot follow backwards
        return _one_by_one(single, name, " ".join(str(error).split())[:120])
    scale = float(alone.abs().max()) or 1.0
    if not bool((together - alone).abs().max() <= _SAME * scale):
        return _one_by_one(single, name, "other gradients")
    return built


def _one_by_one(single: Built, name: str, reason: str) -> Built:
    _LOG.info("%s is trained one network at a time, slowly (vmap: %s)", name, reason)
    return single


def _gradients(built: Built, x: Tensor) -> Tensor:
    """(2, p) gradients of the sum of outputs on ``x`` of two networks; 0 where none arrives."""
    layout = Layout(built.tensors)
    P = layout.flat(some_parameters(built.tensors, 2)).requires_grad_()
    with torch.enable_grad():
        z = built.apply(layout.stacked(P), x)
        total = (z * torch.linspace(1.0, 2.0, z.shape[1])).sum()
        if not total.requires_grad:
            return torch.zeros_like(P)
        (found,) = torch.autograd.grad(total, P, allow_unused=True)
    return torch.zeros_like(P) if found is None else found.detach()


def _check_reached(built: Built, gradients: Tensor, name: str) -> None:
    parts = Layout(built.tensors).stacked(gradients)
    own = () if built.last is None else (built.last.weight, built.last.bias)
    hidden = {key: part for key, part in parts.items() if key not in own}
    if not any(bool(part.any()) for part in (hidden or parts).values()):
        where = "the parameters" if not hidden or built.last is None else "the hidden layers"
        raise InputError(
            f"make={name}, where no gradient reaches {where}",
            "a module whose output has a gradient in its parameters",
            "take out detach() and activations that are constant in pieces, or do not train it",
        )
