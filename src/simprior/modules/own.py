"""What a module's own initialiser draws, as laws that many networks can be drawn from at once.

The layers of torch have known initialisers. Whether a module uses them as they are is not guessed:
the module is made under a seed, then its layers are reset one after the other under the same seed,
and both must agree bit for bit. If they do not (a factory that draws its own weights, copies
layers, or makes them in another order) the parameters are taken from new modules, one by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import cast

import torch
from torch import Tensor, nn

from simprior.modules.architecture import ParameterTensor
from simprior.modules.laws import parameters_of

_NORM = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase)
_SEEDS = (1, 2)


def own_tensors(make: Callable[[], nn.Module]) -> tuple[ParameterTensor, ...]:
    """Name, shape and law ``own`` of every parameter, as ``make`` draws it.

    All deviations are None if the law is not one of torch's known initialisers, used as they are.
    The caller keeps torch's random state (:func:`simprior.modules.build.evaluation`).
    """
    module = make()
    found = [
        _tensor(name, tensor, owner, _within_attention(module, name))
        for name, tensor, owner in parameters_of(module)
    ]
    if all(t.deviation is not None for t in found) and all(_replays(make, s) for s in _SEEDS):
        return tuple(found)
    return tuple(ParameterTensor(t.name, t.shape, "own", 0.0, None) for t in found)


def seeded(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A module made under a seed of torch's generator of the CPU."""
    torch.random.default_generator.manual_seed(seed)
    return make()


def _replays(make: Callable[[], nn.Module], seed: int) -> bool:
    """Whether resetting the layers one by one gives the numbers that ``make`` gave."""
    module = seeded(make, seed)
    made = [tensor.clone() for _, tensor, _ in parameters_of(module)]
    torch.random.default_generator.manual_seed(seed)
    with torch.no_grad():
        for reset in _resets(module):
            reset()
    again = [tensor for _, tensor, _ in parameters_of(module)]
    return all(torch.equal(a, b) for a, b in zip(made, again, strict=True))


def _resets(module: nn.Module) -> Iterator[Callable[[], object]]:
    """The initialisers of the layers, in the order in which layers are usually made."""
    inside: set[int] = set()
    for part in module.modules():
        if id(part) in inside:
            continue
        if isinstance(part, nn.MultiheadAttention):
            inside.add(id(part.out_proj))
            yield part.out_proj.reset_parameters
            yield part._reset_parameters
        elif hasattr(part, "reset_parameters"):
            yield cast(Callable[[], object], part.reset_parameters)


def _within_attention(module: nn.Module, name: str) -> bool:
    """Whether a parameter belongs to the output projection of an attention layer."""
    parent = name.rpartition(".")[0].rpartition(".")[0]
    return name.rpartition(".")[0].endswith("out_proj") and isinstance(
        module.get_submodule(parent), nn.MultiheadAttention
    )


def _tensor(name: str, tensor: Tensor, owner: nn.Module, attention: bool) -> ParameterTensor:
    """A parameter with the law of its layer's initialiser; deviation None if that is not known."""
    short, shape = name.rpartition(".")[2], tuple(tensor.shape)
    fan = math.prod(shape[1:]) if len(shape) > 1 else 1
    centre, bound, deviation = 0.0, 0.0, None
    if isinstance(owner, _NORM):
        centre = 1.0 if short == "weight" else 0.0
    elif isinstance(owner, nn.Linear | nn.modules.conv._ConvNd):
        constant = attention and short == "bias"
        bound = 0.0 if constant else 1.0 / math.sqrt(math.prod(owner.weight.shape[1:]))
    elif isinstance(owner, nn.RNNBase | nn.RNNCellBase):
        bound = 1.0 / math.sqrt(owner.hidden_size)
    elif isinstance(owner, nn.MultiheadAttention) and short.startswith("in_proj"):
        bound = math.sqrt(6.0 / (fan + shape[0])) if short == "in_proj_weight" else 0.0
    elif isinstance(owner, nn.Embedding) and owner.padding_idx is None:
        deviation = 1.0
    else:
        return ParameterTensor(name, shape, "own", 0.0, None)
    deviation = bound / math.sqrt(3.0) if deviation is None else deviation
    return ParameterTensor(name, shape, "own", centre, deviation, bound > 0)
