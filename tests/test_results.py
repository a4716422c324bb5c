"""How results are held: three lines, a table in a notebook, rows by function, ``sp.load``."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import simprior as sp
from simprior.analysis.compare.sources import WeightedFunctions
from simprior.analysis.loading import RunTable
from simprior.analysis.memorise.run import Memorised
from simprior.analysis.rare.run import RareOutputs
from simprior.analysis.strings.run import StringsResult
from simprior.boolean.sampling.watch import WatchResult
from simprior.cli import main
from simprior.display import Shown
from simprior.errors import InputError, StoreError
from simprior.training.records import TrainResult

NET = sp.Network(n=4, hidden=(6,))
WIDEST = 399


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, Any]:
    """An example of every public class of results, with long tables where there can be any."""
    counts = sp.sample(NET, samples=3000, heads=1, pool=True, out=folder / "sample")
    sgd = sp.train(NET, "x1", train=8, lr=0.05, batch_size=4, max_epochs=300, runs=6,
                   out=folder / "train", workers=1)  # fmt: skip
    K = sp.gp.nngp(NET, sp.boolean.truthtable.input_matrix(NET))
    log_p = sp.gp.log_prior("x1", K, draws=256)[0]
    fits = pd.DataFrame({"quantity": ["flips"] * 9, "value": 1.0})
    summary = pd.DataFrame({"n": np.arange(200), "networks": 4, "distance": 1.0})
    words, p = counts.words[:500], np.full(min(500, len(counts)), 1 / min(500, len(counts)))
    frame = pd.DataFrame({f"a_long_name_of_a_column_{i}": np.arange(99.0) for i in range(99)})
    means = ("pearson", "pearson_low", "pearson_high", "ceiling", "sgd_clean", "bayes_clean")
    memorised = dict.fromkeys(means, 0.5) | {"wrong": 0}
    return {
        "FunctionCounts": counts,
        "Memorised": Memorised(frame, frame, frame, memorised),
        "RareOutputs": RareOutputs(
            frame, {"network": "a " * 200, "law": "bits", "verdict": "yes " * 200}
        ),
        "WatchResult": sp.watch(NET, ["x1", "parity"], samples=2000, heads=1),
        "TrainResult": sgd,
        "Comparison": sp.compare(sgd, counts, bootstrap=5, splits=2, min_count=1),
        "WeightedFunctions": WeightedFunctions(16, words, p, 100.0, n=4),
        "LogProb": log_p,
        "SampledKernel": sp.kernel(sp.Module("lstm", n=3, options={"width": 3}), draws=24),
        "Bound": sp.gp.marginal_likelihood_bound(log_p, 16),
        "Problem": sp.Problem(NET, "x1", train=8, attack=1),
        "Bounds": sp.bound(sp.Problem(NET, "x1", train=8)),
        "Unseen": counts.unseen,
        "Reduction": sp.gp.reduce_inputs(np.kron(K, np.ones((9, 9)))),
        "StringsResult": StringsResult(frame, summary, fits, frame, ["a note"] * 50),
        "RunTable": RunTable(folder, "measure", "m.parquet", frame, {"verdict": "yes " * 200}),
    }


_COMPUTING = ("boolean", "gp", "training", "routes", "analysis")


def classes() -> set[type]:
    """Every class of the package that is a result, and every public dataclass that is no spec."""
    specs = {"Network", "Module", "RandomDNF", "Optimizer", "Correlations", "NNGPKernel"}
    packages = [sp, sp.gp, sp.training, sp.boolean, sp.analysis]
    offered = [getattr(package, name) for package in packages for name in package.__all__]
    public = {c for c in offered if isinstance(c, type) and dataclasses.is_dataclass(c)}
    public = {c for c in public if c.__name__ not in specs}
    for module in pkgutil.walk_packages(sp.__path__, "simprior."):
        if module.name.startswith(tuple(f"simprior.{name}" for name in _COMPUTING)):
            importlib.import_module(module.name)
    return public | {c for c in _below(Shown) if not inspect.isabstract(c)}


def _below(cls: type) -> set[type]:
    return {c for one in cls.__subclasses__() for c in (one, *_below(one))}


def test_every_public_result_has_a_short_text(results: dict[str, Any]) -> None:
    named = {cls.__name__ for cls in classes()}
    assert named == set(results), "a result class without an example here"
    for name, result in results.items():
        text = repr(result)
        assert type(result).__name__ == name and text.startswith(name), name
        assert len(text) <= WIDEST and 1 <= len(text.splitlines()) <= 3, (name, text)


def test_every_public_result_is_a_table_in_a_notebook(results: dict[str, Any]) -> None:
    for name, result in results.items():
        html = result._repr_html_()
        assert html.startswith("<p>") and "<table" in html and len(html) < 400_000, name
        frame = result.to_frame()
        assert isinstance(frame, pd.DataFrame) and len(frame.columns), name
        assert html.count("<tr") <= 22, name


def test_html_of_results_is_escaped(results: dict[str, Any]) -> None:
    labels = ("<script>", "b")
    html = dataclasses.replace(results["Comparison"], labels=labels)._repr_html_()
    assert "<script>" not in html and "&lt;script&gt;" in html


def test_a_function_is_a_row_with_its_interval(results: dict[str, Any]) -> None:
    counts = results["FunctionCounts"]
    for name in ("x1", "parity", "0x8001"):
        row = counts[name]
        p, low, high = counts.share(name)
        assert (row["p"], row["p_low"], row["p_high"]) == (p, low, high)
        assert row["count"] == round(p * counts.samples) and (name in counts) is (p > 0)
    whole = counts.to_frame(None)
    assert list(counts["x1"].index) == list(whole.columns) and len(counts) == len(whole)
    assert counts[2].to_dict() == whole.astype(object).iloc[2].to_dict()
    assert counts[-1]["rank"] == len(counts) and len(counts[:5]) == 5
    assert [row.function for row in counts] == whole["function"].tolist()
    assert [row.rank for row in counts][-1] == len(counts)
    with pytest.raises(IndexError):
        counts[len(counts)]
    with pytest.raises(InputError, match="no such function"):
        counts["no such function"]
    missing = sp.sample(NET, samples=300, heads=10)["parity"]  # shared layers
    assert missing["p"] == 0 and 0 < missing["p_high"] < 1


def test_rows_of_watched_functions_members_and_statistics(results: dict[str, Any]) -> None:
    watched, trained, found = (
        results[name] for name in ("WatchResult", "TrainResult", "Comparison")
    )
    assert watched["x1"]["p"] == watched.p[0] and len(watched) == 2
    assert [row.function for row in watched] == ["0x00ff", watched[1]["function"]]
    with pytest.raises(InputError, match="watch it too"):
        watched["majority"]
    assert len(trained) == 6 and [m.run for m in trained] == list(range(6))
    best = trained.to_frame().iloc[0]
    assert trained[best["function"]]["test_error"] == best["test_error"]
    assert trained["parity"]["count"] == 0 and trained["parity"]["test_error"] > 0
    assert [s.name for s in found] == found.to_frame()["name"].tolist() and len(found) > 20


def test_load_gives_the_result_of_any_run(folder: Path, results: dict[str, Any]) -> None:
    quiet = ["--quiet", "--workers", "1"]
    small, few = ["--n", "4", "--hidden", "6"], ["--samples", "50"]
    pair = [str(folder / "sample"), str(folder / "train")]
    lines = {
        "compare": ["compare", *pair, "--bootstrap", "5", "--splits", "2", "--quiet"],
        "logp": ["logp", *small, "--functions", "x1,parity", "--draws", "256", *quiet],
        "posterior": ["posterior", *small, "--target", "x1", "--train", "4", *few, *quiet],
        "measure": ["measure", pair[1], "--measures", "lz,entropy", *quiet],
        "watch": ["sample", *small, "--samples", "500", "--heads", "1", "--watch", "x1", *quiet],
    }  # fmt: skip
    for name, line in lines.items():
        assert main([*line, "--out", str(folder / name)]) == 0, name
    kinds = {"sample": sp.FunctionCounts, "train": TrainResult, "posterior": sp.FunctionCounts}
    kinds |= dict.fromkeys(("compare", "logp", "measure"), RunTable) | {"watch": WatchResult}
    for name, kind in kinds.items():
        found = sp.load(folder / name)
        assert type(found) is kind and len(repr(found)) <= WIDEST, name
        assert len(found.to_frame()) and len(found) and next(iter(found)) is not None
    comparison = sp.load(folder / "compare")
    assert comparison.verdict.startswith(("They differ", "No difference"))
    assert comparison.verdict in repr(comparison) or len(comparison.verdict) > 128
    assert set(comparison.table("pairs.parquet")["seen_in"]) <= {"both", "a only", "b only"}
    assert sp.load(folder / "logp")["logp"].notna().all()
    with pytest.raises(StoreError):
        sp.load(folder)
