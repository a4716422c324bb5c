"""``simprior bound`` of several sizes of S: a table, a run directory and its figure."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from simprior.analysis.bound_sizes import sizes_verdict
from simprior.analysis.figures.bounds import bounds_figure
from simprior.analysis.plot import plot_run
from simprior.analysis.table_files import read_frame
from simprior.cli import bound, main
from simprior.errors import InputError
from simprior.runs.directory import load_run

LINE = ["bound", "--data", "digits", "--classes", "3,8", "--seed", "4", "--draws", "128", "--quiet"]


def test_a_row_a_size_is_what_the_command_says_of_that_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main([*LINE, "--train", "60,20", "--out", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    frame = read_frame(out)
    assert printed["table"] == frame.to_dict(orient="records")
    assert frame["train_size"].tolist() == [20, 60]
    assert printed["summary"]["verdict"] == load_run(out).results["verdict"]
    for row in frame.itertuples():
        assert main([*LINE, "--train", str(row.train_size), "--json"]) == 0
        alone = json.loads(capsys.readouterr().out)
        assert row.log_evidence == alone["summary"]["log_evidence"]
        assert row.log_evidence_stderr == alone["summary"]["log_evidence_stderr"] > 0
        gibbs, single = alone["table"]
        for name, of in (("bound", gibbs), ("single", single)):
            found = [getattr(row, name + end) for end in ("_low", "", "_high")]
            assert found == [of["low"], of["error_below"], of["high"]]
    assert [path.name for path in plot_run(out)] == ["bounds.pdf", "bounds.png"]
    assert main(["table", str(out), "--format", "latex"]) == 0
    assert "PAC-Bayes bound" in capsys.readouterr().out
    assert load_run(out).verify() == []


def test_the_command_in_the_table_makes_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*LINE, "--hidden", "", "--balanced", "--train", "20,40", "--out", "a run"]) == 0
    first = read_frame(Path("a run"))
    note = json.loads(Path("a run/tables/bounds.csv.json").read_text())["command"]
    program, *line = shlex.split(note)
    assert program == "simprior" and "--balanced" in line
    assert main([*line, "--overwrite", "--quiet"]) == 0
    pd.testing.assert_frame_equal(read_frame(Path("a run")), first)
    config = load_run(Path("a run")).config
    assert config["hidden"] == [] and config["balanced"] is True


def test_one_size_is_kept_too_and_the_record_is_a_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["bound", "--target", "x1", "--n", "4", "--train", "8", "--out", str(out)]) == 0
    first = capsys.readouterr().out
    again = ["bound", "--config", str(out / "config.toml"), "--out", str(out), "--resume"]
    assert main(again) == 0
    assert capsys.readouterr().out == first and "from 8 examples" in first


def test_a_stopped_run_goes_on_with_the_sizes_that_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    sizes = [*LINE, "--train", "20,40,60"]
    assert main([*sizes, "--out", str(whole)]) == 0
    called: list[int] = []
    plain = bound._bounds

    def counted(spec: Any, options: Any) -> Any:
        called.append(spec.train)
        if len(called) == 3:
            raise KeyboardInterrupt
        return plain(spec, options)

    monkeypatch.setattr(bound, "_bounds", counted)
    assert main([*sizes, "--out", str(stopped)]) == 130
    assert load_run(stopped).status == "interrupted"
    assert main(["plot", str(stopped)]) == 2
    assert "finish it with --resume" in capsys.readouterr().err
    assert main([*sizes, "--out", str(stopped), "--resume"]) == 0
    assert called == [20, 40, 60, 60]
    pd.testing.assert_frame_equal(read_frame(stopped), read_frame(whole))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--train", "10,10"], "train=10,10: expected each count once"),
        (
            ["--train", "10,x"],
            "train=10,x: expected whole numbers >= 1, one or several with commas",
        ),
        (["--train", "10,"], "train=10,: expected whole numbers >= 1"),
        (["--from", "run", "--train", "10,20"], "train=10 with --from: expected the training set"),
    ],
)
def test_bad_sizes_are_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bound", *arguments, "--quiet"]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def table(**columns: Any) -> pd.DataFrame:
    rows = {"train_size": [100, 1000, 5000], "bound": [0.5, 0.4, 0.3], "guess": 0.45}
    frame = pd.DataFrame(rows | columns)
    frame["bound_low"], frame["bound_high"] = frame["bound"] - 0.01, frame["bound"] + 0.01
    for end in ("", "_low", "_high"):
        frame[f"single{end}"] = frame[f"bound{end}"] + 0.02
    frame["log_evidence"], frame["log_evidence_stderr"] = -0.4 * frame["train_size"], 1.0
    return frame.assign(reliable=[True, False, True][: len(frame)])


@pytest.mark.parametrize(
    ("guess", "says"),
    [
        (0.45, "from 1,000 and 5,000."),
        (0.405, "from 5,000."),  # 0.4 is not: its interval ends at 0.41
        (0.2, "from none."),
        (0.6, "from all of them."),
    ],
)
def test_the_verdict_names_the_sizes_with_a_bound_that_is_worth_something(
    guess: float, says: str
) -> None:
    said = sizes_verdict(table(guess=guess))
    assert said.startswith("The error is below 0.3 from 5,000 examples, and below 0.5 from 100.")
    assert said.endswith(f"commoner label {says}")


def test_the_figure_shows_intervals_and_what_is_not_reliable() -> None:
    frame = table()
    figure = bounds_figure(frame)
    above, below = figure.axes
    assert below.get_xscale() == "log" and "nats" in below.get_ylabel()
    assert "error" in above.get_ylabel()
    assert any("not reliable" in text.get_text() for text in [*figure.texts, figure._supxlabel])
    segments = np.concatenate(
        [c.get_segments() for c in above.collections if hasattr(c, "get_segments")]
    )
    ends = {tuple(np.round(np.sort(s[:, 1]), 6)) for s in segments}
    assert {(0.49, 0.51), (0.51, 0.53)} <= ends
    with pytest.raises(InputError, match="log_evidence"):
        bounds_figure(frame.drop(columns="log_evidence"))
