"""The compiled sampler against plain numpy: same parameters, and same law from other randomness."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy import special

from simprior import Network
from simprior.boolean.sampling.job import Job, check_range
from simprior.boolean.sampling.kernel import draw_heads, draw_panel
from simprior.boolean.sampling.sample import sample
from simprior.boolean.sampling.tasks import count_range
from simprior.boolean.sampling.tile import WIDTHS, tile_width
from simprior.boolean.truthtable import input_matrix, pack, unpack
from simprior.errors import InputError
from simprior.network.density import thresholds
from simprior.numerics.random import philox_key

LOW, HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_rng = np.random.default_rng(0)
X5 = _rng.standard_normal((5, 3))
X70 = np.concatenate([_rng.standard_normal((60, 4)), np.zeros((2, 4)), np.eye(4), np.ones((4, 4))])
X130 = np.concatenate([_rng.integers(0, 2, (128, 9)) * 2.5, np.zeros((2, 9))])

SPECS = {
    "default": Network(),
    "no bias": Network(sigma_b=0.0),
    "tanh": Network(n=5, hidden=(13,), activation="tanh"),
    "erf": Network(n=4, hidden=(7, 5), activation="erf", sigma_b=0.3),
    "gelu": Network(n=5, hidden=(41,), activation="gelu", encoding="pm1"),
    "sin": Network(n=4, hidden=(8, 8), activation="sin", sigma_w=3.0),
    "linear": Network(n=3, hidden=(20, 3), activation="linear"),
    "step": Network(n=6, hidden=(24,), activation="step", encoding="pm1"),
    "perceptron": Network(n=5, hidden=()),
    "one bit": Network(n=1, hidden=(1,)),
    "two bits": Network(n=2, hidden=(1, 1, 1), encoding="pm1", sigma_b=0.0),
    "three layers": Network(n=3, hidden=(7, 13, 41), sigma_b=0.5),
    "uniform": Network(n=4, hidden=(16,), weight_dist="uniform"),
    "uniform perceptron": Network(n=3, hidden=(), weight_dist="uniform", sigma_b=0.7),
    "a layer each": Network(
        n=4, hidden=(12, 9), sigma_w=(2.0, 0.5, 1.0), sigma_b=(0.0, 1.0, 0.2), activation="tanh"
    ),
    "eight bits": Network(n=8, hidden=(9,)),
    "m=5": Network(inputs=X5, hidden=(11,)),
    "m=70": Network(inputs=X70, hidden=(17, 6), sigma_b=0.0),
    "m=130": Network(inputs=X130, hidden=(10,), encoding="pm1", activation="step"),
    "m=1": Network(inputs=[[0.0, 1.0]], hidden=(3,)),
    "wide": Network(n=3, hidden=(129,)),
}


# ------------------------------------------------ plain numpy evaluation of the same parameters


def words(key: int, network: int, layer: int, block: np.ndarray) -> np.ndarray:
    """(blocks, 4, 16) uint32: Philox4x32-10 in numpy, from the layout in
    ``simprior.numerics.compiled``.
    """
    block = np.asarray(block, np.uint64)
    c0 = (block[:, None] << np.uint64(4)) + np.arange(16, dtype=np.uint64)
    c = [c0, np.full_like(c0, layer), np.full_like(c0, network & 0xFFFFFFFF)]
    c.append(np.full_like(c0, network >> 32))
    k = [np.uint64(key & 0xFFFFFFFF), np.uint64(key >> 32)]
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(p1 >> HALF) ^ c[1] ^ k[0], p1 & LOW, (p0 >> HALF) ^ c[3] ^ k[1], p0 & LOW]
        k = [(k[0] + np.uint64(0x9E3779B9)) & LOW, (k[1] + np.uint64(0xBB67AE85)) & LOW]
    return np.stack(c, axis=1)


def deviates(key: int, network: int, layer: int, block: np.ndarray, uniform: bool) -> np.ndarray:
    """(blocks, 64) float64 numbers of variance 1."""
    w = words(key, network, layer, block).astype(np.float64)
    if uniform:
        signed = np.where(w < 2**31, w, w - 2**32)
        return ((signed + 0.5) / 2**31 * math.sqrt(3)).reshape(len(w), 64)
    radius = np.sqrt(-2 * np.log(np.minimum(w[:, 0::2] / 2**32 + 2.0**-33, 1.0)))
    angle = 2 * np.pi * w[:, 1::2] / 2**32
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=2)
    return pairs.reshape(len(w), 64)


def parameters(net: Network, key: int, draw: int, heads: int) -> list[np.ndarray]:
    """One (fan_in + 1, units) float64 matrix a layer, its last row the bias."""
    uniform, out = net.weight_dist == "uniform", []
    for layer, (fan, width) in enumerate(zip(net.fan_ins, (*net.hidden, heads), strict=True)):
        if layer < net.depth:
            nt = tile_width(width)
            per = -(-(fan + 1) * nt // 64)
            panels = [
                deviates(key, draw, layer, np.arange(per) + p * per, uniform)
                .ravel()[: (fan + 1) * nt].reshape(fan + 1, nt)
                for p in range(-(-width // nt))
            ]  # fmt: skip
            z = np.concatenate(panels, axis=1)[:, :width]
        elif heads == 1:
            z = deviates(key, draw, layer, np.arange(fan // 64 + 1), uniform).reshape(-1, 1)
            z = z[: fan + 1]
        else:
            groups = -(-heads // 64)
            blocks = deviates(key, draw, layer, np.arange(groups * (fan + 1)), uniform)
            z = blocks.reshape(groups, fan + 1, 64).transpose(1, 0, 2).reshape(fan + 1, -1)
            z = z[:, :heads]
        scale = np.full((fan + 1, 1), net.sigma_ws[layer] / math.sqrt(fan))
        scale[-1] = net.sigma_bs[layer]
        out.append(z * scale)
    return out


ACT = {
    "relu": lambda z: np.maximum(z, 0.0),
    "tanh": np.tanh,
    "erf": special.erf,
    "gelu": lambda z: 0.5 * z * (1 + special.erf(z / math.sqrt(2))),
    "sin": np.sin,
    "linear": lambda z: z,
    "step": lambda z: (z > 0).astype(z.dtype),
}


def outputs(net: Network, layers: list[np.ndarray]) -> np.ndarray:
    """(m, heads) pre-activations of the output, in float64."""
    h = input_matrix(net)
    for layer, w in enumerate(layers):
        h = h @ w[:-1] + w[-1]
        if layer < net.depth:
            h = ACT[str(net.activation)](h)
    return h


def counted(net: Network, seed: int, draws: range, heads: int) -> dict[bytes, int]:
    job = Job(net, samples=draws.stop * heads, seed=seed, heads=heads)
    counter = count_range(job, draws.start, draws.stop)
    rows, tally = counter.result(len(draws) * heads, len(draws), job.iid)
    assert tally.ones[:, 0].sum() == rows.count.sum() == len(draws) * heads
    return {w.tobytes(): int(k) for w, k in zip(rows.words, rows.count, strict=True)}


def difference(a: dict[bytes, int], b: dict[bytes, int]) -> int:
    """Functions that one of the two has and the other has not (each flip counts once)."""
    return sum(max(0, k - b.get(name, 0)) for name, k in a.items())


@pytest.mark.parametrize("heads", [1, 5, 64, 100])
@pytest.mark.parametrize("name", SPECS)
def test_same_functions_as_plain_numpy_in_double_precision(name: str, heads: int) -> None:
    """Parameters rebuilt from the documented layout, evaluated in float64.

    float32 parameters and sums differ from these by about 1e-6 relative, so a function of m inputs
    flips about 1e-6 m times as often as its outputs come near 0: for at most 13,000 outputs
    here no more than two functions may differ (a wrong layout changes nearly all).
    """
    net, seed = SPECS[name], 11
    draws = range(3, 3 + (100 if heads == 1 else 6))
    key = philox_key(seed, "networks")
    expected: dict[bytes, int] = {}
    for draw in draws:
        z = outputs(net, parameters(net, key, draw, heads))
        for row in pack((z > 0).T.astype(np.uint8)):
            expected[row.tobytes()] = expected.get(row.tobytes(), 0) + 1
    assert difference(expected, counted(net, seed, draws, heads)) <= 2


def test_last_cluster_is_cut_short() -> None:
    net, key = Network(n=4, hidden=(6,)), philox_key(2, "networks")
    counts = sample(net, samples=150, seed=2, heads=64, mirror=False)
    tables = [(outputs(net, parameters(net, key, c, 64)) > 0).T[: 150 - 64 * c] for c in range(3)]
    t = np.concatenate(tables).sum(1)
    np.testing.assert_array_equal(counts.ones[:, 0], np.bincount(t, minlength=17))
    assert counts.draws == 3 and counts.count.sum() == 150


# ------------------------------------------------ float32 against float64, same float32 parameters


def float32_parameters(net: Network, key: int, draw: int, heads: int) -> list[np.ndarray]:
    """What the kernel itself draws, as float64 arrays of the float32 values."""
    out, buf = [], np.empty(32, np.uint64)
    common, kept = (np.uint64(key),), thresholds(net.densities)
    for layer, (fan, width) in enumerate(zip(net.fan_ins, (*net.hidden, heads), strict=True)):
        scale = np.float32(net.sigma_ws[layer] / math.sqrt(fan))
        ratio = np.float32(net.sigma_bs[layer] / (net.sigma_ws[layer] / math.sqrt(fan)))
        nt = tile_width(width) if layer < net.depth else 16
        units = []
        if layer < net.depth:
            for p in range(-(-width // nt)):
                w = np.zeros((fan + 1) * nt + 64, np.float32)
                draw_panel(w, p, fan, nt, buf, buf.view(np.uint32), layer, draw, *common, scale,
                           ratio, False, kept[layer])  # fmt: skip
                units.append(w[: (fan + 1) * nt].reshape(fan + 1, nt))
        else:
            alive = np.ones(fan, np.uint8)
            for group in range(heads // 64):
                v = np.zeros((fan + 1) * 64, np.float32)
                draw_heads(v, group, fan, alive, buf, buf.view(np.uint32), layer, draw, *common,
                           scale, scale * ratio, False, kept[layer])  # fmt: skip
                units.extend(v.reshape(4, fan + 1, 16))
        out.append(np.concatenate(units, axis=1)[:, :width].astype(np.float64))
    return out


@pytest.mark.slow
def test_float32_flips_at_most_a_few_functions_in_a_million() -> None:
    """Same float32 parameters evaluated in float64: share of functions with any other bit.

    Measured (3.2 +- 0.6)e-6 for the default network in 1.0e7 functions, (4 to 5) +- 1.5e-6 at
    sigma_b = 0, with tanh, erf, +-1 inputs and at width 128. 2.56 million functions are compared
    here: at 3.2e-6 more than 20 flips have probability 1e-4, at twice that rate 0.14.
    """
    net, heads, draws, seed = Network(), 256, 10_000, 3
    key = philox_key(seed, "networks")
    flips = 0
    for start in range(0, draws, 500):
        expected: dict[bytes, int] = {}
        for draw in range(start, start + 500):
            z = outputs(net, float32_parameters(net, key, draw, heads))
            for row in pack((z > 0).T.astype(np.uint8)):
                expected[row.tobytes()] = expected.get(row.tobytes(), 0) + 1
        flips += difference(expected, counted(net, seed, range(start, start + 500), heads))
    assert flips <= 20


# ------------------------------------------------ same law from an independent Monte Carlo


def monte_carlo(net: Network, samples: int, seed: int) -> np.ndarray:
    """(samples, m) truth tables of independent networks: numpy, float64, its own random numbers."""
    rng, tables = np.random.default_rng(seed), []
    x = input_matrix(net)
    for start in range(0, samples, 2000):
        size = min(2000, samples - start)
        h = np.broadcast_to(x, (size, *x.shape))
        for layer, (fan, width) in enumerate(zip(net.fan_ins, (*net.hidden, 1), strict=True)):

            def draw(sigma: float, *shape: int) -> np.ndarray:
                if net.weight_dist == "uniform":
                    return sigma * math.sqrt(3) * rng.uniform(-1, 1, (size, *shape))  # noqa: B023
                return sigma * rng.standard_normal((size, *shape))  # noqa: B023

            h = h @ draw(net.sigma_ws[layer] / math.sqrt(fan), fan, width)
            h = h + draw(net.sigma_bs[layer], 1, width)
            if layer < net.depth:
                h = ACT[str(net.activation)](h)
        tables.append(h[:, :, 0] > 0)
    return np.concatenate(tables)


def compare(net: Network, counts: Any, tables: np.ndarray, functions: int = 30) -> float:
    """Largest |z| over common functions, both constants, and P(t) in about 12 bins."""
    n, m = len(tables), net.m
    z = []

    def score(p: float, error: float, hits: int) -> None:
        q = hits / n
        spread = math.sqrt(error**2 + max(p, q, 1 / n) * (1 - min(p, q)) / n)
        z.append(abs(p - q) / spread)

    packed, met = np.unique(pack(tables.astype(np.uint8)), axis=0, return_counts=True)
    seen = {row.tobytes(): int(k) for row, k in zip(packed, met, strict=True)}
    top = counts.head(functions)
    for row, p, error in zip(top.words, top.p, top.stderr, strict=True):
        if p * n > 25:
            score(float(p), float(error), seen.get(row.tobytes(), 0))
    frame, ones = counts.ones_frame(), np.bincount(tables.sum(1), minlength=m + 1)
    for t in (0, m):
        score(frame.p[t], frame.stderr[t], int(ones[t]))
    edges = np.unique(np.linspace(1, m, 13).astype(int))
    effect = float(frame.design_effect.max())
    for a, b in pairwise(edges):
        p = float(frame.p[a:b].sum())
        score(p, math.sqrt(p * (1 - p) / counts.samples * effect * (b - a)), int(ones[a:b].sum()))
    return max(z)


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
def test_same_law_as_an_independent_monte_carlo(name: str) -> None:
    """Up to 45 comparisons a network, 20 networks: |z| < 5.5 for all fails once in 3e4 draws.

    Independent networks, which take longest, are as many as those of numpy: of two equal samples of
    100,000 a function of P = .1 that is 7.5 % off is 5.5 standard errors off; shared ones are more.
    """
    net = SPECS[name]
    size = 40_000 if net.m * sum(net.hidden) > 4000 else 100_000
    tables = monte_carlo(net, size, seed=5)
    for heads in ("auto", 1):
        counts = sample(net, samples=size if heads == 1 else 10**6, seed=6, heads=heads)
        assert compare(net, counts, tables) < 5.5
    counts = sample(net, samples=4 * 10**5, seed=7, heads=48)
    assert compare(net, counts, tables) < 5.5


@pytest.mark.parametrize("name", ["default", "tanh", "gelu", "three layers", "a layer each"])
def test_one_head_and_many_agree(name: str) -> None:
    """z of the constants and of common functions between independent and shared networks; |z| < 5
    for at most 10 comparisons each fails once in 3e4 draws of the seeds."""
    net = SPECS[name]
    one = sample(net, samples=150_000, seed=1, heads=1)
    many = sample(net, samples=600_000, seed=2, heads=64)
    row = many.find(one.head(10).tables())
    assert (row >= 0).all()
    error = np.hypot(one.head(10).stderr, many.stderr[row])
    assert (np.abs(one.head(10).p - many.p[row]) < 5 * error).all()


# ------------------------------------------------ exact facts


def test_zero_input_without_bias_is_always_0() -> None:
    for name in ("no bias", "m=70"):
        net = SPECS[name]
        for heads in (1, 64):
            counts = sample(net, samples=20_000, seed=1, heads=heads)
            tables, zero = counts.tables(), ~input_matrix(net).any(1)
            assert zero.any() and not tables[:, zero].any() and counts.ones[net.m, 0] == 0


def test_equal_inputs_get_equal_outputs_and_single_output_is_fair() -> None:
    tables = sample(SPECS["m=70"], samples=20_000, seed=3).tables()
    np.testing.assert_array_equal(tables[:, -1], tables[:, -2])
    single = sample(SPECS["m=1"], samples=10**6, seed=3)
    # sign of a symmetric variable; |z| < 5, standard error by cluster
    assert abs(single.p[0] - 0.5) < 5 * single.stderr[0]


def test_relu_functions_do_not_change_when_both_sigmas_are_scaled() -> None:
    """A power of two scales every float32 exactly: the counts are the same, bit for bit."""
    for scale in (2.0**-20, 4.0, 2.0**20):
        net = Network(n=6, hidden=(9, 9), sigma_w=1.0, sigma_b=0.5)
        # bias of layer l must follow the growth of the weights before it
        other = replace(net, sigma_w=scale, sigma_b=(0.5 * scale, 0.5 * scale**2, 0.5 * scale**3))
        a, b = (sample(x, samples=50_000, seed=4, heads=64) for x in (net, other))
        np.testing.assert_array_equal(a.words, b.words)
        np.testing.assert_array_equal(a.rows.sumsq, b.rows.sumsq)


def test_every_tile_width_is_used() -> None:
    assert {tile_width(w) for w in range(1, 130)} == set(WIDTHS)
    for width in (1, 8, 9, 12, 13, 16, 17, 20, 24, 25, 40, 41, 64, 100):
        net, key = Network(n=4, hidden=(width, width)), philox_key(0, "networks")
        z = outputs(net, parameters(net, key, 0, 64))
        found = counted(net, 0, range(1), 64)
        expected: dict[bytes, int] = {}
        for row in pack((z > 0).T.astype(np.uint8)):
            expected[row.tobytes()] = expected.get(row.tobytes(), 0) + 1
        assert difference(expected, found) <= 1


@pytest.mark.parametrize(
    ("options", "layer", "where"),
    [
        ({"sigma_w": 1e20}, 2, "below 1e+30"),
        ({"sigma_w": 1.0, "sigma_b": 1e30}, 1, "below 1e+30"),
        ({"sigma_w": 1e-15, "sigma_b": 0.0}, 2, "above 1e-30"),
        ({"sigma_w": 1e-38}, 1, "above 1e-30"),
        ({"sigma_b": 1e-40}, 1, "above 1e-30"),
        ({"activation": "sin", "sigma_w": 1e6}, 1, "below 1e+06"),
    ],
)
def test_sigmas_beyond_float32_are_refused(options: Any, layer: int, where: str) -> None:
    """They made NaN or 0, and so constant functions, without a word."""
    with pytest.raises(InputError) as error:
        sample(Network(**options), samples=10)
    text = str(error.value)
    assert f"expected pre-activations {where} (layer {layer} can reach " in text
    assert text.endswith("or use dtype float64") and "\n" not in text


def test_tiny_and_huge_sigmas_within_float32_are_exact() -> None:
    """10^-8 and 10^8: the law of the signs is that of 1 (relu, no bias; false alarm 1e-5)."""
    p = []
    for s in (1e-8, 1.0, 1e8):
        c = sample(Network(sigma_w=s, sigma_b=0.0, hidden=(10,)), samples=200_000, seed=9, heads=64)
        p.append(c.ones_frame().p[0])
    assert p[0] == pytest.approx(p[1], abs=1e-4) and p[2] == pytest.approx(p[1], abs=1e-4)


def test_deep_networks_that_shrink_are_accepted() -> None:
    check_range(Network(hidden=(1024,) * 10, sigma_w=0.1, sigma_b=0.0))
    check_range(Network(hidden=(40,) * 10, sigma_w=2.0))


def test_unpacked_tables_match_words() -> None:
    c = sample(SPECS["m=130"], samples=1000, seed=0)
    np.testing.assert_array_equal(pack(c.tables()), c.words)
    np.testing.assert_array_equal(unpack(c.words[:3], 130), c.tables(3))
