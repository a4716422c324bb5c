"""Exact symmetries of the prior, canonical forms of functions, and pooling over classes.

Functions that differ by a symmetry of the law of the network have the same probability, so counts
may be summed over a class and divided by its size. :func:`symmetries` says which of the three kinds
hold for a network: permuting the inputs, flipping inputs, negating the output. The group G they
generate has up to 2 n! 2^n elements.

The canonical form is the smallest table (as a bit string) among those images g f, g in G, that are

1. of at most half weight (when the output may be negated);
2. oriented: each variable has at least as many ones on its 1 side (when inputs may be flipped);
3. where 1 or 2 leave a choice: of least key of the numbers of ones at each Hamming weight;
4. ordered: the variables come by decreasing number of ones on their 1 side, ties broken by the
   numbers of ones on pairs of variables (colour refinement; what is left is enumerated).

Each condition is a property of the image alone, so the result depends on the class only. Exchanges
of two variables that leave f unchanged are counted, not enumerated; so are irrelevant variables.
The stabiliser is the number of g that give the canonical form; the class has |G|/|stabiliser|
members, exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from simprior.boolean.canonical import canonical_rows, full_words, layer_masks, place_masks
from simprior.boolean.complexity import ones_packed
from simprior.boolean.truthtable import check_words, input_matrix, pack
from simprior.checks import Kind, Maybe, Whole, checked
from simprior.errors import InputError
from simprior.network.activations import entry_of
from simprior.network.spec import Network

MAX_POOL_BITS = 10


@dataclass(frozen=True)
class Symmetry:
    """Which symmetries of the prior hold exactly, and why (one line for each kind)."""

    permute: bool
    flip: bool
    negate: bool
    reasons: tuple[str, ...] = ()

    def order(self, n: int) -> float:
        """Number of elements of the group on n-bit functions."""
        size = math.factorial(n) if self.permute else 1
        return float(size * (2**n if self.flip else 1) * (2 if self.negate else 1))


@dataclass(frozen=True)
class Pooled:
    """Classes of functions found in a sample; C of them, sorted by canonical form.

    ``words`` (C, W) uint64 canonical forms; ``orbit`` (C,) float64 class sizes; ``count`` (C,)
    summed counts, whose dtype is that of the counts; ``inverse`` (F,) int64 class of each function.
    An unbiased estimate of the probability of ONE member is ``count / samples / orbit``.
    """

    words: np.ndarray
    orbit: np.ndarray
    count: np.ndarray
    inverse: np.ndarray

    def total(self, values: np.ndarray) -> np.ndarray:
        """Sum over each class of one value a function, (F,) -> (C,) float64.

        Sums of squares of clustered counts do not add up this way when two members of a class
        can be found in the same cluster.
        """
        return np.bincount(self.inverse, weights=values, minlength=self.words.shape[0])


@checked(network=Kind(("Network",)))
def symmetries(network: Network) -> Symmetry:
    """The symmetries that hold exactly for the prior of ``network``, with a reason for each kind.

    Permutations of the inputs: the weights of the first layer are independent and identically
    distributed, and the set of all bit strings is mapped to itself. Flips: only with -1/+1 inputs,
    where a flip is a sign of a weight, and its law is symmetric. Negation: the last weights and
    bias are symmetric, so z and -z have one law; f and its negation are equally probable if z is
    never exactly 0 (an exact 0 gives output 0). That is claimed only where it is proved here.
    """
    explicit = network.inputs is not None
    flip = not explicit and network.encoding == "pm1"
    if explicit:
        first = "permutations: not claimed, the inputs are given explicitly"
        second = "flips: not claimed, the inputs are given explicitly"
    else:
        first = "permutations: hold, first-layer weights are iid and the inputs are all bit strings"
        second = (
            "flips: hold, inputs are -1/+1 and the weight law is symmetric"
            if flip
            else "flips: fail, with inputs {0,1} a flip moves the bias of the first layer"
        )
    negate, third = _negation(network)
    return Symmetry(not explicit, flip, negate, (first, second, f"negation: {third}"))


def _negation(network: Network) -> tuple[bool, str]:
    if network.sigma_bs[-1] > 0:
        return True, "holds, the last bias has a density so z is never exactly 0"
    if network.masked:
        return False, "fails, all weights of a layer can be masked at once and the last bias is 0"
    entry = entry_of(network)
    zeros = entry.zeros if entry else "unknown"
    if network.depth and zeros != "points":
        if zeros == "half-line":
            return False, "fails, all last hidden units can be 0 at once and the last bias is 0"
        return False, "not claimed, the last bias is 0 and the zeros of the activation are unknown"
    if any(s > 0 for s in network.sigma_bs[:-1]):
        return True, "holds, a hidden bias has a density, so hidden units and z are never exactly 0"
    if np.any(np.all(input_matrix(network) == 0, axis=1)):
        return False, "fails, without biases z = 0 exactly at the all-zero input"
    return True, "holds, no input is all zero and the activation vanishes only on a null set"


@checked(n=Whole(1, 64), symmetry=Kind(("Symmetry",)), m=Maybe(Whole(1)))
def canonical(
    words: np.ndarray, n: int, symmetry: Symmetry, m: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Canonical form and size of the class of each function under the group of ``symmetry``.

    Parameters
    ----------
    words : (F, W) uint64
        Packed functions.
    n : int
        Number of bits; at most 10 if inputs are permuted or flipped.
    symmetry : Symmetry
        From :func:`symmetries`.
    m : int or None
        Number of inputs if they are not the 2^n bit strings; negation is then the only symmetry.

    Returns
    -------
    (F, W) uint64 canonical forms (packed, in the class of each function), (F,) float64 class sizes.

    Raises
    ------
    InputError
        If n, m or the shape of ``words`` does not fit.
    """
    size = 1 << n if m is None else m
    check_pooling(symmetry, n, size)
    words = check_words(words, size)
    if not (symmetry.permute or symmetry.flip):
        return _canonical_by_sign(words, size, symmetry.negate)
    canon, stabiliser = canonical_rows(
        words,
        full_words(n),
        place_masks(n),
        layer_masks(n),
        symmetry.permute,
        symmetry.flip,
        symmetry.negate,
    )
    return canon, symmetry.order(n) / stabiliser


def check_pooling(symmetry: Symmetry, n: int, m: int) -> None:
    """Refuse symmetries that move inputs, of functions that :func:`canonical` does not take.

    These are functions of other inputs than all 2^n bit strings, or of too many bits.
    """
    if (symmetry.permute or symmetry.flip) and (m != 1 << n or not 1 <= n <= MAX_POOL_BITS):
        raise InputError(
            f"n={n}, m={m}",
            f"all 2^n bit strings, n from 1 to {MAX_POOL_BITS}",
            "use fewer bits, or pool by negation only",
        )


def _canonical_by_sign(words: np.ndarray, m: int, negate: bool) -> tuple[np.ndarray, np.ndarray]:
    canon = words.copy()
    if negate:  # at most half ones; at exactly half, output 0 on the first input
        twice = 2 * ones_packed(words, m)
        heavy = (twice > m) | ((twice == m) & (words[:, 0] >> np.uint64(63) == 1))
        canon[heavy] ^= pack(np.ones((1, m), dtype=np.uint8))
    return canon, np.full(words.shape[0], 2.0 if negate else 1.0)


@checked(n=Whole(1, 64), symmetry=Kind(("Symmetry",)), m=Maybe(Whole(1)))
def pool(
    words: np.ndarray, count: np.ndarray, n: int, symmetry: Symmetry, m: int | None = None
) -> Pooled:
    """Sum counts over classes of equal probability.

    Parameters
    ----------
    words : (F, W) uint64
        Packed functions (repeats allowed).
    count : (F,) array
        Count of each function.
    n, symmetry, m
        As in :func:`canonical`.

    Returns
    -------
    Pooled
    """
    count = np.asarray(count)
    if count.shape != (len(words),):
        raise InputError(
            f"count of shape {count.shape}", f"({len(words)},)", "give one count for each function"
        )
    canon, orbit = canonical(words, n, symmetry, m)
    rows = np.lexsort(canon.T[::-1])
    ordered = canon[rows]
    new = np.ones(len(rows), dtype=bool)
    new[1:] = np.any(ordered[1:] != ordered[:-1], axis=1)
    inverse = np.empty(len(rows), dtype=np.int64)
    inverse[rows] = np.cumsum(new) - 1
    starts = np.flatnonzero(new)
    summed = np.add.reduceat(count[rows], starts) if len(rows) else count.copy()
    return Pooled(ordered[starts], orbit[rows][starts], summed, inverse)
