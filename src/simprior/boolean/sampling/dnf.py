"""Random DNF networks: a sampler, and for n <= 4 the exact probability of every function.

The network (Mingard et al. 2025, arXiv 2505.24060) has width w = alpha 2^(n-1). Each row of its
first layer holds n iid entries, uniform on {-1, 0, 1}; a row is a clause, the AND of literals x_i
(entry +1) and not-x_i (entry -1); rows of zeros are ignored. The OR of the clauses is output, or
its negation with probability 1/2. With n = 4 its 65,536 probabilities are known exactly, which
makes it the oracle for samplers, intervals, estimates of unseen mass and rare-event methods.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit

from simprior.boolean.truthtable import n_words, pack
from simprior.checks import Integer, Kind, Table, Whole, checked, shown
from simprior.errors import InputError
from simprior.numerics.compiled import philox4x32

MAX_SAMPLED_BITS = 10
MAX_EXACT_BITS = 4
MAX_EXACT_WIDTH = 1024  # 65,536 integers of about 6.3 bits a clause: 0.1 GB
_COUNTED = 1 << 20  # samples counted at a time

_LOW = np.uint64(0xFFFFFFFF)
_S32 = np.uint64(32)
_ONE = np.uint64(1)
_TABLE_DIGITS = 8  # ternary digits that index a table of clauses: 3^8 = 6561 entries
_WORD_DIGITS = 24  # ternary digits taken from a 64-bit word: 2 * 3^24 = 2^39, rejected 2^-25


@dataclass(frozen=True)
class RandomDNF:
    """Specification of a random DNF network on all 2^n bit strings.

    Parameters
    ----------
    n : int
        Number of input bits, 1 to 10 (exact probabilities: up to 4).
    alpha : float
        Relative width; ``alpha * 2^(n-1)`` clauses, which must be a positive integer.

    Raises
    ------
    InputError
        If ``n`` is out of range or ``alpha * 2^(n-1)`` is not a positive integer.
    """

    n: int = 4
    alpha: float = 1.0

    def __post_init__(self) -> None:
        alpha = self.alpha
        n = Integer(1, MAX_SAMPLED_BITS, "pass for example n=4")("n", self.n)
        number = isinstance(alpha, int | float | np.integer | np.floating)
        width = (
            float(min(alpha, 2.0**40)) * 2 ** (n - 1)
            if number and not isinstance(alpha, bool)
            else float("nan")
        )
        if not (1 <= width < 2**31 and width == int(width)):
            raise InputError(
                f"alpha={shown(alpha)}",
                f"a number with alpha * {2 ** (n - 1)} (the number of clauses) a positive integer",
                f"pass for example alpha=1, or a multiple of {1 / 2 ** (n - 1)}",
            )
        object.__setattr__(self, "n", n)
        object.__setattr__(self, "alpha", float(alpha))

    @property
    def m(self) -> int:
        """Number of inputs on which a function is defined, 2^n."""
        return 1 << self.n

    @property
    def width(self) -> int:
        """Number of clauses, alpha 2^(n-1)."""
        return int(self.alpha * 2 ** (self.n - 1))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for TOML/JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> RandomDNF:
        """Inverse of :meth:`to_dict`; unknown keys raise :class:`InputError`."""
        values = Table()("dnf", values)
        for key in values:
            if key not in ("n", "alpha"):
                raise InputError(f"dnf.{key}={shown(values[key])}", "one of alpha, n", "remove it")
        return cls(**values)

    def digest(self) -> str:
        """SHA-256 (hex) of everything that determines the distribution."""
        text = json.dumps({"random_dnf": self.to_dict()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@checked(n=Whole(1, 10))
def clause_tables(n: int) -> np.ndarray:
    """Truth tables of the clauses of all first-layer rows: (3^n, 2^n) uint8 of 0/1.

    Rows run over itertools.product((-1, 0, 1), repeat=n); the row of zeros, which the network
    ignores, gets the empty table.
    """
    bits = np.array(list(itertools.product((0, 1), repeat=n)), dtype=np.int8)
    tables = np.ones((3**n, 2**n), dtype=np.uint8)
    for i in range(n):
        weight = (np.arange(3**n) // 3 ** (n - 1 - i)) % 3 - 1
        tables &= (weight[:, None] == 0) | ((weight[:, None] == 1) == (bits[None, :, i] == 1))
    tables[3**n // 2] = 0
    return tables


@checked(dnf=Kind(("RandomDNF",)))
def exact_counts(dnf: RandomDNF) -> tuple[np.ndarray, int]:
    """Exact probabilities as integers over a common denominator, for n <= 4.

    With c(g) the number of rows whose clause lies in the set g, P(OR of clauses is in g) =
    (c(g) / 3^n)^w; a Moebius transform over subsets gives P(OR = f), and the fair sign adds
    P(OR = not f). All in integers of any size: nothing cancels.

    Returns
    -------
    (2^(2^n),) object array of int, and the denominator 2 * 3^(n w)
        Element ``index`` belongs to the function whose truth table is the binary form of
        ``index``, input 0 its most significant digit.

    Raises
    ------
    InputError
        If n > 4 or the width is above 1024.
    """
    n, m, width = dnf.n, dnf.m, dnf.width
    if n > MAX_EXACT_BITS or width > MAX_EXACT_WIDTH:
        what = f"n={n} with {width} clauses"
        expected = f"n <= {MAX_EXACT_BITS} and at most {MAX_EXACT_WIDTH} clauses"
        raise InputError(what, expected, "sample it with sample_dnf_chunk instead")
    inside = np.bincount(_indices(clause_tables(n)), minlength=1 << m)
    for axis in range(m):
        halves = inside.reshape(-1, 2, 1 << axis)
        halves[:, 1] += halves[:, 0]
    powers = {int(c): int(c) ** width for c in np.unique(inside)}
    counts = np.array([powers[int(c)] for c in inside], dtype=object)
    for axis in range(m):
        halves = counts.reshape(-1, 2, 1 << axis)
        halves[:, 1] -= halves[:, 0]
    return counts + counts[::-1], 2 * 3 ** (n * width)


@checked(dnf=Kind(("RandomDNF",)))
def exact_probabilities(dnf: RandomDNF) -> np.ndarray:
    """P(f) of all 2^(2^n) functions for n <= 4: (2^(2^n),) float64, correctly rounded.

    Indexed as :func:`exact_counts`, with the same limits and errors.
    """
    counts, denominator = exact_counts(dnf)
    return np.array([int(c) / denominator for c in counts])


def sample_dnf_chunk(dnf: RandomDNF, key: int, start: int, stop: int) -> np.ndarray:
    """Functions of samples ``start`` to ``stop - 1``: (stop - start, W) uint64 packed words.

    Sample k is a pure function of (``key``, k), so chunks may be cut anywhere. ``key`` is 64 bits,
    from :func:`simprior.numerics.random.philox_key`. Draws are exactly uniform (multiply-shift with
    rejection, Lemire 2019). The GIL is released.
    """
    _check_range(start, stop)
    tables, per_word = _group_tables(dnf.n, dnf.width)
    words = np.zeros((stop - start, n_words(dnf.m)), dtype=np.uint64)
    ones = pack(np.ones((1, dnf.m), dtype=np.uint8))[0]
    groups, limits = _plan(dnf, tables, per_word)
    _sample(words, tables, ones, groups, per_word, *limits, *_split(key), start, stop)
    return words


def count_dnf_chunk(dnf: RandomDNF, key: int, start: int, stop: int) -> np.ndarray:
    """Counts of the functions of samples ``start`` to ``stop - 1``, for n <= 4.

    Same samples as :func:`sample_dnf_chunk`: (2^(2^n),) int64, indexed as :func:`exact_counts`.
    Counts of disjoint ranges add up to the counts of their union.
    """
    _check_range(start, stop)
    expected = f"n <= {MAX_EXACT_BITS} for dense counts"
    Integer(1, MAX_EXACT_BITS, "use sample_dnf_chunk", expected)("n", dnf.n)
    counts = np.zeros(1 << dnf.m, dtype=np.int64)
    for at in range(start, stop, _COUNTED):
        words = sample_dnf_chunk(dnf, key, at, min(at + _COUNTED, stop))
        index = (words[:, 0] >> np.uint64(64 - dnf.m)).astype(np.int64)
        counts += np.bincount(index, minlength=counts.size)
    return counts


def _indices(tables: np.ndarray) -> np.ndarray:
    """Integers whose binary forms are the rows of (F, m) ``tables``, m <= 62."""
    place = np.int64(1) << np.arange(tables.shape[1] - 1, -1, -1, dtype=np.int64)
    return tables.astype(np.int64) @ place


def _check_range(start: int, stop: int) -> None:
    if not 0 <= start <= stop:
        what = f"samples {start}..{stop}"
        raise InputError(what, "0 <= start <= stop", "pass a range of sample numbers")


def _split(key: int) -> tuple[np.uint32, np.uint32]:
    return np.uint32(key & 0xFFFFFFFF), np.uint32((key >> 32) & 0xFFFFFFFF)


@lru_cache(maxsize=8)
def _group_tables(n: int, width: int) -> tuple[np.ndarray, int]:
    """Packed ORs of every tuple of g clauses, (3^(n g), W), and the groups taken from a word.

    g is the largest divisor of the width with n g <= 8 digits (or 1).
    """
    rows = pack(clause_tables(n))
    g = max(
        g
        for g in range(1, _TABLE_DIGITS + 1)
        if width % g == 0 and (g == 1 or n * g <= _TABLE_DIGITS)
    )
    tables = rows
    for _ in range(g - 1):
        tables = (tables[:, None, :] | rows[None, :, :]).reshape(-1, rows.shape[1])
    tables = np.ascontiguousarray(tables)
    tables.setflags(write=False)
    return tables, _WORD_DIGITS // (n * g)


def _plan(
    dnf: RandomDNF, tables: np.ndarray, per_word: int
) -> tuple[int, tuple[np.uint64, np.uint64]]:
    """Groups a sample, and (range, threshold) of the rejection test of a 64-bit word."""
    g = round(np.log(len(tables)) / np.log(3.0)) // dnf.n
    outcomes = 2 * len(tables) ** per_word
    return dnf.width // g, (np.uint64(outcomes), np.uint64(2**64 % outcomes))


@njit(inline="always")
def _word(sample, j, attempt, k0, k1):  # type: ignore[no-untyped-def]
    """64-bit word ``j`` of a sample: half of Philox block j // 2, try ``attempt``."""
    s = np.uint64(sample)
    x0, x1, x2, x3 = philox4x32(
        np.uint32(s & _LOW), np.uint32(s >> _S32), np.uint32(j >> 1), np.uint32(attempt), k0, k1
    )
    if j & 1:
        return (np.uint64(x3) << _S32) | np.uint64(x2)
    return (np.uint64(x1) << _S32) | np.uint64(x0)


@njit(inline="always")
def _accepted_word(sample, j, outcomes, threshold, k0, k1):  # type: ignore[no-untyped-def]
    """Word ``j`` as a fraction of 2^64 whose leading digits are exactly uniform (Lemire 2019)."""
    attempt = 0
    word = _word(sample, j, attempt, k0, k1)
    while word * outcomes < threshold:
        attempt += 1
        word = _word(sample, j, attempt, k0, k1)
    return word


@njit(inline="always")
def _digit(word, base):  # type: ignore[no-untyped-def]
    """First digit of the fraction word / 2^64 in ``base`` < 2^32."""
    low = ((word & _LOW) * base) >> _S32
    return ((word >> _S32) * base + low) >> _S32


@njit(cache=True, nogil=True)
def _sample(words, tables, ones, groups, per_word, outcomes, threshold, k0, k1, start, stop):  # type: ignore[no-untyped-def]
    base = np.uint64(tables.shape[0])
    for sample in range(start, stop):
        out = words[sample - start]
        negate = np.uint64(0)
        done = 0
        j = 0
        while done < groups:
            word = _accepted_word(sample, j, outcomes, threshold, k0, k1)
            if j == 0:
                negate = word >> np.uint64(63)
            word <<= _ONE
            last = min(groups, done + per_word)
            for _ in range(done, last):
                row = tables[_digit(word, base)]
                word *= base
                for v in range(out.size):
                    out[v] |= row[v]
            done = last
            j += 1
        if negate:
            for v in range(out.size):
                out[v] ^= ones[v]
