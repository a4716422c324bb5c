"""Conditional Monte Carlo for ln P(f) of finite networks: the last layer integrated out.

Given the hidden layers, the output z = B v, v ~ N(0, I), B = [sigma_w H/sqrt(width), sigma_b 1], is
Gaussian with the random covariance B B^T, and ln P(f | hidden layers) is an orthant probability,
in weight space when the width is below m. P(f) is its mean over random hidden layers. One draw of
the hidden layers is worth as many samples of the network as 1/P(f) while ln P(f | hidden) varies
by less than about 2 nats between draws (wide networks, common functions); beyond that the mean is
carried by draws that are never met, and the result says so.
"""

from __future__ import annotations

import math
from time import perf_counter
from typing import Any

import numpy as np

from simprior.checks import NETWORK, checked
from simprior.errors import InputError
from simprior.gp.covariance import factor_of_features
from simprior.gp.event import check_draws, make_event
from simprior.gp.tilted import tilted
from simprior.gp.twist import K_LIMIT, summarise
from simprior.network.callables import array_function
from simprior.network.spec import Network
from simprior.numerics import random as rng
from simprior.numerics.estimate import LogProb, share_stderr

MAX_SPREAD = 2.0
ROUNDING = 1e-12  # spread in nats that is none


@checked(network=NETWORK)
def conditional_log_prior(
    network: Network,
    functions: Any,
    draws: int = 200,
    seed: int = 0,
    *,
    inner_draws: int = 256,
) -> list[LogProb]:
    """ln P(f) of a finite network by averaging P(f | hidden layers) over ``draws`` hidden layers.

    Parameters
    ----------
    network : Network
        At least one hidden layer; Gaussian weights (the last layer must be Gaussian).
    functions : array, str or sequence
        As in :func:`simprior.gp.orthant.log_prior`.
    draws : int
        Random hidden layers, the same for all functions.
    inner_draws : int
        Draws of the tilted estimator for each of them.

    Returns
    -------
    list of LogProb
        Diagnostics: ``spread``, the standard deviation in nats of ln P(f | hidden) where it is
        finite; ``impossible``, the share of hidden layers under which f cannot be realised;
        ``pareto_k``; ``reliable``, False if the spread exceeds 2 nats, k-hat 0.7, or fewer than
        10 effective draws carry the mean, or all hidden layers gave the same P(f | hidden) and P(f)
        is smaller than a share that could have been missed.

    Raises
    ------
    InputError
        No hidden layer, or uniform weights.
    """
    from simprior.boolean.truthtable import input_matrix, parse_functions

    began = perf_counter()
    check_draws(draws)
    _check_network(network)
    X = input_matrix(network)
    tables = parse_functions(functions, len(X), None if network.inputs is None else 0)
    logs = np.empty((draws, len(tables)))
    for k in range(draws):
        features = last_features(network, X, rng.generator(seed, "hidden-layers", k))
        logs[k] = _given_hidden(features, tables, inner_draws, rng.derive(seed, "inner", k))
    seconds = (perf_counter() - began) / max(len(tables), 1)
    return [_combine(column, seconds) for column in logs.T]


def last_features(network: Network, X: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """B (m, width + 1), the random features with z = B v: one draw of the hidden layers."""
    phi = array_function(network)
    h = X
    for layer, width in enumerate(network.hidden):
        fan_in = network.fan_ins[layer]
        w = generator.standard_normal((fan_in, width)) * network.sigma_ws[layer] / math.sqrt(fan_in)
        b = generator.standard_normal(width) * network.sigma_bs[layer]
        h = phi(h @ w + b)
    scaled = h * (network.sigma_ws[-1] / math.sqrt(network.fan_ins[-1]))
    return np.hstack([scaled, np.full((len(X), 1), network.sigma_bs[-1])])


def _given_hidden(
    features: np.ndarray, tables: np.ndarray, draws: int, entropy: bytes
) -> np.ndarray:
    """ln P(f | hidden layers) of each function."""
    rows, first, place = np.unique(features, axis=0, return_index=True, return_inverse=True)
    place = place.reshape(-1)
    alive = rows.any(1)
    matrix = factor_of_features(rows[alive]) if alive.any() else None
    covariance = None if matrix is None else matrix.A @ matrix.A.T
    seed = int.from_bytes(entropy[:7], "little")
    out = np.full(len(tables), -math.inf)
    for i, bits in enumerate(tables):
        kept = bits[first]
        if (kept[place] != bits).any() or kept[~alive].any():
            continue
        if matrix is None or covariance is None:  # all outputs are exactly 0, as the function is
            out[i] = 0.0
            continue
        event = make_event(kept[alive], covariance, matrix)
        out[i] = tilted(event, draws=draws, seed=seed).value
    return out


def _combine(logs: np.ndarray, seconds: float) -> LogProb:
    finite = logs[np.isfinite(logs)]
    spread = float(finite.std(ddof=1)) if len(finite) > 1 else math.nan
    summary = summarise(logs, np.zeros(len(logs), np.intp), 1)
    stderr = summary.stderr
    if len(finite) == len(logs) and spread < ROUNDING:
        stderr = max(stderr, _unmet(summary.value, len(logs)))
    enough = summary.ess >= 10.0 and stderr < 1.0
    tail = summary.pareto_k <= K_LIMIT or spread < ROUNDING  # nan: too few draws to tell
    trusted = spread <= MAX_SPREAD and enough and tail
    diagnostics = {
        "spread": spread,
        "impossible": 1.0 - len(finite) / len(logs),
        "pareto_k": summary.pareto_k,
        "draws": len(logs),
        "reliable": bool(trusted),
        "converged": bool(trusted),
        "seconds": seconds,
    }
    return LogProb(summary.value, stderr, summary.ess, "conditional", diagnostics)


def _unmet(value: float, draws: int) -> float:
    """Standard error of ln P where all hidden layers gave the same P: others may not have been met.

    A share of about 1 / draws of them (:func:`simprior.numerics.estimate.share_stderr`), with P(f |
    hidden) between 0 and 1.
    """
    away = max(1.0, math.expm1(min(-value, 700.0)))
    return away * float(share_stderr(0.0, draws))


def _check_network(network: Network) -> None:
    if network.depth == 0:
        raise InputError(
            "hidden=()", "at least one hidden layer", "use log_prior on the kernel: it is exact"
        )
    if network.weight_dist != "gaussian":
        raise InputError(
            f"weight_dist={network.weight_dist!r}", "gaussian", "the last layer must be Gaussian"
        )
