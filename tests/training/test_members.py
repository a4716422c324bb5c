"""A member of an ensemble against the same network trained alone with torch.optim.

Both start from the same parameters and see the same minibatches; parameters are compared after
every step. Float32 rounding is amplified by training, and adaptive rules divide by the size of a
gradient that may be rounding error, so the reference runs in float64 as well as float32: the
compiled member must be no farther from the float64 path than a few times torch's own float32 path,
plus 2e-5 absolutely (200 float32 units at the size of a parameter, 1).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from simprior.network.spec import Network
from simprior.training.draws import Parameters, Source
from simprior.training.replay import trained_parameters
from simprior.training.spec import Optimizer, TrainSpec
from simprior.training.targets import Problem

NETWORK = Network(n=5, hidden=(12, 20), activation="tanh")
PROBLEM = Problem(NETWORK, "random", train=22, seed=3)
STEPS = 30
MEMBER = 5

OPTIMIZERS = {
    "sgd": (Optimizer("sgd", 0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "sgd-decay": (
        Optimizer("sgd", 0.1, {"weight_decay": 0.05}),
        lambda p: torch.optim.SGD(p, 0.1, weight_decay=0.05),
    ),
    "momentum": (Optimizer("momentum", 0.05), lambda p: torch.optim.SGD(p, 0.05, momentum=0.9)),
    "dampening": (
        Optimizer("momentum", 0.05, {"dampening": 0.3, "weight_decay": 0.01}),
        lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, dampening=0.3, weight_decay=0.01),
    ),
    "nesterov": (
        Optimizer("nesterov", 0.05, {"weight_decay": 0.02}),
        lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True, weight_decay=0.02),
    ),
    "gd": (Optimizer("gd", 0.2), lambda p: torch.optim.SGD(p, 0.2)),
    "adam": (Optimizer("adam", 0.01), lambda p: torch.optim.Adam(p, 0.01)),
    "adam-decay": (
        Optimizer("adam", 0.01, {"weight_decay": 0.1, "beta1": 0.8, "beta2": 0.95, "eps": 1e-6}),
        lambda p: torch.optim.Adam(p, 0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1),
    ),
    "amsgrad": (
        Optimizer("adam", 0.01, {"amsgrad": True}),
        lambda p: torch.optim.Adam(p, 0.01, amsgrad=True),
    ),
    "adamw": (Optimizer("adamw", 0.01), lambda p: torch.optim.AdamW(p, 0.01)),
    "adamw-decay": (
        Optimizer("adamw", 0.01, {"weight_decay": 0.3}),
        lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.3),
    ),
    "rmsprop": (Optimizer("rmsprop", 0.005), lambda p: torch.optim.RMSprop(p, 0.005)),
    "rmsprop-centered": (
        Optimizer("rmsprop", 0.005, {"momentum": 0.7, "weight_decay": 0.1, "eps": 1e-3,
                                     "centered": True}),
        lambda p: torch.optim.RMSprop(
            p, 0.005, momentum=0.7, weight_decay=0.1, eps=1e-3, centered=True
        ),
    ),
    "adagrad": (Optimizer("adagrad", 0.05), lambda p: torch.optim.Adagrad(p, 0.05)),
    "adagrad-decay": (
        Optimizer("adagrad", 0.05, {"lr_decay": 0.1, "initial_accumulator_value": 0.1,
                                    "weight_decay": 0.05}),
        lambda p: torch.optim.Adagrad(
            p, 0.05, lr_decay=0.1, initial_accumulator_value=0.1, weight_decay=0.05
        ),
    ),
    "adadelta": (
        Optimizer("adadelta", 1.0, {"weight_decay": 0.01}),
        lambda p: torch.optim.Adadelta(p, 1.0, weight_decay=0.01),
    ),
}  # fmt: skip
LOSSES = {
    "ce": torch.nn.functional.binary_cross_entropy_with_logits,
    "mse01": torch.nn.functional.mse_loss,
    "mse": lambda z, y: torch.nn.functional.mse_loss(z, 2 * y - 1),
    "hinge": lambda z, y: torch.clamp(1 - (2 * y - 1) * z, min=0).mean(),
}
ACTIVATIONS = {
    "relu": torch.relu, "tanh": torch.tanh, "erf": torch.erf, "sin": torch.sin,
    "gelu": torch.nn.functional.gelu, "linear": lambda z: z,
}  # fmt: skip


class Alone:
    """One network in plain torch."""

    def __init__(self, start: Parameters, activation: str, dtype: torch.dtype) -> None:
        pairs = zip(start.weights, start.biases, strict=True)
        self.parameters = [
            torch.tensor(part, dtype=dtype, requires_grad=True) for pair in pairs for part in pair
        ]
        self.activation = ACTIVATIONS[activation]

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        layers = list(zip(self.parameters[::2], self.parameters[1::2], strict=True))
        for i, (w, b) in enumerate(layers):
            x = x @ w + b
            x = self.activation(x) if i < len(layers) - 1 else x
        return x[:, 0]

    def flat(self) -> np.ndarray:
        return np.concatenate([p.detach().numpy().ravel() for p in self.parameters])


def minibatch(source: Source, spec: TrainSpec, member: int, step: int, size: int) -> np.ndarray:
    """Examples of a step (from 0): consecutive pieces of the epoch's order."""
    batch = spec.batch(size)
    if batch == size:
        return np.arange(size)
    per_epoch = -(-size // batch)
    at = step % per_epoch * batch
    return source.order(member, step // per_epoch, size)[at : at + batch]


def alone_path(spec, problem, make, steps: int, dtype: torch.dtype) -> np.ndarray:
    """(steps, p) parameters after each step of torch.optim."""
    source = Source(spec.network, spec.seed)
    network = Alone(source.parameters(MEMBER), spec.network.activation, dtype)
    optimizer = make(network.parameters)
    x = torch.tensor(problem.train_inputs, dtype=dtype)
    y = torch.tensor(problem.labels, dtype=dtype)
    path = []
    for step in range(steps):
        chosen = torch.tensor(minibatch(source, spec, MEMBER, step, problem.size))
        optimizer.zero_grad()
        LOSSES[spec.loss](network(x[chosen]), y[chosen]).backward()
        optimizer.step()
        path.append(network.flat())
    return np.array(path)


def compiled_path(spec, problem, steps: int) -> np.ndarray:
    return np.array(
        [trained_parameters(spec, problem, MEMBER, k).flat() for k in range(1, steps + 1)]
    )


def assert_same_path(spec, problem, make, steps: int = STEPS) -> None:
    exact = alone_path(spec, problem, make, steps, torch.float64)
    single = alone_path(spec, problem, make, steps, torch.float32)
    ours = compiled_path(spec, problem, steps)
    start = Source(spec.network, spec.seed).parameters(MEMBER).flat()
    assert np.abs(exact[-1] - start).max() > 1e-3  # it went somewhere
    allowed = 2e-5 + 5 * np.maximum.accumulate(np.abs(single - exact).max(axis=1))
    assert (np.abs(ours - exact).max(axis=1) <= allowed).all()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_step_by_step(name: str) -> None:
    ours, make = OPTIMIZERS[name]
    assert_same_path(TrainSpec(NETWORK, ours, "ce", 8, seed=1), PROBLEM, make)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_loss_and_activation_step_by_step(loss: str, activation: str) -> None:
    network = replace(NETWORK, activation=activation)
    ours, _ = OPTIMIZERS["momentum"]
    assert_same_path(TrainSpec(network, replace(ours, lr=0.003), loss, 8, seed=2), PROBLEM,
                     lambda p: torch.optim.SGD(p, 0.003, momentum=0.9), 15)  # fmt: skip


@pytest.mark.parametrize("hidden", [(), (7,), (40, 40), (16, 33, 5), (70,)])
@pytest.mark.parametrize("batch", [1, 5, 22])
def test_every_shape(hidden: tuple[int, ...], batch: int) -> None:
    network = Network(n=5, hidden=hidden)
    ours, make = OPTIMIZERS["adam"]
    assert_same_path(TrainSpec(network, ours, "ce", batch, seed=4), PROBLEM, make, 10)


def test_many_inputs_and_batches_above_a_block() -> None:
    network = Network(n=7, hidden=(24, 24))
    problem = Problem(network, "random", train=100, seed=1)
    ours, make = OPTIMIZERS["adam"]
    assert_same_path(TrainSpec(network, ours, "ce", 70, seed=4), problem, make, 8)


def test_initial_parameters_follow_the_prior() -> None:
    network = Network(n=6, hidden=(30, 20), sigma_w=(1.0, 2.0, 0.5), sigma_b=(0.5, 0.0, 3.0))
    source = Source(network, 9)
    drawn = [source.parameters(k) for k in range(300)]
    for i, (f, sw, sb) in enumerate(
        zip(network.fan_ins, network.sigma_ws, network.sigma_bs, strict=True)
    ):
        w = np.stack([p.weights[i] for p in drawn]).ravel() * np.sqrt(f) / sw
        b = np.stack([p.biases[i] for p in drawn]).ravel()
        # a mean square of n standard normals has standard error sqrt(2 / n); five of them
        assert abs(np.mean(w**2) - 1) < 5 * np.sqrt(2 / w.size)
        assert abs(np.mean(w)) < 5 / np.sqrt(w.size)
        assert abs(np.mean(b**2) - sb**2) <= 5 * sb**2 * np.sqrt(2 / b.size)


def test_orders_are_permutations_of_their_own() -> None:
    source = Source(NETWORK, 0)
    orders = np.array([source.order(k, e, 64) for k in range(40) for e in range(5)])
    assert (np.sort(orders, axis=1) == np.arange(64)).all()
    assert len(np.unique(orders, axis=0)) == len(orders)
    # example 0 is anywhere with probability 1/64: mean position 31.5, sd 18.5, five standard errors
    place = np.argmin(orders, axis=1)
    assert abs(place.mean() - 31.5) < 5 * 18.5 / np.sqrt(len(place))


def reference_noise(source: Source, step: int) -> list[torch.Tensor]:
    drawn = source.noise(MEMBER, step)
    pairs = zip(drawn.weights, drawn.biases, strict=True)
    return [torch.tensor(part, dtype=torch.float64) for pair in pairs for part in pair]


def gradients(spec, problem, network: Alone, chosen: np.ndarray) -> list[torch.Tensor]:
    x = torch.tensor(problem.train_inputs)[torch.tensor(chosen)]
    y = torch.tensor(problem.labels, dtype=torch.float64)[torch.tensor(chosen)]
    loss = LOSSES[spec.loss](network(x), y)
    return list(torch.autograd.grad(loss, network.parameters))


def test_langevin_step_by_step() -> None:
    lr, temperature, decay = 0.05, 0.01, 0.02
    options = {"temperature": temperature, "weight_decay": decay}
    spec = TrainSpec(NETWORK, Optimizer("sgld", lr, options), "ce", 8, seed=5)
    source = Source(NETWORK, 5)
    network = Alone(source.parameters(MEMBER), "tanh", torch.float64)
    ours = compiled_path(spec, PROBLEM, 20)
    for step in range(20):
        g = gradients(spec, PROBLEM, network, minibatch(source, spec, MEMBER, step, PROBLEM.size))
        noise = reference_noise(source, step + 1)
        with torch.no_grad():
            for p, gp, xi in zip(network.parameters, g, noise, strict=True):
                p.add_(-lr * (gp + decay * p) + np.sqrt(2 * lr * temperature) * xi)
        assert np.abs(ours[step] - network.flat()).max() < 2e-5


def test_entropy_sgd_step_by_step() -> None:
    options = {"inner_lr": 0.1, "inner_steps": 4, "gamma": 0.5, "alpha": 0.6, "noise": 0.05}
    spec = TrainSpec(NETWORK, Optimizer("entropy-sgd", 0.7, options), "ce", 8, seed=6)
    source = Source(NETWORK, 6)
    network = Alone(source.parameters(MEMBER), "tanh", torch.float64)
    outer = [p.detach().clone() for p in network.parameters]
    mean = [p.clone() for p in outer]
    ours = compiled_path(spec, PROBLEM, 20)
    for step in range(20):
        g = gradients(spec, PROBLEM, network, minibatch(source, spec, MEMBER, step, PROBLEM.size))
        noise = reference_noise(source, step + 1)
        with torch.no_grad():
            for p, gp, xi, x, mu in zip(network.parameters, g, noise, outer, mean, strict=True):
                p.add_(-0.1 * (gp - 0.5 * (x - p)) + np.sqrt(0.1) * 0.05 * xi)
                mu.copy_(0.4 * mu + 0.6 * p)
                if (step + 1) % 4 == 0:
                    x.sub_(0.7 * (x - mu))
                    p.copy_(x)
                    mu.copy_(x)
        flat = np.concatenate([x.numpy().ravel() for x in outer])
        assert np.abs(ours[step] - flat).max() < 2e-5


def test_advsgd_draws_by_loss_step_by_step() -> None:
    spec = TrainSpec(NETWORK, Optimizer("advsgd", 0.1, {"power": 1.5}), "ce", 8, seed=7)
    source = Source(NETWORK, 7)
    network = Alone(source.parameters(MEMBER), "tanh", torch.float64)
    ours = compiled_path(spec, PROBLEM, 15)
    x = torch.tensor(PROBLEM.train_inputs)
    y = torch.tensor(PROBLEM.labels, dtype=torch.float64)
    for step in range(15):
        with torch.no_grad():
            each = torch.nn.functional.binary_cross_entropy_with_logits(
                network(x), y, reduction="none"
            )
        chosen = source.weighted(MEMBER, step, each.numpy() ** 1.5, 8)
        g = gradients(spec, PROBLEM, network, chosen)
        with torch.no_grad():
            for p, gp in zip(network.parameters, g, strict=True):
                p.sub_(0.1 * gp)
        assert np.abs(ours[step] - network.flat()).max() < 2e-5


def test_weighted_draws_have_their_probabilities() -> None:
    source = Source(NETWORK, 8)
    weights = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    drawn = np.concatenate([source.weighted(0, s, weights, 100) for s in range(200)])
    share = np.bincount(drawn, minlength=5) / drawn.size
    p = weights / 10
    assert (np.abs(share - p) <= 5 * np.sqrt(p * (1 - p) / drawn.size)).all()


def test_pretraining_changes_the_start_and_forgets_the_optimiser() -> None:
    spec = TrainSpec(NETWORK, Optimizer("adam", 0.01), "ce", 8, seed=1, pretrain=500)
    plain = trained_parameters(replace(spec, pretrain=0), PROBLEM, MEMBER, 0).flat()
    start = trained_parameters(spec, PROBLEM, MEMBER, 0)
    assert np.abs(start.flat() - plain).max() > 0.01
    # the pre-trained network fits the random labels
    network = Alone(start, "tanh", torch.float64)
    z = network(torch.tensor(PROBLEM.train_inputs)).detach().numpy()
    labels = Source(NETWORK, 1).labels(MEMBER, PROBLEM.size)
    assert ((z > 0) == (labels > 0.5)).all()
    # Adam's first step has size lr wherever the gradient is far above eps: a fresh state
    moved = trained_parameters(spec, PROBLEM, MEMBER, 1).flat() - start.flat()
    assert np.abs(moved).max() == pytest.approx(0.01, rel=1e-3)
