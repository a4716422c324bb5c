"""The stage [logp] of kind multiplier: EP with a probit link and a multiplied kernel."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import simprior as sp
from simprior import gp
from simprior.analysis.study.logp import logp_study, overview, run_logp
from simprior.analysis.study.recipe import read_recipe
from simprior.analysis.study.run import run_study
from simprior.errors import InputError

EXAMPLES = Path(__file__).parents[2] / "examples"
SMALL = {
    "kind": "multiplier",
    "train": [12, 20],
    "subsets": [3, 2],
    "multipliers": [1.0, 100.0, 1e8],
    "tol": 0.05,
}


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return run_logp(logp_study(SMALL, 7))


def test_rows(frame: pd.DataFrame) -> None:
    assert len(frame) == (3 + 2) * 3
    assert frame.groupby(["m", "subset"])["exact"].nunique().eq(1).all()
    # training sets are different ones
    assert frame["function"].nunique() == frame["exact"].nunique() == 5
    assert (frame["function"].map(lambda x: int(x, 16).bit_count()) == frame["ones"]).all()


def test_the_probit_link_is_noise_added_to_the_kernel(frame: pd.DataFrame) -> None:
    """EP with the probit link is EP with the step for the kernel c K + I, to EP's own tolerance."""
    study = logp_study(SMALL, 7)
    for piece in study.pieces():
        network, labels = study.problem(piece)
        K = sp.gp.nngp(network, network.inputs)
        for c in (1.0, 100.0):
            noisy = gp.log_prior(labels, c * K + np.eye(piece.m), "ep", n=0)[0].value
            at = (frame["m"] == piece.m) & (frame["subset"] == piece.subset)
            found = frame.loc[at & (frame["multiplier"] == c), "probit"].item()
            assert found == pytest.approx(noisy, abs=1e-4)
    # what is left of the noise of 1 beside 1e8 times the kernel is nothing
    last = frame[frame["multiplier"] == 1e8]
    assert np.abs(last["probit"] - last["ep"]).max() < 1e-3


def test_overview_counts_and_leaves_out(frame: pd.DataFrame) -> None:
    table = overview(frame)
    assert table["subsets"].tolist() == [3] * 3 + [2] * 3 and not table["left_out"].any()
    part = frame[(frame["m"] == 12) & (frame["multiplier"] == 100.0)]
    row = table[(table["m"] == 12) & (table["multiplier"] == 100.0)].iloc[0]
    assert row["difference"] == pytest.approx(part["difference"].mean())
    wanted = part["exact"].std(ddof=1) / math.sqrt(3)
    assert row["exact_stderr"] == pytest.approx(wanted)
    doubted = frame.assign(reliable=frame["subset"] > 0)
    table = overview(doubted)
    assert table["subsets"].tolist() == [2] * 3 + [1] * 3 and (table["left_out"] == 1).all()
    # one training set tells no spread
    assert table["exact_stderr"].isna().tolist() == [False] * 3 + [True] * 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"subsets": [3]}, "subsets of 1 entries: expected one for each of the 2 sizes"),
        ({"subsets": [1, 2]}, "subsets=1"),
        ({"multipliers": [0.0]}, "multipliers=0"),
        ({"multipliers": [1.0, 1.0]}, "each value once"),
        ({"train": [5000, 12]}, "train=5000"),
        ({"classes": "0-4:12"}, "12"),
        ({"tol": 0.0}, "tol=0"),
        ({"depth": 0}, "depth=0"),
    ],
)
def test_refused_before_anything_is_run(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        logp_study({**SMALL, **values})
    assert "\n" not in str(caught.value)


def test_the_recipe_and_a_small_run_of_it(tmp_path: Path) -> None:
    text = (EXAMPLES / "multiplier.toml").read_text()
    read_recipe(EXAMPLES / "multiplier.toml")
    for old, new in (
        ("mnist5k", "digits"),
        ("[122, 407, 1357]", "[12, 20]"),
        ("[48, 24, 8]", "[2, 2]"),
    ):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "recipe.toml").write_text(text)
    run_study(read_recipe(tmp_path / "recipe.toml"), tmp_path / "run")
    assert (tmp_path / "run" / "figures" / "multiplier.pdf").stat().st_size > 1000
    table = pd.read_csv(tmp_path / "run" / "tables" / "overview.csv")
    assert set(table["m"]) == {12, 20}
