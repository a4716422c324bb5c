"""Elliptical slice sampling of a network's parameters under the 0-1 likelihood.

The prior of the parameters is Gaussian and the likelihood is 1 if the network agrees with S and 0
if not, so a move along an ellipse through the present point and a fresh prior draw (Murray, Adams
& MacKay 2010) needs no step size and has no rejected draws; S holds at every step. Updating all
parameters at once shrinks the bracket to almost nothing, hence blocks: the weights into a few units
(sizes drawn at random, up to a whole layer), and after each the output layer, exactly.

A chain must agree with S from its first step. It starts at a draw from the prior, which is swept
with only those labels as constraints that it has right so far, until it has all of them; or at a
trained network (:func:`trained_network`). A draw from the prior is far from agreeing with noisy
labels, and its sweeps may never get there; gradient descent does. Neither start is a draw from the
posterior, so ``burn_in`` sweeps follow. Chains from the prior and from networks trained by
DIFFERENT optimisers tell by R-hat whether their start is forgotten.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from simprior.boolean.sampling.chains import (
    Clock,
    Piece,
    generator_state,
    restore_generator,
)
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.sampling.prepare import check_samples
from simprior.boolean.truthtable import input_matrix, n_words, pack
from simprior.checks import NETWORK, Choice, Updates, Whole, checked
from simprior.errors import InputError, NumericalError
from simprior.network.activations import COMPILED, code_of, has_gradient
from simprior.network.density import refuse_density
from simprior.network.parameters import Parameters
from simprior.network.spec import Network
from simprior.numerics import random as rng
from simprior.runs.directory import RunDir
from simprior.runs.tasks import Progress, RunOptions
from simprior.training.posterior import kernels as kernel
from simprior.training.posterior.chains import TrainingSet, make_training_set
from simprior.training.posterior.driver import describe_sweeps, draw_chains, length_of
from simprior.training.replay import retrain_members
from simprior.training.spec import Job, Optimizer, TrainSpec
from simprior.training.targets import problem_on
from simprior.training.train import run_members

SETTLE_LIMIT = 20_000  # sweeps to find a network that agrees with S
_PATIENCE = 2_000  # sweeps after which ``auto`` trains a network instead
_CHUNK = 1 << 12  # records unpacked at a time
_ARRAYS = ("w", "h", "pre", "z", "active")


@dataclass(frozen=True)
class Options:
    """Length of the chains: ``draws`` records a chain, ``thin`` sweeps apart, after ``burn_in``."""

    draws: int
    thin: int
    burn_in: int
    settle: int = SETTLE_LIMIT
    start: str = "auto"


@dataclass
class State:
    """Arrays of one chain (layout in :mod:`simprior.training.posterior.kernels`)."""

    spec: tuple[Any, ...]
    arrays: tuple[np.ndarray, ...]  # w, h, pre, z on S
    full: tuple[np.ndarray, ...]  # h, pre, z on all inputs
    work: tuple[np.ndarray, ...]
    blocks: np.ndarray
    active: np.ndarray

    def function(self) -> np.ndarray:
        """(m,) uint8 function of the present parameters."""
        fans, widths, _, _, code = self.spec
        kernel.forward(self.arrays[0], fans, widths, code, *self.full)
        return (self.full[2] > 0).astype(np.uint8)


@checked(network=NETWORK, workers=Whole(1), progress=Updates())
def slice_posterior(
    network: Network,
    train_index: Sequence[int] | np.ndarray,
    labels: Any = None,
    samples: int | float = 10**5,
    seed: int = 0,
    *,
    target: Any = None,
    chains: int = 32,
    thin: int = 1,
    burn_in: int | None = None,
    settle_limit: int = SETTLE_LIMIT,
    start: str = "auto",
    workers: int = 1,
    progress: Progress | None = None,
    store: RunDir | None = None,
) -> FunctionCounts:
    """Draw functions from P_B(f|S) of a finite network by elliptical slice sampling.

    Parameters
    ----------
    network : Network
        Gaussian weights and a built-in activation.
    train_index, labels, target
        See :func:`simprior.training.posterior.chains.make_training_set`.
    samples : int
        Functions to record, rounded up to as many for each chain.
    seed : int
        Chain c is a function of (seed, c) and the options: not of ``workers``.
    chains : int
        Independent chains; the error bars come from their spread.
    thin : int
        Sweeps between records.
    burn_in : int, optional
        Sweeps before the first record, after S holds; half of the recorded sweeps by default.
    settle_limit : int
        Sweeps in which a chain from the prior must find a network that agrees with S.
    start : str
        Where chains begin: ``prior``, ``trained`` (networks trained by different optimisers),
        ``both`` (one chain in two), or ``auto``: the prior, and a trained network for each chain
        that does not agree with S within 2,000 sweeps.
    workers, progress
        See :func:`simprior.runs.tasks.run_tasks`; progress counts records.
    store : RunDir, optional
        Where draws and states of the chains are kept, and found again (see
        :mod:`simprior.boolean.sampling.chains`).

    Returns
    -------
    FunctionCounts
        Each chain is a cluster. ``info["posterior"]``: ``method``, ``rhat`` (largest over the
        statistics of the functions), ``ess`` (smallest), ``converged`` (R-hat < 1.01 and ESS >=
        400), ``reason`` (why not), ``statistics``, ``violating`` (0), ``acceptance`` (accepted over
        tried points of the ellipses of hidden layers), ``settle_sweeps`` (most of all chains),
        ``starts`` (how many chains began where), ``chains``, ``draws_per_chain``, ``thin``,
        ``burn_in``.

    Raises
    ------
    InputError
        Bad training set or option, weights that are not Gaussian, a user's own activation.
    NumericalError
        A chain found no network that agrees with S.
    """
    how, given = RunOptions.of(locals()), make_training_set(network.m, train_index, labels, target)
    _check_network(network)
    samples, seed = check_samples(samples), rng.check_seed(seed)
    Choice(STARTS, "pass start='auto'")("start", start)
    length = length_of(network, samples, chains, thin, burn_in)
    options = Options(length.draws, thin, length.burn_in, settle_limit, start)

    def describe(ends: list[dict[str, Any]]) -> dict[str, Any]:
        starts = origin_counts([str(end["origin"]) for end in ends])
        return describe_sweeps(length, ends) | {"starts": starts}

    advance = partial(run_chain, network, given, options, seed)
    return draw_chains(advance, network, given, length, describe, how, store, threads=True)


def run_chain(
    network: Network,
    given: TrainingSet,
    options: Options,
    seed: int,
    chain: int,
    kept: dict[str, Any] | None = None,
    seconds: float = math.inf,
) -> Piece:
    """Go on with chain number ``chain`` for about ``seconds``: start, burn-in, records.

    Raises :class:`NumericalError` if it finds no network that agrees with S.
    """
    source = rng.generator(seed, "slice", chain)
    state = start(network, given, source)
    at = {"settled": 0, "burned": -1, "drawn": 0, "updates": 0, "tries": 0}
    origin = "prior"
    if kept is not None:
        _restore(state, source, kept)
        at = {name: int(kept[name]) for name in at}
        origin = str(kept.get("origin", "prior"))
    elif wants_training(options.start, chain):
        origin = _train(state, network, given, seed, chain)
    clock = Clock(seconds)
    if at["burned"] < 0 and options.start == "auto" and origin == "prior":
        _settle_on(state, given, source, min(_PATIENCE, options.settle), at, clock, final=False)
        if at["burned"] < 0 and at["settled"] >= _PATIENCE and has_gradient(network):
            origin = _train(state, network, given, seed, chain)
            at["settled"] = 0
    if at["burned"] < 0:
        _settle_on(state, given, source, options.settle, at, clock)
    if at["burned"] >= 0:
        for count in clock.portions(at["burned"], options.burn_in, _CHUNK):
            advance(state, given, source, count, fresh=at["burned"] == 0)
            at["burned"] += count
    words = [np.empty((0, n_words(network.m)), np.uint64)]
    if at["burned"] == options.burn_in:
        for count in clock.portions(at["drawn"], options.draws, _CHUNK):
            tables = np.empty((count, network.m), np.uint8)
            updates, tries = kernel.run_chain(
                state.spec,
                state.arrays,
                state.work,
                state.blocks,
                given.bits,
                state.active,
                source,
                options.thin,
                state.full,
                tables,
            )
            words.append(pack(tables))
            at["drawn"] += count
            at["updates"] += updates
            at["tries"] += tries
    arrays = dict(zip(_ARRAYS, (*state.arrays, state.active), strict=True))
    end = {**at, **arrays, "source": generator_state(source), "origin": origin}
    return Piece(np.concatenate(words), end, at["drawn"] == options.draws)


def _settle_on(
    state: State,
    given: TrainingSet,
    source: np.random.Generator,
    limit: int,
    at: dict[str, int],
    clock: Clock,
    final: bool = True,
) -> None:
    """Sweeps towards S until it holds (``burned`` becomes 0) or the time is up.

    Raises :class:`NumericalError` after ``limit`` sweeps if that was ``final``.
    """
    for count in clock.portions(at["settled"], limit, limit):
        done = kernel.settle(
            state.spec,
            state.arrays,
            state.work,
            state.blocks,
            given.bits,
            state.active,
            source,
            count,
        )
        at["settled"] += count if done < 0 else int(done)
        if done >= 0:
            at["burned"] = 0
            return
    if final and at["settled"] >= limit:
        raise _unsettled(state, given, limit)


def _train(state: State, network: Network, given: TrainingSet, seed: int, chain: int) -> str:
    """Put a chain at a trained network; the name of its optimiser.

    Raises :class:`NumericalError` if no optimiser fits S.
    """
    found = trained_network(network, given, seed, chain)
    if found is None:
        raise NumericalError(
            f"slice sampling: no optimiser fitted the {given.index.size} training labels: expected "
            "a network that agrees with S; widen the network, or check the labels"
        )
    name, parameters = found
    w, h, pre, z = state.arrays
    fans, widths, _, _, code = state.spec
    for layer, (weights, biases) in enumerate(
        zip(parameters.weights, parameters.biases, strict=True)
    ):
        fan, units = weights.shape
        w[layer, :units, :fan], w[layer, :units, fan] = weights.T, biases
    kernel.forward(w, fans, widths, code, h, pre, z)
    state.active[:] = (z > 0) == (given.bits != 0)
    return name


def _restore(state: State, source: np.random.Generator, kept: dict[str, Any]) -> None:
    for name, array in zip(_ARRAYS, (*state.arrays, state.active), strict=True):
        array[...] = kept[name]
    restore_generator(source, kept["source"])


def start(network: Network, given: TrainingSet, source: np.random.Generator) -> State:
    """A chain at a draw from the prior; nothing holds yet."""
    widths = np.array(network.hidden, np.int64)
    fans = np.array(network.fan_ins, np.int64)
    depth, s, m = network.depth, given.index.size, network.m
    widest, fan = max((*network.hidden, 1)), int(fans.max())
    rows = max(widest, network.d)
    scales = np.array(network.sigma_ws) / np.sqrt(fans)
    biases = np.array(network.sigma_bs, float)
    w = np.zeros((depth + 1, widest, fan + 1))
    for layer, units in enumerate((*network.hidden, 1)):
        f = fans[layer]
        w[layer, :units, :f] = scales[layer] * source.standard_normal((units, f))
        w[layer, :units, f] = biases[layer] * source.standard_normal(units)
    x = np.ascontiguousarray(input_matrix(network).T)

    def activations(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        h = np.zeros((depth + 1, rows, inputs.shape[1]))
        h[0, : network.d] = inputs
        return h, np.zeros((depth, rows, inputs.shape[1])), np.zeros(inputs.shape[1])

    h, pre, z = activations(np.ascontiguousarray(x[:, given.index]))
    h_new, pre_new, z_new = activations(np.ascontiguousarray(x[:, given.index]))
    work = (np.zeros(s), np.zeros((widest, s)), np.zeros((widest, fan + 1)), h_new, pre_new, z_new)
    spec = (fans, widths, scales, biases, code_of(network))
    state = State(
        spec, (w, h, pre, z), activations(x), work, block_sizes(network), np.zeros(s, np.bool_)
    )
    kernel.forward(w, fans, widths, spec[4], h, pre, z)
    assert state.full[2].size == m
    return state


def block_sizes(network: Network) -> np.ndarray:
    """(L, 6) numbers of units updated together: one of them is drawn for each sweep of a layer."""
    parts = (16, 8, 8, 8, 4, 1)
    sizes = [[max(1, w // part) for part in parts] for w in network.hidden]
    return np.array(sizes or np.zeros((0, 6)), np.int64).reshape(-1, 6)


def settle(state: State, given: TrainingSet, source: np.random.Generator, limit: int) -> int:
    """Bring a chain to agree with S; sweeps needed. :class:`NumericalError` if it does not."""
    done = kernel.settle(
        state.spec, state.arrays, state.work, state.blocks, given.bits, state.active, source, limit
    )
    if done < 0:
        raise _unsettled(state, given, limit)
    return int(done)


def _unsettled(state: State, given: TrainingSet, limit: int) -> NumericalError:
    return NumericalError(
        f"slice sampling: {int(state.active.sum())} of {given.index.size} training labels "
        f"fitted after {limit} sweeps: expected all; check that the network can represent "
        "them, or raise settle_limit"
    )


def advance(
    state: State, given: TrainingSet, source: np.random.Generator, sweeps: int, fresh: bool = True
) -> None:
    """``sweeps`` sweeps without a record; ``fresh``: activations on S are computed anew before."""
    if fresh and sweeps:
        fans, widths, _, _, code = state.spec
        w, h, pre, z = state.arrays
        kernel.forward(w, fans, widths, code, h, pre, z)
    kernel.sweeps(
        state.spec, state.arrays, state.work, state.blocks, given.bits, state.active, source, sweeps
    )


def with_labels(given: TrainingSet, table: np.ndarray) -> TrainingSet:
    """The same inputs, labelled by another function (m,)."""
    return replace(given, bits=np.ascontiguousarray(table[given.index]), target=None)


def _check_network(network: Network) -> None:
    refuse_density(network, "slice sampling")
    expected = "gaussian (the ellipse needs a Gaussian prior)"
    Choice(("gaussian",), "use rejection", expected)("weight_dist", network.weight_dist)
    if code_of(network) is None:
        raise InputError(
            f"activation={network.activation_name!r}",
            f"one of {', '.join(COMPILED)}",
            "use rejection for other activations",
        )


STARTS = ("auto", "prior", "trained", "both")
"""``prior``: draws of the prior, swept until they agree with S. ``trained``: trained networks, the
optimiser by the number of the chain. ``both``: one chain in two of either kind. ``auto``: of the
prior, and a trained network for each chain that does not get there."""
OPTIMIZERS = {"adam": 0.01, "momentum": 0.02, "rmsprop": 0.003}
"""Optimisers and learning rates, in turn over the chains."""
_EPOCHS, _ATTEMPTS = 3000, 6


def wants_training(start: str, chain: int) -> bool:
    """Whether chain number ``chain`` begins at a trained network."""
    return start == "trained" or (start == "both" and chain % 2 == 1)


def trained_network(
    network: Network, given: TrainingSet, seed: int, chain: int
) -> tuple[str, Parameters] | None:
    """(optimiser, parameters) of a network that agrees with S, for chain number ``chain``.

    Optimisers that do not fit S are followed by the others, each twice at most, from other draws.
    None if all fail, or if the activation has no gradient.
    """
    if not has_gradient(network):
        return None
    names = list(OPTIMIZERS)
    source = rng.generator(seed, "posterior/starts", chain)
    problem = problem_on(network, given.index, given.bits)
    for attempt in range(_ATTEMPTS):
        name = names[(chain + attempt) % len(names)]
        spec = TrainSpec(
            network,
            Optimizer(name, OPTIMIZERS[name]),
            max_epochs=_EPOCHS,
            seed=int(source.integers(2**62)),
        )
        found = run_members(Job(spec, problem, 1), 0, 1)
        if found.errors[0] == 0:
            weights = retrain_members(spec, problem, [0], found.steps).parameters[0]
            return name, Parameters.from_flat(weights, network)
    return None


def origin_counts(origins: list[str]) -> str:
    """How many chains began where: ``"20 prior, 6 adam, 6 momentum"``."""
    names, counts = np.unique(origins, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return ", ".join(f"{counts[i]} {names[i]}" for i in order)
