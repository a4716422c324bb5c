"""The settings of ``measure``: :class:`MeasureSettings` declares each of them, once.

A field has the name of the keyword of ``sp.measure``, its default, and a line of help. The command
line makes its flags from these fields, recipes check their ``[measure]`` against them, and the
manifest of a run records them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from simprior.checks import Maybe, Number, Validator, shown, whole
from simprior.errors import InputError
from simprior.numerics.random import check_seed
from simprior.runs.tasks import resolve_device
from simprior.training.settings import Setting


def _number(name: str, low: float, high: float, expected: str, closed: bool = False) -> Validator:
    remedy = f"change --{name}".replace("_", "-")
    return Number(low, high, open=not closed, expected=expected, remedy=remedy)


RANGES: Mapping[str, Validator] = {
    "tol": Maybe(_number("tol", 0, np.inf, "a finite number > 0")),
    "delta": _number("delta", 0, 1, "a number from 0 to 1"),
    "zeta": _number("zeta", 0, np.inf, "a finite number > 0"),
    "radius": _number("radius", 0, np.inf, "a finite number > 0"),
    "noise": _number("noise", -1, 1, "a number from -1 to 1", closed=True),
    "held_out": _number("held_out", 0, np.nextafter(1, 0), "a number >= 0 and < 1", closed=True),
}
"""The range of every setting that is a number."""


@dataclass(frozen=True, kw_only=True)
class MeasureSettings:
    """What is measured, and how; the keywords of :func:`simprior.measure`.

    ``device`` is where measures of weights are computed. Raises :class:`InputError` for a number
    out of its range.
    """

    measures: Annotated[str | Sequence[str] | None, Setting("word?", "groups of measures")] = None
    networks: Annotated[
        int, Setting("count", "fitted networks of each run, or functions of a table")
    ] = 1000
    alphas: Annotated[
        tuple[float, ...],
        Setting(
            "numbers",
            "factors on the first hidden layer of relu networks, a row each; 1: as trained",
        ),
    ] = (1.0,)
    draws: Annotated[int | None, Setting("count?", "importance samples for each ln P(f)")] = None
    tol: Annotated[
        float | None, Setting("number?", "standard error wanted of each ln P(f), nats")
    ] = None
    delta: Annotated[float, Setting("number", "the bound may fail with this probability")] = 0.01
    zeta: Annotated[float, Setting("number", "half side of the box of the Keskar sharpness")] = 1e-4
    radius: Annotated[
        float, Setting("number", "half side of the box of the critical sample ratio of data")
    ] = 0.05
    noise: Annotated[float, Setting("number", "correlation rho of the noise stability")] = 0.9
    held_out: Annotated[
        float,
        Setting(
            "number", "share of the test inputs of data kept from all measures (held_out_error)"
        ),
    ] = 0.0
    data: Annotated[
        str | None,
        Setting("word?", "for runs trained on a data file: the file, which is read again"),
    ] = None
    label: Annotated[str | None, Setting("word?", "column with the classes of the data file")] = (
        None
    )
    prior_from: Annotated[
        Path | str | None,
        Setting("path?", "run of simprior sample: also ln P(f) from its frequencies"),
    ] = None
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        plain: dict[str, Any] = {
            name: check(name, getattr(self, name)) for name, check in RANGES.items()
        }
        plain = {k: v if v is None else float(v) for k, v in plain.items()} | {
            "alphas": check_alphas(self.alphas),
            "networks": whole("networks", self.networks, 1),
            "seed": check_seed(self.seed),
            "device": "cpu" if self.device == "auto" else resolve_device(self.device),
        }
        if self.prior_from is not None:
            plain["prior_from"] = str(Path(self.prior_from).absolute())
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> MeasureSettings:
        """The settings among the arguments ``given`` by name; what is missing has its default."""
        return cls(**{one.name: given[one.name] for one in fields(cls) if one.name in given})


NAMES = tuple(one.name for one in fields(MeasureSettings) if one.name != "device")
"""Names of the settings, which a recipe may give."""
_RECORDED = (
    *("groups", "alphas", "draws", "tol", "delta", "zeta", "radius", "noise", "held_out"),
    *("prior_from", "seed", "device", "data", "label"),
)


@dataclass(frozen=True, kw_only=True)
class Request(MeasureSettings):
    """The settings together with the groups of measures that they mean for what is measured."""

    groups: tuple[str, ...] = ()

    def prior_options(self) -> dict[str, Any]:
        """Options of the estimator of ln P."""
        given = {"draws": self.draws, "tol": self.tol}
        return {name: value for name, value in given.items() if value is not None}

    def config(self) -> dict[str, Any]:
        """Plain values for the run directory; a setting that is None is left out."""
        found = {name: getattr(self, name) for name in _RECORDED}
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in found.items()
            if value is not None
        }


def check_alphas(alphas: Any) -> tuple[float, ...]:
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
