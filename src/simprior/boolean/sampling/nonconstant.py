"""P(constant), and the complexity of the functions that are not constant.

Most differences in mean complexity between architectures are differences in the probability of the
two constant functions, so both are reported. Their intervals are over hidden draws: the heads of
one are a cluster.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from simprior.boolean.complexity import lz76_packed, most_words, ones_packed
from simprior.numerics.estimate import Ratio
from simprior.runs.files import whole_in

_MOST = 2**62


@dataclass(frozen=True)
class NonConstant:
    """Sums over hidden draws c, whole numbers, so that they are the same in any order.

    n_c is the number of heads whose functions are not constant, L_c the sum of N(x) + N(reversed x)
    over these, N the number of words of the LZ76 parse (``docs/notation.md``), and k_c the number
    of constants.

    Attributes
    ----------
    draws, constant_squares : int
        Number of hidden draws, sum of k_c^2.
    count, squares : int
        Sums of n_c and n_c^2.
    words, words_squares, products : int
        Sums of L_c, L_c^2 and n_c L_c.
    """

    draws: int = 0
    constant_squares: int = 0
    count: int = 0
    squares: int = 0
    words: int = 0
    words_squares: int = 0
    products: int = 0

    @classmethod
    def of(cls, functions: np.ndarray, m: int, heads: int) -> NonConstant:
        """Sums of (F, W) packed functions, ``heads`` in turn a hidden draw (the last may have
        fewer)."""
        if not len(functions):
            return cls()
        t = ones_packed(functions, m)
        inner = (t > 0) & (t < m)
        words = np.zeros(len(functions), np.int64)
        if m > 1:
            words[inner] = np.rint(2.0 * lz76_packed(functions[inner], m) / math.log2(m))
        starts = np.arange(0, len(functions), heads)
        n = np.add.reduceat(inner.astype(np.int64), starts)
        k = np.add.reduceat((~inner).astype(np.int64), starts)
        parse = np.add.reduceat(words, starts)
        sums = (k @ k, n.sum(), n @ n, parse.sum(), parse @ parse, n @ parse)
        return cls(len(starts), *map(int, sums))

    def __add__(self, other: NonConstant) -> NonConstant:
        mine, theirs = asdict(self), asdict(other)
        return NonConstant(**{name: mine[name] + theirs[name] for name in mine})

    def lz76(self, m: int, level: float = 0.95) -> tuple[float | None, float | None, float | None]:
        """(mean, low, high) of ``lz76`` given that the function is not constant.

        A ratio of sums over hidden draws (:class:`simprior.numerics.estimate.Ratio`). Where these
        all agree the next may have any complexity. None where nothing is known; no interval from
        one hidden draw.
        """
        if self.count == 0:
            return None, None, None
        sums = (self.words, self.words_squares, self.products, self.count, self.squares)
        unit, ratio = math.log2(m) / 2.0, Ratio(*map(float, sums))
        if ratio.clusters < 2:
            return unit * ratio.mean, None, None
        least, most = 2, 2 * most_words(m)
        mean, reach = ratio.mean, ratio.reach(level, most - least)
        return unit * mean, unit * max(mean - reach, least), unit * min(mean + reach, most)

    def to_dict(self) -> dict[str, int]:
        """Plain values for manifests."""
        return asdict(self)

    @classmethod
    def fits(cls, values: Any) -> bool:
        """Whether ``values`` of a manifest are such sums."""
        names = {field.name for field in fields(cls)}
        if not isinstance(values, Mapping) or set(values) != names:
            return False
        return all(isinstance(v, int) and whole_in(v, 0, _MOST) for v in values.values())
