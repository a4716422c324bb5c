"""Posteriors of torch modules: against enumeration of the prior, and against the same network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import simprior as sp
from simprior.errors import InputError
from simprior.modules.flat import Layout
from simprior.routes.methods import METHODS, OF_MODULES
from simprior.training.posterior.chains import make_training_set
from simprior.training.posterior.driver import Length
from simprior.training.posterior.module_slice import run_group
from simprior.training.replay import trained_parameters
from simprior.training.spec import TrainSpec

MLP = sp.Module("mlp", n=3, options={"hidden": (8,)})
TRAIN = [0, 2, 5, 7]


def test_rejection_keeps_the_samples_that_fit(tmp_path: Path) -> None:
    """They are the networks of ``sample`` with the same seed, so that counts are equal."""
    problem = sp.Problem(MLP, "x1", train=TRAIN)
    kept = sp.posterior(problem, "rejection", 10**6, seed=3, max_draws=20_000, out=tmp_path / "a")
    drawn = sp.sample(MLP, 20_000, seed=3)
    fits = (drawn.tables()[:, TRAIN] == problem.target[TRAIN]).all(axis=1)
    expected = dict(zip(map(bytes, drawn.words[fits]), drawn.count[fits], strict=True))
    assert dict(zip(map(bytes, kept.words), kept.count, strict=True)) == expected
    report = kept.info["posterior"]
    assert report["accepted"] == sum(expected.values()) and report["prior_draws"] == 20_000
    again = sp.load(tmp_path / "a")
    assert again.info["model"] == MLP and len(again) == len(kept)


def test_a_module_has_the_posterior_of_its_network() -> None:
    """Mean error outside S of the module and of the compiled network: 4 standard errors."""
    network = sp.Network(n=3, hidden=(8,))
    reports = [
        sp.posterior(sp.Problem(model, "x1", train=TRAIN), "rejection", 4000, seed=5).info
        for model in (MLP, network)
    ]
    (a, sa), (b, sb) = ((r["posterior"]["error"], r["posterior"]["error_stderr"]) for r in reports)
    assert abs(a - b) < 4 * np.hypot(sa, sb)  # false alarms: 6e-5


@pytest.mark.parametrize("method", sorted(set(METHODS) - set(OF_MODULES)))
def test_methods_that_know_no_modules_say_so(method: str) -> None:
    with pytest.raises(InputError, match="with a torch module") as caught:
        sp.posterior(sp.Problem(MLP, "x1", train=TRAIN), method, 100)
    assert "\n" not in str(caught.value)


LAYERED = sp.Module("mlp", n=3, options={"hidden": (4,), "norm": "layer"})


@pytest.mark.slow
def test_slice_and_rejection_agree() -> None:
    """In the mean error outside S and the probability of the target: 4 standard errors each."""
    problem = sp.Problem(LAYERED, "x1", train=TRAIN)
    chains = sp.posterior(problem, "slice", 1600, seed=1, burn_in=50)
    exact = sp.posterior(problem, "rejection", 3000, seed=5)
    a, b = (counts.info["posterior"] for counts in (chains, exact))
    assert a["violating"] == 0 and a["starts"] == "32 prior"
    gap = abs(a["error"] - b["error"])
    assert gap < 4 * np.hypot(a["error_stderr"], b["error_stderr"])  # false alarms: 6e-5
    half = [(r["target_p_high"] - r["target_p_low"]) / 2 / 1.96 for r in (a, b)]
    assert abs(a["target_p"] - b["target_p"]) < 4 * np.hypot(*half)


def test_a_stopped_group_goes_on_bit_for_bit() -> None:
    given = make_training_set(8, TRAIN, np.array([0, 0, 1, 1], np.uint8))
    length = Length(4, 5, 2, 3)
    whole = run_group(LAYERED, given, length, 500, 3, 0)
    parts, state, done = [], None, False
    while not done:
        piece = run_group(LAYERED, given, length, 500, 3, 0, state, seconds=0.0)
        parts.append(piece.words)
        state, done = piece.state, piece.done
    assert len(parts) > 3 and np.array_equal(np.concatenate(parts), whole.words)
    layout = Layout(LAYERED.tensors()).stacked(torch.from_numpy(whole.state["P"]))
    assert all(bool((layout[t.name] == 1).all()) for t in LAYERED.tensors() if t.centre == 1)


@pytest.mark.parametrize(
    ("changes", "options", "words"),
    [
        ({"weight_dist": "uniform"}, {}, "normal parameters"),
        ({"init": "own"}, {}, "normal parameters"),
        ({}, {"start": "trained"}, "prior with a torch module"),
    ],
)
def test_slice_refuses_in_one_line(changes: dict, options: dict, words: str) -> None:
    problem = sp.Problem(replace(MLP, **changes), "x1", train=TRAIN)
    with pytest.raises(InputError, match=words) as caught:
        sp.posterior(problem, "slice", 100, **options)
    assert "\n" not in str(caught.value)


def test_parameters_of_modules_have_no_layers() -> None:
    problem = sp.Problem(MLP, "x1", train=TRAIN)
    spec = TrainSpec(problem.network)
    with pytest.raises(InputError, match="layer by layer of a torch module"):
        trained_parameters(spec, problem, 0, 2)
