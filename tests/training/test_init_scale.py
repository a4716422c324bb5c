"""Training that starts outside the prior: initial weights times ``init_scale``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import simprior as sp
from simprior.errors import InputError
from simprior.training.records import TrainResult
from simprior.training.replay import retrain

NETWORK = sp.Network(n=3, hidden=(4,), sigma_w=0.5, sigma_b=0.2)
LARGE = sp.Network(n=3, hidden=(4,), sigma_w=1.5, sigma_b=0.2)
HOW = {"train": 5, "runs": 20, "optimizer": "gd", "lr": 0.3, "stop": "steps:40", "check": 1}


@pytest.mark.parametrize("engine", ["compiled", "torch"])
def test_the_start_is_that_of_the_larger_prior(engine: str) -> None:
    """Bit for bit: init_scale 3 at sigma_w 0.5 is sigma_w 1.5; the network on record is not."""
    scaled = sp.train(NETWORK, "parity:2", init_scale=3.0, engine=engine, **HOW)
    other = sp.train(LARGE, "parity:2", engine=engine, **HOW)
    assert np.array_equal(scaled.words, other.words) and np.array_equal(scaled.loss, other.loss)
    assert np.array_equal(scaled.first_fit, other.first_fit)
    assert scaled.config["network"]["sigma_w"] == 0.5 and scaled.config["init_scale"] == 3
    assert "init_scale" not in other.config
    plain = sp.train(NETWORK, "parity:2", engine=engine, **HOW)
    assert not np.array_equal(scaled.loss, plain.loss)


def test_a_run_on_record_is_trained_again_from_its_start(tmp_path: Path) -> None:
    sp.train(NETWORK, "junta:0110", init_scale=3.0, out=tmp_path / "run", **HOW)
    result = TrainResult.load(tmp_path / "run")
    spec, _, found = retrain(result, np.arange(3))
    assert spec.init_scale == 3 and spec.network == NETWORK
    assert spec.start.sigma_ws == LARGE.sigma_ws
    assert np.array_equal(found.loss, result.loss[:3])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"init_scale": 0.0}, "init_scale=0"),
        ({"init_scale": -1}, "init_scale=-1"),
        ({"init_scale": float("nan")}, "init_scale=nan"),
        ({"init_scale": 2.0, "optimizer": "guess-and-check", "lr": None}, "guess-and-check"),
    ],
)
def test_refusals(given: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sp.train(NETWORK, "parity:2", **HOW | given)
