"""ln P(f) at finite width with the last layer integrated out: for wide networks.

Given the hidden layers the outputs are Gaussian, and P(f | hidden layers) is an orthant
probability (:mod:`simprior.gp.finite_width`). P(f) is its mean over hidden layers drawn from the
prior, exactly and at every width. The wider the network, the less ln P(f | hidden layers) varies:
where it varies by more than 2 nats, or few draws carry the mean, the value is not to be trusted,
and has no error.

Draws that miss the largest P(f | hidden layers) give too small a mean, too small an error, and pass
these checks more easily than others. So the error is never less than :func:`normal_error`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from time import perf_counter

import numpy as np

from simprior.boolean.truthtable import input_matrix
from simprior.errors import NumericalError
from simprior.finite.attempts import Effort
from simprior.gp.finite_width import MAX_SPREAD, combine, given_hidden, last_features
from simprior.gp.tilted import FEWEST, K_LIMIT
from simprior.network.spec import Network
from simprior.numerics import random as rng
from simprior.numerics.estimate import LogProb
from simprior.runs.directory import RunDir
from simprior.runs.sharded import Shard, Work, run_sharded
from simprior.runs.tasks import RunOptions, one_thread

DRAWS = 200  # of the hidden layers
BATCH = 10  # of them in a piece
MOST = 20_000  # of them for ``tol``


@dataclass(frozen=True)
class Batch:
    """``size`` draws of the hidden layers from number ``start`` on; ``digest`` of the request."""

    start: int
    size: int
    digest: str

    @property
    def name(self) -> str:
        """Name of its shard."""
        return f"conditional-{self.digest}-{self.start:06d}"

    @property
    def range(self) -> Mapping[str, str | int]:
        """What its shard must have been made with."""
        return {"digest": self.digest, "draws": self.size}


@dataclass(frozen=True)
class Part:
    """What a batch found: ``logs`` (draws, F), nats, and the time of one core in seconds."""

    logs: np.ndarray
    seconds: float


@dataclass(frozen=True, eq=False)
class Conditional(Work[Batch, Part]):
    """The work: a network, functions (F, m) and a seed.

    The numbers of a function depend neither on the other functions nor on the batches.
    """

    network: Network
    tables: np.ndarray
    seed: int

    @cached_property
    def digest(self) -> str:
        """What identifies the request."""
        text = hashlib.sha256(self.network.digest().encode() + self.tables.tobytes())
        text.update(repr((self.seed, FEWEST)).encode())
        return text.hexdigest()[:16]

    def compute(self, piece: Batch) -> Part:
        """ln P(f | hidden layers) for each draw and function."""
        began = perf_counter()
        X = input_matrix(self.network)
        with one_thread(), np.errstate(invalid="ignore"):
            numbers = range(piece.start, piece.start + piece.size)
            logs = np.stack([self._draw(X, number) for number in numbers])
        return Part(logs, perf_counter() - began)

    def _draw(self, X: np.ndarray, number: int) -> np.ndarray:
        """(F,) values for one draw of the hidden layers; nan where EP diverges."""
        source = rng.generator(self.seed, "hidden-layers", number)
        features = last_features(self.network, X, source)
        entropy = rng.derive(self.seed, "inner", number)
        try:
            return given_hidden(features, self.tables, FEWEST, entropy)
        except NumericalError:  # of one function: the others have their values
            return np.array([_alone(features, table, entropy) for table in self.tables])

    def shards(self, piece: Batch, result: Part) -> list[Shard]:
        """One table a batch: a row a draw and function."""
        columns = {"logp": result.logs.ravel()}
        return [Shard(piece.name, columns, {"seconds": result.seconds})]

    def read(self, store: RunDir, piece: Batch) -> Part:
        """What :meth:`shards` kept."""
        logs = store.read_shard(piece.name)["logp"].reshape(piece.size, len(self.tables))
        return Part(logs, float(store.shards[piece.name]["meta"]["seconds"]))


def _alone(features: np.ndarray, table: np.ndarray, entropy: bytes) -> float:
    try:
        return float(given_hidden(features, table[None], FEWEST, entropy)[0])
    except NumericalError:
        return math.nan


def estimate_conditional(
    network: Network,
    tables: np.ndarray,
    effort: Effort,
    seed: int,
    options: RunOptions,
    store: RunDir | None = None,
) -> list[LogProb]:
    """ln P of (F, m) truth tables by averaging P(f | hidden layers).

    ``effort.draws`` hidden layers are drawn, the same for all functions; with ``effort.tol`` as
    many more as the worst trusted function needs for this standard error (nats).

    Returns
    -------
    list of LogProb
        Diagnostics as of :func:`simprior.gp.finite_width.conditional_log_prior`, ``low``, ``high``
        and ``reason``. ``stderr`` is nan where ``reliable`` is False.
    """
    drawn = Drawn(Conditional(network, tables, seed), options, store)
    return finished(drawn, effort)


@dataclass(frozen=True)
class Drawn:
    """The draws so far of one request; :meth:`more` gives a longer one."""

    work: Conditional
    options: RunOptions
    store: RunDir | None
    parts: tuple[Part, ...] = field(default=())

    @property
    def count(self) -> int:
        """Number of draws of the hidden layers."""
        return sum(len(part.logs) for part in self.parts)

    def more(self, count: int) -> Drawn:
        """With ``count`` draws in all, if there are not as many."""
        starts, digest = range(self.count, count, BATCH), self.work.digest
        pieces = [Batch(at, min(BATCH, count - at), digest) for at in starts]
        found = run_sharded(self.work, pieces, self.options, self.store) if pieces else []
        return replace(self, parts=(*self.parts, *found))

    def only(self, index: Sequence[int]) -> Drawn:
        """The same draws for some of the functions."""
        work = replace(self.work, tables=self.work.tables[index])
        share = len(index) / len(self.work.tables)
        parts = tuple(Part(part.logs[:, index], share * part.seconds) for part in self.parts)
        return replace(self, work=work, parts=parts)

    def results(self, counts: Sequence[int] | None = None) -> list[LogProb]:
        """The estimate of each function, from its first ``counts`` draws (all by default)."""
        logs = np.concatenate([part.logs for part in self.parts])
        seconds = sum(part.seconds for part in self.parts) / max(logs.shape[1], 1)
        used = counts or [len(logs)] * logs.shape[1]
        columns = zip(logs.T, used, strict=True)
        return [_checked(column[:count], seconds) for column, count in columns]


def finished(drawn: Drawn, effort: Effort) -> list[LogProb]:
    """The estimates after as many draws as ``effort`` asks for."""
    drawn, tol = drawn.more(effort.draws or DRAWS), effort.tol
    found = drawn.results()
    if tol is None:
        return found
    errors = [one.stderr if one.diagnostics["reliable"] else tol for one in found]
    wanted = [math.ceil(drawn.count * max(1.0, error / tol) ** 2) for error in errors]
    wanted = [min(max(MOST, drawn.count), count) for count in wanted]
    found = drawn.more(max(wanted)).results(wanted)
    return [
        replace(one, diagnostics={**one.diagnostics, "tol_reached": one.stderr <= tol})
        for one in found
    ]


def _checked(logs: np.ndarray, seconds: float) -> LogProb:
    """The estimate; without an error, and with a reason, where it is not to be trusted."""
    known = logs[~np.isnan(logs)]
    lost = len(logs) - len(known)
    found = combine(known if len(known) else np.full(1, -math.inf), seconds)
    doubts = f"EP diverged on {lost} of {len(logs)} draws" if lost else _doubts(found)
    stderr = math.nan if doubts else max(found.stderr, normal_error(known))
    diagnostics = {
        **found.diagnostics,
        "reliable": not doubts,
        "converged": not doubts,
        "reason": doubts,
        "low": found.value - 1.96 * stderr,
        "high": found.value + 1.96 * stderr,
    }
    return replace(found, stderr=stderr, diagnostics=diagnostics)


def normal_error(logs: np.ndarray) -> float:
    """Standard error of ln mean exp(``logs``) were they normal, as wide as their upper half is.

    The upper half alone decides the mean. Its width is the root mean square distance above the
    median. Values of -inf are shares of the draws that add nothing.
    """
    finite = logs[np.isfinite(logs)]
    if not len(finite):
        return 0.0
    above = np.maximum(finite - np.median(finite), 0.0)
    width = 2.0 * float(np.mean(above**2))
    relative = len(logs) / len(finite) * math.exp(min(width, 700.0)) - 1.0
    return math.sqrt(relative / len(logs))


def _doubts(found: LogProb) -> str:
    """What speaks against the value, in words; nothing if it can be believed."""
    known = found.diagnostics
    if known["reliable"]:
        return ""
    if math.isinf(found.value):
        return f"none of {known['draws']} draws of the hidden layers allows it"
    if not known["spread"] <= MAX_SPREAD:
        said = f"ln P given the hidden layers varies by {known['spread']:.2g} nats between draws"
        return f"{said}, up to {MAX_SPREAD:g} can be averaged"
    if known["pareto_k"] > K_LIMIT:
        return f"Pareto k-hat {known['pareto_k']:.2g} of the draws: up to {K_LIMIT}"
    return f"{found.ess:.2g} effective draws of {known['draws']} carry the mean"
