"""Comparisons: noise ceilings, calibrated intervals, what is refused, and the command line."""

from __future__ import annotations

import json
import math
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from simprior.analysis.compare.comparison import Comparison, compare
from simprior.analysis.compare.distances import NAMES
from simprior.analysis.compare.sources import WeightedFunctions, side_of
from simprior.analysis.compare.statistics import baselines, check_task, mean_error
from simprior.analysis.correlate.intervals import split_halves
from simprior.boolean.sampling.counts import FunctionCounts
from simprior.boolean.sampling.sample import sample
from simprior.boolean.truthtable import pack, parse_functions
from simprior.cli import main
from simprior.errors import InputError
from simprior.network.spec import Network
from simprior.numerics.estimate import clopper_pearson
from simprior.runs.directory import load_run

WORDS = (np.arange(1 << 16, dtype=np.uint64) << np.uint64(48))[:, None]
NET = Network(n=4, hidden=(10,))


def draw(p: np.ndarray, samples: int, rng: np.random.Generator) -> FunctionCounts:
    k = rng.multinomial(samples, p)
    return FunctionCounts.from_counts(WORDS[: len(p)][k > 0], k[k > 0], m=16, n=4)


def zipf(functions: int, power: float = 1.0) -> np.ndarray:
    p = np.arange(1.0, functions + 1) ** -power
    return np.asarray(p / p.sum())


@pytest.fixture(scope="module")
def pair() -> tuple[FunctionCounts, FunctionCounts]:
    rng = np.random.default_rng(0)
    return draw(zipf(400), 3000, rng), draw(zipf(500, 1.3), 5000, rng)


@pytest.fixture(scope="module")
def found(pair: tuple[FunctionCounts, FunctionCounts]) -> Comparison:
    return compare(*pair, bootstrap=40, splits=4, target="x1", test_mask=np.arange(16) > 3)


def test_frame_has_every_statistic_once(found: Comparison) -> None:
    frame = found.to_frame()
    assert frame["name"].is_unique
    wanted = {
        *NAMES, *(f"{n}_held_out" for n in NAMES), "mass_common_a", "mass_common_b", "spearman",
        "kendall", "pearson", "slope", "scatter_decades_noise_free", "mean_error_a",
        "mean_error_difference", "baseline_majority", "baseline_entropy_matched",
    }  # fmt: skip
    assert wanted <= set(frame["name"])
    bounded = frame.dropna(subset=["low", "high"])
    assert (bounded["low"] <= bounded["value"]).all()
    assert (bounded["value"] <= bounded["high"]).all()
    with pytest.raises(FrozenInstanceError):
        found.level = 0.5  # type: ignore[misc]
    with pytest.raises(KeyError):
        found["nonsense"]


def test_pairs_are_the_two_tables(
    pair: tuple[FunctionCounts, FunctionCounts], found: Comparison
) -> None:
    frame = found.pairs().set_index("function")
    for name, counts, other in zip("ab", pair, "ba", strict=True):
        own = counts.to_frame(top=None).set_index("function")
        part = frame.loc[own.index]
        assert np.allclose(part[f"p_{name}"], own["p"], rtol=1e-14)
        assert np.array_equal(part[f"p_{name}_low"], own["p_low"])
        assert np.array_equal(part[f"p_{name}_high"], own["p_high"])
        missing = frame.drop(own.index)
        assert (missing["seen_in"] == f"{other} only").all() and len(missing)
        assert (missing[[f"p_{name}", f"p_{name}_low"]] == 0).all(axis=None)
        bound = float(clopper_pearson(np.array(0.0), counts.samples)[1])
        assert np.allclose(missing[f"p_{name}_high"], bound)
    assert (frame["seen_in"] == "both").sum() == found["functions_common"].value
    assert len(found.pairs(7)) == 7


def test_same_seed_same_result_and_swapping_mirrors(
    pair: tuple[FunctionCounts, FunctionCounts],
) -> None:
    first = compare(*pair, bootstrap=20, splits=3, seed=5).to_frame()
    again = compare(*pair, bootstrap=20, splits=3, seed=5).to_frame()
    pd.testing.assert_frame_equal(first, again)
    swapped = compare(*pair[::-1], bootstrap=20, splits=3, seed=5)
    original = compare(*pair, bootstrap=20, splits=3, seed=5)
    for name in (*NAMES, "spearman", "kendall", "pearson", "scatter_decades"):
        assert swapped[name].value == pytest.approx(original[name].value, rel=1e-12)
    assert swapped["mass_common_a"].value == pytest.approx(original["mass_common_b"].value)
    assert swapped["slope"].value * original["slope"].value == pytest.approx(1.0, rel=1e-6)


def test_weights_with_the_counts_ess_give_the_same_statistics(
    pair: tuple[FunctionCounts, FunctionCounts],
) -> None:
    """Normalised weights and an effective sample size say as much as counts."""
    a, b = pair
    weighted = WeightedFunctions(16, a.words, a.p, float(a.samples), 4)
    one, two = (
        compare(x, b, bootstrap=20, splits=3).to_frame().set_index("name") for x in (a, weighted)
    )
    exact = ["value", "matched", "noise_ceiling_a", "noise_ceiling_b"]
    pd.testing.assert_frame_equal(one[exact], two[exact], rtol=1e-9)
    # redrawn counts that tie in one of them differ in the last digit in the other
    pd.testing.assert_frame_equal(one, two, rtol=0.02)
    frames = [compare(x, b, bootstrap=2, splits=1).pairs() for x in (a, weighted)]
    pd.testing.assert_frame_equal(*frames, rtol=1e-9)


def test_fewer_effective_samples_give_longer_intervals(
    pair: tuple[FunctionCounts, FunctionCounts],
) -> None:
    a, b = pair
    weighted = WeightedFunctions(16, a.words, a.p, a.samples / 9, 4)
    plain, thin = compare(a, b, bootstrap=100), compare(weighted, b, bootstrap=100)
    assert thin["mass_common_a"].stderr == pytest.approx(3 * plain["mass_common_a"].stderr)
    assert thin["total_variation"].stderr > 1.5 * plain["total_variation"].stderr
    assert thin["selected_functions"].value < plain["selected_functions"].value
    assert thin.part_size < plain.part_size / 3


def test_a_run_against_itself_is_split(pair: tuple[FunctionCounts, FunctionCounts]) -> None:
    run = pair[0]
    result = compare(run, run, bootstrap=20, splits=4)
    assert result.split and not compare(*pair, bootstrap=2, splits=1).split
    assert result["total_variation"].value > 0
    assert result["total_variation"].low < 0.05


def test_one_diffuse_law_looks_different_but_lands_on_the_ceiling() -> None:
    """The trap that the ceilings are for: nearly disjoint samples of one law."""
    rng = np.random.default_rng(1)
    p = np.full(1 << 16, 2.0**-16)
    found = compare(draw(p, 4000, rng), draw(p, 4000, rng), bootstrap=20, splits=4)
    row = found["total_variation"]
    assert row.value > 0.9 and row.low < 0.05
    # a common function is a rare event: Poisson, 2000^2 / 65536 = 61 a split, sd < 8 / 2000
    assert row.matched == pytest.approx(row.noise_ceiling_a, abs=5 * math.sqrt(2) * 0.004)


@pytest.mark.slow
@pytest.mark.parametrize("heads", [1, 16])
def test_halves_of_a_run_land_on_the_noise_ceiling(heads: int) -> None:
    """compare(run, itself split): mean of matched - ceiling over runs is 0 within 5 standard
    errors, for every statistic (20 tests, false alarm 1e-5); heads=16: design effects are
    estimates, and the two may differ by 3 % of the ceiling."""
    names = (
        *NAMES, "mass_common_a", "mass_common_b", "spearman", "kendall", "pearson",
        "scatter_decades", "slope",
    )  # fmt: skip
    gaps: dict[str, list[float]] = {name: [] for name in names}
    size: dict[str, list[float]] = {name: [] for name in names}
    for index in range(30):
        run = sample(Network(n=4), samples=32_000, seed=index, heads=heads)
        found = compare(run, run, min_count=5, bootstrap=2, splits=6, seed=index)
        for name in names:
            row = found[name]
            ceiling = 0.5 * (row.noise_ceiling_a + row.noise_ceiling_b)
            gaps[name].append(row.matched - ceiling)
            size[name].append(abs(ceiling))
    for name, values in gaps.items():
        error = np.std(values, ddof=1) / math.sqrt(len(values))
        slack = 0.0 if heads == 1 else 0.03 * float(np.mean(size[name]))
        assert abs(np.mean(values)) < 5 * error + slack, (name, np.mean(values), error)


@pytest.mark.slow
def test_intervals_of_agreement_cover() -> None:
    """Known laws with scatter between them: 95 % intervals of what counting leaves well defined.

    Of 120 Bernoulli(0.95), fewer than 100 has probability 1e-6.
    """
    rng, repeats, functions = np.random.default_rng(2), 120, 60
    p = zipf(functions, 0.8)
    q = p * np.exp(rng.normal(size=functions) * 0.8)
    q /= q.sum()
    x, y = np.log(p), np.log(q)
    truth = {
        "pearson_noise_free": float(np.corrcoef(x, y)[0, 1]),
        "offset_decades": float((x - y).mean()) / math.log(10),
        "scatter_decades_noise_free": float((x - y).std(ddof=1)) / math.log(10),
    }
    target, mask = parse_functions("x2", 16)[0], np.arange(16) % 3 > 0
    wrong = (parse_functions(np.arange(functions)[:, None] >> np.arange(15, -1, -1) & 1, 16)
             != target)[:, mask].mean(axis=1)  # fmt: skip
    truth |= {"mean_error_a": float(p @ wrong), "mean_error_difference": float((p - q) @ wrong)}
    hits = dict.fromkeys(truth, 0)
    for index in range(repeats):
        a, b = draw(p, 30_000, rng), draw(q, 30_000, rng)
        found = compare(
            a, b, bootstrap=50, splits=1, seed=index, min_count=1, target=target, test_mask=mask
        )
        assert found["selected_functions"].value == functions
        for name, true in truth.items():
            hits[name] += found[name].low <= true <= found[name].high
    assert all(number >= 100 for number in hits.values()), hits


@pytest.mark.slow
def test_share_of_common_mass_covers() -> None:
    """P_A of the functions that B met is exactly binomial given B; of 200 at 95 %, 174 (1e-5)."""
    rng, p, q, hits = np.random.default_rng(3), zipf(3000), zipf(3000, 1.2), 0
    for index in range(200):
        b = draw(q, 1000, rng)
        met = (b.words[:, 0] >> np.uint64(48)).astype(int)
        row = compare(draw(p, 2000, rng), b, bootstrap=2, splits=1, seed=index)["mass_common_a"]
        hits += row.low <= p[met].sum() <= row.high
    assert hits >= 174


def test_mean_errors_and_baselines_by_hand() -> None:
    tables = np.array([[0, 0, 0, 1], [1, 1, 1, 1], [0, 0, 1, 1]], np.uint8)
    counts = FunctionCounts.from_counts(pack(tables), np.array([6, 3, 1]), m=4, n=2)
    other = FunctionCounts.from_counts(pack(tables[:1]), np.array([10]), m=4, n=2)
    found = compare(
        counts, other, bootstrap=2, splits=1, target="0001", test_mask=[False, True, True, True]
    )
    assert found["mean_error_a"].value == pytest.approx(0.3 * 2 / 3 + 0.1 / 3)
    assert found["mean_error_b"].value == 0 and found["mean_error_b"].high > 0.1
    assert found["baseline_majority"].value == pytest.approx(1 / 3)  # trained on a single 0
    assert found["baseline_entropy_matched"].value == pytest.approx(0.25 * 2 / 3 + 0.75 / 3)
    shares = np.array([1 / 3, 1, 2 / 3])
    permuted = float(np.array([0.6, 0.3, 0.1]) @ (shares * 2 / 3 + (1 - shares) / 3))
    assert found["baseline_permuted_a"].value == pytest.approx(permuted)
    frame = found.errors
    assert frame is not None
    assert frame["p_a"].to_numpy() == pytest.approx([0.6, 0.1, 0.3, 0])
    assert (frame["p_a_low"] <= frame["p_a"]).all() and (frame["p_a"] <= frame["p_a_high"]).all()


def test_entropy_matched_baseline_is_the_mean_over_permutations() -> None:
    """Against 20,000 random targets with as many ones, within 5 standard errors."""
    rng = np.random.default_rng(4)
    task = check_task("majority", np.arange(32) % 4 > 0, 32, 5)
    errors = [
        (rng.permutation(task.target) != task.target)[task.test].mean() for _ in range(20_000)
    ]
    error = np.std(errors) / math.sqrt(len(errors))
    assert abs(np.mean(errors) - baselines(task)["baseline_entropy_matched"]) < 5 * error


@pytest.mark.slow
def test_clustered_runs_have_longer_intervals_than_their_counts_suggest() -> None:
    run = sample(NET, samples=6400, seed=0, heads=64, mirror=False)
    other = sample(NET, samples=6400, seed=1, heads=1)
    naive = FunctionCounts.from_counts(run.words, run.count, m=16, n=4)
    honest, wrong = (compare(x, other, bootstrap=100, splits=2) for x in (run, naive))
    assert honest["total_variation"].stderr > wrong["total_variation"].stderr
    assert honest["mass_common_a"].stderr > wrong["mass_common_a"].stderr
    assert compare(run, run, bootstrap=2, splits=1).split


@pytest.mark.slow
@pytest.mark.parametrize("functions", [3, 7, 9, 13])
def test_equal_errors_of_all_functions_are_no_certainty(functions: int) -> None:
    """All differ from the target in 1 of 16: a mean with a variance of 1e-34 has an interval."""
    target = np.zeros(16, np.uint8)
    tables = np.eye(16, dtype=np.uint8)[:functions]
    for tests in (3, 10, 16):
        test = np.arange(16) < max(tests, functions)
        run = FunctionCounts.from_counts(pack(tables), 3 + np.arange(functions), m=16, n=4)
        task = check_task(target, test, 16, 4)
        found = mean_error(side_of(run, "a"), task, 0.95)
        assert found.stderr == pytest.approx(1 / (run.samples + 2))  # nothing varied in so many
        limit = clopper_pearson(np.array(0.0), run.samples, 0.95)[1]
        assert found.high - found.value == pytest.approx(limit, rel=1e-9)


@pytest.mark.slow
def test_errors_of_shares_and_mean_errors_of_clustered_runs() -> None:
    """Standard errors against the spread of 60 runs (known to 9 %): within 5 times that. (With
    mirrors the mean error of all functions is exactly 1/2; the stated error is an upper limit.)"""
    other = sample(NET, samples=6400, seed=999, heads=1)
    names = ("mass_common_a", "mean_error_a")
    rows = []
    for seed in range(60):
        run = sample(NET, samples=6400, seed=seed, heads=64, mirror=False)
        found = compare(run, other, bootstrap=2, splits=1, target="x1")
        rows.append([(found[name].value, found[name].stderr) for name in names])
    values, errors = np.moveaxis(np.array(rows), 2, 0)
    assert values.std(axis=0, ddof=1) / errors.mean(axis=0) == pytest.approx(1, abs=0.46)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"min_count": 0}, "min_count=0"), ({"bootstrap": 1}, "bootstrap=1"),
        ({"splits": 0}, "splits=0"), ({"level": 1.0}, r"level=1\.0"), ({"seed": -1}, "seed=-1"),
        ({"target": "0101"}, "function"), ({"test_mask": [True]}, "without a target"),
        ({"target": "x1", "test_mask": [True]}, "test_mask"),
        ({"target": "x1", "test_mask": [False] * 16}, "test_mask"),
    ],
)  # fmt: skip
def test_bad_parameters_are_one_line(
    pair: tuple[FunctionCounts, FunctionCounts], change: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        compare(*pair, **change)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_tables_that_are_not_whole_are_refused(
    pair: tuple[FunctionCounts, FunctionCounts],
) -> None:
    a, b = pair
    small = FunctionCounts.from_counts(pack(np.array([[0, 1]])), np.array([3]), m=2, n=1)
    with pytest.raises(InputError, match="m=2 inputs: expected m=16"):
        compare(a, small)
    with pytest.raises(InputError, match="whole table"):
        compare(a.head(3), b)
    with pytest.raises(InputError, match=r"\.pooled"):
        pooled = sample(NET, samples=1000, seed=0, heads=1, pool=True).pooled
        assert pooled is not None
        compare(pooled, b)
    with pytest.raises(InputError, match="FunctionCounts or WeightedFunctions"):
        compare({}, b)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="two tables"):
        exact = WeightedFunctions(16, WORDS[:2], np.array([0.5, 0.5]), math.inf)
        compare(exact, exact)
    with pytest.raises(InputError, match="heads 1"):
        split_halves(sample(NET, samples=640, seed=0, heads=64))


def test_few_samples_and_no_common_functions_are_no_trouble() -> None:
    one = FunctionCounts.from_counts(WORDS[:1], np.array([1]), m=16, n=4)
    two = FunctionCounts.from_counts(WORDS[1:2], np.array([1]), m=16, n=4)
    found = compare(one, two, bootstrap=5)
    assert found["total_variation"].value == 1 and found["total_variation"].low == 0
    assert math.isnan(found["spearman"].value) and math.isnan(found["total_variation"].matched)
    assert found["mass_common_a"].high == pytest.approx(0.975)


# -- command line ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for seed, name in enumerate("ab"):
        sample(NET, samples=4000, seed=seed, heads=1, out=folder / name)
    sample(Network(n=3, hidden=(4,)), samples=500, seed=0, heads=1, out=folder / "small")
    return folder


FAST = ["--bootstrap", "5", "--splits", "2", "--quiet"]


def test_command_prints_the_table(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(runs / "a"), str(runs / "b"), *FAST]) == 0
    out = capsys.readouterr().out
    assert "total_variation" in out and "noise_ceiling_a" in out and "nan" not in out
    assert main(["compare", str(runs / "a"), str(runs / "a"), "--json", *FAST]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["summary"]["split"] is True
    assert {row["name"] for row in found["table"]} >= set(NAMES)


def test_the_verdict_is_that_of_the_intervals() -> None:
    """Two samples of one prior do not differ, those of two priors do; the numbers are the table's.

    The lower limit of a distance excludes 0 by chance in 2.5 % of comparisons (one seed: fixed).
    """
    a, b = (sample(NET, samples=4000, seed=seed, heads=1) for seed in (0, 1))
    other = sample(Network(n=4, hidden=(6,), sigma_b=3.0), samples=4000, seed=2, heads=1)
    same, different = (compare(a, x, bootstrap=20, splits=4) for x in (b, other))
    tv = different["total_variation"]
    assert same["total_variation"].low == 0 and tv.low > 0
    assert same.verdict.startswith("No difference is shown: total variation at most ")
    said = different.verdict
    assert said.startswith(f"They differ: total variation {tv.low:.3g} to {tv.high:.3g} (95 %")
    for number in (tv.matched, tv.noise_ceiling_a, tv.noise_ceiling_b):
        assert f"{number:.3g}" in said
    named = replace(different, labels=("SGD", "Bayes"), remarks=("Not alike.",))
    assert "(SGD)" in named.verdict and "(Bayes)" in named.verdict
    assert named.verdict.endswith(" Not alike.") and named.notes[0] == "Not alike."
    itself = compare(a, a, bootstrap=5, splits=2)
    assert itself.verdict.startswith("One run against itself. No difference is shown")
    assert itself.summary()["verdict"] == itself.verdict


def test_different_targets_are_said_in_the_table(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = FunctionCounts.load(runs / "b")
    for target in ("x1", "parity"):
        config = {"problem": {"target": target, "train_index": [0, 3]}}
        counts.save(tmp_path / target, command="train", config=config)
    line = ["compare", str(tmp_path / "x1"), str(tmp_path / "parity"), *FAST]
    line += ["--labels", "SGD,Bayes", "--title", "Two targets", "--out", str(tmp_path / "c")]
    assert main(line) == 0
    out = capsys.readouterr().out
    assert out.startswith("Two targets\n\nNo difference is shown")
    said = "- The runs have different targets (x1 and parity), so they are bound to differ"
    assert said in out and "(SGD)" in out
    results = load_run(tmp_path / "c").results
    assert "different targets" in results["verdict"] and said[2:] in results["notes"][0]
    assert main(["table", str(tmp_path / "c"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["summary"]["verdict"] == results["verdict"] and len(found["table"]) > 20
    assert main([*line[:3], "--labels", "a,b,c", *FAST]) == 2
    assert "two names with a comma between" in capsys.readouterr().err


@pytest.mark.slow
def test_command_writes_a_run_directory(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["compare", str(runs / "a"), str(runs / "b"), "--out", str(tmp_path / "c"), *FAST]
    line += ["--plot", "--target", "x1", "--train-index", "0,3,5"]
    assert main(line) == 0
    run = load_run(tmp_path / "c")
    assert run.status == "complete" and run.verify() == []
    drawn = {f"figures/{n}.{f}" for n in ("scatter", "errors") for f in ("pdf", "png")}
    assert set(run.files) >= {"compare.csv", "pairs.parquet", "errors.csv", *drawn}
    table = pd.read_csv(tmp_path / "c" / "compare.csv")
    assert "mean_error_a" in set(table["name"])
    capsys.readouterr()
    assert main(line) == 2  # occupied
    assert "--overwrite" in capsys.readouterr().err
    assert main([*line, "--overwrite"]) == 0


def test_plot_without_out_goes_to_the_first_run(runs: Path) -> None:
    assert main(["compare", str(runs / "a"), str(runs / "b"), "--plot", *FAST]) == 0
    assert (runs / "a" / "figures" / "compare-b-scatter.pdf").exists()
    assert load_run(runs / "a").verify() == []


@pytest.mark.parametrize(
    ("second", "flags", "message"),
    [
        ("small", [], "m=8 inputs"), ("missing", [], "missing"),
        ("b", ["--train-index", "1,2"], "target"),
        ("b", ["--target", "x1", "--train-index", "99"], "train_index=99"),
        ("b", ["--target", "x1", "--train-index", "1;2"], "whole numbers"),
        ("b", ["--target", "nonsense"], "nonsense"), ("b", ["--level", "2"], "level"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(
    runs: Path, capsys: pytest.CaptureFixture[str], second: str, flags: list[str], message: str
) -> None:
    assert main(["compare", str(runs / "a"), str(runs / second), *flags, *FAST]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_the_task_is_read_from_the_runs(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training set and attack set are left out of the test error, as with the flags."""
    counts = FunctionCounts.load(runs / "b")
    config = {"problem": {"target": "x1", "train_index": [0, 3], "attack_index": [5]}}
    counts.save(tmp_path / "trained", command="train", config=config)
    frames = []
    for line in (
        [str(tmp_path / "trained")],
        [str(runs / "b"), "--target", "x1", "--train-index", "0,3,5"],
    ):
        assert main(["compare", str(runs / "a"), *line, "--json", *FAST]) == 0
        frames.append(json.loads(capsys.readouterr().out)["table"])
    assert frames[0] == frames[1]
    assert any(row["name"] == "mean_error_b" for row in frames[0])
