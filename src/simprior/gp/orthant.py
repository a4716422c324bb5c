"""ln P(f) of any functions under a Gaussian-process prior: one call, and tables of many functions.

P(f) = P(sign z = f), z ~ N(mean, K): a step likelihood, no noise. The estimators stand in the table
``METHODS``. ``tilted`` is the default and comes with a standard error that holds; ``ep``,
``ep-probit`` and ``laplace`` are approximations of unknown error; the others check the default.

:func:`log_prior_table` computes many functions by several methods, in batches, with workers, and
in a run directory that can be resumed. Its table has a row a function and method, in the order of
the functions given:

    index, name, function (hex), method, logp (nats), log10, stderr, ess, pareto_k, reliable,
    converged, seconds

and further columns that the caller joins to each function (e.g. its sampled frequency).
"""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from simprior.boolean.truthtable import pack, parse_functions, to_hex
from simprior.checks import Choice, Maybe, Number, Numbers, Text, Validator, Whole, checked, shown
from simprior.errors import InputError, check_fits
from simprior.gp import covariance
from simprior.gp.approximations import ep, ep_probit, laplace
from simprior.gp.covariance import (
    Reduction,
    check_mean,
    check_memory,
    check_symmetric,
    factor,
    factor_for_noise,
    make_event,
    reduce_inputs,
)
from simprior.gp.crosschecks import closed, liness, minimax, montecarlo
from simprior.gp.sampled import SampledKernel, through_groups
from simprior.gp.tilted import smc, tilted
from simprior.numerics.estimate import LogProb
from simprior.numerics.random import check_seed
from simprior.runs.directory import load_run, write_table
from simprior.runs.sharded import Work, open_run, run_sharded
from simprior.runs.tasks import RunKeywords, RunOptions, one_thread

if TYPE_CHECKING:
    import pandas as pd

TABLE = "logp.parquet"
Columns = dict[str, np.ndarray]
_SMALL = 1e-100  # a variance; beyond 1e-150 or 1e150 the estimators' products over- or underflow
_BATCH_WORK = 64 * 128**2  # functions a batch at m = 128: less than half a second of `tilted`

METHODS: dict[str, Callable[..., LogProb]] = {
    "tilted": tilted,  # EP-tilted sequential importance sampling
    "smc": smc,  # the same with resampling along the sequence, for structured functions, m large
    "ep": ep,  # expectation propagation, step likelihood
    "ep-probit": ep_probit,  # the same with the unit noise of a probit link
    "laplace": laplace,  # Laplace approximation, probit link
    "closed": closed,  # m <= 3 and special covariances
    "minimax": minimax,  # Botev's exponential tilting
    "liness": liness,  # splitting with linear elliptical slice sampling
    "mc": montecarlo,  # plain Monte Carlo
}

IN_PLACE = ("tilted", "smc", "ep")
"""Methods that work in place on many inputs."""
NOISY = ("ep-probit", "laplace")
"""Methods with the unit noise of a probit link, for which K may be singular (K + I never is)."""


OPTIONS: dict[str, Validator] = {
    "draws": Whole(1),
    "max_draws": Whole(1),
    "tol": Number(0, open=True),
    "kappa": Numbers(),
    "replicates": Whole(1, 10**6),
    "chains": Whole(1, 10**6),
    "thin": Whole(1, 10**9),
    "site_tol": Number(0, 1, open=True),
    "step_tol": Number(0, 1, open=True),
    "damping": Number(0, 1),
    "block": Whole(1),
}
"""What each option of the methods may be; the methods themselves check what depends on m."""


@checked(method=Text(), n=Maybe(Whole(0, 64)))
def log_prior(
    functions: Any,
    K: np.ndarray | SampledKernel,
    method: str = "tilted",
    *,
    mean: np.ndarray | None = None,
    n: int | None = None,
    seed: int = 0,
    **options: Any,
) -> list[LogProb]:
    """ln P(sign z = f) for each function, z ~ N(mean, K).

    Parameters
    ----------
    functions : array or str or sequence
        (F, m) or (m,) of 0/1, bit strings, hex strings or names.
    K : (m, m) array
        Covariance on the m inputs. Inputs of zero variance (output 0) and exact copies are taken
        out first; nothing is ever added to the diagonal. With a sampled kernel the error of the
        covariance is part of that of ln P (:func:`simprior.gp.sampled.through_groups`), at the
        cost of some fifteen estimates a function.
    method : str
        A name in ``METHODS``.
    mean : (m,) array, optional
        Mean of z, zero by default.
    n : int, optional
        Number of bits for named functions, as in ``parse_functions``.
    seed : int
        Randomness is a function of (seed, method, function): the order and size of the batch do
        not matter.
    options
        ``draws`` and ``tol`` (wanted standard error, in nats) for the sampling methods, ignored by
        the others, and what the method's own docstring lists.

    Returns
    -------
    list of LogProb
        One a function, in order, values in nats.

    Raises
    ------
    InputError
        Unknown method or option, K no covariance, functions of another length.
    NumericalError
        K is neither of full rank nor clearly rank-deficient in float64 (``ep-probit`` and
        ``laplace``, whose link adds unit noise, take any positive semi-definite K).
    """
    if isinstance(K, SampledKernel):
        settings = {"mean": mean, "n": n, "seed": seed, **options}
        return through_groups(K, lambda one: log_prior(functions, one, method, **settings))
    return list(iter_log_prior(functions, K, method, mean=mean, n=n, seed=seed, **options))


@checked(method=Text(), n=Maybe(Whole(0, 64)))
def iter_log_prior(
    functions: Any,
    K: np.ndarray,
    method: str = "tilted",
    *,
    mean: np.ndarray | None = None,
    n: int | None = None,
    seed: int = 0,
    **options: Any,
) -> Iterator[LogProb]:
    """As :func:`log_prior`, one result at a time as they are computed."""
    estimator, chosen = _estimator(method, options)
    check_seed(seed)
    K = check_symmetric(K)
    tables = parse_functions(functions, len(K), n)
    mean = check_mean(mean, len(K))
    if method in NOISY:
        return _noisy(estimator, chosen, method, tables, K, mean)
    K, mean = _moderate(K, mean)
    if mean is None:
        reduction = reduce_inputs(K)
    else:  # copies with different means are no copies
        reduction = reduce_inputs(K) if not mean.any() else _no_reduction(K)
    if "seed" in inspect.signature(estimator).parameters:
        chosen["seed"] = seed
    kept, possible = reduction.reduce_labels(tables)
    if len(reduction.keep) == 0:
        return (_certain(method, bool(ok), reduction) for ok in possible)
    small = np.ascontiguousarray(reduction.kernel(K))
    matrix = factor(small)
    shift = None if mean is None else mean[reduction.keep]
    return (
        estimator(make_event(bits, small, matrix, shift), **chosen)
        if ok
        else _certain(method, False, reduction)
        for bits, ok in zip(kept, possible, strict=True)
    )


def matrices(methods: Sequence[str], m: int) -> int:
    """Matrices m x m that the ``methods`` need at their peak."""
    in_place = m >= covariance.LARGE and set(methods) <= set(IN_PLACE)
    return covariance.MATRICES_IN_PLACE if in_place else covariance.MATRICES


def _estimator(
    method: str, options: dict[str, Any]
) -> tuple[Callable[..., LogProb], dict[str, Any]]:
    Choice(METHODS)("method", method)
    estimator = METHODS[method]
    known = set(inspect.signature(estimator).parameters) - {"event", "seed"}
    for name, value in options.items():
        if name not in known | {"draws", "tol"}:
            raise InputError(
                f"option {name}={shown(value)}",
                f"one of {', '.join(sorted(known))}",
                "remove it",
            )
    options = {
        k: OPTIONS[k](k, v) if k in OPTIONS and v is not None else v for k, v in options.items()
    }
    if options.get("draws"):
        check_fits(f"draws={options['draws']}", 8.0 * options["draws"], "lower draws")
    return estimator, {k: v for k, v in options.items() if k in known and v is not None}


def _moderate(K: np.ndarray, mean: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """K and the mean, where variances have squares outside the range of float64, in a unit (a power
    of 2) in which they do not: ln P is the same."""
    top = float(np.diag(K).max(initial=0.0))
    if top == 0.0 or _SMALL < top < 1.0 / _SMALL:
        return K, mean
    unit = -(math.frexp(top)[1] // 2)
    return np.ldexp(K, 2 * unit), None if mean is None else np.ldexp(mean, unit)


def _no_reduction(K: np.ndarray) -> Reduction:
    m = len(K)
    return Reduction(np.arange(m), np.empty(0, np.intp), np.arange(m), np.ones(m, np.int64))


def _noisy(
    estimator: Callable[..., LogProb],
    options: dict[str, Any],
    method: str,
    tables: np.ndarray,
    K: np.ndarray,
    mean: np.ndarray | None,
) -> Iterator[LogProb]:
    """ln P under a probit link. Copies of an input have noise of their own, so nothing is merged;
    an input of zero variance has label 1 with probability Phi(mean), whatever the others are."""
    from scipy.special import log_ndtr

    keep, zero = np.flatnonzero(np.diag(K) > 0), np.flatnonzero(np.diag(K) == 0)
    at_zero = np.zeros(len(zero)) if mean is None else mean[zero]
    fixed = log_ndtr((2.0 * tables[:, zero] - 1.0) * at_zero).sum(axis=1)
    if not len(keep):
        found = {"reliable": True, "converged": True, "reason": "all inputs have zero variance"}
        return (LogProb(float(value), 0.0, math.inf, method, dict(found)) for value in fixed)
    small = np.ascontiguousarray(K[np.ix_(keep, keep)])
    matrix, shift = factor_for_noise(small), None if mean is None else mean[keep]

    def one(bits: np.ndarray, value: float) -> LogProb:
        found = estimator(make_event(bits[keep], small, matrix, shift), **options)
        return replace(found, value=found.value + value)

    return (one(bits, float(value)) for bits, value in zip(tables, fixed, strict=True))


def _certain(method: str, happens: bool, reduction: Reduction) -> LogProb:
    """Exact result where the dropped inputs decide."""
    value = 0.0 if happens else -math.inf
    reason = f"decided by dropped inputs ({reduction.dropped})"
    return LogProb(
        value, 0.0, math.inf, method, {"reliable": True, "converged": True, "reason": reason}
    )


@dataclass(frozen=True)
class Request:
    """Functions, kernel and methods of one table.

    ``K`` (m, m), or a sampled kernel; ``tables`` (F, m) uint8; ``names`` F texts shown in place of
    the hex form; ``methods`` names in ``METHODS``; ``options`` (draws, tol) of the estimators;
    ``joined`` further (F,) columns.
    """

    K: np.ndarray | SampledKernel
    tables: np.ndarray
    methods: tuple[str, ...] = ("tilted",)
    seed: int = 0
    names: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    joined: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for method in self.methods:
            Choice(METHODS, expected=f"some of {', '.join(METHODS)}")("method", method)
        if len(set(self.methods)) < max(len(self.methods), 1):
            found, expected = f"method={','.join(self.methods)}", "each method once, at least one"
            raise InputError(found, expected, "pass for example --method tilted,ep")


def log_prior_table(
    request: Request,
    *,
    config: Mapping[str, Any] | None = None,
    results: Mapping[str, Any] | None = None,
    **run: Unpack[RunKeywords],
) -> pd.DataFrame:
    """ln P of every function by every method; with ``out`` a run directory, a shard a batch.

    The values depend on the request only: not on batches, workers or interruptions. ``config`` and
    ``results`` are the configuration and further entries of the manifest; ``run`` are fields of
    :class:`simprior.runs.tasks.RunOptions`.

    Raises
    ------
    InputError, NumericalError, StoreError, Interrupted
    """
    import pandas as pd

    options = RunOptions(**run)
    copies = min(options.workers, len(request.tables))
    check_memory(len(request.K), copies, matrices=matrices(request.methods, len(request.K)))
    size = max(1, int(_BATCH_WORK / len(request.K) ** 2))
    size = -(-len(request.tables) // -(-len(request.tables) // size))  # all of about the same size
    columns = run_batches(
        "logp",
        partial(compute, request),
        [slice(i, i + size) for i in range(0, len(request.tables), size)],
        partial(_digest, request),
        options,
        config=config or {},
        amount=lambda batch: len(request.tables[batch]) * len(request.methods),
        join=partial(_join, request),
        results=results,
        threads=True,
    )
    return pd.DataFrame(columns)


def compute(request: Request, batch: slice) -> Columns:
    """Columns of the functions in ``batch``; function by function, method by method."""
    tables = request.tables[batch]
    settings = {"n": 0, "seed": request.seed, **request.options}
    results = [log_prior(tables, request.K, method, **settings) for method in request.methods]
    rows = [result for of_function in zip(*results, strict=True) for result in of_function]
    repeat = len(request.methods)

    def diagnostic(name: str, missing: Any) -> np.ndarray:
        return np.array([row.diagnostics.get(name, missing) for row in rows])

    return {
        "index": np.repeat(np.arange(batch.start, batch.start + len(tables)), repeat),
        "function": np.repeat(to_hex(pack(tables), tables.shape[1]), repeat).astype(object),
        "method": np.tile(np.array(request.methods, object), len(tables)),
        "logp": np.array([row.value for row in rows]),
        "log10": np.array([row.log10 for row in rows]),
        "stderr": np.array([row.stderr for row in rows]),
        "ess": np.array([row.ess for row in rows]),
        "pareto_k": diagnostic("pareto_k", math.nan).astype(float),
        "reliable": diagnostic("reliable", False).astype(bool),
        "converged": diagnostic("converged", True).astype(bool),
        "seconds": diagnostic("seconds", 0.0).astype(float),
    }


@dataclass(frozen=True)
class _Batch:
    """A part of a table; what was computed of ``content`` is told by ``digest``."""

    index: int
    content: Any
    digest: str
    size: int

    @property
    def name(self) -> str:
        return f"{self.index:06d}"

    @property
    def range(self) -> dict[str, str]:
        return {"digest": self.digest}


@dataclass(frozen=True)
class _Rows(Work[_Batch, Columns]):
    """The work of a table: ``function`` gives the columns of a batch, a shard keeps them.

    ``threads`` says whether it may run in threads.
    """

    function: Callable[[Any], Columns]
    threads: bool = False

    def in_threads(self) -> bool:
        return self.threads

    def compute(self, piece: _Batch) -> Columns:
        with one_thread():
            return self.function(piece.content)


def run_batches(
    command: str,
    function: Callable[[Any], Columns],
    batches: Sequence[Any],
    digest: Callable[[Any], str],
    options: RunOptions,
    *,
    config: Mapping[str, Any],
    amount: Callable[[Any], int] = lambda batch: 1,
    join: Callable[[Columns], Columns] = lambda columns: columns,
    results: Mapping[str, Any] | None = None,
    threads: bool = False,
    table: str = TABLE,
    totals: Callable[[Columns], dict[str, Any]] | None = None,
) -> Columns:
    """Columns of all batches, in order; in a run directory each batch is a shard until the end.

    ``digest`` identifies what a batch computes: a shard left by an earlier run is used again only
    if it agrees. ``amount`` is the progress that a batch makes. ``join`` completes the columns of
    the whole ``table``; ``totals`` of them (default: :func:`summarise`) and ``results`` are noted.
    """
    kept = options.out is not None
    pieces = [
        _Batch(i, batch, digest(batch) if kept else "", amount(batch))
        for i, batch in enumerate(batches)
    ]
    work = _Rows(function, threads)
    if not kept:
        return join(_concatenate(run_sharded(work, pieces, options, None)))
    with open_run(options, command, config) as store:
        if store.finished(table):
            return load_run(store.path).read_table(table)
        columns = join(_concatenate(run_sharded(work, pieces, options, store)))
        written = write_table(store.path / table, columns)
        store.add_file(table, rows=written.rows)
        noted = (totals or summarise)(columns)
        store.finish({"rows": written.rows, **noted, **(results or {})})
        store.clear_shards()
    return columns


def summarise(columns: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Totals of a table for people: functions, seconds, and what is not to be trusted."""
    out: dict[str, Any] = {"functions": len(np.unique(columns["function"]))}
    if "method" in columns:
        sampled = np.isfinite(columns["stderr"].astype(float))
        out["unreliable"] = int((sampled & ~columns["reliable"].astype(bool)).sum())
        out["not_converged"] = int((~columns["converged"].astype(bool)).sum())
        out["seconds"] = float(columns["seconds"].sum())
    return out


def _concatenate(parts: list[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _join(request: Request, columns: Columns) -> Columns:
    index = columns["index"].astype(np.intp)
    names = np.array(request.names or to_hex(pack(request.tables), request.tables.shape[1]), object)
    joined = {name: np.asarray(values)[index] for name, values in request.joined.items()}
    return {"index": columns["index"], "name": names[index], **columns, **joined}


def _digest(request: Request, batch: slice) -> str:
    text = hashlib.sha256(np.packbits(request.tables[batch]).tobytes())
    K = request.K.parts if isinstance(request.K, SampledKernel) else request.K
    text.update(np.ascontiguousarray(K).tobytes())
    text.update(repr((request.methods, request.seed, sorted(request.options.items()))).encode())
    return text.hexdigest()
