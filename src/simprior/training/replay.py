"""From what a run recorded back to its spec and problem, and to the weights of its members."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from simprior.errors import InputError, NumericalError, StoreError
from simprior.network import Network
from simprior.training.datasets import SOURCES
from simprior.training.loaders import unsaid
from simprior.training.members import Retrained, retrain_members
from simprior.training.optimizers import Optimizer
from simprior.training.records import TrainResult, unpack_hex
from simprior.training.spec import Stop, TrainSpec
from simprior.training.targets import Problem, boolean_problem, data_problem


def problem_of(result: TrainResult, problem: Problem | None = None) -> Problem:
    """The problem of a run, inputs included.

    Boolean problems and built-in data sets are made again from the record; a run on a file of data
    or on explicit inputs needs its ``problem``, since runs do not store inputs. What is returned
    describes itself exactly as the record does.

    Raises
    ------
    InputError
        The problem cannot be made from the record, or the one given is another.
    """
    recorded = result.problem
    if problem is None:
        problem = _rebuilt(result)
    found = problem.describe()
    # runs of data made before there were settings have none on record
    missing = {key: found[key] for key in problem.settings}
    wrong = [k for k in found if not _same(found[k], recorded.get(k, missing.get(k)))]
    if wrong:
        raise InputError(
            f"the problem {found['name']!r} of this run ({', '.join(wrong)} differ)",
            "the one that the run recorded", "pass the problem that the networks were trained on",
        )  # fmt: skip
    return problem


def problem_from_file(result: TrainResult, data: str, label: str | None = None) -> Problem:
    """The problem of a run on a local data file, which is read again.

    ``data`` as it was given for training; sizes, seed, classes, label column, scaling and what was
    done about missing values are on record (``label`` for runs that did not record it).
    :func:`problem_of` checks that the result is the problem of the run. Raises :class:`InputError`.
    """
    recorded = result.problem
    name, known = Path(data).name, str(recorded["name"])  # which is "FILE CLASSES"
    classes = known.removeprefix(f"{name} ") if known.startswith(name) else known.rpartition(" ")[2]
    classes = str(recorded.get("classes", classes))
    label = recorded.get("label") if label is None else label
    more = {key: recorded[key] for key in ("scale", "missing") if key in recorded}
    train, attack = len(recorded["train_index"]), len(recorded["attack_index"])
    with unsaid():
        return data_problem(
            data, classes=classes, label=label, train=train,
            test=recorded["m"] - train - attack, seed=recorded["seed"],
            corrupt=recorded["corrupt"], attack=attack, **more,
        )  # fmt: skip


def spec_of(result: TrainResult, problem: Problem) -> TrainSpec:
    """The training spec of a run. Raises :class:`InputError` if its activation is not found."""
    config = result.config
    if "network" in config:
        network = Network.from_dict(config["network"])
    else:
        known = {key: value for key, value in config["architecture"].items() if key != "n"}
        network = Network.from_dict({**known, "inputs": problem.inputs})
    optimizer = Optimizer(config["optimizer"], config["lr"], config["optimizer_options"])
    return TrainSpec(
        network, optimizer, config["loss"], int(config["batch_size"]), Stop.parse(config["stop"]),
        int(config["max_epochs"]), int(config["check"]), int(config["pretrain"]),
        int(config["seed"]),
    )  # fmt: skip


def retrain(
    result: TrainResult, members: np.ndarray, *, problem: Problem | None = None, workers: int = 1
) -> tuple[TrainSpec, Problem, Retrained]:
    """Spec, problem and weights of ``members`` of a run; the functions found are checked.

    Raises
    ------
    InputError
        Not members of the run, or see :func:`problem_of`.
    NumericalError
        A member ended at another function than recorded (a run of another version or, with the
        torch engine, of another machine).
    """
    members = np.asarray(members, np.int64).reshape(-1)
    if not len(members) or members.min() < 0 or members.max() >= result.runs:
        raise InputError(
            f"members={members.tolist()[:5]}", f"members 0 to {result.runs - 1} of the run",
            "choose from its runs.parquet",
        )  # fmt: skip
    problem = problem_of(result, problem)
    spec = spec_of(result, problem)
    found = retrain_members(
        spec, problem, members, result.steps[members], workers=workers,
        engine=result.config.get("engine", "compiled"), device=result.config.get("device", "cpu"),
    )  # fmt: skip
    other = (found.words != result.words[members]).any(axis=1)
    if other.any():
        raise NumericalError(
            f"{int(other.sum())} of {len(members)} members ended at another function than recorded "
            f"(first: member {members[other][0]}); train again with this version on this machine"
        )
    return spec, problem, found


def _rebuilt(result: TrainResult) -> Problem:
    recorded = result.problem
    train, attack = recorded["train_index"], len(recorded["attack_index"])
    more: dict[str, Any] = {
        "seed": recorded["seed"], "corrupt": recorded["corrupt"], "attack": attack,
    }  # fmt: skip
    if recorded["n"]:
        network = Network.from_dict(result.config["network"])
        table: Any = recorded["name"]
        if table == "given":
            table = unpack_hex(recorded["target"], recorded["m"])
        made = boolean_problem(network, table, len(train), **more)
        if made.train_index.tolist() == list(train):
            return made
        return boolean_problem(network, table, list(train), **more)
    name, _, classes = recorded["name"].partition(" ")
    if name not in SOURCES:
        raise InputError(
            f"a run on {recorded['name']!r}", "a Boolean target or a built-in data set",
            "pass its file again (simprior measure --data FILE) or problem=",
        )  # fmt: skip
    test = recorded["m"] - len(train) - attack
    more["scale"] = recorded.get("scale")
    with unsaid():
        return data_problem(name, classes=classes, train=len(train), test=test, **more)


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return a == b or (math.isnan(a) and math.isnan(b))
    return bool(a == b)


def load_result(run: Any) -> TrainResult:
    """A result as it is, or that of a run directory. Raises :class:`StoreError`."""
    if isinstance(run, TrainResult):
        return run
    try:
        return TrainResult.load(run)
    except TypeError:
        raise StoreError(f"run={run!r}: expected a TrainResult or a run directory") from None
