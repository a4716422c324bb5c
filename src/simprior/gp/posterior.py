"""The Bayesian posterior over functions, P_B(f|S) = P(f)/P(C(S)) if f agrees with S, else 0.

The likelihood is a step: S says sign z_S = labels, without noise. :func:`sample_posterior` draws
z_S from the truncated Gaussian exactly (:mod:`simprior.gp.conditional`), then the other inputs from
the Gaussian conditional on z_S, and counts the functions. :func:`log_posterior` gives ln P_B(f|S)
of any given function.

P(C(S)), the prior probability of the functions that agree with S, also bounds the generalisation
error (marginal-likelihood PAC-Bayes, realisable case: the training error is 0 on a sample S of
inputs drawn independently). ln P(C(S)) of :func:`simprior.gp.orthant.log_prior` on the training
inputs is all that a bound needs. A sharper ln P(C(S)) is a sharper bound; its standard error goes
through to the bound.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.boolean.complexity import differences
from simprior.boolean.sampling.chains import (
    Clock,
    Piece,
    check_rows,
    generator_state,
    restore_generator,
    run_chains,
)
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.sampling.merging import Merger
from simprior.boolean.sampling.prepare import check_samples
from simprior.boolean.sampling.rows import Counter, Profile, Rows, Tally, count_words
from simprior.boolean.truthtable import check_index, n_words, one_function, pack, parse_functions
from simprior.checks import LEVEL, Choice, Maybe, Number, Text, Updates, Whole, checked
from simprior.display import Shown, estimate
from simprior.errors import InputError
from simprior.gp.conditional import Chain, Conditioned, condition, impossible, normals
from simprior.gp.covariance import check_symmetric
from simprior.gp.orthant import log_prior
from simprior.numerics import random as rng
from simprior.numerics.estimate import LogProb, clopper_pearson, normal_factor, share_stderr
from simprior.runs.directory import RunDir
from simprior.runs.tasks import Progress, RunOptions, one_thread
from simprior.runs.threads import in_threads

if TYPE_CHECKING:
    import pandas as pd

METHODS = ("exact", "ep")
_BATCH = 128  # draws a batch of the chain
_BATCHES = 200  # at least so many batches, if there are enough samples
_TASK = 1 << 18  # draws a task
_ROWS = 1 << 14  # draws held at a time


@dataclass(frozen=True)
class _Task:
    index: int
    samples: int


@checked(method=Text(), n=Maybe(Whole(0, 64)), workers=Whole(1), progress=Updates())
def sample_posterior(
    K: np.ndarray,
    train_index: Sequence[int] | np.ndarray,
    labels: Any,
    samples: int | float = 10**5,
    seed: int = 0,
    method: str = "exact",
    *,
    target: Any = None,
    n: int | None = None,
    workers: int = 1,
    progress: Progress | None = None,
    store: RunDir | None = None,
) -> FunctionCounts:
    """Draw functions from P_B(f|S), z ~ N(0, K), and count them.

    Parameters
    ----------
    K : (m, m) array
        Covariance on all m inputs. Nothing is added to its diagonal; inputs of zero variance and
        exact copies follow from the others, and so do inputs that a rank-deficient K ties to S.
    train_index : (s,) integers
        The inputs in S, 1 <= s < m, each once.
    labels : (s,) of 0/1 or -1/+1
        Their labels.
    samples : int
        Functions to draw.
    seed : int
        Same seed, same counts, whatever ``workers`` is.
    method : str
        ``"exact"``: all draws agree with S. ``"ep"``: the literature's approximation, the Gaussian
        of expectation propagation in place of the truncated one, followed by signs at all inputs;
        ``info["posterior"]["violating"]`` is the share of draws that disagree with S, and
        ``violating_high`` its 95 % upper limit.
    target : function, optional
        True labels of all m inputs, against which errors are counted. The labels of S may differ
        from them (corruption).
    n : int, optional
        Number of bits if the inputs are all bit strings (log2(m) if m is a power of 2).
    workers, progress
        See :func:`simprior.runs.tasks.run_tasks`.
    store : RunDir, optional
        Where draws are kept, and found again (see
        :mod:`simprior.boolean.sampling.chains`).

    Returns
    -------
    FunctionCounts
        Functions on all m inputs. Exact draws come in batches (``heads`` draws each) that share
        proposals, so ``stderr`` and ``intervals`` account for copies. ``info["posterior"]``:
        ``ess`` (effective draws for a function that z_S decides; more for others), ``pareto_k`` of
        the proposals (intervals are not to be trusted above 0.7), ``reliable``, ``log_evidence``
        and ``log_evidence_stderr`` (ln P(C(S)), nats; EP's has no error), ``violating``; with a
        target ``error`` and ``error_stderr`` (mean share of inputs outside S where a draw differs
        from it).

    Raises
    ------
    InputError
        S is empty or everything, labels are not binary or are impossible under K, unknown method.
    NumericalError
        K is neither of full rank nor clearly rank-deficient, or EP diverged.
    """
    how = RunOptions.of(locals())
    Choice(METHODS, "pass method='exact'")("method", method)
    K = check_symmetric(K)
    samples, seed = check_samples(samples), rng.check_seed(seed)
    index, bits = check_training_set(train_index, labels, len(K))
    truth = None if target is None else one_function(target, len(K), "target", n)
    with one_thread():
        given = condition(K, index, bits, method, rng.generator(seed, "posterior/pilot"))
    heads = 1 if given.source is None else max(1, min(_BATCH, samples // _BATCHES))
    size = max(1, _TASK // heads) * heads
    tasks = [_Task(i, min(size, samples - at)) for i, at in enumerate(range(0, samples, size))]
    advance = partial(_run, given, seed, heads, tasks)
    found = run_chains(advance, len(tasks), len(K), how, store, threads=True)
    bits_n = bits_of(len(K), n)

    def look(number: int) -> tuple[Rows, Tally, np.ndarray]:
        words = found[number][0]
        check_rows(words, tasks[number].samples, f"task {number}")
        none = np.zeros(0)
        wrong = none if truth is None else outside_errors(words, index, truth)
        return *_count(given, words, heads), wrong

    rows, tallies, wrong = zip(*in_threads(look, range(len(tasks)), how.workers), strict=True)
    merger = Merger(len(K), how.workers)
    merger.add(*rows)
    ends = [end for _, end in found]
    counts = _table(given, merger.rows(), list(tallies), ends, samples, heads, bits_n)
    if truth is not None:
        error, stderr = mean_of_clusters(np.concatenate(wrong), heads)
        counts.info["posterior"] |= {"error": error, "error_stderr": stderr}
    return counts


def outside_errors(words: np.ndarray, index: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(k,) shares of the inputs outside ``index`` where packed functions (k, W) differ from
    ``truth`` (m,)."""
    outside = np.ones(len(truth), bool)
    outside[index] = False
    return differences(words, truth, outside) / outside.sum()


def bits_of(m: int, n: int | None) -> int:
    """``n``, or without it log2(m) if m is a power of 2, else 0."""
    if n is not None:
        return n
    return m.bit_length() - 1 if m & (m - 1) == 0 else 0


def mean_of_clusters(values: np.ndarray, size: int) -> tuple[float, float]:
    """Mean of ``values`` between 0 and 1, and its standard error from the spread between clusters
    of ``size`` values in a row (Cochran 1977, section 6.3).

    Without any spread it is that of a share that no cluster showed.
    """
    first = np.arange(0, len(values), size)
    sums, sizes = np.add.reduceat(values, first), np.add.reduceat(np.ones(len(values)), first)
    mean, clusters = float(values.mean()), len(first)
    if np.ptp(values) == 0 or clusters < 2:
        return mean, float(share_stderr(0.0, clusters))
    squares = float(((sums - mean * sizes) ** 2).sum()) * clusters / (clusters - 1)
    return mean, math.sqrt(squares) / len(values)


def check_training_set(train_index: Any, labels: Any, m: int) -> tuple[np.ndarray, np.ndarray]:
    """(s,) distinct indices with 1 <= s < m and their (s,) uint8 labels, else InputError."""
    index = check_index(train_index, m, "number the inputs as the rows of K")
    try:
        bits = parse_functions(labels, index.size, 0)
    except InputError as error:
        raise InputError(f"labels ({error.what})", error.expected, error.remedy) from None
    if len(bits) != 1:
        raise InputError(f"labels of {len(bits)} functions", "one label an input", "pass one row")
    return index, bits[0]


@checked(method=Text(), n=Maybe(Whole(0, 64)))
def log_posterior(
    functions: Any,
    K: np.ndarray,
    train_index: Sequence[int] | np.ndarray,
    labels: Any,
    *,
    method: str = "tilted",
    n: int | None = None,
    seed: int = 0,
    **options: Any,
) -> list[LogProb]:
    """ln P_B(f|S) = ln P(f) - ln P(C(S)) if f agrees with S, else -inf.

    Parameters
    ----------
    functions, K, method, n, seed, options
        As in :func:`simprior.gp.orthant.log_prior`.
    train_index, labels
        As in :func:`sample_posterior`.

    Returns
    -------
    list of LogProb
        The standard errors of the two terms, which are independent, are added in quadrature; that
        of ln P(C(S)) is common to all functions. Diagnostics: ``log_prior``, ``log_evidence``,
        ``log_evidence_stderr``, ``pareto_k`` (the larger of the two), ``reliable``.
    """
    K = check_symmetric(K)
    index, bits = check_training_set(train_index, labels, len(K))
    tables = parse_functions(functions, len(K), n)
    evidence = log_prior(bits[None], K[np.ix_(index, index)], method, seed=seed, **options)[0]
    if evidence.value == -math.inf:
        raise impossible(len(index))
    agree = (tables[:, index] == bits).all(axis=1)
    found = iter(log_prior(tables[agree], K, method, seed=seed, **options) if agree.any() else [])
    return [_ratio(next(found), evidence) if ok else _excluded(method) for ok in agree]


def _excluded(method: str) -> LogProb:
    reason = "disagrees with the training set"
    return LogProb(-math.inf, 0.0, math.inf, method, {"reliable": True, "reason": reason})


def _ratio(prior: LogProb, evidence: LogProb) -> LogProb:
    ks = [p.diagnostics.get("pareto_k", math.nan) for p in (prior, evidence)]
    reliable = [bool(p.diagnostics.get("reliable", False)) for p in (prior, evidence)]
    diagnostics = {
        "log_prior": prior.value,
        "log_evidence": evidence.value,
        "log_evidence_stderr": evidence.stderr,
        "pareto_k": float(np.fmax(*ks)),
        "reliable": all(reliable),
    }
    return LogProb(
        prior.value - evidence.value, math.hypot(prior.stderr, evidence.stderr),
        min(prior.ess, evidence.ess), prior.method, diagnostics,
    )  # fmt: skip


def _run(
    given: Conditioned, seed: int, heads: int, tasks: list[_Task], number: int,
    kept: dict[str, Any] | None = None, seconds: float = math.inf,
) -> Piece:  # fmt: skip
    """Go on with a task; its draws are a function of (given, seed, heads, task)."""
    with one_thread():
        return _draw(given, seed, heads, tasks[number], kept, Clock(seconds))


def _draw(
    given: Conditioned, seed: int, heads: int, task: _Task, kept: dict[str, Any] | None,
    clock: Clock,
) -> Piece:  # fmt: skip
    source = rng.generator(seed, "posterior", task.index)
    key = rng.philox_key(seed, f"posterior/{task.index}")
    at, violating = 0, 0
    if kept is not None:
        at, violating = int(kept["at"]), int(kept["violating"])
        restore_generator(source, kept["source"])
    chain = None if given.source is None else Chain(given.source, heads, source, kept)
    step = (
        _ROWS // heads * heads
        if chain is None
        else max(1, min(chain.chunk, _ROWS // heads)) * heads
    )
    parts = [np.empty((0, n_words(given.m)), np.uint64)]
    steps = -(-task.samples // step)
    for _ in (i for count in clock.portions(at // step, steps, steps) for i in range(count)):
        count = min(step, task.samples - at)
        if chain is not None:
            z = chain.batches(-(-count // heads))[:count]
            train = np.broadcast_to(given.bits, (count, len(given.bits)))
        else:
            z, train = given.approximate(count, source)
            violating += int((train != given.bits).any(axis=1).sum())
        noise = normals(count * given.free, key, at // step).reshape(count, given.free)
        parts.append(pack(given.complete(z, train, noise)))
        at += count
    state = {"squares": 0} if chain is None else chain.state()
    state |= {"at": at, "violating": violating, "source": generator_state(source)}
    return Piece(np.concatenate(parts), state, at == task.samples)


def _count(given: Conditioned, words: np.ndarray, heads: int) -> tuple[Rows, Tally]:
    """Counts of the (k, W) draws of a task, whose batches are the clusters."""
    counter = Counter(given.m, 0)
    step = _ROWS // heads * heads
    for at in range(0, len(words), step):
        count_words(words[at : at + step], heads, at // heads, counter)
    return counter.result(len(words), -(-len(words) // heads), heads == 1)


def _table(
    given: Conditioned, rows: Rows, tallies: list[Tally], ends: list[dict[str, Any]], samples: int,
    heads: int, n: int,
) -> FunctionCounts:  # fmt: skip
    weights = [tally.samples for tally in tallies]
    squares = sum(int(end["squares"]) for end in ends)
    info = given.report() | {
        "ess": samples * min(1.0, samples / squares) if squares else float(samples),
        "violating": sum(int(end["violating"]) for end in ends) / samples,
    }
    if given.source is None and info["method"] == "ep":
        hits = np.array(sum(int(end["violating"]) for end in ends))
        info["violating_high"] = float(clopper_pearson(hits, samples)[1])
    return FunctionCounts(
        given.m, n, rows, Profile.of(rows.count, rows.clusters, rows.sumsq), samples,
        -(-samples // heads), heads, ones=np.sum([tally.ones for tally in tallies], axis=0),
        dispersion=float(np.average([t.dispersion for t in tallies], weights=weights)),
        info={"posterior": info},
    )  # fmt: skip


FORMS = ("gibbs", "single")


@dataclass(frozen=True, repr=False)
class Bound(Shown):
    """Upper bound ``error`` on the probability of error, and what it was computed from.

    ``low`` and ``high`` are the bound at the ends of the interval of ln P(C(S)) at ``level`` (a
    larger ln P(C(S)) is a smaller bound); they are equal to ``error`` for an exact value and NaN
    if the error of ln P(C(S)) is unknown. ``exponent`` is the right-hand side, -ln(1 - error).
    """

    error: float
    low: float
    high: float
    exponent: float
    form: str
    m: int
    delta: float
    gamma: float | None
    log_evidence: float
    log_evidence_stderr: float
    level: float

    def lines(self) -> list[str]:
        """The bound with its interval, how sure it is, what it was computed from."""
        evidence = estimate(self.log_evidence, stderr=self.log_evidence_stderr)
        return [
            f"Bound: error below {estimate(self.error, self.low, self.high)} ({self.form})",
            f"confidence {self.confidence:.4g} over {self.m:,} training examples",
            f"ln P(C(S)) = {evidence} nats",
        ]

    def to_frame(self) -> pd.DataFrame:
        """One row: form, error_below, low, high, exponent, confidence."""
        import pandas as pd

        row = {"form": self.form, "error_below": self.error, "low": self.low, "high": self.high}
        return pd.DataFrame([row | {"exponent": self.exponent, "confidence": self.confidence}])

    @property
    def confidence(self) -> float:
        """Probability with which the bound holds (over S, and over f for the single form)."""
        return (1.0 - self.delta) * (1.0 - (self.gamma or 0.0))


@checked(m=Whole(2), form=Text(), delta=LEVEL, gamma=Maybe(LEVEL), level=LEVEL)
def marginal_likelihood_bound(
    log_evidence: float | LogProb,
    m: int,
    delta: float = 0.01,
    *,
    form: str = "gibbs",
    gamma: float | None = None,
    level: float = 0.95,
) -> Bound:
    """PAC-Bayes bound from the marginal likelihood P(C(S)).

    ``form="gibbs"`` (Valle-Perez, Camargo & Louis 2019, section 4, after McAllester 1998 and
    Langford & Seeger 2001): with probability 1 - delta over S, the error averaged over the Bayesian
    posterior is at most eps,

        -ln(1 - eps) = (ln 1/P(C(S)) + ln(2m/delta)) / (m - 1).

    ``form="single"`` (Valle-Perez & Louis 2020, the marginal-likelihood PAC-Bayes bound): with
    probability 1 - delta over S, and 1 - gamma over ONE function f drawn from the posterior, the
    error of f is at most eps,

        -ln(1 - eps) = (ln 1/P(C(S)) + ln m + ln 1/delta + ln 1/gamma) / (m - 1).

    Parameters
    ----------
    log_evidence : float or LogProb
        ln P(C(S)) in nats, <= 0.
    m : int
        Size of the training set, >= 2.
    delta, gamma : float
        In (0, 1); ``gamma`` only for the single form (default: delta).
    level : float
        Of the interval of the bound that follows from the standard error of ln P(C(S)).

    Raises
    ------
    InputError
        A parameter is out of range; the labels have probability 0.
    """
    value, stderr = _evidence(log_evidence)
    _check(m, delta, gamma, form, level)
    if form == "single":
        gamma = delta if gamma is None else gamma
        penalty = math.log(m) - math.log(delta) - math.log(gamma)
    else:
        penalty = math.log(2.0 * m / delta)
    exponent = (penalty - value) / (m - 1.0)
    shift = normal_factor(level) * stderr / (m - 1.0)
    low, high = _error(max(exponent - shift, 0.0)), _error(exponent + shift)
    return Bound(_error(exponent), low, high, exponent, form, m, delta, gamma, value, stderr, level)


def _error(exponent: float) -> float:
    return -math.expm1(-exponent)


def _evidence(log_evidence: float | LogProb) -> tuple[float, float]:
    if isinstance(log_evidence, LogProb):
        value, stderr = log_evidence.value, log_evidence.stderr
    else:
        value, stderr = float(Number(finite=False)("log_evidence", log_evidence)), 0.0
    slack = 5.0 * stderr if math.isfinite(stderr) else 0.1
    if not -math.inf < value <= slack:
        raise InputError(
            f"log_evidence={value:g}", "a finite log-probability (<= 0)",
            "the bounds need labels that the prior can give, and natural logarithms",
        )  # fmt: skip
    return min(value, 0.0), stderr


def _check(m: int, delta: float, gamma: float | None, form: str, level: float) -> None:
    Choice(FORMS, "pass form='gibbs'")("form", form)
    Whole(2, remedy="pass the size of the training set", expected="an integer >= 2")("m", m)
    given = {"delta": delta, "level": level} | ({} if gamma is None else {"gamma": gamma})
    for name, number in given.items():
        Number(0, 1, open=True, remedy="pass 0.01")(name, number)
    if gamma is not None and form == "gibbs":
        raise InputError(f"gamma={gamma!r}", "no gamma for the gibbs form", "pass form='single'")
