"""Posterior draws against rejection from the prior, exact enumeration and closed forms."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from simprior import gp
from simprior.boolean.truthtable import bit_matrix, named
from simprior.errors import InputError, NumericalError
from simprior.gp.covariance import root
from simprior.gp.posterior import log_posterior, sample_posterior
from simprior.network.spec import Network


def kernel(n: int, **spec: object) -> np.ndarray:
    network = Network(n=n, **spec)  # type: ignore[arg-type]
    return gp.nngp(network, bit_matrix(n, network.encoding))


def rejected(K: np.ndarray, index: np.ndarray, bits: np.ndarray, draws: int) -> np.ndarray:
    """(F, m) tables of prior draws that agree with S: the definition of the posterior."""
    z = np.random.default_rng(99).standard_normal((draws, root(K).shape[1])) @ root(K).T
    tables = (z > 0).astype(np.uint8)
    return tables[(tables[:, index] == bits).all(axis=1)]


CASES = {
    "n3": (kernel(3), [0, 3, 5], [0, 0, 0]),
    "n3 one input": (kernel(3), [6], [1]),
    "n3 all but one": (kernel(3), [0, 1, 2, 3, 4, 5, 6], [0, 0, 0, 0, 1, 1, 1]),
    "n4 deep": (kernel(4, hidden=(1,) * 5), [1, 2, 4, 8], [1, 1, 1, 1]),
    "zero variance": (kernel(3, sigma_b=0.0), [0, 3, 5], [0, 1, 1]),
    "only the zero input": (kernel(3, sigma_b=0.0), [0], [0]),
    "mirror images": (
        kernel(3, sigma_b=0.0, encoding="pm1", activation="erf"), [0, 3, 5], [0, 1, 1],
    ),
    "rank deficient": (kernel(4, hidden=()), [0, 3, 5, 9, 10], [0, 0, 0, 1, 1]),
    "S of full rank": (kernel(3, hidden=(), sigma_b=0.5), [0, 1, 2, 4, 7], [0, 0, 0, 0, 1]),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_rejection_from_the_prior(name: str) -> None:
    K, chosen, labels = CASES[name]
    index, bits = np.array(chosen), np.array(labels, np.uint8)
    truth = rejected(K, index, bits, 400_000)
    assert len(truth) > 1000
    counts = sample_posterior(K, index, bits, 40_000, seed=3)
    tables = counts.tables()
    assert (tables[:, index] == bits).all()
    assert counts.count.sum() == 40_000 == counts.ones[:, 0].sum()
    found, plain = np.unique(truth, axis=0, return_counts=True)
    p = plain / len(truth)
    common = p > 50 / len(truth)
    row = counts.find(found[common])
    assert (row >= 0).all()
    p = p[common]
    error = np.hypot(counts.stderr[row], np.sqrt(p * (1 - p) / len(truth)))
    z = np.divide(counts.p[row] - p, error, out=np.zeros(len(p)), where=error > 0)
    # at most 128 functions a case, 4.5 standard errors: false alarm below 9e-4
    assert len(p) <= 128
    assert np.abs(z).max() < 4.5
    if len(p) > 20:
        assert 0.5 < np.std(z) < 1.5


def test_m2_against_the_arcsine_law() -> None:
    rho = 0.6
    K = np.array([[1.0, rho], [rho, 2.0]])
    K[0, 1] = K[1, 0] = rho * math.sqrt(2.0)
    counts = sample_posterior(K, [0], [1], 50_000, seed=1)
    exact = 2 * (0.25 + math.asin(rho) / (2 * math.pi))
    both = counts.find(np.array([[1, 1]]))[0]
    assert abs(counts.p[both] - exact) < 4 * counts.stderr[both]
    assert counts.stderr[both] < 0.004


@pytest.mark.slow
def test_standard_errors_are_right() -> None:
    # 60 repeats of 2000 draws; the standardised errors of 3 functions: 4 standard errors of mean
    # and standard deviation (chi-square with 60 degrees of freedom: 0.65..1.35)
    K, index = kernel(4), np.array([0, 1, 2, 7, 8])
    bits = named("x1", 4)[index]
    wanted = np.array([named("x1", 4), *rejected(K, index, bits, 4000)[:2]])
    exact = log_posterior(wanted, K, index, bits, draws=200_000)
    p = np.exp([e.value for e in exact])
    z = []
    for seed in range(60):
        counts = sample_posterior(K, index, bits, 2000, seed=seed)
        row = counts.find(wanted)
        assert (row >= 0).all()
        z.append((counts.p[row] - p) / counts.stderr[row])
    z = np.array(z)
    assert np.abs(z.mean(axis=0)).max() < 4 / math.sqrt(60) * 1.3
    assert (z.std(axis=0) > 0.65).all()
    assert (z.std(axis=0) < 1.35).all()


@pytest.mark.slow
def test_intervals_cover() -> None:
    K = kernel(7)
    index = np.sort(np.random.default_rng(0).permutation(128)[:64])
    for name in ("x1", "const0"):  # the proposals of lowest efficiency
        target = named(name, 7)
        exact = log_posterior(target, K, index, target[index], draws=400_000)[0]
        p, inside = math.exp(exact.value), 0
        for seed in range(200):
            counts = sample_posterior(K, index, target[index], 5000, seed=seed)
            low, high = counts.intervals(0.95)
            row = counts.find(target[None])[0]
            inside += low[row] <= p <= high[row]
        # 200 intervals at a nominal 0.95: binomial, 4 standard errors below is 0.888
        assert inside / 200 > 0.888


def test_training_labels_always_hold_and_ep_violates_them() -> None:
    K, target = kernel(7), named("majority", 7)
    index = np.arange(0, 128, 2)
    exact = sample_posterior(K, index, target[index], 5000, seed=2)
    assert (exact.tables()[:, index] == target[index]).all()
    info = exact.info["posterior"]
    assert info["violating"] == 0.0
    assert info["reliable"]
    assert 2000 < info["ess"] <= 5000
    literature = sample_posterior(K, index, target[index], 5000, seed=2, method="ep")
    wrong = (literature.tables()[:, index] != target[index]).any(axis=1)
    share = literature.count[wrong].sum() / 5000
    assert share == literature.info["posterior"]["violating"]
    assert share > 0.3
    assert not literature.info["posterior"]["reliable"]


def test_evidence_is_that_of_log_prior() -> None:
    K, target = kernel(5), named("x1", 5)
    index = np.arange(0, 32, 3)
    info = sample_posterior(K, index, target[index], 1000).info["posterior"]
    other = gp.log_prior(target[index], K[np.ix_(index, index)], draws=100_000, n=0)[0]
    error = math.hypot(info["log_evidence_stderr"], other.stderr)
    assert abs(info["log_evidence"] - other.value) < 4 * error


def test_same_seed_same_counts_whatever_the_workers() -> None:
    K = kernel(4)
    one = sample_posterior(K, [0, 1, 2], [0, 1, 1], 3e5, seed=5)
    two = sample_posterior(K, [0, 1, 2], [0, 1, 1], 3e5, seed=5, workers=2)
    assert (one.words == two.words).all()
    assert (one.count == two.count).all()
    assert (one.rows.sumsq == two.rows.sumsq).all()
    other = sample_posterior(K, [0, 1, 2], [0, 1, 1], 3e5, seed=6)
    assert not np.array_equal(one.count, other.count)


@pytest.mark.parametrize("samples", [1, 7, 199, 1001, 25_601])
def test_every_number_of_samples_is_met(samples: int) -> None:
    counts = sample_posterior(kernel(3), [0, 1], [0, 1], samples)
    assert counts.samples == samples == counts.count.sum()
    assert (counts.rows.clusters <= counts.count).all()
    assert (counts.count <= counts.rows.sumsq).all()


def test_order_of_the_training_set_and_coding_of_labels_do_not_matter() -> None:
    K = kernel(4)
    a = sample_posterior(K, [3, 7, 9], [1, 0, 1], 2000, seed=4)
    b = sample_posterior(K, np.array([9, 3, 7]), np.array([1, 1, -1]), 2000, seed=4)
    assert (a.words == b.words).all()
    assert (a.count == b.count).all()


@pytest.mark.parametrize(
    "spec",
    [{}, {"sigma_b": 0.0}, {"hidden": ()}, {"encoding": "pm1", "sigma_b": 0.0, "hidden": (1,)}],
    ids=["full rank", "zero input", "linear", "pm1"],
)
def test_log_posterior_sums_to_one(spec: dict[str, object]) -> None:
    K = kernel(3, **spec)
    index, bits = np.array([0, 1, 6]), np.array([0, 1, 1])
    rest = np.setdiff1d(np.arange(8), index)
    tables = np.zeros((2 ** len(rest), 8), np.uint8)
    tables[:, index] = bits
    tables[:, rest] = list(itertools.product([0, 1], repeat=len(rest)))
    found = log_posterior(tables, K, index, bits, draws=4000)
    p = np.exp([f.value for f in found])
    prior_error = [
        math.sqrt(max(f.stderr**2 - f.diagnostics.get("log_evidence_stderr", 0.0) ** 2, 0.0))
        for f in found
    ]
    evidence = max(f.diagnostics.get("log_evidence_stderr", 0.0) for f in found)
    error = math.hypot(np.linalg.norm(p * prior_error), evidence)
    assert error < 0.02
    assert abs(p.sum() - 1.0) < 4.5 * error + 1e-9


def test_log_posterior_excludes_what_disagrees_and_adds_errors() -> None:
    K = kernel(4)
    index, bits = [0, 5, 9], [0, 0, 1]
    agreeing, other = log_posterior(["x1", "const0"], K, index, bits, draws=512)
    assert other.value == -math.inf
    assert other.stderr == 0.0
    prior = gp.log_prior("x1", K, draws=512)[0]
    evidence = agreeing.diagnostics["log_evidence"]
    assert agreeing.value == pytest.approx(prior.value - evidence)
    assert agreeing.stderr == pytest.approx(
        math.hypot(prior.stderr, agreeing.diagnostics["log_evidence_stderr"])
    )
    only = log_posterior(["const0"], K, index, bits)
    assert only[0].value == -math.inf


def test_saved_counts_keep_their_intervals(tmp_path) -> None:  # type: ignore[no-untyped-def]
    counts = sample_posterior(kernel(4), [0, 1, 2], [0, 1, 1], 30_000)
    counts.save(tmp_path / "run", command="posterior")
    again = type(counts).load(tmp_path / "run")
    assert (again.intervals()[0] == counts.intervals()[0]).all()
    assert (again.stderr == counts.stderr).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_index": [], "labels": []}, "training set of 0 of the 8 inputs"),
        ({"train_index": range(8), "labels": [0] * 8}, "training set of 8 of the 8 inputs"),
        ({"train_index": [0, 8]}, "train_index with values from 0 to 8"),
        ({"train_index": [0.5, 1.0]}, "train_index"),
        ({"train_index": [1, 1]}, "repeated"),
        ({"labels": [0, 2]}, "labels (function value 2)"),
        ({"labels": [0, 1, 1]}, "labels (functions of type list, shape (1, 3))"),
        ({"method": "laplace"}, "method='laplace'"),
        ({"samples": 0}, "samples=0"),
        ({"seed": -1}, "seed=-1"),
        ({"K": np.ones((2, 3))}, "square matrix"),
    ],
)
def test_bad_input_is_one_line(change: dict[str, object], message: str) -> None:
    arguments = {"K": kernel(3), "train_index": [0, 1], "labels": [0, 1]} | change
    with pytest.raises(InputError) as caught:
        sample_posterior(**arguments)  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_impossible_labels_and_no_covariance() -> None:
    with pytest.raises(InputError, match="no weights give them"):
        sample_posterior(kernel(3, sigma_b=0.0), [0, 1], [1, 0])
    linear = kernel(2, hidden=(), sigma_b=0.0)  # z(11) = z(01) + z(10)
    with pytest.raises(InputError, match="no weights give them"):
        sample_posterior(linear, [1, 2, 3], [0, 0, 1])
    with pytest.raises(InputError, match="no weights give them"):
        log_posterior("const1", kernel(3, sigma_b=0.0), [0, 1], [1, 0])
    indefinite = np.array([[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    with pytest.raises(NumericalError, match="positive semi-definite"):
        sample_posterior(indefinite, [0], [1])
