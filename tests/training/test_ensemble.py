"""Ensembles: independence of chunks, workers and interruptions; fits; stopping; refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.sampling.sample import sample
from simprior.boolean.truthtable import unpack
from simprior.errors import InputError, StoreError
from simprior.network.spec import Network
from simprior.runs.directory import load_run
from simprior.runs.tasks import Interrupted
from simprior.training import spec as tasks
from simprior.training.records import TrainResult
from simprior.training.spec import OPTIMIZERS, Stop, TrainSpec
from simprior.training.targets import Problem
from simprior.training.train import train

NETWORK = Network(n=5, hidden=(20,))
FAST = {"train": 12, "batch_size": 4, "lr": 0.02}
RATES = {
    "sgd": 0.1, "momentum": 0.03, "nesterov": 0.03, "gd": 0.3, "adagrad": 0.05, "adadelta": 1.0,
    "sgld": 0.1, "entropy-sgd": 1.0, "advsgd": 0.1,
}  # fmt: skip


def same(a: TrainResult, b: TrainResult) -> bool:
    names = ("words", "steps", "first_fit", "errors", "loss")
    return all(np.array_equal(getattr(a, k), getattr(b, k)) for k in names) and (
        a.trajectories.equals(b.trajectories)
    )


def disagreements(result: TrainResult) -> np.ndarray:
    """(R,) fitted examples that each function has wrong, from its packed table."""
    index = [*result.problem["train_index"], *result.problem["attack_index"]]
    labels = np.array([int(c) for c in result.problem["labels"]])
    return (unpack(result.words, result.m)[:, index] != labels).sum(axis=1)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("loss", ["ce", "mse", "mse01", "hinge"])
def test_fitted_functions_agree_with_the_training_set(name: str, loss: str) -> None:
    few = {"runs": 20, "train": 6} if name == "guess-and-check" else {"runs": 20, "train": 12}
    lr = RATES.get(name, 0.01) / (1 if loss in ("ce", "hinge") else 3)
    result = train(
        NETWORK,
        "x1",
        optimizer=name,
        lr=lr,
        loss=loss,
        batch_size=4,
        max_epochs=5000,
        seed=1,
        **few,
    )
    assert result.fitted.mean() > 0.9
    assert np.array_equal(disagreements(result), result.errors)
    assert result.counts.samples == result.fitted.sum()


def test_a_member_does_not_depend_on_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    options = {**FAST, "record": (0, 3, 9), "record_runs": 15, "stop": "epochs:2", "seed": 3}
    whole = train(NETWORK, "random", runs=40, **options)
    fewer = train(NETWORK, "random", runs=17, **options)
    monkeypatch.setattr(tasks, "_MOST_MEMBERS", 7)
    cut = train(NETWORK, "random", runs=40, **options)
    assert same(whole, cut)
    assert np.array_equal(whole.words[:17], fewer.words)
    assert np.array_equal(whole.loss[:17], fewer.loss)


def test_workers_and_disk_change_nothing(tmp_path) -> None:
    options = {**FAST, "runs": 30, "record": (0, 5), "record_runs": 10, "seed": 4}
    here = train(NETWORK, "random", **options)
    there = train(NETWORK, "random", workers=2, out=tmp_path / "a", **options)
    assert same(here, there)
    assert same(here, TrainResult.load(tmp_path / "a"))
    assert same(here, train(NETWORK, "random", out=tmp_path / "a", resume=True, **options))
    counts = FunctionCounts.load(tmp_path / "a")
    assert np.array_equal(counts.words, here.counts.words)
    assert np.array_equal(counts.count, here.counts.count)
    assert counts.info["model"] == NETWORK


class Stopping:
    """Progress that interrupts after some updates, as a signal would."""

    def __init__(self, after: int) -> None:
        self.left = after

    def update(self, n: int) -> None:
        self.left -= 1
        if self.left == 0:
            raise Interrupted("stopped by the test")


def test_interrupted_run_continues_bit_for_bit(tmp_path) -> None:
    options = {**FAST, "runs": 40, "record": (0, 5), "record_runs": 25, "seed": 5}
    whole = train(NETWORK, "random", **options)
    with pytest.raises(Interrupted):
        train(NETWORK, "random", out=tmp_path / "a", progress=Stopping(6), **options)
    assert load_run(tmp_path / "a").status == "interrupted"
    assert 0 < len(load_run(tmp_path / "a").shards) < 32
    assert same(whole, train(NETWORK, "random", out=tmp_path / "a", resume=True, **options))
    with pytest.raises(StoreError):  # another configuration
        train(NETWORK, "random", out=tmp_path / "a", resume=True, **{**options, "lr": 0.03})


def test_first_fit_is_the_first_check_without_errors() -> None:
    """Recorded at every step: no earlier check had zero errors, and the last one has."""
    result = train(NETWORK, "random", runs=15, record=tuple(range(400)), seed=6, **FAST)
    frame = result.trajectories
    for run in range(15):
        path = frame[frame["run"] == run].set_index("step")["train_error"]
        checks = path[path.index % 3 == 0]  # three steps an epoch
        assert (checks[checks.index < result.first_fit[run]] > 0).all()
        assert checks[result.first_fit[run]] == 0
        assert result.steps[run] == result.first_fit[run]


def test_check_every_step_stops_no_later() -> None:
    each = train(NETWORK, "random", runs=30, seed=6, check=1, **FAST)
    epoch = train(NETWORK, "random", runs=30, seed=6, **FAST)
    assert (each.first_fit <= epoch.first_fit).all()
    assert (each.first_fit < epoch.first_fit).any()


def test_stopping_rules() -> None:
    first = train(NETWORK, "random", runs=20, seed=7, **FAST)
    later = train(NETWORK, "random", runs=20, seed=7, stop="epochs:5", **FAST)
    assert np.array_equal(first.first_fit, later.first_fit)
    assert (later.steps >= first.steps + 5 * 3).all() and later.fitted.all()
    low = train(NETWORK, "random", runs=20, seed=7, stop="loss:0.01", max_epochs=3000, **FAST)
    assert (low.loss[low.fitted] <= 0.01).all() and low.fitted.all()
    exact = train(NETWORK, "random", runs=20, seed=7, stop="steps:25", **FAST)
    assert (exact.steps == 25).all()
    assert np.array_equal(exact.fitted, disagreements(exact) == 0)


def test_members_that_do_not_fit_are_counted(tmp_path) -> None:
    result = train(
        NETWORK, "parity", runs=10, max_epochs=2, out=tmp_path / "a", **{**FAST, "lr": 1e-4}
    )
    assert not result.fitted.any() and (result.first_fit == -1).all()
    assert (result.steps == 2 * 3).all()
    summary = result.summary()
    assert summary["not_fitted"] == 10 and summary["fitted_share"] == 0
    assert summary["fitted_high"] == pytest.approx(1 - 0.025**0.1)  # Clopper-Pearson at 0 of 10
    assert len(result.counts) == 0
    assert len(TrainResult.load(tmp_path / "a").records) == 10


def test_untrained_functions_are_those_of_the_prior() -> None:
    """The frequencies at step 0 against the sampler's, on the commonest functions."""
    network = Network(n=3, hidden=(10,))
    start = train(network, "x1", train=2, runs=4000, record=(0,), record_runs=4000, stop="steps:1")
    prior = sample(network, 10**6, seed=1, heads=1)
    found = np.bincount(
        prior.find(start.trajectories["function"].tolist()).clip(0), minlength=len(prior)
    )
    for k in range(10):  # five standard errors: a false alarm in about 1 of 10^5 runs
        p = prior.p[k]
        assert abs(found[k] / 4000 - p) < 5 * np.sqrt(p * (1 - p) * (1 / 4000 + 1e-6))


def test_guess_and_check_draws_from_the_posterior() -> None:
    """Functions found by guessing have the law P(f) / P(C(S)) on functions that agree with S."""
    network = Network(n=3, hidden=(10,))
    result = train(network, "x1", train=4, runs=4000, optimizer="guess-and-check",
                   max_epochs=10**6, seed=2)  # fmt: skip
    prior = sample(network, 10**6, seed=3, heads=1)
    index = result.problem["train_index"]
    target = unpack(result.words[:1], 8)[0][index]
    agree = (prior.tables()[:, index] == target).all(axis=1)
    mass = prior.p[agree].sum()
    assert result.fitted.all()
    counts = result.counts
    for k in np.flatnonzero(agree)[:6]:
        p = prior.p[k] / mass
        row = counts.find(prior.tables()[k])[0]
        found = 0 if row < 0 else counts.count[row] / 4000
        assert abs(found - p) < 5 * np.sqrt(p * (1 - p) * (1 / 4000 + 1e-6 / mass))
    # the number of draws is geometric with mean 1 / P(C(S)), which a million samples estimate
    relative = np.sqrt((1 - mass) / 4000 + (1 - mass) / (mass * 1e6))
    assert abs(result.steps.mean() * mass - 1) < 5 * relative


def test_attack_points_lower_generalisation() -> None:
    network = Network(n=6, hidden=(30,))
    options = {"train": 30, "runs": 60, "lr": 0.01, "batch_size": 8, "seed": 1}
    plain = train(network, "x1", **options)
    attacked = train(network, "x1", attack=20, max_epochs=5000, **options)
    assert attacked.fitted.mean() > 0.9
    assert np.array_equal(disagreements(attacked), attacked.errors)
    difference = attacked.test_error[attacked.fitted].mean() - plain.test_error.mean()
    assert difference > 5 * plain.summary()["test_error_stderr"]
    held_out = 64 - 30 - 20
    assert np.allclose(attacked.test_error * held_out, np.rint(attacked.test_error * held_out))


def test_pretraining_on_random_labels_lowers_generalisation() -> None:
    network = Network(n=6, hidden=(40,))
    options = {"train": 40, "runs": 60, "lr": 0.01, "batch_size": 8, "seed": 2}
    plain = train(network, "x1", **options)
    bad = train(network, "x1", pretrain=3000, **options)
    error = np.hypot(*(r.summary()["test_error_stderr"] for r in (plain, bad)))
    assert bad.summary()["test_error"] - plain.summary()["test_error"] > 5 * error


def test_real_data() -> None:
    result = train(Network(hidden=(30,)), data="digits", classes="3,8", train=60, test=40, runs=20,
                   lr=0.01, attack=5, batch_size=16)  # fmt: skip
    assert result.m == 105 and result.fitted.all()
    assert np.array_equal(disagreements(result), result.errors)
    assert result.test_error.mean() < result.summary()["majority_error"]
    assert "network" not in result.config and result.config["architecture"]["hidden"] == [30]


@pytest.mark.parametrize("name", ["adam", "sgld", "entropy-sgd", "advsgd", "adagrad", "nesterov"])
def test_torch_engine_trains_the_same_members(name: str) -> None:
    """Equal up to float32 rounding: at least 19 of 20 members take the same steps to the same
    function, and the losses of those agree to 1e-3 relative."""
    options = {**FAST, "optimizer": name, "lr": RATES.get(name, 0.02), "runs": 26, "seed": 8,
               "record": (0, 4), "record_runs": 5}  # fmt: skip
    network = replace(NETWORK, activation="tanh")
    compiled = train(network, "random", **options)
    batched = train(network, "random", engine="torch", members=13, **options)
    alike = (compiled.words == batched.words).all(axis=1) & (compiled.steps == batched.steps)
    assert alike.mean() >= 0.95
    assert np.allclose(compiled.loss[alike], batched.loss[alike], rtol=1e-3, atol=1e-5)
    assert (compiled.first_fit[alike] == batched.first_fit[alike]).all()
    assert len(batched.trajectories) == len(compiled.trajectories)


@pytest.mark.slow
def test_torch_engine_replaces_members_and_pretrains() -> None:
    options = {**FAST, "optimizer": "momentum", "lr": 0.03, "runs": 30, "seed": 9, "pretrain": 50}
    few = train(NETWORK, "random", engine="torch", members=7, **options)
    compiled = train(NETWORK, "random", **options)
    alike = (compiled.words == few.words).all(axis=1) & (compiled.steps == few.steps)
    assert alike.mean() >= 0.9


def swish(z):
    return z / (1 + (-z).exp())


def test_callable_activation_trains_with_torch() -> None:
    result = train(replace(NETWORK, activation=swish), "random", runs=20, **FAST)
    assert result.config["engine"] == "torch" and result.fitted.mean() > 0.9
    assert np.array_equal(disagreements(result), result.errors)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target": "0x12"}, "function '0x12'"),
        ({"target": "01"}, "function '01'"),
        ({"target": "lz:9999"}, "lz:9999"),
        ({"target": "lz"}, "lz"),
        ({"target": "random:40"}, "random:T"),
        ({"target": None}, "target=None"),
        ({"train": 32}, "train=32"),
        ({"train": 0}, "train=0"),
        ({"train": [1, 1]}, "train=indices"),
        ({"train": [40]}, "train=indices"),
        ({"train": 2.5}, "train=2.5"),
        ({"optimizer": "adm"}, "did you mean adam"),
        ({"options": {"beta3": 1.0}}, "beta3"),
        ({"options": {"beta1": 1.5}}, "beta1"),
        ({"options": {"amsgrad": "maybe"}}, "amsgrad"),
        ({"optimizer": "nesterov", "options": {"momentum": 0.0}}, "nesterov"),
        ({"lr": 0}, "lr=0"),
        ({"lr": -1.0}, "lr=-1.0"),
        ({"lr": float("nan")}, "lr=nan"),
        ({"loss": "mae"}, "loss='mae'"),
        ({"stop": "never"}, "stop='never'"),
        ({"stop": "loss:-1"}, "stop='loss:-1'"),
        ({"stop": "steps:0"}, "stop='steps:0'"),
        ({"runs": 0}, "runs=0"),
        ({"runs": 1.5}, "runs=1.5"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"max_epochs": 0}, "max_epochs=0"),
        ({"attack": 20}, "attack=20"),
        ({"corrupt": 2.0}, "corrupt=2.0"),
        ({"record": (3, 1)}, "record=(3, 1)"),
        ({"engine": "fast"}, "engine='fast'"),
        ({"engine": "torch", "optimizer": "guess-and-check"}, "guess-and-check"),
        ({"data": "digits"}, "one of the two"),
        ({"seed": -1}, "seed=-1"),
        ({"label": "class", "target": None, "data": "digits"}, "label"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(changes: dict, words: str) -> None:
    arguments = {"target": "x1", "train": 12, "runs": 4, **changes}
    with pytest.raises(InputError) as caught:
        train(NETWORK, **arguments)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert "expected" in str(caught.value)


def test_no_gradient_is_refused_except_for_guessing() -> None:
    step = replace(NETWORK, activation="step")
    with pytest.raises(InputError, match="activation='step'"):
        train(step, "x1", train=4, runs=4)
    guessed = train(step, "x1", train=4, runs=10, optimizer="guess-and-check", max_epochs=10**5)
    assert guessed.fitted.all()


def test_stop_text_round_trip() -> None:
    for text in ("first-fit", "epochs:3", "loss:0.01", "steps:100"):
        assert Stop.parse(text).text == text
    assert Stop.parse("steps:1e3").value == 1000


def test_gd_is_the_full_batch() -> None:
    problem = Problem(NETWORK, "x1", train=12)
    from simprior.training.spec import Optimizer

    assert TrainSpec(NETWORK, Optimizer("gd", 0.1), batch_size=4).batch(problem.size) == 12
    assert TrainSpec(NETWORK, Optimizer("sgd", 0.1), batch_size=40).batch(problem.size) == 12


@pytest.mark.parametrize(("optimizer", "lr"), [("adam", 0.05), ("sgd", 1.0)])
def test_full_batch_sees_the_fit_at_the_step_it_comes(optimizer: str, lr: float) -> None:
    """A step on all examples counts the errors as it goes: as the record does, which looks anew."""
    problem = Problem(Network(n=5, hidden=(12, 9)), "x1 & x2", train=21, seed=4)
    steps = list(range(61))
    result = train(
        problem,
        runs=6,
        optimizer=optimizer,
        lr=lr,
        batch_size=21,
        seed=7,
        stop="steps:60",
        record=steps,
        record_runs=6,
    )
    errors = result.trajectories.pivot(index="run", columns="step", values="train_error")
    fits = errors.to_numpy() == 0
    first = np.where(fits.any(axis=1), fits.argmax(axis=1), -1)
    np.testing.assert_array_equal(result.first_fit, first)
    assert (first > 0).any()
