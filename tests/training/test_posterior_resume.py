"""Posteriors in shards: stopped at any block and gone on with, the bits of an undisturbed run."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simprior.boolean.sampling import chains as blocks
from simprior.boolean.sampling.chains import load_posterior, stored_posterior
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.truthtable import input_matrix
from simprior.errors import StoreError
from simprior.gp import nngp
from simprior.gp import posterior as gp
from simprior.network.spec import Network
from simprior.runs.directory import RunDir, load_run
from simprior.runs.tasks import RunOptions
from simprior.training.posterior import hmc_posterior, rejection_posterior, slice_posterior
from simprior.training.posterior import rejection as rejection_module

NET = Network(n=3, hidden=(4,))
INDEX, LABELS = [0, 3, 6], [0, 1, 1]
Draw = Callable[..., FunctionCounts]


def _draws(name: str) -> Draw:
    if name in ("exact", "ep"):
        K = nngp(NET, input_matrix(NET))
        return partial(gp.sample_posterior, K, INDEX, LABELS, 70, 3, name)
    if name == "rejection":
        return partial(rejection_posterior, NET, INDEX, LABELS, 900, 3, max_draws=10**5, heads=4)
    if name == "slice":
        return partial(slice_posterior, NET, INDEX, LABELS, 20, 3, chains=3, burn_in=4, thin=2)
    return partial(hmc_posterior, NET, INDEX, LABELS, 20, 3, chains=10, burn_in=5, leapfrog=3)


class StopAfter:
    """Progress that is interrupted at its ``number``-th report."""

    def __init__(self, number: int) -> None:
        self.left = number

    def update(self, amount: int) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def _same(a: FunctionCounts, b: FunctionCounts) -> None:
    for name in ("words", "count", "clusters", "sumsq"):
        np.testing.assert_array_equal(getattr(a.rows, name), getattr(b.rows, name))
    np.testing.assert_array_equal(a.ones, b.ones)
    assert a.dispersion == b.dispersion
    first, second = (json.dumps(c.info["posterior"], sort_keys=True) for c in (a, b))
    assert first == second


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many tasks and blocks; both runs have the same tasks, since those determine GP draws."""
    monkeypatch.setattr(blocks, "BLOCK_SECONDS", 0.0)
    monkeypatch.setattr(gp, "_TASK", 32)
    monkeypatch.setattr(gp, "_ROWS", 8)
    monkeypatch.setattr(rejection_module, "_TASK_WORK", 1.0)


@pytest.mark.parametrize("name", ["exact", "ep", "rejection", "slice", "hmc"])
def test_stopped_again_and_again(name: str, tmp_path: Path) -> None:
    draw, out = _draws(name), tmp_path / "out"
    whole = draw()
    stops = 0
    for number in (1, 2, 1, 3, 2):
        store = RunDir.open(out, "posterior", {"seed": 3}, resume=True)
        with pytest.raises(KeyboardInterrupt), store:
            # what is kept already is reported first: one report, or one a task
            kept = len(store.shards) if name == "rejection" else int(bool(store.shards))
            draw(store=store, progress=StopAfter(kept + number))
        stops += 1
        assert load_run(out).shards and load_run(out).status == "interrupted"
    assert stops == 5
    resumed = RunOptions(out=out, resume=True)
    run = stored_posterior(lambda s: draw(store=s), {"seed": 3}, resumed)
    _same(whole, run)
    assert load_run(out).verify() == [] and load_run(out).status == "complete"
    assert not list((out / "shards").glob("*.parquet"))
    again = stored_posterior(_never, {"seed": 3}, resumed)
    np.testing.assert_array_equal(again.rows.count, whole.rows.count)


def _never(store: RunDir) -> FunctionCounts:
    raise AssertionError("a finished run is only read")


@pytest.mark.parametrize("kind", ["draws", "state"])
def test_a_damaged_block_is_not_used(kind: str, tmp_path: Path) -> None:
    draw, out = _draws("slice"), tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), RunDir.open(out, "posterior", {"seed": 3}) as store:
        draw(store=store, progress=StopAfter(9))
    file = sorted((out / "shards").glob(f"000000-*-{kind}.parquet"))[0]
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(bytes(data))
    resumed = RunOptions(out=out, resume=True)
    _same(draw(), stored_posterior(lambda s: draw(store=s), {"seed": 3}, resumed))


def test_where_blocks_end_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = _draws("slice")
    one = stored_posterior(lambda s: draw(store=s), {"seed": 3}, RunOptions(out=tmp_path / "a"))
    monkeypatch.setattr(blocks, "BLOCK_SECONDS", 1e9)
    _same(
        one, stored_posterior(lambda s: draw(store=s), {"seed": 3}, RunOptions(out=tmp_path / "b"))
    )


def test_the_lock_is_held_while_it_computes_and_complete_comes_last(tmp_path: Path) -> None:
    out, seen = tmp_path / "out", []

    def draw(store: RunDir) -> FunctionCounts:
        with pytest.raises(StoreError, match="another process is writing"):
            RunDir.open(out, "posterior", {"seed": 3}, resume=True)
        return _draws("ep")(store=store)

    finish = RunDir.finish

    def watched(self: RunDir, results: Any = None) -> None:
        seen.append(sorted(self.manifest["files"]))
        finish(self, results)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunDir, "finish", watched)
        stored_posterior(draw, {"seed": 3}, RunOptions(out=out))
    assert seen == [["counts.parquet", "posterior.json"]]
    assert load_posterior(out).info["posterior"]["method"] == "ep"
