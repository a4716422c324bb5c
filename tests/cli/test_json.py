"""``--json`` of every command is one object of one shape (docs/json.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from simprior.cli import COMMANDS, main

NET = "--n 4 --hidden 6 --workers 1"
LINES = {
    "sample": f"sample {NET} --samples 500 --heads 1 --out sample",
    "train": f"train {NET} --target x1 --train 8 --lr 0.05 --batch-size 4 --max-epochs 300 --runs 4"
    " --out train",
    "posterior": f"posterior {NET} --target x1 --train 4 --samples 50",
    "import": "import functions.txt --n 3 --out imported",
    "logp": f"logp {NET} --functions x1,parity --draws 256 --method tilted,ep --out logp",
    "bound": "bound --data digits --classes 3,8 --train 16 --draws 256",
    "compare": "compare sample train --bootstrap 5 --splits 2 --out compare",
    "measure": "measure train --measures lz,entropy --workers 1",
    "correlate": "correlate rows.csv --y y --bootstrap 100 --permutations 99",
    "sensitivity": "sensitivity --n 6 --hidden 5 --networks 4 --gp-draws 50 --workers 1",
    "memorise": f"memorise {NET} --target x1 --train 8 --subsets 8 --removal 0 --exact 1",
    "rare": f"rare {NET} --methods exact,sampling,gld --samples 500",
    "sweep": "sweep grid.toml --workers 1 --out sweep",
    "study": "study recipe.toml --out study --dry-run",
    "evidence": "evidence --quick --out evidence --dry-run",
    "table of functions": "table sample --top 3",
    "table of a comparison": "table compare",
    "table of estimates": "table logp --format json",
    "plot": "plot sample --out figures",
    "report": "report sample",
    "info": "info sample",
}
FILES = {
    "functions.txt": "00001111 5\n01010101 2\n",
    "grid.toml": "n = 4\nhidden = [6]\ntarget = 'x1'\nruns = 1\ntrain = 6\nmax_epochs = 50\n"
    "[grid]\ndata_seed = [0, 1]\n[optimizers.adam]\nlr = [0.05]\n",
    "recipe.toml": "title = 't'\nseed = 1\n[sample]\nn = 4\nhidden = [6]\nsamples = 100\n",
}


def problems(value: Any) -> list[str]:
    """What in a printed value is not as the schema says; docs/json.md states it in words."""
    if not isinstance(value, dict):
        return ["not an object"]
    found = [f"no {key}" for key in ("table", "summary") if key not in value]
    if not isinstance(value.get("summary", {}), dict):
        found.append("summary is no object")
    for name, rows in value.items():
        if name == "summary":
            continue
        if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
            found.append(f"{name} is no list of rows")
            continue
        if len({tuple(row) for row in rows}) > 1:
            found.append(f"rows of {name} have different keys")
        found += [f"{name}: {key}" for row in rows for key in row if not _plain(row[key])]
    return found


def _plain(value: Any) -> bool:
    flat = str | int | float | bool | None
    return isinstance(value, flat) or (
        isinstance(value, list) and all(isinstance(entry, flat) for entry in value)
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("json")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.random((60, 3)), columns=["y", "u", "v"])
    frame.assign(cluster=np.arange(60) % 20).to_csv(folder / "rows.csv", index=False)
    return folder


def test_every_command_is_tried() -> None:
    assert {line.split()[0] for line in LINES.values()} == set(COMMANDS)


@pytest.mark.parametrize("name", LINES)
def test_json_of_a_command(
    name: str, world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    monkeypatch.chdir(world)
    for needed in ("sample", "train", "logp", "compare"):
        if needed in LINES[name].split()[1:] and not (world / needed).exists() and needed != name:
            assert main([*LINES[needed].split(), "--quiet"]) == 0
    capsys.readouterr()
    assert main([*LINES[name].split(), "--json", "--quiet"]) == 0
    value = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert problems(value) == [] and value["table"]
    if name in ("compare", "bound", "logp", "memorise", "rare", "table of a comparison"):
        assert value["summary"]["verdict"].endswith(".")


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"table": []},
        {"table": {}, "summary": {}},
        {"table": [1], "summary": {}},
        {"table": [{"a": 1}, {"b": 1}], "summary": {}},
        {"table": [{"a": {"b": 1}}], "summary": {}},
        {"table": [], "summary": [], "more": 1},
    ],
)
def test_other_shapes_are_noticed(value: Any) -> None:
    assert problems(value)
