"""The law of every parameter of a torch module, by simprior's conventions (``docs/notation.md``).

* Weights that are multiplied with what comes in: N(0, sigma_w^2 / fan_in). The fan-in of a linear
  layer or attention projection is its number of inputs; of a convolution, channels times window;
  of a recurrent layer, that of the inputs and that of the state, each for its own matrix.
* Biases: N(0, sigma_b^2), in every layer; a recurrent layer of torch has two of them.
* Embeddings (tables that a token or a position looks up a row of): N(0, sigma_w^2).
* Gains of normalisations are 1, their shifts 0; slopes of PReLU are what the module set.

A parameter that belongs to a user's own class has the law that ``laws`` gives it. Else its name
decides: ``bias`` in it is a bias, ``weight`` with two or more axes is a weight whose fan-in is that
of a linear layer or convolution, ``embed`` or ``pos`` is an embedding. Anything else is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import Tensor, nn

from simprior.checks import Choice
from simprior.errors import InputError
from simprior.modules.architecture import ParameterTensor

LAWS = ("weight", "bias", "embedding", "one", "zero", "constant")
"""What ``laws`` may say of a parameter; ``constant`` keeps the value that the module set."""
_LINEAR = (nn.Linear, nn.modules.conv._ConvNd, nn.Bilinear)
_KNOWN = (*_LINEAR, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
_NORM = (
    nn.LayerNorm,
    nn.RMSNorm,
    nn.GroupNorm,
    nn.modules.batchnorm._NormBase,
)


def tensors_of(
    module: nn.Module, sigma_w: float, sigma_b: float, laws: Mapping[str, str], uniform: bool
) -> tuple[ParameterTensor, ...]:
    """Name, shape and law of every parameter; shared ones once, under their first name.

    ``uniform``: not normal, but from the interval with the same variance.

    Raises
    ------
    InputError
        A parameter's law is not known, or a name in ``laws`` fits no parameter.
    """
    _check_names(module, laws)
    found = []
    for name, tensor, owner in parameters_of(module):
        law, fan_in = _law(name, tensor, owner, laws)
        shape = tuple(tensor.shape)
        centre, deviation = 0.0, 0.0
        if law in ("weight", "embedding"):
            deviation = sigma_w / math.sqrt(fan_in)
        elif law == "bias":
            deviation = sigma_b
        else:
            centre = _constant(name, tensor) if law == "constant" else float(law == "one")
            law = "constant"
        found.append(ParameterTensor(name, shape, law, centre, deviation, uniform))
    return tuple(found)


def parameters_of(module: nn.Module) -> Iterator[tuple[str, Tensor, nn.Module]]:
    """(name, tensor, the submodule that has it) of every parameter, shared ones once."""
    seen: set[int] = set()
    for prefix, owner in module.named_modules():
        for short, tensor in owner.named_parameters(recurse=False):
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield (f"{prefix}.{short}" if prefix else short), tensor, owner


def _check_names(module: nn.Module, laws: Mapping[str, str]) -> None:
    names = [name for name, _ in module.named_parameters()]
    for pattern, law in laws.items():
        Choice(LAWS)(f"laws[{pattern!r}]", law)
        if not any(fnmatchcase(name, pattern) for name in names):
            what = f"laws[{pattern!r}]"
            listed = ", ".join(names) or "none"
            raise InputError(what, f"the name of a parameter ({listed})", "check the spelling")


def _law(name: str, tensor: Tensor, owner: nn.Module, laws: Mapping[str, str]) -> tuple[str, float]:
    """Law of a parameter, and the fan-in where it is a weight (1 elsewhere)."""
    given = next((law for pattern, law in laws.items() if fnmatchcase(name, pattern)), None)
    if given is not None:
        return given, _fan_in(tensor, owner) if given == "weight" else 1.0
    short = name.rpartition(".")[2]
    if isinstance(owner, _NORM):
        return ("one" if short == "weight" else "zero"), 1.0
    if isinstance(owner, nn.PReLU):
        return "constant", 1.0
    if isinstance(owner, nn.Embedding | nn.EmbeddingBag):
        return "embedding", 1.0
    if "bias" in short:
        return "bias", 1.0
    if tensor.ndim >= 2 and (isinstance(owner, _KNOWN) or "weight" in short):
        return "weight", _fan_in(tensor, owner)
    if "embed" in short or "pos" in short:
        return "embedding", 1.0
    raise InputError(
        f"parameter {name!r} of shape {tuple(tensor.shape)}",
        "a parameter whose law its layer or its name tells",
        f"pass laws={{{name!r}: 'weight'}} (or bias, embedding, one, zero, constant)",
    )


def weights_of_own_classes(
    module: nn.Module, tensors: Sequence[ParameterTensor]
) -> Iterator[tuple[str, tuple[int, ...], int]]:
    """Name, shape and fan-in of the weights among ``tensors`` that no layer of torch's has.

    Their fan-in is taken from the order of their axes: x @ W with W (in, out) has another.
    """
    owners = {name: (tensor, owner) for name, tensor, owner in parameters_of(module)}
    for one in tensors:
        tensor, owner = owners[one.name]
        if one.law == "weight" and not isinstance(owner, _KNOWN):
            yield one.name, one.shape, int(_fan_in(tensor, owner))


def _fan_in(tensor: Tensor, owner: nn.Module) -> float:
    """How many products are added up for one output of a weight tensor."""
    if isinstance(owner, nn.modules.conv._ConvTransposeNd):
        return tensor.numel() / tensor.shape[1] / owner.groups
    return math.prod(tensor.shape[1:]) if tensor.ndim >= 2 else 1.0


def _constant(name: str, tensor: Tensor) -> float:
    """The value of all entries of a parameter that is kept as the module set it."""
    values = tensor.detach().flatten()
    if values.numel() and not bool((values == values[0]).all()):
        what = f"law 'constant' of parameter {name!r}"
        raise InputError(what, "equal entries", "give it the law of a weight, or make it a buffer")
    return float(values[0]) if values.numel() else 0.0
