"""Smallest normal forms against an independent search, and espresso against the exact ones."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from simprior.boolean import logic as nf
from simprior.boolean.truthtable import named as named_table
from simprior.boolean.truthtable import pack
from simprior.errors import InputError

ALL4 = (np.arange(65536, dtype=np.uint64) << np.uint64(48))[:, None]


def plain_minimum(target: int, tables: list[int], literals: list[int]) -> tuple[int, int]:
    """Fewest terms, then fewest literals, over all sets of cubes inside ``target``."""
    inside = [i for i, t in enumerate(tables) if t & ~target == 0]
    for size in range(len(inside) + 1):
        sums = []
        for chosen in itertools.combinations(inside, size):
            union = 0
            for i in chosen:
                union |= tables[i]
            if union == target:
                sums.append(sum(literals[i] for i in chosen))
        if sums:
            return size, min(sums)
    raise AssertionError("minterms always cover")


def irredundant_sizes(target: int, tables: list[int], literals: list[int]) -> set[tuple[int, int]]:
    """(terms, literals) of every sum of prime implicants of which none can be left out."""
    inside = [i for i, t in enumerate(tables) if t & ~target == 0]
    primes = [
        i for i in inside if not any(tables[i] | tables[j] == tables[j] for j in inside if j != i)
    ]
    sizes = set()
    for size in range(1, len(primes) + 1):
        for chosen in itertools.combinations(primes, size):
            union, twice = 0, 0
            for i in chosen:
                twice |= union & tables[i]
                union |= tables[i]
            if union == target and all(tables[i] & ~twice for i in chosen):
                sizes.add((size, sum(literals[i] for i in chosen)))
    return sizes


def test_all_functions_of_three_bits_against_all_sets_of_cubes() -> None:
    tables, literals = (a.tolist() for a in nf.cubes(3))
    terms, cost = nf.minimal_dnf(3)
    for f in range(256):
        assert (terms[f], cost[f]) == plain_minimum(f, tables, literals)


def test_known_sizes() -> None:
    for n in (2, 3, 4):
        tables = np.stack([named_table(k, n) for k in ("parity", "const0", "const1", "x1")])
        found = nf.normal_forms(tables)
        assert found["dnf_terms"].tolist() == [2 ** (n - 1), 0, 1, 1]
        assert found["dnf_literals"].tolist() == [n * 2 ** (n - 1), 0, 0, 1]
        assert found["cnf_clauses"].tolist() == [2 ** (n - 1), 1, 0, 1]
        assert (found["dnf_exact"] == 1).all()


def test_cnf_is_the_dnf_of_the_complement_and_parity_is_the_worst() -> None:
    a, b = nf.normal_forms_packed(ALL4, 16), nf.normal_forms_packed(ALL4[::-1].copy(), 16)
    assert (a["dnf_terms"] == b["cnf_clauses"]).all()
    assert (a["dnf_literals"] == b["cnf_literals"]).all()
    assert a["dnf_terms"].max() == 8
    # 8 terms: a parity (2), with one point of the other kind (16), or two antipodal ones (8):
    # no implicant then holds two of the parity's 8 points
    assert (a["dnf_terms"] == 8).sum() == 26
    assert a["dnf_literals"].max() == 32
    assert (a["dnf_literals"] == 32).sum() == 2  # parity and its complement


def test_espresso_gives_an_irredundant_sum_of_prime_implicants() -> None:
    """What the heuristic guarantees (Brayton et al. 1984): its sizes are those of such a form."""
    pytest.importorskip("pyeda", reason="the optional package pyeda is not installed")
    rng = np.random.default_rng(5)
    tables = rng.integers(0, 2, (200, 16)).astype(np.uint8)
    exact = nf.normal_forms(tables)
    found = np.array([nf.espresso(t) for t in tables])
    assert (found[:, 0] >= exact["dnf_terms"]).all()
    cubes, literals = (a.tolist() for a in nf.cubes(4))
    codes = (tables @ (1 << np.arange(15, -1, -1))).tolist()
    for code, size in zip(codes, found.tolist(), strict=True):
        assert tuple(size) in irredundant_sizes(code, cubes, literals)
    wide = nf.normal_forms(np.stack([named_table("parity", 6), named_table("x1", 6)]))
    assert wide["dnf_terms"].tolist() == [32, 1]
    assert wide["dnf_literals"].tolist() == [192, 1]
    assert wide["dnf_exact"].tolist() == [0, 0]


def test_without_the_optional_package(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyeda.boolalg.espresso", None)
    with pytest.raises(InputError, match=r"simprior\[dnf\]"):
        nf.normal_forms_packed(pack(named_table("parity", 5)[None]), 32)


def test_five_bits_are_not_tabulated() -> None:
    with pytest.raises(InputError, match="n=5"):
        nf.minimal_dnf(5)
