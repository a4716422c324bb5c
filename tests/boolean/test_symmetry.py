"""Symmetries of the prior: when they hold, canonical forms against brute force, pooling."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import erf
from scipy.stats import chi2

from simprior.boolean.sampling.sample import sample
from simprior.boolean.symmetry import Symmetry, canonical, pool, symmetries
from simprior.boolean.truthtable import (
    bit_matrix,
    function_names,
    input_matrix,
    named,
    pack,
    unpack,
)
from simprior.errors import InputError
from simprior.network.spec import Network

KINDS = [Symmetry(*kind) for kind in itertools.product((False, True), repeat=3)]
FULL = Symmetry(True, True, True)


def moved_index(n, permutation, flips):
    """Index j -> index of the input whose bits are those of j permuted and then flipped."""
    bits = bit_matrix(n).astype(np.int64)[:, list(permutation)] ^ np.asarray(flips)
    return bits @ (1 << np.arange(n - 1, -1, -1))


def generators(n, symmetry):
    """Index maps and a negation flag that generate the group (adjacent swaps, one flip)."""
    still = [0] * n
    if symmetry.permute:
        for k in range(n - 1):
            order = list(range(n))
            order[k], order[k + 1] = k + 1, k
            yield moved_index(n, order, still), 0
    if symmetry.flip:
        for k in range(n):
            yield moved_index(n, range(n), [int(i == k) for i in range(n)]), 0
    if symmetry.negate:
        yield np.arange(2**n), 1


def classes_by_components(n, symmetry):
    """Class of each of the 2^2^n functions, as components of the graph of the generators."""
    m = 2**n
    numbers = np.arange(1 << m)
    tables = ((numbers[:, None] >> np.arange(m - 1, -1, -1)) & 1).astype(np.uint8)
    powers = 1 << np.arange(m - 1, -1, -1)
    images = [(tables[:, index] ^ sign) @ powers for index, sign in generators(n, symmetry)]
    rows = np.tile(numbers, len(images))
    columns = np.concatenate(images) if images else numbers[:0]
    edges = coo_array((np.ones(rows.size), (rows, columns)), shape=(1 << m, 1 << m))
    return tables, powers, *connected_components(edges, directed=False)


# Numbers of classes: OEIS A003180 (permutations), A000616 (and flips), A000370 (NPN).
KNOWN = {
    (3, (True, False, False)): 80, (3, (True, True, False)): 22, (3, (True, True, True)): 14,
    (4, (True, False, False)): 3984, (4, (True, True, False)): 402, (4, (True, True, True)): 222,
}  # fmt: skip


@pytest.mark.parametrize("symmetry", KINDS, ids=lambda s: f"{s.permute:d}{s.flip:d}{s.negate:d}")
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_all_functions_against_brute_force(n, symmetry):
    tables, powers, number, label = classes_by_components(n, symmetry)
    canon, orbit = canonical(pack(tables), n, symmetry)
    form = unpack(canon, 2**n) @ powers
    assert np.array_equal(label[form], label)  # the form is in the class
    first = np.full(number, -1)
    first[label] = form
    assert np.array_equal(first[label], form)  # and is the same for all of the class
    assert np.array_equal(orbit, np.bincount(label)[label])
    expected = KNOWN.get((n, (symmetry.permute, symmetry.flip, symmetry.negate)))
    assert expected in (None, number)


def random_function(n, rng):
    """Uniform, biased, or structured (few variables, affine, threshold) functions."""
    bits = bit_matrix(n).astype(np.int64)
    kind = rng.integers(0, 6)
    if kind == 0:
        return rng.integers(0, 2, 2**n)
    if kind == 1:
        return (rng.random(2**n) < 3 / 2**n).astype(int)
    if kind == 2:
        return (bits[:, : rng.integers(1, n + 1)].sum(axis=1) % 2).astype(int)
    if kind == 3:
        return (bits @ rng.integers(-1, 2, n) > 0).astype(int)
    if kind == 4:
        return (bits * np.roll(bits, 1, axis=1)).sum(axis=1) % 2
    return named(rng.choice(function_names(n)), n)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(st.integers(1, 9), st.integers(0, 2**32), st.sampled_from(KINDS))
def test_form_and_size_depend_on_the_class_only(n, seed, symmetry):
    rng = np.random.default_rng(seed)
    table = random_function(n, rng).astype(np.uint8)
    order = rng.permutation(n) if symmetry.permute else np.arange(n)
    flips = rng.integers(0, 2, n) if symmetry.flip else np.zeros(n, dtype=int)
    image = table[moved_index(n, order, flips)] ^ (rng.integers(0, 2) if symmetry.negate else 0)
    words = pack(np.array([table, image]))
    canon, orbit = canonical(words, n, symmetry)
    assert np.array_equal(canon[0], canon[1]) and orbit[0] == orbit[1]
    again, size = canonical(canon, n, symmetry)
    assert np.array_equal(again, canon) and np.array_equal(size, orbit)
    assert symmetry.order(n) % orbit[0] == 0  # a class size divides the group order


def brute_orbit(table, n, flips):
    """All distinct images under permutations, negation and, if wanted, flips; sorted rows."""
    permutations = np.array([moved_index(n, p, [0] * n) for p in itertools.permutations(range(n))])
    found = []
    for mask in range(2**n if flips else 1):
        moved = pack(table[permutations ^ mask])
        full = pack(np.ones((1, 2**n), dtype=np.uint8))
        found.append(np.concatenate([moved, moved ^ full]))
    return np.unique(np.concatenate(found), axis=0)


def hamming_code():
    """Indicator of the [7,4] Hamming code: all pair weights equal, 2-transitive group."""
    checks = bit_matrix(3)[1:].T  # columns 1..7
    return (~np.any(bit_matrix(7) @ checks.T % 2, axis=1)).astype(np.uint8)


SEVEN_BITS = {
    "random": lambda: np.random.default_rng(11).integers(0, 2, 128).astype(np.uint8),
    "sparse": lambda: (np.random.default_rng(12).random(128) < 0.05).astype(np.uint8),
    "ip": lambda: named("ip", 7),
    "hamming": hamming_code,
    "hamming-parity": lambda: hamming_code() ^ named("parity", 7),
}
# with flips an unstructured function has 1.3e6 images: only the structured ones
SEVEN_CASES = [(name, False) for name in SEVEN_BITS] + [
    (name, True) for name in ("ip", "hamming", "hamming-parity")
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "flips"), SEVEN_CASES)
def test_seven_bits_against_all_permutations(name, flips):
    table = SEVEN_BITS[name]()
    symmetry = Symmetry(True, flips, True)
    images = brute_orbit(table, 7, flips)
    canon, orbit = canonical(images[:: max(1, len(images) // 200)], 7, symmetry)
    assert np.all(orbit == len(images))
    assert len(np.unique(canon, axis=0)) == 1
    assert np.any(np.all(images == canon[0], axis=1))


def test_classes_of_seven_bit_functions_known_by_counting():
    names = ["const0", "parity", "x3", "and", "majority", "xor2"]
    _, orbit = canonical(pack(np.array([named(name, 7) for name in names])), 7, FULL)
    # x_i or its negation: 2n; AND with any literals, or negated: 2 2^n; majority is self-dual, so
    # its negation is a flip: 2^n; XOR of two of seven, or negated: 2 C(7, 2)
    assert orbit.tolist() == [2, 2, 2 * 7, 2 * 2**7, 2**7, 2 * math.comb(7, 2)]


def test_negation_only_works_for_any_number_of_inputs():
    tables = np.random.default_rng(2).integers(0, 2, (300, 70), dtype=np.uint8)
    sign = Symmetry(False, False, True)
    canon, orbit = canonical(pack(tables), 5, sign, m=70)
    other, _ = canonical(pack(1 - tables), 5, sign, m=70)
    assert np.array_equal(canon, other) and np.all(orbit == 2)
    back = unpack(canon, 70)
    assert np.all((back == tables).all(axis=1) | (back == 1 - tables).all(axis=1))


def test_bad_sizes_are_refused():
    with pytest.raises(InputError, match="n from 1 to 10"):
        canonical(np.zeros((1, 32), np.uint64), 11, FULL)
    with pytest.raises(InputError, match="n=5, m=30"):
        canonical(np.zeros((1, 1), np.uint64), 5, FULL, m=30)
    with pytest.raises(InputError, match=r"\(F, 2\)"):
        canonical(np.zeros((1, 1), np.uint64), 7, FULL)
    with pytest.raises(InputError, match="count of shape"):
        pool(np.zeros((2, 2), np.uint64), np.ones(3), 7, FULL)


def test_pool_sums_counts_over_classes():
    rng = np.random.default_rng(4)
    tables = rng.integers(0, 2, (500, 8), dtype=np.uint8)
    count = rng.integers(1, 100, 500)
    pooled = pool(pack(tables), count, 3, FULL)
    canon, orbit = canonical(pack(tables), 3, FULL)
    assert np.array_equal(pooled.words[pooled.inverse], canon)
    assert np.array_equal(pooled.orbit[pooled.inverse], orbit)
    assert len(np.unique(pooled.words, axis=0)) == len(pooled.words)
    expected = np.zeros(len(pooled.words), dtype=np.int64)
    np.add.at(expected, pooled.inverse, count)
    assert np.array_equal(pooled.count, expected) and pooled.count.dtype == count.dtype
    assert np.array_equal(pooled.total(count), expected)


def test_pool_of_nothing_is_empty():
    pooled = pool(np.zeros((0, 2), np.uint64), np.zeros(0, np.int64), 7, FULL)
    assert pooled.words.shape == (0, 2) and pooled.count.shape == (0,)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (True, False, True)),
        ({"encoding": "pm1"}, (True, True, True)),
        ({"weight_dist": "uniform", "encoding": "pm1"}, (True, True, True)),
        ({"sigma_b": 0.0}, (True, False, False)),
        ({"sigma_b": 0.0, "encoding": "pm1"}, (True, True, False)),
        ({"sigma_b": (1.0, 1.0, 0.0)}, (True, False, False)),
        ({"sigma_b": (0.0, 0.0, 1.0)}, (True, False, True)),
        ({"sigma_b": 0.0, "encoding": "pm1", "activation": "tanh"}, (True, True, True)),
        ({"sigma_b": 0.0, "activation": "tanh"}, (True, False, False)),
        ({"sigma_b": (1.0, 0.0, 0.0), "activation": "tanh"}, (True, False, True)),
        ({"sigma_b": 0.0, "hidden": ()}, (True, False, False)),
        ({"sigma_b": 0.0, "hidden": (), "encoding": "pm1"}, (True, True, True)),
        ({"sigma_b": 0.0, "activation": np.abs, "encoding": "pm1"}, (True, True, False)),
        ({"activation": np.abs}, (True, False, True)),
        ({"inputs": [[1.0, 2.0], [0.0, 1.0]]}, (False, False, True)),
        ({"inputs": [[1.0, 2.0], [0.0, 0.0]], "sigma_b": 0.0, "hidden": ()}, (False, False, False)),
        ({"inputs": [[1.0, 2.0], [0.0, 1.0]], "sigma_b": 0.0, "hidden": ()}, (False, False, True)),
    ],
)
def test_symmetries_of_networks(options, expected):
    found = symmetries(Network(**options))
    assert (found.permute, found.flip, found.negate) == expected
    assert len(found.reasons) == 3 and all(found.reasons)


PHI = {
    "relu": lambda a: np.maximum(a, 0),
    "step": lambda a: (a > 0).astype(float),
    "tanh": np.tanh,
    "erf": erf,
    "sin": np.sin,
    "linear": lambda a: a,
    "gelu": lambda a: a * (1 + erf(a / math.sqrt(2))) / 2,
}


def outputs(network, count, rng):
    """z of ``count`` independent networks on all inputs, (count, m), written out plainly."""
    h = np.broadcast_to(input_matrix(network), (count, network.m, network.d))
    sizes = (*network.hidden, 1)
    for layer, (fan_in, size) in enumerate(zip(network.fan_ins, sizes, strict=True)):
        w = rng.standard_normal((count, fan_in, size)) * network.sigma_ws[layer] / fan_in**0.5
        b = rng.standard_normal((count, 1, size)) * network.sigma_bs[layer]
        z = h @ w + b
        h = PHI[network.activation](z)
    return z[..., 0]


@pytest.mark.parametrize("sigma_b", [0.0, (1.0, 0.0), (0.0, 1.0)])
@pytest.mark.parametrize("encoding", ["01", "pm1"])
@pytest.mark.parametrize("activation", sorted(PHI))
def test_negation_is_claimed_exactly_where_no_output_is_zero(activation, encoding, sigma_b):
    network = Network(n=3, hidden=(3,), activation=activation, encoding=encoding, sigma_b=sigma_b)
    z = outputs(network, 2000, np.random.default_rng(8))
    # if zeros can occur, one input has them in at least 2^-3 of networks: missed with p < 1e-100
    assert symmetries(network).negate == (not np.any(z == 0))


@pytest.mark.slow
def test_members_of_a_class_are_equally_frequent():
    """chi-square over all classes of the perceptron on 3 bits, {0,1} and -1/+1 inputs.

    400,000 networks each; false alarm 1e-6 a case.
    """
    for encoding in ("01", "pm1"):
        network = Network(n=3, hidden=(), encoding=encoding)
        tables = (outputs(network, 400_000, np.random.default_rng(9)) > 0).astype(np.uint8)
        found, count = np.unique(tables, axis=0, return_counts=True)
        pooled = pool(pack(found), count, 3, symmetries(network))
        share = (pooled.count / pooled.orbit)[pooled.inverse]
        seen = np.bincount(pooled.inverse)
        # members never found add their whole expectation
        statistic = np.sum((count - share) ** 2 / share)
        statistic += np.sum((pooled.orbit - seen) * pooled.count / pooled.orbit)
        freedom = np.sum(pooled.orbit - 1)
        assert freedom > 40 and np.min(share) > 5
        assert chi2.sf(statistic, freedom) > 1e-6


def test_a_pool_within_one_task_has_wide_intervals_and_no_error():
    """One task shows no spread: every class has the largest design effect there is."""
    counts = sample(Network(n=3, hidden=(4,)), samples=2000, heads=50, pool=True)
    frame = counts.pooled.to_frame()
    assert counts.pooled.draws == 1
    assert (frame["design_effect"] == 2000).all()
    assert ((frame["p_low"] <= frame["p"]) & (frame["p"] <= frame["p_high"])).all()


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (Network(inputs=np.eye(3), hidden=(4,)), r"^pool with explicit inputs: .*leave pool"),
        (Network(n=11, hidden=(4,)), r"^n=11, m=2048: expected all 2\^n bit strings"),
    ],
)
def test_pooling_without_classes_is_refused_before_anything_is_drawn(
    network, message, tmp_path, monkeypatch
):
    drawn = []
    monkeypatch.setattr(
        "simprior.boolean.sampling.prepare.count_range", lambda *given: drawn.append(given)
    )
    with pytest.raises(InputError, match=message):
        sample(network, samples=2000, pool=True, out=tmp_path / "run")
    assert not drawn and not (tmp_path / "run").exists()
