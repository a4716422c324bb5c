"""The registry of activations: one entry is enough; and user callables that have no gradient."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import simprior as sp
from simprior.boolean.truthtable import bit_matrix, unpack
from simprior.errors import InputError
from simprior.gp.kernels import nngp, ntk
from simprior.network.activations import ACTIVATIONS, Activation, register
from simprior.network.spec import Network
from simprior.training.draws import Source
from simprior.training.posterior import hmc_posterior, rejection_posterior, slice_posterior
from simprior.training.posterior.chains import make_training_set
from simprior.training.posterior.nuts import run_nuts
from simprior.training.posterior.soft import Likelihood, SoftTarget

X = np.random.default_rng(0).standard_normal((5, 3))
SAME = {"n": 3, "hidden": (6,), "sigma_b": 0.5}
TASK: dict[str, Any] = {"target": "01101001", "train": 5, "runs": 4, "seed": 1}


@pytest.fixture
def softsign() -> Iterator[str]:
    """An activation that the library does not know, registered by one entry."""
    entry = Activation(
        name="softsign",
        array=lambda x: x / (1 + np.abs(x)),
        tensor=torch.nn.functional.softsign,
    )
    register(entry)
    yield entry.name
    del ACTIVATIONS[entry.name]


@pytest.mark.slow
def test_one_entry_makes_an_activation(softsign: str) -> None:
    network = Network(activation=softsign, **SAME)
    known = Network(activation="torch.nn.functional:softsign", **SAME)
    # the same functions, kernels and trained networks as the same function given as a callable
    assert np.array_equal(*(sp.sample(one, 300, seed=2).words for one in (network, known)))
    np.testing.assert_allclose(nngp(network, X), nngp(known, X), rtol=1e-12)
    np.testing.assert_allclose(ntk(network, X), ntk(known, X), rtol=1e-9)
    trained = [sp.train(one, max_epochs=50, **TASK) for one in (network, known)]
    assert np.array_equal(trained[0].words, trained[1].words)
    assert np.array_equal(trained[0].loss, trained[1].loss)
    assert network.to_dict()["activation"] == softsign
    with pytest.raises(InputError, match="use rejection for other activations"):
        slice_posterior(network, [0, 1], [0, 1])  # compiled code does not know it


def test_unregistered_names_are_unknown() -> None:
    with pytest.raises(InputError, match="activation='softsign'"):
        Network(activation="softsign")


def arrays_only(x: Any) -> np.ndarray:
    """A function of numpy arrays that refuses tensors."""
    if not isinstance(x, np.ndarray):
        raise TypeError("arrays only")
    return np.tanh(x)


def no_graph(x: Any) -> Any:
    """A torch function that cuts its gradient."""
    return torch.tanh(x.detach())


def nuts(network: Network) -> Any:
    """One chain of pyro's sampler."""
    target = SoftTarget(network, make_training_set(8, [0, 3], [0, 1]), Likelihood.of(10.0, None))
    return run_nuts(lambda u: -target.log_density(u[None])[0], np.zeros(target.size), 4, 4, 0)


USES: dict[str, Callable[[Network], Any]] = {
    "training": lambda network: sp.train(network, **TASK),
    "hmc": lambda network: hmc_posterior(network, [0, 3], [0, 1], 8),
    "nuts": nuts,
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("function", [np.tanh, arrays_only, no_graph])
def test_what_trains_refuses_a_callable_without_a_gradient_at_once(use: str, function: Any) -> None:
    with pytest.raises(InputError) as caught:
        USES[use](Network(activation=function, **SAME))
    text = str(caught.value)
    assert re.search(
        r"activation='.*': expected a function that torch can differentiate, for ", text
    )
    assert "\n" not in text


@pytest.mark.slow
@pytest.mark.parametrize("function", [np.tanh, arrays_only])
def test_numpy_callables_sample_and_give_kernels(
    function: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simprior.training.posterior.rejection._FIRST_TASK", 1 << 11)
    network, tensors = (Network(activation=f, **SAME) for f in (function, torch.tanh))
    assert np.array_equal(*(sp.sample(one, 300, seed=2).words for one in (network, tensors)))
    np.testing.assert_allclose(nngp(network, X), nngp(tensors, X), rtol=1e-12)
    kept = rejection_posterior(network, [0, 3], [0, 1], 50)
    assert kept.samples >= 50


def test_guess_and_check_draws_step_networks() -> None:
    # as a step of a hidden unit, f(z) in {0, 1}, not z itself; errors are those of the functions
    network = Network(activation="step", **SAME)
    options = {"optimizer": "guess-and-check", "max_epochs": 5000}
    found = sp.train(network, **{**TASK, **options})
    assert found.fitted.all()
    for word, draws, member in zip(found.words, found.steps, range(4), strict=True):
        drawn = Source(network, 1).parameters((member << 32) + int(draws) - 1)
        hidden = (bit_matrix(3) @ drawn.weights[0] + drawn.biases[0] > 0).astype(float)
        table = (hidden @ drawn.weights[1] + drawn.biases[1])[:, 0] > 0
        assert np.array_equal(unpack(word[None], 8)[0], table)
