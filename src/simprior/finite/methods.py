"""The methods for ln P(f) at finite width: their names, what they need, and one call for all.

============  ======================================================================================
auto          for each function the one of these that suits it (:mod:`simprior.finite.auto`)
smc           annealing of the weights: any width, far below what sampling reaches
exchange      replica exchange between nested sets: the same reach, slower; to check smc
conditional   the last layer integrated out, hidden layers drawn from the prior: wide networks
first-order   ln P_infinity + c/n: wide networks, corrections up to 1.5 nats
============  ======================================================================================

They share no code below the prior of a network and the tilted estimator of orthants, so that where
several apply they check one another.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from simprior.boolean.truthtable import parse_functions
from simprior.checks import NETWORK, Choice, Integer, Maybe, Validator, checked, shown, unknown
from simprior.errors import InputError, check_fits
from simprior.finite.attempts import EFFORT, HOW, Effort, with_decided
from simprior.finite.conditional import DRAWS
from simprior.finite.first_order import GROUPS, draws_of
from simprior.finite.particles import check_network
from simprior.finite.prior import check_cost
from simprior.network.density import refuse_density
from simprior.network.spec import Network, check_size
from simprior.numerics.estimate import LogProb
from simprior.numerics.random import check_seed
from simprior.runs.directory import RunDir
from simprior.runs.tasks import RunOptions

METHODS: Mapping[str, str] = {
    "auto": "simprior.finite.auto:estimate_auto",
    "smc": "simprior.finite.prior:estimate",
    "exchange": "simprior.finite.exchange:estimate_exchange",
    "conditional": "simprior.finite.conditional:estimate_conditional",
    "first-order": "simprior.finite.first_order:estimate_first_order",
}
"""Names, and the functions behind them: module and name, imported on use."""
DEFAULT = "auto"
LIMITS = ("conditional", "first-order")
"""Methods that draw no particles: any activation will do."""
_COPIES = 8  # numbers kept for each output drawn: temperatures, angles
OPTIONS: Mapping[str, Validator] = {
    **EFFORT,
    "draws": Maybe(Integer(8, 10**9, "pass for example draws=200")),
}


_SAMPLERS = ("auto", "smc", "exchange")
_OWNERS: Mapping[str, tuple[str, ...]] = {"draws": ("auto", *LIMITS)} | {
    name: _SAMPLERS for name in EFFORT if name != "tol"
}


def check_options(methods: tuple[str, ...], given: Mapping[str, Any]) -> None:
    """Raise :class:`InputError` for an option in ``given`` that none of the methods has."""
    for name, value in given.items():
        owners = _OWNERS.get(name, methods)
        if value is not None and not set(owners) & set(methods):
            found = f"{name}={shown(value)} with method={','.join(methods)}"
            expected = f"one of the methods {', '.join(owners)} with it"
            raise InputError(found, expected, f"leave {name} out")


def check_methods(methods: tuple[str, ...], network: Network) -> tuple[str, ...]:
    """``methods`` if each is one of ``METHODS``, once, and takes this network.

    Raises :class:`InputError`.
    """
    expected = f"some of {', '.join(METHODS)} (the methods at finite width)"
    for method in methods:
        Choice(METHODS, expected=expected)("method", method)
    if not methods or len(set(methods)) < len(methods):
        found = f"method={','.join(methods)}"
        raise InputError(found, "each method once, at least one", "pass for example --method auto")
    for method in methods:
        if method != "conditional":
            remedy = "use method conditional, or count (sample, watch)"
            refuse_density(network, f"method {method} at finite width", remedy)
        if not any(network.sigma_bs):
            refuse_density(network, "networks without biases, at finite width")
        if method not in LIMITS:
            check_network(network)
        elif method == "conditional" and not network.depth:
            remedy = "leave the method out: without hidden layers the limit is exact"
            raise InputError("method=conditional", "at least one hidden layer", remedy)
    law = "gaussian (the outputs given the hidden layers are Gaussian)"
    Choice(("gaussian",), "use weight_dist='gaussian'", law)("weight_dist", network.weight_dist)
    return methods


def check_costs(
    methods: tuple[str, ...], network: Network, effort: Effort, workers: int = 1
) -> None:
    """Raise :class:`simprior.errors.MemoryShortage` for what does not fit in memory."""
    if not set(methods) <= set(LIMITS):
        check_cost(network, effort, workers)
    if "first-order" in methods:
        draws = draws_of(effort)
        need = workers * 8.0 * _COPIES * network.m * draws
        what = f"draws={GROUPS * draws} of {network.m} outputs"
        check_fits(what, need, "use fewer --draws or --workers")


def amount(method: str, effort: Effort, count: int) -> int:
    """Units of progress of ``count`` functions, before ``tol`` asks for more; at most, of auto."""
    draws = effort.draws or DRAWS
    found = {
        "first-order": GROUPS,
        "conditional": draws,
        "auto": draws + effort.pieces * count,
        "exchange": (1 + effort.runs) * count,
    }
    return found.get(method, effort.pieces * count)


@checked(network=NETWORK)
def log_prior_by(
    network: Network, functions: Any, method: str = DEFAULT, *, seed: int = 0, **options: Any
) -> list[LogProb]:
    """ln P(f) of a network of finite width for each function, by the method named.

    Parameters
    ----------
    network : Network
        As it is, with its widths.
    functions : array, str or sequence
        As in :func:`simprior.boolean.truthtable.parse_functions`.
    method : str
        A name in ``METHODS``.
    seed : int
        Randomness is a function of (seed, method, function).
    options
        ``workers``, ``progress``, ``store`` and the options of
        :func:`simprior.finite.log_prior_finite` for the annealing; ``tol`` (wanted standard error,
        nats); ``draws`` of the hidden layers (``conditional``, 200) or of the outputs
        (``first-order``, 32768).

    Returns
    -------
    list of LogProb
        One a function, in order, values in nats; ``stderr`` is nan and ``reliable`` False where
        the method does not believe its value, and ``reason`` says why.

    Raises
    ------
    InputError, NumericalError, MemoryShortage, Interrupted, StoreError
    """
    check_methods((method,), network)
    known = {**OPTIONS, **HOW}
    for name, value in options.items():
        if name not in known:
            raise unknown(f"option {name}={shown(value)}", name, known, "remove it")
    given = {name: known[name](name, value) for name, value in options.items()}
    check_options((method,), given)
    effort = Effort(**{name: value for name, value in given.items() if name in OPTIONS})
    tables = parse_functions(functions, network.m, None if network.inputs is None else 0)
    workers = given.get("workers", 1)
    check_costs((method,), network, effort, workers)
    how = RunOptions(workers=workers, progress=given.get("progress"))
    return estimate_by(method, network, tables, effort, check_seed(seed), how, given.get("store"))


def estimate_by(
    method: str,
    network: Network,
    tables: np.ndarray,
    effort: Effort,
    seed: int,
    options: RunOptions,
    store: RunDir | None = None,
) -> list[LogProb]:
    """ln P of (F, m) truth tables by one method; what inputs alone decide is exact for all."""
    check_size(network)
    module, name = METHODS[method].split(":")

    def estimate(todo: list[int]) -> list[LogProb]:
        function = getattr(importlib.import_module(module), name)
        found: list[LogProb] = function(network, tables[todo], effort, seed, options, store)
        return found

    return with_decided(network, tables, estimate)
