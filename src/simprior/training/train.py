"""Ensembles of trained networks: which function does each of many members find?

:func:`train` trains ``runs`` independent networks, each from its own draw of the prior and with its
own minibatch order, and records the function that each one ends at. Every random number belongs to
(seed, member), so a member is the same whatever the number of members, workers or interruptions.

A task of a run is a range of members; it gives their functions, steps, errors and losses
(:func:`run_members`). It runs in a worker, and depends on (job, range) only.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from simprior.boolean.sampling.rows import key_columns, words_from_columns
from simprior.boolean.truthtable import n_words
from simprior.checks import RUN_OPTIONS, Choice, Kind, Maybe, Table, Text, checked, shown, whole
from simprior.errors import InputError, check_fits
from simprior.modules.outputs import check_outputs, outputs_to_record
from simprior.modules.spec import Module
from simprior.network.callables import differentiable
from simprior.network.spec import Network, check_size
from simprior.runs.directory import RunDir
from simprior.runs.sharded import Shard, Work, open_run, run_sharded
from simprior.runs.tasks import Progress, RunOptions, resolve_device
from simprior.runs.threads import per_thread
from simprior.training.loaders import unsaid
from simprior.training.records import (
    COUNTS,
    RUNS,
    TRAJECTORIES,
    Complement,
    TrainResult,
    arrow_table,
)
from simprior.training.spec import (
    Job,
    Members,
    Optimizer,
    Stop,
    Task,
    TrainSpec,
    check_steps,
    empty_members,
    empty_watch,
    split,
    trajectory_rows,
)
from simprior.training.targets import Problem, key_of

TASK = "target train data classes label missing scale test corrupt attack robust".split()
"""The arguments of :func:`train` that describe a problem; they are those of :class:`Problem`."""
_SPEC = "loss batch_size max_epochs check pretrain seed init_scale robust_steps".split()
COLUMNS = ("steps", "first_fit", "errors", "loss")
"""Fields of :class:`Members` that are columns as they are."""
ROBUST = "robust_errors"
"""One more, where inputs are attacked."""


def run_members(job: Job, first: int, count: int) -> Members:
    """Train the members ``first .. first + count - 1`` in this process."""
    if job.engine == "compiled":
        return _run_compiled(job, first, count)
    from simprior.training.torch_engine import train_with_torch

    return train_with_torch(job.spec, job.problem, first, count, job.device, job.members)


@per_thread(maxsize=2)
def _prepared(job: Job) -> tuple[Any, Any, Any]:
    from simprior.training.draws import make_plan, make_scratch

    plan = make_plan(job.spec, job.problem)
    return (plan, *make_scratch(plan))


def _run_compiled(job: Job, first: int, count: int) -> Members:
    from simprior.training import kernels as kernel

    plan, P, scratch = _prepared(job)
    found = empty_members(count, plan.words)
    arrays = (found.words, found.steps, found.first_fit, found.errors, found.loss)
    if job.spec.optimizer.rule == "guess":
        kernel.guess_and_check(
            P, first, count, plan.net, plan.law, plan.data, plan.rule, plan.keys, scratch, arrays
        )
        return found
    at = 0
    rows: list[dict[str, np.ndarray]] = []
    recorded = max(0, min(count, job.spec.record_runs - first))
    for part, steps in ((recorded, job.spec.record), (count - recorded, ())):
        if part:
            watch = empty_watch(part, steps, plan.words)
            kernel.train_members(
                P, first + at, part, plan.net, plan.law, plan.data, plan.rule, plan.stop_loss,
                plan.scalars, plan.keys, scratch, tuple(a[at : at + part] for a in arrays), watch,
            )  # fmt: skip
            rows.append(trajectory_rows(watch, first + at, found.steps[at : at + part]))
        at += part
    joined = {k: np.concatenate([row[k] for row in rows]) for k in rows[0]}
    return replace(found, trajectory=joined)


@dataclass(frozen=True)
class Training(Work[Task, Members]):
    """The work of a training run: shards ``NAME`` of members, ``steps-NAME`` of trajectories."""

    job: Job

    def in_threads(self) -> bool:
        """The compiled engine runs in threads."""
        return self.job.engine == "compiled"

    def compute(self, piece: Task) -> Members:
        """Train the members of a task."""
        return run_members(self.job, piece.first, piece.count)

    def names(self, piece: Task) -> tuple[str, ...]:
        """One shard, or two where trajectories are recorded."""
        recorded = piece.first < self.job.spec.record_runs
        return (piece.name, f"steps-{piece.name}")[: 2 if recorded else 1]

    def shards(self, piece: Task, result: Members) -> list[Shard]:
        """The columns of the members; their trajectories before them."""
        columns = {name: getattr(result, name) for name in self._columns}
        table = arrow_table({**key_columns(result.words), **columns})
        shards = [Shard(piece.name, table)]
        if len(self.names(piece)) > 1:
            rows = dict(result.trajectory)
            steps = arrow_table({**key_columns(rows.pop("words")), **rows})
            shards.insert(0, Shard(f"steps-{piece.name}", steps))
        return shards

    def read(self, store: RunDir, piece: Task) -> Members:
        """The members of a task from its shards."""
        found, *more = [store.read_shard(name) for name in self.names(piece)]
        m = self.job.problem.m
        for trajectory in more:
            trajectory["words"] = words_from_columns(trajectory, m)
        words = words_from_columns(found, m)
        columns = {name: found[name] for name in self._columns}
        return Members(words=words, trajectory=more[0] if more else {}, **columns)

    @property
    def _columns(self) -> tuple[str, ...]:
        return (*COLUMNS, ROBUST) if self.job.spec.robust else COLUMNS


RECORD_RUNS = 100
ENGINES = ("auto", "compiled", "torch")


@checked(
    **RUN_OPTIONS,
    problem=Kind(("Problem", "Network", "Module")),
    device=Text(),
    engine=Text(),
    loss=Text(),
    data=Maybe(Text()),
    classes=Maybe(Text()),
    label=Maybe(Text()),
    options=Maybe(Table()),
)
def train(
    problem: Problem | Network | Module,
    target: Any = None,
    *,
    train: int | Sequence[int] = 64,
    data: str | None = None,
    classes: str | None = None,
    label: str | None = None,
    missing: str = "refuse",
    scale: str | None = None,
    test: int = 100,
    runs: int | float = 1000,
    optimizer: str | Optimizer = "adam",
    lr: float | None = None,
    options: Mapping[str, float | bool] | None = None,
    loss: str = "ce",
    batch_size: int = 32,
    stop: str | Stop = "first-fit",
    max_epochs: int = 1000,
    check: int = 0,
    pretrain: int = 0,
    init_scale: float = 1.0,
    corrupt: float = 0.0,
    attack: int = 0,
    robust: float = 0,
    robust_steps: int = 10,
    data_seed: int | None = None,
    seed: int = 0,
    record: Sequence[int] = (),
    record_runs: int = RECORD_RUNS,
    device: str = "cpu",
    engine: str = "auto",
    members: int = 0,
    workers: int = 1,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    executor: str = "local",
    executor_options: dict[str, Any] | None = None,
    progress: Progress | None = None,
    complement: Complement | None = None,
) -> TrainResult:
    """Train ``runs`` networks on one training set and record the function each one finds.

    Parameters
    ----------
    problem : Problem, Network or Module
        What is to be learned, with the law of the initial parameters; or that law alone, and the
        task in the arguments that follow.
    target, train, data, classes, label, missing, scale, test, corrupt, attack, robust
        As of :class:`simprior.Problem`; with a problem they must be left out. On data and other
        real inputs ``robust`` is a radius, with a problem too: a member fits once attacks find no
        error in the boxes around its training inputs (:mod:`simprior.training.box`), and its
        errors in those around the held-out inputs are counted (``TrainResult.robust_error``).
    robust_steps : int
        With such a radius: gradient steps of an attack. Each costs as much as a step of training.
    runs : int
        Members of the ensemble.
    optimizer, lr, options
        Name, learning rate (default: that of ``torch.optim``) and options, see
        :mod:`simprior.training.spec`.
    loss : str
        ``ce``, ``mse`` (targets -1, +1), ``mse01`` (0, 1; class 1 iff z > 1/2) or ``hinge``.
    batch_size : int
        Examples a step; each epoch goes through the training set in a new random order.
    stop : str
        ``first-fit``, ``epochs:N``, ``loss:X`` or ``steps:N``, see
        :class:`simprior.training.spec.Stop`.
    max_epochs : int
        A member without success by then is given up (``guess-and-check``: networks drawn).
    check : int
        Steps between looks at the training error; 0: once an epoch, and before the first step.
    pretrain : int
        Epochs (at most) of a first stage on random labels: a bad initialisation.
    init_scale : float
        Factor on the initial weights (not the biases) of a network: training starts outside the
        prior, which P(f) stays with.
    data_seed : int, optional
        Of target, split, corruption and attack points; default ``seed``.
    record, record_runs
        Steps at which functions are recorded, for the first ``record_runs`` members.
    device : str
        ``cpu``, ``cuda`` or ``auto`` (the CPU: a small network is trained fastest in its cache).
    engine : str
        ``compiled`` (CPU, built-in activations), ``torch``, or ``auto``: compiled where possible.
        Both train the same members, up to float32 rounding. Modules are trained by torch.
    members : int
        Members trained at once by the torch engine (0: 256 on the CPU, 4,096 on CUDA; of a module
        as many as suit its size).
    workers, out, resume, overwrite, executor, executor_options, progress
        As in :func:`simprior.sample`.
    complement : callable, optional
        With ``out``: called with the result and the open run directory to write further files of
        the result, before the run is marked complete.

    Raises
    ------
    InputError, StoreError, DeviceError, Interrupted
    """
    job, how = make_job(locals()), RunOptions.of(locals())
    if out is None:
        return _run(job, how, None)
    job.spec.network.check_storable()
    source = job.problem.source
    recorded: dict[str, Any] = {"data": dict(source)} if source else {}
    recorded |= outputs_to_record(job.spec.network)
    with open_run(how, "train", job_config(job), **recorded) as store:
        products = [
            name for name in (RUNS, COUNTS, TRAJECTORIES) if name in store.manifest["files"]
        ]
        if store.finished(RUNS, *products):
            result = TrainResult.load(store.path)
            if complement is not None:
                complement(result, store)
                store.save()
            return result
        check_outputs(store.path, store.manifest["options"], job.spec.network)
        return _run(job, how, store, complement)


def make_job(given: Mapping[str, Any]) -> Job:
    """The job that the arguments of :func:`train`, by name, describe; nothing is trained.

    Raises :class:`InputError`, :class:`DeviceError`.
    """
    given, radius = _without_box(given)
    problem = make_problem(given)
    record = check_steps(given["record"])
    spec = TrainSpec(
        network=problem.network,
        optimizer=make_optimizer(given["optimizer"], given["lr"], given["options"]),
        stop=Stop.parse(given["stop"]),
        record=record,
        record_runs=whole("record_runs", given["record_runs"], 0) if record else 0,
        robust=radius,
        **{name: given[name] for name in _SPEC},
    )
    if spec.robust:
        from simprior.training.box import check_boxes

        check_boxes(problem, spec.robust)
    if isinstance(spec.network, Network):
        check_size(spec.network)
    runs = whole("runs", given["runs"], 1)
    check_fits(f"runs={runs}", runs * (8.0 * n_words(problem.m) + 24), "train fewer --runs")
    spec.max_steps(problem.size)
    device = "cpu" if given["device"] == "auto" else resolve_device(given["device"])
    engine = _engine(spec, device, given["engine"], problem.size)
    return Job(spec, problem, runs, device, engine, whole("members", given["members"], 0))


def _without_box(given: Mapping[str, Any]) -> tuple[Mapping[str, Any], Any]:
    """``given`` without ``robust`` where that is the radius of a box, and the radius (or 0)."""
    problem = given["problem"]
    if isinstance(problem, Problem):
        box = problem.n == 0
    else:
        box = given["data"] is not None or getattr(problem, "inputs", None) is not None
    return (dict(given) | {"robust": 0}, given["robust"]) if box else (given, 0)


def check_settings(given: Mapping[str, Any]) -> None:
    """Raise what :func:`train` would for these arguments (defaults filled in), without training."""
    defaults = {p.name: p.default for p in inspect.signature(train).parameters.values()}
    with unsaid():
        make_job({**defaults, **given})


def make_optimizer(
    optimizer: str | Optimizer, lr: float | None, options: Mapping[str, float | bool] | None
) -> Optimizer:
    """The optimiser named, or the one given. Raises :class:`InputError`."""
    if isinstance(optimizer, Optimizer):
        if lr is not None or options:
            raise InputError(
                "an Optimizer with lr or options", "either", "put them into the Optimizer"
            )
        return optimizer
    return Optimizer(optimizer, lr, dict(options or {}))


def make_problem(given: Mapping[str, Any]) -> Problem:
    """The problem that the arguments of :func:`train`, by name, describe.

    Raises :class:`InputError`.
    """
    problem, seed = given["problem"], given["data_seed"]
    task = {name: given[name] for name in TASK}
    if not isinstance(problem, Problem):
        return Problem(problem, seed=given["seed"] if seed is None else seed, **task)
    usual = inspect.signature(Problem).parameters
    for name, value in {**task, "data_seed": seed}.items():
        default = usual[name].default if name in usual else None
        if not (value is default or (isinstance(value, type(default)) and value == default)):
            raise InputError(
                f"{name}={shown(value)} with a Problem", "one of the two", "put it into the Problem"
            )
    return problem


def _engine(spec: TrainSpec, device: str, engine: str, size: int) -> str:
    """``compiled`` or ``torch``. Raises :class:`InputError` for what an engine cannot do."""
    Choice(ENGINES, "pass engine='auto'")("engine", engine)
    able = spec.compiled and device == "cpu"
    model = spec.network
    name = f"activation={model.activation_name}" if isinstance(model, Network) else "a torch module"
    name += f", robust={spec.robust:g}" if spec.robust else ""
    if engine == "compiled" and not able:
        raise InputError(
            f"engine='compiled' with device={device!r}, {name}",
            "the CPU and a built-in activation" + ", no attacks" * bool(spec.robust),
            "pass engine='auto'",
        )  # fmt: skip
    guess = spec.optimizer.rule == "guess"
    if guess and isinstance(model, Module):
        remedy = "use posterior with method='rejection', which draws modules until they fit"
        raise InputError("optimizer='guess-and-check' with a torch module", "a Network", remedy)
    if guess and (engine == "torch" or not able):
        raise InputError(
            "optimizer='guess-and-check' with torch", "the CPU and a built-in activation",
            "leave device and engine out",
        )  # fmt: skip
    if able and engine != "torch":
        return "compiled"
    if isinstance(model, Network):
        differentiable(model, "training")
    else:
        check_trainable(model, spec.batch(size), device)
    return "torch"


def check_trainable(module: Module, batch: int, device: str) -> None:
    """Raise :class:`InputError` for a module without gradients, or one too large to be trained."""
    from simprior.training.module_members import ModuleBatch

    ModuleBatch(module, batch, device)


def job_config(job: Job) -> dict[str, Any]:
    """What determines the result, for ``config.toml``; equal on resume.

    The network has the key ``network`` (a module ``modules``) if functions are Boolean, else
    ``architecture`` (its inputs are those of the problem).
    """
    spec = job.spec.to_dict()
    network = spec.pop("network")
    return {
        key_of(job.problem): network,
        **spec,
        "runs": job.runs,
        "problem": job.problem.describe(),
        "device": job.device,
        "engine": job.engine,
    }


def _run(
    job: Job, how: RunOptions, store: RunDir | None, complement: Complement | None = None
) -> TrainResult:
    result = _joined(job, run_sharded(Training(job), split(job), how, store))
    if store is not None:
        result.save_to(store, complement)
        store.clear_shards()
    return result


def _joined(job: Job, parts: list[Members]) -> TrainResult:
    join = lambda name: np.concatenate([getattr(p, name) for p in parts])  # noqa: E731
    rows = [p.trajectory for p in parts if len(p.trajectory.get("run", ()))]
    keys = ("run", "step", "words", "errors", "loss")
    trajectory = {k: np.concatenate([row[k] for row in rows]) for k in keys} if rows else {}
    return TrainResult(
        join("words"), join("steps"), join("first_fit"), join("errors"), join("loss"),
        job.problem.describe(), job_config(job), trajectory,
        join(ROBUST) if job.spec.robust else None,
    )  # fmt: skip
