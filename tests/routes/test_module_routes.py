"""Modules through the routes: kernels, ln P, bounds and posteriors; on the command line, too."""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import pytest

import simprior as sp
from simprior.analysis.measure.prior import Prior
from simprior.boolean.truthtable import named, pack
from simprior.cli import main
from simprior.errors import InputError
from simprior.gp.closed import closed_kernel
from simprior.training.data import load_dataset
from simprior.training.targets import Problem

CLOSED = sp.Module("mlp", n=5, options={"norm": "layer", "residual": True})
LAW = {"sigma_w": 1.5, "sigma_b": 0.5}


def one_layer(n: int) -> Any:
    """A user's module; its output covariance is the NNGP kernel at every width."""
    import torch

    return torch.nn.Sequential(torch.nn.Linear(n, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))


MINE = sp.Module(one_layer, n=4, **LAW)
LIMIT = sp.Network(n=4, hidden=(1,), **LAW)


def problem(network: Any, model: Any, train: int) -> Problem:
    made = sp.Problem(network, "x1", train=train, seed=1)
    names = "name n inputs target train_index attack_index labels seed corrupt".split()
    return Problem._of(network=model, **{name: getattr(made, name) for name in names})


def test_kernels_of_everything() -> None:
    network = sp.Network(n=4, hidden=(7, 7))
    same = sp.Module("mlp", n=4, options={"hidden": (3, 9)})
    assert np.array_equal(sp.kernel(network), sp.kernel(same))
    assert np.array_equal(sp.kernel(CLOSED), closed_kernel(CLOSED))
    mine = sp.kernel(MINE, draws=480, seed=1)
    assert isinstance(mine, sp.gp.SampledKernel) and mine.draws == 480 and mine.features == 64
    z = (mine.K - sp.kernel(LIMIT)) / mine.stderr
    assert np.abs(z).max() < 5  # 136 entries: 8e-5


@pytest.mark.parametrize("model", [CLOSED, sp.Network(n=4)])
def test_draws_of_an_exact_kernel_are_refused(model: Any) -> None:
    with pytest.raises(InputError, match="exact"):
        sp.kernel(model, draws=100)


def test_ln_p_and_evidence_of_closed_kernels() -> None:
    wanted = sp.gp.log_prior(["parity", "x1"], closed_kernel(CLOSED), n=5, seed=3)
    found = sp.log_prior(CLOSED, ["parity", "x1"], seed=3)
    assert [p.value for p in found] == [p.value for p in wanted]
    made = problem(sp.Network(n=5), CLOSED, 12)
    part = closed_kernel(CLOSED)[np.ix_(made.fitted_index, made.fitted_index)]
    evidence = sp.gp.log_prior(made.labels, part, n=0, seed=2)[0]
    assert sp.log_evidence(made, seed=2).value == pytest.approx(evidence.value, abs=1e-9)
    assert 0 < sp.bound(made, seed=2).gibbs.error < 1


def test_ln_p_of_a_sampled_kernel_is_that_of_the_limit_within_its_error() -> None:
    """Two values at 4 standard errors: a false alarm in 8,000."""
    exact = sp.log_prior(LIMIT, ["parity", "x1"], draws=8192)
    found = sp.log_prior(MINE, ["parity", "x1"], kernel_draws=240, seed=5)
    for one, want in zip(found, exact, strict=True):
        assert one.diagnostics["kernel_draws"] == 240
        assert abs(one.value - want.value) < 4 * one.stderr


def test_posteriors_without_spread_or_with_much_bias_say_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No kernel's posterior met the target: that is no error of 0. And the second-order bias of
    the evidence is judged as that of ln P."""
    module = sp.Module("lstm", n=3, options={"width": 1}, sigma_b=0.5)
    made = sp.Problem(module, "0x96", train=[0, 1, 3, 5, 6, 7])
    report = sp.posterior(made, samples=300, kernel_draws=24).info["posterior"]
    assert report["target_p"] == 0.0
    assert report["target_p_kernel_stderr"] == pytest.approx(1 / 302)
    made = sp.Problem(module, "x1", train=[0, 1, 5, 6])
    assert sp.posterior(made, samples=300, kernel_draws=240).info["posterior"]["reliable"]
    monkeypatch.setattr(sys.modules["simprior.routes.posterior"], "MOST_SECOND", 1e-9)
    assert not sp.posterior(made, samples=300, kernel_draws=240).info["posterior"]["reliable"]


@pytest.mark.slow
def test_the_posterior_of_a_sampled_kernel_holds_its_error() -> None:
    """Six kernels, two numbers each at 4.5 standard errors: a false alarm in 12,000. The spread
    between kernels is larger than what the draws alone would tell."""
    exact = sp.posterior(problem(LIMIT, LIMIT, 6), samples=20_000).info["posterior"]
    made = problem(LIMIT, MINE, 6)
    runs = [
        sp.posterior(made, samples=2000, seed=seed, kernel_draws=48).info["posterior"]
        for seed in range(6)
    ]
    for report in runs:
        assert report["kernel_draws"] == 48 and report["target_p_kernel_stderr"] > 0
        for name in ("error", "log_evidence"):
            stderr = np.hypot(report[f"{name}_stderr"], exact[f"{name}_stderr"])
            assert abs(report[name] - exact[name]) < 4.5 * stderr
        wide = 1.9 * report["target_p_kernel_stderr"]
        assert report["target_p_low"] <= max(0.0, report["target_p"] - wide)
        assert report["target_p_high"] >= min(1.0, report["target_p"] + wide)
        assert abs(report["target_p"] - exact["target_p"]) < 3 * (
            report["target_p_high"] - report["target_p_low"]
        )
    alone = sp.posterior(problem(LIMIT, LIMIT, 6), samples=2000).info["posterior"]
    assert runs[0]["log_evidence_stderr"] > 2 * alone["log_evidence_stderr"]
    values = [report["log_evidence"] for report in runs]
    assert np.std(values) > 2 * alone["log_evidence_stderr"]


@pytest.mark.parametrize("module", [CLOSED, sp.Module("lstm", n=5, options={"width": 8})])
def test_the_prior_of_measures_knows_modules(module: sp.Module) -> None:
    tables = np.stack([named("x1", 5), named("parity", 5)]).astype(np.uint8)
    found = Prior(module, seed=4, draws=128).log_p(pack(tables))
    wanted = sp.log_prior(module, tables, draws=128, seed=4)
    assert found["log_p"].tolist() == [p.value for p in wanted]
    assert found["log_p_stderr"].tolist() == [p.stderr for p in wanted]
    some = Prior(module, seed=4, draws=128).evidence(np.arange(6), tables[0, :6])
    assert -20.0 < some.value < 0.0 and some.stderr > 0.0


def test_what_modules_cannot_do_is_refused() -> None:
    with pytest.raises(InputError, match="finite"):
        sp.log_prior(CLOSED, "x1", width="finite")
    with pytest.raises(InputError, match="kernel_draws"):
        sp.log_prior(sp.Network(n=4), "x1", width="finite", kernel_draws=100)
    with pytest.raises(InputError, match="gp or ep"):
        sp.posterior(problem(sp.Network(n=5), CLOSED, 12), "hmc", samples=10)


def test_logp_on_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    words = "logp --architecture mlp --norm layer --residual --n 5 --functions parity,x1 --seed 3"
    assert main([*words.split(), "--json", "--workers", "1", "--out", str(tmp_path / "run")]) == 0
    rows = json.loads(capsys.readouterr().out)["table"]
    wanted = sp.log_prior(CLOSED, ["parity", "x1"], seed=3)
    assert [row["logp"] for row in rows] == [p.value for p in wanted]
    config = json.loads((tmp_path / "run" / "manifest.json").read_text())["config"]
    assert config["network"]["architecture"] == "mlp" and config["network"]["norm"] == "layer"


def test_a_sampled_kernel_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    option = "d_model=8,heads=2,layers=1"
    words = f"logp --architecture transformer --option {option} --n 3 --functions x1 --workers 1"
    assert main([*words.split(), "--kernel-draws", "48", "--json"]) == 0
    out, err = capsys.readouterr()
    module = sp.Module("transformer", n=3, options={"d_model": 8, "heads": 2, "layers": 1})
    wanted = sp.log_prior(module, "x1", kernel_draws=48)
    row = json.loads(out)["table"][0]
    assert row["logp"] == wanted.value and row["stderr"] == wanted.stderr
    assert "kernel is sampled" in err and "48 draws" in err


@pytest.mark.parametrize("command", ["logp", "bound"])
def test_images_of_digits_by_a_cnn(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = f"{command} --architecture cnn2d --option channels=4x4,pool=flat --data digits"
    assert main([*words.split(), "--train", "20", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    value = found["table"][0]["logp"] if command == "logp" else found["summary"]["log_evidence"]
    data = load_dataset("digits", train=20)
    module = sp.Module(
        "cnn2d", inputs=data.X_train, options={"channels": "8x2", "pool": "flat", "shape": "8x8"}
    )
    assert value == sp.gp.log_prior(data.y_train, sp.kernel(module), n=0)[0].value


@pytest.mark.parametrize(
    "words",
    [
        "logp --n 4 --functions x1 --kernel-draws 100",
        "logp --architecture mlp --n 4 --functions x1 --width finite",
        "logp --architecture cnn2d --n 7 --functions x1",
        "logp --architecture lstm --n 4 --functions x1 --kernel-draws 3",
        "bound --architecture mlp --data digits --train 20 --width finite",
    ],
)
def test_one_line_for_bad_input(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert len(lines) == 1 and lines[0].count(":") >= 2
