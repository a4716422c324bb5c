"""Censored times: the product-limit estimator by hand, its median, its interval over groups."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simprior.analysis.evidence.survival import median_of_groups, median_time, survival
from simprior.errors import InputError


def test_product_limit_by_hand() -> None:
    """At risk 6, 5, 2: what is censored at 2 still counts among those at risk then."""
    times = np.array([1.0, 2.0, 2.0, 3.0, 4.0, 5.0])
    seen = np.array([True, True, False, False, True, False])
    at, share = survival(times, seen)
    assert at.tolist() == [1, 2, 4]
    assert np.allclose(share, [5 / 6, 5 / 6 * 4 / 5, 5 / 6 * 4 / 5 * 1 / 2])
    assert median_time(times, seen) == 4


def test_without_censoring_it_is_the_sample_median() -> None:
    times = np.array([7.0, 1.0, 3.0, 9.0, 4.0])
    assert median_time(times, np.ones(5, bool)) == 4
    assert median_time(times[:4], np.ones(4, bool)) == 3  # the lower of the two in the middle


def test_fewer_than_half() -> None:
    times, none = np.array([2.0, 8.0, 8.0]), np.zeros(3, bool)
    assert median_time(times, np.array([True, False, False])) == math.inf
    assert median_time(times, none) == math.inf and len(survival(times, none)[0]) == 0
    found = median_of_groups(times, none, np.arange(3))
    assert found == (math.inf, math.inf, math.inf)


@pytest.mark.slow
def test_the_interval_over_groups_covers() -> None:
    """Exponential times with shared factors of 12 groups, censored at 3; the median is that of 4e5
    fresh members. 100 sets: coverage of a 95 % interval within 4 standard errors and the 4 % that
    a percentile bootstrap of 12 groups may lack: at least 82. False alarm below 1e-3."""
    source = np.random.default_rng(5)
    group = np.repeat(np.arange(12), 5)

    def draw(groups: int, members: int) -> np.ndarray:
        factor = np.repeat(np.exp(0.5 * source.standard_normal(groups)), members)
        return factor * source.exponential(size=groups * members)

    truth = float(np.median(draw(80_000, 5)))
    inside = 0
    for k in range(100):
        times = draw(12, 5)
        found = median_of_groups(np.minimum(times, 3.0), times < 3, group, seed=k, resamples=60)
        inside += found.low <= truth <= found.high
    assert inside >= 82


def test_refusals() -> None:
    with pytest.raises(InputError, match="one length"):
        survival(np.ones(3), np.ones(2, bool))
    with pytest.raises(InputError, match="finite"):
        survival(np.array([1.0, np.inf]), np.ones(2, bool))
