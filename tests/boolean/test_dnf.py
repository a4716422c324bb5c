"""Random DNF networks: exact probabilities against enumeration, samples against both."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import chi2

from simprior.boolean.sampling.dnf import (
    RandomDNF,
    _accepted_word,
    clause_tables,
    count_dnf_chunk,
    exact_counts,
    exact_probabilities,
    sample_dnf_chunk,
)
from simprior.boolean.truthtable import n_words, pack, unpack
from simprior.errors import InputError
from simprior.numerics.random import philox_key

FALSE_ALARM = 1e-6  # of each statistical test below, unless it says otherwise


def chi_square_pvalue(counts: np.ndarray, p: np.ndarray) -> float:
    """Upper-tail p-value; the cells with expectation below 5 are pooled into one."""
    assert counts[p == 0].sum() == 0
    expected = p * counts.sum()
    small = expected < 5
    assert expected[small].sum() >= 5 or not expected[small].any()
    observed = np.append(counts[~small], counts[small].sum())
    expected = np.append(expected[~small], expected[small].sum())
    keep = expected > 0
    statistic = ((observed - expected)[keep] ** 2 / expected[keep]).sum()
    return float(chi2.sf(statistic, keep.sum() - 1))


def classes_pvalue(counts: np.ndarray, p: np.ndarray, label: np.ndarray) -> float:
    """The same over classes of functions: far more power against a coherent small error."""
    _, group = np.unique(label, return_inverse=True)
    return chi_square_pvalue(np.bincount(group, counts), np.bincount(group, p))


def evaluate(rows: np.ndarray, negate: bool) -> int:
    """Truth table (as an integer) of a DNF network, straight from its definition."""
    n, value = rows.shape[1], 0
    for x in itertools.product((0, 1), repeat=n):
        clauses = [
            all(bit == (entry == 1) for bit, entry in zip(x, row, strict=True) if entry)
            for row in rows
            if row.any()
        ]
        value = 2 * value + (any(clauses) != negate)
    return value


@pytest.mark.parametrize(("n", "alpha"), [(1, 1), (1, 3), (2, 1), (2, 1.5), (3, 0.5), (3, 0.25)])
def test_exact_counts_equal_enumeration_of_all_networks(n: int, alpha: float) -> None:
    dnf = RandomDNF(n, alpha)
    reference = np.zeros(2**dnf.m, dtype=int)
    for entries in itertools.product((-1, 0, 1), repeat=n * dnf.width):
        rows = np.array(entries).reshape(dnf.width, n)
        for negate in (False, True):
            reference[evaluate(rows, negate)] += 1
    counts, denominator = exact_counts(dnf)
    assert denominator == reference.sum()
    assert [int(c) for c in counts] == reference.tolist()


@pytest.mark.parametrize(("alpha", "target"), [(1, 0.0486071), (2, 0.295990), (4, 0.489021)])
def test_probability_of_a_constant_matches_the_published_design(alpha: int, target: float) -> None:
    p = exact_probabilities(RandomDNF(4, alpha))
    assert p[0] == p[-1] == pytest.approx(target, abs=6e-7)  # six published digits
    assert math.fsum(p) == pytest.approx(1.0, abs=1e-13)
    np.testing.assert_array_equal(p, p[::-1])  # the fair sign


def test_tiny_probabilities_keep_their_relative_accuracy() -> None:
    # parity needs each of its 8 minterms (one row of 81) exactly once: 8! orders
    parity = int("".join(str(bin(i).count("1") % 2) for i in range(16)), 2)
    p = exact_probabilities(RandomDNF(4, 1))[parity]
    assert p == pytest.approx(math.factorial(8) / 3**32, rel=1e-14)
    # with more rows than minterms, a row may repeat a minterm or be the row of zeros
    for alpha in (2, 4):
        exact = Fraction(surjections_with_blank(8 * alpha, 8), 81 ** (8 * alpha))
        p = exact_probabilities(RandomDNF(4, alpha))[parity]
        assert p == pytest.approx(float(exact), rel=1e-14)


def surjections(rows: int, cells: int) -> int:
    """Maps of ``rows`` onto all of ``cells``, by inclusion and exclusion."""
    return sum((-1) ** k * math.comb(cells, k) * (cells - k) ** rows for k in range(cells + 1))


def surjections_with_blank(rows: int, cells: int) -> int:
    """The same where a row may also be blank (the ignored row of zeros)."""
    return sum(math.comb(rows, b) * surjections(rows - b, cells) for b in range(rows + 1))


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [1, 2, 4, 0.625])
def test_sampled_counts_fit_all_65536_probabilities(alpha: float) -> None:
    dnf = RandomDNF(4, alpha)
    counts, p = count_dnf_chunk(dnf, philox_key(11, "dnf"), 0, 10**7), exact_probabilities(dnf)
    assert counts.sum() == 10**7
    assert chi_square_pvalue(counts, p) > FALSE_ALARM
    assert classes_pvalue(counts, p, label=p) > FALSE_ALARM


@pytest.mark.parametrize(("n", "alpha"), [(1, 1), (2, 1), (3, 1), (3, 2.5)])
def test_sampled_counts_fit_for_smaller_n(n: int, alpha: float) -> None:
    dnf = RandomDNF(n, alpha)
    counts = count_dnf_chunk(dnf, philox_key(12, "dnf"), 0, 10**6)
    assert chi_square_pvalue(counts, exact_probabilities(dnf)) > FALSE_ALARM


def test_chi_square_helpers_reject_slightly_wrong_laws() -> None:
    counts = count_dnf_chunk(RandomDNF(4, 1), philox_key(13, "dnf"), 0, 10**7)
    p = exact_probabilities(RandomDNF(4, 1))
    ones = np.array([i.bit_count() for i in range(65536)])
    wrong = p * np.where(np.minimum(ones, 16 - ones) <= 2, 1.01, 1.0)  # one percent too much
    assert classes_pvalue(counts, wrong / wrong.sum(), label=p) < FALSE_ALARM
    wrong = p * (1 + 0.1 * (-1.0) ** np.arange(65536))  # incoherent: only single cells show it
    assert chi_square_pvalue(counts, wrong / wrong.sum()) < FALSE_ALARM


@pytest.mark.slow
@pytest.mark.parametrize(("n", "alpha"), [(5, 1), (6, 1), (7, 1), (7, 2), (10, 0.25)])
def test_pair_agreement_of_larger_networks(n: int, alpha: float) -> None:
    # a clause covers an input with probability a, two inputs h bits apart with b, so
    # P(f(x) = f(x')) = 1 - 2 (1 - a)^w + 2 (1 - 2a + b)^w; the fair sign does not matter
    dnf, size = RandomDNF(n, alpha), 20_000
    tables = unpack(sample_dnf_chunk(dnf, philox_key(14, "dnf"), 0, size), dnf.m)
    inputs = np.arange(dnf.m)
    a = (2**n - 1) / 3**n
    for flip in (1, 2 ** (n - 1), 2**n - 1, 3):
        h = flip.bit_count()
        b = (2 ** (n - h) - 1) / 3**n
        exact = 1 - 2 * (1 - a) ** dnf.width + 2 * (1 - 2 * a + b) ** dnf.width
        agree = (tables == tables[:, inputs ^ flip]).mean(axis=1)
        # 5.3 standard errors: false alarm 1e-7 each, 20 comparisons
        assert abs(agree.mean() - exact) < 5.3 * agree.std() / math.sqrt(size)


def test_samples_depend_on_key_and_number_only() -> None:
    for dnf in (RandomDNF(4, 1), RandomDNF(7, 1)):
        key = philox_key(3, "dnf")
        whole = sample_dnf_chunk(dnf, key, 0, 1000)
        parts = [sample_dnf_chunk(dnf, key, a, b) for a, b in ((0, 1), (1, 400), (400, 1000))]
        np.testing.assert_array_equal(whole, np.concatenate(parts))
        assert (sample_dnf_chunk(dnf, key + 1, 0, 1000) != whole).any()
        assert whole.shape == (1000, n_words(dnf.m))
        np.testing.assert_array_equal(pack(unpack(whole, dnf.m)), whole)  # padding is zero
    far = 2**32 - 3  # sample numbers use both words of the counter
    near = sample_dnf_chunk(RandomDNF(), key, 0, 6)
    across = sample_dnf_chunk(RandomDNF(), key, far, far + 6)
    assert (across[3:] != near[:3]).any()


def test_rejection_makes_the_last_digit_uniform() -> None:
    # 3 * 2^62 outcomes from 2^64 words: one word in four must be drawn again (in the networks it
    # is one in 2^25 or fewer), else outcome 0 modulo 3 would come twice as often as 1 and 2
    outcomes, threshold, (k0, k1) = np.uint64(3 << 62), np.uint64(1 << 62), np.uint32([7, 8])
    words = [
        int(_accepted_word(s, j, outcomes, threshold, k0, k1)) for s in range(1500) for j in (0, 1)
    ]
    last = np.bincount([(word * 3 >> 2) % 3 for word in words], minlength=3)
    assert chi_square_pvalue(last, np.full(3, 1 / 3)) > FALSE_ALARM
    assert len(set(words)) == len(words)


def test_dense_counts_are_the_counts_of_the_packed_samples() -> None:
    dnf, key = RandomDNF(4, 2), philox_key(4, "dnf")
    words = sample_dnf_chunk(dnf, key, 50, 20_050)
    index = (words[:, 0] >> np.uint64(48)).astype(np.int64)
    dense = count_dnf_chunk(dnf, key, 50, 20_050)
    np.testing.assert_array_equal(dense, np.bincount(index, minlength=65536))


def test_clause_tables_hold_every_row_once() -> None:
    tables = clause_tables(3)
    rows = np.array(list(itertools.product((-1, 0, 1), repeat=3)))
    for row, table in zip(rows, tables, strict=True):
        assert int("".join(map(str, table)), 2) == evaluate(row[None, :], negate=False)


def test_spec_round_trip_and_digest() -> None:
    dnf = RandomDNF(5, 1.5)
    assert (dnf.m, dnf.width) == (32, 24)
    assert RandomDNF.from_dict(dnf.to_dict()) == dnf
    assert dnf.digest() != RandomDNF(5, 1).digest()
    assert RandomDNF(4, 1).digest() == RandomDNF(n=4, alpha=1.0).digest()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: RandomDNF(0), "n=0"),
        (lambda: RandomDNF(11), "n=11"),
        (lambda: RandomDNF(4, 0.3), "alpha=0.3"),
        (lambda: RandomDNF(4, 0), "alpha=0"),
        (lambda: RandomDNF(4, float("nan")), "alpha=nan"),
        (lambda: RandomDNF(4, "one"), "alpha='one'"),  # type: ignore[arg-type]
        (lambda: RandomDNF.from_dict({"n": 4, "beta": 1}), "dnf.beta=1"),
        (lambda: exact_probabilities(RandomDNF(5)), "n=5"),
        (lambda: exact_probabilities(RandomDNF(4, 256)), "2048 clauses"),
        (lambda: count_dnf_chunk(RandomDNF(5), 1, 0, 10), "n=5"),
        (lambda: sample_dnf_chunk(RandomDNF(5), 1, 10, 9), "samples 10..9"),
    ],
)
def test_bad_input_is_named_in_one_line(call, words) -> None:
    with pytest.raises(InputError, match=r"expected .*; ") as caught:
        call()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
