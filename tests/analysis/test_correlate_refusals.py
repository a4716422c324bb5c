"""Rows, columns and groups that correlate leaves out or refuses, and says so; resuming."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simprior.analysis.correlation import correlate
from simprior.analysis.correlation.output import correlate_into
from simprior.errors import InputError

QUICK = {"bootstrap": 100, "permutations": 19}


def table(clusters: int = 12, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    level = np.repeat(rng.standard_normal(clusters), 6)
    k = len(level)
    return pd.DataFrame({
        "optimizer": "sgd", "attack": np.tile([0, 10], k // 2), "test_size": 10_000,
        "cluster": np.repeat(np.arange(clusters), 6).astype(str),
        "test_error": 0.3 + 0.05 * level + 0.02 * rng.standard_normal(k),
        "good": -level + 0.1 * rng.standard_normal(k), "noise": rng.standard_normal(k),
    })  # fmt: skip


def test_rows_without_a_group_are_counted() -> None:
    frame = table()
    frame.loc[:4, "optimizer"] = None
    found = correlate(frame, by="optimizer", **QUICK)
    assert any("5 rows without a value of optimizer" in note for note in found.notes)
    assert (found.table["points"] == len(frame) - 5).all()


def test_a_control_is_no_measure_and_no_outcome() -> None:
    with pytest.raises(InputError, match="controls=test_error"):
        correlate(table(), controls="test_error", **QUICK)
    with pytest.raises(InputError, match="controls=good"):
        correlate(table(), measures=["good", "noise"], controls="good", **QUICK)
    found = correlate(table(), controls="good", **QUICK)  # all others
    assert found.table["measure"].tolist() == ["noise"]
    assert found.table["partial_spearman"].notna().all()
    assert found.table["partial_p_value"].between(1 / 20, 1).all()


def test_no_sign_errors_where_tau_was_refused() -> None:
    """A perfect negative predictor of a group too small for a coefficient has no expected sign."""
    small = table(3, 1).assign(optimizer="adam")
    small["good"] = -small["test_error"]
    found = correlate(pd.concat([table(), small], ignore_index=True), by="optimizer", **QUICK)
    assert set(found.environments["optimizer"]) == {"sgd"}
    refused = found.table[found.table["optimizer"] == "adam"]
    assert refused["kendall"].isna().all()


def test_resume_reads_a_finished_run(tmp_path: Path) -> None:
    options = {"by": ["optimizer"], "seed": 2, **QUICK}
    source = {"from": "x"}
    first = correlate_into(table(), options, source, tmp_path / "c", "note")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "c" / "tables").iterdir()}
    again = correlate_into(table(), options, source, tmp_path / "c", "note", resume=True)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "c" / "tables").iterdir()} == before
    for name in ("table", "granulated", "conditional_mi", "environments", "baselines"):
        pd.testing.assert_frame_equal(getattr(first, name), getattr(again, name))
    assert first.notes == again.notes
