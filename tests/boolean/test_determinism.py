"""Same spec and seed, same counts bit for bit: workers, tasks, memory, disk, interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simprior import Network
from simprior.boolean.sampling import merging
from simprior.boolean.sampling import sample as sampling
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.sampling.dnf import RandomDNF
from simprior.boolean.sampling.prepare import check_memory, make_job
from simprior.boolean.sampling.sample import sample, split, task_draws
from simprior.errors import StoreError
from simprior.runs.directory import load_run
from simprior.runs.tasks import Interrupted

NET = Network(n=5, hidden=(9, 6), sigma_b=0.4)
MODELS = {
    "network": (NET, {"heads": 48, "mirror": False}),
    "mirrors": (NET, {"heads": 48}),
    "mirrors apart": (Network(n=5, hidden=(9, 6), sigma_b=0.0), {"heads": 48}),
    "independent": (NET, {"heads": 1}),
    "perceptron": (Network(n=4, hidden=(), encoding="pm1"), {}),
    "many words": (Network(inputs=np.arange(1100)[:, None] / 550 - 1, hidden=(6,)), {"heads": 16}),
    "dnf": (RandomDNF(n=4), {}),
    "kept": (NET, {"heads": 16, "keep": 1 / 8, "mirror": False}),
    "kept mirrors": (NET, {"heads": 16, "keep": 1 / 8}),
}
SAMPLES = 40_010  # the last cluster is cut short


def same(a: FunctionCounts, b: FunctionCounts, dispersion: bool = False) -> None:
    for name in ("words", "count", "clusters", "sumsq"):
        np.testing.assert_array_equal(getattr(a.rows, name), getattr(b.rows, name))
    for name in ("count", "clusters", "sumsq", "multiplicity"):
        np.testing.assert_array_equal(getattr(a.profile, name), getattr(b.profile, name))
    np.testing.assert_array_equal(a.ones, b.ones)
    fields = ("m", "n", "samples", "draws", "heads", "keep", "mirror")
    fields += ("dispersion",) * dispersion
    assert [getattr(a, f) for f in fields] == [getattr(b, f) for f in fields]


def smaller_tasks(monkeypatch: pytest.MonkeyPatch, samples: int = 4096) -> None:
    monkeypatch.setattr(sampling, "_TASK_SAMPLES", samples)


@pytest.mark.parametrize("name", MODELS)
def test_counts_do_not_depend_on_tasks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Totals and rows only: the dispersion of singletons and pooled errors are batch statistics,
    and the batches (``sampling.task_draws``) depend on the job and the memory alone."""
    model, options = MODELS[name]
    whole = sample(model, samples=SAMPLES, seed=1, **options)
    for samples, align in ((4096, 64), (10_000, 1), (977, 3)):
        monkeypatch.setattr(sampling, "ALIGN", align)
        smaller_tasks(monkeypatch, samples)
        job = make_job(model, SAMPLES, 1, **{"heads": "auto", **options})
        assert len(split(job, task_draws(job, 2**32))) > 4
        same(sample(model, samples=SAMPLES, seed=1, **options), whole)


@pytest.mark.parametrize("name", MODELS)
def test_disk_and_memory_agree(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, options = MODELS[name]
    smaller_tasks(monkeypatch)
    whole = sample(model, samples=SAMPLES, seed=1, **options)
    same(sample(model, samples=SAMPLES, seed=1, out=tmp_path / "a", **options), whole, True)
    same(FunctionCounts.load(tmp_path / "a"), whole, True)
    monkeypatch.setattr(merging.Merger, "_room", lambda self: merging._Room(0, self._spill))
    monkeypatch.setattr(merging, "_PART", 500)  # many parts, all of them in a file
    same(sample(model, samples=SAMPLES, seed=1, out=tmp_path / "b", **options), whole, True)
    assert load_run(tmp_path / "b").verify() == []


@pytest.mark.slow
def test_tasks_cover_the_samples_once() -> None:
    for samples in (1, 63, 64, 65, 10**6 + 1, 3 * 10**9):  # beyond 2^31
        for heads in (1, 7, 64, 500):
            job = make_job(Network(), samples, 0, heads=heads)
            for memory in (2**26, 2**32):
                tasks = split(job, task_draws(job, memory))
                assert sum(t.samples for t in tasks) == samples
                ends = [0, *(t.stop for t in tasks)]
                assert [t.first for t in tasks] == ends[:-1]
                assert ends[-1] == -(-samples // job.heads)


@pytest.mark.parametrize("mirror", [False, True])
def test_two_workers_give_the_same(
    mirror: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smaller_tasks(monkeypatch, 8192)
    options: dict[str, Any] = {"heads": 16, "mirror": mirror, "pool": True}
    one = sample(NET, samples=SAMPLES, seed=3, **options)
    two = sample(NET, samples=SAMPLES, seed=3, workers=2, **options)
    disk = sample(NET, samples=SAMPLES, seed=3, workers=2, out=tmp_path / "a", **options)
    again = FunctionCounts.load(tmp_path / "a")
    assert again.info == disk.info
    for other in (two, disk, again):
        same(one, other, True)
        assert one.pooled is not None and other.pooled is not None
        same(one.pooled, other.pooled, True)
        np.testing.assert_array_equal(one.pooled.orbit, other.pooled.orbit)


def test_seeds_and_specs_matter() -> None:
    base = sample(NET, samples=5000, seed=0)
    assert base.words.tobytes() == sample(NET, samples=5000, seed=0).words.tobytes()
    for other in (
        sample(NET, samples=5000, seed=1),
        sample(NET, samples=5000, seed=2**63 - 1),
        sample(NET, samples=5000, seed=0, heads=1 + base.heads),
        sample(Network(n=5, hidden=(9, 6), sigma_b=0.5), samples=5000, seed=0),
    ):
        assert base.ones.tobytes() != other.ones.tobytes()


def test_more_samples_begin_with_the_same_ones() -> None:
    small, large = (sample(NET, samples=k, seed=0, heads=64) for k in (6400, 12800))
    where = large.find(small.tables())
    assert (where >= 0).all() and (large.count[where] >= small.count).all()


class StopAfter:
    """A progress bar that interrupts the run after a number of finished tasks."""

    def __init__(self, tasks: int) -> None:
        self.left = tasks

    def update(self, amount: int) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def stopped(tasks: int, **options: Any) -> None:
    with pytest.raises((KeyboardInterrupt, Interrupted)):
        sample(progress=StopAfter(tasks), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("mirror", [False, True])
def test_interrupted_after_any_shard(
    mirror: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smaller_tasks(monkeypatch)
    options: dict[str, Any] = {"network": NET, "samples": SAMPLES, "seed": 2, "pool": True}
    options |= {"heads": 16, "mirror": mirror}
    whole = sample(**options)
    job = make_job(NET, SAMPLES, 2, 16, pool=True, mirror=mirror)
    number = len(split(job, task_draws(job, 2**32)))
    assert number > 8
    for done in (1, number // 2, number - 1, number):
        path = tmp_path / str(done)
        stopped(done, **options, out=path)
        info = load_run(path)
        assert info.status == "interrupted" and len(info.shards) == 2 * done
        resumed = sample(**options, out=path, resume=True, memory=2**27)  # other memory is allowed
        same(resumed, whole, True)
        assert resumed.pooled is not None and whole.pooled is not None
        same(resumed.pooled, whole.pooled, True)
        assert load_run(path).verify() == [] and not list((path / "shards").glob("*.parquet"))
        same(sample(**options, out=path, resume=True), whole, True)  # complete: only read


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing"])
def test_damaged_shards_are_recomputed(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    smaller_tasks(monkeypatch)
    options: dict[str, Any] = {"network": NET, "samples": SAMPLES, "seed": 2, "out": tmp_path}
    whole = sample(NET, samples=SAMPLES, seed=2)
    stopped(5, **options)
    shards = sorted((tmp_path / "shards").glob("*.parquet"))
    for path in shards[1:3]:
        data = path.read_bytes()
        half = len(data) // 2
        flipped = data[:half] + bytes([data[half] ^ 64]) + data[half + 1 :]
        path.write_bytes({"truncated": data[:half], "flipped": flipped, "missing": b""}[damage])
        if damage == "missing":
            path.unlink()
    same(sample(**options, resume=True), whole, True)
    log = (tmp_path / "log.txt").read_text()
    for path in shards[1:3]:
        assert f"shard {path.stem}: " in log and "it is recomputed" in log
    assert f"shard {shards[0].stem}: " not in log


def test_damaged_result_is_made_again(tmp_path: Path) -> None:
    options: dict[str, Any] = {"network": NET, "samples": SAMPLES, "seed": 2, "out": tmp_path}
    whole = sample(**options)
    path = tmp_path / "counts.parquet"
    data = path.read_bytes()
    path.write_bytes(data[:-7])
    with pytest.raises(StoreError, match=r"counts.parquet: has \d+ bytes .* with --resume"):
        FunctionCounts.load(tmp_path)
    same(sample(**options, resume=True), whole, True)
    assert path.read_bytes() == data


def test_resume_refuses_another_run(tmp_path: Path) -> None:
    options: dict[str, Any] = {"network": NET, "samples": 1000, "seed": 2}
    sample(**options, out=tmp_path)
    for change, says in (
        ({"seed": 3}, "seed is 2 there and 3 now"),
        ({"samples": 2000}, "samples is 1000 there and 2000 now"),
        ({"heads": 16}, "heads is 1 there and 16 now"),
        ({"pool": True}, "pool is false there and true now"),
        ({"keep": 0.5}, "keep is 1.0 there and 0.5 now"),
        ({"network": Network(n=5)}, "network.hidden is"),
    ):
        with pytest.raises(StoreError, match="cannot resume") as error:
            sample(**{**options, **change}, out=tmp_path, resume=True)
        assert says in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(StoreError, match="not empty; add --resume"):
        sample(**options, out=tmp_path)
    same(sample(**options, out=tmp_path, overwrite=True), sample(**options), True)


def test_memory_is_checked() -> None:
    assert check_memory(None) == 4 * 2**30 and check_memory(2**26) == 2**26


@pytest.mark.slow
def test_little_memory_and_many_functions(tmp_path: Path) -> None:
    """Spilling really happens: 3 million samples, 0.67 million functions, 64 MiB."""
    options: dict[str, Any] = {"network": Network(), "samples": 3 * 10**6, "seed": 1}
    spilled = sample(**options, out=tmp_path / "a", memory=2**26)
    whole = sample(**options)
    same(FunctionCounts.load(tmp_path / "a"), whole)
    assert 1000 <= len(spilled) < len(whole) and spilled.functions == whole.functions
    np.testing.assert_array_equal(spilled.stderr, whole.stderr[: len(spilled)])
