"""Narrow teachers: labels, S, methods, examples needed, findings and their control."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from simprior.analysis.evidence.findings import table_of
from simprior.analysis.evidence.narrow_teachers import (
    INFINITE,
    SHUFFLED,
    TEACHER,
    NarrowTeachers,
    Piece,
    examples_needed,
)
from simprior.analysis.figures.evidence import narrow_teachers_figure
from simprior.errors import InputError

SMALL = NarrowTeachers(n=4, teacher=(1, 2), train=(4, 8), size=8, datasets=6)


def made(given: NarrowTeachers, seed: int = 0) -> pd.DataFrame:
    """A table in place of one that is computed: errors fall as 1 / |S|, wider teachers have more;
    with shuffled labels they are chance but for noise."""
    source = np.random.default_rng(seed)
    rows = []
    for piece in given.pieces():
        for student in given.student:
            for train in given.train:
                error = 0.8 * (piece.teacher + 1) / train * source.uniform(0.9, 1.1)
                row = {**piece._asdict(), "labels": TEACHER, "student": student, "train": train}
                rows.append(
                    {**row, "error": error, "chance": 0.5, "method": "gp", "rhat": math.nan}
                )
        row = {**piece._asdict(), "labels": SHUFFLED, "student": given.student[0]}
        row |= {"train": given.size, "error": 0.5 + 0.01 * source.standard_normal()}
        rows.append({**row, "chance": 0.5, "method": "slice", "rhat": 1.2})
    return pd.DataFrame(rows)


def test_examples_needed_are_between_sizes() -> None:
    sizes = np.array([8, 16, 32])
    assert examples_needed(sizes, np.array([0.4, 0.3, 0.1]), 0.2) == pytest.approx(8**0.5 * 8)
    assert examples_needed(sizes, np.array([0.1, 0.3, 0.1]), 0.2) == pytest.approx(8**0.5 * 8)
    assert examples_needed(sizes, np.array([0.1, 0.1, 0.1]), 0.2) == 8
    assert math.isnan(examples_needed(sizes, np.array([0.4, 0.1, 0.2]), 0.2))


def test_teachers_are_not_nearly_constant_and_owned_by_the_data_set() -> None:
    for dataset in range(4):
        table = SMALL.teachers_labels(Piece(1, dataset))
        assert 0.25 <= table.mean() <= 0.75
        assert np.array_equal(table, SMALL.teachers_labels(Piece(1, dataset)))
    same = NarrowTeachers(n=4, teacher=(1, 2), train=(4, 8), size=8, sigma_w=1e-9)
    with pytest.raises(InputError, match="two labels"):  # all of these teachers are constant
        same.teachers_labels(Piece(1, 0))


def test_findings_of_a_table_that_is_known() -> None:
    given = NarrowTeachers(teacher=(1, 3, 7), level=0.2)
    frame = made(given)
    found = table_of(given.findings(frame)).set_index("claim")
    assert len(found) == 5 and (found["datasets"] == 24).all()
    wide = found.loc["error: teacher of width 7 - 1, student 40, |S| = 64"]
    assert wide["effect"] == pytest.approx(0.8 * 6 / 64, rel=0.1) and wide["verdict"] == "agrees"
    needed = found.loc["log2 examples needed for error 0.2: teacher 7 - 1, student 40"]
    assert needed["effect"] == pytest.approx(2, abs=0.15) and needed["slope_low"] > 0
    control = found[found.index.str.startswith("error - chance")]
    assert list(control["verdict"]) == ["null, as a control must be"]
    overview = given.overview(frame)
    assert len(overview) == 3 * 4 * 5 + 3
    first = overview[(overview["labels"] == TEACHER) & (overview["teacher"] == 1)]
    assert np.allclose(first["needed"], 8, rtol=0.1)
    few = NarrowTeachers(teacher=(1, 7), train=(8, 16), size=16, level=0.01)
    claims = [one.claim for one in few.findings(made(few))]
    assert len(claims) == 4 and not any("needed" in claim for claim in claims)
    narrow_teachers_figure(frame)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"student": (4, 40)}, "none below a teacher's"),
        ({"student": (40, INFINITE)}, "two or more finite widths"),
        ({"size": 20}, "size='20'"),
        ({"teacher": (1, 1)}, "each once"),
        ({"train": (8, 128), "size": 8}, "train=128"),
        ({"rarer": 0.6}, "rarer=0.6"),
    ],
)
def test_refusals(values: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        NarrowTeachers(**values)


@pytest.mark.slow
def test_chains_and_rejection_give_the_same_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Teacher 1, |S| = 6 of 16: mean errors over 12 data sets by slice and by rejection, paired;
    |t| < 5 with 11 degrees of freedom: 4e-4. Control: shuffled labels, |t| < 5 as well."""
    given = NarrowTeachers(
        n=4, teacher=(1, 2), student=(5, 4), train=(3, 6), size=6, datasets=12, rarer=0.1
    )
    pieces = [piece for piece in given.pieces() if piece.teacher == 1]
    frame = pd.concat([pd.DataFrame(given.compute(piece)) for piece in pieces])
    assert (frame["method"] == "rejection").any()
    at = frame[(frame["labels"] == TEACHER) & (frame["train"] == 6) & (frame["student"] == 5)]
    monkeypatch.setattr(NarrowTeachers, "_method", lambda *_: ("slice", {"chains": 4, "thin": 5}))
    other = [given._drawn(given.teachers_labels(piece), piece, 5, 6)["error"] for piece in pieces]
    gap = at["error"].to_numpy() - np.array(other)
    assert abs(gap.mean()) < 5 * gap.std(ddof=1) / math.sqrt(len(gap))
    of = frame[frame["labels"] == SHUFFLED]
    gain = (of["error"] - of["chance"]).to_numpy()
    assert abs(gain.mean()) < 5 * gain.std(ddof=1) / math.sqrt(len(gain))
