"""What is correlated, and the points of one measure in one group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simprior import rng
from simprior.analysis.correlation.intervals import Coefficient, Sample

if TYPE_CHECKING:
    import pandas as pd

MOST_CLUSTERS = 1000
"""Groups that are resampled at most."""


@dataclass(frozen=True)
class Setup:
    """The arguments of :func:`correlate`, checked."""

    y: str
    measures: list[str]
    by: list[str]
    controls: list[str]
    cluster: str
    seed: int
    bootstrap: int
    permutations: int
    level: float


def sample_of(part: pd.DataFrame, measure: str, setup: Setup) -> tuple[Sample, int]:
    """Points with finite measure, outcome and controls; and how many were not.

    More than ``MOST_CLUSTERS`` clusters are put together at random into that many: independent
    groups of independent clusters, at no loss that matters, and pairs of groups fit in memory.
    """
    used = part[[measure, setup.y, *setup.controls]].to_numpy(float)
    good = np.isfinite(used).all(axis=1)
    label = np.arange(len(part))
    if setup.cluster in part:
        label = np.unique(part[setup.cluster].astype(str).to_numpy(), return_inverse=True)[1]
    cluster = np.unique(label[good], return_inverse=True)[1] if good.any() else label[:0]
    if len(cluster) and cluster.max() >= MOST_CLUSTERS:
        group = rng.generator(setup.seed, "correlate/groups").permutation(int(cluster.max()) + 1)
        cluster = (group % MOST_CLUSTERS)[cluster]
    used = used[good]
    return Sample(used[:, 0], used[:, 1], cluster.astype(np.int64), used[:, 2:]), int((~good).sum())


def columns_of(name: str, found: Coefficient) -> dict[str, float]:
    """Columns of a coefficient."""
    return {name: found.value, f"{name}_stderr": found.stderr, f"{name}_low": found.low,
            f"{name}_high": found.high}  # fmt: skip
