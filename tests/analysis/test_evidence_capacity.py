"""The experiments ``capacity`` and ``bad-minima``: rows, findings, controls, refusals."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from simprior.analysis.evidence.bad_minima import AGAIN, ATTACKED, BAD, DRAWN, SCRATCH, BadMinima
from simprior.analysis.evidence.capacity import LABELS, RANDOM, Capacity, Piece, parameters_of
from simprior.analysis.evidence.findings import table_of
from simprior.analysis.figures.fit import bad_minima_figure, capacity_figure
from simprior.errors import InputError
from simprior.network.spec import Network


def computed(given: Capacity | BadMinima) -> pd.DataFrame:
    return pd.concat([pd.DataFrame(given.compute(piece)) for piece in given.pieces()])


def test_parameters_are_counted() -> None:
    assert parameters_of(Network(n=3, hidden=(4, 5))) == 3 * 4 + 4 + 4 * 5 + 5 + 5 + 1


def test_rows_of_capacity() -> None:
    given = Capacity(
        n=3, width=(2, 4), train=(2, 4, 7), compare=4, members=3, datasets=3, draws=300,
        max_epochs=60,
    )  # fmt: skip
    frame = computed(given)
    assert len(frame) == 3 * 2 * 3 * 3 and set(frame["labels"]) == set(LABELS)
    one = pd.DataFrame(given.compute(Piece(1, 4)))
    at = frame[(frame["dataset"] == 1) & (frame["width"] == 4)]
    pd.testing.assert_frame_equal(one, at)
    known = frame[frame["logp"].notna()]
    assert (known["width"] == 4).all() and (known["train"] == 4).all() and len(known) == 9
    overview = given.overview(frame)
    assert len(overview) == 6 and overview["parameters"].tolist()[:2] == [11, 21]
    found = table_of(given.findings(frame))
    assert (found["source"] == "control").sum() == 1 and "log2 parameters" in set(found["along"])
    capacity_figure(frame)


def test_findings_of_capacity_follow_from_the_shares() -> None:
    """Made shares: half of the networks fit 2 labels a parameter; the growth has exponent 1."""
    given = Capacity(n=8, width=(4, 8, 16), datasets=2)
    rows = []
    for dataset in range(2):
        for labels in LABELS:
            for width in given.width:
                half = 2 * parameters_of(given.network(width)) / 3
                for size in given.train:
                    share = 1 / (1 + (size / half) ** (6 + dataset))
                    steps = size * (4 if labels == RANDOM else 1) + dataset
                    row = {"dataset": dataset, "labels": labels, "width": width, "train": size}
                    logp = -float(size) * (1 + dataset / 5) * (2 if labels == RANDOM else 1)
                    rows.append(row | {"fitted": share, "steps": steps, "logp": logp})
    found = table_of(given.findings(pd.DataFrame(rows))).set_index("source")
    assert np.isclose(found.loc["prior", "slope"].iloc[0], 1, atol=0.1)
    assert found.loc["control", "effect"] == 0
    assert 1.9 < found.loc["optimiser", "effect"] < 2
    assert np.isclose(found.loc["prior", "effect"].iloc[1], 64 * 1.1)


def test_rows_of_bad_minima() -> None:
    given = BadMinima(
        n=3, target="x1", train=4, depth=1, width=(4, 5), pretrain=20, attack=1, members=2,
        datasets=3, draws=300, max_epochs=200,
    )  # fmt: skip
    frame = computed(given)
    assert len(frame) == 3 * (2 * 4 + 1)
    at = frame[frame["width"] == 4]
    assert set(at["start"]) == {SCRATCH, AGAIN, BAD, ATTACKED, DRAWN}
    assert not (frame[frame["width"] == 5]["start"] == DRAWN).any()
    fitted = frame[(frame["fitted"] > 0) & (frame["start"] != DRAWN)]
    assert fitted[["error", "log_p", "sharpness"]].notna().all(axis=None)
    assert len(given.overview(frame)) == 9
    bad_minima_figure(frame, 5)
    with pytest.raises(InputError, match="width='3'"):
        bad_minima_figure(frame, 3)


def test_data_sets_without_networks_that_fit_are_said() -> None:
    given, rows = BadMinima(width=(40,), datasets=3), []
    for dataset in range(3):
        for start in (SCRATCH, AGAIN, BAD, ATTACKED, DRAWN):
            lost = start == BAD and dataset == 2
            value = np.nan if lost else dataset + (start == BAD)
            row = {"dataset": dataset, "width": 40, "start": start, "fitted": 1.0 - lost}
            rows.append(row | dict.fromkeys(("error", "log_p", "sharpness"), value))
    frame = pd.DataFrame(rows)
    found = table_of(given.findings(frame)).set_index("claim")
    told = found.loc[
        "error: pre-trained - from scratch, width 40 (1 data sets not fitted, left out)"
    ]
    assert told["effect"] == 1 and told["datasets"] == 2
    assert given.overview(frame).set_index("start").loc[BAD, "unfitted"] == 1


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (Capacity, {"compare": 65}, "compare=65"),
        (Capacity, {"train": (4, 300), "compare": 4}, "train=300"),
        (Capacity, {"width": (8, 4)}, "increasing values"),
        (Capacity, {"target": "majorty"}, "did you mean majority"),
        (BadMinima, {"width": (8, 8)}, "each value once"),
        (BadMinima, {"attack": 90}, "attack=90"),
        (BadMinima, {"train": 128}, "train=128"),
    ],
)
def test_refusals(kind: type, values: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        kind(**values)


@pytest.mark.slow
def test_random_labels_cost_more_and_bad_starts_err() -> None:
    """Signs that hold by far: p < 1e-3 each over 8 data sets."""
    given = Capacity(width=(4, 16), datasets=8, members=8, max_epochs=300)
    found = table_of(given.findings(computed(given))).set_index("source")
    assert (found.loc["prior", "p_value"] < 1e-3).all() and (found.loc["prior", "effect"] > 0).all()
    minima = BadMinima(width=(40,), datasets=8, members=4)
    told = table_of(minima.findings(computed(minima))).set_index("claim")
    attacked = told.loc["ln P(f) (nats): attack set - from scratch, width 40"]
    assert attacked["p_value"] < 1e-3 and attacked["effect"] < 0
