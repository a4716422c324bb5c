"""Posteriors of torch modules: against enumeration of the prior, and against the same network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import simprior as sp
from simprior.errors import InputError
from simprior.routes.methods import METHODS, OF_MODULES

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
