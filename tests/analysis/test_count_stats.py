"""Ranks, complexity profiles, histograms and the bound, against brute force."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2

from simprior.analysis.simplicity import (
    complexity_design_effects,
    complexity_profile,
    complexity_steps,
    envelope,
    fit_bound,
    prior_histogram,
    rank_frame,
    uniform_histogram,
    zipf,
)
from simprior.boolean.complexity import lz76
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.sampling.dnf import RandomDNF
from simprior.boolean.sampling.sample import sample
from simprior.boolean.truthtable import pack
from simprior.network.spec import Network

SMALL = Network(n=3, hidden=(4,))


@pytest.fixture(scope="module")
def dnf() -> FunctionCounts:
    return sample(RandomDNF(4, 1.0), samples=50_000, seed=3)


@pytest.fixture(scope="module")
def pooled() -> FunctionCounts:
    return sample(SMALL, samples=20_000, seed=1, heads=8, pool=True)


def brute_means(frame: pd.DataFrame, sorted_p: np.ndarray) -> np.ndarray:
    """Mean of ``sorted_p`` over the ranks of each range."""
    pairs = zip(frame["first"].astype(int), frame["last"].astype(int), strict=True)
    return np.array([sorted_p[a - 1 : b].mean() for a, b in pairs])


def test_zipf() -> None:
    # m = 128: ln N_O = 88.72
    np.testing.assert_allclose(zipf(np.array([1.0, 10.0]), 128), [1 / 88.7228, 1 / 887.228], 1e-5)


def test_ranks_are_those_of_the_counts(dnf: FunctionCounts) -> None:
    frame = rank_frame(dnf)
    p = np.sort(dnf.p)[::-1]
    low, high = (np.sort(bound)[::-1] for bound in dnf.intervals())
    assert len(frame) <= 240 and frame["last"].iloc[-1] == dnf.functions
    assert (frame["first"].iloc[1:].to_numpy() == frame["last"].iloc[:-1].to_numpy() + 1).all()
    for name, values in (("p", p), ("p_low", low), ("p_high", high)):
        np.testing.assert_allclose(frame[name], brute_means(frame, values), rtol=1e-7)
    assert (frame["p_low"] < frame["p"]).all() and (frame["p"] < frame["p_high"]).all()
    np.testing.assert_allclose((frame["p"] * (frame["last"] - frame["first"] + 1)).sum(), 1)


def test_ranks_do_not_depend_on_the_rows_loaded(dnf: FunctionCounts) -> None:
    pd.testing.assert_frame_equal(rank_frame(dnf.head(5)), rank_frame(dnf))


def test_shared_layers_widen_the_band() -> None:
    """Intervals of the constants are those of the table: clustered, wider than binomial ones."""
    counts = sample(SMALL, samples=20_000, seed=1, heads=64, mirror=False)
    frame = rank_frame(counts)
    low, high = counts.intervals()
    np.testing.assert_allclose(frame[["p_low", "p_high"]].to_numpy()[:2], np.c_[low, high][:2])
    assert counts.design_effects[0] > 1.2


def test_a_pooled_class_takes_as_many_ranks_as_it_has_members(pooled: FunctionCounts) -> None:
    table = pooled.pooled
    assert table is not None and table.orbit is not None
    p = np.sort(np.repeat(table.p, table.orbit.astype(int)))[::-1]
    frame = rank_frame(table)
    assert frame["last"].iloc[-1] == len(p) <= 256
    np.testing.assert_allclose(frame["p"], brute_means(frame, p), rtol=1e-7)


def test_subsampled_functions_stand_for_others() -> None:
    counts = sample(Network(n=5), samples=20_000, seed=0, heads=16, keep=1 / 4)
    frame = rank_frame(counts)
    assert frame["last"].iloc[-1] == 2 + 4 * (counts.functions - 2)
    np.testing.assert_allclose(frame["p"].iloc[:2], np.sort(counts.ones[[0, 32], 0])[::-1] / 20_000)
    weights = complexity_profile(counts).functions
    assert weights.sum() == frame["last"].iloc[-1]


def test_complexity_profile_is_a_census(dnf: FunctionCounts) -> None:
    profile = complexity_profile(dnf)
    found = {
        (round(k, 6), c): f
        for k, c, f in zip(profile.lz76, profile.count, profile.functions, strict=True)
    }
    wanted = Counter(zip(lz76(dnf.tables()).round(6), dnf.count, strict=True))
    assert found == wanted and profile.stride == 1


def test_complexity_profile_streams_and_samples(tmp_path: Path) -> None:
    full = sample(Network(n=5), samples=30_000, seed=0, heads=16, out=tmp_path / "run")
    part = FunctionCounts.load(tmp_path / "run", top=10)
    table = tmp_path / "run" / "counts.parquet"
    streamed, whole = complexity_profile(part, table), complexity_profile(full)
    for name in ("steps", "count", "weight", "found"):
        np.testing.assert_array_equal(getattr(streamed, name), getattr(whole, name))
    thin = complexity_profile(part, table, exact_rows=500)
    assert thin.stride == -(-(full.functions - 500) // 500) > 2
    assert thin.found.sum() <= 1000
    assert abs(thin.functions.sum() - full.functions) < thin.stride
    # rows of equal count are sampled systematically: 5 standard errors of the stated error
    a, b = prior_histogram(full, whole), prior_histogram(full, thin)
    both = a.merge(b, on="steps", suffixes=("", "_thin"))
    z = (both["p"] - both["p_thin"]) / np.maximum(both["stderr_thin"], 1e-12)
    assert len(both) > 8 and z.abs().max() < 5


def test_prior_histogram_of_independent_samples(dnf: FunctionCounts) -> None:
    frame = prior_histogram(dnf, complexity_profile(dnf))
    steps = np.rint(lz76(dnf.tables()) / 2).astype(int)  # unit: log2(16) / 2
    p = np.bincount(steps, dnf.count)[frame["steps"]] / dnf.samples
    np.testing.assert_allclose(frame["p"], p)
    np.testing.assert_allclose(frame["stderr"], np.sqrt(p * (1 - p) / dnf.samples))


@pytest.mark.slow
def test_prior_histogram_error_is_calibrated_with_shared_layers() -> None:
    """Variance of P(K) over 32 seeds against the squared standard errors.

    The ratio is chi2(31)/31; false-alarm rate 1e-4 for each class. Binomial errors would give the
    design effect, above the upper limit of 2.2, as the last line asserts.
    """
    network, runs = Network(n=2, hidden=(2,), sigma_b=0.0), 32
    frames = []
    for seed in range(runs):
        counts = sample(network, samples=6400, seed=seed, heads=100)
        frames.append(prior_histogram(counts, complexity_profile(counts), seed).set_index("steps"))
    p = pd.concat([f["p"] for f in frames], axis=1).fillna(0.0)
    error = pd.concat([f["stderr"] for f in frames], axis=1).fillna(0.0)
    ratio = p.var(axis=1, ddof=1) / (error**2).mean(axis=1)
    low, high = chi2.ppf([5e-5, 1 - 5e-5], runs - 1) / (runs - 1)
    assert ratio.between(low, high).all(), ratio
    assert complexity_design_effects(counts, np.array([2])).item() > high


def test_uniform_histogram() -> None:
    exact = uniform_histogram(3)
    tables = (np.arange(8)[:, None] >> np.array([2, 1, 0])) & 1
    wanted = Counter(complexity_steps(pack(tables), 3).tolist())
    assert dict(zip(exact["steps"], exact["p"] * 8, strict=True)) == wanted
    assert (exact["stderr"] == 0).all() and exact.attrs["functions"] == 8
    whole, part = uniform_histogram(12), uniform_histogram(12, seed=5, functions=20_000)
    both = whole.merge(part, on="steps", suffixes=("", "_part"))
    sigma = np.sqrt(both["p"] * (1 - both["p"]) / 20_000)
    # about ten classes, 5 standard errors: false-alarm rate 1e-5 (normal approximation: p > 1e-3)
    common = both["p"] > 1e-3
    assert common.sum() > 5
    assert ((both["p_part"] - both["p"]).abs()[common] < 5 * sigma[common]).all()
    assert uniform_histogram(128).equals(uniform_histogram(128))
    assert not uniform_histogram(128).equals(uniform_histogram(128, seed=1))


def test_uniform_functions_have_no_stray_bits() -> None:
    """m = 70: padding bits of the second word must be zero, or measures would refuse or differ."""
    assert uniform_histogram(70, functions=500)["p"].sum() == pytest.approx(1)


def test_envelope_holds_the_most_probable_function(dnf: FunctionCounts) -> None:
    frame = envelope(dnf, complexity_profile(dnf))
    k = lz76(dnf.tables())
    best = {value: dnf.count[np.isclose(k, value)].max() for value in np.unique(k)}
    np.testing.assert_allclose(frame["lz76"], list(best))
    assert frame["count"].tolist() == list(best.values())
    assert (frame["p_low"] < frame["p"]).all() and (frame["p"] < frame["p_high"]).all()


def test_fit_recovers_a_line_and_ignores_small_counts() -> None:
    x = np.arange(5.0, 60.0, 5.0)
    frame = pd.DataFrame({"lz76": x, "p": 2.0 ** (-0.3 * x - 1.5), "count": 100})
    fit = fit_bound(frame)
    assert fit is not None
    assert fit.a == pytest.approx(0.3) and fit.b == pytest.approx(1.5)
    assert fit.b_bound == pytest.approx(1.5) and fit.a_stderr < 1e-6
    noise = pd.DataFrame({"lz76": [70.0, 80.0], "p": 0.5, "count": 9})
    assert fit_bound(pd.concat([frame, noise])) == fit
    assert fit_bound(frame.head(2)) is None


def test_fit_is_ordinary_least_squares_and_the_bound_bounds() -> None:
    rng = np.random.default_rng(0)
    x = np.linspace(7, 100, 12)
    y = -0.2 * x - 3 + rng.normal(0, 1, len(x))
    frame = pd.DataFrame({"lz76": x, "p": 2.0**y, "count": 50})
    fit = fit_bound(frame)
    assert fit is not None and fit.points == 12
    design = np.c_[x, np.ones_like(x)]
    beta, residual, *_ = np.linalg.lstsq(design, y, rcond=None)
    covariance = residual[0] / 10 * np.linalg.inv(design.T @ design)
    np.testing.assert_allclose([-fit.a, -fit.b], beta)
    np.testing.assert_allclose([fit.a_stderr, fit.b_stderr], np.sqrt(np.diag(covariance)))
    slack = np.log2(fit(x, bound=True)) - y
    assert slack.min() == pytest.approx(0, abs=1e-9)
