"""Run directories: atomic, locked, resumable after kill -9, never silently corrupt."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simprior.errors import InputError, StoreError
from simprior.runs import files as store_io
from simprior.runs.directory import RunDir, load_run, read_table, write_table
from simprior.runs.files import write_parts
from simprior.runs.manifest import INDEX, MANIFEST
from simprior.runs.text_files import plain, to_toml

CONFIG = {"network": {"n": 7, "hidden": (40, 40), "inputs": None}, "samples": 10**7, "seed": 3}
SHARDS = 12

# A real writer: shards are a pure function of their index, so any interruption must be invisible.
WRITER = """
import sys, time
import numpy as np
from simprior.runs.directory import RunDir, write_table
config = {"network": {"n": 7, "hidden": (40, 40), "inputs": None}, "samples": 10**7, "seed": 3}
with RunDir.open(sys.argv[1], "sample", config, resume=True) as run:
    for i in range(12):
        name = f"part-{i:03d}"
        if run.has_shard(name):
            continue
        time.sleep(float(sys.argv[2]))
        data = np.random.default_rng(i).integers(0, 2**63, 2000).astype(np.uint64)
        w = write_table(run.shard_path(name), {"w0": data})
        run.register_shard(name, w.sha256, w.rows, w.bytes, {"first": i})
    run.finish({"rows": sum(e["rows"] for e in run.shards.values())})
"""


def table(i: int = 0, rows: int = 2000) -> dict[str, np.ndarray]:
    return {"w0": np.random.default_rng(i).integers(0, 2**63, rows).astype(np.uint64)}


def add_shard(run: RunDir, i: int) -> str:
    name = f"part-{i:03d}"
    done = write_table(run.shard_path(name), table(i))
    run.register_shard(name, done.sha256, done.rows, done.bytes, {"first": i})
    return name


def started(path: Path, shards: int = 0, **options: Any) -> RunDir:
    run = RunDir.open(path, "sample", CONFIG, **options)
    for i in range(shards):
        add_shard(run, i)
    return run


def finished(path: Path, shards: int = 3) -> Path:
    with started(path, shards) as run:
        run.finish({"distinct": 5, "unseen": 0.25})
    return path


def one_line(error: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# ---------------------------------------------------------------- tables and TOML


def test_parts_of_a_table_are_one_table_or_none(tmp_path: Path) -> None:
    parts = [{"a": np.arange(k), "b": np.full(k, "x")} for k in (3, 0, 4)]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in "ab"}
    written = write_parts(tmp_path / "a", iter(parts))
    assert (written.rows, written.bytes) == (7, (tmp_path / "a").stat().st_size)
    found = read_table(tmp_path / "a")
    assert {name: list(found[name]) for name in found} == {k: list(v) for k, v in whole.items()}

    def broken() -> Iterator[dict[str, np.ndarray]]:
        yield parts[0]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_parts(tmp_path / "b", broken())
    assert {path.name for path in tmp_path.iterdir()} == {"a"}


def test_table_round_trip_and_hash(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    columns = {
        "w": np.array([0, 2**64 - 1], dtype=np.uint64),
        "c": np.array([1, -2]),
        "p": np.array([0.1, np.nan]),
        "f": np.array(["0x0", "0x1"]),
    }
    done = write_table(path, columns)
    assert (done.sha256, done.bytes) == store_io.sha256_file(path)
    assert done.rows == 2 and [p.name for p in tmp_path.iterdir()] == ["t.parquet"]
    back = read_table(path)
    assert list(back) == list(columns)
    for name, values in columns.items():
        np.testing.assert_array_equal(back[name], values)
    assert back["w"].dtype == np.uint64
    assert list(read_table(path, ["c"])) == ["c"]


def test_same_table_same_bytes(tmp_path: Path) -> None:
    first = write_table(tmp_path / "a.parquet", table(1))
    assert write_table(tmp_path / "b.parquet", table(1)) == first
    assert write_table(tmp_path / "c.parquet", table(2)).sha256 != first.sha256


def test_bad_columns_and_bad_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one-dimensional columns of one length"):
        write_table(tmp_path / "a.parquet", {"a": np.zeros(2), "b": np.zeros(3)})
    with pytest.raises(StoreError, match=r"missing.parquet: not a readable Parquet file"):
        read_table(tmp_path / "missing.parquet")
    write_table(tmp_path / "a.parquet", table())
    with pytest.raises(StoreError, match="no column 'q' "):
        read_table(tmp_path / "a.parquet", ["q"])
    data = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(data[:-100])
    with pytest.raises(StoreError, match=r"a.parquet: not a readable Parquet file") as error:
        read_table(tmp_path / "a.parquet")
    one_line(error)


KEYS = st.text(st.characters(codec="utf-8"), max_size=8)
SCALARS = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8"), max_size=12)
)
VALUES = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(KEYS, v, max_size=3), max_leaves=8
)


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_toml_is_read_back_by_the_standard_library(values: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(values)) == values


def test_toml_plain_values_and_none() -> None:
    text = to_toml({"a": None, "b": np.float64(0.5), "c": (np.int64(1), 2), "d": Path("x/y")})
    assert tomllib.loads(text) == {"b": 0.5, "c": [1, 2], "d": "x/y"}
    assert tomllib.loads(to_toml({"x": float("nan")}))["x"] != 0
    with pytest.raises(InputError, match="TOML has no null"):
        to_toml({"a": [1, None]})
    with pytest.raises(InputError, match="numbers, strings, lists and tables"):
        plain({"a": object()})


# ---------------------------------------------------------------- life of a run


def test_a_finished_run(tmp_path: Path) -> None:
    path = finished(tmp_path / "deep" / "run")
    info = load_run(path)
    assert info.status == "complete" and info.command == "sample" and info.verify() == []
    assert info.results == {"distinct": 5, "unseen": 0.25}
    assert list(info.shards) == ["part-000", "part-001", "part-002"]
    assert info.shards["part-001"]["meta"] == {"first": 1}
    assert not (path / "shards" / INDEX).exists()
    assert tomllib.loads((path / "config.toml").read_text())["network"] == {
        "n": 7,
        "hidden": [40, 40],
    }
    manifest = json.loads((path / MANIFEST).read_text())
    assert manifest["seed"] == 3 and manifest["schema_version"] == 2
    assert {"python", "simprior", "numpy"} <= set(manifest["versions"])
    assert "truth_table" in manifest["conventions"]
    assert "complete" in (path / "log.txt").read_text()


def test_leaving_early_is_interrupted_and_resumable(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), started(tmp_path / "run", 2):
        raise KeyboardInterrupt
    info = load_run(tmp_path / "run")
    assert info.status == "interrupted" and len(info.shards) == 2
    with started(tmp_path / "run", resume=True) as run:
        assert run.resumed and not run.complete
        assert run.has_shard("part-000") and run.has_shard("part-001")
        assert not run.has_shard("part-002")
        assert load_run(tmp_path / "run").status == "running"


def test_resume_starts_where_there_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "new"):
        with started(tmp_path / name, resume=True) as run:
            assert not run.resumed


def test_non_empty_directory_is_refused(tmp_path: Path) -> None:
    path = finished(tmp_path / "run")
    with pytest.raises(StoreError, match=r"not empty; add --resume .* or --overwrite") as error:
        started(path)
    one_line(error)


@pytest.mark.parametrize("options", [{}, {"resume": True}, {"overwrite": True}])
def test_a_foreign_directory_is_never_touched(tmp_path: Path, options: dict[str, bool]) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "a.pdf").write_text("a")
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    with pytest.raises(StoreError, match="not a simprior run directory") as error:
        started(tmp_path, **options)
    one_line(error)
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before


def test_overwrite_removes_only_what_a_run_contains(tmp_path: Path) -> None:
    path = finished(tmp_path / "run")
    (path / "notes.md").write_text("mine")
    (path / "figures").mkdir()
    (path / "figures" / "rank.pdf").write_text("old")
    with started(path, overwrite=True) as run:
        assert run.shards == {} and run.manifest["results"] == {}
    assert (path / "notes.md").read_text() == "mine"
    assert not (path / "figures" / "rank.pdf").exists()
    assert list((path / "shards").iterdir()) == []


def test_resume_needs_the_same_configuration(tmp_path: Path) -> None:
    path = finished(tmp_path / "run")
    other = {**CONFIG, "network": {**CONFIG["network"], "hidden": (40, 50)}}
    with pytest.raises(StoreError, match=r"network.hidden is \[40, 40\] there and \[40, 50\] now"):
        RunDir.open(path, "sample", other, resume=True)
    with pytest.raises(StoreError, match=r"network.width is absent there and 3 now"):
        RunDir.open(
            path, "sample", {**CONFIG, "network": {**CONFIG["network"], "width": 3}}, resume=True
        )
    with pytest.raises(StoreError, match="made by 'simprior sample', not 'simprior train'"):
        RunDir.open(path, "train", CONFIG, resume=True)
    with RunDir.open(path, "sample", CONFIG, resume=True, options={"workers": 9}) as run:
        assert run.complete and run.results["distinct"] == 5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "corrupt manifest, not JSON"),
        ("", "corrupt manifest, not JSON"),
        ("\x80\xff", "corrupt manifest"),
        ("[]", "corrupt manifest, it has no schema_version"),
        ('{"schema_version": 99}', "schema_version 99, but this version of simprior reads 1 to 2"),
        ('{"schema_version": 1, "command": "sample"}', "'config' is missing or not a dict"),
    ],
)
def test_corrupt_manifest(tmp_path: Path, text: str, says: str) -> None:
    path = finished(tmp_path / "run")
    (path / MANIFEST).write_bytes(text.encode("latin-1"))
    for use in (lambda: started(path, resume=True), lambda: load_run(path)):
        with pytest.raises(StoreError) as error:
            use()
        message = one_line(error)
        assert str(path / MANIFEST) in message and says in message and "--overwrite" in message
    with started(path, overwrite=True):  # the remedy works
        pass
    assert load_run(path).status == "interrupted"


def test_add_file_write_file_attach_and_verify(tmp_path: Path) -> None:
    path = finished(tmp_path / "run")
    with RunDir.attach(path) as run:
        run.write_file("tables/top.csv", "a,b\n")
        run.save()
    info = load_run(path)
    assert info.status == "complete" and set(info.files) == {"config.toml", "tables/top.csv"}
    assert info.verify() == []
    (path / "tables" / "top.csv").write_text("a,c\n")
    (path / "shards" / "part-001.parquet").unlink()
    assert info.verify() == [
        "tables/top.csv: has another sha256 than registered",
        "shards/part-001.parquet: is missing",
    ]
    with RunDir.attach(path) as run:
        assert run.has_file("config.toml") and not run.has_file("tables/top.csv")
        assert not run.has_file("counts.parquet")
    with pytest.raises(StoreError, match="not a simprior run directory"):
        RunDir.attach(tmp_path)


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "empty"])
def test_a_damaged_shard_is_named_and_recomputed(tmp_path: Path, damage: str) -> None:
    with started(tmp_path / "run", 3):
        pass
    path = tmp_path / "run" / "shards" / "part-001.parquet"
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        middle = len(data) // 2
        flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        path.write_bytes({"truncated": data[:-1], "flipped": flipped, "empty": b""}[damage])
    with started(tmp_path / "run", resume=True) as run:
        assert [run.has_shard(f"part-{i:03d}") for i in range(3)] == [True, False, True]
        assert run.corrupt == ["part-001"]
        assert "shard part-001: " in (tmp_path / "run" / "log.txt").read_text()
        add_shard(run, 1)
        assert run.has_shard("part-001")
    assert path.read_bytes() == data
    assert load_run(tmp_path / "run").verify() == []


@pytest.mark.parametrize("tail", [b'{"name": "part-002", "en', b"\x00\x00\x00", b"{}\n", b"null\n"])
def test_a_torn_index_line_is_ignored(tmp_path: Path, tail: bytes) -> None:
    with started(tmp_path / "run", 2):
        pass
    index = tmp_path / "run" / "shards" / INDEX
    index.write_bytes(index.read_bytes() + tail)
    with started(tmp_path / "run", resume=True) as run:
        assert list(run.shards) == ["part-000", "part-001"]
        add_shard(run, 2)
    with started(tmp_path / "run", resume=True) as run:  # the new line was not glued to the tail
        assert [run.has_shard(f"part-{i:03d}") for i in range(3)] == [True] * 3


def test_removed_shards_stay_removed(tmp_path: Path) -> None:
    with started(tmp_path / "run", 2) as run:
        run.remove_shard("part-000")
        assert not run.shard_path("part-000").exists()
    assert list(load_run(tmp_path / "run").shards) == ["part-001"]


def test_left_over_temporary_files_are_cleared(tmp_path: Path) -> None:
    with started(tmp_path / "run", 1):
        pass
    leftover = tmp_path / "run" / "shards" / f".part-001.parquet.77{store_io.TEMP_SUFFIX}"
    leftover.write_bytes(b"half")
    with started(tmp_path / "run", resume=True):
        assert not leftover.exists()


# ---------------------------------------------------------------- two writers, kill -9


def writer(path: Path, pause: float = 0.0) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(pause)], stderr=subprocess.DEVNULL
    )


def wait_for_shards(path: Path, number: int, process: subprocess.Popen[bytes]) -> None:
    index = path / "shards" / INDEX
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if index.exists() and index.read_bytes().count(b"\n") >= number:
            return
        time.sleep(0.005)
    pytest.fail(f"the writer did not get to {number} shards")


@pytest.mark.slow
def test_kill_9_at_several_moments_then_resume_is_bit_identical(tmp_path: Path) -> None:
    assert writer(tmp_path / "whole").wait(60) == 0
    path = tmp_path / "killed"
    for number in (1, 4, 9):
        process = writer(path, 0.03)
        wait_for_shards(path, number, process)
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
        info = load_run(path)
        assert info.status == "interrupted" and len(info.shards) >= number
        assert info.verify() == []
    assert writer(path).wait(60) == 0
    whole, resumed = load_run(tmp_path / "whole"), load_run(path)
    assert resumed.status == "complete" and resumed.verify() == []
    assert resumed.shards == whole.shards and len(whole.shards) == SHARDS
    assert resumed.results == whole.results == {"rows": SHARDS * 2000}
    assert (path / "config.toml").read_bytes() == (tmp_path / "whole/config.toml").read_bytes()


# Dies, as by kill -9, at its n-th flush or rename.
CRASHER = """
import os, sys
calls = 0
def dying(real):
    def call(*args):
        global calls
        calls += 1
        if calls == int(sys.argv[3]):
            os._exit(77)
        return real(*args)
    return call
os.fsync = dying(os.fsync)
os.replace = dying(os.replace)
sys.argv[2] = "0"
exec(sys.stdin.read().replace("range(12)", "range(1)"))
"""


@pytest.mark.parametrize("step", range(1, 20, 2))
def test_a_crash_at_any_step_is_recoverable(tmp_path: Path, step: int) -> None:
    path = tmp_path / "run"
    code = subprocess.run(
        [sys.executable, "-c", CRASHER, str(path), "0", str(step)],
        input=WRITER,
        text=True,
        check=False,
    ).returncode
    assert code in {0, 77}
    assert code == 77 or step > 13  # a whole run flushes and renames at least that often
    with started(path, resume=True) as run:
        if not run.has_shard("part-000"):
            add_shard(run, 0)
        run.finish({"x": 1})
    info = load_run(path)
    assert info.verify() == [] and info.status == "complete" and list(info.shards) == ["part-000"]


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "run"
    process = writer(path, 0.5)
    try:
        wait_for_shards(path, 1, process)
        for options in ({"resume": True}, {"overwrite": True}):
            with pytest.raises(StoreError, match=rf"another process is writing .*{process.pid}"):
                started(path, **options)
        with pytest.raises(StoreError, match="another process"):
            RunDir.attach(path)
        assert load_run(path).status == "running"
    finally:
        process.kill()
        process.wait(60)
    with started(path, resume=True) as run:  # the lock died with its owner
        assert run.resumed


# ---------------------------------------------------------------- full and read-only disks

LIMITED = """
import resource, sys
import numpy as np
from simprior.errors import StoreError
from simprior.runs.directory import RunDir, write_table
with RunDir.open(sys.argv[1], "sample", {"seed": 0}) as run:
    w = write_table(run.shard_path("small"), {"x": np.arange(10)})
    run.register_shard("small", w.sha256, w.rows, w.bytes)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
    try:
        data = np.random.default_rng(0).integers(0, 2**63, 100000)
        write_table(run.shard_path("big"), {"x": data})
    except StoreError as error:
        print(error)
"""


def test_a_file_system_that_refuses_to_grow_a_file(tmp_path: Path) -> None:
    """A real limit of the kernel (EFBIG) while a shard is being written."""
    path = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("\n") == 1
    assert "big.parquet: cannot be written, the disk is full" in done.stdout
    assert "finished shards are kept" in done.stdout and "--resume" in done.stdout
    assert [p.name for p in (path / "shards").glob("*.parquet")] == ["small.parquet"]
    info = load_run(path)
    assert info.verify() == [] and list(info.shards) == ["small"]


def test_disk_full_while_writing_a_shard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Any, data: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with started(tmp_path / "run", 1) as run:
        with monkeypatch.context() as patch:
            patch.setattr(store_io._HashingFile, "write", full)
            with pytest.raises(StoreError, match="the disk is full") as error:
                add_shard(run, 1)
        assert "--resume" in one_line(error)
        assert not run.shard_path("part-001").exists()
        assert list(run.shard_path("part-001").parent.glob(".*")) == []
        assert run.has_shard("part-000")


def test_disk_full_while_registering_keeps_the_index_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write

    def partial(descriptor: int, data: bytes) -> int:
        if len(data) > 20:
            return real(descriptor, data[:20])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with started(tmp_path / "run", 1) as run:
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda d, b: partial(d, b[:40]))
            with pytest.raises(StoreError, match="the disk is full"):
                add_shard(run, 1)
        add_shard(run, 2)
    assert list(load_run(tmp_path / "run").shards) == ["part-000", "part-002"]


def test_disk_full_while_rewriting_the_manifest_keeps_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with started(tmp_path / "run", 1) as run, monkeypatch.context() as patch:

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="the disk is full"):
            run.finish({"x": 1})
    info = load_run(tmp_path / "run")
    assert info.status == "interrupted" and info.results == {}


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def denied(*args: Any, **kwargs: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(StoreError, match=r"cannot be written .*--out") as error:
        started(tmp_path / "run")
    one_line(error)


def test_paths_that_cannot_be_directories(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(StoreError, match="is a file or lies below one") as error:
            started(path)
        one_line(error)
    with pytest.raises(StoreError, match="choose another directory with --out"):
        started(Path("/proc/simprior-cannot-be-made/run"))


def test_overwrite_removes_every_registered_file(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with RunDir.open(path, "train", {"a": 1}) as run:
        run.write_file("runs.parquet", b"old")
        run.finish({})
    (path / "notes.md").write_text("mine")
    with RunDir.open(path, "sample", {"a": 2}, overwrite=True):
        assert not (path / "runs.parquet").exists()
        assert (path / "notes.md").read_text() == "mine"


def test_a_relative_run_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with RunDir.open("run", "sweep", {"a": 1}) as run:
        write_table(run.path / "tables.parquet", {"a": np.arange(3)})
        run.add_file(run.path / "tables.parquet")
        run.write_file("tables/a.csv", "a")
        run.finish({})
    assert set(load_run("run").files) == {"tables.parquet", "tables/a.csv", "config.toml"}


def test_a_shard_costs_a_line_however_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Registering rewrites nothing: no manifest, as many bytes for the last as for the first."""
    with started(tmp_path / "run") as run:
        monkeypatch.setattr("simprior.runs.directory.save_manifest", None)
        sizes = [0]
        for i in range(200):
            run.register_shard(f"{i:04d}", "0" * 64, 10, 100, {"first": 1000 + i})
            sizes.append((run.shards_folder / INDEX).stat().st_size)
        monkeypatch.undo()
    assert len(set(np.diff(sizes))) == 1
