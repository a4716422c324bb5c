"""Bad command lines, generated: valid ones of every command with some of their values replaced.

``world`` makes the runs and files that the commands read; ``command_lines`` the argument lists,
the same for the same seed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from simprior.cli import COMMANDS, load, main
from simprior.cli.parse import options

FAST = ["--n", "3", "--hidden", "4", "--workers", "1"]
QUICK = ("sample", "import", "logp", "train", "sweep", "posterior", "compare", "table", "info")
"""Commands whose valid lines take tenths of a second."""
LINES: dict[str, list[list[str]]] = {
    "sample": [
        [*FAST, "--samples", "500", "--heads", "1"],
        [*FAST, "--samples", "500", "--watch", "x1,parity"],
        ["--model", "dnf", "--n", "3", "--samples", "200", "--workers", "1"],
        [*FAST, "--samples", "500", "--pool", "--out", "new"],
        ["--inputs", "x.csv", "--hidden", "4", "--n", "2", "--samples", "300", "--workers", "1"],
    ],
    "import": [["functions.txt", "--n", "3", "--out", "new"]],
    "logp": [
        [*FAST, "--functions", "x1,0x0f", "--draws", "64"],
        ["--from", "run", "--top", "3", "--draws", "64", "--workers", "1"],
    ],
    "train": [
        [*FAST, "--target", "x1", "--train", "4", "--runs", "4", "--lr", "0.05",
         "--max-epochs", "200"],
        [*FAST, "--target", "x1", "--train", "4", "--runs", "4", "--max-epochs", "20",
         "--record", "0,4", "--record-logp", "--record-runs", "2"],
        ["--data", "table.csv", "--label", "class", "--train", "8", "--test", "4", "--hidden", "4",
         "--runs", "3", "--max-epochs", "20", "--workers", "1"],
    ],
    "sweep": [["grid.toml", "--out", "new", "--workers", "1"]],
    "posterior": [
        [*FAST, "--target", "x1", "--train", "4", "--samples", "50", "--method", method, *more]
        for method, more in (
            ("gp", ()), ("ep", ()), ("rejection", ("--max-draws", "5000")),
            ("slice", ("--chains", "2", "--burn-in", "5")),
            ("smc", ("--particles", "8", "--runs", "4")),
        )
    ],
    "bound": [
        ["--data", "breast-cancer", "--train", "8", "--draws", "64"],
        [*FAST, "--target", "x1", "--train", "4", "--width", "finite", "--particles", "8",
         "--runs", "4"],
    ],
    "compare": [["run", "run2", "--bootstrap", "5", "--splits", "2"], ["run", "run"]],
    "measure": [["trained", "--measures", "lz,entropy", "--networks", "3", "--workers", "1"],
                ["run", "--measures", "lz", "--networks", "5", "--workers", "1"]],
    "correlate": [["table.parquet", "--y", "y", "--bootstrap", "100", "--permutations", "5"]],
    "rare": [
        [*FAST, "--samples", "200", "--particles", "10", "--runs", "2", "--moves", "2"],
        ["trained", "--law", "gaussian", "--methods", "sampling,gld", "--samples", "200",
         "--workers", "1"],
    ],
    "sensitivity": [["--n", "6,8", "--hidden", "5", "--networks", "4", "--gp-draws", "50",
                     "--workers", "1"]],
    "memorise": [[*FAST, "--target", "x1", "--train", "4", "--subsets", "6", "--removal", "0.3",
                  "--removal-members", "2", "--exact", "1", "--max-epochs", "20"]],
    "study": [["recipe.toml", "--out", "new", "--dry-run", "--workers", "1"]],
    "evidence": [["--out", "new", "--dry-run", "--quick", "--workers", "1"]],
    "report": [["run"]],
    "table": [["run", "--top", "3"], ["trained", "--format", "latex"]],
    "plot": [["run", "--out", "figures"]],
    "info": [["run"]],
}  # fmt: skip
"""Valid command lines that take a moment."""

WORK = {
    "samples", "runs", "networks", "strings", "paths", "max_epochs", "max_draws", "budget",
    "burn_in", "thin", "pretrain", "gp_draws", "bootstrap", "permutations", "splits", "draws",
    "chains", "subsets", "members", "removal_members", "candidates", "beam", "record_runs",
}  # fmt: skip
"""Amounts of work: a large value is honest work, of hours, that this test does not wait for."""

VALUES = [
    "", " ", "0", "-1", "1", "2", "0.5", "1e3.5", "1e400", "1e-400", "nan", "-inf", "inf", "none",
    "None", "true", "[]", "{}", "[1,2", "[[1,2],[3]]", "a,b,,c", ",", "1,2,3", "0x", "0xzz",
    "x1,x1",
    "é漢字🙂", "x" * 5000, "9" * 5000, "-" + "9" * 5000, "1e5000", "0." + "9" * 5000, "1/0", "1/3",
    "run", "empty", "folder", "missing/file.npy", "binary.bin", "empty.csv", "text.toml",
    "unreadable.csv", "@missing", "@binary.bin", "@folder", "@empty.csv", "-x", "--", "--json", "=",
    "a=b=c", "a=", "key=1", "bad\nline", "%s{}%(x)s{0}", "$HOME", "~/none", "/dev/null", "..",
    "x.csv:0", "parity", "const0", "tilted", "rejection", "relu", "os:getcwd", "os:", ":x", ".:.",
    "broken_syntax:f", "broken_import:f", "broken_exit:f", "broken_call:f", "broken_shape:f",
    "18446744073709551616", "1_000", "１２",
]  # fmt: skip
CONFIGS = [
    "text.toml", "huge.toml", "list.toml", "date.toml", "binary.bin", "grid.toml",
    "run/config.toml",
]  # fmt: skip
HUGE = ["1e12", "1e15", "999999999999999999", "1e18"]

BROKEN = {
    "broken_syntax.py": "def f(:\n",
    "broken_import.py": "raise RuntimeError('two\\nlines')\n",
    "broken_exit.py": "import sys\nsys.exit(0)\n",
    "broken_call.py": "def f(x):\n    raise KeyError('no')\n",
    "broken_shape.py": "def f(x):\n    return x[..., :1]\n",
}


def world(folder: Path) -> None:
    """Runs and files, good and bad, in the working directory ``folder``."""
    for name, seed in (("run", "0"), ("run2", "1")):
        _make("sample", [*LINES["sample"][0], "--seed", seed, "--out", name])
    _make("train", [*LINES["train"][0], "--out", "trained"])
    rng = np.random.default_rng(0)
    rows = ["a,b,class", *(f"{a:.3f},{b:.3f},{int(a > b)}" for a, b in rng.random((20, 2)))]
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    (folder / "x.csv").write_text("0,1\n1,0\n1,1\n")
    (folder / "functions.txt").write_text("00001111 5\n01010101 2\n")
    (folder / "grid.toml").write_text(
        'n = 3\nhidden = [4]\ntarget = "x1"\ntrain = 4\nruns = 3\nmax_epochs = 20\n'
        "[grid]\nlr = [0.01, 0.1]\n"
    )
    (folder / "recipe.toml").write_text(
        'title = "Tiny"\n[train]\nn = 3\nhidden = [4]\ntrain = 4\nruns = 2\n[train.grid]\n'
        'target = ["x1"]\ndata_seed = [1]\n[train.optimizers.adam]\nlr = [0.05]\n'
        '[measure]\nmeasures = "lz"\n'
    )
    import pandas as pd

    frame = pd.DataFrame(rng.random((60, 3)), columns=["y", "u", "v"])
    frame.assign(cluster=np.arange(60) % 20).to_parquet(folder / "table.parquet")
    (folder / "empty").mkdir()
    (folder / "folder").mkdir()
    (folder / "folder" / "mine.txt").write_text("mine")
    (folder / "binary.bin").write_bytes(bytes(range(256)) * 4)
    (folder / "empty.csv").write_bytes(b"")
    (folder / "text.toml").write_text("n = = 3\n")
    (folder / "huge.toml").write_text(f"seed = {'9' * 5000}\n")
    (folder / "list.toml").write_text("n = [3, [4]]\nactivation = {a = 1}\n")
    (folder / "date.toml").write_text("seed = 2020-01-01\nsamples = 1e400\n")
    (folder / "unreadable.csv").write_text("1,2\n")
    (folder / "unreadable.csv").chmod(0)
    for name, text in BROKEN.items():
        (folder / name).write_text(text)


def _make(command: str, arguments: list[str]) -> None:
    status = main([command, *arguments, "--quiet"])
    assert status == 0, (command, arguments)


def command_lines(
    seed: int, number: int, commands: Sequence[str] = tuple(LINES)
) -> Iterator[list[str]]:
    """``number`` command lines, most of them bad."""
    choose = random.Random(seed)
    for _ in range(number):
        command = choose.choice(list(commands))
        line = list(choose.choice(LINES[command]))
        for _ in range(choose.choice((1, 1, 1, 2, 3))):
            _spoil(choose, command, line)
        yield [command, *line, "--quiet"]


def _spoil(choose: random.Random, command: str, line: list[str]) -> None:
    """Change one thing of a command line in place."""
    known = [o for o in options(load(command).SPEC).values() if not o.positional]
    kind = choose.random()
    if kind < 0.75:
        option = choose.choice([o for o in known if not o.switch])
        pool = VALUES if option.name in WORK else VALUES + HUGE
        line += [f"{option.flag}={choose.choice(pool)}"]
    elif kind < 0.85 and line:  # an argument, or a value, replaced by another
        line[choose.randrange(len(line))] = choose.choice(VALUES)
    elif kind < 0.9 and line:
        line.pop()
    elif kind < 0.94:
        line += [choose.choice([o.flag for o in known if o.switch])]
    elif kind < 0.97:
        line += ["--config", choose.choice(CONFIGS)]
    else:
        line.insert(choose.randrange(len(line) + 1), choose.choice(VALUES))


assert set(LINES) == set(COMMANDS)
