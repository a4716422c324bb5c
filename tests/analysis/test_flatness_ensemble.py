"""Ensembles: losses, gradients and Hessian products against torch.func, rescaling, retraining.

Both sides work in float64 on sums of some hundred terms of order 1: 1e-10 relative to the largest
entry is some 1e5 roundings.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from simprior.analysis.flatness.ensemble import Ensemble
from simprior.errors import InputError, NumericalError
from simprior.network.losses import LOSSES, loss_values
from simprior.network.spec import Network
from simprior.training.draws import Source
from simprior.training.replay import problem_of, retrain, spec_of, trained_parameters
from simprior.training.train import train

ACTIVATIONS = ("relu", "tanh", "erf", "gelu", "sin", "linear", "torch.nn.functional:silu")
CLOSE = 1e-10


def made(activation="relu", loss="ce", hidden=(6, 5, 4), count=3, own_labels=False, seed=0):
    """Random networks with random labels on 9 inputs of 4 coordinates."""
    random = np.random.default_rng(seed)
    network = Network(
        activation=activation, hidden=hidden, inputs=random.normal(size=(9, 4)), sigma_w=1.5
    )
    source = Source(network, seed)
    parameters = [source.parameters(i) for i in range(count)]
    y = random.integers(2, size=(count, 9) if own_labels else 9)
    return Ensemble.of_parameters(parameters, network, network.inputs, y, loss)


def plain_loss(ensemble, row):
    """The mean loss of one network as a function of its flat parameters, written plainly."""
    network, y = ensemble.network, ensemble.labels()[row % len(ensemble.labels())]
    phi = {
        "relu": torch.relu, "tanh": torch.tanh, "erf": torch.erf, "sin": torch.sin,
        "gelu": torch.nn.functional.gelu, "linear": lambda u: u,
    }.get(network.activation, torch.nn.functional.silu)  # fmt: skip

    def function(w):
        h, at = ensemble.X, 0
        widths = (*network.hidden, 1)
        for i, (f, k) in enumerate(zip(network.fan_ins, widths, strict=True)):
            u = h @ w[at : at + f * k].reshape(f, k) + w[at + f * k : at + (f + 1) * k]
            at += (f + 1) * k
            h = phi(u) if i < len(widths) - 1 else u
        z, t = h[:, 0], 2 * y - 1
        each = {
            "ce": torch.nn.functional.softplus(-t * z), "mse": (z - t) ** 2,
            "mse01": (z - y) ** 2, "hinge": torch.clamp(1 - t * z, min=0),
        }[ensemble.loss]  # fmt: skip
        return each.mean()

    return function


def near(a, b, tolerance=CLOSE):
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    assert a.shape == b.shape
    assert float((a - b).abs().max()) <= tolerance * max(1.0, float(b.abs().max()))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(), (5,), (6, 5, 4)])
def test_losses_gradients_and_hessian_products(activation, loss, hidden):
    ensemble = made(activation, loss, hidden, own_labels=hidden == (5,))
    vectors = torch.from_numpy(np.random.default_rng(1).normal(size=(3, ensemble.size)))
    losses, gradients = ensemble.value_and_gradients()
    products = ensemble.hvp(vectors)
    for row in range(3):
        function, w = plain_loss(ensemble, row), ensemble.parameters[row]
        near(losses[row], function(w))
        near(ensemble.losses()[row], function(w))
        near(gradients[row], torch.func.grad(function)(w))
        near(products[row], torch.func.hessian(function)(w) @ vectors[row])


def test_numbers_do_not_depend_on_the_chunks():
    ensemble = made(count=37)
    small = replace(ensemble, memory=1)
    assert small.chunk(1) == 1 and ensemble.chunk(1) > 37
    vectors = torch.from_numpy(np.random.default_rng(1).normal(size=(37, ensemble.size)))
    near(small.gradients(), ensemble.gradients())
    near(small.losses(), ensemble.losses())
    near(small.hvp(vectors), ensemble.hvp(vectors))
    rows = torch.tensor([5, 5, 2])
    near(ensemble.losses(ensemble.parameters[rows], rows), ensemble.losses()[rows])


def test_labels_of_each_network_follow_its_row():
    ensemble = made(count=6, own_labels=True)
    rows = torch.tensor([4, 1])
    values, gradients = ensemble.value_and_gradients(ensemble.parameters[rows], rows)
    near(values, ensemble.losses()[rows])
    near(gradients, ensemble.gradients()[rows])
    near(replace(ensemble, memory=1).gradients(ensemble.parameters[rows], rows), gradients)
    near(ensemble.subset([4, 1]).losses(), values)
    assert ensemble.subset([4, 1]).ids.tolist() == [4, 1]


def test_losses_and_errors_are_those_of_training():
    for loss in LOSSES:
        ensemble = made(loss=loss)
        z = ensemble.outputs().numpy()
        expected = loss_values(loss, z, ensemble.y.numpy()).mean(axis=1)
        near(ensemble.losses(), expected)
        wrong = (z > (0.5 if loss == "mse01" else 0)) != (ensemble.y.numpy() > 0.5)
        assert ensemble.errors().tolist() == wrong.mean(axis=1).tolist()


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_powers_of_two_leave_every_output_the_same_to_the_last_bit(layer):
    ensemble = made(count=20)
    for alpha in (2.0, 0.25, 1024.0):
        other = ensemble.rescaled(alpha, layer)
        assert torch.equal(other.outputs(), ensemble.outputs())
        assert not torch.equal(other.parameters, ensemble.parameters)
        assert torch.equal(other.rescaled(1 / alpha, layer).parameters, ensemble.parameters)
    near(ensemble.rescaled(3.7, layer).outputs(), ensemble.outputs())


def test_rescaling_keeps_biases_of_later_layers():
    ensemble = made(hidden=(3, 2), count=1)
    before = ensemble.passes.layers(ensemble.parameters)
    after = ensemble.passes.layers(ensemble.rescaled(4.0).parameters)
    for i, (w, b) in enumerate(((4.0, 4.0), (0.25, 1.0), (1.0, 1.0))):
        assert torch.equal(after[i][0], before[i][0] * w)
        assert torch.equal(after[i][1], before[i][1] * b)


@pytest.mark.parametrize(
    ("of", "alpha", "layer", "word"),
    [
        ({"activation": "tanh"}, 2.0, 0, "tanh"), ({"activation": "linear"}, 2.0, 0, "linear"),
        ({}, 0.0, 0, "0"), ({}, float("nan"), 0, "nan"), ({}, 2.0, 3, "layer=3"),
        ({"hidden": ()}, 2.0, 0, "0 hidden"),
    ],
)  # fmt: skip
def test_rescaling_refuses(of, alpha, layer, word):
    with pytest.raises(InputError, match=word):
        made(**of).rescaled(alpha, layer)


def test_no_gradients_of_steps_but_outputs():
    ensemble = made("step")
    assert ensemble.outputs().shape == (3, 9)
    with pytest.raises(InputError, match="step"):
        ensemble.gradients()


def test_refuses_bad_ensembles():
    good = made()
    flat, X, y = good.parameters, good.X, good.y
    for parts in ((flat[:, 1:], X, y), (flat, X[:, 1:], y), (flat, X, y[1:]), (flat, X, y + 1),
                  (flat * float("nan"), X, y), (flat[:0], X, y)):  # fmt: skip
        with pytest.raises(InputError):
            Ensemble(parts[0], good.network, parts[1], parts[2], "ce")
    with pytest.raises(InputError, match="loss"):
        Ensemble(flat, good.network, X, y, "nll")
    with pytest.raises(InputError):
        Ensemble.of_parameters([], good.network, X, y)


BOOLEAN = {"n": 5, "hidden": (10, 9)}
RUNS = {
    "adam": {"optimizer": "adam", "lr": 0.01},
    "sgd-attack": {"optimizer": "sgd", "lr": 0.3, "attack": 3, "corrupt": 0.2, "data_seed": 4},
    "entropy": {"optimizer": "entropy-sgd", "max_epochs": 300},
    "pretrain": {"optimizer": "adam", "lr": 0.01, "pretrain": 20, "stop": "epochs:3"},
    "advsgd": {"optimizer": "advsgd", "lr": 0.3, "stop": "steps:40"},
    "guess": {"optimizer": "guess-and-check", "train": 4, "max_epochs": 2000},
}


@pytest.mark.parametrize("name", RUNS)
def test_members_of_a_run_are_trained_again_to_the_last_bit(name):
    settings = {"target": "lz:15", "train": 14, "batch_size": 5, "max_epochs": 100, **RUNS[name]}
    result = train(Network(**BOOLEAN), **settings, runs=12, seed=3)
    chosen = np.array([7, 2, 11])
    spec, problem, found = retrain(result, chosen)
    assert (found.words == result.words[chosen]).all()
    assert found.errors.tolist() == result.errors[chosen].tolist()
    assert found.loss.tolist() == result.loss[chosen].tolist()  # a loss depends on every weight
    ensemble = Ensemble.of_run(result, chosen)
    assert ensemble.ids.tolist() == chosen.tolist()
    assert torch.equal(ensemble.parameters.float(), torch.from_numpy(found.parameters))
    # losses were computed in float32: relative rounding 1e-6 is some 10 units in the last place
    assert np.allclose(ensemble.losses(), result.loss[chosen], rtol=1e-5, atol=1e-6)
    assert (ensemble.errors().numpy() * problem.size).round().tolist() == found.errors.tolist()
    if name != "guess":
        alone = trained_parameters(spec, problem, 2, int(result.steps[2])).flat()
        assert (alone == found.parameters[1]).all()


def test_workers_do_not_change_the_weights():
    result = train(Network(**BOOLEAN), "lz:15", train=14, runs=9, lr=0.01, seed=3)
    _, _, alone = retrain(result, np.arange(9))
    _, _, many = retrain(result, np.arange(9), workers=2)
    assert (alone.parameters == many.parameters).all()


def test_runs_of_the_torch_engine():
    net = Network(n=5, hidden=(10,), activation="torch.nn.functional:silu")
    for more in ({}, {"pretrain": 10}, {"optimizer": "entropy-sgd", "stop": "steps:30"}):
        result = train(net, "lz:15", **{"train": 14, "runs": 6, "lr": 0.01, "seed": 2, **more})
        ensemble = Ensemble.of_run(result, [4, 1])
        assert np.allclose(ensemble.losses(), result.loss[[4, 1]], rtol=1e-4, atol=1e-5)


def test_a_saved_run_and_its_default_members(tmp_path):
    net = Network(n=7, hidden=(8, 8))
    result = train(
        net, data="digits", classes="0-4:5-9", train=30, attack=5, test=40, runs=6, lr=0.01,
        corrupt=0.1, data_seed=9, out=tmp_path / "run", max_epochs=600,
    )  # fmt: skip
    ensemble = Ensemble.of_run(tmp_path / "run")
    assert ensemble.ids.tolist() == np.flatnonzero(result.fitted).tolist()
    assert ensemble.examples == 35 and ensemble.network.d == 64
    assert ensemble.initial.shape == ensemble.parameters.shape
    whole = ensemble.classes(ensemble.network.inputs).numpy()
    from simprior.boolean.truthtable import pack

    assert (pack(whole) == result.words[ensemble.ids]).all()


def test_runs_that_cannot_be_repeated_say_why():
    random = np.random.default_rng(0)
    net = Network(hidden=(5,), inputs=random.normal(size=(12, 3)))
    result = train(net, "random", train=6, runs=2, lr=0.05)
    with pytest.raises(InputError, match="problem="):
        Ensemble.of_run(result)
    from simprior.training.targets import Problem

    problem = Problem(net, "random", train=6)
    assert len(Ensemble.of_run(result, [0, 1], problem=problem)) == 2
    with pytest.raises(InputError, match="differ"):
        Ensemble.of_run(result, problem=Problem(net, "random", train=6, seed=1))
    with pytest.raises(InputError, match="members 0 to 1"):
        Ensemble.of_run(result, [2], problem=problem)
    changed = replace(result, words=result.words ^ np.uint64(1 << 63))
    with pytest.raises(NumericalError, match="another function"):
        Ensemble.of_run(changed, [0], problem=problem)
    assert spec_of(result, problem).network.inputs is not None
    assert problem_of(result, problem) is problem
