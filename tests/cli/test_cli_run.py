"""The real program from end to end: interrupted and resumed, it prints the same."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simprior.runs.directory import load_run

SAMPLE = "sample --n 7 --hidden 24,24 --samples 1e6 --heads 1 --seed 5 --workers 2 --top 30 --json"


def simprior(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "simprior", *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_interrupted_and_resumed_prints_the_same(tmp_path: Path) -> None:
    whole = simprior(*SAMPLE.split(), "--out", str(tmp_path / "whole"))
    assert whole.returncode == 0, whole.stderr
    path = tmp_path / "stopped"
    command = [sys.executable, "-m", "simprior", *SAMPLE.split(), "--out", str(path)]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    index = path / "shards" / "index.jsonl"
    while process.poll() is None and not (index.exists() and index.stat().st_size):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=120)[1]
    assert process.returncode == 130, error
    assert error.splitlines()[-1].endswith("run the same command with --resume to continue")
    assert load_run(path).status == "interrupted"
    refused = simprior(*SAMPLE.split(), "--out", str(path))
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    resumed = simprior(*SAMPLE.split(), "--out", str(path), "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout) == json.loads(whole.stdout)
    assert simprior("info", str(path)).returncode == 0


@pytest.mark.slow
def test_import_of_an_exported_table_agrees(tmp_path: Path) -> None:
    """sample -> table (csv) -> import: the same functions and counts, both ends through files."""
    run = str(tmp_path / "run")
    flags = ["--n=3", "--hidden=4", "--samples=1e5", "--heads=1", "--quiet"]
    assert simprior("sample", *flags, "--out", run).returncode == 0
    table = ["table", "--top", "1000", "--columns", "function,count", "--format", "csv"]
    first = simprior(*table, run).stdout
    (tmp_path / "counts.csv").write_text("".join(first.splitlines(keepends=True)[1:]))
    copy = str(tmp_path / "copy")
    done = simprior("import", str(tmp_path / "counts.csv"), "--n", "3", "--out", copy)
    assert done.returncode == 0, done.stderr
    assert simprior(*table, copy).stdout == first
    assert sum(int(line.split(",")[1]) for line in first.splitlines()[1:]) == 10**5
