"""Masked weights in training: they are 0 at the start and stay so, whatever moves the others.

The reference is a torch module that multiplies its weights by fixed masks, trained by torch.optim
from the same start on the same minibatches. It runs in float64 and in float32: a member must be no
farther from the float64 path than a few times torch's own float32 path, plus 2e-5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch

import simprior as sp
from simprior.training.draws import Source
from simprior.training.replay import retrain, retrain_members
from simprior.training.spec import Optimizer, TrainSpec

NETWORK = sp.Network(n=5, hidden=(12, 20), activation="tanh", density=(0.6, 0.3, 0.5))
PROBLEM = sp.Problem(NETWORK, "random", train=22, seed=3)
MEMBERS, STEPS = 3, 25
Make = Callable[[Iterable[torch.Tensor]], torch.optim.Optimizer]
OPTIMIZERS: dict[str, tuple[Optimizer, Make]] = {
    "sgd": (
        Optimizer("sgd", 0.1, {"weight_decay": 0.05}),
        lambda p: torch.optim.SGD(p, 0.1, weight_decay=0.05),
    ),
    "nesterov": (
        Optimizer("nesterov", 0.05, {"weight_decay": 0.02}),
        lambda p: torch.optim.SGD(p, 0.05, momentum=0.9, nesterov=True, weight_decay=0.02),
    ),
    "adam": (Optimizer("adam", 0.01), lambda p: torch.optim.Adam(p, 0.01)),
    "adamw": (
        Optimizer("adamw", 0.01, {"weight_decay": 0.3}),
        lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.3),
    ),
    "rmsprop": (Optimizer("rmsprop", 0.005), lambda p: torch.optim.RMSprop(p, 0.005)),
    "adagrad": (Optimizer("adagrad", 0.05), lambda p: torch.optim.Adagrad(p, 0.05)),
    "adadelta": (Optimizer("adadelta", 1.0), lambda p: torch.optim.Adadelta(p, 1.0)),
}


class Masked(torch.nn.Module):
    """A network whose weights are multiplied by masks."""

    def __init__(self, source: Source, member: int, dtype: torch.dtype) -> None:
        super().__init__()
        start, mask = source.parameters(member), source.mask(member)
        tensor = lambda part: torch.tensor(part, dtype=dtype)  # noqa: E731
        self.weights = torch.nn.ParameterList([tensor(w) for w in start.weights])
        self.biases = torch.nn.ParameterList([tensor(b) for b in start.biases])
        self.masks = [tensor(w) for w in mask.weights]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.tanh(x) if layer else x
            x = x @ (w * self.masks[layer]) + b
        return x[:, 0]

    def flat(self) -> np.ndarray:
        pairs = zip(self.weights, self.biases, strict=True)
        return np.concatenate([p.detach().numpy().ravel() for pair in pairs for p in pair])


def alone(spec: TrainSpec, make: Make, member: int, dtype: torch.dtype) -> np.ndarray:
    """(p,) parameters of a member after ``STEPS`` steps of torch.optim."""
    source, size = Source(spec.network, spec.seed), PROBLEM.size
    module = Masked(source, member, dtype)
    optimizer = make(module.parameters())
    x, y = (torch.tensor(a, dtype=dtype) for a in (PROBLEM.train_inputs, PROBLEM.labels))
    batch, epoch = spec.batch(size), -(-size // spec.batch(size))
    for step in range(STEPS):
        order = source.order(member, step // epoch, size)
        at = step % epoch * batch
        chosen = torch.tensor(order[at : at + batch])
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(module(x[chosen]), y[chosen])
        loss.backward()
        optimizer.step()
    return module.flat()


def spec_with(optimizer: Optimizer) -> TrainSpec:
    return TrainSpec(NETWORK, optimizer, batch_size=8, seed=1)


def masks(spec: TrainSpec) -> np.ndarray:
    source = Source(spec.network, spec.seed)
    return np.stack([source.mask(member).flat() for member in range(MEMBERS)])


@pytest.mark.parametrize("engine", ["compiled", "torch"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_members_are_those_of_masked_modules(name: str, engine: str) -> None:
    optimizer, make = OPTIMIZERS[name]
    spec = spec_with(optimizer)
    found = retrain_members(spec, PROBLEM, range(MEMBERS), [STEPS] * MEMBERS, engine=engine)
    assert (found.parameters[masks(spec) == 0] == 0).all()
    for member, ours in enumerate(found.parameters):
        exact = alone(spec, make, member, torch.float64)
        single = alone(spec, make, member, torch.float32)
        limit = 4 * np.abs(single - exact).max() + 2e-5
        assert np.abs(ours - exact).max() < limit


@pytest.mark.parametrize("engine", ["compiled", "torch"])
@pytest.mark.parametrize(
    "optimizer",
    [Optimizer("sgld", 0.01), Optimizer("entropy-sgd", 0.5), Optimizer("advsgd", 0.1)],
    ids=lambda o: o.rule,
)
def test_noise_and_choice_leave_masked_weights_at_zero(optimizer: Optimizer, engine: str) -> None:
    spec = spec_with(optimizer)
    found = retrain_members(spec, PROBLEM, range(MEMBERS), [STEPS] * MEMBERS, engine=engine)
    source, kept = Source(NETWORK, spec.seed), masks(spec) == 1
    start = np.stack([source.parameters(member).flat() for member in range(MEMBERS)])
    assert (found.parameters[~kept] == 0).all()
    moved = found.parameters[kept] != start[kept]
    assert moved.mean() > 0.5  # what leads to masked weights alone has no gradient


def test_starts_have_their_law_and_a_mask_of_their_own() -> None:
    """Shares and mean squares within 5 standard errors: false alarms in 4e-6."""
    source = Source(NETWORK, 0)
    for layer, (density, scale) in enumerate(
        zip(NETWORK.densities, NETWORK.weight_scales, strict=True)
    ):
        w = np.stack([source.parameters(i).weights[layer] for i in range(300)])
        kept = np.stack([source.mask(i).weights[layer] for i in range(300)]) == 1
        assert ((w != 0) == kept).all()
        share = kept.mean()
        assert abs(share - density) < 5 * np.sqrt(density * (1 - density) / kept.size)
        squares = (w[kept] / scale) ** 2
        assert abs(squares.mean() - 1) < 5 * np.sqrt(2 / squares.size)
    assert (source.mask(0).flat() != source.mask(1).flat()).any()


def test_runs_are_the_same_by_both_engines_and_are_replayed() -> None:
    how = {"runs": 12, "optimizer": "adam", "lr": 0.01, "max_epochs": 60, "pretrain": 2}
    runs = {name: sp.train(PROBLEM, engine=name, **how) for name in ("compiled", "torch")}
    assert np.array_equal(runs["compiled"].words, runs["torch"].words)
    for result in runs.values():
        _, _, found = retrain(result, np.arange(5))
        assert np.array_equal(found.words, result.words[:5])
    alone = sp.train(PROBLEM, engine="torch", members=1, **how)
    assert np.array_equal(alone.words, runs["torch"].words)


def test_guess_and_check_guesses_masked_networks() -> None:
    problem = sp.Problem(NETWORK, "x1", train=4, seed=1)
    result = sp.train(problem, runs=5, optimizer="guess-and-check", max_epochs=10_000)
    assert result.fitted.all()
    spec, _, found = retrain(result, np.arange(5))
    source = Source(NETWORK, spec.seed)
    for member, steps in enumerate(result.steps):
        mask = source.mask((member << 32) + int(steps) - 1).flat()
        assert (found.parameters[member][mask == 0] == 0).all() and (mask == 0).any()
