"""The vectorised bootstrap, tests and information give what one at a time gives, bit for bit.

The plain way is that of ``benchmarks/bench_correlate.py``.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from simprior.analysis.correlate.environments import conditional_information, settings_means
from simprior.analysis.correlate.intervals import KINDS, Sample, coefficients, resamples
from simprior.analysis.correlate.tests import _test

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "bench_correlate.py"


@pytest.fixture(scope="module")
def plain() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_correlate", BENCHMARK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sample(points: int, clusters: int, cells: int = 1, controls: int = 0, ties: int = 1) -> Sample:
    rng = np.random.default_rng([points, clusters, cells, controls])
    cluster = np.append(np.arange(clusters), rng.integers(clusters, size=points - clusters))
    base = rng.normal(size=clusters)[cluster]
    x, y = (np.round(base + rng.normal(size=points), ties) for _ in range(2))
    x[:2] = 1e-20, 2e-20  # equal after the mean is taken away
    Z = rng.normal(size=(points, controls)) + base[:, None]
    return Sample(x, y, cluster, Z, rng.permutation(np.arange(points) % cells))


SAMPLES = (
    sample(16, 16),
    sample(150, 30),
    sample(203, 203, cells=4),
    sample(120, 24, cells=7, controls=3, ties=0),
    sample(97, 13, controls=5, ties=6),
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("points", SAMPLES)
def test_resamples(plain: ModuleType, points: Sample, kind: str) -> None:
    points = points.without_controls() if kind == "kendall" else points
    draws = resamples(points.clusters, 301, np.random.default_rng(3))
    np.testing.assert_array_equal(
        coefficients(points, kind, draws), plain.plain_coefficients(points, kind, draws)
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("points", SAMPLES)
@pytest.mark.parametrize("number", [1, 257, 300])
def test_permutations(plain: ModuleType, points: Sample, kind: str, number: int) -> None:
    points = points.without_controls() if kind != "pearson" else points
    fixed = 0.1 * points.x
    ours, theirs = np.random.default_rng(4), np.random.default_rng(4)
    found = _test(points, kind, fixed, points.y - fixed, number, ours)
    assert found == plain.plain_test(points, kind, fixed, points.y - fixed, number, theirs)
    assert ours.random() == theirs.random()  # the same numbers were drawn


def test_information(plain: ModuleType) -> None:
    frame, names = plain.table(168, 3)
    axes = ["data_seed", "train_size", "lr"]
    cells: pd.DataFrame = settings_means(frame, names, "test_error", axes)
    for name in names:
        found = conditional_information(cells, name, "test_error", axes, np.random.default_rng(5))
        expected = plain.plain_information(
            cells, name, "test_error", axes, np.random.default_rng(5)
        )
        assert found is not None
        assert (found["K"], found["null"]) == expected
