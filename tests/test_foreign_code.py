"""Activations of one's own: found in the working directory, refused where they could not be found
again, and never executed by a command that only reads a run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from simprior import boolean, training
from simprior.cli import main
from simprior.errors import InputError
from simprior.network.spec import Network

MODULE = """
import pathlib
pathlib.Path(__file__).with_name("EXECUTED").touch()

def swish(x):
    return x * 0.5
"""
SAMPLE = ["sample", "--n", "3", "--hidden", "4", "--samples", "640", "--heads", "16",
          "--workers", "1", "--quiet"]  # fmt: skip


def a_function(x: Any) -> Any:
    return x * 0.5


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a module, which nothing has imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", ".")])
    monkeypatch.delitem(sys.modules, "evil", raising=False)
    (tmp_path / "evil.py").write_text(MODULE)
    return tmp_path


def executed(place: Path) -> bool:
    """Whether the module has been executed since this was last asked; it is forgotten again."""
    sys.modules.pop("evil", None)
    flag = place / "EXECUTED"
    found = flag.exists()
    flag.unlink(missing_ok=True)
    return found


@pytest.mark.slow
def test_reading_a_run_executes_nothing(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    activation = ["--activation", "evil:swish"]
    assert main([*SAMPLE, *activation, "--out", "run"]) == 0 and executed(place)
    train = ["train", "--n", "3", "--hidden", "4", "--target", "x1", "--train", "4", "--runs", "8",
             "--workers", "1", "--quiet"]  # fmt: skip
    assert main([*train, *activation, "--out", "trained"]) == 0 and executed(place)
    reading = [
        ["table", "run"], ["info", "run"], ["plot", "run"], ["report", "run"],
        ["compare", "run", "run", "--bootstrap", "2", "--splits", "2"],
        ["measure", "run", "--measures", "lz,entropy", "--workers", "1"],
        ["table", "trained"], ["info", "trained"], ["report", "trained"],
        ["measure", "trained", "--measures", "lz,entropy", "--workers", "1"],
    ]  # fmt: skip
    for command in reading:
        assert main(command) == 0, command
        assert not executed(place), command
    assert "errors of P(K) are upper limits" in caplog.text  # plot: shared heads
    caplog.clear()
    measure = ["measure", "trained", "--measures", "norms", "--workers", "1"]
    assert main(measure) == 0 and executed(place)  # this one must train the networks again
    assert "importing the module evil, which the run names as its activation" in caplog.text


@pytest.mark.slow
def test_the_installed_command_finds_modules_where_it_is_started(tmp_path: Path) -> None:
    """Also its workers, and without PYTHONPATH."""
    (tmp_path / "evil.py").write_text(MODULE)
    command = [str(Path(sys.executable).with_name("simprior")), *SAMPLE, "--activation",
               "evil:swish", "--samples", "2e5", "--memory", "64MB", "--out", "run"]  # fmt: skip
    command[command.index("--workers") + 1] = "2"
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=tmp_path, env=clean, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "EXECUTED").exists()


@pytest.mark.parametrize("kind", ["lambda", "local", "script", "text"])
def test_what_could_not_be_found_again_is_refused_before_the_run(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def local(x: Any) -> Any:
        return x * 0.5

    main_module = sys.modules["__main__"]
    monkeypatch.setattr(main_module, "of_a_script", local, raising=False)
    script = type(local)(local.__code__, globals(), "of_a_script", None, None)
    script.__module__ = script.__qualname__ = "__main__"
    script.__qualname__ = "of_a_script"
    activations = {"lambda": lambda x: x, "local": local, "script": script,
                   "text": "__main__:of_a_script"}  # fmt: skip
    network = Network(n=3, hidden=4, activation=activations[kind])
    out = tmp_path / "run"
    with pytest.raises(InputError, match="that can be imported from a module by its name"):
        boolean.sampling.sample.sample(network, samples=64, out=out)
    with pytest.raises(InputError, match=r"pass activation='myact:swish', or run without out"):
        training.train(network, "x1", train=4, runs=4, out=out)
    assert not out.exists()


def test_a_function_of_a_module_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "run"
    network = Network(n=3, hidden=4, activation=a_function)
    made = boolean.sampling.sample.sample(network, samples=64, out=out)
    assert made.info["model"].activation is a_function
    read = boolean.sampling.counts.FunctionCounts.load(out).info["model"]
    assert read.activation_name == network.activation_name


def test_a_run_whose_activation_has_gone_is_read(place: Path) -> None:
    assert main([*SAMPLE, "--activation", "evil:swish", "--out", "run"]) == 0
    (place / "evil.py").unlink()
    sys.modules.pop("evil", None)
    assert main(["table", "run"]) == 0
    found = boolean.sampling.counts.FunctionCounts.load("run").info["model"]
    with pytest.raises(InputError, match="an import path"):
        found.activation_callable()
