"""What predicts the error without a measure: class imbalance; ones and entropy of the outputs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from simprior import rng
from simprior.analysis.correlation import checks
from simprior.analysis.correlation.intervals import interval, resamples
from simprior.analysis.correlation.setup import Setup, columns_of, sample_of

if TYPE_CHECKING:
    import pandas as pd

BASELINES = ("majority_error", "ones", "entropy")


def baselines(part: pd.DataFrame, setup: Setup, name: str) -> Iterator[dict[str, Any]]:
    """What each baseline reaches alone, and what each measure adds to it.

    ``majority_error`` is of the labels; ``ones`` and ``entropy`` are of each network's outputs: of
    their imbalance, and nothing else. Rows: ``measure``, ``given`` (the baseline, or
    empty for a baseline alone), ``spearman`` (partial, given it) with ``_stderr``, ``_low``,
    ``_high``.
    """
    for base in BASELINES:
        if base == setup.y or base not in part or part[base].nunique() < 2:
            continue
        given = replace(setup, controls=[base])
        random = rng.generator(setup.seed, f"correlate/baseline/{name}/{base}")
        sample, _ = sample_of(part, base, given)
        if checks.too_few(sample.points, sample.clusters if sample.points else 0):
            continue
        draws = resamples(sample.clusters, setup.bootstrap, random)
        alone = interval(sample.without_controls(), "spearman", draws, setup.level)
        yield {"measure": base, "given": "", **columns_of("spearman", alone)}
        for measure in setup.measures:
            if measure == base:
                continue
            sample, _ = sample_of(part, measure, given)
            few = checks.too_few(sample.points, sample.clusters if sample.points else 0)
            if few or np.ptp(sample.x) == 0:
                continue
            draws = resamples(sample.clusters, setup.bootstrap, random)
            found = interval(sample, "spearman", draws, setup.level)
            yield {"measure": measure, "given": base, **columns_of("spearman", found)}
