"""Runs over many networks: determinism, resume, summary, fits, command line, figures."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from simprior.analysis.strings import predictions as scaling
from simprior.analysis.strings import run as strings_run
from simprior.analysis.strings.run import StringsWork, load
from simprior.analysis.strings.search import expected_flips, nearest_distances
from simprior.analysis.strings.settings import StringsSettings
from simprior.analysis.table_runs import sensitivity
from simprior.cli import main
from simprior.errors import InputError, StoreError
from simprior.runs.tasks import Interrupted

SMALL = {"hidden": (30, 30), "sigma_b": 0.1, "strings": 2, "paths": 2, "budget": 5000}
STUDY = StringsSettings(n=(12, 25, 50), networks=45, gp_draws=500, **SMALL)


@pytest.mark.slow
def test_rows_do_not_depend_on_workers_chunks_or_the_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = sensitivity(STUDY)
    pool = sensitivity(STUDY, out=tmp_path / "a", workers=2)
    monkeypatch.setattr(strings_run, "CHUNK", 7)
    chunks = sensitivity(STUDY)
    for other in (pool, chunks, load(tmp_path / "a")):
        pd.testing.assert_frame_equal(here.rows, other.rows)
        pd.testing.assert_frame_equal(here.summary, other.summary)
        pd.testing.assert_frame_equal(here.fits, other.fits)
    assert len(here.rows) == 3 * 45 * 2
    assert (here.rows.groupby(["n", "network"]).size() == 2).all()
    few = StringsSettings(n=(25,), networks=10, gp_draws=0, **SMALL)
    part = sensitivity(few)
    same = here.rows[(here.rows["n"] == 25) & (here.rows["network"] < 10)].reset_index(drop=True)
    pd.testing.assert_frame_equal(part.rows, same)
    assert not len(part.fits) and part.summary["gp_flips"].isna().all()


class _StopAfter:
    def __init__(self, count: int) -> None:
        self.left = count

    def update(self, n: int = 1) -> None:
        self.left -= 1
        if self.left == 0:
            raise Interrupted("stopped")


def test_resume_continues_and_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sensitivity(STUDY, out=tmp_path / "whole")
    with pytest.raises(Interrupted):
        sensitivity(STUDY, out=tmp_path / "part", progress=_StopAfter(4))
    done = []
    original = StringsWork.compute

    def compute(work: StringsWork, chunk: strings_run.Chunk) -> object:
        done.append(chunk)
        return original(work, chunk)

    monkeypatch.setattr(StringsWork, "compute", compute)
    sensitivity(STUDY, out=tmp_path / "part", resume=True)
    assert len(done) == 9 - 4
    for name in ("networks.parquet", "tables/sensitivity.csv", "tables/sensitivity-fits.tex"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "part" / name).read_bytes()
    done.clear()
    sensitivity(STUDY, out=tmp_path / "part", resume=True)
    assert not done
    with pytest.raises(StoreError):
        sensitivity(STUDY, out=tmp_path / "part")


def _table(slope: float, seed: int, networks: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    parts = []
    for n in (100, 200, 400):
        scale = math.sqrt(n / math.log(n))
        flips = rng.exponential(slope * n, networks)
        distance = 1 + rng.poisson(0.5 * scale, networks)
        parts.append(pd.DataFrame({
            "n": n, "network": np.arange(networks), "string": 0, "distance": distance,
            "search": distance + (np.arange(networks) % 4 == 0), "certified": distance < 4,
            "flips": flips, "unchanged": 0.0,
        }))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


@pytest.mark.slow
def test_fits_recover_what_was_simulated() -> None:
    # 60 tables: 95 % intervals of the slope cover in 57 +- 1.7; below 50 has probability 4e-4.
    # A standard deviation of 60 values is known to 9.2 %: 4.5 of those are a factor of 1.51.
    # Kolmogorov-Smirnov's test of the p-values has a false-alarm rate of 1e-5
    found = [scaling.fit(_table(0.3, seed)).set_index("fit") for seed in range(60)]
    slopes = [f.loc["flips slope"] for f in found]
    assert sum(s["low"] <= 0.3 <= s["high"] for s in slopes) >= 50
    values = np.array([s["value"] for s in slopes])
    assert abs(values.mean() - 0.3) < 4.5 * values.std() / math.sqrt(60)
    ratio = np.mean([s["stderr"] for s in slopes]) / values.std(ddof=1)
    assert 1 / 1.51 < ratio < 1.51
    assert stats.kstest([s["p_value"] for s in slopes], "uniform").pvalue > 1e-5


def test_fits_of_flips_are_weighted_lines() -> None:
    """Values and chi2 against numpy's weighted polynomials, p-values with two parameters fitted."""
    table = _table(0.3, 1)
    found = scaling.fit(table).set_index("fit")
    groups = table.groupby("n")["flips"]
    n, mean = np.array(sorted(groups.groups), float), groups.mean().to_numpy()
    error = groups.std().to_numpy() / math.sqrt(200)
    for names, x, y, e in (
        (("flips slope", "flips intercept"), n, mean, error),
        (("flips exponent",), np.log(n), np.log(mean), error / mean),
    ):
        line = np.polyfit(x, y, 1, w=1 / e)
        chi2 = (((y - np.polyval(line, x)) / e) ** 2).sum()
        for name, value in zip(names, line, strict=False):
            row = found.loc[name]
            assert row["value"] == pytest.approx(value, rel=1e-9)
            assert row["chi2"] == pytest.approx(chi2, rel=1e-6) and row["dof"] == 1
            assert row["p_value"] == pytest.approx(stats.chi2.sf(chi2, 1), rel=1e-6)


@pytest.mark.slow
def test_too_few_networks_or_lengths_are_not_fitted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = _table(0.3, 0, scaling.LEAST_NETWORKS)
    assert scaling.too_few(whole) == "" and len(scaling.fit(whole)) == 7
    lacking = whole.assign(distance=whole["distance"].where(whole.index > 0, 0))
    for part, why in (
        (whole[whole["n"] < 400], "2 lengths n, fewer than 3"),
        (whole[whole["network"] > 0], "9 networks with a distance at n=100, fewer than 10"),
        (lacking, "9 networks with a distance at n=100, fewer than 10"),  # one is constant
    ):
        assert scaling.too_few(part) == why
        with pytest.raises(InputError, match=why):
            scaling.fit(part)
    flags = ["--n", "20,30", "--hidden", "10", "--networks", "2", "--gp-draws", "100"]
    assert main(["sensitivity", *flags, "--workers", "1", "--out", str(tmp_path / "o")]) == 0
    output = capsys.readouterr()
    assert "exponent" not in output.out and " nan " not in output.out
    assert "note: no fits over n: 2 lengths n, fewer than 3" in output.err
    assert load(tmp_path / "o").notes == ["no fits over n: 2 lengths n, fewer than 3"]
    assert not (tmp_path / "o/tables/sensitivity-fits.csv").exists()
    assert main(["plot", str(tmp_path / "o"), "--quiet"]) == 0


def test_networks_that_are_all_alike_have_no_interval() -> None:
    table = _table(0.3, 0, 20).assign(distance=1, search=1, certified=True)
    fits = scaling.fit(table).set_index("fit")
    alike = fits.filter(like="distance", axis=0)
    assert alike[["stderr", "low", "high", "p_value"]].isna().all().all()
    assert (
        fits.loc[["flips slope", "flips exponent"], ["stderr", "low", "high"]].notna().all().all()
    )
    (note,) = scaling.without_spread(fits.reset_index())
    assert note.startswith("no errors and intervals of distance exponent, ")
    assert scaling.without_spread(scaling.fit(_table(0.3, 0))) == []


def test_fits_see_what_is_not_linear() -> None:
    table = _table(0.3, 0, networks=5000)
    table["flips"] *= (table["n"] / 100) ** 0.7
    fits = scaling.fit(table).set_index("fit")
    assert fits.loc["flips slope", "p_value"] < 1e-3
    exponent = fits.loc["flips exponent"]
    assert abs(exponent["value"] - 1.7) < 4.5 * exponent["stderr"]


def test_summary_of_a_table_by_hand() -> None:
    table = pd.DataFrame({
        "n": 10, "network": [0, 0, 1, 1, 2, 2], "string": [0, 1] * 3,
        "distance": [1, 3, 2, 2, 0, 4], "search": [1, 4, 2, 2, 0, 5],
        "certified": [True, True, True, True, True, False],
        "flips": [1.0, 3.0, 5.0, 5.0, 10.0, 6.0], "unchanged": [0, 0, 0, 0, 1.0, 0],
    })  # fmt: skip
    row = scaling.summarise(table).iloc[0]
    means = np.array([2.0, 2.0, 4.0])  # networks, without the constant
    assert row["distance"] == pytest.approx(means.mean())
    assert row["distance_stderr"] == pytest.approx(means.std(ddof=1) / math.sqrt(3))
    assert row["flips"] == pytest.approx(5.0)
    assert row["certified"] == pytest.approx(5 / 6) and row["not_found"] == pytest.approx(1 / 6)
    assert row["bias"] == pytest.approx(0.25)  # networks 0 and 1: 1/2 and 0
    assert row["ratio"] == pytest.approx(means.mean() / math.sqrt(10 / math.log(10)))
    assert row["asymptote"] == pytest.approx(math.sqrt(10 / (2 * math.pi * math.log(10))))


def test_sensitivity_given_two_classes_is_that_of_networks() -> None:
    """A string far from the other class counts, where another string of its network shows one."""
    table = pd.DataFrame(
        {
            "n": 10,
            "network": [0, 0, 1, 1, 2, 2],
            "distance": [1, 0, 1, 2, 0, 0],
            "search": 0,
            "certified": False,
            "flips": 1.0,
            "unchanged": 0.0,
            "sensitivity": [4, 0, 1, 0, 0, 0],
        }
    )
    row = scaling.summarise(table).iloc[0]
    assert row["sensitivity"] == pytest.approx((2.0 + 0.5) / 3)
    assert row["sensitivity_nonconstant"] == pytest.approx((2.0 + 0.5) / 2)
    assert row["sensitivity_nonconstant_stderr"] == pytest.approx((2.0 - 0.5) / 2)


def test_flips_of_constant_networks_alone_do_not_exclude_others() -> None:
    """With probability .02 a network has two classes, and flips half of 40 bits, not all. Of 20
    networks none has with probability .67: the interval holds the mean then."""
    table = pd.DataFrame(
        {
            **{"n": 40, "network": range(20), "distance": 0, "search": 0, "certified": False},
            **{"flips": 40.0, "unchanged": 1.0, "sensitivity": 0},
        }
    )
    row = scaling.summarise(table).iloc[0]
    assert row["flips_low"] < 0.98 * 40 + 0.02 * 20 < row["flips_high"]
    assert row["flips_stderr"] == pytest.approx(39 / 22)
    assert row["sensitivity_stderr"] == pytest.approx(40 / 22)


@pytest.mark.slow
def test_command_tables_and_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    flags = ["--n", "16,32,64", "--hidden", "40,40", "--networks", "30", "--gp-draws", "400",
             "--workers", "1", "--quiet"]  # fmt: skip
    assert main(["sensitivity", *flags, "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert "flips slope" in text and "gp_distance_low" in text
    names = {p.relative_to(out).as_posix() for p in out.rglob("*.*")}
    tables = {f"tables/sensitivity.{ending}" for ending in ("csv", "parquet", "tex")}
    assert {"networks.parquet", "tables/sensitivity-fits.csv", "config.toml", *tables} <= names
    tex = (out / "tables/sensitivity.tex").read_text()
    assert tex.startswith("% simprior")
    assert r"{distance $h$}" in tex and "siunitx" in tex and "stderr" not in tex
    assert len(tex.partition(r"\midrule")[2].split("\n")[1].split(" & ")) <= 9 + 4  # a page's width
    fits = (out / "tables/sensitivity-fits.tex").read_text()
    assert re.search(r"flips slope & [\d.]+ & \$\[", fits)
    assert main(["table", str(out), "--quiet"]) == 0  # a row a length, not a row a string
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("n,networks,strings,distance,") and len(lines) == 4
    again = [*flags[-3:], "--config", str(out / "config.toml"), "--json"]
    assert main(["sensitivity", *again]) == 0
    summary = json.loads(capsys.readouterr().out)["table"]
    assert [row["n"] for row in summary] == [16, 32, 64]
    assert [row["distance"] for row in summary] == load(out).summary["distance"].tolist()
    assert main(["plot", str(out), "--quiet"]) == 0
    stems = {Path(line).name for line in capsys.readouterr().out.split()}
    assert {"nearest-distance.png", "random-flips.pdf", "flips-law.png"} <= stems
    assert main(["info", str(out), "--quiet"]) == 0


def test_trained_networks_are_exact(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = tmp_path / "train", tmp_path / "out"
    train = ["train", "--n", "5", "--target", "random", "--train", "16", "--runs", "40",
             "--hidden", "20", "--workers", "1", "--quiet", "--out", str(run)]  # fmt: skip
    assert main(train) == 0
    assert main(["sensitivity", str(run), "--out", str(out), "--quiet", "--json"]) == 0
    printed = capsys.readouterr().out
    found = json.loads(printed[printed.rindex('{\n "table"') :])
    frame = pd.read_parquet(out / "tables/trained-sensitivity.parquet")
    fitted = frame[frame["fitted"]]
    for name in ("test_error", "distance", "flips"):
        error = fitted[name].std(ddof=1) / math.sqrt(fitted[name].count())
        assert found["summary"][f"{name}_stderr"] == pytest.approx(error)
    assert main(["sensitivity", str(run), "--quiet"]) == 0
    assert re.search(r"flips +[\d.]+ ± [\d.]+\n", capsys.readouterr().out)
    assert len(frame) == found["summary"]["members"] == 40
    from simprior.boolean.truthtable import unpack
    from simprior.training.records import TrainResult

    tables = unpack(TrainResult.load(run).words, 32)
    means, unchanged = expected_flips(tables)
    assert frame["flips"].to_numpy() == pytest.approx(means.mean(axis=1))
    assert frame["unchanged"].to_numpy() == pytest.approx(unchanged.mean(axis=1))
    distances = nearest_distances(tables)
    used = distances.any(axis=1)
    assert frame["distance"][used].to_numpy() == pytest.approx(distances[used].mean(axis=1))
    assert main(["plot", str(out), "--quiet"]) == 0
    assert "trained-sensitivity.png" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--n", "1"], "n=1: expected integers from 2"),
        (["--n", "ten"], "n=ten: expected lengths of strings"),
        (["--n", "20,20"], "n=20,20: expected lengths of strings, each once"),
        (["--hidden", "0"], "hidden"),
        (["--classifier", "coin"], "classifier=coin: expected one of network, uniform"),
        (["--gp-draws", "1", "--n", "9", "--networks", "2"], "gp_draws=1: expected at least 2"),
        (["--device", "cuda"], "device=cuda"),
        (["nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sensitivity", "--workers", "1", *arguments]) == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("simprior: error:")]
    assert len(lines) == 1 and text in lines[0] and "Traceback" not in error


def test_bad_studies() -> None:
    with pytest.raises(InputError, match="networks=0"):
        StringsSettings(n=(10,), networks=0)
    with pytest.raises(InputError, match="n=none"):
        StringsSettings(n=())
    with pytest.raises(InputError, match="1 lengths n"):
        scaling.fit(_table(0.3, 0).query("n == 100"))


@pytest.mark.slow
def test_growth_of_de_palma_kiani_and_lloyd() -> None:
    """Against the Gaussian process, as of n = 100, 200, 400.

    The finite width changes the mean number of flips by a share of order 2 / 500, a tenth of the
    standard errors: neglected. Means of flips: chi-square of three differences at 1e-5; their
    exponent: 4.5 standard errors from that of the Gaussian process, fitted with the same weights;
    a line's chi2 at 1e-4, non-central by the chi2 of the Gaussian process, which is not quite
    linear.
    """
    result = sensitivity(
        StringsSettings(n=(100, 200, 400), hidden=(500, 500), networks=300, gp_draws=10_000)
    )
    fits, summary = result.fits.set_index("fit"), result.summary
    flips, gp_flips = summary["flips"].to_numpy(), summary["gp_flips"].to_numpy()
    error, gp_error = summary["flips_stderr"].to_numpy(), summary["gp_flips_stderr"].to_numpy()
    z = (flips - gp_flips) / np.hypot(error, gp_error)
    assert stats.chi2.sf(z @ z, 3) > 1e-5
    n = summary["n"].to_numpy(float)
    line = np.polyval(np.polyfit(n, gp_flips, 1, w=1 / error), n)
    bend = (((gp_flips - line) / error) ** 2).sum()
    assert stats.ncx2.sf(fits.loc["flips slope", "chi2"], 1, bend) > 1e-4
    design = np.stack([np.ones(3), np.log(n)], axis=1) * (flips / error)[:, None]
    weights = np.linalg.pinv(design)[1] * (flips / error)  # slope = weights @ logarithms
    gp_exponent = weights @ np.log(gp_flips)
    spread = math.hypot(fits.loc["flips exponent", "stderr"], *(weights * gp_error / gp_flips))
    assert abs(fits.loc["flips exponent", "value"] - gp_exponent) < 4.5 * spread
    # distance: ratio to sqrt(n / ln n) flat within 25 %, beyond 3 standard errors of a quotient
    ratio, relative = summary["ratio"], (summary["ratio_stderr"] / summary["ratio"]).max()
    assert ratio.max() / ratio.min() < 1.25 * (1 + 3 * math.sqrt(2) * relative)
    assert (
        summary["distance"] > summary["gp_distance_low"] - 4.5 * summary["distance_stderr"]
    ).all()
    # certified: all strings nearer than what the search found are at most the budget, exactly
    for row in result.rows.itertuples():
        nearer = sum(math.comb(row.n, h) for h in range(2, row.search or row.n + 1))
        assert row.certified == (nearer <= StringsSettings.budget)
