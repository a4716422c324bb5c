"""Tables: nothing is lost on the way to a file, and the file says how it was made."""

from __future__ import annotations

import hashlib
import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from simprior.analysis.study.paper_tables import function_table, functions_for_paper, pooled_table
from simprior.analysis.text.latex import escape_latex, latex
from simprior.analysis.text.numbers import plus_minus, scientific
from simprior.analysis.text.tables import FORMS, render, write
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.sampling.sample import sample
from simprior.cli import main
from simprior.errors import InputError, StoreError
from simprior.network.spec import Network

NOTE = "simprior table run --top 5\n--format csv"


@pytest.fixture(scope="module")
def counts() -> FunctionCounts:
    return sample(Network(n=5), samples=3000, seed=0, heads=4)


@pytest.fixture(scope="module")
def frame(counts: FunctionCounts) -> pd.DataFrame:
    return function_table(counts, top=12)


def test_columns(counts: FunctionCounts, frame: pd.DataFrame) -> None:
    part = function_table(counts, 3, ("p", "function"))
    assert list(part.columns) == ["p", "function"] and len(part) == 3
    pd.testing.assert_frame_equal(part, frame[["p", "function"]].head(3))
    assert len(function_table(counts, None)) == counts.functions
    with pytest.raises(InputError, match=r"^columns=q: expected some of rank, function, .*$"):
        function_table(counts, 3, ["q"])


def test_round_trips(frame: pd.DataFrame, tmp_path: Path) -> None:
    for form in FORMS:
        write(frame, tmp_path / form, form, NOTE)
    csv = pd.read_csv(tmp_path / "csv", dtype=str)
    beside = json.loads((tmp_path / "csv.json").read_text())
    assert beside["command"] == NOTE.replace("\n", " ") and beside["rows"] == len(frame)
    assert beside["columns"] == list(frame.columns)
    assert beside["sha256"] == hashlib.sha256((tmp_path / "csv").read_bytes()).hexdigest()
    assert list(csv.columns) == list(frame.columns)
    for name in frame.columns:
        kind = str if name == "function" else float
        assert [kind(text) for text in csv[name]] == frame[name].tolist()
    loaded = json.loads((tmp_path / "json").read_text())
    assert loaded["summary"] == {"comment": NOTE.replace("\n", " ")}
    assert loaded["table"] == json.loads(render(frame, "json"))["table"]
    again = pd.DataFrame(loaded["table"])
    pd.testing.assert_frame_equal(again, frame, check_exact=True, check_dtype=False)
    table = pq.read_table(tmp_path / "parquet")
    assert table.schema.metadata[b"comment"].decode() == NOTE
    pd.testing.assert_frame_equal(table.to_pandas(), frame)
    rows = [line for line in (tmp_path / "markdown").read_text().splitlines() if line[:1] == "|"]
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    assert cells[0] == list(frame.columns) and len(cells) == len(frame) + 2
    p = [float(row[cells[0].index("p")]) for row in cells[2:]]
    np.testing.assert_allclose(p, frame["p"], rtol=1e-5)


def test_the_note_is_one_comment_line(frame: pd.DataFrame) -> None:
    first, rest = render(frame, "latex", note=NOTE).split("\n", 1)
    assert first.startswith("% simp") and first.endswith("--top 5 --format csv")
    assert rest == render(frame, "latex")
    assert render(frame, "csv", note=NOTE) == render(frame, "csv")


def test_latex_numbers_agree_with_the_frame(counts: FunctionCounts) -> None:
    frame = functions_for_paper(function_table(counts, top=12))
    text = latex(frame, "50 % of P_x", "tab:a_b")
    assert r"\caption{50 \% of P\_x Brackets" in text and r"\label{tab:a_b}" in text
    body = text.split(r"\midrule")[1].split(r"\bottomrule")[0]
    rows = [[cell.strip() for cell in row.split("&")] for row in body.strip().split("\\\\")[:-1]]
    assert len(rows) == len(frame) and text.count(r"\texttt{0x") == len(frame)
    for row, (_, found) in zip(rows, frame.iterrows(), strict=True):
        half = (found["p_high"] - found["p_low"]) / 2
        limits = re.fullmatch(r"\$\[([\d.]+), ([\d.]+)\]\$", row[3])
        assert limits is not None and row[1] == rf"\texttt{{{found['function']}}}"
        # two digits of the median half-width of the column, or of its own: half a unit of the last
        for shown, true in ((row[2], "p"), (limits[1], "p_low"), (limits[2], "p_high")):
            assert abs(float(shown) - found[true]) <= 0.5 * half


def test_latex_text_is_escaped_and_missing_numbers_are_dashes() -> None:
    frame = pd.DataFrame({"a_b": ["x&y", r"\{~^"], "v": [float("nan"), 0.0], "k": [1, 2]})
    text = latex(frame, "c", "l")
    assert r"a\_b" in text and r"x\&y & {--} & 1" in text
    assert escape_latex(r"\{~^") in text and r"\begin{tabular}{@{}lS[" in text
    assert json.loads(render(frame, "json"))["table"][0]["v"] is None


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.364172, 0.000163, r"0.36417 \pm 0.00016"),
        (8.83e-5, 3.01e-6, r"(8.83 \pm 0.30) \times 10^{-5}"),
        (0.5, 0.0996, r"0.50 \pm 0.10"),
        (1e-7, 2e-7, r"(1.0 \pm 2.0) \times 10^{-7}"),
        (-0.39, 1.21, r"-0.4 \pm 1.2"),
        (123456.0, 7890.0, r"(1.235 \pm 0.079) \times 10^{5}"),
        (0.25, 0.0, "0.25"),
        (0.25, float("nan"), "0.25"),
    ],
)
def test_plus_minus(value: float, error: float, text: str) -> None:
    assert plus_minus(value, error) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(10**7, "10^{7}"), (50, "50"), (65536, "65{,}536"), (10**5, "10^{5}"), (0, "0"),
     (2.15e6, r"2.15 \times 10^{6}"), (0.25, "0.25"), (1.5e-7, r"1.5 \times 10^{-7}")],
)  # fmt: skip
def test_scientific(value: float, text: str) -> None:
    assert scientific(value) == text


def test_bad_forms_and_folders(frame: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^format='xls': expected one of csv, latex"):
        render(frame, "xls")
    with pytest.raises(StoreError, match="nowhere"):
        write(frame, tmp_path / "nowhere" / "t.csv", "csv", NOTE)


def test_csv_without_a_note_is_plain(frame: pd.DataFrame) -> None:
    assert pd.read_csv(io.StringIO(render(frame, "csv")))["rank"].tolist() == list(range(1, 13))


def test_pooled_classes_are_sorted_by_p(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """P of each member, with its interval, the size of the class, and a member in words."""
    counts = sample(Network(n=3), samples=3000, seed=0, heads=1, pool=True, out=tmp_path / "r")
    assert counts.pooled is not None
    table = pooled_table(counts, None)
    assert table["p"].is_monotonic_decreasing and len(table) == counts.pooled.functions
    assert table["rank"].tolist() == list(range(1, len(table) + 1))
    np.testing.assert_allclose((table["p"] * table["orbit"]).sum(), 1.0, rtol=1e-12)
    assert (table["p_low"] <= table["p"]).all() and (table["p"] <= table["p_high"]).all()
    assert table["representative"][0] in ("0", "1")
    assert main(["table", str(tmp_path / "r"), "--pooled", "--top", "2", "--quiet"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("rank,representative,function,") and len(lines) == 3
    assert main(["table", str(tmp_path / "r"), "--pooled", "--format", "latex"]) == 0
    assert "classes of functions that are equal but for" in capsys.readouterr().out
    plain = sample(Network(n=3), samples=300, seed=0, heads=1)
    with pytest.raises(InputError, match="not pooled"):
        pooled_table(plain)
