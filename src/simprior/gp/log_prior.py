"""ln P(f) of any functions under a Gaussian-process prior: one call, an explicit table of methods.

P(f) = P(sign z = f), z ~ N(mean, K): a step likelihood, no noise. ``tilted`` is the default and
comes with a standard error that holds; ``ep``, ``ep-probit`` and ``laplace`` are approximations of
unknown error; the others check the default.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from simprior.checks import Choice, Maybe, Number, Numbers, Text, Validator, Whole, checked, shown
from simprior.errors import InputError
from simprior.estimate import LogProb
from simprior.gp.closed import closed
from simprior.gp.degenerate import Reduction, check_symmetric, reduce_inputs
from simprior.gp.ep import ep, ep_probit
from simprior.gp.event import check_mean, make_event
from simprior.gp.laplace import laplace
from simprior.gp.linalg import factor, factor_for_noise
from simprior.gp.liness import liness
from simprior.gp.minimax import minimax
from simprior.gp.montecarlo import montecarlo
from simprior.gp.smc import smc
from simprior.gp.tilted import tilted
from simprior.memory import check_fits
from simprior.rng import check_seed

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

NOISY = ("ep-probit", "laplace")
"""Methods with the unit noise of a probit link, for which K may be singular (K + I never is)."""


OPTIONS: dict[str, Validator] = {
    "draws": Whole(1), "max_draws": Whole(1), "tol": Number(0, open=True), "kappa": Numbers(),
    "replicates": Whole(1, 10**6), "chains": Whole(1, 10**6), "thin": Whole(1, 10**9),
    "site_tol": Number(0, 1, open=True), "step_tol": Number(0, 1, open=True),
    "damping": Number(0, 1), "block": Whole(1),
}  # fmt: skip
"""What each option of the methods may be; the methods themselves check what depends on m."""


@checked(method=Text(), n=Maybe(Whole(0, 64)))
def log_prior(
    functions: Any,
    K: np.ndarray,
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
        out first; nothing is ever added to the diagonal.
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
    from simprior.boolean.truthtable import parse_functions

    estimator, chosen = _estimator(method, options)
    check_seed(seed)
    K = check_symmetric(K)
    tables = parse_functions(functions, len(K), n)
    mean = check_mean(mean, len(K))
    if method in NOISY:
        return _noisy(estimator, chosen, method, tables, K, mean)
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


def _no_reduction(K: np.ndarray) -> Reduction:
    m = len(K)
    return Reduction(np.arange(m), np.empty(0, np.intp), np.arange(m), np.ones(m, np.int64))


def _noisy(
    estimator: Callable[..., LogProb], options: dict[str, Any], method: str, tables: np.ndarray,
    K: np.ndarray, mean: np.ndarray | None,
) -> Iterator[LogProb]:  # fmt: skip
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
