"""How many workers a command starts by default, and what it refuses before it writes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from simprior.cli.sample import Sample, sampling_options
from simprior.cli.train import Train
from simprior.errors import InputError
from simprior.runs import tasks as engine


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "available_cores", lambda: 8)


def test_sample_in_memory_is_one_process() -> None:
    """Tables sent between processes cost more than they save (benchmarks/bench_workers.py)."""
    assert sampling_options(Sample())["workers"] == 1
    assert Sample(workers=3).worker_count() == 3
    assert Sample(out=Path("run")).worker_count() == 8
    assert Sample(watch=("x1",)).worker_count() == 8
    assert Train().worker_count() == 8


def test_executor_options_are_checked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(InputError, match=r"pip install 'simprior\[cluster\]'"):
        Sample(executor="slurm").worker_count()
