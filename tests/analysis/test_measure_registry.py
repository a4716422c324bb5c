"""A measure is told in one place: a new entry reaches the command line, the table, correlations."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import simprior as sp
import simprior.cli.measure
from simprior.analysis.measure import registry
from simprior.analysis.measure.registry import measure_columns
from simprior.analysis.measure.table import measure
from simprior.analysis.study.recipe import parse_recipe
from simprior.analysis.study.run import plan
from simprior.cli import main
from simprior.errors import InputError


@pytest.fixture
def toy() -> Iterator[None]:
    """A group with one measure: the output at the first input."""
    column = registry.Measure(label="first output", unit="0 or 1", source="a test")

    @registry.group("toy", registry.FUNCTION, {"first_output": column}, text="the first output")
    def _(words: np.ndarray, m: int, n: int) -> dict[str, np.ndarray]:
        return {"first_output": (words[:, 0] >> np.uint64(63)).astype(float)}

    importlib.reload(simprior.cli.measure)
    yield
    for known in (registry.GROUPS, registry.FUNCTION_GROUPS):
        del known["toy"]
    del registry.MEASURES["first_output"]
    importlib.reload(simprior.cli.measure)


@pytest.mark.usefixtures("toy")
def test_one_entry_makes_a_measure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", "--help"]) == 0
    assert "toy" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"one of prior, .*, toy, all"):
        registry.check_names("tox")
    sp.sample(sp.Network(n=3, hidden=(4,)), samples=500, out=tmp_path / "p")
    assert main(["measure", str(tmp_path / "p"), "--measures", "toy,lz", "--quiet",
                 "--out", str(tmp_path / "m")]) == 0  # fmt: skip
    summary = capsys.readouterr().out
    assert "| first_output " in summary and "| first output " in summary
    frame = pd.read_parquet(tmp_path / "m" / "measures.parquet")
    first = [int(bool(int(text, 16) & 0x80)) for text in frame["function"]]
    assert frame["first_output"].tolist() == first
    assert measure_columns(frame) == ["lz76", "lz76_truncated", "first_output"]
    assert registry.MEASURES["first_output"].group == "toy"
    assert "| `toy` | `first_output` (0 or 1) | the first output |" in registry.reference()


@pytest.mark.usefixtures("toy")
def test_correlations_know_the_columns_of_an_entry(tmp_path: Path) -> None:
    recipe = {
        "train": {"n": 3, "hidden": [4], "target": "x1", "train": 4},
        "measure": {"measures": "toy"},
        "correlate": {"y": "test_error", "measures": ["first_output"]},
    }
    plan(parse_recipe(recipe), tmp_path / "s")
    recipe["correlate"]["measures"] = ["first_outputs"]
    with pytest.raises(InputError, match="did you mean first_output"):
        plan(parse_recipe(recipe), tmp_path / "s")


def test_the_documentation_has_the_table_of_the_registry() -> None:
    docs = Path(__file__).parents[2] / "docs" / "measures.md"
    assert registry.reference() in docs.read_text()


def test_all_leaves_out_what_is_too_much(tmp_path: Path) -> None:
    for n, left_out in ((4, {"influence"}), (5, {"influence", "dnf"})):
        sp.sample(sp.Network(n=n, hidden=(4,)), samples=50, out=tmp_path / str(n))
        frame = measure(tmp_path / str(n), "all", networks=1, draws=50)
        groups = {registry.MEASURES[c].group for c in frame if c in registry.MEASURES}
        assert groups == {"prior", *registry.FUNCTION_GROUPS} - left_out
