"""ln P(f) of a finite network by replica exchange: the second method, to check the first.

The sets {U <= level} of networks (:mod:`simprior.finite.exchange_kernels`), from all networks down
to nearly the function itself, are nested. P(f) is the product of the shares of each set that lie in
the next one; the last of them is the share that computes the function. One replica lives in each
set, and neighbours change places where they can, so that networks drawn anew at the top come down
all the way. Sets are told apart by what they contain, not by a weight: no first-order transition
can lie between two levels of U.

* A *pilot* adds rung below rung until a good share of the last one computes the function, plays all
  of them for a while, and places the levels evenly in ln P(U <= level). It is thrown away.
* A *run* plays replicas of its own on these levels. Runs are independent; their counts are added
  up, and the error is the jackknife's over runs, never less than what the autocorrelation within
  the runs says.

All that is drawn on any rung and lies in a set counts for the next share: for nested sets this is
the multi-state acceptance-ratio estimator (Shirts & Chodera 2008), and the product-limit one.

Nothing that draws is shared with annealed sequential Monte Carlo (:mod:`simprior.finite.smc`).
Sources: Au & Beck 2001 (nested sets), Okabe et al. 2001 and Syed et al. 2022 (alternating pairs).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

import numpy as np

from simprior.errors import check_fits
from simprior.finite import exchange_kernels as kernels
from simprior.finite.attempts import Attempts, Effort, with_decided
from simprior.finite.particles import check_network, distinct_inputs, make_machine
from simprior.finite.verdict import Mean
from simprior.network.spec import Network, check_size
from simprior.numerics import random as rng
from simprior.numerics.estimate import LogProb, sample_sd
from simprior.runs.directory import RunDir
from simprior.runs.sharded import Shard, Work
from simprior.runs.tasks import RunOptions

METHOD = "finite-exchange"
ROUNDS = 4  # counted rounds of a run for each particle of the effort
BURN_IN = 0.25  # rounds before them, as a share
SHARE = 0.4  # share of a set that lies in the next one
_WINDOW = 6  # rungs that are played while rungs are added
_TRIAL, _SETTLE = 96, 24  # rounds before another is added: in pilots, in runs
_PATIENCE = 2000  # rounds until a network comes down to the next rung
_CHUNK = 32  # rounds between two chances to interrupt
_FEWEST = 64  # rounds

RATIO = 2.5  # spread between runs over that of the autocorrelation within them
SPREAD = 0.25  # nats; a spread below it does no harm whatever the ratio
MOST_SPREAD = 1.0  # nats
JOURNEYS = 20  # fresh networks that came down to the last rung, in all runs
INDEPENDENT = 10.0  # rounds of a run over its autocorrelation time
DISAGREE = 4.0  # standard errors between the halves of the runs


@dataclass(frozen=True)
class Setup:
    """One function of one network: ``X`` (k, d) distinct inputs, ``bits`` (k,) their labels;
    ``rounds`` that count; ``sweeps`` a round; ``seed``; ``limit``, the most rungs."""

    network: Network
    X: np.ndarray
    bits: np.ndarray
    rounds: int
    sweeps: int
    seed: int
    limit: int

    def stream(self, part: str) -> str:
        """Name of the random stream of one part."""
        labels = np.packbits(self.bits).tobytes().hex()
        return f"{METHOD}/{part}/{self.rounds}/{self.sweeps}/{labels}"

    @property
    def burn_in(self) -> int:
        """Rounds of all rungs before those that count."""
        return max(_FEWEST, int(BURN_IN * self.rounds))


@dataclass(frozen=True)
class Rungs:
    """What a pilot found: ``levels`` (K,) of U, the first inf, falling; whether networks that
    compute the function were met; its own ln P (nats); seconds."""

    levels: np.ndarray
    complete: bool
    value: float
    seconds: float


@dataclass(frozen=True)
class Run:
    """Counts of one run on K rungs.

    ``tried`` (2, K): draws with U <= level k, on rungs up to k, in the two halves of the rounds;
    ``passed`` (2, K): those of them in the next set. ``error`` of ln P (nats) by autocorrelation;
    ``tau``, the autocorrelation time in rounds; ``down``, ``up``: journeys between the ends;
    ``angles`` tried a sweep; ``seconds``. All zeros where the last rung was not reached.
    """

    tried: np.ndarray
    passed: np.ndarray
    error: float
    tau: float
    down: float
    up: float
    angles: float
    seconds: float

    @property
    def value(self) -> float:
        """ln P of this run, nats."""
        return log_product(self.tried.sum(axis=0), self.passed.sum(axis=0))


class Replicas:
    """One network on each rung; changed by :meth:`play` and :meth:`descend`."""

    def __init__(self, setup: Setup, part: str) -> None:
        machine = make_machine(setup.network, setup.X)
        key = rng.philox_key(setup.seed, setup.stream(part))
        self.setup, self.size = setup, machine.size
        work = kernels.scratch(machine.net, len(setup.X))
        source = kernels.randomness(machine.net, machine.size, key)
        spare = np.empty(machine.size, np.float32)
        target = machine.labels(setup.bits)
        self.machine = (machine.net, machine.state, work, target, source, spare)
        self.levels = [math.inf]
        self.params = np.empty((1, machine.size), np.float32)
        self.values = np.empty(1, np.float32)
        self.heading = np.zeros(1, np.int64)
        self.trips = np.zeros(2, np.int64)
        self.angles = 0
        self._clock = np.zeros(1, np.int64)

    def play(self, rounds: int, low: int = 0) -> np.ndarray:
        """(rounds, K) values of U in so many rounds of the rungs from ``low`` on."""
        count = len(self.levels)
        trace = np.empty((rounds, count), np.float32)
        levels = np.array(self.levels, np.float32)
        for first in range(0, rounds, _CHUNK):
            part, sweeps = trace[first : first + _CHUNK], self.setup.sweeps
            replicas = (self.params, self.values, levels, self.heading)
            self.angles += kernels.play(
                replicas, (low, count), self._clock, self.machine, sweeps, part, self.trips
            )
        return trace

    def descend(self, level: float, rounds: int = 0) -> bool:
        """Add a rung, after so many rounds of those above: a copy of the last replica, once it
        lies in the set. False if it never does."""
        low = max(0, len(self.levels) - _WINDOW)
        self.play(rounds, low)
        for _ in range(_PATIENCE):
            if self.values[-1] <= level:
                break
            self.play(1, low)
        else:
            return False
        check_fits(f"rungs={len(self.levels)}", 8.0 * self.params.size, "use a smaller network")
        self.levels.append(level)
        self.params = np.concatenate([self.params, self.params[-1:]])
        self.values = np.concatenate([self.values, self.values[-1:]])
        self.heading = np.concatenate([self.heading, [0]])
        return True

    def forget(self) -> None:
        """Start to count journeys and angles."""
        self.heading[:], self.trips[:], self.angles = 0, 0, 0


def pilot(setup: Setup) -> Rungs:
    """The levels on which ``setup`` is to be played."""
    began = perf_counter()
    team = Replicas(setup, "pilot")
    complete = False
    while len(team.levels) <= setup.limit:
        last = team.play(_TRIAL, max(0, len(team.levels) - _WINDOW))[_TRIAL // 4 :, -1]
        complete = bool(np.mean(last == 0.0) >= SHARE)
        level = next_level(last)
        if complete or level is None or not team.descend(level):
            break
    if not complete:
        return Rungs(np.array(team.levels), False, -math.inf, perf_counter() - began)
    team.play(setup.burn_in)
    levels, value = placed(team.play(setup.rounds // 2), np.array(team.levels))
    return Rungs(levels, math.isfinite(value), value, perf_counter() - began)


def next_level(values: np.ndarray) -> float | None:
    """The level below which a share of at most ``SHARE`` of the values lies; None if all agree."""
    level = float(np.quantile(values, SHARE, method="lower"))
    if level < values.max():
        return level
    below = values[values < values.max()]
    return float(below.max()) if len(below) else None


def placed(trace: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, float]:
    """Levels evenly spaced in ln P(U <= level), and ln P(U = 0), from draws on other levels.

    The distribution of U is the product-limit estimate: of the draws that could be as large as u
    and are no larger, the share that is smaller.
    """
    values = np.sort(trace.astype(np.float64).ravel())
    limits = np.sort(np.repeat(levels, len(trace)))
    places, first = np.unique(values, return_index=True)
    no_larger = np.append(first[1:], len(values)) - np.searchsorted(limits, places, side="left")
    smaller = first - np.searchsorted(limits, places, side="left")
    with np.errstate(divide="ignore"):
        # ln P(U < u) for each place u, summed down from the largest
        below = np.cumsum(np.log(np.maximum(smaller, 0) / no_larger)[::-1])[::-1]
    up_to = np.append(below[1:], 0.0)  # ln P(U <= u)
    if places[0] != 0.0:
        return levels, -math.inf
    value = float(up_to[0])
    count = max(1, math.ceil(value / math.log(SHARE)))
    wanted = value * np.arange(1, count) / count
    chosen = places[np.searchsorted(up_to, wanted, side="right") - 1]
    return np.array([math.inf, *sorted(set(chosen[chosen > 0.0]), reverse=True)]), value


def run(setup: Setup, levels: np.ndarray, number: int) -> Run:
    """Run ``number`` on levels that are given."""
    began = perf_counter()
    team = Replicas(setup, f"run/{number}")
    if not all(team.descend(float(level), _SETTLE) for level in levels[1:]):
        nothing = np.zeros((2, len(levels)))
        return Run(nothing, nothing, 0.0, 0.0, 0.0, 0.0, 0.0, perf_counter() - began)
    team.play(setup.burn_in)
    team.forget()
    tried, passed = counts(team.play(setup.rounds), levels)
    error, tau = error_within(tried, passed)
    half = [0, setup.rounds // 2]
    sweeps = max(1, setup.rounds * setup.sweeps * (len(levels) - 1))
    down, up = (float(number) for number in team.trips)
    halves = np.add.reduceat(tried, half), np.add.reduceat(passed, half)
    return Run(*halves, error, tau, down, up, team.angles / sweeps, perf_counter() - began)


def counts(trace: np.ndarray, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``tried`` and ``passed`` (T, K) of each round: draws in set k on rungs up to k, and those of
    them in set k + 1 (the last: that compute the function)."""
    tried, passed = np.empty(trace.shape), np.empty(trace.shape)
    for k, level in enumerate(levels):
        drawn = trace[:, : k + 1]
        following = levels[k + 1] if k + 1 < len(levels) else 0.0
        tried[:, k] = (drawn <= level).sum(axis=1)
        passed[:, k] = (drawn <= following).sum(axis=1)
    return tried, passed


def log_product(tried: np.ndarray, passed: np.ndarray) -> float:
    """Sum of ln(passed / tried); -inf where nothing passed."""
    if not (passed > 0).all():
        return -math.inf
    return float(np.log(passed / tried).sum())


def error_within(tried: np.ndarray, passed: np.ndarray) -> tuple[float, float]:
    """Standard error (nats) of ln P from the rounds of one run, and the autocorrelation time.

    To first order ln P is the mean over rounds of sum over k of passed / mean passed - tried / mean
    tried. The autocorrelation time is summed up to five of itself (Sokal 1997).
    """
    if not (passed.sum(axis=0) > 0).all():
        return 0.0, 0.0
    series = (passed / passed.mean(axis=0) - tried / tried.mean(axis=0)).sum(axis=1)
    count = len(series)
    tau = autocorrelation_time(series)
    return math.sqrt(float(series.var()) * tau / count), tau


def autocorrelation_time(series: np.ndarray) -> float:
    """1 + 2 sum of autocorrelations up to the first lag of five times that; at least 1."""
    count = len(series)
    centred = series - series.mean()
    if not float(centred @ centred) > 0.0:
        return 1.0
    spectrum = np.fft.rfft(centred, 2 * count)
    covariance = np.fft.irfft(spectrum * spectrum.conj(), 2 * count)[:count]
    taus = 2.0 * np.cumsum(covariance / covariance[0]) - 1.0
    enough = np.flatnonzero(np.arange(count) >= 5.0 * taus)
    return max(1.0, float(taus[enough[0] if len(enough) else count - 1]))


@dataclass(frozen=True)
class Piece:
    """One pilot (``number`` -1) or one run of function ``index``; ``digest`` identifies the
    network, the function and the seed."""

    index: int
    digest: str
    rounds: int
    number: int = -1
    levels: tuple[float, ...] = ()
    size: int = 1

    @property
    def name(self) -> str:
        """Name of its shard."""
        part = "pilot" if self.number < 0 else f"run-{self.number:05d}"
        return f"{self.index:06d}-exchange-t{self.rounds}-{part}"

    @property
    def range(self) -> Mapping[str, Any]:
        """What its shard must have been made with."""
        levels = hashlib.sha256(repr(self.levels).encode()).hexdigest()[:16]
        return {"digest": self.digest, "levels": levels}


@dataclass(frozen=True, eq=False)
class Exchange(Work[Piece, "Rungs | Run"]):
    """The work: a network, functions (F, m), and what all pieces have in common."""

    network: Network
    tables: np.ndarray
    sweeps: int
    seed: int
    limit: int

    def in_threads(self) -> bool:
        """Sweeps are compiled."""
        return True

    def digest(self, index: int) -> str:
        """What identifies the estimate of one function, besides the fields of a piece."""
        text = hashlib.sha256(self.network.digest().encode() + self.tables[index].tobytes())
        text.update(repr((METHOD, self.sweeps, self.seed, self.limit)).encode())
        return text.hexdigest()[:16]

    def compute(self, piece: Piece) -> Rungs | Run:
        """The pilot or the run."""
        inputs = distinct_inputs(self.network)
        bits = inputs.labels(self.tables[piece.index])
        assert bits is not None  # what inputs alone decide has no pieces
        setup = Setup(
            self.network, inputs.X, bits, piece.rounds, self.sweeps, self.seed, self.limit
        )
        if piece.number < 0:
            return pilot(setup)
        return run(setup, np.array(piece.levels), piece.number)

    def shards(self, piece: Piece, result: Rungs | Run) -> list[Shard]:
        """One table a piece."""
        if isinstance(result, Rungs):
            value = result.value if math.isfinite(result.value) else None
            meta = {"complete": result.complete, "value": value, "seconds": result.seconds}
            return [Shard(piece.name, {"levels": result.levels}, meta)]
        pair = {"tried": result.tried, "passed": result.passed}
        columns = {f"{key}{half}": part[half] for key, part in pair.items() for half in (0, 1)}
        numbers = {k: float(v) for k, v in vars(result).items() if k not in pair}
        return [Shard(piece.name, columns, {"numbers": numbers})]

    def read(self, store: RunDir, piece: Piece) -> Rungs | Run:
        """What :meth:`shards` kept."""
        columns, meta = store.read_shard(piece.name), store.shards[piece.name]["meta"]
        if piece.number < 0:
            value = -math.inf if meta["value"] is None else float(meta["value"])
            return Rungs(columns["levels"], bool(meta["complete"]), value, meta["seconds"])
        tried, passed = (
            np.array([columns[f"{k}{h}"] for h in (0, 1)]) for k in ("tried", "passed")
        )
        return Run(tried, passed, **meta["numbers"])


@dataclass(frozen=True)
class Outcome:
    """All runs of one function, and whether to believe them."""

    particles: int
    rungs: Rungs
    runs: tuple[Run, ...]

    @property
    def value(self) -> float:
        """ln P of all runs together, nats."""
        return pooled(self.runs)

    @property
    def within(self) -> float:
        """Standard error by the autocorrelation within the runs, nats."""
        return math.sqrt(sum(run.error**2 for run in self.runs)) / len(self.runs)

    @property
    def stderr(self) -> float:
        """The larger of the jackknife's and that of the autocorrelation, nats."""
        count = len(self.runs)
        others = np.array([pooled([*self.runs[:i], *self.runs[i + 1 :]]) for i in range(count)])
        if not np.isfinite(others).all():
            return math.nan
        between = math.sqrt((count - 1) / count * float(((others - others.mean()) ** 2).sum()))
        return max(between, self.within, 1.0 / (count * self.rounds + 2.0))

    @property
    def spread(self) -> float:
        """Standard deviation of the runs' ln P, nats; nan where one is infinite."""
        return float(sample_sd(np.array([run.value for run in self.runs])))

    def doubts(self) -> list[str]:
        """What speaks against the value, in words; nothing if it can be believed."""
        if not self.rungs.complete:
            return [
                f"the pilot met too few networks that compute it on {len(self.rungs.levels)} rungs"
            ]
        lost = sum(math.isinf(run.value) for run in self.runs)
        if lost:
            return [f"{lost} of {len(self.runs)} runs met no network that computes it"]
        found = []
        ratio = self.spread / self.typical
        if self.spread > MOST_SPREAD or (ratio > RATIO and self.spread > SPREAD):
            found.append(f"runs differ by {self.spread:.2g} nats, {ratio:.2g} times what they may")
        down = sum(run.down for run in self.runs)
        if down < JOURNEYS or min(run.down for run in self.runs) < 1:
            found.append(f"only {down:.0f} fresh networks came down to the last rung")
        rounds = float(np.mean([self.rounds / run.tau for run in self.runs]))
        if rounds < INDEPENDENT:
            found.append(f"a run has {rounds:.2g} independent rounds")
        first, second = (pooled(self.runs, half) for half in (0, 1))
        if not abs(first - second) <= DISAGREE * 2.0 * self.stderr:
            found.append(f"the halves of the runs give {first:.2f} and {second:.2f}")
        return found

    @property
    def typical(self) -> float:
        """Spread of a run by its autocorrelation, nats."""
        return max(self.within * math.sqrt(len(self.runs)), 1e-12)

    @property
    def rounds(self) -> int:
        """Counted rounds of a run: draws on the first rung, which are all tried."""
        return int(self.runs[0].tried[:, 0].sum())

    def result(self) -> LogProb:
        """The estimate with its diagnostics; stderr nan where there are doubts.

        ``ess`` is the number of independent rounds of all runs.
        """
        if not self.runs:
            return self._nothing()
        doubts, count = self.doubts(), len(self.runs)
        stderr = math.nan if doubts else self.stderr
        low, high = Mean(self.value, stderr, self.spread, count).interval
        independent = sum(self.rounds / max(run.tau, 1.0) for run in self.runs)
        diagnostics = self._about(doubts) | {
            "low": low,
            "high": high,
            "stderr_error": stderr / math.sqrt(2 * (count - 1)),
            "spread": self.spread,
            "spread_ratio": self.spread / self.typical,
            "within": self.within,
            "ancestors": float(np.mean([run.down for run in self.runs])),
            "round_trips": sum(min(run.down, run.up) for run in self.runs),
            "tau": float(np.mean([run.tau for run in self.runs])),
            "rounds": self.rounds,
            "tries": float(np.mean([run.angles for run in self.runs])),
        }
        return LogProb(self.value, stderr, independent, METHOD, diagnostics)

    def _about(self, doubts: Sequence[str]) -> dict[str, Any]:
        return {
            "reliable": not doubts,
            "converged": not doubts,
            "reason": "; ".join(doubts),
            "steps": len(self.rungs.levels),
            "particles": self.particles,
            "runs": len(self.runs),
            "pilot": self.rungs.value,
            "seconds": self.rungs.seconds + sum(run.seconds for run in self.runs),
        }

    def _nothing(self) -> LogProb:
        """No value: the pilot did not get there."""
        return LogProb(math.nan, math.nan, 0.0, METHOD, self._about(self.doubts()))


def pooled(runs: Sequence[Run], half: int | None = None) -> float:
    """ln P from the counts of several runs, or of one half of their rounds."""
    tried = sum(run.tried if half is None else run.tried[half : half + 1] for run in runs)
    passed = sum(run.passed if half is None else run.passed[half : half + 1] for run in runs)
    return log_product(np.sum(tried, axis=0), np.sum(passed, axis=0))


def estimate_exchange(
    network: Network,
    tables: np.ndarray,
    effort: Effort,
    seed: int,
    options: RunOptions,
    store: RunDir | None = None,
) -> list[LogProb]:
    """ln P(f), in nats, for (F, m) truth tables.

    Parameters
    ----------
    network : Network
        As for :func:`simprior.finite.prior.log_prior_finite`.
    tables : array (F, m) of uint8
    effort : Effort
        ``runs`` R; ``particles`` N: a run has 4 N rounds; ``sweeps`` a round; ``tol``, ``max_runs``
        (further runs), ``max_particles`` (longer runs where a value is doubted), ``limit`` (most
        rungs). ``power`` and ``check`` mean nothing here.
    seed : int
        The result is a function of (seed, function, effort), not of ``options`` or ``store``.

    Returns
    -------
    list of LogProb
        ``stderr`` is nan where a check doubts the value: ``converged`` and ``reliable`` are False
        then, and ``reason`` says why. Diagnostics besides those of the first method: ``within``
        (nats, the error by autocorrelation), ``tau`` (rounds), ``round_trips``, ``rounds``;
        ``ancestors`` is the number of fresh networks that came down to the last rung, per run.

    Raises
    ------
    InputError, MemoryShortage, Interrupted, StoreError
    """
    check_network(network)
    check_size(network)
    work = Exchange(network, tables, effort.sweeps, seed, effort.limit)
    session = _Session(work, effort, options, store)
    return with_decided(network, tables, lambda todo: session.results(todo).values())


class _Session(Attempts[Exchange, Outcome]):
    """Attempts at all functions by exchange, each of them all functions at a time."""

    def attempt(self, todo: Sequence[int], particles: int) -> dict[int, Outcome]:
        """Pilots, and runs with the levels they found."""
        rounds = max(_FEWEST, ROUNDS * particles)
        asked = {i: Piece(i, self.work.digest(i), rounds) for i in todo}
        rungs = dict(zip(todo, self.run(asked.values()), strict=True))

        def runs(numbers: Mapping[int, range]) -> dict[int, tuple[Run, ...]]:
            pieces = [
                replace(asked[i], number=number, levels=tuple(rungs[i].levels.tolist()))
                for i, wanted in numbers.items()
                for number in wanted
            ]
            done = iter(self.run(pieces))
            return {i: tuple(next(done) for _ in wanted) for i, wanted in numbers.items()}

        first = runs({i: range(self.effort.runs if rungs[i].complete else 0) for i in todo})
        outcomes = {i: Outcome(particles, rungs[i], first[i]) for i in todo}
        more = runs({i: self.wanted(outcome) for i, outcome in outcomes.items()})
        return {i: replace(o, runs=o.runs + more[i]) for i, o in outcomes.items()}
