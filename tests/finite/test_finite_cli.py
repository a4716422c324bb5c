"""``simprior logp --width finite``: the table, resume, workers, refusals."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from simprior.cli import main
from simprior.finite import log_prior_finite
from simprior.network.spec import Network
from simprior.runs.directory import load_run

SMALL = "logp --n 2 --hidden 3 --functions x1,xor2 --quiet --particles 40 --runs 4 --method smc"


def call(text: str) -> int:
    return main(text.split())


def table(path: Path) -> dict:
    columns = dict(load_run(path).read_table("logp.parquet"))
    del columns["seconds"]
    return {name: values.tolist() for name, values in columns.items()}


def test_table_of_both_widths_workers_and_resume(tmp_path: Path, capsys) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert call(f"{SMALL} --width finite,infinite --out {one}") == 0
    assert call(f"{SMALL} --width finite,infinite --out {two} --workers 2") == 0
    capsys.readouterr()
    assert call(f"{SMALL} --width finite,infinite --out {one} --resume --workers 1") == 0
    assert "finite-smc" in capsys.readouterr().out
    assert repr(table(one)) == repr(table(two))
    found = table(one)
    assert found["name"] == ["x1", "x1", "xor2", "xor2"]
    assert found["width"] == ["finite", "infinite"] * 2
    alone = log_prior_finite(Network(n=2, hidden=(3,)), ["x1", "xor2"], particles=40, runs=4)
    assert found["logp"][::2] == [one.value for one in alone]
    for reliable, stderr in zip(found["reliable"], found["stderr"], strict=True):
        assert reliable != math.isnan(stderr)


def test_functions_of_a_sampled_run(tmp_path: Path, capsys) -> None:
    assert call(f"sample --n 2 --hidden 3 --samples 2e4 --out {tmp_path / 's'} --quiet") == 0
    capsys.readouterr()
    text = f"logp --from {tmp_path / 's'} --top 2 --width finite --method smc --quiet"
    assert call(f"{text} --particles 100 --runs 4 --json") == 0
    rows = json.loads(capsys.readouterr().out)["table"]
    assert [row["rank"] for row in rows] == [1, 2]
    for row in rows:  # t with 3 degrees of freedom: 10 standard errors, false alarm 2e-3
        error = math.hypot(row["stderr"], row["p_stderr"] / row["p"])
        assert abs(row["logp"] - math.log(row["p"])) < 10 * error


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ("--width fin", "finite, infinite or finite,infinite"),
        ("--width finite,finite", "finite, infinite or finite,infinite"),
        ("--width finite --method ep", "leave --method out"),
        ("--width finite --runs 2", "runs=2"),
        ("--width finite --particles 1", "particles=1"),
        ("--width finite --weight-dist uniform", "weight"),
        ("--width finite --tol 0", "tol=0"),
        ("--particles 5", "--width finite"),
    ],
)
def test_bad_flags_are_one_line(flags: str, text: str, tmp_path: Path, capsys) -> None:
    assert call(f"logp --n 2 --hidden 3 --functions x1 {flags} --out {tmp_path / 'o'}") == 2
    error = capsys.readouterr().err.strip()
    assert text in error and "\n" not in error, error
    assert not (tmp_path / "o").exists()
