"""Networks from elsewhere as a source of measures: their weights, and what they do on a problem.

The functions, the training errors and the test errors are computed from the weights. What they are
to be compared with (network, inputs, labels, training set) comes from a training run or a problem.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from simprior.analysis.measure.sources import Given, Source, digest_of, with_own_names
from simprior.boolean.truthtable import pack
from simprior.checks import shown
from simprior.errors import InputError
from simprior.network.losses import check_loss
from simprior.network.spec import Network
from simprior.network.states import flat_parameters
from simprior.training.records import TrainResult
from simprior.training.replay import load_result, problem_from_file, problem_of, spec_of
from simprior.training.targets import Problem

Like = Path | str | TrainResult | Problem


def rebuilt(result: TrainResult, data: str | None, label: str | None) -> Problem:
    """The problem of a run with its inputs, from the record or from its data file.

    Raises :class:`InputError`.
    """
    given = None if data is None else problem_from_file(result, data, label)
    return problem_of(result, given)


def given_sources(
    networks: Any,
    like: Like,
    *,
    loss: str | None = None,
    data: str | None = None,
    label: str | None = None,
) -> list[Source]:
    """A source for every file of ``networks``, or one for all networks in memory.

    ``networks`` is a file, a module, a state dict or parameters, or a list of these
    (:func:`simprior.network.states.flat_parameters`); ``like`` is the run, result or problem with
    the network, the inputs and the labels; ``loss`` is by default that of the run, or ``ce``.

    Raises :class:`InputError` for networks that do not fit.
    """
    network, problem, loss = _setting(like, loss, data, label)
    many = list(networks) if isinstance(networks, list | tuple) else [networks]
    parts: list[tuple[str, Path | None, Any]]
    if many and all(isinstance(one, str | Path) for one in many):
        paths = [Path(one).absolute() for one in many]
        parts = [(path.name, path, path) for path in paths]
    else:
        parts = [("networks", None, networks)]
    sources = []
    for name, path, part in parts:
        given = Given(flat_parameters(part, network), network, problem, loss)
        result = record_of(given)
        digest = digest_of(result, given.parameters)
        sources.append(Source(name, "networks", digest, path, result, given))
    return with_own_names(sources)


def _setting(
    like: Like, loss: str | None, data: str | None, label: str | None
) -> tuple[Network, Problem, str]:
    """The network, the problem and the loss that networks are measured with."""
    if isinstance(like, Problem):
        network = getattr(like, "network", None)
        if not isinstance(network, Network):
            raise InputError(
                f"a problem {like.name!r} without a network",
                "one with it",
                "pass a run or a result",
            )
        return network, like, check_loss("ce" if loss is None else loss)
    if not isinstance(like, str | Path | TrainResult):
        raise InputError(
            f"networks like {shown(like)}",
            "a training run, its result, or a problem",
            "pass for example results/sgd",
        )
    result = load_result(like)
    problem = rebuilt(result, data, label)
    spec = spec_of(result, problem)
    return spec.network, problem, spec.loss if loss is None else check_loss(loss)


def record_of(given: Given) -> TrainResult:
    """What the networks do on their problem, in the form of a training result.

    How they were trained is not known: there are no settings of training, no steps.
    """
    from simprior.analysis.flatness.ensemble import Ensemble
    from simprior.runs.tasks import one_thread

    problem = given.problem
    ensemble = Ensemble.of_given(given.parameters, given.network, problem, given.loss)
    inputs = problem.inputs.astype(np.float32)
    with one_thread():
        words = np.concatenate(
            [
                pack(ensemble.subset(part).classes(inputs).numpy().astype(np.uint8))
                for part in ensemble.chunks(len(inputs) * ensemble.passes.units)
            ]
        )
        errors = np.rint(ensemble.errors().numpy() * problem.size).astype(np.int64)
        loss = ensemble.losses().numpy()
    none = np.full(len(words), -1, np.int64)
    key = "network" if problem.n else "architecture"
    config = {key: given.network.to_dict(), "loss": given.loss}
    return TrainResult(words, none, none, errors, loss, problem.describe(), config)
