"""The experiment on rare outputs: rows held to enumeration, the contrasts, the controls."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from simprior.analysis.evidence.findings import table_of
from simprior.analysis.evidence.rare_outputs import COMPARED, LINEAR, RANDOM, TRAINED, RareNetworks
from simprior.analysis.figures.evidence import rare_outputs_figure
from simprior.errors import InputError
from simprior.runs.tasks import one_thread

FEW: dict[str, Any] = {
    "n": 3,
    "bits": (1, 2),
    "width": (4, 5),
    "depth": 1,
    "train": 4,
    "datasets": 4,
    "samples": 800,
    "particles": 20,
    "runs": 4,
}


def computed(given: RareNetworks, datasets: int) -> pd.DataFrame:
    with one_thread():
        return pd.DataFrame(given.compute(range(datasets)))


def test_rows_are_held_to_enumeration_and_independent() -> None:
    given = RareNetworks(**FEW)
    frame = computed(given, 2)
    assert len(frame) == 2 * 2 * (3 * len(COMPARED) + 2)
    again = frame[frame["dataset"] == 1].reset_index(drop=True)
    with one_thread():
        pd.testing.assert_frame_equal(again, pd.DataFrame(given.compute(range(1, 2))))
    bits = frame[frame["kind"] != LINEAR]
    ties = frame["bits"] * math.log(2) + frame["exact"]  # strings of equal outputs: fewer
    assert (ties < 1e-9).all() and np.allclose(ties[frame["kind"] == LINEAR], 0)
    assert set(bits["kind"]) == {RANDOM, TRAINED} and len(given.pieces()) == 2
    assert set(given.overview(frame)["method"]) == set(COMPARED)


def test_findings_are_paired_within_a_network() -> None:
    """|off| as made here: gld 1, qld 0.5, mhis 0 a bit; trained and wide networks half as far."""
    given = RareNetworks(**FEW)
    per_bit = {"gaussian": 3.0, "gld": -1.0, "qld": 0.5, "mhis": 0.0}
    rows = [
        {"dataset": d, "kind": kind, "width": width, "bits": b, "method": method,
         "off": per_bit[method] * b / (1 if (kind, width) == (RANDOM, 4) else 2) + 0.01 * d,
         "exact": -5.0}
        for d in (-1, 0, 1) for kind, width in ((RANDOM, 4), (RANDOM, 5), (TRAINED, 4), (LINEAR, 0))
        for b in (1, 2) for method in per_bit
    ]  # fmt: skip
    frame = pd.DataFrame(rows)
    frame.loc[frame["kind"] == LINEAR, "off"] = 0.01 * frame["dataset"]
    found = table_of(given.findings(frame)).set_index("claim")
    at = "|off| in nats at P = 2^-2: "
    wanted = {"gld - mhis": 2, "qld - mhis": 1, "gld - qld": 1, "gaussian - gld": 4}
    wanted |= {"gld, trained - random": -1, "gld, width 5 - 4": -1}
    for claim, effect in wanted.items():
        assert found.loc[at + claim, "effect"] == pytest.approx(effect, abs=0.03), claim
    assert found.loc[at + "gld - mhis", "slope"] == pytest.approx(1, abs=0.03)
    controls = found[found["source"] == "control"]
    assert len(controls) == 2 and (controls["verdict"] == "null, as a control must be").all()
    frame.loc[frame["method"] == "qld", "off"] = math.nan  # not reached: off by all of ln P
    found = table_of(given.findings(frame)).set_index("claim")
    assert found.loc[at + "qld - mhis", "effect"] == pytest.approx(5, abs=0.03)
    assert rare_outputs_figure(frame).axes[0].has_data()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bits": (2, 20)}, "bits=20"),
        ({"bits": (2, 1)}, "ascending"),
        ({"width": ()}, "ascending"),
        ({"n": 17}, "n=17"),
        ({"target": "majoritty"}, "majoritty"),
    ],
)
def test_refusals(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        RareNetworks(**{**FEW, **values})


@pytest.mark.slow
def test_controls_come_out_null() -> None:
    """The linear control and the unbiased one at their own p-values of 0.001 in place of 0.05:
    false alarm 2e-3 for both."""
    given = RareNetworks(n=10, bits=(3, 6), width=(8,), datasets=12, samples=5000)
    found = given.findings(computed(given, 12))
    assert all(one.effect.p > 1e-3 for one in found if one.source == "control")
    gap = next(one for one in found if one.claim.endswith("gld - mhis"))
    assert gap.effect.value > 0 and gap.effect.number == 12
