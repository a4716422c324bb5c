"""Truth tables: packing, text forms, the reversed order, parsing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simprior.boolean import truthtable as tt
from simprior.boolean.truthtable import named
from simprior.errors import InputError

SIZES = st.integers(1, 300)


def tables_of(m, seed, rows=5):
    return np.random.default_rng(seed).integers(0, 2, (rows, m), dtype=np.uint8)


@given(SIZES, st.integers(0, 2**32))
def test_every_form_round_trips(m, seed):
    tables = tables_of(m, seed)
    words = tt.pack(tables)
    assert words.shape == (5, tt.n_words(m)) and words.dtype == np.uint64
    assert np.array_equal(tt.unpack(words, m), tables)
    assert np.array_equal(tt.from_hex(tt.to_hex(words, m), m), words)
    assert np.array_equal(tt.from_bits(tt.to_bits(words, m), m), words)


@given(SIZES, st.integers(0, 2**32))
def test_packed_form_is_the_documented_number(m, seed):
    table = tables_of(m, seed, rows=1)
    width = tt.n_words(m)
    value = 0
    for word in tt.pack(table)[0]:
        value = (value << 64) | int(word)
    assert value == int("".join(map(str, table[0])), 2) << (64 * width - m)


@pytest.mark.parametrize(
    ("table", "text"),
    [([1], "0x8"), ([1, 0], "0x8"), ([0, 1], "0x4"), ([0, 0, 1, 1], "0x3"), ([1] * 5, "0xf8")],
)
def test_hex_first_digit_is_inputs_0_to_3(table, text):
    assert tt.to_hex(tt.pack(np.array([table])), len(table)) == [text]


def test_reversed_order_is_the_bitset_of_lsb_first_inputs():
    n, m = 4, 16
    table = tables_of(m, 3, rows=1)[0]
    characters = [""] * m
    for i in range(m):  # bit i of the bitset: the output where x_k is bit k - 1 of i
        x = [(i >> k) & 1 for k in range(n)]  # x[0] is x1
        ours = int("".join(map(str, x)), 2)
        characters[m - 1 - i] = str(table[ours])  # a bitset prints its highest bit first
    text = "".join(characters)
    words = tt.pack(table[None])
    assert tt.to_bits(words, m, "reversed") == [text]
    assert np.array_equal(tt.from_bits(text, m, "reversed"), words)


def test_reversed_order_on_the_first_variable():
    words = tt.pack(named("x1", 3)[None])
    assert tt.to_bits(words, 8) == ["00001111"]
    assert tt.to_bits(words, 8, "reversed") == ["10101010"]


def test_reversed_order_needs_bit_strings():
    with pytest.raises(InputError, match="m=6"):
        tt.from_bits("010101", 6, "reversed")
    with pytest.raises(InputError, match="order='backwards'"):
        tt.from_bits("0101", 4, "backwards")


def test_parse_accepts_every_form():
    x1 = [0, 0, 0, 0, 1, 1, 1, 1]
    forms = ["x1", "0x0f", "0X0F", "00001111", " X1 ", x1, np.array(x1), np.array(x1, bool)]
    forms += [np.array(x1, float), 2 * np.array(x1) - 1, np.array([x1]), ["x1"], np.array(["x1"])]
    for form in forms:
        assert tt.parse_functions(form, 8).tolist() == [x1], form
    mixed = tt.parse_functions(["parity", x1, "0xff"], 8)
    assert mixed.dtype == np.uint8 and mixed.shape == (3, 8)
    assert mixed[0].tolist() == named("parity", 3).tolist() and mixed[2].all()


def test_constant_minus_one_is_the_zero_function():
    assert tt.parse_functions([[-1] * 4, [1] * 4], 4).tolist() == [[0] * 4, [1] * 4]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("partiy", "did you mean parity"),
        ("0x1", "2 hex digits"),
        ("0xzz", "2 hex digits"),
        ("0101", "8 characters"),
        ([0, 1], r"\(8,\)"),
        ([[0, 2] * 4], "value 2"),
        ([0, -1] * 4, "0 and 1, or -1 and"),
        ([float("nan")] * 8, "value nan"),
        (None, "NoneType"),
        (5, "int"),
    ],
)
def test_parse_refuses_in_one_line(bad, message):
    with pytest.raises(InputError, match=message) as caught:
        tt.parse_functions(bad, 8)
    assert "\n" not in str(caught.value)


def test_names_are_refused_where_inputs_are_not_bit_strings():
    with pytest.raises(InputError, match="names are defined only"):
        tt.parse_functions("parity", 6)
    with pytest.raises(InputError, match="names are defined only"):
        tt.parse_functions("parity", 8, n=0)


def test_hex_padding_must_be_zero():
    assert tt.parse_functions("0x8", 2).tolist() == [[1, 0]]
    with pytest.raises(InputError, match="zero bits after the first 2"):
        tt.parse_functions("0x9", 2)


def test_pack_refuses_other_values():
    for bad in (np.array([[1, -1]]), np.array([[0, 2]]), np.array([[0.5, 1.0]])):
        with pytest.raises(InputError, match="outside 0 and 1"):
            tt.pack(bad)


def test_words_of_the_wrong_width_are_refused():
    with pytest.raises(InputError, match=r"\(F, 2\)"):
        tt.unpack(np.zeros((3, 1), np.uint64), 128)
