"""One SLURM for all tests of a session that need it, and the options to use it."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_tasks import until
from slurm_node import SlurmNode, missing, slurm_node

from simprior.runs import slurm_pool


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory, request: Any) -> Iterator[SlurmNode]:
    why = missing()
    if importlib.util.find_spec("submitit") is None:
        why = why or "submitit not installed (pip install 'simprior[cluster]')"
    if why:
        terminal = request.config.pluginmanager.get_plugin("terminalreporter")
        if terminal is not None:
            terminal.write_line(f"\nTHE SLURM TESTS DO NOT RUN: {why}", red=True, bold=True)
        pytest.skip(why)
    with slurm_node(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture
def options(
    node: SlurmNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, Any]]:
    for name, value in node.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), *sys.path[1:]]))
    for name, seconds in (("ASK_SECONDS", 1.0), ("_GRACE", 2.0), ("FIRST_REPORT_SECONDS", 1.0)):
        monkeypatch.setattr(slurm_pool, name, seconds)
    yield {"folder": str(tmp_path / "jobs"), "tasks_per_job": 1}
    assert node.jobs("PENDING") == []  # whatever happened, nothing is left in the queue
    until(lambda: not node.jobs())  # a job outlives its result by a moment
