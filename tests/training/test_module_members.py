"""Ensembles of torch modules: each member against torch.optim on the module itself, and what a run
of them must keep.

As in ``test_members.py``: both start from the same parameters and see the same minibatches, and
torch's own paths in float64 and float32 say how far a member may be from the former: five times the
distance of the latter, plus 2e-5 (200 float32 units at the size of a parameter, 1).
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from test_ensemble import Stopping
from test_members import LOSSES, OPTIMIZERS, minibatch
from torch import nn

import simprior as sp
from simprior.boolean.truthtable import pack
from simprior.errors import InputError, StoreError
from simprior.modules.flat import Layout
from simprior.runs.tasks import Interrupted
from simprior.training.module_members import ModuleSource
from simprior.training.records import TrainResult
from simprior.training.replay import problem_of_run, retrain, retrain_members
from simprior.training.spec import Optimizer, TrainSpec
from simprior.training.targets import Problem

MEMBER, STEPS = 5, (1, 3, 10)


class Recurrent(nn.Module):
    """torch's own LSTM, which vmap cannot follow."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(1, 4, batch_first=True), nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(x.unsqueeze(-1))[0][:, -1])


def encoder(n: int) -> nn.Module:
    """torch's own attention, whose fused form has no rule for vmap."""
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
    return nn.Sequential(
        nn.Unflatten(1, (n, 1)), nn.Linear(1, 4), layer, nn.Flatten(1), nn.Linear(4 * n, 1)
    )


MODULES = {
    "mlp": sp.Module("mlp", n=4, options={"hidden": (6, 6), "norm": "layer", "residual": True}),
    "transformer": sp.Module("transformer", n=4, options={"d_model": 4, "layers": 1, "heads": 2}),
    "cnn": sp.Module("cnn", n=4, options={"channels": "3x3", "pool": "flat"}),
    "lstm": sp.Module("lstm", n=4, options={"width": 4}, init="own"),
    "encoder": sp.Module(encoder, n=4),
    "torch's lstm": sp.Module(Recurrent, n=4),
}


def alone_path(spec: TrainSpec, problem: Problem, make, dtype: torch.dtype) -> np.ndarray:
    """(steps, p) parameters after STEPS of torch.optim on the module itself."""
    module, source = spec.network, ModuleSource(spec.network, spec.seed)
    layout = Layout(module.tensors())
    start = torch.from_numpy(source.parameters(MEMBER).flat())[None]
    net = module.built.make().to(dtype).requires_grad_(True)
    named = dict(net.named_parameters())
    with torch.no_grad():
        for name, value in layout.stacked(start).items():
            named[name].copy_(value[0])
    optimizer = make([named[t.name] for t in layout.tensors])
    x = torch.tensor(problem.train_inputs, dtype=dtype)
    y = torch.tensor(problem.labels, dtype=dtype)
    path = []
    for step in range(max(STEPS)):
        chosen = torch.tensor(minibatch(source, spec, MEMBER, step, problem.size))
        optimizer.zero_grad()
        LOSSES[spec.loss](net(x[chosen]).reshape(-1), y[chosen]).backward()
        optimizer.step()
        if step + 1 in STEPS:
            parts = {t.name: named[t.name].detach()[None] for t in layout.tensors}
            path.append(layout.flat(parts)[0].numpy().copy())
    return np.array(path)


def assert_same_path(
    name: str, optimizer: Optimizer, make, loss: str = "ce", batch: int = 4
) -> None:
    problem = Problem(MODULES[name], "random", train=10, seed=3)
    spec = TrainSpec(problem.network, optimizer, loss, batch, seed=1)
    exact = alone_path(spec, problem, make, torch.float64)
    single = alone_path(spec, problem, make, torch.float32)
    ours = retrain_members(spec, problem, [MEMBER] * len(STEPS), STEPS).parameters
    start = ModuleSource(spec.network, spec.seed).parameters(MEMBER).flat()
    assert np.abs(exact[-1] - start).max() > 1e-3  # it went somewhere
    allowed = 2e-5 + 5 * np.maximum.accumulate(np.abs(single - exact).max(axis=1))
    assert (np.abs(ours - exact).max(axis=1) <= allowed).all()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_is_that_of_torch(name: str) -> None:
    assert_same_path("cnn", *OPTIMIZERS[name])


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("name", ["mlp", "transformer"])
def test_every_loss(name: str, loss: str) -> None:
    ours = Optimizer("momentum", 0.003)
    assert_same_path(name, ours, lambda p: torch.optim.SGD(p, 0.003, momentum=0.9), loss)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("batch", [3, 10])
def test_every_module(name: str, batch: int) -> None:
    assert_same_path(name, *OPTIMIZERS["adam"], batch=batch)


def test_noise_of_langevin_steps() -> None:
    """One step is w - lr g + sqrt(2 lr T) noise; its gradient is that of a step of plain SGD."""
    problem, lr, temperature = Problem(MODULES["mlp"], "x1", train=10), 0.1, 0.5
    plain = TrainSpec(problem.network, Optimizer("sgd", lr), batch_size=4)
    noisy = TrainSpec(problem.network, Optimizer("sgld", lr, {"temperature": temperature}),
                      batch_size=4)  # fmt: skip
    a, b = (retrain_members(s, problem, [MEMBER], [1]).parameters[0] for s in (plain, noisy))
    noise = ModuleSource(problem.network, 0).noise(MEMBER, 1).flat()
    assert np.allclose(b - a, math.sqrt(2 * lr * temperature) * noise, atol=1e-5)


def test_initial_parameters_follow_the_law() -> None:
    module = sp.Module("mlp", n=6, options={"hidden": (20,), "norm": "layer"}, sigma_w=2.0)
    source, layout = ModuleSource(module, 9), Layout(module.tensors())
    P = torch.from_numpy(np.stack([source.parameters(k).flat() for k in range(300)]))
    for t in layout.tensors:
        values = layout.stacked(P)[t.name].numpy()
        if not t.deviation:
            assert (values == t.centre).all()
            continue
        # a mean square of n standard normals has standard error sqrt(2 / n); five of them
        assert abs(np.mean((values / t.deviation) ** 2) - 1) < 5 * math.sqrt(2 / values.size)
        assert abs(np.mean(values / t.deviation)) < 5 / math.sqrt(values.size)


FAST = {"target": "x1", "train": 10, "lr": 0.02, "batch_size": 4, "max_epochs": 60}


def same(a: TrainResult, b: TrainResult, rows: slice = slice(None)) -> bool:
    names = ("words", "steps", "first_fit", "errors", "loss")
    return all(np.array_equal(getattr(a, n)[rows], getattr(b, n)) for n in names)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_a_member_does_not_depend_on_its_company(name: str) -> None:
    """Nor does it when it is trained again; all to the last bit."""
    result = sp.train(MODULES[name], runs=70, seed=1, **FAST)
    few = sp.train(MODULES[name], runs=9, members=3, seed=1, **FAST)
    assert same(result, few, slice(9)) and result.fitted.any()
    chosen = np.array([40, 3, 19, 67])
    _, _, found = retrain(result, chosen)
    assert np.array_equal(found.words, result.words[chosen])
    assert np.array_equal(found.loss, result.loss[chosen])
    assert np.array_equal(found.errors, result.errors[chosen])


def test_the_function_is_that_of_the_parameters() -> None:
    result = sp.train(MODULES["transformer"], runs=4, seed=2, **FAST)
    _, problem, found = retrain(result, np.arange(4))
    module = problem.network
    parameters = Layout(module.tensors()).stacked(torch.from_numpy(found.parameters))
    with torch.no_grad():
        z = module.apply(parameters, torch.from_numpy(module.input_matrix()).float())
    assert np.array_equal(pack((z > 0).numpy().astype(np.uint8)), found.words)


def test_records_and_pretraining() -> None:
    options = FAST | {"optimizer": "momentum", "pretrain": 20, "stop": "epochs:2"}
    result = sp.train(MODULES["mlp"], runs=40, record=(0, 2, 6), record_runs=5, seed=3, **options)
    assert set(result.trajectories["run"]) == set(range(5))
    assert (result.steps[result.fitted] >= result.first_fit[result.fitted] + 6).all()
    plain = sp.train(MODULES["mlp"], runs=40, seed=3, **(options | {"pretrain": 0}))
    assert not np.array_equal(plain.loss, result.loss)
    _, _, found = retrain(result, np.array([2, 30]))
    assert np.array_equal(found.loss, result.loss[[2, 30]])


def test_examples_chosen_by_their_loss() -> None:
    result = sp.train(MODULES["mlp"], runs=33, optimizer="advsgd", seed=4, **(FAST | {"lr": 0.1}))
    assert result.fitted.any()
    _, _, found = retrain(result, np.array([32]))
    assert np.array_equal(found.loss, result.loss[[32]])


@pytest.mark.slow
def test_run_directories(tmp_path: Path) -> None:
    module = MODULES["transformer"]
    how = {"runs": 130, "members": 32, "seed": 5, **FAST}
    whole = sp.train(module, **how)
    with pytest.raises(Interrupted):
        sp.train(module, out=tmp_path / "a", progress=Stopping(3), **how)
    assert same(whole, sp.train(module, out=tmp_path / "a", resume=True, **how))
    found = sp.load(tmp_path / "a")
    assert same(whole, found) and found.config["modules"]["architecture"] == "transformer"
    problem = problem_of_run(tmp_path / "a")
    assert problem.network == module and problem.target.tolist() == [0] * 8 + [1] * 8
    with pytest.raises(StoreError, match="lr"):
        sp.train(module, out=tmp_path / "a", resume=True, **{**how, "lr": 0.5})


def test_real_data(tmp_path: Path) -> None:
    module = sp.Module("mlp", options={"hidden": (8,)})
    result = sp.train(module, data="digits", classes="3,8", train=40, test=20, runs=8, lr=0.02,
                      max_epochs=100, out=tmp_path / "a")  # fmt: skip
    assert result.m == 60 and result.config["architecture"]["hidden"] == [8]
    _, problem, found = retrain(sp.load(tmp_path / "a"), np.arange(3))
    assert problem.network.d == 64 and np.array_equal(found.words, result.words[:3])


class Fixed(nn.Module):
    """A module whose hidden layer gets no gradient."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.hidden, self.head = nn.Linear(n, 3), nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.sign(self.hidden(x)))


@pytest.mark.parametrize(
    ("module", "changes", "words"),
    [
        (sp.Module(Fixed, n=4), {}, "no gradient reaches the hidden layers"),
        (sp.Module("mlp", n=4, options={"activation": "step"}), {}, "no gradient reaches"),
        (MODULES["mlp"], {"engine": "compiled"}, "engine='compiled'"),
        (MODULES["mlp"], {"optimizer": "guess-and-check"}, "guess-and-check' with a torch module"),
        (MODULES["mlp"], {"target": "net:3"}, "target='net:3' without a Network"),
        (MODULES["mlp"], {"train": 40}, "train=40"),
    ],
)
def test_bad_input_is_one_line(module: sp.Module, changes: dict, words: str) -> None:
    with pytest.raises(InputError) as caught:
        sp.train(module, **{**FAST, "runs": 4, **changes})
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert "expected" in str(caught.value)
