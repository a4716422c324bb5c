"""Golden cases of the library: sampling, training, ln P, posteriors, sensitivity, kernels.

Every function takes an empty directory and returns plain values (see ``compare.plain``). Only names
that do not depend on the layout of the package are used: those of ``simprior`` and ``simprior.gp``,
``simprior.boolean.complexity``, and the commands, whose results are read from their files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import math
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import simprior as sp
from simprior.cli import main

Values = dict[str, Any]
Case = Callable[[Path], Values]

CASES: dict[str, Case] = {}
TOLERANCES: dict[str, float] = {}
"""Relative tolerances of floats, of the cases whose floats do not hold to 1e-9: float32 sums."""
NEEDS: dict[str, str] = {}
"""Optional packages that cases need."""

LONG = 48
"""A longer column of a table is stored as its SHA-256 (integers, texts) or as every k-th value."""
FLOAT32 = 1e-3
"""Tolerance of floats that training in float32 ends at: losses."""
FLOAT32_SUM = 1e-5
"""Tolerance of floats that are averages over networks in float32: P(f) in watch mode."""


def case(function: Case) -> Case:
    """Register a case under its name."""
    CASES[function.__name__] = function
    return function


# ---- helpers ----


def bent(x: Any) -> Any:
    """A user's activation that takes numpy arrays and torch tensors alike."""
    return x / (1 + abs(x))


def bits(functions: int, m: int, seed: int = 0) -> np.ndarray:
    """Random truth tables, (functions, m) of 0/1."""
    return np.random.Generator(np.random.PCG64(seed)).integers(0, 2, (functions, m))


def points(m: int, d: int, seed: int = 0) -> np.ndarray:
    """Random inputs, (m, d), with a few binary digits."""
    whole = np.random.Generator(np.random.PCG64(seed)).integers(-64, 65, (m, d))
    return whole / 32.0


def column(series: pd.Series) -> Any:
    """The values of a column, or what stands for them if they are many."""
    values = series.to_numpy()
    if len(values) <= LONG:
        return values.tolist()
    if values.dtype.kind == "f":
        return {"rows": len(values), "every": values[:: -(-len(values) // LONG)].tolist()}
    text = "\n".join(str(value) for value in values.tolist())
    return {"rows": len(values), "sha256": hashlib.sha256(text.encode()).hexdigest()}


def table(frame: pd.DataFrame) -> Values:
    """Columns of a table by name and kind of type, but for those that tell the time."""
    names = [str(name) for name in frame if name != "seconds"]
    kinds = {name: frame[name].to_numpy().dtype.kind for name in names}
    return {f"{name}:{kinds[name]}": column(frame[name]) for name in names}


def timeless(value: Any) -> Any:
    """``value`` without the entries ``seconds`` of its dicts, at any depth."""
    if isinstance(value, dict):
        return {key: timeless(entry) for key, entry in value.items() if key != "seconds"}
    return value


def run_files(out: Path) -> Values:
    """Every Parquet table of a run directory but its shards, and the manifest's results."""
    manifest = json.loads((out / "manifest.json").read_text())
    found = {key: timeless(manifest[key]) for key in ("config", "results")}
    files = [p for p in sorted(out.rglob("*.parquet")) if "shards" not in p.parts]
    return found | {str(p.relative_to(out)): table(pd.read_parquet(p)) for p in files}


def command(*arguments: Any) -> Values:
    """What a command prints with --json, and its exit status."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        status = main([*map(str, arguments), "--json", "--quiet"])
    assert status == 0, printed.getvalue()
    return dict(timeless(json.loads(printed.getvalue())))


def command_files(out: Path, *arguments: Any) -> Values:
    """The files of the run directory that a command writes."""
    command(*arguments, "--out", out, "--workers", 1)
    return run_files(out)


def log_probs(results: list[sp.LogProb]) -> Values:
    """Values, standard errors and effective draws; of the diagnostics what is no float."""
    kept = [
        {k: v for k, v in r.diagnostics.items() if isinstance(v, bool | int | str)} for r in results
    ]
    return {
        "value": [r.value for r in results],
        "stderr": [r.stderr for r in results],
        "ess": [r.ess for r in results],
        "method": sorted({r.method for r in results}),
        "diagnostics": kept,
    }


# ---- sampling: counts.parquet ----


def sampled(folder: Path, model: Any, samples: int, **options: Any) -> Values:
    """A run of ``sample``: its files, and what the result in memory derives from them."""
    counts = sp.sample(model, samples=samples, out=folder / "run", **options)
    found = run_files(folder / "run")
    return found | {
        "frame": table(counts.to_frame(top=12)),
        "ones": table(counts.ones_frame()),
        "summary": counts.summary(),
    }


@case
def sample_independent_heads(folder: Path) -> Values:
    return sampled(folder, sp.Network(n=4, hidden=(8, 8)), 3000, heads=1)


@case
def sample_automatic_heads(folder: Path) -> Values:
    """The pilot run chooses many heads here, and one for the second network."""
    networks = {
        "many": (sp.Network(n=3, hidden=(40, 40)), 40000),
        "one": (sp.Network(n=5, hidden=(8, 6), activation="tanh", sigma_b=(0.5, 0.2, 0.0)), 2000),
    }
    return {
        name: sampled(folder / name, network, samples, seed=1, mirror=False)
        for name, (network, samples) in networks.items()
    }


@case
def sample_pooled(folder: Path) -> Values:
    """Pooled over the symmetries of the prior: canonical forms and class sizes of each kind."""
    networks = {
        "all": sp.Network(n=3, hidden=(6,), activation="erf", sigma_b=0.0, encoding="pm1"),
        "permutations": sp.Network(n=4, hidden=(8,)),
        "two words": sp.Network(n=7, hidden=(8,), activation="tanh", encoding="pm1"),
    }
    found = {}
    for name, network in networks.items():
        options = {"seed": 2, "heads": 4, "pool": True, "mirror": False}
        found[name] = sampled(folder / name, network, 1500, **options)
        pooled = sp.sample(network, samples=1500, **options).pooled
        found[name]["pooled"] = table(pooled.to_frame(top=None))
    return found


@case
def sample_mirrors(folder: Path) -> Values:
    """Pairs that are counted as one, pairs that are not, and both in double precision."""
    networks = {
        "pairs": (sp.Network(n=4, hidden=(8,)), {}),
        "zeros": (sp.Network(n=4, hidden=(8,), sigma_b=0.0), {"complexity": 10}),
        "kept": (sp.Network(n=7, hidden=(8,), activation="tanh"), {"keep": 1 / 4}),
        "torch": (sp.Network(n=3, hidden=(7,), density=0.5), {"dtype": "float64"}),
    }
    return {
        name: sampled(folder / name, network, 1500, seed=2, heads=64, **options)
        for name, (network, options) in networks.items()
    }


@case
def sample_kept_share(folder: Path) -> Values:
    return sampled(folder, sp.Network(n=4, hidden=(10,)), 5000, seed=3, keep=1 / 8, heads=2)


@case
def sample_random_dnf(folder: Path) -> Values:
    return sampled(folder, sp.RandomDNF(n=4, alpha=0.5), 4000, seed=4)


@case
def sample_float64(folder: Path) -> Values:
    network = sp.Network(n=4, hidden=(7, 5), activation="gelu", weight_dist="uniform")
    return sampled(folder, network, 3000, seed=5, dtype="float64", heads=1)


@case
def sample_callable(folder: Path) -> Values:
    network = sp.Network(n=3, hidden=(9,), activation=bent)
    named = sp.Network(n=3, hidden=(9,), activation="torch.nn.functional:softplus")
    return {
        "object": sampled(folder / "object", network, 2000, seed=6, heads=2),
        "path": sampled(folder / "path", named, 2000, seed=6, heads=2),
    }


@case
def sample_explicit_inputs(folder: Path) -> Values:
    network = sp.Network(inputs=points(9, 3), hidden=(8,), activation="sin")
    return sampled(folder, network, 3000, seed=7, heads=2)


@case
def sample_other_networks(folder: Path) -> Values:
    """A perceptron; linear and step layers; tables of two words."""
    networks = {
        "perceptron": sp.Network(n=4, hidden=()),
        "linear": sp.Network(n=4, hidden=(5,), activation="linear", encoding="pm1"),
        "step": sp.Network(n=4, hidden=(6,), activation="step", sigma_w=(1.0, 2.0)),
        "two words": sp.Network(n=7, hidden=(12,)),
    }
    return {
        name: table(sp.sample(network, samples=1500, seed=8, heads=1).to_frame(top=None))
        for name, network in networks.items()
    }


NAMES = [
    *("const0", "const1", "parity", "majority", "and", "needle", "or", "and2", "xor2", "mux"),
    *("ip", "prime", "mod3", "x1", "x5", "y"),
]


def watched(folder: Path, network: sp.Network, functions: Any, **options: Any) -> Values:
    result = sp.sample(network, watch=functions, out=folder / "run", **options)
    found = run_files(folder / "run")
    return found | {"summary": result.summary(), "frame": table(result.to_frame())}


@case
def watch_names(folder: Path) -> Values:
    functions = ["const0", "x1", "parity", "majority", "0x0001", "0111011101110111"]
    network = sp.Network(n=4, hidden=(8, 6))
    return watched(folder, network, functions, samples=2000, seed=9)


@case
def watch_pooled(folder: Path) -> Values:
    network = sp.Network(n=3, hidden=(8,), activation="tanh", sigma_b=0.0, encoding="pm1")
    return watched(folder, network, ["x1", "majority", "0x01"], samples=1000, heads=4, pool=True)


TOLERANCES["watch_names"] = TOLERANCES["watch_pooled"] = FLOAT32_SUM


@case
def function_names(folder: Path) -> Values:
    """The truth table of every name, or why it is no name at this number of bits."""
    found = {}
    for n in (2, 4, 5):
        for name in NAMES:
            try:
                result = sp.sample(sp.Network(n=n, hidden=(4,)), watch=[name], samples=64)
                found[f"{name} {n}"] = result.to_frame()["function"].tolist()
            except sp.InputError as error:
                found[f"{name} {n}"] = str(error)
    return found


# ---- training: runs.parquet ----

OPTIMIZERS = {
    "sgd": 0.5,
    "momentum": 0.2,
    "nesterov": 0.2,
    "gd": 0.4,
    "adam": 0.1,
    "adamw": 0.1,
    "rmsprop": 0.02,
    "adagrad": 0.2,
    "adadelta": 30.0,
    "sgld": 0.3,
    "entropy-sgd": 1.0,
    "advsgd": 0.4,
    "guess-and-check": None,
}
"""Every optimiser with a learning rate at which some of few short runs fit."""
LOSSES = ("ce", "mse01", "mse", "hinge")
ENGINES = ("compiled", "torch")


def trained(folder: Path, network: sp.Network, **options: Any) -> Values:
    """``runs.parquet`` and the other tables of a run of ``train``."""
    settings = {"target": "0x177f", "train": 9, "runs": 5, "batch_size": 4, "max_epochs": 6}
    sp.train(network, out=folder, **{**settings, **options})
    return run_files(folder)


def optimisers(loss: str, engine: str) -> Case:
    def run(folder: Path) -> Values:
        network = sp.Network(n=4, hidden=(8,))
        found = {}
        for name, lr in OPTIMIZERS.items():
            options: Values = {"optimizer": name, "lr": lr, "loss": loss}
            if name == "guess-and-check":
                options["max_epochs"] = 150
            if name == "entropy-sgd":
                options["options"] = {"inner_steps": 3}
            try:
                files = trained(folder / name, network, engine=engine, seed=10, **options)
                found[name] = files["runs.parquet"]
            except sp.InputError as error:  # guess-and-check with torch
                found[name] = {"error": str(error)}
        return found

    return run


for _loss in LOSSES:
    for _engine in ENGINES:
        CASES[f"train_{_loss}_{_engine}"] = optimisers(_loss, _engine)
        TOLERANCES[f"train_{_loss}_{_engine}"] = FLOAT32


def train_settings(engine: str) -> Case:
    """Stops, records, bad starts, corrupted and attacked training sets, options of optimisers."""
    cells: dict[str, Values] = {
        "epochs after the fit": {"stop": "epochs:2", "optimizer": "adam", "lr": 0.05},
        "loss": {"stop": "loss:0.3", "optimizer": "adam", "lr": 0.05},
        "steps": {"stop": "steps:7", "optimizer": "momentum", "lr": 0.1},
        "check": {"check": 1, "optimizer": "rmsprop", "lr": 0.03},
        "record": {"record": (0, 1, 3, 8), "record_runs": 2, "optimizer": "adam", "lr": 0.05},
        "pretrain": {"pretrain": 3, "optimizer": "adam", "lr": 0.05},
        "corrupt": {"corrupt": 0.3, "optimizer": "adam", "lr": 0.05},
        "attack": {"attack": 3, "optimizer": "adam", "lr": 0.05, "data_seed": 3},
        "random target": {"target": "random:6", "optimizer": "adam", "lr": 0.05},
        "lz target": {"target": "lz:14", "optimizer": "adam", "lr": 0.05},
        "chosen examples": {"train": (0, 2, 3, 7, 8, 13), "optimizer": "adam", "lr": 0.05},
        "amsgrad": {"optimizer": "adam", "lr": 0.05, "options": {"amsgrad": True, "beta1": 0.7}},
        "centred": {"optimizer": "rmsprop", "lr": 0.02, "options": {"centered": True}},
        "decay": {"optimizer": "sgd", "lr": 0.5, "options": {"weight_decay": 0.01}},
    }

    def run(folder: Path) -> Values:
        network = sp.Network(n=4, hidden=(6, 5), activation="tanh", encoding="pm1", sigma_b=0.1)
        return {
            name: trained(folder / name, network, engine=engine, seed=11, **options)
            for name, options in cells.items()
        }

    return run


for _engine in ENGINES:
    CASES[f"train_settings_{_engine}"] = train_settings(_engine)
    TOLERANCES[f"train_settings_{_engine}"] = FLOAT32


@case
def train_activations(folder: Path) -> Values:
    """Built-in activations in both engines; a torch function in the torch engine."""
    found = {}
    options = {"optimizer": "adam", "lr": 0.05, "seed": 12, "runs": 3}
    for activation in ("relu", "tanh", "erf", "gelu", "sin", "linear"):
        network = sp.Network(n=4, hidden=(6,), activation=activation, weight_dist="uniform")
        for engine in ENGINES:
            files = trained(folder / activation / engine, network, engine=engine, **options)
            found[f"{activation} {engine}"] = files["runs.parquet"]
    network = sp.Network(n=4, hidden=(6,), activation="torch.nn.functional:softplus")
    found["callable"] = trained(folder / "callable", network, **options)["runs.parquet"]
    return found


@case
def train_data(folder: Path) -> Values:
    """Two data sets, the members' functions on training and test inputs."""
    network = sp.Network(hidden=(8,))
    options = {
        "target": None, "train": 12, "test": 8, "runs": 3, "optimizer": "adam", "lr": 0.02,
    }  # fmt: skip
    found = {}
    for data, classes in (("digits", "3,8"), ("breast-cancer", "benign:malignant")):
        settings = {**options, "data": data, "classes": classes, "scale": "standard"}
        for engine in ENGINES:
            files = trained(folder / data / engine, network, engine=engine, **settings)
            found[f"{data} {engine}"] = files["runs.parquet"]
    return found


TOLERANCES["train_activations"] = TOLERANCES["train_data"] = FLOAT32


# ---- ln P(f) of infinitely wide networks ----

FUNCTIONS = ["const0", "x1", "majority", "parity", "0x0001", "0x033f"]
NETWORKS = {
    "relu": sp.Network(n=4),
    "erf": sp.Network(n=4, hidden=(1,), activation="erf", sigma_b=0.5),
    "perceptron": sp.Network(n=4, hidden=(), encoding="pm1", sigma_b=0.3),
    "odd": sp.Network(n=4, hidden=(1,), activation="erf", sigma_b=0.0, encoding="pm1"),
}
"""Kernels on all bit strings: two of full rank, one of rank 5, one whose inputs are mirrored."""
DRAWS = {"tilted": 300, "smc": 1024, "minimax": 300, "liness": 400, "mc": 20000}
MEAN = np.linspace(-0.5, 0.5, 16)


def all_strings(n: int, encoding: str = "01") -> np.ndarray:
    """All bit strings, (2^n, n), row i the binary form of i."""
    rows = np.arange(1 << n)[:, None] >> np.arange(n)[::-1] & 1
    return rows * 2.0 - 1.0 if encoding == "pm1" else rows.astype(float)


def kernel_of(name: str) -> np.ndarray:
    network = NETWORKS[name]
    return sp.gp.nngp(network, all_strings(network.n, network.encoding))


def attempt(*arguments: Any, **options: Any) -> Values:
    """The results of ``log_prior``, or its refusal."""
    try:
        return log_probs(sp.gp.log_prior(*arguments, **options))
    except sp.SimpriorError as error:
        return {"error": str(error)}


def priors(method: str) -> Case:
    def run(folder: Path) -> Values:
        options = {"seed": 13, "draws": DRAWS.get(method)}
        found = {}
        for name in NETWORKS:
            # minimax orders inputs that are alike under "odd" by rounding: "0x033f" differs by
            # processor there
            given = FUNCTIONS[:-1] if (method, name) == ("minimax", "odd") else FUNCTIONS
            found[name] = attempt(given, kernel_of(name), method, **options)
        found["mean"] = attempt(FUNCTIONS[:3], kernel_of("relu"), method, mean=MEAN, **options)
        return found

    return run


for _method in sp.gp.METHODS:
    CASES[f"log_prior_{_method}"] = priors(_method)


@case
def log_prior_special(folder: Path) -> Values:
    """Covariances with a closed form: three inputs, one factor, blocks."""
    three = np.array([[1.0, 0.3, -0.2], [0.3, 2.0, 0.5], [-0.2, 0.5, 1.5]])
    factor = np.array([0.9, 0.5, -0.4, 0.2, 0.7])
    one = np.outer(factor, factor) + np.diag(1.0 - factor**2)
    blocks = np.eye(4)
    blocks[0, 1] = blocks[1, 0] = 0.5
    found = {}
    for name, K in (("three", three), ("one factor", one), ("blocks", blocks)):
        for method in ("closed", "tilted", "ep"):
            options = {"seed": 14, "draws": 300}
            found[f"{name} {method}"] = attempt(bits(4, len(K)), K, method, **options)
    return found


@case
def log_prior_options(folder: Path) -> Values:
    K = kernel_of("relu")
    return {
        "tol": attempt(["x1", "parity"], K, "tilted", seed=15, tol=0.05, draws=128),
        "kappa": attempt(["x1", "parity"], K, "tilted", seed=15, draws=256, kappa=(1.0, 0.5)),
        "damping": attempt(["x1", "parity"], K, "ep", damping=0.7),
        "replicates": attempt(["x1"], K, "smc", seed=15, draws=256, replicates=8),
        "chains": attempt(["x1"], K, "liness", seed=15, draws=800, chains=4, thin=2),
    }


@case
def log_prior_command(folder: Path) -> Values:
    functions = ["--functions", ",".join(FUNCTIONS), "--seed", 16, "--draws", 300]
    network = ["--n", 4, "--activation", "gelu", "--sigma-b", "0.5", "--hidden", "1,1"]
    digits = ["--data", "digits", "--classes", "3,8", "--train", 10, "--seed", 16, "--draws", 300]
    return {
        "bits": command_files(
            folder / "bits", "logp", *network, *functions, "--method", "tilted,ep,laplace"
        ),
        "digits": command_files(folder / "digits", "logp", *digits),
    }


# ---- posteriors ----


def posterior(method: str, *options: Any) -> Case:
    def run(folder: Path) -> Values:
        problem = ["--n", 3, "--hidden", 6, "--target", "majority", "--train", 4]
        arguments = [*problem, "--method", method, "--seed", 17, *options]
        found = command_files(folder / "run", "posterior", *arguments)
        text = (folder / "run" / "posterior.json").read_text()
        return found | {"posterior.json": timeless(json.loads(text))}

    return run


CASES |= {
    "posterior_gp": posterior("gp", "--samples", 500),
    "posterior_ep": posterior("ep", "--samples", 500),
    "posterior_rejection": posterior("rejection", "--samples", 100, "--max-draws", 20000),
    "posterior_slice": posterior(
        "slice", "--samples", 64, "--chains", 4, "--burn-in", 5, "--thin", 2
    ),
    "posterior_hmc": posterior("hmc", "--samples", 64, "--chains", 4, "--burn-in", 5),
    "posterior_nuts": posterior("nuts", "--samples", 12, "--chains", 2, "--burn-in", 4),
}
NEEDS["posterior_nuts"] = "pyro"


@case
def posterior_library(folder: Path) -> Values:
    K = kernel_of("relu")
    index, labels = [0, 3, 5, 10, 15], [0, 1, 0, 1, 1]
    found: Values = {}
    for method in ("exact", "ep"):
        counts = sp.gp.sample_posterior(K, index, labels, samples=400, seed=18, method=method)
        found[method] = table(counts.to_frame(top=None))
        found[f"{method} posterior"] = counts.info["posterior"]
    given = ["majority", "x1", "const0", "0x177f"]
    found["log"] = log_probs(sp.gp.log_posterior(given, K, index, labels, seed=18, draws=300))
    found["log ep"] = log_probs(sp.gp.log_posterior(given, K, index, labels, method="ep"))
    z, logw = sp.gp.tilted_draws(np.array(labels), K[np.ix_(index, index)], draws=24, seed=18)
    return found | {"draws": z, "log weights": logw}


# ---- kernels ----

KERNEL_NETWORKS = {
    **{
        name: sp.Network(n=3, hidden=(1, 1), activation=name, sigma_w=1.3, sigma_b=(0.4, 0.2, 0.1))
        for name in ("relu", "tanh", "erf", "gelu", "sin", "linear", "step")
    },
    "no bias": sp.Network(n=3, hidden=(1,), activation="relu", sigma_b=0.0),
    "perceptron": sp.Network(n=3, hidden=(), sigma_w=0.7),
    "callable": sp.Network(n=3, hidden=(1, 1), activation="torch.nn.functional:softplus"),
    "object": sp.Network(n=3, hidden=(1,), activation=bent),
}
X1 = np.concatenate([points(4, 3, seed=1), np.zeros((1, 3)), [[1.0, -1.0, 1.0]]])
X2 = points(2, 3, seed=2)


@case
def kernels_exact(folder: Path) -> Values:
    found = {}
    for name, network in KERNEL_NETWORKS.items():
        found[f"{name} nngp"] = sp.gp.nngp(network, X1)
        found[f"{name} nngp across"] = sp.gp.nngp(network, X1, X2)
        try:
            found[f"{name} ntk"] = sp.gp.ntk(network, X1)
        except sp.SimpriorError as error:
            found[f"{name} ntk"] = str(error)
    return found


TOLERANCES["kernels_gpytorch"] = 1e-6  # raw parameters are made in float32, then doubled


@case
def kernels_gpytorch(folder: Path) -> Values:
    import torch

    found = {}
    for name in ("relu", "erf", "tanh", "callable"):
        for kind in ("NNGPKernel", "NTKKernel"):
            kernel = getattr(sp.gp, kind).from_network(KERNEL_NETWORKS[name]).double()
            dense = kernel(torch.as_tensor(X1), torch.as_tensor(X2)).to_dense()
            found[f"{name} {kind}"] = dense.detach().numpy()
    return found


@case
def kernels_empirical(folder: Path) -> Values:
    found = {}
    for name in ("relu", "erf", "step", "callable"):
        network = dataclasses.replace(KERNEL_NETWORKS[name], hidden=(6, 5))
        found[f"{name} nngp"] = sp.gp.empirical_nngp(network, X1, samples=12, seed=19)
        if name in ("relu", "callable"):
            found[f"{name} ntk"] = sp.gp.empirical_ntk(network, X1, X2, samples=6, seed=19)
    return found


@case
def kernels_conditions(folder: Path) -> Values:
    """Inputs that others decide, and condition numbers."""
    found: Values = {}
    for name in ("relu", "odd"):
        reduction = sp.gp.reduce_inputs(kernel_of(name))
        found[name] = {
            field.name: getattr(reduction, field.name) for field in dataclasses.fields(reduction)
        }
    found["condition"] = sp.gp.check_psd(kernel_of("relu"))
    return found


# ---- bounds, finite width ----


@case
def bounds(folder: Path) -> Values:
    evidence = sp.LogProb(-20.0, 0.3, 900.0, "tilted", {})
    found: Values = {}
    for form in ("gibbs", "single"):
        for name, value in (("number", -35.5), ("estimate", evidence)):
            bound = sp.gp.marginal_likelihood_bound(value, 60, 0.05, form=form)
            found[f"{form} {name}"] = dataclasses.asdict(bound)
    digits = ["--data", "digits", "--classes", "3,8", "--train", 12, "--draws", 300]
    found["command"] = command("bound", *digits, "--seed", 20)
    return found


@case
def finite_width(folder: Path) -> Values:
    networks = {
        "relu": sp.Network(n=3, hidden=(12,)),
        "tanh": sp.Network(n=3, hidden=(10, 14), activation="tanh", encoding="pm1"),
        "callable": sp.Network(n=3, hidden=(12,), activation=bent),
    }
    given = ["const0", "x1", "majority", "0x81"]
    return {
        name: log_probs(sp.gp.conditional_log_prior(network, given, 12, seed=21, inner_draws=64))
        for name, network in networks.items()
    }


# ---- measures of functions ----


@case
def complexity(folder: Path) -> Values:
    found: Values = {}
    for m in (8, 16, 100, 128):
        tables = np.concatenate([bits(5, m), [[0] * m, [1] * m, [0, 1] * (m // 2)]])
        for name in ("lz76", "lz76_truncated", "ones", "entropy"):
            found[f"{name} {m}"] = getattr(sp.boolean.complexity, name)(tables)
    return found


def measured(folder: Path, n: int, groups: str, tables: np.ndarray) -> Values:
    """``measures.parquet`` of functions, each with a count of its own."""
    lines = [f"{''.join(map(str, row))} {100 - k}" for k, row in enumerate(tables.tolist())]
    (folder / "functions.txt").write_text("\n".join(lines))
    command("import", folder / "functions.txt", "--n", n, "--out", folder / "functions")
    arguments = ["measure", folder / "functions", "--measures", groups, "--seed", 22]
    found = command_files(folder / "measures", *arguments)
    del found["config"]  # names the folder
    return found


@case
def function_measures_4_bits(folder: Path) -> Values:
    """All measures of the function alone: complexity, Walsh, sensitivity, influence, DNF, GC."""
    strings = all_strings(4).astype(int)
    named = [strings[:, 0], strings.sum(axis=1) % 2, (strings.sum(axis=1) > 2).astype(int)]
    groups = "lz,entropy,dnf,gc,csr,walsh,sensitivity,influence"
    return measured(folder, 4, groups, np.concatenate([named, bits(9, 16)]))


@case
def function_measures_7_bits(folder: Path) -> Values:
    groups = "lz,entropy,gc,csr,walsh,sensitivity,influence"
    tables = bits(6, 128)
    tables[3:] &= bits(3, 128, seed=1)
    return measured(folder, 7, groups, tables)


# ---- sensitivity of random networks on long strings ----

SEARCH = ("--networks", 8, "--strings", 2, "--paths", 2, "--beam", 3, "--candidates", 5)


@case
def strings_of_networks(folder: Path) -> Values:
    arguments = ["--n", "6,9,12", "--hidden", 16, *SEARCH, "--gp-draws", 200, "--seed", 23]
    return command_files(folder / "run", "sensitivity", *arguments)


@case
def strings_by_search(folder: Path) -> Values:
    """Longer strings, without enumeration: the distances of the beam search."""
    arguments = ["--n", "40,70", "--hidden", "20,10", "--activation", "tanh", *SEARCH]
    more = ["--budget", 0, "--gp-draws", 0, "--sigma-b", "0.2", "--weight-dist", "uniform"]
    return command_files(folder / "run", "sensitivity", *arguments, *more, "--seed", 24)


@case
def strings_of_a_coin(folder: Path) -> Values:
    arguments = ["--n", "10,20", "--classifier", "uniform", *SEARCH, "--gp-draws", 0]
    return command_files(folder / "run", "sensitivity", *arguments, "--seed", 25)


@case
def strings_of_trained_networks(folder: Path) -> Values:
    network = sp.Network(n=4, hidden=(8,))
    trained(folder / "train", network, optimizer="adam", lr=0.05, seed=26, max_epochs=30)
    command("sensitivity", folder / "train", "--out", folder / "run")
    found = run_files(folder / "run")
    del found["config"]  # names the folder
    return found


# ---- runs that an earlier version left ----

UNFINISHED = Path(__file__).parent / "unfinished"
UNFINISHED_RUNS: dict[str, Callable[..., Any]] = {
    "sample": partial(
        sp.sample, sp.Network(n=3, hidden=(6,)), samples=512, seed=27, heads=1, pool=True
    ),
    "train": partial(
        sp.train, sp.Network(n=4, hidden=(6,)), "0x177f", train=9, runs=8, batch_size=4,
        optimizer="adam", lr=0.1, max_epochs=20, seed=28,
    ),
}  # fmt: skip
"""Calls whose interrupted run directories are in ``UNFINISHED`` (see ``make_unfinished.py``)."""


class Amounts:
    """A progress bar that remembers its updates."""

    def __init__(self) -> None:
        self.amounts: list[int] = []

    def update(self, amount: int) -> None:
        self.amounts.append(amount)


@case
def resumed(folder: Path) -> Values:
    """What is left of a run is done, and the shards that are there are used."""
    found = {}
    for name, run in UNFINISHED_RUNS.items():
        shutil.copytree(UNFINISHED / name, folder / name)
        done = Amounts()
        run(out=folder / name, resume=True, progress=done)
        found[name] = run_files(folder / name) | {"amounts done": done.amounts}
    return found


TOLERANCES["resumed"] = FLOAT32


# ---- refusals ----


@case
def refusals(folder: Path) -> Values:
    """Errors that a user of the library meets: what, what was expected, and the remedy."""
    network, K = sp.Network(n=3, hidden=(4,)), kernel_of("relu")
    calls: dict[str, Callable[[], Any]] = {
        "n": lambda: sp.Network(n=17),
        "hidden": lambda: sp.Network(hidden=(4, 0)),
        "activation": lambda: sp.Network(activation="rleu"),
        "activation import": lambda: sp.sample(
            sp.Network(n=2, activation="no.such:thing"), samples=10
        ),
        "sigma_w": lambda: sp.Network(sigma_w=0.0),
        "sigma_b": lambda: sp.Network(hidden=(4,), sigma_b=(1.0, 1.0, 1.0)),
        "encoding": lambda: sp.Network(encoding="10"),
        "weight_dist": lambda: sp.Network(weight_dist="cauchy"),
        "inputs": lambda: sp.Network(inputs=[[1.0, math.nan]]),
        "inputs n": lambda: sp.Network(n=5, inputs=points(3, 2)),
        "dnf": lambda: sp.RandomDNF(n=4, alpha=0.3),
        "samples": lambda: sp.sample(network, samples=1.5),
        "heads": lambda: sp.sample(network, samples=10, heads="none"),
        "dtype": lambda: sp.sample(network, samples=10, dtype="float16"),
        "device": lambda: sp.sample(network, samples=10, device="tpu"),
        "keep": lambda: sp.sample(network, samples=10, keep=0.3),
        "pool keep": lambda: sp.sample(network, samples=10, keep=0.5, pool=True),
        "memory": lambda: sp.sample(network, samples=10, memory=1),
        "workers": lambda: sp.sample(network, samples=10, workers=0),
        "executor": lambda: sp.sample(network, samples=10, executor="ray"),
        "seed": lambda: sp.sample(network, samples=10, seed=-1),
        "watch": lambda: sp.sample(network, samples=10, watch=["0x01", "00000001"]),
        "watch dtype": lambda: sp.sample(network, samples=10, watch="x1", dtype="float64"),
        "function": lambda: sp.gp.log_prior("majorty", K),
        "function length": lambda: sp.gp.log_prior("0x01", K),
        "method": lambda: sp.gp.log_prior("x1", K, "tilt"),
        "method option": lambda: sp.gp.log_prior("x1", K, "ep", drawss=5),
        "draws": lambda: sp.gp.log_prior("x1", K, draws=2),
        "covariance": lambda: sp.gp.log_prior("00", [[1.0, 2.0], [2.0, 1.0]]),
        "symmetry": lambda: sp.gp.log_prior("00", [[1.0, 0.2], [0.1, 1.0]]),
        "kernel law": lambda: sp.gp.nngp(sp.Network(weight_dist="uniform"), points(2, 7)),
        "finite width": lambda: sp.gp.conditional_log_prior(sp.Network(n=3, hidden=()), "x1"),
        "bound": lambda: sp.gp.marginal_likelihood_bound(1.0, 10),
        "bound form": lambda: sp.gp.marginal_likelihood_bound(-1.0, 10, form="gibs"),
        "posterior labels": lambda: sp.gp.sample_posterior(K, [0, 1], [0, 2]),
        "posterior index": lambda: sp.gp.sample_posterior(K, [0, 0], [0, 1]),
        "posterior method": lambda: sp.gp.sample_posterior(K, [0, 1], [0, 1], method="mc"),
        "optimizer": lambda: sp.train(network, "x1", train=4, optimizer="adm"),
        "optimizer option": lambda: sp.train(network, "x1", train=4, options={"beta": 0.5}),
        "lr": lambda: sp.train(network, "x1", train=4, lr=-1.0),
        "loss": lambda: sp.train(network, "x1", train=4, loss="mae"),
        "stop": lambda: sp.train(network, "x1", train=4, stop="never"),
        "engine": lambda: sp.train(network, "x1", train=4, engine="jax"),
        "engine callable": lambda: sp.train(
            sp.Network(n=3, hidden=(4,), activation=bent), "x1", train=4, engine="compiled"
        ),
        "runs": lambda: sp.train(network, "x1", train=4, runs=0),
        "batch_size": lambda: sp.train(network, "x1", train=4, batch_size=0),
        "train size": lambda: sp.train(network, "x1", train=9),
        "target": lambda: sp.train(network, train=4),
        "corrupt": lambda: sp.train(network, "x1", train=4, corrupt=2.0),
        "attack": lambda: sp.train(network, "x1", train=4, attack=5),
        "record": lambda: sp.train(network, "x1", train=4, record=(-1,)),
        "classes": lambda: sp.train(network, data="digits", classes="3,11", train=4),
    }
    return {name: refusal(call) for name, call in calls.items()}


def refusal(call: Callable[[], Any]) -> str:
    """The kind and text of the error that ``call`` raises, or that it raises none."""
    try:
        call()
    except sp.SimpriorError as error:
        return f"{type(error).__name__}: {error}"
    return "no error"
