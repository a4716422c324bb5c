"""Mirrors: half of the heads of a hidden draw are the others with the output -z."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from four_bits import number

from simprior import Network, RandomDNF
from simprior.boolean.sampling import merging
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.sampling.job import Job, Task
from simprior.boolean.sampling.merging import Merger
from simprior.boolean.sampling.ordering import row_order
from simprior.boolean.sampling.prepare import make_job
from simprior.boolean.sampling.rows import Rows, unfolded
from simprior.boolean.sampling.sample import sample
from simprior.boolean.sampling.tasks import Counted, Counting
from simprior.boolean.sampling.torch_engine import draw_parameters
from simprior.boolean.truthtable import input_matrix, pack
from simprior.errors import InputError, StoreError
from simprior.modules.spec import Module
from simprior.runs.directory import load_run
from simprior.runs.tasks import Interrupted

_rng = np.random.default_rng(5)
SPECS = {
    "n=3": Network(n=3, hidden=(6,)),
    "n=4, +-1": Network(n=4, hidden=(5, 4), encoding="pm1"),
    "tanh": Network(n=3, hidden=(5,), activation="tanh", sigma_b=0.3),
    "tanh, +-1, no bias": Network(n=3, hidden=(4,), activation="tanh", encoding="pm1", sigma_b=0.0),
    "masks": Network(n=3, hidden=(8,), density=0.4),
    "n=7": Network(hidden=(12,)),
    "m=1": Network(inputs=[[0.0, 1.0]], hidden=(3,)),
    "m=70": Network(inputs=_rng.standard_normal((70, 3)), hidden=(9,), weight_dist="uniform"),
}
WITH_ZEROS = {
    "no bias": Network(n=3, hidden=(6,), sigma_b=0.0),
    "no last bias": Network(n=4, hidden=(3,), sigma_b=(1.0, 0.0)),
    "step": Network(n=3, hidden=(3,), activation="step", sigma_b=0.0),
    "masks, no bias": Network(n=3, hidden=(4,), density=0.4, sigma_b=0.0),
    "tanh, no bias": Network(n=3, hidden=(4,), activation="tanh", sigma_b=0.0),
    "m=130": Network(inputs=_rng.integers(0, 2, (130, 8)), hidden=(5,), sigma_b=0.0),
}


def by_dictionary(net: Network, seed: int, samples: int, heads: int) -> dict[bytes, list[int]]:
    """{function: [count, hidden draws, sum of squares]} of heads and mirrors, from the parameters
    of the run, evaluated by numpy in double precision."""
    act = {"relu": lambda z: np.maximum(z, 0), "tanh": np.tanh, "step": lambda z: (z > 0) * 1.0}
    found: dict[bytes, list[int]] = {}
    for draw in range(-(-samples // heads)):
        parameters = draw_parameters(net, seed, draw, heads // 2)
        h = input_matrix(net)
        layers = list(zip(parameters.weights, parameters.biases, strict=True))
        for w, b in layers[:-1]:
            h = act[str(net.activation)](h @ w.astype(float) + b)
        z = (h @ layers[-1][0].astype(float) + layers[-1][1]).T
        z = z[: (samples - draw * heads) // 2]
        both = pack(np.concatenate([z > 0, z < 0]).astype(np.uint8))
        for words, k in zip(*np.unique(both, axis=0, return_counts=True), strict=True):
            entry = found.setdefault(words.tobytes(), [0, 0, 0])
            for i, value in enumerate((k, 1, k * k)):
                entry[i] += int(value)
    return found


def as_dictionary(counts: FunctionCounts) -> dict[bytes, list[int]]:
    r = counts.rows
    columns = zip(r.words, r.count, r.clusters, r.sumsq, strict=True)
    return {w.tobytes(): [int(k), int(c), int(q)] for w, k, c, q in columns}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [*SPECS, *WITH_ZEROS])
def test_counts_are_those_of_plain_numpy(name: str, dtype: str) -> None:
    """40 hidden draws of 16 heads and mirrors, the last cut short. float32 flips a function in
    3e-6 of all: none is expected to differ among 1,260, and up to one pair is allowed."""
    net = (SPECS | WITH_ZEROS)[name]
    samples, heads = 40 * 32 - 20, 32
    counts = sample(net, samples=samples, seed=3, heads=heads, dtype=dtype, mirror=True)
    expected, found = by_dictionary(net, 3, samples, heads), as_dictionary(counts)
    other = [k for k in expected.keys() | found.keys() if expected.get(k) != found.get(k)]
    assert len(other) <= 4 and counts.mirror and counts.draws == 40
    assert counts.count.sum() == counts.ones[:, 0].sum() == samples
    ones = counts.tables().sum(1)
    np.testing.assert_array_equal(np.bincount(ones, counts.count, net.m + 1), counts.ones[:, 0])
    job = make_job(net, samples, 3, heads, mirror=True)
    assert job.folded == (name in SPECS)


def task_of(job: Job) -> Counted:
    return Counting(job).compute(Task(0, 0, -(-job.samples // job.heads), job.samples))


@pytest.mark.parametrize("name", SPECS)
def test_one_entry_a_pair_counts_as_two(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folded table against one in which functions and mirrors are counted apart: everything
    that a run keeps is the same."""
    net, pool = SPECS[name], SPECS[name].inputs is None
    options: dict[str, Any] = {"samples": 20_010, "seed": 2, "heads": 64, "mirror": True}
    job = make_job(net, 20_010, 2, 64, pool=pool, mirror=True)
    one, tally = sample(net, pool=pool, **options), task_of(job).tally
    monkeypatch.setattr(Job, "folded", False)
    two, other = sample(net, pool=pool, **options), task_of(job).tally
    assert as_dictionary(one) == as_dictionary(two)
    np.testing.assert_array_equal(one.words, two.words)
    np.testing.assert_array_equal(tally.ones, other.ones)
    np.testing.assert_array_equal(tally.constants, other.constants)
    assert tally.dispersion == pytest.approx(other.dispersion, rel=1e-12)
    assert one.summary() == two.summary()
    if pool:
        assert one.pooled is not None and two.pooled is not None
        assert as_dictionary(one.pooled) == as_dictionary(two.pooled)


def test_functions_are_those_of_the_run_without_mirrors() -> None:
    """N samples with mirrors are the N / 2 of a run with half as many heads, and their mirrors;
    what is measured of the functions is the same."""
    net = Network(n=4, hidden=(8,))
    twice = sample(net, samples=64 * 300, seed=4, heads=64, mirror=True, complexity=200)
    once = sample(net, samples=32 * 300, seed=4, heads=32, mirror=False, complexity=200)
    mirrored = once.find(1 - twice.tables())
    plain = once.find(twice.tables())
    count = np.append(once.count, 0)
    np.testing.assert_array_equal(twice.count, count[plain] + count[mirrored])
    assert twice.complexity == once.complexity and once.complexity is not None
    # a mirror of a constant is a constant: its share is known no better
    a, b = twice.constant_share(), once.constant_share()
    assert a == pytest.approx(b, rel=1e-2)


@pytest.mark.parametrize("name", ["n=3", "no bias"])
def test_kept_functions(name: str) -> None:
    net = (SPECS | WITH_ZEROS)[name]
    options: dict[str, Any] = {"samples": 40_000, "seed": 1, "heads": 32, "mirror": True}
    whole, part = sample(net, **options), sample(net, keep=1 / 4, **options)
    np.testing.assert_array_equal(part.ones, whole.ones)
    assert 10 < part.functions < whole.functions / 2
    every = as_dictionary(whole)
    assert all(every[k] == v for k, v in as_dictionary(part).items())
    if name in SPECS:  # a function is kept with its complement
        assert (part.find(1 - part.tables()) >= 0).all()


def test_what_has_mirrors_by_default() -> None:
    net = Network(n=3, hidden=(6,))
    assert sample(net, samples=1000, heads=16).mirror
    assert not sample(net, samples=1001, heads=16).mirror
    assert not sample(net, samples=1000, heads=15).mirror
    assert not sample(net, samples=1000, heads=2).mirror
    assert not sample(net, samples=1000, heads=1).mirror
    assert not sample(net, samples=1000).mirror  # too few for shared layers
    assert not sample(Network(n=3, hidden=()), samples=1000).mirror
    assert not sample(RandomDNF(n=3), samples=1000).mirror
    many = sample(Network(n=3, hidden=(40, 40)), samples=10**6)
    assert many.mirror and many.heads % 32 == 0
    assert make_job(net, 10**6, 0, heads=16).mirror is False  # of the other commands


def test_what_cannot_have_them_is_refused() -> None:
    net = Network(n=3, hidden=(6,))
    module = Module(make="simprior.modules.shipped:mlp", n=3, options={"hidden": [4]})
    for model, given, says in (
        (net, {"heads": 1}, "independent networks"),
        (net, {"heads": 7}, "heads=7"),
        (net, {"heads": 2}, "heads=2"),
        (net, {"heads": 8, "samples": 1001}, "samples=1001, an odd number"),
        (Network(n=3, hidden=()), {}, "independent networks"),
        (RandomDNF(n=3), {}, "a DNF network"),
        (module, {"heads": 8}, "a torch module"),
    ):
        with pytest.raises(InputError, match=r"mirror with .*: expected an even number") as error:
            sample(model, **{"samples": 1000, "mirror": True, **given})  # type: ignore[call-overload]
        assert says in str(error.value) and "\n" not in str(error.value)
    for wrong in ("yes", 2, None):
        with pytest.raises(InputError, match="expected True, False or auto"):
            sample(net, samples=100, mirror=wrong)  # type: ignore[call-overload]
    with pytest.raises(InputError, match="watch with mirror=True"):
        sample(net, samples=100, watch=["x1"], mirror=True)


def test_runs_from_before_there_were_mirrors_go_on_without(tmp_path: Path) -> None:
    """Their configuration does not name them; it is that of ``mirror=False``."""
    net = Network(n=3, hidden=(6,))
    options: dict[str, Any] = {"samples": 100_000, "seed": 1, "heads": 16}

    class Stop:
        def update(self, amount: int) -> None:
            raise KeyboardInterrupt

    for mirror in (False, "auto"):
        path = tmp_path / str(mirror)
        with pytest.raises((KeyboardInterrupt, Interrupted)):
            sample(net, out=path, mirror=mirror, progress=Stop(), **options)
        assert ("mirror" in load_run(path).config) == (mirror == "auto")
        resumed = sample(net, out=path, resume=True, **options)
        assert resumed.mirror == (mirror == "auto")
        whole = sample(net, mirror=mirror, **options)
        assert as_dictionary(resumed) == as_dictionary(whole)
        assert FunctionCounts.load(path).mirror == resumed.mirror
    for path, other in ((tmp_path / "auto", False), (tmp_path / "False", True)):
        with pytest.raises(StoreError, match=r"cannot resume.*mirror is"):
            sample(net, out=path, resume=True, mirror=other, **options)


# ------------------------------------------------ the same law as without mirrors (slow)


def scores(one: FunctionCounts, two: FunctionCounts) -> np.ndarray:
    """z of every function expected 40 times or more in both, and of all rarer ones by their number
    of ones."""
    words = np.unique(np.concatenate([one.words, two.words]), axis=0)
    tables = np.unpackbits(words.astype(">u8").view(np.uint8), axis=1)[:, : one.m]
    sides = []
    for counts in (one, two):
        row = counts.find(tables)
        share, error = np.append(counts.p, 0.0)[row], np.append(counts.stderr, 0.0)[row]
        sides.append((share, error))
    (p, e), (q, f) = sides
    common = np.minimum(p * one.samples, q * two.samples) >= 40
    z = [(p[common] - q[common]) / np.hypot(e[common], f[common])]
    ones = tables.sum(1)
    for t in np.unique(ones[~common]):
        rare = ~common & (ones == t)
        a, b = p[rare].sum(), q[rare].sum()
        effects = [np.average(c.design_effects, weights=c.count) for c in (one, two)]
        # functions and their mirrors are met together: twice the variance at most
        size = one.samples / effects[0], two.samples / (2 * effects[1])
        pooled = (a * one.samples + b * two.samples) / (one.samples + two.samples)
        if pooled * one.samples >= 40:
            z.append(np.array([(a - b) / np.sqrt(pooled / size[0] + pooled / size[1])]))
    return np.concatenate(z)


@pytest.mark.slow
@pytest.mark.parametrize("bits", [3, 4])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sigma_b": 0.0},
        {"encoding": "pm1", "sigma_b": 0.0, "hidden": (3,)},
        {"activation": "tanh", "sigma_b": (0.5, 0.5, 0.0), "hidden": (6, 5)},
        {"density": 0.5, "sigma_b": 0.0},
        {"density": 0.5, "encoding": "pm1"},
    ],
    ids=str,
)
def test_the_law_is_that_of_plain_sampling(bits: int, options: dict[str, Any]) -> None:
    """All functions of n = 3, and of n = 4 those that are met often and the rest by number of ones:
    at most 4,000 scores; |z| < 6 for all fails once in 1e5 draws of the seeds. The mean of z^2 is 1
    where errors are true, and less where they are upper limits; it has a standard error of
    sqrt(2 / (F / 2)) with pairs, 5 of which are allowed. Independent networks, which take longest,
    are a quarter of the others: a function of P = .01 that is 7 % off is 6 standard errors off."""
    net = Network(**{"n": bits, "hidden": (8,), **options})
    plain = sample(net, samples=10**6, seed=11, heads=1)
    twice = sample(net, samples=4 * 10**6, seed=12, heads=64, mirror=True)
    z = scores(plain, twice)
    assert len(z) > 20 and np.abs(z).max() < 6
    assert np.mean(z**2) < 1 + 5 * 2 / np.sqrt(len(z))


@lru_cache
def without_mirrors(net: Network) -> FunctionCounts:
    """The truth of the next test."""
    return sample(net, samples=4 * 10**7, seed=1, heads=64, mirror=False)


@lru_cache
def with_mirrors(net: Network, keep: float) -> list[FunctionCounts]:
    """400 runs, of which two tests see those that keep all functions."""
    options: dict[str, Any] = {"samples": 6400, "heads": 64, "mirror": True, "keep": keep}
    return [sample(net, seed=100 + i, **options) for i in range(400)]


@pytest.mark.xdist_group("mirrors")  # one process, one truth
@pytest.mark.slow
@pytest.mark.parametrize("keep", [1.0, 1 / 4])
@pytest.mark.parametrize("sigma_b", [0.0, 0.7])
def test_errors_and_unseen_masses_are_true(sigma_b: float, keep: float) -> None:
    """400 runs of 100 hidden draws against 4e7 without mirrors; with pairs and with mirrors
    counted apart, all functions and a share: P(t) of constants and of t = 1, 4, 8, common functions
    (mean within 5 standard errors, spread over stated error within 5 / sqrt(2 * 400)), and the 95 %
    interval of the unseen mass (0.905 is 4 standard errors below). False alarm 1e-5 in all."""
    net = Network(n=4, hidden=(12, 12), sigma_b=sigma_b)
    truth, runs = without_mirrors(net), with_mirrors(net, keep)
    exact, frames = truth.ones_frame(), [r.ones_frame() for r in runs]
    for t in (0, 1, 4, 8, 16):
        if exact.p[t] > 0:
            p, e = np.array([(f.p[t], f.stderr[t]) for f in frames]).T
            assert abs(p.mean() - exact.p[t]) < 5 * np.hypot(p.std() / 20, exact.stderr[t]), t
            assert abs(p.std(ddof=1) / np.sqrt(np.mean(e**2)) - 1) < 5 / np.sqrt(800), t
    common = np.array([r.find(truth.tables(8)) for r in runs]).T
    for row, at in enumerate(common if keep == 1 else ()):
        p, e = np.array([(r.p[i], r.stderr[i]) for r, i in zip(runs, at, strict=True)]).T
        assert abs(p.mean() - truth.p[row]) < 5 * np.hypot(p.std() / 20, truth.stderr[row])
        assert abs(p.std(ddof=1) / np.sqrt(np.mean(e**2)) - 1) < 5 / np.sqrt(800)
    inside, probability = [], np.zeros(1 << 16)
    probability[number(truth)] = truth.p
    for r, met in zip(runs, with_mirrors(net, 1.0), strict=True):
        mass = 1 - float(probability[number(met)].sum())
        inside.append(r.unseen.low - 1e-4 <= mass <= r.unseen.high + 1e-4)
    assert np.mean(inside) > 0.905


@pytest.mark.parametrize("piece", [1, 2, 7, 64, 1 << 18])
@pytest.mark.parametrize("m", [6, 70])
def test_rows_are_unfolded_in_pieces(piece: int, m: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of one count that begin and end anywhere in a piece: rows and complements, sorted."""
    source = np.random.default_rng(piece + m)
    tables = np.unique(source.integers(0, 2, (60, m), np.uint8) * (np.arange(m) > 0), axis=0)
    words, count = pack(tables), source.integers(1, 5, len(tables))
    order = row_order(words, count)
    half = Rows(words[order], count[order], count[order] + 1, count[order] ** 2)
    both = np.concatenate([half.words, pack(1 - tables[order])])
    twice = np.tile(half.count, 2)
    wanted = row_order(both, twice)
    monkeypatch.setattr(merging, "_FILLED", piece)
    for threads, most in ((1, 1 << 18), (3, 1)):  # all counts together, and each for itself
        monkeypatch.setattr(merging, "within", lambda *_, most=most: most)
        merger = Merger(m, threads, folded=True)
        merger.add(half)
        for found in (merger.finish(), unfolded(half, m)):
            assert np.array_equal(found.words, both[wanted])
            assert np.array_equal(found.count, twice[wanted])
            assert np.array_equal(found.clusters, twice[wanted] + 1)
            assert np.array_equal(found.sumsq, twice[wanted] ** 2)
