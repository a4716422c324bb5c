"""Where chains start that must agree with S from their first step: trained networks.

A network drawn from the prior is far from agreeing with noisy labels, and sweeps that keep what is
right so far may never get there; gradient descent does, from the same draw. Chains that start at
networks trained by DIFFERENT optimisers, or at the prior, tell by R-hat whether their start is
forgotten.
"""

from __future__ import annotations

import numpy as np

from simprior.network.activations import has_gradient
from simprior.network.parameters import Parameters
from simprior.network.spec import Network
from simprior.numerics import random as rng
from simprior.training.posterior.chains import TrainingSet
from simprior.training.replay import retrain_members
from simprior.training.spec import Job, Optimizer, TrainSpec
from simprior.training.targets import problem_on
from simprior.training.train import run_members

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
