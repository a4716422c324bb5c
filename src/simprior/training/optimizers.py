"""Optimisers by name, with the options and defaults of ``torch.optim``.

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
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from simprior.checks import Number, Table, finite, shown, unknown
from simprior.errors import InputError

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
