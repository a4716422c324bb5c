"""What robustness costs: ln P of the labels on all strings within k flips of the training strings.

Three events under one prior, at infinite width:

* ``strings``: the labels of the training strings alone;
* ``balls``: the same labels on all strings within k flips (:mod:`simprior.boolean.balls`);
* ``places``: as many labels, the same ones, at random places: strings drawn without replacement,
  and the labels of the balls in random order.

A cost is ln P of what it is compared with, minus ln P of the balls, in nats. That against the
strings alone is never below 0, since the balls contain them; against random places it is negative
where robust functions are the likelier ones.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.boolean.balls import NOT_BITS, robust_labels
from simprior.checks import Integer, Whole, checked
from simprior.errors import InputError
from simprior.gp.orthant import Columns, Request, compute, run_batches, summarise
from simprior.network.spec import bit_matrix
from simprior.numerics import random as rng
from simprior.numerics.estimate import mean_stderr
from simprior.routes.evidence import SEED, kernel_of
from simprior.runs.tasks import RunOptions

if TYPE_CHECKING:
    import pandas as pd

    from simprior.modules.spec import Module
    from simprior.network.spec import Network

SETS = ("strings", "balls", "places")


@dataclass(frozen=True)
class Event:
    """Labels (b,) of the strings ``index`` (b,); ``part`` is one of ``SETS``."""

    part: str
    index: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class Cost:
    """A difference of ln P in nats, with its standard error."""

    value: float
    stderr: float


@checked(robust=Integer(0), places=Whole(0, 10**6), seed=SEED)
def robust_events(
    strings: np.ndarray,
    labels: np.ndarray,
    n: int,
    *,
    robust: int = 1,
    places: int = 8,
    seed: int = 0,
) -> list[Event]:
    """The labels alone, on the balls, and ``places`` times at random places, in this order.

    ``strings`` (s,) are numbers of inputs of ``n`` bits, ``labels`` (s,) 0/1. Raises
    :class:`InputError` for more flips than bits, or balls of opposite labels that overlap.
    """
    index, around = robust_labels(strings, labels, robust, n)
    found = [Event("strings", strings, labels), Event("balls", index, around)]
    for place in range(places):
        source = rng.generator(seed, "robust/places", place)
        at = np.sort(source.permutation(1 << n)[: len(index)])
        found.append(Event("places", at, source.permutation(around)))
    return found


def bits_only(network: Network | Module, robust: int) -> int:
    """n of a network on all strings of n bits. Raises :class:`InputError` for other inputs."""
    if network.inputs is not None:
        raise InputError(f"robust={robust} with inputs", NOT_BITS, "leave robust or inputs out")
    return int(network.n)


def on_strings(network: Network | Module, index: np.ndarray) -> Network | Module:
    """A network on bits, on the strings ``index`` alone."""
    inputs = bit_matrix(network.n, network.encoding)[index]
    return replace(network, n=inputs.shape[1], inputs=inputs)


def costs(found: Iterable[tuple[str, float, float]]) -> dict[str, Cost]:
    """Cost of the balls against ``strings``, and against random ``places`` where there are any.

    ``found`` has the part, ln P and standard error of each event. Estimates are independent, so
    their errors add in squares. Of several random places the error is that of their mean, which
    has both the scatter of the places and the errors of their estimates; of one it is its own.
    """
    rows = list(found)
    by = {part: [(value, error) for name, value, error in rows if name == part] for part in SETS}
    balls = by["balls"][0]
    out = {"strings": _cost(by["strings"][0], balls)}
    if by["places"]:
        values = np.array([value for value, _ in by["places"]])
        error = mean_stderr(values) if len(values) > 1 else by["places"][0][1]
        out["places"] = _cost((float(values.mean()), float(error)), balls)
    return out


def _cost(reference: tuple[float, float], balls: tuple[float, float]) -> Cost:
    return Cost(reference[0] - balls[0], math.hypot(reference[1], balls[1]))


@dataclass(frozen=True)
class RobustRequest:
    """The labels of ``tables`` (F, 2^n) at ``strings``, on balls of radius ``robust``.

    ``names`` are F texts; ``options`` those of the estimators; ``kernel_draws`` for modules.
    """

    network: Network | Module
    tables: np.ndarray
    names: tuple[str, ...]
    strings: np.ndarray
    robust: int
    places: int = 8
    methods: tuple[str, ...] = ("tilted",)
    seed: int = 0
    kernel_draws: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def pieces(self) -> list[tuple[str, Event]]:
        """(name, event) of all events of all functions. Raises :class:`InputError`."""
        n = bits_only(self.network, self.robust)
        how = {"robust": self.robust, "places": self.places, "seed": self.seed}
        return [
            (name, event)
            for name, table in zip(self.names, self.tables, strict=True)
            for event in robust_events(self.strings, table[self.strings], n, **how)
        ]

    def compute(self, piece: tuple[str, Event]) -> Columns:
        """The rows of an event: a row a method, columns as of ``simprior logp``, with its part."""
        name, event = piece
        network = on_strings(self.network, event.index)
        K = kernel_of(network, 1, self.methods, self.kernel_draws, self.seed)
        labels = np.asarray(event.labels, np.uint8)[None]
        one = Request(K, labels, self.methods, self.seed, options=self.options)
        rows = len(self.methods)
        about = {"name": name, "part": event.part, "labels": len(event.index)}
        columns = {key: np.array([value] * rows) for key, value in about.items()}
        columns |= {key: columns[key].astype(object) for key in ("name", "part")}
        return columns | compute(one, slice(0, 1))


def robust_table(
    request: RobustRequest, *, config: Mapping[str, Any] | None = None, **run: Any
) -> pd.DataFrame:
    """ln P of all events of a request: a row an event and method; ``out`` as of ``simprior logp``.

    Raises :class:`InputError` before anything is computed or written; StoreError, Interrupted.
    """
    import pandas as pd

    pieces = request.pieces()
    columns = run_batches(
        "logp",
        request.compute,
        pieces,
        partial(_digest, request),
        RunOptions(**run),
        config=config or {},
        amount=lambda piece: len(request.methods),
        join=lambda columns: columns | {"index": np.arange(len(columns["index"]))},
        totals=lambda columns: {**summarise(columns), **_noted(columns)},
        threads=True,
    )
    return pd.DataFrame(columns)


def cost_table(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a function and method: what robustness costs against strings and places, in nats."""
    import pandas as pd

    rows = []
    for (name, method), part in frame.groupby(["name", "method"], sort=False):
        found = costs(part[["part", "logp", "stderr"]].itertuples(index=False, name=None))
        row: dict[str, Any] = {"name": name, "method": method}
        for against, cost in found.items():
            row |= {f"against_{against}": cost.value, f"against_{against}_stderr": cost.stderr}
        rows.append(row)
    return pd.DataFrame(rows)


def _noted(columns: Columns) -> dict[str, Any]:
    """What the manifest says beyond the totals of ``simprior logp``: functions, and their costs."""
    import pandas as pd

    names = ("name", "method", "part", "logp", "stderr")
    frame = pd.DataFrame({name: columns[name] for name in names})
    rows = cost_table(frame).to_dict("records")
    costs = [{str(key): value for key, value in row.items()} for row in rows]
    return {"functions": frame["name"].nunique(), "costs": costs}


def _digest(request: RobustRequest, piece: tuple[str, Event]) -> str:
    name, event = piece
    about = (request.network.digest(), name, event.part, event.index.tolist())
    how = (event.labels.tolist(), request.methods, request.seed, request.kernel_draws)
    text = repr((about, how, sorted(request.options.items())))
    return hashlib.sha256(text.encode()).hexdigest()
