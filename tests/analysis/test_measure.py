"""The measures table: columns equal direct calls, rescaling, chunks, workers, resume, refusals."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import simprior as sp
from simprior.analysis.flatness.ensemble import Ensemble
from simprior.analysis.measure import sources as measure_sources
from simprior.analysis.measure.registry import GROUPS, MEASURES, SUFFIXES, WEIGHT_GROUPS
from simprior.analysis.measure.table import Measuring, load_measures, measure
from simprior.boolean.complexity import lz76_packed
from simprior.boolean.truthtable import input_matrix, unpack
from simprior.errors import DeviceError, InputError, StoreError
from simprior.gp.kernels import nngp
from simprior.gp.orthant import log_prior
from simprior.gp.posterior import marginal_likelihood_bound
from simprior.runs.directory import RunDir

NET = sp.Network(n=4, hidden=(8, 8))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two training runs on x1 of four bits, and one on digits; a table of sampled functions."""
    folder = tmp_path_factory.mktemp("measure")
    for seed in range(2):
        sp.train(NET, "x1", train=8, runs=6, optimizer="adam", lr=0.02, batch_size=4, seed=seed,
                 out=folder / f"x{seed}")  # fmt: skip
    sp.train(NET, data="digits", classes="3,8", train=12, test=10, attack=2, runs=4, lr=0.01,
             seed=1, out=folder / "digits")  # fmt: skip
    sp.sample(NET, samples=20_000, seed=0, out=folder / "prior")
    return folder


def test_function_measures_and_prior_are_those_of_the_library(runs: Path) -> None:
    frame = measure(runs / "x0", "prior,lz,sensitivity,entropy", draws=500, seed=3)
    result = sp.training.TrainResult.load(runs / "x0")
    assert frame["member"].tolist() == np.flatnonzero(result.fitted).tolist()
    assert frame["test_error"].tolist() == result.test_error[result.fitted].tolist()
    words = result.words[result.fitted]
    assert frame["lz76"].tolist() == lz76_packed(words, 16).tolist()
    K = nngp(NET, input_matrix(NET))
    found = log_prior(frame["function"].tolist(), K, seed=3, draws=500)
    assert frame["log_p"].tolist() == [p.value for p in found]
    assert frame["log_p_stderr"].tolist() == [p.stderr for p in found]
    assert (frame["cluster"] == "0/x1").all()
    assert (frame["train_size"] == 8).all()
    assert (frame["hidden"] == "8,8").all()


def test_weight_measures_are_those_of_the_library(runs: Path) -> None:
    frame = measure(runs / "digits", "sharpness,hessian,norms", zeta=1e-3, seed=5)
    ensemble = Ensemble.of_run(runs / "digits")
    direct = WEIGHT_GROUPS["sharpness"].compute(ensemble, 5, zeta=1e-3)
    direct |= WEIGHT_GROUPS["hessian"].compute(ensemble, 5)
    direct |= WEIGHT_GROUPS["norms"].compute(ensemble, 5)
    for name, column in direct.items():
        assert frame[name].to_numpy() == pytest.approx(column), name


def test_bound_is_that_of_the_labels_fitted(runs: Path) -> None:
    frame = measure(runs / "x1", "bound", delta=0.05)
    result = sp.training.TrainResult.load(runs / "x1")
    index, labels = result.problem["train_index"], [int(c) for c in result.problem["labels"]]
    K = nngp(NET, input_matrix(NET))[np.ix_(index, index)]
    evidence = log_prior(np.array([labels]), K)[0]
    bound = marginal_likelihood_bound(evidence, 8, 0.05)
    assert frame["log_evidence"].iloc[0] == evidence.value
    assert frame["bound"].iloc[0] == bound.error
    assert frame["bound_low"].iloc[0] <= bound.error <= frame["bound_high"].iloc[0]
    assert frame["bound"].nunique() == 1


def test_rescaling_changes_weights_and_not_the_function(runs: Path) -> None:
    frame = measure(runs / "digits", "prior,lz,sharpness,hessian,norms,margin", alphas=(1, 4, 0.25))
    assert sorted(frame["alpha"].unique()) == [0.25, 1.0, 4.0]
    plain = frame[frame["alpha"] == 1.0].reset_index(drop=True)
    for alpha in (0.25, 4.0):
        other = frame[frame["alpha"] == alpha].reset_index(drop=True)
        for name in ("member", "function", "log_p", "lz76", "test_error"):
            assert (plain[name] == other[name]).all(), name
        for name in ("path_norm", "margin", "spectral_norm"):
            assert other[name].to_numpy() == pytest.approx(plain[name].to_numpy()), name
            assert not MEASURES[name].moves
        for name in ("keskar", "hessian_trace", "hessian_top", "frobenius_norm"):
            ratio = other[name].to_numpy() / plain[name].to_numpy()
            assert (np.abs(np.log(ratio)) > 1e-4).all(), name  # rounding is about 1e-12
            assert MEASURES[name].moves


def test_a_function_that_a_rescaling_changed_would_be_seen(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Ensemble.rescaled

    def wrong(ensemble: Ensemble, alpha: float, layer: int = 0) -> Ensemble:
        found = real(ensemble, alpha, layer)
        found.parameters[0] = -found.parameters[0]
        return found

    monkeypatch.setattr(Ensemble, "rescaled", wrong)
    frame = measure(runs / "digits", "norms", alphas=(1, 2))
    a, b = (frame[frame["alpha"] == alpha]["function"].tolist() for alpha in (1.0, 2.0))
    assert a[0] != b[0]
    assert a[1:] == b[1:]


def test_every_column_of_the_flatness_package_is_described() -> None:
    for name, group in WEIGHT_GROUPS.items():
        for column in group.columns():
            if not column.endswith(SUFFIXES):
                known = MEASURES[column]
                assert known.weights and known.group == name and known.source, column
    assert {measure.group for measure in MEASURES.values()} == set(GROUPS)


def test_attack_points_do_not_count_in_the_function_of_data(runs: Path) -> None:
    """ln P and complexity are those of the labels of training and test inputs."""
    frame = measure(runs / "digits", "prior,lz,entropy", seed=2, draws=400)
    result = sp.training.TrainResult.load(runs / "digits")
    assert len(result.problem["attack_index"]) == 2
    index = [i for i in range(24) if i not in result.problem["attack_index"]]
    tables = unpack(result.words[frame["member"]], 24)[:, index]
    ensemble = Ensemble.of_run(runs / "digits")
    K = nngp(ensemble.network, ensemble.network.inputs)[np.ix_(index, index)]
    found = log_prior(tables, K, seed=2, draws=400)
    assert frame["log_p"].tolist() == [p.value for p in found]
    assert frame["ones"].tolist() == tables.sum(axis=1).tolist()


def test_data_have_the_sample_ratio_in_a_box(runs: Path) -> None:
    frame = measure(runs / "digits", "sensitivity", radius=0.05)
    assert frame["box_csr"].between(0, 1).all()
    assert "average_sensitivity" not in frame
    wide = measure(runs / "digits", "sensitivity", radius=0.5)
    assert (wide["box_csr"] >= frame["box_csr"]).all()


def test_tables_of_functions(runs: Path) -> None:
    frame = measure(runs / "prior", "prior,lz,walsh", networks=30)
    counts = sp.FunctionCounts.load(runs / "prior")
    assert len(frame) == 30
    assert frame["count"].tolist() == counts.count[:30].tolist()
    assert frame["log_p_sampled"].to_numpy() == pytest.approx(np.log(counts.p[:30]))
    assert frame["log_p_sampled_stderr"].to_numpy() == pytest.approx(
        counts.stderr[:30] / counts.p[:30]
    )
    assert frame["rank"].tolist() == list(range(1, 31))
    assert (frame["member"] == -1).all()
    assert np.isfinite(frame["log_p"]).all()


def test_frequencies_of_a_sampled_run_for_trained_networks(runs: Path) -> None:
    frame = measure(runs / "x0", "prior", prior_from=runs / "prior")
    counts = sp.FunctionCounts.load(runs / "prior")
    rows = counts.find(frame["function"].tolist())
    for row, value, error in zip(
        rows, frame["log_p_sampled"], frame["log_p_sampled_stderr"], strict=True
    ):
        if row < 0:
            assert math.isnan(value)
        else:
            assert value == pytest.approx(math.log(counts.p[row]))
            assert error == pytest.approx(counts.stderr[row] / counts.p[row])
    with pytest.raises(InputError, match="inputs"):
        measure(runs / "digits", "prior", prior_from=runs / "prior")


def test_runs_on_a_data_file_read_it_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.standard_normal((60, 3)), columns=list("abc"))
    frame["kind"] = (frame["a"] + frame["b"] > 0).astype(int)
    path = tmp_path / "mine.csv"
    frame.to_csv(path, index=False)
    net = sp.Network(n=3, hidden=(10,))
    sp.train(net, data=str(path), label="kind", classes="0:1", train=20, test=30, runs=4,
             lr=0.05, max_epochs=5000, out=tmp_path / "run")  # fmt: skip
    found = measure(tmp_path / "run", "prior,norms", data=str(path), label="kind")
    assert np.isfinite(found[["log_p", "path_norm"]].to_numpy()).all()
    with pytest.raises(InputError, match="--data FILE"):
        measure(tmp_path / "run", "prior")
    assert len(measure(tmp_path / "run", "lz")) == len(found)
    frame.assign(kind=frame["kind"].iloc[::-1].to_numpy()).to_csv(path, index=False)
    with pytest.raises(InputError, match="the one that the run recorded"):
        measure(tmp_path / "run", "prior", data=str(path), label="kind")


def test_pieces_workers_and_resuming_do_not_matter(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure_sources, "NETWORKS_CHUNK", 3)
    both = [runs / "x0", runs / "x1"]
    groups = "prior,bound,lz,sensitivity"
    whole = measure(both, groups)
    many = measure(both, groups, out=tmp_path / "a", workers=2)
    pd.testing.assert_frame_equal(whole, many)
    pd.testing.assert_frame_equal(load_measures(tmp_path / "a"), many)
    pd.testing.assert_frame_equal(measure(both, groups, out=tmp_path / "a", resume=True), many)

    real, calls = Measuring.compute, []

    def stops(work: Measuring, chunk: measure_sources.Chunk) -> object:
        calls.append(chunk.index)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(work, chunk)

    monkeypatch.setattr(Measuring, "compute", stops)
    with pytest.raises(KeyboardInterrupt):
        measure(both, groups, out=tmp_path / "b")
    calls.extend([0, 0])
    again = measure(both, groups, out=tmp_path / "b", resume=True)
    assert calls[4:] == [1, 2, 3]  # the first piece is kept
    pd.testing.assert_frame_equal(again, many)


@pytest.mark.parametrize(
    ("run", "measures", "message"),
    [
        ("prior", "hessian", "a table of functions has none"),
        ("prior", "bound", "a bound needs a training set"),
        ("x0", "hesian", "did you mean hessian"),
        ("x0", "", "measures=''"),
        ("digits", "walsh", "functions of all bit strings"),
    ],
)
def test_refusals(runs: Path, run: str, measures: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        measure(runs / run, measures)
    assert "\n" not in str(error.value)


def test_more_refusals(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one kind"):
        measure([runs / "x0", runs / "prior"], "lz")
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="found none"):
            measure(runs / "x0", "norms", device="cuda")
    with pytest.raises(InputError, match="alphas="):
        measure(runs / "x0", "norms", alphas=(1, -2))
    with pytest.raises(StoreError):
        measure(tmp_path / "nothing", "lz")
    tanh = sp.Network(n=3, hidden=(5,), activation="tanh")
    sp.train(tanh, "x1", train=4, runs=3, lr=0.05, out=tmp_path / "tanh")
    with pytest.raises(InputError, match="relu"):
        measure(tmp_path / "tanh", "norms", alphas=(1, 2))
    sp.train(NET, "parity", train=12, runs=2, max_epochs=1, lr=1e-6, out=tmp_path / "unfitted")
    with pytest.raises(InputError, match="none of which fitted"):
        measure(tmp_path / "unfitted", "lz")
    with RunDir.open(tmp_path / "open", "train", {"x": 1}):
        pass
    with pytest.raises(StoreError, match="interrupted"):
        measure(tmp_path / "open", "lz")


def test_all_means_all_that_apply(runs: Path) -> None:
    frame = measure(runs / "prior", "all", networks=5)
    for name in ("lz76", "dnf_terms", "gc", "csr", "walsh_l1", "block_sensitivity", "log_p"):
        assert np.isfinite(frame[name]).all(), name
    assert "keskar" not in frame
    trained = measure(runs / "x0", "all", networks=2)
    assert {"keskar", "log_volume", "bound", "csr", "margin"} <= set(trained.columns)
