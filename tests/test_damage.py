"""One bit flipped anywhere in a run directory: every command says so, and no number changes.

Every file is damaged at seeded random places. A command that reads the file must exit with 2 and
one line that names it; one that does not must name it on stderr and print what it printed before.
``--resume`` computes again what was damaged, says so, and ends at the same numbers. ``log.txt`` and
the lock hold no results and are read by no command.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simprior.boolean.sampling import sample as sampling
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.cli import main
from simprior.errors import StoreError
from simprior.runs import reading as store_read
from simprior.runs.directory import load_run, read_table, verification
from simprior.runs.manifest import MANIFEST, read_manifest, save_manifest
from simprior.runs.tasks import run_tasks

NOT_RESULTS = {"log.txt", ".simprior.lock"}
SAMPLE = ["sample", "--n", "3", "--hidden", "6", "--seed", "4", "--workers", "1", "--top", "3"]
PLAIN = [*SAMPLE, "--samples", "2e5", "--heads", "64", "--memory", "64MB"]
POOLED = [*SAMPLE, "--samples", "8192", "--heads", "1", "--pool"]
WATCH = [*SAMPLE, "--samples", "4096", "--watch", "x1"]
TRAIN = ["train", "--n", "3", "--hidden", "6", "--target", "x1", "--train", "4", "--runs", "12",
         "--workers", "1", "--record", "0,2"]  # fmt: skip
POSTERIOR = ["posterior", "--n", "3", "--hidden", "6", "--target", "x1", "--train", "3",
             "--method", "gp", "--samples", "500", "--workers", "1"]  # fmt: skip
MEASURE = ["measure", "--measures", "lz,entropy", "--workers", "1"]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """(exit status, stdout, stderr) of a command; an exception that is not ours fails the test."""

    def call(*arguments: Any) -> tuple[int, str, str]:
        capfd.readouterr()
        status = main([str(a) for a in arguments])
        return status, *capfd.readouterr()

    return call


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damage")
    for name, command in {
        "plain": PLAIN, "pooled": POOLED, "watch": WATCH, "train": TRAIN, "posterior": POSTERIOR,
        "measure": [*MEASURE, folder / "train"],
    }.items():  # fmt: skip
        assert main([*map(str, command), "--out", str(folder / name), "--quiet"]) == 0
    return folder


def files_of(folder: Path) -> list[str]:
    names = [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file()]
    return [name for name in names if Path(name).name not in NOT_RESULTS]


def flip(file: Path, chance: np.random.Generator) -> str:
    data = bytearray(file.read_bytes())
    place, bit = int(chance.integers(len(data))), int(chance.integers(8))
    data[place] ^= 1 << bit
    file.write_bytes(data)
    return f"{file.name}, bit {bit} of byte {place}"


def assert_refused(found: tuple[int, str, str], name: str, where: str) -> None:
    status, _, errors = found
    assert status == 2, where
    last = errors.strip().splitlines()[-1]
    assert last.startswith("simprior: error: ") and name in last, (where, errors)


def flip_all(
    folder: Path, run: Run, commands: dict[str, tuple[list[Any], Iterable[str]]], flips: int,
    seed: int, copy: Path,
) -> int:  # fmt: skip
    """Flip bits in every file of ``folder`` (in ``copy``); ``commands``: {name: (arguments, the
    data files it reads)}, each also reads the manifest and config.toml. Number of flips."""
    shutil.copytree(folder, copy)
    before = {name: run(*arguments) for name, (arguments, _) in commands.items()}
    assert all(status == 0 for status, *_ in before.values()), before
    chance, done = np.random.default_rng(seed), 0
    for name in files_of(copy):
        sound = (copy / name).read_bytes()
        for _ in range(flips):
            where = flip(copy / name, chance)
            done += 1
            for command, (arguments, reads) in commands.items():
                store_read._seen.clear()  # a command has a process of its own
                found = run(*arguments)
                if name in {MANIFEST, "config.toml", *reads} or command == "info":
                    assert_refused(found, Path(name).name, f"{command}: {where}")
                else:
                    assert found[:2] == before[command][:2], f"{command}: {where}"
                    assert f"{copy / name}: has another sha256" in found[2], f"{command}: {where}"
            (copy / name).write_bytes(sound)
    return done


COUNTS = ["counts.parquet"]
READERS: dict[str, dict[str, tuple[list[str], list[str]]]] = {
    "plain": {"table": (["table"], COUNTS), "compare": (["compare"], COUNTS),
              "measure": (MEASURE, COUNTS)},
    "pooled": {"table": (["table"], [*COUNTS, "pooled.parquet"])},
    "watch": {"table": (["table"], ["watch.parquet", "ones.parquet"])},
    "train": {"table": (["table"], COUNTS),
              "measure": (MEASURE, ["runs.parquet", "trajectories.parquet"])},
    "posterior": {"compare": (["compare"], [*COUNTS, "posterior.json"])},
    "measure": {"table": (["table"], ["measures.parquet"])},
}  # fmt: skip


def commands_of(kind: str, copy: Path) -> dict[str, tuple[list[Any], Iterable[str]]]:
    found: dict[str, tuple[list[Any], Iterable[str]]] = {"info": (["info", copy, "--json"], ())}
    for name, (words, reads) in READERS[kind].items():
        twice = [copy, copy, "--bootstrap", "2", "--splits", "2"] if name == "compare" else [copy]
        found[name] = ([*words, *twice], reads)
    return found


@pytest.mark.parametrize("kind", list(READERS))
def test_a_flipped_bit_is_found(runs: Path, run: Run, tmp_path: Path, kind: str) -> None:
    copy = tmp_path / kind
    assert flip_all(runs / kind, run, commands_of(kind, copy), 2, 1, copy) >= 6


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(READERS))
def test_many_flipped_bits_are_found(runs: Path, run: Run, tmp_path: Path, kind: str) -> None:
    """Also in figures, tables and the report."""
    source, copy = tmp_path / "source", tmp_path / kind
    shutil.copytree(runs / kind, source)
    figures = kind in ("plain", "watch")
    assert not figures or run("plot", source)[0] == 0
    assert run("report", source)[0] == 0
    assert flip_all(source, run, commands_of(kind, copy), 8, 2, copy) >= 32
    for name in files_of(copy):  # commands that write, each on a copy of its own
        for words, reads in (
            (["plot"], {n for _, r in READERS[kind].values() for n in r if n.endswith(".parquet")}),
            (["report"], {n for n in files_of(copy) if n.endswith("png")}),
        ):
            if words == ["plot"] and not figures:
                continue
            again = tmp_path / "again"
            shutil.copytree(copy, again)
            where = flip(again / name, np.random.default_rng(7))
            if (
                name in {MANIFEST, "config.toml", *COUNTS, *reads}
                and name != "trajectories.parquet"
            ):
                assert_refused(run(*words, again), Path(name).name, f"{words}: {where}")
            shutil.rmtree(again)


def assert_same_counts(a: Path, b: Path) -> None:
    x, y = FunctionCounts.load(a), FunctionCounts.load(b)
    np.testing.assert_array_equal(x.words, y.words)
    np.testing.assert_array_equal(x.count, y.count)
    np.testing.assert_array_equal(x.ones, y.ones)


@pytest.mark.parametrize(("kind", "command"), [("plain", PLAIN), ("pooled", POOLED),
                                               ("train", TRAIN)])  # fmt: skip
def test_resume_of_a_damaged_finished_run(
    runs: Path, run: Run, tmp_path: Path, kind: str, command: list[str]
) -> None:
    for number, name in enumerate(files_of(runs / kind)):
        copy = tmp_path / str(number)
        shutil.copytree(runs / kind, copy)
        where = flip(copy / name, np.random.default_rng(number))
        found = run(*command, "--out", copy, "--resume")
        if name == MANIFEST:
            assert_refused(found, MANIFEST, where)
            continue
        assert found[0] == 0 and name in found[2], (where, found[2])
        assert_same_counts(runs / kind, copy)
        assert load_run(copy).verify() == [] and not list((copy / "shards").glob("*"))


@pytest.fixture
def stopped(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The plain run, stopped after its last shard."""

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "stopped"
    with monkeypatch.context() as patch:
        patch.setattr(sampling, "merge_shards", stop)
        assert main([*PLAIN, "--out", str(out), "--quiet"]) == 130
    assert len(load_run(out).shards) >= 3 and load_run(out).verify() == []
    return out


@pytest.mark.slow
def test_a_flipped_bit_in_an_unfinished_run(
    runs: Path, stopped: Path, run: Run, tmp_path: Path
) -> None:
    chance = np.random.default_rng(5)
    for number, name in enumerate([*files_of(stopped), *["shards/index.jsonl"] * 6]):
        copy = tmp_path / str(number)
        shutil.copytree(stopped, copy)
        where = flip(copy / name, chance)
        assert_refused(run("info", copy), Path(name).name, where)
        found = run(*PLAIN, "--out", copy, "--resume")
        if name == MANIFEST:
            assert_refused(found, MANIFEST, where)
            continue
        assert found[0] == 0 and Path(name).stem in found[2], (where, found[2])
        assert_same_counts(runs / "plain", copy)


def test_shards_of_another_split_are_not_mixed_in(runs: Path, stopped: Path, run: Run) -> None:
    """A ``task_draws`` in the manifest that is not the one that the shards were made with."""
    manifest = read_manifest(stopped)
    manifest["options"]["task_draws"] //= 2
    save_manifest(stopped, manifest)
    status, _, errors = run(*PLAIN, "--out", stopped, "--resume")
    assert status == 0 and " in place of " in errors
    assert_same_counts(runs / "plain", stopped)
    assert not list((stopped / "shards").glob("*"))


def unprotected(path: Path, **results: Any) -> None:
    """Make a manifest of version 1 of it, and change some of its results."""
    manifest = read_manifest(path)
    del manifest["checksum"]
    manifest["schema_version"] = 1
    manifest["results"] |= results
    (path / MANIFEST).write_text(json.dumps(manifest))


def test_runs_of_the_first_version_are_read(runs: Path, run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "old"
    shutil.copytree(runs / "plain", copy)
    before = run("table", copy)
    unprotected(copy)
    assert run("table", copy)[:2] == before[:2]
    status, printed, _ = run("info", copy)
    assert status == 0 and "not protected by a checksum" in printed
    status, _, errors = run(*PLAIN, "--out", copy, "--resume")
    assert status == 0 and "not protected" in errors
    assert "its checksum agrees" in run("info", copy)[1]


@pytest.mark.parametrize("attached", [False, True])
def test_an_unfinished_run_of_the_first_version_keeps_its_shards(
    runs: Path, stopped: Path, run: Run, attached: bool
) -> None:
    unprotected(stopped)
    index = stopped / "shards" / "index.jsonl"
    lines = [json.loads(line) for line in index.read_text().splitlines()]
    for line in lines:
        del line["sum"], line["entry"]["config"]
        for key in ("first", "stop"):
            del line["entry"]["meta"][key]
    index.write_text("".join(json.dumps(line) + "\n" for line in lines))
    if attached:
        assert run("report", stopped)[0] == 0
    status, _, errors = run(*PLAIN, "--out", stopped, "--resume")
    assert status == 0 and "recomputed" not in errors
    assert_same_counts(runs / "plain", stopped)


@pytest.mark.parametrize(
    "results",
    [
        {"m": 76}, {"m": "8"}, {"n": 2}, {"samples": 99_999}, {"samples": 2e5}, {"draws": -1},
        {"heads": 0}, {"keep": 2.0}, {"dispersion": None}, {"functions": 3}, {"ones": {"t": [9]}},
        {"ones": {"t": [0], "count": [10**6], "sumsq": [10**6]}}, {"ones": []}, {"pooled": 1},
    ],
)  # fmt: skip
def test_totals_that_do_not_fit_together(
    runs: Path, run: Run, tmp_path: Path, results: dict[str, Any]
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(runs / "plain", copy)
    unprotected(copy, **results)
    assert_refused(run("table", copy), copy.name, str(results))


def test_no_verify_is_said(runs: Path, run: Run, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(runs / "plain", copy)
    before = run("table", copy)
    (copy / "config.toml").write_text("# edited\n")
    assert_refused(run("table", copy), "config.toml", "")
    status, printed, errors = run("table", copy, "--no-verify")
    assert (status, printed) == before[:2]
    assert f"{copy}/counts.parquet: read without comparing its SHA-256" in errors
    with pytest.raises(StoreError, match=r"config\.toml: has 9 bytes"):
        FunctionCounts.load(copy)
    assert FunctionCounts.load(copy, verify=False).samples == 2 * 10**5


def test_damage_that_is_not_verified_is_no_traceback(runs: Path, run: Run, tmp_path: Path) -> None:
    for kind, name in (("plain", "counts.parquet"), ("watch", "watch.parquet")):
        copy = tmp_path / kind
        shutil.copytree(runs / kind, copy)
        shutil.copy(runs / "measure" / "measures.parquet", copy / name)
        assert_refused(run("table", copy, "--no-verify"), copy.name, kind)


def test_leftovers_of_a_kill_are_removed(runs: Path, run: Run, tmp_path: Path) -> None:
    """Shards left while cleaning up, a torn index, temporary names, what a merge spilled."""
    for option in ("--resume", "--overwrite"):
        copy = tmp_path / option
        shutil.copytree(runs / "plain", copy)
        left = [
            ".manifest.json.77.simprior-tmp", "shards/000000.parquet", "shards/index.jsonl",
            "shards/.000001.parquet.77.simprior-tmp", "tmp_.counts.parquet.77.simprior-tmp",
            ".merge/spilled", "figures/.rank.pdf.77.simprior-tmp",
        ]  # fmt: skip
        for name in left:
            (copy / name).parent.mkdir(exist_ok=True)
            (copy / name).write_bytes(b"left")
        assert run(*PLAIN, "--out", copy, option)[0] == 0
        assert not [name for name in left if (copy / name).exists()]
        assert_same_counts(runs / "plain", copy)


def test_a_temporary_file_alone_is_no_obstacle_and_goes(run: Run, tmp_path: Path) -> None:
    """Killed while the first manifest was written."""
    out = tmp_path / "run"
    out.mkdir()
    (out / ".manifest.json.77.simprior-tmp").write_bytes(b"{")
    assert run(*POOLED, "--out", out)[0] == 0
    assert not list(out.glob("*simprior-tmp"))


RECIPE = """
title = "Tiny"
seed = 3
[train]
n = 3
hidden = [6]
target = "x1"
train = 4
runs = 6
lr = 0.05
[train.grid]
data_seed = [1, 2]
[sample]
n = 3
hidden = [6]
samples = 400
[sample.grid]
sigma_w = [0.5, 2.0]
[targets]
draws = 200
[[figure]]
kind = "sweep"
name = "prior"
from = "sample"
x = "sigma_w"
y = "lz76"
[[table]]
name = "targets"
from = "targets"
columns = ["run", "target_log_p", "test_error"]
caption = "Targets"
"""


@pytest.mark.slow
def test_a_flipped_bit_in_a_study(run: Run, tmp_path: Path) -> None:
    """``study --resume`` mends it and ends at the same tables, or names a manifest it cannot read;
    ``report`` and ``table`` never use it."""
    recipe, source, table = tmp_path / "recipe.toml", tmp_path / "study", "tables/targets.parquet"
    recipe.write_text(RECIPE)
    assert run("study", recipe, "--out", source)[0] == 0
    before = read_table(source / table)
    own = {MANIFEST, "config.toml", "recipe.toml", table, "figures/prior.png"}
    names = files_of(source)
    for number, name in enumerate(dict.fromkeys([*sorted(own), *names[::4]])):
        copy = tmp_path / "copy"
        shutil.copytree(source, copy)
        where = flip(copy / name, np.random.default_rng(number))
        if name in own:
            assert_refused(run("report", copy), Path(name).name, where)
        if "/" not in name or name.split("/")[0] in ("figures", "tables"):
            assert_refused(run("info", copy), Path(name).name, where)
        status, _, errors = run("study", recipe, "--out", copy, "--resume")
        if status == 0:
            after = read_table(copy / table)
            for column, values in before.items():
                np.testing.assert_array_equal(after[column], values, err_msg=where)
            for manifest in copy.rglob(MANIFEST):
                assert load_run(manifest.parent).verify() == [], where
        else:
            assert name.endswith(MANIFEST), where
            assert_refused((status, "", errors), MANIFEST, where)
        shutil.rmtree(copy)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "main_table"),
    [
        (["logp", "--n", "3", "--hidden", "6", "--functions", "x1,x2"], "logp.parquet"),
        (["sensitivity", "--n", "6,8", "--hidden", "6", "--networks", "4", "--gp-draws", "0"],
         "tables/sensitivity.parquet"),
    ],
)  # fmt: skip
def test_a_flipped_bit_in_other_runs(
    run: Run, tmp_path: Path, command: list[str], main_table: str
) -> None:
    source, copy = tmp_path / "source", tmp_path / "copy"
    assert run(*command, "--out", source, "--workers", "1")[0] == 0
    reading = {"info": (["info", copy, "--json"], ())}
    table = {"table": (["table", copy, "--file", main_table], [main_table])}
    assert flip_all(source, run, reading | table, 20, 3, copy) >= 60


def test_verification_holds_where_it_was_asked_for(runs: Path, tmp_path: Path) -> None:
    """A block that does not verify is that of its own thread."""
    copy = tmp_path / "run"
    shutil.copytree(runs / "plain", copy)
    (copy / "config.toml").write_text("# edited\n")
    refused: list[str] = []

    def load() -> None:
        try:
            FunctionCounts.load(copy)
        except StoreError as error:
            refused.append(str(error))

    with verification(False):
        thread = threading.Thread(target=load)
        thread.start()
        thread.join()
        load()
    load()
    assert len(refused) == 2


def _loads(path: Path) -> bool:
    FunctionCounts.load(path)
    return True


@pytest.mark.slow
def test_workers_compare_hashes_as_the_process_that_sent_the_work(
    runs: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(runs / "plain", copy)
    (copy / "config.toml").write_text((copy / "config.toml").read_text() + "# edited\n")
    found: list[bool] = []
    call = partial(run_tasks, _loads, [copy, copy], workers=2)
    with verification(False):
        call(on_result=lambda _, loaded: found.append(loaded))
    assert found == [True, True]
    with pytest.raises(StoreError, match=r"config\.toml"):
        call(on_result=lambda _, loaded: found.append(loaded))
