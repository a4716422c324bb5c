"""The trained weights of members of an ensemble, made again.

No run stores weights. A member is known by (seed, member, steps): :func:`retrain_members` trains it
again for exactly that number of steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from simprior.engine import run_tasks
from simprior.errors import InputError
from simprior.parameters import Parameters
from simprior.training import _member as kernel
from simprior.training._plan import Plan, make_plan, make_scratch
from simprior.training._plan import parameter_slices as slices
from simprior.training.spec import Stop, TrainSpec
from simprior.training.targets import Problem

_TORCH_CHUNK = 256


def trained_parameters(spec: TrainSpec, problem: Problem, member: int, steps: int) -> Parameters:
    """Parameters of ``member`` after exactly ``steps`` steps (pre-training comes before them)."""
    found = retrain_members(spec, problem, [member], [steps]).parameters[0]
    return Parameters.from_flat(found, spec.network)


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
    members and workers. The torch engine repeats the same operations in batches of another make-up
    (equal up to float32 rounding). ``guess-and-check`` draws network ``steps`` of each member.

    Parameters
    ----------
    spec, problem
        Those of the run.
    members, steps : (N,) integers
        Members, and the steps each has done (``TrainResult.steps``).
    engine, device : str
        ``compiled`` or ``torch``, as the run was made.
    workers : int
        Processes; results do not depend on it.

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
    size = _TORCH_CHUNK if engine == "torch" else max(1, min(64, -(-len(members) // (4 * workers))))
    tasks = [(at, members[at : at + size], steps[at : at + size])
             for at in range(0, len(members), size)]  # fmt: skip
    parts: dict[int, Retrained] = {}
    run_tasks(
        partial(_retrain_task, spec, problem, engine, device), tasks,
        workers=min(workers, len(tasks)),
        on_result=lambda task, found: parts.__setitem__(task[0], found),
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
        from simprior.training._torch_replay import retrain_with_torch

        return Retrained(*retrain_with_torch(spec, problem, members, steps, device))
    return _retrain_compiled(spec, problem, members, steps)


def _retrain_compiled(
    spec: TrainSpec, problem: Problem, members: np.ndarray, steps: np.ndarray
) -> Retrained:
    spec = replace(spec, stop=Stop("steps", max(int(steps.max()), 1)), record=(), record_runs=0)
    plan = make_plan(spec, problem)
    P, scratch = make_scratch(plan)
    index = np.concatenate([part.ravel() for part in slices(spec.network)])
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
