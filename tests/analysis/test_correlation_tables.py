"""Granulated coefficients, information, sign errors by hand; the public function, its refusals."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from simprior.analysis.correlate.correlations import correlate
from simprior.analysis.correlate.environments import (
    conditional_information,
    granulated_tau,
    hoeffding_weights,
    normalised_information,
    sign_errors,
    summarise,
)
from simprior.errors import InputError


def networks(rng: np.random.Generator, groups: int = 1, clusters: int = 15) -> pd.DataFrame:
    """Networks of four members a training set; ``good`` predicts the error, ``noise`` does not."""
    parts = []
    for g in range(groups):
        k = 4 * clusters
        level = np.repeat(rng.standard_normal(clusters), 4)
        error = np.clip(0.3 + 0.1 * level + 0.02 * rng.standard_normal(k), 0, 1)
        parts.append(
            pd.DataFrame(
                {
                    "run": [f"r{i // 4}" for i in range(k)],
                    "member": np.arange(k) % 4,
                    "optimizer": ["sgd", "adam", "gd"][g],
                    "alpha": 1.0,
                    "n": 7,
                    "attack": np.repeat(np.arange(clusters) % 3, 4),
                    "cluster": [f"{g}/{i // 4}" for i in range(k)],
                    "test_error": error,
                    "good": level + 0.3 * rng.standard_normal(k),
                    "good_stderr": 0.3,
                    "noise": rng.standard_normal(k),
                    "flat": 1.0,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def test_granulated_tau_on_a_table_worked_by_hand() -> None:
    """Two axes, a in {0, 1} and b in {0, 1, 2}; measure mu, error g:

    a b | mu  g
    0 0 |  1  1
    0 1 |  2  3      a = 0, along b: pairs (1,2): +, (1,3): +, (2,3): mu 2<3, g 3>2: -
    0 2 |  3  2          tau = (1 + 1 - 1) / 3 = 1/3
    1 0 |  4  2
    1 1 |  4  5      a = 1, along b: (4,4): 0, (4,6): g 2<7: +, (4,6): g 5<7: +
    1 2 |  6  7          tau = 2/3
    psi_b = (1/3 + 2/3) / 2 = 1/2
    along a: b = 0: mu 1<4, g 1<2: +1;  b = 1: 2<4, 3<5: +1;  b = 2: 3<6, 2<7: +1; psi_a = 1
    Psi = (1 + 1/2) / 2 = 3/4
    """
    cells = pd.DataFrame(
        {
            "a": [0, 0, 0, 1, 1, 1],
            "b": [0, 1, 2] * 2,
            "mu": [1.0, 2, 3, 4, 4, 6],
            "g": [1.0, 3, 2, 2, 5, 7],
        }
    )
    found = {row[0]: row for row in granulated_tau(cells, "mu", "g", ["a", "b"])}
    assert found["a"][1] == pytest.approx(1.0)
    assert found["b"][1] == pytest.approx(0.5)
    assert found["Psi"][1] == pytest.approx(0.75)
    # error of psi_b: values 1/3 and 2/3, sd 1/(3 sqrt 2), over sqrt 2: 1/6; of psi_a, whose three
    # values agree: (1 - -1) / (3 + 2), a share that was not met
    assert found["b"][2] == pytest.approx(1 / 6)
    assert found["a"][2] == pytest.approx(0.4)
    assert found["Psi"][2] == pytest.approx(np.hypot(1 / 6, 0.4) / 2)
    assert found["b"][3:] == (2, 6)


def information_of(a: np.ndarray, b: np.ndarray, given: np.ndarray) -> float:
    counts = np.zeros((int(given.max()) + 1, 2, 2), int)
    np.add.at(counts, (given, a.astype(int), b.astype(int)), 1)
    return normalised_information(counts)


def test_information_of_tables_with_known_values() -> None:
    b = np.array([False, True] * 50)
    one = np.zeros(100, int)
    assert information_of(b, b, one) == pytest.approx(1.0)
    assert information_of(~b, b, one) == pytest.approx(1.0)
    half = np.array([False, False, True, True] * 25)
    assert information_of(half, b, one) == pytest.approx(0.0, abs=1e-12)
    assert math.isnan(information_of(half, b, b.astype(int)))  # H(b | b) = 0
    # a binary symmetric channel of error 1/5: I / H = 1 - h(1/5), h in bits
    a = np.repeat([0, 1], 50).astype(bool)
    noisy = a.copy()
    noisy[[*range(10), *range(50, 60)]] ^= True
    h = -(0.2 * math.log2(0.2) + 0.8 * math.log2(0.8))
    assert information_of(noisy, a, one) == pytest.approx(1 - h)


def test_conditioning_removes_what_a_hyperparameter_explains() -> None:
    """Measure and error both follow axis a, and nothing else: what K is, from Kendall's tau.

    Without conditions, and among the pairs of equal a, both signs of the difference are as frequent
    as each other, so that I / H = 1 - h((1 + tau) / 2), h the entropy of a coin in bits. Given a,
    pairs of different a are all ordered (entropy 0), and the six values of a weigh alike.
    """
    from scipy import stats

    def information(cells: pd.DataFrame) -> float:
        share = (1 + stats.kendalltau(cells["mu"], cells["g"])[0]) / 2
        return 1 - float(stats.entropy([share, 1 - share], base=2))

    rng = np.random.default_rng(0)
    a, b = np.repeat(np.arange(6), 6), np.tile(np.arange(6), 6)
    follows = pd.DataFrame(
        {
            "a": a,
            "b": b,
            "mu": a + 1e-3 * rng.standard_normal(36),
            "g": a + 1e-3 * rng.standard_normal(36),
        }
    )
    found = conditional_information(follows, "mu", "g", ["a", "b"], rng)
    assert found is not None
    assert found["given"] == "a"
    given = np.mean([information(part) for _, part in follows.groupby("a")])
    assert found["K"] == pytest.approx(given, abs=1e-12)
    plain = conditional_information(follows, "mu", "g", [], rng)
    assert plain is not None
    assert plain["K"] == pytest.approx(information(follows), abs=1e-12)
    assert plain["K"] > found["K"]  # without conditioning the measure looks as if it predicted g
    causal = follows.assign(mu=follows["g"])
    same = conditional_information(causal, "mu", "g", ["a", "b"], rng)
    assert same is not None
    assert same["K"] == pytest.approx(1.0)


def test_hoeffding_weights_by_hand() -> None:
    # t = 200, d = 0.2: 2 exp(-400 * 0.01) = 0.036631; p = (1 - 0.036631)^2, weight 2 p - 1
    p = (1 - 2 * math.exp(-4)) ** 2
    assert hoeffding_weights(np.array([0.2]), 200.0) == pytest.approx(2 * p - 1)
    assert hoeffding_weights(np.array([0.01, -0.2]), 200.0)[0] == 0
    # d = 0.11: 2 exp(-400 * 0.055^2) = 0.5963, p = 0.163 < 1/2: more likely chance than not
    assert hoeffding_weights(np.array([0.11]), 200.0)[0] == 0
    assert hoeffding_weights(np.array([0.0, 0.1]), None).tolist() == [0.0, 1.0]


def test_sign_errors_by_hand() -> None:
    """Axis a with two values, three networks each; of 9 pairs one is ordered wrongly."""
    frame = pd.DataFrame(
        {
            "a": [0, 0, 0, 1, 1, 1],
            "n": 7,
            "mu": [1.0, 2.0, 5.0, 4.0, 6.0, 7.0],
            "g": [0.1, 0.1, 0.1, 0.2, 0.2, 0.2],
        }
    )
    rows = sign_errors(frame, "mu", "g", ["a"], least=1.0)
    assert len(rows) == 1
    assert rows[0]["sign_error"] == pytest.approx(1 / 9)
    assert rows[0]["effective"] == pytest.approx(9.0)
    assert sign_errors(frame, "mu", "g", ["a"], least=10.0) == []
    flipped = sign_errors(frame, "mu", "g", ["a"], sign=-1.0, least=1.0)
    assert flipped[0]["sign_error"] == pytest.approx(8 / 9)
    assert summarise(rows + flipped)["worst"] == pytest.approx(8 / 9)
    # the same with errors from 50 test inputs: d = 0.1 is chance, no pair counts
    data = frame.assign(n=0, test_size=50, test_error=frame["g"])
    assert sign_errors(data, "mu", "test_error", ["a"], least=1.0) == []
    assert sign_errors(data, "mu", "g", ["a"], least=1.0) == rows  # g is no share of test inputs


def test_environments_of_noise_are_dropped() -> None:
    """Two settings of one true error, measured on 100 test inputs, and a measure that is noise.

    An environment is kept only if ten effective pairs differ by more than chance explains: in the
    expected 1 to 2 % of runs (72 % before weights below one half were cut off). 200 runs, at most
    14 by a binomial tail of 1e-4 at 3 %.
    """
    rng, kept = np.random.default_rng(5), 0
    for _ in range(200):
        frame = pd.DataFrame(
            {
                "a": np.repeat([0, 1], 20),
                "n": 0,
                "test_size": 100,
                "mu": rng.standard_normal(40),
                "test_error": rng.binomial(100, 0.4, 40) / 100,
            }
        )
        kept += bool(sign_errors(frame, "mu", "test_error", ["a"]))
    assert kept <= 16


def test_data_seeds_are_no_hyperparameter() -> None:
    """They are held fixed as the others are; two that share a target have no psi."""
    cells = pd.DataFrame(
        {
            "data_seed": [1, 1, 2, 2],
            "a": [0, 1, 0, 1],
            "mu": [1.0, 2, 9, 10],
            "g": [5.0, 6, 1, 2],
        }
    )
    found = granulated_tau(cells, "mu", "g", ["data_seed", "a"])
    assert [row[:2] for row in found] == [("a", 1.0), ("Psi", 1.0)]
    environments = sign_errors(cells, "mu", "g", ["data_seed", "a"], least=1.0)
    assert {row["axis"] for row in environments} == {"a"}


def test_the_table() -> None:
    frame = networks(np.random.default_rng(1), groups=2)
    found = correlate(frame, by="optimizer", controls="noise", bootstrap=300, permutations=99)
    table = found.table.set_index(["optimizer", "measure"])
    assert list(found.table.columns[:2]) == ["optimizer", "measure"]
    assert table.loc[("adam", "good"), "points"] == 60
    assert table.loc[("adam", "good"), "clusters"] == 15
    for kind in ("pearson", "spearman", "kendall", "partial_pearson", "partial_spearman"):
        row = table.loc[("sgd", "good")]
        assert row[f"{kind}_low"] < row[kind] < row[f"{kind}_high"]
        assert row[kind] > 0.5
    assert table.loc[("sgd", "good"), "p_value"] == pytest.approx(0.01)
    assert (found.table["p_adjusted"] >= found.table["p_value"]).all()
    assert (found.table["p_holm"] >= found.table["p_adjusted"] - 1e-12).all()
    assert any(note.startswith("flat: constant") for note in found.notes)
    assert set(found.granulated["axis"]) == {"attack", "Psi"}
    again = correlate(frame, by="optimizer", controls="noise", bootstrap=300, permutations=99)
    pd.testing.assert_frame_equal(found.table, again.table)
    some = frame.sample(frac=1, random_state=0)
    other = correlate(some, by="optimizer", controls="noise", bootstrap=300, permutations=99)
    assert other.table["kendall"].tolist() == pytest.approx(found.table["kendall"].tolist())


def test_disattenuation_recovers_the_coefficient_without_noise() -> None:
    """x and y have correlation 0.8; x is measured with error of variance 1/2.

    Three comparisons at 4.5 standard errors: false alarm 2e-5. A variance of k normal values has
    the relative error sqrt(2 / (k - 1)), and so 1 - reliability = 1/3.
    """
    rng = np.random.default_rng(2)
    k = 4000
    x, e = rng.standard_normal((2, k))
    frame = pd.DataFrame(
        {
            "test_error": 0.8 * x + 0.6 * e,
            "m": x + math.sqrt(0.5) * rng.standard_normal(k),
            "m_stderr": math.sqrt(0.5),
            "n": 7,
        }
    )
    row = correlate(frame, measures=["m"], bootstrap=200, permutations=0).table.iloc[0]
    assert row["reliability"] == pytest.approx(1 - 0.5 / frame["m"].var(), rel=1e-12)
    assert abs(row["reliability"] - 2 / 3) < 4.5 * math.sqrt(2 / (k - 1)) / 3
    assert abs(row["pearson"] - 0.8 * math.sqrt(2 / 3)) < 4.5 * row["pearson_stderr"]
    assert abs(row["disattenuated"] - 0.8) < 4.5 * row["pearson_stderr"] / math.sqrt(2 / 3)


def test_what_class_imbalance_alone_predicts() -> None:
    frame = networks(np.random.default_rng(3))
    frame["majority_error"] = frame["test_error"] + 0.01 * (frame["noise"] > 0)  # nearly all
    found = correlate(frame, measures=["good", "noise"], bootstrap=300, permutations=0)
    base = found.baselines.set_index(["measure", "given"])
    assert base.loc[("majority_error", ""), "spearman_low"] > 0.9
    good = found.table.set_index("measure").loc["good"]
    assert abs(base.loc[("good", "majority_error"), "spearman"]) < good["spearman"]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"y": "tset_error"}, "did you mean test_error"),
        ({}, {"y": "flat"}, r"y=flat, which is constant \(1\)"),
        ({}, {"measures": ["flat"]}, "measures=flat, which is constant"),
        ({}, {"measures": ["run"]}, "expected a column of numbers"),
        ({}, {"by": "optimiser"}, "did you mean optimizer"),
        ({}, {"controls": "atack"}, "did you mean attack"),
        ({}, {"level": 2.0}, "level=2.0"),
        ({"alpha": lambda f: np.arange(len(f)) % 2 + 1.0}, {}, "pass --by alpha"),
        ({"cluster": "same"}, {}, "1 independent data sets"),
    ],
)
def test_refusals(change: dict[str, object], options: dict[str, object], message: str) -> None:
    frame = networks(np.random.default_rng(4)).assign(**change)
    with pytest.raises(InputError, match=message) as error:
        correlate(frame, bootstrap=100, permutations=0, **options)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_mixed_optimizers_need_by() -> None:
    with pytest.raises(InputError, match=r"several values of optimizer \(adam, sgd\)"):
        correlate(networks(np.random.default_rng(5), groups=2), bootstrap=100)


def test_a_small_group_among_others_is_refused_with_a_note() -> None:
    frame = networks(np.random.default_rng(6), groups=2)
    small = (frame["optimizer"] == "sgd") | (frame["member"] == 0) & (frame.index < 70)
    found = correlate(frame[small], by="optimizer", bootstrap=100, permutations=0)
    table = found.table.set_index(["optimizer", "measure"])
    assert math.isnan(table.loc[("adam", "good"), "pearson"])
    assert math.isfinite(table.loc[("sgd", "good"), "pearson"])
    assert any("fewer than the 16 that" in note for note in found.notes)


def test_rows_without_values_are_left_out_and_counted() -> None:
    frame = networks(np.random.default_rng(7))
    frame.loc[:5, "good"] = np.nan
    frame.loc[6, "good"] = -np.inf
    found = correlate(frame, bootstrap=100, permutations=0)
    assert found.table.set_index("measure").loc["good", "points"] == 53
    assert any("7 rows without a finite value" in note for note in found.notes)


def test_large_tables_are_resampled_in_groups() -> None:
    """5,000 rows without clusters: quick, and the same coefficient as scipy's.

    The exact standard error of Kendall's tau of k normal pairs of correlation rho, within 4.5 of
    its own: 1,000 contributions of five rows, of a kurtosis below 4. The interval's half is 1.96 of
    them on Fisher's scale, where the 95 % quantile of 1,000 |t| is known to 3 %. False alarm 2e-5.
    """
    from scipy import stats

    rng = np.random.default_rng(8)
    x = rng.standard_normal(5000)
    frame = pd.DataFrame({"test_error": x + rng.standard_normal(5000), "mine": x})
    found = correlate(frame, bootstrap=1000, permutations=20)
    row = found.table.iloc[0]
    assert row["kendall"] == pytest.approx(stats.kendalltau(frame["mine"], frame["test_error"])[0])
    assert row["clusters"] == 1000
    k, rho = 5000, math.sqrt(0.5)
    pair = 1 - (2 / math.pi * math.asin(rho)) ** 2
    triple = 1 / 9 - (2 / math.pi * math.asin(rho / 2)) ** 2
    error = math.sqrt(2 / (k * (k - 1)) * (pair + 2 * (k - 2) * triple))
    own = math.sqrt((4 - 1) / (4 * 1000))
    assert abs(row["kendall_stderr"] / error - 1) < 4.5 * own
    half = (math.atanh(row["kendall_high"]) - math.atanh(row["kendall_low"])) / 2
    expected = 1.96 * error / (1 - row["kendall"] ** 2)
    assert abs(half / expected - 1) < 4.5 * math.hypot(own, 0.03)
    assert row["p_value"] == pytest.approx(1 / 21)
    assert "no column cluster: every row counts as independent" in found.notes


def test_a_cluster_column_that_is_named_must_exist() -> None:
    with pytest.raises(InputError, match="cluster=trainset"):
        correlate(networks(np.random.default_rng(9)), cluster="trainset", bootstrap=100)
