"""What determines the result of a training run, and nothing else."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from simprior.activations import code_of, has_gradient
from simprior.checks import NETWORK, Kind, shown, whole
from simprior.errors import InputError
from simprior.network import Network
from simprior.rng import check_seed
from simprior.training.losses import check_loss
from simprior.training.optimizers import Optimizer

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
    recorded, for the first ``record_runs`` members.
    """

    network: Network
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

    def __post_init__(self) -> None:
        NETWORK("network", self.network)
        Kind(("Optimizer",))("optimizer", self.optimizer)
        Kind(("Stop",))("stop", self.stop)
        check_loss(self.loss)
        object.__setattr__(self, "seed", check_seed(self.seed))
        for name, low in (("batch_size", 1), ("max_epochs", 1), ("check", 0), ("pretrain", 0)):
            object.__setattr__(self, name, whole(name, getattr(self, name), low))
        if not has_gradient(self.network) and self.optimizer.rule != "guess":
            what = f"activation={self.network.activation_name!r}"
            remedy = "train with guess-and-check, or another activation"
            raise InputError(what, "an activation with a gradient", remedy)
        object.__setattr__(self, "record_runs", whole("record_runs", self.record_runs, 0))
        steps = check_steps(self.record)
        if list(steps) != sorted(set(steps)):
            what = f"record={shown(self.record)}"
            raise InputError(what, "increasing steps >= 0", "write for example 0,10,100")

    @property
    def compiled(self) -> bool:
        """Whether the compiled kernel knows the activation (else torch trains)."""
        return code_of(self.network) is not None

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
        if self.record:
            out |= {"record": list(self.record), "record_runs": self.record_runs}
        return out
