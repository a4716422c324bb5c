"""The surface of simprior as plain values: what its commands print, write and refuse.

``WORLD`` lists command lines that are run once, in order, in an empty working directory; most of
them leave a run there. ``cases`` names what is looked at: printed text, written tables, the columns
of ``measures.parquet``, the text of the reports, error lines, help texts, and runs of an earlier
version that are resumed. Only the command line and public names are used, so that modules may move.

Every value is a text (as a list of lines), a number, or a dict or list of those. What differs from
run to run is taken out: dates, seconds, hashes, versions and paths.
"""

from __future__ import annotations

import contextlib
import html.parser
import io
import json
import logging
import math
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import simprior as sp
from simprior.cli import COMMANDS, main

HERE = Path(__file__).parent
VALUES = HERE / "surface.json"
RUNS = HERE / "runs"

# ---------------------------------------------------------------- the runs that are looked at

NET = "--n 4 --hidden 6 --workers 1"
TRAIN = f"train {NET} --target x1 --train 8 --lr 0.05 --batch-size 4 --max-epochs 300"
POSTERIOR = f"posterior {NET} --target x1 --train 6 --samples 100 --top 4"
GROUPS = (
    "prior,bound,lz,entropy,dnf,gc,csr,walsh,sensitivity,influence,sharpness,hessian,fisher,sigma,"
    "norms,margin,relative,volume"
)

WORLD = {
    "sample": f"sample {NET} --samples 3000 --heads 1 --top 5 --out sample",
    "sample-2": f"sample {NET} --samples 3000 --heads 1 --seed 1 --top 3 --out sample-2",
    "sample-dnf": "sample --model dnf --n 3 --samples 400 --workers 1 --top 4 --out sample-dnf",
    "sample-inputs": "sample --inputs x.csv --n 2 --hidden 4 --samples 300 --heads 1 --workers 1",
    "sample-pool": f"sample {NET} --samples 2000 --heads 64 --no-mirror --pool --top 3",
    "sample-mirror": f"sample {NET} --samples 2000 --heads 64 --pool --top 3",
    "sample-watch": f"sample {NET} --samples 2000 --heads 1 --watch x1,parity,majority",
    "import": "import functions.txt --n 3 --out import",
    "logp": f"logp {NET} --functions x1,parity,0x0f3c --draws 256 --method tilted,ep --out logp",
    "logp-from": "logp --from sample --top 3 --draws 256 --workers 1 --out logp-from",
    "logp-data": "logp --data digits --classes 3,8 --train 8 --draws 256 --workers 1",
    "train": f"{TRAIN} --runs 5 --top 4 --out train",
    "train-record": f"{TRAIN} --runs 3 --top 2 --record 0,4,16 --record-runs 2 --out train-record",
    "train-digits": "train --data digits --classes 3,8 --train 12 --test 10 --attack 2 --hidden 6"
    " --runs 3 --lr 0.01 --workers 1 --top 3 --out train-digits",
    "sweep": "sweep grid.toml --workers 1 --out sweep",
    "posterior": f"{POSTERIOR} --out posterior",
    "posterior-ep": f"{POSTERIOR} --method ep",
    "posterior-rejection": f"{POSTERIOR} --method rejection --max-draws 100000",
    "posterior-slice": f"{POSTERIOR} --method slice --chains 2 --burn-in 10",
    "bound": "bound --data digits --classes 3,8 --train 16 --draws 256",
    "compare": "compare sample sample-2 --bootstrap 20 --splits 4 --out compare",
    "compare-train": "compare posterior train --bootstrap 20 --splits 4 --min-count 1",
    "measure-bits": f"measure train --measures {GROUPS} --alphas 1,4 --draws 256 --workers 1"
    " --networks 3 --out measure-bits",
    "measure-digits": "measure train-digits --measures all --alphas 1,4 --draws 256"
    " --workers 1 --networks 2 --out measure-digits",
    "measure-sample": "measure sample --measures prior,lz,entropy,dnf,gc,csr,walsh,sensitivity,"
    "influence --networks 8 --draws 256 --workers 1 --out measure-sample",
    "measure-sweep": "measure sweep --measures prior,norms,lz,sensitivity --draws 256 --workers 1"
    " --out measure-sweep",
    "correlate": "correlate measure-sweep --by optimizer --controls train_size --bootstrap 100"
    " --permutations 99 --out correlate",
    "correlate-file": "correlate table.csv --y y --bootstrap 100 --permutations 99",
    "sensitivity": "sensitivity --n 6,8 --hidden 5 --networks 4 --gp-draws 50 --workers 1"
    " --out sensitivity",
    "study-dry-run": "study recipe.toml --out study --dry-run --workers 1",
    "study": "study recipe.toml --out study --workers 1",
    "report": "report sample",
    "info": "info sample",
    "info-train": "info train",
}
"""Name -> command line; every one is run with ``--quiet``."""

FILES = {
    "x.csv": "0,1\n1,0\n1,1\n",
    "functions.txt": "00001111 5\n01010101 2\n0x81 1\n",
    "bad-functions.txt": "00001111 5\n0101 2\n",
    "empty.csv": "",
    "text.toml": "n = = 3\n",
    "key.toml": "sampels = 3\n",
    "twice.toml": "n = 3\n[network]\nn = 4\n",
    "list.toml": "n = [3, [4]]\n",
    "switch.toml": "pool = 1\n",
    "width.toml": "width = 40\n",
    "stage.toml": "[train]\nn = 4\n[measure]\nmeasure = 'lz'\n",
    "mine.txt": "mine",
    "data.csv": "a,b,class\n0.1,0.2,u\n0.3,0.1,v\n0.5,0.9,u\n0.2,0.6,v\n0.7,0.7,\n",
    "grid.toml": """
n = 4
hidden = [6]
target = "mux"
runs = 1
loss = "mse"
max_epochs = 2000
[grid]
train = [6, 11]
data_seed = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
[optimizers.adam]
lr = [0.02]
[optimizers.sgd]
lr = [0.1]
""",
    "recipe.toml": """
title = "Tiny & <small>"
question = "Is it \\"escaped\\"?"
held_against = "Nothing."
seed = 1
[train]
n = 4
hidden = [6]
train = 6
runs = 3
batch_size = 4
[train.grid]
target = ["x1", "majority"]
data_seed = [1, 2, 3, 4, 5, 6, 7, 8]
[train.optimizers.adam]
lr = [0.05]
[train.optimizers.sgd]
lr = [0.3]
[measure]
measures = "prior,lz,norms"
alphas = [1.0, 4.0]
draws = 200
[[correlate]]
name = "plain"
where = {alpha = 1.0}
by = "optimizer"
bootstrap = 100
permutations = 100
[[figure]]
kind = "scatter"
x = "log_p"
by = "optimizer"
where = {alpha = 1.0}
caption = "Points & error"
[[figure]]
kind = "forest"
by = "optimizer"
[[figure]]
kind = "rescaling"
[[table]]
name = "coefficients"
from = "correlate-plain"
columns = ["optimizer", "measure", "points", "kendall", "kendall_low", "kendall_high"]
""",
}
"""Files of the working directory, good and bad."""

TABLES = (
    "sample", "sample-dnf", "import", "logp", "logp-from", "train", "train-record", "train-digits",
    "sweep", "posterior", "compare", "measure-bits", "measure-digits", "measure-sample",
    "measure-sweep", "correlate", "sensitivity", "study", "study/train", "study/correlate-plain",
)  # fmt: skip
"""Runs that ``simprior table`` is asked for."""

PLOTS = (
    "sample", "logp-from", "train", "train-record", "sweep", "posterior", "compare",
    "measure-sweep", "correlate", "sensitivity", "study",
)  # fmt: skip
"""Runs that ``simprior plot`` is asked for."""


def capture(line: str | list[str]) -> tuple[int, str, str]:
    """(exit status, stdout, stderr) of a command line in the working directory."""
    words = shlex.split(line) if isinstance(line, str) else line
    out, err = io.StringIO(), io.StringIO()
    before = sys.argv
    sys.argv = ["simprior", *words]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(words)
    finally:
        sys.argv = before
        logging.getLogger("simprior").setLevel(logging.NOTSET)
    return status, out.getvalue(), err.getvalue()


@contextlib.contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in ``folder``, with a terminal of fixed width, no CUDA, and one core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    before, wanted = Path.cwd(), {"COLUMNS": "100", "CUDA_VISIBLE_DEVICES": ""}
    old = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        os.sched_setaffinity(0, cores)
        for name, text in old.items():
            os.environ.pop(name) if text is None else os.environ.update({name: text})


def inputs_of(line: str) -> list[str]:
    """The runs of ``WORLD`` that a command line reads."""
    words = shlex.split(line)
    return [w for before, w in pairwise(words) if w in WORLD and before != "--out"]


class World:
    """A working directory in which the commands of ``WORLD`` are run when first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.printed: dict[str, str] = {}
        for name, text in FILES.items():
            (folder / name).write_text(text)
        (folder / "folder").mkdir()
        (folder / "folder" / "mine.txt").write_text("mine")
        (folder / "binary.bin").write_bytes(bytes(range(256)) * 4)
        random = np.random.default_rng(0)
        frame = pd.DataFrame(random.random((60, 3)), columns=["y", "u", "v"])
        frame.assign(cluster=np.arange(60) % 20).to_csv(folder / "table.csv", index=False)

    def need(self, name: str) -> str:
        """The stdout of a command of ``WORLD``; the runs that it reads are made before."""
        name = name.partition("/")[0]
        if name not in self.printed:
            line = WORLD[name]
            for word in inputs_of(line):
                self.need(word)
            status, out, err = capture(f"{line} --quiet")
            assert status == 0, f"{line}: {err}"
            self.printed[name] = out
        return self.printed[name]


# ---------------------------------------------------------------- text without what varies


def clean(text: str, folder: Path) -> list[str]:
    """The lines of ``text`` without dates, hashes, versions, sizes of files, and paths."""
    text = text.replace(str(folder), "HERE")
    text = re.sub(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\+00:00| UTC)?", "DATE", text)
    text = re.sub(r"\b[0-9a-f]{64}\b|\b[0-9a-f]{40}\b", "HASH", text)
    # other cases add figures and tables to the same run, sooner or later
    text = re.sub(r"\bfiles: \d+ verified", "files: verified", text)
    lines = []
    for line in text.splitlines():
        if re.match(r"(versions|source commit|size|seconds) ", line.strip()):
            lines.append(f"{line.split()[0]} ...")
        else:
            lines.append(line.rstrip())
    return without_column(lines, "seconds")


def without_column(lines: list[str], name: str) -> list[str]:
    """``lines`` without a column of times in a Markdown or CSV table."""
    found, at, mark = [], None, ""
    for line in lines:
        if at is None or not line.count(mark):
            for mark in ("|", ","):
                cells = [cell.strip() for cell in line.split(mark)]
                at = cells.index(name) if name in cells else None
                if at is not None:
                    break
        if at is None or line.count(mark) < at:
            found.append(line)
        else:
            cells = line.split(mark)
            found.append(mark.join(cells[:at] + cells[at + 1 :]))
    return found


class Page(html.parser.HTMLParser):
    """What a reader of a report sees: titles, headings, cells, paragraphs, names of figures."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.hidden = 0
        self.tag = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("style", "script"):
            self.hidden += 1
        if tag == "img":
            self.lines.append(f"img: {dict(attrs).get('alt')}")
        self.tag = tag

    def handle_endtag(self, tag: str) -> None:
        if tag in ("style", "script"):
            self.hidden -= 1

    def handle_data(self, data: str) -> None:
        text = " ".join(data.split())
        if text and not self.hidden:
            self.lines.append(f"{self.tag}: {text}")


def without_files(lines: list[str]) -> list[str]:
    """``lines`` of a report without the sizes and hashes of its files: figures are not exact."""
    hashed = {i for i, line in enumerate(lines) if re.fullmatch(r"td: [0-9a-f]{57}\.\.\.", line)}
    found = ["td: BYTES" if i + 1 in hashed else line for i, line in enumerate(lines)]
    return ["td: HASH" if i in hashed else line for i, line in enumerate(found)]


def page_text(path: Path, folder: Path) -> list[str]:
    """The text of a report, a line an element; what the machine adds is left out."""
    page = Page()
    page.feed(path.read_text(encoding="utf-8"))
    found = without_files(clean("\n".join(page.lines), folder))
    found = [
        re.sub(r"\b(\d+ min )?\d+(\.\d+)? (s|ms|min|h|kB|MB|B)\b", "AMOUNT", line) for line in found
    ]
    found = [re.sub(r"^dd: ([0-9a-f]{12}|not recorded)$", "dd: COMMIT", line) for line in found]
    for before, line in enumerate(found[1:]):  # the column of seconds in the table of stages
        if found[before] == "td: complete" and re.match(r"td: [\d.]+$", line):
            found[before + 1] = "td: SECONDS"
    return [re.sub(r"\b\d+(\.\d+)+(\+\w+)?\b(?= ?(,|$))", "VERSION", line)
            if "numpy" in line else line for line in found]  # fmt: skip


# ---------------------------------------------------------------- the cases


def stdout_case(world: World, name: str) -> list[str]:
    """What a command prints."""
    return clean(world.need(name), world.folder)


def json_case(world: World, name: str) -> Any:
    """The result of a command as JSON, made without a run directory."""
    world.need(name)
    line = re.sub(r" --out \S+", "", WORLD[name])
    status, out, err = capture(f"{line} --json --quiet")
    assert status == 0, err
    return json.loads(out)


def table_case(world: World, name: str, form: str) -> dict[str, Any]:
    """What ``simprior table`` prints of a run, what it says on stderr, and the file it writes."""
    world.need(name)
    status, out, err = capture(f"table {name} --top 6 --format {form}")
    found: dict[str, Any] = {"status": status, "stderr": clean(err, world.folder)}
    found["stdout"] = clean(out, world.folder)
    if status or form != "markdown":
        return found
    for ending, kind in (("tex", "latex"), ("md", "markdown"), ("csv", "csv")):
        path = world.folder / f"{name.replace('/', '-')}-table.{ending}"
        status, out, err = capture(f"table {name} --top 3 --format {kind} --out {path.name}")
        assert (status, out) == (0, ""), err
        noted = path.with_name(f"{path.name}.json") if kind == "csv" else path
        lines = noted.read_text().splitlines()  # the rows are those of stdout
        found[f"{ending} notes"] = [line for line in lines if "simprior table" in line]
    return found


def files_case(world: World, name: str) -> dict[str, Any]:
    """The files of a finished run, and the tables among them that people read, as text."""
    world.need(name)
    root = world.folder / name
    paths = sorted(p for p in root.rglob("*") if p.is_file() and p.name != ".simprior.lock")
    found: dict[str, Any] = {"files": [str(p.relative_to(root)) for p in paths]}
    for path in paths:
        if path.suffix in (".tex", ".csv", ".md") and "cells" not in path.parts:
            found[str(path.relative_to(root))] = clean(path.read_text(), world.folder)
    found["config.toml"] = clean((root / "config.toml").read_text(), world.folder)
    return found


def measures_case(world: World, name: str) -> dict[str, Any]:
    """The columns of ``measures.parquet``."""
    world.need(name)
    frame = pd.read_parquet(world.folder / name / "measures.parquet")
    kinds = {column: str(frame[column].dtype) for column in frame.columns}
    values = {c: json.loads(frame[c].to_json(orient="values", double_precision=15))
              for c in frame.columns if frame[c].dtype.kind not in "f"}  # fmt: skip
    values |= {c: [float(v) for v in frame[c]] for c in frame.columns if frame[c].dtype.kind == "f"}
    return {"columns": list(frame.columns), "kinds": kinds, "values": values}


def report_case(world: World, name: str) -> list[str]:
    """The text of ``report.html``."""
    world.need(name)
    path = world.folder / name / "report.html"
    if not path.exists():
        status, _, err = capture(f"report {name} --quiet")
        assert status == 0, err
    return page_text(path, world.folder)


def plot_case(world: World, name: str) -> list[str]:
    """The files that ``simprior plot`` says it wrote; all of them are there."""
    world.need(name)
    status, out, err = capture(f"plot {name} --out figures-{name} --quiet")
    assert all((world.folder / line).stat().st_size for line in out.splitlines())
    return [f"status {status}", *clean(out, world.folder), *clean(err, world.folder)]


def help_case(world: World, name: str) -> list[str]:
    """The help of a command, or of the program."""
    status, out, err = capture(f"{name} --help" if name else "--help")
    assert status == 0 and not err
    return out.splitlines()


def error_lines(world: World, lines: list[str]) -> dict[str, str]:
    """Command line -> its exit status and what it prints on stderr."""
    found = {}
    for line in lines:
        for name in shlex.split(line)[1:]:
            if name in WORLD:
                world.need(name)
        words = [word.replace("DIGITS", "9" * 5000) for word in shlex.split(line)]
        status, out, err = capture([*words, "--quiet"] if len(words) > 1 else words)
        text = err.replace(str(world.folder), "HERE").removesuffix("\n")
        text = re.sub(r"at most [\d.]+ (GiB|MiB) of memory", "at most MEMORY", text)
        found[line] = f"{status}: {out}{text}".replace("simprior: error: ", "")
    return found


def call_errors(world: World, calls: list[str]) -> dict[str, str]:
    """Python expression -> the error it raises."""
    net = sp.Network(n=3, hidden=(4,))
    x = np.array([[i >> 2 & 1, i >> 1 & 1, i & 1] for i in range(8)], float)
    names: dict[str, Any] = {
        "sp": sp, "gp": sp.gp, "np": np, "pd": pd, "math": math, "net": net, "X": x,
        "K": sp.gp.nngp(net, x), "f": np.array([0, 0, 0, 0, 1, 1, 1, 1]),
        "counts": sp.sample(net, samples=300, heads=1), "Path": Path,
        "frame": pd.read_csv(world.folder / "table.csv"),
    }  # fmt: skip
    found = {}
    for call in calls:
        try:
            eval(call, names)
        except sp.SimpriorError as error:
            kind = "InputError" if isinstance(error, sp.InputError) else type(error).__name__
            found[call] = f"{kind}: {error}".replace(str(world.folder), "HERE")
        else:
            found[call] = "no error"
    return found


# ---------------------------------------------------------------- runs of an earlier version

OLD = {
    "sample": f"sample {NET} --samples 2000 --heads 1 --pool --top 5",
    "train": f"{TRAIN} --runs 6 --members 2 --top 4",
    "logp": f"logp {NET} --functions x1,parity --draws 256",
    "posterior": f"{POSTERIOR} --method slice --chains 2 --burn-in 10",
}
"""Name of a run below ``runs/`` -> its command line, without ``--out`` and ``--resume``."""


class _Stop:
    """A progress display that interrupts the work after some tasks."""

    def __init__(self, after: int) -> None:
        self.left = after

    def update(self, n: int = 1) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


REPORTS = {"posterior": "starts"}
"""Kept runs that were finished, and what their command says today but did not say then."""


def resume_case(world: World, name: str) -> dict[str, Any]:
    """A committed run is resumed: what it prints then, against what the same command prints alone.

    The two must be equal here and now; the text is also a golden value.
    """
    folder = world.folder / f"old-{name}"
    shutil.copytree(RUNS / name, folder)
    before = sorted(p.name for p in folder.glob("shards/*.parquet"))
    words = [OLD[name], f"--out {folder.name}", "--resume"]
    status, out, err = capture(" ".join(words))
    assert status == 0, err
    alone = capture(f"{OLD[name]} --quiet")[1]
    resumed, whole = clean(out, world.folder), clean(alone, world.folder)
    if name in REPORTS:  # a finished report of the earlier version does not say what is newer
        whole = [line for line in whole if line.split(" ")[0] != REPORTS[name]]
    assert resumed == whole, f"resumed {resumed}, undisturbed {whole}"
    found = {"shards": before, "stdout": resumed}
    found["says"] = [line for line in clean(err, world.folder) if "registered" in line]
    status, out, err = capture(f"info {folder.name} --quiet")
    assert status == 0 and "all hashes agree" in out, err
    other = OLD[name].replace("--n 4", "--n 3")
    found["other"] = capture(f"{other} --out {folder.name} --resume --quiet")[2].splitlines()
    return found


def make_old(folder: Path) -> None:
    """Write the runs of ``OLD`` below ``folder``: two tasks of sample and train, the others whole.

    This is how ``runs/`` was made, once, by the version before the modules moved. It is not to be
    made again: its point is that runs of that version can be gone on with.
    """
    net = sp.Network(n=4, hidden=(6,))
    shared: dict[str, Any] = {"workers": 1}
    with inside(folder):
        sys.argv = ["simprior"]
        with contextlib.suppress(KeyboardInterrupt, sp.SimpriorError):
            sp.sample(net, samples=2000, heads=1, pool=True, progress=_Stop(2), out="sample",
                      **shared)  # fmt: skip
        with contextlib.suppress(KeyboardInterrupt, sp.SimpriorError):
            sp.train(net, "x1", train=8, lr=0.05, batch_size=4, max_epochs=300, runs=6, members=2,
                     progress=_Stop(2), out="train", **shared)  # fmt: skip
        for name in ("logp", "posterior"):
            assert capture(f"{OLD[name]} --out {name} --quiet")[0] == 0
    for lock in folder.rglob(".simprior.lock"):
        lock.unlink()


# ---------------------------------------------------------------- all of them


def cases() -> dict[str, Callable[[World], Any]]:
    """Name -> function of the world that gives the value."""
    found: dict[str, Callable[[World], Any]] = {}
    for name in WORLD:
        found[f"stdout of {name}"] = partial(stdout_case, name=name)
    for name in ("compare", "compare-train", "correlate", "correlate-file"):
        found[f"json of {name}"] = partial(json_case, name=name)
    for name in TABLES:
        for form in ("csv", "latex", "markdown"):
            found[f"table of {name} as {form}"] = partial(table_case, name=name, form=form)
    for name in ("sweep", "compare", "correlate", "sensitivity", "study"):
        found[f"files of {name}"] = partial(files_case, name=name)
    for name in ("measure-bits", "measure-digits", "measure-sample", "measure-sweep"):
        found[f"columns of {name}"] = partial(measures_case, name=name)
    for name in ("study", "sample", "train", "sweep"):
        found[f"report of {name}"] = partial(report_case, name=name)
    for name in PLOTS:
        found[f"plots of {name}"] = partial(plot_case, name=name)
    for name in ("", *COMMANDS):
        found[f"help of {name or 'simprior'}"] = partial(help_case, name=name)
    for name in OLD:
        found[f"resumed {name}"] = partial(resume_case, name=name)
    for name, lines in command_lines().items():
        found[f"errors of {name}"] = partial(error_lines, lines=lines)
    for name, calls in python_calls().items():
        found[f"errors of calls of {name}"] = partial(call_errors, calls=calls)
    return found


def command_lines() -> dict[str, list[str]]:
    """Bad command lines of ``bad_commands.txt`` by command."""
    return _blocks("bad_commands.txt", lambda line: line.split()[0])


def python_calls() -> dict[str, list[str]]:
    """Bad calls of ``bad_calls.txt`` by function."""
    return _blocks("bad_calls.txt", lambda line: line.partition("(")[0])


def _blocks(file: str, key: Callable[[str], str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (HERE / file).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            found.setdefault(key(line), []).append(line)
    return found


# ---------------------------------------------------------------- comparison


TOLERANCES = {
    "columns of measure-bits": 1e-5,
    "columns of measure-digits": 1e-4,
    "columns of measure-sweep": 1e-5,
    "json of correlate": 1e-4,
    "stdout of measure-digits": 1e-4,
    "table of measure-bits as csv": 1e-5,
    "table of measure-bits as markdown": 1e-5,
    "table of measure-digits as csv": 1e-4,
    "table of measure-digits as markdown": 1e-4,
    "table of study/correlate-plain as csv": 1e-4,
    "table of study/correlate-plain as markdown": 1e-4,
    "files of correlate": 1e-4,
    "files of study": 1e-4,
    "report of study": 1e-4,
}
"""Wider tolerances: measures of weights that were trained in float32, whose last digits differ
between processors with and without AVX-512 (found: 1.6e-5 for volumes of digits, 4e-6 for a
coefficient near 0, 4e-7 otherwise)."""


def differences(found: Any, wanted: Any, where: str = "", rel: float = 1e-9) -> Iterator[str]:
    """Every difference, in words.

    Integers and texts are equal, floats within ``rel``, floats inside texts within 1e-6 or ``rel``.
    """
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in [*wanted, *(key for key in found if key not in wanted)]:
            if key not in found or key not in wanted:
                yield f"{where}/{key}: {'missing' if key not in found else 'new'}"
            else:
                yield from differences(found[key], wanted[key], f"{where}/{key}", rel)
    elif isinstance(wanted, list) and isinstance(found, list):
        if len(wanted) != len(found):
            yield f"{where}: {len(found)} entries in place of {len(wanted)}"
        for i, (a, b) in enumerate(zip(found, wanted, strict=False)):
            yield from differences(a, b, f"{where}[{i}]", rel)
    elif isinstance(wanted, float) and isinstance(found, float):
        if not _close(found, wanted, rel):
            yield f"{where}: {found!r} in place of {wanted!r}"
    elif isinstance(wanted, str) and isinstance(found, str):
        if not same_text(found, wanted, max(rel, 1e-6)):
            yield f"{where}:\n  found  {found}\n  wanted {wanted}"
    elif type(wanted) is not type(found) or wanted != found:
        yield f"{where}: {found!r} in place of {wanted!r}"


_NUMBER = re.compile(r"(0x[0-9a-f]+|(?<![\w.])-?\d+\.\d+(?:e[-+]?\d+)?|(?<![\w.])-?\d+e[-+]?\d+)")


def same_text(found: str, wanted: str, rel: float = 1e-6) -> bool:
    """Whether two texts are equal but for the last digits of the decimal numbers in them."""
    if found == wanted:
        return True
    a, b = _NUMBER.split(found), _NUMBER.split(wanted)
    if len(a) != len(b) or [s.split() for s in a[::2]] != [s.split() for s in b[::2]]:
        return False
    pairs = zip(a[1::2], b[1::2], strict=True)
    return all(x == y or ("0x" not in x + y and _close(float(x), float(y), rel)) for x, y in pairs)


def _close(a: float, b: float, rel: float) -> bool:
    return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=rel, abs_tol=1e-15)


def plain(value: Any) -> Any:
    """``value`` as JSON gives it back."""
    return json.loads(json.dumps(value))


def read() -> dict[str, Any]:
    """The committed values."""
    return dict(json.loads(VALUES.read_text(encoding="utf-8")))
