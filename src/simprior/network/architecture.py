"""The parameters of a random network as named tensors: what they are called, and their law."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import NamedTuple


@dataclass(frozen=True)
class ParameterTensor:
    """One parameter tensor: its name, shape, and law.

    Entries are independent with mean ``centre`` and standard deviation ``deviation``, normal or
    (``uniform``) from an interval. ``law`` says in a word why: ``weight``, ``bias``,
    ``embedding``, ``constant`` (deviation 0), or ``own`` where the module's initialiser decides;
    a ``deviation`` of None means that only the module itself can draw it. Entries are kept with
    probability ``density``, and exactly 0 else; ``deviation`` is that of those kept.
    """

    name: str
    shape: tuple[int, ...]
    law: str
    centre: float
    deviation: float | None
    uniform: bool = False
    density: float = 1.0

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
