"""Posteriors by annealing: exact oracles, rejection, weights of runs, resume, refusals, bounds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import simprior as sp
from simprior.boolean.truthtable import input_matrix, pack, unpack
from simprior.cli import main
from simprior.errors import InputError, NumericalError
from simprior.finite.posterior import Drawn, Draws
from simprior.finite.prior import log_prior_finite
from simprior.finite.verdict import mean_of_runs
from simprior.gp.posterior import marginal_likelihood_bound
from simprior.routes.evidence import bounds_of
from simprior.routes.posterior import agreement
from simprior.runs.directory import load_run
from simprior.training.posterior.chains import make_training_set

NET = sp.Network(n=3, hidden=(5,))
QUICK: dict[str, Any] = {"particles": 60, "runs": 16}
WIDER = math.sqrt(15 / 13)  # of Student's t with 15 degrees of freedom, over the error of 16 runs


def report(counts: sp.FunctionCounts) -> dict[str, Any]:
    found: dict[str, Any] = counts.info["posterior"]
    return found


def check_close(a: float, b: float, stderr_a: float, stderr_b: float = 0.0) -> None:
    """Within 4 standard errors of 16 runs: a false alarm in 900 (t of 15 degrees of freedom)."""
    assert abs(a - b) < 4 * math.hypot(WIDER * stderr_a, stderr_b), (a, b, stderr_a, stderr_b)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_agrees_with_rejection_on_wrong_labels(seed: int) -> None:
    """Mean error, ln P(C(S)) and the commonest functions; a wrong label and an attack point."""
    problem = sp.Problem(NET, "x1", train=3, attack=1, corrupt=0.4, seed=seed)
    exact = sp.posterior(problem, "rejection", 20_000, seed=1)
    found = sp.posterior(problem, "smc", 3_000, seed=seed, **QUICK)
    a, b = report(found), report(exact)
    assert a["reliable"], a["reason"]
    check_close(a["error"], b["error"], a["error_stderr"], b["error_stderr"])
    check_close(a["check_error"], b["error"], a["check_error_stderr"], b["error_stderr"])
    check_close(
        a["log_evidence"], b["log_evidence"], a["log_evidence_stderr"], b["log_evidence_stderr"]
    )
    assert found.samples == 3_000 and found.draws == 16
    assert (unpack(found.words, 8)[:, problem.fitted_index] == problem.labels).all()
    for k in range(3):
        row = found.find(exact.tables()[k])[0]
        check_close(found.p[row], exact.p[k], found.stderr[row], exact.stderr[k])


@pytest.mark.parametrize("hidden", [(), (4,), (2, 3)])
def test_linear_networks_have_the_posterior_of_the_perceptron(hidden: tuple[int, ...]) -> None:
    """P_B(f|S) = P(f) / P(C(S)) from ln P of the perceptron's functions by the tilted estimator."""

    def linear(widths: tuple[int, ...]) -> sp.Network:
        return sp.Network(n=3, hidden=widths, activation="linear", sigma_b=0.0, encoding="pm1")

    given = make_training_set(8, [1, 5], [1, 0], "x1")
    tables = unpack(np.arange(256, dtype=np.uint64)[:, None] << np.uint64(56), 8)
    tables = tables[given.agree(tables)]
    K = sp.gp.nngp(linear(()), input_matrix(linear(())))
    logs = np.array([one.value for one in sp.gp.log_prior(tables, K, n=3, draws=20_000)])
    p = np.exp(logs)
    total, wrong = p.sum(), (tables[:, given.outside] != given.target[given.outside]).mean(axis=1)
    counts = sp.finite.smc_posterior(
        linear(hidden), given.index, given.bits, 4_000, 3, target="x1", **QUICK
    )
    found = report(counts)
    assert found["reliable"], found["reason"]
    check_close(found["log_evidence"], math.log(total), found["log_evidence_stderr"], 1e-3)
    check_close(found["error"], float(wrong @ p / total), found["error_stderr"], 1e-3)
    best = int(np.argmax(p))
    row = counts.find(tables[best])[0]
    check_close(counts.p[row], p[best] / total, counts.stderr[row], 1e-3)


def drawn(value: float, tables: list[list[int]], ancestors: float = 20.0) -> Drawn:
    return Drawn(value, 1.0, ancestors, 1.0, 0.0, 0.0, pack(np.array(tables, np.uint8)))


def test_runs_are_weighted_by_their_evidence() -> None:
    """Two kinds of runs, one three times as likely: shares, error and jackknife by hand."""
    given = make_training_set(4, [0], [1], [1, 1, 0, 0])
    right, wrong = [1, 1, 0, 0], [1, 0, 1, 1]
    runs = [drawn(math.log(0.3), [right, right]), drawn(math.log(0.1), [wrong] * 5)] * 2
    draws = Draws(given, runs)
    assert draws.weights == pytest.approx([0.375, 0.125] * 2)
    words, owner = draws.take(8)
    assert np.bincount(owner).tolist() == [3, 1, 3, 1]
    assert (unpack(words, 4) == [right] * 3 + [wrong] + [right] * 3 + [wrong]).all()
    error, stderr = draws.error()
    assert error == pytest.approx(0.25)
    others = np.array([0.2 / 0.5, 0.1 / 0.7] * 2)  # sums of P e over sums of P, one run left out
    assert stderr == pytest.approx(math.sqrt(0.75 * ((others - others.mean()) ** 2).sum()))
    lost = Draws(given, [*runs, drawn(-math.inf, [right])])
    assert lost.weights[-1] == 0.0 and lost.error()[0] == pytest.approx(0.25)
    far = Draws(given, [*runs, drawn(50.0, [wrong])])  # beside it the others are rounded away
    assert far.error()[0] == 1.0 and far.error()[1] > 0
    assert math.isnan(mean_of_runs([*runs, drawn(50.0, [wrong])], 5, 0.1).stderr)
    same = Draws(given, runs[::2])
    assert same.error()[0] == 0.0 and 0 < same.error()[1] < 0.1  # no spread is no certainty


def test_starved_runs_are_not_believed() -> None:
    """Few particles on a parity of wrong labels: no standard errors, and nothing is compared."""
    problem = sp.Problem(sp.Network(n=4, hidden=(4,)), "parity", train=12, seed=1)
    found = report(sp.posterior(problem, "smc", 200, seed=1, particles=8, runs=4))
    assert not found["converged"] and not found["reliable"] and found["reason"]
    assert math.isnan(found["error_stderr"]) and math.isnan(found["log_evidence_stderr"])
    assert found["log_evidence_bound"] < found["log_evidence"]
    other = {"error": 0.5, "error_stderr": 0.01}
    said = agreement({"smc": found, "gp": other})
    assert "(not converged)" in said and "differ" not in said
    read = found | {"error_stderr": None}  # as from the file of a finished run
    assert said == agreement({"smc": read, "gp": other})


class StopAfter:
    """Progress that is interrupted at its ``number``-th report."""

    def __init__(self, number: int) -> None:
        self.left = number

    def update(self, amount: int) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def test_workers_and_interruptions_change_no_bit(tmp_path: Path) -> None:
    problem = sp.Problem(NET, "x1", train=4, seed=1)
    task: dict[str, Any] = {"samples": 300, "seed": 5, "particles": 20, "runs": 4}
    found = [sp.posterior(problem, "smc", **task, workers=workers) for workers in (1, 2)]
    out = tmp_path / "o"
    for stop in (2, 6):
        with pytest.raises((KeyboardInterrupt, sp.SimpriorError)):
            sp.posterior(problem, "smc", **task, out=out, resume=stop > 2, progress=StopAfter(stop))
        assert load_run(out).status != "complete"
    found += [sp.posterior(problem, "smc", **task, out=out, resume=True) for _ in range(2)]
    assert load_run(out).verify() == []
    for other in found[1:]:
        assert np.array_equal(found[0].words, other.words)
        assert np.array_equal(found[0].rows.sumsq, other.rows.sumsq)
        for name in ("error", "error_stderr", "log_evidence", "spread", "check_error"):
            values = [report(counts)[name] for counts in (found[0], other)]
            # a finished run is read from JSON, which has no nan
            assert repr(values[0]) == repr(math.nan if values[1] is None else values[1]), name
    assert not np.array_equal(
        found[0].count, sp.posterior(problem, "smc", **{**task, "seed": 6}).count
    )


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (NET, {"chains": 4}, "slice, hmc, nuts"),
        (NET, {"runs": 2}, "runs=2"),
        (NET, {"particles": 1}, "particles=1"),
        (NET, {"thin": 0}, "thin=0"),
        (NET, {"likelihood": "logistic"}, "hmc, nuts"),
        (sp.Network(n=3, hidden=(5,), weight_dist="uniform"), {}, "use rejection"),
        (sp.Network(n=3, hidden=(5,), activation=np.cos), {}, "use rejection"),
    ],
)
def test_bad_options_are_refused(
    network: sp.Network, options: dict[str, Any], message: str
) -> None:
    problem = sp.Problem(network, "x1", train=4)
    with pytest.raises(InputError, match=message) as error:
        sp.posterior(problem, "smc", 10, **options)
    assert "\n" not in str(error.value)


def test_labels_that_no_or_all_weights_give_are_refused() -> None:
    x = np.array([[1.0, 2.0], [1.0, 2.0], [0.5, -1.0]])
    copies = sp.Problem(sp.Network(hidden=(4,)), inputs=x, labels=[1, 0, 1], train_index=[0, 1])
    with pytest.raises(InputError, match="no weights compute"):
        sp.posterior(copies, "smc", 10)
    zero = sp.Problem(sp.Network(n=3, hidden=(4,), sigma_b=0.0), "x1", train=[0])
    with pytest.raises(InputError, match="use rejection"):
        sp.posterior(zero, "smc", 10)
    wide = sp.Problem(sp.Network(n=4, hidden=(1,)), "parity", train=14, seed=1)
    with pytest.raises(NumericalError, match="none of 4 runs"):
        sp.posterior(wide, "smc", 10, particles=4, runs=4)


def test_evidence_of_a_problem_is_ln_p_of_its_labels() -> None:
    problem = sp.Problem(NET, "x1", train=4, attack=1, corrupt=0.5, seed=3)
    options: dict[str, Any] = {"particles": 40, "runs": 4, "check": False}
    found = sp.log_evidence(problem, width="finite", seed=2, **options)
    inputs = sp.Network(hidden=(5,), inputs=problem.train_inputs)
    assert found.value == log_prior_finite(inputs, problem.labels, seed=2, **options)[0].value
    with pytest.raises(InputError, match="leave method out"):
        sp.log_evidence(problem, "tilted", width="finite")
    with pytest.raises(InputError, match="width"):
        sp.bound(problem, width="5")


def test_bounds_at_finite_width_are_conservative() -> None:
    """At the low end of the interval; at ``bound_low`` where the value did not converge."""
    labels = np.array([0, 1] * 10)
    about = {"reliable": True, "low": -9.0, "high": -8.0, "bound_low": -12.0, "reason": ""}
    found = bounds_of(sp.LogProb(-8.5, 0.2, 99.0, "finite-smc", about), labels)
    low, high = (marginal_likelihood_bound(value, 20, 0.01).error for value in (-9.0, -8.0))
    assert (found.gibbs.error, found.gibbs.high, found.gibbs.low) == (low, low, high)
    assert found.gibbs.log_evidence == -8.5 and "low end" in found.verdict
    assert found.gibbs.confidence == pytest.approx(0.94)  # 0.99, and 5 % for ln P(C(S))
    assert found.single.confidence == pytest.approx(0.94 * 0.99)
    assert "with confidence 94 %" in found.verdict
    about |= {"reliable": False, "low": math.nan, "high": math.nan, "reason": "few ancestors"}
    found = bounds_of(sp.LogProb(-8.5, math.nan, 99.0, "finite-smc", about), labels)
    assert found.gibbs.error == marginal_likelihood_bound(-12.0, 20, 0.01).error
    assert math.isnan(found.gibbs.low) and "few ancestors" in found.verdict
    about["bound_low"] = -math.inf
    with pytest.raises(InputError, match="raise particles"):
        bounds_of(sp.LogProb(-8.5, math.nan, 99.0, "finite-smc", about), labels)


def call(text: str) -> int:
    return main(text.split())


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run of posterior, several methods, and the bound of its problem with ``--from``."""
    out = tmp_path / "o"
    task = "--target x1 --n 3 --hidden 5 --train 4 --particles 20 --runs 4 --quiet"
    assert call(f"posterior --method smc,gp {task} --samples 200 --out {out} --workers 1") == 0
    assert "smc" in capsys.readouterr().out
    run = load_run(out / "smc")
    assert run.status == "complete" and run.read_json("posterior.json")["method"] == "smc"
    small = "--width finite --particles 20 --runs 4 --workers 1 --json"
    assert call(f"bound --from {out / 'smc'} {small}") == 0
    printed = json.loads(capsys.readouterr().out)
    problem = sp.Problem(NET, "x1", train=4)
    bounds = sp.bound(problem, width="finite", particles=20, runs=4)
    assert printed["summary"]["log_evidence"] == bounds.evidence.value
    assert printed["table"][0]["error_below"] == bounds.gibbs.error
    data = "bound --data digits --classes 3,8 --train 4 --hidden 3"
    assert call(f"{data} {small}") == 0
    assert json.loads(capsys.readouterr().out)["summary"]["method"] == "finite-smc"


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ("--width 40", "width"),
        ("--width finite --method ep", "leave --method out"),
        ("--width finite --draws 10", "draws=10"),
        ("--width finite --runs 2", "runs=2"),
        ("--particles 5", "--width finite"),
    ],
)
def test_bad_flags_of_bound_are_one_line(
    flags: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(f"bound --target x1 --n 3 --hidden 3 --train 4 {flags}") == 2
    error = capsys.readouterr().err.strip()
    assert text in error and "\n" not in error, error


@pytest.mark.slow
def test_standard_errors_are_true() -> None:
    """60 repeats against rejection: standardised errors of results that no check doubts.

    Student's t of 15 degrees of freedom has a standard deviation of 1.07. Means within 4 of their
    errors (0.55), standard deviations within 4 of theirs (0.4): a false alarm in 2,500 runs.
    """
    problem = sp.Problem(NET, "x1", train=4, corrupt=0.4, seed=1)
    exact = report(sp.posterior(problem, "rejection", 100_000, seed=9))
    names = ("error", "log_evidence")
    standardised = []
    for seed in range(60):
        found = report(
            sp.finite.smc_posterior(
                problem.network,
                problem.fitted_index,
                problem.labels,
                1_500,
                seed,
                target=problem.target,
                particles=80,
                runs=16,
                check=False,
            )
        )
        if found["reliable"]:
            error = [math.hypot(found[f"{n}_stderr"], exact[f"{n}_stderr"]) for n in names]
            gap = [found[name] - exact[name] for name in names]
            standardised.append(np.array(gap) / error)
    z = np.array(standardised)
    assert len(z) >= 50
    assert (np.abs(z.mean(axis=0)) < 0.55).all(), z.mean(axis=0)
    assert (np.abs(z.std(axis=0, ddof=1) - 1.07) < 0.4).all(), z.std(axis=0, ddof=1)


@pytest.mark.slow
def test_real_data_agree_with_rejection_and_slice() -> None:
    """10 digits, one label in three a coin flip, width 20: 4 standard errors, three comparisons."""
    problem = sp.Problem(
        sp.Network(hidden=(20,)),
        data="digits",
        classes="3,8",
        train=10,
        test=50,
        corrupt=0.3,
        seed=2,
    )
    a = report(sp.posterior(problem, "smc", 5_000, seed=1, particles=100, workers=2))
    b = report(sp.posterior(problem, "rejection", 500, seed=2, workers=2))
    c = report(sp.posterior(problem, "slice", 3_200, seed=3, workers=2))
    assert a["reliable"], a["reason"]
    check_close(a["error"], b["error"], a["error_stderr"], b["error_stderr"])
    check_close(a["error"], c["error"], a["error_stderr"], c["error_stderr"])
    check_close(
        a["log_evidence"], b["log_evidence"], a["log_evidence_stderr"], b["log_evidence_stderr"]
    )
