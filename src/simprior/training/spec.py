"""What determines the result of a training run: the spec, and the job that it becomes.

A :class:`TrainSpec` is what determines the result, and nothing else. A :class:`Job` is a spec, a
problem and a number of members; a task of it is a range of members. These are the types that the
engines take and return; they know no engine.

Optimisers have the names, options and defaults of ``torch.optim``:

========================  ========================================================================
sgd, momentum, nesterov   ``torch.optim.SGD`` (momentum 0; 0.9; 0.9 with ``nesterov``)
gd                        the same on the full training set (the batch size is its size)
adam, adamw, rmsprop,     ``torch.optim`` classes of these names
adagrad, adadelta
sgld                      Langevin: dw = -lr g + sqrt(2 lr T) N(0, 1), T the ``temperature``; its
                          stationary density is exp(-loss / T) (Welling & Teh, ICML 2011)
entropy-sgd               Chaudhari et al., ICLR 2017, Algorithm 1: inner Langevin steps
                          x' <- x' - inner_lr (g - gamma (x - x')) + sqrt(inner_lr) noise N(0, 1),
                          mu <- (1 - alpha) mu + alpha x'; every ``inner_steps`` of them
                          x <- x - lr (x - mu) (lr is eta gamma of the paper), x', mu <- x. The
                          network is x; a step is one gradient
advsgd                    SGD with minibatches drawn by loss: example i with probability
                          proportional to (its loss)^power, with replacement
guess-and-check           no gradient: networks are drawn until one fits (Chiang et al., ICLR 2023)
========================  ========================================================================

``weight_decay`` adds weight_decay * w to the gradient (``adamw``: w shrinks by lr weight_decay
instead), for weights and biases alike.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from simprior.checks import ARCHITECTURE, Kind, Number, Table, finite, shown, unknown, whole
from simprior.errors import InputError
from simprior.modules.spec import Module
from simprior.network.activations import code_of, has_gradient
from simprior.network.losses import check_loss
from simprior.network.spec import Network
from simprior.numerics.random import check_seed
from simprior.training.targets import Problem

_SGD = {"weight_decay": 0.0, "momentum": 0.0, "dampening": 0.0, "nesterov": False}
_ADAM = {"weight_decay": 0.0, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "amsgrad": False}

_KNOWN: dict[str, tuple[str, float, dict[str, float | bool]]] = {
    "sgd": ("sgd", 1e-3, _SGD),
    "momentum": ("sgd", 1e-3, {**_SGD, "momentum": 0.9}),
    "nesterov": ("sgd", 1e-3, {**_SGD, "momentum": 0.9, "nesterov": True}),
    "gd": ("sgd", 1e-3, _SGD),
    "adam": ("adam", 1e-3, _ADAM),
    "adamw": ("adamw", 1e-3, {**_ADAM, "weight_decay": 1e-2}),
    "rmsprop": (
        "rmsprop", 1e-2,
        {"weight_decay": 0.0, "alpha": 0.99, "eps": 1e-8, "momentum": 0.0, "centered": False},
    ),
    "adagrad": (
        "adagrad", 1e-2,
        {"weight_decay": 0.0, "lr_decay": 0.0, "initial_accumulator_value": 0.0, "eps": 1e-10},
    ),
    "adadelta": ("adadelta", 1.0, {"weight_decay": 0.0, "rho": 0.9, "eps": 1e-6}),
    "sgld": ("sgld", 1e-2, {"weight_decay": 0.0, "temperature": 1e-4}),
    "entropy-sgd": (
        "entropy", 1.0,
        {"weight_decay": 0.0, "inner_lr": 0.1, "inner_steps": 20.0, "gamma": 0.03, "alpha": 0.75,
         "noise": 1e-4},
    ),
    "advsgd": ("sgd", 1e-3, {**_SGD, "power": 1.0}),
    "guess-and-check": ("guess", 1.0, {}),
}  # fmt: skip
OPTIMIZERS = tuple(_KNOWN)
CODES = ("sgd", "adam", "adamw", "rmsprop", "adagrad", "adadelta", "sgld", "entropy")
"""Update rules in the order of their codes in the compiled kernel."""

_SHARES = {"momentum", "dampening", "beta1", "beta2", "alpha", "rho"}
_MAX = {"power": 100.0}


@dataclass(frozen=True)
class Optimizer:
    """An optimiser, its learning rate and all its options (defaults filled in).

    Raises :class:`InputError` on an unknown name or option, or a value out of range.
    """

    name: str = "adam"
    lr: float | None = None
    options: Mapping[str, float | bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or self.name not in _KNOWN:
            name = shown(self.name).strip("'")
            raise unknown(f"optimizer={name!r}", name, OPTIMIZERS, "pass for example adam")
        _, lr, defaults = _KNOWN[self.name]
        object.__setattr__(self, "lr", _check_lr(lr if self.lr is None else self.lr))
        merged = dict(defaults)
        for key, value in Table()("options", self.options).items():
            merged[key] = _check_option(self.name, key, value, defaults)
        if merged.get("nesterov") and (merged["momentum"] == 0 or merged["dampening"] != 0):
            raise InputError(
                f"nesterov with momentum={merged['momentum']}, dampening={merged['dampening']}",
                "momentum > 0 and dampening 0", "pass momentum=0.9",
            )  # fmt: skip
        object.__setattr__(self, "options", merged)

    @property
    def rule(self) -> str:
        """The update rule: one of ``CODES``, or ``guess``."""
        return _KNOWN[self.name][0]

    @property
    def full_batch(self) -> bool:
        """Whether every step uses the whole training set, whatever the batch size."""
        return self.name == "gd"

    @property
    def power(self) -> float:
        """Exponent of the loss in the probability of an example; 0: shuffled minibatches."""
        return float(self.options.get("power", 0.0))

    def scalars(self) -> np.ndarray:
        """Scalars for the compiled kernel: lr, then the options in the order of the table."""
        return np.array([self.lr, *map(float, self.options.values()), 0.0], np.float64)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for manifests."""
        return {"optimizer": self.name, "lr": self.lr, "optimizer_options": dict(self.options)}


def _check_lr(lr: Any) -> float:
    remedy, expected = "pass for example --lr 0.01", "a finite learning rate > 0"
    return float(Number(0, open=True, remedy=remedy, expected=expected)("lr", lr))


def _check_option(
    name: str, key: str, value: Any, defaults: Mapping[str, float | bool]
) -> float | bool:
    if key not in defaults:
        raise unknown(f"option {key}={shown(value)} of {name}", key, defaults, "leave it out")
    if isinstance(defaults[key], bool):
        text = shown(value).lower().strip("'")
        if text not in {"true", "false", "0", "1"}:
            raise InputError(
                f"option {key}={shown(value)} of {name}", "true or false", "correct it"
            )
        return text in {"true", "1"}
    number = isinstance(value, int | float | np.floating) and not isinstance(value, bool)
    high = 1.0 if key in _SHARES else _MAX.get(key, math.inf)
    low_open = key in {"inner_lr", "inner_steps", "power"}
    strict_high = key in {"beta1", "beta2", "rho"}
    if (
        not number or not finite(value) or value < 0 or value > high
        or (low_open and value == 0) or (strict_high and value == high)
        or (key == "inner_steps" and value != int(value))
    ):  # fmt: skip
        span = f"{'>' if low_open else '>='} 0" + ("" if high == math.inf else f" and <= {high:g}")
        raise InputError(
            f"option {key}={shown(value)} of {name}",
            f"a number {span}",
            f"default: {defaults[key]}",
        )
    return float(value)


_STOP = re.compile(r"(first-fit)\Z|(epochs|steps):(\d+(?:e\d+)?)\Z|(loss):([0-9.eE+-]+)\Z")
STOPS = ("first-fit", "epochs", "loss", "steps")
MAX_STEPS = 2**32 - 1


@dataclass(frozen=True)
class Stop:
    """When a member is done.

    * ``first-fit``: at the first check with zero training error;
    * ``epochs:N``: at the first check with zero training error N or more epochs after that;
    * ``loss:X``: at the first check with zero training error and mean loss <= X;
    * ``steps:N``: after exactly N steps.
    """

    kind: str = "first-fit"
    value: float = 0.0

    @classmethod
    def parse(cls, text: Any) -> Stop:
        """Read the text form; :class:`InputError` if it is none of the four."""
        if isinstance(text, Stop):
            return text
        match = _STOP.match(text.strip()) if isinstance(text, str) else None
        try:
            if match and match[1]:
                return cls()
            if match and match[2] and (match[2] == "epochs" or float(match[3]) >= 1):
                return cls(match[2], float(match[3]))
            if match and match[4] and math.isfinite(float(match[5])) and float(match[5]) > 0:
                return cls("loss", float(match[5]))
        except ValueError:
            pass
        what = f"stop={shown(text)}"
        raise InputError(what, "first-fit, epochs:N, loss:X or steps:N", "pass --stop first-fit")

    @property
    def text(self) -> str:
        """The text form."""
        if self.kind == "first-fit":
            return self.kind
        return (
            f"{self.kind}:{self.value:g}"
            if self.kind == "loss"
            else (f"{self.kind}:{int(self.value)}")
        )


def check_steps(record: Any) -> tuple[int, ...]:
    """Steps at which to record, as ints; :class:`InputError` unless whole numbers >= 0."""
    if not isinstance(record, Sequence | np.ndarray) or isinstance(record, str | bytes):
        raise InputError(f"record={shown(record)}", "a list of steps", "pass for example (0, 10)")
    return tuple(whole("record", step, 0, MAX_STEPS) for step in record)


@dataclass(frozen=True)
class TrainSpec:
    """How the members of an ensemble are trained (the data are a ``targets.Problem``).

    ``check`` is the number of steps between looks at the training error (0: once an epoch);
    ``max_epochs`` the limit after which a member is given up; ``pretrain`` the largest number of
    epochs of a first stage on random labels of the same inputs, until they are fitted (a bad
    initialisation, Liu et al. 2020; 0: none); ``record`` the steps at which a trajectory is
    recorded, for the first ``record_runs`` members; ``init_scale`` a factor on the initial weights
    (not on the biases): training starts at a draw of :attr:`start`, while P(f) stays that of
    ``network``; ``robust`` the radius of the box around each input in which it is attacked, by
    ``robust_steps`` steps (:mod:`simprior.training.box`; 0: none).
    """

    network: Network | Module
    optimizer: Optimizer = field(default_factory=Optimizer)
    loss: str = "ce"
    batch_size: int = 32
    stop: Stop = field(default_factory=Stop)
    max_epochs: int = 1000
    check: int = 0
    pretrain: int = 0
    seed: int = 0
    record: tuple[int, ...] = ()
    record_runs: int = 0
    init_scale: float = 1.0
    robust: float = 0.0
    robust_steps: int = 10

    def __post_init__(self) -> None:
        ARCHITECTURE("network", self.network)
        Kind(("Optimizer",))("optimizer", self.optimizer)
        Kind(("Stop",))("stop", self.stop)
        check_loss(self.loss)
        object.__setattr__(self, "seed", check_seed(self.seed))
        for name, low in (("batch_size", 1), ("max_epochs", 1), ("check", 0), ("pretrain", 0)):
            object.__setattr__(self, name, whole(name, getattr(self, name), low))
        object.__setattr__(self, "init_scale", self._check_init_scale())
        object.__setattr__(self, "robust", self._check_robust())
        if isinstance(self.network, Network):  # modules are tried out before they are trained
            self._check_gradient(self.network)
        object.__setattr__(self, "record_runs", whole("record_runs", self.record_runs, 0))
        steps = check_steps(self.record)
        if list(steps) != sorted(set(steps)):
            what = f"record={shown(self.record)}"
            raise InputError(what, "increasing steps >= 0", "write for example 0,10,100")

    def _check_init_scale(self) -> float:
        remedy = "pass for example --init-scale 3"
        scale = float(Number(0, open=True, remedy=remedy)("init_scale", self.init_scale))
        if scale == 1:
            return scale
        what = ""
        if not isinstance(self.network, Network):
            what = "a torch module"
        elif self.optimizer.rule == "guess":
            what = "guess-and-check"
        if what:
            expected = "1, or a Network that is trained by gradients"
            raise InputError(f"init_scale={scale:g} with {what}", expected, "leave init_scale out")
        return scale

    def _check_robust(self) -> float:
        remedy = "pass for example --robust 0.1"
        expected = "the radius >= 0 of a box around each input"
        radius = float(Number(0, remedy=remedy, expected=expected)("robust", self.robust))
        usual = type(self).robust_steps
        steps = whole("robust_steps", self.robust_steps, 1)
        if not radius and steps != usual:
            raise InputError(f"robust_steps={steps} without robust", "robust", "leave it out")
        if radius and self.optimizer.rule == "guess":
            what, expected = f"robust={radius:g} with guess-and-check", "training by gradients"
            raise InputError(what, expected, "leave robust out")
        return radius

    @property
    def start(self) -> Network | Module:
        """What the initial parameters are a draw of: ``network``, its weights scaled."""
        if self.init_scale == 1 or not isinstance(self.network, Network):
            return self.network
        scaled = tuple(self.init_scale * sigma for sigma in self.network.sigma_ws)
        return replace(self.network, sigma_w=scaled)

    def _check_gradient(self, network: Network) -> None:
        if not has_gradient(network) and self.optimizer.rule != "guess":
            what = f"activation={network.activation_name!r}"
            remedy = "train with guess-and-check, or another activation"
            raise InputError(what, "an activation with a gradient", remedy)

    @property
    def compiled(self) -> bool:
        """Whether the compiled kernel can do it (else torch trains): the activation is built in,
        and inputs are not attacked."""
        known = isinstance(self.network, Network) and code_of(self.network) is not None
        return known and not self.robust

    def batch(self, size: int) -> int:
        """Examples a step on a training set of ``size``."""
        return size if self.optimizer.full_batch else min(self.batch_size, size)

    def max_steps(self, size: int) -> int:
        """Limit in steps (draws for guess-and-check)."""
        if self.stop.kind == "steps":
            steps = int(self.stop.value)
        elif self.optimizer.rule == "guess":
            steps = self.max_epochs
        else:
            steps = self.max_epochs * -(-size // self.batch(size))
        if steps > MAX_STEPS:
            expected = f"at most {MAX_STEPS}"
            raise InputError(f"{steps} steps", expected, "lower --max-epochs or raise --batch-size")
        return steps

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the manifest."""
        out: dict[str, Any] = {
            "network": {
                k: v for k, v in self.network.to_dict().items() if v is not None and k != "inputs"
            },
            **self.optimizer.to_dict(),
            "loss": self.loss,
            "batch_size": self.batch_size,
            "stop": self.stop.text,
            **{name: getattr(self, name) for name in ("max_epochs", "check", "pretrain", "seed")},
        }
        if self.init_scale != 1:
            out["init_scale"] = self.init_scale
        if self.robust:
            out |= {"robust": self.robust, "robust_steps": self.robust_steps}
        if self.record:
            out |= {"record": list(self.record), "record_runs": self.record_runs}
        return out


_TASK_SECONDS, _GUESSED_STEPS = 0.5, 500
_FLOPS, _UPDATES = 2e10, 1.5e9  # multiply-adds and parameter updates a second, roughly
_LEAST_TASKS, _MOST_MEMBERS = 16, 4096
_TASKS_OF_MODULES = 8
_TORCH_MEMBERS = {"cpu": 4096, "cuda": 1 << 16}


@dataclass(frozen=True)
class Job:
    """What determines the members of a run."""

    spec: TrainSpec
    problem: Problem
    runs: int
    device: str = "cpu"
    engine: str = "compiled"
    members: int = 0

    def __hash__(self) -> int:
        return id(self.problem)


@dataclass(frozen=True)
class Task:
    """Members ``first .. first + count - 1``."""

    index: int
    first: int
    count: int

    @property
    def name(self) -> str:
        """Name of the shard."""
        return f"{self.index:06d}"

    @property
    def range(self) -> dict[str, int]:
        """Which members it is of: its shard is registered with them."""
        return {"first": self.first, "count": self.count}

    @property
    def size(self) -> int:
        """Units of progress: members."""
        return self.count


@dataclass(frozen=True)
class Members:
    """Columns of some members, as in ``TrainResult``; the trajectory has a row a recorded step.

    ``robust_errors`` are counted where inputs are attacked.
    """

    words: np.ndarray
    steps: np.ndarray
    first_fit: np.ndarray
    errors: np.ndarray
    loss: np.ndarray
    trajectory: dict[str, np.ndarray]
    robust_errors: np.ndarray | None = None


def split(job: Job) -> list[Task]:
    """Tasks of a second or so each; they depend on the job alone."""
    network, batch = job.spec.network, job.spec.batch(job.problem.size)
    if not isinstance(network, Network):
        return _ranges(job.runs, _task_of_modules(job, network, batch))
    layers = zip(network.fan_ins, (*network.hidden, 1), strict=True)
    weights = sum((f + 1) * k for f, k in layers)
    step = 3 * weights * batch / _FLOPS + weights / _UPDATES
    steps = min(_GUESSED_STEPS, job.spec.max_steps(job.problem.size))
    members = int(_TASK_SECONDS / (step * steps))
    size = max(1, min(members, _MOST_MEMBERS, -(-job.runs // _LEAST_TASKS)))
    if job.engine == "torch":
        size = _TORCH_MEMBERS[job.device]
    return _ranges(job.runs, size)


def _ranges(runs: int, size: int) -> list[Task]:
    return [Task(i, a, min(size, runs - a)) for i, a in enumerate(range(0, runs, size))]


def _task_of_modules(job: Job, module: Module, batch: int) -> int:
    """Members of a task: as many as are trained at once, and enough for a few tasks in all."""
    from simprior.modules.sizes import Sizes

    sizes = Sizes.of(module, batch, job.device)
    at_once = sizes.together(job.members) if job.members else sizes.most
    wanted = min(_TORCH_MEMBERS[job.device], -(-job.runs // _TASKS_OF_MODULES))
    return at_once * max(1, -(-wanted // at_once))


def empty_members(count: int, words: int) -> Members:
    """Arrays for ``count`` members."""
    whole = lambda: np.zeros(count, np.int64)  # noqa: E731
    words_of = np.zeros((count, words), np.uint64)
    return Members(words_of, whole(), whole(), whole(), np.zeros(count), {})


def empty_watch(count: int, steps: Sequence[int], words: int) -> tuple[np.ndarray, ...]:
    """The ``watch`` tuple of the kernel: steps, tables, errors, losses."""
    return (
        np.array(steps, np.int64), np.zeros((count, len(steps), words), np.uint64),
        np.zeros((count, len(steps)), np.int64), np.zeros((count, len(steps))),
    )  # fmt: skip


def trajectory_rows(
    watch: tuple[np.ndarray, ...], first: int, steps: np.ndarray
) -> dict[str, np.ndarray]:
    """Flat columns of the recorded steps that the members reached."""
    wanted, tables, errors, losses = watch
    member, k = np.nonzero(wanted[None, :] <= steps[:, None])
    return {
        "run": first + member, "step": wanted[k], "words": tables[member, k],
        "errors": errors[member, k], "loss": losses[member, k],
    }  # fmt: skip
