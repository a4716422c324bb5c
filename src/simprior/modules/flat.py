"""The parameters of a torch module as one vector: tensor after tensor, row by row.

It is the layout of what is trained and of what is measured: N networks are the rows of an (N, p)
tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simprior.modules.architecture import ParameterTensor

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Places of the tensors of a module (:meth:`Architecture.tensors`) in a vector of length p.

    ``transposed``: matrices column by column, which is the layout of
    :mod:`simprior.network.parameters` for linear layers.
    """

    tensors: tuple[ParameterTensor, ...]
    transposed: bool = False

    @property
    def size(self) -> int:
        """Number p of parameters."""
        return sum(t.size for t in self.tensors)

    def stacked(self, P: Tensor) -> dict[str, Tensor]:
        """The rows of ``P`` (N, p) as named tensors with a first axis of length N, views of it."""
        parts = P.split([t.size for t in self.tensors], dim=1)
        pairs = zip(self.tensors, parts, strict=True)
        return {t.name: self._shaped(part, t) for t, part in pairs}

    def _shaped(self, part: Tensor, t: ParameterTensor) -> Tensor:
        if self.transposed and len(t.shape) == 2:
            return part.reshape(len(part), *t.shape[::-1]).mT
        return part.reshape(len(part), *t.shape)

    def flat(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Inverse of :meth:`stacked`: (N, p)."""
        import torch

        turned = [
            parameters[t.name].mT if self.transposed and len(t.shape) == 2 else parameters[t.name]
            for t in self.tensors
        ]
        parts = [part.reshape(-1, t.size) for part, t in zip(turned, self.tensors, strict=True)]
        return torch.cat(parts, dim=1)
