"""What the whole suite needs first: compiled code, which takes minutes on a machine that has none.

Two processes that run tests would both compile what both need, at the same time. So each compiles
its share of the largest kernels before the first test, and finds the others in numba's cache.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

WHOLE = 1000
"""Tests from which on this is worth it: a run of a few files compiles what it needs."""


def _train() -> None:
    import simprior as sp

    sp.train(sp.Network(n=3, hidden=(4,)), "x1", train=4, runs=2, max_epochs=3, workers=1)


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

    a = np.random.default_rng(0).random((20, 2))
    rows = {"a": a[:, 0], "test_error": a[:, 1], "cluster": range(20)}
    sp.correlate(pd.DataFrame(rows), bootstrap=100, permutations=99)


KERNELS: tuple[Callable[[], None], ...] = (_train, _finite, _correlate, _sample)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Compile this process's share."""
    process = getattr(session.config, "workerinput", None)
    if process is None or len(session.items) < WHOLE:
        return
    for compile_one in KERNELS[int(process["workerid"][2:]) :: process["workercount"]]:
        compile_one()
