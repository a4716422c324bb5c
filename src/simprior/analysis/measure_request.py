"""What is to be measured: the settings of a :class:`Request`, and the ranges they must be in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simprior.checks import finite, shown, whole
from simprior.errors import InputError


@dataclass(frozen=True)
class Request:
    """What is measured, and with which settings; see ``measure.measure_runs``."""

    groups: tuple[str, ...]
    alphas: tuple[float, ...] = (1.0,)
    draws: int | None = None
    tol: float | None = None
    delta: float = 0.01
    zeta: float = 1e-4
    radius: float = 0.05
    noise: float = 0.9
    held_out: float = 0.0
    prior_from: str | None = None
    seed: int = 0
    device: str = "cpu"
    data: str | None = None
    label: str | None = None

    def prior_options(self) -> dict[str, Any]:
        """Options of the estimator of ln P."""
        given = {"draws": self.draws, "tol": self.tol}
        return {name: value for name, value in given.items() if value is not None}


def check_settings(**settings: Any) -> None:
    """Raise :class:`InputError` for a setting of ``measure.measure_runs`` outside its range."""
    if "networks" in settings:
        whole("networks", settings.pop("networks"), 1)
    if "alphas" in settings:
        check_alphas(settings.pop("alphas"))
    ranges = {
        "tol": (0, np.inf),
        "delta": (0, 1),
        "zeta": (0, np.inf),
        "radius": (0, np.inf),
        "noise": (-1, 1),
        "held_out": (0, 1),
    }
    for name, value in settings.items():
        low, high = ranges[name]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        number = number and finite(value)
        inside = value is None or (number and low < value < high)
        inside |= number and (name, value) in (("noise", -1), ("noise", 1), ("held_out", 0))
        if not inside:
            span = f"a number from {low} to {high}" if high < np.inf else f"a finite number > {low}"
            span = "a number >= 0 and < 1" if name == "held_out" else span
            raise InputError(f"{name}={shown(value)}", span, f"change --{name}".replace("_", "-"))


def check_alphas(alphas: Sequence[float] | float) -> tuple[float, ...]:
    """The factors as numbers. Raises :class:`InputError` unless distinct, finite and > 0."""
    given: list[Any] = list(alphas) if isinstance(alphas, list | tuple) else [alphas]
    good = all(
        isinstance(a, int | float) and not isinstance(a, bool) and 0 < a < np.inf for a in given
    )
    if not given or not good or len(set(given)) < len(given):
        raise InputError(
            f"alphas={shown(alphas)}",
            "distinct finite factors > 0",
            "pass for example --alphas 1,4",
        )
    return tuple(float(a) for a in given)
