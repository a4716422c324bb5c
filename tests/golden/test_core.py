"""What the library computes is what it computed when ``core.json`` was written (see make.py)."""

from __future__ import annotations

from pathlib import Path

import compare
import pytest
from core_cases import CASES, NEEDS, TOLERANCES

GOLDEN = compare.read(Path(__file__).parent / "core.json")


def test_every_case_has_its_values() -> None:
    assert sorted(GOLDEN) == sorted(CASES)


@pytest.mark.parametrize("name", CASES)
def test_values_are_as_before(name: str, tmp_path: Path) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    compare.same(CASES[name](tmp_path), GOLDEN[name], TOLERANCES.get(name, 1e-9), name)
