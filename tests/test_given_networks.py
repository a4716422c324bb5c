"""Networks trained elsewhere are measured as those trained here; also results in memory.

The weights of a run are made again, written as torch's state dicts and safetensors files, and
measured as networks from elsewhere: all that does not depend on random directions is equal.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import simprior as sp
from simprior.analysis.measure import sources as measure_sources
from simprior.cli import main
from simprior.errors import InputError
from simprior.network.parameters import flat_layers, shapes_of
from simprior.training.records import TrainResult
from simprior.training.replay import problem_of, retrain
from test_states import write_safetensors

NET = sp.Network(n=4, hidden=(8, 6))
GROUPS = "prior,bound,lz,sensitivity,hessian,fisher,norms,margin,relative"
UNKNOWN = (
    "optimizer",
    "lr",
    "batch_size",
    "seed",
    "options",
    "stop",
    "max_epochs",
    "check",
    "pretrain",
    "steps",
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on bits with attack points, one on digits, and one with the threshold 1/2."""
    folder = tmp_path_factory.mktemp("given")
    sp.train(NET, "x1", train=8, attack=1, runs=5, lr=0.02, batch_size=4, out=folder / "bits")
    sp.train(
        NET, data="digits", classes="3,8", train=12, test=10, runs=4, lr=0.01, out=folder / "digits"
    )
    sp.train(
        NET, "x1", train=8, runs=4, lr=0.05, batch_size=4, loss="mse01", seed=2, out=folder / "half"
    )
    return folder


def states(run: Path) -> dict[str, np.ndarray]:
    """The fitted members of a run as one stacked state dict, with torch's names and shapes."""
    result = TrainResult.load(run)
    spec, _, found = retrain(result, np.flatnonzero(result.fitted))
    out = {}
    for i, (w, b) in enumerate(flat_layers(found.parameters, shapes_of(spec.network))):
        out[f"{2 * i}.weight"], out[f"{2 * i}.bias"] = w.transpose(0, 2, 1), b[:, 0]
    return out


def module(run: Path, row: int) -> nn.Module:
    """A fitted member of a run as a module of torch."""
    layers: list[nn.Module] = []
    state = {name: torch.tensor(value[row]) for name, value in states(run).items()}
    for name, value in state.items():
        if name.endswith("weight"):
            layers += [nn.Linear(value.shape[1], value.shape[0]), nn.ReLU()]
    made = nn.Sequential(*layers[:-1])
    made.load_state_dict(state)
    return made


def compare(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    """Equal in all that networks from elsewhere have; errors of random probes left out."""
    assert set(UNKNOWN).isdisjoint(found.columns)
    assert len(found) == len(wanted)
    left_out = {*UNKNOWN, "run", "member", "distance_norm"}
    columns = [name for name in wanted if name not in left_out]
    assert [name for name in found if name not in ("run", "member", "distance_norm")] == columns
    for name in columns:
        if wanted[name].dtype.kind in "fc":  # training is in float32, measuring in float64
            assert found[name].to_numpy() == pytest.approx(wanted[name], rel=1e-5, nan_ok=True), (
                name
            )
        else:
            assert found[name].tolist() == wanted[name].tolist(), name


@pytest.mark.parametrize("name", ["bits", "digits", "half"])
def test_a_round_trip_gives_the_same_table(runs: Path, tmp_path: Path, name: str) -> None:
    file = write_safetensors(tmp_path / "mine.safetensors", states(runs / name))
    options: dict[str, Any] = {"draws": 300, "seed": 4, "alphas": (1, 4)}
    groups = GROUPS if name != "digits" else GROUPS.replace("sensitivity,", "")
    wanted = sp.measure(runs / name, groups, **options)
    found = sp.measure(runs / name, groups, networks=file, **options)
    compare(found, wanted)
    assert (found["run"] == "mine.safetensors").all()
    assert found["fitted"].all() and (found["train_error"] == 0).all()
    assert found["distance_norm"].isna().all()  # where they started is not known


def test_the_command_says_the_same(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_safetensors(tmp_path / "mine.safetensors", states(runs / "bits"))
    line = [
        "measure",
        "--networks",
        str(file),
        "--like",
        str(runs / "bits"),
        "--measures",
        "lz,norms",
        "--out",
        str(tmp_path / "m"),
        "--quiet",
        "--json",
    ]
    assert main(line) == 0
    assert json.loads(capsys.readouterr().out)["summary"]["networks"] == 5
    found = pd.read_parquet(tmp_path / "m" / "measures.parquet")
    compare(found, sp.measure(runs / "bits", "lz,norms"))
    assert main([*line, "--resume"]) == 0
    capsys.readouterr()
    other = {key: value + 0.01 for key, value in states(runs / "bits").items()}
    write_safetensors(file, other)
    assert main([*line, "--resume"]) == 2  # other networks under the same name
    assert "sources" in capsys.readouterr().err


def test_modules_and_state_dicts_in_memory(runs: Path) -> None:
    run = runs / "bits"
    wanted = sp.measure(run, "lz,margin", networks=2)
    models = [module(run, 0), module(run, 1).state_dict()]
    compare(sp.measure(run, "lz,margin", networks=models), wanted)
    result = TrainResult.load(run)
    compare(sp.measure(result, "lz,margin", networks=models), wanted)
    problem = problem_of(result)
    object.__setattr__(problem, "network", NET)
    compare(sp.measure(problem, "lz,margin", networks=models), wanted)


@pytest.mark.slow
def test_pieces_and_workers_do_not_matter(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = "prior,lz,norms,sharpness,volume"
    state = states(runs / "bits")
    whole = sp.measure(runs / "bits", groups, networks=state, draws=200)
    monkeypatch.setattr(measure_sources, "NETWORKS_CHUNK", 2)
    many = sp.measure(runs / "bits", groups, networks=state, draws=200, workers=2)
    pd.testing.assert_frame_equal(many, whole, rtol=1e-9)


def test_networks_that_do_not_fit_are_measured_and_said_to(runs: Path) -> None:
    state = states(runs / "bits")
    state["4.weight"] = -state["4.weight"]
    state["4.bias"] = -state["4.bias"]
    frame = sp.measure(runs / "bits", "lz", networks=state)
    result = TrainResult.load(runs / "bits")
    assert len(frame) == 5
    assert not frame["fitted"].any() and (frame["train_error"] == 1).all()
    error = result.test_error[result.fitted]
    assert frame["test_error"].to_numpy() == pytest.approx(1 - error)


def test_another_loss_moves_the_threshold(runs: Path) -> None:
    state = states(runs / "bits")
    shifted = {**state, "4.bias": state["4.bias"] + 0.5}
    plain = sp.measure(runs / "bits", "lz", networks=state)
    half = sp.measure(runs / "bits", "lz", networks=shifted, loss="mse01")
    assert half["function"].tolist() == plain["function"].tolist()
    assert (half["loss"] == "mse01").all()


@pytest.mark.slow
def test_a_result_in_memory_is_measured_as_its_run(runs: Path) -> None:
    for name in ("bits", "digits"):
        result = TrainResult.load(runs / name)
        wanted = sp.measure(runs / name, "prior,lz,norms,sharpness", draws=200)
        found = sp.measure(result, "prior,lz,norms,sharpness", draws=200)
        pd.testing.assert_frame_equal(found.drop(columns="run"), wanted.drop(columns="run"))
        assert (found["run"] == "result").all()
    both = sp.measure([TrainResult.load(runs / name) for name in ("bits", "half")], "lz")
    assert both["run"].unique().tolist() == ["result", "result-1"]


def test_refusals(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = runs / "bits"
    state = states(run)
    wrong = {**state, "2.weight": np.zeros((5, 8, 6)), "2.bias": np.zeros((5, 8))}
    with pytest.raises(InputError, match=r"layer 2 of networks .*\(8, 6\).*\(6, 8\)"):
        sp.measure(run, networks=wrong)
    with pytest.raises(InputError, match="networks from elsewhere with 2 runs"):
        sp.measure([run, run], networks=state)
    with pytest.raises(InputError, match="a problem without networks"):
        sp.measure(problem_of(TrainResult.load(run)))
    with pytest.raises(InputError, match="loss=ce without networks"):
        sp.measure(run, loss="ce")
    with pytest.raises(InputError, match="loss='cd'"):
        sp.measure(run, networks=state, loss="cd")
    file = str(write_safetensors(tmp_path / "x.safetensors", state))
    lines = {
        "a run with their inputs": ["--networks", file],
        "pass the run with --like": [str(run), "--networks", file],
        "files of networks": ["--like", str(run)],
        "no PATH": [],
        "a whole number >= 1": [str(run), "--networks", "0"],
        "a file .safetensors": ["--networks", "mine.onnx", "--like", str(run)],
    }
    for message, arguments in lines.items():
        assert main(["measure", *arguments, "--quiet"]) == 2, message
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1, error
