"""Members of an ensemble again: their initial parameters, minibatches, noise, and trained weights.

For tests, for the torch engine, and for whatever needs the weights of members that are known by
(seed, member, steps) alone: no run stores weights, :func:`retrain_members` makes them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from simprior.engine import run_tasks
from simprior.errors import InputError
from simprior.network import Network
from simprior.parameters import Parameters
from simprior.rng import philox_key
from simprior.training import _member as kernel
from simprior.training import _random
from simprior.training._plan import STREAMS, Plan, geometry, make_plan, make_scratch
from simprior.training._plan import parameter_slices as slices
from simprior.training._random import flat_size
from simprior.training.spec import Stop, TrainSpec
from simprior.training.targets import Problem

_TORCH_CHUNK = 256


def unpadded(P: np.ndarray, network: Network) -> Parameters:
    """Parameters in a padded vector of the compiled kernel."""
    parts = [P[index] for index in slices(network)]
    weights = (w.reshape(f, -1) for w, f in zip(parts[::2], network.fan_ins, strict=True))
    return Parameters(tuple(weights), tuple(parts[1::2]))


class Source:
    """Random choices of the members of ``(network, seed)``, for any member."""

    def __init__(self, network: Network, seed: int) -> None:
        self._network = network
        self._net, length = geometry(self._network)
        self._init, self._order, self._noise, self._labels = (
            np.uint64(philox_key(seed, name)) for name in STREAMS
        )
        self._P = np.zeros(length, np.float32)
        self._flat = np.zeros(flat_size(self._net[0]), np.float32)
        self._buf = np.zeros(32, np.uint64)
        self._words = self._buf.view(np.uint32)

    def parameters(self, member: int) -> Parameters:
        """Initial parameters of ``member``."""
        n = self._network
        pairs = list(zip(n.sigma_ws, n.sigma_bs, n.fan_ins, strict=True))
        scales = np.array([s / np.sqrt(f) for s, _, f in pairs], np.float32)
        ratios = np.array([b * np.sqrt(f) / s for s, b, f in pairs], np.float32)
        _random.draw_parameters(
            self._P, self._net, scales, ratios, n.weight_dist == "uniform", np.uint64(member),
            self._init, self._flat, self._buf, self._words,
        )  # fmt: skip
        return unpadded(self._P.copy(), n)

    def order(self, member: int, epoch: int, size: int) -> np.ndarray:
        """(size,) order of the examples in an epoch (from 0) of ``member``."""
        perm = np.zeros(size, np.int64)
        _random.shuffle(perm, epoch, np.uint64(member), self._order, self._buf, self._words)
        return perm

    def weighted(self, member: int, step: int, weights: np.ndarray, count: int) -> np.ndarray:
        """``count`` examples for step ``step`` (from 0), drawn in proportion to ``weights``."""
        chosen = np.zeros(count, np.int64)
        _random.draw_weighted(
            chosen, np.asarray(weights, np.float32), np.zeros(len(weights)), step,
            np.uint64(member), self._order, self._buf, self._words,
        )  # fmt: skip
        return chosen

    def labels(self, member: int, size: int) -> np.ndarray:
        """(size,) labels 0/1 of the pre-training stage of ``member``."""
        y = np.zeros(size, np.float32)
        _random.random_labels(y, np.uint64(member), self._labels, self._buf, self._words)
        return y

    def noise(self, member: int, step: int) -> Parameters:
        """Standard normals added at step ``step`` (from 1) by SGLD and Entropy-SGD."""
        out = np.zeros_like(self._P)
        _random.draw_noise(out, step, np.uint64(member), self._noise, self._buf, self._words)
        return unpadded(out, self._network)


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
