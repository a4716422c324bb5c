"""Counter-based generator: published known answers, block layout, laws of the numbers it makes.

Statistical checks use fixed seeds; each states how often a correct generator would fail it if the
seed were drawn anew.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from simprior.numerics.compiled import BLOCK, fill, philox4x32
from simprior.numerics.random import philox_key

M0, M1, W0, W1 = 0xD2511F53, 0xCD9E8D57, 0x9E3779B9, 0xBB67AE85
LOW = 0xFFFFFFFF


def plain_philox(counter: tuple[int, ...], key: tuple[int, int]) -> tuple[int, ...]:
    """Philox4x32-10 in Python integers, from the description in Salmon et al. (SC 2011)."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = M0 * c0, M1 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & LOW, (p0 >> 32) ^ c3 ^ k1, p0 & LOW
        k0, k1 = (k0 + W0) & LOW, (k1 + W1) & LOW
    return c0, c1, c2, c3


def numbers(
    blocks: int, *, first: int = 0, c1: int = 0, network: int = 0, key: int = 1,
    scale: float = 1.0, uniform: bool = False,
) -> np.ndarray:  # fmt: skip
    out, buf = np.empty(blocks * BLOCK, np.float32), np.empty(32, np.uint64)
    args = (np.uint64(network), np.uint64(key), np.float32(scale), uniform)
    fill(out, blocks, buf, buf.view(np.uint32), first, c1, *args)
    return out


# Known answers of the authors' Random123 distribution (kat_vectors, philox4x32 with 10 rounds).
@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((LOW,) * 4, (LOW, LOW), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_published_known_answers(
    counter: tuple[int, ...], key: tuple[int, int], answer: tuple[int, ...]
) -> None:
    assert tuple(int(w) for w in philox4x32(*counter, *key)) == answer
    assert plain_philox(counter, key) == answer


def test_scalar_function_equals_plain_python() -> None:
    rng = np.random.default_rng(1)
    for row in rng.integers(0, 2**32, (200, 6)).tolist():
        found = tuple(int(w) for w in philox4x32(*row))
        assert found == plain_philox(tuple(row[:4]), (row[4], row[5]))


@pytest.mark.parametrize("block", [0, 1, 77, 2**28 - 1])
@pytest.mark.parametrize(("c1", "network"), [(0, 0), (3, 5), (LOW, 2**32 + 9), (1, 2**53 - 1)])
def test_block_is_the_scalar_function_lane_by_lane(block: int, c1: int, network: int) -> None:
    key = philox_key(4, "networks")
    centred = numbers(
        1, first=block, c1=c1, network=network, key=key, scale=1 / math.sqrt(3), uniform=True
    )
    counter = [
        plain_philox((16 * block + lane, c1, network & LOW, network >> 32), (key & LOW, key >> 32))
        for lane in range(16)
    ]
    words = np.array(counter).T.ravel()  # number 16 w + l: word w of counter 16 b + l
    signed = words.astype(np.uint32).view(np.int32).astype(np.float64)
    # scale 1 / sqrt(3) makes the half-width of the uniform law 1; float32 rounds twice
    np.testing.assert_allclose(centred, (signed + 0.5) / 2**31, rtol=4e-7, atol=1e-9)
    normal = numbers(1, first=block, c1=c1, network=network, key=key)
    w = words.reshape(4, 16).astype(np.float64)
    for first in (0, 2):
        radius = np.sqrt(-2 * np.log(w[first] / 2**32 + 2.0**-33))
        angle = 2 * np.pi * w[first + 1] / 2**32
        for offset, exact in ((0, radius * np.cos(angle)), (1, radius * np.sin(angle))):
            got = normal.reshape(4, 16)[first + offset]
            # log_f32 of a number near 1 has the float32 grain of its argument, 6e-8
            slack = 1e-6 * np.abs(exact) + 3e-7 + 6e-8 / np.maximum(radius, 1e-4)
            assert (np.abs(got - exact) < slack).all()


def test_every_argument_matters_and_blocks_are_consecutive() -> None:
    base = numbers(4)
    np.testing.assert_array_equal(base[BLOCK:], numbers(3, first=1))
    for change in ({"c1": 1}, {"network": 1}, {"key": 2}, {"first": 4}, {"network": 2**32}):
        assert not np.isin(numbers(4, **change), base).any()
    np.testing.assert_array_equal(numbers(4, scale=0.25), base * np.float32(0.25))


N = 1 << 22


@pytest.fixture(scope="module")
def normals() -> np.ndarray:
    """4 million numbers as a run uses them: one block each of many networks."""
    per = 16
    parts = [
        numbers(per, network=k, c1=k % 3, key=philox_key(0, "t")) for k in range(N // 64 // per)
    ]
    return np.concatenate(parts).astype(np.float64)


# Standard errors of the first moments of N(0, 1): 1, sqrt 2, sqrt 15, sqrt 96 over sqrt N.
# |z| < 5 fails once in 1.7e6 runs.
@pytest.mark.parametrize(
    ("power", "mean", "sd"), [(1, 0, 1), (2, 1, 2**0.5), (3, 0, 15**0.5), (4, 3, 96**0.5)]
)
def test_moments_of_the_normals(normals: np.ndarray, power: int, mean: float, sd: float) -> None:
    assert abs((normals**power).mean() - mean) < 5 * sd / math.sqrt(N)


def test_normals_pass_kolmogorov_smirnov_and_chi_square(normals: np.ndarray) -> None:
    assert stats.kstest(normals, "norm").pvalue > 1e-5
    edges = stats.norm.ppf(np.arange(1, 1024) / 1024)
    counts = np.bincount(np.searchsorted(edges, normals), minlength=1024)
    assert stats.chisquare(counts).pvalue > 1e-5


def test_tails_of_the_normals(normals: np.ndarray) -> None:
    for z in (3.0, 4.0, 4.5, 5.0):
        expected = N * 2 * stats.norm.sf(z)
        found = int((np.abs(normals) > z).sum())
        # two-sided Poisson tail of 1e-5 each
        assert stats.poisson.ppf(1e-5, expected) <= found <= stats.poisson.isf(1e-5, expected)
    # r = sqrt(2 ln 2^33) is the largest radius that 32 bits can make
    assert np.abs(normals).max() < math.sqrt(2 * 33 * math.log(2)) * (1 + 1e-6)


def test_no_correlation_within_a_block_nor_between_networks(normals: np.ndarray) -> None:
    rows = normals.reshape(-1, BLOCK)
    n = len(rows)
    for values in (rows, rows**2):
        z = np.corrcoef(values.T) * math.sqrt(n)
        off = z[np.triu_indices(BLOCK, 1)]  # 2016 pairs: |z| < 6 fails once in 2.5e5 runs
        assert np.abs(off).max() < 6
    centred = normals - normals.mean()
    for lag in (1, 16, 32, 64, 1024):
        z = (centred[:-lag] * centred[lag:]).mean() * math.sqrt(N - lag)
        assert abs(z) < 5


def test_uniform_numbers() -> None:
    scale = 0.7
    x = numbers(N // 64, uniform=True, scale=scale, key=philox_key(1, "t")).astype(np.float64)
    half = scale * math.sqrt(3)
    assert np.abs(x).max() <= half * (1 + 1e-6)
    assert abs(x.mean()) < 5 * scale / math.sqrt(N)
    # var(x^2) = half^4 (1/5 - 1/9)
    assert abs((x * x).mean() - scale**2) < 5 * half**2 * math.sqrt(4 / 45 / N)
    counts = np.histogram(x, 512, (-half, half))[0]
    assert stats.chisquare(counts).pvalue > 1e-5
    z = np.corrcoef(x.reshape(-1, BLOCK).T) * math.sqrt(N / BLOCK)
    assert np.abs(z[np.triu_indices(BLOCK, 1)]).max() < 6


def test_serial_triples_fill_the_cube(normals: np.ndarray) -> None:
    """Consecutive triples of Phi(x): chi-square on 8^3 cells (fails once in 1e5 runs)."""
    u = np.floor(stats.norm.cdf(normals[: N // 3 * 3]) * 8).astype(int).reshape(-1, 3)
    cells = np.bincount(u @ [64, 8, 1], minlength=512)
    assert stats.chisquare(cells).pvalue > 1e-5
