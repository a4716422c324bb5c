"""Distances and flips of random networks against brute force over truth tables."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from simprior.analysis.strings.networks import RandomNetwork, Source, Spec
from simprior.analysis.strings.search import (
    Search,
    enumerate_balls,
    expected_flips,
    first_change,
    nearest,
    nearest_distances,
)
from simprior.boolean.truthtable import bit_matrix
from simprior.errors import InputError
from simprior.network.spec import Network

LAWS = [
    Network(n=1, hidden=(20, 20), encoding="pm1", sigma_b=0.3),
    Network(n=1, hidden=(16,), encoding="01", activation="tanh", sigma_w=2.0),
    Network(n=1, hidden=(), encoding="pm1", sigma_b=0.2),
    Network(n=1, hidden=(12, 9, 8), encoding="01", activation="step"),
    Network(n=1, hidden=(20,), encoding="pm1", activation="torch.nn.functional:silu"),
    Network(n=1, hidden=(20,), encoding="pm1", weight_dist="uniform", activation="erf"),
]
_PHI = {
    "relu": lambda z: np.maximum(z, 0), "tanh": np.tanh, "step": lambda z: (z > 0) * 1.0,
    "torch.nn.functional:silu": lambda z: z / (1 + np.exp(-z)),
}  # fmt: skip


def _outputs(network: RandomNetwork, law: Network, strings: np.ndarray) -> np.ndarray:
    """Outputs in float64, one layer after the other."""
    from scipy.special import erf

    z = 2.0 * strings - 1.0 if law.encoding == "pm1" else strings.astype(float)
    for layer, (w, b) in enumerate(zip(network.weights, network.biases, strict=True)):
        if layer:
            z = {**_PHI, "erf": erf}[law.activation_name](z)
        z = z @ w.astype(float) + b
    return z[:, 0]


def _clear(outputs: np.ndarray) -> bool:
    """No output so near 0 that rounding of float32 could decide the class."""
    return bool(np.abs(outputs).min() > 1e-4 * np.abs(outputs).max())


def _cases(law: Network, n: int, count: int):
    """(table (2^n,), string number, centred) of networks without outputs near 0."""
    source = Source(Spec(n, law), seed=3)
    strings = bit_matrix(n)
    found = 0
    for k in range(20 * count):
        network = source.draw(k)
        outputs = _outputs(network, law, strings)
        if not _clear(outputs):
            continue
        start = int(source.rng("strings", k).integers(1 << n))
        yield outputs > 0, start, network.at(strings[start])
        found += 1
        if found == count:
            return
    pytest.fail("too few networks with clear outputs")


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.activation_name.split(":")[-1])
@pytest.mark.parametrize("n", [3, 9])
def test_exact_distance_is_that_of_the_truth_table(law: Network, n: int) -> None:
    weights = 1 << np.arange(n - 1, -1, -1)
    several = set()
    for table, start, centred in _cases(law, n, 25):
        truth = int(nearest_distances(table[None])[0, start])
        found = nearest(centred, Search(budget=1 << n))
        assert found.certified
        assert found.distance == truth == len(found.bits)
        if truth:
            assert table[start ^ int(weights[found.bits].sum())] != table[start]
        several.add(truth)
    assert len(several) > 1 or n == 3


@pytest.mark.parametrize("law", LAWS[:4], ids=lambda law: law.activation_name)
def test_search_alone_is_an_upper_bound(law: Network) -> None:
    # without enumeration the result may only be too large; distances 1 and 2 are exact
    for table, start, centred in _cases(law, 9, 25):
        truth = int(nearest_distances(table[None])[0, start])
        for search in (Search(8, 32, 0), Search(1, 1, 0)):
            found = nearest(centred, search)
            assert found.certified == (0 < found.distance <= 2)
            if found.distance:
                assert found.distance == found.search >= truth > 0
            if truth in (1, 2) and search.candidates > 9:
                assert found.distance == truth


def test_enumeration_repairs_a_weak_search_and_respects_the_budget() -> None:
    repaired = 0
    for k in range(200):
        classifier = Source(Spec(10, LAWS[3]), seed=1).draw(k)
        centred = classifier.at(np.zeros(10))
        weak, exact = nearest(centred, Search(1, 1, 0)), nearest(centred, Search(1, 1, 1 << 10))
        assert exact.search == weak.distance
        assert not weak.distance or exact.distance <= weak.distance
        repaired += exact.distance != weak.distance
    assert repaired > 0  # step networks have no gradient to follow: greedy search misses some
    centred = Source(Spec(10, LAWS[0]), seed=0).draw(0).at(np.zeros(10))
    assert enumerate_balls(centred, 4, 45 + 119) is None  # C(10, 2) + C(10, 3) = 165
    assert enumerate_balls(centred, 4, 45 + 120) is not None


@pytest.mark.parametrize("law", LAWS[:4], ids=lambda law: law.activation_name)
def test_first_change_is_that_of_the_truth_table(law: Network) -> None:
    n, rng = 9, np.random.default_rng(5)
    for table, start, centred in _cases(law, n, 20):
        order = rng.permutation(n)
        at, expected = start, 0
        for count, bit in enumerate(order, start=1):
            at ^= 1 << (n - 1 - int(bit))
            if table[at] != table[start]:
                expected = count
                break
        assert first_change(centred, order) == expected


def test_first_change_across_blocks() -> None:
    # a perceptron with equal weights and one string: the class changes when half is flipped
    n = 1001
    network = RandomNetwork(
        (np.ones((n, 1), np.float32),), (np.zeros(1, np.float32),), lambda z: z, True
    )
    centred = network.at(np.ones(n))
    assert first_change(centred, np.arange(n)[::-1].copy()) == 501
    assert nearest(centred, Search(2, 4, 0)).distance == 501


def test_effects_are_derivatives() -> None:
    law = Network(n=1, hidden=(50, 50), activation="tanh", encoding="pm1")
    network = Source(Spec(40, law), 0).draw(0)
    bits = np.random.default_rng(0).integers(0, 2, 40)
    centred = network.at(bits)
    x = 2.0 * bits - 1.0
    h = 1e-5
    plain = [
        (_outputs(network, law, (x + h * e + 1) / 2) - _outputs(network, law, (x - h * e + 1) / 2))
        for e in np.eye(40)[:, None, :]
    ]
    exact = np.concatenate(plain) / (2 * h) * (-2 * x)
    found = centred.effects(centred.root)[0]
    # difference quotients over a quarter of the spread: phi''' makes a few per cent
    assert np.corrcoef(exact, found)[0, 1] > 0.99
    states = centred.flip(centred.root, np.array([3, 7]))
    assert centred.unflip(states, np.array([3, 7])) == pytest.approx(
        np.repeat(centred.root, 2, axis=0), abs=1e-5
    )


def test_draws_have_the_stated_law_and_depend_on_the_index_only() -> None:
    law = Network(n=1, hidden=(200, 100), sigma_w=(1.5, 2.0, 0.5), sigma_b=(0.5, 0.0, 3.0))
    source = Source(Spec(150, law), 7)
    first = [np.array(w) for w in source.draw(4).weights]
    source.draw(5)
    again = source.draw(4)
    assert all((a == b).all() for a, b in zip(first, again.weights, strict=True))
    for w, sigma, fan_in in zip(first[:2], (1.5, 2.0), (150, 200), strict=True):
        u = w.astype(float).ravel() * np.sqrt(fan_in) / sigma
        # mean within 5/sqrt(N), variance within 5 sqrt(2/N): 6e-7 false alarms each
        assert abs(u.mean()) < 5 / np.sqrt(u.size)
        assert abs(u.var() - 1) < 5 * np.sqrt(2 / u.size)
    biases = np.array([source.draw(k).biases[2][0] for k in range(2000)], float)
    assert abs(biases.std() / 3.0 - 1) < 5 / np.sqrt(2 * len(biases))
    assert not source.draw(0).biases[1].any()
    assert not np.array_equal(Source(Spec(150, law), 8).draw(4).weights[1], first[1])


def test_tables_of_known_functions() -> None:
    n = 5
    strings = bit_matrix(n).astype(int)
    parity, dictator = strings.sum(axis=1) % 2, strings[:, 0]
    conjunction = (strings.sum(axis=1) == n).astype(int)
    tables = np.stack([parity, dictator, conjunction, np.zeros(1 << n, int)])
    distances = nearest_distances(tables)
    assert (distances[:2] == 1).all()
    assert (distances[2] == np.where(conjunction, 1, n - strings.sum(axis=1))).all()
    assert not distances[3].any()
    flips, unchanged = expected_flips(tables)
    assert (flips[0] == 1).all()
    assert flips[1] == pytest.approx((n + 1) / 2)  # place of x1 in a random order
    assert (flips[3] == n).all() and (unchanged[3] == 1).all()
    assert not unchanged[:2].any()
    # and: from all zeros every bit has to be flipped, from all ones any; from 00001 the last bit
    # has to stay while the other four are flipped, 1 order in 5
    assert flips[2][0] == n and unchanged[2][0] == 0 and flips[2][-1] == 1
    assert unchanged[2][1] == pytest.approx(0.8)
    assert flips[2][1] == pytest.approx(0.2 * (n - 1) + 0.8 * n)


def test_tables_against_every_order() -> None:
    n, rng = 4, np.random.default_rng(0)
    table = rng.integers(0, 2, 1 << n)
    flips, unchanged = expected_flips(table[None])
    for start in range(1 << n):
        times = []
        for order in permutations(range(n)):
            sets = start ^ np.bitwise_or.accumulate(1 << np.array(order))
            other = np.flatnonzero(table[sets] != table[start])
            times.append(other[0] + 1 if len(other) else 0)
        counts = np.array(times)
        assert flips[0, start] == pytest.approx(np.where(counts, counts, n).mean(), rel=1e-12)
        assert unchanged[0, start] == pytest.approx((counts == 0).mean(), abs=1e-12)
    reference = [
        min([bin(a ^ b).count("1") for b in range(16) if table[a] != table[b]], default=0)
        for a in range(16)
    ]
    assert nearest_distances(table[None])[0].tolist() == reference


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: Spec(1, LAWS[0]), "n=1: expected integers from 2"),
        (lambda: Spec(8, LAWS[0], "coin"), "classifier='coin': expected one of network, uniform"),
        (lambda: Search(beam=0), "beam=0: expected an integer >= 1"),
        (lambda: Search(budget=-1), "budget=-1: expected an integer >= 0"),
        (lambda: nearest_distances(np.zeros((2, 6))), "tables of shape"),
        (lambda: expected_flips(np.zeros((1, 1 << 13))), "truth tables of n=13 bits"),
    ],
)
def test_bad_input(call, text: str) -> None:
    with pytest.raises(InputError, match=text):
        call()
