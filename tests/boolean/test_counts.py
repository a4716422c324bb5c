"""Tables of counts: rows, look-up, disk, and whether standard errors and intervals are true."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from four_bits import number

from simprior import Network
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.sampling.dnf import RandomDNF, exact_probabilities
from simprior.boolean.sampling.sample import sample
from simprior.boolean.truthtable import pack, to_hex
from simprior.errors import InputError, StoreError

SMALL = Network(n=3, hidden=(10,))
MEDIUM = Network(n=4, hidden=(20, 20))


# ------------------------------------------------ rows and frames


def test_rows_are_ordered_and_add_up() -> None:
    c = sample(MEDIUM, samples=30_000, seed=0, heads=32)
    key = list(zip(-c.count, c.words[:, 0], strict=True))
    assert key == sorted(key) and len(np.unique(c.words, axis=0)) == len(c) == c.functions
    assert c.count.sum() == c.samples == c.ones[:, 0].sum() == 30_000
    t = c.tables().sum(1)
    np.testing.assert_array_equal(np.bincount(t, c.count, 17), c.ones[:, 0])
    assert (c.rows.clusters <= c.count).all() and (c.count <= c.rows.sumsq).all()
    assert (c.count**2 <= c.rows.sumsq * c.rows.clusters).all()  # Cauchy-Schwarz
    assert (c.count <= c.rows.clusters * c.heads).all()
    assert c.draws == 938 and not c.iid


def test_find_accepts_every_form() -> None:
    c = sample(SMALL, samples=20_000, seed=0)
    assert c.find([to_hex(c.words, 8)[5]]).tolist() == [5]
    table = c.tables()[7]
    assert c.find(["".join(map(str, table))]).tolist() == [7]
    np.testing.assert_array_equal(c.find(c.tables()), np.arange(len(c)))
    few = sample(MEDIUM, samples=100, seed=0)
    parity = few.find("parity")
    assert parity.tolist() == [-1]
    with pytest.raises(InputError):
        c.find("0101")


def test_frame_and_head() -> None:
    c = sample(MEDIUM, samples=20_000, seed=0, heads=64)
    frame = c.to_frame(top=10)
    assert list(frame["rank"]) == list(range(1, 11)) and len(c.to_frame(top=None)) == len(c)
    np.testing.assert_array_equal(frame["p"], c.p[:10])
    np.testing.assert_array_equal(frame["stderr"], c.stderr[:10])
    assert ((frame.p_low < frame.p) & (frame.p < frame.p_high)).all()
    assert (frame.ones == c.tables(10).sum(1)).all() and (
        frame.design_effect > 1 - 2 * frame.p
    ).all()
    wide = c.to_frame(top=10, level=0.99)
    assert (wide.p_low < frame.p_low).all() and (wide.p_high > frame.p_high).all()
    part = c.head(10)
    assert len(part) == 10 and part.functions == c.functions and part.unseen == c.unseen
    ones = c.ones_frame()
    assert ones["count"].sum() == c.samples and ones.p.sum() == pytest.approx(1)


def test_saved_and_loaded(tmp_path: Path) -> None:
    c = sample(MEDIUM, samples=20_000, seed=0, heads=64)
    c.save(tmp_path / "a")
    back = FunctionCounts.load(tmp_path / "a")
    assert back.summary() == c.summary()
    np.testing.assert_array_equal(back.words, c.words)
    np.testing.assert_array_equal(back.stderr, c.stderr)
    top = FunctionCounts.load(tmp_path / "a", top=5)
    assert len(top) == 5 and top.summary() == c.summary()
    np.testing.assert_array_equal(top.stderr, c.stderr[:5])  # the pool is the whole table
    with pytest.raises(StoreError, match="not empty"):
        c.save(tmp_path / "a")


def test_counts_made_elsewhere() -> None:
    words = pack(np.array([[0, 0], [0, 1], [0, 1], [1, 1]], np.uint8))
    c = FunctionCounts.from_counts(words, np.array([3, 1, 1, 5]), m=2, n=1)
    assert c.count.tolist() == [5, 3, 2] and c.samples == 10 and c.iid
    assert c.tables().tolist() == [[1, 1], [0, 0], [0, 1]]
    np.testing.assert_array_equal(c.ones[:, 0], [3, 2, 5])
    for counts, samples in (([1, 0, 1, 1], None), ([1, 1, 1, 1], 3)):
        with pytest.raises(InputError):
            FunctionCounts.from_counts(words, np.array(counts), m=2, samples=samples)


@pytest.mark.parametrize("samples", [1, 2, 7, 63, 65])
@pytest.mark.parametrize("network", [Network(), Network(n=1, hidden=(1,)), Network(n=2, hidden=())])
def test_a_handful_of_samples(network: Network, samples: int) -> None:
    for heads in ("auto", 1, 64):
        c = sample(network, samples=samples, seed=1, heads=heads)
        s = c.summary()
        assert c.count.sum() == samples and 0 <= s["unseen_low"] <= s["unseen_mass"] <= 1
        assert np.isfinite(c.to_frame().select_dtypes("number").to_numpy()).all()
        assert np.isfinite(c.ones_frame().to_numpy(float)).all()


def test_one_cluster_says_nothing_about_its_own_spread() -> None:
    """All heads on one hidden draw: worth one sample, not as many as there are heads."""
    c = sample(Network(), samples=64, seed=1, heads=64)
    assert c.draws == 1 and (c.design_effects == 64).all()
    assert c.constant_design_effect() == 64 and c.summary()["effective_samples"] == 1


def test_a_last_cluster_cut_short_does_not_look_like_a_burst() -> None:
    """74 clusters of 336 heads and one of 136: the mean of 30 design effects of the constant is
    that of 75 whole clusters (1.13) within 5 standard errors; it was 2.0."""
    network, effects = Network(n=5, hidden=(64, 64)), []
    for samples in (74 * 336 + 136, 75 * 336):
        runs = [sample(network, samples=samples, seed=s, heads=336) for s in range(30)]
        effects.append([r.constant_design_effect() for r in runs])
        for r in runs[:3]:
            row = int(r.find(["0" * 32])[0])
            frame = r.ones_frame()
            assert r.design_effects[row] == pytest.approx(frame.design_effect[0], rel=0.15)
    a, b = np.array(effects)
    assert abs(a.mean() - b.mean()) < 5 * np.sqrt((a.var() + b.var()) / 29)


def test_a_kept_table_with_nothing_but_constants() -> None:
    for heads in (1, 16):
        c = sample(SMALL, samples=5000, seed=1, heads=heads, keep=2.0**-40)
        assert set(c.tables().sum(1)) == {0, 8} and c.functions == 2
        u = c.unseen
        assert u.mass == 0 and u.high == 1  # nothing is known about the rest


# ------------------------------------------------ subsampling of functions


@pytest.mark.parametrize("mirror", [False, True])
def test_kept_functions_are_counted_exactly_and_totals_are_unbiased(mirror: bool) -> None:
    net = Network(n=6, hidden=(20,))
    options: dict[str, Any] = {"samples": 300_000, "heads": 32, "mirror": mirror}
    whole = sample(net, seed=1, **options)
    constant = np.isin(whole.tables().sum(1), (0, net.m))
    k = whole.count[~constant]
    inner, before = None, None
    for keep in (1 / 2, 1 / 8, 1 / 64):
        part = sample(net, seed=1, keep=keep, **options)
        np.testing.assert_array_equal(part.ones, whole.ones)  # always complete
        where = whole.find(part.tables())
        assert (where >= 0).all()
        for name in ("count", "clusters", "sumsq"):
            np.testing.assert_array_equal(
                getattr(part.rows, name), getattr(whole.rows, name)[where]
            )
        ours = ~np.isin(part.tables().sum(1), (0, net.m))
        # each function is kept with probability keep, and its complement with it if that is its
        # mirror: z of both Horvitz-Thompson totals, |z| < 5
        for mine, all_ in ((part.count[ours], k), (np.ones(ours.sum()), np.ones(len(k)))):
            error = np.sqrt((1 + mirror) * (all_.astype(float) ** 2).sum() * (1 - keep) / keep)
            assert abs(mine.sum() / keep - all_.sum()) < 5 * error
        inner = {w.tobytes() for w in part.words}
        assert before is None or inner < before
        before = inner
        u, v = part.unseen, whole.unseen
        assert abs(u.mass - v.mass) < 5 * np.hypot(u.stderr, v.stderr)
    # another seed keeps the same functions
    other = sample(net, seed=2, keep=1 / 64, **options)
    both = np.flatnonzero(whole.find(other.tables()) >= 0)
    assert len(both) > 20 and inner is not None
    assert {other.words[i].tobytes() for i in both} <= inner


# ------------------------------------------------ are the errors true? (slow)

REPEATS = 400
one_process = pytest.mark.xdist_group("counts")  # of pytest-xdist, for the truth and the runs


@pytest.fixture(scope="module")
def truth() -> FunctionCounts:
    return sample(MEDIUM, samples=10**8, seed=99)


@pytest.fixture(scope="module")
def pooled_truth() -> FunctionCounts:
    """Of classes: the mean of the members' plain estimates, by pooling the truth itself."""
    found = sample(MEDIUM, samples=2 * 10**7, seed=5, heads=64, pool=True).pooled
    assert found is not None
    return found


@lru_cache(maxsize=2)  # two tests look at the same runs, with mirrors and without
def small_runs(
    network: Network, samples: int, repeats: int = REPEATS, **options: object
) -> list[FunctionCounts]:
    return [
        sample(network, samples=samples, seed=1000 + i, **options)  # type: ignore[arg-type]
        for i in range(repeats)
    ]


def errors_are_true(p: np.ndarray, stderr: np.ndarray, truth: float) -> None:
    """(REPEATS,) estimates are unbiased, and their spread is the root mean square of the stated
    errors: both within 5 standard errors (0.18 for the ratio at 400 repeats), false alarm 1e-6.
    Scores (p - truth) / stderr would be skewed: at a count of 16 their mean is -1 / (2 sqrt 16)."""
    spread, stated = p.std(ddof=1), np.sqrt(np.mean(stderr**2))
    assert abs(p.mean() - truth) < 5 * spread / np.sqrt(len(p))
    assert abs(spread / stated - 1) < 5 / np.sqrt(2 * len(p))


@one_process
@pytest.mark.slow
@pytest.mark.parametrize("mirror", [False, True])
def test_standard_errors_of_shared_heads(mirror: bool, truth: FunctionCounts) -> None:
    """200 clusters of 64 heads: P(const), P(t) and common functions spread as stated."""
    runs = small_runs(MEDIUM, 64 * 200, heads=64, mirror=mirror)
    frames = [r.ones_frame() for r in runs]
    exact = truth.ones_frame()
    for t in (0, 1, 2, 4, 8, 15, 16):
        stated = np.array([f.stderr[t] for f in frames])
        assert exact.stderr[t] < 0.05 * stated.mean()
        errors_are_true(np.array([f.p[t] for f in frames]), stated, exact.p[t])
    rows = np.array([r.find(truth.tables(12)) for r in runs]).T
    assert rows.min() >= 0
    for row, at in enumerate(rows):
        p = np.array([r.p[i] for r, i in zip(runs, at, strict=True)])
        stated = np.array([r.stderr[i] for r, i in zip(runs, at, strict=True)])
        errors_are_true(p, stated, truth.p[row])
    effect = np.mean([r.constant_design_effect() for r in runs])
    between = np.var([f.p[0] for f in frames], ddof=1)
    p = exact.p[0]
    found = between / (p * (1 - p) / (64 * 200))
    assert (effect < 1) if mirror else (effect > 1.05)
    assert abs(found / effect - 1) < 5 * np.sqrt(2 / REPEATS)


@one_process
@pytest.mark.slow
@pytest.mark.parametrize("mirror", [False, True])
def test_intervals_of_shared_heads_cover(mirror: bool, truth: FunctionCounts) -> None:
    """95 % Korn-Graubard intervals of functions expected 5 times or more: they are conservative
    by design (exact binomial at real counts), never below 94 % on average."""
    runs = small_runs(MEDIUM, 64 * 200, heads=64, mirror=mirror)
    rows = np.flatnonzero(truth.p * 64 * 200 > 5)
    inside, total = 0, 0
    for r in runs:
        at = r.find(truth.tables(int(rows[-1]) + 1)[rows])
        p = truth.p[rows][at >= 0]
        at = at[at >= 0]
        low, high = r.intervals()
        inside += int(((low[at] <= p) & (p <= high[at])).sum())
        total += len(rows)  # functions that were missed count as not covered
    # about 400 x 30 intervals, correlated within a run: standard error below 0.005
    assert 0.94 < inside / total < 0.99


@one_process
@pytest.mark.slow
@pytest.mark.parametrize("mirror", [False, True])
def test_unseen_mass_of_shared_heads_covers(mirror: bool, truth: FunctionCounts) -> None:
    """Good-Turing under shared heads: the true unseen mass of each run is known from 1e8 samples
    (to 1e-4). Coverage of 95 % intervals over 400 runs; 0.905 is 4 standard errors below."""
    z, inside, p = [], 0, np.zeros(1 << 16)
    p[number(truth)] = truth.p
    for r in small_runs(MEDIUM, 64 * 100, heads=64, mirror=mirror):
        mass = 1 - float(p[number(r)].sum())
        u = r.unseen
        inside += u.low - 1e-4 <= mass <= u.high + 1e-4
        z.append((u.mass - mass) / u.stderr)
    assert inside / REPEATS > 0.905
    assert abs(np.mean(z)) < 0.25 and 0.7 < np.std(z) < 1.2


@pytest.mark.slow
def test_unseen_mass_of_independent_samples_covers() -> None:
    """Random DNF networks at n = 4, all probabilities exact: 95 % within 4 standard errors."""
    model = RandomDNF(n=4)
    exact = exact_probabilities(model)
    inside = 0
    for r in small_runs(model, 20_000):  # type: ignore[arg-type]
        mass = 1 - exact[number(r)].sum()
        inside += r.unseen.low <= mass <= r.unseen.high
    assert abs(inside / REPEATS - 0.95) < 4 * np.sqrt(0.95 * 0.05 / REPEATS)


@one_process
@pytest.mark.slow
@pytest.mark.parametrize("heads", [1, 64])
def test_pooled_and_plain_estimates_agree_and_pooled_errors_are_true(
    heads: int, truth: FunctionCounts, pooled_truth: FunctionCounts
) -> None:
    """P of one member of a class: pooled against 1e8 plain samples, and its spread over repeats."""
    # independent networks take longest: half as many, and half of the repeats
    repeats, size = (REPEATS // 2, 160) if heads == 1 else (REPEATS, 320)
    runs = small_runs(MEDIUM, 64 * size, repeats, heads=heads, pool=True)
    pooled = [r.pooled for r in runs]
    first = pooled[0]
    assert first is not None
    big = pooled_truth
    at = truth.find(big.tables(40))
    z = (truth.p[at] - big.p[:40]) / np.hypot(truth.stderr[at], big.stderr[:40])
    assert (np.abs(z) < 5).all()
    rows = range(0, 20, 2)
    known = big.tables(20)[rows]
    found = [p.find(known) for p in pooled if p is not None]
    assert len(found) == repeats
    for row, at in zip(rows, np.array(found).T, strict=True):
        scores, errors = [], []
        for p, i in zip(pooled, at, strict=True):
            assert p is not None
            scores.append((p.p[i] if i >= 0 else 0.0) - big.p[row])
            errors.append(p.stderr[i] if i >= 0 else np.nan)
        # root mean square of the stated errors against the spread: 64 tasks a run give each
        # error a relative standard error of 9 %
        stated = np.sqrt(np.nanmean(np.square(errors)))
        assert abs(np.std(scores, ddof=1) / stated - 1) < 5 / np.sqrt(2 * repeats) + 0.03
        assert abs(np.mean(scores)) < 5 * np.hypot(stated / np.sqrt(repeats), big.stderr[row])
