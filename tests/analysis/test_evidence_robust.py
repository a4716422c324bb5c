"""Half-fit sizes and the experiment ``robust``: crossings, ends of the range, findings, control."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from simprior.analysis.evidence.findings import table_of
from simprior.analysis.evidence.half_fit import crossing, half_fit, log2_sizes
from simprior.analysis.evidence.robust import Robust
from simprior.analysis.figures.fit import robust_figure
from simprior.errors import InputError

SIZES = np.array([1, 2, 4, 8])


def test_crossings_of_a_half() -> None:
    found = crossing(SIZES, np.array([0.0, 0.25, 0.75, 1.0]))
    assert np.isclose(found.size, 2 * np.sqrt(2)) and found.side == 0
    falling = crossing(SIZES, np.array([1.0, 0.75, 0.25, 0.0]), rising=False)
    assert falling == found
    assert crossing(SIZES, np.array([0.0, 0.5, 1.0, 1.0])).size == 2
    assert np.isclose(crossing(SIZES, np.array([0.0, 0.5, 0.5, 1.0])).size, 2 * np.sqrt(2))
    level = crossing(SIZES, np.array([0.0, 0.8, 0.2, 1.0]))  # pooled to 1/2, 1/2
    assert np.isclose(level.size, 2 * np.sqrt(2))
    assert crossing(SIZES, np.zeros(4)).side == 1 and crossing(SIZES, np.zeros(4)).size == 8
    assert crossing(SIZES, np.ones(4)).side == -1 and crossing(SIZES, np.ones(4)).size == 1
    assert crossing(SIZES, np.zeros(4), rising=False).side == -1
    for bad in (SIZES[:1], SIZES[::-1], SIZES - 1):
        with pytest.raises(InputError, match="increasing sizes"):
            crossing(bad, np.zeros(len(bad)))


def test_half_fits_count_what_is_outside() -> None:
    shares = np.array([[0.0, 0.0, 0.0, 0.1], [0.0, 0.25, 0.75, 1.0], [0.9, 1.0, 1.0, 1.0]] * 4)
    found = half_fit(SIZES, shares)
    assert (found.above, found.below, found.number) == (4, 4, 12)
    assert found.low <= found.value <= found.high and found.side == 0
    logs, outside = log2_sizes(SIZES, shares[:3])
    assert np.allclose(logs, [3, 1.5, 0]) and outside == 2
    none = half_fit(SIZES, np.zeros((3, 4)))
    assert none.above == 3 and none.side == 1 and none.high_open and none.value == 8


@pytest.mark.slow
def test_the_interval_covers() -> None:
    """Shares of 400 members, half-fits of data sets log-normal around 3 (sd 0.2 in ln): intervals
    over 24 data sets have 3 in 95 %, at least 90 %; of 60 of them 43 or more, false alarm 1e-5."""
    source, sizes, hits = np.random.default_rng(0), np.array([1.5, 2, 2.5, 3, 3.5, 4.5, 6]), 0
    for repeat in range(60):
        centres = np.log(3) + 0.2 * source.standard_normal((24, 1))
        shares = 1 / (1 + np.exp(-8 * (np.log(sizes) - centres)))
        found = half_fit(sizes, source.binomial(400, shares) / 400, seed=repeat)
        hits += found.low <= 3 <= found.high
    assert hits >= 43


def made() -> Robust:
    return Robust(
        n=3, depth=(1, 2), width=(1, 2, 4), wide=4, members=3, datasets=3, draws=300, max_epochs=60
    )


def test_rows_findings_and_figures() -> None:
    given = made()
    frame = pd.concat([pd.DataFrame(given.compute(piece)) for piece in given.pieces()])
    counts = frame["measure"].value_counts().to_dict()
    assert counts == {"logp": 3 * 2 * 4, "fitted": 3 * 3 * 3, "sensitivity": 3 * 4}
    one = pd.DataFrame(given.compute(1))
    pd.testing.assert_frame_equal(one, frame[frame["dataset"] == 1])
    overview = given.overview(frame)
    half = overview[overview["measure"] == "half-fit width"]
    assert half["part"].tolist() == ["strings", "balls", "places"] and half["above"].notna().all()
    found = table_of(given.findings(frame))
    assert (found["source"] == "control").sum() == 1 and len(found) in (6, 7)
    robust_figure(frame)
    robust_figure(frame, "logp")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n": 6}, "tile all strings"),
        ({"width": (4, 2)}, "increasing widths"),
        ({"depth": (1, 1)}, "each value once"),
        ({"draws": 10}, "draws=10"),
    ],
)
def test_refusals(values: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Robust(**values)


@pytest.mark.slow
def test_the_values_of_the_prototype() -> None:
    """Sensitivity 2.59 (robust) against 1.85: errors are taken as equal to ours over 16 data sets;
    4 combined standard errors. Half-fit widths about 3, 8, 13: within a third, in this order."""
    given = Robust(depth=(2,), datasets=16, members=8, width=(2, 3, 4, 6, 8, 9, 12, 16))
    frame = pd.concat([pd.DataFrame(given.compute(piece)) for piece in given.pieces()])
    at = frame[frame["measure"] == "sensitivity"]
    for part, value in (("balls", 2.59), ("posterior draws", 1.85)):
        of = at[at["part"] == part]["value"]
        assert abs(of.mean() - value) < 4 * np.sqrt(2) * of.std() / np.sqrt(len(of)), part
    overview = given.overview(frame).query("measure == 'half-fit width'")["value"].to_numpy()
    assert np.abs(np.log(overview / np.array([3, 8, 13]))).max() < np.log(4 / 3)
    found = table_of(given.findings(frame))
    assert found[found["source"] == "control"]["p_value"].iloc[0] > 1e-3
