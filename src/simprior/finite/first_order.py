"""ln P(f) of wide networks to first order in 1/width: ln P_n = ln P_infinity + c/n.

The correction (:mod:`simprior.finite.fluctuations`; of layers of several widths, a sum of
c_l/n_l) is an expectation over the outputs of the infinitely wide network given f, which the tilted
estimator draws with weights, and over independent units. Everything is drawn in independent groups,
so the error of the whole is a jackknife over the groups.

What is left out is of order 1/n^2. Between widths 10 and 1,600 it was mostly below the square of
the correction, but not where the parts of a correction cancel: of parity at n = 3 and width 10
(relu, sigma_w 1.4, sigma_b 0.3) the correction is -0.16 nats, and 0.25 are left out. Beyond a
correction of ``RANGE`` nats nothing is claimed, nor with layers of fewer than ``NARROWEST`` units:
what no power of 1/n holds matters there (of relu networks without biases, that all n units are
dead: 2^-n). No weights are annealed and no
hidden layers of the given width are drawn: this shares no code with the other methods at finite
width, and the wider the network the better it is.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from time import perf_counter

import numpy as np

from simprior.boolean.truthtable import input_matrix
from simprior.finite.attempts import Effort
from simprior.finite.auto import is_its_limit
from simprior.finite.fluctuations import Basis, Directions, Layer, Units, layers_of
from simprior.gp.covariance import (
    Event,
    Factor,
    Reduction,
    check_memory,
    factor,
    make_event,
    reduce_inputs,
)
from simprior.gp.kernels import nngp
from simprior.gp.tilted import K_LIMIT, pareto_k, prepare, sample
from simprior.network.spec import Network
from simprior.numerics import random as rng
from simprior.numerics.estimate import LogProb
from simprior.runs.directory import RunDir
from simprior.runs.sharded import Shard, Work, run_sharded
from simprior.runs.tasks import RunOptions, one_thread

DRAWS = 32768  # outputs given f, in all groups
GROUPS = 32
MOST_GROUPS = 512
FEWEST = 64  # draws a group
UNITS = 8192  # of the last hidden layer, a group
DIRECTIONS = (32, 64)  # of each layer below, a group: at least, at most
ENTRIES = 1 << 19  # of the matrices of the directions, a group and layer
RANGE = 1.5  # nats; beyond it the next orders matter
NARROWEST = 10  # units of a layer; below it nothing was compared
METHOD = "first-order"


@dataclass(frozen=True)
class Sums:
    """What one group found of one function.

    ``draws``; ``pareto_k`` of their weights; the sums over them of the weights, of their squares,
    and of weight times correction, in units of exp(``scale``).
    """

    draws: int
    scale: float
    weight: float
    square: float
    shift: float
    pareto_k: float
    converged: bool
    seconds: float


@dataclass(frozen=True)
class Group:
    """One group of draws, units and directions; ``digest`` is that of the request."""

    number: int
    digest: str
    size: int = 1

    @property
    def name(self) -> str:
        """Name of its shard."""
        return f"first-order-{self.digest}-{self.number:05d}"

    @property
    def range(self) -> Mapping[str, str]:
        """What its shard must have been made with."""
        return {"digest": self.digest}


@dataclass(frozen=True)
class Limit:
    """The infinitely wide network on the inputs that ``reduction`` keeps.

    ``K`` (m, m) is the covariance of its outputs there, ``matrix`` its factor, ``basis`` the basis
    in which they are N(0, I), ``layers`` the hidden layers.
    """

    reduction: Reduction
    K: np.ndarray
    matrix: Factor
    basis: Basis
    layers: list[Layer]

    @classmethod
    def of(cls, network: Network) -> Limit:
        """That of a network. Raises :class:`NumericalError` if the rank of K cannot be told."""
        X = input_matrix(network)
        full = nngp(network, X)
        reduction = reduce_inputs(full)
        K = np.ascontiguousarray(reduction.kernel(full))
        matrix = factor(K)
        layers = layers_of(network, X[reduction.keep])
        return cls(reduction, K, matrix, Basis.of(matrix), layers)


@dataclass(frozen=True, eq=False)
class Expansion(Work[Group, "list[Sums]"]):
    """The work: a network, functions (F, m), and the draws of a group."""

    network: Network
    tables: np.ndarray
    draws: int
    seed: int

    @cached_property
    def digest(self) -> str:
        """What identifies the request."""
        text = hashlib.sha256(self.network.digest().encode() + self.tables.tobytes())
        text.update(repr((self.draws, self.seed)).encode())
        return text.hexdigest()[:16]

    @cached_property
    def limit(self) -> Limit:
        """The infinitely wide network."""
        return Limit.of(self.network)

    def compute(self, piece: Group) -> list[Sums]:
        """One group: the same units for every function."""
        limit = self.limit
        with one_thread():
            moving = self._fluctuations(piece.number)
            kept, _ = limit.reduction.reduce_labels(self.tables)
            events = (make_event(bits, limit.K, limit.matrix) for bits in kept)
            return [self._sums(event, moving, piece.number) for event in events]

    def _fluctuations(self, number: int) -> list[tuple[int, Units | Directions]]:
        """(width, fluctuations) of each hidden layer."""
        low, high = DIRECTIONS
        basis, layers = self.limit.basis, self.limit.layers
        count = max(low, min(high, ENTRIES // len(self.limit.K) ** 2))
        found: list[tuple[int, Units | Directions]] = []
        for layer, width in zip(layers, self.network.hidden, strict=True):
            source = rng.generator(self.seed, f"first-order/units/{layer.number}", number)
            if layer.number == self.network.depth:
                found.append((width, Units.draw(layer, basis, UNITS, source)))
            else:
                found.append((width, Directions.draw(layer, basis, count, source)))
        return found

    def _sums(
        self, event: Event, moving: Sequence[tuple[int, Units | Directions]], number: int
    ) -> Sums:
        began = perf_counter()
        sites, twist = prepare(event, None)
        chunks, logw, _, _ = sample(
            event, twist, self.draws, self.seed, stream=f"first-order/{number}", keep=True
        )
        outputs = np.concatenate([part.points() for part in chunks]) * event.signs
        angles = self.limit.basis.points(outputs)
        angles /= np.linalg.norm(angles, axis=1)[:, None]
        terms = np.zeros(len(angles))
        for width, drawn in moving:
            terms += drawn.terms(angles) / width
        w = np.exp(logw - sites.logz)
        sums = (float(w.sum()), float(w @ w), float(w @ terms))
        seconds = perf_counter() - began
        return Sums(self.draws, sites.logz, *sums, pareto_k(w), bool(sites.converged), seconds)

    def shards(self, piece: Group, result: list[Sums]) -> list[Shard]:
        """One table a group, a row a function."""
        names = tuple(Sums.__dataclass_fields__)
        columns = {name: np.array([getattr(one, name) for one in result]) for name in names}
        return [Shard(piece.name, columns)]

    def read(self, store: RunDir, piece: Group) -> list[Sums]:
        """What :meth:`shards` kept."""
        columns = store.read_shard(piece.name)
        rows = zip(*(columns[name].tolist() for name in Sums.__dataclass_fields__), strict=True)
        return [Sums(*row) for row in rows]


def estimate_first_order(
    network: Network,
    tables: np.ndarray,
    effort: Effort,
    seed: int,
    options: RunOptions,
    store: RunDir | None = None,
) -> list[LogProb]:
    """ln P_infinity + c/n for (F, m) truth tables that some network of this prior computes.

    ``effort.draws`` are the outputs drawn given each function; with ``effort.tol`` groups are added
    until the standard error (nats) is reached. The error is that of the estimate of ln P_infinity
    + c/n; it does not hold the next orders, see ``RANGE``.

    Returns
    -------
    list of LogProb
        Diagnostics: ``limit`` (ln P_infinity), ``correction`` (c/n, nats), ``correction_stderr``,
        ``pareto_k``, ``draws``, ``low``, ``high``, ``reliable`` and ``converged`` (the correction
        and the widths are within their range and the weights of the draws can be trusted),
        ``reason``, ``seconds``.

    Raises
    ------
    NumericalError
        The kernel of the limit is singular to working precision.
    """
    check_memory(network.m, options.workers)
    work = Expansion(network, tables, draws_of(effort), seed)
    groups, narrow = _run(work, range(GROUPS), options, store), _narrow(network)
    found = [_result([group[i] for group in groups], narrow) for i in range(len(tables))]
    if effort.tol is None:
        return found
    wanted = [_wanted(one, effort.tol) for one in found]
    groups += _run(work, range(GROUPS, max(wanted)), options, store)
    found = [
        _result([group[i] for group in groups[:count]], narrow) for i, count in enumerate(wanted)
    ]
    return [
        replace(one, diagnostics={**one.diagnostics, "tol_reached": one.stderr <= effort.tol})
        for one in found
    ]


def draws_of(effort: Effort) -> int:
    """Outputs drawn given f in each group."""
    return max(FEWEST, -(-(effort.draws or DRAWS) // GROUPS))


def _run(
    work: Expansion, numbers: range, options: RunOptions, store: RunDir | None
) -> list[list[Sums]]:
    return run_sharded(work, [Group(k, work.digest) for k in numbers], options, store)


def _wanted(found: LogProb, tol: float) -> int:
    """Groups that ``tol`` asks for; no more where the value is not trusted anyway."""
    error = found.stderr if found.diagnostics["reliable"] else tol
    return min(MOST_GROUPS, math.ceil(GROUPS * max(1.0, error / tol) ** 2))


def _narrow(network: Network) -> list[str]:
    """What speaks against the widths, in words."""
    least = min(network.hidden, default=NARROWEST)
    if least >= NARROWEST or is_its_limit(network):
        return []
    return [f"a layer of width {least}: {NARROWEST} or more for the first order"]


def _result(groups: Sequence[Sums], narrow: Sequence[str]) -> LogProb:
    """The estimate of one function from its groups; ``narrow`` are doubts of all functions."""
    count = len(groups)
    draws, weight, square, shift = (
        np.array([getattr(one, name) for one in groups], float)
        for name in ("draws", "weight", "square", "shift")
    )
    limit = groups[0].scale + math.log(weight.sum() / draws.sum())
    correction = float(shift.sum() / weight.sum())
    rest = weight.sum() - weight
    corrections = (shift.sum() - shift) / rest
    values = np.log(rest / (draws.sum() - draws)) + corrections
    stderr, of_correction = (
        math.sqrt((count - 1) / count * float(((x - x.mean()) ** 2).sum()))
        for x in (values, corrections)
    )
    shape = float(np.mean([one.pareto_k for one in groups]))
    doubts = [*narrow]
    if not abs(correction) <= RANGE:
        doubts.append(f"a correction of {correction:.2g} nats: up to {RANGE} for the first order")
    if shape > K_LIMIT:
        doubts.append(f"Pareto k-hat {shape:.2g} of the draws: up to {K_LIMIT}")
    if not all(one.converged for one in groups):
        doubts.append("EP did not converge")
    value = limit + correction
    diagnostics = {
        "reliable": not doubts,
        "converged": not doubts,
        "reason": "; ".join(doubts),
        "low": math.nan if doubts else value - 1.96 * stderr,
        "high": math.nan if doubts else value + 1.96 * stderr,
        "limit": limit,
        "correction": correction,
        "correction_stderr": of_correction,
        "pareto_k": shape,
        "draws": int(draws.sum()),
        "seconds": sum(one.seconds for one in groups),
    }
    ess = float(weight.sum() ** 2 / square.sum())
    return LogProb(value, math.nan if doubts else stderr, ess, METHOD, diagnostics)
