"""What a random network is asked for, whatever it is made of: the protocol ``Architecture``.

Parameters are named tensors. Those of B networks are *stacked*: each tensor has a first axis of
length B. Where a network ends in a linear layer, several of those layers (heads) can share what
comes before, which is most of the work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@dataclass(frozen=True)
class ParameterTensor:
    """One parameter tensor: its name, shape, and law.

    Entries are independent with mean ``centre`` and standard deviation ``deviation``, normal or
    (``uniform``) from an interval. ``law`` says in a word why: ``weight``, ``bias``,
    ``embedding``, ``constant`` (deviation 0), or ``own`` where the module's initialiser decides;
    a ``deviation`` of None means that only the module itself can draw it.
    """

    name: str
    shape: tuple[int, ...]
    law: str
    centre: float
    deviation: float | None
    uniform: bool = False

    @property
    def size(self) -> int:
        """Number of entries."""
        return prod(self.shape)


class Last(NamedTuple):
    """The last linear layer: names of its weights (1, k) and biases (1,), the latter None if it has
    none, and its fan-in k."""

    weight: str
    bias: str | None
    fan_in: int


@runtime_checkable
class Architecture(Protocol):
    """A network whose parameters are random: z(x) of m inputs; the function is z(x) > 0."""

    @property
    def m(self) -> int:
        """Number of inputs."""

    @property
    def d(self) -> int:
        """Dimension of an input."""

    def input_matrix(self) -> np.ndarray:
        """The (m, d) float64 inputs, a fresh array."""

    def tensors(self) -> tuple[ParameterTensor, ...]:
        """The parameters in the order of their layout, the last linear layer's among them."""

    def last(self) -> Last | None:
        """The last linear layer; None if the output is not that of one."""

    def apply(self, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """(B, m) outputs of B networks with stacked ``parameters`` on inputs ``x`` (m, d)."""

    def features(self, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """(B, m, k): what the last linear layer reads; its own parameters are not used."""
