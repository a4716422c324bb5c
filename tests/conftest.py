"""What the whole suite needs first: one thread a process, test files read, kernels compiled.

Reading test files (pytest writes their assertions anew) takes seconds and compiling minutes on a
machine that has none of it kept. Two processes that run tests would both do both, at the same time.
So each reads its share of the files, compiles its share of the largest kernels that the tests need,
and finds the rest in the caches of Python and numba.
"""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # There are as many processes as cores. Threads of libraries would wait for cores, busily.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

WHOLE = 700
"""Tests from which on this is worth it: a run of a few files compiles what it needs."""


def _train() -> None:
    import simprior as sp

    for optimizer in ("adam", "guess-and-check"):
        how = {"optimizer": optimizer, "runs": 2, "max_epochs": 3, "workers": 1}
        sp.train(sp.Network(n=3, hidden=(4,)), "x1", train=4, **how)


def _sample() -> None:
    import simprior as sp

    for heads in (1, 4):
        sp.sample(sp.Network(n=3, hidden=(4,)), 64, heads=heads, workers=1)
    sp.watch(sp.Network(n=3, hidden=(4,)), ["x1"], samples=64, workers=1)


def _finite() -> None:
    import simprior as sp

    network = sp.Network(n=2, hidden=(2,))
    for method in ("smc", "exchange"):
        sp.log_prior(network, "x1", method, width="finite", particles=8, runs=4, check=False)


def _correlate() -> None:
    import numpy as np
    import pandas as pd

    import simprior as sp

    a, b, y = np.random.default_rng(0).random((3, 20))
    rows = pd.DataFrame({"a": a, "b": b, "test_error": y, "cluster": range(20)})
    for controls in ((), "b"):
        sp.correlate(rows, measures="a", controls=controls, bootstrap=100, permutations=99)


def _chains() -> None:
    import simprior as sp

    problem = sp.Problem(sp.Network(n=3, hidden=(4,)), "x1", train=3)
    sp.posterior(problem, "slice", 8, chains=2, burn_in=1, workers=1)
    sp.posterior(problem, "rejection", 16, workers=1)


def _pool() -> None:
    import simprior as sp

    sp.sample(sp.Network(n=3, hidden=(4,)), 64, pool=True, workers=1)


@dataclass(frozen=True)
class Kernel:
    """What compiles some kernels, in about so many seconds, and which test files need them."""

    compile: Callable[[], None]
    seconds: float
    needed: str


KERNELS = (
    Kernel(_train, 18, "tests/training/|test_compare"),
    Kernel(_sample, 15, "tests/boolean/|test_compare"),
    Kernel(_finite, 16, "tests/finite/"),
    Kernel(_chains, 16, "tests/training/|tests/gp/"),
    Kernel(_correlate, 13, "test_correlat"),
    Kernel(_pool, 4, "tests/boolean/"),
)


def shares(files: set[str], processes: int) -> list[list[Kernel]]:
    """Kernels that ``files`` need, a list a process: each to the one that has least to do."""
    every = " ".join(files)
    found: list[list[Kernel]] = [[] for _ in range(processes)]
    for kernel in KERNELS:
        if re.search(kernel.needed, every):
            min(found, key=lambda own: sum(k.seconds for k in own)).append(kernel)
    return found


def _worker(config: pytest.Config) -> tuple[int, int] | None:
    """Number of this process, and of all; None if it is alone or in the place of a crashed one."""
    process = getattr(config, "workerinput", None)
    if process is None:
        return None
    own, processes = int(process["workerid"][2:]), int(process["workercount"])
    return (own, processes) if own < processes else None


def _collect_garbage_rarely() -> None:
    """Half a million objects live once the tests are collected. They stay: looking through them for
    garbage, as often as Python does, took a tenth of the time of the tests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Before all tests are collected: import this process's share of the files."""
    worker = _worker(session.config)
    if worker and session.config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        own, processes = worker
        files = sorted(Path(__file__).parent.rglob("test_*.py"))
        for path in files[own::processes]:
            with suppress(Exception, pytest.skip.Exception):  # the collection will meet it again
                pytest.Module.from_parent(session, path=path).obj  # noqa: B018 (importing is all)
    return (yield)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Seldom collect garbage from here on; compile this process's share."""
    _collect_garbage_rarely()
    worker = _worker(session.config)
    if worker is None or len(session.items) < WHOLE:
        return
    own, processes = worker
    files = {item.nodeid.partition("::")[0] for item in session.items}
    for kernel in shares(files, processes)[own]:
        kernel.compile()
