"""Grokking: steps of fit and generalisation, censoring, contrasts, the values of the prototype."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

import simprior as sp
from simprior.analysis.evidence.findings import table_of
from simprior.analysis.evidence.grokking import (
    CONTROL,
    CURVE,
    END,
    FIT,
    POSTERIOR,
    RANDOM,
    Arm,
    Grokking,
    Piece,
    delays,
)
from simprior.analysis.evidence.survival import median_time
from simprior.analysis.figures.grokking import delay_figure, grokking_figure
from simprior.errors import InputError
from simprior.gp.architectures import kernel
from simprior.gp.orthant import log_prior
from simprior.numerics import random as rng

SMALL = Grokking(
    n=3,
    target="junta:0110",
    train=5,
    width=5,
    sigma_w=1.0,
    sigma_b=1.0,
    lr=0.05,
    steps=60,
    tolerance=0.34,
    decay=(0.0, 0.1, 1.0),
    init_scale=(1.0, 3.0),
    datasets=3,
    members=3,
    kernels=("1:1", "2:1"),
)


def computed(given: Grokking) -> pd.DataFrame:
    return pd.concat([pd.DataFrame(given.compute(p)) for p in given.pieces()], ignore_index=True)


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return computed(SMALL)


def test_delays_and_their_censoring() -> None:
    ends = pd.DataFrame({"fit": [10, 10, -1, 0, 20], "generalised": [50, -1, -1, 4, 20]})
    times, seen = delays(ends, 1000)
    assert times.tolist() == [5, 100, 1, 4, 1] and seen.tolist() == [True, False, False, True, True]


def test_steps_are_those_of_the_members_trained_by_themselves(frame: pd.DataFrame) -> None:
    """Every step recorded and looked at in the arm with the larger start, data set 1."""
    arm = Arm("junta:0110", 0.0, 3.0)
    network = sp.Network(n=3, hidden=(5,), sigma_w=1.0, sigma_b=1.0, encoding="pm1")
    problem = sp.Problem(network, arm.target, train=5, seed=SMALL._seed("data", 1))
    run = sp.train(
        problem,
        runs=3,
        optimizer="adamw",
        lr=0.05,
        options={"weight_decay": 0.0},
        check=1,
        batch_size=5,
        stop="steps:60",
        init_scale=3.0,
        seed=SMALL._seed("members", 1),
        record=range(61),
        record_runs=3,
    ).trajectories
    of = frame[(frame["decay"] == 0) & (frame["scale"] == 3) & (frame["dataset"] == 1)]
    assert len(of) == 3 * (len(SMALL.curve_steps) + 2)
    for member, rows in of.groupby("member"):
        alone = run[run["run"] == member].set_index("step")
        for moment in (CURVE, END):
            part = rows[rows["moment"] == moment]
            assert np.allclose(part["error"], alone["test_error"].loc[part["step"]])
        fits = alone.index[alone["train_error"] == 0]
        fit = fits[0] if len(fits) else -1
        late = alone.loc[[s for s in SMALL.recorded if s >= fit >= 0]]
        good = late.index[late["test_error"] <= 0.34]
        assert set(rows["fit"]) == {fit}
        assert set(rows["generalised"]) == {good[0] if len(good) else -1}
        at = rows[rows["moment"] == FIT]["step"].item()
        assert at == (SMALL.recorded[SMALL.recorded >= fit][0] if fit >= 0 else 60)


def test_arms_share_training_sets_and_starts(frame: pd.DataFrame) -> None:
    first = frame[(frame["moment"] == CURVE) & (frame["step"] == 0) & (frame["scale"] == 1)]
    for _, part in first.groupby(["dataset", "member"]):
        assert part["lz76"].nunique() == 1 and len(part) == 4
    assert SMALL.base == Arm("junta:0110", 1.0, 1.0) and len(SMALL.arms()) == 5
    asked = frame[frame["log_p 2:1"].notna()]
    assert set(asked["decay"]) == {0.0, 1.0} and set(asked["member"]) == {0}
    for moment in (RANDOM, f"{POSTERIOR} 1:1", f"{POSTERIOR} 2:1"):
        assert (frame["moment"] == moment).sum() == 3


def test_data_sets_do_not_depend_on_each_other(frame: pd.DataFrame) -> None:
    piece = Piece(SMALL.base, 2)
    again = pd.DataFrame(SMALL.compute(piece))
    of = frame[(frame["target"] == SMALL.target) & (frame["decay"] == 1) & (frame["dataset"] == 2)]
    pd.testing.assert_frame_equal(again, of.reset_index(drop=True))


def test_findings_overview_and_figures(frame: pd.DataFrame) -> None:
    found = table_of(SMALL.findings(frame))
    assert len(found) == 2 + 2 + 2 * 3 and (found["datasets"] == 3).all()
    assert found.loc[found["source"] == "control", "claim"].item().startswith("error outside S, ra")
    assert "of 9" in found["claim"][0] and found["along"][0] == "log10 weight decay"
    overview = SMALL.overview(frame)
    assert list(overview["target"]) == ["junta:0110"] * 4 + [CONTROL]
    assert (overview["members"] == 9).all()
    ends = frame[(frame["moment"] == END) & (frame["decay"] == 0.1)]
    censored = int((ends["generalised"] < 0).sum())
    assert overview["censored"][1] == censored
    bits = rng.generator(0, "grokking/random", 0).integers(2, size=(1, 8))
    value = log_prior(bits, kernel(SMALL.kernel_network("2:1")), "ep")[0].value
    of = frame[(frame["moment"] == RANDOM) & (frame["dataset"] == 0)]
    assert of["log_p 2:1"].item() == pytest.approx(value)
    grokking_figure(frame)
    delay_figure(frame)


def test_what_never_generalises_is_counted() -> None:
    given = Grokking(**{**vars(SMALL), "steps": 10, "lr": 1e-6, "tolerance": 0.0})
    frame = computed(given)
    overview = given.overview(frame)
    assert (overview["censored"] == overview["members"]).all()
    assert np.isinf(overview["delay"]).all() and np.isinf(overview["generalised"]).all()
    assert "(censored: 9 of 9, 9 of 9)" in given.findings(frame)[0].claim
    delay_figure(frame)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"target": "parity:4"}, "1 to 3"),
        ({"target": "random"}, "with structure"),
        ({"train": 8}, "train=8"),
        ({"decay": (1.0,)}, "two or more"),
        ({"decay": (1.0, 1.0)}, "each value once"),
        ({"decay": (-1.0, 1.0)}, "decay=-1"),
        ({"init_scale": (0.0,)}, "init_scale=0"),
        ({"kernels": ("deep",)}, "depth:sigma_b"),
        ({"estimator": "tiltd"}, "tilted"),
        ({"tolerance": 0.7}, "tolerance=0.7"),
    ],
)
def test_refusals(values: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Grokking(**{**vars(SMALL), **values})


@pytest.mark.slow
def test_the_values_of_the_prototype() -> None:
    """The issue, parity:2, n = 8, 60 examples, 12 runs: delays of 5 and 122 with weight decay 1 and
    0. Ours are of 12 data sets. That the 12 runs of the prototype had one data set or 12 is not
    known: its error is taken as that of one, the larger. The delay without decay may be censored,
    so medians are compared: the standard error of a median is 1.25 times that of a mean. 4 combined
    standard errors of two logarithms: false alarm 2e-4."""
    given = Grokking(datasets=12, members=1, decay=(0.0, 1.0), init_scale=(1.0,))
    for decay, wanted in ((1.0, 5.0), (0.0, 122.0)):
        parts = []
        for dataset in range(12):
            trained = given._train(
                given._problem("parity:2", dataset), Piece(Arm("parity:2", decay, 1.0), dataset)
            )
            rows, _ = given._rows(trained)
            parts.append(pd.DataFrame(rows)[lambda part: part["moment"] == END])
        times, seen = delays(pd.concat(parts), given.steps)
        spread = float(np.log(times).std(ddof=1))
        error = spread * math.hypot(1.0, 1.25 / math.sqrt(12))
        assert abs(math.log(median_time(times, seen) / wanted)) < 4 * error


@pytest.mark.slow
def test_ln_p_of_the_prototype() -> None:
    """Its targets: -51.9 (parity:2, sigma_w 3) and -351 (parity:3, sigma_w 1), where random
    functions have -282. EP errs by up to 2 nats there. Of 4 random functions the mean is compared,
    4 standard errors. With two layers parity:3 is above random functions."""
    random = np.random.default_rng(1).integers(2, size=(4, 256))

    def values(functions: object, sigma_w: float, depth: int) -> np.ndarray:
        network = sp.Network(n=8, hidden=(1,) * depth, sigma_w=sigma_w, sigma_b=0.1, encoding="pm1")
        found = log_prior(functions, kernel(network), "ep", n=8)
        return np.array([one.value for one in found])

    assert abs(values(["parity:2"], 3.0, 1)[0] + 51.9) < 2
    assert abs(values(["parity:3"], 1.0, 1)[0] + 351) < 2
    others = values(random, 1.0, 1)
    assert abs(others.mean() + 282) < 2 + 4 * others.std(ddof=1) * math.hypot(0.5, 1)
    assert values(["parity:3"], 1.0, 2)[0] > values(random[:2], 1.0, 2).max() + 30
