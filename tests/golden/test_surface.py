"""What simprior prints, writes and refuses is what it was before its modules moved.

The values in ``surface.json`` come from commit fc9e572 (``make_surface.py``). They may change only
where a change of behaviour is meant, and the commit that changes them says which.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import surface_cases as surface

CASES = surface.cases()
VALUES = surface.read()
TYRO = "1.0."
"""Versions of tyro that lay out help texts as in the values; with others these are not compared."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[surface.World]:
    folder = tmp_path_factory.mktemp("surface").resolve()
    with surface.inside(folder):
        yield surface.World(folder)


def test_every_case_has_a_value() -> None:
    assert list(CASES) == list(VALUES)


_PLOTS = (pytest.mark.slow, pytest.mark.xdist_group("surface"))


@pytest.mark.parametrize(
    "name", [pytest.param(k, marks=_PLOTS if k.startswith("plots of") else ()) for k in VALUES]
)
def test_surface(name: str, world: surface.World) -> None:
    if name.startswith("help of") and not version("tyro").startswith(TYRO):
        pytest.skip(f"tyro {version('tyro')} may lay out help texts in another way")
    found = surface.plain(CASES[name](world))
    rel = surface.TOLERANCES.get(name, 1e-9)
    lines = list(surface.differences(found, VALUES[name], rel=rel))
    assert not lines, f"{len(lines)} differences:\n" + "\n".join(lines[:20])
