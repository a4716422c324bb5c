"""``simprior evidence``: all recipes, one table corrected as a whole, a report with it first."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simprior.analysis.correlate.tests import holm
from simprior.analysis.evidence import suite
from simprior.analysis.evidence.findings import COLUMNS
from simprior.analysis.evidence.suite import chosen_names, run_evidence, verdict
from simprior.cli import main
from simprior.errors import InputError, StoreError
from simprior.runs.directory import load_run

NAMES = (
    "capacity",
    "deep-linear",
    "double-descent",
    "grokking",
    "memorisation",
    "narrow-teachers",
    "rare-outputs",
    "robust",
    "tickets",
)
TEXTS = 'title = "{0}"\nquestion = "Is {0} so?"\nrun_time = "a moment"\n'
CONTROL = """
[[evidence]]
name = "control"
kind = "single-output"
n = 3
depth = [1, 2]
samples = 3000
[quick]
evidence-control = { samples = 2000 }
"""
NETS = """
[evidence]
kind = "deep-linear"
depth = [1, 2]
datasets = 4
draws = 4
thin = 1
burn = 2
steps = 30
[[figure]]
kind = "completion"
name = "picture"
[quick]
evidence = { datasets = 3 }
"""


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "a-control.toml").write_text(TEXTS.format("a control") + CONTROL)
    (folder / "nets.toml").write_text(TEXTS.format("low rank") + NETS)
    monkeypatch.setattr(suite, "RECIPES", folder)
    return folder


def test_the_set_runs_resumes_and_is_judged_as_one(recipes: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = run_evidence(out, only=["a-control"], quick=True)
    assert list(first["recipe"]) == ["a-control"] and load_run(out).status == "complete"
    with pytest.raises(StoreError, match="--resume"):
        run_evidence(out, quick=True)
    with pytest.raises(StoreError, match="quick"):
        run_evidence(out, resume=True)  # in earnest, below the results of a quick run
    stage = out / "a-control" / "evidence-control" / "evidence.parquet"
    before = stage.stat().st_mtime_ns
    both = run_evidence(out, quick=True, resume=True)
    assert stage.stat().st_mtime_ns == before  # not computed again
    assert list(both["recipe"]) == ["a-control"] + ["nets"] * 7
    assert set(COLUMNS) <= set(both) and np.allclose(both["p_holm"], holm(both["p_value"]))
    run = load_run(out)
    assert run.command == "evidence" and run.verify() == []
    assert run.results["verdict"] == verdict(both)
    assert "a quick run" in run.results["notes"][-1]
    pd.testing.assert_frame_equal(
        pd.read_parquet(out / "tables" / "findings.parquet"), both, check_dtype=False
    )
    page = (out / "report.html").read_text()
    places = [page.index(text) for text in ("What was found", "low rank", 'id="nets"', "picture")]
    assert places == sorted(places) and "nets/figures/picture.pdf" in page
    head = page[page.index("<th") : page.index("</thead>")]
    assert "verdict" in head and "expected" not in head
    assert "nets/report.html" in page


def test_names_of_recipes() -> None:
    assert chosen_names(None) == suite.recipe_names() == NAMES
    assert chosen_names(["memorisation"]) == ("memorisation",)
    with pytest.raises(InputError, match="did you mean deep-linear"):
        chosen_names(["deep-linaer"])
    with pytest.raises(InputError, match="name one"):
        chosen_names([])


def test_the_command_prints_the_table(
    recipes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["evidence", "--quick", "--only", "a-control", "--workers", "1", "--quiet"]
    assert main([*line, "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("0 of 0 contrasts") and "| contrast" in out and "P(x1)" in out
    assert main([*line, "--out", str(tmp_path / "out"), "--resume", "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["table"][0]["recipe"] == "a-control" and value["summary"]["verdict"]
    assert main([*line, "--out", str(tmp_path / "dry"), "--dry-run"]) == 0
    assert "a-control/evidence-control" in capsys.readouterr().out
    assert not (tmp_path / "dry").exists()
    assert main(line) == 2 and "no --out" in capsys.readouterr().err
    assert main([*line[:2], "--only", "nothing", "--out", str(tmp_path / "new")]) == 2
    assert not (tmp_path / "new").exists()


def test_the_report_can_be_built_again(recipes: Path, tmp_path: Path) -> None:
    run_evidence(tmp_path / "out", only=["a-control"], quick=True)
    before = (tmp_path / "out" / "report.html").read_text()
    assert main(["report", str(tmp_path / "out"), "--quiet"]) == 0
    after = (tmp_path / "out" / "report.html").read_text()
    assert "What was found" in before and "What was found" in after
