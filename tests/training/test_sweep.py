"""Grids of settings, and the commands train and sweep."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from simprior.cli import main
from simprior.errors import InputError
from simprior.runs.directory import load_run
from simprior.training.records import TrainResult
from simprior.training.sweep import cell_name, expand, read_grid, varying

GRID = """
n = 4
hidden = [10]
target = "x1"
train = 8
runs = 12
[grid]
batch_size = [4, 8]
[optimizers.adam]
lr = [0.02, 0.05]
[optimizers.sgd]
lr = 0.2
"""
ARGUMENTS = "--n 4 --hidden 10 --train 8 --runs 20 --lr 0.05 --batch-size 4 --workers 1 --quiet"


def test_grid_is_every_combination(tmp_path) -> None:
    (tmp_path / "g.toml").write_text(GRID)
    cells = expand(read_grid(tmp_path / "g.toml"))
    assert [(c["optimizer"], c["lr"], c["batch_size"]) for c in cells] == [
        ("adam", 0.02, 4), ("adam", 0.02, 8), ("adam", 0.05, 4), ("adam", 0.05, 8),
        ("sgd", 0.2, 4), ("sgd", 0.2, 8),
    ]  # fmt: skip
    assert all(c["target"] == "x1" for c in cells)
    assert varying(cells) == ["optimizer", "lr", "batch_size"]
    names = [cell_name(i, c, varying(cells)) for i, c in enumerate(cells)]
    assert names[3] == "003-adam-0.05-8" and len(set(names)) == 6


@pytest.mark.parametrize(
    "grid",
    [
        {}, {"grid": {}}, {"grid": {"lr": []}}, {"grid": 3}, {"optimizers": [1]},
        {"lr": 1, "grid": {"lr": [1]}}, {"grid": {"out": ["a"]}}, {"out": "a", "grid": {"lr": [1]}},
        {"grid": {"lr": [1]}, "optimizers": {"sgd": {"lr": [2]}}},
    ],
)  # fmt: skip
def test_bad_grids(grid: dict) -> None:
    with pytest.raises(InputError):
        expand(grid)


def test_sweep_command_resumes_cells(tmp_path, capsys) -> None:
    (tmp_path / "g.toml").write_text(GRID)
    line = ["sweep", str(tmp_path / "g.toml"), "--out", str(tmp_path / "o"), "--workers", "1"]
    assert main([*line, "--quiet"]) == 0
    first = pd.read_csv(tmp_path / "o" / "tables" / "sweep.csv")
    assert len(first) == 6 and (first["fitted_share"] > 0.9).all()
    assert load_run(tmp_path / "o").status == "complete"
    started = load_run(tmp_path / "o" / "cells" / "003-adam-0.05-8").manifest["finished"]
    assert main([*line, "--quiet", "--resume"]) == 0
    assert load_run(tmp_path / "o" / "cells" / "003-adam-0.05-8").manifest["finished"] == started
    assert pd.read_csv(tmp_path / "o" / "tables" / "sweep.csv").equals(first)
    capsys.readouterr()
    assert main([*line, "--quiet"]) == 2  # occupied
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_sweep_refuses_bad_cells_before_training(tmp_path, capsys) -> None:
    (tmp_path / "g.toml").write_text('target = "x1"\n[grid]\nlearning_rate = [1]\n')
    assert main(["sweep", str(tmp_path / "g.toml"), "--out", str(tmp_path / "o")]) == 2
    error = capsys.readouterr().err
    assert "learning-rate" in error and len(error.splitlines()) == 1
    assert not (tmp_path / "o").exists()
    assert main(["sweep", str(tmp_path / "no.toml"), "--out", str(tmp_path / "o")]) == 2
    assert main(["sweep", str(tmp_path / "g.toml")]) == 2


def test_train_command(tmp_path, capsys) -> None:
    out = tmp_path / "r"
    line = ["train", *ARGUMENTS.split(), "--target", "x1", "--out", str(out), "--json"]
    assert main([*line, "--record", "0,4", "--record-logp"]) == 0
    value = json.loads(capsys.readouterr().out)
    result = TrainResult.load(out)
    assert value["summary"]["fitted"] == result.fitted.sum() == 20
    assert value["table"][0]["count"] == result.counts.count[0]
    joined = pd.read_parquet(out / "tables" / "trajectories-logp.parquet")
    assert len(joined) == len(result.trajectories) and (joined["logp"] < 0).all()
    assert load_run(out).verify() == []
    assert load_run(out).results["train_index"] == result.problem["train_index"]


def test_config_file_of_a_run_is_a_config(tmp_path, capsys) -> None:
    (tmp_path / "c.toml").write_text('n = 4\nhidden = [10]\ntarget = "x1"\ntrain = 8\nruns = 5\n')
    assert main(["train", "--config", str(tmp_path / "c.toml"), "--lr", "0.05", "--quiet"]) == 0
    assert "runs" in capsys.readouterr().out


def test_nothing_fitted_is_a_warning(capsys) -> None:
    line = "train --n 4 --hidden 10 --target parity --train 8 --runs 5 --max-epochs 1 --lr 1e-5"
    assert main([*line.split(), "--workers", "1"]) == 0
    output = capsys.readouterr()
    assert "no member fitted" in output.err and "fitted_share" in output.out


@pytest.mark.parametrize(
    "flags",
    ["--target nonsense", "--target x1 --train 128", "--target x1 --lr 0", "--data nothing",
     "--target x1 --optimizer adm", "--target x1 --options beta9=1", "--target x1 --stop soon",
     "--target x1 --record later", "--target x1 --device tpu", "--target x1 --record-logp"],
)  # fmt: skip
def test_bad_flags_are_one_line(flags: str, capsys) -> None:
    assert main(["train", *flags.split(), "--runs", "2", "--workers", "1", "--quiet"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("simprior: error: ") and len(error.splitlines()) == 1
