"""``simprior import`` with the commands that use what it wrote."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from simprior.boolean.truthtable import pack, to_hex
from simprior.cli import main

PUBLISHED = "state,entropy,freq\n0x80,.3,1000\n0xff,0,500\n0x00,0,250\n"


def run(*words: object) -> int:
    return main([str(word) for word in words])


def test_a_table_that_lists_part_of_the_samples(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "t.csv").write_text(PUBLISHED)
    base = ["import", tmp_path / "t.csv", "--n", 3, "--columns", "function,_,count"]
    assert run(*base, "--samples", 1749, "--out", tmp_path / "no") == 2
    assert "expected at least the sum of counts, 1750" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
    part, whole = tmp_path / "part", tmp_path / "whole"
    assert run(*base, "--samples", "1e4", "--out", part, "--json") == 0
    output = capsys.readouterr()
    assert json.loads(output.out)["summary"]["unseen_mass"] == 0.825
    assert (
        "3 lines, 3 functions, n=3, counts 1,750; line 1 is a header (state,entropy,freq); "
        "function = column 1, count = column 3"
    ) in output.err
    said = "lists 1,750 of 10,000 samples: P = count / samples"
    assert said in output.err and output.err.count("\n") == 4
    assert run(*base, "--out", whole, "--quiet") == 0
    assert run("table", part, "--columns", "function,p") == 0
    output = capsys.readouterr()
    assert said in output.err and "0x80,0.1\n" in output.out
    assert run("table", part, "--format", "latex") == 0
    caption = r"The whole table lists 17.5 \% of 10,000 samples."
    assert caption in capsys.readouterr().out
    assert run("compare", part, whole, "--bootstrap", 20, "--splits", 2, "--json") == 0
    output = capsys.readouterr()
    rows = {row["name"]: row for row in json.loads(output.out)["table"]}
    assert said in output.err
    assert rows["unlisted_mass_a"]["value"] == 0.825 and "unlisted_mass_b" not in rows
    assert rows["total_variation"]["value"] == pytest.approx(0.825)


@pytest.fixture
def of_96_inputs(tmp_path: Path) -> tuple[Path, Path, list[str]]:
    """Two runs of the same 40 labellings of 96 inputs (m is no power of 2), and these."""
    source = np.random.default_rng(1)
    base = source.integers(0, 2, 96)
    flips = source.random((40, 96)) < np.linspace(0.05, 0.3, 40)[:, None]
    functions = to_hex(pack((base ^ flips).astype(np.uint8)), 96)
    for name, power in (("a", 1.0), ("b", 1.3)):
        lines = [f"{f} {int(2000 / (i + 1) ** power) + 40 - i}\n" for i, f in enumerate(functions)]
        (tmp_path / name).write_text("".join(lines))
        out = tmp_path / f"run-{name}"
        assert run("import", tmp_path / name, "--m", 96, "--out", out, "--quiet") == 0
    return tmp_path / "run-a", tmp_path / "run-b", functions


def test_labels_of_96_inputs(
    tmp_path: Path, capsys: Any, of_96_inputs: tuple[Path, Path, list[str]]
) -> None:
    a, b, functions = of_96_inputs
    assert run("table", a, "--out", tmp_path / "t.csv", "--quiet") == 0
    frame = pd.read_csv(tmp_path / "t.csv", comment="#")
    assert frame["function"].tolist() == functions[:20] and frame["ones"].max() <= 96
    again = tmp_path / "again"
    assert run("import", tmp_path / "t.csv", "--m", 96, "--out", again, "--quiet") == 0
    capsys.readouterr()
    assert run("compare", a, again, "--bootstrap", 20, "--splits", 2, "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["table"]}
    assert rows["functions_common"]["value"] == 20
    assert rows["offset_decades"]["value"] == pytest.approx(0, abs=1e-12)
    words = ["--target", functions[0], "--bootstrap", 20, "--splits", 2, "--out", tmp_path / "c"]
    assert run("compare", a, b, *words, "--quiet") == 0
    assert run("info", a) == 0
    assert run("compare", a, b, "--target", "majority") == 2
    assert "names are defined only when" in capsys.readouterr().err


@pytest.mark.slow
def test_figures_and_measures_of_96_inputs(
    tmp_path: Path, of_96_inputs: tuple[Path, Path, list[str]]
) -> None:
    a, b, functions = of_96_inputs
    assert run("plot", a, "--quiet") == 0
    assert len(list((a / "figures").glob("*.png"))) == 4
    words = ["--target", functions[0], "--bootstrap", 20, "--splits", 2, "--out", tmp_path / "c"]
    assert run("compare", a, b, *words, "--plot", "--quiet") == 0
    assert run("measure", a, "--quiet", "--out", tmp_path / "m") == 0
    measured = pd.read_parquet(tmp_path / "m" / "measures.parquet")
    assert len(measured) and np.isfinite(measured["lz76"]).all()


def test_no_output_directory_no_reading(tmp_path: Path, capsys: Any) -> None:
    assert run("import", tmp_path / "missing") == 2
    assert "out=none" in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("mine")
    assert run("import", tmp_path / "missing", "--out", tmp_path / "full") == 2
    assert "not empty" in capsys.readouterr().err


@pytest.mark.parametrize("label", [r"x}\input{y", "a%b"])
def test_latex_labels_are_refused_before_anything_is_read(
    tmp_path: Path, capsys: Any, label: str
) -> None:
    words = ["--format", "latex", "--label", label]
    assert run("table", tmp_path / "missing", *words) == 2
    error = capsys.readouterr().err
    assert "label=" in error and "--label tab:functions" in error and error.count("\n") == 1


def test_captions_of_watched_functions_do_not_speak_of_frequency(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from simprior.boolean.sampling.watch import WatchResult

    p, words = np.array([0.1, 0.4, 0.2]), pack(np.eye(3, 8, dtype=np.uint8))
    result = WatchResult(8, words, np.ones(3), p, p / 9, np.ones(9) / 9, np.ones(9) / 99, 100, 10)
    monkeypatch.setattr("simprior.boolean.sampling.watch.load_result", lambda path, top: result)
    monkeypatch.setattr("simprior.analysis.table_runs.has_functions", lambda path: True)
    for top, caption in (
        ("3", "The 3 watched functions, in "),
        ("2", "The first 2 of the 3 watched"),
    ):
        assert run("table", "out", "--format", "latex", "--top", top) == 0
        text = capsys.readouterr().out
        assert caption in text and "frequent" not in text


def test_an_occupied_directory_is_not_offered_what_import_lacks(tmp_path, capsys):
    (tmp_path / "f.txt").write_text("00001111 3\n")
    line = ["import", str(tmp_path / "f.txt"), "--n", "3", "--out", str(tmp_path / "run")]
    assert main(line) == 0
    capsys.readouterr()
    assert main(line) == 2
    message = capsys.readouterr().err
    assert "--overwrite" in message and "--resume" not in message
    assert main([*line, "--overwrite"]) == 0


def test_a_damaged_compressed_matrix_is_one_line(tmp_path, capsys):
    data = bytearray(gzip.compress(b"0,1\n1,0\n1,1\n"))
    data[12] ^= 0xFF
    (tmp_path / "x.csv").write_bytes(bytes(data))
    assert main(["sample", "--inputs", str(tmp_path / "x.csv"), "--samples", "10"]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "it cannot be read" in message
