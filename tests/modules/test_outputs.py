"""An interrupted run is not continued with another module of the same name."""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import nn

import simprior as sp
from simprior.errors import StoreError
from simprior.modules.outputs import KEY, outputs_to_record
from simprior.runs.directory import load_run

NAME = "edited_nets"


def net(width: int, activation: type[nn.Module]) -> type[nn.Module]:
    """A class ``Net``, at the import path that every version of it has."""

    class Net(nn.Sequential):
        def __init__(self, n: int) -> None:
            super().__init__(nn.Linear(n, width), activation(), nn.Linear(width, 1))

    Net.__module__, Net.__qualname__ = NAME, "Net"
    return Net


@pytest.fixture
def edited(monkeypatch: pytest.MonkeyPatch):
    module = ModuleType(NAME)
    monkeypatch.setitem(sys.modules, NAME, module)

    def edit(width: int, activation: type[nn.Module]) -> sp.Module:
        module.Net = net(width, activation)  # type: ignore[attr-defined]
        return sp.Module(f"{NAME}:Net", n=3)

    return edit


def start(command: str, module: sp.Module, out: Path, **how: bool) -> object:
    if command == "sample":
        return sp.sample(module, 300, out=out, workers=1, **how)
    return sp.train(module, "x1", train=4, runs=4, lr=0.01, out=out, workers=1, **how)


@pytest.mark.parametrize("command", ["sample", "train"])
def test_a_run_is_not_resumed_with_another_module(
    command: str, edited, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another width, and another function of the same parameters, are refused; the same goes on."""
    out, module = tmp_path / "run", edited(5, nn.ReLU)
    file, name = {
        "sample": ("simprior.boolean.sampling.sample", "_stored"),
        "train": ("simprior.training.train", "_run"),
    }[command]
    with monkeypatch.context() as cut:
        cut.setattr(import_module(file), name, stopped)
        with pytest.raises(KeyboardInterrupt):
            start(command, module, out)
    assert len(load_run(out).manifest["options"][KEY]) == 1 + 2 * 8 + 4 * 3
    for width, activation in ((6, nn.ReLU), (5, nn.Tanh)):
        with pytest.raises(StoreError, match=f"make={NAME}:Net makes another module now"):
            start(command, edited(width, activation), out, resume=True)
    assert start(command, edited(5, nn.ReLU), out, resume=True) is not None
    assert load_run(out).status == "complete"


def stopped(*_: object) -> None:
    raise KeyboardInterrupt


def test_what_needs_no_record() -> None:
    assert outputs_to_record(sp.Network(n=3)) == outputs_to_record(sp.Module("lstm", n=3)) == {}


def test_a_record_is_the_same_each_time_and_finite(edited) -> None:
    first = outputs_to_record(edited(5, nn.ReLU))
    assert first == outputs_to_record(edited(5, nn.ReLU)) != outputs_to_record(edited(5, nn.SiLU))
    assert torch.tensor(first[KEY]).isfinite().all()


def test_a_posterior_of_a_run_whose_factory_was_edited_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from simprior.cli import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    # bytecode of a file of the same second and size would be taken for that of the edited file
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    layers = "nn.Linear(n, {0}), nn.ReLU(), nn.Linear({0}, 1)"
    code = f"from torch import nn\ndef make(n):\n    return nn.Sequential({layers})\n"
    Path("edited_later.py").write_text(code.format(5))
    task = "train --module edited_later:make --n 3 --target x1 --train 4 --runs 3 --lr 0.1"
    assert main([*task.split(), "--max-epochs", "3", "--out", "run", "--quiet"]) == 0
    Path("edited_later.py").write_text(code.format(7))
    monkeypatch.delitem(sys.modules, "edited_later")
    for command in ("posterior --method rejection --samples 5", "bound"):
        assert main([*command.split(), "--from", "run", "--quiet"]) == 2
        assert "makes another module now" in capsys.readouterr().err


def test_what_a_module_prints_is_no_result(capsys: pytest.CaptureFixture[str]) -> None:
    def make(n: int) -> torch.nn.Module:
        print("made")
        return torch.nn.Linear(n, 1)

    sp.sample(sp.Module(make, n=3), 20, seed=0)
    found = capsys.readouterr()
    assert found.out == "" and "made" in found.err


def test_idle_options_of_shipped_architectures_are_said(caplog: pytest.LogCaptureFixture) -> None:
    options = {"hidden": (4, 3), "residual": True}
    pixels = np.random.default_rng(0).random((5, 4))
    with caplog.at_level(logging.WARNING, "simprior"):
        assert sp.Module("mlp", n=3, options=options).tensors()
        assert sp.Module("transformer", inputs=pixels, n=4).tensors()
    assert "residual changes nothing" in caplog.text and "more than two values" in caplog.text
