"""The posterior of a network of finite width: networks annealed until they fit a training set S.

``smc`` takes networks from the prior to the labels of S, wrong ones included. Its runs go on here
at V = 0, where a sweep leaves the prior given S invariant, and record what their networks compute
on all inputs.

Runs are weighted by their estimates of ln P(C(S)), the probability that a network of the prior fits
S: with P_r the estimate of run r and g_r the mean of a function over its networks, sum P_r g_r /
sum P_r is a ratio of two unbiased estimates. The networks of a run descend from few and look alike,
so errors come from the runs alone: of the mean test error by the jackknife, of counts of functions
as those of clusters of random size (``training.posterior.chains``).

It starts from draws of the prior and needs no network that fits S, as slice sampling does.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.sampling.prepare import check_samples
from simprior.boolean.sampling.rows import key_columns, words_from_columns
from simprior.boolean.truthtable import input_matrix, n_words, pack
from simprior.checks import (
    NETWORK,
    RUN_OPTIONS,
    Integer,
    Kind,
    Maybe,
    Switch,
    Whole,
    checked,
)
from simprior.errors import InputError, NumericalError, check_fits
from simprior.finite import kernels, smc
from simprior.finite.attempts import FEWEST_RUNS, Effort, decide
from simprior.finite.particles import check_network, distinct_inputs, make_machine
from simprior.finite.prior import Session, check_cost
from simprior.finite.tasks import Annealing, Piece
from simprior.finite.verdict import DISAGREE, Mean, Outcome
from simprior.network.spec import Network, check_size
from simprior.numerics.estimate import share_stderr
from simprior.numerics.random import check_seed
from simprior.runs.directory import RunDir
from simprior.runs.sharded import Shard
from simprior.runs.tasks import Progress, RunOptions
from simprior.training.posterior.chains import (
    TrainingSet,
    aggregate,
    counts_of_clusters,
    make_training_set,
    sort_sums,
)

RUNS = 16  # of them come the errors: their own error is 18 %


@dataclass(frozen=True, eq=False)
class Drawn(smc.Run):
    """A run, and ``words`` (D, W): packed functions of all m inputs that its networks computed."""

    words: np.ndarray


@dataclass(frozen=True, eq=False)
class Drawing(Annealing):
    """Runs that record functions at their end.

    ``network`` has the inputs of S, ``tables`` its labels (1, s). ``outside`` (m - s, d) are the
    other inputs of ``given``; each network is recorded ``records`` times, ``thin`` steps apart.
    """

    given: TrainingSet
    outside: np.ndarray
    records: int
    thin: int

    def digest(self, index: int) -> str:
        """As of annealing, with what is recorded."""
        text = hashlib.sha256(super().digest(index).encode() + self.outside.tobytes())
        text.update(self.given.index.tobytes() + repr((self.records, self.thin)).encode())
        return text.hexdigest()[:16]

    def names(self, piece: Piece) -> tuple[str, ...]:
        """The run, and the functions of its networks."""
        return (piece.name,) if piece.number < 0 else (piece.name, f"{piece.name}-functions")

    def compute(self, piece: Piece) -> smc.Ladder | smc.Run:
        """The pilot, or the run with its functions."""
        anneal = self.anneal(piece)
        if piece.number < 0:
            return smc.pilot(anneal)
        run, swarm = smc.run_swarm(anneal, np.array(piece.strengths), piece.number)
        return Drawn(**vars(run), words=self._functions(swarm))

    def _functions(self, swarm: smc.Swarm) -> np.ndarray:
        """(D, W) functions of the networks that fit S, over ``records`` times."""
        found = [np.empty((0, n_words(self.given.m)), np.uint64)]
        if not swarm.share > 0:
            return found[0]
        swarm.keep_fitting()
        machine = make_machine(self.network, self.outside)
        rest = np.empty((len(swarm.params), len(self.outside)), np.uint8)
        tables = np.empty((len(swarm.params), self.given.m), np.uint8)
        tables[:, self.given.index] = self.given.bits
        for _ in range(self.records):
            for _ in range(self.thin):
                swarm.move()
            kernels.classify(swarm.params, machine.net, machine.state, rest)
            tables[:, self.given.outside] = rest
            found.append(pack(tables[swarm.violations == 0]))  # rounding may have moved one to > 0
        return np.concatenate(found)

    def shards(self, piece: Piece, result: smc.Ladder | smc.Run) -> list[Shard]:
        """The numbers of a run, and the functions of its networks."""
        if not isinstance(result, Drawn):
            return super().shards(piece, result)
        fields = {name: value for name, value in vars(result).items() if name != "words"}
        shards = super().shards(piece, smc.Run(**fields))
        return [*shards, Shard(self.names(piece)[1], key_columns(result.words))]

    def read(self, store: RunDir, piece: Piece) -> smc.Ladder | smc.Run:
        """What :meth:`shards` kept."""
        found = super().read(store, piece)
        if piece.number < 0:
            return found
        words = words_from_columns(store.read_shard(self.names(piece)[1]), self.given.m)
        return Drawn(**vars(found), words=words)


@checked(
    network=NETWORK,
    particles=Integer(2, 10**7, "pass for example particles=300"),
    runs=Integer(FEWEST_RUNS, 10**5, "pass for example runs=16"),
    thin=Whole(1, 10**6),
    max_particles=Maybe(Whole(2)),
    check=Switch(),
    workers=RUN_OPTIONS["workers"],
    progress=RUN_OPTIONS["progress"],
    store=Maybe(Kind(("RunDir",))),
)
def smc_posterior(
    network: Network,
    train_index: Sequence[int] | np.ndarray,
    labels: Any = None,
    samples: int | float = 10**5,
    seed: int = 0,
    *,
    target: Any = None,
    particles: int = Effort.particles,
    runs: int = RUNS,
    thin: int = 1,
    max_particles: int | None = None,
    check: bool = True,
    workers: int = 1,
    progress: Progress | None = None,
    store: RunDir | None = None,
) -> FunctionCounts:
    """Draw functions from P_B(f|S) of a finite network by annealed sequential Monte Carlo.

    Parameters
    ----------
    network : Network
        Gaussian weights and a built-in activation.
    train_index, labels, target
        See :func:`simprior.training.posterior.chains.make_training_set`. No label need be true.
    samples : int
        Draws of the table, shared out between the runs by their weights. A run that is due more
        than it has recorded gives some of them twice.
    seed : int
        The result is a function of (seed, S, the options below), not of ``workers``.
    particles, runs : int
        Networks a run, and independent runs (at least 4), from which the errors come.
    thin : int
        Sweeps between two records of a network.
    max_particles : int, optional
        A result that is doubted is tried again with 4 times the particles, up to this many.
    check : bool
        Whether half as many runs with the next power of the energy check it.
    workers, progress
        See :func:`simprior.runs.tasks.run_tasks`; progress counts pilots and runs.
    store : RunDir, optional
        Where pilots and runs are kept, and found again.

    Returns
    -------
    FunctionCounts
        Each run is a cluster; all draws agree with S. ``info["posterior"]``: ``method``, ``error``
        and ``error_stderr`` (mean share of inputs outside S where a network differs from the
        target, if there is one; by the jackknife over runs), ``error_low`` and ``error_high``
        (95 % by Student's t), ``check_error`` and ``check_error_stderr`` (with the next power),
        ``log_evidence`` and ``log_evidence_stderr`` (nats), ``log_evidence_bound`` (it is above
        this with 95 % confidence whatever the checks say), ``ess`` (networks of the prior that the
        draws descend from, by weight), ``violating`` (0), ``runs``, ``particles``, ``steps``,
        ``draws_per_run``, ``spread`` (nats, of ln P(C(S)) between runs), ``ancestors`` (a run),
        ``seconds``, ``converged`` and ``reliable`` (no check doubts the result) and ``reason``
        (what does). A doubted result has no standard errors (nan).

    Raises
    ------
    InputError
        Bad training set or option, weights that are not Gaussian, a user's own activation, labels
        that no weights, or all weights, give.
    NumericalError
        No run came to networks that fit S.
    MemoryShortage, Interrupted, StoreError
    """
    given = make_training_set(network.m, train_index, labels, target)
    effort = Effort(particles, runs, max_particles=max_particles, check=check)
    work = _work(network, given, effort, check_samples(samples), check_seed(seed), thin)
    check_cost(work.network, effort, workers)
    options = RunOptions.of(locals())
    outcome = Session(work, effort, options, store).outcomes([0])[0]
    drawn = Draws(given, outcome.runs)
    if not drawn.weights.any():
        raise NumericalError(
            f"smc: none of {len(outcome.runs)} runs came to networks that agree with the "
            f"{given.index.size} training labels: expected some; raise particles or "
            "max_particles, widen the network, or check the labels"
        )
    words, owner = drawn.take(int(samples))
    sums = sort_sums(aggregate(words, owner, given))
    bits = network.n if network.inputs is None else 0
    return counts_of_clusters(sums, given, bits, {"posterior": _report(outcome, drawn, work)})


def _work(
    network: Network, given: TrainingSet, effort: Effort, samples: int, seed: int, thin: int
) -> Drawing:
    """The annealing of a network to S. Raises :class:`InputError` where there is none."""
    check_network(network, "use rejection")
    check_size(network)
    check_fits(f"samples={samples}", 16.0 * samples * n_words(given.m), "draw fewer --samples")
    X = input_matrix(network)
    fitted = replace(network, n=X.shape[1], inputs=X[given.index])
    known = decide(fitted, distinct_inputs(fitted), given.bits)
    if known is not None:
        no, reason = math.isinf(known.value), known.diagnostics["reason"]
        expected = "labels that some networks of this prior give, and others do not"
        remedy = "change the labels, or use sigma_b > 0" if no else "use rejection"
        raise InputError(
            f"labels of the {given.index.size} inputs of S ({reason})", expected, remedy
        )
    records = max(1, -(-samples // (effort.runs * effort.particles)))
    return Drawing(
        fitted,
        given.bits[None],
        effort.sweeps,
        seed,
        effort.limit,
        given,
        X[given.outside],
        records,
        thin,
    )


class Draws:
    """What independent runs (R) recorded, and the weights of the runs.

    ``weights`` (R,) are their estimates of P(C(S)), as shares; ``errors`` (R,) the mean share of
    inputs outside S where their networks differ from the target, or None without one.
    """

    def __init__(self, given: TrainingSet, runs: Sequence[smc.Run]) -> None:
        self.words = [run.words for run in runs if isinstance(run, Drawn)]
        logs = np.array([run.value for run in runs])
        alive = np.isfinite(logs) & np.array([len(words) > 0 for words in self.words])
        self.weights = np.zeros(len(logs))
        if alive.any():
            p = np.exp(logs[alive] - logs[alive].max())
            self.weights[alive] = p / p.sum()
        self.errors: np.ndarray | None = None
        if given.target is not None:
            inputs = len(given.outside)
            means = [given.wrong(w).mean() / inputs if len(w) else 0.0 for w in self.words]
            self.errors = np.array(means)
        ancestors = np.array([run.ancestors for run in runs])
        squares = float((self.weights[alive] ** 2 / ancestors[alive]).sum())
        self.ess = 1.0 / squares if squares > 0 else 0.0

    def take(self, samples: int) -> tuple[np.ndarray, np.ndarray]:
        """(words (B, W), the run of each (B,)), so many that the shares of runs are the weights."""
        counts = np.diff(np.rint(samples * np.cumsum([0.0, *self.weights])).astype(np.int64))
        parts = [
            words[((np.arange(count) + 0.5) * len(words) / max(count, 1)).astype(np.int64)]
            for words, count in zip(self.words, counts, strict=True)
        ]
        return np.concatenate(parts), np.repeat(np.arange(len(counts)), counts)

    def error(self) -> tuple[float, float]:
        """Mean error and its standard error, by the jackknife over runs.

        Without any spread between runs it is that of a share that ``ess`` networks did not show.
        """
        assert self.errors is not None
        w, e = self.weights, self.errors
        mean, count = float(w @ e), len(w)
        if np.ptp(e[w > 0]) == 0.0 or w.max() == 1.0:  # the other runs may be rounded away
            return mean, float(share_stderr(0.0, self.ess))
        others = (mean - w * e) / (1.0 - w)
        return mean, math.sqrt((count - 1) / count * float(((others - others.mean()) ** 2).sum()))


def _report(outcome: Outcome, drawn: Draws, work: Drawing) -> dict[str, Any]:
    """What is known about the draws; no errors where a check doubts them."""
    evidence, doubts = outcome.result(), outcome.doubts()
    about: dict[str, float] = {}
    if drawn.errors is not None:
        about, more = _errors(outcome, drawn, work.given)
        doubts = doubts + more
    shown = ("spread", "spread_ratio", "ancestors", "steps", "particles", "runs", "seconds")
    report = {
        "method": "smc",
        "violating": 0.0,
        "thin": work.thin,
        "draws_per_run": work.records * outcome.particles,
        "ess": drawn.ess,
        "log_evidence": evidence.value,
        "log_evidence_stderr": evidence.stderr,
        "log_evidence_bound": evidence.diagnostics["bound_low"],
        **{name: evidence.diagnostics[name] for name in shown},
        **about,
        "converged": not doubts,
        "reliable": not doubts,
        "reason": "; ".join(doubts),
    }
    if doubts:
        report |= {name: math.nan for name in report if name.endswith(("_stderr", "_low", "_high"))}
    return report


def _errors(
    outcome: Outcome, drawn: Draws, given: TrainingSet
) -> tuple[dict[str, float], list[str]]:
    """The mean test error, with both powers, and whether they disagree, in words."""
    mean = Mean(*drawn.error(), math.nan, len(outcome.runs))
    low, high = mean.interval
    found = {
        "error": mean.value,
        "error_stderr": mean.stderr,
        "error_low": max(0.0, low),
        "error_high": min(1.0, high),
    }
    if not outcome.checks:
        return found, []
    other = Draws(given, outcome.checks)
    if not other.weights.any():
        return found, []  # the verdict on the evidence says so already
    check = Mean(*other.error(), math.nan, len(outcome.checks))
    found |= {"check_error": check.value, "check_error_stderr": check.stderr}
    gap = math.hypot(mean.doubtful_error, check.doubtful_error)
    if abs(check.value - mean.value) <= DISAGREE * gap:
        return found, []
    return found, [f"the next power of the energy gives a mean error of {check.value:.4f}"]
