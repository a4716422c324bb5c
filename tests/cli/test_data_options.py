"""train, logp, bound and sweep read the same files with the same options."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from simprior.analysis.table_files import read_file
from simprior.cli import main
from simprior.cli.options import load_inputs
from simprior.errors import InputError
from simprior.network.spec import Network
from simprior.runs.directory import load_run
from simprior.training.data import load_dataset
from simprior.training.settings import files_read
from simprior.training.settings import settings as cell_settings
from simprior.training.targets import Problem


@pytest.fixture
def file(tmp_path: Path) -> str:
    """40 rows, classes -1 and 1, five without a label, row names in front."""
    x = np.random.default_rng(5).normal(size=(45, 3))
    frame = pd.DataFrame(x, columns=["u", "v", "w"])
    kind = pd.Series(np.where(x[:, 0] > 0, "1", "-1"), dtype=object)
    kind[::9] = "?"
    frame["kind"] = kind
    frame.to_csv(tmp_path / "t.csv")
    return str(tmp_path / "t.csv")


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[Any, str]:
    code = main([*arguments, "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out), captured.err


def test_commands_read_the_same_file(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = ["--data", file, "--label", "kind", "--missing", "drop", "--scale", "standard"]
    data += ["--train", "12", "--classes", "-1:1"]
    line = "40 examples, 3 features, label column 'kind', 2 classes: -1 ("
    out = str(tmp_path / "train")
    small = ["--hidden", "5", "--runs", "2", "--test", "20", "--workers", "1"]
    _, err = output(capsys, "train", *data, *small, "--out", out)
    assert line in err and "5 rows dropped" in err and "dropped: row names" in err
    bound, err = output(capsys, "bound", *data, "--hidden", "5")
    assert line in err and "12 training and 28 test inputs, 0 test inputs" in err
    source = bound["summary"]["source"]
    assert source["label"] == "kind" and source["examples"] == 40
    assert bound["summary"]["test_in_train"] == 0
    logp, err = output(
        capsys, "logp", *data, "--hidden", "5", "--workers", "1", "--out", str(tmp_path / "logp")
    )
    assert line in err
    assert logp["table"][0]["logp"] == bound["summary"]["log_evidence"]
    # the labels of training are those whose probability is bounded, and on record
    problem = load_run(out).config["problem"]
    found = load_dataset(
        file, classes="-1:1", train=12, label="kind", missing="drop", scale="standard"
    )
    assert problem["labels"] == "".join(map(str, found.y_train))
    assert (problem["classes"], problem["label"]) == ("-1:1", "kind")
    assert (problem["missing"], problem["scale"]) == ("drop", "standard")
    assert load_run(out).manifest["options"]["data"]["class_counts"] == source["class_counts"]
    assert load_run(tmp_path / "logp").results["data"]["source"] == source
    # the configuration of logp is a valid --config
    again, _ = output(capsys, "logp", "--config", str(tmp_path / "logp" / "config.toml"))
    assert again["table"][0]["logp"] == logp["table"][0]["logp"]
    # measure needs the file only, of which all was said
    assert main(["measure", out, "--data", file, "--measures", "lz"]) == 0
    assert "examples" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bound", "--data", "FILE"], "--label"),
        (["bound", "--data", "FILE", "--label", "kind"], "5 labels missing"),
        (["logp", "--data", "FILE", "--label", "kind"], "--missing drop"),
        (["train", "--data", "FILE", "--label", "kind"], "5 labels missing"),
        (["bound", "--data", "FILE", "--label", "kind", "--missing", "x"], "missing=x"),
        (["train", "--target", "x1", "--classes", "0:1"], "classes='0:1'"),
        (["train", "--target", "x1", "--missing", "drop"], "missing='drop'"),
        (["logp", "--functions", "x1", "--label", "y"], "label=y"),
        (["logp", "--functions", "x1", "--missing", "drop"], "missing=drop"),
        (["bound", "--data", "digits", "--label", "y"], "label='y'"),
    ],
)
def test_refused_in_one_line(
    arguments: list[str], message: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([file if a == "FILE" else a for a in arguments]) == 2
    err = capsys.readouterr().err
    assert message in err and len(err.splitlines()) == 1


def test_sweep_says_what_it_read_once(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "grid.toml"
    recipe.write_text(
        f'data = "{file}"\nlabel = "kind"\nmissing = "drop"\nscale = "standard"\nruns = 1\n'
        "hidden = [4]\ntest = 10\n[grid]\ntrain = [8, 10]\n"
    )
    _, err = output(capsys, "sweep", str(recipe), "--out", str(tmp_path / "s"), "--workers", "1")
    assert err.count("40 examples") == 1 and "written to" in err
    cell = cell_settings({"data": file, "label": "kind", "missing": "drop"})
    assert cell.keywords["missing"] == "drop"


def test_digits_say_what_they_are(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="simprior")
    Problem(Network(), data="digits", classes="3,8", train=30, test=20)
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("digits: 1797 examples, 64 features, 10 classes: 0 (178), 1 (182)")
    assert second.startswith("digits 3,8: 30 training and 20 test inputs, 0 test inputs are")


def test_a_folder_of_images_is_hashed(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"1")
    first = files_read({"data": str(tmp_path)})
    (tmp_path / "train-images-idx3-ubyte").write_bytes(b"2")
    assert first and files_read({"data": str(tmp_path)}) != first


def test_a_hash_belongs_to_its_value(tmp_path: Path) -> None:
    """Only lines at the top are comments: 30 of 60 rows vanished, 60 clusters were read as 15."""
    frame = pd.DataFrame(
        {"cluster": [f"{'#' if i % 2 else 'c'}{i // 4}#{i}" for i in range(60)], "x": range(60)}
    )
    (tmp_path / "t.csv").write_text("# made by hand\n" + frame.to_csv(index=False))
    assert read_file(tmp_path / "t.csv").equals(frame)
    for text, message in (
        ("a,b\n1,2\n3\n", "line 3 has 1"),
        ("a,b\n1,2,3\n", "line 2 has 3"),
        ("a,a\n1,2\n", "2 columns are called 'a'"),
        ("# only\n", "readable table"),
    ):
        (tmp_path / "t.csv").write_text(text)
        with pytest.raises(InputError, match=message):
            read_file(tmp_path / "t.csv")


def test_inputs_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("\ufeff# two inputs\n1,2\r\n3,-4.5\r\n")
    assert load_inputs(str(path)).tolist() == [[1, 2], [3, -4.5]]
    assert np.array_equal(
        cell_settings({"inputs": str(path), "target": "01"}).network.inputs, [[1, 2], [3, -4.5]]
    )
    for text in ("1,2#3\n4,5\n", "a,b\n1,2\n", "1,2\n3\n", "", "1_0,2\n"):
        path.write_text(text)
        with pytest.raises(InputError, match="inputs="):
            load_inputs(str(path))
