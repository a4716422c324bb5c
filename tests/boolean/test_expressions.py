"""Functions written as expressions, wherever functions are read."""

from __future__ import annotations

import numpy as np
import pytest

from simprior.boolean.truthtable import bit_matrix, named, parse_functions
from simprior.errors import InputError

X = bit_matrix(4).astype(int)
A, B, C, D = X.T
EXPRESSIONS = {
    "x1^x2": A ^ B,
    "x1&x2|~x3": (A & B) | (1 - C),
    "x1 | x2 & x3 ^ x4": A | ((B & C) ^ D),
    "~x1&x2": (1 - A) & B,
    "!(x1&x2)": 1 - (A & B),
    "~~x4^1": 1 - D,
    "(0|x3)": C,
    "parity:3": A ^ B ^ C,
    "Majority:3^X4": (A + B + C > 1).astype(int) ^ D,
    "junta:0110": A ^ B,
    "junta:0x17&x4": (A + B + C > 1) & D,
    "needle:2|x4": (A & B) | D,
}


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_expressions(text: str) -> None:
    np.testing.assert_array_equal(named(text, 4), EXPRESSIONS[text])
    np.testing.assert_array_equal(parse_functions(text, 16)[0], EXPRESSIONS[text])


def test_beside_other_forms() -> None:
    found = parse_functions(["x1^x2", "0x0ff0", "0000111111110000", "xor2"], 16)
    assert (found == found[0]).all() and found.dtype == np.uint8


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("x1^", "nothing before its end"),
        ("^x1", "nothing before '^'"),
        ("x1^^x2", "nothing before '^'"),
        ("(x1|x2", "open bracket"),
        ("x1)", "')' in it"),
        ("()", "nothing before ')'"),
        ("x1^x9", "'x9'"),
        ("x1&majorty", "did you mean majority"),
        ("parity:5", "from 1 to 4"),
        ("parity:0", "from 1 to 4"),
        ("parity:x", "from 1 to 4"),
        ("parity:", "':' in it"),
        ("junta:012", "bits, or 0x"),
        ("junta:010", "junta of 3 bits"),
        ("mux:2", "'mux'"),
        ("x1(x2)", "'(' in it"),
        ("x1&$", "'$' in it"),
        ("~" * 5000 + "x1", "deep nesting"),
        ("(" * 5000 + "x1", "deep nesting"),
    ],
)
def test_bad_expressions_are_one_line(text: str, part: str) -> None:
    with pytest.raises(InputError) as error:
        parse_functions(text, 16)
    assert part in str(error.value) and "\n" not in str(error.value), error.value


def test_no_names_without_all_bit_strings() -> None:
    with pytest.raises(InputError, match="bit string of length 5"):
        parse_functions("x1^x2", 5)
