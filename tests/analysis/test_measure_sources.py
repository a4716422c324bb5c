"""What a measures table is made from: several runs, settings that differ, priors, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import simprior as sp
from simprior.analysis.measure.groups import held_out_inputs
from simprior.analysis.measure.prior import Prior, with_log_p
from simprior.analysis.measure.registry import MEASURES, WEIGHT_GROUPS
from simprior.analysis.measure.table import measure, rescaling_table
from simprior.analysis.table_runs import target_table
from simprior.boolean.complexity import lz76_packed
from simprior.boolean.truthtable import from_hex, pack, unpack
from simprior.cli import main
from simprior.errors import InputError
from simprior.training.records import TrainResult
from simprior.training.settings import settings

NET = sp.Network(n=4, hidden=(8, 8))
FAST = {"train": 8, "runs": 5, "lr": 0.05, "batch_size": 4}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs on bits, one on digits, one with a threshold of 1/2."""
    folder = tmp_path_factory.mktemp("sources")
    sp.train(NET, "x1", **FAST, seed=1, out=folder / "a")
    options = {"weight_decay": 0.01}
    sp.train(NET, "x1", **FAST, seed=2, options=options, max_epochs=500, out=folder / "b")
    sp.train(NET, "x1", **FAST, loss="mse01", record=(0, 4), out=folder / "half")
    sp.train(NET, data="digits", classes="3,8", train=12, test=10, runs=3, lr=0.01,
             out=folder / "digits")  # fmt: skip
    return folder


def test_command_measures_several_runs(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = str(runs / "a"), str(runs / "b")
    assert main(["measure", a, b, "--measures", "lz", "--quiet", "--json"]) == 0
    both = json.loads(capsys.readouterr().out)["summary"]["networks"]
    assert both == sum(len(measure(runs / name, "lz")) for name in "ab")


def test_settings_that_change_training_are_columns(runs: Path) -> None:
    frame = measure([runs / "a", runs / "b"], "lz")
    by_run = frame.groupby("run").first()
    assert by_run["options"].to_dict() == {"a": "", "b": "weight_decay=0.01"}
    assert by_run["max_epochs"].to_dict() == {"a": 1000, "b": 500}
    assert (by_run["stop"] == "first-fit").all() and (by_run["weight_dist"] == "gaussian").all()


def test_groups_are_checked_against_every_run(runs: Path) -> None:
    with pytest.raises(InputError, match="digits"):
        measure([runs / "a", runs / "digits"], "walsh")
    frame = measure([runs / "a", runs / "digits"], "lz,entropy")
    assert set(frame["run"]) == {"a", "digits"}


def test_threshold_of_the_loss_is_that_of_the_prior(runs: Path) -> None:
    """With targets 0 and 1 the class is that of z > 1/2, and so is P(f)."""
    result = TrainResult.load(runs / "half")
    words = from_hex([result.problem["target"]], 16)
    wanted = Prior(NET, 3, 0.5, draws=800).log_p(words)["log_p"][0]
    other = Prior(NET, 3, 0.0, draws=800).log_p(words)["log_p"][0]
    assert wanted != other
    assert target_table(runs / "half", 3, 800)["target_log_p"].tolist() == [wanted]
    path = with_log_p(result, 3, 800)
    at = from_hex([path["function"].iloc[0]], 16)
    assert path["logp"].iloc[0] == Prior(NET, 3, 0.5, draws=800).log_p(at)["log_p"][0]


def test_frequencies_of_another_threshold_are_refused(runs: Path, tmp_path: Path) -> None:
    sp.sample(NET, samples=2000, out=tmp_path / "p")
    with pytest.raises(InputError, match="threshold"):
        measure(runs / "half", "prior", prior_from=tmp_path / "p")


def test_step_networks_have_the_measures_that_need_no_gradient(tmp_path: Path) -> None:
    step = sp.Network(n=3, hidden=(6,), activation="step")
    sp.train(step, "x1", train=3, runs=3, optimizer="guess-and-check", out=tmp_path / "s")
    without = [g for g, m in WEIGHT_GROUPS.items() if not m.gradients]
    frame = measure(tmp_path / "s", without, networks=2)
    assert {"frobenius_norm", "margin", "log_volume"} <= set(frame)
    with pytest.raises(InputError, match="gradient"):
        measure(tmp_path / "s", "hessian")
    everything = measure(tmp_path / "s", "all", networks=2, draws=200)
    assert "frobenius_norm" in everything and "hessian_trace" not in everything


def test_targets_that_differ_late_are_different_clusters(tmp_path: Path) -> None:
    net = sp.Network(n=7, hidden=(8,))
    names = []
    for last in "01":
        out = tmp_path / last
        sp.train(net, "0" * 127 + last, train=list(range(30)), runs=1, lr=0.05, out=out)
        names.append(measure(out, "lz")["cluster"].iloc[0])
    assert len(set(names)) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [("tol", float("nan")), ("tol", -3.0), ("delta", 1.0), ("zeta", 0.0), ("radius", -1.0),
     ("noise", 1.5)],
)  # fmt: skip
def test_settings_outside_their_range(runs: Path, name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{name}="):
        measure(runs / "a", "prior", **{name: value})


def test_classes_with_a_blank_are_read_again(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"u": rng.random(40), "v": rng.random(40), "class": [0, 1] * 20})
    table.to_csv(tmp_path / "my data.csv", index=False)
    data = str(tmp_path / "my data.csv")
    out = tmp_path / "o"
    sp.train(sp.Network(n=2, hidden=(20,)), data=data, label="class", classes="0, 1", train=4,
             test=8, runs=2, lr=0.05, max_epochs=5000, out=out)  # fmt: skip
    assert len(measure(out, "norms", data=data, label="class"))


def test_factor_of_a_logarithm_is_that_of_the_quantity() -> None:
    """A volume that shrinks from e^3 to e^1 shrinks by e^-2; a norm from 2 to 6 grows 3 times."""
    assert MEASURES["log_volume"].log and not MEASURES["frobenius_norm"].log
    frame = pd.DataFrame({
        "run": "r", "member": [0, 0], "alpha": [1.0, 4.0], "log_volume": [3.0, 1.0],
        "frobenius_norm": [2.0, 6.0],
    })  # fmt: skip
    found = rescaling_table(frame).set_index("measure")["factor"]
    assert found["log_volume"] == pytest.approx(np.exp(-2.0))
    assert found["frobenius_norm"] == pytest.approx(3.0)


def test_held_out_inputs_are_seen_by_no_measure(tmp_path: Path) -> None:
    """The error is that of the last test inputs; ln P and complexity do not change with them."""
    net = sp.Network(hidden=(8,))
    sp.train(net, data="digits", classes="3,8", train=12, test=40, runs=4, lr=0.02, out=tmp_path)
    whole = measure(tmp_path, "prior,lz", draws=300)
    part = measure(tmp_path, "prior,lz", draws=300, held_out=0.75)
    assert (part["test_error"] == whole["test_error"]).all() and "held_out_error" not in whole
    assert (part["held_out_size"] == 30).all()
    result = TrainResult.load(tmp_path)
    wrong = unpack(result.words[part["member"]], 52) != result.trained_on.table
    test = np.setdiff1d(np.arange(52), result.problem["train_index"])
    out = held_out_inputs(result, 0.75)
    assert len(out) == 30 and set(out) < set(test) and out.tolist() != test[10:].tolist()
    assert part["held_out_error"].tolist() == wrong[:, out].mean(axis=1).tolist()
    seen = np.setdiff1d(np.arange(52), out)
    words = pack(unpack(result.words[part["member"]], 52)[:, seen])
    assert part["lz76"].tolist() == lz76_packed(words, 22).tolist()
    assert (part["log_p"] > whole["log_p"]).all()  # of fewer labels
    for share, says in ((1.0, "held_out=1"), (0.001, "which is 0"), (0.999, "which is 40")):
        with pytest.raises(InputError, match=says):
            measure(tmp_path, "lz", held_out=share)


def test_total_error_counts_the_training_set(runs: Path) -> None:
    frame = measure(runs / "a", "lz")
    assert frame["total_error"].tolist() == pytest.approx((frame["test_error"] / 2).tolist())


def test_data_sets_of_a_sweep_start_from_weights_of_their_own() -> None:
    """One root seed: equal for optimisers on one data set, different for every other data set."""
    base = {"n": 4, "hidden": [8], "target": "x1", "train": 8, "data_seed": 1}
    seed = settings(base, 3).keywords["seed"]
    assert settings({**base, "optimizer": "sgd", "attack": 1}, 3).keywords["seed"] == seed
    others = [{**base, "data_seed": 2}, {**base, "target": "x2"}]
    assert len({seed, *(settings(other, 3).keywords["seed"] for other in others)}) == 3
    assert settings(base, 4).keywords["seed"] != seed
    assert settings({**base, "seed": 9}, 3).keywords["seed"] == 9
    assert settings({k: v for k, v in base.items() if k != "data_seed"}, 3).keywords["seed"] == 3


def test_a_prior_of_something_else_is_refused(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run of sample"):
        measure(runs / "a", "prior", prior_from=runs / "b", out=tmp_path / "o")
    sp.sample(sp.Network(n=4, hidden=(9,)), samples=1000, out=tmp_path / "p")
    with pytest.raises(InputError, match="hidden="):
        measure(runs / "a", "prior", prior_from=tmp_path / "p", out=tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_bad_input_leaves_the_directory_free(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError):  # found out only by the estimator
        measure(runs / "a", "prior", draws=1, out=tmp_path / "o")
    assert not (tmp_path / "o").exists()
    measure(runs / "a", "lz", out=tmp_path / "o")


def test_default_groups_are_those_that_apply(tmp_path: Path) -> None:
    sp.sample(NET, samples=2000, out=tmp_path / "p")
    frame = measure(tmp_path / "p", networks=5)
    assert {"log_p", "lz76", "average_sensitivity"} <= set(frame)
    assert "keskar" not in frame


def test_paths_of_the_wrong_kind() -> None:
    for wrong in (3, None, [4]):
        with pytest.raises(InputError, match="source="):
            measure(wrong)  # type: ignore[arg-type]
