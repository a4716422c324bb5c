"""Elliptical slice sampling of the parameters of torch modules under the 0-1 likelihood.

As :mod:`simprior.training.posterior.slice`, for any module whose parameters are normal: no gradient
and no structure of the network is used. The chains of a group move together, so that each look at
the training set S is one pass of many modules.

A sweep moves all parameters at once, and then those of each tensor: of a random share of its
entries, so that some of the moves are small enough to be long. Parameters of deviation 0 (gains and
shifts of normalisations) stay what they are. Chains start at draws from the prior, which are swept
with only those labels as constraints that they have right so far, until they have all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from simprior.boolean.sampling.chains import (
    Clock,
    Piece,
    generator_state,
    restore_generator,
)
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.sampling.prepare import check_samples
from simprior.boolean.truthtable import n_words, pack
from simprior.checks import Choice, Kind, Updates, Whole, checked
from simprior.errors import InputError, NumericalError
from simprior.modules.build import evaluation
from simprior.modules.spec import Module
from simprior.network.density import refuse_density
from simprior.numerics import random as rng
from simprior.runs.directory import RunDir
from simprior.runs.tasks import Progress, RunOptions
from simprior.training.module_members import ModuleBatch
from simprior.training.posterior.chains import TrainingSet, make_training_set
from simprior.training.posterior.driver import Length, describe_sweeps, draw_chains, length_of

GROUP = 32
SETTLE_LIMIT = 20_000  # sweeps to find modules that agree with S
_SHARES = np.array([1.0, 0.5, 0.125, 0.03125])  # of a tensor that moves, one at random
_PATIENCE = 100  # points of an ellipse that are tried before a chain stays where it is
_CHUNK = 1 << 8
_COUNTS = ("settled", "burned", "drawn", "updates", "tries")


@checked(network=Kind(("Module",)), workers=Whole(1), progress=Updates())
def module_slice_posterior(
    network: Module,
    train_index: Sequence[int] | np.ndarray,
    labels: Any = None,
    samples: int | float = 10**4,
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
    """Draw functions from P_B(f|S) of a torch module by elliptical slice sampling.

    Parameters
    ----------
    network : Module
        Whose parameters are normal, or constant.
    train_index, labels, target
        See :func:`simprior.training.posterior.chains.make_training_set`.
    samples, chains, thin, burn_in, settle_limit, workers, progress, store
        See :func:`simprior.training.posterior.slice.slice_posterior`. A group of 32 chains is a
        function of (seed, its number, the options).
    start : str
        ``prior`` (which ``auto`` means): trained modules are no possible draws where constants are
        trained as well.

    Returns
    -------
    FunctionCounts
        Each chain is a cluster. ``info["posterior"]`` as that of ``slice_posterior``.

    Raises
    ------
    InputError
        Bad training set or option, parameters that are not normal.
    NumericalError
        A chain found no module that agrees with S.
    """
    how, given = RunOptions.of(locals()), make_training_set(network.m, train_index, labels, target)
    samples, seed = check_samples(samples), rng.check_seed(seed)
    Choice(("auto", "prior"), "leave start out", "prior with a torch module")("start", start)
    _check_law(network)
    length = length_of(network, samples, chains, thin, burn_in)

    def describe(ends: list[dict[str, Any]]) -> dict[str, Any]:
        return describe_sweeps(length, ends) | {"starts": f"{chains} prior"}

    advance = partial(run_group, network, given, length, settle_limit, seed)
    return draw_chains(advance, network, given, length, describe, how, store, group=GROUP)


def _check_law(module: Module) -> None:
    refuse_density(module, "slice sampling")
    for tensor in module.tensors():
        if tensor.deviation is None or (tensor.uniform and tensor.deviation):
            raise InputError(
                f"parameter {tensor.name!r} of {module.make_name}, which is not normal",
                "normal parameters (the ellipse needs a Gaussian prior)",
                "use rejection, or leave weight_dist and init out",
            )


@dataclass
class Group:
    """Chains that move together: their parameters, and which labels they have had right."""

    net: ModuleBatch
    given: TrainingSet
    centre: np.ndarray
    deviation: np.ndarray
    source: np.random.Generator
    P: np.ndarray
    active: np.ndarray
    everything: torch.Tensor
    examples: torch.Tensor
    updates: int = 0
    tries: int = 0

    def right(self, P: np.ndarray) -> np.ndarray:
        """(C, s) whether the modules of the rows of ``P`` give the labels of S."""
        return (self._outputs(P, self.examples) > 0) == (self.given.bits != 0)

    def functions(self) -> np.ndarray:
        """(C, W) packed functions of the present parameters."""
        return pack((self._outputs(self.P, self.everything) > 0).astype(np.uint8))

    def _outputs(self, P: np.ndarray, x: torch.Tensor) -> np.ndarray:
        count = len(P)
        together = self.net.together(count)
        rows = torch.from_numpy(np.resize(P, (together, P.shape[1])))
        used = np.arange(together) < count
        return self.net(rows, x[None], used)[:count].numpy()

    def blocks(self) -> Iterator[np.ndarray]:
        """(C, p) entries that move together, one update after the other."""
        yield np.broadcast_to(self.deviation > 0, self.P.shape)
        at = 0
        for tensor in self.net.layout.tensors:
            end = at + tensor.size
            if tensor.deviation:
                shares = self.source.choice(_SHARES, size=(len(self.P), 1))
                mask = np.zeros(self.P.shape, bool)
                mask[:, at:end] = self.source.random((len(self.P), tensor.size)) < shares
                yield mask
            at = end

    def sweep(self) -> None:
        """Move every chain once along each block."""
        for mask in self.blocks():
            self._move(mask)
            if not self.active.all():
                self.active |= self.right(self.P)

    def _move(self, mask: np.ndarray) -> None:
        """A point of the ellipse through the present one and a draw from the prior, where all
        active labels are right; the bracket shrinks towards the present point."""
        count, source = len(self.P), self.source
        drawn = source.standard_normal(self.P.shape).astype(np.float32) * self.deviation
        present = self.P - self.centre
        angle = source.random(count) * 2.0 * math.pi
        low, high = angle - 2.0 * math.pi, angle.copy()
        pending = np.ones(count, bool)
        for _ in range(_PATIENCE):
            self.tries += int(pending.sum())
            cos, sin = (f(angle).astype(np.float32)[:, None] for f in (np.cos, np.sin))
            new = np.where(mask, self.centre + present * cos + drawn * sin, self.P)
            good = pending & (self.right(new) | ~self.active).all(axis=1)
            self.P[good] = new[good]
            self.updates += int(good.sum())
            pending &= ~good
            if not pending.any():
                return
            low, high = np.where(angle < 0, angle, low), np.where(angle < 0, high, angle)
            angle = low + (high - low) * source.random(count)


def make_group(module: Module, given: TrainingSet, seed: int, number: int, chains: int) -> Group:
    """Group ``number`` of ``chains`` chains, at draws from the prior; nothing holds yet."""
    net = ModuleBatch(module, len(given.index), "cpu", trained=False)
    tensors, x = net.layout.tensors, module.input_matrix()
    centre, deviation = (
        np.concatenate([np.full(t.size, value, np.float32) for t, value in pairs])
        for pairs in ([(t, t.centre) for t in tensors], [(t, t.deviation or 0.0) for t in tensors])
    )
    source = rng.generator(seed, "slice/modules", number)
    normals = source.standard_normal((chains, net.size)).astype(np.float32)
    P = centre + deviation * normals
    everything, examples = (torch.from_numpy(part).float() for part in (x, x[given.index]))
    active = np.zeros((chains, len(given.index)), bool)
    group = Group(net, given, centre, deviation, source, P, active, everything, examples)
    group.active |= group.right(P)
    return group


def run_group(
    module: Module,
    given: TrainingSet,
    length: Length,
    settle_limit: int,
    seed: int,
    number: int,
    kept: dict[str, Any] | None = None,
    seconds: float = math.inf,
) -> Piece:
    """Go on with a group of chains for about ``seconds``: start, burn-in, records.

    Raises :class:`NumericalError` if a chain finds no module that agrees with S.
    """
    chains = min(GROUP, length.chains - number * GROUP)
    clock, words = Clock(seconds), [np.empty((0, n_words(module.m)), np.uint64)]
    with evaluation():
        group = make_group(module, given, seed, number, chains)
        at = dict.fromkeys(_COUNTS, 0)
        if kept is not None:
            at = {name: int(kept[name]) for name in _COUNTS}
            group.P[...], group.active[...] = kept["P"], kept["active"]
            restore_generator(group.source, kept["source"])
        group.updates, group.tries = at["updates"], at["tries"]
        _settle(group, at, settle_limit, clock)
        settled = bool(group.active.all())
        for count in clock.portions(at["burned"], length.burn_in, _CHUNK) if settled else ():
            for _ in range(count):
                group.sweep()
            at["burned"] += count
        ready = settled and at["burned"] == length.burn_in
        for count in clock.portions(at["drawn"], length.draws, _CHUNK) if ready else ():
            for _ in range(count):
                for _ in range(length.thin):
                    group.sweep()
                words.append(group.functions())
            at["drawn"] += count
    at |= {"updates": group.updates, "tries": group.tries}
    end = {**at, "P": group.P, "active": group.active, "source": generator_state(group.source)}
    return Piece(np.concatenate(words), end, at["drawn"] == length.draws)


def _settle(group: Group, at: dict[str, int], limit: int, clock: Clock) -> None:
    """Sweeps towards S until all chains agree with it, or the time is up.

    Raises :class:`NumericalError` after ``limit`` sweeps.
    """
    while not group.active.all():
        if at["settled"] >= limit:
            behind = group.active.sum(axis=1).min()
            raise NumericalError(
                f"slice sampling: a chain has {behind} of {group.given.index.size} training labels "
                f"fitted after {limit} sweeps: expected all; check that the module can represent "
                "them, or raise settle_limit"
            )
        for count in clock.portions(0, 1, 1):
            group.sweep()
            at["settled"] += count
        if clock.up:
            return
