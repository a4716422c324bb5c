"""Complexities against plain Python on random and structured strings, and published values."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from simprior.boolean import complexity as cx
from simprior.boolean.truthtable import named, pack
from simprior.errors import InputError


def exhaustive_words(s):
    """Lempel & Ziv 1976 by definition: extend a word while it occurs starting before it."""
    words, start = 0, 0
    while start < len(s):
        length = 1
        while start + length <= len(s) and s[start : start + length] in s[: start + length - 1]:
            length += 1
        words, start = words + 1, start + length
    return words


def truncated_words(s):
    """The same with length - 1, ending one word after any match within 3 of the end."""
    words, start = 1, 1
    while start < max(len(s) - 1, 2):
        longest = 0
        for begin in range(start):
            k = 0
            while s[begin + k] == s[start + k]:
                k += 1
                if start + k >= len(s) - 3:
                    return words + 1
            longest = max(longest, k)
        words, start = words + 1, start + longest + 1
    return words


def complexity(s, count):
    if len(set(s)) == 1:
        return math.log2(len(s))
    return math.log2(len(s)) * (count(s) + count(s[::-1])) / 2


def row(text):
    return np.array([[int(c) for c in text]], dtype=np.uint8)


STRINGS = st.one_of(
    st.text("01", min_size=1, max_size=300),
    st.builds(  # periodic with a few defects: long matches, words that reach the end
        lambda unit, m, flips: "".join(
            str(int(c) ^ (i in flips)) for i, c in enumerate((unit * 300)[:m])
        ),
        st.text("01", min_size=1, max_size=40),
        st.integers(1, 300),
        st.sets(st.integers(0, 299), max_size=4),
    ),
)


@settings(max_examples=300, deadline=None)
@given(STRINGS)
@example("0")
@example("01")
@example("1" * 64 + "0" * 64)
@example("0" * 127 + "1")
@example("01" * 64)
def test_equals_plain_python(text):
    assert cx.lz76(row(text))[0] == pytest.approx(complexity(text, exhaustive_words), rel=1e-14)
    expected = complexity(text, truncated_words)
    assert cx.lz76_truncated(row(text))[0] == pytest.approx(expected, rel=1e-14)


@settings(max_examples=100, deadline=None)
@given(st.text("01", min_size=2, max_size=128))
def test_narrow_and_wide_kernels_agree(text):
    words, m = pack(row(text)), len(text)
    for stops in ((m, m), (m - 3, m - 1)):
        assert cx._lz_narrow(words, m, *stops)[0] == cx._lz_wide(words, m, *stops)[0]


def needle_set(size):
    table = np.zeros(128, np.uint8)
    table[np.random.RandomState(10).choice(128, size=size)] = 1
    return table


def unit(position):
    return (np.arange(128) == position).astype(np.uint8)


@pytest.mark.parametrize(
    ("table", "standard", "truncated"),
    [
        (named("const0", 7), 7, 7),
        (named("const1", 7), 7, 7),
        (unit(0), 17.5, None),
        (unit(127), 17.5, None),
        (named("x1", 7), 21, None),
        (named("majority", 7), 70, None),
        (named("parity", 7), 91, None),
        (needle_set(2), 35, 31.5),
        (needle_set(10), 70, 66.5),
        (needle_set(21), 101.5, 101.5),
    ],
)
def test_published_values(table, standard, truncated):
    assert cx.lz76(table)[0] == standard
    if truncated is not None:
        assert cx.lz76_truncated(table)[0] == truncated


def test_complement_and_reversal_change_nothing():
    tables = np.random.default_rng(5).integers(0, 2, (200, 128), dtype=np.uint8)
    for measure in cx.COMPLEXITIES.values():
        expected = measure(tables)
        assert np.array_equal(measure(1 - tables), expected)
        assert np.array_equal(measure(tables[:, ::-1]), expected)


def test_truncated_is_at_most_standard_and_often_smaller():
    tables = np.random.default_rng(6).integers(0, 2, (2000, 128), dtype=np.uint8)
    gap = cx.lz76(tables) - cx.lz76_truncated(tables)
    assert gap.min() == 0 and gap.max() > 0


def test_long_strings_use_the_wide_kernel():
    text = "".join(map(str, named("parity", 12)))
    assert cx.lz76(row(text))[0] == pytest.approx(complexity(text, exhaustive_words), rel=1e-14)


@given(st.integers(1, 200), st.integers(0, 2**32))
def test_ones_and_entropy(m, seed):
    rng = np.random.default_rng(seed)
    tables = (rng.random((20, m)) < rng.random((20, 1))).astype(np.uint8)
    assert np.array_equal(cx.ones(tables), tables.sum(axis=1))
    for table, value in zip(tables, cx.entropy(tables), strict=True):
        shares = np.bincount(table, minlength=2) / m
        expected = -sum(p * math.log2(p) for p in shares if p > 0)
        assert value == pytest.approx(expected, abs=1e-12)


def test_packed_twins_are_the_same():
    tables = np.random.default_rng(7).integers(0, 2, (50, 100), dtype=np.uint8)
    words = pack(tables)
    for name, measure in cx.COMPLEXITIES.items():
        assert np.array_equal(measure(tables), cx.COMPLEXITIES_PACKED[name](words, 100))
    assert np.array_equal(cx.ones(tables), cx.ones_packed(words, 100))
    assert np.array_equal(cx.entropy(tables), cx.entropy_packed(words, 100))


def test_bad_shapes_are_refused():
    with pytest.raises(InputError, match=r"\(F, 2\)"):
        cx.lz76_packed(np.zeros((3, 1), np.uint64), 128)
    with pytest.raises(InputError, match="tables of shape"):
        cx.lz76(np.zeros((3, 0), np.uint8))
