"""ln P(f) of functions that networks found, from a Gaussian process or from sampled frequencies.

Both come with a standard error, which everything downstream (figures, correlations) uses. The
marginal-likelihood bound of a training set is here too, since it needs the same kernel.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.truthtable import from_hex, to_hex, unpack
from simprior.errors import InputError
from simprior.gp.architectures import SampledKernel, kernel
from simprior.gp.covariance import check_memory
from simprior.gp.orthant import log_prior
from simprior.gp.posterior import marginal_likelihood_bound
from simprior.network.losses import threshold
from simprior.network.spec import Network
from simprior.numerics.estimate import LogProb
from simprior.runs.tasks import one_thread
from simprior.training.records import TrainResult
from simprior.training.targets import Problem, recorded_network

if TYPE_CHECKING:
    import pandas as pd

    from simprior.modules.spec import Module

Columns = dict[str, np.ndarray]


class Prior:
    """The infinite-width prior of one architecture on its inputs: ln P of any labels, with errors.

    ``network`` (or module, whose kernel may be sampled) with its inputs; ``level``: the class is 1
    iff the output is above it (1/2 for the loss ``mse01``), which shifts the mean of the process;
    ``options`` (draws, tol) of :func:`simprior.gp.orthant.log_prior`. Randomness is a function of
    (seed, labels), so that equal functions have equal values wherever they are met.
    """

    def __init__(
        self, network: Network | Module, seed: int = 0, level: float = 0.0, **options: Any
    ) -> None:
        check_memory(network.m)
        self.m, self.seed, self.level, self.options = network.m, seed, level, options
        self.K = kernel(network, seed=seed)

    def log_p(self, words: np.ndarray, index: np.ndarray | None = None) -> Columns:
        """``log_p`` and ``log_p_stderr`` (F,), nats, of packed (F, W) functions.

        ``index``: the inputs that count (default: all).
        """
        index = np.arange(self.m) if index is None else index
        tables = unpack(words, self.m)[:, index]
        distinct, where = np.unique(tables, axis=0, return_inverse=True)
        found = self._of(distinct, index)
        value = np.array([p.value for p in found])[where.ravel()]
        return {"log_p": value, "log_p_stderr": np.array([p.stderr for p in found])[where.ravel()]}

    def evidence(self, index: np.ndarray, labels: np.ndarray) -> LogProb:
        """ln P(C(S)), nats, of labels (k,) of the inputs ``index``."""
        return self._of(np.asarray(labels, np.uint8)[None], np.asarray(index))[0]

    def _of(self, tables: np.ndarray, index: np.ndarray) -> list[LogProb]:
        mean = None if self.level == 0 else np.full(len(index), -self.level)
        whole = self.K
        K = whole.on(index) if isinstance(whole, SampledKernel) else whole[np.ix_(index, index)]
        with one_thread():
            return log_prior(tables, K, mean=mean, seed=self.seed, **self.options)


def prior_of(result: TrainResult, seed: int = 0, **options: Any) -> Prior:
    """The prior of a training run on bit strings, with the threshold that its loss gives."""
    network = recorded_network(result.config)
    return Prior(network, seed, threshold(result.config["loss"]), **options)


def with_log_p(result: TrainResult, seed: int = 0, draws: int = 1000) -> pd.DataFrame:
    """The recorded trajectories with ``logp`` and ``logp_stderr`` (nats), infinitely wide network.

    Bit strings only.
    """
    frame = result.trajectories
    words = from_hex(frame["function"].to_list(), result.m)
    found = prior_of(result, seed, draws=draws).log_p(words)
    return frame.assign(logp=found["log_p"], logp_stderr=found["log_p_stderr"])


def bound_columns(prior: Prior, problem: Problem, delta: float) -> dict[str, float]:
    """Bound on the error of the posterior from everything fitted, and ln P(C(S)) (nats).

    ``bound_low`` and ``bound_high`` are the bound at the ends of the 95 % interval of ln P(C(S)).
    The bound is for training examples drawn independently, without attack points: with those, or
    with corrupted labels, it bounds the error on data of that kind, the corrupted one.
    """
    evidence = prior.evidence(problem.fitted_index, problem.labels)
    out = {"log_evidence": evidence.value, "log_evidence_stderr": evidence.stderr}
    if problem.size < 2 or not np.isfinite(evidence.value):
        return out | dict.fromkeys(("bound", "bound_low", "bound_high"), np.nan)
    bound = marginal_likelihood_bound(evidence, problem.size, delta)
    return out | {"bound": bound.error, "bound_low": bound.low, "bound_high": bound.high}


def sampled_log_p(counts: FunctionCounts, rows: np.ndarray) -> Columns:
    """ln of the sampled frequency of ``rows`` (F,) of a table (-1: not met, gives NaN).

    The standard error is that of the frequency over the frequency (first order in the relative
    error; for a function met k times about 1/sqrt(k), so that k below ten or so is rough), and
    includes the design effect of shared hidden layers. Columns ``log_p_sampled``,
    ``log_p_sampled_stderr`` (nats) and ``count``.
    """
    met = rows >= 0
    at = np.where(met, rows, 0)
    p, error, count = counts.p[at], counts.stderr[at], counts.count[at]
    blank = np.where(met, 1.0, np.nan)
    return {
        "log_p_sampled": np.log(p) * blank,
        "log_p_sampled_stderr": error / p * blank,
        "count": np.where(met, count, 0).astype(np.float64),
    }


def looked_up(path: Path | str, words: np.ndarray, m: int, level: float = 0.0) -> Columns:
    """:func:`sampled_log_p` of packed functions in the run directory ``path``.

    Raises :class:`InputError` when its functions have another number of inputs, or the networks'
    classes are divided at another ``level`` than 0, where sampled functions are.
    """
    if level:
        raise InputError(
            f"prior-from={path} for networks whose class is that of output > {level:g}",
            "the threshold 0 of sampled functions",
            "leave it out: log_p has the right threshold",
        )
    counts = FunctionCounts.load(path)
    if counts.m != m:
        raise InputError(
            f"prior-from={path} with functions of {counts.m} inputs",
            f"functions of {m} inputs",
            "sample the same architecture and inputs",
        )
    return sampled_log_p(counts, counts.find(to_hex(words, m)))
