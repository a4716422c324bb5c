"""Training with inputs attacked in boxes, against the worst point of a box where it is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import simprior as sp
from simprior.boolean.truthtable import unpack
from simprior.errors import InputError
from simprior.training.records import TrainResult
from simprior.training.replay import retrain

DIGITS = {"data": "digits", "classes": "3,8", "train": 40, "test": 30}
HOW = {"optimizer": "gd", "lr": 1.0, "stop": "steps:30", "check": 10, "runs": 5, "seed": 1}
RADIUS = 0.1


def worst_margins(w: np.ndarray, b: float, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Least (2y - 1) z in the box of each input, cut to [0, 1], of z = x w + b: each
    coordinate at one end."""
    sign = 2.0 * y - 1
    low, high = np.maximum(x - RADIUS, 0), np.minimum(x + RADIUS, 1)
    pushed = sign[:, None] * w
    return (np.minimum(pushed * low, pushed * high)).sum(axis=1) + sign * b


@pytest.mark.parametrize("steps", [1, 10])
def test_of_perceptrons_the_worst_point_is_found(steps: int) -> None:
    """One step goes 2.5 radii: from anywhere in the box to its worst corner."""
    net = sp.Network(hidden=(), sigma_b=0.3)
    found = sp.train(net, **DIGITS, **HOW, robust=RADIUS, robust_steps=steps)
    _, problem, again = retrain(found, np.arange(5))
    outside, counted = problem.test_index, 0
    for member, parameters in enumerate(again.parameters.astype(float)):
        w, b = parameters[:-1], parameters[-1]
        z = problem.inputs @ w + b
        assert np.array_equal(unpack(found.words[member][None], problem.m)[0], z > 0)
        inside = worst_margins(w, b, problem.train_inputs, problem.labels)
        tested = worst_margins(w, b, problem.inputs[outside], problem.target[outside])
        assert np.abs(np.concatenate([inside, tested])).min() > 1e-5  # no case is in doubt
        assert found.errors[member] == (inside < 0).sum()
        assert found.robust_errors[member] == (tested < 0).sum()
        assert np.isclose(found.loss[member], np.logaddexp(0, -inside).mean(), rtol=1e-4)
        counted += found.robust_errors[member] - round(30 * found.test_error[member])
    assert counted > 0  # somewhere the attack mattered
    assert np.array_equal(again.words, found.words)
    assert np.allclose(again.loss, found.loss, rtol=1e-5)


def test_attacks_find_more_than_random_corners_and_training_resists_them() -> None:
    """Of a (64, 20, 1) relu network: every box where one of 200 random corners is an error counts;
    trained on attacked inputs, fewer held-out boxes have errors than trained on the inputs."""
    net = sp.Network(hidden=(20,))
    how = {**DIGITS, **HOW, "optimizer": "adam", "lr": 0.01, "stop": "first-fit", "check": 0}
    robust = sp.train(net, **how, robust=RADIUS)
    spec, problem, again = retrain(robust, np.arange(5))
    assert robust.fitted.all() and spec.robust == RADIUS
    outside = problem.test_index
    x, y = problem.inputs[outside], problem.target[outside]
    corners = np.random.default_rng(0).choice([-RADIUS, RADIUS], (200, 1, 64))
    near = np.clip(np.concatenate([x[None], x + corners]), 0, 1)
    inside = np.clip(problem.train_inputs + corners, 0, 1)
    for member in range(5):
        w, b, v, c = np.split(again.parameters[member].astype(float), [1280, 1300, 1320])

        def outputs(x: np.ndarray, w=w, b=b, v=v, c=c) -> np.ndarray:
            hidden = np.maximum(x @ w.reshape(64, 20) + b, 0)
            return hidden @ v + c

        assert ((outputs(inside) > 0) == problem.labels).all()
        broken = ((outputs(near) > 0) != y).any(axis=0).sum()
        assert broken <= robust.robust_errors[member]
        assert robust.robust_errors[member] >= round(30 * robust.test_error[member])
    plain = sp.train(net, **how, engine="torch")
    # the same networks, judged with the same attacks: one step of training from where they ended
    tiny = how | {"optimizer": "gd", "lr": 1e-30, "stop": "steps:1"}
    first = sp.train(net, **tiny, robust=RADIUS)
    assert plain.robust_error is None and first.robust_errors.mean() > robust.robust_errors.mean()


def test_runs_are_written_and_read_and_do_not_depend_on_workers(tmp_path: Path) -> None:
    net = sp.Network(hidden=(8,))
    how = {**DIGITS, **HOW, "batch_size": 16, "optimizer": "sgd", "record": (0, 10)}
    one = sp.train(net, **how, robust=RADIUS, out=tmp_path / "run")
    two = sp.train(net, **how, robust=RADIUS, workers=2)
    read = TrainResult.load(tmp_path / "run")
    for other in (two, read):
        assert np.array_equal(one.words, other.words) and np.array_equal(one.loss, other.loss)
        assert np.array_equal(one.robust_errors, other.robust_errors)
        assert np.array_equal(one.trajectory["errors"], other.trajectory["errors"])
    assert "robust_error" in read.records and read.config["robust"] == RADIUS
    assert "in boxes of radius 0.1 at least" in str(read) or not read.fitted.any()


def test_explicit_inputs_and_problems_take_a_radius_too() -> None:
    x = np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0], [4.0, 0.0]])
    net = sp.Network(inputs=x, hidden=(4,))
    how = {"runs": 6, "optimizer": "adam", "lr": 0.1, "robust": 0.4, "max_epochs": 80}
    found = sp.train(net, "0011", train=(0, 1, 2), **how)
    assert found.fitted.any() and found.config["robust"] == 0.4
    problem = sp.Problem(net, "0011", train=(0, 1, 2))
    assert np.array_equal(sp.train(problem, **how).words, found.words)
    with pytest.raises(InputError, match=r"inputs 1 \(label 0\) and 2 \(label 1\).* below 1,"):
        sp.train(problem, **how | {"robust": 1.0})
    with pytest.raises(InputError, match="only train takes the radius"):
        sp.Problem(net, "0011", train=3, robust=0.4)
    with pytest.raises(InputError, match="put it into the Problem"):
        sp.train(sp.Problem(sp.Network(n=3), "x1", train=4), robust=1)


@pytest.mark.parametrize("labels", ["0111", "0000"])
def test_boxes_overlap_only_if_they_have_a_point_in_common(labels: str) -> None:
    """0 and 1 along one axis, farther along another: the largest difference counts."""
    x = np.array([[0.0, 0.0], [1.0, 5.0], [0.0, 8.0], [9.0, 9.0]])
    problem = sp.Problem(sp.Network(inputs=x, hidden=(4,)), labels, train=(0, 1, 2))
    how = {"runs": 1, "stop": "steps:1"}
    sp.train(problem, robust=2.4999, **how)
    if labels == "0000":
        sp.train(problem, robust=100.0, **how)
        return
    with pytest.raises(InputError, match=r"these are 5 apart; pass a radius below 2\.5,"):
        sp.train(problem, robust=2.5, **how)


def smooth() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 1))


class Rounded(nn.Module):
    """No gradient passes through it to its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(64, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last((x > 0.5).float())


@pytest.mark.slow
def test_modules_are_attacked_and_repeated_bit_for_bit() -> None:
    how = {**DIGITS, **HOW, "optimizer": "adam", "lr": 0.02, "batch_size": 16, "runs": 40}
    found = sp.train(sp.Module(smooth), **how, robust=RADIUS)
    assert np.isfinite(found.loss).all() and found.robust_errors.min() >= 0
    _, _, again = retrain(found, np.array([3, 17, 38]))
    assert np.array_equal(again.loss, found.loss[[3, 17, 38]])
    with pytest.raises(InputError, match="no gradient passes through to its inputs"):
        sp.train(sp.Module(Rounded), **how, robust=RADIUS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"robust": -0.1}, "robust=-0.1: expected the radius >= 0"),
        ({"robust": float("nan")}, "robust=nan"),
        ({"robust": 0.1, "robust_steps": 0}, "robust_steps=0"),
        ({"robust_steps": 20}, "robust_steps=20 without robust"),
        ({"robust": 0.1, "engine": "compiled"}, "no attacks"),
        ({"robust": 0.1, "optimizer": "guess-and-check", "lr": None}, "guess-and-check"),
        ({"robust": 0.4}, "boxes of opposite labels"),
        ({"robust": 0.01, "corrupt": 1.0, "train": 300}, None),
    ],
)
def test_refusals(given: dict, message: str | None) -> None:
    net = sp.Network(hidden=(4,))
    how = {**DIGITS, **HOW, "stop": "steps:1", "runs": 1} | given
    if message is None:  # wrong labels do not matter as long as the inputs differ
        sp.train(net, **how)
        return
    with pytest.raises(InputError, match=message):
        sp.train(net, **how)
