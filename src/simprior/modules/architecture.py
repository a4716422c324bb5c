"""What a random network is asked for, whatever it is made of: the protocol ``Architecture``.

Parameters are named tensors. Those of B networks are *stacked*: each tensor has a first axis of
length B. Where a network ends in a linear layer, several of those layers (heads) can share what
comes before, which is most of the work.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from simprior.network.architecture import Last, ParameterTensor

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

__all__ = ["Architecture", "Last", "ParameterTensor"]


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
