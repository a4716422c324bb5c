"""Complexity over all functions and given that they are not constant: values, intervals, files."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.stats import binom
from scipy.stats import t as student

import simprior as sp
from simprior.boolean.complexity import lz76, lz76_packed, most_words
from simprior.boolean.sampling.complexity_sums import ComplexitySums, _dot
from simprior.boolean.sampling.counts import COMPLEXITY, FunctionCounts
from simprior.boolean.sampling.functions import compiled_functions
from simprior.boolean.sampling.nonconstant import NonConstant
from simprior.boolean.sampling.prepare import make_job
from simprior.boolean.sampling.sample import sample, split
from simprior.boolean.sampling.tasks import Counting
from simprior.boolean.truthtable import pack, unpack
from simprior.cli import main
from simprior.errors import InputError, StoreError
from simprior.numerics.estimate import korn_graubard
from simprior.runs.manifest import read_manifest, save_manifest
from simprior.runs.tasks import Interrupted

SMALL = sp.Network(n=3, hidden=(5, 4))
module_of_sample = sys.modules[sample.__module__]


# ------------------------------------------------ by hand


def by_hand(table: np.ndarray, n: int) -> dict[tuple[str, float], float]:
    """Everything about one function that is not constant, from its definition."""
    inputs = list(product((0, 1), repeat=n))
    f = {x: int(bit) for x, bit in zip(inputs, table, strict=True)}
    flip = {(x, i): f[x] != f[(*x[:i], 1 - x[i], *x[i + 1 :])] for x in inputs for i in range(n)}
    relevant = sum(any(flip[x, i] for x in inputs) for i in range(n))
    out = {("lz76", -1.0): float(lz76(table[None])[0]), ("relevant_inputs", -1.0): relevant}
    out["sensitivity", -1.0] = sum(flip.values()) / 2**n
    for k in range(n + 1):
        sets = [s for s in inputs if sum(s) == k]
        signs = [[(1 - 2 * f[x]) * (-1) ** np.dot(x, s) for x in inputs] for s in sets]
        out["fourier_weight", float(k)] = sum(np.mean(row) ** 2 for row in signs)
    for k in range(1, n):
        out["p_relevant_at_most", float(k)] = relevant <= k
    return out


CONSTANT = {"lz76": 3.0, "relevant_inputs": 0, "sensitivity": 0, "p_relevant_at_most": 1}


@pytest.mark.parametrize("heads", [1, 6])
def test_values_are_those_of_the_functions_that_were_counted(heads: int) -> None:
    counts = sp.sample(SMALL, 600, seed=1, heads=heads, complexity=10**6)
    tables, weight = counts.tables(), counts.count.astype(float)
    inner = ~np.isin(tables.sum(axis=1), [0, 8])
    mine = [by_hand(table, 3) for table in tables[inner]]
    frame = counts.complexity_frame()
    assert frame["quantity"][0] == "p_constant"
    assert frame["value"][0] == pytest.approx(1 - weight[inner].sum() / 600)
    assert (frame["draws"] == 600 // heads).all()
    rows = frame[1:].fillna({"at": -1.0})
    named = rows[rows["quantity"] != "p_lz76"]
    assert len(named) == 3 + 4 + 2
    for row in named.itertuples():
        values = np.array([one[row.quantity, row.at] for one in mine])
        assert row.value == pytest.approx(np.average(values, weights=weight[inner]))
        other = CONSTANT.get(row.quantity, float(row.at == 0))
        total = values @ weight[inner] + other * weight[~inner].sum()
        assert row.all == pytest.approx(total / 600)
        assert row.low < row.value < row.high and row.all_low < row.all < row.all_high
    for row in rows[rows["quantity"] == "p_lz76"].itertuples():
        share = [abs(one["lz76", -1.0] - row.at) < 1e-9 for one in mine]
        assert row.value == pytest.approx(np.average(share, weights=weight[inner]))
        assert row.all == pytest.approx(weight[inner] @ share / 600)


def test_the_mean_sensitivity_is_the_mean_degree() -> None:
    """Average sensitivity = sum_k k W_k (O'Donnell 2014, theorem 2.38), by two other programs."""
    counts = sp.sample(sp.Network(n=5), 3000, seed=2, heads=10, complexity=200)
    frame = counts.complexity_frame().set_index("quantity")
    weights = frame.loc["fourier_weight"]
    for column in ("value", "all"):
        assert weights["at"] @ weights[column] == pytest.approx(frame.loc["sensitivity", column])
        assert weights[column].sum() == pytest.approx(1.0)


def test_the_interval_is_that_of_a_ratio_of_sums_over_hidden_draws() -> None:
    heads, draws = 6, 100
    job = make_job(SMALL, heads * draws, 1, heads)
    words = np.concatenate([w for _, w in compiled_functions(job, 0, draws, heads)])
    tables = unpack(words, 8)
    inner = ~np.isin(tables.sum(axis=1), [0, 8])
    pairs = zip(tables, inner, strict=True)
    value = [by_hand(table, 3)["sensitivity", -1.0] if one else 0.0 for table, one in pairs]
    y, n = np.reshape(value, (draws, heads)).sum(1), inner.reshape(draws, heads).sum(1)
    frame = sp.sample(
        SMALL, heads * draws, seed=1, heads=heads, complexity=draws, mirror=False
    ).complexity_frame()
    row = frame.set_index("quantity").loc["sensitivity"]
    mean, c = y.sum() / n.sum(), math.ceil(n.sum() ** 2 / (n @ n))
    error = math.sqrt(((y - mean * n) ** 2).sum() * c / (c - 1)) / n.sum()
    half = student.ppf(0.975, c - 1) * error
    assert (row.low, row.value, row.high) == pytest.approx((mean - half, mean, mean + half))
    error = (y / heads).std(ddof=1) / math.sqrt(draws)
    half = student.ppf(0.975, draws - 1) * error
    assert (row.all_low, row.all_high) == pytest.approx((y.mean() / 6 - half, y.mean() / 6 + half))


# ------------------------------------------------ calibration


@pytest.mark.slow
@pytest.mark.parametrize("heads", [1, 8])
def test_intervals_hold_the_truth_as_often_as_they_say(heads: int) -> None:
    """400 runs of 200 hidden draws against 100,000: 95 % intervals hold it in 380, give or take
    4 standard errors of a share (17). Those of probabilities may hold it more often. The truth is
    off by .04 of the standard error of a run. 32 looks, some correlated: a false alarm in 500."""
    runs, draws, network = 400, 200, sp.Network(n=3, hidden=(5, 4), encoding="pm1")
    total = 100_000
    job = make_job(network, total * heads, 11, heads)
    words = np.concatenate([w for _, w in compiled_functions(job, 0, total, heads)])
    start = ComplexitySums(8, 3, heads)
    truth = start.measured(words)
    found = [start.measured(part) for part in np.split(words[: runs * draws * heads], runs)]
    keys = "words flips relevant weight:0 weight:1 weight:2 atmost:1 atmost:2".split()
    for key in keys:
        for name in ("given", "over_all"):
            wanted = getattr(truth, name)(key).value
            limits = [getattr(one, name)(key) for one in found]
            inside = np.mean([one.low <= wanted <= one.high for one in limits])
            assert inside > 0.95 - 4 * math.sqrt(0.95 * 0.05 / runs), (key, name)
            if not key.startswith("atmost"):
                assert inside < 0.95 + 4 * math.sqrt(0.95 * 0.05 / runs), (key, name)


# ------------------------------------------------ no spread


def test_what_was_not_met_is_not_excluded() -> None:
    """Of 200 hidden draws with 10 heads all functions that are not constant are parities."""
    parity = pack(np.array([[0, 1, 1, 0, 1, 0, 0, 1]], np.uint8))
    words = np.zeros((2000, 1), np.uint64)
    words[::10] = parity
    found = ComplexitySums(8, 3, 10).measured(words)
    flips, few = found.given("flips"), found.given("atmost:1")
    assert flips.value == flips.high == 3.0 and flips.low == pytest.approx(3.0 * 0.025 ** (1 / 200))
    assert few.value == few.low == 0.0 and 0.01 < few.high < 0.03
    relevant = found.given("relevant")
    assert relevant.low < 3.0
    # a probability that was met tells how one that was not would cluster: here not at all
    both = np.concatenate([words[:2], pack(np.array([[0, 0, 1, 1, 1, 1, 0, 0]], np.uint8))])
    mixed = both[np.random.default_rng(0).integers(0, 3, 2000)]
    two = ComplexitySums(8, 3, 10).measured(mixed)
    assert 0.4 < two.given("atmost:2").value < 0.6 and two.given("atmost:1").value == 0
    assert 0.98 < two.given("atmost:1").high / (3.69 / two.count) < 1.5
    one = ComplexitySums(8, 3, 10).measured(words[:10])
    assert one.given("flips") == (3.0, None, None)
    none = ComplexitySums(8, 3, 10).measured(words[1:10].repeat(10, axis=0))
    assert none.given("flips") == (None, None, None)
    everywhere = none.over_all("flips")
    assert everywhere.value == 0.0 and everywhere.high > 0.0


@pytest.mark.parametrize("common", [0x00, 0x0F])
def test_functions_that_few_draws_have_are_not_excluded(common: int) -> None:
    """Each of 100 hidden draws is a parity with probability p, else constant or x1: the chance of
    an interval that holds the truth is a sum over the binomial law of their number."""
    table = np.array([[common >> (7 - i) & 1 for i in range(8)], [0, 1, 1, 0, 1, 0, 0, 1]])
    words, k, p = pack(table.astype(np.uint8)), np.arange(15), 0.02
    found = [ComplexitySums(8, 3, 1).measured(words[(np.arange(100) < i).astype(int)]) for i in k]
    ends = [ComplexitySums(8, 3, 1).measured(words[[i, i]]) for i in (0, 1)]
    for key in ("words", "flips", "relevant"):
        low, high = (one.over_all(key).value for one in ends)
        truth = (1 - p) * low + p * high
        limits = [one.over_all(key) for one in found]
        holds = np.array([one.low <= truth <= one.high for one in limits])
        assert binom.pmf(k, 100, p)[holds].sum() > 0.95, key
    if common:
        inner = [NonConstant.of(words[(np.arange(100) < i).astype(int)], 8, 1) for i in k]
        low, high = (one.over_all("words").value for one in ends)
        limits = [one.lz76(8) for one in inner]
        holds = np.array([a <= (1 - p) * low + p * high <= b for _, a, b in limits])
        assert binom.pmf(k, 100, p)[holds].sum() > 0.95


@pytest.mark.parametrize("m", [1, 2, 3, 5, 8, 13, 16])
def test_no_parse_has_more_words_than_the_bound(m: int) -> None:
    tables = (np.arange(1 << m)[:, None] >> np.arange(m) & 1).astype(np.uint8)
    bits = max(math.log2(m), 1e-9)
    assert lz76_packed(pack(tables), m).max() <= bits * most_words(m)


def test_sums_of_large_numbers_are_exact() -> None:
    big = np.array([2**41, 2**41 + 1], np.int64)
    assert _dot(big, big) == 2**82 + (2**41 + 1) ** 2
    assert _dot(np.array([3, 4]), np.array([5, 6])) == 39


@pytest.mark.parametrize(("depth", "sigma_w", "draws"), [(4, 1.0, 50), (6, 0.7, 100)])
def test_the_interval_of_p_constant_is_true(depth: int, sigma_w: float, draws: int) -> None:
    """P(constant) of deep networks, 0.8 and 0.997: 300 runs of ``draws`` hidden draws with 20 heads
    have it in their 95 % interval, or more often (4 standard errors of a share). Of the first 10
    heads the design effect of 20 is the same, in 10 parts: 4 standard errors of the difference."""
    total = 300 * draws
    job = make_job(sp.Network(n=3, hidden=(8,) * depth, sigma_w=sigma_w), 20 * total, 9, 20)
    words = np.concatenate([w for _, w in compiled_functions(job, 0, total, 20)])
    whole, start = ComplexitySums(8, 3, 20).measured(words), ComplexitySums(8, 3, 20)
    truth = 1 - whole.count / (20 * total)
    inside = []
    for part in np.split(words, 300):
        sums = start.measured(part)
        count, effect = np.array([20.0 * draws - sums.count]), sums.constant_effect(20)
        low, high = korn_graubard(count, 20 * draws, effect, clusters=draws)
        inside.append(low[0] <= truth <= high[0])
    assert np.mean(inside) > 0.95 - 4 * math.sqrt(0.95 * 0.05 / 300)
    few = words.reshape(total, 20)[:, :10].reshape(-1, 1)
    effects = [
        [ComplexitySums(8, 3, heads).measured(part).constant_effect(20) for part in np.split(x, 10)]
        for x, heads in ((words, 20), (few, 10))
    ]
    gap = np.subtract(*effects)
    assert abs(gap.mean()) < 4 * gap.std(ddof=1) / math.sqrt(10)


def test_the_interval_of_p_constant_where_nearly_all_are_constant() -> None:
    """Of 10,000 networks 32 are not constant. The squares of either constant alone cannot tell that
    the two go together; what was measured can."""
    flat = sp.Network(n=3, hidden=(8,) * 6, sigma_w=0.7)
    options = {"seed": 1, "heads": 20, "mirror": False}
    plain = sp.sample(flat, 10_000, **options).constant_share()
    measured = sp.sample(flat, 10_000, complexity=500, **options).constant_share()
    assert measured[0] == plain[0] == 0.9968
    assert plain[1] < 0.9 and measured[1] > 0.994


# ------------------------------------------------ which functions


@pytest.mark.parametrize(
    ("network", "samples", "heads"),
    [(sp.Network(n=7), 900, 1), (sp.Network(n=5), 1000, 70), (sp.Network(n=4, hidden=()), 1000, 1)],
)
def test_functions_one_by_one_are_those_that_are_counted(network, samples: int, heads: int) -> None:
    job = make_job(network, samples, 3, heads)
    draws = -(-samples // job.heads)
    words = np.concatenate([w for _, w in compiled_functions(job, 0, draws, job.heads)])[:samples]
    again = FunctionCounts.from_counts(words, np.ones(samples, int), m=network.m, n=network.n)
    counts = sp.sample(network, samples, seed=3, heads=heads, mirror=False)
    assert np.array_equal(again.words, counts.words)
    assert np.array_equal(again.count, counts.count)
    whole = next(compiled_functions(job, 0, draws, job.heads))[1].reshape(draws, job.heads, -1)
    part = next(compiled_functions(job, 2, 5, min(job.heads, 9)))[1]
    assert np.array_equal(part.reshape(3, -1, part.shape[1]), whole[2:5, : min(job.heads, 9)])


def test_engines_measure_the_same_hidden_draws() -> None:
    network = sp.Network(n=4, hidden=(8,))
    options = {"seed": 5, "heads": 100, "complexity": 20, "mirror": False}
    single = sp.sample(network, 3000, **options).complexity
    double = sp.sample(network, 3000, dtype="float64", **options).complexity
    assert single is not None and single.heads == 64 and single.draws == 20
    assert single == double  # no output of these 1,280 networks is 0 to rounding
    perceptron = sp.sample(sp.Network(n=4, hidden=()), 1000, seed=5, complexity=999).complexity
    assert perceptron is not None and (perceptron.heads, perceptron.draws) == (1, 1000)
    dnf = sp.sample(sp.RandomDNF(n=4), 500, seed=5, complexity=100)
    assert dnf.complexity is not None and dnf.complexity.draws == 100


def test_functions_of_inputs_that_are_no_bit_strings_have_lz_alone() -> None:
    network = sp.Network(inputs=[[0.5, 1.0], [1.0, -1.0], [0.2, 0.3]], hidden=(4,))
    frame = sp.sample(network, 200, heads=2, complexity=50).complexity_frame()
    assert set(frame["quantity"]) == {"p_constant", "lz76", "p_lz76"}


# ------------------------------------------------ runs


@pytest.mark.parametrize("heads", [1, 5])
def test_the_split_into_tasks_changes_nothing(heads: int) -> None:
    job = replace(make_job(SMALL, 997, 4, heads, complexity=150), replicate=997)
    whole = Counting(job).compute(split(job, 1 << 20)[0]).tally.complexity
    assert whole is not None and whole.draws == 150
    for size in (64, 128):
        parts = [Counting(job).compute(task).tally.complexity for task in split(job, size)]
        assert sum(parts[1:], parts[0]) == whole


def test_workers_and_interruptions_change_nothing(tmp_path, monkeypatch) -> None:
    options = {"seed": 5, "heads": 2, "complexity": 700}
    plain = sp.sample(SMALL, 3000, **options)
    monkeypatch.setattr(module_of_sample, "task_draws", lambda job, memory: 256)  # 6 tasks
    two = sp.sample(SMALL, 3000, out=tmp_path / "two", workers=2, **options)

    class Stop:
        seen = 0

        def update(self, number: int) -> None:
            self.seen += number
            if self.seen > 1000:
                raise KeyboardInterrupt

    with pytest.raises((KeyboardInterrupt, Interrupted)):
        sp.sample(SMALL, 3000, out=tmp_path / "run", progress=Stop(), **options)
    again = sp.sample(SMALL, 3000, out=tmp_path / "run", resume=True, **options)
    for other in (two, again, sp.load(tmp_path / "run")):
        assert other.complexity == plain.complexity
        assert other.summary() == two.summary()
        assert other.complexity_frame().equals(plain.complexity_frame())
    tables = [(tmp_path / name / COMPLEXITY).read_bytes() for name in ("two", "run")]
    assert tables[0] == tables[1]
    with pytest.raises(StoreError):
        sp.sample(SMALL, 3000, out=tmp_path / "run", resume=True, seed=5, heads=2, complexity=60)
    sp.load(tmp_path / "run").save(tmp_path / "copy")
    assert sp.load(tmp_path / "copy").complexity == plain.complexity
    assert (tmp_path / "copy" / COMPLEXITY).read_bytes() == tables[0]


def test_runs_that_measure_nothing_say_nothing_of_it(tmp_path) -> None:
    counts = sp.sample(SMALL, 100, heads=2, out=tmp_path / "run")
    assert counts.complexity is None and "p_constant" not in counts.summary()
    assert not (tmp_path / "run" / COMPLEXITY).exists()
    with pytest.raises(InputError, match="complexity=2000"):
        counts.complexity_frame()


def test_sums_that_cannot_be_are_refused(tmp_path) -> None:
    sp.sample(SMALL, 100, heads=2, out=tmp_path / "run", complexity=20)
    found = read_manifest(tmp_path / "run")
    for key, value in (("m", 16), ("draws", "many"), ("sums", {"words": [1]}), ("sums", {"a": 1})):
        bad = json.loads(json.dumps(found))
        bad["results"]["complexity"][key] = value
        save_manifest(tmp_path / "run", bad)
        with pytest.raises(StoreError, match="complexity"):
            sp.load(tmp_path / "run")


@pytest.mark.parametrize("value", [0, -3, 2.5, "many", True])
def test_bad_numbers_of_hidden_draws(value) -> None:
    with pytest.raises(InputError, match="complexity"):
        sp.sample(SMALL, 100, complexity=value)


def test_the_command_prints_both(capsys) -> None:
    line = "sample --n 3 --hidden 5 --samples 400 --heads 4 --complexity 50 --quiet".split()
    assert main([*line, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    names = [row["quantity"] for row in printed["complexity"]]
    assert names[:4] == ["p_constant", "lz76", "sensitivity", "relevant_inputs"]
    assert {"p_constant_low", "lz76_nonconstant", "sensitivity"} <= set(printed["summary"])
    assert main(line) == 0
    assert "| fourier_weight" in capsys.readouterr().out
    for bad in (["--complexity", "0"], ["--complexity", "x"], ["--watch", "0xff"]):
        assert main([*line, *bad]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
