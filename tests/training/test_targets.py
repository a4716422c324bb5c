"""Targets: named, drawn, at a wanted complexity; training sets, corruption, attack points."""

from __future__ import annotations

import numpy as np
import pytest

from simprior.boolean.complexity import lz76
from simprior.boolean.truthtable import named
from simprior.errors import InputError
from simprior.network.spec import Network
from simprior.training.targets import (
    Problem,
    draw_training_set,
    lz_target,
    make_target,
    problem_from_arrays,
)

NETWORK = Network(n=7)


@pytest.mark.parametrize("wanted", [7.0, 31.5, 66.5, 101.5, 140.0])
@pytest.mark.parametrize("seed", range(4))
def test_lz_targets_have_the_complexity(wanted: float, seed: int) -> None:
    table = lz_target(128, wanted, seed)
    assert abs(lz76(table)[0] - wanted) <= np.log2(128) / 4 + 1e-9
    assert np.array_equal(table, lz_target(128, wanted, seed))


def test_lz_targets_differ_between_seeds() -> None:
    found = {lz_target(128, 70.0, seed).tobytes() for seed in range(10)}
    assert len(found) == 10


def test_random_targets() -> None:
    ones = [make_target("random", 128, 7, s)[1].sum() for s in range(200)]
    # mean 64, sd sqrt(32) a target: five standard errors
    assert abs(np.mean(ones) - 64) < 5 * np.sqrt(32 / 200)
    assert {int(make_target("random:20", 128, 7, s)[1].sum()) for s in range(20)} == {20}


def test_named_target_and_split() -> None:
    problem = Problem(NETWORK, "parity", train=64, seed=5)
    assert np.array_equal(problem.target, named("parity", 7))
    assert len(set(problem.train_index)) == 64 and len(problem.test_index) == 64
    assert np.array_equal(problem.labels, problem.target[problem.train_index])
    assert problem.target_text == "parity"
    again = Problem(NETWORK, problem.target, train=problem.train_index)
    assert np.array_equal(again.train_index, problem.train_index)
    assert again.target_text.startswith("0x")


def test_corruption_and_attack() -> None:
    problem = Problem(NETWORK, "x1", train=60, corrupt=0.5, attack=30, seed=1)
    assert len(set(problem.fitted_index)) == 90 and len(problem.test_index) == 38
    assert np.array_equal(problem.labels[60:], 1 - problem.target[problem.attack_index])
    wrong = (problem.labels[:60] != problem.target[problem.train_index]).sum()
    assert 0 < wrong <= 30
    # the training set is that of the run without them
    assert np.array_equal(problem.train_index, Problem(NETWORK, "x1", train=60, seed=1).train_index)


def test_posterior_command_takes_the_same_training_set() -> None:
    ours = Problem(NETWORK, "x1", train=50, seed=11).train_index
    assert np.array_equal(draw_training_set(128, 50, seed=11), ours)


def test_real_data_problem() -> None:
    problem = Problem(NETWORK, data="breast-cancer", train=80, test=50, attack=10, seed=2)
    assert (problem.m, problem.size, problem.n) == (140, 90, 0)
    assert np.array_equal(problem.test_index, np.arange(90, 140))
    assert np.array_equal(problem.labels[80:], 1 - problem.target[80:90])
    with pytest.raises(InputError, match="held-out"):
        Problem(NETWORK, data="breast-cancer", train=500, test=60, attack=20)


def test_arrays() -> None:
    X = np.arange(12.0).reshape(6, 2)
    y = np.array([0, 1, 0, 1, 1, 0], np.uint8)
    problem = problem_from_arrays(NETWORK, "toy", X[:3], y[:3], X[3:], y[3:])
    assert problem.m == 6 and problem.size == 3
    assert np.array_equal(np.sort(problem.inputs[3:, 0]), X[3:, 0])
    place = {tuple(row): label for row, label in zip(X, y, strict=True)}
    found = zip(problem.inputs, problem.target, strict=True)
    assert all(place[tuple(row)] == label for row, label in found)


def test_given_inputs_and_labels() -> None:
    X = np.arange(12.0).reshape(6, 2)
    y = np.array([0, 1, 0, 1, 1, 0])
    problem = Problem(Network(hidden=(3,)), inputs=X, labels=y, train_index=[0, 3, 4])
    assert problem.m == 6 and problem.n == 0 and problem.network.n == 2
    assert np.array_equal(problem.network.inputs, X)
    assert problem.labels.tolist() == [0, 1, 1] and problem.test_index.tolist() == [1, 2, 5]


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"target": "x1", "data": "digits"},
        {"target": "x1", "labels": [0, 1]},
        {"target": "x1", "classes": "3,8"},
        {"data": "digits", "inputs": [[0.0, 1.0]]},
        {"target": "net"},
        {"target": "net:0"},
    ],
)
def test_one_task_and_no_other(given: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Problem(NETWORK, **given)  # type: ignore[arg-type]


def test_teacher_targets() -> None:
    tables = [Problem(NETWORK, "net:2", seed=seed).target for seed in range(20)]
    assert all(0 < t.sum() < 128 for t in tables)
    assert len({t.tobytes() for t in tables}) > 10
    again = Problem(NETWORK, "net:2", seed=3)
    assert np.array_equal(again.target, tables[3]) and again.name == "net:2"
    assert again.target_text.startswith("0x")  # as text for another command: the drawn function


def test_a_teacher_is_simpler_than_a_random_function() -> None:
    """A narrow network computes few functions: fewer sign changes under bit flips."""
    x1 = Problem(Network(n=7, activation=np.tanh), "net:1", seed=1).target.reshape(2, -1)
    assert lz76(x1.reshape(-1))[0] < 100  # random functions of 128 inputs: about 140


def test_a_problem_says_what_it_is() -> None:
    problem = Problem(NETWORK, "x1", train=60, corrupt=0.5, attack=30, seed=1)
    assert repr(problem).startswith("Problem: x1 on m=128 inputs of 7 bits")
    frame = problem.to_frame()
    assert frame["set"].value_counts().to_dict() == {"train": 60, "test": 38, "attack": 30}
    wrong = frame[frame["set"] != "test"]
    assert (wrong["label"] != wrong["target"]).sum() >= 30
    again = Problem(NETWORK, "x1", train=60, corrupt=0.5, attack=30, seed=1)
    assert again.digest() == problem.digest()
    others = (
        Problem(NETWORK, "x1", train=60, corrupt=0.5, attack=30, seed=2),
        Problem(Network(n=7, hidden=(3,)), "x1", train=60, corrupt=0.5, attack=30, seed=1),
    )
    assert problem.digest() not in {other.digest() for other in others}
