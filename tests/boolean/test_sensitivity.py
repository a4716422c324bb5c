"""Sensitivities against their definitions, on all functions of four bits and random larger ones."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from simprior.boolean import sensitivity
from simprior.boolean.truthtable import input_matrix, pack
from simprior.boolean.truthtable import named as named_table
from simprior.errors import InputError
from simprior.gp.kernels import nngp
from simprior.network.spec import Network

ALL4 = (np.arange(65536, dtype=np.uint64) << np.uint64(48))[:, None]


def random_tables(n: int, functions: int, seed: int) -> np.ndarray:
    """Of all shares of ones, so that sparse functions are among them."""
    rng = np.random.default_rng(seed)
    share = rng.random((functions, 1))
    return (rng.random((functions, 1 << n)) < share).astype(np.uint8)


def neighbours(table: np.ndarray, n: int) -> np.ndarray:
    """(m, n) bool: does flipping x1 .. xn change the output?"""
    x = np.arange(1 << n)
    return np.stack([table != table[x ^ (1 << (n - 1 - i))] for i in range(n)], axis=1)


def plain_block_sensitivity(table: np.ndarray, n: int) -> int:
    """Every family of disjoint sensitive blocks, by recursion."""
    best = 0
    for x in range(1 << n):
        blocks = [b for b in range(1, 1 << n) if table[x ^ b] != table[x]]
        minimal = [b for b in blocks if not any(c != b and c & b == c for c in blocks)]

        def most(used: int, left: list[int]) -> int:
            return max((1 + most(used | b, left[i + 1 :]) for i, b in enumerate(left)
                        if not b & used), default=0)  # fmt: skip

        best = max(best, most(0, minimal))
    return best


@pytest.mark.parametrize("n", [1, 2, 3, 5, 6, 7, 8])
def test_definitions_on_random_functions(n: int) -> None:
    tables = random_tables(n, 20, seed=n)
    words, m = pack(tables), 1 << n
    change = np.stack([neighbours(table, n) for table in tables])
    found = sensitivity.sensitivity_packed(words, m)
    assert np.allclose(sensitivity.influences(tables), change.mean(axis=1), atol=1e-15)
    assert np.allclose(found["average_sensitivity"], change.sum(axis=2).mean(axis=1), atol=1e-13)
    assert found["max_sensitivity"].tolist() == change.sum(axis=2).max(axis=1).tolist()
    assert np.allclose(found["csr"], change.any(axis=2).mean(axis=1), atol=1e-15)
    x = np.arange(m)
    distance = np.array([[(a ^ b).bit_count() for b in map(int, x)] for a in map(int, x)])
    gc = sensitivity.generalisation_complexity_packed(words, m)
    for i in (1, 2):
        pair = distance == i
        expected = [(t[:, None] != t[None])[pair].mean() if pair.any() else 0.0 for t in tables]
        assert np.allclose(gc[f"gc{i}"], expected, atol=1e-14)
    assert (gc["gc"] == gc["gc1"] + gc["gc2"]).all()


def test_parity_is_the_most_sensitive_function() -> None:
    for n in (2, 4, 7, 9):
        table = named_table("parity", n)[None]
        assert sensitivity.average_sensitivity(table) == [n]
        assert sensitivity.max_sensitivity(table) == [n]
        assert sensitivity.block_sensitivity(table) == [n]
        assert sensitivity.csr(table) == [1.0]


def test_all_functions_of_four_bits() -> None:
    found = sensitivity.sensitivity_packed(ALL4, 16)
    blocks = sensitivity.block_sensitivity_packed(ALL4, 16)
    s = found["max_sensitivity"]
    assert (blocks >= s).all()
    assert (blocks[s == 0] == 0).all()
    assert (found["average_sensitivity"] <= s).all()
    assert ((s == 0) == (found["csr"] == 0)).all()
    assert (found["average_sensitivity"] == 4).sum() == 2  # parity and its complement
    # bs <= 2 s^2 is far from tight here, but bs > s does occur: two blocks of two bits, say
    assert (blocks > s).any()


@pytest.mark.parametrize(("n", "functions"), [(3, 256), (4, 300), (5, 40)])
def test_block_sensitivity_against_all_families(n: int, functions: int) -> None:
    if n == 3:
        tables = np.array(list(itertools.product((0, 1), repeat=8)), np.uint8)
    else:
        tables = random_tables(n, functions, seed=n)
    found = sensitivity.block_sensitivity(tables)
    assert found.tolist() == [plain_block_sensitivity(table, n) for table in tables]


def test_block_sensitivity_has_a_limit() -> None:
    with pytest.raises(InputError, match="functions of 11 bits"):
        sensitivity.block_sensitivity(np.zeros((1, 2048), np.uint8))


def test_data_inputs_are_refused() -> None:
    with pytest.raises(InputError, match="functions of 100 inputs"):
        sensitivity.csr(np.zeros((1, 100), np.uint8))


@pytest.mark.parametrize(
    ("depth", "known"), [(0, 1.72726), (1, 1.57363), (2, 1.44733), (5, 1.17246), (10, 0.89750)]
)
def test_average_sensitivity_under_the_gp_prior(depth: int, known: float) -> None:
    """sum_i P(flipping bit i changes the sign) = n arccos(rho_1) / pi, sigma_b = 0, +-1 inputs;
    and the mean over functions sampled from z ~ N(0, K)."""
    net = Network(n=7, hidden=(40,) * depth, sigma_w=1.0, sigma_b=0.0, encoding="pm1")
    K = nngp(net, input_matrix(net))
    rho = K[0, 1] / math.sqrt(K[0, 0] * K[1, 1])
    assert 7 * math.acos(rho) / math.pi == pytest.approx(known, abs=5e-6)
    values, vectors = np.linalg.eigh(K)
    root = vectors * np.sqrt(np.maximum(values, 0))
    z = np.random.default_rng(depth).standard_normal((20_000, 128)) @ root.T
    sampled = sensitivity.average_sensitivity((z > 0).astype(np.uint8))
    error = sampled.std(ddof=1) / math.sqrt(len(sampled))
    assert abs(sampled.mean() - known) < 4.5 * error  # false alarm 7e-6 a case
