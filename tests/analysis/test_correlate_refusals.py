"""Rows, columns and groups that correlate leaves out or refuses, and says so; resuming."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simprior.analysis.correlate import correlate
from simprior.analysis.correlate.correlations import (
    NAMES,
    Analyses,
    Coefficients,
    Piece,
    Rows,
)
from simprior.analysis.table_files import read_frame
from simprior.analysis.table_runs import correlate_into
from simprior.errors import InputError, StoreError
from simprior.runs.directory import load_run
from simprior.runs.tasks import Interrupted

QUICK = {"bootstrap": 100, "permutations": 19}


def table(clusters: int = 12, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    level = np.repeat(rng.standard_normal(clusters), 6)
    k = len(level)
    return pd.DataFrame(
        {
            "optimizer": "sgd",
            "attack": np.tile([0, 10], k // 2),
            "test_size": 10_000,
            "cluster": np.repeat(np.arange(clusters), 6).astype(str),
            "test_error": 0.3 + 0.05 * level + 0.02 * rng.standard_normal(k),
            "good": -level + 0.1 * rng.standard_normal(k),
            "noise": rng.standard_normal(k),
        }
    )


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


def test_resume_goes_on_after_the_last_coefficient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after two pieces of work, a run computes the others only, to the same tables."""
    frame = pd.concat([table(), table(12, 1).assign(optimizer="adam")], ignore_index=True)
    options = {"by": ["optimizer"], "controls": ["attack"], "seed": 2, **QUICK}
    whole = correlate(frame, **options)
    done: list[str] = []
    limit = 2

    def counted(compute: Callable[[Coefficients, Piece], Rows]) -> Callable[..., Rows]:
        def count(self: Coefficients, piece: Piece) -> Rows:
            if len(done) == limit:
                raise Interrupted("stopped")
            done.append(piece.name)
            return compute(self, piece)

        return count

    for work in (Coefficients, Analyses):
        monkeypatch.setattr(work, "compute", counted(work.compute))
    with pytest.raises(Interrupted):
        correlate_into(frame, options, {"from": "x"}, tmp_path / "c", "note")
    assert load_run(tmp_path / "c").status == "interrupted"
    assert done == ["0-good", "0-noise"]
    limit = -1
    found = correlate_into(frame, options, {"from": "x"}, tmp_path / "c", "note", resume=True)
    assert done[2:] == ["1-good", "1-noise", "0", "1"]
    for name in NAMES:
        pd.testing.assert_frame_equal(getattr(found, name), getattr(whole, name), check_exact=True)
    assert found.notes == whole.notes
    assert not load_run(tmp_path / "c").shards


def test_a_refused_table_leaves_no_run(tmp_path: Path) -> None:
    few = table().head(10)
    with pytest.raises(InputError, match="points enough"):
        correlate_into(few, QUICK, {}, tmp_path / "c", "note")
    assert not (tmp_path / "c").exists()


def test_notes_of_what_makes_intervals_too_narrow() -> None:
    frame = table()
    member = np.tile(np.arange(6), 12)
    shared = frame.assign(seed=0, member=member, data_seed=frame["cluster"].astype(int))
    assert any("same weights" in note for note in correlate(shared, **QUICK).notes)
    own = shared.assign(seed=frame["cluster"].astype(int))
    assert not any("same weights" in note for note in correlate(own, **QUICK).notes)
    large = frame.assign(cluster=np.where(np.arange(72) < 61, "big", frame["cluster"]))
    large.loc[61:, "cluster"] = np.arange(11).astype(str)
    assert any("of the points" in note for note in correlate(large, **QUICK).notes)


def test_measures_of_the_test_labels_and_their_error() -> None:
    """They share the sampling error of the test inputs: a note, and nothing disattenuated."""
    frame = table().assign(log_p=lambda f: f["good"], log_p_stderr=0.1, test_size=50)
    found = correlate(frame, measures="log_p", **QUICK)
    assert any("held_out_error" in note for note in found.notes)
    assert found.table["disattenuated"].isna().all() and found.table["pearson"].notna().all()
    held = frame.assign(held_out_error=frame["test_error"], held_out_size=1000)
    found = correlate(held, "held_out_error", measures="log_p", **QUICK)
    assert not any("same test inputs" in note for note in found.notes)
    assert found.table["disattenuated"].notna().all()
    noisy = held.assign(log_p_stderr=held["log_p"].std() * 0.9)  # reliability 0.2
    found = correlate(noisy, "held_out_error", measures="log_p", **QUICK)
    assert found.table["disattenuated"].isna().all()


def test_an_interval_that_is_missing_is_said_to_be() -> None:
    frame = table().assign(line=lambda f: 2 * f["test_error"])
    found = correlate(frame, measures=["line", "good"], **QUICK)
    assert any(note.startswith("line: kendall without an interval") for note in found.notes)
    assert not any(note.startswith("good") for note in found.notes)


def test_many_controls_of_few_points() -> None:
    frame = table(20).groupby("cluster").first().reset_index()
    names = []
    for i in range(12):
        names.append(f"z{i}")
        frame[names[-1]] = np.random.default_rng(i).standard_normal(20)
    found = correlate(frame, measures="good", controls=names, **QUICK)
    assert found.table["pearson"].notna().all() and found.table["partial_pearson"].isna().all()
    assert any("cells of the controls" in note for note in found.notes)


def test_what_is_no_table(tmp_path: Path) -> None:
    for wrong in (None, {"a": 1}, 3):
        with pytest.raises(InputError, match="DataFrame"):
            correlate(wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="measures=test_error"):
        correlate(table(), measures="test_error")
    with pytest.raises(InputError, match="constant"):
        correlate(table(), controls="optimizer")
    (tmp_path / "empty.csv").write_text("test_error,x\n")
    with pytest.raises(InputError, match="no rows"):
        correlate(tmp_path / "empty.csv")
    table().to_csv(tmp_path / "t.csv", index=False)
    assert len(correlate(tmp_path / "t.csv", by="optimizer", **QUICK).table)


def test_a_damaged_run_is_not_read(tmp_path: Path) -> None:
    correlate_into(table(), dict(QUICK), {"from": "x"}, tmp_path / "c", "note")
    file = tmp_path / "c" / "tables" / "correlations.parquet"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(StoreError, match="sha256"):
        read_frame(tmp_path / "c")
