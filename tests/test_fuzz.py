"""Bad command lines and bad calls, generated from fixed seeds (``tests/fuzz``): no traceback, no
error that is not ours, no hang. Larger sweeps with other seeds: ``SIMPRIOR_FUZZ_SEED=7 pytest -m
"slow or not slow" tests/test_fuzz.py``.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from simprior.cli import main
from simprior.errors import SimpriorError

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))

import calls
import commands

SEED = int(os.environ.get("SIMPRIOR_FUZZ_SEED", "10"))
LONGEST = 300  # characters of an error line, the list of known names apart
SECONDS = 120  # of one case, where it takes milliseconds to seconds: a hang, not a slow machine
ERROR = "simprior: error: "


class Hang(BaseException):
    """A case did not end."""


@contextmanager
def time_limit(what: str) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang(what)

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working directory of the cases, with runs and files in it."""
    folder, before = tmp_path_factory.mktemp("fuzz"), Path.cwd()
    os.chdir(folder)
    commands.world(folder)
    yield folder
    os.chdir(before)


def fault(status: int, printed: str) -> str:
    """What is wrong with the end of a command: its status and what it wrote to stderr."""
    if status not in (0, 2, 130):
        return f"status {status}"
    if "Traceback" in printed:
        return "a traceback"
    lines = printed.strip().splitlines()
    if status == 2:
        if len(lines) != 1 or not lines[0].startswith(ERROR):
            return f"{len(lines)} lines on stderr: {printed[:200]!r}"
        if len(re.sub(r"expected one of [^;]*;", "", lines[0])) > LONGEST:
            return f"a line of {len(lines[0])} characters: {lines[0][:200]!r}"
    return ""


def run_lines(lines: list[list[str]], world: Path, capsys: Any) -> list[str]:
    """The faults of running every command line in ``world``."""
    found = []
    for line in lines:
        for name in ("new", "figures"):
            shutil.rmtree(world / name, ignore_errors=True)
        text = " ".join(word[:60] for word in line)
        try:
            with time_limit(text):
                status = main(line)
        except Exception as error:
            found.append(f"{text}: {type(error).__name__}: {error}"[:400])
            capsys.readouterr()
            continue
        wrong = fault(status, capsys.readouterr().err)
        if wrong:
            found.append(f"{text}: {wrong}")
    return found


def test_a_fault_is_found() -> None:
    """The judge of the cases sees a traceback, a second line, a long line, another status."""
    assert fault(1, "") and fault(0, "Traceback (most recent call last)")
    assert fault(2, "") and fault(2, f"{ERROR}a\n{ERROR}b\n") and fault(2, ERROR + "x" * 400)
    assert not fault(2, f"{ERROR}n=0: expected one of {'a, ' * 200}; pass n=7\n")


def test_command_lines(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    lines = list(commands.command_lines(SEED, 100, commands.QUICK))
    assert run_lines(lines, world, capsys) == []


@pytest.mark.slow
def test_command_lines_of_all_commands(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run_lines(list(commands.command_lines(SEED, 300)), world, capsys) == []


@pytest.mark.slow
def test_good_command_lines_work(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is spoilt was good before: a fuzz of lines that all fail at once would find nothing."""
    for command, lines in commands.LINES.items():
        for line in lines:
            for name in ("new", "figures"):
                shutil.rmtree(world / name, ignore_errors=True)
            assert main([command, *line, "--quiet"]) == 0, capsys.readouterr().err


def call(name: str, function: Any, arguments: dict[str, Any]) -> str:
    """What is wrong with one call: an error that is not ours, or more than a line."""
    try:
        with time_limit(name):
            found = function(**arguments)
            if hasattr(found, "__next__"):
                list(found)
    except SimpriorError as error:
        text = str(error)
        return f"{name}: {text[:200]!r}" if "\n" in text or len(text) > 2 * LONGEST else ""
    except Exception as error:
        return f"{name}: {type(error).__name__}: {error}"[:300]
    return ""


@pytest.fixture(scope="module")
def known(world: Path) -> list[Any]:
    return calls.targets(world)


@pytest.mark.parametrize("part", range(2))
def test_python_calls(part: int, known: list[Any]) -> None:
    bad = list(calls.calls(SEED, 200, known))[part::2]
    assert [text for case in bad if (text := call(*case))] == []


@pytest.mark.slow
def test_good_python_calls_work(known: list[Any]) -> None:
    for name, function, arguments in known:
        assert function is not None, name
        function(**arguments)


@pytest.mark.slow
def test_python_calls_of_other_seeds(known: list[Any]) -> None:
    bad = list(calls.calls(SEED + 1, 3000, known))
    assert [text for case in bad if (text := call(*case))] == []
