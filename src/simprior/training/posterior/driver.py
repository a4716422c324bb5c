"""The one driver of the posterior's Markov chains: their length, their run, their table.

A method (slice sampling, HMC, NUTS) gives :func:`draw_chains` what carries its chains on, and what
the report says of the method. Blocks, resume, workers and progress are those of
:mod:`simprior.boolean.sampling.chains`; what the draws say of convergence, and the table of
functions, come from :mod:`simprior.training.posterior.chains`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from simprior.boolean.sampling.chains import Advance, State, check_rows, run_chains
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.truthtable import n_words
from simprior.checks import Integer, Maybe
from simprior.errors import check_fits
from simprior.modules.spec import Module
from simprior.network.spec import Network, check_size
from simprior.runs.directory import RunDir
from simprior.runs.tasks import RunOptions
from simprior.training.posterior.chains import TrainingSet, counts_of_chains

MOST = {"chains": 10**5, "thin": 10**9, "burn_in": 10**9, "leapfrog": 10**6, "max_depth": 30}
"""Numbers beyond which no run ends, or fits in memory."""


def check_at_least(name: str, value: Any, low: int) -> None:
    """Refuse anything but None or a whole number of at least ``low``."""
    remedy = f"pass for example {name}={min(32, MOST[name])}"
    Maybe(Integer(low, MOST[name], remedy))(name, value)


@dataclass(frozen=True)
class Length:
    """``chains`` of ``draws`` records each, ``thin`` steps apart, after ``burn_in`` steps."""

    chains: int
    draws: int
    thin: int
    burn_in: int


def length_of(
    network: Network | Module,
    samples: int,
    chains: int,
    thin: int,
    burn_in: int | None,
    *,
    shortest: int = 0,
    together: int = 1,
    **own: int,
) -> Length:
    """Checked length of the chains that draw ``samples`` functions (rounded up) of a network.

    The burn-in is half of the steps between records by default, and at least ``shortest``.
    ``together`` networks must fit in memory. ``own`` are options of the method, >= 1. Raises
    :class:`InputError`.
    """
    numbers = [("chains", chains, 1), ("thin", thin, 1), ("burn_in", burn_in, 0)]
    for name, value, low in [*numbers, *((name, value, 1) for name, value in own.items())]:
        check_at_least(name, value, low)
    if isinstance(network, Network):
        check_size(network, together)
    check_fits(f"samples={samples}", 8.0 * samples * n_words(network.m), "draw fewer --samples")
    draws = -(-samples // chains)
    if burn_in is None:
        burn_in = max(shortest, thin * draws // 2)
    return Length(chains, draws, thin, burn_in)


def describe_sweeps(length: Length, ends: list[State]) -> dict[str, Any]:
    """What the report says of slice sampling, but for where its chains began."""
    tries = sum(int(end["tries"]) for end in ends)
    return {
        "method": "slice",
        "thin": length.thin,
        "burn_in": length.burn_in,
        "acceptance": sum(int(end["updates"]) for end in ends) / tries if tries else 1.0,
        "settle_sweeps": max(int(end["settled"]) for end in ends),
    }


def draw_chains(
    advance: Advance,
    network: Network | Module,
    given: TrainingSet,
    length: Length,
    describe: Callable[[list[State]], dict[str, Any]],
    options: RunOptions,
    store: RunDir | None,
    *,
    group: int = 1,
    threads: bool = False,
) -> FunctionCounts:
    """Run the chains of a method and count their functions.

    Parameters
    ----------
    advance : callable
        ``(number, state, seconds) -> Piece``: goes on with a group of chains (see
        :func:`simprior.boolean.sampling.chains.run_chains`). A row of its draws is the function of
        one chain; the chains of a group take turns.
    describe : callable
        Last states of all groups -> what the report says of the method.
    options, store, threads
        As of ``run_chains``.
    group : int
        Chains that ``advance`` carries together; the last group may have fewer.

    Raises
    ------
    StoreError, Interrupted, and what ``advance`` raises.
    """
    sizes = [min(group, length.chains - c) for c in range(0, length.chains, group)]
    found = run_chains(advance, len(sizes), network.m, options, store, threads=threads)
    words, name = [], "chain" if group == 1 else "chains of group"
    for number, ((part, _), size) in enumerate(zip(found, sizes, strict=True)):
        check_rows(part, length.draws * size, f"{name} {number}")
        words.append(chain_major(part.reshape(length.draws, size, -1)))
    info = describe([end for _, end in found])
    bits = 0 if network.inputs is not None else network.n
    return counts_of_chains(np.concatenate(words), given, bits, info)


def chain_major(records: np.ndarray) -> np.ndarray:
    """(draws, chains, ...) records as (chains, draws, ...)."""
    return np.ascontiguousarray(np.moveaxis(records, 0, 1))
