"""Every command, killed or failing at every file-system event: nothing lost, nothing half, no lie.

After each fault: `info` and `table` give a right answer or one line and status 2; the directory is
refused without --resume or --overwrite; a run that says it is complete is whole and verifies; the
same command with --resume then ends with the files of a run that was never disturbed, and no other.
The quick test takes a few events of one command (seeded), the slow one of all commands the first
and the last event of each kind (the same call on the same file, but for numbers in its name) and
one in 16 of those between, which repeat them task after task; SIMPRIOR_FAULTS=all takes every one.
"""

from __future__ import annotations

import csv
import os
import random
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest
from inject import (
    BROKEN,
    FULL,
    KILL,
    STOP,
    Ended,
    content,
    distinct,
    first_and_last,
    run_child,
    run_here,
)

from simprior.cli import main
from simprior.errors import StoreError
from simprior.runs.directory import load_run
from simprior.runs.wipe import check_occupied

GRID = """
n = 3
hidden = [4]
target = "x1"
loss = "mse"
runs = 2
max_epochs = 200
[grid]
train = [4]
data_seed = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
[optimizers.sgd]
lr = [0.1]
"""
STUDY = """
title = "Tiny"
[train]
n = 3
hidden = [4]
train = 4
runs = 3
max_epochs = 1000
[train.grid]
target = ["x1"]
data_seed = [1]
[train.optimizers.adam]
lr = [0.05]
[measure]
measures = "lz,norms"
[[table]]
name = "rows"
from = "measure"
columns = ["test_error", "lz76"]
"""
NET = ["--n", "3", "--hidden", "4", "--workers", "1", "--quiet"]
POSTERIOR = ["posterior", *NET, "--target", "x1", "--train", "3"]
CHAINS = ["--samples", "4", "--chains", "2", "--burn-in", "1"]


@dataclass(frozen=True)
class Case:
    """A command; ``again`` is added to continue after a fault; ``few`` kills of it where another
    command writes the same files in the same way, 0 for those of each kind."""

    line: list[str]
    out: str = "out"
    again: list[str] = field(default_factory=lambda: ["--resume"])
    run: bool = True
    few: int = 0


CASES = {
    "sample": Case(["sample", *NET, "--samples", "600", "--heads", "2"]),
    "pool": Case(["sample", *NET, "--samples", "600", "--heads", "2", "--pool"]),
    "keep": Case(["sample", *NET, "--samples", "300", "--heads", "2", "--keep", "0.5"], few=6),
    "watch": Case(["sample", *NET, "--samples", "300", "--heads", "2", "--watch", "x1"]),
    "import": Case(["import", "counts.txt", "--n", "3", "--quiet"], again=["--overwrite"]),
    "train": Case(["train", *NET, "--target", "x1", "--train", "4", "--runs", "4", "--max-epochs",
                   "50", "--record", "0,2,4", "--record-logp"]),
    "sweep": Case(["sweep", "few.toml", "--workers", "1", "--quiet"]),
    "posterior-gp": Case([*POSTERIOR, "--method", "gp", "--samples", "16"]),
    "posterior-ep": Case([*POSTERIOR, "--method", "ep", "--samples", "16"], few=6),
    "posterior-rejection": Case([*POSTERIOR, "--method", "rejection", "--samples", "16"]),
    "posterior-slice": Case([*POSTERIOR, "--method", "slice", *CHAINS]),
    "posterior-hmc": Case([*POSTERIOR, "--method", "hmc", *CHAINS], few=6),
    "measure": Case(["measure", "little", "--measures", "lz,norms", "--workers", "1", "--quiet"]),
    "correlate": Case(["correlate", "m", "--bootstrap", "100", "--permutations", "100", "--quiet"]),
    "sensitivity": Case(["sensitivity", "--n", "8,10,12", "--hidden", "4", "--networks", "3",
                         "--strings", "2", "--workers", "1", "--quiet"]),
    "study": Case(["study", "study.toml", "--workers", "1", "--quiet"]),
    "logp": Case(["logp", *NET, "--functions", "x1,parity"]),
    "report": Case(["report", "done"], out="done", again=[]),
    "plot": Case(["plot", "done"], out="done", again=[]),
    "table": Case(["table", "done", "--quiet", "--out", "t.csv"], out="t.csv",
                  again=["--overwrite"], run=False),
    "compare": Case(["compare", "done", "done", "--bootstrap", "20", "--splits", "2", "--quiet"],
                    again=["--overwrite"]),
}  # fmt: skip
if __import__("importlib.util").util.find_spec("pyro") is not None:
    CASES["posterior-nuts"] = Case(
        [*POSTERIOR, "--method", "nuts", "--samples", "8", "--chains", "2", "--burn-in", "1"],
        few=6,
    )


def command(case: Case, *more: str) -> list[str]:
    """The command line; ``--out`` where the case has one of its own."""
    own = [] if case.out == "done" or "--out" in case.line else ["--out", case.out]
    return [*case.line, *own, *more]


def small() -> None:
    """More shards than such runs would have: many tasks, a block for every sweep or record. Less to
    draw: one figure."""
    from simprior.boolean.sampling import chains as blocks
    from simprior.boolean.sampling import sample as sampling
    from simprior.runs import manifest as store_manifest

    sampling._TASK_SAMPLES, sampling._POOL_TASKS = 300, 2
    blocks.BLOCK_SECONDS = 0.0
    store_manifest.git_commit = lambda: None  # asking git takes longer than such a run
    store_manifest.versions = dict  # type: ignore[assignment]
    plots = sys.modules.get("simprior.analysis.plot")
    if plots is not None:  # one figure of a run; all are written in the same way
        every = plots.drawings_of
        plots.drawings_of = lambda *given, **named: every(*given, **named)[:1]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the files that the commands read."""
    base = tmp_path_factory.mktemp("faults")
    (base / "counts.txt").write_text("0x0f 30\n0x00 60\n0xff 10\n")
    (base / "grid.toml").write_text(GRID)
    (base / "few.toml").write_text(
        GRID.replace(
            "data_seed = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]",
            "data_seed = [0, 1]",
        )
    )
    (base / "study.toml").write_text(STUDY)
    return base


MADE = {
    "done": CASES["sample"].line,
    "grid": ["sweep", "grid.toml", "--workers", "1", "--quiet"],
    "little": ["sweep", "few.toml", "--workers", "1", "--quiet"],
    "m": ["measure", "grid", "--measures", "lz,norms", "--workers", "1", "--quiet"],
}
"""Runs that other commands read, made when first needed."""


def make(name: str) -> None:
    """One of ``MADE``, and what it reads, in the present directory."""
    for other in MADE[name]:
        if other in MADE and not Path(other).exists():
            make(other)
    if not Path(name).exists():
        assert main([*MADE[name], "--out", name]) == 0
        shutil.copytree(name, f"kept-{name}")


@dataclass
class Bench:
    """A command with what it leaves when nothing happens to it."""

    case: Case
    base: Path
    whole: dict[str, object]
    table: str
    trace: tuple[str, ...]

    def fresh(self) -> None:
        """Back to the state before the command."""
        target = self.base / self.case.out
        shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
        if self.case.out == "done":
            shutil.copytree(self.base / "kept-done", target)

    def run(self, *more: str, fault: str | None = None, at: int = 0) -> Ended:
        return run_child(command(self.case, *more), self.base, fault, at, small)


_BENCHES: dict[str, Bench] = {}


def bench(name: str, inputs: Path) -> Bench:
    """The command warmed up in this process, and undisturbed once."""
    if name in _BENCHES:
        return _BENCHES[name]
    case = CASES[name]
    import torch

    torch.set_num_threads(1)
    made = Bench(case, inputs, {}, "", ())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(inputs)
        for other in case.line:
            if other in MADE:
                make(other)
        made.fresh()
        assert main(command(case)) == 0  # imports and compiles here, for the children
        if case.run:
            assert main(["info", case.out]) == 0
            main(["table", case.out, "--quiet"])
    made.fresh()
    done = made.run()
    assert done.status == 0, done.err
    made.whole, made.trace = content(inputs / case.out), done.trace
    printed = run_here(["table", case.out, "--quiet"], inputs).out if case.run else ""
    made.table = without_seconds(printed)
    _BENCHES[name] = made
    return made


def without_seconds(printed: str) -> list[list[str]]:
    """A printed CSV table without the column of times, which differ from run to run."""
    rows = list(csv.reader(printed.splitlines()))
    timed = [i for i, name in enumerate(rows[0] if rows else []) if name == "seconds"]
    return [[cell for i, cell in enumerate(row) if i not in timed] for row in rows]


def check_readers(b: Bench) -> None:
    """What people ask of a directory after a fault: a right answer, or one line."""
    out = b.base / b.case.out
    if not b.case.run:
        if out.exists():
            assert content(out) == b.whole
        return
    for reader in ("info", "table"):
        found = run_here([reader, b.case.out, "--quiet"], b.base)
        assert found.status in (0, 2), found.err
        assert "Traceback" not in found.err
        if found.status == 2:
            assert found.err.count("\n") <= 1 or reader == "info", found.err
        if reader == "table" and found.status == 0 and "study" not in b.case.line:
            assert without_seconds(found.out) == b.table, "another table, without a word"
    try:
        info = load_run(out)
    except StoreError:
        left = {p.name for p in out.iterdir()} if out.is_dir() else set()
        assert all(n == ".simprior.lock" or n.endswith(".simprior-tmp") for n in left), left
        return
    if info.status == "complete":
        assert info.verify() == []
        missing = [n for n in b.whole if not (out / n).exists()]
        assert b.case.out == "done" or not missing, f"complete without {missing}"
    if b.case.out != "done":
        with pytest.raises(StoreError):
            check_occupied(out, b.case.line[0], resume=False, overwrite=False)


def check_point(b: Bench, fault: str, at: int, second: int = 0) -> None:
    b.fresh()
    ended = b.run(fault=fault, at=at)
    where = f"{fault} at event {at}, {ended.last}"
    if fault == KILL:
        assert ended.status == -9, f"{where}: {ended.status} {ended.err}"
    else:
        wanted = {130, 0} if fault == STOP else {2, 0}  # 0: what only the log would have told
        assert ended.status in wanted, f"{where}: {ended.status} {ended.err}"
        assert "Traceback" not in ended.err, f"{where}: {ended.err}"
        if ended.status:
            assert ended.err.strip().splitlines()[-1].startswith("simprior: "), where
    try:
        check_readers(b)
        if second:
            b.run(*b.case.again, fault=KILL, at=second)
            check_readers(b)
        again = b.run(*b.case.again)
        assert again.status == 0, again.err
        assert content(b.base / b.case.out) == b.whole
        if b.case.run:
            assert load_run(b.base / b.case.out).verify() == []
    except AssertionError as error:
        raise AssertionError(f"{where}: {error}") from error


SHARE = 1.0 if os.environ.get("SIMPRIOR_FAULTS") == "all" else 1 / 16
"""Of the events between the first and the last of a kind."""


def points(b: Bench, name: str, few: int) -> Iterator[tuple[str, int, int]]:
    """(fault, event, event of a second kill or 0): ``few``, or with 0 those of each kind."""
    chance = random.Random(f"faults of {name}")
    every = distinct(b.trace)
    if not few:
        ends = first_and_last(b.trace, every)
        every = [k for k in every if k in ends or chance.random() < SHARE]
    for at in sorted(chance.sample(every, min(few or len(every), len(every)))):
        again = chance.randint(1, len(b.trace)) if not few and chance.random() < 0.1 else 0
        yield KILL, at, again
    for fault in (FULL, BROKEN, STOP):
        share = 1 if few else max(3, len(every) // 12)
        for at in sorted(chance.sample(range(1, len(b.trace) + 1), min(share, len(b.trace)))):
            yield fault, at, 0


def test_a_few_faults(inputs: Path) -> None:
    """Of one command; the slow test takes those of all."""
    b = bench("sample", inputs)
    for fault, at, second in points(b, "sample", 3):
        check_point(b, fault, at, second)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_events_of_every_kind(name: str, inputs: Path) -> None:
    b = bench(name, inputs)
    wrong = []
    for fault, at, second in points(b, name, b.case.few):
        try:
            partial(check_point, b, fault, at, second)()
        except AssertionError as error:
            wrong.append(str(error)[:600])
    assert not wrong, f"{len(wrong)} of {len(b.trace)} events: " + "\n".join(wrong[:8])
