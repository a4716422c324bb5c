"""Recipes and the running of studies: what runs, what is left alone, what is resumed."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from simprior.analysis.figures.marks import group_column
from simprior.analysis.study import run as study_run
from simprior.analysis.study.recipe import parse_recipe, read_recipe, select, stage_frame
from simprior.analysis.study.run import plan, run_study
from simprior.analysis.table_runs import for_paper
from simprior.cli import main
from simprior.errors import InputError, StoreError
from simprior.runs.directory import load_run
from simprior.runs.manifest import read_manifest, save_manifest
from simprior.runs.tasks import Interrupted
from simprior.training.sweep import CELLS

RECIPE = """
title = "Tiny"
question = "Does it run?"
seed = 3
[train]
n = 4
hidden = [8]
target = "x1"
train = 8
runs = 6
lr = 0.05
[train.grid]
data_seed = [1, 2]
[sample]
n = 3
hidden = [8]
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
columns = ["run", "target_log_p", "target_log_p_stderr", "test_error"]
caption = "Targets & errors, 100 %"
"""
STAGES = ["sample", "train", "targets", "figures", "tables", "report"]


def recipe(text: str = RECIPE, **changes: Any) -> Any:
    values = tomllib.loads(text)
    for key, value in changes.items():
        section, _, name = key.partition("__")
        if name:
            values[section] = {**values[section], name: value}
        else:
            values[section] = value
    return parse_recipe(values, text)


def actions(steps: list[Any]) -> dict[str, str]:
    return {step.stage: step.action for step in steps}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "o"
    run_study(recipe(), out)
    return out


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(finished, tmp_path / "copy"))


def test_a_study_leaves_run_directories_figures_tables_and_a_report(finished: Path) -> None:
    run = load_run(finished)
    assert run.command == "study" and run.status == "complete" and run.verify() == []
    expected = {"figures/prior.pdf", "figures/prior.png", "tables/targets.tex",
                "tables/targets.csv", "tables/targets.parquet", "report.html"}  # fmt: skip
    assert expected <= set(run.files)
    for stage in ("sample", "train", "targets"):
        assert load_run(finished / stage).status == "complete"
    assert sorted(p.name for p in (finished / "train" / CELLS).iterdir()) == ["000-1", "001-2"]
    beside = json.loads((finished / "tables" / "targets.csv.json").read_text())
    assert beside["command"].startswith("simprior study") and "tables/targets.csv.json" in run.files
    assert list(run.results["stages"]) == STAGES


def test_nothing_changed_nothing_runs(copy: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in copy.rglob("*.parquet")}
    assert set(actions(plan(recipe(), copy)).values()) == {"skip"}
    assert set(actions(run_study(recipe(), copy, resume=True)).values()) == {"skip"}
    assert {p: p.stat().st_mtime_ns for p in copy.rglob("*.parquet")} == before


def test_an_edited_figure_draws_again_and_trains_nothing(copy: Path) -> None:
    figure = [{"kind": "sweep", "name": "prior", "from": "sample", "x": "sigma_w",
               "y": ["lz76", "entropy"]}]  # fmt: skip
    edited = recipe(figure=figure)
    planned = actions(plan(edited, copy))
    assert planned == {**dict.fromkeys(STAGES, "skip"), "figures": "run", "report": "run if needed"}
    done = actions(run_study(edited, copy, resume=True))
    assert done == {**dict.fromkeys(STAGES, "skip"), "figures": "run", "report": "run"}


def test_an_edited_grid_trains_only_the_new_cells(copy: Path) -> None:
    stamp = load_run(copy / "train" / CELLS / "000-1").manifest["finished"]
    inode = (copy / "train" / CELLS / "000-1" / "runs.parquet").stat().st_mtime_ns
    edited = recipe(train__grid={"data_seed": [1, 5]})
    done = actions(run_study(edited, copy, resume=True))
    assert done["train"] == done["targets"] == done["tables"] == "run" and done["sample"] == "skip"
    cells = sorted(p.name for p in (copy / "train" / CELLS).iterdir())
    assert cells == ["000-1", "001-5"]  # the old one is gone
    assert load_run(copy / "train" / CELLS / "000-1").manifest["finished"] == stamp
    assert (copy / "train" / CELLS / "000-1" / "runs.parquet").stat().st_mtime_ns == inode
    assert len(pd.read_parquet(copy / "targets" / "tables" / "targets.parquet")) == 2


def test_cells_are_kept_wherever_they_stand_in_an_edited_grid(copy: Path) -> None:
    """A new first value, and a second setting: the old cells only get other names."""
    cells = copy / "train" / CELLS
    stamps = [load_run(p).manifest["finished"] for p in sorted(cells.iterdir())]
    run_study(recipe(train__grid={"data_seed": [7, 2, 1]}), copy, resume=True)
    assert sorted(p.name for p in cells.iterdir()) == ["000-7", "001-2", "002-1"]
    assert load_run(cells / "002-1").manifest["finished"] == stamps[0]
    assert load_run(cells / "001-2").manifest["finished"] == stamps[1]
    run_study(recipe(train__grid={"data_seed": [1, 2, 7]}), copy, resume=True)
    assert load_run(cells / "000-1").manifest["finished"] == stamps[0]


def test_an_edit_that_was_interrupted_leaves_no_old_results(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C before a stage has written anything: neither old numbers nor a dead end afterwards."""
    file = copy / "targets" / "tables" / "targets.parquet"
    before = pd.read_parquet(file)["target_log_p"].tolist()
    edited = recipe(targets__draws=400)

    def stopped(*_: Any) -> list[str]:
        raise Interrupted("stopped")

    with monkeypatch.context() as patch:
        patch.setitem(study_run.RUNNERS, "targets", stopped)
        with pytest.raises(Interrupted):
            run_study(edited, copy, resume=True)
    done = actions(run_study(edited, copy, resume=True))
    assert done["train"] == "skip" and done["targets"] in ("run", "resume")
    assert load_run(copy / "targets").config["draws"] == 400
    assert pd.read_parquet(file)["target_log_p"].tolist() != before
    assert done["tables"] == done["report"] == "run"


def test_only_without_its_inputs_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not complete"):
        run_study(recipe(), tmp_path / "new", only="targets")
    assert not (tmp_path / "new").exists()


def test_cells_that_stepped_aside_take_their_places_again(copy: Path) -> None:
    """As after a crash between the two renamings."""
    cells = copy / "train" / CELLS
    (cells / "000-1").rename(cells / "kept-000-1")
    manifest = read_manifest(copy)
    manifest["results"]["stages"]["train"]["status"] = "running"
    save_manifest(copy, manifest)
    run_study(recipe(), copy, resume=True)
    assert sorted(p.name for p in cells.iterdir()) == ["000-1", "001-2"]


DATA_RECIPE = """
[train]
n = 2
hidden = [30]
train = 10
test = 8
runs = 2
lr = 0.05
data = "DATA"
label = "class"
max_epochs = 2000
[train.grid]
data_seed = [1]
"""


def test_a_changed_data_file_is_trained_on_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    file = tmp_path / "d.csv"

    def write(shift: float) -> None:
        values = rng.random(40) + shift
        pd.DataFrame({"u": values, "v": rng.random(40), "class": [0, 1] * 20}).to_csv(file)

    write(0.0)
    text = DATA_RECIPE.replace("DATA", str(file))
    run_study(recipe(text), tmp_path / "o", only="train")
    assert actions(plan(recipe(text), tmp_path / "o"))["train"] == "skip"
    runs = tmp_path / "o" / "train" / CELLS / "000-" / "runs.parquet"
    first = runs.stat().st_mtime_ns
    write(1.0)
    assert actions(plan(recipe(text), tmp_path / "o"))["train"] == "run"
    run_study(recipe(text), tmp_path / "o", only="train", resume=True)
    assert runs.stat().st_mtime_ns != first


def test_a_measure_stage_reads_all_that_it_names(copy: Path) -> None:
    text = RECIPE.replace(
        "[train]", "[measure]\nmeasures = 'lz'\nfrom = ['train', 'sample']\n[train]"
    )
    with pytest.raises(InputError, match="one kind"):  # not: only the first, silently
        run_study(recipe(text), copy, resume=True)
    with pytest.raises(InputError, match="targets"):
        recipe(text.replace("draws = 200", "draws = 200\nfrom = ['train', 'sample']"))


def test_table_of_a_study_as_latex(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the recipe has chosen the columns of a table of coefficients."""
    file = copy / "tables" / "targets.parquet"
    frame = pd.DataFrame({"measure": ["log_p"], "kendall": [0.5], "kendall_low": [0.1],
                          "kendall_high": [0.8]})  # fmt: skip
    assert for_paper(frame).columns.tolist() == frame.columns.tolist()
    assert file.is_file() and main(["table", str(copy), "--format", "latex", "--quiet"]) == 0
    assert "\\toprule" in capsys.readouterr().out


def test_an_altered_file_is_made_again(copy: Path) -> None:
    file = copy / "targets" / "tables" / "targets.parquet"
    good = pd.read_parquet(file)
    file.write_bytes(b"x" + file.read_bytes())
    (copy / "figures" / "prior.png").unlink()
    planned = actions(plan(recipe(), copy))
    assert planned["targets"] == planned["figures"] == "run" and planned["train"] == "skip"
    run_study(recipe(), copy, resume=True)
    assert pd.read_parquet(file).equals(good) and (copy / "figures" / "prior.png").exists()
    assert load_run(copy).verify() == []


def test_an_interrupted_study_goes_on(
    tmp_path: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from simprior.training import sweep as sweep_run

    out, real, calls = tmp_path / "o", sweep_run.train, []

    def stops(*arguments: Any, **keywords: Any) -> Any:
        calls.append(keywords["out"])
        if len(calls) == 2:
            raise Interrupted("stopped")
        return real(*arguments, **keywords)

    monkeypatch.setattr(sweep_run, "train", stops)
    with pytest.raises(Interrupted):
        run_study(recipe(), out)
    assert load_run(out).status == "interrupted"
    planned = actions(plan(recipe(), out))
    assert planned["sample"] == "skip" and planned["train"] == "resume"
    kept = (out / "train" / CELLS / "000-1" / "runs.parquet").stat().st_mtime_ns
    done = actions(run_study(recipe(), out, resume=True))
    assert done["sample"] == "skip" and done["train"] == "resume" and done["report"] == "run"
    assert (out / "train" / CELLS / "000-1" / "runs.parquet").stat().st_mtime_ns == kept
    for name in ("tables/targets.csv", "figures/prior.png"):  # as if never interrupted
        mine, theirs = (out / name).read_bytes(), (finished / name).read_bytes()
        if name.endswith("csv"):
            assert mine == theirs


def test_stages_and_only(tmp_path: Path, copy: Path) -> None:
    out = tmp_path / "part"
    done = actions(run_study(recipe(), out, stages=["targets"]))
    assert done == {"train": "run", "targets": "run"}
    assert load_run(out).status == "interrupted" and not (out / "sample").exists()
    with pytest.raises(StoreError, match="sample"):
        run_study(recipe(), out, only="figures", resume=True)
    assert actions(run_study(recipe(), copy, only="tables", resume=True)) == {"tables": "skip"}
    with pytest.raises(InputError, match="did you mean"):
        plan(recipe(), copy, stages=["tagets"])
    with pytest.raises(InputError, match="one of the two"):
        plan(recipe(), copy, stages=["train"], only="train")


def test_overwrite_does_everything_again(copy: Path) -> None:
    file = copy / "train" / CELLS / "000-1" / "runs.parquet"
    before, content = file.stat().st_mtime_ns, file.read_bytes()
    done = actions(run_study(recipe(), copy, overwrite=True))
    assert set(done.values()) == {"run"} and list(done) == STAGES
    assert file.stat().st_mtime_ns != before and file.read_bytes() == content


def test_an_occupied_directory_is_refused(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="--resume"):
        run_study(recipe(), copy)
    with pytest.raises(StoreError, match="simprior train"):
        run_study(recipe(), copy / "train" / CELLS / "000-1", resume=True)


def test_commands_of_the_plan_parse(finished: Path) -> None:
    import shlex

    from simprior.cli import load
    from simprior.cli.parse import parse

    for step in plan(recipe(), finished):
        words = shlex.split(step.command)
        assert words[0] == "simprior"
        parse(words[1], load(words[1]).SPEC, words[2:])
        assert step.command.startswith("simprior report") or main([*words[1:], "--quiet"]) == 0


GOOD = "[train]\ntarget = 'x1'\nn = 4\ntrain = 8\n[measure]\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("title = 3\n[train]\nn = 4\n", "title=3"),
        ("", "without a source"),
        ("sead = 1\n[train]\n", "did you mean seed"),
        ("seed = -1\n[train]\n", "seed=-1"),
        ("train = 5\n", "[train]"),
        ("[train]\nlearning_rate = 1\n", "learning-rate"),
        ("[train]\nhidden = ['a']\n", "hidden=a"),
        ("[train]\nlr = [1]\n", "lr=1"),
        ("[train]\nn = 4\n[train.grid]\nlr = []\n", "lr = []"),
        ("[sample]\nruns = 4\n", "setting runs"),
        ("[train]\n[figure]\nkind = 'sweep'\n", "double the brackets"),
        ("[train]\n[[figure]]\nkind = 'swoop'\n", "did you mean sweep"),
        ("[train]\n[[figure]]\nkind = 'sweep'\n", "add x"),
        ("[train]\n[[figure]]\nkind = 'bound'\ncolour = 1\n", "colour"),
        ("[train]\n[[figure]]\nkind = 'bound'\nfrom = 'trian'\n", "did you mean train"),
        ("[train]\n[[figure]]\nkind = 'bound'\nname = '../x'\n", "rename"),
        ("[train]\n[[table]]\nname = 'a'\n[[table]]\nname = 'a'\n", "different name"),
        ("[train]\n[[table]]\ncolumn = 'a'\n", "did you mean columns"),
        ("[train]\ntarget = 'x1'\n[targets]\ndraw = 3\n", "did you mean draws"),
        (GOOD + "measures = 'prior,lzz'\n", "did you mean lz"),
        (GOOD + "held_out = 'half'\n", "held_out='half'"),
        (GOOD + "networks = 0\n", "networks=0"),
        (GOOD + "alphas = [0]\n", "alphas=[0]"),
        (GOOD + "[correlate]\ny = 'test_eror'\n", "did you mean test_error"),
        (GOOD + "[correlate]\nby = 'optimiser'\n", "did you mean optimizer"),
        (GOOD + "[correlate]\nlevel = 2\n", "level=2"),
        (GOOD + "[correlate]\nwhere = {alpa = 1.0}\n", "did you mean alpha"),
        (GOOD + "[correlate]\nwhere = {alpha = 3.0}\n", "one of 1.0"),
        (GOOD + "[[figure]]\nkind = 'scatter'\nx = 'logp'\n", "did you mean log_p"),
        (GOOD + "[[table]]\nfrom = 'measure'\ncolumns = ['optimiser']\n", "mean optimizer"),
        ("[train]\ntarget = 'x1'\nruns = -4\n", "runs=-4"),
        ("[train]\ntarget = 'x99'\nn = 4\n", "x99"),
        ("[train]\ntarget = 'x1'\noptimizer = 'adamm'\n", "did you mean adam"),
        ("[sensitivity]\nnetworks = 3\n", "without n"),
        ("[sensitivity]\nn = [10]\nnetwork = 3\n", "did you mean networks"),
        ("[train]\n[[measure]]\n[[measure]]\n", "without a name"),
        ("[train]\n[[measure]]\nname = 'a b'\n", "rename"),
    ],
)
def test_bad_recipes_are_one_line(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        plan(parse_recipe(tomllib.loads(text), text), tmp_path / "o")
    message = str(caught.value)
    assert says in message and "\n" not in message and not (tmp_path / "o").exists()


def test_unreadable_recipes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="readable"):
        read_recipe(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[train\n")
    with pytest.raises(InputError, match="TOML"):
        read_recipe(tmp_path / "bad.toml")


def test_rows_are_selected_and_rescalings_drawn() -> None:
    frame = pd.DataFrame({
        "run": ["a"] * 4 + ["b"] * 400, "member": [0, 0, 1, 1, *[i // 2 for i in range(400)]],
        "alpha": [1.0, 4.0] * 202, "x": range(404),
    })  # fmt: skip
    assert len(select(frame, {"alpha": 4.0})) == 202
    assert len(select(frame, {"run": ["a"], "alpha": [1.0, 4.0]})) == 4
    drawn = select(frame, {"alpha": "random"}, seed=1)
    assert len(drawn) == 202 and drawn.groupby(["run", "member"]).size().eq(1).all()
    # each alpha with probability 1/2: 202 draws lie within 5 sd (36) of 101, but for 1 in 2e6
    assert abs((drawn["x"] % 2 == 0).sum() - 101) < 36
    assert drawn.equals(select(frame, {"alpha": "random"}, seed=1))
    assert not drawn["x"].equals(select(frame, {"alpha": "random"}, seed=2)["x"])
    for where in ({"y": 1}, {"alpha": 9.0}):
        with pytest.raises(InputError):
            select(frame, where)


def test_stage_frames_and_groups(finished: Path) -> None:
    frame = stage_frame(finished, ["targets"])
    assert list(frame["stage"]) == ["targets"] * 2
    grouped, column = group_column(frame, ["optimizer", "data_seed"])
    assert column == "optimizer, data_seed" and set(grouped[column]) == {"adam, 1", "adam, 2"}
    with pytest.raises(InputError):
        group_column(frame, ["nothing"])
    with pytest.raises(InputError, match="one of"):
        stage_frame(finished, ["targets"], file="no.csv")
