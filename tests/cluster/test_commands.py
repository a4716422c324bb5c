"""Commands on SLURM and dask: the files that they leave are those of one process, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from simprior.cli import main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("slurm"),
    pytest.mark.filterwarnings("default"),  # dask's own resource warnings
]
RECIPE = """
title = "Tiny"
seed = 3
[sample]
n = 3
hidden = [8]
samples = 400
[sample.grid]
sigma_w = [0.5, 2.0]
"""
COMMANDS = {
    "sample": "sample --n 4 --hidden 8 --samples 2e5 --memory 64MB",
    "train": "train --n 3 --hidden 8 --target x1 --train 4 --runs 40",
    "measure": "measure {here}/train --measures lz,sensitivity",
    "logp": "logp --functions x1,parity,majority,0x1234 --n 4 --method tilted --draws 64",
    "study": "study {here}/recipe.toml --stages sample",
}


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process on this machine leaves, a folder a command."""
    folder = tmp_path_factory.mktemp("here")
    (folder / "recipe.toml").write_text(RECIPE)
    for command in COMMANDS:
        run(command, folder, folder, "--executor", "local", "--workers", "1")
    return folder


def run(command: str, here: Path, folder: Path, *more: str) -> None:
    words = COMMANDS[command].format(here=here).split()
    assert main([*words, "--quiet", "--out", str(folder / command), *more]) == 0


def tables(folder: Path) -> dict[str, str]:
    """Every table with all digits, but for the seconds that its rows took."""
    found = {}
    for path in sorted(folder.rglob("*.parquet")):
        table = pd.read_parquet(path).drop(columns="seconds", errors="ignore")
        found[str(path.relative_to(folder))] = table.to_csv()
    return found


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """The address of a dask scheduler with two workers."""
    distributed = pytest.importorskip("distributed", reason="pip install 'simprior[cluster]'")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address


@pytest.mark.parametrize("command", COMMANDS)
def test_on_slurm(command: str, here: Path, options: dict[str, Any], tmp_path: Path) -> None:
    """With the options of the documentation: sbatch's names, two jobs at a time."""
    listed = f"partition=main,time=00:30:00,array_parallelism=2,folder={options['folder']}"
    run(
        command,
        here,
        tmp_path,
        "--executor",
        "slurm",
        "--workers",
        "2",
        "--executor-options",
        listed,
    )
    assert tables(tmp_path / command) == tables(here / command) != {}


@pytest.mark.parametrize("command", COMMANDS)
def test_on_dask(command: str, here: Path, scheduler: str, tmp_path: Path) -> None:
    run(
        command,
        here,
        tmp_path,
        "--executor",
        "dask",
        "--workers",
        "2",
        "--executor-options",
        f"address={scheduler}",
    )
    assert tables(tmp_path / command) == tables(here / command) != {}
