"""Verdicts of correlate: what they say follows from the intervals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import simprior as sp
from simprior.analysis.correlate.correlations import Correlations
from simprior.analysis.correlate.words import explained, readable, verdict
from simprior.analysis.report.page import write_report
from simprior.analysis.table_runs import correlate_into

Row = dict[str, tuple[float, float, float]]


def table(**rows: Row) -> pd.DataFrame:
    """A row a measure: {coefficient: (value, low, high)}."""
    found = []
    for name, row in rows.items():
        out: dict[str, object] = {"measure": name, "points": 60, "clusters": 20}
        for kind in ("pearson", "spearman", "kendall", *row):
            for end, value in zip(
                ("", "_low", "_high"), row.get(kind, (0, -0.1, 0.1)), strict=True
            ):
                out[f"{kind}{end}"] = value
        found.append(out | {"p_value": 0.01, "p_adjusted": 0.02})
    return pd.DataFrame(found)


CLEAR: Row = {"kendall": (-0.8, -0.9, -0.6)}
WEAK: Row = {"kendall": (0.3, 0.1, 0.5)}
NONE: Row = {"kendall": (0.1, -0.1, 0.3)}


@pytest.mark.parametrize(
    ("rows", "said", "unsaid"),
    [
        (
            {"a": WEAK, "b": CLEAR},
            ["b predicts", "-0.80", "next, a", "is told apart", "2 of 2"],
            [],
        ),
        ({"a": WEAK, "b": NONE}, ["a predicts", "next, b", "is not told apart"], ["b predicts"]),
        ({"a": NONE, "b": NONE}, ["no measure is shown", "all 2"], ["predicts"]),
        ({"a": CLEAR}, ["a predicts"], ["next"]),
    ],
)
def test_the_best_and_the_next(rows: dict[str, Row], said: list[str], unsaid: list[str]) -> None:
    found = verdict(table(**rows), "error")
    assert all(words in found for words in said)
    assert not any(words in found for words in unsaid)
    assert found.count(".") >= 1 and "\n" not in found


def test_what_controls_change() -> None:
    """A raw coefficient that the control explains is named, with what is left of it."""
    confounded: Row = {"spearman": (-0.7, -0.8, -0.6), "partial_spearman": (-0.1, -0.6, 0.5)}
    real: Row = {"spearman": (0.3, 0.1, 0.5), "partial_spearman": (0.6, 0.4, 0.7)}
    both = table(log_p=confounded, trace=real)
    found = verdict(both, "error", ["target"])
    assert found.startswith("trace predicts error best given target: partial rho +0.60")
    assert "without controls it would be log_p -0.70 [-0.80, -0.60], of which the controls" in found
    assert found.endswith("leave -0.10 [-0.60, +0.50].")
    alone = verdict(table(log_p=confounded), "error", ["target"])
    assert alone.startswith("no measure is shown to predict error given target")
    assert "log_p -0.70" in alone
    assert "target held fixed" in explained(both, ["target"])


def test_groups_are_told_one_by_one_or_counted() -> None:
    parts = [table(a=WEAK, b=CLEAR).assign(k=k) for k in range(3)]
    few = pd.concat(parts)[["k", *parts[0].columns.drop("k")]]
    assert verdict(few, "error").count("b predicts error best") == 3
    many = pd.concat([few, few.assign(k=few["k"] + 3)])
    assert verdict(many, "error") == "Best of error in 6 groups: b in 6; none in 0."


def test_refused_coefficients() -> None:
    refused: Row = dict.fromkeys(("pearson", "spearman", "kendall"), (np.nan,) * 3)
    found = table(a=refused, b=CLEAR)
    assert "next" not in verdict(found, "error")
    assert verdict(table(a=refused), "error").startswith("no measure has an interval of tau")
    assert readable(found)["kendall"].tolist() == ["-", "-0.80 [-0.90, -0.60]"]
    assert "refused" in explained(found)


def test_results_show_themselves() -> None:
    """Three short lines, a table in a notebook, and a frame, of a table or what gives one."""
    rng = np.random.default_rng(0)
    k = 40
    error = rng.random(k)
    frame = pd.DataFrame({"held_out_error": error, "long <name>": error + rng.random(k) / 5})
    for i in range(12):
        frame[f"a_measure_with_a_rather_long_name_{i}"] = rng.random(k)

    class Measured:
        def to_frame(self) -> pd.DataFrame:
            return frame

    found = sp.correlate(Measured(), y="held_out_error", bootstrap=100, permutations=19)
    assert isinstance(found, Correlations)
    assert len(repr(found)) < 400 and repr(found).count("\n") == 2
    assert "long <name> predicts held_out_error best" in repr(found)
    page = found._repr_html_()
    assert "<table" in page and "long &lt;name&gt;" in page and "<name>" not in page
    assert found.to_frame() is found.table


def test_a_report_begins_with_the_verdict(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"test_error": rng.random(40), "u": rng.random(40)})
    options = {"bootstrap": 100, "permutations": 19}
    found = correlate_into(frame, options, {}, tmp_path / "c", "note")
    page = write_report(tmp_path / "c").read_text()
    assert page.count(found.verdict) == 1
    assert page.index(">Verdict</h2>") < page.index(">Tables</h2>")
