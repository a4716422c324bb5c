"""Texts of flags: what is accepted, and the sentence for what is not."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simprior.cli import parse as values
from simprior.cli.parse import Refused


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("1000", 1000),
        ("10_000", 10_000),
        ("1e7", 10**7),
        ("1E7", 10**7),
        ("1e+9", 10**9),
        ("1.5e6", 1_500_000),
        ("1.50e1", 15),
        ("2.0", 2),
        ("123456789012345678", 123456789012345678),  # beyond the floats
        ("1e18", 10**18),
    ],
)
def test_counts(text: str, value: int) -> None:
    assert values.parse_count(text) == value


@pytest.mark.parametrize(
    "text",
    [
        *("1e3.5", "-3", "nan", "inf", "0", "0.5", "1.5", "1.25e1", "1e-3", "1e", "ten"),
        *("0e5", "+5", "1,000", "0x10", "1__0", "1_", "_1"),
        "",
        " ",
    ],
)
def test_not_counts(text: str) -> None:
    with pytest.raises(Refused, match="a whole number >= 1, such as 20 or 1e7"):
        values.parse_count(text)


@given(st.integers(1, 10**30))
def test_any_positive_integer_is_a_count(number: int) -> None:
    assert values.parse_count(str(number)) == number


@given(st.text(max_size=8))
def test_a_count_is_a_positive_integer_or_refused(text: str) -> None:
    try:
        value = values.parse_count(text)
    except Refused:
        return
    assert isinstance(value, int) and value >= 1
    assert value == pytest.approx(float(text.strip()), rel=1e-12)


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (values.parse_widths, "40,40", (40, 40)),
        (values.parse_widths, "40", (40,)),
        (values.parse_widths, "", ()),
        (values.parse_widths, "none", ()),
        (values.parse_widths, "(3, 4)", (3, 4)),
        (values.parse_numbers, "1", 1.0),
        (values.parse_numbers, "1,2,.5", (1.0, 2.0, 0.5)),
        (values.parse_numbers, "-1", -1.0),
        (values.parse_integer, "-3", -3),
        (values.parse_size, "2GB", 2 * 1024**3),
        (values.parse_size, "1.5g", 3 * 1024**3 // 2),
        (values.parse_size, "500MiB", 500 * 1024**2),
        (values.parse_size, "1024", 1024),
        (values.parse_fraction, "1", 1.0),
        (values.parse_fraction, "1/256", 1 / 256),
        (values.parse_fraction, "0.25", 0.25),
        (values.parse_auto_count, "auto", "auto"),
        (values.parse_auto_count, "48", 48),
        (values.parse_functions, "parity, 0x0f", ("parity", "0x0f")),
        (
            values.parse_options,
            "mem_gb=4,queue=long,x=0.5",
            {"mem_gb": 4, "queue": "long", "x": 0.5},
        ),
        (values.parse_texts, "rank,count", ("rank", "count")),
    ],
)
def test_other_kinds(parse: Any, text: str, value: Any) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "expected"),
    [
        (values.parse_widths, "40,x", "a comma list of widths"),
        (values.parse_widths, "40,,40", "a comma list of widths"),
        (values.parse_widths, "4.5", "a comma list of widths"),
        (values.parse_numbers, "1,b", "one number, or a comma list"),
        (values.parse_numbers, "nan", "one number, or a comma list"),
        (values.parse_integer, "7.5", "a whole number such as 7"),
        (values.parse_size, "2Q", "a size such as 2GB"),
        (values.parse_size, "-1", "a size such as 2GB"),
        (values.parse_size, "0", "a size such as 2GB"),
        (values.parse_fraction, "0.3", "a fraction 1/2\\^k"),
        (values.parse_fraction, "1/3", "a fraction 1/2\\^k"),
        (values.parse_fraction, "2", "a fraction 1/2\\^k"),
        (values.parse_fraction, "1/0", "a fraction 1/2\\^k"),
        (values.parse_auto_count, "many", "auto, or a whole number"),
        (values.parse_functions, " , ", "functions"),
        (values.parse_functions, "@/nowhere/list", "a readable text file after @"),
        (values.parse_options, "mem", "key=value pairs"),
    ],
)
def test_refusals(parse: Any, text: str, expected: str) -> None:
    with pytest.raises(Refused, match=expected):
        parse(text)


def test_functions_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("# mine\nparity\n\n 0x0f \n")
    assert values.parse_functions(f"@{tmp_path / 'list'}") == ("parity", "0x0f")


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_show_is_read_back(value: float) -> None:
    assert values.parse_number(values.show(value)) == value
    assert values.parse_widths(values.show((3, 4))) == (3, 4)
    assert math.isfinite(value)
