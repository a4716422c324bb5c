"""Smallest disjunctive and conjunctive normal forms: number of terms and of literals.

Up to four variables the numbers are exact: fewest terms and, among such forms, fewest literals, for
all functions at once, by dynamic programming over unions of cubes. Beyond, the espresso heuristic
of the optional package pyeda gives an upper bound (extra ``dnf``). A CNF of f is a DNF of its
complement, clauses for terms. Constants: the constant 0 has no terms, the constant 1 one term
without literals.
"""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit

from simprior.boolean.truthtable import check_words, unpack
from simprior.boolean.walsh import Columns, bits_of, packed_tables
from simprior.checks import Whole, checked
from simprior.errors import InputError

EXACT_BITS = 4
_NONE = 255


def normal_forms(tables: np.ndarray) -> Columns:
    """:func:`normal_forms_packed` of (F, m) tables of 0/1."""
    words, m = packed_tables(tables)
    return normal_forms_packed(words, m)


def normal_forms_packed(words: np.ndarray, m: int) -> Columns:
    """Sizes of small normal forms of packed functions on m = 2^n inputs.

    Returns
    -------
    dict of (F,) float64
        ``dnf_terms``, ``dnf_literals``, ``cnf_clauses``, ``cnf_literals``, and ``dnf_exact``: 1
        where they are the minimum (n <= 4), 0 where espresso's upper bound is given.

    Raises
    ------
    InputError
        m is no power of two, or n > 4 without the optional package.
    """
    n = bits_of(m)
    words = check_words(words, m)
    if n <= EXACT_BITS:
        terms, literals = minimal_dnf(n)
        code = (words[:, 0] >> np.uint64(64 - m)).astype(np.int64)
        other = code ^ ((1 << m) - 1)
        found = [terms[code], literals[code], terms[other], literals[other], np.ones(len(code))]
    else:
        distinct, where = np.unique(words, axis=0, return_inverse=True)
        tables = unpack(distinct, m)
        rows = [(*espresso(t), *espresso(1 - t), 0) for t in tables]
        found = list(np.array(rows, np.float64).reshape(-1, 5)[where.ravel()].T)
    names = ("dnf_terms", "dnf_literals", "cnf_clauses", "cnf_literals", "dnf_exact")
    return {k: np.asarray(v, np.float64) for k, v in zip(names, found, strict=True)}


@checked(n=Whole(1, 5))
def cubes(n: int) -> tuple[np.ndarray, np.ndarray]:
    """All 3^n terms on n variables: (C,) tables as integers (input 0 is the top bit), literals."""
    m, tables, literals = 1 << n, [], []
    for cube in itertools.product((0, 1, 2), repeat=n):  # x1 first; 2: the variable is absent
        table = 0
        for x in range(m):
            bits = [(x >> (n - 1 - i)) & 1 for i in range(n)]
            match = all(c in (2, b) for c, b in zip(cube, bits, strict=True))
            table = 2 * table + match
        tables.append(table)
        literals.append(sum(c != 2 for c in cube))
    return np.array(tables, np.int64), np.array(literals, np.int64)


@checked(n=Whole(1, EXACT_BITS))
@lru_cache(maxsize=EXACT_BITS)
def minimal_dnf(n: int) -> tuple[np.ndarray, np.ndarray]:
    """(terms, literals) of the smallest DNF of every function of n <= 4 variables.

    Index: the truth table as an integer, input 0 its most significant bit. A form of t terms with
    the fewest terms stays smallest for its own function when a term is left out, so that unions of
    one more cube with the functions of t - 1 terms reach all functions of t terms.
    """
    if not 1 <= n <= EXACT_BITS:
        raise InputError(f"n={n}", f"1 to {EXACT_BITS} variables", "use normal_forms beyond")
    return _union_closure(1 << (1 << n), *cubes(n))


@njit(cache=True, nogil=True)
def _union_closure(functions, tables, literals):  # type: ignore[no-untyped-def]
    terms = np.full(functions, _NONE, np.int64)
    cost = np.full(functions, 1 << 30, np.int64)
    terms[0] = cost[0] = 0
    reached, t = 1, 0
    while reached < functions:
        t += 1
        for f in range(functions):
            if terms[f] != t - 1:
                continue
            for c in range(tables.size):
                g = f | tables[c]
                if terms[g] == _NONE:
                    terms[g] = t
                    reached += 1
                if terms[g] == t:
                    cost[g] = min(cost[g], cost[f] + literals[c])
    return terms, cost


def espresso(table: np.ndarray) -> tuple[int, int]:
    """(terms, literals) of a small DNF of one (m,) table of 0/1, by espresso: an upper bound.

    Raises :class:`InputError` without the optional package pyeda.
    """
    m = len(table)
    n = bits_of(m)
    ones = np.flatnonzero(table)
    if len(ones) in (0, m):
        return (0, 0) if len(ones) == 0 else (1, 0)
    solve = _espresso()
    # positional notation: 1 is a negated, 2 a plain literal, 3 an absent variable
    cover = {(tuple(1 + (int(x) >> (n - 1 - i) & 1) for i in range(n)), (1,)) for x in ones}
    found = solve(n, 1, cover, intype=1)
    return len(found), sum(part != 3 for inputs, _ in found for part in inputs)


def _espresso() -> Any:
    try:
        from pyeda.boolalg.espresso import espresso as solve
    except ImportError:
        raise InputError(
            f"measure dnf of functions of more than {EXACT_BITS} bits", "the optional pyeda",
            "install it with: pip install 'simprior[dnf]'",
        ) from None  # fmt: skip
    return solve
