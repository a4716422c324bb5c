"""Double descent of trained networks: errors and votes, labels, findings and their control."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from simprior.analysis.evidence.double_descent_trained import (
    ADAM,
    METHODS,
    RANDOM,
    SGD,
    SOFT,
    STEP,
    TrainedDoubleDescent,
    scores,
)
from simprior.analysis.evidence.findings import table_of
from simprior.analysis.figures.evidence import trained_double_descent_figure
from simprior.boolean.truthtable import pack, parse_functions
from simprior.errors import InputError

WRONG = "0.15 wrong"


def made(given: TrainedDoubleDescent, seed: int = 0) -> pd.DataFrame:
    """A table in place of one that is computed. Half of the networks fit at width 6; there trained
    networks have a peak of 0.1 with wrong labels, soft draws none, 0-1 draws exist from there on
    but for data set 0, and random labels have noise alone."""
    source = np.random.default_rng(seed)
    rows = []
    for dataset in given.pieces():
        for labels in ("0 wrong", WRONG, RANDOM):
            for width in given.width:
                for method in METHODS[: {RANDOM: 2, WRONG: 4}.get(labels, 3)]:
                    fitted = float(labels == "0 wrong" or width > 6) + 0.5 * (width == 6)
                    error = 0.5 if labels == RANDOM else 0.2
                    if labels == WRONG and method != SOFT:
                        error += 0.1 * (width == 6)
                    error += 0.01 * source.standard_normal()
                    if method == STEP and labels == WRONG and width < 6 + 2 * (dataset == 0):
                        fitted, error = 0.0, math.nan
                    row = {"dataset": dataset, "labels": labels, "width": width, "method": method}
                    row |= {"error": error, "vote": error, "fitted": min(fitted, 1.0)}
                    rows.append({**row, "rhat": math.nan if method in (SGD, ADAM) else 1.2})
    return pd.DataFrame(rows)


def test_scores_of_functions_that_are_known() -> None:
    """m = 8, S = the first four; the functions err on 1, 2 and 2 of the other four, once, once and
    twice: mean (1 + 2 + 4) / 16; the majority errs on the fifth input and ties on the sixth."""
    truth = np.zeros(8, np.uint8)
    S, labels = np.arange(4), np.array([0, 0, 1, 1])
    tables = np.array(
        [[0, 0, 1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 1, 0, 1, 0], [0, 0, 1, 1, 1, 1, 0, 0]]
    )
    found = scores(pack(tables.astype(np.uint8)), truth, S, labels, np.array([1, 1, 2]))
    assert found == {"error": 7 / 16, "vote": 1.5 / 4, "fitted": 3 / 4}
    once = scores(pack(tables.astype(np.uint8)), truth, S, labels)
    assert once["error"] == pytest.approx(5 / 12) and once["vote"] == 1 / 4


def test_labels_are_nested_and_owned_by_the_data_set() -> None:
    given = TrainedDoubleDescent(corrupt=(0.0, 0.15, 0.5))
    truth = parse_functions("majority", 128, 7)[0]
    for dataset in range(3):
        S, labels = given.labels_of(dataset)
        wrong = [np.flatnonzero(labels[name] != truth[S]) for name in labels]
        assert [len(one) for one in wrong[:3]] == [0, 10, 32] and set(wrong[1]) <= set(wrong[2])
        assert np.array_equal(TrainedDoubleDescent(datasets=3).labels_of(dataset)[0], S)
    assert list(labels) == ["0 wrong", WRONG, "0.5 wrong", RANDOM]


def test_findings_of_a_table_that_is_known() -> None:
    given = TrainedDoubleDescent()
    frame = made(given)
    assert given.threshold(frame, WRONG) == 6 and given.threshold(frame, "0 wrong") == 1
    found = table_of(given.findings(frame)).set_index("claim")
    for method in (SGD, ADAM):
        for other in (2, 64):
            row = found.loc[f"error at width 6 - {other}: {method}"]
            assert row["effect"] == pytest.approx(0.1, abs=0.02) and row["cause"] == "optimiser"
    assert found.loc["error at width 6 - 64: adam", "slope_high"] < 0
    assert found.loc[f"error at width 6 - 64: {SOFT}", "verdict"] == "not shown"
    cold = found.loc[f"error at width 6 - 64: {STEP} (1 data sets without, left out)"]
    assert cold["datasets"] == 15 and cold["cause"] == "posterior"
    assert not any(claim.startswith(f"error at width 6 - 2: {STEP}") for claim in found.index)
    wrong = found.loc[f"error at width 6 - 64: adam, {WRONG} - 0 wrong"]
    assert wrong["verdict"] == "agrees"
    assert found.loc[f"error at width 6: adam - {SOFT}", "verdict"] == "agrees"
    control = found.loc["error at width 6 - 64: adam, random labels"]
    assert control["verdict"] == "null, as a control must be"
    overview = given.overview(frame).set_index(["labels", "method", "width"])
    assert overview.loc[(WRONG, STEP, 4), "without"] == 16
    assert math.isnan(overview.loc[(WRONG, STEP, 4), "error"])
    assert overview.loc[(WRONG, STEP, 6), ["without", "unmixed"]].to_list() == [1, 1]
    trained_double_descent_figure(frame, 0.15)
    with pytest.raises(InputError, match=r"corrupt='0\.3 wrong'"):
        trained_double_descent_figure(frame, 0.3)


@pytest.mark.slow
def test_networks_that_do_not_fit_are_kept_and_data_sets_stand_alone() -> None:
    """One unit cannot fit ten wrong labels: nothing is dropped, and no 0-1 posterior is claimed."""
    small = {"width": (1, 16), "draws": 16, "chains": 4, "burn_in": 20, "steps": 1000}
    one = pd.DataFrame(TrainedDoubleDescent(**small).compute(1))
    other = pd.DataFrame(TrainedDoubleDescent(**small, datasets=2).compute(1))
    pd.testing.assert_frame_equal(one, other)
    assert len(one) == 2 * (3 + 4 + 2)
    row = one.set_index(["labels", "width", "method"])
    for method in (SGD, ADAM, SOFT):
        assert row.loc[(WRONG, 1, method), "fitted"] == 0
        assert 0 <= row.loc[(WRONG, 1, method), "error"] <= 1
    assert math.isnan(row.loc[(WRONG, 1, STEP), "error"])
    assert row.loc[(WRONG, 1, STEP), "fitted"] == 0
    assert row.loc[("0 wrong", 16, STEP), "fitted"] == 1
    assert row.loc[("0 wrong", 16, ADAM), "fitted"] == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": (8, 4)}, "increasing"),
        ({"width": (0, 4)}, "width=0"),
        ({"corrupt": (0.15,)}, "two or more"),
        ({"corrupt": (0.0, 1.5)}, "corrupt=1.5"),
        ({"corrupt": (0.0, 0.001)}, "one wrong label or more"),
        ({"train": 128}, "train=128"),
        ({"beta": 0.0}, "beta=0"),
        ({"target": "majorty"}, "did you mean majority"),
    ],
)
def test_refusals(values: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TrainedDoubleDescent(**values)
