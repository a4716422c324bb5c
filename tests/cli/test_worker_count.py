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


def test_workers_are_the_cores_but_for_torch_in_memory() -> None:
    """Compiled code runs in threads; processes would send their tables, and torch has threads."""
    assert sampling_options(Sample(device="cpu"))["workers"] == 8
    assert Sample(model="dnf").worker_count() == 8
    for torch in (
        {"dtype": "float64"},
        {"activation": "mynets:wave"},
        {"architecture": "mlp"},
        {"module": "mynets:make"},
    ):
        assert Sample(device="cpu", **torch).worker_count() == 1
        assert Sample(device="cpu", out=Path("run"), **torch).worker_count() == 8
    assert Sample(workers=3).worker_count() == 3
    assert Sample(out=Path("run")).worker_count() == 8
    assert Sample(watch=("x1",)).worker_count() == 8
    assert Train().worker_count() == 8


def test_executor_options_are_checked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(InputError, match=r"pip install 'simprior\[cluster\]'"):
        Sample(executor="slurm").worker_count()
