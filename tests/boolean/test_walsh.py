"""Walsh spectra: identities on all functions of four bits, and against sums written out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simprior.boolean import sensitivity as walsh
from simprior.boolean.sensitivity import sensitivity_packed
from simprior.boolean.truthtable import named as named_table
from simprior.boolean.truthtable import pack
from simprior.errors import InputError

ALL4 = (np.arange(65536, dtype=np.uint64) << np.uint64(48))[:, None]


def random_words(n: int, functions: int, seed: int) -> np.ndarray:
    return pack(np.random.default_rng(seed).integers(0, 2, (functions, 1 << n)).astype(np.uint8))


def test_parseval_and_total_influence_on_all_functions_of_four_bits() -> None:
    found = walsh.walsh_packed(ALL4, 16)
    weights = np.stack([found[f"walsh_weight_{k}"] for k in range(5)], axis=1)
    assert (weights.sum(axis=1) == 1).all()  # dyadic fractions: exact
    average = sensitivity_packed(ALL4, 16)["average_sensitivity"]
    assert (weights @ np.arange(5) == average).all()
    assert (found["walsh_mean_degree"] == average).all()
    assert (found["walsh_l1"] >= 1).all()
    assert (found["walsh_linf"] <= 1).all()
    # the constant, and the parities and their complements, have one coefficient
    assert (found["walsh_linf"] == 1).sum() == 32
    assert ((found["walsh_l1"] == 1) == (found["walsh_linf"] == 1)).all()


@pytest.mark.parametrize("n", [1, 3, 5, 6, 7])
def test_coefficients_are_the_sums_of_the_definition(n: int) -> None:
    words = random_words(n, 5, seed=n)
    tables = np.unpackbits(words.astype(">u8").view(np.uint8).reshape(5, -1), axis=1)[:, : 1 << n]
    x = np.arange(1 << n)
    parity = np.array([[(a & b).bit_count() & 1 for b in map(int, x)] for a in map(int, x)])
    expected = (1.0 - 2.0 * tables) @ (1 - 2 * parity).T / (1 << n)
    assert np.allclose(walsh.spectrum(tables), expected, atol=1e-14, rtol=0)
    found = walsh.walsh_packed(words, 1 << n)
    assert np.allclose(found["walsh_l1"], np.abs(expected).sum(axis=1), atol=1e-12)
    assert np.allclose(found["walsh_linf"], np.abs(expected).max(axis=1), atol=1e-14)
    size = np.array([int(s).bit_count() for s in x])
    degree = [(size * (np.abs(row) > 1e-12)).max() for row in expected]
    assert found["walsh_degree"].tolist() == degree


@pytest.mark.parametrize("rho", [-1.0, -0.3, 0.0, 0.5, 0.9, 1.0])
def test_noise_stability_is_the_expectation_over_noisy_copies(rho: float) -> None:
    n, m = 4, 16
    words = random_words(n, 6, seed=3)
    tables = np.unpackbits(words.astype(">u8").view(np.uint8).reshape(6, -1), axis=1)[:, :m]
    sign = 1.0 - 2.0 * tables
    x = np.arange(m)
    distance = np.array([[(a ^ b).bit_count() for b in map(int, x)] for a in map(int, x)])
    law = ((1 + rho) / 2) ** (n - distance) * ((1 - rho) / 2) ** distance
    expected = np.einsum("fx,xy,fy->f", sign, law, sign) / m
    assert np.allclose(walsh.noise_stability_packed(words, m, rho), expected, atol=1e-13)


def test_parity_and_constants() -> None:
    for n in (2, 4, 7):
        tables = np.stack([named_table("parity", n), named_table("const1", n)])
        found = walsh.walsh_packed(pack(tables), 1 << n)
        assert found[f"walsh_weight_{n}"].tolist() == [1.0, 0.0]
        assert found["walsh_degree"].tolist() == [n, 0]
        stable = walsh.noise_stability_packed(pack(tables), 1 << n, 0.9)
        assert stable == pytest.approx([0.9**n, 1.0])


@pytest.mark.parametrize("rho", [1.1, -2, math.nan, "x", True])
def test_noise_out_of_range(rho: object) -> None:
    with pytest.raises(InputError, match="noise="):
        walsh.noise_stability_packed(ALL4[:1], 16, rho)  # type: ignore[arg-type]


def test_only_all_bit_strings() -> None:
    with pytest.raises(InputError, match="functions of 12 inputs"):
        walsh.spectrum(np.zeros((1, 12), np.uint8))
