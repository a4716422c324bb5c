"""The masks of a first layer, over which a kernel is averaged.

In the limit of infinite width the masks of the layers above only rescale a variance: a unit reads
infinitely many others. A unit of the first layer reads d inputs, of which its mask keeps a random
set. The kernel of the next layer is the mean over these sets. Up to ``MOST_EXACT`` inputs it is a
sum over all 2^d of them; beyond, a mean over random ones, in groups whose spread is its error. The
mean of positive semidefinite matrices is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from simprior.numerics import random as rng

MOST_EXACT = 12
GROUPS = 16
"""Independent parts of the random masks."""


@dataclass(frozen=True)
class Masks:
    """Sets of inputs that a unit may read, with their shares of the mean.

    ``kept`` (M, d) of 0 and 1; ``shares`` (M,) with sum 1; ``exact``: all there are.
    """

    kept: np.ndarray
    shares: np.ndarray
    exact: bool

    def groups(self) -> Iterator[Masks]:
        """Independent parts of random masks, each of which stands for all."""
        for part in np.array_split(self.kept, GROUPS):
            yield Masks(part, np.full(len(part), 1.0 / len(part)), False)


def masks_of(density: float, d: int, count: int, seed: int) -> Masks:
    """The masks of ``d`` inputs, each of which is kept with probability ``density``.

    ``count`` random ones by ``seed`` where there are too many for a sum over all.
    """
    if d <= MOST_EXACT:
        kept = (np.arange(1 << d)[:, None] >> np.arange(d)) & 1
        ones = kept.sum(axis=1)
        return Masks(kept.astype(float), density**ones * (1.0 - density) ** (d - ones), True)
    drawn = rng.generator(seed, "gp/masks").random((count, d)) < density
    return Masks(drawn.astype(float), np.full(count, 1.0 / count), False)
