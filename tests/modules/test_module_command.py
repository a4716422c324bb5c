"""``simprior sample --module`` and ``--architecture``: results, run directories, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import simprior as sp
from simprior.analysis.figures.style import model_label
from simprior.cli import main

NETS = """
from torch import nn

def make(n, width=6):
    return nn.Sequential(nn.Linear(n, width), nn.ReLU(), nn.Linear(width, 1))

def batch(n):
    return nn.Sequential(nn.Linear(n, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))

def two(n):
    return nn.Linear(n, 2)

def fails(n):
    raise ValueError("no weights")
"""
RUN = "sample --n 3 --samples 400 --quiet"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a package of nets, which is importable from there."""
    package = tmp_path / f"nets_{abs(hash(tmp_path))}"
    package.mkdir()
    (package / "nets.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    return package


def test_a_module_of_the_working_directory(folder: Path, capsys) -> None:
    make = f"{folder.name}.nets:make"
    command = [*RUN.split(), "--module", make, "--option", "width=5", "--out", "run"]
    assert main([*command, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)["summary"]
    module = sp.Module(make, n=3, options={"width": 5})
    assert printed == pytest.approx(sp.sample(module, 400).summary())
    assert {"p_constant", "lz76_nonconstant_low"} <= set(printed)
    assert main([*command, "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["summary"] == printed
    again = ["sample", "--config", "run/config.toml", "--out", "again", "--json", "--quiet"]
    assert main(again) == 0
    assert json.loads(capsys.readouterr().out)["summary"] == printed
    counts = sp.load("run")
    assert counts.info["model"] == module
    assert model_label(counts.info["model"]).startswith("make, $n=3$,")


@pytest.mark.parametrize(
    ("flags", "fields"),
    [
        (
            "--architecture mlp --hidden 5,5 --norm layer --residual",
            {
                "make": "mlp",
                "options": {
                    "hidden": (5, 5),
                    "activation": "relu",
                    "norm": "layer",
                    "residual": True,
                },
            },
        ),
        (
            "--architecture transformer --option d_model=4,layers=1,heads=2 --sigma-b 0.1",
            {
                "make": "transformer",
                "options": {"d_model": 4, "layers": 1, "heads": 2},
                "sigma_b": 0.1,
            },
        ),
        ("--architecture lstm --option width=3", {"make": "lstm", "options": {"width": 3}}),
        (
            "--architecture cnn --option channels=3x3 --init own",
            {"make": "cnn", "options": {"channels": "3x3"}, "init": "own"},
        ),
    ],
)
def test_shipped_architectures(folder: Path, capsys, flags: str, fields: dict) -> None:
    assert main([*RUN.split(), *flags.split(), "--json", "--out", "run"]) == 0
    printed = json.loads(capsys.readouterr().out)["summary"]
    assert printed == pytest.approx(sp.sample(sp.Module(n=3, **fields), 400).summary())
    again = ["sample", "--config", "run/config.toml", "--json", "--quiet"]
    assert main(again) == 0
    assert json.loads(capsys.readouterr().out)["summary"] == printed


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--module {0}.nets:mak", "nets:make?"),
        ("--architecture cnn --option channels=3,3", "several numbers of one option are written"),
        ("--architecture cnn --option channels", "pairs such as width=16,layers=2"),
        ("--module {0}.net:make", "an import path module:function"),
        ("--module {0}.nets:batch", "BatchNorm1d '1' in training mode"),
        ("--module {0}.nets:two", "output (8, 2) for 8 inputs: expected shape (8,) or (8, 1)"),
        ("--module {0}.nets:fails", "it raised ValueError: no weights"),
        ("--module {0}.nets:make --option wide=3", "option wide=3 of make="),
        ("--module {0}.nets:make --hidden 3,3", "pass --option hidden=..."),
        ("--module {0}.nets:make --architecture mlp", "one of --module and --architecture"),
        ("--model modules", "one of --module and --architecture"),
        ("--architecture mlq", "did you mean mlp?"),
        ("--architecture mlp --sigma-w 1,2,1", "one number each"),
        ("--architecture mlp --hidden none", "one positive whole number a layer"),
        ("--architecture mlp --activation rely", "did you mean relu?"),
        ("--architecture transformer --option d_model=30", "heads that divide d_model"),
        ("--architecture transformer --option position=first", "one of learned, sinusoidal, none"),
        ("--architecture cnn --option window=9", "an integer from 1 to 3"),
        ("--architecture lstm --option pool=max", "one of last, mean"),
        ("--architecture mlp --pool", "pool with a torch module"),
        ("--architecture mlp --watch x1", "a Network with one of the activations"),
        ("--architecture mlp --hidden 1000000,1000000", "out of memory"),
        ("--architecture transformer --option dmodel=8", "did you mean d_model?"),
        ("--architecture mlp --init own --sigma-w 2", "sigma_w=2.0 with init=own"),
        ("--norm layer", "norm=layer without a module"),
        ("--option a=1", "without a module"),
        ("--residual", "without a module"),
        ("--init own", "without a module"),
    ],
)
def test_refused_in_one_line(folder: Path, capsys, flags: str, message: str) -> None:
    command = [*RUN.split(), *flags.format(folder.name).split(), "--out", "run"]
    assert main(command) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and message in lines[0], lines
    assert not Path("run").exists()


def test_train_and_posterior_of_a_module(folder: Path, capsys) -> None:
    """A run of a user's factory, its posterior from the run directory, and both compared."""
    task = "--n 3 --target x1 --train 4 --quiet --json"
    module = f"--module {folder.name}.nets:make --option width=5"
    options = "--runs 20 --lr 0.05 --max-epochs 100 --batch-size 2 --workers 1"
    assert main(["train", *f"{task} {module} {options} --out trained".split()]) == 0
    printed = json.loads(capsys.readouterr().out)["summary"]
    found = sp.train(
        sp.Module(f"{folder.name}.nets:make", n=3, options={"width": 5}),
        "x1",
        train=4,
        runs=20,
        lr=0.05,
        max_epochs=100,
        batch_size=2,
    )
    assert printed == pytest.approx(found.summary())
    drawn = "posterior --from trained --method rejection --samples 50 --out drawn"
    assert main([*drawn.split(), "--workers", "1", "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["summary"]["converged"]
    assert main(["compare", "trained", "drawn", "--quiet"]) == 0
    assert "total_variation" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train --engine compiled", "engine='compiled'"),
        ("train --optimizer guess-and-check", "guess-and-check' with a torch module"),
        ("train --activation step", "no gradient reaches the hidden layers"),
        ("posterior --method hmc", "with a torch module"),
        ("posterior --method slice --init own", "normal parameters"),
    ],
)
def test_train_and_posterior_refuse_in_one_line(capsys, command: str, message: str) -> None:
    name, *flags = command.split()
    task = "--architecture mlp --n 3 --target x1 --train 4 --quiet"
    assert main([name, *task.split(), *flags]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and message in lines[0], lines
