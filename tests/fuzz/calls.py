"""Bad calls of the library, generated: good ones with some of their arguments replaced.

``targets`` lists the public functions with arguments that work and take a moment; ``calls`` gives
(name, function, arguments), the same for the same seed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import simprior as sp


class Odd:
    """An object of no use to anyone."""

    def __repr__(self) -> str:
        return "Odd()"


def _raises(x: Any) -> Any:
    raise KeyError("no")


def values() -> list[Any]:
    """Values that no argument or few arguments can take."""
    masked = np.ma.masked_array(np.eye(8), mask=np.eye(8) > 0)
    bad_k = np.eye(8)
    bad_k[0, 1] = 0.5
    return [
        None, True, 0, 1, -1, 2, 7, 3.5, -0.0, math.nan, math.inf, -math.inf, 1e300, 2**63, 2**70,
        -(2**70), 10**5000, 1 + 2j, 1e-320, "", "10", "x", "parity", "é漢🙂", "a" * 5000, b"x1", [],
        (), {}, {"a": 1}, {1: 2}, {"draws": -1}, set(), [None], [[]], [[1], [1, 2]], ["x1", 3],
        [1, "2"], (0.5, None), ("1", "2"), (1.0, 2.0), (math.nan,), [2**70], [-1], [10**5000],
        [1.5], np.nan, np.int64(3), np.float32(0.1), np.array(3), np.array([]), np.zeros((0, 8)),
        np.zeros((2, 3)), np.zeros((2, 2, 2)), np.full(8, 2), np.full((1, 8), np.nan), np.eye(8),
        np.full((8, 8), np.inf), bad_k, -np.eye(8), np.eye(8) * 1j, np.eye(8).astype(object),
        np.array(["a"] * 8), masked, np.full(8, -1), np.ones(8), np.ones((3, 8), complex),
        np.array([None] * 8), np.datetime64("2020-01-01"), range(3), iter([1]), Odd(), Odd, len,
        _raises, lambda x: "text", np, Path("missing"), float("1e16"), -5, "cuda:9", "tilted",
        "nan", 1e12, 10**18,
    ]  # fmt: skip


def targets(folder: Path) -> list[tuple[str, Callable[..., Any], dict[str, Any]]]:
    """(name, function, good arguments) of the public functions."""
    from simprior import gp
    from simprior.analysis.compare.sources import WeightedFunctions
    from simprior.analysis.measure.table import measure
    from simprior.boolean import complexity, sensitivity, symmetry, truthtable
    from simprior.boolean import logic as normal_forms
    from simprior.boolean import sensitivity as walsh
    from simprior.boolean import truthtable as inputs
    from simprior.boolean import truthtable as names
    from simprior.boolean.sampling import dnf, watch
    from simprior.boolean.sampling.counts import FunctionCounts
    from simprior.finite import smc_posterior
    from simprior.training import Optimizer, Problem, lz_target
    from simprior.training import posterior as mcmc
    from simprior.training.data import corrupt_labels, load_dataset
    from simprior.training.spec import Stop, TrainSpec

    net = sp.Network(n=3, hidden=(4,))
    x = inputs.bit_matrix(3)
    K = gp.nngp(net, x)
    tables = np.array([[0, 0, 0, 0, 1, 1, 1, 1], [0, 1, 0, 1, 0, 1, 0, 1]], np.uint8)
    words = truthtable.pack(tables)
    counts = sp.sample(net, samples=400, heads=1)
    other = sp.sample(net, samples=400, heads=1, seed=1)
    frame = _frame()
    spec: dict[str, Any] = {"n": 3, "hidden": (4,), "activation": "relu", "sigma_w": 1.0,
                            "sigma_b": 1.0, "encoding": "01", "weight_dist": "gaussian",
                            "inputs": None}  # fmt: skip
    sampling: dict[str, Any] = {
        "network": net, "samples": 300, "seed": 0, "workers": 1, "out": None, "heads": 1,
        "device": "cpu", "dtype": "float32", "pool": False, "watch": None, "keep": 1.0,
        "memory": None, "executor": "local", "executor_options": None, "progress": None,
        "resume": False, "overwrite": False,
    }  # fmt: skip
    training: dict[str, Any] = {
        "problem": net, "target": "x1", "train": 4, "data": None, "classes": None, "label": None,
        "test": 10, "runs": 2, "optimizer": "adam", "lr": 0.01, "options": None, "loss": "ce",
        "batch_size": 4, "stop": "first-fit", "max_epochs": 5, "check": 0, "pretrain": 0,
        "corrupt": 0.0, "attack": 0, "robust": 0, "robust_steps": 10, "data_seed": None, "seed": 0,
        "record": (0, 4),
        "record_runs": 2, "device": "cpu", "engine": "auto", "members": 0, "workers": 1,
        "out": None, "executor": "local", "executor_options": None, "progress": None,
    }  # fmt: skip
    given = {"K": K, "train_index": [0, 1, 5], "labels": [0, 1, 0]}
    chain = {"network": net, "train_index": [0, 1, 5], "labels": [0, 0, 1], "samples": 20,
             "seed": 0, "target": None, "chains": 2, "thin": 1, "burn_in": 4,
             "workers": 1}  # fmt: skip
    found: list[tuple[str, Callable[..., Any], dict[str, Any]]] = [
        ("Network", sp.Network, spec),
        ("Network.from_dict", sp.Network.from_dict, {"values": net.to_dict()}),
        ("RandomDNF", sp.RandomDNF, {"n": 3, "alpha": 1.0}),
        ("sample", sp.sample, sampling),
        ("sample watch", sp.sample, {**sampling, "watch": ["x1"]}),
        ("sample dnf", sp.sample, {**sampling, "network": sp.RandomDNF(3)}),
        ("watch_functions", watch.watch,
         {"network": net, "functions": ["x1"], "samples": 300, "seed": 0, "heads": 4,
          "pool": False}),
        ("train", sp.train, training),
        ("compare", sp.compare,
         {"a": counts, "b": other, "min_count": 10, "bootstrap": 4, "splits": 2, "seed": 0,
          "level": 0.95, "target": "x1", "test_mask": None}),
        ("correlate", sp.correlate,
         {"frame": frame, "y": "y", "measures": None, "by": None, "controls": (),
          "cluster": "cluster", "seed": 0, "bootstrap": 100, "permutations": 10, "level": 0.95}),
        ("measure", measure,
         {"source": str(folder / "run"), "measures": "lz", "networks": 3, "alphas": 1.0,
          "draws": None, "tol": None, "delta": 0.01, "zeta": 1e-4, "radius": 0.05, "noise": 0.9,
          "held_out": 0.0, "prior_from": None, "data": None, "label": None, "seed": 0,
          "device": "cpu", "workers": 1, "out": None, "executor": "local"}),
        ("counts.to_frame", counts.to_frame, {"top": 3}),
        ("counts.head", counts.head, {"top": 3}),
        ("counts.find", counts.find, {"functions": tables}),
        ("counts.load", FunctionCounts.load, {"path": folder / "run", "top": 3}),
        ("counts.intervals", counts.intervals, {"level": 0.95}),
        ("counts.from_counts", FunctionCounts.from_counts,
         {"words": words, "count": np.array([2, 3]), "m": 8, "n": 3, "samples": 5}),
        ("WeightedFunctions", WeightedFunctions,
         {"m": 8, "words": words, "p": np.array([0.5, 0.5]), "ess": 10.0, "n": 3}),
        ("nngp", gp.nngp, {"network": net, "X1": x, "X2": None, "rtol": 1e-10}),
        ("ntk", gp.ntk, {"network": net, "X1": x, "X2": None, "rtol": 1e-10}),
        ("empirical_nngp", gp.empirical_nngp,
         {"make_network": net, "X1": x, "X2": None, "samples": 4, "seed": 0}),
        ("empirical_ntk", gp.empirical_ntk,
         {"make_network": net, "X1": x, "X2": None, "samples": 2, "seed": 0}),
        ("check_psd", gp.check_psd, {"K": K, "max_condition": 1e14}),
        ("reduce_inputs", gp.reduce_inputs, {"K": K, "inputs": x}),
        ("tilted_draws", gp.tilted_draws,
         {"labels": tables[0], "K": K, "draws": 64, "seed": 0}),
        ("conditional_log_prior", gp.conditional_log_prior,
         {"network": net, "functions": ["x1"], "draws": 16, "seed": 0, "inner_draws": 64}),
        ("sample_posterior", gp.sample_posterior,
         {**given, "samples": 20, "seed": 0, "method": "exact", "n": None, "workers": 1}),
        ("sample_posterior ep", gp.sample_posterior,
         {**given, "samples": 20, "seed": 0, "method": "ep", "n": None, "workers": 1}),
        ("log_posterior", gp.log_posterior,
         {"functions": tables, **given, "method": "tilted", "n": None, "seed": 0, "draws": 64}),
        ("marginal_likelihood_bound", gp.marginal_likelihood_bound,
         {"log_evidence": -10.0, "m": 20, "delta": 0.01, "form": "gibbs", "gamma": None,
          "level": 0.95}),
        ("bit_matrix", inputs.bit_matrix, {"n": 3, "encoding": "01"}),
        ("pack", truthtable.pack, {"tables": tables}),
        ("unpack", truthtable.unpack, {"words": words, "m": 8}),
        ("to_hex", truthtable.to_hex, {"words": words, "m": 8}),
        ("to_bits", truthtable.to_bits, {"words": words, "m": 8, "order": "standard"}),
        ("from_hex", truthtable.from_hex, {"texts": ["0x0f"], "m": 8}),
        ("from_bits", truthtable.from_bits, {"texts": ["00001111"], "m": 8, "order": "standard"}),
        ("parse_functions", truthtable.parse_functions,
         {"functions": ["x1"], "m": 8, "n": None}),
        ("named", names.named, {"name": "parity", "n": 3}),
        ("describe", names.describe, {"name": "parity"}),
        ("function_names", names.function_names, {"n": 3}),
        ("symmetries", symmetry.symmetries, {"network": net}),
        ("canonical", symmetry.canonical,
         {"words": words, "n": 3, "symmetry": symmetry.symmetries(net), "m": None}),
        ("normal_forms", normal_forms.normal_forms, {"tables": tables}),
        ("cubes", normal_forms.cubes, {"n": 3}),
        ("minimal_dnf", normal_forms.minimal_dnf, {"n": 3}),
        ("exact_probabilities", dnf.exact_probabilities, {"dnf": sp.RandomDNF(2)}),
        ("clause_tables", dnf.clause_tables, {"n": 3}),
        ("noise_stability", walsh.noise_stability_packed, {"words": words, "m": 8, "rho": 0.9}),
        ("Problem", Problem,
         {"network": net, "target": "x1", "train": 4, "seed": 0, "corrupt": 0.0, "attack": 0,
          "robust": 0}),
        ("Problem of data", Problem,
         {"network": net, "data": "breast-cancer", "classes": None, "train": 10, "test": 10,
          "seed": 0, "corrupt": 0.0, "attack": 0, "scale": None, "label": None}),
        ("load_dataset", load_dataset,
         {"name": "breast-cancer", "classes": None, "train": 10, "seed": 0, "corrupt": 0.0,
          "scale": None, "balanced": False}),
        ("corrupt_labels", corrupt_labels,
         {"labels": np.array([0, 1, 1]), "fraction": 0.5, "seed": 0}),
        ("lz_target", lz_target, {"m": 8, "complexity": 9.0, "seed": 0, "tolerance": None}),
        ("Optimizer", Optimizer, {"name": "adam", "lr": 0.1, "options": {"beta1": 0.5}}),
        ("Stop.parse", Stop.parse, {"text": "epochs:3"}),
        ("TrainSpec", TrainSpec,
         {"network": net, "optimizer": Optimizer(), "loss": "ce", "batch_size": 4, "stop": Stop(),
          "max_epochs": 3, "check": 0, "pretrain": 0, "seed": 0, "record": (), "record_runs": 0}),
        ("rejection_posterior", mcmc.rejection_posterior,
         {k: v for k, v in chain.items() if k not in ("chains", "thin", "burn_in")}
         | {"max_draws": 5000}),
        ("slice_posterior", mcmc.slice_posterior, chain),
        ("smc_posterior", smc_posterior,
         {"network": net, "train_index": [0, 1, 5], "labels": [0, 0, 1], "samples": 20, "seed": 0,
          "target": None, "particles": 8, "runs": 4, "thin": 1, "max_particles": None,
          "check": False, "workers": 1}),
        ("hmc_posterior", mcmc.hmc_posterior, {**chain, "beta": 10.0}),
    ]  # fmt: skip
    for method in gp.METHODS:
        options = {} if method in ("ep", "ep-probit", "laplace", "closed") else {"draws": 512}
        covariance = np.eye(8) if method == "closed" else K
        found.append(
            (f"log_prior {method}", gp.log_prior,
             {"functions": tables[:1], "K": covariance, "method": method, "mean": None, "n": None,
              "seed": 0, "tol": None, **options})
        )  # fmt: skip
    for module, names_ in (
        (complexity, ("lz76", "lz76_truncated", "entropy", "ones")),
        (sensitivity, ("average_sensitivity", "max_sensitivity", "block_sensitivity", "csr",
                       "influences")),
        (walsh, ("spectrum",)),
    ):  # fmt: skip
        found += [(name, getattr(module, name), {"tables": tables}) for name in names_]
    for name in ("lz76_packed", "entropy_packed", "ones_packed"):
        found.append((name, getattr(complexity, name), {"words": words, "m": 8}))
    return found


def _frame() -> Any:
    import pandas as pd

    random_numbers = np.random.default_rng(0)
    frame = pd.DataFrame(random_numbers.random((60, 3)), columns=["y", "u", "v"])
    return frame.assign(cluster=np.arange(60) % 20)


WORK = {
    "samples", "runs", "max_epochs", "max_draws", "draws", "inner_draws", "bootstrap", "splits",
    "permutations", "chains", "thin", "burn_in", "networks", "pretrain", "workers",
}  # fmt: skip
"""Amounts of work: a large one is honest work that a test does not wait for."""


def calls(
    seed: int, number: int, known: list[tuple[str, Callable[..., Any], dict[str, Any]]]
) -> Iterator[tuple[str, Callable[..., Any], dict[str, Any]]]:
    """``number`` calls with one or two arguments replaced."""
    choose = random.Random(seed)
    for _ in range(number):
        name, function, good = choose.choice(known)
        arguments = dict(good)
        for _ in range(choose.choice((1, 1, 2))):
            key = choose.choice(list(arguments))
            pool = values()
            if key in WORK:
                pool = [v for v in pool if not (isinstance(v, int | float) and 100 < v < 2**62)]
            arguments[key] = choose.choice(pool)
        yield name, function, arguments
