"""A real ``simprior sample`` process is killed, interrupted and resumed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from simprior.boolean.sampling.counts import FunctionCounts
from simprior.runs.directory import load_run

# 64 MB make about 40 tasks a million samples; perceptrons need no pilot run
COMMON = ["--n", "6", "--hidden", "20", "--heads", "64", "--seed", "5", "--memory", "64MB"]


def start(out: Path, *options: str, samples: str = "2e6") -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "simprior", "sample", *COMMON, "--samples", samples]
    return subprocess.Popen(
        [*command, "--out", str(out), "--top", "1", *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def shards(out: Path) -> int:
    """Shards registered so far."""
    index = out / "shards" / "index.jsonl"
    return index.read_bytes().count(b"\n") if index.exists() else 0


def wait_for(out: Path, number: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while shards(out) < number and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)


def finish(process: subprocess.Popen[str]) -> str:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return errors


def assert_same_run(a: Path, b: Path) -> None:
    first, second = load_run(a), load_run(b)
    assert first.status == second.status == "complete"
    assert first.verify() == [] and second.verify() == []
    assert first.results == second.results and first.config == second.config
    for name in ("counts.parquet", "config.toml"):
        assert (a / name).read_bytes() == (b / name).read_bytes()
    x, y = FunctionCounts.load(a), FunctionCounts.load(b)
    for name in ("words", "count", "clusters", "sumsq"):
        np.testing.assert_array_equal(getattr(x.rows, name), getattr(y.rows, name))
    assert x.summary() == y.summary()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("resume") / "whole"
    finish(start(out, "--workers", "1"))
    return out


@pytest.mark.slow
def test_kill_9_at_several_moments(whole: Path, tmp_path: Path) -> None:
    out, workers, kills = tmp_path / "killed", ("1", "2", "1", "2", "1"), 0
    total = load_run(whole).results["samples"]
    assert total == 2 * 10**6
    for number, count in zip((1, 8, 20, 40, 60), workers, strict=True):
        process = start(out, "--resume", "--workers", count)
        wait_for(out, number, process)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        if process.returncode == -signal.SIGKILL:
            kills += 1
            assert load_run(out).status == "interrupted"
    assert kills >= 3
    finish(start(out, "--resume", "--workers", "2"))
    assert_same_run(whole, out)


@pytest.mark.slow
def test_kill_9_at_random_moments(whole: Path, tmp_path: Path) -> None:
    """Also while starting, merging and finishing."""
    chance, out = random.Random(1), tmp_path / "killed"
    for _ in range(8):
        process = start(out, "--resume", "--workers", "1")
        time.sleep(chance.uniform(0.3, 2.5))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    finish(start(out, "--resume", "--workers", "1"))
    assert_same_run(whole, out)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "workers", "group"),
    [(signal.SIGINT, "1", False), (signal.SIGTERM, "2", False), (signal.SIGTERM, "2", True)],
)
def test_interrupt_is_130_and_resumable(
    whole: Path, tmp_path: Path, number: signal.Signals, workers: str, group: bool
) -> None:
    """Also where the signal goes to the whole process group, as ``timeout`` sends it."""
    out = tmp_path / "stopped"
    process = start(out, "--workers", workers)
    wait_for(out, 5, process)
    if group:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    last = errors.strip().splitlines()[-1]
    assert last.startswith("simprior: interrupted after ")
    assert last.endswith("run the same command with --resume to continue")
    assert "Traceback" not in errors and printed == ""
    info = load_run(out)
    assert info.status == "interrupted" and len(info.shards) >= 5 and info.verify() == []
    finish(start(out, "--resume", "--workers", "1"))
    assert_same_run(whole, out)


@pytest.mark.slow
def test_damaged_shards_are_named_and_recomputed(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "damaged"
    process = start(out, "--workers", "1")
    wait_for(out, 10, process)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    files = sorted((out / "shards").glob("0*.parquet"))
    files[2].write_bytes(files[2].read_bytes()[:-100])
    data = bytearray(files[5].read_bytes())
    data[len(data) // 2] ^= 1
    files[5].write_bytes(bytes(data))
    errors = finish(start(out, "--resume", "--workers", "1"))
    for path, says in ((files[2], " bytes in place of "), (files[5], "has another sha256")):
        lines = [line for line in errors.splitlines() if f"shard {path.stem}:" in line]
        assert len(lines) == 1 and says in lines[0] and lines[0].endswith("it is recomputed")
    assert_same_run(whole, out)


@pytest.mark.slow
def test_two_writers(tmp_path: Path) -> None:
    out = tmp_path / "busy"
    first = start(out, "--workers", "1", samples="2e8")
    try:
        wait_for(out, 1, first)
        second = start(out, "--resume", samples="2e8")
        _, errors = second.communicate(timeout=120)
        assert second.returncode == 2 and "another process is writing to it (pid " in errors
        assert "Traceback" not in errors
    finally:
        first.kill()
        first.communicate(timeout=60)
