"""Watch mode: integrating the last bias out agrees with counting, and its errors are true."""

from __future__ import annotations

import hashlib
import logging
import math

import numpy as np
import pytest

import simprior as sp
from simprior.boolean.sampling import watch
from simprior.boolean.sampling.watch import TRUSTED_DRAWS, WatchResult, orbit_members
from simprior.boolean.sampling.watch import watch as watch_functions
from simprior.boolean.sampling.watch_kernel import _sort
from simprior.boolean.symmetry import symmetries
from simprior.boolean.truthtable import pack, parse_functions, to_hex
from simprior.errors import InputError

SPECS = [
    {},
    {"sigma_b": 0.0},
    {"weight_dist": "uniform"},
    {"hidden": ()},
    {"activation": "tanh", "encoding": "pm1"},
    {"sigma_b": (1.0, 0.5, 0.0)},
]


@pytest.mark.slow
@pytest.mark.parametrize("spec", SPECS)
def test_agrees_with_counting_of_independent_networks(spec: dict) -> None:
    network = sp.Network(n=4, **spec)
    counts = sp.sample(network, samples=400_000, seed=11, heads=1)
    top = 40
    names = to_hex(counts.words[:top], network.m)
    watched = watch_functions(network, names, samples=200_000, seed=12)
    z = (watched.p - counts.p[:top]) / np.hypot(watched.stderr, counts.stderr[:top])
    # 40 comparisons in each of six settings: |z| < 4.5 for all, false alarm 240 * 7e-6 = 0.2 %
    assert np.abs(z).max() < 4.5
    plain, integrated = counts.ones_frame(), watched.ones_frame()
    met = plain["count"] > 30
    z = (integrated["p"] - plain["p"])[met] / np.hypot(integrated["stderr"], plain["stderr"])[met]
    assert np.abs(z).max() < 4.5
    assert integrated["p"].sum() == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("pool", [False, True])
def test_standard_errors_are_true(pool: bool) -> None:
    network = sp.Network(n=4, hidden=(10,))
    functions = ["const0", "x1", "0x8000", "0x0001", "and2"]
    runs = [
        watch_functions(network, functions, samples=4096, seed=s, pool=pool) for s in range(100)
    ]
    p = np.array([r.p for r in runs])
    stderr = np.array([r.stderr for r in runs])
    z = (p - p.mean(axis=0)) / np.sqrt((stderr**2).mean(axis=0))
    ratio = z.std(axis=0, ddof=1)
    # sd of 100 normal z-scores is 1 +- 0.071; 4.5 sd on five functions, plus skew of rare ones
    assert np.all((ratio > 0.68) & (ratio < 1.40)), ratio


def test_variance_is_reduced_as_the_theory_says() -> None:
    """Conditioning cannot increase the variance; for one function it gains an order."""
    network = sp.Network(n=5)
    result = watch_functions(network, ["const0", "0x00000001"], samples=100_000, seed=3, heads=1)
    assert result.variance_reduction[0] > 2
    assert result.variance_reduction[1] > 10


def test_pooling_averages_over_exactly_the_class() -> None:
    network = sp.Network(n=3, encoding="pm1")
    x1 = pack(parse_functions("x1", 8, 3))[0]
    members = orbit_members(x1, 3, symmetries(network), 8)
    names = {to_hex(w[None], 8)[0] for w in members}
    expected = parse_functions(["x1", "x2", "x3"], 8, 3)
    both = np.concatenate([expected, 1 - expected])
    assert names == set(to_hex(pack(both), 8))


def test_functions_of_one_class_share_one_estimate(caplog: pytest.LogCaptureFixture) -> None:
    """x1, x2 and not x3 are one class of the -1/+1 network: watched once, reported by each name."""
    network = sp.Network(n=3, hidden=(4,), encoding="pm1")
    arguments = {"samples": 20_000, "seed": 1, "pool": True}
    with caplog.at_level("INFO", "simprior"):
        together = watch_functions(network, ["x1", "const0", "x2"], **arguments)
    assert "0x0f and 0x33 are of one class" in caplog.text
    alone = watch_functions(network, ["x1", "const0"], **arguments)
    assert np.array_equal(together.p, alone.p[[0, 1, 0]])
    assert np.array_equal(together.stderr, alone.stderr[[0, 1, 0]])
    assert together.members.tolist() == [6.0, 2.0, 6.0]
    assert list(to_hex(together.words, 8)) == ["0x0f", "0x00", "0x33"]


def test_too_many_members_are_refused_before_they_are_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "orbit_members", lambda *_: pytest.fail("listed the members"))
    function = "0x" + hashlib.sha256(b"a function without symmetry of its own").hexdigest()
    with pytest.raises(InputError, match=r"members: expected at most 5,000,000 \(the class of 0x"):
        watch_functions(sp.Network(n=8, encoding="pm1"), [function], samples=1000, pool=True)


def test_what_watching_costs_and_gains_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "simprior"):
        watch_functions(sp.Network(n=3), ["x1"], samples=1000)
    assert "the time of one in counting" in caplog.text and "sigma_b=0" not in caplog.text
    with caplog.at_level("INFO", "simprior"):
        watch_functions(sp.Network(n=3, sigma_b=(1.0, 1.0, 0.0)), ["x1"], samples=1000)
    assert "sigma_b=0 in the last layer: no bias to integrate out" in caplog.text


def test_sort_is_stable_and_that_of_numpy() -> None:
    rng = np.random.default_rng(0)
    for m in (1, 47, 48, 128, 1000):
        keys = rng.integers(0, 50, m).astype(np.uint64) << np.uint64(57)
        keys |= rng.integers(0, 2**31, m).astype(np.uint64) << np.uint64(32)
        keys |= np.arange(m, dtype=np.uint64)
        order = keys.copy()
        _sort(order, np.empty_like(order), m)
        assert np.array_equal(order, np.sort(keys))


@pytest.mark.slow
def test_deterministic_and_independent_of_workers(tmp_path) -> None:
    network = sp.Network(n=4, hidden=(8,))
    args = {"samples": 3_000_000, "seed": 5}
    here = watch_functions(network, ["x1", "const0"], **args)
    there = watch_functions(network, ["x1", "const0"], workers=2, out=tmp_path / "w", **args)
    loaded = WatchResult.load(tmp_path / "w")
    for other in (there, loaded):
        assert np.array_equal(here.p, other.p)
        assert np.array_equal(here.stderr, other.stderr)
        assert np.array_equal(here.ones_p, other.ones_p)


def test_log_probabilities_and_what_was_never_met() -> None:
    result = watch_functions(sp.Network(n=4, sigma_b=0.0), ["const1", "const0"], samples=1000)
    never, often = result.log_probs()
    assert never.value == -math.inf
    assert result.p[0] == 0.0
    low, high = result.intervals()
    assert low[0] == 0.0 and 0 < high[0] < 0.1
    assert often.value == pytest.approx(math.log(result.p[1]))
    assert often.stderr == pytest.approx(result.stderr[1] / result.p[1])


@pytest.mark.parametrize(
    ("network", "functions", "message"),
    [
        (sp.RandomDNF(4, 1.0), ["x1"], "watch with 'RandomDNF'"),
        (
            sp.Network(n=3),
            ["const0", "x1", "x1"],
            r"distinct functions \(numbers 2 and 3 are both 0x0f\)",
        ),
        (sp.Network(n=3), ["x9"], "x9"),
    ],
)
def test_bad_input(network, functions, message: str) -> None:
    with pytest.raises(InputError, match=message):
        watch_functions(network, functions, samples=1000)


def test_refuses_options_that_do_not_apply() -> None:
    with pytest.raises(InputError, match="dtype float32"):
        sp.sample(sp.Network(n=3), samples=1000, watch=["x1"], dtype="float64")


def test_few_effective_draws_are_said(caplog: pytest.LogCaptureFixture) -> None:
    """Heavy tails of P(f) given the hidden layers: the spread that was met is not all there is."""
    caplog.set_level(logging.INFO, "simprior")  # whatever tests before this one have set
    narrow = sp.Network(n=4, hidden=(3,) * 6, sigma_w=1.4, sigma_b=0.2, encoding="pm1")
    few = watch_functions(narrow, ["x1", "parity"], samples=2000, heads=100)
    assert (few.effective_draws < TRUSTED_DRAWS).any()
    assert "rest on fewer than 100 effective hidden draws" in caplog.text
    caplog.clear()
    many = watch_functions(sp.Network(n=4, hidden=(8,)), ["x1", "const0"], samples=100_000)
    assert (many.effective_draws > TRUSTED_DRAWS).all()
    assert "effective hidden draws" not in caplog.text


def test_one_draw_has_intervals_without_nan() -> None:
    one = watch_functions(sp.Network(n=3, hidden=(4,)), ["parity", "const0"], samples=16, heads=16)
    for frame in (one.to_frame(), one.ones_frame()):
        assert not frame[["p_low", "p_high"]].isna().any(axis=None)
        assert (frame["p_low"] <= frame["p"]).all() and (frame["p"] <= frame["p_high"]).all()


def test_watch_is_a_function_of_its_own_and_an_option_of_sample() -> None:
    network, options = sp.Network(n=3, hidden=(8,)), {"samples": 4096, "seed": 5}
    alone = sp.watch(network, ["x1"], **options)
    option = sp.sample(network, watch=["x1"], **options)
    assert isinstance(alone, WatchResult) and isinstance(option, WatchResult)
    np.testing.assert_array_equal(alone.p, option.p)
    np.testing.assert_array_equal(alone.stderr, option.stderr)
