"""simprior logp, posterior, bound, plot: what they print, write, resume and refuse."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simprior import gp
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.truthtable import bit_matrix
from simprior.cli import COMMANDS, main
from simprior.network.spec import Network
from simprior.runs.directory import load_run, read_table
from simprior.training.data import load_dataset

SMALL = ["--n", "4", "--workers", "1"]


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "--json", "--quiet"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main([*arguments, "--quiet"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("simprior: error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_logp_is_the_library_call(capsys: pytest.CaptureFixture[str]) -> None:
    found = output(
        capsys, "logp", *SMALL, "--hidden", "10", "--sigma-w", "1.5", "--functions",
        "x1,0x8000,parity", "--method", "tilted,ep", "--seed", "3", "--draws", "2048",
    )  # fmt: skip
    K = gp.nngp(Network(n=4, hidden=(10,), sigma_w=1.5), bit_matrix(4))
    exact = gp.log_prior(["x1", "0x8000", "parity"], K, seed=3, draws=2048)
    ep = gp.log_prior(["x1", "0x8000", "parity"], K, "ep")
    rows = found["table"]
    assert [r["name"] for r in rows] == ["x1", "x1", "0x8000", "0x8000", "parity", "parity"]
    assert [r["method"] for r in rows] == ["tilted", "ep"] * 3
    assert [r["logp"] for r in rows[::2]] == [e.value for e in exact]
    assert [r["stderr"] for r in rows[::2]] == [e.stderr for e in exact]
    assert [r["logp"] for r in rows[1::2]] == [e.value for e in ep]
    assert rows[1]["stderr"] is None
    assert rows[0]["log10"] == pytest.approx(rows[0]["logp"] / math.log(10))
    assert found["summary"]["unreliable"] == 0


def test_logp_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logp", *SMALL, "--functions", "x1,const0,parity", "--show", "2"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split("|")[1].strip() == "name"
    assert "... 1 rows more" in out
    assert "parity" not in out
    for column in ("logp", "stderr", "ess", "pareto_k", "seconds"):
        assert column in out.splitlines()[0]


@pytest.fixture(scope="module")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "sampled"
    arguments = ["--n", "3", "--hidden", "", "--samples", "1e5", "--out", str(path)]
    assert main(["sample", *arguments, "--quiet", "--workers", "1"]) == 0
    return path


def test_logp_from_a_run_joins_its_frequencies(
    sampled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    out = tmp_path / "gp"
    found = output(
        capsys, "logp", "--from", str(sampled), "--top", "30", "--draws", "4096", "--out", str(out),
        "--workers", "1",
    )  # fmt: skip
    counts = FunctionCounts.load(sampled, top=30)
    rows = found["table"]
    assert [r["count"] for r in rows] == counts.count.tolist()
    # a perceptron is a Gaussian process at any width: z-scores of 30 functions below 4.5
    z = [
        (r["p"] - math.exp(r["logp"])) / math.hypot(r["p_stderr"], r["stderr"] * r["p"])
        for r in rows
    ]
    assert np.abs(z).max() < 4.5
    table = read_table(out / "logp.parquet")
    assert table["rank"].tolist() == list(range(1, 31))
    run = load_run(out)
    assert run.status == "complete"
    assert run.verify() == []
    assert main(["plot", str(out)]) == 0
    files = capsys.readouterr().out.split()
    assert [Path(f).name for f in files] == [
        "sampled-gp.pdf", "sampled-gp.png", "sampled-gp-ratio.pdf", "sampled-gp-ratio.png",
    ]  # fmt: skip
    assert all(Path(f).stat().st_size > 2000 for f in files)


def test_larger_train_than_data_uses_all_with_one_warning(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = ["--data", "digits", "--classes", "3,8", "--train", "500"]
    warning = "train=500 is more than digits 3,8 has: using all 357 examples"
    assert main(["bound", *data, "--delta", "0.01", "--json"]) == 0
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert lines[0].startswith("simprior: digits: 1797 examples, 64 features, 10 classes: 0 (178)")
    assert lines[1] == (
        "simprior: digits 3,8: 357 training and 0 test inputs, "
        "0 test inputs are training inputs too"
    )
    assert lines[2:] == [f"simprior: {warning}"]
    summary = json.loads(captured.out)["summary"]
    assert (summary["train"], summary["test"]) == (357, 0)
    out = tmp_path / "run"
    assert main(["logp", *data, "--workers", "1", "--out", str(out), "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err.count(warning) == 1
    row = json.loads(captured.out)["table"][0]
    assert "357 labels" in row["name"]
    assert row["logp"] == summary["log_evidence"]
    assert load_run(out).config["train"] == 357


def test_logp_of_data(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    found = output(
        capsys, "logp", "--data", "digits", "--classes", "3,8", "--train", "40", "--corrupt", "0.2",
        "--seed", "2", "--out", str(out),
    )  # fmt: skip
    data = load_dataset("digits", classes="3,8", train=40, corrupt=0.2, seed=2)
    K = gp.nngp(Network(inputs=data.X_train), data.X_train)
    assert found["table"][0]["logp"] == gp.log_prior(data.y_train, K, n=0, seed=2)[0].value
    # the configuration of a run is a valid --config
    again = output(capsys, "logp", "--config", str(out / "config.toml"))
    assert again["table"][0]["logp"] == found["table"][0]["logp"]


def test_logp_resumes_shards_and_refuses_other_functions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from simprior.gp import orthant as table

    monkeypatch.setattr(table, "_BATCH_WORK", 2 * 16**2)  # two functions a batch
    names = "x1,x2,x3,parity,majority,and"
    command = ["logp", *SMALL, "--functions", names, "--out", str(tmp_path / "run")]
    done = []
    compute = table.compute

    def failing(request: Any, batch: slice) -> Any:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(batch.start)
        return compute(request, batch)

    monkeypatch.setattr(table, "compute", failing)
    assert main([*command, "--quiet"]) == 130
    assert "--resume" in capsys.readouterr().err
    assert len(load_run(tmp_path / "run").shards) == 2

    def counting(request: Any, batch: slice) -> Any:
        done.append(batch.start)
        return compute(request, batch)

    monkeypatch.setattr(table, "compute", counting)
    other = [a.replace("x2,", "x4,") for a in command]
    assert "functions" in refused(capsys, *other, "--resume")
    resumed = output(capsys, *command, "--resume")
    assert done == [0, 2, 4]
    monkeypatch.setattr(table, "compute", compute)
    whole = output(capsys, *command[:-2])
    drop = {"seconds"}
    for a, b in zip(resumed["table"], whole["table"], strict=True):
        assert {k: v for k, v in a.items() if k not in drop} == {
            k: v for k, v in b.items() if k not in drop
        }
    assert "not empty" in refused(capsys, *command)


def test_logp_does_not_depend_on_workers(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["logp", "--n", "3", "--functions", "x1,parity,majority"]
    one = output(capsys, *command, "--workers", "1")
    two = output(capsys, *command, "--workers", "2")
    assert [r["logp"] for r in one["table"]] == [r["logp"] for r in two["table"]]


def test_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "study.toml"
    recipe.write_text(
        '[logp]\nkind = "ep"\nn = 3\ndepth = [1, 2]\nencoding = ["01", "pm1"]\nsigma_w = 1\n'
        'flips = 1\nprior_draws = 3\ntol = 0.02\nfunctions = ["const0", "x1"]\n'
    )
    out = tmp_path / "run"
    output(capsys, "study", str(recipe), "--out", str(out), "--workers", "1")
    rows = load_run(out / "logp").read_table("logp.parquet")
    rows = [dict(zip(rows, row, strict=True)) for row in zip(*rows.values(), strict=True)]
    assert {(r["encoding"], r["depth"]) for r in rows} == {
        ("01", 1), ("01", 2), ("pm1", 1), ("pm1", 2),
    }  # fmt: skip
    for row in rows:
        assert row["difference"] == pytest.approx(row["ep"] - row["exact"])
        assert row["reliable"] and 0 <= row["exact_stderr"] <= 0.02
    x1 = next(r for r in rows if r["name"] == "x1")
    K = gp.nngp(Network(n=3, hidden=(1,)), bit_matrix(3))
    assert x1["ep"] == gp.log_prior("x1", K, "ep")[0].value
    assert main(["plot", str(out / "logp")]) == 0
    names = [Path(f).name for f in capsys.readouterr().out.split()]
    assert names == ["ep-complexity.pdf", "ep-complexity.png", "ep-settings.pdf", "ep-settings.png"]


def test_posterior_writes_counts_and_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "pb"
    command = ["posterior", *SMALL, "--target", "x1", "--train", "8", "--samples", "2e4"]
    found = output(capsys, *command, "--out", str(out))
    summary = found["summary"]
    assert summary["violating"] == 0
    assert summary["samples"] == 20_000
    counts = FunctionCounts.load(out)
    report = json.loads((out / "posterior.json").read_text())
    index = report["train_index"]
    assert len(index) == 8
    tables = counts.tables()
    assert (tables[:, index] == (np.arange(16) >= 8)[index]).all()
    row = counts.find("x1")[0]
    assert summary["target_p"] == counts.p[row] > 0.05
    assert load_run(out).verify() == []
    assert "not empty" in refused(capsys, *command, "--out", str(out))
    again = output(capsys, *command, "--out", str(out), "--resume")
    assert again["summary"]["target_p"] == summary["target_p"]
    other = [*command[:-1], "1e4", "--out", str(out), "--resume"]
    assert "samples" in refused(capsys, *other)
    ep = output(capsys, *command, "--method", "ep")
    assert ep["summary"]["violating"] > 0.02
    assert main(["table", str(out), "--top", "3"]) == 0


def test_bound_of_data(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bound", "--data", "digits", "--classes", "3,8", "--train", "60"]
    found = output(capsys, *command, "--delta", "0.02", "--gamma", "0.1")
    gibbs, single = found["table"]
    value = found["summary"]["log_evidence"]
    assert gibbs["exponent"] == pytest.approx((-value + math.log(120 / 0.02)) / 59)
    assert single["exponent"] == pytest.approx((-value + math.log(60 / 0.02 / 0.1)) / 59)
    assert gibbs["low"] < gibbs["error_below"] < gibbs["high"]
    noisy = output(capsys, *command, "--corrupt", "1.0")
    assert noisy["table"][0]["error_below"] > gibbs["error_below"] + 0.1
    assert noisy["summary"]["corrupt"] == 1.0
    assert main([*command, "--quiet"]) == 0
    assert "log_evidence_stderr" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["logp"], "one of --functions, --from, --data"),
        (["logp", "--functions", "x1", "--data", "digits"], "functions and data"),
        (["logp", "--functions", "x1", "--method", "tilt"], "method='tilt'"),
        (["logp", "--functions", "x1", "--method", "ep,ep"], "each method once"),
        (["logp", "--functions", "x9"], "function 'x9'"),
        (["logp", "--functions", "0101"], "128 characters"),
        (["logp", "--functions", "x1", "--tol", "-1"], "tol=-1"),
        (["logp", "--functions", "x1", "--classes", "3,8"], "classes=3,8"),
        (["logp", "--functions", "x1", "--device", "cuda"], "device='cuda'"),
        (["logp", "--from", "/nowhere"], "/nowhere"),
        (["logp", "--data", "mnist"], "data='mnist'"),
        (["logp", "--data", "digits", "--classes", "3,x"], "classes='3,x'"),
        (["logp", "--data", "digits", "--train", "0"], "train=0"),
        (["bound", "--data", "digits", "--train", "-3"], "train=-3"),
        (["logp", "--study", "/nowhere.toml"], "use simprior study RECIPE"),
        (["posterior"], "no target"),
        (["posterior", "--target", "x1", "--train", "128"], "train=128"),
        (["posterior", "--target", "x1", "--method", "mcmc"], "method='mcmc'"),
        (["posterior", "--target", "x1", "--hidden", "", "--train", "0"], "train=0"),
        (["bound"], "no data"),
        (["bound", "--data", "digits", "--train", "50", "--delta", "2"], "delta=2"),
        (["bound", "--data", "digits", "--train", "50", "--method", "x"], "method='x'"),
        (["bound", "--data", "digits", "--corrupt", "-0.5"], "corrupt=-0.5"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(capsys, *arguments)


def test_study_file_with_an_unknown_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, out = tmp_path / "study.toml", str(tmp_path / "o")
    recipe.write_text('[logp]\nkind = "ep"\nwidth = 40\n')
    assert "'width'" in refused(capsys, "study", str(recipe), "--out", out)
    recipe.write_text('[logp]\nkind = "ep"\ndepth = ["deep"]\n')
    assert "depth=" in refused(capsys, "study", str(recipe), "--out", out)
    recipe.write_text('functions = ["x1"]\nprior_draws = 3\n')  # as logp --study read them
    error = refused(capsys, "study", str(recipe), "--out", out)
    assert 'put its settings below [logp], with kind = "ep"' in error


def test_plot_of_ln_p_alone_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "run")
    assert main(["logp", *SMALL, "--functions", "x1", "--out", out, "--quiet"]) == 0
    capsys.readouterr()
    assert main(["plot", out]) == 2
    assert "--from" in capsys.readouterr().err
    shutil.rmtree(out)


@pytest.mark.parametrize("command", ["logp", "posterior", "bound"])
def test_help_is_quick_and_listed(command: str) -> None:
    assert command in COMMANDS
    code = (
        f"from simprior.cli import main; assert main(['{command}', '--help']) == 0\n"
        "import sys; heavy = {'numpy', 'scipy', 'torch', 'pandas', 'numba', 'sklearn'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--sigma-w" in done.stdout


@pytest.mark.parametrize(
    "method", ["rejection", "slice", pytest.param("hmc", marks=pytest.mark.slow)]
)
def test_posterior_at_finite_width(method: str, tmp_path: Path, capsys: Any) -> None:
    words = ["posterior", "--n", "3", "--hidden", "8", "--target", "x1", "--train", "4"]
    words += ["--method", method, "--samples", "400", "--seed", "1", "--quiet", "--json"]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    summary = json.loads(capsys.readouterr().out)["summary"]
    assert summary["method"] == method
    assert summary["target_p"] > 0.1
    if method != "hmc":
        assert summary["violating"] == 0
    assert main([*words, "--out", str(tmp_path / "run"), "--resume"]) == 0
    assert json.loads(capsys.readouterr().out)["summary"]["target_p"] == summary["target_p"]


def test_options_of_the_method_are_checked(capsys: Any) -> None:
    assert main(["posterior", "--n", "3", "--target", "x1", "--train", "4", "--method", "hmc",
                 "--beta", "-1"]) == 2  # fmt: skip
    assert "beta=-1" in capsys.readouterr().err
