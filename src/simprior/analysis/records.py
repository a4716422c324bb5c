"""What is known of a trained network without measuring it: settings, outcome, training set.

The first columns of a measures table, in the order of :data:`IDENTITY`, :data:`SETTINGS` and
:data:`OUTCOME`. ``cluster`` names what networks share (:func:`cluster_of`): their data.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior import rng
from simprior.boolean.truthtable import to_hex, unpack
from simprior.errors import InputError
from simprior.training.optimizers import Optimizer
from simprior.training.records import TrainResult, unpack_hex

if TYPE_CHECKING:
    import pandas as pd

IDENTITY = ("run", "member", "function")
SETTINGS = (
    "optimizer", "lr", "batch_size", "loss", "train_size", "attack", "corrupt", "data_seed", "seed",
    "hidden", "depth", "width", "activation", "sigma_w", "sigma_b", "encoding", "weight_dist",
    "options", "stop", "max_epochs", "check", "pretrain", "n", "m", "target", "alpha",
)  # fmt: skip
OUTCOME = (
    "fitted", "steps", "train_loss", "train_error", "test_error", "test_size", "held_out_error",
    "held_out_size", "total_error", "majority_error", "cluster",
)  # fmt: skip
SAMPLED = {"test_error": "test_size", "held_out_error": "held_out_size"}
"""Outcomes that are shares of a sample of inputs, and the column with its size."""
_NAME = 24


def _changed_options(config: Mapping[str, Any]) -> str:
    """Options of the optimiser that are not its defaults: ``weight_decay=0.01``; else empty."""
    given = config["optimizer_options"]
    usual = Optimizer(config["optimizer"]).options
    return ",".join(f"{k}={v}" for k, v in given.items() if v != usual.get(k))


def settings_of(result: TrainResult) -> dict[str, Any]:
    """Settings of a training run, one value a column; per-layer sigmas become text."""
    config, problem = result.config, result.problem
    network = config.get("network") or config["architecture"]
    hidden = [int(w) for w in network["hidden"]]
    size, attack = len(problem["train_index"]), len(problem["attack_index"])
    named = str(problem["name"]) if problem["n"] == 0 else str(problem["text"])
    return {
        "optimizer": config["optimizer"], "lr": float(config["lr"]),
        "batch_size": int(config["batch_size"]), "loss": config["loss"], "train_size": size,
        "attack": attack, "corrupt": float(problem["corrupt"]), "data_seed": int(problem["seed"]),
        "seed": int(config["seed"]), "hidden": ",".join(map(str, hidden)), "depth": len(hidden),
        "width": max(hidden, default=0), "activation": str(network["activation"]),
        "sigma_w": _number(network["sigma_w"]), "sigma_b": _number(network["sigma_b"]),
        "encoding": network["encoding"], "weight_dist": network["weight_dist"],
        "options": _changed_options(config), "stop": str(config["stop"]),
        "max_epochs": int(config["max_epochs"]), "check": int(config["check"]),
        "pretrain": int(config["pretrain"]),
        "n": int(problem["n"]), "m": int(problem["m"]), "target": named, "alpha": 1.0,
    }  # fmt: skip


def cluster_of(result: TrainResult) -> str:
    """Name of what networks share: data seed and target.

    Training sets of one data seed overlap, whatever their size, corruption and attack points (a
    larger set contains the smaller), so that networks trained on them are not independent.
    """
    s = settings_of(result)
    name = str(s["target"])
    if len(name) > _NAME:  # a whole truth table
        name = f"{name[:_NAME]}...{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return f"{s['data_seed']}/{name}"


def held_out_inputs(result: TrainResult, share: float) -> np.ndarray:
    """A random ``share`` of the test inputs of a run on data, a function of its data seed.

    Raises :class:`InputError` if that is none of them, or all.
    """
    used = [*result.problem["train_index"], *result.problem["attack_index"]]
    test = np.setdiff1d(np.arange(result.m), used)
    number = round(share * len(test))
    if share and not 0 < number < len(test):
        raise InputError(
            f"held-out={share:g} of {len(test)} test inputs, which is {number}",
            "at least one held out and one not", "change --held-out, or test on more inputs",
        )  # fmt: skip
    order = rng.generator(int(result.problem["seed"]), "measure/held-out").permutation(len(test))
    return np.sort(test[order[len(test) - number :]])


def network_rows(
    result: TrainResult, run: str, members: np.ndarray, held_out: float = 0.0
) -> pd.DataFrame:
    """A row for each of ``members`` of a run called ``run``: identity, settings, outcome.

    ``held_out``: share of the test inputs of data that no measure sees, with an error of their own.
    On bit strings ``total_error`` is the error over all of them, the training set included.
    """
    import pandas as pd

    k = len(members)
    test = result.m - len(result.problem["train_index"]) - len(result.problem["attack_index"])
    columns: dict[str, Any] = {
        "run": [run] * k, "member": members,
        "function": to_hex(result.words[members], result.m),
    }  # fmt: skip
    columns |= {name: [value] * k for name, value in settings_of(result).items()}
    columns |= {
        "fitted": result.fitted[members], "steps": result.steps[members],
        "train_loss": result.loss[members], "train_error": result.errors[members] / result.size,
        "test_error": result.test_error[members], "test_size": [test] * k,
        **_further_errors(result, members, held_out),
        "majority_error": [float(result.problem["majority_error"])] * k,
        "cluster": [cluster_of(result)] * k,
    }  # fmt: skip
    return pd.DataFrame(columns)


def _further_errors(
    result: TrainResult, members: np.ndarray, held_out: float
) -> dict[str, np.ndarray]:
    if not result.problem["n"] and not held_out:
        return {}
    target = unpack_hex(result.problem["target"], result.m)
    wrong = unpack(result.words[members], result.m) != target
    if result.problem["n"]:
        return {"total_error": wrong.mean(axis=1)}
    index = held_out_inputs(result, held_out)
    return {
        "held_out_error": wrong[:, index].mean(axis=1),
        "held_out_size": np.full(len(members), len(index)),
    }


def function_rows(words: np.ndarray, m: int, n: int, run: str, first: int) -> pd.DataFrame:
    """A row for each packed function of a table: identity, rank (from ``first``), n and m."""
    import pandas as pd

    k = len(words)
    return pd.DataFrame({
        "run": [run] * k, "member": np.full(k, -1), "function": to_hex(words, m),
        "rank": np.arange(first, first + k), "n": [n] * k, "m": [m] * k, "alpha": [1.0] * k,
    })  # fmt: skip


def _number(value: Any) -> Any:
    """A standard deviation as a number; one a layer as text."""
    if isinstance(value, list | tuple):
        return ",".join(f"{float(v):g}" for v in value)
    return float(value)
