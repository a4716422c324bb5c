"""Targets: named, drawn, at a wanted complexity; training sets, corruption, attack points."""

from __future__ import annotations

import numpy as np
import pytest

from simprior.boolean.complexity import lz76
from simprior.boolean.truthtable import named
from simprior.errors import InputError
from simprior.network.spec import Network
from simprior.training.targets import (
    boolean_problem,
    data_problem,
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
    problem = boolean_problem(NETWORK, "parity", 64, seed=5)
    assert np.array_equal(problem.target, named("parity", 7))
    assert len(set(problem.train_index)) == 64 and len(problem.test_index) == 64
    assert np.array_equal(problem.labels, problem.target[problem.train_index])
    assert problem.target_text == "parity"
    again = boolean_problem(NETWORK, problem.target, problem.train_index)
    assert np.array_equal(again.train_index, problem.train_index)
    assert again.target_text.startswith("0x")


def test_corruption_and_attack() -> None:
    problem = boolean_problem(NETWORK, "x1", 60, corrupt=0.5, attack=30, seed=1)
    assert len(set(problem.fitted_index)) == 90 and len(problem.test_index) == 38
    assert np.array_equal(problem.labels[60:], 1 - problem.target[problem.attack_index])
    wrong = (problem.labels[:60] != problem.target[problem.train_index]).sum()
    assert 0 < wrong <= 30
    # the training set is that of the run without them
    assert np.array_equal(
        problem.train_index, boolean_problem(NETWORK, "x1", 60, seed=1).train_index
    )


def test_posterior_command_takes_the_same_training_set() -> None:
    ours = boolean_problem(NETWORK, "x1", 50, seed=11).train_index
    assert np.array_equal(draw_training_set(128, 50, seed=11), ours)


def test_real_data_problem() -> None:
    problem = data_problem("breast-cancer", train=80, test=50, attack=10, seed=2)
    assert (problem.m, problem.size, problem.n) == (140, 90, 0)
    assert np.array_equal(problem.test_index, np.arange(90, 140))
    assert np.array_equal(problem.labels[80:], 1 - problem.target[80:90])
    with pytest.raises(InputError, match="held-out"):
        data_problem("breast-cancer", train=500, test=60, attack=20)


def test_arrays() -> None:
    X = np.arange(12.0).reshape(6, 2)
    y = np.array([0, 1, 0, 1, 1, 0], np.uint8)
    problem = problem_from_arrays("toy", X[:3], y[:3], X[3:], y[3:])
    assert problem.m == 6 and problem.size == 3
    assert np.array_equal(np.sort(problem.inputs[3:, 0]), X[3:, 0])
    place = {tuple(row): label for row, label in zip(X, y, strict=True)}
    found = zip(problem.inputs, problem.target, strict=True)
    assert all(place[tuple(row)] == label for row, label in found)
