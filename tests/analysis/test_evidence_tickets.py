"""Random tickets: masks, training behind them, findings and their control."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from simprior.analysis.evidence.findings import table_of
from simprior.analysis.evidence.tickets import (
    ALL,
    KINDS,
    MAGNITUDE,
    RANDOM,
    SHUFFLED,
    Ticket,
    Tickets,
)
from simprior.analysis.figures.evidence import tickets_figure
from simprior.errors import InputError
from simprior.network.parameters import flat_layers, shapes_of

SMALL = Tickets(
    n=3, target="x1", train=5, width=4, density=(0.5, 0.25), at=0.5, datasets=3, members=2,
    steps=3, draws=2,
)  # fmt: skip


def test_masks_keep_exact_shares_of_their_layers() -> None:
    trained, fresh = SMALL._weights(0)
    assert fresh.shape == (2, *trained.shape)
    source = np.random.default_rng(0)
    for kind in KINDS:
        mask = SMALL.mask(Ticket(2, 0.25, kind), trained, source)
        (w1, b1), (w2, b2), (w3, b3) = flat_layers(mask, shapes_of(SMALL.network))
        assert all((part == 1).all() for part in (w1, b1, b2, w3, b3))
        assert ((w2 > 0).sum(axis=(1, 2)) == 4).all() and set(w2.ravel()) == {0.0, 2.0}
        if kind == MAGNITUDE:
            of = np.abs(flat_layers(trained, shapes_of(SMALL.network))[1][0])
            for one, size in zip(w2, of, strict=True):
                assert size[one > 0].min() > size[one == 0].max()
    mask = SMALL.mask(Ticket(ALL, 0.01, RANDOM), trained, source)
    assert all((w > 0).sum(axis=(1, 2)).tolist() == [1, 1] for w, _ in
               flat_layers(mask, shapes_of(SMALL.network)))  # fmt: skip


def test_masked_weights_stay_0_and_others_move() -> None:
    start, _ = SMALL._weights(0)
    mask = SMALL.mask(Ticket(ALL, 0.5, RANDOM), start, np.random.default_rng(0))
    end = SMALL._trained(SMALL.problem(0), start * mask, mask > 0)
    assert (end[mask == 0] == 0).all() and (end != start * mask).mean() > 0.2
    alone = SMALL._trained(SMALL.problem(0), (start * mask)[1:], mask[1:] > 0)
    assert np.allclose(alone[0], end[1], rtol=1e-9)


def test_weights_have_the_law_of_the_network() -> None:
    """Variances over 4,000 networks, |z| < 5 over 6 numbers: 3e-6."""
    _, fresh = Tickets(n=3, target="x1", train=4, width=4, draws=1000, sigma_b=0.5)._weights(0)
    layers = flat_layers(fresh.reshape(-1, fresh.shape[2]), shapes_of(SMALL.network))
    for w, b in layers:
        for drawn, variance in ((w, 1 / w.shape[1]), (b, 0.25)):
            assert abs(drawn.var() / variance - 1) < 5 * (2 / drawn.size) ** 0.5


def made(given: Tickets) -> pd.DataFrame:
    """A table in place of one that is computed: random masks are worse by 1 - density."""
    source = np.random.default_rng(0)
    rows = []
    for dataset in given.pieces():
        for ticket in [Ticket(ALL, 1.0, "dense"), *given.tickets]:
            lost = 0.3 * (1 - ticket.density) * (ticket.kind != MAGNITUDE)
            known = ticket.kind in (RANDOM, "dense")
            row = {**ticket._asdict(), "dataset": dataset, "fitted": 1.0}
            row |= {"error": lost + 0.01 * source.standard_normal()}
            row |= {"lz": 20 * ticket.density + source.standard_normal()}
            row |= {"log_evidence": source.standard_normal() if known else np.nan}
            rows.append(row)
    return pd.DataFrame(rows)


def test_findings_of_a_table_that_is_known() -> None:
    given = Tickets(datasets=12)
    frame = made(given)
    found = table_of(given.findings(frame)).set_index("claim")
    first = found.loc["error: random - magnitude masks, all layers, density 0.2"]
    assert first["effect"] == pytest.approx(0.24, abs=0.02) and first["verdict"] == "agrees"
    assert first["slope_low"] > 0 and (found["datasets"] == 12).all() and len(found) == 7
    control = found[found.index.str.contains("shuffled")]
    assert list(control["verdict"]) == ["null, as a control must be"]
    overview = given.overview(frame)
    assert len(overview) == 1 + 3 * 4 * 3
    assert overview["log_evidence"].notna().sum() == 1 + 3 * 4
    tickets_figure(frame, 1)
    with pytest.raises(InputError, match="layer='4'"):
        tickets_figure(frame, 4)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"density": (0.5, 0.5)}, "each once"),
        ({"density": (0.5, 1.0), "at": 0.5}, "density=1"),
        ({"at": 0.3}, "at='0.3'"),
        ({"target": "majorty"}, "did you mean majority"),
        ({"steps": 0}, "steps=0"),
    ],
)
def test_refusals(values: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Tickets(**values)


@pytest.mark.slow
def test_a_data_set_has_a_row_a_ticket() -> None:
    one, again = (pd.DataFrame(SMALL.compute(1)) for _ in range(2))
    pd.testing.assert_frame_equal(one, again)
    assert len(one) == 1 + 3 * 2 * 3 and set(one["kind"]) == {"dense", *KINDS}
    assert one["log_evidence"].notna().sum() == 1 + 3 * 2
    assert one["error"].between(0, 1).all() and (one["lz"] > 0).all()
    assert SHUFFLED in set(one["kind"])
