"""What is correlated, and the points of one measure in one group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from simprior import rng
from simprior.analysis.correlation.controls import design
from simprior.analysis.correlation.intervals import Coefficient, Sample
from simprior.analysis.records import SAMPLED

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

    Controls enter as :mod:`.controls` says.
    More than ``MOST_CLUSTERS`` clusters are put together at random into that many: independent
    groups of independent clusters, at no loss that matters, and pairs of groups fit in memory.
    """
    used = part[[measure, setup.y]].to_numpy(float)
    given = design(part, setup.controls)
    good = np.isfinite(used).all(axis=1) & given.known
    label = np.arange(len(part))
    if setup.cluster in part:
        label = np.unique(part[setup.cluster].astype(str).to_numpy(), return_inverse=True)[1]
    cluster = np.unique(label[good], return_inverse=True)[1] if good.any() else label[:0]
    if len(cluster) and cluster.max() >= MOST_CLUSTERS:
        group = rng.generator(setup.seed, "correlate/groups").permutation(int(cluster.max()) + 1)
        cluster = (group % MOST_CLUSTERS)[cluster]
    cell = np.unique(given.cell[good], return_inverse=True)[1].astype(np.int64)
    sample = Sample(
        used[good, 0], used[good, 1], cluster.astype(np.int64), given.columns[good], cell
    )
    return sample, int((~good).sum())


def size_column(frame: pd.DataFrame, y: str) -> str | None:
    """Column with the number of test inputs of outcome ``y``; None if it has no sampling error."""
    column = SAMPLED.get(y)
    whole = "n" in frame and (frame["n"] > 0).all()  # all bit strings
    return column if column in frame and not whole else None


def columns_of(name: str, found: Coefficient) -> dict[str, float]:
    """Columns of a coefficient."""
    return {name: found.value, f"{name}_stderr": found.stderr, f"{name}_low": found.low,
            f"{name}_high": found.high}  # fmt: skip
