"""The trained weights of members of an ensemble, made again.

No run stores weights. A member is known by (seed, member, steps): :func:`retrain_members` trains it
again for exactly that number of steps. Spec and problem come from what the run recorded.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from simprior.errors import InputError, NumericalError, StoreError
from simprior.modules.outputs import USE, check_outputs
from simprior.modules.spec import Module, network_only
from simprior.network.parameters import Parameters
from simprior.network.spec import Network
from simprior.runs.directory import load_run
from simprior.runs.tasks import run_tasks
from simprior.training import kernels as kernel
from simprior.training.data import SOURCES
from simprior.training.draws import Plan, make_plan, make_scratch
from simprior.training.draws import parameter_slices as slices
from simprior.training.loaders import unsaid
from simprior.training.records import ProblemRecord, TrainResult
from simprior.training.spec import Optimizer, Stop, TrainSpec
from simprior.training.targets import Problem, recorded_network

_TORCH_CHUNK = 256
_LOG = logging.getLogger("simprior")


def trained_parameters(spec: TrainSpec, problem: Problem, member: int, steps: int) -> Parameters:
    """Parameters of ``member`` after exactly ``steps`` steps (pre-training comes before them).

    Of a network, layer by layer; :func:`retrain_members` gives those of modules. Raises
    :class:`InputError`.
    """
    network = network_only(spec.network, "parameters layer by layer")
    found = retrain_members(spec, problem, [member], [steps]).parameters[0]
    return Parameters.from_flat(found, network)


@dataclass(frozen=True, eq=False)
class Retrained:
    """Members after retraining: ``parameters`` (N, p) float32 in the order of
    :meth:`Parameters.flat`, ``words`` (N, W) packed functions, ``errors`` (N,), ``loss`` (N,)."""

    parameters: np.ndarray
    words: np.ndarray
    errors: np.ndarray
    loss: np.ndarray


def retrain_members(
    spec: TrainSpec, problem: Problem, members: Sequence[int] | np.ndarray,
    steps: Sequence[int] | np.ndarray, *, engine: str = "compiled", device: str = "cpu",
    workers: int = 1,
) -> Retrained:  # fmt: skip
    """Train chosen members again, each for its own number of steps.

    With the compiled engine the weights are those of the run to the last bit, whatever the chosen
    members and workers. The torch engine repeats the same operations in batches of another make-up:
    equal up to float32 rounding, and of modules the same bits (``training.module_members``).
    ``guess-and-check`` draws network ``steps`` of each member.

    Parameters
    ----------
    spec, problem
        Those of the run.
    members, steps : (N,) integers
        Members, and the steps each has done (``TrainResult.steps``).
    engine, device : str
        ``compiled`` or ``torch``, as the run was made; modules are trained by torch.
    workers : int
        Threads, or processes with the torch engine; results do not depend on it.

    Raises
    ------
    InputError
        Lengths that differ, a negative member or number of steps, no members.
    """
    members, steps = np.asarray(members, np.int64), np.asarray(steps, np.int64)
    if members.ndim != 1 or members.shape != steps.shape or not len(members):
        raise InputError(
            f"members of shape {members.shape} with steps of shape {steps.shape}",
            "one number of steps a member, at least one member", "pass two equal lists",
        )  # fmt: skip
    if members.min() < 0 or steps.min() < 0:
        raise InputError(
            f"member {members.min()} with {steps.min()} steps", "numbers >= 0", "check the lists"
        )
    engine = engine if spec.compiled else "torch"
    size = _TORCH_CHUNK if engine == "torch" else max(1, min(64, -(-len(members) // (4 * workers))))
    tasks = [(at, members[at : at + size], steps[at : at + size])
             for at in range(0, len(members), size)]  # fmt: skip
    parts: dict[int, Retrained] = {}
    run_tasks(
        partial(_retrain_task, spec, problem, engine, device), tasks,
        workers=min(workers, len(tasks)),
        on_result=lambda task, found: parts.__setitem__(task[0], found),
        threads=engine == "compiled",
    )  # fmt: skip
    join = lambda name: np.concatenate([getattr(parts[t[0]], name) for t in tasks])  # noqa: E731
    return Retrained(join("parameters"), join("words"), join("errors"), join("loss"))


def _retrain_task(
    spec: TrainSpec, problem: Problem, engine: str, device: str,
    task: tuple[int, np.ndarray, np.ndarray],
) -> Retrained:  # fmt: skip
    _, members, steps = task
    if spec.optimizer.rule == "guess":
        members = (members << 32) + np.maximum(steps, 1) - 1  # see _member.guess_and_check
        spec, steps = replace(spec, pretrain=0), np.zeros_like(steps)
    if engine == "torch":
        from simprior.training.torch_engine import retrain_with_torch

        return Retrained(*retrain_with_torch(spec, problem, members, steps, device))
    return _retrain_compiled(spec, problem, members, steps)


def _retrain_compiled(
    spec: TrainSpec, problem: Problem, members: np.ndarray, steps: np.ndarray
) -> Retrained:
    spec = replace(spec, stop=Stop("steps", max(int(steps.max()), 1)), record=(), record_runs=0)
    plan = make_plan(spec, problem)
    P, scratch = make_scratch(plan)
    network = network_only(spec.network, "compiled training")
    index = np.concatenate([part.ravel() for part in slices(network)])
    count = len(members)
    parameters = np.zeros((count, len(index)), np.float32)
    words, errors = np.zeros((count, plan.words), np.uint64), np.zeros(count, np.int64)
    loss, watch = np.zeros(count), _no_watch(plan)
    for i in range(count):
        plan.rule[kernel.R_MAX_STEPS] = steps[i]
        out = _outputs(plan)
        kernel.train_members(
            P, int(members[i]), 1, plan.net, plan.law, plan.data, plan.rule, plan.stop_loss,
            plan.scalars, plan.keys, scratch, out, watch,
        )  # fmt: skip
        parameters[i], words[i], errors[i], loss[i] = P[index], out[0][0], out[3][0], out[4][0]
    return Retrained(parameters, words, errors, loss)


def _outputs(plan: Plan) -> tuple[np.ndarray, ...]:
    whole = (np.zeros(1, np.int64) for _ in range(3))
    return (np.zeros((1, plan.words), np.uint64), *whole, np.zeros(1))


def _no_watch(plan: Plan) -> tuple[np.ndarray, ...]:
    return (
        np.zeros(0, np.int64), np.zeros((1, 0, plan.words), np.uint64), np.zeros((1, 0), np.int64),
        np.zeros((1, 0)),
    )  # fmt: skip


def problem_of(result: TrainResult, problem: Problem | None = None) -> Problem:
    """The problem of a training run, inputs included.

    Boolean problems and built-in data sets are made again from the record; a run on a file of data
    or on explicit inputs needs its ``problem``, since runs do not store inputs. What is returned
    describes itself exactly as the record does.

    Raises
    ------
    InputError
        The problem cannot be made from the record, or the one given is another.
    """
    return _as_recorded(result.problem, result.config, problem)


def problem_of_run(path: Path | str, data: str | None = None, label: str | None = None) -> Problem:
    """The problem of a run directory of ``simprior train`` or ``posterior``, with its network.

    A module of a user's own factory is built, and compared with what the run recorded of it.

    Parameters
    ----------
    path
        A complete run.
    data, label
        The data file of the run, where it is on one (see :func:`problem_from_file`).

    Raises
    ------
    InputError, StoreError
        The run has no problem, is not complete, or is on a file that was not given.
    """
    run = load_run(path)
    if run.command not in ("train", "posterior") or run.status != "complete":
        raise StoreError(
            f"{path}: expected a complete run of 'simprior train' or 'posterior', found one of "
            f"'simprior {run.command}' that is {run.status}; {run.way_on}"
        )
    problem = _problem_on_record(path, run.config, data, label)
    if run.command == "train" and "robust" in run.config:
        radius = run.config["robust"]
        _LOG.warning(
            "%s was trained in boxes of radius %g; what is taken here is S alone", path, radius
        )
    check_outputs(run.path, run.manifest["options"], problem.network, USE)
    return problem


def _problem_on_record(
    path: Path | str, config: Mapping[str, Any], data: str | None, label: str | None
) -> Problem:
    if "problem" in config:
        recorded = config["problem"]
        given = None if data is None else _from_file(recorded, config, data, label)
        return _as_recorded(recorded, config, given)
    if data is not None:
        what = f"data={data} for {path}, a run on {config['target']}"
        raise InputError(what, "no data", "leave --data out")
    task = {
        name: config[name] for name in ("target", "train", "corrupt", "attack") if name in config
    }
    seed = config.get("data_seed", config["seed"])
    return Problem(recorded_network(config), seed=seed, **task)


def _as_recorded(
    recorded: Mapping[str, Any], config: Mapping[str, Any], problem: Problem | None
) -> Problem:
    """``problem``, or the one made from the record, after comparing it with the record."""
    if problem is None:
        problem = _rebuilt(recorded, config)
    found = problem.describe()
    # runs of data made before there were settings have none on record
    missing = {key: found[key] for key in problem.settings}
    wrong = [k for k in found if not _same(found[k], recorded.get(k, missing.get(k)))]
    if wrong:
        raise InputError(
            f"the problem {found['name']!r} of this run ({', '.join(wrong)} differ)",
            "the one that the run recorded",
            "pass the problem that the networks were trained on",
        )
    return problem


def problem_from_file(result: TrainResult, data: str, label: str | None = None) -> Problem:
    """The problem of a run on a local data file, which is read again.

    ``data`` as it was given for training; sizes, seed, classes, label column, scaling and what was
    done about missing values are on record (``label`` for runs that did not record it).
    :func:`problem_of` checks that the result is the problem of the run. Raises :class:`InputError`.
    """
    return _from_file(result.problem, result.config, data, label)


def _from_file(
    recorded: Mapping[str, Any], config: Mapping[str, Any], data: str, label: str | None
) -> Problem:
    name, known = Path(data).name, str(recorded["name"])  # which is "FILE CLASSES"
    classes = known.removeprefix(f"{name} ") if known.startswith(name) else known.rpartition(" ")[2]
    classes = str(recorded.get("classes", classes))
    label = recorded.get("label") if label is None else label
    more = {key: recorded[key] for key in ("scale", "missing") if key in recorded}
    train, attack = len(recorded["train_index"]), len(recorded["attack_index"])
    with unsaid():
        return Problem(
            _architecture(config),
            data=data,
            classes=classes,
            label=label,
            train=train,
            test=recorded["m"] - train - attack,
            seed=recorded["seed"],
            corrupt=recorded["corrupt"],
            attack=attack,
            **more,
        )


def spec_of(result: TrainResult, problem: Problem) -> TrainSpec:
    """The training spec of a run. Raises :class:`InputError` if its activation is not found."""
    config, network = result.config, problem.network
    optimizer = Optimizer(config["optimizer"], config["lr"], config["optimizer_options"])
    return TrainSpec(
        network, optimizer, config["loss"], int(config["batch_size"]), Stop.parse(config["stop"]),
        int(config["max_epochs"]), int(config["check"]), int(config["pretrain"]),
        int(config["seed"]), init_scale=float(config.get("init_scale", 1.0)),
        **{name: config[name] for name in ("robust", "robust_steps") if name in config},
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


def _rebuilt(recorded: Mapping[str, Any], config: Mapping[str, Any]) -> Problem:
    train = recorded.get("strings", recorded["train_index"])
    attack = len(recorded["attack_index"])
    network = _architecture(config)
    more: dict[str, Any] = {
        "seed": recorded["seed"],
        "corrupt": recorded["corrupt"],
        "attack": attack,
        "robust": recorded.get("robust", 0),
    }
    if recorded["n"]:
        table: Any = recorded["name"]
        if table == "given":
            table = ProblemRecord.of(recorded).table
        if not more["robust"]:  # strings that are drawn anew may be too near each other
            made = Problem(network, table, train=len(train), **more)
            if made.train_index.tolist() == list(train):
                return made
        return Problem(network, table, train=list(train), **more)
    name, _, classes = recorded["name"].partition(" ")
    if name not in SOURCES:
        raise InputError(
            f"a run on {recorded['name']!r}",
            "a Boolean target or a built-in data set",
            "pass its file again (simprior measure --data FILE) or problem=",
        )
    more |= {"scale": recorded.get("scale"), "classes": classes}
    test = recorded["m"] - len(train) - attack
    with unsaid():
        return Problem(network, data=name, train=len(train), test=test, **more)


def _architecture(config: Mapping[str, Any]) -> Network | Module:
    """The network of a run, without the inputs where these are of data."""
    if "architecture" not in config:
        return recorded_network(config)
    return recorded_network(
        {"architecture": {k: v for k, v in config["architecture"].items() if k != "n"}}
    )


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
