"""simprior measure and correlate: what they print, write, plot, tabulate and refuse."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from simprior.cli import main
from simprior.cli.measure import spread, summary
from simprior.cli.options import markdown
from simprior.runs.directory import load_run

GRID = """
n = 4
hidden = [8]
target = "mux"
runs = 1
loss = "mse"
max_epochs = 3000
[grid]
train = [6, 11]
data_seed = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
[optimizers.adam]
lr = [0.02]
[optimizers.sgd]
lr = [0.1]
"""


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli-measure")
    (folder / "grid.toml").write_text(GRID)
    command = ["sweep", str(folder / "grid.toml"), "--out", str(folder / "sweep"), "--quiet"]
    assert main([*command, "--workers", "1"]) == 0
    measures = "prior,bound,norms,lz,sensitivity"
    command = ["measure", str(folder / "sweep"), "--measures", measures, "--draws", "300"]
    assert main([*command, "--out", str(folder / "m"), "--quiet", "--workers", "1"]) == 0
    return folder


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main([*arguments, "--quiet"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("simprior: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert main([*arguments, "--json", "--quiet"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_measure_writes_one_tidy_table(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.read_parquet(sweep / "m" / "measures.parquet")
    cells = pd.read_csv(sweep / "sweep" / "tables" / "sweep.csv")
    assert len(frame) == cells["fitted_share"].sum() >= 47
    assert set(frame["optimizer"]) == {"adam", "sgd"}
    assert frame[["log_p", "bound", "path_norm", "lz76", "average_sensitivity"]].notna().all().all()
    info = load_run(sweep / "m")
    assert info.command == "measure"
    assert info.status == "complete"
    assert not info.verify()
    assert main(["info", str(sweep / "m")]) == 0
    assert "measure" in capsys.readouterr().out


@pytest.mark.slow
def test_table_and_plot_of_measures(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["table", str(sweep / "m"), "--columns", "optimizer,log_p,test_error"]
    assert main([*command, "--top", "3", "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "optimizer,log_p,test_error"
    assert len(lines) == 4
    assert main(["plot", str(sweep / "m"), "--quiet"]) == 0
    files = capsys.readouterr().out.split()
    assert any(file.endswith("scatter-log_p.png") for file in files)
    assert all(Path(file).stat().st_size > 1000 for file in files)


def test_latex_of_measures_fits_a_page(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["table", str(sweep / "m"), "--format", "latex"]) == 0
    output = capsys.readouterr()
    head = next(line for line in output.out.splitlines() if line.startswith("optimiser"))
    names = re.sub(r"\\shortstack\{([^{}]*)\\\\([^{}]*)\}", r"\1 \2", head).split(" & ")
    names = [re.sub(r"\\multicolumn\{2\}\{c\}|[{}]", "", name).strip(" \\") for name in names]
    assert names[:4] == ["optimiser", "training examples", "data seed", "test error"]
    assert len(names) <= 8 and "stderr" not in output.out and r"\_" not in head
    caption = r"\caption{Measures of networks, or of functions; a row each. The first 20 of 47."
    assert caption in output.out and r"\label{tab:measures}" in output.out
    assert main(["table", str(sweep / "m"), "--format", "latex", "--width", "text", "--quiet"]) == 0
    assert re.search(r"& -\d+\.\d+ & \$\\pm \d+\.\d+\$", capsys.readouterr().out)
    assert "20 of 47 rows" in output.err and "choose with --columns" in output.err
    assert main(["table", str(sweep / "sweep"), "--format", "latex", "--quiet"]) == 0
    text = capsys.readouterr().out
    assert r"\caption{Runs of a grid; a row a cell." in text and re.search(
        r"test( |\\\\)error", text
    )


def test_the_summary_has_no_rounding_and_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.DataFrame({
        "test_error": [0.1, 0.2, 0.3], "entropy": [0.1 + 0.2, 0.3, 0.3],
        "hessian_trace": [1.0, 2.0, 4.0], "hessian_trace_stderr": [0.0, 0.0, 0.0],
        "log_p": [-3.0, -4.0, -5.0], "log_p_stderr": [0.1, 0.2, float("nan")],
    })  # fmt: skip
    table = summary(frame, ["entropy", "hessian_trace", "log_p"]).set_index("column")
    assert table.loc["entropy", "sd"] == 0 and table.loc["test_error", "sd"] > 0.09
    errors = table["typical_stderr"]
    assert errors[["test_error", "entropy", "hessian_trace"]].isna().all()  # exact: none
    assert errors["log_p"] == pytest.approx(0.15)
    text = markdown(list(table.columns), table.to_numpy(dtype=object).tolist())
    assert "nan" not in text and text.splitlines()[3].endswith(" - |")
    assert math.isnan(spread(np.array([1.0])))


@pytest.mark.slow
def test_correlate(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--by", "optimizer", "--controls", "train_size", "--bootstrap", "200"]
    options += ["--permutations", "99"]
    found = output(
        capsys, "correlate", str(sweep / "m"), *options, "--out", str(sweep / "c")
    )  # fmt: skip
    rows = {(r["optimizer"], r["measure"]): r for r in found["table"]}
    row = rows["adam", "log_p"]
    frame = pd.read_parquet(sweep / "m" / "measures.parquet")
    assert row["points"] == (frame["optimizer"] == "adam").sum()
    assert row["clusters"] == 12
    assert row["spearman_low"] <= row["spearman"] <= row["spearman_high"]
    assert -1 <= row["partial_spearman"] <= 1
    names = ("correlations", "granulated", "conditional-mi", "baselines")
    written = {
        f"{name}.{ending}" for name in names for ending in ("csv", "csv.json", "parquet", "tex")
    }
    files = list((sweep / "c" / "tables").iterdir())
    # one network a setting: no environment has ten pairs, and a table without rows is not written
    assert {path.name for path in files} == written | {"rows.parquet"}
    assert all(path.stat().st_size > 0 for path in files)
    assert found["environments"] == []
    assert sum("no sign errors" in note for note in found["summary"]["notes"]) == 2
    tex = (sweep / "c" / "tables" / "correlations.tex").read_text()
    assert r"\toprule" in tex
    assert "simprior correlate" in tex.splitlines()[0]
    assert main(["plot", str(sweep / "c"), "--quiet"]) == 0
    assert "forest-kendall.png" in capsys.readouterr().out
    assert main(["table", str(sweep / "c"), "--format", "latex"]) == 0
    assert r"\bottomrule" in capsys.readouterr().out
    again = ["correlate", str(sweep / "m"), *options, "--out", str(sweep / "c")]
    assert "--resume" in refused(capsys, *again)
    assert main([*again, "--resume", "--quiet"]) == 0
    assert main([*again, "--overwrite", "--quiet"]) == 0


def test_correlate_reads_a_plain_table(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.read_parquet(sweep / "m" / "measures.parquet")
    plain = frame[["optimizer", "cluster", "test_error", "log_p"]]
    plain = plain.rename(columns={"log_p": "mine"})
    plain.to_csv(tmp_path / "t.csv", index=False)
    command = ["correlate", str(tmp_path / "t.csv"), "--by", "optimizer", "--permutations", "0"]
    found = output(capsys, *command, "--bootstrap", "100")
    assert {row["measure"] for row in found["table"]} == {"mine"}


def test_sign_errors_of_a_table_with_many_networks_a_setting(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without data_seed a setting has twelve networks: 144 pairs of training set sizes, counted."""
    frame = pd.read_parquet(sweep / "m" / "measures.parquet")
    frame = frame[["optimizer", "train_size", "cluster", "test_error", "log_p"]]
    frame = frame.assign(minus=-frame["log_p"])  # one of the two is expected to fall
    frame.to_csv(tmp_path / "t.csv", index=False)
    command = ["correlate", str(tmp_path / "t.csv"), "--by", "optimizer", "--permutations", "0"]
    command += ["--bootstrap", "100", "--measures", "log_p,minus", "--out", str(tmp_path / "c")]
    output(capsys, *command)
    table = pd.read_csv(tmp_path / "c" / "tables" / "environments.csv", comment="#")
    assert len(table) == 4
    assert set(table["optimizer"]) == {"adam", "sgd"}
    assert (table.groupby("optimizer")["expected_sign"].sum() == 0).all()
    for _, row in table.iterrows():
        part = frame[frame["optimizer"] == row["optimizer"]]
        few, many = (part[part["train_size"] == size] for size in (6, 11))
        pairs = [(p, q) for p in few.itertuples() for q in many.itertuples()]
        orders = [
            row["expected_sign"]
            * _sign(getattr(p, row["measure"]) - getattr(q, row["measure"]))
            * _sign(p.test_error - q.test_error)
            for p, q in pairs
            if p.test_error != q.test_error
        ]
        assert len(orders) >= 10
        wrong = sum(1 - order for order in orders) / 2
        assert row["worst"] == pytest.approx(wrong / len(orders), abs=1e-12)
        assert row["environments"] == 1
        assert row["worst_at"] == "train_size: 6 / 11"


def _sign(difference: float) -> int:
    return (difference > 0) - (difference < 0)


def test_refusals(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    m = str(sweep / "m")
    assert "pass --by optimizer" in refused(capsys, "correlate", m)
    assert "did you mean test_error" in refused(
        capsys, "correlate", m, "--by", "optimizer", "--y", "test_eror"
    )
    assert "constant" in refused(
        capsys, "correlate", m, "--by", "optimizer", "--measures", "batch_size"
    )
    assert "expected a run directory or a table" in refused(capsys, "correlate", "nowhere")
    assert "measure it first" in refused(capsys, "correlate", str(sweep / "sweep"))
    (tmp_path / "t.txt").write_text("x")
    assert ".parquet or .csv" in refused(capsys, "correlate", str(tmp_path / "t.txt"))
    assert "did you mean sharpness" in refused(
        capsys, "measure", str(sweep / "sweep"), "--measures", "sharpnes"
    )
    assert "no PATH" in refused(capsys, "measure")
    assert "alphas" in refused(
        capsys, "measure", str(sweep / "sweep"), "--measures", "norms", "--alphas", "0"
    )
    again = ["measure", str(sweep / "sweep"), "--measures", "lz", "--out", m]
    assert "--resume" in refused(capsys, *again)
