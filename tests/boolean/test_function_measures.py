"""The registry: columns as announced, finite, and the same for a function alone or among others."""

from __future__ import annotations

import numpy as np
import pytest

from simprior.analysis.measure.registry import FUNCTION_GROUPS
from simprior.boolean.truthtable import pack

GROUPS = [name for name in FUNCTION_GROUPS if name != "dnf"]


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("n", [1, 4, 7])
def test_columns(group: str, n: int) -> None:
    rng = np.random.default_rng(n)
    words = pack(rng.integers(0, 2, (7, 1 << n)).astype(np.uint8))
    measure = FUNCTION_GROUPS[group]
    found = measure.compute(words, 1 << n, n)
    assert tuple(found) == measure.columns(n)
    for name, column in found.items():
        assert column.shape == (7,), name
        assert column.dtype == np.float64, name
        assert np.isfinite(column).all(), name
    alone = [measure.compute(words[i : i + 1], 1 << n, n) for i in range(7)]
    for name, column in found.items():
        assert np.array_equal(column, np.concatenate([a[name] for a in alone]))


def test_minimal_forms_are_in_the_registry() -> None:
    words = (np.arange(16, dtype=np.uint64) << np.uint64(60))[:, None]
    found = FUNCTION_GROUPS["dnf"].compute(words, 4, 2)
    assert tuple(found) == FUNCTION_GROUPS["dnf"].columns(2)
    assert found["dnf_terms"].max() == 2


def test_data_labels_have_the_measures_that_need_no_bits() -> None:
    words = pack(np.random.default_rng(0).integers(0, 2, (3, 100)).astype(np.uint8))
    for measure in FUNCTION_GROUPS.values():
        if not measure.needs_bits:
            assert np.isfinite(list(measure.compute(words, 100, 0).values())).all()
