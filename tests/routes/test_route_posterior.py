"""Posteriors of any problem: real data, corrupted labels, attack points; methods agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import simprior as sp
from simprior.boolean.truthtable import unpack
from simprior.cli import main
from simprior.errors import InputError, NumericalError
from simprior.gp.regression import sample_regression
from simprior.routes.methods import LIKELIHOODS, METHODS, OPTIONS
from simprior.routes.posterior import features
from simprior.training.replay import problem_of_run

WIDE = sp.Network(hidden=(400,))
NET = sp.Network(n=4, hidden=(6,))


def test_every_method_knows_some_likelihood() -> None:
    assert {m for methods in LIKELIHOODS.values() for m in methods} == set(METHODS)


@pytest.mark.parametrize("method", ["gp", "rejection", "slice", "features"])
def test_draws_fit_corrupted_labels_and_attack_points(method: str) -> None:
    problem = sp.Problem(NET, "x1", train=4, attack=1, corrupt=0.5, seed=3)
    counts = sp.posterior(problem, method, 200, seed=1)
    tables = unpack(counts.words, 16)
    assert (tables[:, problem.fitted_index] == problem.labels).all()
    report = counts.info["posterior"]
    wrong = problem.labels != problem.target[problem.fitted_index]
    assert report["wrong_labels"] == wrong.sum() and report["target_p"] == 0.0
    assert report["error_stderr"] > 0


def test_errors_of_a_posterior_are_those_of_its_functions() -> None:
    problem = sp.Problem(NET, "x1", train=6, seed=2)
    for method in ("gp", "ep", "rejection", "slice"):
        counts = sp.posterior(problem, method, 300)
        wrong = unpack(counts.words, 16)[:, problem.test_index]
        wrong = (wrong != problem.target[problem.test_index]).mean(axis=1)
        assert counts.info["posterior"]["error"] == pytest.approx(float(wrong @ counts.p))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_methods_agree_on_real_data_with_corrupted_labels(seed: int) -> None:
    """10 training points of digits 3 and 8, 10 % of them corrupted: rejection and slice at width
    400 against the exact infinite width; 4 standard errors, 2 x 3 comparisons: a false alarm in
    2,600 runs (and what width 400 differs from infinity is far below the errors)."""
    problem = sp.Problem(
        WIDE, data="digits", classes="3,8", train=10, test=50, corrupt=0.1, seed=seed
    )
    gp = sp.posterior(problem, "gp", 20_000, seed=1).info["posterior"]
    rejection = sp.posterior(problem, "rejection", 1500, seed=2).info["posterior"]
    chains = sp.posterior(problem, "slice", 6400, seed=3, thin=4).info["posterior"]
    for other in (rejection, chains):
        gap = other["error"] - gp["error"]
        assert abs(gap) < 4 * np.hypot(other["error_stderr"], gp["error_stderr"])
    gap = rejection["log_evidence"] - gp["log_evidence"]
    assert abs(gap) < 4 * np.hypot(rejection["log_evidence_stderr"], gp["log_evidence_stderr"])


def test_squared_error_of_the_gaussian_process_is_regression() -> None:
    """One test input: P(1) is Phi(mean / sd) of the textbook formulas (Rasmussen & Williams 2006,
    equations 2.25, 2.26). 5 standard errors; four inputs: a false alarm in 400,000 runs."""
    from scipy.stats import norm

    problem = sp.Problem(NET, "majority", train=12, corrupt=0.5, seed=5)
    counts = sp.posterior(problem, "gp", 40_000, likelihood="squared", noise=0.3)
    index, rest = problem.fitted_index, problem.test_index
    K = sp.gp.nngp(problem.network, problem.inputs)
    y = 2.0 * problem.labels - 1.0
    noisy = K[np.ix_(index, index)] + 0.3 * np.eye(len(index))
    gain = np.linalg.solve(noisy, K[np.ix_(index, rest)]).T
    mean = gain @ y
    sd = np.sqrt(np.diag(K[np.ix_(rest, rest)] - gain @ K[np.ix_(index, rest)]))
    p = norm.cdf(mean / sd)
    found = unpack(counts.words, 16)[:, rest].T @ counts.p
    assert (np.abs(found - p) < 5 * np.sqrt(p * (1 - p) / 40_000)).all()
    report = counts.info["posterior"]
    density = -0.5 * (y @ np.linalg.solve(noisy, y) + np.linalg.slogdet(2 * np.pi * noisy)[1])
    assert report["log_evidence"] == pytest.approx(density)
    assert 0 < report["violating"] <= 1


def test_cold_regression_fits_and_hot_regression_is_the_prior() -> None:
    problem = sp.Problem(NET, "x1", train=8, seed=1)
    cold = sp.posterior(problem, "gp", 2000, likelihood="squared", noise=1e-4)
    assert cold.info["posterior"]["violating"] == 0
    hot = sp.posterior(problem, "gp", 20_000, likelihood="squared", noise=1e8)
    # the prior puts the two constants at equal probability; 5 standard errors of a share
    p = [hot.share(np.full(16, b))[0] for b in (0, 1)]
    assert abs(p[0] - p[1]) < 5 * np.sqrt(sum(p) / 20_000)


def test_the_result_does_not_depend_on_workers(tmp_path: Path) -> None:
    problem = sp.Problem(NET, "x1", train=8, seed=1)
    for options in ({"likelihood": "squared"}, {}):
        one = sp.posterior(problem, "gp", 40_000, **options)  # type: ignore[arg-type]
        two = sp.posterior(problem, "gp", 40_000, workers=2, **options)  # type: ignore[arg-type]
        assert np.array_equal(one.words, two.words) and np.array_equal(one.count, two.count)


def test_features_are_those_of_a_wide_network() -> None:
    """The kernel of 200,000 random features is the infinite-width one within 5 of its standard
    errors, which are below K sqrt(5 / p) for relu (kurtosis of a product of two features)."""
    network = sp.Network(n=3, hidden=(200_000,))
    K = sp.gp.nngp(network, sp.boolean.truthtable.input_matrix(network))
    assert np.abs(features(network, 1) - K).max() < 5 * K.max() * np.sqrt(5 / 200_000)
    assert not np.array_equal(features(network, 1), features(network, 2))


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("svgd", {}, "method"),
        ("slice", {"likelihood": "squared"}, "use it with gp, features, hmc, nuts"),
        ("gp", {"noise": 0.1}, "squared likelihood"),
        ("gp", {"chains": 4}, "slice, hmc, nuts"),
        ("gp", {"chain": 4}, "option chain=4"),
        ("hmc", {"likelihood": "squared", "beta": 1.0}, "noise in its place"),
        ("gp", {"likelihood": "squared", "noise": -1.0}, "noise"),
        ("gp", {"likelihood": "probit"}, "likelihood"),
    ],
)
def test_what_does_not_go_together_is_refused(
    method: str, options: dict[str, Any], message: str
) -> None:
    problem = sp.Problem(NET, "x1", train=4)
    with pytest.raises(InputError, match=message):
        sp.posterior(problem, method, 10, **options)


@pytest.mark.parametrize(
    "task",
    [
        [
            "--data",
            "digits",
            "--classes",
            "3,8",
            "--train",
            "8",
            "--test",
            "12",
            "--corrupt",
            "0.2",
        ],
        ["--target", "lz:15", "--n", "4", "--train", "5", "--attack", "2", "--data-seed", "7"],
    ],
)
def test_a_posterior_of_a_run(
    task: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--from`` a training run: the same network, S and target; and the run can be compared."""
    sgd, pb, again = (str(tmp_path / name) for name in ("sgd", "pb", "again"))
    net = ["--hidden", "8", "--quiet"]
    assert main(["train", *task, *net, "--runs", "40", "--out", sgd]) == 0
    assert main(["posterior", "--from", sgd, "--samples", "200", "--out", pb, "--quiet"]) == 0
    assert main(["posterior", *task, *net, "--samples", "200", "--out", again]) == 0
    counts = [sp.FunctionCounts.load(path) for path in (pb, again)]
    assert np.array_equal(counts[0].words, counts[1].words)
    problems = [problem_of_run(path).describe() for path in (sgd, pb, again)]
    assert problems[0] == problems[1] == problems[2]
    capsys.readouterr()
    assert main(["compare", sgd, pb, "--bootstrap", "20", "--splits", "2", "--json"]) == 0
    names = {row["name"] for row in json.loads(capsys.readouterr().out)["table"]}
    assert "test_error_a" in names or any("error" in name for name in names)
    assert main(["logp", "--from", sgd, "--top", "3", "--quiet"]) == 0
    assert main(["bound", "--from", sgd, "--quiet"]) == 0


def test_from_refuses_another_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sgd = str(tmp_path / "sgd")
    quick = ["--hidden", "4", "--n", "3", "--quiet"]
    assert (
        main(["train", "--target", "x1", "--train", "4", "--runs", "5", *quick, "--out", sgd]) == 0
    )
    assert main(["posterior", "--from", sgd, "--target", "x2"]) == 2
    assert "the problem of the run" in capsys.readouterr().err
    assert main(["posterior", "--from", str(tmp_path / "none")]) == 2


def test_options_are_flags() -> None:
    from simprior.cli.posterior import Posterior

    fields = set(Posterior.__dataclass_fields__)
    assert {name for own in OPTIONS.values() for name in own} <= fields


@pytest.mark.slow
def test_squared_error_by_hmc_is_exact_for_random_features() -> None:
    """A network without hidden layers is linear in its parameters, so that its posterior is the
    Gaussian one: hmc and gp give every test label with the same probability. 4.5 standard errors of
    the difference, 6 inputs: false alarm 1e-3 at 31 degrees of freedom."""
    problem = sp.Problem(sp.Network(n=4, hidden=()), "majority", train=10, corrupt=0.3, seed=2)
    exact = sp.posterior(problem, "gp", 40_000, likelihood="squared", noise=0.5)
    chains = sp.posterior(problem, "hmc", 16_000, likelihood="squared", noise=0.5)
    gap, errors = [], []
    for counts in (exact, chains):
        report = counts.info["posterior"]
        gap.append(report["error"])
        errors.append(report["error_stderr"])
    assert abs(gap[0] - gap[1]) < 4.5 * np.hypot(*errors)
    tables = [
        unpack(counts.words, 16)[:, problem.test_index].T @ counts.p for counts in (exact, chains)
    ]
    ess = chains.info["posterior"]["ess"]
    p = tables[0]
    assert (np.abs(tables[0] - tables[1]) < 4.5 * np.sqrt(p * (1 - p) * (1 / ess + 1 / 4e4))).all()


def test_several_methods_in_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = "--n 4 --hidden 6 --target x1 --train 6 --samples 300 --quiet --json".split()
    out = str(tmp_path / "pb")
    line = ["posterior", *task, "--method", "gp,rejection,slice", "--chains", "8", "--out", out]
    assert main(line) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["method"] for row in found["table"]] == ["gp", "rejection", "slice"]
    assert found["summary"]["verdict"].startswith("Mean test error: gp 0.")
    for row in found["table"]:
        alone = sp.load(Path(out) / row["method"])
        assert alone.samples == row["samples"]
        assert alone.info["posterior"]["error"] == row["error"]
    assert main([*line, "--resume"]) == 0
    assert main(["posterior", *task, "--method", "gp,gp"]) == 2
    assert main(["posterior", *task, "--method", "gp,ep", "--chains", "4"]) == 2
    assert main(["posterior", *task, "--method", "gp,ep", "--out", f"{out}/gp"]) == 2


def test_a_method_that_fails_is_said_and_the_others_go_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    task = "--n 6 --hidden 6 --target parity --train 60 --samples 50 --json".split()
    line = ["posterior", *task, "--method", "gp,rejection", "--max-draws", "1000"]
    assert main(line) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert [row["method"] for row in found["table"]] == ["gp"]
    assert "none of 1e+03 networks would agree" in found["summary"]["failed"]["rejection"]
    assert "none of 1e+03 networks would agree" in printed.err


def test_agreement_is_judged_by_standard_errors() -> None:
    from simprior.routes.posterior import agreement

    def report(error: float, stderr: float) -> dict[str, float]:
        return {"error": error, "error_stderr": stderr}

    same = agreement({"gp": report(0.2, 0.01), "slice": report(0.21, 0.01)})
    assert "No difference is shown: gp and slice are 0.7 standard errors apart" in same
    other = agreement({"gp": report(0.2, 0.01), "slice": report(0.3, 0.01)})
    assert "They differ: gp and slice are 7.1 standard errors apart" in other
    # 2.1 standard errors: a difference of two, not among three pairs
    pair = {"gp": report(0.2, 0.01), "slice": report(0.2297, 0.01)}
    assert "They differ" in agreement(pair)
    assert "No difference" in agreement(pair | {"rejection": report(0.21, 0.05)})


@pytest.mark.slow
def test_width_400_agrees_with_infinite_width_on_digits() -> None:
    """|S| = 100 of digits 3 and 8: mean test error within 4 standard errors (a false alarm in 5,000
    runs, by the spread of 32 chains)."""
    problem = sp.Problem(WIDE, data="digits", classes="3,8", train=100, test=50, seed=3)
    gp = sp.posterior(problem, "gp", 20_000, seed=1).info["posterior"]
    chains = sp.posterior(
        problem, "slice", 1600, seed=2, chains=32, thin=4, burn_in=200, workers=2
    ).info["posterior"]
    gap = chains["error"] - gp["error"]
    assert abs(gap) < 4 * np.hypot(chains["error_stderr"], gp["error_stderr"])


def test_hopeless_rejection_is_refused_before_it_draws() -> None:
    """ln P(C(S)) of 60 labels of parity is about -130: a billion draws would go on for hours."""
    problem = sp.Problem(sp.Network(n=6), "parity", train=60)
    with pytest.raises(NumericalError, match=r"none of 1e\+09 networks would agree"):
        sp.posterior(problem, "rejection", 10)
    step = sp.Problem(sp.Network(n=3, activation="step"), "x1", train=4)
    assert len(sp.posterior(step, "rejection", 10))  # has a kernel or not: it is just drawn


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("gp", {}),
        ("ep", {}),
        ("gp", {"likelihood": "squared", "noise": 0.3}),
        ("features", {"likelihood": "squared", "noise": 0.3}),
        ("rejection", {}),
        ("slice", {"chains": 16, "thin": 4}),
    ],
)
def test_standard_errors_of_the_mean_test_error_are_true(
    method: str, options: dict[str, Any]
) -> None:
    """100 repeats against one long run: standardised errors have mean 0 and standard deviation 1,
    within 4 of their own standard errors, 0.1 and 0.071 (normal), and for 16 chains the deviation
    of Student's t with 15 degrees, 1.07: a false alarm in 1,300 runs of the six."""
    problem = sp.Problem(NET, "majority", train=7, corrupt=0.3, seed=4)
    where = (features(NET, 9), problem.fitted_index, problem.labels)

    def draw(samples: int, seed: int) -> Any:
        if method == "features":  # the hidden layers that are kept, whatever the seed of the draws
            given = {"target": problem.target, "n": 4, "noise": options["noise"]}
            return sample_regression(*where, samples, seed, **given)
        return sp.posterior(problem, method, samples, seed, **options)

    long = draw(100_000, 10_000).info["posterior"]
    z = []
    for repeat in range(100):
        found = draw(320, repeat).info["posterior"]
        error = np.hypot(found["error_stderr"], long["error_stderr"])
        z.append((found["error"] - long["error"]) / error)
    expected = 1.07 if method == "slice" else 1.0
    assert abs(np.mean(z)) < 4 * 0.1 * expected
    assert abs(np.std(z, ddof=1) - expected) < 4 * 0.071 * expected
